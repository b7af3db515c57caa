// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's events: the two ABIs as one, and what has come.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use evtchn_abi::{Errno, Gfn, Layout, Port, VcpuId};
use evtchn_guest::{Abi, Fifo, FifoVcpu, Frame, Hypercall, Memory, Place, TwoLevel, TwoLevelVcpu};
use evtchn_sync::HeapPage;

use crate::machine::{Machine, SHARED_INFO};
use crate::{apic, clock};

/// The only vCPU.
pub const V0: VcpuId = VcpuId(0);

/// How many ports the program uses at most.
const PORTS: usize = 64;

static CONTROL: HeapPage = HeapPage::new();
static ARRAY: HeapPage = HeapPage::new();

/// The pages that the program shares with Xen.
struct Pages {
    control: Gfn,
    array: Gfn,
}

impl Pages {
    fn of(machine: &Machine) -> Self {
        Self { control: machine.gfn(&CONTROL), array: machine.gfn(&ARRAY) }
    }
}

impl Memory for Pages {
    type Page = HeapPage;

    fn layout(&self) -> &'static Layout {
        &Layout::X86_64
    }

    fn shared_info(&self) -> &HeapPage {
        &SHARED_INFO
    }

    fn control_block(&self, vcpu: VcpuId) -> Option<Place<'_, HeapPage>> {
        (vcpu == V0).then_some(Place { page: &CONTROL, gfn: self.control, offset: 0 })
    }

    fn array_page(&self, index: usize) -> Option<Frame<&HeapPage>> {
        (index == 0).then_some(Frame { page: &ARRAY, gfn: self.array })
    }
}

/// Either ABI. Not `evtchn_guest::Auto`, which stays with what it has found: this program tries both.
#[allow(clippy::large_enum_variant)] // there is one
enum Either {
    TwoLevel(TwoLevel<Pages, [TwoLevelVcpu; 1]>),
    Fifo(Fifo<Pages, [FifoVcpu; 1]>),
}

/// Calls the same of whichever it is.
macro_rules! either {
    ($guest:ident => $call:expr) => {
        match $guest {
            Either::TwoLevel($guest) => $call,
            Either::Fifo($guest) => $call,
        }
    };
}

struct Global(UnsafeCell<Option<Either>>);

// SAFETY: written by the only vCPU, while upcalls are kept out.
unsafe impl Sync for Global {}

static ABI: Global = Global(UnsafeCell::new(None));

fn abi() -> Option<&'static Either> {
    // SAFETY: only replaced by `switch`, while nobody has a reference.
    unsafe { (*ABI.0.get()).as_ref() }
}

/// Called with upcalls kept out.
fn switch(abi: Either) {
    // SAFETY: upcalls are kept out, and nobody else keeps a reference over this.
    unsafe { *ABI.0.get() = Some(abi) };
}

/// What has come: how often at each port, and in which order lately.
static COUNTS: [AtomicU32; PORTS] = [const { AtomicU32::new(0) }; PORTS];
static ORDER: [AtomicU32; 8] = [const { AtomicU32::new(0) }; 8];
static SEEN: AtomicU32 = AtomicU32::new(0);
static UPCALLS: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);

/// Called by the entries for upcalls.
#[unsafe(no_mangle)]
extern "C" fn on_upcall() {
    apic::acknowledge();
    UPCALLS.fetch_add(1, SeqCst);
    if let Some(guest) = abi() {
        either!(guest => guest.upcall(V0, note));
    }
}

fn note(port: Port) {
    if let Some(count) = COUNTS.get(port.0 as usize) {
        count.fetch_add(1, SeqCst);
    }
    let seen = SEEN.fetch_add(1, SeqCst) as usize;
    if let Some(place) = ORDER.get(seen % ORDER.len()) {
        place.store(port.0, SeqCst);
    }
    LAST.store(clock::now(&SHARED_INFO), SeqCst);
}

/// How many events have come at a port.
pub fn count(port: Port) -> u32 {
    COUNTS.get(port.0 as usize).map_or(0, |count| count.load(SeqCst))
}

/// How many upcalls there were.
pub fn upcalls() -> u32 {
    UPCALLS.load(SeqCst)
}

/// When the last event came.
pub fn last() -> u64 {
    LAST.load(SeqCst)
}

/// The ports of the last `N` events, in the order in which they came.
pub fn latest<const N: usize>() -> [Port; N] {
    let end = SEEN.load(SeqCst) as usize;
    core::array::from_fn(|index| Port(ORDER[(end + index).wrapping_sub(N) % ORDER.len()].load(SeqCst)))
}

/// Begins with the two-level ABI, all ports masked.
pub fn begin_two_level(machine: &Machine) -> Result<(), Errno> {
    let guest = TwoLevel::new(Pages::of(machine), [TwoLevelVcpu::new()]);
    guest.start();
    guest.online(V0, &machine.xen)?;
    switch(Either::TwoLevel(guest));
    Ok(())
}

/// Changes to the FIFO ABI.
pub fn begin_fifo(machine: &Machine) -> Result<(), Errno> {
    let guest = Fifo::new(Pages::of(machine), [FifoVcpu::new()]);
    guest.online(V0, &machine.xen)?;
    guest.cover(Port(PORTS as u32 - 1), &machine.xen)?;
    switch(Either::Fifo(guest));
    Ok(())
}

/// Begins to listen to a port: what is pending is forgotten.
pub fn listen(machine: &Machine, port: Port) -> Result<(), Errno> {
    if let Some(guest) = abi() {
        either!(guest => guest.bind(port, V0));
        either!(guest => guest.clear_pending(port));
    }
    unmask(machine, port)
}

/// Masks a port.
pub fn mask(port: Port) {
    if let Some(guest) = abi() {
        either!(guest => guest.mask(port));
    }
}

/// Unmasks a port. What the guest announces to itself comes when upcalls are let in.
pub fn unmask(machine: &Machine, port: Port) -> Result<(), Errno> {
    match abi() {
        Some(Either::TwoLevel(guest)) if machine.announces_itself() => {
            guest.unmask_here(port, V0);
            Ok(())
        }
        Some(guest) => either!(guest => guest.unmask(port, &machine.xen)),
        None => machine.xen.unmask(port),
    }
}

/// Is an event pending at a port?
pub fn is_pending(port: Port) -> bool {
    abi().is_some_and(|guest| either!(guest => guest.is_pending(port)))
}
