// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three domains and their hypercalls. Domain 0 is control and hardware domain, 1 and 2 are ordinary guests: four vCPUs,
//! 64-bit, ports up to 1023, 32 PIRQs.
//!
//! A hypercall goes through the raw door and answers a number: the port that it opened or 0, or the negated errno.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, ExpandArray, InitControl,
    Reset, SchedPoll, Send, SetPriority, Status, StatusKind, StatusUnion, Unmask,
};
use evtchn_abi::{CStruct, DomId, Gfn, Hypercall, Layout, Op, Pirq, Port, SchedOp, VcpuId, Virq};
use evtchn_engine::{
    Consumer, DomainConfig, Engine, GuestMemory, Level, OpError, Outcome, TeardownOutcome, Upcall, Width,
};
use evtchn_sync::{HeapPage, Page};

use crate::xen::{Log, Xen};

pub const D0: u16 = 0;
pub const D1: u16 = 1;
pub const D2: u16 = 2;
/// An id without a domain until a case creates it.
pub const D3: u16 = 3;
/// No domain has this id.
pub const NOBODY: u16 = 999;
pub const SELF: u16 = 0x7ff0;

pub const EPERM: i64 = -1;
pub const ENOENT: i64 = -2;
pub const ESRCH: i64 = -3;
pub const ENXIO: i64 = -6;
pub const EAGAIN: i64 = -11;
pub const ENOMEM: i64 = -12;
pub const EACCES: i64 = -13;
pub const EFAULT: i64 = -14;
pub const EBUSY: i64 = -16;
pub const EEXIST: i64 = -17;
pub const EINVAL: i64 = -22;
pub const ENOSPC: i64 = -28;
pub const ENOSYS: i64 = -38;
pub const EOPNOTSUPP: i64 = -95;
/// The hypercall is to be made again, as operation 14. No guest sees this number.
pub const ERESTART: i64 = -85;

pub const TIMER: u32 = 0;
pub const DEBUG: u32 = 1;
pub const CONSOLE: u32 = 2;
pub const DOM_EXC: u32 = 3;
pub const ARGO: u32 = 11;

/// Where no memory is.
pub const NOWHERE: u64 = 1 << 40;

/// A hypercall that answered 0.
pub const DONE: Outcome = Outcome::Done(0);
/// A poll that sleeps without a timeout.
pub const SLEEPS: Outcome = Outcome::Block { deadline: None };

/// What `status` answers: the state with its fields, and the vCPU; or the error.
pub type Answer = Result<(StatusKind, u32), i64>;

pub fn closed() -> Answer {
    Ok((StatusKind::Closed, 0))
}

pub fn unbound(dom: u16, vcpu: u32) -> Answer {
    Ok((StatusKind::Unbound { dom: DomId(dom) }, vcpu))
}

pub fn interdomain(dom: u16, port: u32, vcpu: u32) -> Answer {
    Ok((StatusKind::Interdomain { dom: DomId(dom), port: Port(port) }, vcpu))
}

pub fn virq(number: u32, vcpu: u32) -> Answer {
    Ok((StatusKind::Virq(Virq(number)), vcpu))
}

pub fn pirq(number: u32, vcpu: u32) -> Answer {
    Ok((StatusKind::Pirq(Pirq(number)), vcpu))
}

pub fn ipi(vcpu: u32) -> Answer {
    Ok((StatusKind::Ipi, vcpu))
}

/// The number of something that was opened.
pub fn port(answer: i64) -> u32 {
    u32::try_from(answer).unwrap_or_else(|_| panic!("a port was expected, not {answer}"))
}

pub fn number(result: Result<(), OpError>) -> i64 {
    result.map_or_else(|error| error.errno().negated(), |()| 0)
}

/// The machine.
pub struct World {
    pub engine: Arc<Engine<Xen>>,
    pages: [Arc<HeapPage>; 6],
    narrow: [AtomicBool; 6],
}

impl World {
    /// Answers like the latest Xen.
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// Answers like Xen 4.17.
    pub fn old() -> Self {
        Self::build(Level::Xen4_17, |_| ())
    }

