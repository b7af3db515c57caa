// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a saved state: it is refused, or makes a machine that works.

use evtchn_abi::DomId;
use evtchn_engine::{DomainState, MachineState};
use evtchn_sync::{PAGE_SIZE, Page};

use crate::common::state::Machine;
use crate::hypercalls::hypercall;
use crate::input::Input;

/// A byte that fills the guests' memory, one that says which kind of state follows, the state, and hypercalls.
pub fn snapshots(input: &[u8]) {
    let [fill, kind, rest @ ..] = input else { return };
    let machine = Machine::empty(3);
    for page in machine.memory() {
        (0..PAGE_SIZE)
            .filter_map(|at| page.u8(at))
            .for_each(|byte| byte.store(*fill, std::sync::atomic::Ordering::SeqCst));
    }
    let shared = |id: DomId| machine.shared.get(usize::from(id.0)).cloned();
    let (rest, restored) = if kind & 1 == 0 {
        let Ok((state, rest)) = postcard::take_from_bytes::<MachineState>(rest) else { return };
        let restored = machine.engine.restore(&state, shared);
        let ids: Vec<_> = state.domains.iter().map(|domain| DomId(domain.id)).collect();
        (rest, restored.map(|()| ids))
    } else {
        let Ok((state, rest)) = postcard::take_from_bytes::<DomainState>(rest) else { return };
        let id = DomId(state.id);
        (rest, machine.engine.restore_domain(&state, shared(id)).map(|()| vec![id]))
    };
    machine.engine.validate().expect("the books balance after a restore");
    let Ok(ids) = restored else {
        return assert_eq!(
            machine.engine.save().expect("memory").domains,
            [],
            "something is left of a refused state"
        );
    };
    let mut input = Input(rest);
    while !input.is_empty() && !ids.is_empty() {
        let caller = ids[input.byte() as usize % ids.len()];
        hypercall(&machine, caller, &mut input);
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
}
