// SPDX-License-Identifier: MIT OR Apache-2.0
//! ioctls whose result is the call's own.

// UNSAFETY: ioctls.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::AsFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// Makes an ioctl with an argument of the size that its number carries.
///
/// What the argument points to is the caller's to think of: a hypercall may write to memory of this program.
pub fn call<B>(file: impl AsFd, number: u32, argument: B) -> rustix::io::Result<i32> {
    // SAFETY: the drivers read the argument and do not write it. Where hypercalls write is up to those who make them; the
    // hostile program does so on purpose, in buffers that it uses for nothing else.
    unsafe { ioctl(file, Call { number, argument }) }
}

struct Call<B> {
    number: u32,
    argument: B,
}

// SAFETY: the pointer is to the argument, and the output is the call's result.
unsafe impl<B> Ioctl for Call<B> {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        self.number
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.argument).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(output)
    }
}
