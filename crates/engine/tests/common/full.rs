// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine with something of all that is saved but ports, and what is said of it again and again.
#![allow(dead_code, missing_docs)]

use evtchn_abi::{CallbackVia, DomId, Port, VcpuId};
use evtchn_engine::state::DomainError;
use evtchn_engine::{Delivery, DomainConfig, DomainKind, DomainState, RestoreError};

use super::state::{Machine, configs};
use super::{D1, D2, V0};

pub const V1: VcpuId = VcpuId(1);
pub const V2: VcpuId = VcpuId(2);
pub const MS: u64 = 1_000_000;

/// The three domains, of which 2 is hardware-assisted, and a sink.
fn machine() -> Machine {
    let mut configs = configs();
    configs[2].kind = DomainKind::Hvm;
    configs.push(DomainConfig { delivery: Delivery::Sink, ..DomainConfig::guest(2) });
    Machine::new(&configs)
}

pub const VMM: DomId = DomId(3);

/// As [`machine`], with something of everything that is not a port.
pub fn full() -> Machine {
    let machine = machine();
    let engine = &machine.engine;
    machine.register(D1, 1).unwrap();
    engine.set_callback(D2, CallbackVia::Gsi(9)).unwrap();
    engine.set_upcall_vector(D2, V1, 0x41).unwrap();
    engine.set_singleshot_timer(D1, V0, Some(5_000)).unwrap();
    engine.set_periodic_timer(D1, V2, Some(MS)).unwrap();
    engine.set_suspend_port(D1, Port(4)).unwrap();
    engine.set_auto_unmask(D1, true).unwrap();
    let port = engine.alloc_unbound(VMM, DomId::SELF, D1).unwrap();
    engine.bind_interdomain(D1, VMM, port).unwrap();
    machine.calls();
    machine
}

pub fn moved(machine: &Machine) -> Machine {
    let state = machine.engine.save().unwrap();
    let new = machine.moved(&state);
    assert_eq!(new.engine.save().unwrap(), state);
    new.engine.validate().unwrap();
    new
}

#[track_caller]
pub fn assert_wrong(id: DomId, change: impl FnOnce(&mut DomainState), expected: DomainError) {
    let mut state = full().engine.save().unwrap();
    change(&mut state.domains[usize::from(id.0)]);
    let machine = Machine::empty(4);
    let refused = machine.engine.restore(&state, |id| Some(machine.page(id).clone())).unwrap_err();
    assert_eq!(refused, RestoreError::Domain(id, expected));
    assert!(machine.ids().all(|id| !machine.engine.domain_exists(id)));
    assert!(machine.words().iter().all(|&word| word == 0), "memory was written");
    assert_eq!(machine.calls(), []);
    machine.engine.validate().unwrap();
    // The same by itself.
    let refused = machine.engine.restore_domain(&state.domains[usize::from(id.0)], None).unwrap_err();
    assert_eq!(refused, RestoreError::Domain(id, expected));
    assert_eq!(machine.calls(), []);
}
