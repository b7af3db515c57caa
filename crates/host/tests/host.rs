// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains, their kernels and their device files, as programs see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use evtchn_abi::args::{Status, StatusKind};
use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::{DomId, Errno, Hypercall, Op, Port, Virq};
use evtchn_host::{Abi, DeviceFile, Fault, GuestMemory, Host, Levels, LinuxLevel, Readable, StartError};

/// An open file that counts how often it was woken.
struct Program {
    file: DeviceFile,
    wakes: Arc<AtomicUsize>,
}

impl Program {
    fn open(host: &Host, domain: DomId) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let wake = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        Self { file: host.open(domain, "test", Arc::new(wake)).unwrap(), wakes }
    }

    fn call(&self, command: Ioctl, words: &[u32]) -> Result<u32, Errno> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.file.ioctl(command, bytes.as_slice())
    }

    fn offer(&self, domain: DomId) -> u32 {
        self.call(Ioctl::BIND_UNBOUND_PORT, &[domain.0.into()]).unwrap()
    }

    fn connect(&self, domain: DomId, port: u32) -> Result<u32, Errno> {
        self.call(Ioctl::BIND_INTERDOMAIN, &[domain.0.into(), port])
    }

    fn read(&self) -> Result<Vec<u32>, Errno> {
        let mut bytes = Vec::new();
        self.file.read(4096, |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        Ok(bytes.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect())
    }

    fn read_and_enable(&self) -> Result<Vec<u32>, Errno> {
        let ports = self.read()?;
        self.file.enable(ports.iter().copied().map(Port));
        Ok(ports)
    }

    fn wakes(&self) -> usize {
        self.wakes.swap(0, Ordering::SeqCst)
    }
}

/// A program's memory, at address 0.
struct Memory(Vec<u8>);

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        let from = usize::try_from(address).map_err(|_| Fault)?;
        to.copy_from_slice(self.0.get(from..from + to.len()).ok_or(Fault)?);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Fault> {
        let at = usize::try_from(address).map_err(|_| Fault)?;
        self.0.get_mut(at..at + from.len()).ok_or(Fault)?.copy_from_slice(from);
        Ok(())
    }
}

fn status(host: &Host, domain: DomId, port: u32) -> Result<StatusKind, i64> {
    let asked = Status { dom: DomId::SELF, port: Port(port), ..Status::default() };
    let mut memory = Memory(asked.to_bytes().to_vec());
    let arguments = [Op::STATUS.0.into(), 0, 0, 0, 0];
    match host.hypercall(domain, Hypercall::EVENT_CHANNEL_OP, arguments, &mut memory) {
        0 => Ok(Status::from_bytes(memory.0.try_into().unwrap()).kind().expect("a known status")),
        error => Err(error),
    }
}

fn two_domains() -> (Host, DomId, DomId) {
    let host = Host::new(Levels::default(), Abi::default());
    let (a, b) = (host.join(1, 1).unwrap(), host.join(2, 1).unwrap());
    (host, a, b)
}

const ABIS: [Abi; 2] = [Abi::Fifo, Abi::TwoLevel];

/// What is listed of the kernel's ports, from port 1: all but the first port that is free.
fn kernel_ports(host: &Host, domain: DomId) -> Vec<StatusKind> {
    let ports = (1..).map(|port| status(host, domain, port).unwrap());
    ports.take_while(|&kind| kind != StatusKind::Closed).collect()
}

#[test]
fn domain_0_boots_with_linux_s_ports_and_debug_interrupts_only_with_two_level() {
    let virq = StatusKind::Virq;
    for (abi, first, debug) in [(Abi::Fifo, 23, 0), (Abi::TwoLevel, 25, 2)] {
        let host = Host::new(Levels::default(), abi);
        let dom0 = host.join(0, 2).unwrap();
        let ports = kernel_ports(&host, dom0);
        let count = |kind| ports.iter().filter(|&&port| port == kind).count();
        assert_eq!(count(virq(Virq::TIMER)), 2, "{abi:?}");
        assert_eq!(count(virq(Virq::DEBUG)), debug, "{abi:?}");
        assert_eq!(count(StatusKind::Ipi), 10, "{abi:?}");
        assert!(
            [Virq::CONSOLE, Virq::PCPU_STATE, Virq::ARCH_0].iter().all(|&global| count(virq(global)) == 1)
        );
        let store = host.store_port(dom0).unwrap();
        assert_eq!(status(&host, dom0, store.0), Ok(StatusKind::Unbound { dom: dom0 }));
        assert_eq!(Program::open(&host, dom0).offer(dom0), first, "{abi:?}");
    }
}

