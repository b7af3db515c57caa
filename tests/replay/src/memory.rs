// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorder's address space as far as hypercalls see it: two pages, and addresses that no call may use.

use evtchn_engine::{Fault, GuestMemory};

/// The null pointer.
pub(crate) const NULL: u64 = 0;
/// The page that holds argument blocks.
pub(crate) const READ_WRITE: u64 = 0x7f00_0000_0000;
/// A page that can be read only.
pub(crate) const READ_ONLY: u64 = 0x7f00_0010_0000;
/// An address where nothing is mapped.
pub(crate) const UNMAPPED: u64 = 0x7f00_0020_0000;
/// An address inside the hypervisor.
pub(crate) const HYPERVISOR: u64 = 0xffff_8300_0000_0000;

/// Bytes of the argument page that are looked at: more than any block has.
pub(crate) const BLOCK: usize = 1024;
/// What the argument page holds around a block.
const FILLER: u8 = 0xee;
/// The bits of an address that count within a page.
const OFFSET_BITS: u64 = 0xfff;

/// The two pages' bytes.
#[derive(Debug)]
pub(crate) struct Memory {
    read_write: [u8; BLOCK],
    read_only: [u8; BLOCK],
}

impl Memory {
    pub fn new() -> Self {
        Self { read_write: [FILLER; BLOCK], read_only: [FILLER; BLOCK] }
    }

    /// Puts a block at the start of the page at `address`, as the program itself does before the call.
    pub fn place(&mut self, address: u64, block: &[u8]) {
        if let Some(page) = self.page(address) {
            page.fill(FILLER);
            page[..block.len()].copy_from_slice(block);
        }
    }

    /// The page's first `len` bytes, and whether all behind them are as [`Memory::place`] left them.
    pub fn block(&mut self, address: u64, len: usize) -> (Vec<u8>, bool) {
        let Some(page) = self.page(address) else {
            return (Vec::new(), true);
        };
        let (block, behind) = page.split_at(len);
        (block.to_vec(), behind.iter().all(|byte| *byte == FILLER))
    }

    fn page(&mut self, start: u64) -> Option<&mut [u8; BLOCK]> {
        match start {
            READ_WRITE => Some(&mut self.read_write),
            READ_ONLY => Some(&mut self.read_only),
            _ => None,
        }
    }

    /// The bytes at `address`, if they are all mapped.
    fn bytes(&mut self, address: u64, len: usize) -> Result<&mut [u8], Fault> {
        let offset = (address & OFFSET_BITS) as usize;
        let page = self.page(address & !OFFSET_BITS).ok_or(Fault)?;
        page.get_mut(offset..offset + len).ok_or(Fault)
    }
}

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        bytes.copy_from_slice(self.bytes(address, bytes.len())?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if address & !OFFSET_BITS == READ_ONLY {
            return Err(Fault);
        }
        self.bytes(address, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_and_written_where_it_was_placed() {
        let mut memory = Memory::new();
        memory.place(READ_WRITE, &[1, 2, 3, 4]);
        let mut bytes = [0; 2];
        memory.read(READ_WRITE + 2, &mut bytes).unwrap();
        assert_eq!(bytes, [3, 4]);
        memory.write(READ_WRITE + 1, &[9, 9]).unwrap();
        assert_eq!(memory.block(READ_WRITE, 4), (vec![1, 9, 9, 4], true));
    }

    #[test]
    fn a_write_behind_the_block_is_noticed() {
        let mut memory = Memory::new();
        memory.place(READ_WRITE, &[1, 2, 3, 4]);
        memory.write(READ_WRITE + 4, &[0]).unwrap();
        assert!(!memory.block(READ_WRITE, 4).1);
    }

    #[test]
    fn a_read_only_page_cannot_be_written() {
        let mut memory = Memory::new();
        memory.place(READ_ONLY, &[5; 8]);
        assert!(memory.read(READ_ONLY, &mut [0; 8]).is_ok());
        assert!(memory.write(READ_ONLY, &[1]).is_err());
        assert_eq!(memory.block(READ_ONLY, 8), (vec![5; 8], true));
    }

    #[test]
    fn other_addresses_and_overlong_copies_fault() {
        let mut memory = Memory::new();
        for address in [NULL, UNMAPPED, HYPERVISOR, READ_WRITE + BLOCK as u64 - 1, u64::MAX] {
            assert!(memory.read(address, &mut [0; 4]).is_err(), "{address:#x}");
            assert!(memory.write(address, &[0; 4]).is_err(), "{address:#x}");
        }
    }
}
