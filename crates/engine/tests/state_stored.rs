// SPDX-License-Identifier: MIT OR Apache-2.0
//! States that earlier programs stored: all of them load for ever. Newer ones are refused by name.
//!
//! `UPDATE_GOLDEN=1` writes the files of the present version, if they are not there yet. Files that are there never change.
#![allow(missing_docs)]

mod common;

use std::path::PathBuf;
use std::{env, fs};

use common::state::{INFO, Machine, configs};
use common::{D0, D1, D2};
use evtchn_abi::{DomId, Pirq, VcpuId, Virq};
use evtchn_engine::state::{
    CallbackState, DeliveryState, KindState, TimersState, VERSION, VcpuInfoState, VcpuState, ViaState,
};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{Consumer, DomainState, MachineState};

/// A machine with something of every field of version 1, and of later ones what that version meant.
fn sample_1() -> MachineState {
    let mut machine = Machine::new(&configs());
    assert_eq!(machine.init_control(D1, 1), "Ok(())");
    let engine = &machine.engine;
    let kept = engine.bind_ipi(D1, VcpuId(1)).unwrap();
    engine.send(D1, kept).unwrap();
    let mut state = engine.save().unwrap();
    let fifo = state.domains[1].fifo.take();
    assert_eq!(machine.expand_array(D1), "Ok(())");
    let engine = &machine.engine;
    let waiting = engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    let port = engine.bind_interdomain(D1, D2, waiting).unwrap();
    engine.bind_vcpu(D1, port, VcpuId(1)).unwrap();
    engine.set_priority(D1, port, 3).unwrap();
    engine.send(D2, waiting).unwrap();
    engine.bind_virq(D1, Virq::TIMER, VcpuId(2)).unwrap();
    engine.bind_pirq(D1, Pirq(3), 1).unwrap();
    engine.alloc_consumer(D0, D1, VcpuId(0), D2, Consumer::new(5).unwrap()).unwrap();
    engine.set_virq_handler(Virq::CONSOLE, D2).unwrap();
    engine.set_paused(D1, true).unwrap();
    engine.set_width(D2, evtchn_engine::Width::Bits32).unwrap();
    let mut state = engine.save().unwrap();
    state.domains[2].reset = Some(64);
    state.domains[1].fifo.as_mut().unwrap().kept = fifo.unwrap().kept;
    state
}

