// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every ioctl: results, the order of the checks, and what reaches the system below.
#![cfg(not(loom))]

mod common;

use common::{Call, Open, TestFile, bad_pointer, domid, words};
use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::{DomId, Errno, Port, Virq};
use evtchn_device::{Command, Driver, Kind, Level, SetUpError};

const ALL: [Ioctl; 8] = [
    Ioctl::BIND_VIRQ,
    Ioctl::BIND_INTERDOMAIN,
    Ioctl::BIND_UNBOUND_PORT,
    Ioctl::UNBIND,
    Ioctl::NOTIFY,
    Ioctl::RESET,
    Ioctl::RESTRICT_DOMID,
    Ioctl::BIND_STATIC,
];

#[test]
fn command_words_are_matched_whole() {
    for word in ALL {
        assert!(Command::decode(Level::Linux7_2, word).is_some(), "{word:?}");
        for changed in [word.0 ^ 1 << 16, word.0 | 1 << 30, word.0 | 1 << 31, word.0 ^ 0x100] {
            let changed = Ioctl(changed);
            assert_eq!(Command::decode(Level::Linux7_2, changed), None, "{changed:?}");
        }
    }
}

#[test]
fn an_unknown_command_is_enosys_and_touches_nothing() {
    const TCGETS: u32 = 0x5401;
    const FIONREAD: u32 = 0x541b;
    const RESET_WITH_A_SIZE: u32 = 0x44505;
    let mut open = Open::new();
    for word in [TCGETS, FIONREAD, RESET_WITH_A_SIZE, 0, 0x44508, u32::MAX] {
        assert_eq!(open.ioctl(Ioctl(word), bad_pointer()), Err(Errno::ENOSYS));
        assert_eq!(open.looks, 0);
    }
    assert!(open.file.calls.is_empty());
}

#[test]
fn bind_static_is_the_only_command_that_linux_6_1_lacks() {
    for word in ALL {
        let old = Command::decode(Level::Linux6_1, word);
        let new = Command::decode(Level::Linux7_2, word);
        assert_eq!(old == new, word != Ioctl::BIND_STATIC, "{word:?}");
    }
    let mut open = Open::new();
    open.level = Level::Linux6_1;
    assert_eq!(open.ioctl(Ioctl::BIND_STATIC, bad_pointer()), Err(Errno::ENOSYS));
}

#[test]
fn a_bad_pointer_is_efault_for_every_command_with_an_argument() {
    for word in ALL {
        let mut open = Open::new();
        let (result, looks) = match word {
            Ioctl::RESET => (Ok(0), 0),
            _ => (Err(Errno::EFAULT), 1),
        };
        assert_eq!(open.ioctl(word, bad_pointer()), result, "{word:?}");
        assert_eq!(open.looks, looks, "{word:?}");
        assert!(open.file.calls.is_empty());
        assert!(!open.restriction.is_restricted());
    }
}

#[test]
fn a_restriction_is_checked_before_the_pointer_except_by_those_that_need_the_argument_for_it() {
    for word in ALL {
        let mut open = Open::restricted_to(5);
        let expected = match word {
            Ioctl::BIND_VIRQ | Ioctl::BIND_UNBOUND_PORT | Ioctl::RESTRICT_DOMID => Err(Errno::EACCES),
            Ioctl::RESET => Ok(0),
            _ => Err(Errno::EFAULT),
        };
        assert_eq!(open.ioctl(word, bad_pointer()), expected, "{word:?}");
    }
}

#[test]
fn a_short_argument_is_efault() {
    let mut open = Open::new();
    assert_eq!(open.ioctl(Ioctl::BIND_INTERDOMAIN, words(&[0])), Err(Errno::EFAULT));
    assert_eq!(open.ioctl(Ioctl::BIND_VIRQ, domid(0)), Err(Errno::EFAULT));
}

#[test]
fn binds_return_the_port_and_leave_it_enabled() {
    for (word, argument, call) in [
        (Ioctl::BIND_VIRQ, vec![3], Call::BindVirq(Virq(3))),
        (Ioctl::BIND_INTERDOMAIN, vec![2, 7], Call::BindInterdomain(DomId(2), Port(7))),
        (Ioctl::BIND_UNBOUND_PORT, vec![54321], Call::AllocUnbound(DomId(54321))),
    ] {
        let mut open = Open::new();
        assert_eq!(open.ioctl(word, words(&argument)), Ok(10));
        assert_eq!(open.file.calls, [call]);
        let binding = &open.file.bindings[&Port(10)];
        assert!(binding.is_enabled());
        assert_eq!(binding.kind(), Kind::Dynamic);
        assert_eq!(open.file.write_ports(&[10]), 4);
        assert_eq!(open.file.calls, [call], "nothing to unmask");
    }
}

