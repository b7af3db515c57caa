// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bare guest's program around its recorded steps: what it does to its memory between them, its console, and the
//! loops of calls that are recorded as one step.

use anyhow::{Context, Result, bail};
use evtchn_abi::{DomId, Port, VcpuId, Virq};
use evtchn_engine::Outcome;
use serde_json::{Map, Value, json};

use super::{
    memory::{ARRAY_PAGES, Memory, VCPUS},
    names::Names,
};
use crate::{
    hypercall::{Call, half, word},
    machine::{Answer, BARE_GUEST, Machine},
    memory::READ_WRITE,
};

/// The domain that serves the guest's console and store.
const BACK_END: u16 = 0;
/// Its port for the guest's store, and the next one for the console.
const BACK_END_STORE: u32 = 25;
const BACK_END_CONSOLE: u32 = 26;
/// The guest's ports of them when it starts.
const STORE: u32 = 1;
const CONSOLE: u32 = 2;

/// `DOMID_SELF`.
const SELF: u16 = 0x7ff0;
/// Where the guest's pages are.
const FIRST_CONTROL_GFN: u64 = 0x100;
const FIRST_ARRAY_GFN: u64 = 0x200;
/// A page that the guest does not have.
const INVALID_GFN: u64 = u64::MAX;
/// A page that the guest has, but cannot let Xen write to. The machine gives none for it.
const PAGE_TABLE_GFN: u64 = 0x300;

/// More ports than there are: where a loop that must fail ends in any case.
const TOO_MANY: u32 = 1 << 18;
/// How many ports the guest opens where it says "many".
const MANY: u32 = 1500;
/// How many pages the guest tries to add at most.
const MANY_PAGES: u32 = 200;
/// The page that it adds again and again.
const REPEATED_PAGE: usize = 5;

/// Where the ports are behind a poll's argument.
const POLL_PORTS: usize = 24;
/// A time in the past.
const PAST: u64 = 1;

/// The guest, with its machine.
pub(super) struct Program {
    pub machine: Machine,
    pub memory: Memory,
    pub names: Names,
    pub console: u32,
}

/// A result and outputs.
pub(super) type Recorded = (i64, Map<String, Value>);

impl Program {
    /// The guest as it starts: its store's and console's ports are connected.
    pub fn start() -> Result<Self> {
        let memory = Memory::new();
        let machine = Machine::bare_guest(&memory.shared)?;
        for (gfn, page) in (FIRST_CONTROL_GFN..).zip(&memory.control) {
            machine.share(gfn, page);
        }
        for (gfn, page) in (FIRST_ARRAY_GFN..).zip(&memory.array) {
            machine.share(gfn, page);
        }
        for (port, back_end) in [(STORE, BACK_END_STORE), (CONSOLE, BACK_END_CONSOLE)] {
            machine.serve(BACK_END, port, back_end)?;
        }
        Ok(Self { machine, memory, names: Names::default(), console: CONSOLE })
    }

    /// Begins a sequence.
    pub fn begin(&mut self, seq: &str) -> Result<()> {
        self.names = Names::default();
        self.prepare(seq);
        // The console's back end has read what the guest has printed, and says so.
        let console = Port(BACK_END_CONSOLE);
        self.machine.engine().send(DomId(BACK_END), console).context("the console's back end")
    }

    /// What the guest does to its memory before or at the start of a sequence.
    fn prepare(&mut self, seq: &str) {
        match seq {
            "g.start" => self.hush(),
            "g.fifo.switch" => self.memory.blocks = [0, 128],
            "g.fifo.again" => {
                self.memory.zero_fifo_pages();
                self.memory.put_mask_in_both(self.console, true);
                self.memory.blocks = [8, 0];
            }
            "g.rf.init" => {
                self.memory.zero_fifo_pages();
                self.hush();
                self.memory.blocks = [0; VCPUS];
                self.memory.clean(self.console);
            }
            _ if is_random(seq) => self.memory.clean(self.console),
            _ => {}
        }
    }

