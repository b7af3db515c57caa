// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page for models: a model checker's atomics cannot be laid over memory.

use std::vec::Vec;

use crate::Page;
use crate::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// A page that has only the fields that it was made with. What is elsewhere answers `None`.
#[derive(Debug)]
pub struct ModelPage {
    bytes: Vec<(usize, AtomicU8)>,
    halves: Vec<(usize, AtomicU32)>,
    words: Vec<(usize, AtomicU64)>,
}

impl ModelPage {
    /// A page with zeroed fields of 8, 32 and 64 bits at these offsets.
    #[must_use]
    pub fn new(bytes: &[usize], halves: &[usize], words: &[usize]) -> Self {
        Self {
            bytes: fields(bytes, || AtomicU8::new(0)),
            halves: fields(halves, || AtomicU32::new(0)),
            words: fields(words, || AtomicU64::new(0)),
        }
    }
}

/// The fields in the order of their offsets.
fn fields<T>(offsets: &[usize], zero: impl Fn() -> T) -> Vec<(usize, T)> {
    let mut fields: Vec<_> = offsets.iter().map(|&at| (at, zero())).collect();
    fields.sort_by_key(|&(at, _)| at);
    fields
}

fn find<T>(fields: &[(usize, T)], offset: usize) -> Option<&T> {
    let index = fields.binary_search_by_key(&offset, |&(at, _)| at).ok()?;
    fields.get(index).map(|(_, field)| field)
}

impl Page for ModelPage {
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        find(&self.bytes, offset)
    }

    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        find(&self.halves, offset)
    }

    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        find(&self.words, offset)
    }
}
