// SPDX-License-Identifier: MIT OR Apache-2.0
//! The error numbers that Xen and the driver answer with. Xen's equal Linux's on x86.

use core::fmt;

/// An error number, positive (`xen/errno.h`). The interfaces return it negated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Errno(pub u16);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($value);)*

            /// The name, for example `"EINVAL"`; `None` for a number that is not listed here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Not permitted.";
    ENOENT = 2, "No such entry (Xen: no such vCPU).";
    ESRCH = 3, "No such domain.";
    EINTR = 4, "Interrupted.";
    EIO = 5, "Input/output error.";
    ENXIO = 6, "No such device or address.";
    EBADF = 9, "Bad file descriptor.";
    EAGAIN = 11, "Try again.";
    ENOMEM = 12, "Out of memory.";
    EACCES = 13, "Access denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Busy.";
    EEXIST = 17, "Exists already.";
    ENODEV = 19, "No such device.";
    ENOTDIR = 20, "Not a directory.";
    EINVAL = 22, "Invalid argument.";
    ENFILE = 23, "Too many open files in the system.";
    EMFILE = 24, "Too many open files in the process.";
    ENOTTY = 25, "Not a command of this device.";
    EFBIG = 27, "Too large (the driver: the ring overflowed).";
    ENOSPC = 28, "No space (Xen: no free port).";
    ESPIPE = 29, "Not seekable.";
    ENOSYS = 38, "Not implemented.";
    ELOOP = 40, "Too many symbolic links.";
    ERESTART = 85, "Internal to the hypervisor: to be restarted.";
    EOPNOTSUPP = 95, "Not supported.";
    EISCONN = 106, "Connected already.";
    ENOTCONN = 107, "Not connected.";
}

impl Errno {
    /// The value a call returns: the negated number.
    #[must_use]
    pub const fn negated(self) -> i64 {
        -(self.0 as i64)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}
