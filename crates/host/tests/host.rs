// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains, their kernels and their device files, as programs see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use evtchn_abi::args::{Status, StatusKind};
use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::{DomId, Errno, Hypercall, Op, Port, Virq};
use evtchn_host::{DeviceFile, Fault, GuestMemory, Host, Levels, LinuxLevel, Readable, StartError};

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
    let host = Host::new(Levels::default());
    let (a, b) = (host.join(1, 1).unwrap(), host.join(2, 1).unwrap());
    (host, a, b)
}

#[test]
fn domain_0_boots_with_linux_s_interrupts_and_a_port_for_the_store() {
    let host = Host::new(Levels::default());
    let dom0 = host.join(0, 2).unwrap();
    let bound: Vec<StatusKind> = (1..8).map(|port| status(&host, dom0, port).unwrap()).collect();
    let virqs =
        [Virq::TIMER, Virq::DEBUG, Virq::CONSOLE, Virq::PCPU_STATE, Virq::ARCH_0, Virq::TIMER, Virq::DEBUG];
    assert_eq!(bound, virqs.map(StatusKind::Virq));
    assert_eq!(host.store_port(dom0), Some(Port(8)));
    assert_eq!(status(&host, dom0, 8), Ok(StatusKind::Unbound { dom: dom0 }));
}

#[test]
fn a_guest_boots_with_its_timer_and_nothing_for_the_store() {
    let host = Host::new(Levels::default());
    let guest = host.join(7, 1).unwrap();
    assert_eq!(status(&host, guest, 1), Ok(StatusKind::Virq(Virq::TIMER)));
    assert_eq!(status(&host, guest, 2), Ok(StatusKind::Closed));
    assert_eq!(host.store_port(guest), None);
}

#[test]
fn ids_and_vcpus_are_checked() {
    let host = Host::new(Levels::default());
    assert!(host.join(0x7fef, 1).is_ok());
    assert!(matches!(host.join(0x7ff0, 1), Err(StartError::Id(0x7ff0))));
    assert!(matches!(host.join(0x1_0001, 1), Err(StartError::Id(_))));
    assert!(matches!(host.join(0x7fef, 2), Err(StartError::Vcpus { running: 1, wanted: 2, .. })));
}

#[test]
fn a_domain_ends_with_its_last_member_and_domain_0_is_told() {
    let host = Host::new(Levels::default());
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
    let host = Host::new(levels);
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
    let host = Host::new(Levels { linux: LinuxLevel::Linux7_2, ..Levels::default() });
    let domain = host.join(0, 1).unwrap();
    let program = Program::open(&host, domain);
    for port in [900, 4095, 4096, 99999, u32::MAX] {
        assert_eq!(program.call(Ioctl::BIND_STATIC, &[port]), Ok(0), "port {port}");
    }
    program.file.enable([900, 99999, u32::MAX].map(Port));
    assert_eq!(program.file.readable(4096), Readable::Empty);
}

#[test]
fn hypercalls_other_than_event_channels_and_the_version_are_unknown() {
    let host = Host::new(Levels::default());
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

/// Many threads notify one file while its reader takes and enables: after the last notification of each, its port comes.
#[test]
fn no_event_is_lost_between_threads() {
    const SENDERS: u32 = 4;
    const ROUNDS: u32 = 3000;
    let (host, a, b) = two_domains();
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
