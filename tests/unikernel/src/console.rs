// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console: a ring in a page that the back end reads, and an event channel (Xen's public `io/console.h`).

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

/// The guest's end of the console.
#[derive(Clone, Copy)]
pub struct Console {
    /// Makes its hypercalls.
    pub xen: Xen,
    /// The ring.
    pub page: &'static HeapPage,
    /// The port by which the back end is told.
    pub port: Port,
}

impl Console {
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

    /// Waits until the back end has everything.
    pub fn flush(&self) {
        while self.waiting() != 0 {
            self.tell();
        }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        let _ = self.xen.send(self.port);
        Ok(())
    }
}