    /// Masks the console's and the store's port, so that their events are not recorded.
    fn hush(&self) {
        for port in [STORE, CONSOLE].into_iter().filter(|port| *port == STORE || *port == self.console) {
            self.memory.put_mask_in_both(port, true);
        }
        self.memory.put_mask_in_both(self.console, true);
    }

    /// Connects the console again, after a reset. The port will be the lowest, and is masked first.
    fn reconnect(&mut self) -> Result<()> {
        self.memory.put_mask_in_both(STORE, false);
        self.memory.put_mask_in_both(self.console, false);
        self.memory.put_mask_in_both(1, true);
        let args = json!({ "remote_dom": BACK_END, "remote_port": BACK_END_CONSOLE });
        let call = Call::operation("bind_interdomain", args.as_object().context("an object")?)?;
        let answer = self.machine.succeed(&call)?;
        self.console = call.new_port(&answer.block).context("no port")?;
        self.memory.clear_upcall_and_selector(0);
        Ok(())
    }

    /// A hypercall that is recorded as such.
    pub fn operation(&mut self, op: &str, args: &Map<String, Value>) -> Result<Recorded> {
        let call = Call::operation(op, &with_frames(op, args)?)?;
        let answer = self.machine.call(&call);
        let ret = answer.ret()?;
        let mut out = Map::new();
        if ret == 0 {
            self.outputs(op, &call, &answer, &mut out);
            self.succeeded(op, args, &mut out)?;
        } else if answer.block != call.block {
            out.insert("memory".to_owned(), json!("written on error"));
        }
        Ok((ret, out))
    }

    fn outputs(&mut self, op: &str, call: &Call, answer: &Answer, out: &mut Map<String, Value>) {
        if let Some(port) = call.new_port(&answer.block) {
            self.names.add(port);
            set(out, "port", self.names.of(port));
            set(out, "port_raw", port);
        }
        match op {
            "status" => self.status(&answer.block, out),
            "init_control" => set(out, "link_bits", answer.block[16]),
            _ => {}
        }
    }

    fn status(&self, block: &[u8], out: &mut Map<String, Value>) {
        let kind = word(block, 8);
        set(out, "status", kind);
        set(out, "vcpu", word(block, 12));
        match kind {
            1 => set(out, "remote_dom", half(block, 16)),
            2 => {
                set(out, "remote_dom", half(block, 16));
                set(out, "remote_port", self.names.of(word(block, 20)));
            }
            4 => set(out, "virq", word(block, 16)),
            _ => {}
        }
    }

    /// What the guest notes when a call has succeeded.
    fn succeeded(&mut self, op: &str, args: &Map<String, Value>, out: &mut Map<String, Value>) -> Result<()> {
        match op {
            "close" => self.names.remove(number(args, "port_raw")?),
            "init_control" => self.memory.fifo |= number(args, "vcpu")? == 0,
            "expand_array" => self.memory.known += 1,
            "reset" if args.contains_key("console_port_before") => {
                self.names.remove_all();
                self.memory.fifo = false;
                self.memory.known = 0;
                self.reconnect()?;
                set(out, "console_port_after", self.console);
            }
            _ => {}
        }
        Ok(())
    }

    /// Opens ports until that fails, or until there are "many".
    pub fn open_ports(&mut self, many: bool) -> Result<Recorded> {
        let limit = if many { MANY } else { TOO_MANY };
        let (call, mut out) = (Call::alloc_unbound_self(), Map::new());
        let (mut opened, mut last, mut ret) = (0, 0, 0);
        while ret == 0 && opened < limit {
            let answer = self.machine.call(&call);
            ret = answer.ret()?;
            if ret == 0 {
                opened += 1;
                last = call.new_port(&answer.block).context("no port")?;
            }
        }
        set(&mut out, "allocated", opened);
        set(&mut out, "last_port", last);
        Ok((ret, out))
    }

