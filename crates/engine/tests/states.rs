// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every state of a port against every operation, as the owning guest sees it.
#![allow(missing_docs)]

mod common;

use common::{D0, D1, D2, TestEnv, V0};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};
use evtchn_engine::OpError::{NoPort, NotAccepted, NotImplemented, VirqBound, WrongState, XenOwned};
use evtchn_engine::{Consumer, DomainConfig, Level, OpError, PollOutcome};

/// A way to bring a port of domain 1 into a state.
type Make = fn(&TestEnv) -> Port;

struct Row {
    name: &'static str,
    make: Make,
    close: Result<(), OpError>,
    send: Result<(), OpError>,
    bind_vcpu: Result<(), OpError>,
    unmask: Result<(), OpError>,
    poll: Result<PollOutcome, OpError>,
    status: Result<StatusKind, OpError>,
    peer_binds: Result<(), OpError>,
}

const USABLE: Row = Row {
    name: "",
    make: |_| Port(0),
    close: Ok(()),
    send: Ok(()),
    bind_vcpu: Ok(()),
    unmask: Ok(()),
    poll: Ok(PollOutcome::Sleep),
    status: Ok(StatusKind::Closed),
    peer_binds: Err(NotAccepted),
};

const UNUSED: Row = Row {
    close: Err(WrongState),
    send: Err(WrongState),
    bind_vcpu: Err(WrongState),
    poll: Err(WrongState),
    ..USABLE
};

fn consumed(env: &TestEnv) -> Port {
    let consumer = Consumer::new(1).unwrap();
    env.engine.alloc_consumer(D0, D1, V0, D2, consumer).unwrap()
}

fn rows() -> [Row; 11] {
    [
        Row {
            name: "no record",
            make: |_| Port(64),
            close: Err(NoPort),
            send: Err(NoPort),
            bind_vcpu: Err(NoPort),
            unmask: Err(NoPort),
            poll: Err(NoPort),
            status: Err(NoPort),
            peer_binds: Err(NoPort),
        },
        Row { name: "reserved", make: |_| Port(0), ..UNUSED },
        Row { name: "free", make: |_| Port(40), ..UNUSED },
        Row {
            name: "unbound",
            make: |env| env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap(),
            status: Ok(StatusKind::Unbound { dom: D2 }),
            peer_binds: Ok(()),
            ..USABLE
        },
        Row {
            name: "unbound for another",
            make: |env| env.engine.alloc_unbound(D1, DomId::SELF, D0).unwrap(),
            status: Ok(StatusKind::Unbound { dom: D0 }),
            ..USABLE
        },
        Row {
            name: "interdomain",
            make: |env| env.pair(D1, D2).0,
            status: Ok(StatusKind::Interdomain { dom: D2, port: Port(1) }),
            ..USABLE
        },
        Row {
            name: "pirq",
            make: |env| env.engine.bind_pirq(D1, Pirq(3), 0).unwrap(),
            send: Err(WrongState),
            status: Ok(StatusKind::Pirq(Pirq(3))),
            ..USABLE
        },
        Row {
            name: "per-vCPU virq",
            make: |env| env.engine.bind_virq(D1, Virq::DEBUG, V0).unwrap(),
            send: Err(WrongState),
            bind_vcpu: Err(WrongState),
            status: Ok(StatusKind::Virq(Virq::DEBUG)),
            ..USABLE
        },
        Row {
            name: "per-domain virq",
            make: |env| env.engine.bind_virq(D1, Virq::ARGO, V0).unwrap(),
            send: Err(WrongState),
            status: Ok(StatusKind::Virq(Virq::ARGO)),
            ..USABLE
        },
        Row {
            name: "ipi",
            make: |env| env.engine.bind_ipi(D1, V0).unwrap(),
            bind_vcpu: Err(WrongState),
            status: Ok(StatusKind::Ipi),
            ..USABLE
        },
        Row {
            name: "consumed by Xen",
            make: consumed,
            close: Err(XenOwned),
            send: Err(XenOwned),
            bind_vcpu: Err(XenOwned),
            poll: Err(WrongState),
            status: Ok(StatusKind::Unbound { dom: D2 }),
            peer_binds: Ok(()),
            ..USABLE
        },
    ]
}

/// A fresh environment with the row's port in it.
fn fresh(row: &Row) -> (TestEnv, Port) {
    let config = DomainConfig { nr_pirqs: 16, ..DomainConfig::guest(4) };
    let env = TestEnv::with(Level::Current, config);
    let port = (row.make)(&env);
    env.quiet(D1);
    (env, port)
}

