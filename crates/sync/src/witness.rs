// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows a model checker who uses what a lock or a cell guards.

use crate::const_fn;

/// Nothing at all; in loom a cell, so that two uses of which neither comes before the other are found out.
pub(crate) struct Witness {
    #[cfg(loom)]
    cell: loom::cell::UnsafeCell<()>,
}

impl Witness {
    const_fn! {
        pub(crate) const fn new() -> Self {
            Self {
                #[cfg(loom)]
                cell: loom::cell::UnsafeCell::new(()),
            }
        }
    }

    /// Here the value is read.
    #[inline(always)]
    pub(crate) fn read(&self) {
        #[cfg(loom)]
        self.cell.with(|_| ());
    }

    /// Here the value is written.
    #[inline(always)]
    pub(crate) fn write(&self) {
        #[cfg(loom)]
        self.cell.with_mut(|_| ());
    }
}
