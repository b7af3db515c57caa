// SPDX-License-Identifier: MIT OR Apache-2.0
//! Putting a kernel into memory, and the registers with which it begins: Linux's 64-bit boot protocol, or PVH.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::elf::{Elf, PvhBootCapability, start_info};
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use crate::mptable;
use crate::options::Options;

/// Where things lie in the first MiB.
const BOOT_PARAMS: u64 = 0x7000;
const START_INFO: u64 = 0x6000;
const MODULES: u64 = 0x6100;
const MEMORY_MAP: u64 = 0x6200;
const PAGE_TABLES: u64 = 0x9000; // three pages: 4 levels, of which the last is left out
const COMMAND_LINE: u64 = 0x2_0000;
/// Where the memory below 640 KiB ends, as far as Linux may use it.
const LOW_END: u64 = mptable::ADDRESS;
const HIGH: u64 = 0x10_0000;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;
/// The 64-bit entry lies this far behind the 32-bit one.
const ENTRY_64: u64 = 0x200;
/// "We are an unknown boot loader", and "there is a heap".
const LOADER: u8 = 0xff;
const PVH_MAGIC: u32 = 0x336e_c578;

/// What is printed costs two exits a character; and there is no PCI.
const USUAL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1 pci=off reboot=t";

/// How vCPU 0 begins.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// In long mode, with a pointer to boot_params in rsi.
    Long { at: u64 },
    /// In protected mode without paging, with a pointer to the start info in ebx.
    Pvh { at: u64 },
}

/// Loads everything, and says where to begin.
pub fn load(memory: &GuestMemoryMmap, options: &Options, arguments: &str) -> Result<Entry> {
    let size = u64::from(options.memory) << 20;
    let initramfs = Initramfs::load(memory, options, size)?;
    let line = format!("{USUAL_ARGUMENTS} {} {arguments}\0", options.append);
    memory.write_slice(line.as_bytes(), GuestAddress(COMMAND_LINE))?;
    mptable::write(memory, options.vcpus)?;
    let path = options.kernel()?;
    let kernel = File::open(path).with_context(|| path.display().to_string())?;
    if options.pvh {
        load_elf(memory, kernel, size, &initramfs)
    } else {
        load_bzimage(memory, kernel, size, &initramfs)
    }
}

/// Where the initramfs is; it has no size if there is none.
struct Initramfs {
    start: u64,
    size: u64,
}

impl Initramfs {
    /// At the end of the memory.
    fn load(memory: &GuestMemoryMmap, options: &Options, memory_size: u64) -> Result<Self> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let contents = options.initramfs.as_ref().map_or(Ok(Vec::new()), read)?;
        let size = contents.len() as u64;
        let start =
            memory_size.checked_sub(size).context("the initramfs is larger than the memory")? & !0xfff;
        memory.write_slice(&contents, GuestAddress(start))?;
        Ok(Self { start, size })
    }
}

/// RAM, and what is not, as `(start, size, type)`.
fn memory_map(size: u64) -> [(u64, u64, u32); 3] {
    [(0, LOW_END, E820_RAM), (LOW_END, HIGH - LOW_END, E820_RESERVED), (HIGH, size - HIGH, E820_RAM)]
}

