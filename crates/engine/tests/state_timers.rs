// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and restoring timers. Time is what the test says.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use common::full::{MS, V2, assert_wrong, full, moved};
use common::state::{Machine, configs};
use common::{D1, V0};
use evtchn_abi::{DomId, Port, VcpuId, Virq};
use evtchn_engine::state::{DomainError, TimersState};
use evtchn_engine::test_utils::{Call, page};
use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
use evtchn_sync::HeapPage;

fn deadlines(machine: &Machine) -> Vec<(DomId, VcpuId, Option<u64>)> {
    let calls = machine.calls().into_iter();
    calls
        .filter_map(|call| match call {
            Call::Deadline(id, vcpu, deadline) => Some((id, vcpu, deadline)),
            _ => None,
        })
        .collect()
}

#[test]
fn deadlines_are_asked_for_again_and_come_at_their_time() {
    let machine = full();
    let timer = machine.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    let new = moved(&machine);
    assert_eq!(deadlines(&new), [(D1, V0, Some(5_000)), (D1, V2, Some(MS))]);
    assert_eq!(new.engine.deadline(D1, V0), Ok(Some(5_000)));
    assert_eq!(new.engine.deadline_passed(D1, V0, 4_999), Ok(false));
    assert!(!common::bit(new.page(D1), 2048, timer.0));
    assert_eq!(new.engine.deadline_passed(D1, V0, 5_000), Ok(true));
    assert!(common::bit(new.page(D1), 2048, timer.0));
    assert_eq!(new.engine.deadline(D1, V0), Ok(None));
}

#[test]
fn a_periodic_timer_goes_on_without_drift() {
    let machine = Machine::new(&configs());
    let engine = &machine.engine;
    engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    assert_eq!(engine.deadline_passed(D1, V0, 10 * MS), Ok(true));
    assert_eq!(engine.deadline_passed(D1, V0, 23 * MS), Ok(true));
    let new = moved(&machine);
    assert_eq!(deadlines(&new), [(D1, V0, Some(30 * MS))], "not 33");
    assert_eq!(new.engine.deadline_passed(D1, V0, 30 * MS), Ok(true));
    assert_eq!(deadlines(&new), [(D1, V0, Some(40 * MS))]);
}

#[test]
fn a_stopped_periodic_timer_remembers_when_it_came_last() {
    let machine = Machine::new(&configs());
    machine.engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    machine.engine.deadline_passed(D1, V0, 10 * MS).unwrap();
    machine.engine.set_periodic_timer(D1, V0, None).unwrap();
    let new = moved(&machine);
    assert_eq!(deadlines(&new), [], "nothing is wanted");
    new.engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    assert_eq!(new.engine.deadline(D1, V0), Ok(Some(20 * MS)));
}

#[test]
fn wrong_periods_are_refused() {
    for period in [0, MS - 1, (u64::MAX >> 2) + 1, u64::MAX] {
        assert_wrong(D1, |state| state.vcpus[2].timers.period = Some(period), DomainError::Timer(2));
    }
    let mut state = full().engine.save_domain(D1).unwrap();
    state.vcpus[2].timers = TimersState { singleshot: Some(u64::MAX), period: Some(MS), last_tick: u64::MAX };
    let new = Machine::empty(4);
    new.engine.restore_domain(&state, None).unwrap();
    assert_eq!(new.engine.deadline_passed(D1, V2, u64::MAX), Ok(true));
}

#[test]
fn a_timer_that_comes_while_the_domain_is_saved_is_in_the_state_or_has_raised_its_event() {
    for fifo in [false, true] {
        for round in 0..200 {
            let mut machine = Machine::new(&configs());
            if fifo {
                machine.init_control(D1, 0);
                // Every other time the event can only be kept, and so only be in the state.
                if round % 2 == 0 {
                    machine.expand_array(D1);
                }
            }
            let timer = machine.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
            machine.engine.set_singleshot_timer(D1, V0, Some(500)).unwrap();
            let go = AtomicBool::new(false);
            let (state, new) = thread::scope(|scope| {
                let passing = scope.spawn(|| {
                    while !go.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    machine.engine.deadline_passed(D1, V0, 500)
                });
                go.store(true, SeqCst);
                (0..round % 20).for_each(|_| std::hint::spin_loop());
                let state = machine.engine.save_domain(D1).unwrap();
                let new = Machine { guests: machine.guests.clone(), ..Machine::empty(3) };
                new.copy_memory(&machine);
                assert_eq!(passing.join().unwrap(), Ok(true));
                (state, new)
            });
            new.engine.restore_domain(&state, Some(new.page(D1).clone())).unwrap();
            let mut new = new;
            let comes = new.engine.deadline_passed(D1, V0, 500).unwrap();
            if fifo {
                if round % 2 == 1 {
                    new.expand_array(D1);
                }
                assert_eq!(new.take_fifo(D1, 0), Some((timer, true)), "round {round}, {comes}");
            } else {
                assert_eq!(new.take_bits(D1, 0), [timer], "round {round}, {comes}");
            }
        }
    }
}

/// Hooks that look at the guest's page while a vCPU's timers are locked.
struct Looker {
    page: Arc<HeapPage>,
    seen: AtomicBool,
}

impl Hooks for Looker {
    type Page = Arc<HeapPage>;
    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
    fn wake_poller(&self, _: DomId, _: VcpuId) {}
    fn set_deadline(&self, _: DomId, _: VcpuId, deadline: Option<u64>) {
        if deadline.is_none() {
            self.seen.store(common::bit(&self.page, 2048, 1), SeqCst);
        }
    }
}

/// So whoever saves the domain, and needs that lock, finds the timer, or its event is in the memory already.
#[test]
fn the_event_of_a_timer_is_raised_before_its_timers_are_unlocked() {
    let engine = Engine::new(Looker { page: page(), seen: false.into() });
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    engine.set_shared_info(D1, Some(engine.hooks().page.clone())).unwrap();
    assert_eq!(engine.bind_virq(D1, Virq::TIMER, V0), Ok(Port(1)));
    engine.set_singleshot_timer(D1, V0, Some(500)).unwrap();
    assert_eq!(engine.deadline_passed(D1, V0, 500), Ok(true));
    assert!(engine.hooks().seen.load(SeqCst));
}