    /// Adds one page to the array again and again.
    pub fn expand_until_it_fails(&mut self) -> Result<Recorded> {
        self.memory.mask_page(REPEATED_PAGE);
        let args = json!({ "array_gfn": format!("page a{REPEATED_PAGE}") });
        let args = with_frames("expand_array", args.as_object().context("an object")?)?;
        let (call, mut out) = (Call::operation("expand_array", &args)?, Map::new());
        let (mut added, mut ret) = (0, 0);
        while ret == 0 && added < MANY_PAGES {
            ret = self.machine.call(&call).ret()?;
            added += u32::from(ret == 0);
        }
        set(&mut out, "further_pages", added);
        Ok((ret, out))
    }

    /// A binding for which there is no port left.
    pub fn bind_when_full(&mut self, op: &str) -> Result<Recorded> {
        let args = json!({
            "vcpu": 0, "virq": 1, "remote_dom": SELF, "remote_port": self.console + 1,
        });
        let call = Call::operation(op, args.as_object().context("an object")?)?;
        Ok((self.machine.call(&call).ret()?, Map::new()))
    }

    /// The guest's timer fires at once.
    pub fn timer(&self) -> Result<Recorded> {
        self.machine.engine().raise_virq(BARE_GUEST, VcpuId(0), Virq::TIMER)?;
        Ok((0, Map::new()))
    }

    /// `SCHEDOP_poll` with a time-out in the past: who would sleep is woken at once.
    pub fn poll(&mut self, what: &str) -> Result<Recorded> {
        let newest = self.names.newest();
        let ports = match what {
            "no ports" => Vec::new(),
            "port out of range" => vec![100_000],
            "129 ports" => vec![0; 129],
            "128 times port 0" => vec![0; 128],
            _ => vec![newest],
        };
        let at = if what == "bad pointer" { 8 } else { READ_WRITE + POLL_PORTS as u64 };
        let answer = self.machine.call(&Call::poll(at, &ports, PAST));
        let ret = match answer.outcome {
            Outcome::Done(ret) => ret,
            Outcome::Block { deadline } if deadline.is_some_and(|time| time.get() == PAST) => {
                self.machine.engine().finish_poll(BARE_GUEST, VcpuId(0));
                0
            }
            other => bail!("the engine answered {other:?}"),
        };
        Ok((ret, Map::new()))
    }
}

/// Whether a sequence is one of the random ones, each of which begins with clean memory: `g.r2.007`, `g.of.031`.
fn is_random(seq: &str) -> bool {
    let kind = seq.get(..5).is_some_and(|kind| ["g.r2.", "g.rf.", "g.o2.", "g.of."].contains(&kind));
    kind && seq[5..].bytes().all(|byte| byte.is_ascii_digit())
}

/// A call's arguments with the numbers of the guest's pages in the place of their names.
fn with_frames(op: &str, args: &Map<String, Value>) -> Result<Map<String, Value>> {
    let mut args = args.clone();
    for name in ["control_gfn", "array_gfn"] {
        if let Some(page) = args.get(name).and_then(Value::as_str) {
            let gfn = frame(page)?;
            set(&mut args, name, format!("{gfn:#x}"));
        }
    }
    if op == "init_control" {
        for name in ["offset", "vcpu"] {
            args.entry(name).or_insert(json!(0));
        }
    }
    Ok(args)
}

fn frame(page: &str) -> Result<u64> {
    let numbered = |first: u64, digits: &str, count: usize| {
        let at: usize = digits.parse().ok()?;
        (at < count).then_some(first + at as u64)
    };
    let gfn = match page {
        "invalid" => Some(INVALID_GFN),
        "the page-table page" => Some(PAGE_TABLE_GFN),
        _ => page
            .strip_prefix("page c")
            .and_then(|digits| numbered(FIRST_CONTROL_GFN, digits, VCPUS))
            .or_else(|| numbered(FIRST_ARRAY_GFN, page.strip_prefix("page a")?, ARRAY_PAGES)),
    };
    gfn.with_context(|| format!("unknown page `{page}`"))
}

pub(super) fn set(out: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    out.insert(name.to_owned(), value.into());
}

pub(super) fn number(args: &Map<String, Value>, name: &str) -> Result<u32> {
    let number = args.get(name).and_then(Value::as_u64).with_context(|| format!("no number `{name}`"))?;
    Ok(u32::try_from(number)?)
}
