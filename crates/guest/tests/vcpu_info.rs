// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs whose `vcpu_info` is not in `shared_info`.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{Env, GUEST, INFOS, Pages, V0, seen};
use evtchn_abi::{DomId, Errno, Gfn, Port, VcpuId};
use evtchn_engine::{DomainConfig, VcpuInfoPlace, Width};
use evtchn_guest::{Abi, Fifo, FifoVcpu, Hypercall, TwoLevel, TwoLevelVcpu};
use evtchn_sync::Page;

const V40: VcpuId = VcpuId(40);

fn env(width: Width) -> Env {
    Env::with(DomainConfig { width, max_port: Some(1023), ..DomainConfig::guest(64) })
}

fn two_level(env: &Env, memory: Pages) -> TwoLevel<Pages, Vec<TwoLevelVcpu>> {
    TwoLevel::new(memory, env.states())
}

fn fifo(env: &Env, memory: Pages) -> Fifo<Pages, Vec<FifoVcpu>> {
    Fifo::new(memory, env.states())
}

/// A port of vCPU 40, and the sender's.
fn open_on_40(env: &Env, guest: &impl Abi) -> (Port, Port) {
    let ([near], [far]) = env.open(guest);
    guest.move_to_vcpu(far, V40, env).unwrap();
    (near, far)
}

fn every_vcpu_gets_its_events(env: &Env, guest: &impl Abi) {
    guest.start();
    env.take_calls();
    (0..64).for_each(|vcpu| guest.online(VcpuId(vcpu), env).unwrap());
    (0..64).for_each(|vcpu| drop(seen(guest, VcpuId(vcpu)))); // to register is announced
    let ([near], [far]) = env.open(guest);
    for vcpu in [0, 31, 32, 40, 63].map(VcpuId) {
        guest.move_to_vcpu(far, vcpu, env).unwrap();
        env.send(near);
        let told: Vec<_> = (0..64).map(VcpuId).filter(|&vcpu| guest.upcall_is_pending(vcpu)).collect();
        assert_eq!(told, [vcpu]);
        assert_eq!(seen(guest, vcpu), [far]);
    }
    assert!((0..2048).all(|at| env.shared.u8(at).unwrap().load(SeqCst) == 0), "shared_info has none");
}

#[test]
fn every_vcpu_of_64_gets_its_two_level_events_in_either_width() {
    for width in [Width::Bits64, Width::Bits32] {
        let env = env(width);
        every_vcpu_gets_its_events(&env, &two_level(&env, env.memory_with_infos(0)));
    }
}

#[test]
fn every_vcpu_of_64_gets_its_fifo_events_in_either_width() {
    for width in [Width::Bits64, Width::Bits32] {
        let env = env(width);
        every_vcpu_gets_its_events(&env, &fifo(&env, env.memory_with_infos(1)));
    }
}

#[test]
fn a_vcpu_that_has_no_place_in_shared_info_needs_one_elsewhere() {
    let env = env(Width::Bits64);
    assert_eq!(two_level(&env, env.memory(0)).online(V40, &env), Err(Errno::EINVAL));
    assert_eq!(fifo(&env, env.memory(1)).online(V40, &env), Err(Errno::EINVAL));
    assert_eq!(env.take_calls(), 0);
    assert_eq!(two_level(&env, env.memory(0)).online(VcpuId(31), &env), Ok(()));
}

#[test]
fn a_vcpu_info_that_xen_refuses_can_be_registered_again() {
    let env = env(Width::Bits64);
    let mut memory = env.memory_with_infos(1);
    memory.vcpu_infos[0].gfn = Gfn(0xdead);
    let guest = two_level(&env, memory);
    assert_eq!([guest.online(V40, &env), guest.online(V40, &env)], [Err(Errno::EINVAL); 2]);
    assert_eq!(env.take_calls(), 2);
}

#[test]
fn one_that_somebody_else_has_registered_elsewhere_is_an_error() {
    let env = env(Width::Bits64);
    drop(env.page(Gfn(0x400)));
    env.register_vcpu_info(V40, Gfn(0x400), 0).unwrap();
    assert_eq!(two_level(&env, env.memory_with_infos(0)).online(V40, &env), Err(Errno::EBUSY));
}

fn a_reset_keeps_it(env: &Env, guest: &impl Abi) {
    for _ in 0..3 {
        guest.start();
        [V0, V40].into_iter().for_each(|vcpu| guest.online(vcpu, env).unwrap());
        let (near, far) = open_on_40(env, guest);
        seen(guest, V40);
        env.send(near);
        assert_eq!((seen(guest, V0), seen(guest, V40)), (vec![], vec![far]));
        env.reset(DomId::SELF).unwrap();
        guest.forget();
    }
    // As when it has moved to another machine, which does not know.
    env.engine.drop_vcpu_infos(GUEST).unwrap();
    guest.start();
    guest.online(V40, env).unwrap();
    let place = env.engine.vcpu_info(GUEST, V40).unwrap();
    assert_eq!(place, VcpuInfoPlace::Registered { gfn: INFOS, offset: 40 * 64 });
}

#[test]
fn a_vcpu_info_that_xen_has_kept_over_a_reset_is_used_again() {
    let first = env(Width::Bits64);
    a_reset_keeps_it(&first, &two_level(&first, first.memory_with_infos(0)));
    let second = env(Width::Bits64);
    a_reset_keeps_it(&second, &fifo(&second, second.memory_with_infos(1)));
}
