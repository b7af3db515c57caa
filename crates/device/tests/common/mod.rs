// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open file over a system that only keeps books: what the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::{DomId, Errno, Port, Virq};
use evtchn_device::atomic::AtomicU32;
use evtchn_device::{
    Binding, Driver, Fault, Fired, Kind, Level, Pushed, ReadStep, Restriction, Ring, SetUpError,
    UserArgument, copy_slots, grown_size, ioctl, ports_in, whole_bytes,
};

/// `count` empty slots.
pub fn slots(count: usize) -> Vec<AtomicU32> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// A call that reached the system below the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    BindVirq(Virq),
    BindInterdomain(DomId, Port),
    AllocUnbound(DomId),
    Notify(Port),
    Close(Port),
    Unmask(Port),
}

/// One open file and the system below it.
pub struct TestFile {
    pub ring: Ring,
    pub slots: Vec<AtomicU32>,
    pub bindings: BTreeMap<Port, Binding>,
    /// Every call that reached the system, in order.
    pub calls: Vec<Call>,
    /// What the next binding hypercalls answer.
    pub hypercall: Result<Port, Errno>,
    /// What set-ups fail with.
    pub set_up_error: Option<SetUpError>,
    /// Ports with a user besides static bindings.
    pub in_use: BTreeSet<Port>,
    pub usable_ports: u32,
    /// How often readers and pollers were woken.
    pub wakes: u32,
}

impl TestFile {
    pub fn new() -> Self {
        Self {
            ring: Ring::new(),
            slots: Vec::new(),
            bindings: BTreeMap::new(),
            calls: Vec::new(),
            hypercall: Ok(Port(10)),
            set_up_error: None,
            in_use: BTreeSet::new(),
            usable_ports: 1024,
            wakes: 0,
        }
    }

    /// A file with `ports` bound.
    pub fn with_ports(ports: impl IntoIterator<Item = u32>) -> Self {
        let mut file = Self::new();
        for port in ports {
            file.set_up(Port(port), Kind::Dynamic).unwrap();
        }
        file
    }

    /// The interrupt side: an unmasked event of `port`.
    pub fn fire(&mut self, port: u32) -> Option<Pushed> {
        let binding = &self.bindings[&Port(port)];
        if binding.fired() == Fired::Ignore {
            return None;
        }
        let pushed = self.ring.push(&self.slots, Port(port));
        self.wakes += u32::from(pushed == Pushed::FirstEntry);
        Some(pushed)
    }

    /// `read` with `O_NONBLOCK`: ports, or the error.
    pub fn read(&self, length: usize) -> Result<Vec<u32>, Errno> {
        match self.ring.read(&self.slots, length) {
            ReadStep::Nothing => Ok(Vec::new()),
            ReadStep::Overflowed => Err(Errno::EFBIG),
            ReadStep::Empty => Err(Errno::EAGAIN),
            ReadStep::Ready(ready) => {
                let mut bytes = Vec::new();
                ready
                    .copy_out(|piece| {
                        bytes.extend_from_slice(piece);
                        Ok::<_, Fault>(())
                    })
                    .unwrap();
                assert_eq!(ready.consume(), bytes.len());
                Ok(ports_in(&bytes).map(|port| port.0).collect())
            }
        }
    }

    /// `read` into memory that cannot be written.
    pub fn read_faulting(&self, length: usize) -> Result<usize, Errno> {
        match self.ring.read(&self.slots, length) {
            ReadStep::Nothing => Ok(0),
            ReadStep::Overflowed => Err(Errno::EFBIG),
            ReadStep::Empty => Err(Errno::EAGAIN),
            ReadStep::Ready(ready) => {
                ready.copy_out(|_| Err(Fault))?;
                Ok(ready.consume())
            }
        }
    }

