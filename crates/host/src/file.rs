// SPDX-License-Identifier: MIT OR Apache-2.0
//! One open of `/dev/xen/evtchn`, with the locks that the driver has.
//!
//! Lock order: bind, consumer, producer, slots. The producer's side runs in upcalls, under no lock but the kernel's table of users.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::{DomId, Errno, Port, VcpuId, Virq};
use evtchn_device::atomic::AtomicU32;
use evtchn_device::{
    Binding, Driver, Kind, Level, Pushed, ReadStep, Restriction, Ring, SetUpError, UserArgument, copy_slots,
    grown_size,
};
use evtchn_guest::Hypercall;
use parking_lot::{Mutex, RwLock};

use crate::kernel::{Kernel, Xen};
use crate::machine::Machine;

/// What is told when an empty ring gets its first port.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// An open file.
pub struct File {
    /// What the interrupts of its ports are called.
    name: String,
    bind: Mutex<Bind>,
    consumer: Mutex<()>,
    producer: Mutex<()>,
    slots: RwLock<Box<[AtomicU32]>>,
    ring: Ring,
    wake: Wake,
}

struct Bind {
    restriction: Restriction,
    bindings: BTreeMap<Port, Arc<Binding>>,
}

/// What a `read` would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// There is no room for a port: the answer is 0.
    Nothing,
    /// A port was lost: EFBIG until RESET.
    Overflowed,
    /// EAGAIN, or a wait.
    Empty,
    /// This many ports would be read.
    Ports(usize),
}

impl File {
    fn new(name: String, wake: Wake) -> Self {
        Self {
            name,
            bind: Mutex::new(Bind { restriction: Restriction::NONE, bindings: BTreeMap::new() }),
            consumer: Mutex::new(()),
            producer: Mutex::new(()),
            slots: RwLock::new(Box::default()),
            ring: Ring::new(),
            wake,
        }
    }

    /// A port fired: queues it, and wakes readers if nothing was queued.
    pub fn push(&self, port: Port) {
        let pushed = {
            let _producer = self.producer.lock();
            self.ring.push(&self.slots.read(), port)
        };
        match pushed {
            Pushed::FirstEntry => (self.wake)(),
            Pushed::Queued | Pushed::Overflow => {}
        }
    }

    fn reset(&self) {
        let _consumer = self.consumer.lock();
        let _producer = self.producer.lock();
        self.ring.reset();
    }

    /// Makes room for this many bound ports.
    fn grow(&self, bound: usize) -> Result<(), Errno> {
        let Some(size) = grown_size(bound, self.slots.read().len()) else { return Ok(()) };
        let mut slots = Vec::new();
        slots.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        slots.resize_with(size, AtomicU32::default);
        let _consumer = self.consumer.lock();
        let _producer = self.producer.lock();
        let mut current = self.slots.write();
        copy_slots(&current, &slots);
        *current = slots.into_boxed_slice();
        Ok(())
    }
}

/// A program's open of the device. Dropping it is the last close: all its ports are closed.
pub struct DeviceFile {
    machine: Arc<Machine>,
    kernel: Arc<Kernel>,
    level: Level,
    file: Arc<File>,
}

impl DeviceFile {
    pub(crate) fn new(
        machine: Arc<Machine>,
        kernel: Arc<Kernel>,
        level: Level,
        name: String,
        wake: Wake,
    ) -> Self {
        Self { machine, kernel, level, file: Arc::new(File::new(name, wake)) }
    }

    /// The domain whose device this is.
    pub fn domain(&self) -> DomId {
        self.kernel.domain()
    }

    /// What `/proc/interrupts` would call its ports: `evtchn:` and the program's name.
    pub fn name(&self) -> &str {
        &self.file.name
    }

    /// The device's `ioctl`.
    ///
    /// # Errors
    /// As `evtchn_device::ioctl` says.
    pub fn ioctl(&self, command: Ioctl, argument: impl UserArgument) -> Result<u32, Errno> {
        let mut bind = self.file.bind.lock();
        let Bind { restriction, bindings } = &mut *bind;
        evtchn_device::ioctl(self.level, command, argument, restriction, &mut View { device: self, bindings })
    }

    /// What a `read` of `length` bytes would find now.
    pub fn readable(&self, length: usize) -> Readable {
        let _consumer = self.file.consumer.lock();
        match self.file.ring.read(&self.file.slots.read(), length) {
            ReadStep::Nothing => Readable::Nothing,
            ReadStep::Overflowed => Readable::Overflowed,
            ReadStep::Empty => Readable::Empty,
            ReadStep::Ready(ready) => Readable::Ports(ready.len()),
        }
    }

