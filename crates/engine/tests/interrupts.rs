// SPDX-License-Identifier: MIT OR Apache-2.0
//! VIRQs and PIRQs: who may bind them, and where they arrive.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::{D0, D1, D2, TestEnv, V0, delivered};
use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};
use evtchn_engine::{
    Denied, DomainConfig, DomainKind, Engine, Hooks, Level, OpError, Party, PirqRefused, Policy, Upcall,
};
use evtchn_sync::HeapPage;

const ARCH_LAST: Virq = Virq(23);

#[test]
fn a_per_vcpu_virq_binds_once_on_each_vcpu() {
    let env = TestEnv::new();
    for vcpu in (0..4).map(VcpuId) {
        let port = env.engine.bind_virq(D1, Virq::TIMER, vcpu).unwrap();
        assert_eq!(env.status(D1, port).vcpu, vcpu);
    }
    assert_eq!(env.engine.bind_virq(D1, Virq::TIMER, V0), Err(OpError::VirqBound));
    assert_eq!(env.engine.bind_virq(D1, Virq::TIMER, VcpuId(4)), Err(OpError::NoVcpu));
}

#[test]
fn numbers_above_23_are_refused() {
    let env = TestEnv::new();
    for virq in [24, 25, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        assert_eq!(env.engine.bind_virq(D0, Virq(virq), V0), Err(OpError::NoVirq), "{virq}");
    }
}

#[test]
fn which_virqs_may_be_bound_on_another_vcpu() {
    let env = TestEnv::new();
    let allowed: Vec<_> =
        (0..24).filter(|&virq| env.engine.bind_virq(D0, Virq(virq), VcpuId(1)).is_ok()).collect();
    assert_eq!(allowed, [0, 1, 7, 13]);
    let absent = env.engine.bind_virq(D0, Virq::CONSOLE, VcpuId(99));
    assert_eq!(absent, Err(OpError::VirqNotOnVcpu0), "before ENOENT");
}

#[test]
fn every_virq_binds_on_vcpu_0_of_domain_0() {
    let env = TestEnv::new();
    for virq in 0..24 {
        env.engine.bind_virq(D0, Virq(virq), V0).unwrap();
    }
    assert_eq!(env.engine.ports_in_use(D0), Ok((24, 0)));
}

#[test]
fn global_virqs_are_their_handlers_alone() {
    let env = TestEnv::new();
    for virq in [Virq::CONSOLE, Virq(5), ARCH_LAST] {
        assert_eq!(env.engine.bind_virq(D1, virq, V0), Err(OpError::VirqElsewhere));
    }
    assert_eq!(env.engine.bind_virq(D1, Virq::ARGO, V0), Ok(Port(1)));
}

#[test]
fn the_old_level_lets_anybody_bind_a_global_virq_and_never_fires_it() {
    let env = TestEnv::at(Level::Xen4_17);
    let port = env.engine.bind_virq(D1, Virq::CONSOLE, V0).unwrap();
    assert_eq!(env.engine.raise_global_virq(Virq::CONSOLE), Ok(false));
    assert!(!env.pending(D1, port));
}

#[test]
fn eexist_comes_before_enospc() {
    let env = TestEnv::new();
    env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    env.fill(D1);
    assert_eq!(env.engine.bind_virq(D1, Virq::TIMER, V0), Err(OpError::VirqBound));
    assert_eq!(env.engine.bind_virq(D1, Virq::DEBUG, V0), Err(OpError::NoSpace));
    assert_eq!(env.engine.bind_ipi(D1, VcpuId(99)), Err(OpError::NoVcpu));
    assert_eq!(env.engine.bind_ipi(D1, V0), Err(OpError::NoSpace));
}

