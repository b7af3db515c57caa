// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypercall page for machines whose KVM has no Xen support: each hypercall is a write to an I/O port.
//!
//! The VMM asks for the guest's writes to [`HYPERCALL_MSR`](crate::HYPERCALL_MSR) (`KVM_CAP_X86_USER_SPACE_MSR`), puts this page where the
//! guest wants it, and takes a write to the port for a hypercall ([`Hypercall::of_port`](crate::Hypercall::of_port)); the result goes
//! into rax and nowhere else, so that it does not matter where rip points.
//!
//! Current Linux has no such page: it executes `vmcall` or `vmmcall`, which without Xen support are KVM's own. So this is for
//! guests that use the page, as Xen's interface has it, such as small kernels of one's own.

use evtchn_sync::PAGE_SIZE;

/// How many hypercalls a page has room for.
pub const ENTRIES: usize = 64;
/// Bytes of an entry.
const ENTRY: usize = 32;
/// `__HYPERVISOR_iret`, which guests of this kind do not have: the entry stops them.
const IRET: usize = 23;

/// The page. Each entry is `mov eax, number; out port, eax; ret`, which works in all modes and changes no other register.
#[must_use]
pub fn port_page(port: u8) -> [u8; PAGE_SIZE] {
    let mut page = [0xcc; PAGE_SIZE]; // int3: nothing is executed between the entries
    for (number, entry) in page.chunks_exact_mut(ENTRY).take(ENTRIES).enumerate() {
        #[allow(clippy::cast_possible_truncation)] // below 64
        let number8 = number as u8;
        let code: &[u8] = match number {
            IRET => &[0x0f, 0x0b],                            // ud2
            _ => &[0xb8, number8, 0, 0, 0, 0xe7, port, 0xc3], // mov eax, imm32; out imm8, eax; ret
        };
        entry[..code.len()].copy_from_slice(code);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_puts_its_number_into_eax_writes_to_the_port_and_returns() {
        let page = port_page(0xe4);
        assert_eq!(page[32 * 32..][..9], [0xb8, 32, 0, 0, 0, 0xe7, 0xe4, 0xc3, 0xcc]);
        assert_eq!(page[63 * 32..][..8], [0xb8, 63, 0, 0, 0, 0xe7, 0xe4, 0xc3]);
    }

    #[test]
    fn what_is_not_an_entry_stops_the_guest() {
        let page = port_page(0xe4);
        assert_eq!(page[23 * 32..][..2], [0x0f, 0x0b]);
        assert!(page[ENTRIES * ENTRY..].iter().all(|&byte| byte == 0xcc));
    }
}
