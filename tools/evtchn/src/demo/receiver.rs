// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program that receives.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use evtchn_abi::Port;

use super::clock::now;
use super::device::Device;
use super::page::{DONE, FAILED, Page, Stage};
use super::{GRACE, SENDER};

/// How often a receiver without events looks whether all is over.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a port and receives until the sender is done.
pub fn run(page: &Page) -> anyhow::Result<()> {
    let result = receive(page);
    page.receiver.store(if result.is_ok() { DONE } else { FAILED }, SeqCst);
    result
}

fn receive(page: &Page) -> anyhow::Result<()> {
    let device = Device::open()?;
    let port = device.bind_unbound_port(SENDER)?;
    page.port.store(port.0, SeqCst);
    loop {
        let over = is_over(page);
        let patience = if over { Duration::ZERO } else { LOOK };
        match device.wait(patience)? {
            true => serve(page, &device, port)?,
            false if over => return Ok(()),
            false => {}
        }
    }
}

/// Takes one event, and answers it if it is a ping.
fn serve(page: &Page, device: &Device, port: Port) -> anyhow::Result<()> {
    let read = device.read()?;
    let at = now();
    anyhow::ensure!(read == port, "port {read} was read, which is not bound");
    // A ping is answered before the next stage begins, so the stage says what was received.
    let flood = Stage::from(page.stage.load(SeqCst)) != Stage::PingPong;
    if flood {
        page.flood.announce(at)
    } else {
        page.ping.announce(at)
    }
    device.unmask(port)?;
    if flood {
        return Ok(());
    }
    page.pong.raise(now());
    device.notify(port)
}

/// Whether nothing needs to be waited for any more: all was seen, or what is missing is late enough to be lost.
fn is_over(page: &Page) -> bool {
    if Stage::from(page.stage.load(SeqCst)) != Stage::Over {
        return false;
    }
    let late = now().saturating_sub(page.last_sent.load(SeqCst));
    page.flood.seen() == page.flood.sent() || u128::from(late) > GRACE.as_nanos()
}
