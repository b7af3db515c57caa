// SPDX-License-Identifier: MIT OR Apache-2.0
//! Policies: each operation that a security module may refuse, at its place among the other checks.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex as StdMutex};
use std::thread;
use std::time::Duration;

use common::{D0, D1, D2, V0};
use evtchn_abi::{DomId, Errno, Pirq, Port, VcpuId};
use evtchn_engine::test_utils::page;
use evtchn_engine::{
    Consumer, Denied, DomainConfig, Engine, Hooks, OpError, Party, Policy, ResetOutcome, Upcall, XenPolicy,
};
use evtchn_sync::HeapPage;
use std::sync::Mutex;

/// What a policy was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create(DomId, DomId, DomId),
    Consumer(DomId, DomId, DomId),
    Bind(DomId, DomId),
    Send(DomId, DomId),
    Status(DomId, DomId),
    Reset(DomId, DomId),
    Pirq(DomId, Pirq),
}

/// Writes down what it is asked, and refuses everything with a number, if one is set.
#[derive(Default)]
struct Guard {
    number: AtomicU16,
    asked: Mutex<Vec<Asked>>,
}

impl Guard {
    fn say(&self, asked: Asked) -> Result<(), Denied> {
        self.asked.lock().unwrap().push(asked);
        match self.number.load(SeqCst) {
            0 => Ok(()),
            number => Err(Denied::with(Errno(number))),
        }
    }
}

impl Policy for Guard {
    fn create(&self, caller: &Party, dom: &Party, remote: DomId) -> Result<(), Denied> {
        self.say(Asked::Create(caller.id, dom.id, remote))
    }

    fn create_consumer(&self, caller: &Party, dom: &Party, remote: DomId) -> Result<(), Denied> {
        self.say(Asked::Consumer(caller.id, dom.id, remote))
    }

    fn bind(&self, caller: &Party, remote: &Party) -> Result<(), Denied> {
        self.say(Asked::Bind(caller.id, remote.id))
    }

    fn send(&self, sender: &Party, receiver: &Party) -> Result<(), Denied> {
        self.say(Asked::Send(sender.id, receiver.id))
    }

    fn status(&self, caller: &Party, dom: &Party) -> Result<(), Denied> {
        self.say(Asked::Status(caller.id, dom.id))
    }

    fn reset(&self, caller: &Party, dom: &Party) -> Result<(), Denied> {
        self.say(Asked::Reset(caller.id, dom.id))
    }

    fn bind_pirq(&self, caller: &Party, pirq: Pirq) -> Result<(), Denied> {
        self.say(Asked::Pirq(caller.id, pirq))
    }
}

impl Hooks for Guard {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn policy(&self) -> &dyn Policy {
        self
    }
}

struct Env {
    engine: Engine<Guard>,
    page: Arc<HeapPage>,
}

impl Env {
    fn new() -> Self {
        let engine = Engine::new(Guard::default());
        let config = DomainConfig { nr_pirqs: 8, ..DomainConfig::guest(2) };
        for (id, config) in [(D0, DomainConfig::dom0(2)), (D1, config), (D2, DomainConfig::guest(2))] {
            engine.create_domain(id, config).unwrap();
        }
        let page = page();
        engine.set_shared_info(D2, Some(page.clone())).unwrap();
        Self { engine, page }
    }

    fn refuse(&self, number: u16) {
        self.engine.hooks().number.store(number, SeqCst);
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.engine.hooks().asked.lock().unwrap())
    }

    /// A port of domain 1 and the one of domain 2 that it is connected to.
    fn pair(&self) -> (Port, Port) {
        let far = self.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
        let near = self.engine.bind_interdomain(D1, D2, far).unwrap();
        self.asked();
        (near, far)
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.engine.validate().unwrap();
        }
    }
}

fn consumer() -> Consumer {
    Consumer::new(1).unwrap()
}

