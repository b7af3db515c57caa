// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs, with guests that write what they like, against a plain model: the same answer and the same bits at
//! every step, and the books balance. The engine is saved and restored on the way.
//!
//! All ports are in the first word, so a vCPU has one selector bit.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::{D0, D1, D2, NOBODY, TestEnv};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Port, VcpuId, Virq};
use evtchn_engine::{DomainConfig, Level, OpError, PortStatus, ResetOutcome};
use proptest::prelude::*;

const LIMIT: u32 = 9;

#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(DomId, DomId, DomId),
    Bind(DomId, DomId, Port),
    Ipi(DomId, VcpuId),
    Timer(DomId, VcpuId),
    Close(DomId, Port),
    Send(DomId, Port),
    Move(DomId, Port, VcpuId),
    Mask(DomId, Port),
    Unmask(DomId, Port),
    Reset(DomId),
    /// The guest writes a pending bit, a selector, an upcall byte.
    Pend(DomId, Port, bool),
    Select(DomId, VcpuId, bool),
    Upcall(DomId, VcpuId, bool),
    /// The engine is saved, and another one restored.
    Restore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let dom = || prop::sample::select(vec![D0, D1, D2]);
    let named = || prop::sample::select(vec![D0, D1, D2, DomId::SELF, NOBODY]);
    let port = || prop::sample::select((0..12).chain([64]).map(Port).collect::<Vec<_>>());
    let vcpu = || (0..5u32).prop_map(VcpuId);
    let step = prop_oneof![
        4 => (dom(), named(), named()).prop_map(|(c, d, r)| Step::Alloc(c, d, r)),
        4 => (dom(), named(), port()).prop_map(|(c, d, p)| Step::Bind(c, d, p)),
        1 => (dom(), vcpu()).prop_map(|(c, v)| Step::Ipi(c, v)),
        1 => (dom(), vcpu()).prop_map(|(c, v)| Step::Timer(c, v)),
        3 => (dom(), port()).prop_map(|(c, p)| Step::Close(c, p)),
        4 => (dom(), port()).prop_map(|(c, p)| Step::Send(c, p)),
        2 => (dom(), port(), vcpu()).prop_map(|(c, p, v)| Step::Move(c, p, v)),
        1 => (dom(), port()).prop_map(|(c, p)| Step::Mask(c, p)),
        2 => (dom(), port()).prop_map(|(c, p)| Step::Unmask(c, p)),
        1 => dom().prop_map(Step::Reset),
        2 => (dom(), port(), any::<bool>()).prop_map(|(c, p, b)| Step::Pend(c, p, b)),
        1 => (dom(), vcpu(), any::<bool>()).prop_map(|(c, v, b)| Step::Select(c, v, b)),
        2 => (dom(), vcpu(), any::<bool>()).prop_map(|(c, v, b)| Step::Upcall(c, v, b)),
        2 => Just(Step::Restore),
    ];
    prop::collection::vec(step, 1..80)
}

/// One open port.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    kind: StatusKind,
    vcpu: VcpuId,
}

/// Three domains: their open ports, pending and masked bits, written as a maze of maps.
#[derive(Default)]
struct Model {
    open: BTreeMap<(DomId, Port), End>,
    pending: BTreeMap<(DomId, Port), bool>,
    masked: BTreeMap<(DomId, Port), bool>,
    selected: BTreeMap<(DomId, VcpuId), bool>,
    upcall: BTreeMap<(DomId, VcpuId), bool>,
}

type Answer = Result<Port, OpError>;

impl Model {
    fn lookup(caller: DomId, named: DomId) -> Result<DomId, OpError> {
        match named {
            DomId::SELF => Ok(caller),
            NOBODY => Err(OpError::NoDomain),
            dom => Ok(dom),
        }
    }

    fn free(&self, dom: DomId) -> Answer {
        let mut numbers = (1..=LIMIT).map(Port);
        numbers.find(|&port| !self.open.contains_key(&(dom, port))).ok_or(OpError::NoSpace)
    }

    fn add(&mut self, dom: DomId, port: Port, kind: StatusKind, vcpu: VcpuId) {
        self.open.insert((dom, port), End { kind, vcpu });
    }

    fn end(&self, dom: DomId, port: Port) -> Result<End, OpError> {
        let valid = if port.0 < 64 { OpError::WrongState } else { OpError::NoPort };
        self.open.get(&(dom, port)).copied().ok_or(valid)
    }

    fn raise(&mut self, dom: DomId, port: Port) {
        let fresh = self.pending.insert((dom, port), true) != Some(true);
        if fresh && !self.is_masked(dom, port) {
            self.announce(dom, port);
        }
    }