#[test]
fn a_guest_boots_with_offers_of_its_store_and_console_and_linux_s_own_ports() {
    let host = Host::new(Levels::default(), Abi::default());
    let guest = host.join(7, 2).unwrap();
    let ports = kernel_ports(&host, guest);
    assert_eq!(ports[..2], [StatusKind::Unbound { dom: DomId(0) }; 2]);
    assert_eq!(ports[2], StatusKind::Virq(Virq::TIMER));
    assert_eq!(Program::open(&host, guest).offer(guest), 15);
    assert_eq!(host.store_port(guest), None);
}

/// Two-level has all its ports from the start, FIFO those of the pages that were needed.
#[test]
fn unbind_knows_the_ports_that_the_abi_can_use() {
    let unbind = |program: &Program, port| program.call(Ioctl::UNBIND, &[port]);
    for (abi, last) in [(Abi::Fifo, 1023), (Abi::TwoLevel, 4095)] {
        let host = Host::new(Levels::default(), abi);
        let program = Program::open(&host, host.join(0, 1).unwrap());
        assert_eq!(unbind(&program, last), Err(Errno::ENOTCONN), "{abi:?}");
        for port in [last + 1, 131_071, 131_072, u32::MAX] {
            assert_eq!(unbind(&program, port), Err(Errno::EINVAL), "{abi:?}: port {port}");
        }
    }
}

/// Opens ports until the last one is `last`; the new ports.
fn offer_up_to(program: &Program, last: u32) -> Vec<u32> {
    let ports = std::iter::repeat_with(|| program.offer(DomId::SELF));
    let mut offered: Vec<u32> = ports.take_while(|&port| port < last).collect();
    offered.push(last);
    offered
}

#[test]
fn with_fifo_events_come_on_ports_that_two_level_does_not_have() {
    let host = Host::new(Levels::default(), Abi::Fifo);
    let dom0 = host.join(0, 1).unwrap();
    let (program, other) = (Program::open(&host, dom0), Program::open(&host, dom0));
    let offered = offer_up_to(&program, 5000);
    assert_eq!(program.call(Ioctl::UNBIND, &[5119]), Err(Errno::ENOTCONN));
    assert_eq!(program.call(Ioctl::UNBIND, &[5120]), Err(Errno::EINVAL));
    // A port of every page, in an order that is not theirs.
    for &port in [4999, 5000, 1023, 1024, 4096, 100].iter().filter(|port| offered.contains(port)) {
        let peer = other.connect(dom0, port).unwrap();
        assert_eq!(other.read_and_enable(), Ok(vec![peer]));
        for _ in 0..2 {
            other.call(Ioctl::NOTIFY, &[peer]).unwrap();
            assert_eq!(program.read_and_enable(), Ok(vec![port]));
        }
    }
}

#[test]
fn with_fifo_domain_0_has_all_ports_of_the_abi_and_a_guest_1023() {
    for (id, last) in [(0, 131_071), (1, 1023)] {
        let host = Host::new(Levels::default(), Abi::Fifo);
        let domain = host.join(id, 1).unwrap();
        let (program, other) = (Program::open(&host, domain), Program::open(&host, domain));
        let offered = offer_up_to(&program, last);
        assert_eq!(program.call(Ioctl::BIND_UNBOUND_PORT, &[7]), Err(Errno::ENOSPC), "domain {id}");
        assert_eq!(program.call(Ioctl::UNBIND, &[last]), Ok(0));
        // The last port and the first one still pass events.
        let peer = other.connect(domain, offered[0]).unwrap();
        assert_eq!((peer, other.read_and_enable()), (last, Ok(vec![peer])));
        other.call(Ioctl::NOTIFY, &[peer]).unwrap();
        assert_eq!(program.read_and_enable(), Ok(vec![offered[0]]));
        program.call(Ioctl::NOTIFY, &[offered[0]]).unwrap();
        assert_eq!(other.read_and_enable(), Ok(vec![last]));
        drop(program);
        // The close gave everything back.
        assert_eq!((other.offer(domain), other.offer(domain)), (offered[0], offered[1]));
    }
}

