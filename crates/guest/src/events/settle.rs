// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making memory, and Xen, say what a channel's state says.

use evtchn_abi::Port;
use evtchn_sync::atomic::Ordering::SeqCst;

use super::state::{CLOSED, LATCHED, SETTLING, SILENT, State, Step};
use super::{Channel, Events, Kernel, Storage};
use crate::Abi;

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// Changes a channel's state by one step to what `to` makes of it, and does what it wants then, unless somebody is at
    /// it. `to` may be asked several times; `None` leaves the state as it is.
    pub(super) fn update(&self, channel: &Channel<S::Handler>, mut to: impl FnMut(State) -> Option<State>) {
        let mut from = channel.state();
        while let Some(wanted) = to(from) {
            let settles = wanted.step() != Step::Rest && !wanted.has(SETTLING);
            let put = if settles { wanted.with(SETTLING) } else { wanted };
            match channel.change(from, put) {
                Ok(()) if settles => return self.settle(channel),
                Ok(()) => return,
                Err(other) => from = other,
            }
        }
    }

    /// Does what the state wants, until it wants nothing. Only for who has set SETTLING.
    fn settle(&self, channel: &Channel<S::Handler>) {
        loop {
            let state = channel.state();
            match state.step() {
                Step::Rest => {
                    if channel.change(state, state.without(SETTLING)).is_ok() {
                        return;
                    }
                }
                Step::Mask => {
                    self.with_port(channel, |port| drop_result(self.abi.mask(port)));
                    channel.set(SILENT);
                }
                Step::Unmask => {
                    channel.clear(SILENT);
                    self.with_port(channel, |port| drop_result(self.abi.unmask(port, &self.kernel)));
                }
                Step::RaiseAgain => {
                    channel.clear(LATCHED | SILENT);
                    self.with_port(channel, |port| drop_result(self.abi.raise_again(port, &self.kernel)));
                }
                Step::Close => {
                    self.close(channel);
                    channel.set(CLOSED);
                }
                Step::Free => return free(channel, state),
            }
        }
    }

    /// A channel that has lost its port when the guest was resumed has none, until it gets another.
    pub(super) fn with_port(&self, channel: &Channel<S::Handler>, act: impl FnOnce(Port)) {
        let port = channel.port();
        if port != Port(0) {
            act(port);
        }
    }

    /// Closes the channel's port. Everything of ours that names it goes first: the number may be another's at once.
    fn close(&self, channel: &Channel<S::Handler>) {
        self.with_port(channel, |port| {
            self.abi.mask(port);
            if let Some(slot) = self.storage.ports().get(port.0 as usize) {
                slot.channel.store(0, SeqCst);
            }
            self.abi.unbind(port);
            // A port that does not exist is closed.
            drop_result(self.kernel.close(port));
        });
        channel.set_port(Port(0));
    }
}

/// Only a port that does not exist makes Xen refuse what is done here: then there is nothing to be done.
fn drop_result<T>(_: T) {}

/// Gives the record back. No handler runs, and whoever finds the state changed leaves it alone.
fn free<H>(channel: &Channel<H>, state: State) {
    if let Some(mut handler) = channel.handler.try_lock() {
        *handler = None;
    }
    channel.put(state.freed());
}