    /// Domain 1 otherwise than usual.
    pub fn with(change: impl FnOnce(&mut DomainConfig)) -> Self {
        Self::build(Level::Current, change)
    }

    /// Domain 1 32-bit.
    pub fn narrow() -> Self {
        Self::with(|one| {
            one.width = Width::Bits32;
            one.max_port = None;
        })
    }

    /// Domain 1 with no limit on ports but the ABI's.
    pub fn unlimited() -> Self {
        Self::with(|one| one.max_port = None)
    }

    fn build(level: Level, change: impl FnOnce(&mut DomainConfig)) -> Self {
        let engine = Arc::new(Engine::with_level(Xen::default(), level));
        engine.hooks().engine.set(Arc::downgrade(&engine)).unwrap();
        let world = Self { engine, pages: Default::default(), narrow: Default::default() };
        let mut one = guest();
        change(&mut one);
        world.create(D0, DomainConfig { nr_pirqs: 32, ..DomainConfig::dom0(4) });
        world.create(D1, one);
        world.create(D2, guest());
        world
    }

    pub fn create(&self, dom: u16, config: DomainConfig) {
        self.narrow[usize::from(dom)].store(config.width == Width::Bits32, SeqCst);
        self.engine.create_domain(DomId(dom), config).unwrap();
        self.engine.set_shared_info(DomId(dom), Some(self.page(dom).clone())).unwrap();
    }

    pub fn destroy(&self, dom: u16) {
        self.engine.destroy_domain(DomId(dom)).unwrap();
    }

    pub fn set_width(&self, dom: u16, width: Width) {
        self.engine.set_width(DomId(dom), width).unwrap();
        self.narrow[usize::from(dom)].store(width == Width::Bits32, SeqCst);
    }

    /// One step of the end of a domain that may give way; is it gone?
    pub fn tear_down(&self, dom: u16) -> Result<bool, OpError> {
        self.engine.tear_down(DomId(dom)).map(|outcome| matches!(outcome, TeardownOutcome::Done(_)))
    }

    /// (ports in use, how many of them Xen consumes)
    pub fn counts(&self, dom: u16) -> (u32, u32) {
        self.engine.ports_in_use(DomId(dom)).unwrap()
    }
}

/// What domains 1 and 2 are.
pub fn guest() -> DomainConfig {
    DomainConfig { nr_pirqs: 32, ..DomainConfig::guest(4) }
}

// Hypercalls.
impl World {
    /// `event_channel_op` with an argument at address 0; the argument as it is afterwards.
    pub fn call<A: CStruct>(&self, caller: u16, op: Op, arg: &mut A) -> i64 {
        let mut bytes = arg.to_bytes();
        let answer = self.raw(caller, op.0, 0, bytes.as_mut());
        *arg = A::from_bytes(bytes);
        answer
    }

    /// `event_channel_op` as it comes.
    pub fn raw<M: GuestMemory + ?Sized>(&self, caller: u16, cmd: u32, arg: u64, memory: &mut M) -> i64 {
        match self.engine.event_channel_op(DomId(caller), cmd, arg, memory) {
            Outcome::Done(answer) => answer,
            Outcome::Again => ERESTART,
            other => panic!("{other:?}"),
        }
    }

    /// `event_channel_op` with a pointer to nowhere.
    pub fn astray(&self, caller: u16, op: Op) -> i64 {
        self.raw(caller, op.0, NOWHERE, &mut [0; 64][..])
    }

    fn opened(answer: i64, port: Port) -> i64 {
        assert!(answer <= 0 && (answer < 0) == (port == Port(0)), "{answer}, port {port}");
        if answer == 0 { port.0.into() } else { answer }
    }

    pub fn au(&self, caller: u16, dom: u16, remote: u16) -> i64 {
        let mut arg = AllocUnbound { dom: DomId(dom), remote_dom: DomId(remote), port: Port(0) };
        Self::opened(self.call(caller, Op::ALLOC_UNBOUND, &mut arg), arg.port)
    }