#[test]
fn a_port_that_is_closed_with_an_event_pending_is_free_at_once_and_quiet() {
    for abi in ABIS {
        let host = Host::new(Levels::default(), abi);
        let (a, b) = (host.join(1, 1).unwrap(), host.join(2, 1).unwrap());
        let (listener, caller) = (Program::open(&host, a), Program::open(&host, b));
        let offered = listener.offer(b);
        let local = caller.connect(a, offered).unwrap();
        // One that is read and not enabled, and one more that waits for that.
        for _ in 0..2 {
            caller.call(Ioctl::NOTIFY, &[local]).unwrap();
        }
        assert_eq!(listener.read(), Ok(vec![offered]));
        listener.call(Ioctl::UNBIND, &[offered]).unwrap();
        assert_eq!(listener.offer(b), offered, "{abi:?}");
        listener.file.enable([Port(offered)]);
        assert_eq!(listener.read(), Err(Errno::EAGAIN), "{abi:?}");
    }
}

#[test]
fn ids_and_vcpus_are_checked() {
    let host = Host::new(Levels::default(), Abi::default());
    assert!(host.join(0x7fef, 1).is_ok());
    assert!(matches!(host.join(0x7ff0, 1), Err(StartError::Id(0x7ff0))));
    assert!(matches!(host.join(0x1_0001, 1), Err(StartError::Id(_))));
    assert!(matches!(host.join(0x7fef, 2), Err(StartError::Vcpus { running: 1, wanted: 2, .. })));
}

#[test]
fn a_domain_ends_with_its_last_member_and_domain_0_is_told() {
    let host = Host::new(Levels::default(), Abi::default());
    let dom0 = host.join(0, 1).unwrap();
    let (guest, again) = (host.join(5, 1).unwrap(), host.join(5, 1).unwrap());
    assert_eq!(guest, again);
    let watcher = Program::open(&host, dom0);
    let port = watcher.call(Ioctl::BIND_VIRQ, &[Virq::DOM_EXC.0]).unwrap();
    host.leave(guest);
    assert_eq!(watcher.read(), Err(Errno::EAGAIN));
    host.leave(guest);
    assert_eq!(watcher.read(), Ok(vec![port]));
    assert!(host.open(guest, "test", Arc::new(|| {})).is_err());
}

#[test]
fn the_binder_gets_one_event_at_once_and_the_peer_none() {
    let (host, a, b) = two_domains();
    let (listener, caller) = (Program::open(&host, a), Program::open(&host, b));
    let offered = listener.offer(b);
    let local = caller.connect(a, offered).unwrap();
    assert_eq!((caller.wakes(), listener.wakes()), (1, 0));
    assert_eq!(caller.read(), Ok(vec![local]));
    assert_eq!(listener.read(), Err(Errno::EAGAIN));
}

#[test]
fn events_while_a_port_is_disabled_come_once_when_it_is_enabled() {
    let (host, a, b) = two_domains();
    let (listener, caller) = (Program::open(&host, a), Program::open(&host, b));
    let offered = listener.offer(b);
    let local = caller.connect(a, offered).unwrap();
    for _ in 0..3 {
        caller.call(Ioctl::NOTIFY, &[local]).unwrap();
    }
    assert_eq!((listener.wakes(), listener.read()), (1, Ok(vec![offered])));
    caller.call(Ioctl::NOTIFY, &[local]).unwrap();
    caller.call(Ioctl::NOTIFY, &[local]).unwrap();
    assert_eq!(listener.read(), Err(Errno::EAGAIN));
    listener.file.enable([Port(offered)]);
    assert_eq!(listener.read_and_enable(), Ok(vec![offered]));
    assert_eq!(listener.read(), Err(Errno::EAGAIN));
}

#[test]
fn the_last_close_of_a_file_leaves_the_peer_unbound() {
    let (host, a, b) = two_domains();
    let (listener, caller) = (Program::open(&host, a), Program::open(&host, b));
    let offered = listener.offer(b);
    let local = caller.connect(a, offered).unwrap();
    drop(caller);
    assert_eq!(status(&host, b, local), Ok(StatusKind::Closed));
    assert_eq!(status(&host, a, offered), Ok(StatusKind::Unbound { dom: b }));
    assert_eq!(listener.call(Ioctl::NOTIFY, &[offered]), Ok(0));
}

