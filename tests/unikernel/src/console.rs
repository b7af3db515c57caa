// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console: a ring in a page that the back end reads, and an event channel (Xen's public `io/console.h`); or Xen's own, where there
//! is no back end.

use core::fmt;
use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::Port;
use evtchn_guest::Hypercall;
use evtchn_hypercall::Xen;
use evtchn_sync::{HeapPage, Page};

/// Where the output is, how long its ring, and where the two indices are.
const OUT: usize = 1024;
const OUT_SIZE: u32 = 2048;
const OUT_CONS: usize = 3080;
const OUT_PROD: usize = 3084;

/// `console_io`, and its command to write.
const CONSOLE_IO: u32 = 18;
const CONSOLE_WRITE: u64 = 0;

/// The guest's console.
#[derive(Clone, Copy)]
pub enum Console {
    /// A ring that a back end reads.
    Ring(Ring),
    /// Xen's debug console.
    Debug(Xen),
}

impl Console {
    /// Waits until the back end has everything.
    pub fn flush(&self) {
        if let Self::Ring(ring) = self {
            ring.flush();
        }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self {
            Self::Ring(ring) => ring.write(text),
            Self::Debug(xen) => {
                let address = text.as_ptr().expose_provenance() as u64;
                let args = [CONSOLE_WRITE, text.len() as u64, address, 0, 0];
                // SAFETY: Xen reads the text.
                let _ = unsafe { xen.call(CONSOLE_IO, args) };
            }
        }
        Ok(())
    }
}

/// The guest's end of a ring.
#[derive(Clone, Copy)]
pub struct Ring {
    /// Makes its hypercalls.
    pub xen: Xen,
    /// The ring.
    pub page: &'static HeapPage,
    /// The port by which the back end is told.
    pub port: Port,
}

impl Ring {
    /// How many bytes the back end has not taken yet.
    fn waiting(&self) -> u32 {
        let at = |offset| self.page.u32(offset).map_or(0, |index| index.load(SeqCst));
        at(OUT_PROD).wrapping_sub(at(OUT_CONS))
    }

    fn put(&self, byte: u8) {
        while self.waiting() >= OUT_SIZE {
            self.tell();
        }
        let Some(index) = self.page.u32(OUT_PROD) else { return };
        let prod = index.load(SeqCst);
        if let Some(place) = self.page.u8(OUT + (prod % OUT_SIZE) as usize) {
            place.store(byte, SeqCst);
        }
        index.store(prod.wrapping_add(1), SeqCst);
    }

    fn tell(&self) {
        let _ = self.xen.send(self.port);
        let _ = self.xen.yield_now();
    }

    fn flush(&self) {
        while self.waiting() != 0 {
            self.tell();
        }
    }

    fn write(&self, text: &str) {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        let _ = self.xen.send(self.port);
    }
}
