// SPDX-License-Identifier: MIT OR Apache-2.0
//! The VMM's I/O ports for experiments.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

const BOARD: u64 = 0x5e0;
const MARK: u64 = 0x5f0;
const WISH: u64 = 0x5f1;
const STATUS: u64 = 0x5f2;

/// Puts bytes on ports; one exit each.
fn write(port: u64, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open("/dev/port").context("/dev/port")?;
    file.write_all_at(bytes, port).context("/dev/port")
}

fn read(port: u64, bytes: &mut [u8]) -> Result<()> {
    let file = OpenOptions::new().read(true).open("/dev/port").context("/dev/port")?;
    file.read_exact_at(bytes, port).context("/dev/port")
}

/// The VMM notes the moment.
pub fn mark(number: u8) -> Result<()> {
    write(MARK, &[number])
}

/// The status with which this guest is about to end.
pub fn status(status: u8) -> Result<()> {
    write(STATUS, &[status])
}

/// The VMM kills this guest.
pub fn wish_to_be_killed() -> Result<()> {
    write(WISH, &[1])
}

/// The VMM saves the engine's state and restores it.
pub fn wish_for_a_snapshot() -> Result<()> {
    write(WISH, &[2])
}

/// Puts a number on the board, which all guests share: 4 bytes from `at` on.
pub fn put(at: u64, number: u32) -> Result<()> {
    write(BOARD + at, &number.to_le_bytes())
}

/// The number that is on the board.
pub fn get(at: u64) -> Result<u32> {
    let mut bytes = [0; 4];
    read(BOARD + at, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Reads that lead to nothing: by Linux, and by the VMM.
pub struct Nothing {
    zero: File,
    ports: File,
}

impl Nothing {
    pub fn open() -> Result<Self> {
        Ok(Self { zero: File::open("/dev/zero")?, ports: File::open("/dev/port")? })
    }

    /// A system call.
    pub fn by_linux(&self) -> Result<()> {
        Ok(self.zero.read_exact_at(&mut [0], 0)?)
    }

    /// A system call, and an exit to the VMM.
    pub fn by_vmm(&self) -> Result<()> {
        Ok(self.ports.read_exact_at(&mut [0], BOARD + 15)?)
    }
}
