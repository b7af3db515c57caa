// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with a table of channels, whose handlers count and exclude each other.

use std::sync::Arc;
use std::sync::Mutex as Quiet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool as Flag, AtomicU32 as Count};

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_guest::{Answer, ChannelId, Event, Events, Limits, Settings, Table, TwoLevel, TwoLevelVcpu};
use evtchn_sync::atomic::AtomicU32;
use loom::cell::UnsafeCell;

use crate::pages::{self, VCPUS};
use crate::world::{PORT, TwoLevelGuest};
use crate::xen::Xen;

type Handler = Box<dyn FnMut(&Event<'_>) -> Answer + Send>;
type Guest = Events<TwoLevelGuest, Arc<Xen>, Box<Table<Handler, 1, 8, { VCPUS as usize }>>>;

/// Every spurious event is delayed.
const LIMITS: Limits = Limits { spurious_threshold: 0, ..Limits::LINUX };

/// A guest with a table of one record.
pub struct Tabled {
    pub xen: Arc<Xen>,
    pub guest: Guest,
    /// How often was sent: written before each send, and read by the handler.
    mail: Arc<AtomicU32>,
}

/// What a handler has seen.
#[derive(Default)]
pub struct Log {
    pub handled: Count,
    /// The end of an event has not been reported.
    pub awaits_end: Flag,
    /// Its events have been held back.
    pub is_masked: Flag,
    pub is_dropped: Flag,
    /// What of the mail the handler has read.
    seen: Count,
    /// The last event's channel.
    pub channel: Quiet<Option<ChannelId>>,
}

/// Loom sees when the handler runs, and when it is dropped.
struct Inner {
    life: UnsafeCell<()>,
    log: Arc<Log>,
    mail: Arc<AtomicU32>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.life.with_mut(|_| ());
        self.log.is_dropped.store(true, SeqCst);
    }
}

impl Tabled {
    pub fn new() -> Self {
        let memory = pages::memory();
        let xen = Arc::new(Xen::new(memory.clone(), false));
        let abi = TwoLevel::new(memory, std::array::from_fn(|_| TwoLevelVcpu::new()));
        let guest = Events::new(abi, xen.clone(), Box::new(Table::new())).with_limits(LIMITS);
        guest.start();
        pages::vcpus().for_each(|vcpu| guest.online(vcpu).unwrap());
        Self { xen, guest, mail: Arc::new(AtomicU32::new(0)) }
    }

    /// Binds the port to vCPU 0. Its handler says `answer` each time.
    pub fn bind(&self, settings: Settings, answer: Answer) -> (ChannelId, Arc<Log>) {
        let (bound, log) = self.try_bind(settings, answer);
        (bound.unwrap(), log)
    }

    /// The same while the record may be in use.
    pub fn try_bind(
        &self,
        settings: Settings,
        answer: Answer,
    ) -> (Result<ChannelId, evtchn_abi::Errno>, Arc<Log>) {
        let log = Arc::new(Log::default());
        let inner = Inner { life: UnsafeCell::new(()), log: log.clone(), mail: self.mail.clone() };
        let handler: Handler = Box::new(move |event| inner.event(event, answer));
        (self.guest.bind_interdomain(DomId(1), PORT, settings, handler), log)
    }

    /// Sends on the vCPU that the port has now.
    pub fn send(&self) {
        self.send_on(VcpuId(self.xen.vcpu.load(SeqCst)));
    }

    /// Sends on the vCPU that was looked up.
    pub fn send_on(&self, vcpu: VcpuId) {
        self.mail.fetch_add(1, SeqCst);
        self.xen.raise(PORT, vcpu);
    }

    /// The handler has read all mail.
    pub fn all_is_seen(&self, log: &Log) -> bool {
        log.seen.load(SeqCst) == self.mail.load(SeqCst)
    }

    /// Sends, unless the port has been closed since it was opened for the `life`th time.
    pub fn send_to(&self, life: u32) {
        let opened = self.xen.opened.lock().unwrap();
        if *opened == life {
            self.send();
        }
    }

    /// The vCPU looks, if it was told to.
    pub fn upcall(&self, vcpu: VcpuId) {
        if self.xen.take_interrupt(vcpu) {
            let _ = self.guest.upcall(vcpu);
        }
    }

    /// All vCPUs look while they are told to.
    pub fn rest(&self) {
        for _ in 0..2 {
            pages::vcpus().for_each(|vcpu| self.upcall(vcpu));
        }
    }

    pub fn port_is_masked(&self) -> bool {
        use evtchn_guest::Abi;
        let port: Port = PORT;
        self.guest.abi().is_masked(port)
    }
}

impl Inner {
    fn event(&self, event: &Event<'_>, answer: Answer) -> Answer {
        self.life.with_mut(|_| ());
        let log = &self.log;
        assert!(!log.is_masked.load(SeqCst), "a handler of a masked channel runs");
        assert!(!log.awaits_end.load(SeqCst), "an event came before the end of the last");
        log.handled.fetch_add(1, SeqCst);
        log.seen.store(self.mail.load(SeqCst), SeqCst);
        // Others come in here.
        self.mail.load(SeqCst);
        if answer == Answer::Later {
            log.awaits_end.store(true, SeqCst);
            *log.channel.lock().unwrap() = Some(event.channel);
        }
        answer
    }
}

impl Log {
    pub fn handled(&self) -> u32 {
        self.handled.load(SeqCst)
    }

    /// Takes the channel whose event waits for its end.
    pub fn take_end(&self) -> Option<ChannelId> {
        let channel = self.channel.lock().unwrap().take()?;
        self.awaits_end.store(false, SeqCst);
        Some(channel)
    }
}
