// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads and writes as system calls: lengths, addresses, access modes, seeking.

use std::os::fd::AsFd;

use anyhow::Result;
use evtchn_abi::Errno;
use evtchn_abi::ioctl::Ioctl;

use super::Case;
use crate::device::{Device, SELF, SETTLE};
use crate::report::Report;
use crate::sys::{self, NOWHERE};

pub const CASES: &[Case] = &[
    ("calls.lengths_below_a_port_are_nothing", short_lengths),
    ("calls.lengths_are_cut_to_whole_ports", lengths),
    ("calls.an_empty_ring_comes_before_a_bad_buffer", empty_before_fault),
    ("calls.a_fault_consumes_nothing", fault),
    ("calls.a_write_takes_a_page_at_most", write_lengths),
    ("calls.a_write_that_faults_does_nothing", write_fault),
    ("calls.seeking", seeking),
    ("calls.access_modes", access_modes),
    ("calls.descriptors_share_one_file", descriptors),
];

fn raw_read(file: &Device, length: usize) -> sys::Answer<u32> {
    sys::read(file.as_fd(), NOWHERE, length)
}

fn raw_write(file: &Device, length: usize) -> sys::Answer<u32> {
    sys::write(file.as_fd(), NOWHERE, length)
}

fn short_lengths(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for length in 0..4 {
        report.is(&format!("read of {length} bytes at a bad address"), raw_read(&file, length), Ok(0));
        report.is(&format!("write of {length} bytes at a bad address"), raw_write(&file, length), Ok(0));
    }
    Ok(())
}

/// How often something is tried for which several events must have come at one moment.
const ATTEMPTS: u32 = 50;

fn lengths(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let pairs: Vec<(u32, u32)> = (0..4).map(|_| file.pair(&other)).collect::<Result<_>>()?;
    for length in [4, 5, 6, 7, 8, 11, 12, 15, 16, 64] {
        let expected = (length as u32 / 4 * 4).min(16);
        let mut bytes = Ok(0);
        for _ in 0..ATTEMPTS {
            bytes = read_of_four(&file, &other, &pairs, length)?;
            if bytes >= Ok(expected) {
                break;
            }
        }
        report.is(&format!("read of {length} bytes, with 4 ports there"), bytes, Ok(expected));
    }
    Ok(())
}

/// Has four ports fire, reads once with this length, and takes what is left.
fn read_of_four(
    file: &Device,
    other: &Device,
    pairs: &[(u32, u32)],
    length: usize,
) -> Result<sys::Answer<u32>> {
    for (_, theirs) in pairs {
        other.notify(*theirs).ok();
    }
    file.ready()?;
    std::thread::sleep(SETTLE);
    let mut buffer = [0_u32; 16];
    let bytes = sys::read(file.as_fd(), buffer.as_mut_ptr() as usize, length);
    let first = bytes.map_or(0, |bytes| bytes as usize / 4);
    file.expect(pairs.len() - first.min(pairs.len()))?;
    let all: Vec<u32> = pairs.iter().map(|(ours, _)| *ours).collect();
    file.write(&all).ok();
    Ok(bytes)
}

fn empty_before_fault(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    report.is("a fresh file", raw_read(&file, 4), Err(Errno::EAGAIN));
    report.is("bound", file.unbound().is_ok(), true);
    report.is("with a port", raw_read(&file, 4), Err(Errno::EAGAIN));
    report.is("more than a page", raw_read(&file, 1 << 20), Err(Errno::EAGAIN));
    Ok(())
}

fn fault(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    other.notify(theirs).ok();
    file.ready()?;
    report.is("read at a bad address", raw_read(&file, 4), Err(Errno::EFAULT));
    report.is("poll", file.mask()?, 0x145);
    report.is("read after that", file.read(64).map(|ports| report.named(&ports)), Ok(vec!["a".to_owned()]));
    Ok(())
}

fn write_lengths(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    let nobody = vec![0xeeee_eeee_u32; 4096];
    for (bytes, taken) in
        [(4, 4), (5, 4), (7, 4), (8, 8), (33, 32), (36, 36), (4096, 4096), (4100, 4096), (16384, 4096)]
    {
        let result = sys::write(file.as_fd(), nobody.as_ptr() as usize, bytes);
        report.is(&format!("write of {bytes} bytes"), result, Ok(taken));
    }
    Ok(())
}

fn write_fault(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for bytes in [4, 32, 36, 4096, 16384] {
        report.is(
            &format!("write of {bytes} bytes at a bad address"),
            raw_write(&file, bytes),
            Err(Errno::EFAULT),
        );
    }
    Ok(())
}

fn seeking(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    let espipe = Err(rustix::io::Errno::SPIPE);
    report.is("lseek", rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)), espipe);
    report.is("pread", rustix::io::pread(&file, &mut [0_u8; 4], 0).map(|bytes| bytes as u64), espipe);
    report.is("pwrite", rustix::io::pwrite(&file, &[0_u8; 4], 0).map(|bytes| bytes as u64), espipe);
    Ok(())
}

fn access_modes(report: &mut Report) -> Result<()> {
    let reader = Device::with(true, false, libc::O_NONBLOCK)?;
    let writer = Device::with(false, true, libc::O_NONBLOCK)?;
    report.is("bind on a reader", reader.unbound().is_ok(), true);
    let port = writer.unbound();
    report.is("bind on a writer", port.is_ok(), true);
    report.is("connect on a reader", reader.connect(port.unwrap_or_default()).is_ok(), true);
    report.is("VIRQ on a writer", writer.ioctl(Ioctl::BIND_VIRQ, &[4]).is_ok(), true);
    report.is("read on a writer", writer.read(4), Err(Errno::EBADF));
    report.is("write on a reader", reader.write(&[1]), Err(Errno::EBADF));
    report.is("unbound port for any domain", reader.ioctl(Ioctl::BIND_UNBOUND_PORT, &[SELF]).is_ok(), true);
    Ok(())
}

fn descriptors(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let copy = file.duplicate()?;
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    drop(file);
    other.notify(theirs).ok();
    let got = copy.next(1)?;
    report.is("read through the copy", report.named(&got), vec!["a".to_owned()]);
    report.is("unbind through the copy", copy.unbind(port), Ok(0));
    Ok(())
}
