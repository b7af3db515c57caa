// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structures as they lie in guest or program memory: what all of them have in common.
//!
//! All numbers are little-endian, as on every machine that Xen runs on.

use crate::{ChannelStatus, DomId, Domctl, Gfn, HvmParam, Hypercall, Op, Pirq, Port, VcpuId, Virq};

/// One field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name in Rust, which is the name in C; `pad` for bytes that C leaves unnamed.
    pub name: &'static str,
    /// Where it begins, in bytes from the start of the structure.
    pub offset: usize,
    /// How long it is, in bytes.
    pub size: usize,
}

/// A structure of fixed layout that travels through guest or program memory.
///
/// The trait lets a caller copy arguments in and out without naming the structure:
///
/// ```
/// use evtchn_abi::{CStruct, args::Send};
///
/// fn copy_in<A: CStruct>(memory: &[u8]) -> Option<A> {
///     let mut bytes = A::ZEROED;
///     bytes.as_mut().copy_from_slice(memory.get(..A::SIZE)?);
///     Some(A::from_bytes(bytes))
/// }
///
/// assert_eq!(copy_in::<Send>(&[9, 0, 0, 0]).unwrap().port.0, 9);
/// assert_eq!(copy_in::<Send>(&[9, 0]), None);
/// ```
pub trait CStruct: Copy {
    /// `[u8; SIZE]`.
    type Bytes: AsRef<[u8]> + AsMut<[u8]> + Copy;
    /// The structure's tag in the C headers.
    const C_NAME: &'static str;
    /// The size in bytes.
    const SIZE: usize;
    /// As many zero bytes.
    const ZEROED: Self::Bytes;
    /// Every field in order, without gaps.
    const FIELDS: &'static [Field];

    /// Reads the structure. Every value is accepted.
    fn from_bytes(bytes: Self::Bytes) -> Self;

    /// The bytes of the structure, padding included.
    fn to_bytes(&self) -> Self::Bytes;
}

/// Hands out the bytes of a structure from the front.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes. Zeros past the end, which the size check of `c_struct!` rules out.
    #[inline]
    fn next<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((chunk, rest)) => {
                self.0 = rest;
                *chunk
            }
            None => [0; N],
        }
    }
}

/// Fills the bytes of a structure from the front.
pub(crate) struct Writer<'a>(&'a mut [u8]);

impl<'a> Writer<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Puts the next `N` bytes. Nothing past the end, which the size check of `c_struct!` rules out.
    #[inline]
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        if let Some((chunk, rest)) = core::mem::take(&mut self.0).split_first_chunk_mut::<N>() {
            *chunk = value;
            self.0 = rest;
        }
    }
}

/// What a field can be.
pub(crate) trait Scalar: Copy {
    /// The size in bytes.
    const SIZE: usize;

    /// Reads the value from the front of the bytes that are left.
    fn take(reader: &mut Reader<'_>) -> Self;

    /// Writes the value to the front of the bytes that are left.
    fn put(self, writer: &mut Writer<'_>);
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl Scalar for $type {
            const SIZE: usize = size_of::<$type>();

            #[inline]
            fn take(reader: &mut Reader<'_>) -> Self {
                Self::from_le_bytes(reader.next())
            }

            #[inline]
            fn put(self, writer: &mut Writer<'_>) {
                writer.put(self.to_le_bytes());
            }
        })*
    };
}

macro_rules! newtypes {
    ($($type:ident($inner:ty))*) => {
        $(impl Scalar for $type {
            const SIZE: usize = <$inner as Scalar>::SIZE;

            #[inline]
            fn take(reader: &mut Reader<'_>) -> Self {
                Self(Scalar::take(reader))
            }

            #[inline]
            fn put(self, writer: &mut Writer<'_>) {
                self.0.put(writer);
            }
        })*
    };
}

integers! { u16 u32 u64 }
newtypes! {
ChannelStatus(u32) Domctl(u32) DomId(u16) HvmParam(u32) Gfn(u64) Hypercall(u64) Op(u32) Pirq(u32) Port(u32) VcpuId(u32) Virq(u32) }

impl<const N: usize> Scalar for [u8; N] {
    const SIZE: usize = N;

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Self {
        reader.next()
    }

    #[inline]
    fn put(self, writer: &mut Writer<'_>) {
        writer.put(self);
    }
}

impl Scalar for u8 {
    const SIZE: usize = 1;

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Self {
        let [byte] = reader.next();
        byte
    }

    #[inline]
    fn put(self, writer: &mut Writer<'_>) {
        writer.put([self]);
    }
}

/// The five arguments of a hypercall.
impl Scalar for [u64; 5] {
    const SIZE: usize = size_of::<[u64; 5]>();

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Self {
        [(); 5].map(|()| u64::take(reader))
    }

    #[inline]
    fn put(self, writer: &mut Writer<'_>) {
        for value in self {
            value.put(writer);
        }
    }
}
