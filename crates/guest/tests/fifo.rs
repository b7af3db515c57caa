// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with the FIFO ABI against the engine, and against memory that no Xen would leave.
#![allow(missing_docs)]

mod common;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{ARRAY, CONTROL, Env, Pages, V0, V1, seen};
use evtchn_abi::fifo::{BUSY, ControlBlock, LINKED, MASKED, PENDING};
use evtchn_abi::{DomId, Errno, EventWord, Gfn, Layout, Op, Port, Priority, VcpuId};
use evtchn_guest::{Abi, Fifo, FifoVcpu, Frame, Hypercall, Memory, Place};
use evtchn_sync::{HeapPage, PAGE_SIZE, Page};

/// Writes a port's event word, as only a defect would.
fn damage(env: &Env, port: Port, word: u32) {
    let page = env.page(ARRAY);
    page.u32(port.0 as usize * 4).unwrap().store(word, SeqCst);
}

/// Writes a queue's head and announces it, as only a defect would.
fn damage_head(env: &Env, queue: Priority, head: u32) {
    let block = env.page(CONTROL);
    block.u32(ControlBlock::head(queue).unwrap()).unwrap().store(head, SeqCst);
    block.u32(ControlBlock::READY).unwrap().fetch_or(queue.ready_bit(), SeqCst);
    env.shared.u8(0).unwrap().store(1, SeqCst);
}

#[test]
fn events_of_one_priority_come_in_the_order_of_sending() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let (near, far) = env.open::<4>(&guest);
    for at in [2, 0, 3, 0, 1] {
        env.send(near[at]);
    }
    assert_eq!(seen(&guest, V0), [far[2], far[0], far[3], far[1]], "merged where it was");
    assert_eq!(seen(&guest, V0), []);
    assert!(far.iter().all(|port| guest.event_word(*port) == Some(EventWord(0))));
}

#[test]
fn a_higher_priority_goes_first_even_if_it_comes_during_a_handler() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let (near, far) = env.open::<3>(&guest);
    env.set_priority(far[2], Priority::HIGHEST).unwrap();
    env.send(near[0]);
    env.send(near[1]);
    let mut order = Vec::new();
    guest.upcall(V0, |port| {
        order.push(port);
        if port == far[0] {
            env.send(near[2]);
        }
    });
    assert_eq!(order, [far[0], far[2], far[1]]);
}

#[test]
fn a_port_that_is_masked_in_its_queue_keeps_its_event() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let (near, far) = env.open::<2>(&guest);
    near.iter().for_each(|port| env.send(*port));
    guest.mask(far[0]);
    assert_eq!(seen(&guest, V0), [far[1]]);
    assert_eq!(guest.event_word(far[0]), Some(EventWord(PENDING | MASKED)));
    guest.unmask(far[0], &env).unwrap();
    assert_eq!(seen(&guest, V0), [far[0]]);
}

#[test]
fn an_unmask_that_finds_the_word_busy_for_ever_leaves_it_to_xen() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let (_, far) = env.connect();
    damage(&env, far, MASKED | BUSY);
    env.take_calls();
    guest.unmask(far, &env).unwrap();
    assert_eq!((guest.is_masked(far), env.take_calls()), (false, 1));
}

#[test]
fn a_closed_port_in_a_queue_is_passed_over() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let (near, far) = env.open::<2>(&guest);
    near.iter().for_each(|port| env.send(*port));
    Hypercall::close(&env, far[0]).unwrap();
    assert_eq!(seen(&guest, V0), [far[1]]);
}

#[test]
fn links_in_a_circle_end() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    damage(&env, Port(5), PENDING | LINKED | 6);
    damage(&env, Port(6), PENDING | LINKED | 5);
    damage(&env, Port(7), PENDING | LINKED | 7);
    damage_head(&env, Priority::DEFAULT, 5);
    damage_head(&env, Priority::LOWEST, 7);
    assert_eq!(seen(&guest, V0), [5, 6, 7].map(Port));
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn links_to_nowhere_end_the_queue_and_no_more() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let ([near], [far]) = env.open(&guest);
    env.set_priority(far, Priority::LOWEST).unwrap();
    for beyond in [1024, 0x1_ffff] {
        damage(&env, Port(5), PENDING | LINKED | beyond);
        damage_head(&env, Priority::HIGHEST, 5);
        damage_head(&env, Priority::DEFAULT, beyond);
        env.send(near);
        assert_eq!(seen(&guest, V0), [Port(5), far], "link {beyond}");
    }
    damage(&env, Port(9), PENDING);
    damage_head(&env, Priority::DEFAULT, 9);
    // On no queue, but pending, and Xen points at it: handled, as an event that is passed over is lost.
    assert_eq!(seen(&guest, V0), [Port(9)]);
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn queues_beyond_the_sixteenth_are_not_looked_at() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    env.page(CONTROL).u32(ControlBlock::READY).unwrap().store(u32::MAX << 16, SeqCst);
    env.shared.u8(0).unwrap().store(1, SeqCst);
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn a_stopped_upcall_goes_on_with_the_highest_priority() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let (near, far) = env.open::<4>(&guest);
    env.set_priority(far[0], Priority::LOWEST).unwrap();
    env.send_all(&near[..3]);
    env.set_priority(far[3], Priority::HIGHEST).unwrap();
    let mut one = [Port(0)];
    assert_eq!((guest.take_pending(V0, &mut one), one), (1, [far[1]]));
    env.send(near[3]);
    assert_eq!(seen(&guest, V0), [far[3], far[2], far[0]]);
}