    pub fn bi(&self, caller: u16, remote: u16, remote_port: u32) -> i64 {
        let (remote_dom, remote_port) = (DomId(remote), Port(remote_port));
        let mut arg = BindInterdomain { remote_dom, remote_port, ..Default::default() };
        Self::opened(self.call(caller, Op::BIND_INTERDOMAIN, &mut arg), arg.local_port)
    }

    pub fn bind_virq(&self, caller: u16, virq: u32, vcpu: u32) -> i64 {
        let mut arg = BindVirq { virq: Virq(virq), vcpu: VcpuId(vcpu), port: Port(0) };
        Self::opened(self.call(caller, Op::BIND_VIRQ, &mut arg), arg.port)
    }

    pub fn bind_ipi(&self, caller: u16, vcpu: u32) -> i64 {
        let mut arg = BindIpi { vcpu: VcpuId(vcpu), port: Port(0) };
        Self::opened(self.call(caller, Op::BIND_IPI, &mut arg), arg.port)
    }

    pub fn bind_pirq(&self, caller: u16, pirq: u32, flags: u32) -> i64 {
        let mut arg = BindPirq { pirq: Pirq(pirq), flags, port: Port(0) };
        Self::opened(self.call(caller, Op::BIND_PIRQ, &mut arg), arg.port)
    }

    pub fn bind_vcpu(&self, caller: u16, port: u32, vcpu: u32) -> i64 {
        self.call(caller, Op::BIND_VCPU, &mut BindVcpu { port: Port(port), vcpu: VcpuId(vcpu) })
    }

    pub fn close(&self, caller: u16, port: u32) -> i64 {
        self.call(caller, Op::CLOSE, &mut Close { port: Port(port) })
    }

    pub fn send(&self, caller: u16, port: u32) -> i64 {
        self.call(caller, Op::SEND, &mut Send { port: Port(port) })
    }

    pub fn unmask(&self, caller: u16, port: u32) -> i64 {
        self.call(caller, Op::UNMASK, &mut Unmask { port: Port(port) })
    }

    pub fn status(&self, caller: u16, dom: u16, port: u32) -> Answer {
        let mut arg =
            Status { dom: DomId(dom), port: Port(port), u: StatusUnion([0; 8]), ..Default::default() };
        match self.call(caller, Op::STATUS, &mut arg) {
            0 => Ok((arg.kind().unwrap(), arg.vcpu.0)),
            error => Err(error),
        }
    }

    pub fn reset(&self, caller: u16, dom: u16) -> i64 {
        self.call(caller, Op::RESET, &mut Reset { dom: DomId(dom) })
    }

    pub fn reset_cont(&self, caller: u16, dom: u16) -> i64 {
        self.call(caller, Op::RESET_CONT, &mut Reset { dom: DomId(dom) })
    }

    pub fn set_priority(&self, caller: u16, port: u32, priority: u32) -> i64 {
        self.call(caller, Op::SET_PRIORITY, &mut SetPriority { port: Port(port), priority })
    }

    /// 17, the width of links, if it succeeds.
    pub fn init_control(&self, caller: u16, vcpu: u32, gfn: u64, offset: u32) -> i64 {
        let (control_gfn, vcpu) = (Gfn(gfn), VcpuId(vcpu));
        let mut arg = InitControl { control_gfn, offset, vcpu, ..Default::default() };
        match self.call(caller, Op::INIT_CONTROL, &mut arg) {
            0 => arg.link_bits.into(),
            error => error,
        }
    }

    pub fn expand_array(&self, caller: u16, gfn: u64) -> i64 {
        self.call(caller, Op::EXPAND_ARRAY, &mut ExpandArray { array_gfn: Gfn(gfn) })
    }

    /// `SCHEDOP_poll` of a 64-bit domain. The array of ports lies at address 64.
    pub fn poll(&self, caller: u16, vcpu: u32, ports: &[u32], timeout: u64) -> Outcome {
        self.poll_more(caller, vcpu, u32::try_from(ports.len()).unwrap(), ports, timeout)
    }

