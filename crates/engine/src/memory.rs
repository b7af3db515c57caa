// SPDX-License-Identifier: MIT OR Apache-2.0
//! The caller's memory, where hypercall arguments lie.

use evtchn_abi::CStruct;

use crate::error::OpError;

/// An address of the caller's that cannot be read or written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fault;

impl From<Fault> for OpError {
    fn from(Fault: Fault) -> Self {
        Self::Fault
    }
}

/// The memory of the caller of a hypercall, by the addresses that the caller uses.
///
/// The engine reads an argument once, as a whole, so another thread of the guest cannot change it
/// between a check and its use. No engine lock is held during a call.
pub trait GuestMemory {
    /// Copies from the caller.
    ///
    /// # Errors
    /// [`Fault`] if any byte cannot be read.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault>;

    /// Copies to the caller.
    ///
    /// # Errors
    /// [`Fault`] if any byte cannot be written.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault>;
}

/// Reads a structure.
pub(crate) fn copy_in<A: CStruct, M: GuestMemory + ?Sized>(
    memory: &mut M,
    address: u64,
) -> Result<A, OpError> {
    let mut bytes = A::ZEROED;
    memory.read(address, bytes.as_mut())?;
    Ok(A::from_bytes(bytes))
}

/// Writes a structure.
pub(crate) fn copy_out<A: CStruct, M: GuestMemory + ?Sized>(
    memory: &mut M,
    address: u64,
    value: &A,
) -> Result<(), OpError> {
    Ok(memory.write(address, value.to_bytes().as_ref())?)
}

/// A caller's memory that begins at address 0: for tests, and for hosts that carry out hypercalls on
/// a copy of the argument.
///
/// ```
/// use evtchn_engine::{Fault, GuestMemory};
///
/// let mut memory = [0; 8];
/// GuestMemory::write(&mut memory[..], 6, &[1, 2])?;
/// assert_eq!(memory, [0, 0, 0, 0, 0, 0, 1, 2]);
/// assert_eq!(GuestMemory::write(&mut memory[..], 7, &[3, 4]), Err(Fault));
/// # Ok::<(), Fault>(())
/// ```
impl GuestMemory for [u8] {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let range = range(address, bytes.len())?;
        bytes.copy_from_slice(self.get(range).ok_or(Fault)?);
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let range = range(address, bytes.len())?;
        self.get_mut(range).ok_or(Fault)?.copy_from_slice(bytes);
        Ok(())
    }
}

fn range(address: u64, len: usize) -> Result<core::ops::Range<usize>, Fault> {
    let start = usize::try_from(address).map_err(|_| Fault)?;
    Ok(start..start.checked_add(len).ok_or(Fault)?)
}
