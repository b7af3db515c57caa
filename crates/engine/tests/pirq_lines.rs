// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical interrupts with a small model of level-triggered lines behind them.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{D1, D2, NOBODY, V0, bit, set_bit};
use evtchn_abi::{DomId, Hypercall, Pirq, Port, VcpuId};
use evtchn_engine::test_utils::page;
use evtchn_engine::{
    DomainConfig, DomainKind, Engine, Hooks, OpError, Outcome, PirqRefused, PirqStatus, Upcall,
};
use evtchn_sync::HeapPage;

/// What a line knows of itself.
#[derive(Debug, Default)]
struct Line {
    /// Devices that assert it now.
    asserters: u32,
    /// Who is connected, and agrees to share.
    users: BTreeMap<DomId, bool>,
    /// Raised, and not acknowledged yet: it is not raised again before that.
    in_service: bool,
    vcpu: VcpuId,
    eois: u32,
}

/// The machine's interrupt controller: a PIRQ is a line of the same number, wherever it is bound.
#[derive(Debug, Default)]
struct Board(Mutex<BTreeMap<Pirq, Line>>);

impl Hooks for Board {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pirq_bind(&self, domain: DomId, pirq: Pirq, share: bool) -> Result<(), PirqRefused> {
        let mut lines = self.0.lock().unwrap();
        let users = &mut lines.entry(pirq).or_default().users;
        let all_share = share && users.values().all(|&shares| shares);
        if !users.is_empty() && !all_share {
            return Err(PirqRefused::InUse);
        }
        users.insert(domain, share);
        Ok(())
    }

    fn pirq_unbind(&self, domain: DomId, pirq: Pirq) {
        let mut lines = self.0.lock().unwrap();
        let line = lines.entry(pirq).or_default();
        line.users.remove(&domain);
        line.in_service = false;
    }

    fn pirq_moved(&self, _: DomId, pirq: Pirq, vcpu: VcpuId) {
        self.0.lock().unwrap().entry(pirq).or_default().vcpu = vcpu;
    }

    fn pirq_eoi(&self, _: DomId, pirq: Pirq) -> bool {
        let mut lines = self.0.lock().unwrap();
        let line = lines.entry(pirq).or_default();
        line.eois += 1;
        line.in_service = line.asserters > 0;
        line.in_service
    }

    fn pirq_status(&self, _: DomId, pirq: Pirq) -> PirqStatus {
        let lines = self.0.lock().unwrap();
        let shared = lines.get(&pirq).is_some_and(|line| line.users.len() > 1);
        PirqStatus { shared, ..PirqStatus::default() }
    }
}

const LINE: Pirq = Pirq(9);

struct Env {
    engine: Engine<Board>,
    page: Arc<HeapPage>,
}

impl Env {
    fn new() -> Self {
        Self::of(DomainKind::Pv)
    }

    fn of(kind: DomainKind) -> Self {
        let engine = Engine::new(Board::default());
        let own = page();
        for (id, page) in [(D1, own.clone()), (D2, page())] {
            let config = DomainConfig { nr_pirqs: 16, kind, ..DomainConfig::guest(4) };
            engine.create_domain(id, config).unwrap();
            engine.set_shared_info(id, Some(page)).unwrap();
        }
        Self { engine, page: own }
    }

    fn bind(&self) -> Port {
        self.engine.bind_pirq(D1, LINE, 0).unwrap()
    }

    /// A device asserts the line; on its edge it is raised, unless it is in service.
    fn assert(&self) {
        let raise = {
            let mut lines = self.engine.hooks().0.lock().unwrap();
            let line = lines.entry(LINE).or_default();
            line.asserters += 1;
            !std::mem::replace(&mut line.in_service, true)
        };
        if raise {
            self.engine.raise_pirq(D1, LINE).unwrap();
        }
    }

    fn deassert(&self) {
        self.engine.hooks().0.lock().unwrap().get_mut(&LINE).unwrap().asserters -= 1;
    }

    /// The guest takes the event off the port; whether there was one.
    fn take(&self, port: Port) -> bool {
        let was = bit(&self.page, 2048, port.0);
        if was {
            set_bit(&self.page, 2048, port.0, false);
        }
        was
    }

    fn eoi(&self) {
        self.engine.pirq_eoi(D1, LINE).unwrap();
    }

