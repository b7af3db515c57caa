// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with two vCPUs exchanges a million events with itself. Nothing is booted: each vCPU is a thread, and the
//! hypervisor is `evtchn-engine` in the same process.
//!
//! ```sh
//! cargo run --release -p evtchn-guest --example two_vcpus            # FIFO
//! cargo run --release -p evtchn-guest --example two_vcpus two-level
//! ```
//!
//! Between the vCPUs there are some pairs of IPIs. The handler of each sends its twin back to the other vCPU, so that an
//! event goes to and fro on each pair, and the end of one is the beginning of the next: if a single event were lost, its pair would
//! stop, and the count would not be reached.

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use evtchn_abi::{DomId, Errno, Gfn, Layout, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
use evtchn_guest::{
    Answer, Auto, ChannelId, Event, Events, FifoVcpu, Frame, Frames, InProcess, Settings, Table,
    TwoLevelVcpu, WithClock,
};
use evtchn_sync::HeapPage;

const GUEST: DomId = DomId(1);
const VCPUS: [VcpuId; 2] = [VcpuId(0), VcpuId(1)];
/// How many events are on their way at a time.
const PAIRS: usize = 8;
const EVENTS_PER_PAIR: u64 = 125_000;
const ALL_EVENTS: u64 = EVENTS_PER_PAIR * PAIRS as u64;

/// The guest's memory: `shared_info`, a page of control blocks, a page of the event array.
static PAGES: [HeapPage; 3] = [const { HeapPage::new() }; 3];

type Pages = Frames<&'static HeapPage, &'static [Frame<&'static HeapPage>]>;
static MEMORY: Pages = Frames {
    layout: &Layout::X86_64,
    shared_info: &PAGES[0],
    vcpu_infos: &[],
    control_blocks: &[Frame { page: &PAGES[1], gfn: Gfn(1) }],
    event_array: &[Frame { page: &PAGES[2], gfn: Gfn(2) }],
};

// ---- The machine under the guest. ------------------------------------------------------------------------------------

/// The VMM: it knows the guest's memory and interrupts its vCPUs by waking their threads.
struct Vmm {
    threads: [OnceLock<Thread>; VCPUS.len()],
}

impl Hooks for Vmm {
    type Page = &'static HeapPage;

    fn deliver(&self, _: DomId, vcpu: VcpuId, _: Upcall) {
        if let Some(thread) = self.threads[vcpu.0 as usize].get() {
            thread.unpark();
        }
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<&'static HeapPage> {
        PAGES.get(usize::try_from(gfn.0).ok()?)
    }
}

static ENGINE: LazyLock<Engine<Vmm>> = LazyLock::new(|| Engine::new(Vmm { threads: Default::default() }));

// ---- The guest's kernel. ---------------------------------------------------------------------------------------------

type Machine = WithClock<InProcess<&'static Engine<Vmm>>, fn() -> u64, fn(VcpuId, u64)>;

fn machine() -> Machine {
    // Only channels of the flow "late" are delayed: there are none.
    WithClock::new(InProcess::new(&ENGINE, GUEST, VcpuId(0)), now, |_, _| {})
}

fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

type Handler = Box<dyn FnMut(&Event<'_>) -> Answer + Send>;
type Abi = Auto<&'static Pages, [TwoLevelVcpu; 2], [FifoVcpu; 2]>;
type Guest = Events<Abi, Machine, Table<Handler, { 2 * PAIRS }, 64, 2>>;

/// The two ends of a pair, and how many events it has seen.
#[derive(Default)]
struct Pair {
    channels: [OnceLock<ChannelId>; 2],
    events: AtomicU64,
}

impl Pair {
    /// An event has come to the channel of one vCPU: the other's is next.
    fn bounce(&self, guest: &Guest, from: usize) -> Answer {
        if self.events.fetch_add(1, Relaxed) + 1 < EVENTS_PER_PAIR {
            let other = self.channels[1 - from].get().expect("both ends are bound before the first event");
            guest.notify(*other).expect("an IPI can be sent");
        }
        Answer::Done
    }
}

fn boot(two_level: bool) -> Result<Arc<Guest>, Errno> {
    let abi = Auto::new(&MEMORY, Default::default(), Default::default());
    if two_level {
        abi.use_two_level();
    }
    let guest = Arc::new(Events::new(abi, machine(), Table::new()));
    guest.start();
    VCPUS.into_iter().try_for_each(|vcpu| guest.online(vcpu))?;
    Ok(guest)
}

/// Binds an IPI for each vCPU.
fn bind(guest: &Arc<Guest>, pair: &Arc<Pair>) -> Result<(), Errno> {
    for (end, vcpu) in VCPUS.into_iter().enumerate() {
        let (weak, theirs) = (Arc::downgrade(guest), Arc::clone(pair));
        let handler = Box::new(move |_: &Event<'_>| {
            weak.upgrade().map_or(Answer::Done, |guest| theirs.bounce(&guest, end))
        });
        let channel = guest.bind_ipi(Settings::on(vcpu), handler)?;
        pair.channels[end].get_or_init(|| channel);
    }
    Ok(())
}

/// A vCPU: sleeps until it is interrupted, and takes its upcall.
fn run_vcpu(guest: &Guest, vcpu: VcpuId, running: &AtomicBool) {
    ENGINE.hooks().threads[vcpu.0 as usize].get_or_init(thread::current);
    while running.load(Relaxed) {
        let _ = guest.upcall(vcpu);
        // Returns at once if it was unparked meanwhile: no wake-up is lost.
        thread::park();
    }
}

fn main() -> ExitCode {
    let two_level = match env::args().nth(1).as_deref() {
        None | Some("fifo") => false,
        Some("two-level") => true,
        Some(other) => {
            eprintln!("two_vcpus: '{other}' is no ABI: say fifo or two-level");
            return ExitCode::from(2);
        }
    };
    ENGINE.create_domain(GUEST, DomainConfig::guest(2)).expect("the domain is the first");
    ENGINE.set_shared_info(GUEST, Some(&PAGES[0])).expect("the domain exists");
    let guest = boot(two_level).expect("the guest boots");
    let pairs: Vec<_> = (0..PAIRS).map(|_| Arc::new(Pair::default())).collect();
    pairs.iter().try_for_each(|pair| bind(&guest, pair)).expect("there is room for all");

    let running = AtomicBool::new(true);
    let start = Instant::now();
    let arrived = || pairs.iter().map(|pair| pair.events.load(Relaxed)).sum::<u64>();
    thread::scope(|scope| {
        for vcpu in VCPUS {
            let (guest, running) = (&guest, &running);
            scope.spawn(move || run_vcpu(guest, vcpu, running));
        }
        for channel in pairs.iter().filter_map(|pair| pair.channels[0].get()) {
            guest.notify(*channel).expect("an IPI can be sent");
        }
        while arrived() < ALL_EVENTS && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
        running.store(false, Relaxed);
        ENGINE.hooks().threads.iter().filter_map(OnceLock::get).for_each(Thread::unpark);
    });
    let (arrived, time) = (arrived(), start.elapsed());
    let abi = guest.abi().choice();
    println!(
        "{arrived} of {ALL_EVENTS} events in {time:.2?}, {:.0} ns each ({abi:?})",
        time.as_nanos() as f64 / arrived as f64
    );
    if arrived == ALL_EVENTS { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