fn load_bzimage(
    memory: &GuestMemoryMmap,
    mut kernel: File,
    size: u64,
    initramfs: &Initramfs,
) -> Result<Entry> {
    let loaded = BzImage::load(memory, None, &mut kernel, Some(GuestAddress(HIGH)))?;
    let mut params =
        boot_params { hdr: loaded.setup_header.context("no setup header")?, ..boot_params::default() };
    params.hdr.type_of_loader = LOADER;
    params.hdr.cmd_line_ptr = u32::try_from(COMMAND_LINE)?;
    params.hdr.ramdisk_image = u32::try_from(initramfs.start)?;
    params.hdr.ramdisk_size = u32::try_from(initramfs.size)?;
    for (entry, (addr, size, r#type)) in params.e820_table.iter_mut().zip(memory_map(size)) {
        *entry = boot_e820_entry { addr, size, r#type };
    }
    params.e820_entries = 3;
    memory.write_obj(params, GuestAddress(BOOT_PARAMS))?;
    page_tables(memory)?;
    Ok(Entry::Long { at: loaded.kernel_load.0 + ENTRY_64 })
}

/// The first GiB, mapped to itself.
fn page_tables(memory: &GuestMemoryMmap) -> Result<()> {
    const TABLE: u64 = 0b11;
    const LARGE: u64 = 0x83;
    memory.write_obj((PAGE_TABLES + 0x1000) | TABLE, GuestAddress(PAGE_TABLES))?;
    memory.write_obj((PAGE_TABLES + 0x2000) | TABLE, GuestAddress(PAGE_TABLES + 0x1000))?;
    for index in 0..512 {
        memory.write_obj((index << 21) | LARGE, GuestAddress(PAGE_TABLES + 0x2000 + index * 8))?;
    }
    Ok(())
}

fn load_elf(memory: &GuestMemoryMmap, mut kernel: File, size: u64, initramfs: &Initramfs) -> Result<Entry> {
    let loaded = Elf::load(memory, None, &mut kernel, Some(GuestAddress(HIGH)))?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        bail!("the kernel has no PVH entry");
    };
    ensure!(loaded.kernel_end <= initramfs.start, "no room for the kernel beside the initramfs");
    let module =
        start_info::hvm_modlist_entry { paddr: initramfs.start, size: initramfs.size, ..Default::default() };
    let map = memory_map(size).map(|(addr, size, type_)| start_info::hvm_memmap_table_entry {
        addr,
        size,
        type_,
        reserved: 0,
    });
    let info = start_info::hvm_start_info {
        magic: PVH_MAGIC,
        version: 1,
        nr_modules: u32::from(initramfs.size != 0),
        modlist_paddr: MODULES,
        cmdline_paddr: COMMAND_LINE,
        memmap_paddr: MEMORY_MAP,
        memmap_entries: 3,
        ..Default::default()
    };
    memory.write_slice(info.as_slice(), GuestAddress(START_INFO))?;
    memory.write_slice(module.as_slice(), GuestAddress(MODULES))?;
    for (at, entry) in (0..).step_by(size_of_val(&map[0])).zip(&map) {
        memory.write_slice(entry.as_slice(), GuestAddress(MEMORY_MAP + at))?;
    }
    Ok(Entry::Pvh { at: entry.0 })
}

impl Entry {
    pub fn registers(self) -> kvm_regs {
        let usual = kvm_regs { rflags: 2, ..kvm_regs::default() };
        match self {
            Self::Long { at } => kvm_regs { rip: at, rsi: BOOT_PARAMS, rsp: 0x8ff0, ..usual },
            Self::Pvh { at } => kvm_regs { rip: at, rbx: START_INFO, ..usual },
        }
    }

    /// From what the vCPU has at its reset.
    pub fn special_registers(self, reset: kvm_sregs) -> kvm_sregs {
        let long = matches!(self, Self::Long { .. });
        let code = segment(0x10, 0xb, if long { (0, 1) } else { (1, 0) });
        let data = segment(0x18, 0x3, (1, 0));
        let task =
            kvm_segment { limit: 0x67, type_: 0xb, present: 1, selector: 0x20, ..kvm_segment::default() };
        let flat =
            kvm_sregs { cs: code, ds: data, es: data, fs: data, gs: data, ss: data, tr: task, ..reset };
        match self {
            // PE, ET, NE, WP, PG; PAE; LME, LMA
            Self::Long { .. } => {
                kvm_sregs { cr0: 0x8001_0031, cr3: PAGE_TABLES, cr4: 0x20, efer: 0x500, ..flat }
            }
            // PE, ET
            Self::Pvh { .. } => kvm_sregs { cr0: 0x11, cr3: 0, cr4: 0, efer: 0, ..flat },
        }
    }
}

/// A segment of all memory.
fn segment(selector: u16, type_: u8, (db, l): (u8, u8)) -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        db,
        s: 1,
        l,
        g: 1,
        ..kvm_segment::default()
    }
}