    fn is_masked(&self, dom: DomId, port: Port) -> bool {
        self.masked.get(&(dom, port)) == Some(&true)
    }

    fn is_pending(&self, dom: DomId, port: Port) -> bool {
        self.pending.get(&(dom, port)) == Some(&true)
    }

    fn announce(&mut self, dom: DomId, port: Port) {
        let vcpu = self.open[&(dom, port)].vcpu;
        if self.selected.insert((dom, vcpu), true) != Some(true) {
            self.upcall.insert((dom, vcpu), true);
        }
    }

    /// Whoever is pending and not masked is announced once more, to whoever was told before.
    fn restore(&mut self) {
        for ((dom, port), end) in self.open.clone() {
            if self.is_pending(dom, port) && !self.is_masked(dom, port) {
                self.selected.insert((dom, end.vcpu), true);
                self.upcall.insert((dom, end.vcpu), true);
            }
        }
    }

    fn close(&mut self, dom: DomId, port: Port) -> Answer {
        if let StatusKind::Interdomain { dom: far, port: far_port } = self.end(dom, port)?.kind
            && let Some(far) = self.open.get_mut(&(far, far_port))
        {
            far.kind = StatusKind::Unbound { dom };
        }
        self.open.remove(&(dom, port));
        self.pending.insert((dom, port), false);
        Ok(Port(0))
    }

    fn apply(&mut self, step: Step) -> Answer {
        match step {
            Step::Alloc(caller, dom, remote) => {
                let dom = Self::lookup(caller, dom)?;
                let port = self.free(dom)?;
                if caller != dom && caller != D0 {
                    return Err(OpError::NotPermitted);
                }
                let remote = if remote == DomId::SELF { caller } else { remote };
                self.add(dom, port, StatusKind::Unbound { dom: remote }, VcpuId(0));
                Ok(port)
            }
            Step::Bind(caller, remote, remote_port) => {
                let remote = Self::lookup(caller, remote)?;
                let port = self.free(caller)?;
                let far = self.end(remote, remote_port);
                let far = far.map_err(|e| if e == OpError::NoPort { e } else { OpError::NotAccepted })?;
                if far.kind != (StatusKind::Unbound { dom: caller }) {
                    return Err(OpError::NotAccepted);
                }
                let back = StatusKind::Interdomain { dom: caller, port };
                self.add(remote, remote_port, back, far.vcpu);
                let kind = StatusKind::Interdomain { dom: remote, port: remote_port };
                self.add(caller, port, kind, VcpuId(0));
                self.raise(caller, port);
                Ok(port)
            }
            Step::Ipi(caller, vcpu) => {
                vcpu_exists(vcpu)?;
                let port = self.free(caller)?;
                self.add(caller, port, StatusKind::Ipi, vcpu);
                Ok(port)
            }
            Step::Timer(caller, vcpu) => {
                vcpu_exists(vcpu)?;
                let timer = End { kind: StatusKind::Virq(Virq::TIMER), vcpu };
                if self.open.iter().any(|(&(dom, _), &end)| dom == caller && end == timer) {
                    return Err(OpError::VirqBound);
                }
                let port = self.free(caller)?;
                self.add(caller, port, timer.kind, vcpu);
                Ok(port)
            }
            Step::Close(caller, port) => self.close(caller, port),
            Step::Send(caller, port) => match self.end(caller, port)?.kind {
                StatusKind::Interdomain { dom, port } => {
                    self.raise(dom, port);
                    Ok(Port(0))
                }
                StatusKind::Ipi => {
                    self.raise(caller, port);
                    Ok(Port(0))
                }
                StatusKind::Unbound { .. } => Ok(Port(0)),
                _ => Err(OpError::WrongState),
            },
            Step::Move(caller, port, vcpu) => {
                vcpu_exists(vcpu)?;
                let end = self.end(caller, port)?;
                if matches!(end.kind, StatusKind::Ipi | StatusKind::Virq(_)) {
                    return Err(OpError::WrongState);
                }
                self.add(caller, port, end.kind, vcpu);
                Ok(Port(0))
            }
            Step::Mask(caller, port) => {
                self.masked.insert((caller, port), true);
                Ok(Port(0))
            }
            Step::Unmask(caller, port) => match self.end(caller, port) {
                Err(OpError::NoPort) => Err(OpError::NoPort),
                Err(_) => Ok(Port(0)),
                Ok(_) => {
                    let uncovered = self.masked.insert((caller, port), false) == Some(true);
                    if uncovered && self.is_pending(caller, port) {
                        self.announce(caller, port);
                    }
                    Ok(Port(0))
                }
            },
            Step::Pend(caller, port, on) => {
                self.pending.insert((caller, port), on);
                Ok(Port(0))
            }
            Step::Select(caller, vcpu, on) => {
                self.selected.insert((caller, vcpu), on);
                Ok(Port(0))
            }
            Step::Upcall(caller, vcpu, on) => {
                self.upcall.insert((caller, vcpu), on);
                Ok(Port(0))
            }
            Step::Restore => {
                self.restore();
                Ok(Port(0))
            }
            Step::Reset(caller) => {
                for port in (1..=LIMIT).map(Port) {
                    let _ = self.close(caller, port);
                }
                Ok(Port(0))
            }
        }
    }
}

