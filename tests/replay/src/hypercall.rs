// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recorded hypercall as the guest issued it: its number, its argument block, and where the outputs are in that block.
//!
//! The recorder fills output fields with a pattern first, so that a failing call that writes one is seen.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::{
    memory::{self, HYPERVISOR, NULL, READ_ONLY, READ_WRITE, UNMAPPED},
    recording::Step,
    symbols::Symbols,
};

/// `event_channel_op`.
const EVENT_CHANNEL_OP: u64 = 32;
/// `sched_op`.
const SCHED_OP: u64 = 29;
/// `SCHEDOP_poll`.
const POLL: u64 = 3;
/// `event_channel_op_compat`.
const EVENT_CHANNEL_OP_COMPAT: u64 = 16;

/// The operations of `event_channel_op`, by number.
const OPERATIONS: [&str; 15] = [
    "bind_interdomain",
    "bind_virq",
    "bind_pirq",
    "close",
    "send",
    "status",
    "alloc_unbound",
    "bind_ipi",
    "bind_vcpu",
    "unmask",
    "reset",
    "init_control",
    "expand_array",
    "set_priority",
    "reset_cont",
];

/// The operation's number by its name in a recording.
fn number_of(op: &str) -> Option<u32> {
    (0..).zip(OPERATIONS).find_map(|(number, name)| (name == op).then_some(number))
}

/// What output fields hold before the call.
const POISON: u32 = 0xa5a5_a5a5;
/// The byte that fills structures whose padding or union is not set.
const POISON_BYTE: u8 = 0xa5;
/// `DOMID_SELF`.
const SELF: u16 = 0x7ff0;
/// The kinds of binding as `EVTCHNOP_status` numbers them.
const KINDS: [&str; 6] = ["closed", "unbound", "interdomain", "pirq", "virq", "ipi"];

/// A hypercall, ready to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The hypercall's number.
    pub number: u64,
    /// Its register arguments.
    pub args: [u64; 2],
    /// Where the argument block is put before the call; not at all if empty.
    pub block: Vec<u8>,
    /// The address of the block.
    pub address: u64,
    output: Output,
}

/// Which outputs a block has, and the offset of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    None,
    Port(usize),
    Status(usize),
    LinkBits(usize),
}

impl Call {
    /// The call that `step` recorded.
    pub fn recorded(step: &Step) -> Result<Self> {
        let args = Args(&step.args);
        match step.op.as_str() {
            "raw" => Self::raw(args),
            "compat" => Self::compat(args),
            op => Self::operation(op, &step.args),
        }
    }

    /// `alloc_unbound(SELF, SELF)` as the recorder issues it outside its recorded steps.
    pub fn alloc_unbound_self() -> Self {
        Self::modern(6, two_ids(SELF, SELF), Output::Port(4))
    }

    /// `status(SELF, port)`.
    pub fn status_self(port: u32) -> Self {
        Self::modern(5, status_block(SELF, port), Output::Status(0))
    }

    /// `close(port)`.
    pub fn close(port: u32) -> Self {
        Self::modern(3, bytes(&[port]), Output::None)
    }

    /// `SCHEDOP_poll` for the ports at the address `at`; `ports` are put behind the argument.
    pub fn poll(at: u64, ports: &[u32], timeout: u64) -> Self {
        let count = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        let mut block = at.to_le_bytes().to_vec();
        block.extend(bytes(&[count, 0]));
        block.extend(timeout.to_le_bytes());
        block.extend(bytes(ports));
        let args = [POLL, READ_WRITE];
        Self { number: SCHED_OP, args, block, address: READ_WRITE, output: Output::None }
    }

    fn modern(op: u32, block: Vec<u8>, output: Output) -> Self {
        let args = [u64::from(op), READ_WRITE];
        Self { number: EVENT_CHANNEL_OP, args, block, address: READ_WRITE, output }
    }

    /// An operation of `event_channel_op` with its arguments as a recording names them.
    pub fn operation(op: &str, args: &Map<String, Value>) -> Result<Self> {
        let args = Args(args);
        let number = number_of(op).with_context(|| format!("unknown operation `{op}`"))?;
        let (block, output) = match op {
            "alloc_unbound" => (two_ids(args.id("dom")?, args.id("remote_dom")?), Output::Port(4)),
            "bind_interdomain" => (
                bytes(&[u32::from(args.id("remote_dom")?), args.u32("remote_port")?, POISON]),
                Output::Port(8),
            ),
            "bind_virq" => (bytes(&[args.u32("virq")?, args.u32("vcpu")?, POISON]), Output::Port(8)),
            "bind_pirq" => (bytes(&[args.u32("pirq")?, args.u32("flags")?, POISON]), Output::Port(8)),
            "bind_ipi" => (bytes(&[args.u32("vcpu")?, POISON]), Output::Port(4)),
            "status" => (status_block(args.status_dom()?, args.u32("port")?), Output::Status(0)),
            "bind_vcpu" => (bytes(&[args.u32("port")?, args.u32("vcpu")?]), Output::None),
            "set_priority" => (bytes(&[args.u32("port")?, args.u32("priority")?]), Output::None),
            "reset" | "reset_cont" => (args.id("dom")?.to_le_bytes().to_vec(), Output::None),
            "init_control" => (init_control_block(args)?, Output::LinkBits(16)),
            "expand_array" => (args.hex("array_gfn")?.to_le_bytes().to_vec(), Output::None),
            _ => (bytes(&[args.u32("port")?]), Output::None), // close, send, unmask
        };
        Ok(Self::modern(number, block, output))
    }

