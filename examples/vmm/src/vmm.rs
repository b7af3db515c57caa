// SPDX-License-Identifier: MIT OR Apache-2.0
//! The embedder of the engine: its hooks, which are KVM's for each domain, and what happens to guests as wholes.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use evtchn_abi::{DomId, Gfn, VcpuId};
use evtchn_engine::{Engine, Hooks, MachineState, Observed, OffloadRoute, Upcall};
use evtchn_kvm::{Error, Interface, Timers};
use evtchn_vm_memory::GuestPage;
use parking_lot::Mutex;

use crate::guest::Guest;
use crate::vcpu::End;

/// What the threads tell the main one.
#[derive(Debug)]
pub enum News {
    /// A guest has ended, or failed.
    Ended(DomId, Result<End>),
    /// A guest wants a snapshot.
    Snapshot,
}

/// The VMM.
pub struct Vmm {
    pub guests: Vec<Guest>,
    pub timers: Timers,
    pub news: Mutex<Sender<News>>,
    /// Has a guest wished for a snapshot that was not made yet?
    pub wished: AtomicBool,
    /// What went wrong in a hook, which cannot say so.
    pub failure: OnceLock<Error>,
}

impl Vmm {
    /// The guest that is a domain; none for domain 0.
    pub fn guest(&self, domain: DomId) -> Option<&Guest> {
        self.guests.iter().find(|guest| guest.domain.id() == domain)
    }

    pub fn tell(&self, news: News) {
        drop(self.news.lock().send(news)); // nobody listens at the very end
    }

    /// Once for all who wish before it is made: a guest may wish without end.
    pub fn wish_for_a_snapshot(&self) {
        if !self.wished.swap(true, SeqCst) {
            self.tell(News::Snapshot);
        }
    }

    fn check(&self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.failure.get_or_init(|| error);
        }
    }
}

/// What the engine asks of us; nearly all of it is `evtchn-kvm`'s.
impl Hooks for Vmm {
    type Page = GuestPage;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, upcall: Upcall) {
        let guest = self.guest(domain);
        if let Some(guest) = guest {
            guest.pollers.wake();
        }
        match guest.map(|guest| guest.domain.deliver(vcpu, upcall)) {
            // Linux says GSI 1 to mean that it has seen the vCPUs' own vectors; others choose a line that nobody has, or a
            // vector that there is no way to inject.
            Some(Err(Error::Line(_) | Error::NoVector(_))) | None => {}
            Some(result) => self.check(result),
        }
    }

    fn wake_poller(&self, domain: DomId, _: VcpuId) {
        if let Some(guest) = self.guest(domain) {
            guest.pollers.wake();
        }
    }

    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<GuestPage> {
        let guest = self.guest(domain)?;
        let page = guest.domain.pin(gfn)?;
        guest.pinned.lock().insert(gfn);
        Some(page)
    }

    fn set_deadline(&self, domain: DomId, vcpu: VcpuId, deadline: Option<u64>) {
        self.timers.set(domain, vcpu, deadline);
    }

    fn offload(&self, route: &OffloadRoute) -> bool {
        let (Some(sender), Some(receiver)) = (self.guest(route.sender), self.guest(route.receiver)) else {
            return false;
        };
        let taken = sender.domain.offload(route) || offload_between(sender, receiver, route);
        if taken {
            sender.counters.count_offloaded();
        }
        taken
    }

    fn unload(&self, route: &OffloadRoute) {
        let (Some(sender), Some(receiver)) = (self.guest(route.sender), self.guest(route.receiver)) else {
            return;
        };
        self.check(sender.domain.unload(route));
        // In this order: what has been sent by now is raised.
        if let Err(error) = receiver.routes.lock().forget(route.receiver_port) {
            eprintln!("evtchn-vmm: a route to guest {}: {error:#}", route.receiver.0);
        }
    }

    fn observe(&self, event: Observed) {
        let domain = match event {
            Observed::Operation { caller, .. } => caller,
            Observed::Action { domain, .. } | Observed::Raised { domain, .. } => domain,
            _ => return,
        };
        if let Some(guest) = self.guest(domain) {
            guest.counters.count(&event, guest.age());
            self.check(guest.domain.observe(&event));
        }
    }
}

/// Has KVM carry a route from one guest to another, if it may.
fn offload_between(sender: &Guest, receiver: &Guest, route: &OffloadRoute) -> bool {
    if sender.domain.interface() != (Interface::Xen { sends: true }) {
        return false;
    }
    let mut routes = receiver.routes.lock();
    let taken = routes.listen(route).is_ok_and(|eventfd| sender.domain.offload_to(route, eventfd));
    if !taken {
        // Nobody signals it. What cannot be taken off is in nobody's way.
        let _ = routes.forget(route.receiver_port);
    }
    taken
}

/// Ends a guest without asking it: its vCPUs go home, its domain is destroyed, its peers find their ports unbound.
pub fn kill(engine: &Engine<Vmm>, domain: DomId) -> Result<()> {
    let guest = engine.hooks().guest(domain).context("no such guest")?;
    guest.gate.close();
    guest.call_back();
    guest.gate.wait_until_empty();
    if engine.domain_exists(domain) {
        engine.destroy_domain(domain)?;
    }
    Ok(())
}

/// Stops all guests, saves the state of the engine as text, destroys its domains, restores them, and lets the guests go on.
pub fn snapshot(engine: &Engine<Vmm>) -> Result<usize> {
    let Vmm { guests, wished, .. } = engine.hooks();
    wished.store(false, SeqCst);
    guests.iter().for_each(|guest| guest.gate.hold());
    guests.iter().for_each(Guest::call_back);
    guests.iter().for_each(|guest| guest.gate.wait_until_empty());

    let text = serde_json::to_string(&engine.save()?)?;
    let state: MachineState = serde_json::from_str(&text)?;
    // A destroyed domain's ports are closed, which takes their events out of its memory. Who restores a domain elsewhere has
    // the memory as it was before.
    let pages: Vec<_> = guests.iter().map(Guest::copy_pages).collect();
    for domain in &state.domains {
        engine.destroy_domain(DomId(domain.id))?;
    }
    guests.iter().zip(&pages).try_for_each(|(guest, pages)| guest.put_pages(pages))?;
    guests.iter().try_for_each(Guest::forget)?;
    let place = |id: DomId| engine.hooks().guest(id).and_then(|guest| *guest.shared_info.lock());
    let page = |id: DomId| engine.hooks().guest(id)?.domain.pin(place(id)?);
    engine.restore(&state, page)?;
    engine.validate().map_err(|broken| anyhow::anyhow!("the engine's invariants: {broken:?}"))?;
    for guest in guests.iter().filter(|guest| engine.domain_exists(guest.domain.id())) {
        guest.domain.sync(engine, place(guest.domain.id()))?;
        guest.counters.count_snapshot();
    }
    guests.iter().for_each(|guest| guest.gate.open());
    Ok(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_guest_that_wishes_without_end_is_heard_once_for_each_snapshot() {
        let (news, heard) = channel();
        let (timers, wished, failure) = Default::default();
        let vmm = Vmm { guests: Vec::new(), timers, news: Mutex::new(news), wished, failure };
        let engine = Engine::new(vmm);
        for _ in 0..2 {
            (0..1000).for_each(|_| engine.hooks().wish_for_a_snapshot());
            assert_eq!(heard.try_iter().count(), 1);
            snapshot(&engine).unwrap();
        }
    }
}
