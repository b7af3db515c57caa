// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercall arguments: across pages and regions, through page tables, and where there is nothing.
#![allow(missing_docs)]

mod common;

use std::num::NonZeroU64;
use std::sync::Arc;

use common::{GUEST, Memory, PAGE, SENDER, V0, engine, get, memory, put, take_dirty};
use evtchn_abi::args::{AllocUnbound, BindIpi, InitControl, SchedPoll, Send};
use evtchn_abi::{DomId, Errno, Gfn, Hypercall, Op, SchedOp, VcpuId};
use evtchn_engine::{Fault, GuestMemory, Outcome};
use evtchn_sync::PAGE_SIZE;
use evtchn_vm_memory::Arguments;
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestRegionMmap, MmapRegion, Permissions};

const DONE: Outcome = Outcome::Done(0);
const EFAULT: Outcome = Outcome::Done(Errno::EFAULT.negated());

fn numbered(len: usize) -> Vec<u8> {
    (1..=len).map(|byte| byte as u8).collect()
}

/// What is written is read back, alone in its surroundings, whatever the alignment.
#[test]
fn bytes_go_in_and_out_at_every_alignment() {
    for start in PAGE - 40..PAGE + 8 {
        for len in 0..40 {
            let memory = memory(&[(0, 2)]);
            let mut arguments = Arguments::physical(&memory);
            arguments.write(start, &numbered(len)).unwrap();
            let mut back = vec![0xff; len];
            arguments.read(start, &mut back).unwrap();
            assert_eq!(back, numbered(len), "{len} bytes at {start:#x}");
            let mut around = vec![0xff; len + 2];
            memory.read_slice(&mut around, GuestAddress(start - 1)).unwrap();
            assert_eq!(around[1..=len], back);
            assert_eq!((around[0], around[len + 1]), (0, 0), "{len} bytes at {start:#x}");
        }
    }
}

#[test]
fn an_argument_may_cross_from_one_region_to_the_next() {
    let memory = memory(&[(0, 1), (1, 1)]);
    let mut arguments = Arguments::physical(&memory);
    arguments.write(PAGE - 5, &numbered(12)).unwrap();
    let mut back = [0; 12];
    arguments.read(PAGE - 5, &mut back).unwrap();
    assert_eq!(back.as_slice(), numbered(12));
    assert_eq!(memory.read_obj::<u8>(GuestAddress(PAGE)).unwrap(), 6);
    assert_eq!(take_dirty(&memory), [0, 1]);
}

#[test]
fn regions_need_not_end_where_pages_do() {
    let ranges = [(GuestAddress(0), PAGE_SIZE + 100), (GuestAddress(PAGE + 100), PAGE_SIZE)];
    let memory = Memory::from_ranges(&ranges).unwrap();
    let mut arguments = Arguments::physical(&memory);
    let mut back = vec![0; 3000];
    arguments.write(PAGE - 1000, &numbered(3000)).unwrap();
    arguments.read(PAGE - 1000, &mut back).unwrap();
    assert_eq!(back, numbered(3000));
}

#[test]
fn addresses_outside_memory_fault() {
    let memory = memory(&[(1, 1), (3, 1)]);
    let mut arguments = Arguments::physical(&memory);
    let outside = [0, PAGE - 1, PAGE - 4, 2 * PAGE - 1, 2 * PAGE - 7, 3 * PAGE - 1, 4 * PAGE - 7, 4 * PAGE];
    for address in outside.into_iter().chain([u64::MAX, u64::MAX - 7, u64::MAX - 3, 1 << 63]) {
        assert_eq!(arguments.read(address, &mut [0; 8]), Err(Fault), "{address:#x}");
        assert_eq!(arguments.write(address, &[0; 8]), Err(Fault), "{address:#x}");
    }
    for inside in [PAGE, 2 * PAGE - 8, 3 * PAGE, 4 * PAGE - 8] {
        assert_eq!(arguments.read(inside, &mut [0; 8]), Ok(()));
        assert_eq!(arguments.write(inside, &[0; 8]), Ok(()));
    }
}

#[test]
fn memory_at_the_end_of_the_address_space_does_not_wrap_round() {
    let top = u64::MAX - PAGE;
    let region = GuestRegionMmap::from_range(GuestAddress(top), PAGE_SIZE, None).unwrap();
    let low = GuestRegionMmap::from_range(GuestAddress(0), PAGE_SIZE, None).unwrap();
    let memory = Memory::from_regions(vec![low, region]).unwrap();
    let mut arguments = Arguments::physical(&memory);
    assert_eq!(arguments.read(u64::MAX - 8, &mut [0; 8]), Ok(()));
    assert_eq!(arguments.read(u64::MAX - 7, &mut [0; 8]), Err(Fault));
}