#[test]
fn each_operation_asks_once_with_its_parties() {
    let env = Env::new();
    let engine = &env.engine;
    let port = engine.alloc_unbound(D0, D1, DomId::SELF).unwrap();
    assert_eq!(env.asked(), [Asked::Create(D0, D1, D0)]);
    let local = engine.bind_interdomain(D0, D1, port).unwrap();
    assert_eq!(env.asked(), [Asked::Bind(D0, D1)]);
    engine.send(D0, local).unwrap();
    engine.send(D1, port).unwrap();
    assert_eq!(env.asked(), [Asked::Send(D0, D1), Asked::Send(D1, D0)]);
    engine.status(D0, D1, port).unwrap();
    assert_eq!(env.asked(), [Asked::Status(D0, D1)]);
    engine.alloc_consumer(D0, D1, V0, D2, consumer()).unwrap();
    assert_eq!(env.asked(), [Asked::Consumer(D0, D1, D2)]);
    engine.bind_pirq(D1, Pirq(3), 0).unwrap();
    assert_eq!(env.asked(), [Asked::Pirq(D1, Pirq(3))]);
    assert_eq!(engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    assert_eq!(env.asked(), [Asked::Reset(D1, D1)]);
}

#[test]
fn what_concerns_nobody_else_is_not_asked() {
    let env = Env::new();
    let engine = &env.engine;
    let ipi = engine.bind_ipi(D1, V0).unwrap();
    let waiting = engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    env.asked();
    engine.send(D1, ipi).unwrap();
    engine.send(D1, waiting).unwrap();
    engine.unmask(D1, ipi).unwrap();
    engine.close(D1, ipi).unwrap();
    assert_eq!(env.asked(), []);
}

#[test]
fn a_policy_chooses_the_number_of_its_refusal() {
    let env = Env::new();
    let (near, far) = env.pair();
    let waiting = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    for (number, errno) in [(1, Errno::EPERM), (13, Errno::EACCES), (22, Errno::EINVAL)] {
        env.refuse(number);
        let engine = &env.engine;
        let refusals = [
            engine.alloc_unbound(D1, DomId::SELF, D2).map(drop),
            engine.alloc_consumer(D0, D1, V0, D2, consumer()).map(drop),
            engine.bind_interdomain(D1, D2, waiting).map(drop),
            engine.send(D1, near),
            engine.status(D2, DomId::SELF, far).map(drop),
            engine.reset(D1, DomId::SELF).map(drop),
            engine.bind_pirq(D1, Pirq(3), 0).map(drop),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err().errno(), errno);
        }
    }
}

#[test]
fn a_refusal_leaves_nothing_behind() {
    let env = Env::new();
    let (near, far) = env.pair();
    let waiting = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    env.page.clear();
    env.refuse(13);
    let engine = &env.engine;
    assert!(engine.alloc_unbound(D1, DomId::SELF, D2).is_err());
    assert!(engine.alloc_consumer(D0, D1, V0, D2, consumer()).is_err());
    assert!(engine.bind_interdomain(D1, D2, waiting).is_err());
    assert!(engine.bind_pirq(D1, Pirq(3), 0).is_err());
    assert!(engine.reset(D1, DomId::SELF).is_err());
    assert!(engine.send(D1, near).is_err());
    assert!(!common::bit(&env.page, 2048, far.0), "a refused send raises nothing");
    assert_eq!(engine.ports_in_use(D1), Ok((1, 0)));
    env.refuse(0);
    assert_eq!(engine.bind_interdomain(D1, D2, waiting), Ok(Port(near.0 + 1)));
    assert_eq!(engine.bind_pirq(D1, Pirq(3), 0), Ok(Port(near.0 + 2)));
    assert_eq!(engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done), "no reset was begun");
}

#[test]
fn other_errors_come_where_xen_has_them() {
    let env = Env::new();
    let (near, _) = env.pair();
    env.refuse(13);
    let engine = &env.engine;
    let denied = Err(OpError::Denied(Denied::with(Errno::EACCES)));
    assert_eq!(engine.status(D1, D2, Port(64)).map(drop), Err(OpError::NoPort), "before the policy");
    assert_eq!(engine.bind_interdomain(D1, D2, Port(9)).map(drop), Err(OpError::NotAccepted), "before");
    assert_eq!(engine.send(D1, Port(9)), Err(OpError::WrongState), "before");
    assert_eq!(engine.bind_pirq(D1, Pirq(8), 0).map(drop), Err(OpError::NoPirq), "before");
    assert_eq!(env.asked(), []);
    assert_eq!(engine.reset(D0, D2).map(drop), denied, "before it matters that it is not paused");
    assert_eq!(engine.reset_cont(D1, D1).map(drop), denied, "before the phase");
    env.refuse(0);
    engine.bind_pirq(D1, Pirq(1), 0).unwrap();
    while engine.alloc_unbound(D1, DomId::SELF, D2).is_ok() {}
    env.refuse(13);
    assert_eq!(engine.bind_pirq(D1, Pirq(1), 0).map(drop), denied, "before EEXIST");
    assert_eq!(engine.alloc_unbound(D0, D1, D2).map(drop), Err(OpError::NoSpace), "after ENOSPC");
    assert_eq!(engine.bind_interdomain(D1, D2, Port(9)).map(drop), Err(OpError::NoSpace), "after ENOSPC");
    engine.close(D1, near).unwrap();
}

