// SPDX-License-Identifier: MIT OR Apache-2.0
//! States that earlier programs stored: all of them load for ever. Newer ones are refused by name.
//!
//! `UPDATE_GOLDEN=1` writes the files of the present version, if they are not there yet. Files that are there never change.
#![allow(missing_docs)]

mod common;

use std::path::PathBuf;
use std::{env, fs};

use common::state::{Machine, configs};
use common::{D0, D1, D2};
use evtchn_abi::{DomId, Pirq, VcpuId, Virq};
use evtchn_engine::state::VERSION;
use evtchn_engine::{Consumer, DomainState, MachineState};

/// A machine with something of every field.
fn sample() -> MachineState {
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
    for version in 1..=VERSION {
        let text = fs::read_to_string(golden(&format!("machine-v{version}.json"))).unwrap();
        let bytes = fs::read(golden(&format!("machine-v{version}.postcard"))).unwrap();
        let loaded: MachineState = serde_json::from_str(&text).unwrap();
        assert_eq!(loaded, state, "version {version}");
        assert_eq!(postcard::from_bytes::<MachineState>(&bytes).unwrap(), state, "version {version}");
        let machine = Machine::empty(3);
        machine.engine.restore(&loaded, |id| Some(machine.page(id).clone())).unwrap();
        machine.engine.validate().unwrap();
    }
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
    assert!(error.starts_with("saved state of version 2: this program knows versions up to 1"), "{error}");
    assert!(postcard::from_bytes::<MachineState>(&[2, 0xff]).is_err());
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