    fn line<T>(&self, of: impl FnOnce(&Line) -> T) -> T {
        of(&self.engine.hooks().0.lock().unwrap()[&LINE])
    }
}

#[test]
fn a_line_that_is_still_asserted_is_raised_again_at_the_eoi() {
    let env = Env::new();
    let port = env.bind();
    env.assert();
    assert!(env.take(port));
    env.eoi();
    assert!(env.take(port), "nobody has cleared the cause");
    env.deassert();
    env.eoi();
    assert!(!env.take(port));
}

#[test]
fn of_two_devices_on_one_line_none_is_forgotten() {
    let env = Env::new();
    let port = env.bind();
    env.assert();
    env.assert();
    assert!(env.take(port));
    env.deassert(); // the guest has served one of them
    env.eoi();
    assert!(env.take(port));
    env.deassert();
    env.eoi();
    assert!(!env.take(port));
    env.assert();
    assert!(env.take(port), "and the next edge is heard");
}

#[test]
fn an_eoi_unmasks_for_those_who_have_asked_for_it() {
    let env = Env::new();
    let port = env.bind();
    set_bit(&env.page, 2560, port.0, true);
    assert_eq!(env.engine.pirq_is_masked(D1, LINE), Ok(true));
    env.eoi();
    assert_eq!(env.engine.pirq_is_masked(D1, LINE), Ok(true));
    env.engine.set_auto_unmask(D1, true).unwrap();
    env.eoi();
    assert_eq!(env.engine.pirq_is_masked(D1, LINE), Ok(false));
    env.engine.set_auto_unmask(D1, false).unwrap();
    set_bit(&env.page, 2560, port.0, true);
    env.eoi();
    assert_eq!(env.engine.pirq_is_masked(D1, LINE), Ok(true));
    assert_eq!(env.engine.set_auto_unmask(NOBODY, true), Err(OpError::NoDomain));
}

#[test]
fn an_unbound_pirq_counts_as_masked_and_its_eoi_does_no_harm() {
    let env = Env::new();
    assert_eq!(env.engine.pirq_is_masked(D1, LINE), Ok(true));
    env.assert();
    env.engine.set_auto_unmask(D1, true).unwrap();
    env.eoi();
    assert_eq!(env.line(|line| line.eois), 1, "the line is told");
    let port = env.bind();
    assert!(!env.take(port), "what came before the binding was dropped");
    env.eoi();
    assert!(env.take(port), "a driver's first EOI brings it back");
}

#[test]
fn numbers_beyond_the_domains_are_einval() {
    let env = Env::new();
    for pirq in [16, 17, u32::MAX] {
        assert_eq!(env.engine.pirq_eoi(D1, Pirq(pirq)), Err(OpError::NoPirq));
        assert_eq!(env.engine.pirq_status(D1, Pirq(pirq)), Err(OpError::NoPirq));
    }
    assert_eq!(env.engine.pirq_eoi(NOBODY, LINE), Err(OpError::NoDomain));
    assert_eq!(env.engine.pirq_is_masked(NOBODY, LINE), Err(OpError::NoDomain));
}

#[test]
fn a_line_is_shared_by_those_who_all_agree() {
    let env = Env::new();
    assert!(env.engine.bind_pirq(D1, LINE, 1).is_ok() && env.engine.bind_pirq(D2, LINE, 1).is_ok());
    let shared = PirqStatus { needs_eoi: true, shared: true };
    assert_eq!(
        (env.engine.pirq_status(D1, LINE), env.engine.pirq_status(D2, LINE)),
        (Ok(shared), Ok(shared))
    );
    env.engine.close(D2, Port(1)).unwrap();
    assert_eq!(env.engine.pirq_status(D1, LINE), Ok(PirqStatus::default()));
    assert_eq!(env.engine.bind_pirq(D2, LINE, 0), Err(OpError::IrqInUse));
    env.engine.close(D1, Port(1)).unwrap();
    assert!(env.engine.bind_pirq(D2, LINE, 0).is_ok(), "the line is released by a close");
}

#[test]
fn the_line_follows_its_ports_vcpu() {
    let env = Env::new();
    let port = env.bind();
    for vcpu in [2, 1] {
        env.engine.bind_vcpu(D1, port, VcpuId(vcpu)).unwrap();
        assert_eq!(env.line(|line| line.vcpu), VcpuId(vcpu));
    }
}