    /// `write` of bytes that can be read.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let length = whole_bytes(bytes.len());
        for port in ports_in(&bytes[..length]) {
            if self.bindings.get(&port).is_some_and(Binding::enable) {
                self.calls.push(Call::Unmask(port));
            }
        }
        length
    }

    pub fn write_ports(&mut self, ports: &[u32]) -> usize {
        let bytes: Vec<u8> = ports.iter().flat_map(|port| port.to_ne_bytes()).collect();
        self.write(&bytes)
    }
}

impl Driver for TestFile {
    fn bind_virq(&mut self, virq: Virq) -> Result<Port, Errno> {
        self.calls.push(Call::BindVirq(virq));
        self.hypercall
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.calls.push(Call::BindInterdomain(remote, remote_port));
        self.hypercall
    }

    fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, Errno> {
        self.calls.push(Call::AllocUnbound(remote));
        self.hypercall
    }

    fn notify(&mut self, port: Port) {
        self.calls.push(Call::Notify(port));
    }

    fn close(&mut self, port: Port) {
        self.calls.push(Call::Close(port));
    }

    fn usable_ports(&self) -> u32 {
        self.usable_ports
    }

    fn is_bound(&self, port: Port) -> bool {
        self.bindings.contains_key(&port)
    }

    fn is_in_use(&self, port: Port) -> bool {
        self.in_use.contains(&port)
    }

    fn set_up(&mut self, port: Port, kind: Kind) -> Result<(), SetUpError> {
        if let Some(error) = self.set_up_error {
            return Err(error);
        }
        if let Some(size) = grown_size(self.bindings.len() + 1, self.slots.len()) {
            let grown = slots(size);
            copy_slots(&self.slots, &grown);
            self.slots = grown;
        }
        self.bindings.insert(port, Binding::new(kind));
        Ok(())
    }

    fn tear_down(&mut self, port: Port) {
        let binding = self.bindings.remove(&port).expect("only bound ports");
        binding.unbind();
        assert_eq!(binding.fired(), Fired::Ignore);
        if binding.kind() == Kind::Dynamic {
            self.close(port);
        }
    }

    fn reset_ring(&mut self) {
        self.ring.reset();
    }
}

/// The argument of an ioctl, and how often it was looked at.
pub struct Argument {
    bytes: Option<Vec<u8>>,
    looks: u32,
}

impl UserArgument for &mut Argument {
    fn copy_in(&mut self, to: &mut [u8]) -> Result<(), Fault> {
        self.looks += 1;
        self.bytes.as_deref().ok_or(Fault)?.copy_in(to)
    }
}

/// An argument of 32-bit words.
pub fn words(words: &[u32]) -> Argument {
    Argument { bytes: Some(words.iter().flat_map(|word| word.to_le_bytes()).collect()), looks: 0 }
}

/// RESTRICT_DOMID's argument.
pub fn domid(domid: u16) -> Argument {
    Argument { bytes: Some(domid.to_le_bytes().to_vec()), looks: 0 }
}

/// A pointer to nothing.
pub fn bad_pointer() -> Argument {
    Argument { bytes: None, looks: 0 }
}

/// A test file with what the bind lock protects besides, and a level.
pub struct Open {
    pub file: TestFile,
    pub restriction: Restriction,
    pub level: Level,
    /// How often the last ioctl looked at its argument.
    pub looks: u32,
}

impl Open {
    pub fn new() -> Self {
        Self::of(TestFile::new())
    }

    pub fn of(file: TestFile) -> Self {
        Self { file, restriction: Restriction::NONE, level: Level::Linux7_2, looks: 0 }
    }

    pub fn restricted_to(domain: u16) -> Self {
        let mut open = Self::new();
        open.restriction.restrict_to(DomId(domain)).unwrap();
        open
    }

    pub fn ioctl(&mut self, word: Ioctl, mut argument: Argument) -> Result<u32, Errno> {
        let file = &mut self.file;
        let result = ioctl(self.level, word, &mut argument, &mut self.restriction, file);
        self.looks = argument.looks;
        result
    }
}