fn with_protection(prot: i32) -> Memory {
    let flags = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
    let mapping = MmapRegion::<AtomicBitmap>::build(None, PAGE_SIZE, prot, flags).unwrap();
    Memory::from_regions(vec![GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap()]).unwrap()
}

#[test]
fn memory_that_cannot_be_written_faults_instead_of_killing_us() {
    let read_only = with_protection(libc::PROT_READ);
    assert_eq!(Arguments::physical(&read_only).read(0, &mut [0; 8]), Ok(()));
    assert_eq!(Arguments::physical(&read_only).write(0, &[0; 8]), Err(Fault));
    let nothing = with_protection(libc::PROT_NONE);
    assert_eq!(Arguments::physical(&nothing).read(0, &mut [0; 8]), Err(Fault));
    assert_eq!(Arguments::physical(&nothing).write(0, &[0; 8]), Err(Fault));
}

/// Page tables as a guest might have them: virtual pages 0 to 3 in odd order, the third read-only, the fourth nowhere.
fn walk(address: u64, access: Permissions) -> Option<GuestAddress> {
    let frame = match (address / PAGE, access) {
        (0, _) => 5,
        (1, _) => 3,
        (2, Permissions::Read) => 4,
        _ => return None,
    };
    Some(GuestAddress(frame * PAGE + address % PAGE))
}

