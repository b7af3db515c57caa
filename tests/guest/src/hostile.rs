// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that means harm: any hypercall, with any arguments, and pointers to anywhere.
//!
//! It goes on as long as it can. What it does to itself is its own affair; the other guest must not notice, and the VMM must
//! not fall.

use anyhow::Result;
use evtchn_abi::{Hypercall, Op};

use crate::privcmd::Privcmd;

/// Hypercalls by number: those of event channels more often than others.
const NUMBERS: [u64; 20] = [32, 32, 32, 32, 32, 32, 32, 29, 24, 34, 33, 15, 16, 12, 17, 18, 20, 21, 36, 48];
/// Arguments are read from and written to here, and to nowhere else of this program that it needs.
const BUFFER: usize = 3 * 4096;

struct Random(u64);

impl Random {
    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    /// A number as guests pass them: mostly small, sometimes at an edge, sometimes anything.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next(),
            1 => [0, 1, 0x7ff0, 0x7ff1, u64::MAX, 1 << 31, 1 << 63, 4095, 4096, 131_071, 131_072]
                [self.below(11) as usize],
            2 | 3 => self.below(5000),
            _ => self.below(40),
        }
    }
}

/// Makes `count` hypercalls.
pub fn run(count: u64, seed: u64, all: bool, peer: u16) -> Result<()> {
    let privcmd = Privcmd::open()?;
    let mut random = Random(seed.max(1));
    let mut buffer = vec![0_u8; BUFFER];
    let mut accepted = 0;
    for _ in 0..count {
        for word in buffer[..128].chunks_exact_mut(4) {
            let number = if random.below(6) == 0 { peer.into() } else { random.number() };
            word.copy_from_slice(&(number as u32).to_le_bytes());
        }
        let number =
            if random.below(10) == 0 { random.below(64) } else { NUMBERS[random.below(20) as usize] };
        let command = random.below(if number == 32 { 15 } else { 48 });
        if !all && ends_oneself(number, command) {
            continue;
        }
        let pointer = pointer(&mut random, &buffer);
        let args = match number {
            24 => [command, random.below(4), pointer, random.number(), random.number()],
            18 => [command, random.number(), pointer, 0, 0],
            _ => [command, pointer, random.number(), random.number(), random.number()],
        };
        accepted += u64::from(privcmd.hypercall(Hypercall(number), args).is_ok());
    }
    println!("hostile: {count} hypercalls, {accepted} accepted, still alive");
    Ok(())
}

/// Where an argument is: mostly in the buffer, also across its pages' edges and behind its end; or anywhere.
fn pointer(random: &mut Random, buffer: &[u8]) -> u64 {
    let base = buffer.as_ptr() as u64;
    match random.below(16) {
        0 => random.next(),
        1 => 0xffff_8880_0000_0000 | random.below(1 << 28), // the kernel's map of all memory: its own
        2 => [0, 8, u64::MAX, 1 << 47, 0xffff_8000_0000_0000, 0x7fff_ffff_f000][random.below(6) as usize],
        3 => base + BUFFER as u64 - random.below(64),
        4 => base + 4096 - random.below(32),
        _ => base,
    }
}

/// What a guest does not outlive for reasons that are no concern of the VMM's: its kernel loses its own events, its clock, or its
/// memory, or it is switched off.
fn ends_oneself(number: u64, command: u64) -> bool {
    let op = u32::try_from(command).map(Op).ok();
    match number {
        // Closing, resetting, moving and re-routing the kernel's own ports; pages over its own memory.
        32 => matches!(
            op,
            Some(
                Op::CLOSE | Op::RESET | Op::RESET_CONT | Op::INIT_CONTROL | Op::EXPAND_ARRAY | Op::BIND_VCPU
            )
        ),
        16 | 12 | 34 | 15 => true,
        24 => (5..=13).contains(&command),
        29 => command == 1 || command == 2 || command == 5,
        _ => false,
    }
}
