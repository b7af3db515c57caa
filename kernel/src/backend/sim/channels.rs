// SPDX-License-Identifier: GPL-2.0
//! The simulated channels: what a port is, whether it is pending and masked, and whose handlers it has.

use core::ptr::NonNull;

use evtchn_abi::{DomId, Errno, NR_VIRQS, Port, Virq};
use kernel::alloc::AllocError;
use kernel::prelude::*;

use crate::bindings::End;

/// How many ports there are; 0 is none.
const PORTS: usize = 16384;
/// How many files can have one static port.
const HANDLERS: usize = 4;
/// How many ports a page of Xen's event array holds: usable numbers come in such steps.
const PORTS_A_PAGE: u32 = 1024;

/// What a port is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    Unbound(DomId),
    Interdomain(Port),
    Virq(Virq),
}

/// Who has an interrupt for a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Kernel,
    Dynamic,
    Static,
}

#[derive(Clone)]
struct Channel {
    state: State,
    pending: bool,
    /// From the call of the handlers to the end of the interrupt, and while there is no handler.
    masked: bool,
    /// Its handlers are being called.
    running: bool,
    /// It is in the queue of ports that are due.
    queued: bool,
    owner: Option<Owner>,
    handlers: [Option<NonNull<End>>; HANDLERS],
}

impl Channel {
    const CLOSED: Self = Self {
        state: State::Closed,
        pending: false,
        masked: true,
        running: false,
        queued: false,
        owner: None,
        handlers: [None; HANDLERS],
    };

    fn is_due(&self) -> bool {
        self.pending && !self.masked && !self.running
    }
}

/// Handlers to call for one port.
pub(super) type Handlers = [Option<NonNull<End>>; HANDLERS];

/// All channels.
pub(super) struct Channels {
    table: KVVec<Channel>,
    /// The usable numbers, as far as they have grown.
    usable: u32,
    due: Queue,
}

/// A queue of ports, each at most once, in as many slots as there are ports.
struct Queue {
    slots: KVVec<Port>,
    /// Where the oldest is, and where the next goes: counted without end, so the slot is the remainder.
    oldest: usize,
    next: usize,
}

impl Queue {
    fn push(&mut self, port: Port) {
        if let Some(slot) = self.slots.get_mut(self.next % PORTS) {
            *slot = port;
            self.next = self.next.wrapping_add(1);
        }
    }

    fn pop(&mut self) -> Option<Port> {
        if self.oldest == self.next {
            return None;
        }
        let port = self.slots.get(self.oldest % PORTS).copied();
        self.oldest = self.oldest.wrapping_add(1);
        port
    }
}

// SAFETY: The handlers behind the pointers may be called from any CPU.
unsafe impl Send for Channels {}

impl Channels {
    pub(super) const fn new() -> Self {
        Self {
            table: KVVec::new(),
            usable: PORTS_A_PAGE,
            due: Queue { slots: KVVec::new(), oldest: 0, next: 0 },
        }
    }

    /// The machine's beginning: the kernel's port and virtual interrupt, and two static ports.
    pub(super) fn filled(kernels: Virq) -> Result<Self, AllocError> {
        let mut table = KVVec::from_elem(Channel::CLOSED, PORTS, GFP_KERNEL)?;
        let due = Queue { slots: KVVec::from_elem(Port(0), PORTS, GFP_KERNEL)?, oldest: 0, next: 0 };
        let own = [
            (0, State::Virq(Virq(u32::MAX)), Some(Owner::Kernel)),
            (1, State::Virq(kernels), Some(Owner::Kernel)),
            (2, State::Interdomain(Port(3)), None),
            (3, State::Interdomain(Port(2)), None),
        ];
        for (number, state, owner) in own {
            if let Some(channel) = table.get_mut(number) {
                channel.state = state;
                channel.owner = owner;
            }
        }
        Ok(Self { table, usable: PORTS_A_PAGE, due })
    }

    fn get(&self, port: Port) -> Option<&Channel> {
        self.table.get(port.0 as usize)
    }

    fn get_mut(&mut self, port: Port) -> Option<&mut Channel> {
        self.table.get_mut(port.0 as usize)
    }

    pub(super) fn state(&self, port: Port) -> Option<State> {
        self.get(port).map(|channel| channel.state)
    }

    pub(super) fn owner(&self, port: Port) -> Option<Owner> {
        self.get(port).and_then(|channel| channel.owner)
    }

    pub(super) fn is_open(&self, port: Port) -> bool {
        self.state(port).is_some_and(|state| state != State::Closed)
    }

    pub(super) fn usable(&self) -> u32 {
        self.usable
    }

    fn open(&mut self, state: State) -> Result<Port, Errno> {
        let free =
            |(_, channel): &(usize, &Channel)| channel.state == State::Closed && channel.owner.is_none();
        let (number, _) = self.table.iter().enumerate().find(free).ok_or(Errno::ENOSPC)?;
        let port = Port(number as u32);
        if let Some(channel) = self.get_mut(port) {
            *channel = Channel { state, queued: channel.queued, ..Channel::CLOSED };
        }
        Ok(port)
    }