#[test]
fn three_lines_of_one_vcpu_are_independent() {
    let env = Env::new();
    let ports = [1, 2, 3].map(|pirq| env.engine.bind_pirq(D1, Pirq(pirq), 0).unwrap());
    env.engine.close(D1, ports[1]).unwrap();
    let raised = [1, 2, 3].map(|pirq| env.engine.raise_pirq(D1, Pirq(pirq)).unwrap());
    assert_eq!(raised, [true, false, true]);
    assert!(env.take(ports[0]) && !env.take(ports[1]) && env.take(ports[2]));
}

#[test]
fn an_hvm_guests_lines_work_alike() {
    let env = Env::of(DomainKind::Hvm);
    let port = env.bind();
    env.assert();
    assert!(env.take(port));
    env.eoi();
    assert!(env.take(port));
    env.engine.close(D1, port).unwrap();
    assert_eq!(env.engine.raise_pirq(D1, LINE), Ok(false), "an emulated line may be raised at any time");
    env.eoi();
}

const fn command(number: u64) -> [u64; 5] {
    [number, 0, 0, 0, 0]
}

#[test]
fn the_hypercalls_do_the_same() {
    let env = Env::new();
    let port = env.bind();
    env.assert();
    assert!(env.take(port));
    let mut memory = LINE.0.to_le_bytes();
    let call = |args, memory: &mut [u8]| env.engine.hypercall(D1, V0, Hypercall::PHYSDEV_OP.0, args, memory);
    assert_eq!(call(command(12), &mut memory), Outcome::Done(0));
    assert!(env.take(port));
    let mut query = [9, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(call(command(5), &mut query), Outcome::Done(0));
    assert_eq!(query, [9, 0, 0, 0, 1, 0, 0, 0]);
    env.engine.hooks().0.lock().unwrap().get_mut(&LINE).unwrap().users.insert(D2, true);
    assert_eq!(call(command(5), &mut query), Outcome::Done(0));
    assert_eq!(query[4..], [3, 0, 0, 0]);
    let mut beyond = [16, 0, 0, 0, 7, 7, 7, 7];
    assert_eq!(call(command(5), &mut beyond), Outcome::Done(-22));
    assert_eq!(beyond[4..], [7; 4], "untouched on an error");
    assert_eq!(call(command(12), &mut beyond), Outcome::Done(-22));
    assert_eq!(call(command(12), &mut []), Outcome::Done(-14));
    assert_eq!(call(command(5), &mut memory), Outcome::Done(-14), "half an argument");
    for other in [13, 14, 17, 28, 99] {
        assert_eq!(call(command(other), &mut memory), Outcome::NotMine);
    }
    assert_eq!(env.engine.physdev_op(NOBODY, 12, 0, &mut memory[..]), Outcome::Done(-3));
}

#[test]
fn no_cause_is_lost_between_a_device_and_its_handler() {
    const CAUSES: u32 = 20_000;
    let env = Env::new();
    let port = env.bind();
    let (made, served) = (AtomicU32::new(0), AtomicU32::new(0));
    let quiet = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CAUSES {
                made.fetch_add(1, SeqCst);
                env.assert();
            }
            quiet.store(true, SeqCst);
        });
        // The guest serves at most one cause for each event, as the worst of drivers does.
        while served.load(SeqCst) != CAUSES {
            if !env.take(port) {
                std::hint::spin_loop();
                continue;
            }
            if served.load(SeqCst) < made.load(SeqCst) && env.line(|line| line.asserters) > 0 {
                env.deassert();
                served.fetch_add(1, SeqCst);
            }
            env.eoi();
        }
    });
    assert!(quiet.load(SeqCst) && env.line(|line| line.asserters) == 0);
    env.engine.validate().unwrap();
}

#[test]
fn an_eoi_that_races_a_close_raises_no_other_port() {
    let env = Env::new();
    env.assert();
    let stop = AtomicBool::new(false);
    let mut stray = BTreeSet::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                env.eoi();
            }
        });
        for _ in 0..5_000 {
            let port = env.bind();
            env.engine.close(D1, port).unwrap();
            let next = env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
            if bit(&env.page, 2048, next.0) {
                stray.insert(next);
            }
            env.engine.close(D1, next).unwrap();
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(stray, BTreeSet::new());
    env.engine.validate().unwrap();
}
