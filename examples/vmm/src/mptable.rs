// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table by which Linux learns of processors and interrupt lines where there is no ACPI: Intel's MultiProcessor
//! Specification, version 1.4.

use anyhow::Result;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// In the last KiB below 640 KiB, where systems look for it.
pub const ADDRESS: u64 = 0x9_fc00;
const TABLE: u64 = ADDRESS + 16;

const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
const APIC_VERSION: u8 = 0x14;
const ISA_BUS: u8 = 0;
const ISA_LINES: u8 = 16;
const ALL: u8 = 0xff;

/// Writes the table.
pub fn write(memory: &GuestMemoryMmap, vcpus: u8) -> Result<()> {
    memory.write_slice(&with_checksum(pointer(), 10), GuestAddress(ADDRESS))?;
    memory.write_slice(&with_checksum(table(vcpus), 7), GuestAddress(TABLE))?;
    Ok(())
}

/// The floating pointer.
fn pointer() -> Vec<u8> {
    let mut bytes = b"_MP_".to_vec();
    bytes.extend((TABLE as u32).to_le_bytes());
    bytes.extend([1, 4]); // in units of 16 bytes; version 1.4
    bytes.resize(16, 0);
    bytes
}

fn table(vcpus: u8) -> Vec<u8> {
    let io_apic = vcpus;
    let entries: Vec<Vec<u8>> = (0..vcpus)
        .map(processor)
        .chain([bus(), self::io_apic(io_apic)])
        .chain((0..ISA_LINES).map(|line| interrupt(3, 0, ISA_BUS, line, io_apic, line)))
        .chain([interrupt(4, 3, ISA_BUS, 0, 0, 0), interrupt(4, 1, ISA_BUS, 0, ALL, 1)]) // ExtINT, NMI
        .collect();
    let mut bytes = b"PCMP".to_vec();
    let length = 44 + entries.iter().map(Vec::len).sum::<usize>();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend([4, 0]); // version 1.4, checksum
    bytes.extend(b"EVTCHN  EVTCHN VMM  ");
    bytes.extend([0; 6]); // no OEM table
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend(LOCAL_APIC.to_le_bytes());
    bytes.extend([0; 4]); // no extended table
    bytes.extend(entries.concat());
    bytes
}

fn processor(id: u8) -> Vec<u8> {
    let enabled = 1 | u8::from(id == 0) << 1; // and the first one boots
    let mut bytes = vec![0, id, APIC_VERSION, enabled];
    bytes.extend(0x600_u32.to_le_bytes()); // family 6
    bytes.extend(0x201_u32.to_le_bytes()); // an FPU, an APIC
    bytes.extend([0; 8]);
    bytes
}

fn bus() -> Vec<u8> {
    [&[1, ISA_BUS][..], b"ISA   "].concat()
}

fn io_apic(id: u8) -> Vec<u8> {
    [&[2, id, APIC_VERSION, 1][..], &IO_APIC.to_le_bytes()].concat()
}

/// An interrupt of an I/O APIC (3) or of local APICs (4), with polarity and trigger of its bus.
fn interrupt(entry: u8, kind: u8, bus: u8, line: u8, apic: u8, pin: u8) -> Vec<u8> {
    vec![entry, kind, 0, 0, bus, line, apic, pin]
}

/// Sets the byte that makes the sum of all 0.
fn with_checksum(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[at] = sum.wrapping_neg();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_zero_and_the_table_has_its_length() {
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum(&with_checksum(pointer(), 10)), 0);
        let table = with_checksum(table(8), 7);
        assert_eq!(sum(&table), 0);
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        assert!(TABLE as usize + table.len() <= 0xa_0000);
    }
}
