// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a guest that makes hypercalls.

use std::ops::Range;

use evtchn_abi::{CStruct, Errno};
use evtchn_engine::{Fault, GuestMemory, Outcome};

/// Where arguments are.
pub const AT: u64 = 0x100;
pub const DONE: Outcome = Outcome::Done(0);

pub fn failed(errno: Errno) -> Outcome {
    Outcome::Done(errno.negated())
}

/// 1 KiB of memory, part of which may be read-only; counts its reads.
pub struct Memory {
    pub bytes: Vec<u8>,
    pub read_only: Range<u64>,
    pub reads: u32,
}

impl Memory {
    pub fn new() -> Self {
        Self { bytes: vec![0; 1024], read_only: 0..0, reads: 0 }
    }

    pub fn with<A: CStruct>(arg: &A) -> Self {
        let mut memory = Self::new();
        memory.put(AT, arg);
        memory
    }

    pub fn put<A: CStruct>(&mut self, at: u64, arg: &A) {
        GuestMemory::write(&mut self.bytes[..], at, arg.to_bytes().as_ref()).unwrap();
    }

    pub fn get<A: CStruct>(&mut self, at: u64) -> A {
        let mut bytes = A::ZEROED;
        GuestMemory::read(&mut self.bytes[..], at, bytes.as_mut()).unwrap();
        A::from_bytes(bytes)
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.reads += 1;
        GuestMemory::read(&mut self.bytes[..], address, bytes)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if self.read_only.contains(&address) {
            return Err(Fault);
        }
        GuestMemory::write(&mut self.bytes[..], address, bytes)
    }
}
