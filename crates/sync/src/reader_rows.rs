// SPDX-License-Identifier: MIT OR Apache-2.0
//! More slots for readers, allocated when those that are always there are taken. They are never freed.

use crate::once_box::OnceBox;
use crate::readers::{Row, Slot};
use crate::try_box;

const SLOTS: usize = 64;

/// A row, and the next one.
#[derive(Debug)]
struct More {
    row: Row<SLOTS>,
    next: Next,
}

type Next = OnceBox<More>;

#[cfg(not(any(loom, shuttle)))]
static FIRST: Next = OnceBox::new();
#[cfg(loom)]
loom::lazy_static! {
    static ref FIRST: Next = OnceBox::new();
}
#[cfg(shuttle)]
shuttle::lazy_static! {
    static ref FIRST: Next = OnceBox::new();
}

fn rows() -> impl Iterator<Item = &'static More> {
    let first: &'static Next = &FIRST;
    core::iter::successors(first.get(), |more| more.next.get())
}

/// A slot of an allocated row; `None` if there is no memory for one more row.
pub(crate) fn own() -> Option<&'static Slot> {
    loop {
        if let Some(slot) = rows().find_map(|more| more.row.own()) {
            return Some(slot);
        }
        let end: &'static Next = rows().last().map_or(&FIRST, |more| &more.next);
        // If another thread is quicker its row is looked at.
        let _ = end.set(try_box(More { row: Row::new(), next: OnceBox::new() })?);
    }
}

/// Have these slots no reader that is older than `epoch`?
pub(crate) fn is_past(epoch: u64) -> bool {
    rows().all(|more| more.row.is_past(epoch))
}