#[test]
fn a_hypercall_error_is_returned_as_is_and_nothing_is_closed() {
    for (word, argument) in [
        (Ioctl::BIND_VIRQ, vec![3]),
        (Ioctl::BIND_INTERDOMAIN, vec![2, 7]),
        (Ioctl::BIND_UNBOUND_PORT, vec![1]),
    ] {
        for errno in [Errno::EEXIST, Errno::EINVAL, Errno::ESRCH, Errno::ENOSPC, Errno::EPERM] {
            let mut open = Open::new();
            open.file.hypercall = Err(errno);
            assert_eq!(open.ioctl(word, words(&argument)), Err(errno));
            assert_eq!(open.file.calls.len(), 1);
            assert!(open.file.bindings.is_empty());
        }
    }
}

#[test]
fn a_failed_set_up_closes_the_channel_exactly_once() {
    for (word, argument) in [
        (Ioctl::BIND_VIRQ, vec![3]),
        (Ioctl::BIND_INTERDOMAIN, vec![2, 7]),
        (Ioctl::BIND_UNBOUND_PORT, vec![1]),
    ] {
        for (error, closes) in [(SetUpError::Open(Errno::ENOMEM), 1), (SetUpError::Closed(Errno::ENOMEM), 0)]
        {
            let mut open = Open::new();
            open.file.set_up_error = Some(error);
            assert_eq!(open.ioctl(word, words(&argument)), Err(Errno::ENOMEM));
            let closed = open.file.calls.iter().filter(|&&call| call == Call::Close(Port(10)));
            assert_eq!(closed.count(), closes);
        }
    }
}

#[test]
fn domains_are_cut_to_16_bits_for_the_hypercall() {
    let mut open = Open::new();
    open.ioctl(Ioctl::BIND_UNBOUND_PORT, words(&[0x17ff0])).unwrap();
    open.ioctl(Ioctl::BIND_INTERDOMAIN, words(&[0x10002, 7])).unwrap();
    assert_eq!(open.file.calls, [Call::AllocUnbound(DomId::SELF), Call::BindInterdomain(DomId(2), Port(7))]);
}

#[test]
fn a_restricted_file_binds_to_its_domain_only_compared_in_32_bits() {
    for (domain, expected) in [
        (5, Ok(10)),
        (6, Err(Errno::EACCES)),
        (0, Err(Errno::EACCES)),
        (0x10005, Err(Errno::EACCES)),
        (0xffff, Err(Errno::EACCES)),
    ] {
        let mut open = Open::restricted_to(5);
        let result = open.ioctl(Ioctl::BIND_INTERDOMAIN, words(&[domain, 7]));
        assert_eq!(result, expected, "{domain:#x}");
        assert_eq!(open.file.calls.is_empty(), expected.is_err());
    }
}

#[test]
fn a_restricted_file_makes_no_ports_of_its_own() {
    let mut open = Open::restricted_to(5);
    assert_eq!(open.ioctl(Ioctl::BIND_VIRQ, words(&[3])), Err(Errno::EACCES));
    assert_eq!(open.ioctl(Ioctl::BIND_UNBOUND_PORT, words(&[5])), Err(Errno::EACCES));
    assert!(open.file.calls.is_empty());
}

#[test]
fn a_restricted_file_keeps_what_it_bound_before() {
    let mut open = Open::of(TestFile::with_ports([8, 9]));
    open.ioctl(Ioctl::RESTRICT_DOMID, domid(5)).unwrap();
    assert_eq!(open.ioctl(Ioctl::NOTIFY, words(&[8])), Ok(0));
    assert_eq!(open.ioctl(Ioctl::UNBIND, words(&[9])), Ok(0));
    assert_eq!(open.ioctl(Ioctl::RESET, bad_pointer()), Ok(0));
}

