// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's memory. A VMM over mmap has the crate `evtchn-vm-memory` for this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use evtchn_abi::Gfn;
use evtchn_engine::{Fault, GuestMemory};
use evtchn_sync::{HeapPage, PAGE_SIZE, Page};

/// Frames of 4096 bytes, from guest-physical address 0 on.
pub struct Memory {
    frames: Vec<Arc<HeapPage>>,
}

impl Memory {
    pub fn new(frames: usize) -> Self {
        Self { frames: (0..frames).map(|_| Arc::default()).collect() }
    }

    /// A frame, to be shared; `None` if there is no such.
    pub fn frame(&self, gfn: Gfn) -> Option<Arc<HeapPage>> {
        self.frames.get(usize::try_from(gfn.0).ok()?).cloned()
    }

    /// Does nobody else hold a frame?
    pub fn is_unshared(&self) -> bool {
        self.frames.iter().all(|frame| Arc::strong_count(frame) == 1)
    }

    fn byte(&self, address: u64) -> Result<&AtomicU8, Fault> {
        let address = usize::try_from(address).map_err(|_| Fault)?;
        let frame = self.frames.get(address / PAGE_SIZE).ok_or(Fault)?;
        frame.u8(address % PAGE_SIZE).ok_or(Fault)
    }

    fn bytes(&self, start: u64, len: usize) -> impl Iterator<Item = Result<&AtomicU8, Fault>> {
        (0..len as u64).map(move |at| self.byte(start.checked_add(at).ok_or(Fault)?))
    }
}

/// Where hypercall arguments are. Our guests pass physical addresses, so nothing is to be translated.
///
/// Byte by byte, as other vCPUs may write to the same memory meanwhile.
impl GuestMemory for &Memory {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        for (from, to) in self.bytes(address, bytes.len()).zip(&mut *bytes) {
            *to = from?.load(Relaxed);
        }
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        for (to, from) in self.bytes(address, bytes.len()).zip(bytes) {
            to?.store(*from, Relaxed);
        }
        Ok(())
    }
}