fn vcpu_exists(vcpu: VcpuId) -> Result<(), OpError> {
    if vcpu.0 < 4 { Ok(()) } else { Err(OpError::NoVcpu) }
}

fn run(env: &mut TestEnv, step: Step) -> Answer {
    let done = |result: Result<(), OpError>| result.map(|()| Port(0));
    match step {
        Step::Alloc(caller, dom, remote) => env.engine.alloc_unbound(caller, dom, remote),
        Step::Bind(caller, remote, port) => env.engine.bind_interdomain(caller, remote, port),
        Step::Ipi(caller, vcpu) => env.engine.bind_ipi(caller, vcpu),
        Step::Timer(caller, vcpu) => env.engine.bind_virq(caller, Virq::TIMER, vcpu),
        Step::Close(caller, port) => done(env.engine.close(caller, port)),
        Step::Send(caller, port) => done(env.engine.send(caller, port)),
        Step::Move(caller, port, vcpu) => done(env.engine.bind_vcpu(caller, port, vcpu)),
        Step::Unmask(caller, port) => done(env.engine.unmask(caller, port)),
        Step::Mask(caller, port) => {
            env.set_mask(caller, port, true);
            Ok(Port(0))
        }
        Step::Pend(caller, port, on) => {
            env.set_pending(caller, port, on);
            Ok(Port(0))
        }
        Step::Select(caller, vcpu, on) => {
            env.set_selector(caller, vcpu.0, Port(0), on);
            Ok(Port(0))
        }
        Step::Upcall(caller, vcpu, on) => {
            env.set_upcall(caller, vcpu.0, on.into());
            Ok(Port(0))
        }
        Step::Restore => {
            env.restored();
            Ok(Port(0))
        }
        Step::Reset(caller) => {
            assert_eq!(env.engine.reset(caller, DomId::SELF), Ok(ResetOutcome::Done));
            Ok(Port(0))
        }
    }
}

fn compare(env: &TestEnv, model: &Model) {
    for (dom, port) in [D0, D1, D2].into_iter().flat_map(|dom| (0..12).map(move |p| (dom, Port(p)))) {
        let closed = PortStatus { kind: StatusKind::Closed, vcpu: VcpuId(0) };
        let expected = model.open.get(&(dom, port));
        let expected = expected.map_or(closed, |end| PortStatus { kind: end.kind, vcpu: end.vcpu });
        assert_eq!(env.status(dom, port), expected, "status of {dom}:{port}");
        let bits = (env.pending(dom, port), env.masked(dom, port));
        let flag = |map: &BTreeMap<_, _>| map.get(&(dom, port)).copied().unwrap_or(false);
        assert_eq!(bits, (flag(&model.pending), flag(&model.masked)), "bits of {dom}:{port}");
    }
    for (dom, vcpu) in [D0, D1, D2].into_iter().flat_map(|dom| (0..4).map(move |v| (dom, VcpuId(v)))) {
        let told = (env.selected(dom, vcpu.0, Port(0)), env.upcall(dom, vcpu.0));
        let flag = |map: &BTreeMap<_, _>| map.get(&(dom, vcpu)).copied().unwrap_or(false);
        assert_eq!(told, (flag(&model.selected), flag(&model.upcall)), "vCPU {vcpu} of {dom}");
    }
    env.engine.validate().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_engine_agrees_with_the_model(steps in steps()) {
        let config = DomainConfig { max_port: Some(LIMIT), ..DomainConfig::guest(4) };
        let mut env = TestEnv::with(Level::Current, config.clone());
        // All three with the same low limit, so that running full is common.
        for (id, privileged) in [(D0, true), (D2, false)] {
            let page = env.engine.destroy_domain(id).unwrap();
            let config = DomainConfig { privileged, ..config.clone() };
            env.engine.create_domain(id, config).unwrap();
            env.engine.set_shared_info(id, page).unwrap();
        }
        let mut model = Model::default();
        for step in steps {
            prop_assert_eq!(run(&mut env, step), model.apply(step), "{:?}", step);
            compare(&env, &model);
        }
    }
}
