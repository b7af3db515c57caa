// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is behind the guest's I/O ports: a serial line, a way to switch off, and a few ports for experiments.
//!
//! | port | |
//! |---|---|
//! | 0x3f8 to 0x3ff | a 16550A, IRQ 4: the console |
//! | 0x64 | a keyboard controller's only use: to reset the machine |
//! | 0x5e0 to 0x5ef | the *board*: 16 bytes that all guests share, where they tell each other their ports, as xenstore would |
//! | 0x5f0 | a *mark*: the report has the moment in which the guest wrote a byte here |
//! | 0x5f1 | a [`Wish`] |
//! | 0x5f2 | the status with which the guest ends, as a process has one |

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::SeqCst;

use kvm_ioctls::VmFd;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

const SERIAL: u16 = 0x3f8;
const SERIAL_IRQ: u32 = 4;
const KEYBOARD: u16 = 0x64;
const RESET: u8 = 0xfe;
const BOARD: u16 = 0x5e0;
const MARK: u16 = 0x5f0;
const WISH: u16 = 0x5f1;
const STATUS: u16 = 0x5f2;

/// The board.
pub type Board = Arc<[AtomicU8; 16]>;

/// What a guest may ask the VMM for, by a byte at port 0x5f1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// 1: kill me, as if my VMM had died.
    Kill,
    /// 2: stop all guests, save the engine's state, destroy its domains, restore them, and go on.
    Snapshot,
}

/// What a write to a port leads to, beyond the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// The machine is reset, which ends it.
    Reset,
    Mark(u8),
    Wish(Wish),
    Status(u8),
}

/// A guest's devices.
pub struct Devices {
    serial: Serial<Line, NoEvents, Console>,
    board: Board,
}

impl Devices {
    pub fn new(vm: Arc<VmFd>, board: Board, console: Console) -> Self {
        Self { serial: Serial::new(Line(vm), console), board }
    }

    pub fn write(&mut self, port: u16, data: &[u8]) -> Effect {
        let Some(&value) = data.first() else { return Effect::Nothing };
        match port {
            // Only output that cannot be written is an error, and nobody would see it.
            SERIAL..=0x3ff => drop(self.serial.write((port - SERIAL) as u8, value)),
            KEYBOARD if value == RESET => return Effect::Reset,
            BOARD..=0x5ef => self.board[usize::from(port - BOARD)].store(value, SeqCst),
            MARK => return Effect::Mark(value),
            STATUS => return Effect::Status(value),
            WISH if value == 1 => return Effect::Wish(Wish::Kill),
            WISH if value == 2 => return Effect::Wish(Wish::Snapshot),
            _ => {}
        }
        Effect::Nothing
    }

    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        data.fill(0xff); // nobody there
        let Some(value) = data.first_mut() else { return };
        match port {
            SERIAL..=0x3ff => *value = self.serial.read((port - SERIAL) as u8),
            BOARD..=0x5ef => *value = self.board[usize::from(port - BOARD)].load(SeqCst),
            // The parity port, the clock's register and the keyboard's status: Linux waits for bits to be 0.
            0x61 | 0x71 | KEYBOARD => data.fill(0),
            _ => {}
        }
    }
}

/// The serial line's interrupt: an edge.
struct Line(Arc<VmFd>);

impl Trigger for Line {
    type E = kvm_ioctls::Error;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.set_irq_line(SERIAL_IRQ, true)?;
        self.0.set_irq_line(SERIAL_IRQ, false)
    }
}

/// stdout, a line at a time, so that guests do not interrupt each other.
pub struct Console {
    prefix: String,
    line: Vec<u8>,
}

impl Console {
    /// With what is printed before each line.
    pub fn new(prefix: String) -> Self {
        Self { prefix, line: Vec::new() }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' || self.line.len() >= 4096 {
                // Gone, whether or not it can be written: it does not grow.
                let line = std::mem::take(&mut self.line);
                let mut stdout = io::stdout().lock();
                stdout.write_all(self.prefix.as_bytes())?;
                stdout.write_all(&line)?;
                stdout.flush()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