#[test]
fn each_page_of_an_argument_is_translated() {
    let memory = memory(&[(0, 8)]);
    let mut arguments = Arguments::new(&memory, walk);
    arguments.write(PAGE - 3, &numbered(8)).unwrap();
    let mut halves = [[0; 5]; 2];
    memory.read_slice(&mut halves[0][..3], GuestAddress(6 * PAGE - 3)).unwrap();
    memory.read_slice(&mut halves[1], GuestAddress(3 * PAGE)).unwrap();
    assert_eq!(halves, [[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]);
    let mut back = [0; 8];
    arguments.read(PAGE - 3, &mut back).unwrap();
    assert_eq!(back.as_slice(), numbered(8));
    assert_eq!(take_dirty(&memory), [3, 5]);
}

#[test]
fn what_the_page_tables_forbid_faults() {
    let memory = memory(&[(0, 8)]);
    let mut arguments = Arguments::new(&memory, walk);
    assert_eq!(arguments.read(2 * PAGE, &mut [0; 4]), Ok(()));
    assert_eq!(arguments.write(2 * PAGE, &[0; 4]), Err(Fault), "read-only");
    assert_eq!(arguments.read(3 * PAGE - 2, &mut [0; 4]), Err(Fault), "the second page is not there");
    assert_eq!(arguments.write(2 * PAGE - 2, &[7; 4]), Err(Fault));
    assert_eq!(
        memory.read_obj::<u16>(GuestAddress(4 * PAGE - 2)).unwrap(),
        0x0707,
        "the first page is written"
    );
}

#[test]
fn page_tables_that_name_no_memory_fault() {
    let memory = memory(&[(0, 1)]);
    for physical in [PAGE, PAGE + 5, 1 << 52, u64::MAX, u64::MAX - 3] {
        let nowhere = |_: u64, _: Permissions| Some(GuestAddress(physical));
        assert_eq!(Arguments::new(&memory, nowhere).read(0, &mut [0; 8]), Err(Fault), "{physical:#x}");
    }
}

#[test]
fn a_page_is_translated_once_for_each_copy() {
    let memory = memory(&[(0, 4)]);
    let walks = |address: u64, len: usize| {
        let mut walks = 0;
        let count = |at: u64, _: Permissions| {
            walks += 1;
            Some(GuestAddress(at))
        };
        Arguments::new(&memory, count).read(address, &mut vec![0; len]).unwrap();
        walks
    };
    assert_eq!((walks(0, 24), walks(PAGE - 8, 24), walks(1, 3 * PAGE_SIZE)), (1, 2, 4));
}

#[test]
fn a_channel_is_set_up_by_arguments_that_cross_a_page() {
    let engine = engine();
    let memory = engine.hooks().memory(GUEST);
    let at = 3 * PAGE - 6; // the port is behind the boundary
    put(&memory, at, &AllocUnbound { dom: DomId::SELF, remote_dom: SENDER, ..Default::default() });
    take_dirty(&memory);
    let mut arguments = Arguments::physical(&memory);
    assert_eq!(engine.event_channel_op(GUEST, Op::ALLOC_UNBOUND.0, at, &mut arguments), DONE);
    let port = get::<AllocUnbound>(&memory, at).port;
    assert_eq!(engine.status(GUEST, DomId::SELF, port).map(|status| status.kind.status().0), Ok(1));
    assert_eq!(take_dirty(&memory), [2, 3], "all of the structure is written back");
}

#[test]
fn hypercalls_with_bad_addresses_are_efault() {
    let engine = engine();
    let memory = engine.hooks().memory(GUEST);
    for address in [16 * PAGE, 16 * PAGE - 1, u64::MAX, u64::MAX - 1] {
        for op in 0..=Op::RESET_CONT.0 {
            let outcome = engine.event_channel_op(GUEST, op, address, &mut Arguments::physical(&memory));
            assert_eq!(outcome, EFAULT, "op {op} at {address:#x}");
        }
    }
    assert_eq!(engine.ports_in_use(GUEST), Ok((0, 0)));
    assert!(take_dirty(&memory).is_empty());
}

#[test]
fn a_result_for_a_read_only_page_is_efault_and_the_port_stays_open() {
    let engine = engine();
    let memory = engine.hooks().memory(GUEST);
    put(&memory, 4 * PAGE, &BindIpi { vcpu: VcpuId(1), ..Default::default() });
    let outcome =
        engine.event_channel_op(GUEST, Op::BIND_IPI.0, 2 * PAGE, &mut Arguments::new(&memory, walk));
    assert_eq!(outcome, EFAULT);
    assert_eq!(engine.ports_in_use(GUEST), Ok((1, 0)));
    // Operations without results need no right to write.
    put(&memory, 4 * PAGE, &Send { port: evtchn_abi::Port(1) });
    let outcome = engine.event_channel_op(GUEST, Op::SEND.0, 2 * PAGE, &mut Arguments::new(&memory, walk));
    assert_eq!(outcome, DONE);
}

#[test]
fn a_poll_finds_its_ports_through_the_page_tables() {
    let engine = engine();
    let memory = engine.hooks().memory(GUEST);
    let port = engine.bind_ipi(GUEST, VcpuId(1)).unwrap();
    put(&memory, 5 * PAGE, &SchedPoll { ports: 2 * PAGE, nr_ports: 1, timeout: 9, ..Default::default() });
    put(&memory, 4 * PAGE, &Send { port });
    let args = [SchedOp::POLL.0.into(), 0, 0, 0, 0];
    let mut arguments = Arguments::new(&memory, walk);
    let outcome = engine.hypercall(GUEST, V0, Hypercall::SCHED_OP.0, args, &mut arguments);
    assert_eq!(outcome, Outcome::Block { deadline: NonZeroU64::new(9) });
    assert!(engine.finish_poll(GUEST, V0));
}

#[test]
fn frames_that_the_memory_does_not_have_are_einval() {
    let engine = engine();
    let memory = engine.hooks().memory(GUEST);
    for gfn in [16, 1 << 52, u64::MAX] {
        put(&memory, 0, &InitControl { control_gfn: Gfn(gfn), ..Default::default() });
        let outcome =
            engine.event_channel_op(GUEST, Op::INIT_CONTROL.0, 0, &mut Arguments::physical(&memory));
        assert_eq!(outcome, Outcome::Done(Errno::EINVAL.negated()), "{gfn:#x}");
    }
}

#[test]
fn one_snapshot_serves_a_hypercall_whatever_happens_to_the_map() {
    let engine = engine();
    let snapshot = engine.hooks().memory(GUEST);
    engine.hooks().replace(GUEST, memory(&[(0, 1)]));
    put(&snapshot, 8 * PAGE, &BindIpi::default());
    let outcome =
        engine.event_channel_op(GUEST, Op::BIND_IPI.0, 8 * PAGE, &mut Arguments::physical(&snapshot));
    assert_eq!(outcome, DONE);
    assert_eq!(Arc::strong_count(&snapshot), 1, "nobody else holds the old map");
    assert_eq!(engine.hooks().memory(GUEST).num_regions(), 1);
}