    /// `SCHEDOP_poll` of so many ports, whatever the length of the array.
    pub fn poll_more(&self, caller: u16, vcpu: u32, nr_ports: u32, ports: &[u32], timeout: u64) -> Outcome {
        let arg = SchedPoll { ports: 64, nr_ports, timeout, ..Default::default() };
        let mut memory = vec![0; 64];
        memory[..SchedPoll::SIZE].copy_from_slice(&arg.to_bytes());
        memory.extend(ports.iter().flat_map(|port| port.to_le_bytes()));
        let args = [SchedOp::POLL.0.into(), 0, 0, 0, 0];
        let number = Hypercall::SCHED_OP.0;
        self.engine.hypercall(DomId(caller), VcpuId(vcpu), number, args, &mut memory[..])
    }

    pub fn is_polling(&self, dom: u16, vcpu: u32) -> bool {
        self.engine.is_polling(DomId(dom), VcpuId(vcpu))
    }

    pub fn finish_poll(&self, dom: u16, vcpu: u32) -> bool {
        self.engine.finish_poll(DomId(dom), VcpuId(vcpu))
    }
}

// What Xen and the toolstack do.
impl World {
    /// A channel of domain `dom` that Xen consumes, for the domain `remote`.
    pub fn consumer(&self, creator: u16, dom: u16, vcpu: u32, remote: u16) -> i64 {
        self.consumer_of(creator, dom, vcpu, remote, 1)
    }

    pub fn consumer_of(&self, creator: u16, dom: u16, vcpu: u32, remote: u16, which: u8) -> i64 {
        let consumer = Consumer::new(which).unwrap();
        let made =
            self.engine.alloc_consumer(DomId(creator), DomId(dom), VcpuId(vcpu), DomId(remote), consumer);
        made.map_or_else(|error| error.errno().negated(), |port| port.0.into())
    }

    pub fn notify_consumer(&self, dom: u16, port: u32) -> i64 {
        number(self.engine.notify_consumer(DomId(dom), Port(port)))
    }

    pub fn free_consumer(&self, dom: u16, port: u32) -> i64 {
        number(self.engine.free_consumer(DomId(dom), Port(port)))
    }

    /// Was the VIRQ bound?
    pub fn raise_virq(&self, dom: u16, vcpu: u32, virq: u32) -> bool {
        self.engine.raise_virq(DomId(dom), VcpuId(vcpu), Virq(virq)).unwrap()
    }

    pub fn raise_global(&self, virq: u32) -> bool {
        self.engine.raise_global_virq(Virq(virq)).unwrap()
    }

    pub fn raise_pirq(&self, dom: u16, pirq: u32) -> bool {
        self.engine.raise_pirq(DomId(dom), Pirq(pirq)).unwrap()
    }

    pub fn set_virq_handler(&self, virq: u32, dom: u16) -> i64 {
        number(self.engine.set_virq_handler(Virq(virq), DomId(dom)))
    }

    /// Connects two ports whose numbers are chosen, before the domains run.
    pub fn connect(&self, first: (u16, u32), second: (u16, u32)) -> i64 {
        let [first, second] = [first, second].map(|(dom, port)| (DomId(dom), Port(port)));
        number(self.engine.connect_static(first, second))
    }

    /// `XEN_DOMCTL_soft_reset` by the control domain: a reset, then the registered vcpu_infos go.
    pub fn soft_reset(&self, dom: u16) -> i64 {
        match self.reset(D0, dom) {
            0 => number(self.engine.drop_vcpu_infos(DomId(dom))),
            refused => refused,
        }
    }

    pub fn pause(&self, dom: u16) {
        self.engine.set_paused(DomId(dom), true).unwrap();
    }

    /// What happens where a reset may give way; whether it does.
    pub fn on_preempt(&self, act: impl Fn(&Engine<Xen>) -> bool + std::marker::Send + Sync + 'static) {
        *self.engine.hooks().on_preempt.lock().unwrap() = Some(Arc::new(act));
    }

    /// What happens at an event for a consumer inside Xen.
    pub fn on_callback(&self, act: impl Fn(&Engine<Xen>, u16, u32) + std::marker::Send + Sync + 'static) {
        *self.engine.hooks().on_callback.lock().unwrap() = Some(Arc::new(act));
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.engine.hooks().log.lock().unwrap()
    }