/// A machine with something of every field.
fn sample() -> MachineState {
    let mut state = sample_1();
    state.domains[0].suspend_port = Some(7);
    let vcpu = |vcpu, info, upcall_vector, timers| VcpuState { vcpu, info, upcall_vector, timers };
    let timers = TimersState { singleshot: Some(5_000), period: Some(1_000_000), last_tick: 77 };
    let info = VcpuInfoState { gfn: INFO.0, offset: 1088 };
    let one = &mut state.domains[1];
    (one.auto_unmask, one.teardown) = (true, Some(9));
    one.vcpus = vec![vcpu(0, None, None, timers), vcpu(1, Some(info), None, TimersState::default())];
    for (id, param, via) in [
        (3, 0, ViaState::None),
        (4, 9, ViaState::Gsi { line: 9 }),
        (5, 0x0100_0000_0000_1803, ViaState::Intx { device: 3, pin: 3 }),
        (6, 0x0200_0000_0000_00f3, ViaState::Vector { vector: 0xf3 }),
        (7, 0x0200_0000_0000_021f, ViaState::Ppi { irq: 31, edge: false, active_low: true }),
    ] {
        let mut hvm = state.domains[0].clone();
        hvm.id = id;
        (hvm.config.kind, hvm.config.nr_gsis) = (KindState::Hvm, 24);
        hvm.callback = CallbackState { param, via };
        hvm.vcpus = vec![vcpu(2, None, Some(0x41), TimersState::default())];
        state.domains.push(hvm);
    }
    let mut sink = state.domains[0].clone();
    (sink.id, sink.config.delivery) = (8, DeliveryState::Sink);
    state.domains.push(sink);
    state
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn update(name: &str, contents: &[u8]) {
    let path = golden(name);
    if env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}

#[test]
fn every_version_loads_from_both_formats() {
    let state = sample();
    update(&format!("machine-v{VERSION}.json"), &serde_json::to_vec_pretty(&state).unwrap());
    update(&format!("machine-v{VERSION}.postcard"), &postcard::to_allocvec(&state).unwrap());
    for (version, state) in (1..=VERSION).zip([sample_1(), state]) {
        let text = fs::read_to_string(golden(&format!("machine-v{version}.json"))).unwrap();
        let bytes = fs::read(golden(&format!("machine-v{version}.postcard"))).unwrap();
        let loaded: MachineState = serde_json::from_str(&text).unwrap();
        assert_eq!(loaded, state, "version {version}");
        assert_eq!(postcard::from_bytes::<MachineState>(&bytes).unwrap(), state, "version {version}");
        let machine = Machine::empty(state.domains.len());
        machine.engine.restore(&loaded, |id| Some(machine.page(id).clone())).unwrap();
        machine.engine.validate().unwrap();
        // But for the queues, which are in memory that is not there, all is as it was.
        let without_fifo = |mut state: MachineState| {
            state.domains.iter_mut().for_each(|domain| domain.fifo = None);
            state
        };
        assert_eq!(without_fifo(machine.engine.save().unwrap()), without_fifo(state), "version {version}");
    }
}

#[test]
fn version_1_means_what_it_meant() {
    let text = fs::read_to_string(golden("machine-v1.json")).unwrap();
    let state: MachineState = serde_json::from_str(&text).unwrap();
    assert_eq!(state.version, VERSION);
    for domain in &state.domains {
        assert_eq!((domain.version, domain.config.nr_gsis), (VERSION, 48));
        assert_eq!(domain.config.delivery, DeliveryState::Shared);
        assert_eq!((&domain.vcpus[..], domain.callback), (&[][..], CallbackState::default()));
        assert_eq!((domain.auto_unmask, domain.suspend_port, domain.teardown), (false, None, None));
    }
    let machine = Machine::empty(3);
    machine.engine.restore(&state, |id| Some(machine.page(id).clone())).unwrap();
    let deadline = |call: &Call| matches!(call, Call::Deadline(..));
    assert!(!machine.calls().iter().any(deadline), "nobody had a timer");
}

#[test]
fn a_single_domain_of_version_1_loads() {
    let text = fs::read_to_string(golden("machine-v1.json")).unwrap();
    let machine: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (value, expected) in machine["state"]["domains"].as_array().unwrap().iter().zip(sample_1().domains) {
        let text = format!(r#"{{"version":1,"state":{}}}"#, value["state"]);
        assert_eq!(serde_json::from_str::<DomainState>(&text).unwrap(), expected);
    }
}

#[test]
fn json_may_leave_out_what_is_new_in_a_version() {
    let old = fs::read_to_string(golden("machine-v1.json")).unwrap();
    let new = old.replace("\"version\": 1", &format!("\"version\": {VERSION}"));
    assert_eq!(serde_json::from_str::<MachineState>(&new).unwrap(), sample_1());
    let vcpu: VcpuState = serde_json::from_str(r#"{"vcpu":3,"timers":{"singleshot":9}}"#).unwrap();
    let timers = TimersState { singleshot: Some(9), ..TimersState::default() };
    assert_eq!(vcpu, VcpuState { vcpu: 3, timers, ..VcpuState::default() });
}

#[test]
fn a_single_domain_is_stored_with_its_version() {
    let state = sample().domains[1].clone();
    let bytes = postcard::to_allocvec(&state).unwrap();
    assert_eq!(u32::from(bytes[0]), VERSION);
    assert_eq!(postcard::from_bytes::<DomainState>(&bytes).unwrap(), state);
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.starts_with(&format!("{{\"version\":{VERSION},")), "{text}");
    assert_eq!(serde_json::from_str::<DomainState>(&text).unwrap(), state);
}

#[test]
fn a_newer_version_is_refused_by_name_whatever_follows() {
    let newer = format!(r#"{{ "version": {}, "state": {{ "never": ["seen"] }} }}"#, VERSION + 1);
    let error = serde_json::from_str::<MachineState>(&newer).unwrap_err().to_string();
    assert!(error.starts_with("saved state of version 3: this program knows versions up to 2"), "{error}");
    assert!(postcard::from_bytes::<MachineState>(&[3, 0xff]).is_err());
    assert!(postcard::from_bytes::<DomainState>(&[0]).is_err());
}

#[test]
fn what_is_no_state_is_refused() {
    for wrong in
        ["{}", "[]", "[1]", r#"{"version":1}"#, r#"{"version":1,"other":1}"#, "null", r#"{"version":0}"#]
    {
        assert!(serde_json::from_str::<MachineState>(wrong).is_err(), "{wrong}");
    }
    let swapped =
        serde_json::from_str::<MachineState>(r#"{"state":{},"version":1}"#).unwrap_err().to_string();
    assert!(swapped.starts_with("the version must come before the state"), "{swapped}");
    let mut bytes = postcard::to_allocvec(&sample()).unwrap();
    for len in 0..bytes.len() {
        assert!(postcard::from_bytes::<MachineState>(&bytes[..len]).is_err(), "cut at {len}");
    }
    // A list that says that it is huge is refused before there is memory for it.
    bytes.truncate(1);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(postcard::from_bytes::<MachineState>(&bytes).is_err());
}