    /// Does a `read` of `length` bytes: hands the bytes to `copy` and takes the ports out of the ring if it succeeds. The answer is
    /// the number of bytes.
    ///
    /// # Errors
    /// EFBIG after an overflow, EAGAIN if there is nothing, and the errors of `copy`.
    pub fn read(&self, length: usize, copy: impl FnMut(&[u8]) -> Result<(), Errno>) -> Result<usize, Errno> {
        let _consumer = self.file.consumer.lock();
        match self.file.ring.read(&self.file.slots.read(), length) {
            ReadStep::Nothing => Ok(0),
            ReadStep::Overflowed => Err(Errno::EFBIG),
            ReadStep::Empty => Err(Errno::EAGAIN),
            ReadStep::Ready(ready) => {
                ready.copy_out(copy)?;
                Ok(ready.consume())
            }
        }
    }

    /// The port that the next read would get first, whatever the overflow flag says.
    pub fn head(&self) -> Option<Port> {
        let _consumer = self.file.consumer.lock();
        self.file.ring.peek(&self.file.slots.read(), 1).ports().next()
    }

    /// Takes the first port out of the ring: it was read by other means.
    pub fn take_head(&self) {
        let _consumer = self.file.consumer.lock();
        self.file.ring.peek(&self.file.slots.read(), 1).consume();
    }

    /// Does a `write` of these ports: those that are bound to this file and disabled are enabled again.
    pub fn enable(&self, ports: impl IntoIterator<Item = Port>) {
        let bind = self.file.bind.lock();
        for port in ports {
            if bind.bindings.get(&port).is_some_and(|binding| binding.enable()) {
                self.kernel.unmask(&self.machine, port);
            }
        }
    }

    /// Enables every disabled port that is not queued: each was delivered, and may have been written by means that were not seen.
    pub fn enable_delivered(&self) {
        let queued: BTreeSet<Port> = {
            let _consumer = self.file.consumer.lock();
            let slots = self.file.slots.read();
            self.file.ring.peek(&slots, slots.len()).ports().collect()
        };
        let bound: Vec<Port> = self.file.bind.lock().bindings.keys().copied().collect();
        self.enable(bound.into_iter().filter(|port| !queued.contains(port)));
    }

    /// What `poll` answers.
    pub fn poll_mask(&self) -> u32 {
        self.file.ring.poll_mask()
    }
}

impl Drop for DeviceFile {
    fn drop(&mut self) {
        let mut bind = self.file.bind.lock();
        let mut view = View { device: self, bindings: &mut bind.bindings };
        while let Some((&port, _)) = view.bindings.first_key_value() {
            view.tear_down(port);
        }
    }
}

/// What an ioctl on one file may touch.
struct View<'a> {
    device: &'a DeviceFile,
    bindings: &'a mut BTreeMap<Port, Arc<Binding>>,
}

impl View<'_> {
    /// A hypercall of the domain's kernel.
    fn hypercall<T>(&self, call: impl FnOnce(&Xen<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        let DeviceFile { machine, kernel, .. } = self.device;
        kernel.hypercall(machine, call)
    }
}

impl Driver for View<'_> {
    fn bind_virq(&mut self, virq: Virq) -> Result<Port, Errno> {
        self.hypercall(|xen| xen.bind_virq(virq, VcpuId(0)))
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.hypercall(|xen| xen.bind_interdomain(remote, remote_port))
    }

    fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, Errno> {
        self.hypercall(|xen| xen.alloc_unbound(DomId::SELF, remote))
    }

    fn notify(&mut self, port: Port) {
        // As the driver does: a peer that is gone is not reported.
        let _ = self.hypercall(|xen| xen.send(port));
    }

    fn close(&mut self, port: Port) {
        // The channel may be gone with its domain.
        let _ = self.hypercall(|xen| xen.close(port));
    }

    fn usable_ports(&self) -> u32 {
        self.device.kernel.usable_ports()
    }

    fn is_bound(&self, port: Port) -> bool {
        self.bindings.contains_key(&port)
    }

    fn is_in_use(&self, port: Port) -> bool {
        self.device.kernel.is_in_use(port)
    }

    fn set_up(&mut self, port: Port, kind: Kind) -> Result<(), SetUpError> {
        self.device.file.grow(self.bindings.len() + 1).map_err(SetUpError::Open)?;
        let binding = Arc::new(Binding::new(kind));
        let DeviceFile { machine, kernel, file, .. } = self.device;
        kernel.install(machine, port, Arc::clone(file), Arc::clone(&binding)).map_err(SetUpError::Open)?;
        self.bindings.insert(port, binding);
        Ok(())
    }

    fn tear_down(&mut self, port: Port) {
        let Some(binding) = self.bindings.remove(&port) else { return };
        binding.unbind();
        self.device.kernel.remove(port, &binding);
        if binding.kind() == Kind::Dynamic {
            self.close(port);
        }
    }

    fn reset_ring(&mut self) {
        self.device.file.reset();
    }
}
