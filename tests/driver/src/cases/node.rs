// SPDX-License-Identifier: MIT OR Apache-2.0
//! The node, and what the kernel says about open files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use anyhow::Result;
use evtchn_abi::ioctl::DEVICE_PATH;

use super::Case;
use crate::device::Device;
use crate::report::{Driver, Report};

pub const CASES: &[Case] = &[
    ("node.identity", identity),
    ("node.any_number_of_opens", any_number_of_opens),
    ("node.interrupts_carry_the_programs_name", interrupt_names),
];

fn identity(report: &mut Report) -> Result<()> {
    let about = fs::metadata(DEVICE_PATH)?;
    report.is("a character device", about.file_type().is_char_device(), true);
    report.is("its mode", format!("{:o}", about.mode() & 0o7777), "600".to_owned());
    report.is("its owner", (about.uid(), about.gid()), (0, 0));
    report.is("its major number", libc::major(about.rdev()), 10);
    Ok(())
}

fn any_number_of_opens(report: &mut Report) -> Result<()> {
    let files: Vec<Device> = (0..100).map(|_| Device::open()).collect::<Result<_>>()?;
    let ports = files.iter().filter_map(|file| file.unbound().ok()).count();
    report.is("files that have bound a port", ports, 100);
    Ok(())
}

/// How many interrupts have this program's name.
fn interrupts() -> Result<usize> {
    let comm = fs::read_to_string("/proc/self/comm")?;
    let name = format!("evtchn:{}", comm.trim_end());
    let table = fs::read_to_string("/proc/interrupts")?;
    Ok(table
        .lines()
        .filter(|line| line.contains("xen-dyn-lateeoi") && line.trim_end().ends_with(&name))
        .count())
}

fn interrupt_names(report: &mut Report) -> Result<()> {
    if report.driver() == Driver::Simulated {
        return Ok(());
    }
    fs::write("/proc/self/comm", "fifteen-letters")?;
    let file = Device::open()?;
    fs::write("/proc/self/comm", "another")?;
    let ports: Vec<_> = (0..3).map(|_| file.unbound()).collect();
    report.is("bound", ports.iter().all(Result::is_ok), true);
    report.is("interrupts under the new name", interrupts()?, 0);
    fs::write("/proc/self/comm", "fifteen-letters")?;
    report.is("interrupts under the name at open", interrupts()?, 3);
    drop(file);
    report.is("interrupts after the last close", interrupts()?, 0);
    Ok(())
}