#[test]
fn a_file_may_outlive_its_domain() {
    let (host, a, b) = two_domains();
    let (listener, caller) = (Program::open(&host, a), Program::open(&host, b));
    let offered = listener.offer(b);
    let local = caller.connect(a, offered).unwrap();
    host.leave(b);
    assert_eq!(caller.call(Ioctl::NOTIFY, &[local]), Ok(0));
    assert_eq!(caller.call(Ioctl::BIND_UNBOUND_PORT, &[1]), Err(Errno::ESRCH));
    assert_eq!(status(&host, a, offered), Ok(StatusKind::Unbound { dom: b }));
    // A new domain of that number can bind the old offer, as on Xen, and gets the old file's port number.
    let b = host.join(2, 1).unwrap();
    let heir = Program::open(&host, b);
    assert_eq!(heir.connect(a, offered), Ok(local));
    heir.read_and_enable().unwrap();
    // The old file reaches nothing of it.
    assert_eq!(caller.call(Ioctl::NOTIFY, &[local]), Ok(0));
    assert_eq!(listener.read(), Err(Errno::EAGAIN));
    drop(caller);
    listener.call(Ioctl::NOTIFY, &[offered]).unwrap();
    assert_eq!(heir.read(), Ok(vec![local]));
}

#[test]
fn a_static_port_has_as_many_files_as_want_it_and_stays_open() {
    let levels = Levels { linux: LinuxLevel::Linux7_2, ..Levels::default() };
    let host = Host::new(levels, Abi::default());
    let domain = host.join(1, 1).unwrap();
    let (first, second, owner) =
        (Program::open(&host, domain), Program::open(&host, domain), Program::open(&host, domain));
    // A port that no file has: allocated by hypercall, for loopback.
    let mut memory = Memory(vec![0xf0, 0x7f, 0xf0, 0x7f, 0, 0, 0, 0]);
    let arguments = [Op::ALLOC_UNBOUND.0.into(), 0, 0, 0, 0];
    assert_eq!(host.hypercall(domain, Hypercall::EVENT_CHANNEL_OP, arguments, &mut memory), 0);
    let port = u32::from_ne_bytes(memory.0[4..8].try_into().unwrap());
    let peer = owner.connect(domain, port).unwrap();
    owner.read_and_enable().unwrap();
    assert_eq!(first.call(Ioctl::BIND_STATIC, &[port]), Ok(0));
    assert_eq!(first.call(Ioctl::BIND_STATIC, &[port]), Err(Errno::EISCONN));
    assert_eq!(second.call(Ioctl::BIND_STATIC, &[port]), Ok(0));
    // The kernel's own port and a dynamic one are refused.
    assert_eq!(first.call(Ioctl::BIND_STATIC, &[1]), Err(Errno::EBUSY));
    assert_eq!(first.call(Ioctl::BIND_STATIC, &[peer]), Err(Errno::EBUSY));
    owner.call(Ioctl::NOTIFY, &[peer]).unwrap();
    assert_eq!((first.read_and_enable(), second.read_and_enable()), (Ok(vec![port]), Ok(vec![port])));
    assert_eq!(first.call(Ioctl::UNBIND, &[port]), Ok(0));
    owner.call(Ioctl::NOTIFY, &[peer]).unwrap();
    assert_eq!((first.read(), second.read()), (Err(Errno::EAGAIN), Ok(vec![port])));
    drop(second);
    assert!(matches!(status(&host, domain, port), Ok(StatusKind::Interdomain { .. })));
}

#[test]
fn a_static_binding_of_a_port_that_does_not_exist_is_harmless() {
    for (abi, last) in [(Abi::Fifo, 131_071), (Abi::TwoLevel, 4095)] {
        let host = Host::new(Levels { linux: LinuxLevel::Linux7_2, ..Levels::default() }, abi);
        let program = Program::open(&host, host.join(0, 1).unwrap());
        for port in [900, 4094, last] {
            assert_eq!(program.call(Ioctl::BIND_STATIC, &[port]), Ok(0), "{abi:?}: port {port}");
        }
        for port in [last + 1, u32::MAX] {
            let refused = Err(Errno::ENOMEM);
            assert_eq!(program.call(Ioctl::BIND_STATIC, &[port]), refused, "{abi:?}: port {port}");
        }
        program.file.enable([900, last, last + 1, u32::MAX].map(Port));
        assert_eq!(program.file.readable(4096), Readable::Empty);
    }
}