#[test]
fn a_per_vcpu_virq_arrives_at_its_vcpu_only() {
    let env = TestEnv::new();
    let port = env.engine.bind_virq(D1, Virq::TIMER, VcpuId(2)).unwrap();
    assert_eq!(env.engine.raise_virq(D1, VcpuId(1), Virq::TIMER), Ok(false));
    assert!(!env.pending(D1, port));
    assert_eq!(env.engine.raise_virq(D1, VcpuId(2), Virq::TIMER), Ok(true));
    assert!(env.pending(D1, port));
    assert_eq!(env.calls(), [delivered(D1, 2)]);
}

#[test]
fn a_global_virq_arrives_at_its_handler_on_the_channels_vcpu() {
    let env = TestEnv::new();
    let port = env.engine.bind_virq(D0, Virq::DOM_EXC, V0).unwrap();
    env.engine.bind_vcpu(D0, port, VcpuId(3)).unwrap();
    assert_eq!(env.engine.raise_global_virq(Virq::DOM_EXC), Ok(true));
    assert_eq!(env.calls(), [delivered(D0, 3)]);
    for virq in [Virq::TIMER, Virq::ARGO, Virq(24)] {
        assert_eq!(env.engine.raise_global_virq(virq), Err(OpError::NoVirq));
    }
}

#[test]
fn a_virq_that_nobody_bound_is_forgotten() {
    let env = TestEnv::new();
    assert_eq!(env.engine.raise_virq(D1, V0, Virq::TIMER), Ok(false));
    let port = env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    assert!(!env.pending(D1, port));
    env.engine.close(D1, port).unwrap();
    assert_eq!(env.engine.raise_virq(D1, V0, Virq::TIMER), Ok(false));
    let engine = Engine::new(evtchn_engine::test_utils::Recorder::default());
    assert_eq!(engine.raise_global_virq(Virq::CONSOLE), Ok(false), "no handler at all");
}

#[test]
fn the_handler_of_a_global_virq_can_change_while_it_is_not_bound() {
    let env = TestEnv::new();
    assert_eq!(env.engine.set_virq_handler(Virq::CONSOLE, D1), Ok(()));
    assert_eq!(env.engine.set_virq_handler(Virq::CONSOLE, D1), Ok(()));
    assert_eq!(env.engine.bind_virq(D0, Virq::CONSOLE, V0), Err(OpError::VirqElsewhere));
    let port = env.engine.bind_virq(D1, Virq::CONSOLE, V0).unwrap();
    assert_eq!(env.engine.set_virq_handler(Virq::CONSOLE, D1), Ok(()), "it is that already");
    assert_eq!(env.engine.set_virq_handler(Virq::CONSOLE, D2), Err(OpError::VirqInUse));
    assert_eq!(env.engine.raise_global_virq(Virq::CONSOLE), Ok(true));
    assert!(env.pending(D1, port));
}

#[test]
fn the_old_level_steals_a_bound_virq() {
    let env = TestEnv::at(Level::Xen4_17);
    let port = env.engine.bind_virq(D0, Virq::CONSOLE, V0).unwrap();
    assert_eq!(env.engine.set_virq_handler(Virq::CONSOLE, D1), Ok(()));
    assert_eq!(env.engine.raise_global_virq(Virq::CONSOLE), Ok(false));
    assert!(!env.pending(D0, port));
    assert_eq!(env.engine.set_virq_handler(Virq::ARGO, D1), Ok(()), "ARGO was global");
}

#[test]
fn only_global_virqs_have_handlers() {
    let env = TestEnv::new();
    for virq in [Virq::TIMER, Virq::ARGO, Virq(24)] {
        assert_eq!(env.engine.set_virq_handler(virq, D1), Err(OpError::NoVirq));
    }
    assert_eq!(env.engine.set_virq_handler(Virq::CONSOLE, DomId(999)), Err(OpError::NoDomain));
}

#[test]
fn a_dead_handlers_virqs_go_back_to_the_hardware_domain() {
    let env = TestEnv::new();
    env.engine.set_virq_handler(Virq::CONSOLE, D1).unwrap();
    env.engine.bind_virq(D1, Virq::CONSOLE, V0).unwrap();
    env.engine.destroy_domain(D1).unwrap();
    let port = env.engine.bind_virq(D0, Virq::CONSOLE, V0).unwrap();
    assert_eq!(env.engine.raise_global_virq(Virq::CONSOLE), Ok(true));
    assert!(env.pending(D0, port));
}