#[test]
fn restricting_is_one_way_and_takes_only_real_domains() {
    for (domain, expected) in [
        (0, Err(Errno::EINVAL)),
        (1, Ok(0)),
        (0x7fef, Ok(0)),
        (0x7ff0, Err(Errno::EINVAL)),
        (0xffff, Err(Errno::EINVAL)),
    ] {
        let mut open = Open::new();
        assert_eq!(open.ioctl(Ioctl::RESTRICT_DOMID, domid(domain)), expected);
        let restricted = expected.is_ok().then_some(DomId(domain));
        assert_eq!(open.restriction.domain(), restricted);
    }
    let mut open = Open::restricted_to(5);
    for domain in [5, 6, 0] {
        assert_eq!(open.ioctl(Ioctl::RESTRICT_DOMID, domid(domain)), Err(Errno::EACCES));
    }
    assert_eq!(open.restriction.domain(), Some(DomId(5)));
}

#[test]
fn unbind_tells_unusable_numbers_from_ports_of_others() {
    for usable in [1024, 4096] {
        let mut open = Open::new();
        open.file.usable_ports = usable;
        for (port, expected) in [
            (0, Errno::ENOTCONN),
            (usable - 1, Errno::ENOTCONN),
            (usable, Errno::EINVAL),
            (u32::MAX, Errno::EINVAL),
        ] {
            assert_eq!(open.ioctl(Ioctl::UNBIND, words(&[port])), Err(expected));
        }
    }
}

#[test]
fn unbind_closes_the_port_and_the_second_one_is_enotconn() {
    let mut open = Open::of(TestFile::with_ports([9]));
    assert_eq!(open.ioctl(Ioctl::UNBIND, words(&[9])), Ok(0));
    assert_eq!(open.file.calls, [Call::Close(Port(9))]);
    assert_eq!(open.ioctl(Ioctl::UNBIND, words(&[9])), Err(Errno::ENOTCONN));
}

#[test]
fn notify_of_any_number_that_is_not_bound_here_is_enotconn() {
    let mut open = Open::of(TestFile::with_ports([9]));
    for port in [0, 8, 4096, u32::MAX] {
        assert_eq!(open.ioctl(Ioctl::NOTIFY, words(&[port])), Err(Errno::ENOTCONN));
    }
    assert!(open.file.calls.is_empty());
    assert_eq!(open.ioctl(Ioctl::NOTIFY, words(&[9])), Ok(0));
    assert_eq!(open.file.calls, [Call::Notify(Port(9))]);
}

#[test]
fn bind_static_returns_zero_and_the_port_outlives_its_binding() {
    let mut open = Open::new();
    assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[900])), Ok(0));
    assert_eq!(open.file.bindings[&Port(900)].kind(), Kind::Static);
    assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[900])), Err(Errno::EISCONN));
    assert_eq!(open.ioctl(Ioctl::UNBIND, words(&[900])), Ok(0));
    assert!(open.file.calls.is_empty(), "no hypercall at all");
    assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[900])), Ok(0));
}

#[test]
fn bind_static_of_a_port_bound_here_dynamically_is_eisconn() {
    let mut open = Open::of(TestFile::with_ports([9]));
    open.file.in_use.insert(Port(9));
    assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[9])), Err(Errno::EISCONN));
}

#[test]
fn bind_static_leaves_ports_of_the_kernel_and_of_other_files_alone() {
    let mut open = Open::new();
    open.file.in_use.insert(Port(3));
    for port in [0, 3] {
        assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[port])), Err(Errno::EBUSY));
    }
    assert!(open.file.bindings.is_empty());
}

#[test]
fn bind_static_works_on_a_restricted_file() {
    let mut open = Open::restricted_to(5);
    assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[900])), Ok(0));
}

#[test]
fn a_failed_static_set_up_closes_nothing() {
    for error in [SetUpError::Open(Errno::ENOMEM), SetUpError::Closed(Errno::ENOMEM)] {
        let mut open = Open::new();
        open.file.set_up_error = Some(error);
        assert_eq!(open.ioctl(Ioctl::BIND_STATIC, words(&[900])), Err(Errno::ENOMEM));
        assert!(open.file.calls.is_empty());
    }
}

#[test]
fn reset_works_on_a_fresh_file_and_looks_at_no_argument() {
    let mut open = Open::new();
    assert_eq!(open.ioctl(Ioctl::RESET, bad_pointer()), Ok(0));
    assert_eq!(open.looks, 0);
}

#[test]
fn the_last_close_closes_dynamic_ports_and_leaves_static_ones() {
    let mut file = TestFile::with_ports([8, 9]);
    file.set_up(Port(900), Kind::Static).unwrap();
    for port in [8, 9, 900] {
        file.tear_down(Port(port));
    }
    assert_eq!(file.calls, [Call::Close(Port(8)), Call::Close(Port(9))]);
}