    /// A call with an argument pointer of a special kind.
    fn raw(args: Args<'_>) -> Result<Self> {
        let (address, block) = match args.text("pointer")? {
            "null" => (NULL, Vec::new()),
            "unmapped" => (UNMAPPED, Vec::new()),
            "hypervisor" => (HYPERVISOR, Vec::new()),
            "zeroed" => (READ_WRITE, vec![0; memory::BLOCK]),
            "read-only: alloc_unbound(SELF,SELF)" => (READ_ONLY, two_ids(SELF, SELF)),
            "read-only: status(SELF,1)" => (READ_ONLY, status_block(SELF, 1)),
            pointer => bail!("unknown kind of pointer `{pointer}`"),
        };
        let args = [u64::from(args.u32("cmd")?), address];
        Ok(Self { number: EVENT_CHANNEL_OP, args, block, address, output: Output::None })
    }

    /// The old hypercall, with the operation's number in front of the block.
    fn compat(args: Args<'_>) -> Result<Self> {
        let number = EVENT_CHANNEL_OP_COMPAT;
        if args.0["cmd"].is_string() {
            return Ok(Self {
                number,
                args: [NULL, 0],
                block: Vec::new(),
                address: NULL,
                output: Output::None,
            });
        }
        let op = args.u32("cmd")?;
        let (words, output) = compat_arguments(op);
        let mut block = bytes(&[op]);
        block.extend(bytes(&words));
        Ok(Self { number, args: [READ_WRITE, 0], block, address: READ_WRITE, output })
    }

    /// The outputs in `after`, the block as it is after the call that answered `ret`, in a recording's form.
    ///
    /// Beside a recording's fields there is `memory` if bytes were written that the call must not write.
    pub fn outputs(&self, ret: i64, after: &[u8], symbols: &Symbols) -> Map<String, Value> {
        let mut out = Map::new();
        if ret == 0 {
            self.read_outputs(after, symbols, &mut out);
        } else if after != self.block {
            set(&mut out, "memory", "written on error");
        }
        out
    }

    /// The new port that the block holds after a call that answered zero.
    pub fn new_port(&self, after: &[u8]) -> Option<u32> {
        match self.output {
            Output::Port(at) => Some(word(after, at)),
            _ => None,
        }
    }

    /// The kind of binding in the block of a status call that answered zero.
    pub fn status_name(after: &[u8]) -> &'static str {
        KINDS.get(word(after, 8) as usize).copied().unwrap_or("?")
    }

    fn read_outputs(&self, after: &[u8], symbols: &Symbols, out: &mut Map<String, Value>) {
        match self.output {
            Output::None => {}
            Output::Port(at) => set(out, "port", word(after, at)),
            Output::LinkBits(at) => set(out, "link_bits", after[at]),
            Output::Status(at) => read_status(&after[at..], symbols, out),
        }
    }
}

/// The outputs of a status call, as the recorder prints them.
fn read_status(after: &[u8], symbols: &Symbols, out: &mut Map<String, Value>) {
    let (kind, value) = (Call::status_name(after), word(after, 16));
    set(out, "status", word(after, 8));
    set(out, "name", kind);
    set(out, "vcpu", word(after, 12));
    if matches!(kind, "unbound" | "interdomain") {
        set(out, "remote_dom", symbols.domain(half(after, 16)));
    }
    match kind {
        "interdomain" => set(out, "remote_port", word(after, 20)),
        "pirq" | "virq" => set(out, kind, value),
        _ => {}
    }
}

fn set(out: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    out.insert(name.to_owned(), value.into());
}

/// The arguments that the recorder gives to each operation of the old hypercall.
fn compat_arguments(op: u32) -> ([u32; 8], Output) {
    let own = u32::from(SELF);
    let (words, output): (&[u32], _) = match op {
        0 => (&[own, 0], Output::Port(12)),
        1 => (&[99], Output::Port(12)),
        2 => (&[u32::MAX], Output::Port(12)),
        5 => (&[own, 1], Output::Status(4)),
        6 => (&[own | own << 16], Output::Port(8)),
        7 => (&[99], Output::Port(8)),
        8 => (&[0, 99], Output::None),
        _ => (&[u32::MAX], Output::None),
    };
    let mut block = [0; 8];
    block[..words.len()].copy_from_slice(words);
    (block, output)
}

fn two_ids(first: u16, second: u16) -> Vec<u8> {
    bytes(&[u32::from(first) | u32::from(second) << 16, POISON])
}

