// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine from outside: its domains, and what programs in them may ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use evtchn_abi::{DomId, Errno, Hypercall, Op, Port, VcpuId, Virq};
use evtchn_engine::{Engine, GuestMemory, Outcome};
use parking_lot::Mutex;
use thiserror::Error;

use crate::abi::Abi;
use crate::file::{DeviceFile, Wake};
use crate::kernel::Kernel;
use crate::machine::{Machine, Upcalls};
use crate::version::xen_version;

/// Which releases the host answers like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The hypervisor's.
    pub xen: evtchn_engine::Level,
    /// The driver's.
    pub linux: evtchn_device::Level,
}

impl Default for Levels {
    /// Xen 4.17 and Linux 6.1.
    fn default() -> Self {
        Self { xen: evtchn_engine::Level::Xen4_17, linux: evtchn_device::Level::Linux6_1 }
    }
}

/// Why a domain cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The id has a special meaning, or is beyond all ids.
    #[error("{0} is not a domain id (they go from 0 to {last})", last = DomId::FIRST_RESERVED.0 - 1)]
    Id(u32),
    /// The domain runs with another number of vCPUs.
    #[error("domain {domain} runs with {running} vCPUs, not {wanted}")]
    Vcpus {
        /// The domain.
        domain: DomId,
        /// How many it has.
        running: u32,
        /// How many were asked for.
        wanted: u32,
    },
    /// The engine refuses it.
    #[error("domain {0}: {1}")]
    Engine(DomId, #[source] Errno),
}

/// A machine of domains in this process.
pub struct Host {
    machine: Arc<Machine>,
    levels: Levels,
    abi: Abi,
    members: Mutex<BTreeMap<DomId, Members>>,
}

/// Who is in a domain.
struct Members {
    count: usize,
    vcpus: u32,
}

impl Host {
    /// A machine without domains. The kernels of all that will come use the same ABI.
    pub fn new(levels: Levels, abi: Abi) -> Self {
        let engine = Engine::with_level(Upcalls::default(), levels.xen);
        Self { machine: Arc::new(Machine { engine }), levels, abi, members: Mutex::default() }
    }

    /// Joins a domain, which boots if it does not run yet.
    ///
    /// # Errors
    /// The id is not a domain's, or the domain runs with another number of vCPUs.
    pub fn join(&self, id: u32, vcpus: u32) -> Result<DomId, StartError> {
        let domain = u16::try_from(id).map(DomId).map_err(|_| StartError::Id(id))?;
        if domain >= DomId::FIRST_RESERVED {
            return Err(StartError::Id(id));
        }
        let mut members = self.members.lock();
        if let Some(running) = members.get_mut(&domain) {
            if running.vcpus != vcpus {
                return Err(StartError::Vcpus { domain, running: running.vcpus, wanted: vcpus });
            }
            running.count += 1;
            return Ok(domain);
        }
        Kernel::boot(&self.machine, domain, vcpus, self.abi)
            .map_err(|error| StartError::Engine(domain, error))?;
        members.insert(domain, Members { count: 1, vcpus });
        Ok(domain)
    }

    /// Leaves a domain. With its last member it ends, and domain 0 is told by VIRQ_DOM_EXC.
    pub fn leave(&self, domain: DomId) {
        let mut members = self.members.lock();
        let Some(running) = members.get_mut(&domain) else { return };
        running.count -= 1;
        if running.count > 0 {
            return;
        }
        members.remove(&domain);
        let engine = &self.machine.engine;
        if let Some(kernel) = engine.hooks().kernel(domain) {
            kernel.stop();
        }
        // Only this call ends domains, and it was running.
        let _ = engine.destroy_domain(domain);
        engine.hooks().remove(domain);
        let _ = engine.raise_global_virq(Virq::DOM_EXC);
    }

    /// Opens `/dev/xen/evtchn` for a program called `program`. `wake` is called whenever the empty ring gets a port, on the thread that
    /// raised the event; it must not call the host.
    ///
    /// # Errors
    /// ENODEV if the domain does not run.
    pub fn open(&self, domain: DomId, program: &str, wake: Wake) -> Result<DeviceFile, Errno> {
        let kernel = self.machine.engine.hooks().kernel(domain).ok_or(Errno::ENODEV)?;
        let name = format!("{}{program}", evtchn_device::node::INTERRUPT_NAME_PREFIX);
        Ok(DeviceFile::new(Arc::clone(&self.machine), kernel, self.levels.linux, name, wake))
    }

    /// Makes a hypercall that a program asked `/dev/xen/privcmd` for: event channels and the version, all else is ENOSYS.
    pub fn hypercall(
        &self,
        domain: DomId,
        number: Hypercall,
        arguments: [u64; 5],
        memory: &mut impl GuestMemory,
    ) -> i64 {
        let engine = &self.machine.engine;
        let [first, second, ..] = arguments;
        let outcome = match number {
            Hypercall::EVENT_CHANNEL_OP => engine.event_channel_op(domain, first as u32, second, memory),
            Hypercall::EVENT_CHANNEL_OP_COMPAT => engine.event_channel_op_compat(domain, first, memory),
            Hypercall::XEN_VERSION => return xen_version(self.levels.xen, first as u32, second, memory),
            _ => return Errno::ENOSYS.negated(),
        };
        match outcome {
            Outcome::Done(result) => result,
            // A reset that gave way: it goes on, as the hypercall would.
            Outcome::Again => self.finish_reset(domain, second, memory),
            Outcome::Block { .. } | Outcome::NotMine => Errno::ENOSYS.negated(),
        }
    }

    fn finish_reset(&self, domain: DomId, argument: u64, memory: &mut impl GuestMemory) -> i64 {
        loop {
            let op = Op::RESET_CONT.0;
            match self.machine.engine.event_channel_op(domain, op, argument, memory) {
                Outcome::Again => {}
                Outcome::Done(result) => return result,
                Outcome::Block { .. } | Outcome::NotMine => return Errno::ENOSYS.negated(),
            }
        }
    }

    /// Raises a VIRQ for vCPU 0 of a domain. The answer is whether it is bound there.
    pub fn raise_virq(&self, domain: DomId, virq: Virq) -> bool {
        self.machine.engine.raise_virq(domain, VcpuId(0), virq).unwrap_or(false)
    }

    /// The port that the kernel of domain 0 keeps for the store daemon.
    pub fn store_port(&self, domain: DomId) -> Option<Port> {
        self.machine.engine.hooks().kernel(domain)?.store_port()
    }
}
