// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hostile guest that writes into its pages and makes any hypercall, and a victim that must get its own events.

use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::Page;

use crate::common::state::{Machine, VCPUS, configs};
use crate::common::{D0, D1, D2};
use crate::hypercalls::hypercall;
use crate::input::Input;

/// Domain 1 is hostile. Domain 2 gets an IPI and an event of domain 0 after each thing that it does.
pub fn pages(input: &[u8]) {
    let mut input = Input(input);
    // The victim is nobody's device model's target, and no device model of the hostile one.
    let mut configs = configs();
    configs[2].target = None;
    let mut machine = Machine::new(&configs);
    let flags = input.byte();
    if flags & 1 == 1 {
        use_fifo(&mut machine, D2);
    }
    if flags & 2 == 2 {
        use_fifo(&mut machine, D1);
    }
    let victim = Victim::new(&machine);
    // The hostile one has a channel to it, too.
    let waiting = machine.engine.alloc_unbound(D2, DomId::SELF, D1).expect("a port");
    machine.engine.bind_interdomain(D1, D2, waiting).expect("a channel");
    let mut count = 0u32;
    while !input.is_empty() {
        match input.below(4) {
            0 => hypercall(&machine, D1, &mut input),
            1 => {
                let _ = machine.engine.send(D1, Port(input.number()));
            }
            _ => write(&machine, &mut input),
        }
        // Others go on working with the hostile one.
        let _ = machine.engine.send(D0, Port(input.below(8)));
        victim.gets_its_events(&mut machine);
        count += 1;
        if count.is_multiple_of(32) {
            machine.engine.validate().expect("the books balance");
        }
    }
    machine.engine.validate().expect("the books balance");
}

fn use_fifo(machine: &mut Machine, id: DomId) {
    (0..VCPUS).for_each(|vcpu| drop(machine.init_control(id, vcpu)));
    machine.expand_array(id);
    assert!(machine.uses_fifo(id));
}

/// A write of the hostile guest's, anywhere in its pages.
fn write(machine: &Machine, input: &mut Input<'_>) {
    let frames = machine.frames().filter(|&(id, _)| id == D1).map(|(id, gfn)| machine.frame(id, gfn));
    let mut pages = vec![machine.page(D1).clone()];
    pages.extend(frames);
    let page = &pages[input.below(pages.len() as u32) as usize];
    let [low, high] = input.bytes::<2>();
    // The first words of a page, where most is, or any.
    let offset =
        if high & 0x80 == 0 { u16::from(low) * 4 } else { u16::from_le_bytes([low, high & 0xf]) & !3 };
    let word = page.u32(offset.into()).expect("inside the page");
    let value = u32::from_le_bytes(input.bytes());
    match high >> 4 & 3 {
        0 => drop(word.fetch_or(value, SeqCst)),
        1 => drop(word.fetch_and(value, SeqCst)),
        2 => drop(word.swap(input.below(16) | value & 0xf000_0000, SeqCst)),
        _ => drop(word.swap(value, SeqCst)),
    }
}

/// Domain 2's ports: an IPI for each vCPU, and a channel from domain 0.
struct Victim {
    ipis: Vec<Port>,
    send: Port,
    port: Port,
}

impl Victim {
    fn new(machine: &Machine) -> Self {
        let engine = &machine.engine;
        let ipis = (0..VCPUS).map(|vcpu| engine.bind_ipi(D2, VcpuId(vcpu)).expect("a port")).collect();
        let port = engine.alloc_unbound(D2, DomId::SELF, D0).expect("a port");
        let send = engine.bind_interdomain(D0, D2, port).expect("a channel");
        Self { ipis, send, port }
    }

    fn gets_its_events(&self, machine: &mut Machine) {
        for &ipi in &self.ipis {
            machine.engine.send(D2, ipi).expect("an IPI");
        }
        machine.engine.send(D0, self.send).expect("a send");
        let mut seen = Vec::new();
        for vcpu in 0..VCPUS {
            assert_ne!(
                machine.page(D2).u8(64 * vcpu as usize).map(|byte| byte.load(SeqCst)),
                Some(0),
                "no upcall"
            );
            if machine.uses_fifo(D2) {
                seen.extend(
                    std::iter::from_fn(|| machine.take_fifo(D2, vcpu))
                        .filter_map(|(port, on)| on.then_some(port)),
                );
            } else {
                let some =
                    |machine: &mut Machine| Some(machine.take_bits(D2, vcpu)).filter(|some| !some.is_empty());
                seen.extend(std::iter::from_fn(|| some(machine)).flatten());
            }
        }
        assert!(self.ipis.iter().chain([&self.port]).all(|port| seen.contains(port)), "lost: {seen:?}");
    }
}