#[test]
fn hypercalls_other_than_event_channels_and_the_version_are_unknown() {
    let host = Host::new(Levels::default(), Abi::default());
    let domain = host.join(0, 1).unwrap();
    let mut memory = Memory(vec![0; 64]);
    let mut call = |number, first| host.hypercall(domain, number, [first, 0, 0, 0, 0], &mut memory);
    assert_eq!(call(Hypercall::XEN_VERSION, 0), 4 << 16 | 17);
    assert_eq!(call(Hypercall::XEN_VERSION, 77), Errno::ENOSYS.negated());
    assert_eq!(call(Hypercall::SCHED_OP, 3), Errno::ENOSYS.negated());
    assert_eq!(call(Hypercall::DOMCTL, 0), Errno::ENOSYS.negated());
    assert_eq!(call(Hypercall(12345), 0), Errno::ENOSYS.negated());
    assert_eq!(call(Hypercall::EVENT_CHANNEL_OP, 99), Errno::ENOSYS.negated());
}

#[test]
fn with_fifo_a_port_that_a_program_moves_keeps_its_events() {
    const VCPUS: u32 = 40;
    let host = Host::new(Levels::default(), Abi::Fifo);
    let (a, b) = (host.join(1, VCPUS).unwrap(), host.join(2, 1).unwrap());
    let (listener, caller) = (Program::open(&host, a), Program::open(&host, b));
    let offered = listener.offer(b);
    let local = caller.connect(a, offered).unwrap();
    for vcpu in [1, 31, 32, 39, 0] {
        let mut memory = Memory([offered, vcpu].into_iter().flat_map(u32::to_le_bytes).collect());
        let arguments = [Op::BIND_VCPU.0.into(), 0, 0, 0, 0];
        assert_eq!(host.hypercall(a, Hypercall::EVENT_CHANNEL_OP, arguments, &mut memory), 0);
        for _ in 0..2 {
            caller.call(Ioctl::NOTIFY, &[local]).unwrap();
            assert_eq!(listener.read_and_enable(), Ok(vec![offered]), "vCPU {vcpu}");
        }
    }
}

/// As on Xen a program can spoil the events of its own domain through `/dev/xen/privcmd`, and no more.
#[test]
fn hypercalls_behind_the_kernels_back_harm_its_own_domain_alone() {
    for abi in ABIS {
        let host = Host::new(Levels::default(), abi);
        let [dom0, a, b] = [0, 1, 2].map(|id| host.join(id, 1).unwrap());
        let call = |op: Op, words: &[u32]| {
            let mut memory = Memory(words.iter().flat_map(|word| word.to_le_bytes()).collect());
            memory.0.resize(64, 0);
            host.hypercall(a, Hypercall::EVENT_CHANNEL_OP, [op.0.into(), 0, 0, 0, 0], &mut memory)
        };
        let spoilt = Program::open(&host, a);
        spoilt.offer(b);
        for gfn in (0xff0..0x1010).chain(0x1ff0..0x2090).chain([u32::MAX]) {
            call(Op::INIT_CONTROL, &[gfn, 0, 0, 0]);
            call(Op::EXPAND_ARRAY, &[gfn, 0]);
        }
        for port in 1..20 {
            call(Op::UNMASK, &[port]);
        }
        assert_eq!(call(Op::RESET, &[DomId::SELF.0.into()]), 0, "{abi:?}");
        for _ in 0..40 {
            // The kernel may not get the pages that it needs any more.
            let _ = spoilt.call(Ioctl::BIND_UNBOUND_PORT, &[2]);
        }
        drop(spoilt);
        // Others notice nothing.
        let (listener, caller) = (Program::open(&host, dom0), Program::open(&host, b));
        let offered = listener.offer(b);
        let local = caller.connect(dom0, offered).unwrap();
        caller.call(Ioctl::NOTIFY, &[local]).unwrap();
        assert_eq!(listener.read(), Ok(vec![offered]), "{abi:?}");
        // The domain is whole again when it starts again.
        host.leave(a);
        host.join(1, 1).unwrap();
        let heir = Program::open(&host, a);
        let local = heir.connect(dom0, listener.offer(a)).unwrap();
        assert_eq!(heir.read(), Ok(vec![local]), "{abi:?}");
    }
}

