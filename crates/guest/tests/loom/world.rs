// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with one of the ABIs, and what sends to it.

use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Count;

use evtchn_abi::{Port, VcpuId};
use evtchn_guest::{Abi, Fifo, FifoVcpu, TwoLevel, TwoLevelVcpu};
use evtchn_sync::atomic::AtomicU32;
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use loom::thread;

use crate::pages::{self, Memory, VCPUS};
use crate::xen::Xen;

pub const V0: VcpuId = VcpuId(0);
pub const V1: VcpuId = VcpuId(1);
pub const PORT: Port = Port(3);
pub const OTHER: Port = Port(5);

pub type TwoLevelGuest = TwoLevel<Memory, [TwoLevelVcpu; VCPUS as usize]>;
pub type FifoGuest = Fifo<Memory, [FifoVcpu; VCPUS as usize]>;

/// Explores a model with at most this many preemptions, or as many as the environment says.
pub fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(run);
}

/// A guest of which two ports are vCPU 0's, and the hypervisor.
pub struct World<A> {
    pub xen: Xen,
    pub guest: A,
    /// What the sender writes before it sends.
    mail: AtomicU32,
    /// How often the ports were handled, and the mail that was seen last. No steps of the model.
    pub handled: [Count; 2],
    pub seen: Count,
}

impl<A: Abi + 'static> World<A> {
    pub fn new(uses_fifo: bool, guest: impl FnOnce(Memory) -> A) -> Self {
        let memory = pages::memory();
        let xen = Xen::new(memory.clone(), uses_fifo);
        let guest = guest(memory);
        guest.start();
        for vcpu in pages::vcpus() {
            guest.online(vcpu, &xen).unwrap();
        }
        for port in [PORT, OTHER] {
            guest.cover(port, &xen).unwrap();
            guest.bind(port, V0);
            guest.unmask(port, &xen).unwrap();
        }
        Self { xen, guest, mail: AtomicU32::new(0), handled: Default::default(), seen: Count::new(0) }
    }

    /// Sends to a port with the vCPU that it has now.
    pub fn send(&self, port: Port) {
        self.xen.raise(port, VcpuId(self.xen.vcpu.load(SeqCst)));
    }

    /// Writes mail, and sends.
    pub fn send_mail(&self, number: u32) {
        self.mail.store(number, Relaxed);
        self.send(PORT);
    }

    /// The vCPU looks, if it was told to.
    pub fn upcall(&self, vcpu: VcpuId) {
        if self.xen.take_interrupt(vcpu) {
            self.look(vcpu);
        }
    }

    /// The vCPU looks.
    pub fn look(&self, vcpu: VcpuId) {
        let _ = self.guest.upcall(vcpu, |port| self.handle(port));
    }

    pub fn handle(&self, port: Port) {
        assert!([PORT, OTHER].contains(&port), "nobody sends to port {port}");
        self.handled[usize::from(port == OTHER)].fetch_add(1, SeqCst);
        if port == PORT {
            self.seen.store(self.mail.load(Relaxed), SeqCst);
        }
    }

    /// All vCPUs look, if they were told to. How often the ports have been handled then.
    pub fn rest(&self) -> [u32; 2] {
        pages::vcpus().for_each(|vcpu| self.upcall(vcpu));
        self.handled.each_ref().map(|count| count.load(SeqCst))
    }

    /// Runs `other` against `main`.
    pub fn race(self, other: impl FnOnce(&Self) + 'static, main: impl FnOnce(&Self)) -> Arc<Self> {
        let world = Arc::new(self);
        let thread = spawn(&world, other);
        main(&world);
        thread.join().unwrap();
        world
    }
}

/// Runs `job` beside others.
pub fn spawn<T: 'static>(on: &Arc<T>, job: impl FnOnce(&T) + 'static) -> thread::JoinHandle<()> {
    let on = on.clone();
    thread::spawn(move || job(&on))
}

pub fn two_level() -> World<TwoLevelGuest> {
    World::new(false, |memory| TwoLevel::new(memory, std::array::from_fn(|_| TwoLevelVcpu::new())))
}

pub fn fifo() -> World<FifoGuest> {
    World::new(true, |memory| Fifo::new(memory, std::array::from_fn(|_| FifoVcpu::new())))
}
