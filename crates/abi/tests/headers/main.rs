// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compares every size, offset and value of the crate with Xen's public headers, as a C compiler sees them.
//!
//! A small C program is generated from the crate's tables. For 64-bit x86 it is run; for 32-bit x86, where there may be
//! no C library, it is compiled to assembly, which then holds the numbers. Layouts of 64-bit Arm come with the headers
//! for 64-bit x86; the same compiler also reads the headers as they are on Arm, where numbers have the same sizes and
//! alignments.
//!
//! The headers are Debian's package `libxen-dev`; `cargo xtask fetch` gets it. They are looked for in the folder that
//! `EVTCHN_XEN_HEADERS` names, in the workspace's `target/debian`, and in `/usr/include`. Without them the tests say
//! so and pass.
#![cfg(target_arch = "x86_64")]

mod defines;
mod expected;
mod locate;
mod probe;

use expected::{Expected, Machine};
use locate::{Headers, say};
use probe::Report;
use std::collections::BTreeSet;

/// Names that some release of the headers lacks, and why.
const MAY_BE_ABSENT: &[(&str, &str)] = &[
    ("DOMID_ANY", "newer than Xen 4.17"),
    ("IOCTL_EVTCHN_BIND_STATIC", "newer than Linux 6.1, and never in Xen's copy"),
    ("VIRQ_XENOPROF", "the profiler was dropped in Xen 4.22"),
];

/// Checks a report number by number, and says what the headers do not have.
fn compare(machine: &str, expected: &[Expected], report: &Report) {
    let mut wrong = Vec::new();
    let mut absent = BTreeSet::new();
    let mut same = 0;
    for item in expected {
        match report.get(item) {
            Some(value) if value == item.value => same += 1,
            Some(value) => wrong.push(format!("{item}: headers {value}, crate {}", item.value)),
            None => _ = absent.insert(item.guard.unwrap_or(&item.name)),
        }
    }
    assert!(wrong.is_empty(), "{machine}: {}", wrong.join("; "));
    say_result(machine, same, &absent);
    absent.retain(|name| !MAY_BE_ABSENT.iter().any(|(known, _)| known == name));
    assert!(absent.is_empty(), "{machine}: the headers do not define {absent:?}");
}

fn say_result(machine: &str, same: usize, absent: &BTreeSet<&str>) {
    let list: Vec<_> = absent.iter().copied().collect();
    let list = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    say(&format!("{machine}: {same} numbers agree; not in these headers: {list}"));
}

#[test]
fn everything_is_as_a_64_bit_compiler_sees_it() {
    let Some(headers) = Headers::xen() else {
        return;
    };
    let mut expected = expected::xen(Machine::X86_64);
    expected.extend(expected::arm64());
    expected.extend(expected::xen_errnos());
    let report = probe::run("xen-64", &headers, &probe::XEN_64, &expected);
    compare("x86-64 and arm64", &expected, &report);
}

#[test]
fn everything_is_as_a_32_bit_compiler_sees_it() {
    let Some(headers) = Headers::xen() else {
        return;
    };
    let expected = expected::xen(Machine::X86_32);
    let report = probe::assemble_32("xen-32", &headers, &probe::XEN_32, &expected);
    compare("x86-32", &expected, &report);
}

#[test]
fn everything_is_as_the_headers_are_on_arm() {
    let Some(headers) = Headers::xen() else {
        return;
    };
    let expected = expected::xen(Machine::Arm64);
    let report = probe::run("xen-arm64", &headers, &probe::XEN_ARM64, &expected);
    compare("arm64", &expected, &report);
}

#[test]
fn the_error_numbers_are_all_of_xens_and_linuxs_for_the_rest() {
    let Some(headers) = Headers::xen() else {
        return;
    };
    let report = probe::run("errno", &headers, &probe::XEN_64, &[]);
    let known = expected::xen_errnos();
    for (name, value) in report.values("XEN_E") {
        let same = known.iter().any(|item| item.value == value);
        assert!(same, "{name} = {value} has no constant");
    }
    let expected = expected::linux_errnos();
    let report = probe::run("linux-errno", &headers, &probe::LINUX_ERRNO, &expected);
    compare("errno.h", &expected, &report);
}

#[test]
fn nothing_that_the_headers_define_is_left_out() {
    let Some(headers) = Headers::xen() else {
        return;
    };
    let known: Vec<String> = [Machine::X86_64, Machine::X86_32, Machine::Arm64]
        .into_iter()
        .flat_map(expected::xen)
        .map(|item| item.name)
        .collect();
    let files = [
        ("xen/event_channel.h", &["EVTCHN", "BIND_PIRQ"][..]),
        ("xen/xen.h", &["VIRQ_", "NR_VIRQS", "DOMID_"]),
        ("xen/sys/evtchn.h", &["IOCTL_EVTCHN_"]),
        ("xen/vcpu.h", &["VCPU_SSHOTTMR_"]),
        ("xen/physdev.h", &["XENIRQSTAT_"]),
        ("xen/hvm/params.h", &["HVM_PARAM_CALLBACK_"]),
    ];
    for (file, prefixes) in files {
        let defines = defines::in_file(&headers.path(file), prefixes);
        assert!(!defines.is_empty(), "{file} defines none of {prefixes:?}");
        for name in defines {
            assert!(known.contains(&name), "{file} defines {name}, which the crate does not have");
        }
    }
}

#[test]
fn the_ioctls_are_those_of_linuxs_own_header() {
    let Some(headers) = Headers::linux() else {
        return;
    };
    let expected = expected::ioctls();
    let report = probe::run("linux", &headers, &probe::LINUX, &expected);
    compare("Linux's xen/evtchn.h", &expected, &report);
}
