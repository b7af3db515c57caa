// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program sees of read, write and poll on one open file.
#![cfg(not(loom))]

mod common;

use common::{Call, Open, TestFile, bad_pointer, words};
use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::{Errno, Port};
use evtchn_device::{Driver, Kind, Pushed, node, poll};

/// A file whose ring overflowed, by writing a port without reading it.
fn overflowed() -> TestFile {
    let mut file = TestFile::with_ports([7]);
    for _ in 0..64 {
        assert_ne!(file.fire(7), Some(Pushed::Overflow));
        file.write_ports(&[7]);
    }
    assert_eq!(file.fire(7), Some(Pushed::Overflow));
    file
}

#[test]
fn a_length_below_one_port_reads_nothing_in_every_state() {
    let mut ready = TestFile::with_ports([7]);
    ready.fire(7);
    for file in [TestFile::new(), TestFile::with_ports([7]), ready, overflowed()] {
        for length in 0..4 {
            assert_eq!(file.read(length), Ok(vec![]));
            assert_eq!(file.read_faulting(length), Ok(0));
        }
    }
}

#[test]
fn lengths_are_cut_to_whole_ports() {
    for (length, count) in [(4, 1), (5, 1), (6, 1), (7, 1), (8, 2), (11, 2), (12, 3), (64, 3)] {
        let mut file = TestFile::with_ports([1, 2, 3]);
        for port in 1..=3 {
            file.fire(port);
        }
        assert_eq!(file.read(length).unwrap().len(), count, "{length}");
    }
}

#[test]
fn one_read_takes_at_most_a_page_and_the_next_the_rest() {
    let mut file = TestFile::with_ports(1..=1100);
    for port in 1..=1100 {
        file.fire(port);
    }
    assert_eq!(file.read(16384), Ok((1..=1024).collect()));
    assert_eq!(file.read(usize::MAX), Ok((1025..=1100).collect()));
    assert_eq!(file.read(4096), Err(Errno::EAGAIN));
}

#[test]
fn an_empty_ring_is_eagain_before_the_buffer_is_looked_at() {
    assert_eq!(TestFile::new().read_faulting(4), Err(Errno::EAGAIN));
    assert_eq!(TestFile::with_ports([7]).read_faulting(4), Err(Errno::EAGAIN));
}

#[test]
fn a_fault_consumes_nothing() {
    let mut file = TestFile::with_ports([7, 8]);
    file.fire(8);
    file.fire(7);
    assert_eq!(file.read_faulting(64), Err(Errno::EFAULT));
    assert_eq!(file.ring.poll_mask(), poll::READABLE);
    assert_eq!(file.read(64), Ok(vec![8, 7]));
}

#[test]
fn reading_does_not_enable_a_port() {
    let mut file = TestFile::with_ports([7]);
    file.fire(7);
    file.read(4).unwrap();
    assert!(!file.bindings[&Port(7)].is_enabled());
}

#[test]
fn the_65th_unread_port_overflows_and_hides_the_64_before() {
    let file = overflowed();
    assert_eq!(file.ring.poll_mask(), poll::OVERFLOWED);
    assert_eq!(file.read(4), Err(Errno::EFBIG));
    assert_eq!(file.read_faulting(4), Err(Errno::EFBIG));
    assert!(!file.bindings[&Port(7)].is_enabled());
}

#[test]
fn reset_ends_the_overflow_and_enables_no_port() {
    let mut open = Open::of(overflowed());
    assert_eq!(open.ioctl(Ioctl::RESET, bad_pointer()), Ok(0));
    assert_eq!(open.file.ring.poll_mask(), poll::WRITABLE);
    assert_eq!(open.file.read(4), Err(Errno::EAGAIN));
    assert!(!open.file.bindings[&Port(7)].is_enabled());
    open.file.calls.clear();
    open.file.write_ports(&[7]);
    assert_eq!(open.file.calls, [Call::Unmask(Port(7))]);
    assert_eq!(open.file.fire(7), Some(Pushed::FirstEntry));
    assert_eq!(open.file.read(4), Ok(vec![7]));
}

#[test]
fn entries_of_a_port_stay_in_the_ring_after_unbind() {
    let mut open = Open::of(TestFile::with_ports([7, 8]));
    open.file.fire(7);
    open.file.fire(8);
    assert_eq!(open.ioctl(Ioctl::UNBIND, words(&[7])), Ok(0));
    assert_eq!(open.file.read(64), Ok(vec![7, 8]));
}

