// SPDX-License-Identifier: GPL-2.0
//! Who has which static port: ports that exist already, which BIND_STATIC takes up and nobody here closes.
//!
//! Several files may have one. The kernel's interrupt of a port is made by the first of them and goes with the last; its
//! reference count must be right in between, or the second file that lets go finds nothing there (which stops the machine with
//! the driver in C). The table is locked from the check of who uses a port to the entry of its new user.

use core::ptr::NonNull;

use evtchn_abi::{Errno, Port};
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNodeReservation};
use kernel::sync::{GlobalGuard, global_lock};

use crate::backend::{Backend, Line, Platform};
use crate::bindings::End;
use crate::name::InterruptName;

global_lock! {
    pub(crate)
    // SAFETY: `init` does it, before the node can be opened.
    unsafe(uninit) static STATICS: Mutex<Statics> = Statics { users: None };
}

/// The table, locked.
pub(crate) type StaticsGuard = GlobalGuard<STATICS>;

/// The table of static ports.
pub(crate) struct Statics {
    /// Who uses each port, by port. Empty until the first is bound: a tree cannot be made at compile time.
    users: Option<RBTree<u32, Users>>,
}

// SAFETY: The tree owns what it holds.
unsafe impl Send for Statics {}

struct Users {
    count: u32,
    line: Line,
}

/// Makes the lock usable.
pub(crate) fn init() {
    // SAFETY: The module does it once, when it is loaded.
    unsafe { STATICS.init() };
}

/// Locks the table.
pub(crate) fn lock() -> StaticsGuard {
    STATICS.lock()
}

impl Statics {
    /// Whether a file has `port` as a static one.
    pub(crate) fn contains(&self, port: Port) -> bool {
        self.users.as_ref().is_some_and(|users| users.get(&port.0).is_some())
    }

    /// Adds a user of `port`, whose `handler` is called from now on.
    ///
    /// # Safety
    ///
    /// `handler` and `name` stay where they are until [`Statics::detach`] has returned.
    pub(crate) unsafe fn attach(
        &mut self,
        port: Port,
        name: &InterruptName,
        handler: NonNull<End>,
    ) -> Result<Line, Errno> {
        let users = self.users.get_or_insert_with(RBTree::new);
        if let Some(users) = users.get_mut(&port.0) {
            let count = users.count.checked_add(1).ok_or(Errno::ENOMEM)?;
            // SAFETY: The caller's promise.
            unsafe { Platform::attach_to_static(port, users.line, name, handler) }?;
            users.count = count;
            return Ok(users.line);
        }
        let node = RBTreeNodeReservation::new(GFP_KERNEL).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: The caller's promise.
        let line = unsafe { Platform::attach_static(port, name, handler) }?;
        users.insert(node.into_node(port.0, Users { count: 1, line }));
        Ok(line)
    }

    /// Takes a user of `port` away. Its handler does not run any more when this returns.
    ///
    /// # Safety
    ///
    /// [`Statics::attach`] gave `line` for this `handler`, which has not been detached since.
    pub(crate) unsafe fn detach(&mut self, port: Port, line: Line, handler: NonNull<End>) {
        // SAFETY: The caller's promise.
        unsafe { Platform::detach(line, handler) };
        let Some(users) = &mut self.users else { return };
        let left = users.get_mut(&port.0).map(|users| {
            users.count = users.count.wrapping_sub(1);
            users.count
        });
        match left {
            Some(0) => drop(users.remove(&port.0)),
            // The file that is gone may have had an event that it did not answer, and one that has come since may be waiting
            // for nothing else.
            Some(_) => Platform::end_of_interrupt(line),
            None => {}
        }
    }
}
