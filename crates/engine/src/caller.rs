// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread that calls often.

use alloc::sync::Arc;

use evtchn_abi::args::Send;
use evtchn_abi::{DomId, Hypercall, Op, Port, VcpuId};
use evtchn_sync::Reader;

use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::{Hooks, Upcall};
use crate::memory::{GuestMemory, copy_in};
use crate::raw::{Outcome, int};

/// A vCPU, or another thread that calls on behalf of a domain, with what makes its sends cheap: its domain at hand,
/// and a reader slot of its own, which no other thread writes to.
///
/// ```
/// # use evtchn_engine::{Engine, DomainConfig, Outcome, test_utils::Recorder};
/// # use evtchn_abi::{DomId, Hypercall, Op, VcpuId};
/// # let engine = Engine::new(Recorder::default());
/// # engine.create_domain(DomId(1), DomainConfig::guest(1))?;
/// let port = engine.bind_ipi(DomId(1), VcpuId(0))?;
/// let mut vcpu = engine.caller(DomId(1), VcpuId(0))?;
/// vcpu.send(port)?;
///
/// // What a VMM does at each hypercall of the guest:
/// let mut memory = port.0.to_le_bytes();
/// let outcome = vcpu.hypercall(Hypercall::EVENT_CHANNEL_OP.0, [Op::SEND.0.into(), 0, 0, 0, 0], &mut memory[..]);
/// assert_eq!(outcome, Outcome::Done(0));
/// # Ok::<(), evtchn_engine::OpError>(())
/// ```
#[derive(Debug)]
pub struct Caller<'e, H: Hooks> {
    engine: &'e Engine<H>,
    domain: Arc<Domain<H::Page>>,
    vcpu: VcpuId,
    reader: Reader,
}

impl<H: Hooks> Engine<H> {
    /// Makes a vCPU of a domain a caller.
    ///
    /// If the domain is destroyed while there is one, its calls are refused: ESRCH, and EINVAL for a send. What the engine
    /// keeps of the domain is freed with its last caller.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU, ENOMEM.
    pub fn caller(&self, domain: DomId, vcpu: VcpuId) -> Result<Caller<'_, H>, OpError> {
        let domain = self.domain(domain)?;
        domain.vcpu(vcpu)?;
        let reader = Reader::new().ok_or(OpError::OutOfMemory)?;
        Ok(Caller { engine: self, domain, vcpu, reader })
    }
}

impl<H: Hooks> Caller<'_, H> {
    /// The caller's domain.
    #[must_use]
    pub fn domain(&self) -> DomId {
        self.domain.id
    }

    /// The caller's vCPU.
    #[must_use]
    pub fn vcpu(&self) -> VcpuId {
        self.vcpu
    }

    /// As [`Engine::hypercall`].
    pub fn hypercall<M: GuestMemory + ?Sized>(
        &mut self,
        number: u64,
        args: [u64; 5],
        memory: &mut M,
    ) -> Outcome {
        let command = int(args[0]);
        match Hypercall(number) {
            Hypercall::EVENT_CHANNEL_OP => self.event_channel_op(command, args[1], memory),
            _ if self.domain.is_gone() => Outcome::of(Err(OpError::NoDomain)),
            _ => self.engine.hypercall_by(&self.domain, self.vcpu, number, args, memory),
        }
    }

    /// As [`Engine::event_channel_op`].
    #[inline]
    pub fn event_channel_op<M: GuestMemory + ?Sized>(
        &mut self,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        match Op(command) {
            Op::SEND => Outcome::of(copy_in(memory, arg).and_then(|a: Send| self.send(a.port))),
            _ if self.domain.is_gone() => Outcome::of(Err(OpError::NoDomain)),
            _ => self.engine.event_channel_op_by(&self.domain, command, arg, memory),
        }
    }

    /// As [`Engine::pending_upcall`], for this vCPU: what to inject before it enters the guest.
    pub fn pending_upcall(&mut self) -> Option<Upcall> {
        self.domain.pending_upcall(self.vcpu, &self.reader.enter())
    }

    /// As [`Engine::send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send(&mut self, port: Port) -> Result<(), OpError> {
        let Self { engine, domain, reader, .. } = self;
        let guard = reader.enter();
        let Some(far) = engine.merged(domain, port, &guard) else {
            return engine.send_edge(domain, port, guard);
        };
        drop(guard);
        engine.sent_quietly((domain.id, port), far, false)
    }
}
