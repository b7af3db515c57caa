// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the addresses that a guest passes to hypercalls to those of its memory: a walk through its page tables, as the
//! processor does it, without asking KVM.
//!
//! Xen reads and writes arguments as the guest's kernel would: what the kernel may not write, a hypercall may not
//! either, if CR0.WP says so; pages of user space are allowed, as Linux's privcmd passes pointers of programs. Reserved bits are
//! not checked. Each table that is named is looked up in the guest's memory, so a hostile one leads to a fault or to
//! memory of the same guest.

use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::Gfn;
use evtchn_sync::{PAGE_SIZE, Page};
use evtchn_vm_memory::{GuestPage, Translate, pin};
use kvm_bindings::kvm_sregs;
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryMmap, Permissions};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// The processor sets two bits of an entry. Who takes them away meanwhile, again and again, is the guest.
const MARKS: u32 = 4;
/// The address in an entry of 64 bits.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;

/// The registers of a vCPU that decide how it translates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// CR0: is there paging, and does write protection bind the kernel?
    pub cr0: u64,
    /// CR3: the root table.
    pub cr3: u64,
    /// CR4: the kind of tables.
    pub cr4: u64,
    /// EFER: is the vCPU in long mode?
    pub efer: u64,
}

impl From<&kvm_sregs> for Paging {
    fn from(registers: &kvm_sregs) -> Self {
        let kvm_sregs { cr0, cr3, cr4, efer, .. } = *registers;
        Self { cr0, cr3, cr4, efer }
    }
}

/// The tables that a mode has: what its walk looks like.
struct Mode {
    /// Bits of the address that the root's index begins at.
    top: u32,
    /// How many bits of the address choose an entry; but for the root of PAE, which has four entries.
    index_bits: u32,
    entry_size: usize,
    root: u64,
    /// At which positions in the address an entry may be a page itself.
    large: fn(u32) -> bool,
}

impl Paging {
    fn is_long(&self) -> bool {
        self.efer & EFER_LMA != 0
    }

    fn mode(&self) -> Mode {
        if self.is_long() {
            let top = if self.cr4 & CR4_LA57 != 0 { 48 } else { 39 };
            return Mode {
                top,
                index_bits: 9,
                entry_size: 8,
                root: self.cr3 & ADDRESS,
                large: |at| at == 21 || at == 30,
            };
        }
        if self.cr4 & CR4_PAE != 0 {
            let root = self.cr3 & 0xffff_ffe0;
            return Mode { top: 30, index_bits: 9, entry_size: 8, root, large: |at| at == 21 };
        }
        let large = if self.cr4 & CR4_PSE != 0 { |at| at == 22 } else { |_| false };
        Mode { top: 22, index_bits: 10, entry_size: 4, root: self.cr3 & 0xffff_f000, large }
    }

    /// Is the address one that this mode has?
    fn exists(&self, address: u64) -> bool {
        if !self.is_long() {
            return u32::try_from(address).is_ok();
        }
        let unused = if self.cr4 & CR4_LA57 != 0 { 7 } else { 16 };
        (address << unused).cast_signed() >> unused == address.cast_signed()
    }

    /// The guest-physical address of the byte at `address`, for what lies in the same page.
    ///
    /// The entries on the way are marked as accessed, the last one as dirty for a write.
    ///
    /// `None` if the guest's kernel could not do this access, or a table is not in the guest's memory.
    #[must_use]
    pub fn walk<B: Bitmap + Send + Sync>(
        &self,
        memory: &GuestMemoryMmap<B>,
        address: u64,
        access: Permissions,
    ) -> Option<GuestAddress> {
        if !self.exists(address) {
            return None;
        }
        if self.cr0 & CR0_PG == 0 {
            return Some(GuestAddress(address));
        }
        let writes = access.has_write();
        let protected = writes && self.cr0 & CR0_WP != 0;
        let mode = self.mode();
        let (mut table, mut at) = (mode.root, mode.top);
        loop {
            let index = (address >> at) & ((1 << mode.index_bits) - 1);
            // The root of PAE lies at 32 bytes, not at a page, and its entries have no permissions.
            let pae_root = mode.entry_size == 8 && !self.is_long() && at == 30;
            let entry = Entry::read(memory, table + index * mode.entry_size as u64, mode.entry_size)?;
            let value = entry.value;
            if value & PRESENT == 0 || protected && !pae_root && value & WRITABLE == 0 {
                return None;
            }
            let is_page = at == 12 || value & LARGE != 0 && (mode.large)(at);
            if is_page {
                entry.mark(if writes { ACCESSED | DIRTY } else { ACCESSED });
                let inside = address & ((1 << at) - 1);
                return Some(GuestAddress(frame(value, at, mode.entry_size) | inside));
            }
            if !pae_root {
                entry.mark(ACCESSED);
            }
            table = value & ADDRESS;
            at -= mode.index_bits;
        }
    }
}