/// A machine whose PIRQ 2 is Xen's, 5 has no interrupt, 6 ends its memory and 7 is not permitted.
struct Machine;

impl Hooks for Machine {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn policy(&self) -> &dyn Policy {
        self
    }

    fn pirq_bind(&self, _: DomId, pirq: Pirq, share: bool) -> Result<(), PirqRefused> {
        match pirq.0 {
            2 => Err(PirqRefused::InUse),
            3 if !share => Err(PirqRefused::InUse),
            5 => Err(PirqRefused::NoIrq),
            6 => Err(PirqRefused::OutOfMemory),
            _ => Ok(()),
        }
    }
}

impl Policy for Machine {
    fn bind_pirq(&self, _: &Party, pirq: Pirq) -> Result<(), Denied> {
        if pirq == Pirq(7) { Err(Denied::default()) } else { Ok(()) }
    }
}

fn machine(kind: DomainKind) -> Engine<Machine> {
    let engine = Engine::new(Machine);
    let config = DomainConfig { nr_pirqs: 16, kind, ..DomainConfig::guest(2) };
    engine.create_domain(D1, config).unwrap();
    engine.set_shared_info(D1, Some(evtchn_engine::test_utils::page())).unwrap();
    engine
}

#[test]
fn a_pirq_is_refused_for_each_of_its_reasons_and_no_port_is_lost() {
    let engine = machine(DomainKind::Pv);
    let refusals = [
        (16, OpError::NoPirq),
        (u32::MAX, OpError::NoPirq),
        (7, OpError::PirqNotPermitted),
        (5, OpError::NoIrq),
        (2, OpError::IrqInUse),
        (3, OpError::IrqInUse),
        (6, OpError::OutOfMemory),
    ];
    for (pirq, refused) in refusals {
        assert_eq!(engine.bind_pirq(D1, Pirq(pirq), 0), Err(refused), "{pirq}");
    }
    assert_eq!(engine.bind_pirq(D1, Pirq(4), 0), Ok(Port(1)));
    assert_eq!(engine.bind_pirq(D1, Pirq(4), 0), Err(OpError::PirqBound));
    engine.validate().unwrap();
}

#[test]
fn only_the_sharing_bit_of_the_flags_counts() {
    let engine = machine(DomainKind::Pv);
    assert_eq!(engine.bind_pirq(D1, Pirq(3), 0xffff_fffe), Err(OpError::IrqInUse));
    assert_eq!(engine.bind_pirq(D1, Pirq(3), 0xffff_ffff), Ok(Port(1)));
}

#[test]
fn an_hvm_domain_needs_no_permission() {
    assert_eq!(machine(DomainKind::Hvm).bind_pirq(D1, Pirq(7), 0), Ok(Port(1)));
}

#[test]
fn a_pirq_arrives_until_its_port_is_closed() {
    let env = {
        let config = DomainConfig { nr_pirqs: 16, ..DomainConfig::guest(4) };
        TestEnv::with(Level::Current, config)
    };
    assert_eq!(env.engine.raise_pirq(D1, Pirq(9)), Ok(false));
    let port = env.engine.bind_pirq(D1, Pirq(9), 0).unwrap();
    env.engine.bind_vcpu(D1, port, VcpuId(2)).unwrap();
    assert_eq!(env.engine.raise_pirq(D1, Pirq(9)), Ok(true));
    assert_eq!(env.calls(), [delivered(D1, 2)]);
    env.engine.close(D1, port).unwrap();
    assert_eq!(env.engine.raise_pirq(D1, Pirq(9)), Ok(false));
    assert_eq!(env.engine.raise_pirq(D1, Pirq(u32::MAX)), Ok(false));
    assert_eq!(env.engine.bind_pirq(D1, Pirq(9), 0), Ok(port));
}