#[test]
fn a_send_to_a_consumer_is_asked_too() {
    let env = Env::new();
    let port = env.engine.alloc_consumer(D0, D1, V0, D2, consumer()).unwrap();
    let far = env.engine.bind_interdomain(D2, D1, port).unwrap();
    env.asked();
    env.refuse(1);
    assert_eq!(env.engine.send(D2, far), Err(OpError::NotPermitted));
    assert_eq!(env.asked(), [Asked::Send(D2, D1)]);
    assert_eq!(env.engine.notify_consumer(D1, port), Ok(()), "the embedder's own signals are not");
    assert_eq!(env.asked(), []);
}

#[test]
fn a_hypercall_gets_the_policys_number() {
    let env = Env::new();
    let (near, _) = env.pair();
    env.refuse(13);
    let mut argument = near.0.to_le_bytes();
    let outcome = env.engine.event_channel_op(D1, evtchn_abi::Op::SEND.0, 0, &mut argument[..]);
    assert_eq!(outcome, evtchn_engine::Outcome::Done(-13));
}

/// What Xen's own rules say of a caller and the domain that it names: create, consumer, status, reset.
fn verdicts(caller: &Party, dom: &Party) -> [bool; 4] {
    [
        XenPolicy.create(caller, dom, DomId(999)).is_ok(),
        XenPolicy.create_consumer(caller, dom, DomId(999)).is_ok(),
        XenPolicy.status(caller, dom).is_ok(),
        XenPolicy.reset(caller, dom).is_ok(),
    ]
}

/// The parties that an engine tells a policy of.
struct Parties(Mutex<Vec<Party>>);

impl Hooks for Parties {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn policy(&self) -> &dyn Policy {
        self
    }
}

impl Policy for Parties {
    fn status(&self, caller: &Party, _: &Party) -> Result<(), Denied> {
        self.0.lock().unwrap().push(*caller);
        Ok(())
    }
}

#[test]
fn xens_rule_is_oneself_ones_target_or_control() {
    let engine = Engine::new(Parties(Mutex::default()));
    let device_model = DomainConfig { target: Some(D1), ..DomainConfig::guest(1) };
    let hardware = DomainConfig { hardware: true, ..DomainConfig::guest(1) };
    let configs = [DomainConfig::dom0(1), DomainConfig::guest(1), device_model, hardware];
    for (id, config) in (0..).map(DomId).zip(configs) {
        engine.create_domain(id, config).unwrap();
        engine.status(id, DomId::SELF, Port(0)).unwrap();
    }
    let parties = engine.hooks().0.lock().unwrap().clone();
    let [control, guest, model, hardware] = &parties[..] else { panic!("four domains") };
    assert!(control.privileged && control.hardware && hardware.hardware && !hardware.privileged);
    assert_eq!((guest.target, model.target), (None, Some(D1)));
    for other in &parties {
        assert_eq!(verdicts(control, other), [true; 4]);
        assert_eq!(verdicts(guest, other), [other.id == D1; 4]);
        assert_eq!(verdicts(model, other), [other.id == D1 || other.id == D2; 4]);
        assert_eq!(verdicts(hardware, other), [other.id == DomId(3); 4], "hardware is not control");
        assert!(XenPolicy.bind(guest, other).is_ok() && XenPolicy.send(guest, other).is_ok());
    }
    assert!(XenPolicy.bind_pirq(guest, Pirq(0)).is_ok());
}

#[test]
fn no_refusal_is_a_success() {
    assert_eq!(Denied::with(Errno(0)), Denied::default());
    assert_eq!(OpError::from(Denied::with(Errno::EPERM)), OpError::NotPermitted);
}

/// Answers a question about a status when another thread says so, which it must do in time.
struct Slow {
    asked: Sender<()>,
    answer: StdMutex<Receiver<()>>,
}

impl Policy for Slow {
    fn status(&self, _: &Party, _: &Party) -> Result<(), Denied> {
        self.asked.send(()).unwrap();
        let answer = self.answer.lock().unwrap().recv_timeout(Duration::from_secs(10));
        answer.map_err(|_| Denied::with(Errno::EDEADLK))
    }
}

impl Hooks for Slow {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn policy(&self) -> &dyn Policy {
        self
    }
}

#[test]
fn who_may_not_look_takes_no_lock() {
    let ((asked, question), (reply, answer)) = (channel(), channel());
    let engine = Engine::new(Slow { asked, answer: StdMutex::new(answer) });
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    engine.create_domain(D2, DomainConfig::guest(1)).unwrap();
    thread::scope(|scope| {
        let looker = scope.spawn(|| engine.status(D2, D1, Port(1)));
        question.recv().unwrap();
        engine.bind_ipi(D1, V0).unwrap(); // though somebody is being asked whether he may look
        reply.send(()).unwrap();
        assert!(looker.join().unwrap().is_ok());
    });
}