#[test]
fn an_event_that_is_queued_when_its_port_moves_is_handled_where_it_is() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(1);
    let ([near], [far]) = env.open(&guest);
    env.send(near);
    guest.move_to_vcpu(far, V1, &env).unwrap();
    assert_eq!((seen(&guest, V1), seen(&guest, V0)), (vec![], vec![far]));
}

#[test]
fn an_offline_vcpu_leaves_no_port_in_its_queues() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(1);
    let (near, far) = env.open::<3>(&guest);
    env.send_all(&near);
    guest.mask(far[1]);
    guest.clear_pending(far[2]);
    far.iter().for_each(|&port| guest.move_to_vcpu(port, V1, &env).unwrap());
    let mut left = Vec::new();
    guest.offline(V0, |port| left.push(port));
    assert_eq!(left, [far[0]]);
    let words = far.map(|port| guest.event_word(port).unwrap());
    assert_eq!(words, [EventWord(0), EventWord(PENDING | MASKED), EventWord(0)]);
}

#[test]
fn a_port_that_an_offline_vcpu_has_let_go_can_be_closed_and_given_out_again() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let ([near], [far]) = env.open(&guest);
    env.send(near);
    Hypercall::close(&env, far).unwrap();
    let next = env.alloc_unbound(DomId::SELF, DomId::SELF).unwrap();
    assert_ne!(next, far, "still in its queue");
    guest.offline(V0, |port| panic!("port {port} has no event any more"));
    assert_eq!(env.alloc_unbound(DomId::SELF, DomId::SELF), Ok(far));
}

/// Ports that are sent to all the time, and have not been moved away.
#[test]
fn an_offline_that_finds_new_events_all_the_time_ends() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let ([near], [far]) = env.open(&guest);
    env.send(near);
    let mut count = 0;
    guest.offline(V0, |port| {
        assert_eq!(port, far);
        count += 1;
        env.send(near);
    });
    assert_eq!(count, 1024);
    assert_eq!(seen(&guest, V0), [far], "the rest is kept");
}

#[test]
fn a_vcpu_without_a_place_for_its_block_cannot_come_online() {
    let env = Env::new(2, 1023);
    let memory = Pages { control_blocks: vec![], ..env.memory(1) };
    assert_eq!(Fifo::new(memory, env.states::<FifoVcpu>()).online(V0, &env), Err(Errno::EINVAL));
    let one = Fifo::new(env.memory(1), [FifoVcpu::new()]);
    assert_eq!(one.online(V1, &env), Err(Errno::EINVAL), "the guest keeps no such vCPU");
    assert_eq!(env.take_calls(), 0);
}

#[test]
fn a_control_block_is_given_once_and_not_touched_again() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1);
    let ([near], [far]) = env.open(&guest);
    env.send(near);
    assert_eq!((guest.online(V0, &env), env.take_calls()), (Ok(()), 0));
    assert_eq!(seen(&guest, V0), [far]);
}

#[test]
fn a_control_block_that_xen_refuses_can_be_given_again() {
    let env = Env::new(1, 1023);
    let guest = env.fresh_fifo(1);
    let refusing = Refusing { env: &env, answer: Cell::new(Some(Errno::ENOMEM)) };
    assert_eq!(guest.online(V0, &refusing), Err(Errno::ENOMEM));
    refusing.answer.set(None);
    assert_eq!(guest.online(V0, &refusing), Ok(()));
}

/// A Xen that has no memory for pages, or what it says.
struct Refusing<'a> {
    env: &'a Env,
    answer: Cell<Option<Errno>>,
}

impl Hypercall for Refusing<'_> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        match self.answer.get() {
            Some(errno) => Err(errno),
            None => self.env.event_channel_op(op, arg),
        }
    }
}

#[test]
fn the_array_grows_to_what_is_asked_and_no_further() {
    let env = Env::new(1, 6000);
    let guest = env.booted(env.fresh_fifo(3));
    assert_eq!(guest.nr_channels(), 0);
    assert!(guest.is_masked(Port(5)) && guest.mask(Port(5)) && guest.event_word(Port(5)).is_none());
    env.take_calls();
    guest.cover(Port(1024), &env).unwrap();
    assert_eq!((guest.nr_channels(), env.take_calls()), (2048, 2));
    guest.cover(Port(2047), &env).unwrap();
    assert_eq!((guest.nr_channels(), env.take_calls()), (2048, 0));
    assert_eq!(guest.cover(Port(3072), &env), Err(Errno::ENOSPC), "there are three pages");
    assert_eq!(guest.nr_channels(), 3072);
    assert_eq!(guest.cover(Port(131_072), &env), Err(Errno::ENOSPC));
    assert_eq!(guest.cover(Port(u32::MAX), &env), Err(Errno::ENOSPC));
    assert!((0..3072).map(Port).all(|port| guest.event_word(port) == Some(EventWord(MASKED))));
}