/// The address of the page, of `1 << at` bytes, that an entry names.
fn frame(entry: u64, at: u32, entry_size: usize) -> u64 {
    let in_page = (1 << at) - 1;
    if entry_size == 4 && at == 22 {
        // Pages of 4 MiB have the bits 32 to 39 of their address at 13.
        return (entry & 0xffc0_0000) | ((entry >> 13) & 0xff) << 32;
    }
    entry & ADDRESS & !in_page
}

/// An entry of a table, as it was when it was read.
struct Entry<B> {
    page: GuestPage<B>,
    offset: usize,
    size: usize,
    value: u64,
}

impl<B: Bitmap + Send + Sync> Entry<B> {
    fn read(memory: &GuestMemoryMmap<B>, address: u64, size: usize) -> Option<Self> {
        let page = pin(memory, Gfn(address / PAGE_SIZE as u64))?;
        let offset = usize::try_from(address % PAGE_SIZE as u64).ok()?;
        let entry = Self { page, offset, size, value: 0 };
        Some(Self { value: entry.load()?, ..entry })
    }

    /// Sets bits, unless the guest has changed the entry meanwhile: then they belong to what is no more. The processor may have
    /// set such bits meanwhile, on behalf of another vCPU.
    fn mark(&self, bits: u64) {
        if self.value & bits == bits {
            return;
        }
        for _ in 0..MARKS {
            let Some(found) = self.load() else { return };
            let is_this = (found ^ self.value) & !(ACCESSED | DIRTY) == 0;
            if !is_this || found & bits == bits {
                return;
            }
            if self.exchange(found, found | bits) == Some(true) {
                return self.page.wrote(self.offset);
            }
        }
    }

    fn load(&self) -> Option<u64> {
        Some(match self.size {
            8 => self.page.u64(self.offset)?.load(SeqCst),
            _ => self.page.u32(self.offset)?.load(SeqCst).into(),
        })
    }

    /// Puts `new` in the place of `old`; false if that was not there any more.
    fn exchange(&self, old: u64, new: u64) -> Option<bool> {
        #[allow(clippy::cast_possible_truncation)] // an entry of 32 bits
        Some(match self.size {
            8 => self.page.u64(self.offset)?.compare_exchange(old, new, SeqCst, SeqCst).is_ok(),
            _ => {
                let word = self.page.u32(self.offset)?;
                word.compare_exchange(old as u32, new as u32, SeqCst, SeqCst).is_ok()
            }
        })
    }
}

/// The addresses of a vCPU, for [`Arguments`](evtchn_vm_memory::Arguments). The registers are asked for at the first
/// address, so a hypercall without an argument in memory costs nothing.
pub struct Tables<'a, F, B = ()> {
    memory: &'a GuestMemoryMmap<B>,
    registers: Option<F>,
    paging: Option<Paging>,
}

impl<'a, F: FnOnce() -> Option<Paging>, B> Tables<'a, F, B> {
    /// With what asks for the registers of the vCPU, whose guest is not running.
    pub fn new(memory: &'a GuestMemoryMmap<B>, registers: F) -> Self {
        Self { memory, registers: Some(registers), paging: None }
    }
}