    /// The upcalls since this was last asked: (domain, vCPU).
    pub fn delivered(&self) -> Vec<(u16, u32)> {
        self.upcalls().into_iter().map(|(dom, vcpu, _)| (dom, vcpu)).collect()
    }

    /// The same, with the way in which each was delivered.
    pub fn upcalls(&self) -> Vec<(u16, u32, Upcall)> {
        std::mem::take(&mut self.log().delivered)
    }

    pub fn woken(&self) -> Vec<(u16, u32)> {
        std::mem::take(&mut self.log().woken)
    }

    pub fn callbacks(&self) -> Vec<(u16, u32, u32)> {
        std::mem::take(&mut self.log().callbacks)
    }

    pub fn moved(&self) -> Vec<(u16, u32, u32)> {
        std::mem::take(&mut self.log().moved)
    }

    /// Writes nothing down from now on.
    pub fn quiet(&self) {
        self.engine.hooks().quiet.store(true, SeqCst);
    }

    /// The page at a frame of a domain's memory, which exists from now on.
    pub fn frame(&self, dom: u16, gfn: u64) -> Arc<HeapPage> {
        self.engine.hooks().frames.lock().unwrap().entry((dom, gfn)).or_default().clone()
    }
}

// The shared page.
impl World {
    pub fn page(&self, dom: u16) -> &Arc<HeapPage> {
        &self.pages[usize::from(dom)]
    }

    pub fn layout(&self, dom: u16) -> &'static Layout {
        let narrow = self.narrow[usize::from(dom)].load(SeqCst);
        if narrow { &Layout::X86_32 } else { &Layout::X86_64 }
    }

    fn cell(&self, dom: u16, which: Bit, port: u32, vcpu: u32) -> (usize, u32) {
        let layout = self.layout(dom);
        let info = || layout.vcpu_info(vcpu).unwrap();
        match which {
            Bit::P => (layout.pending, port),
            Bit::M => (layout.mask, port),
            Bit::S => (info() + layout.pending_sel, port / layout.word_bits),
            Bit::U => (info() + layout.upcall_pending, 0),
        }
    }

    pub fn get(&self, dom: u16, which: Bit, port: u32, vcpu: u32) -> bool {
        let (at, bit) = self.cell(dom, which, port, vcpu);
        byte(self.page(dom), at + bit as usize / 8) >> (bit % 8) & 1 == 1
    }

    pub fn set(&self, dom: u16, which: Bit, port: u32, vcpu: u32, on: bool) {
        let (at, bit) = self.cell(dom, which, port, vcpu);
        let (byte, value) = (self.page(dom).u8(at + bit as usize / 8).unwrap(), 1 << (bit % 8));
        if on {
            byte.fetch_or(value, SeqCst)
        } else {
            byte.fetch_and(!value, SeqCst)
        };
    }

    /// The four bits as four letters, a dot for each that is clear: `P.SU`.
    pub fn bits(&self, dom: u16, port: u32, vcpu: u32) -> String {
        let letter = |(which, letter)| if self.get(dom, which, port, vcpu) { letter } else { '.' };
        Bit::ALL.into_iter().map(letter).collect()
    }

    /// Sets and clears them likewise.
    pub fn set_bits(&self, dom: u16, port: u32, vcpu: u32, bits: &str) {
        for ((which, _), letter) in Bit::ALL.into_iter().zip(bits.chars()) {
            self.set(dom, which, port, vcpu, letter != '.');
        }
    }

    pub fn pending(&self, dom: u16, port: u32) -> bool {
        self.get(dom, Bit::P, port, 0)
    }

    pub fn masked(&self, dom: u16, port: u32) -> bool {
        self.get(dom, Bit::M, port, 0)
    }

    pub fn set_mask(&self, dom: u16, port: u32, on: bool) {
        self.set(dom, Bit::M, port, 0, on);
    }

    pub fn set_pending(&self, dom: u16, port: u32, on: bool) {
        self.set(dom, Bit::P, port, 0, on);
    }

    /// Clears all pending bits, selectors and upcalls, and the log.
    pub fn calm(&self) {
        for dom in [D0, D1, D2] {
            let (page, layout) = (self.page(dom), self.layout(dom));
            (layout.pending..layout.mask).for_each(|at| page.u8(at).unwrap().store(0, SeqCst));
            (0..layout.pending).for_each(|at| page.u8(at).unwrap().store(0, SeqCst));
        }
        *self.log() = Log::default();
    }

    /// What a two-level guest's kernel does in an upcall: calls `handle` for each port that it finds.
    pub fn scan(&self, dom: u16, vcpu: u32, handle: impl FnMut(u32)) {
        self.scan_by(dom, self.page(dom), self.layout(dom).vcpu_info(vcpu).unwrap(), handle);
    }

    /// The same on a vCPU whose vcpu_info begins there.
    pub fn scan_by(&self, dom: u16, own: &HeapPage, info: usize, mut handle: impl FnMut(u32)) {
        let (page, layout) = (self.page(dom), self.layout(dom));
        own.u8(info).unwrap().swap(0, SeqCst);
        let mut selector = own.u64(info + layout.pending_sel).unwrap().swap(0, SeqCst);
        while selector != 0 {
            let index = selector.trailing_zeros();
            selector &= selector - 1;
            let word = page.u64(layout.pending_word(index).unwrap()).unwrap();
            let mask = page.u64(layout.mask_word(index).unwrap()).unwrap();
            let mut found = word.load(SeqCst) & !mask.load(SeqCst);
            while found != 0 {
                let bit = found.trailing_zeros();
                found &= found - 1;
                word.fetch_and(!(1 << bit), SeqCst);
                handle(index * 64 + bit);
            }
        }
    }
}