#[test]
fn a_page_that_xen_refuses_is_not_used_and_can_be_given_again() {
    let env = Env::new(1, 6000);
    let guest = env.booted(env.fresh_fifo(2));
    let refusing = Refusing { env: &env, answer: Cell::new(Some(Errno::ENOMEM)) };
    assert_eq!(guest.cover(Port(5), &refusing), Err(Errno::ENOMEM));
    assert_eq!(guest.nr_channels(), 0);
    refusing.answer.set(None);
    assert_eq!(guest.cover(Port(5), &refusing), Ok(()));
    assert_eq!(guest.nr_channels(), 1024);
}

/// A page that is gone.
struct NoPage;

impl Page for NoPage {
    fn u8(&self, _: usize) -> Option<&evtchn_sync::atomic::AtomicU8> {
        None
    }

    fn u32(&self, _: usize) -> Option<&evtchn_sync::atomic::AtomicU32> {
        None
    }

    fn u64(&self, _: usize) -> Option<&evtchn_sync::atomic::AtomicU64> {
        None
    }
}

#[test]
fn a_page_that_has_no_memory_is_not_shown_to_xen() {
    let env = Env::new(1, 6000);
    let frame = |page: Arc<dyn Page>, gfn| Frame { page, gfn };
    let memory = evtchn_guest::Frames {
        layout: &Layout::X86_64,
        shared_info: env.shared.clone() as Arc<dyn Page>,
        vcpu_infos: vec![],
        control_blocks: vec![frame(env.page(CONTROL), CONTROL)],
        event_array: vec![frame(env.page(ARRAY), ARRAY), frame(Arc::new(NoPage), Gfn(ARRAY.0 + 1))],
    };
    let guest = env.booted(Fifo::new(memory, [FifoVcpu::new()]));
    env.take_calls();
    assert_eq!(guest.cover(Port(1500), &env), Err(Errno::ENOMEM));
    assert_eq!((guest.nr_channels(), env.take_calls()), (1024, 1));
}

/// A guest that asks for room while it makes room.
struct Nested<'a> {
    env: &'a Env,
    guest: &'a common::FifoGuest,
    answer: Cell<Option<Result<(), Errno>>>,
}

impl Hypercall for Nested<'_> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.answer.set(Some(self.guest.cover(Port(5), self.env)));
        self.env.event_channel_op(op, arg)
    }
}

#[test]
fn of_two_that_make_room_at_once_one_is_to_try_again() {
    let env = Env::new(1, 1023);
    let guest = env.booted(env.fresh_fifo(1));
    let xen = Nested { env: &env, guest: &guest, answer: Cell::new(None) };
    assert_eq!(guest.cover(Port(5), &xen), Ok(()));
    assert_eq!(xen.answer.get(), Some(Err(Errno::EAGAIN)));
    assert_eq!(guest.cover(Port(5), &env), Ok(()), "there is room now");
    assert_eq!(guest.nr_channels(), 1024);
}

#[test]
fn an_event_that_came_before_its_page_is_handled_after() {
    let env = Env::new(1, 1023);
    let guest = env.booted(env.fresh_fifo(1));
    let (near, far) = env.connect();
    env.send(near);
    assert_eq!(seen(&guest, V0), []);
    guest.cover(far, &env).unwrap();
    guest.unmask(far, &env).unwrap();
    assert_eq!(seen(&guest, V0), [far]);
}

/// The guest's memory, with the control block elsewhere.
struct Misplaced(Pages, usize);

impl Memory for Misplaced {
    type Page = Arc<HeapPage>;

    fn layout(&self) -> &'static Layout {
        self.0.layout()
    }

    fn shared_info(&self) -> &Self::Page {
        self.0.shared_info()
    }

    fn control_block(&self, vcpu: VcpuId) -> Option<Place<'_, Self::Page>> {
        self.0.control_block(vcpu).map(|place| Place { offset: self.1, ..place })
    }
}

#[test]
fn a_block_that_does_not_fit_its_page_is_refused_before_xen_is_asked() {
    let env = Env::new(1, 1023);
    for offset in [PAGE_SIZE - 64, PAGE_SIZE, usize::MAX - 3, 2] {
        let guest = Fifo::new(Misplaced(env.memory(0), offset), [FifoVcpu::new()]);
        assert_eq!(guest.online(V0, &env), Err(Errno::EINVAL), "offset {offset}");
    }
    assert_eq!(env.take_calls(), 0);
    let guest = Fifo::new(Misplaced(env.memory(0), PAGE_SIZE - 72), [FifoVcpu::new()]);
    assert_eq!(guest.online(V0, &env), Ok(()));
}
