// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which ABI a guest gets that takes what there is.
#![allow(missing_docs)]

mod common;

use std::cell::Cell;

use common::{Env, Pages, V0, V1, seen};
use evtchn_abi::{DomId, Errno, Op, VcpuId, VcpuOp};
use evtchn_engine::DomainConfig;
use evtchn_guest::{Abi, Auto, Choice, Hypercall};

type Guest = Auto<Pages, Vec<evtchn_guest::TwoLevelVcpu>, Vec<evtchn_guest::FifoVcpu>>;

fn env(fifo: bool) -> Env {
    Env::with(DomainConfig { fifo, max_port: Some(1023), ..DomainConfig::guest(2) })
}

fn guest(env: &Env) -> Guest {
    Auto::new(env.memory(1), env.states(), env.states())
}

/// An event arrives on vCPU 0.
fn works(env: &Env, guest: &Guest) {
    let ([near], [far]) = env.open(guest);
    env.send(near);
    assert_eq!(seen(guest, V0), [far]);
}

/// A Xen that refuses one operation once.
struct Refusing<'a> {
    env: &'a Env,
    op: Cell<Option<(Op, Errno)>>,
    vcpu_op: Cell<Option<Errno>>,
}

impl<'a> Refusing<'a> {
    fn new(env: &'a Env) -> Self {
        Self { env, op: Cell::new(None), vcpu_op: Cell::new(None) }
    }
}

impl Hypercall for Refusing<'_> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        match self.op.take().filter(|&(refused, _)| refused == op) {
            Some((_, errno)) => Err(errno),
            None => self.env.event_channel_op(op, arg),
        }
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        match self.vcpu_op.take() {
            Some(errno) => Err(errno),
            None => self.env.vcpu_op(op, vcpu, arg),
        }
    }
}

#[test]
fn a_xen_with_fifo_gives_fifo() {
    let env = env(true);
    let guest = guest(&env);
    assert_eq!(guest.choice(), Choice::Open);
    let guest = env.booted(guest);
    assert_eq!((guest.choice(), guest.nr_channels()), (Choice::Fifo, 0));
    works(&env, &guest);
}

#[test]
fn a_xen_without_fifo_gives_two_level() {
    let env = env(false);
    let guest = env.booted(guest(&env));
    assert_eq!((guest.choice(), guest.nr_channels()), (Choice::TwoLevel, 4096));
    works(&env, &guest);
}

#[test]
fn whatever_refuses_the_first_control_block_gives_two_level() {
    for errno in [Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EPERM, Errno::ENOMEM] {
        let env = env(true);
        let guest = guest(&env);
        let xen = Refusing::new(&env);
        xen.op.set(Some((Op::INIT_CONTROL, errno)));
        guest.start();
        guest.online(V0, &xen).unwrap();
        guest.online(V1, &xen).unwrap();
        assert_eq!(guest.choice(), Choice::TwoLevel, "{errno}");
        works(&env, &guest);
    }
}

#[test]
fn a_guest_without_memory_for_control_blocks_is_two_level() {
    let env = env(true);
    let memory = Pages { control_blocks: vec![], ..env.memory(0) };
    let guest = env.booted(Auto::new(memory, env.states(), env.states()));
    assert_eq!(guest.choice(), Choice::TwoLevel);
    works(&env, &guest);
}

#[test]
fn a_guest_may_insist_on_two_level() {
    let env = env(true);
    let guest = guest(&env);
    guest.use_two_level();
    let guest = env.booted(guest);
    assert_eq!((guest.choice(), env.take_calls()), (Choice::TwoLevel, 0));
    works(&env, &guest);
}

#[test]
fn a_later_vcpu_whose_block_is_refused_does_not_change_the_choice() {
    let env = env(true);
    let guest = guest(&env);
    guest.start();
    guest.online(V0, &env).unwrap();
    let xen = Refusing::new(&env);
    xen.op.set(Some((Op::INIT_CONTROL, Errno::ENOMEM)));
    assert_eq!(guest.online(V1, &xen), Err(Errno::ENOMEM));
    assert_eq!((guest.choice(), guest.online(V1, &xen)), (Choice::Fifo, Ok(())));
    works(&env, &guest);
}

/// Xen has changed to FIFO by then: two-level would hear nothing.
#[test]
fn a_vcpu_info_that_is_refused_does_not_change_the_choice() {
    let env = env(true);
    let guest = Auto::new(env.memory_with_infos(1), env.states(), env.states());
    guest.start();
    let xen = Refusing::new(&env);
    xen.vcpu_op.set(Some(Errno::ENOMEM));
    assert_eq!(guest.online(V0, &xen), Err(Errno::ENOMEM));
    assert_eq!(guest.choice(), Choice::Fifo);
    assert_eq!(guest.online(V0, &xen), Ok(()));
    works(&env, &guest);
}

#[test]
fn after_a_reset_the_choice_is_open_and_may_be_another() {
    for with_infos in [false, true] {
        let env = env(true);
        let memory = if with_infos { env.memory_with_infos(1) } else { env.memory(1) };
        let guest = Auto::new(memory, env.states(), env.states());
        // FIFO, refused; then FIFO again.
        for (refused, choice) in
            [(None, Choice::Fifo), (Some(Errno::ENOSYS), Choice::TwoLevel), (None, Choice::Fifo)]
        {
            let xen = Refusing::new(&env);
            xen.op.set(refused.map(|errno| (Op::INIT_CONTROL, errno)));
            guest.start();
            [V0, V1].into_iter().for_each(|vcpu| guest.online(vcpu, &xen).unwrap());
            assert_eq!(guest.choice(), choice);
            works(&env, &guest);
            env.reset(DomId::SELF).unwrap();
            guest.forget();
            assert_eq!(guest.choice(), Choice::Open);
        }
    }
}

#[test]
fn where_an_earlier_kernel_uses_fifo_a_guest_that_has_not_reset_it_does_not_start_deaf() {
    let env = env(true);
    let first = env.booted(guest(&env));
    assert_eq!(first.choice(), Choice::Fifo);
    let second = guest(&env);
    second.start();
    assert_eq!(second.online(V0, &env), Err(Errno::EINVAL));
    assert_eq!(second.choice(), Choice::Open);
    env.reset(DomId::SELF).unwrap();
    works(&env, &env.booted(second));
}
