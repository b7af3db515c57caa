// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a saved state: it is refused, or makes a machine that works.

use evtchn_abi::{DomId, Gfn, VcpuId};
use evtchn_engine::{DomainState, MachineState, TeardownOutcome, VcpuInfoPlace};
use evtchn_sync::{PAGE_SIZE, Page};

use crate::common::state::Machine;
use crate::hypercalls::hypercall;
use crate::input::Input;

/// A byte that fills the guests' memory, one that says which kind of state follows, the state, and hypercalls, between which timers
/// come.
pub fn snapshots(input: &[u8]) {
    let [fill, kind, rest @ ..] = input else { return };
    let machine = Machine::empty(3);
    for page in machine.memory() {
        (0..PAGE_SIZE)
            .filter_map(|at| page.u8(at))
            .for_each(|byte| byte.store(*fill, std::sync::atomic::Ordering::SeqCst));
    }
    let shared = |id: DomId| machine.shared.get(usize::from(id.0)).cloned();
    let (rest, restored, states) = if kind & 1 == 0 {
        let Ok((state, rest)) = postcard::take_from_bytes::<MachineState>(rest) else { return };
        (rest, machine.engine.restore(&state, shared), state.domains)
    } else {
        let Ok((state, rest)) = postcard::take_from_bytes::<DomainState>(rest) else { return };
        // A sink that is given a page is refused.
        let page = shared(DomId(state.id)).filter(|_| kind & 2 == 0);
        (rest, machine.engine.restore_domain(&state, page), vec![state])
    };
    machine.engine.validate().expect("the books balance after a restore");
    if restored.is_err() {
        let left = machine.engine.save().expect("memory").domains;
        assert_eq!(left, [], "something is left of a refused state");
        return assert_eq!(machine.calls(), [], "a hook was called for a refused state");
    }
    states.iter().for_each(|state| is_as_saved(&machine, state));
    let ids: Vec<_> = states.iter().map(|domain| DomId(domain.id)).collect();
    let mut input = Input(rest);
    while !input.is_empty() && !ids.is_empty() {
        let byte = input.byte();
        let caller = ids[usize::from(byte) % ids.len()];
        match byte {
            0xf0.. => pass_time(&machine, caller, &mut input),
            _ => hypercall(&machine, caller, &mut input),
        }
    }
    machine.engine.validate().expect("the books balance after hypercalls");
    // What is saved now can be restored, and is the same again.
    let state = machine.engine.save().expect("memory");
    let next = Machine {
        engine: evtchn_engine::Engine::new(machine.engine.hooks().successor()),
        ..Machine::empty(3)
    };
    next.engine.restore(&state, shared).expect("what was saved is restored");
    next.engine.validate().expect("the books balance after a second restore");
    let again = next.engine.save().expect("memory");
    assert_eq!((again.domains.len(), &again.virq_handlers), (state.domains.len(), &state.virq_handlers));
    for (before, after) in state.domains.iter().zip(&again.domains) {
        assert_eq!((&before.vcpus, before.callback), (&after.vcpus, after.callback));
        assert_eq!((before.config, before.teardown), (after.config, after.teardown));
        end(&next, DomId(after.id));
    }
    next.engine.validate().expect("the books balance at the end");
}

/// Is what can be asked of a domain as its state says?
fn is_as_saved(machine: &Machine, state: &DomainState) {
    let (engine, id) = (&machine.engine, DomId(state.id));
    for vcpu in &state.vcpus {
        let number = VcpuId(vcpu.vcpu);
        let tick = vcpu.timers.period.map(|period| vcpu.timers.last_tick.saturating_add(period));
        let deadline = vcpu.timers.singleshot.into_iter().chain(tick).min();
        assert_eq!(engine.deadline(id, number), Ok(deadline), "the deadline is that of the timers");
        if let Some(info) = vcpu.info {
            let place = VcpuInfoPlace::Registered { gfn: Gfn(info.gfn), offset: info.offset as usize };
            assert_eq!(engine.vcpu_info(id, number), Ok(place), "the vcpu_info is where it was");
        }
    }
    assert_eq!(engine.save_domain(id).map(|saved| saved.callback), Ok(state.callback));
}

/// Some time passes for a vCPU; what it asks for next is later.
fn pass_time(machine: &Machine, id: DomId, input: &mut Input<'_>) {
    let (vcpu, now) = (VcpuId(input.below(5)), u64::from_le_bytes(input.bytes()));
    if machine.engine.deadline_passed(id, vcpu, now).is_ok() {
        let next = machine.engine.deadline(id, vcpu).expect("the vCPU is there");
        // The last moment there is comes again and again.
        assert!(next.is_none_or(|next| next > now || next == u64::MAX), "{next:?} after {now}");
    }
    machine.calls();
}

/// Brings a domain to its end, be it in the middle of that already.
fn end(machine: &Machine, id: DomId) {
    while let TeardownOutcome::Again = machine.engine.tear_down(id).expect("the domain is there") {}
    assert!(!machine.engine.domain_exists(id));
}
