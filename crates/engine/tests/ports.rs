// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which port an allocation gives out, and where it ends.
#![allow(missing_docs)]

mod common;

use common::{D0, D1, D2, NOBODY, SPECIAL, TestEnv, V0};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Port, VcpuId, Virq};
use evtchn_engine::{DomainConfig, DomainKind, Level, OpError, Width};

fn limited(max_port: Option<u32>) -> DomainConfig {
    DomainConfig { max_port, ..DomainConfig::guest(4) }
}

#[test]
fn ports_start_at_1_and_the_lowest_free_one_is_given_out() {
    let env = TestEnv::new();
    let open = || env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    assert_eq!([open(), open(), open()], [Port(1), Port(2), Port(3)]);
    env.engine.close(D1, Port(2)).unwrap();
    assert_eq!(open(), Port(2));
    assert_eq!(open(), Port(4));
}

#[test]
fn all_kinds_of_binding_draw_from_the_same_numbers() {
    let env = TestEnv::new();
    assert_eq!(env.engine.bind_ipi(D1, V0), Ok(Port(1)));
    assert_eq!(env.engine.bind_virq(D1, Virq::TIMER, V0), Ok(Port(2)));
    assert_eq!(env.pair(D1, D2), (Port(3), Port(1)));
}

#[test]
fn an_unbound_port_names_whom_it_waits_for() {
    let env = TestEnv::new();
    let port = env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    assert_eq!(env.status(D1, port).kind, StatusKind::Unbound { dom: D2 });
    assert_eq!(env.status(D1, port).vcpu, V0);
}

#[test]
fn self_as_the_remote_means_the_caller_even_in_another_domain() {
    let env = TestEnv::new();
    let own = env.engine.alloc_unbound(D1, D1, DomId::SELF).unwrap();
    assert_eq!(env.status(D1, own).kind, StatusKind::Unbound { dom: D1 });
    let foreign = env.engine.alloc_unbound(D0, D1, DomId::SELF).unwrap();
    assert_eq!(env.status(D1, foreign).kind, StatusKind::Unbound { dom: D0 });
}

#[test]
fn the_remote_domain_is_not_looked_up() {
    let env = TestEnv::new();
    for remote in [NOBODY, DomId::IO, DomId(0xffff)] {
        let port = env.engine.alloc_unbound(D1, DomId::SELF, remote).unwrap();
        assert_eq!(env.status(D1, port).kind, StatusKind::Unbound { dom: remote });
    }
}

#[test]
fn the_domain_that_gets_the_port_must_exist() {
    let env = TestEnv::new();
    for dom in SPECIAL.into_iter().chain([NOBODY]) {
        assert_eq!(env.engine.alloc_unbound(D0, dom, D1), Err(OpError::NoDomain));
    }
}

#[test]
fn an_ordinary_domain_may_not_open_ports_elsewhere_and_uses_none_up() {
    let env = TestEnv::new();
    assert_eq!(env.engine.alloc_unbound(D1, D2, D1), Err(OpError::NotPermitted));
    assert_eq!(env.engine.alloc_unbound(D2, D2, D1), Ok(Port(1)));
}

#[test]
fn a_full_foreign_domain_is_enospc_before_eperm() {
    let env = TestEnv::new();
    env.fill(D2);
    assert_eq!(env.engine.alloc_unbound(D1, D2, D1), Err(OpError::NoSpace));
}

#[test]
fn a_device_model_may_act_on_its_target() {
    let env = TestEnv::new();
    let config = DomainConfig { target: Some(D1), ..DomainConfig::default() };
    env.engine.create_domain(DomId(3), config).unwrap();
    assert_eq!(env.engine.alloc_unbound(DomId(3), D1, D0), Ok(Port(1)));
    assert_eq!(env.engine.alloc_unbound(DomId(3), D2, D0), Err(OpError::NotPermitted));
}

#[test]
fn the_limit_is_the_highest_number() {
    for (max, count) in [(Some(1023), 1023), (Some(0), 0), (Some(64), 64), (None, 4095)] {
        let env = TestEnv::with(Level::Current, limited(max));
        assert_eq!(env.fill(D1), count, "{max:?}");
    }
}

#[test]
fn a_32_bit_domain_has_1023_ports() {
    let config = DomainConfig { width: Width::Bits32, ..limited(None) };
    assert_eq!(TestEnv::with(Level::Current, config).fill(D1), 1023);
}

#[test]
fn the_limit_follows_the_width_of_an_hvm_guest() {
    let config = DomainConfig { kind: DomainKind::Hvm, width: Width::Bits32, ..limited(None) };
    let env = TestEnv::with(Level::Current, config);
    assert_eq!(env.fill(D1), 1023);
    env.engine.set_width(D1, Width::Bits64).unwrap();
    assert_eq!(env.fill(D1), 4095 - 1023);
    env.engine.set_width(D1, Width::Bits32).unwrap();
    env.engine.close(D1, Port(3000)).unwrap();
    assert_eq!(env.fill(D1), 0);
}

#[test]
fn a_failed_allocation_makes_no_record() {
    let env = TestEnv::with(Level::Current, limited(Some(63)));
    env.fill(D1);
    let beyond = env.engine.status(D1, DomId::SELF, Port(64));
    assert_eq!(beyond, Err(OpError::NoPort));
}

#[test]
fn a_reused_port_keeps_its_mask_and_loses_its_pending_bit_and_vcpu() {
    let env = TestEnv::new();
    let port = env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    env.engine.bind_vcpu(D1, port, VcpuId(3)).unwrap();
    env.set_mask(D1, port, true);
    env.set_pending(D1, port, true);
    env.engine.close(D1, port).unwrap();
    assert_eq!(env.engine.alloc_unbound(D1, DomId::SELF, D2), Ok(port));
    assert!(env.masked(D1, port) && !env.pending(D1, port));
    assert_eq!(env.status(D1, port).vcpu, V0);
}

#[test]
fn a_domain_without_a_page_can_still_open_ports() {
    let env = TestEnv::new();
    env.engine.set_shared_info(D1, None).unwrap();
    let port = env.engine.bind_ipi(D1, V0).unwrap();
    assert_eq!(env.engine.send(D1, port), Ok(()));
    assert_eq!(env.calls(), []);
}
