// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's memory as its records show it.

use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{EventWord, Priority, fifo::WORDS_PER_PAGE};
use serde_json::{Map, Value, json};

use super::{
    memory::{Bits, Memory, Taken, VCPUS},
    names::Names,
};

/// How many words of pending bits the record `words` has.
const WORDS_SHOWN: usize = 4;

/// Both vCPUs, and the ports that the guest holds, the console's excepted.
pub(super) fn observed(memory: &Memory, names: &Names, console: u32) -> Map<String, Value> {
    let mut out = Map::new();
    for vcpu in 0..VCPUS {
        out.insert(format!("vcpu{vcpu}"), vcpu_view(memory, names, vcpu));
    }
    let ports = names.shown().filter(|port| *port != console);
    let ports = ports.map(|port| (names.key(port), port_view(memory, names, port)));
    out.insert("ports".to_owned(), Value::Object(ports.collect()));
    out
}

fn vcpu_view(memory: &Memory, names: &Names, vcpu: usize) -> Value {
    let mut view = json!({
        "upcall_pending": memory.upcall_pending(vcpu),
        "upcall_mask": memory.upcall_mask(vcpu),
        "sel": hex(memory.selector(vcpu).load(SeqCst)),
    });
    if memory.fifo {
        view["ready"] = hex(memory.ready(vcpu).load(SeqCst).into());
        view["heads"] = Value::Object(heads(memory, names, vcpu));
    }
    view
}

fn heads(memory: &Memory, names: &Names, vcpu: usize) -> Map<String, Value> {
    let heads = Priority::all().map(|queue| (queue, memory.head(vcpu, queue).load(SeqCst)));
    let filled = heads.filter(|(_, head)| *head != 0);
    filled.map(|(queue, head)| (queue.to_string(), names.of(head))).collect()
}

fn port_view(memory: &Memory, names: &Names, port: u32) -> Value {
    if !memory.fifo {
        let bit = |bits| u8::from(memory.is_set(bits, port));
        return json!({ "p": bit(Bits::Pending), "m": bit(Bits::Masked) });
    }
    let known = ((port / WORDS_PER_PAGE) as usize) < memory.known;
    let word = memory.word(port).filter(|_| known);
    word.map_or_else(|| json!({}), |word| word_view(EventWord(word.load(SeqCst)), names))
}

fn word_view(word: EventWord, names: &Names) -> Value {
    json!({
        "word": hex(word.0.into()),
        "p": u8::from(word.is_pending()),
        "m": u8::from(word.is_masked()),
        "l": u8::from(word.is_linked()),
        "b": u8::from(word.is_busy()),
        "link": names.of(word.link().0),
    })
}

/// The first words of pending bits.
pub(super) fn words(memory: &Memory) -> Value {
    (0..WORDS_SHOWN).map(|word| hex(memory.bits(Bits::Pending, word).load(SeqCst))).collect()
}

/// The ports that a round over the bits took.
pub(super) fn order_two_level(ports: &[u32], names: &Names) -> Value {
    ports.iter().map(|port| names.of(*port)).collect()
}

/// The ports that a round over the queues took.
pub(super) fn order_fifo(order: &[Taken], names: &Names) -> Value {
    let entry = |taken: &Taken| json!({ "q": taken.queue, "port": names.of(taken.port), "taken": u8::from(taken.active) });
    order.iter().map(entry).collect()
}

/// A word as the guest prints it.
pub(super) fn hex(value: u64) -> Value {
    json!(format!("{value:#x}"))
}
