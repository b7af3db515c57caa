// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which frames can be pinned, what a page shows, and how long it lives.
#![allow(missing_docs)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{DirtyPage, Memory, PAGE, memory, take_dirty};
use evtchn_abi::Gfn;
use evtchn_sync::{PAGE_SIZE, Page};
use evtchn_vm_memory::{GuestPage, pin};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
};

#[test]
fn frames_that_exist_are_pinned_and_no_others() {
    let memory = memory(&[(0, 2), (2, 1), (8, 4)]);
    let pinned: Vec<u64> = (0..20).filter(|&gfn| pin(&memory, Gfn(gfn)).is_some()).collect();
    assert_eq!(pinned, [0, 1, 2, 8, 9, 10, 11]);
}

#[test]
fn frames_beyond_any_address_are_refused() {
    let memory = memory(&[(0, 2)]);
    // Multiplied by the page size without a check, most of these would be frame 0 or 1.
    for gfn in [1 << 51, 1 << 52, (1 << 52) + 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        assert!(pin(&memory, Gfn(gfn)).is_none(), "{gfn:#x}");
    }
}

#[test]
fn the_highest_region_that_an_address_allows_is_no_trap() {
    let start = u64::MAX - 2 * PAGE + 1;
    let region = GuestRegionMmap::<()>::from_range(GuestAddress(start), PAGE_SIZE, None).unwrap();
    let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
    assert!(pin(&memory, Gfn(start / PAGE)).is_some());
    assert!(pin(&memory, Gfn(start / PAGE + 1)).is_none());
}

#[test]
fn a_frame_that_is_only_partly_there_is_refused() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), PAGE_SIZE + 4088)]).unwrap();
    assert!(pin(&memory, Gfn(0)).is_some());
    assert!(pin(&memory, Gfn(1)).is_none());
}

#[test]
fn a_frame_in_two_regions_is_refused() {
    let halves = [(GuestAddress(0), PAGE_SIZE + 2048), (GuestAddress(PAGE + 2048), PAGE_SIZE + 2048)];
    let memory = GuestMemoryMmap::<()>::from_ranges(&halves).unwrap();
    assert!(pin(&memory, Gfn(0)).is_some());
    assert!(pin(&memory, Gfn(1)).is_none(), "2048 bytes in each");
    assert!(pin(&memory, Gfn(2)).is_none(), "whole, but not aligned in our memory");
}

#[test]
fn memory_that_is_not_readable_and_writable_is_refused() {
    for prot in [libc::PROT_NONE, libc::PROT_READ, libc::PROT_WRITE] {
        let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
        let mapping = MmapRegion::<()>::build(None, PAGE_SIZE, prot, flags).unwrap();
        assert!(GuestPage::new(Arc::new(mapping), 0).is_none(), "{prot:#x}");
    }
}

#[test]
fn a_page_of_a_mapping_must_lie_inside_it_and_be_aligned() {
    let mapping = Arc::new(MmapRegion::<()>::new(3 * PAGE_SIZE).unwrap());
    let accepted = |start| GuestPage::new(mapping.clone(), start).is_some();
    assert!(accepted(0) && accepted(PAGE_SIZE) && accepted(2 * PAGE_SIZE));
    for start in [1, 8, 2048, 3 * PAGE_SIZE, 3 * PAGE_SIZE - 8, usize::MAX, usize::MAX - PAGE_SIZE + 1] {
        assert!(!accepted(start), "{start:#x}");
    }
}

#[test]
fn accesses_outside_the_page_or_unaligned_are_refused_though_the_mapping_goes_on() {
    let memory = memory(&[(0, 3)]);
    let page = pin(&memory, Gfn(1)).unwrap();
    assert!(page.u8(4095).is_some() && page.u32(4092).is_some() && page.u64(4088).is_some());
    for offset in [4096, 4104, usize::MAX - 7, usize::MAX] {
        assert!(page.u8(offset).is_none() && page.u32(offset).is_none() && page.u64(offset).is_none());
    }
    assert!((1..4).all(|at| page.u32(at).is_none()));
    assert!((1..8).all(|at| page.u64(at).is_none()));
    assert!(page.u32(4094).is_none() && page.u64(4092).is_none());
}

#[test]
fn a_page_shows_the_guests_memory_and_the_guest_what_is_stored() {
    let memory = memory(&[(0x100, 2)]);
    let page = pin(&memory, Gfn(0x101)).unwrap();
    page.u64(8).unwrap().store(0x0807_0605_0403_0201, SeqCst);
    page.u32(4092).unwrap().store(0xa5, SeqCst);
    assert_eq!(memory.read_obj::<u64>(GuestAddress(0x10_1008)).unwrap(), 0x0807_0605_0403_0201);
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0x10_1ffc)).unwrap(), 0xa5);
    memory.write_obj(7u8, GuestAddress(0x10_1000)).unwrap();
    assert_eq!(page.u8(0).unwrap().load(SeqCst), 7);
}

