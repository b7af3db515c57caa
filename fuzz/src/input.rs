// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fuzzer's bytes, read as whatever is needed. When they are used up all is zero.

/// The bytes that are left.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// Is anything left?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let n = N.min(self.0.len());
        bytes[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        bytes
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: u32) -> u32 {
        u32::from(self.byte()) % end
    }

    /// A small number mostly, any number sometimes.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            0xff => u32::from_le_bytes(self.bytes()),
            small => small.into(),
        }
    }
}
