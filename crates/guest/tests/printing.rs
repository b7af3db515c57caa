// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of channels as it is printed for people.
#![allow(missing_docs)]

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use evtchn_abi::args::BindIpi;
use evtchn_abi::{Errno, Layout, Op, Port, VcpuId};
use evtchn_guest::{
    Answer, Event, Events, Frames, Hypercall, Kernel, Settings, Table, TwoLevel, TwoLevelVcpu,
};
use evtchn_sync::{HeapPage, Page};

#[test]
fn looking_at_a_table_takes_no_lock_that_a_handler_holds() {
    type Handler = fn(&Event<'_>) -> Answer;
    static TABLE: Table<Handler, 2, 64, 1> = Table::new();
    static PAGE: HeapPage = HeapPage::new();
    fn look(_: &Event<'_>) -> Answer {
        assert!(!format!("{TABLE:?}").is_empty());
        Answer::Done
    }
    // It would wait for ever: so in a thread of its own.
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let memory = Frames::<_, [_; 0]>::two_level(&PAGE, &Layout::X86_64);
        let events = Events::new(TwoLevel::new(memory, [TwoLevelVcpu::new()]), OnePort, &TABLE);
        events.online(VcpuId(0)).unwrap();
        let channel = events.bind_ipi(Settings::default(), look).unwrap();
        PAGE.u64(2048).unwrap().fetch_or(1 << 1, SeqCst); // port 1 is pending
        PAGE.u64(8).unwrap().fetch_or(1, SeqCst); // in word 0
        PAGE.u8(0).unwrap().store(1, SeqCst); // an upcall
        let _ = events.upcall(VcpuId(0));
        done.send(events.stats(channel).unwrap().events).unwrap();
    });
    assert_eq!(is_done.recv_timeout(Duration::from_secs(5)), Ok(1));
}

/// A Xen whose ports are all number 1.
struct OnePort;

impl Hypercall for OnePort {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        if op == Op::BIND_IPI {
            arg.copy_from_slice(&BindIpi { port: Port(1), ..BindIpi::default() }.to_bytes());
        }
        Ok(())
    }
}

impl Kernel for OnePort {
    fn now(&self) -> u64 {
        0
    }

    fn expire_at(&self, _: VcpuId, _: u64) {}
}
