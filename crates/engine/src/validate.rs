// SPDX-License-Identifier: MIT OR Apache-2.0
//! The invariants of the engine, as code.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use evtchn_abi::{Port, VcpuId};
use evtchn_sync::{Page, enter};

use crate::channel::{Channel, State};
use crate::domain::{Domain, Events};
use crate::engine::Engine;
use crate::fifo::Fifo;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// Checks that the books balance, with all operations kept out meanwhile. For tests and fuzzing:
    /// it looks at every port of every domain.
    ///
    /// * A number is taken exactly if its record is in use, is in quarantine, or is port 0.
    /// * The counts of open and of Xen's ports are right.
    /// * The two ends of a channel name each other.
    /// * VIRQ and PIRQ tables and records name each other.
    /// * Every port notifies a vCPU that exists; free ones vCPU 0.
    /// * Only IPIs and ends of channels are offloaded.
    /// * The tail of a FIFO queue is a port that was linked there last.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let _registry = self.registry.lock();
        let domains: Vec<_> = self.domains.iter(&enter()).collect();
        let locked: Vec<_> = domains.iter().map(|domain| domain.event.lock()).collect();
        domains.iter().zip(&locked).try_for_each(|(domain, events)| {
            self.validate_domain(domain, events).map_err(|wrong| format!("domain {}: {wrong}", domain.id))
        })
    }

    fn validate_domain(&self, domain: &Domain<H::Page>, events: &Events) -> Result<(), String> {
        let (mut active, mut xen) = (0, 0);
        for port in (0..events.ports.valid()).map(Port) {
            let channel = domain.channel(port).map_err(|_| format!("port {port} has no record"))?;
            self.validate_channel(domain, events, port, channel)
                .map_err(|wrong| format!("port {port}: {wrong}"))?;
            let binding = channel.binding();
            active += u32::from(binding.state.in_use());
            xen += u32::from(binding.consumer.is_some());
        }
        validate_queues(domain)?;
        let quarantined = events.quarantine.ports(&domain.channels).count();
        let taken = events.ports.taken() as usize;
        if taken != active as usize + quarantined + 1 {
            return Err(format!("{taken} numbers taken, {active} in use, {quarantined} in quarantine"));
        }
        let counted = (events.ports.active(), events.ports.xen());
        let right = counted == (active, xen) && domain.channel(Port(events.ports.valid())).is_err();
        right.then_some(()).ok_or_else(|| format!("counts {counted:?}, found {:?}", (active, xen)))
    }

    fn validate_channel(
        &self,
        domain: &Domain<H::Page>,
        events: &Events,
        port: Port,
        channel: &Channel,
    ) -> Result<(), String> {
        let state = channel.state();
        let sound = match state {
            State::Free => channel.binding().consumer.is_none() && channel.vcpu() == VcpuId(0),
            State::Reserved => port == Port(0),
            State::Unbound { .. } | State::Ipi => true,
            State::Interdomain { remote, port: far } => {
                let back = State::Interdomain { remote: domain.id, port };
                let peer = self.domain(remote);
                peer.is_ok_and(|peer| peer.channel(far).map(Channel::state) == Ok(back))
            }
            State::Pirq(pirq) => domain.pirq(pirq) == Some(port),
            State::Virq(virq) => self
                .virq_table(domain, virq, channel.vcpu())
                .is_some_and(|table| table.virq(virq) == Some(port)),
        };
        let routed = !channel.is_loaded() || matches!(state, State::Ipi | State::Interdomain { .. });
        let numbered = !events.ports.is_free(port) || state == State::Free;
        let told = domain.vcpu(channel.vcpu()).is_ok();
        (sound && routed && numbered && told).then_some(()).ok_or_else(|| format!("bad record {state:?}"))
    }
}

fn validate_queues<P: Page>(domain: &Domain<P>) -> Result<(), String> {
    let guard = enter();
    let mut tails = domain.fifo.load(&guard).into_iter().flat_map(Fifo::tails);
    let stale = tails.find(|&(queue, tail)| {
        let last = domain.channel(tail).map(Channel::last_queue);
        tail != Port(0) && last != Ok(queue)
    });
    stale.map_or(Ok(()), |stale| Err(format!("stale tail {stale:?}")))
}
