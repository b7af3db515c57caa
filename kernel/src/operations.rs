// SPDX-License-Identifier: GPL-2.0
//! The table of system calls: from C's types to those of [`File`], and its results back.
//!
//! There is no entry for seeking (files are streams) and none for ioctls of 32-bit programs (the answer is ENOTTY).

use evtchn_abi::{Errno, ioctl::Ioctl};
use kernel::prelude::*;
use kernel::{
    bindings,
    ffi::{c_int, c_long, c_uint, c_ulong},
    types::ForeignOwnable,
    uaccess::UserPtr,
};

use crate::file::File;

/// The owner of a file's private data.
type Private = Pin<KBox<File>>;

/// The table; an open file holds `owner`.
pub(crate) const fn table(owner: *mut bindings::module) -> bindings::file_operations {
    bindings::file_operations {
        owner,
        open: Some(open),
        read: Some(read),
        write: Some(write),
        unlocked_ioctl: Some(ioctl),
        poll: Some(poll),
        fasync: Some(fasync),
        release: Some(release),
        ..pin_init::zeroed()
    }
}

/// What a call of this kind returns for an error.
fn negated(errno: Errno) -> isize {
    -(errno.0 as isize)
}

/// The file that `open` made.
///
/// # Safety
///
/// `file` was opened by [`open`] and is not released while the answer is used.
unsafe fn opened<'a>(file: *mut bindings::file) -> Pin<&'a File> {
    // SAFETY: The caller's promise.
    let private = unsafe { (*file).private_data };
    // SAFETY: `open` put a foreign `Private` there, which `release` takes back when no call is under way any more.
    unsafe { Private::borrow(private.cast()) }
}

/// # Safety
///
/// The VFS calls it, for a file that is being opened.
unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    let private = match File::open() {
        Ok(private) => private,
        Err(errno) => return negated(errno) as c_int,
    };
    // SAFETY: The file is being opened, so nobody else looks at it.
    unsafe { (*file).private_data = private.into_foreign().cast() };
    // SAFETY: Both are valid. The call marks the file as not seekable, and cannot fail.
    unsafe { bindings::stream_open(inode, file) }
}

/// # Safety
///
/// The VFS calls it, for a file that `open` opened.
unsafe extern "C" fn read(
    file: *mut bindings::file,
    buffer: *mut u8,
    length: usize,
    _: *mut bindings::loff_t,
) -> isize {
    // SAFETY: The VFS keeps the file open.
    let this = unsafe { opened(file) };
    // SAFETY: As above. The flags may change at any moment (F_SETFL): one racy load, as everywhere in the kernel.
    let flags = unsafe { (&raw const (*file).f_flags).read_volatile() };
    let nonblocking = flags & bindings::O_NONBLOCK != 0;
    this.read(UserPtr::from_ptr(buffer.cast()), length, nonblocking)
        .map_or_else(negated, |bytes| bytes as isize)
}

/// # Safety
///
/// The VFS calls it, for a file that `open` opened.
unsafe extern "C" fn write(
    file: *mut bindings::file,
    buffer: *const u8,
    length: usize,
    _: *mut bindings::loff_t,
) -> isize {
    // SAFETY: The VFS keeps the file open.
    let this = unsafe { opened(file) };
    this.write(UserPtr::from_ptr(buffer.cast_mut().cast()), length)
        .map_or_else(negated, |bytes| bytes as isize)
}

/// # Safety
///
/// The VFS calls it, for a file that `open` opened.
unsafe extern "C" fn ioctl(file: *mut bindings::file, word: c_uint, argument: c_ulong) -> c_long {
    // SAFETY: The VFS keeps the file open.
    let this = unsafe { opened(file) };
    this.ioctl(Ioctl(word), UserPtr::from_addr(argument)).map_or_else(negated, |port| port as c_long)
}

/// # Safety
///
/// The VFS calls it, for a file that `open` opened.
unsafe extern "C" fn poll(
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    // SAFETY: The VFS keeps the file open.
    let this = unsafe { opened(file) };
    // SAFETY: The file and the table are those of this call.
    unsafe { this.readers().register(file, table) };
    this.poll_mask()
}

/// # Safety
///
/// The VFS calls it, for a file that `open` opened.
unsafe extern "C" fn fasync(descriptor: c_int, file: *mut bindings::file, on: c_int) -> c_int {
    // SAFETY: The VFS keeps the file open.
    let this = unsafe { opened(file) };
    // SAFETY: The arguments are those of this call.
    unsafe { this.signals().change(descriptor, file, on) }
}

/// # Safety
///
/// The VFS calls it once, when the last descriptor of a file that `open` opened is gone.
unsafe extern "C" fn release(_: *mut bindings::inode, file: *mut bindings::file) -> c_int {
    // SAFETY: The file is valid until this returns.
    let private = unsafe { (*file).private_data };
    // SAFETY: It came from `into_foreign` in `open`, and no call on this file is under way any more.
    drop(unsafe { Private::from_foreign(private.cast()) });
    0
}
