// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's events: the two ABIs as one, and what has come.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use evtchn_abi::{Errno, Layout, Port, VcpuId};
use evtchn_guest::{Fifo, FifoVcpu, Hypercall, TwoLevel, Vcpu};
use evtchn_sync::HeapPage;

use crate::clock;
use crate::machine::{Machine, SHARED_INFO};

/// The only vCPU.
pub const V0: VcpuId = VcpuId(0);

/// How many ports the program uses at most.
const PORTS: usize = 64;

static CONTROL: HeapPage = HeapPage::new();
static ARRAY: HeapPage = HeapPage::new();

/// Either ABI.
#[allow(clippy::large_enum_variant)] // there is one
enum Abi {
    TwoLevel(TwoLevel<&'static HeapPage, [Vcpu; 1]>),
    Fifo(Fifo<&'static HeapPage, [FifoVcpu<&'static HeapPage>; 1], [&'static HeapPage; 1]>),
}

struct Global(UnsafeCell<Option<Abi>>);

// SAFETY: written by the only vCPU, while upcalls are kept out.
unsafe impl Sync for Global {}

static ABI: Global = Global(UnsafeCell::new(None));

fn abi() -> Option<&'static Abi> {
    // SAFETY: only replaced by `switch`, while nobody has a reference.
    unsafe { (*ABI.0.get()).as_ref() }
}

/// Called with upcalls kept out.
fn switch(abi: Abi) {
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
    UPCALLS.fetch_add(1, SeqCst);
    match abi() {
        Some(Abi::TwoLevel(guest)) => drop(guest.upcall(V0, note)),
        Some(Abi::Fifo(guest)) => drop(guest.upcall(V0, note)),
        None => {}
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
pub fn begin_two_level(machine: &Machine) {
    let guest = TwoLevel::new(&SHARED_INFO, &Layout::X86_64, machine.self_notify(), [Vcpu::new()]);
    guest.mask_all();
    switch(Abi::TwoLevel(guest));
}

/// Changes to the FIFO ABI.
pub fn begin_fifo(machine: &Machine) -> Result<(), Errno> {
    let guest = Fifo::new(&SHARED_INFO, &Layout::X86_64, [FifoVcpu::new(&CONTROL, 0)], [&ARRAY]);
    guest.init_vcpu(V0, machine.gfn(&CONTROL), &machine.xen)?;
    guest.cover(Port(PORTS as u32 - 1), |_| machine.gfn(&ARRAY), &machine.xen)?;
    switch(Abi::Fifo(guest));
    Ok(())
}

/// Begins to listen to a port: what is pending is forgotten.
pub fn listen(machine: &Machine, port: Port) -> Result<(), Errno> {
    match abi() {
        Some(Abi::TwoLevel(guest)) => {
            guest.bind_to_vcpu(port, V0);
            guest.clear_pending(port);
        }
        Some(Abi::Fifo(guest)) => drop(guest.clear_pending(port)),
        None => {}
    }
    unmask(machine, port)
}

/// Masks a port.
pub fn mask(port: Port) {
    match abi() {
        Some(Abi::TwoLevel(guest)) => drop(guest.mask(port)),
        Some(Abi::Fifo(guest)) => drop(guest.mask(port)),
        None => {}
    }
}

/// Unmasks a port. Where the guest is to announce an event itself, Xen is asked for an upcall when they are let in.
pub fn unmask(machine: &Machine, port: Port) -> Result<(), Errno> {
    match abi() {
        Some(Abi::TwoLevel(guest)) => guest.unmask(port, V0, &machine.xen).map(drop),
        Some(Abi::Fifo(guest)) => guest.unmask(port, &machine.xen),
        None => machine.xen.unmask(port),
    }
}

/// Is an event pending at a port?
pub fn is_pending(port: Port) -> bool {
    match abi() {
        Some(Abi::TwoLevel(guest)) => guest.is_pending(port),
        Some(Abi::Fifo(guest)) => guest.is_pending(port),
        None => false,
    }
}