    pub(super) fn bind_virq(&mut self, virq: Virq) -> Result<Port, Errno> {
        if virq.0 >= NR_VIRQS {
            return Err(Errno::EINVAL);
        }
        if self.table.iter().any(|channel| channel.state == State::Virq(virq)) {
            return Err(Errno::EEXIST);
        }
        self.open(State::Virq(virq))
    }

    pub(super) fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, Errno> {
        self.open(State::Unbound(remote))
    }

    pub(super) fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        if !is_this(remote) {
            return Err(Errno::ESRCH);
        }
        match self.state(remote_port) {
            Some(State::Unbound(domain)) if is_this(domain) => {}
            _ => return Err(Errno::EINVAL),
        }
        let port = self.open(State::Interdomain(remote_port))?;
        if let Some(remote) = self.get_mut(remote_port) {
            remote.state = State::Interdomain(port);
        }
        self.raise(port);
        Ok(port)
    }

    /// Closes `port`. The other end can be bound again. A port that is closed already is a defect of the caller.
    pub(super) fn close(&mut self, port: Port) {
        let state = self.state(port);
        let Some(channel) = self.get_mut(port) else { return };
        channel.state = State::Closed;
        channel.pending = false;
        match state {
            Some(State::Interdomain(peer)) => {
                if let Some(peer) = self.get_mut(peer) {
                    peer.state = State::Unbound(DomId(0));
                }
            }
            Some(State::Closed) | None => pr_err!("port {} was closed twice\n", port.0),
            Some(State::Unbound(_) | State::Virq(_)) => {}
        }
    }

    pub(super) fn send(&mut self, port: Port) {
        if let Some(State::Interdomain(peer)) = self.state(port) {
            self.raise(peer);
        }
    }

    fn raise(&mut self, port: Port) {
        if let Some(channel) = self.get_mut(port) {
            channel.pending = true;
        }
        self.queue(port);
    }

    pub(super) fn unmask(&mut self, port: Port) {
        if let Some(channel) = self.get_mut(port) {
            channel.masked = false;
        }
        self.queue(port);
    }

    pub(super) fn attach(&mut self, port: Port, owner: Owner, handler: NonNull<End>) -> Result<(), Errno> {
        let page_end = (port.0 | PORTS_A_PAGE.wrapping_sub(1)).saturating_add(1);
        self.usable = self.usable.max(page_end);
        let channel = self.get_mut(port).ok_or(Errno::ENOMEM)?;
        let free = channel.handlers.iter_mut().find(|handler| handler.is_none()).ok_or(Errno::ENOMEM)?;
        *free = Some(handler);
        if channel.owner.is_none() {
            channel.owner = Some(owner);
            channel.masked = false;
        }
        self.queue(port);
        Ok(())
    }

    /// Takes a handler away, and with the last one the interrupt. False: its handlers are being called at this moment.
    pub(super) fn detach(&mut self, port: Port, handler: NonNull<End>) -> bool {
        let Some(channel) = self.get_mut(port) else { return true };
        if channel.running {
            return false;
        }
        if let Some(slot) = channel.handlers.iter_mut().find(|slot| **slot == Some(handler)) {
            *slot = None;
        }
        if channel.handlers.iter().any(Option::is_some) {
            return true;
        }
        channel.masked = true;
        if channel.owner.take() == Some(Owner::Dynamic) {
            self.close(port);
        }
        true
    }

    /// Notes that the handlers of `port` are to be called, if they are.
    fn queue(&mut self, port: Port) {
        let Some(channel) = self.get_mut(port).filter(|channel| channel.is_due() && channel.owner.is_some())
        else {
            return;
        };
        if !core::mem::replace(&mut channel.queued, true) {
            self.due.push(port);
        }
    }

    /// The next port whose handlers are to be called. They count as running until [`Channels::done`].
    pub(super) fn next_due(&mut self) -> Option<(Port, Handlers)> {
        loop {
            let port = self.due.pop()?;
            let Some(channel) = self.get_mut(port) else { continue };
            channel.queued = false;
            // It may have been closed, or masked again, since it was queued.
            if channel.is_due() && channel.owner.is_some() {
                channel.pending = false;
                channel.masked = true;
                channel.running = true;
                return Some((port, channel.handlers));
            }
        }
    }

    /// The handlers of `port` were called.
    pub(super) fn done(&mut self, port: Port) {
        if let Some(channel) = self.get_mut(port) {
            channel.running = false;
        }
        // Somebody may have let it fire again meanwhile.
        self.queue(port);
    }
}

/// Whether a program that names this domain means the simulated one.
fn is_this(domain: DomId) -> bool {
    domain == DomId(0) || domain == DomId::SELF
}