impl<F: FnOnce() -> Option<Paging>, B: Bitmap + Send + Sync> Translate for Tables<'_, F, B> {
    fn translate(&mut self, address: u64, access: Permissions) -> Option<GuestAddress> {
        if let Some(registers) = self.registers.take() {
            self.paging = registers();
        }
        self.paging?.walk(self.memory, address, access)
    }
}

impl<F, B> std::fmt::Debug for Tables<'_, F, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("paging", &self.paging).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::bitmap::AtomicBitmap;
    use vm_memory::{Bytes, GuestMemoryBackend};

    /// Guests of 16 MiB; the tables lie below 1 MiB.
    struct Guest {
        memory: GuestMemoryMmap,
        paging: Paging,
    }

    const RW: u64 = PRESENT | WRITABLE;

    impl Guest {
        fn new(paging: Paging) -> Self {
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
            Self { memory, paging: Paging { cr0: CR0_PG | CR0_WP, ..paging } }
        }

        fn long() -> Self {
            Self::new(Paging { cr3: 0x1000, cr4: CR4_PAE, efer: EFER_LMA, ..Paging::default() })
        }

        fn entry(&self, address: u64, value: u64) {
            self.memory.write_obj(value, GuestAddress(address)).unwrap();
        }

        fn entry32(&self, address: u64, value: u32) {
            self.memory.write_obj(value, GuestAddress(address)).unwrap();
        }

        fn get(&self, address: u64) -> u64 {
            self.memory.read_obj(GuestAddress(address)).unwrap()
        }

        fn walk(&self, address: u64, access: Permissions) -> Option<u64> {
            self.paging.walk(&self.memory, address, access).map(|address| address.0)
        }

        fn reads(&self, address: u64) -> Option<u64> {
            self.walk(address, Permissions::Read)
        }

        fn writes(&self, address: u64) -> Option<u64> {
            self.walk(address, Permissions::Write)
        }
    }

    /// Indices 1, 2, 3, 4 and offset 5, in the upper half for index 256 and more.
    fn four_levels(guest: &Guest, flags: [u64; 4]) -> u64 {
        guest.entry(0x1000 + 8, 0x2000 | flags[0]);
        guest.entry(0x2000 + 2 * 8, 0x3000 | flags[1]);
        guest.entry(0x3000 + 3 * 8, 0x4000 | flags[2]);
        guest.entry(0x4000 + 4 * 8, 0x0080_0000 | flags[3]);
        1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 5
    }

    #[test]
    fn four_levels_lead_to_a_page_and_are_marked() {
        let guest = Guest::long();
        let address = four_levels(&guest, [RW; 4]);
        assert_eq!(guest.reads(address), Some(0x0080_0005));
        assert_eq!(guest.get(0x4000 + 32), 0x0080_0000 | RW | ACCESSED);
        assert_eq!(guest.writes(address), Some(0x0080_0005));
        assert_eq!(guest.get(0x4000 + 32), 0x0080_0000 | RW | ACCESSED | DIRTY);
        assert_eq!(guest.get(0x1008), 0x2000 | RW | ACCESSED);
    }

    #[test]
    fn the_dirty_log_has_the_tables_whose_entries_were_marked() {
        let memory = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap();
        for (address, value) in [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x0040_0000 | LARGE)] {
            memory.write_obj(value | RW, GuestAddress(address)).unwrap();
        }
        let mapping = memory.iter().next().unwrap().get_mmap();
        let dirty_after = |access| {
            mapping.bitmap().reset();
            assert!(Guest::long().paging.walk(&memory, 0, access).is_some());
            (0..8).filter(|page| mapping.bitmap().dirty_at(page * PAGE_SIZE)).collect::<Vec<_>>()
        };
        assert_eq!(dirty_after(Permissions::Read), [1, 2, 3]);
        assert_eq!(dirty_after(Permissions::Read), [0; 0], "accessed already");
        assert_eq!(dirty_after(Permissions::Write), [3]);
    }

    #[test]
    fn an_entry_is_marked_though_the_processor_marks_it_meanwhile_but_not_if_it_is_another() {
        let guest = Guest::long();
        for size in [8, 4] {
            let marked = |meanwhile: u64| {
                guest.entry(0x4000, 0x5000 | RW);
                let entry = Entry::read(&guest.memory, 0x4000, size).unwrap();
                guest.entry(0x4000, meanwhile);
                entry.mark(ACCESSED | DIRTY);
                guest.get(0x4000)
            };
            assert_eq!(marked(0x5000 | RW | ACCESSED), 0x5000 | RW | ACCESSED | DIRTY);
            for other in [0x6000 | RW, 0x5000 | PRESENT, 0x5000 | WRITABLE, 0] {
                assert_eq!(marked(other), other);
            }
        }
    }

    #[test]
    fn a_table_that_is_not_writable_protects_all_below_it() {
        for level in 0..4 {
            let mut flags = [RW; 4];
            flags[level] = PRESENT;
            let mut guest = Guest::long();
            let address = four_levels(&guest, flags);
            assert_eq!(guest.writes(address), None, "level {level}");
            assert!(guest.reads(address).is_some());
            guest.paging.cr0 = CR0_PG; // without WP the kernel may write
            assert!(guest.writes(address).is_some());
        }
    }

    #[test]
    fn what_is_not_present_faults_at_each_level() {
        for level in 0..4 {
            let mut flags = [RW; 4];
            flags[level] = WRITABLE;
            let guest = Guest::long();
            let address = four_levels(&guest, flags);
            assert_eq!(guest.reads(address), None, "level {level}");
        }
    }

    #[test]
    fn what_lies_beside_an_address_does_not_move_it() {
        const NO_EXECUTE_AND_KEYS: u64 = 0xfff << 52;
        const PAT_OF_LARGE: u64 = 1 << 12;
        let mut guest = Guest::long();
        guest.paging.cr3 |= 0xfff | 3 << 61; // a PCID; LAM
        let others = RW | NO_EXECUTE_AND_KEYS | 0b0100_0001_1100; // global, no cache, user
        let address = four_levels(&guest, [others; 4]);
        assert_eq!(guest.writes(address), Some(0x0080_0005));
        guest.entry(0x3000 + 8, 0x0020_0000 | others | LARGE | PAT_OF_LARGE);
        assert_eq!(guest.writes(1 << 39 | 2 << 30 | 1 << 21 | 5), Some(0x0020_0005));
        guest.entry(0x1000 + 8, 0x2000 | others | LARGE);
        assert_eq!(guest.reads(address), Some(0x0080_0005), "no page is as large as 512 GiB");

        let mut guest = Guest::new(Paging { cr3: 0x1018, ..Paging::default() });
        guest.entry32(0x1000, 0x2003);
        guest.entry32(0x2000, 0x0080_0f03);
        assert_eq!(guest.writes(7), Some(0x0080_0007), "without PAE CR3 has two bits for caches");
        guest.paging.cr4 = CR4_PAE;
        guest.entry(0x1000, 0x2000 | PRESENT);
        guest.paging.cr3 = 0x1018;
        guest.entry(0x2000, 0x0040_0000 | others | LARGE | PAT_OF_LARGE);
        assert_eq!(guest.writes(7), Some(0x0040_0007));
    }

    #[test]
    fn large_pages_end_the_walk() {
        let guest = Guest::long();
        guest.entry(0x1000, 0x2000 | RW);
        guest.entry(0x2000, 0x3000 | RW);
        guest.entry(0x3000 + 8, 0x0020_0000 | RW | LARGE);
        guest.entry(0x2000 + 8, RW | LARGE);
        assert_eq!(guest.reads(0x0020_0000 + 0x1_2345), Some(0x0021_2345));
        assert_eq!(guest.reads((1 << 30) + 0x0071_2345), Some(0x0071_2345));
    }

    #[test]
    fn addresses_between_the_halves_do_not_exist() {
        let guest = Guest::long();
        let address = four_levels(&guest, [RW; 4]);
        guest.entry(0x1000 + 256 * 8, 0x2000 | RW);
        assert_eq!(guest.reads(address | 1 << 47), None);
        assert_eq!(guest.reads(0xffff_8000_8060_4005), Some(0x0080_0005));
        assert_eq!(guest.reads(1 << 63), None);
    }

    #[test]
    fn five_levels_have_one_more() {
        let mut guest = Guest::long();
        guest.paging.cr4 |= CR4_LA57;
        guest.paging.cr3 = 0x8000;
        guest.entry(0x8000 + 7 * 8, 0x1000 | RW);
        let address = four_levels(&guest, [RW; 4]);
        assert_eq!(guest.reads(7 << 48 | address), Some(0x0080_0005));
        assert_eq!(guest.reads(address), None);
    }

    #[test]
    fn tables_outside_the_memory_fault() {
        let mut guest = Guest::long();
        guest.entry(0x1000, ADDRESS | RW);
        assert_eq!(guest.reads(0), None);
        guest.paging.cr3 = 1 << 40;
        assert_eq!(guest.reads(0), None);
    }

    #[test]
    fn a_table_that_names_itself_is_walked_to_its_end() {
        let guest = Guest::long();
        guest.entry(0x1000, 0x1000 | RW);
        assert_eq!(guest.reads(0x123), Some(0x1123));
    }

    #[test]
    fn pae_has_a_root_of_four_entries_anywhere_and_no_permissions_in_it() {
        let guest = Guest::new(Paging { cr3: 0x1020, cr4: CR4_PAE, ..Paging::default() });
        guest.entry(0x1020 + 8, 0x2000 | PRESENT);
        guest.entry(0x2000 + 8, 0x3000 | RW);
        guest.entry(0x3000 + 16, 0x0080_0000 | RW);
        guest.entry(0x2000 + 16, 0x0040_0000 | RW | LARGE);
        assert_eq!(guest.writes(1 << 30 | 1 << 21 | 2 << 12 | 7), Some(0x0080_0007));
        assert_eq!(guest.writes(1 << 30 | 2 << 21 | 7), Some(0x0040_0007));
        assert_eq!(guest.reads(1 << 32), None);
        assert_eq!(guest.get(0x1028), 0x2000 | PRESENT, "the processor does not mark these");
    }

    #[test]
    fn two_levels_have_entries_of_32_bits_and_pages_of_4_mib_above_4_gib() {
        let mut guest = Guest::new(Paging { cr3: 0x1000, ..Paging::default() });
        guest.entry32(0x1000 + 4, 0x2003);
        guest.entry32(0x2000 + 8, 0x0080_0003);
        guest.entry32(0x1000 + 8, 0x0040_0083 | 5 << 13);
        assert_eq!(guest.reads(1 << 22 | 2 << 12 | 7), Some(0x0080_0007));
        assert_eq!(guest.reads(2 << 22 | 0x1234), None, "not large without PSE: its table is elsewhere");
        guest.paging.cr4 = CR4_PSE;
        assert_eq!(guest.reads(2 << 22 | 0x1234), Some(5 << 32 | 0x0040_1234));
    }

    #[test]
    fn without_paging_addresses_are_physical() {
        let mut guest = Guest::long();
        guest.paging = Paging::default();
        assert_eq!(guest.reads(0x1234), Some(0x1234));
        assert_eq!(guest.reads(1 << 32), None);
    }

    #[test]
    fn registers_are_asked_for_once_and_only_if_an_address_comes() {
        let guest = Guest::long();
        let address = four_levels(&guest, [RW; 4]);
        let asked = std::cell::Cell::new(0);
        let mut tables = Tables::new(&guest.memory, || {
            asked.set(asked.get() + 1);
            Some(guest.paging)
        });
        assert_eq!(asked.get(), 0);
        for _ in 0..2 {
            assert_eq!(tables.translate(address, Permissions::Read), Some(GuestAddress(0x0080_0005)));
        }
        assert_eq!(asked.get(), 1);
        assert_eq!(Tables::new(&guest.memory, || None).translate(address, Permissions::Read), None);
    }
}
