// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers that wait, polls, edges and signals.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evtchn_abi::Errno;
use rustix::event::{Timespec, epoll};

use super::Case;
use crate::device::{Device, PATIENCE, SETTLE};
use crate::report::Report;
use crate::sys;

pub const CASES: &[Case] = &[
    ("waiting.poll_masks", masks),
    ("waiting.a_reader_is_woken", woken),
    ("waiting.a_reader_holds_up_nobody", holds_up_nobody),
    ("waiting.one_event_wakes_one_of_two_readers", two_readers),
    ("waiting.a_signal_ends_a_read", interrupted),
    ("waiting.a_signal_restarts_a_read", restarted),
    ("waiting.an_edge_for_an_empty_ring_only", edges),
    ("waiting.sigio_for_an_empty_ring_only", sigio),
];

/// Long enough for a thread to be asleep in a read.
const ASLEEP: Duration = Duration::from_millis(100);

/// A thread that reads once.
struct Reader {
    answer: mpsc::Receiver<Result<Vec<u32>, Errno>>,
    handle: thread::JoinHandle<()>,
}

impl Reader {
    /// Starts a thread that reads from `file`, and waits until it is likely to be asleep.
    fn start(file: &Device) -> Result<Self> {
        let file = file.duplicate()?;
        let (started, begun) = mpsc::channel();
        let (send, answer) = mpsc::channel();
        let handle = thread::spawn(move || {
            let _ = started.send(());
            let _ = send.send(file.read(64));
        });
        begun.recv()?;
        thread::sleep(ASLEEP);
        Ok(Self { answer, handle })
    }

    fn is_asleep(&self) -> bool {
        !self.handle.is_finished()
    }

    fn answer(self) -> Result<Result<Vec<u32>, Errno>> {
        let answer = self.answer.recv_timeout(Duration::from_secs(20)).context("the reader was not woken")?;
        ensure!(self.handle.join().is_ok(), "the reader panicked");
        Ok(answer)
    }
}

fn masks(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    report.is("a fresh file", file.mask()?, 0x104);
    let (port, theirs) = file.pair(&other)?;
    report.is("nothing queued", file.mask()?, 0x104);
    other.notify(theirs).ok();
    file.ready()?;
    report.is("a port queued", file.mask()?, 0x145);
    file.expect(1)?;
    file.write(&[port]).ok();
    report.is("read and enabled", file.mask()?, 0x104);
    report.is("a reader's file", Device::with(true, false, 0)?.mask()?, 0x104);
    Ok(())
}

fn woken(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::blocking()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    for _ in 0..5 {
        let reader = Reader::start(&file)?;
        other.notify(theirs).ok();
        let answer = reader.answer()?.map(|ports| report.named(&ports));
        report.is("the reader", answer, Ok(vec!["a".to_owned()]));
        file.write(&[port]).ok();
    }
    Ok(())
}

/// Binds, writes, resets and unbinds go on while a reader waits, which only an event ends.
fn holds_up_nobody(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::blocking()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    let reader = Reader::start(&file)?;
    report.is("bind meanwhile", file.unbound().map(|port| file.unbind(port)), Ok(Ok(0)));
    for _ in 0..70 {
        file.unbound().ok();
    }
    report.is("write meanwhile", file.write(&[port]), Ok(4));
    report.is("reset meanwhile", file.reset(), Ok(0));
    report.is("poll meanwhile", file.mask()?, 0x104);
    report.is("the reader waits", reader.is_asleep(), true);
    other.notify(theirs).ok();
    let answer = reader.answer()?.map(|ports| report.named(&ports));
    report.is("the reader", answer, Ok(vec!["a".to_owned()]));
    Ok(())
}

fn two_readers(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::blocking()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    let readers = [Reader::start(&file)?, Reader::start(&file)?];
    other.notify(theirs).ok();
    let end = Instant::now() + PATIENCE;
    while readers.iter().all(Reader::is_asleep) && Instant::now() < end {
        thread::sleep(SETTLE);
    }
    thread::sleep(SETTLE);
    report.is("readers that wait still", readers.iter().filter(|reader| reader.is_asleep()).count(), 1);
    file.write(&[port]).ok();
    other.notify(theirs).ok();
    for reader in readers {
        let answer = reader.answer()?.map(|ports| report.named(&ports));
        report.is("each of the readers", answer, Ok(vec!["a".to_owned()]));
    }
    Ok(())
}

fn interrupted(report: &mut Report) -> Result<()> {
    let file = Device::blocking()?;
    sys::catch(libc::SIGUSR1, false);
    let reader = Reader::start(&file)?;
    // The first one may come before the read.
    let end = Instant::now() + PATIENCE;
    while reader.is_asleep() && Instant::now() < end {
        sys::signal(&reader.handle, libc::SIGUSR1);
        thread::sleep(ASLEEP);
    }
    report.is("the reader", reader.answer()?, Err(Errno::EINTR));
    report.is("signals came", sys::caught() > 0, true);
    Ok(())
}

fn restarted(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::blocking()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    sys::catch(libc::SIGUSR1, true);
    let reader = Reader::start(&file)?;
    sys::signal(&reader.handle, libc::SIGUSR1);
    report.is("signals", signals(1), 1);
    report.is("the reader waits", reader.is_asleep(), true);
    other.notify(theirs).ok();
    let answer = reader.answer()?.map(|ports| report.named(&ports));
    report.is("the reader", answer, Ok(vec!["a".to_owned()]));
    Ok(())
}

fn edges(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    let (_, second) = file.pair(&other)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let event = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&set, &file, epoll::EventData::new_u64(0), event)?;
    let count = |patience: Duration| -> Result<usize> {
        let mut events = Vec::with_capacity(4);
        let time = Timespec::try_from(patience)?;
        Ok(epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), Some(&time))?)
    };
    report.is("before", count(SETTLE)?, 0);
    other.notify(theirs).ok();
    report.is("the first event", count(PATIENCE)?, 1);
    report.is("nothing new", count(SETTLE)?, 0);
    other.notify(second).ok();
    report.is("a second one before the first was read", count(SETTLE)?, 0);
    file.expect(2)?;
    file.write(&[port]).ok();
    other.notify(theirs).ok();
    report.is("after the ring was empty", count(PATIENCE)?, 1);
    Ok(())
}

/// Waits until so many signals came, and for more.
fn signals(count: u32) -> u32 {
    let end = Instant::now() + PATIENCE;
    while sys::caught() < count && Instant::now() < end {
        thread::sleep(SETTLE);
    }
    thread::sleep(SETTLE);
    sys::caught()
}

fn sigio(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    let (_, second) = file.pair(&other)?;
    sys::catch(libc::SIGIO, true);
    sys::want_sigio(std::os::fd::AsFd::as_fd(&file));
    other.notify(theirs).ok();
    report.is("the first event", signals(1), 1);
    other.notify(second).ok();
    thread::sleep(SETTLE);
    report.is("a second one before the first was read", sys::caught(), 1);
    file.expect(2)?;
    file.write(&[port]).ok();
    other.notify(theirs).ok();
    report.is("after the ring was empty", signals(2), 2);
    Ok(())
}