#[test]
fn a_number_that_is_bound_again_starts_enabled() {
    let mut open = Open::of(TestFile::with_ports([10]));
    open.file.fire(10);
    open.ioctl(Ioctl::UNBIND, words(&[10])).unwrap();
    assert_eq!(open.ioctl(Ioctl::BIND_UNBOUND_PORT, words(&[0])), Ok(10));
    open.file.fire(10);
    assert_eq!(open.file.read(64), Ok(vec![10, 10]));
}

#[test]
fn binding_grows_the_ring_and_keeps_its_entries() {
    let mut file = TestFile::with_ports(1..=64);
    for port in 1..=64 {
        file.fire(port);
    }
    assert_eq!(file.slots.len(), 64);
    file.read(4 * 10).unwrap();
    for port in 1..=10 {
        file.write_ports(&[port]);
        file.fire(port);
    }
    for port in 65..=129 {
        file.set_up(Port(port), Kind::Dynamic).unwrap();
    }
    assert_eq!(file.slots.len(), 256);
    assert_eq!(file.read(4096), Ok((11..=64).chain(1..=10).collect()));
}

#[test]
fn writes_return_the_bytes_taken_whatever_the_ports_are() {
    let mut file = TestFile::with_ports([7]);
    for (length, taken) in [(0, 0), (3, 0), (4, 4), (7, 4), (4096, 4096), (16384, 4096)] {
        assert_eq!(file.write(&vec![0xee; length]), taken);
    }
    assert!(file.calls.is_empty());
}

#[test]
fn a_write_unmasks_the_disabled_ports_of_this_file_once_and_in_order() {
    let mut file = TestFile::with_ports([7, 8, 9]);
    file.fire(7);
    file.fire(9);
    assert_eq!(file.write_ports(&[9, 8, 1234, 0, 9, 7]), 24);
    assert_eq!(file.calls, [Call::Unmask(Port(9)), Call::Unmask(Port(7))]);
}

#[test]
fn a_write_looks_at_the_first_1024_ports_only() {
    let mut file = TestFile::with_ports([7, 8]);
    file.fire(7);
    file.fire(8);
    let mut ports = vec![0; 1025];
    (ports[1023], ports[1024]) = (7, 8);
    assert_eq!(file.write_ports(&ports), 4096);
    assert_eq!(file.calls, [Call::Unmask(Port(7))]);
}

#[test]
fn poll_is_writable_always_readable_with_entries_and_only_error_after_overflow() {
    let mut file = TestFile::with_ports([7]);
    assert_eq!(file.ring.poll_mask(), 0x104);
    file.fire(7);
    assert_eq!(file.ring.poll_mask(), 0x145);
    file.read(4).unwrap();
    assert_eq!(file.ring.poll_mask(), 0x104);
    assert_eq!(overflowed().ring.poll_mask(), 0x8);
    assert_eq!(poll::mask(true, true), 0x8);
}

#[test]
fn wake_ups_come_only_when_the_ring_turns_from_empty_to_not_empty() {
    let mut file = TestFile::with_ports([7, 8]);
    file.fire(7);
    file.fire(8);
    assert_eq!(file.wakes, 1);
    file.read(4).unwrap();
    file.write_ports(&[7]);
    file.fire(7);
    assert_eq!(file.wakes, 1, "8 was unread still");
    file.read(64).unwrap();
    file.write_ports(&[8]);
    file.fire(8);
    assert_eq!(file.wakes, 2);
    assert_eq!(overflowed().wakes, 1, "an overflow wakes nobody");
}

#[test]
fn read_and_write_need_their_access_mode() {
    let ok = Ok(());
    let bad = Err(Errno::EBADF);
    for (flags, read, write) in [
        (0o0, ok, bad),
        (0o1, bad, ok),
        (0o2, ok, ok),
        (0o3, bad, bad),
        (0o4000, ok, bad),
        (0o2_000_002, ok, ok),
    ] {
        assert_eq!(node::OpenFlags(flags).check_read(), read, "{flags:o}");
        assert_eq!(node::OpenFlags(flags).check_write(), write, "{flags:o}");
    }
}

#[test]
fn the_file_is_a_stream_and_has_no_32_bit_entry() {
    assert_eq!(node::NOT_SEEKABLE, Errno::ESPIPE);
    assert_eq!(node::NO_COMPAT_IOCTL, Errno::ENOTTY);
}