#[test]
fn every_cell_has_xens_answer() {
    for row in rows() {
        let name = row.name;
        let on = |op: &dyn Fn(&TestEnv, Port)| {
            let (env, port) = fresh(&row);
            op(&env, port);
        };
        on(&|env, port| assert_eq!(env.engine.close(D1, port), row.close, "close {name}"));
        on(&|env, port| assert_eq!(env.engine.send(D1, port), row.send, "send {name}"));
        on(&|env, port| {
            assert_eq!(env.engine.bind_vcpu(D1, port, V0), row.bind_vcpu, "bind_vcpu {name}");
        });
        on(&|env, port| assert_eq!(env.engine.unmask(D1, port), row.unmask, "unmask {name}"));
        on(&|env, port| {
            assert_eq!(env.engine.sched_poll(D1, V0, &[port]), row.poll, "poll {name}");
            env.engine.finish_poll(D1, V0);
        });
        on(&|env, port| {
            let status = env.engine.status(D1, DomId::SELF, port).map(|status| status.kind);
            assert_eq!(status, row.status, "status {name}");
        });
        on(&|env, port| {
            let bound = env.engine.bind_interdomain(D2, D1, port).map(|_| ());
            assert_eq!(bound, row.peer_binds, "peer binds {name}");
        });
        on(&|env, port| {
            let expected = if name == "no record" { NoPort } else { NotImplemented };
            assert_eq!(env.engine.set_priority(D1, port, 99), Err(expected), "priority {name}");
        });
    }
}

#[test]
fn a_missing_vcpu_is_enoent_whatever_the_state() {
    for row in rows() {
        let (env, port) = fresh(&row);
        assert_eq!(env.engine.bind_vcpu(D1, port, VcpuId(4)), Err(OpError::NoVcpu), "{}", row.name);
    }
}

#[test]
fn a_pending_port_is_ready_in_every_usable_state() {
    for row in rows().iter().filter(|row| row.poll.is_ok()) {
        let (env, port) = fresh(row);
        env.set_pending(D1, port, true);
        assert_eq!(env.engine.sched_poll(D1, V0, &[port]), Ok(PollOutcome::Ready), "{}", row.name);
    }
}

#[test]
fn unmask_acts_on_usable_ports_only() {
    for row in rows().iter().filter(|row| row.unmask.is_ok()) {
        let (env, port) = fresh(row);
        env.set_mask(D1, port, true);
        env.engine.unmask(D1, port).unwrap();
        assert_eq!(env.masked(D1, port), row.poll.is_err(), "{}", row.name);
    }
}

#[test]
fn records_exist_in_multiples_of_64_and_never_go_away() {
    let env = TestEnv::new();
    let count = |env: &TestEnv| {
        (0..).map(Port).take_while(|&p| env.engine.status(D1, DomId::SELF, p).is_ok()).count()
    };
    assert_eq!(count(&env), 64);
    let ports: Vec<_> = (0..64).map(|_| env.engine.bind_ipi(D1, V0).unwrap()).collect();
    assert_eq!(count(&env), 128);
    for port in ports {
        env.engine.close(D1, port).unwrap();
    }
    assert_eq!(count(&env), 128);
}

#[test]
fn status_of_another_domain_is_for_those_in_control() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D2, VcpuId(3)).unwrap();
    assert_eq!(env.engine.status(D1, D2, port), Err(OpError::NotPermitted));
    assert_eq!(env.engine.status(D1, D2, Port(5000)), Err(NoPort), "before EPERM");
    assert_eq!(env.engine.status(D1, DomId(999), port), Err(OpError::NoDomain));
    assert_eq!(env.engine.status(D0, D2, port), Ok(env.status(D2, port)));
    assert_eq!(env.status(D2, port).vcpu, VcpuId(3));
}

#[test]
fn status_hides_ports_of_xens_at_the_old_level() {
    let env = TestEnv::at(Level::Xen4_17);
    let port = consumed(&env);
    assert_eq!(env.engine.status(D1, DomId::SELF, port), Err(OpError::Hidden));
    assert_eq!(env.engine.status(D0, D1, port), Err(OpError::Hidden));
}

#[test]
fn a_moved_virq_is_still_taken_on_vcpu_0() {
    let env = TestEnv::new();
    let port = env.engine.bind_virq(D1, Virq::ARGO, V0).unwrap();
    env.engine.bind_vcpu(D1, port, VcpuId(3)).unwrap();
    assert_eq!(env.engine.bind_virq(D1, Virq::ARGO, V0), Err(VirqBound));
    env.engine.close(D1, port).unwrap();
    assert_eq!(env.engine.bind_virq(D1, Virq::ARGO, V0), Ok(port));
}