/// Ports that are notified all the time by other threads are closed and opened again: nobody gets what was sent to the one before.
fn a_new_port_is_quiet(abi: Abi) {
    const PORTS: usize = 4;
    const ROUNDS: u32 = 20;
    let host = Host::new(Levels::default(), abi);
    let (a, b) = (host.join(1, 1).unwrap(), host.join(2, 1).unwrap());
    let offered: [AtomicU32; PORTS] = Default::default();
    let done = AtomicBool::new(false);
    let mut heard = 0;
    thread::scope(|scope| {
        for offered in &offered {
            let (host, done) = (&host, &done);
            scope.spawn(move || {
                let caller = Program::open(host, b);
                while !done.load(Ordering::SeqCst) {
                    // It may be gone by now, or be another's.
                    let Ok(local) = caller.connect(a, offered.load(Ordering::SeqCst)) else { continue };
                    for _ in 0..20 {
                        caller.call(Ioctl::NOTIFY, &[local]).unwrap();
                    }
                    caller.call(Ioctl::UNBIND, &[local]).unwrap();
                }
            });
        }
        for _ in 0..ROUNDS {
            let files: Vec<Program> = (0..PORTS).map(|_| Program::open(&host, a)).collect();
            for (file, offered) in files.iter().zip(&offered) {
                offered.store(file.offer(b), Ordering::SeqCst);
            }
            for file in &files {
                while file.read_and_enable().is_err() {
                    thread::yield_now();
                }
            }
            drop(files);
            // For nobody: what comes to these ports was not sent to them.
            let files: Vec<Program> = (0..PORTS).map(|_| Program::open(&host, a)).collect();
            for file in &files {
                file.offer(DomId(99));
            }
            thread::yield_now();
            heard += files.iter().filter(|file| file.read() != Err(Errno::EAGAIN)).count();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(heard, 0, "{abi:?}");
}

#[test]
fn a_port_gets_nothing_that_was_sent_to_its_number_before() {
    ABIS.into_iter().for_each(a_new_port_is_quiet);
}

/// Many threads notify one file while its reader takes and enables: after the last notification of each, its port comes.
#[test]
fn no_event_is_lost_between_threads() {
    ABIS.into_iter().for_each(no_event_is_lost);
}

fn no_event_is_lost(abi: Abi) {
    const SENDERS: u32 = 4;
    const ROUNDS: u32 = 3000;
    let host = Host::new(Levels::default(), abi);
    let (a, b) = (host.join(1, 1).unwrap(), host.join(2, 1).unwrap());
    let listener = Program::open(&host, a);
    let sent: Vec<AtomicUsize> = (0..SENDERS).map(|_| AtomicUsize::new(0)).collect();
    let offered: Vec<u32> = (0..SENDERS).map(|_| listener.offer(b)).collect();
    let mut seen = vec![0; SENDERS as usize];
    thread::scope(|scope| {
        for (sent, &offered) in sent.iter().zip(&offered) {
            let host = &host;
            scope.spawn(move || {
                let caller = Program::open(host, b);
                let local = caller.connect(a, offered).unwrap();
                for round in 1..=ROUNDS {
                    sent.store(round as usize, Ordering::SeqCst);
                    caller.call(Ioctl::NOTIFY, &[local]).unwrap();
                }
            });
        }
        let start = std::time::Instant::now();
        while seen.iter().any(|&count| count < ROUNDS as usize) {
            assert!(start.elapsed().as_secs() < 60, "an event was lost: {seen:?}");
            let Ok(ports) = listener.read() else { continue };
            for port in ports {
                // Enable first, then look: what is sent from now on is announced again.
                listener.file.enable([Port(port)]);
                let sender =
                    offered.iter().position(|&offered| offered == port).expect("only our ports fire");
                seen[sender] = sent[sender].load(Ordering::SeqCst);
            }
        }
    });
}
