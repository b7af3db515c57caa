// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program that sends.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::{Context, ensure};
use evtchn_abi::Port;

use super::clock::now;
use super::device::Device;
use super::page::{Page, RUNNING, Stage};
use super::progress::Progress;
use super::{GRACE, RECEIVER};

/// How long the other program may take to start.
const START: Duration = Duration::from_secs(5);
/// How often memory is looked at while there is no event to wait for.
const LOOK: Duration = Duration::from_millis(1);

/// Binds to the receiver's port and sends, first taking turns with it, then as fast as it can.
pub fn run(page: &Page) -> anyhow::Result<()> {
    let mut sender = Sender::connect(page)?;
    let each = page.milliseconds.load(SeqCst) * 1_000_000 / 2;
    let start = now();
    let all_answered = sender.ping_pong(start + each)?;
    page.ping_pong_took.store(now() - start, SeqCst);
    if all_answered {
        page.stage.store(Stage::Flood as u32, SeqCst);
        let start = now();
        sender.flood(start + each)?;
        page.flood_took.store(now() - start, SeqCst);
    }
    page.last_sent.store(now(), SeqCst);
    page.stage.store(Stage::Over as u32, SeqCst);
    wait_until(GRACE * 2, || page.receiver.load(SeqCst) != RUNNING);
    Ok(())
}

struct Sender<'a> {
    page: &'a Page,
    device: Device,
    port: Port,
    progress: Progress,
}

impl<'a> Sender<'a> {
    fn connect(page: &'a Page) -> anyhow::Result<Self> {
        let device = Device::open()?;
        wait_until(START, || page.port.load(SeqCst) != 0 || page.receiver.load(SeqCst) != RUNNING);
        let remote = Port(page.port.load(SeqCst));
        ensure!(remote.0 != 0, "the receiver did not make a port");
        let port = device.bind_interdomain(RECEIVER, remote)?;
        ensure!(device.wait(GRACE)?, "the new port had no first event");
        device.unmask(device.read()?)?;
        Ok(Self { page, device, port, progress: Progress::new() })
    }

    /// Sends pings and awaits their pongs until `end`. Returns whether all were answered.
    fn ping_pong(&mut self, end: u64) -> anyhow::Result<bool> {
        let mut answered = true;
        while answered && now() < end {
            let began = now();
            self.page.ping.raise(began);
            self.device.notify(self.port)?;
            answered = self.pong(began)?;
            self.progress.show("taking turns", end, self.page.ping.sent());
        }
        Ok(answered)
    }

    fn pong(&self, began: u64) -> anyhow::Result<bool> {
        if !self.device.wait(GRACE)? {
            return Ok(false);
        }
        let port = self.device.read()?;
        let at = now();
        self.page.pong.announce(at);
        self.page.round_trip.record(at - began);
        self.device.unmask(port)?;
        Ok(true)
    }

    /// Notifies until `end`.
    fn flood(&mut self, end: u64) -> anyhow::Result<()> {
        loop {
            let at = now();
            if at >= end {
                return Ok(());
            }
            self.page.flood.raise(at);
            self.device.notify(self.port).context("flood")?;
            self.progress.show("flooding", end, self.page.flood.sent());
        }
    }
}

/// Waits until `done`, `patience` at most.
fn wait_until(patience: Duration, done: impl Fn() -> bool) {
    let start = now();
    while !done() && u128::from(now() - start) < patience.as_nanos() {
        std::thread::sleep(LOOK);
    }
}