fn status_block(dom: u16, port: u32) -> Vec<u8> {
    let mut block = vec![POISON_BYTE; 24];
    block[..2].copy_from_slice(&dom.to_le_bytes());
    block[4..8].copy_from_slice(&port.to_le_bytes());
    block
}

fn init_control_block(args: Args<'_>) -> Result<Vec<u8>> {
    let mut block = vec![POISON_BYTE; 24];
    block[..8].copy_from_slice(&args.hex("control_gfn")?.to_le_bytes());
    block[8..12].copy_from_slice(&args.u32("offset")?.to_le_bytes());
    block[12..16].copy_from_slice(&args.u32("vcpu")?.to_le_bytes());
    Ok(block)
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The 32-bit word at an offset.
pub(crate) fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// The 16-bit word at an offset.
pub(crate) fn half(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// A step's arguments. A field's raw number (`NAME_raw`) goes before its symbol.
#[derive(Clone, Copy)]
struct Args<'a>(&'a Map<String, Value>);

impl<'a> Args<'a> {
    fn u32(self, name: &str) -> Result<u32> {
        let value = self.0.get(&format!("{name}_raw")).or_else(|| self.0.get(name));
        let number = value.and_then(Value::as_u64).with_context(|| format!("no number `{name}`"))?;
        u32::try_from(number).with_context(|| format!("`{name}` is out of range"))
    }

    fn id(self, name: &str) -> Result<u16> {
        u16::try_from(self.u32(name)?).with_context(|| format!("`{name}` is not a domain id"))
    }

    /// The domain of a status call; one recorded without it was about the caller itself.
    fn status_dom(self) -> Result<u16> {
        if self.0.contains_key("dom") { self.id("dom") } else { Ok(SELF) }
    }

    fn text(self, name: &str) -> Result<&'a str> {
        self.0.get(name).and_then(Value::as_str).with_context(|| format!("no text `{name}`"))
    }

    fn hex(self, name: &str) -> Result<u64> {
        let digits = self.text(name)?.trim_start_matches("0x");
        u64::from_str_radix(digits, 16).with_context(|| format!("`{name}` is not a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(op: &str, args: Value) -> Result<Call> {
        let step =
            json!({"seq": "s", "step": 1, "level": "hypercall", "op": op, "args": args, "ret": 0, "out": {}});
        Call::recorded(&serde_json::from_value(step).unwrap())
    }

    #[test]
    fn a_raw_number_goes_before_its_symbol() {
        let call = call("send", json!({"port": "p3", "port_raw": 0x1234})).unwrap();
        assert_eq!((call.number, call.args[0], call.block), (32, 4, vec![0x34, 0x12, 0, 0]));
    }

    #[test]
    fn the_second_domain_is_named_by_its_id() {
        let call = call("alloc_unbound", json!({"dom": "X", "dom_raw": 3, "remote_dom": 32752})).unwrap();
        assert_eq!(call.block, [3, 0, 0xf0, 0x7f, 0xa5, 0xa5, 0xa5, 0xa5]);
    }

    #[test]
    fn special_pointers_are_passed_as_they_are() {
        for (pointer, address) in [("null", NULL), ("unmapped", UNMAPPED), ("hypervisor", HYPERVISOR)] {
            let call = call("raw", json!({"cmd": 6, "pointer": pointer})).unwrap();
            assert_eq!((call.args, call.block.len()), ([6, address], 0));
        }
        assert!(call("raw", json!({"cmd": 6, "pointer": "odd"})).is_err());
    }

    #[test]
    fn the_old_hypercall_has_the_operation_in_its_block() {
        let call = call("compat", json!({"cmd": 6})).unwrap();
        assert_eq!((call.number, call.args), (16, [READ_WRITE, 0]));
        assert_eq!(call.block[..8], [6, 0, 0, 0, 0xf0, 0x7f, 0xf0, 0x7f]);
        assert_eq!(call.block.len(), 36);
    }

    #[test]
    fn an_output_written_by_a_failing_call_is_seen() {
        let call = Call::alloc_unbound_self();
        let mut after = call.block.clone();
        assert!(call.outputs(-22, &after, &Symbols::default()).is_empty());
        after[4] = 0;
        assert_eq!(call.outputs(-22, &after, &Symbols::default())["memory"], json!("written on error"));
    }

    #[test]
    fn a_status_block_is_read_in_the_recordings_form() {
        let call = Call::status_self(5);
        let mut after = call.block.clone();
        after[8..24].copy_from_slice(&bytes(&[2, 1, 7, 9]));
        let expected =
            json!({"status": 2, "name": "interdomain", "vcpu": 1, "remote_dom": 7, "remote_port": 9});
        assert_eq!(Value::Object(call.outputs(0, &after, &Symbols::default())), expected);
    }

    #[test]
    fn unknown_operations_and_missing_arguments_are_errors() {
        assert!(call("frobnicate", json!({})).is_err());
        assert!(call("send", json!({})).is_err());
        assert!(call("send", json!({"port": 1u64 << 40})).is_err());
        assert!(call("reset", json!({"dom": 70000})).is_err());
    }
}