/// One of the four bits of the two-level ABI.
#[derive(Clone, Copy)]
pub enum Bit {
    P,
    M,
    S,
    U,
}

impl Bit {
    pub const ALL: [(Self, char); 4] = [(Self::P, 'P'), (Self::M, 'M'), (Self::S, 'S'), (Self::U, 'U')];
}

pub fn byte(page: &HeapPage, at: usize) -> u8 {
    page.u8(at).unwrap().load(SeqCst)
}

/// A page's bytes as they are now.
pub fn snapshot(page: &HeapPage) -> Vec<u8> {
    (0..4096).map(|at| byte(page, at)).collect()
}

// What cases begin with.
impl World {
    /// Connects a new port of `a` with a new port of `b`; nothing is pending afterwards.
    pub fn pair(&self, a: u16, b: u16) -> (u32, u32) {
        let far = port(self.au(b, SELF, a));
        let near = port(self.bi(a, b, far));
        self.set_pending(a, near, false);
        self.calm();
        (near, far)
    }

    /// Opens ports until there is no room; how many.
    pub fn fill(&self, dom: u16) -> u32 {
        for count in 0.. {
            match self.au(dom, SELF, D0) {
                ENOSPC => return count,
                opened => assert!(opened > 0, "{opened}"),
            }
        }
        unreachable!()
    }

    /// Opens ports up to this number, and returns it.
    pub fn fill_to(&self, dom: u16, last: u32) -> u32 {
        while port(self.bind_ipi(dom, 0)) < last {}
        last
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.engine.validate().unwrap();
        }
    }
}

/// The caller's memory with parts that cannot be written, and how often it was read.
pub struct Ram {
    pub bytes: Vec<u8>,
    pub read_only: bool,
    pub reads: u32,
}

impl Ram {
    pub fn holding<A: CStruct>(arg: &A) -> Self {
        Self { bytes: arg.to_bytes().as_ref().to_vec(), read_only: false, reads: 0 }
    }
}

impl GuestMemory for Ram {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), evtchn_engine::Fault> {
        self.reads += 1;
        GuestMemory::read(&mut self.bytes[..], address, bytes)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), evtchn_engine::Fault> {
        if self.read_only {
            return Err(evtchn_engine::Fault);
        }
        GuestMemory::write(&mut self.bytes[..], address, bytes)
    }
}