#[test]
fn pages_of_one_frame_are_the_same_memory() {
    let memory = memory(&[(0, 1)]);
    let (one, two) = (pin(&memory, Gfn(0)).unwrap(), pin(&memory, Gfn(0)).unwrap());
    one.clone().u64(0).unwrap().fetch_add(1, SeqCst);
    two.u64(0).unwrap().fetch_add(1, SeqCst);
    assert_eq!(one.u64(0).unwrap().load(SeqCst), 2);
}

#[test]
fn a_page_of_a_file_is_the_files() {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(4 * PAGE).unwrap();
    let at = FileOffset::new(file.try_clone().unwrap(), PAGE);
    let range = (GuestAddress(0), 2 * PAGE_SIZE, Some(at));
    let memory = GuestMemoryMmap::<()>::from_ranges_with_files([range]).unwrap();
    let page = pin(&memory, Gfn(1)).unwrap();
    page.u32(16).unwrap().store(0x1234_5678, SeqCst);
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 2 * PAGE + 16).unwrap();
    assert_eq!(u32::from_ne_bytes(bytes), 0x1234_5678);
}

#[test]
fn a_page_keeps_its_own_mapping_and_no_other() {
    let memory = memory(&[(0, 2), (8, 2)]);
    let mapping =
        |gfn: u64| Arc::downgrade(&memory.find_region(GuestAddress(gfn * PAGE)).unwrap().get_mmap());
    let (first, second) = (mapping(0), mapping(8));
    let page = pin(&memory, Gfn(1)).unwrap();
    drop(memory);
    assert!(second.upgrade().is_none());
    page.u64(0).unwrap().store(5, SeqCst);
    assert_eq!(page.clone().u64(0).unwrap().load(SeqCst), 5);
    drop(page);
    assert!(first.upgrade().is_none());
}

#[test]
fn the_page_of_a_region_that_was_taken_away_is_not_the_new_ones() {
    let before = memory(&[(0, 2), (8, 2)]);
    let old = pin(&before, Gfn(8)).unwrap();
    let (without, _) = before.remove_region(GuestAddress(8 * PAGE), 2 * PAGE).unwrap();
    assert!(pin(&without, Gfn(8)).is_none());

    let region = GuestRegionMmap::from_range(GuestAddress(8 * PAGE), 2 * PAGE_SIZE, None).unwrap();
    let after = without.insert_region(Arc::new(region)).unwrap();
    let new = pin(&after, Gfn(8)).unwrap();
    old.u64(0).unwrap().store(1, SeqCst);
    assert_eq!(new.u64(0).unwrap().load(SeqCst), 0);
    assert_eq!(old.u64(0).unwrap().load(SeqCst), 1);
}

#[test]
fn a_write_marks_its_page_and_no_other() {
    let memory = memory(&[(0, 3), (8, 3)]);
    for gfn in [0, 1, 2, 8, 9, 10] {
        let page = pin(&memory, Gfn(gfn)).unwrap();
        assert!(take_dirty(&memory).is_empty(), "pinning is no write");
        page.u64(0).unwrap().store(1, SeqCst);
        assert!(take_dirty(&memory).is_empty(), "who stores says so");
        for offset in [0, 1, 7, 2048, 4088, 4092, 4095] {
            page.wrote(offset);
            assert_eq!(take_dirty(&memory), [gfn], "offset {offset}");
        }
        for offset in [4096, 8192, usize::MAX] {
            page.wrote(offset);
            assert!(take_dirty(&memory).is_empty(), "offset {offset} is outside");
        }
    }
}

/// A bitmap of a page each is what the tests above used; a finer one must have every byte of a field.
#[test]
fn a_write_marks_all_of_the_field() {
    let fine = AtomicBitmap::new(2 * PAGE_SIZE, std::num::NonZeroUsize::MIN);
    let builder = vm_memory::mmap::MmapRegionBuilder::new_with_bitmap(2 * PAGE_SIZE, fine);
    let mapping = builder
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE)
        .build();
    let page: DirtyPage = GuestPage::new(Arc::new(mapping.unwrap()), PAGE_SIZE).unwrap();
    page.wrote(8); // a u64
    page.wrote(20); // a u32
    page.wrote(4095); // a byte
    let marked: Vec<usize> =
        (0..2 * PAGE_SIZE).filter(|&at| page.mapping().bitmap().is_bit_set(at)).collect();
    let expected: Vec<usize> = (8..16).chain(20..24).chain([4095]).map(|at| PAGE_SIZE + at).collect();
    assert_eq!(marked, expected);
}

#[test]
fn memory_without_a_dirty_bitmap_has_pages_too() {
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), PAGE_SIZE)]).unwrap();
    let page = pin(&memory, Gfn(0)).unwrap();
    page.u8(9).unwrap().store(3, SeqCst);
    page.wrote(9);
    assert_eq!(memory.read_obj::<u8>(GuestAddress(9)).unwrap(), 3);
}

const _: () = {
    const fn is_a_page<P: Page + Clone + 'static>() {}
    is_a_page::<GuestPage>();
    is_a_page::<DirtyPage>();
};

#[test]
fn memory_without_regions_has_no_pages() {
    assert_eq!(Memory::default().num_regions(), 0);
    assert!(pin(&Memory::default(), Gfn(0)).is_none());
}
