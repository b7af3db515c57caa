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

            /// Every number that has a name here, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
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
    E2BIG = 7, "Too long a list.";
    ENOEXEC = 8, "Not executable.";
    EBADF = 9, "Bad file descriptor.";
    ECHILD = 10, "No child.";
    EAGAIN = 11, "Try again.";
    ENOMEM = 12, "Out of memory.";
    EACCES = 13, "Access denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Busy.";
    EEXIST = 17, "Exists already.";
    EXDEV = 18, "Across two devices.";
    ENODEV = 19, "No such device.";
    ENOTDIR = 20, "Not a directory.";
    EISDIR = 21, "Is a directory.";
    EINVAL = 22, "Invalid argument.";
    ENFILE = 23, "Too many open files in the system.";
    EMFILE = 24, "Too many open files in the process.";
    ENOTTY = 25, "Not a command of this device.";
    EFBIG = 27, "Too large (the driver: the ring overflowed).";
    ENOSPC = 28, "No space (Xen: no free port).";
    ESPIPE = 29, "Not seekable.";
    EROFS = 30, "Read-only.";
    EMLINK = 31, "Too many links.";
    EPIPE = 32, "Nobody at the other end.";
    EDOM = 33, "Outside of the domain of a function.";
    ERANGE = 34, "Result too large.";
    EDEADLK = 35, "Would wait for ever.";
    ENAMETOOLONG = 36, "Name too long.";
    ENOLCK = 37, "No lock left.";
    ENOSYS = 38, "Not implemented.";
    ENOTEMPTY = 39, "Not empty.";
    ELOOP = 40, "Too many symbolic links.";
    ENODATA = 61, "No data.";
    ETIME = 62, "The time has passed.";
    EBADMSG = 74, "Not a data message.";
    EOVERFLOW = 75, "Value too large for its type.";
    EILSEQ = 84, "Illegal sequence of bytes.";
    ERESTART = 85, "Internal to the hypervisor: to be restarted.";
    ENOTSOCK = 88, "Not a socket.";
    EMSGSIZE = 90, "Message too long.";
    EOPNOTSUPP = 95, "Not supported.";
    EADDRINUSE = 98, "Address in use.";
    EADDRNOTAVAIL = 99, "Address not available.";
    ENOBUFS = 105, "No buffer space.";
    EISCONN = 106, "Connected already.";
    ENOTCONN = 107, "Not connected.";
    ETIMEDOUT = 110, "Timed out.";
    ECONNREFUSED = 111, "Connection refused.";
}

/// The largest error number that a negative result can carry; results below its negation are values.
const MAX: i64 = 4095;

impl Errno {
    /// The value a call returns: the negated number.
    #[must_use]
    pub const fn negated(self) -> i64 {
        (self.0 as i64).wrapping_neg()
    }

    /// The error in a call's result; `None` if the result is a success, that is, not within -4095 to -1.
    ///
    /// ```
    /// use evtchn_abi::Errno;
    ///
    /// assert_eq!(Errno::from_result(-22), Some(Errno::EINVAL));
    /// assert_eq!(Errno::from_result(3), None);
    /// ```
    #[must_use]
    pub const fn from_result(result: i64) -> Option<Self> {
        let number = result.wrapping_neg();
        if number >= 1 && number <= MAX { Some(Self(number as u16)) } else { None }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_a_result() {
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_result(errno.negated()), Some(errno));
        }
    }

    #[test]
    fn only_small_negative_results_are_errors() {
        for result in [0, 1, i64::MAX, i64::MIN, -4096] {
            assert_eq!(Errno::from_result(result), None, "{result}");
        }
        assert_eq!(Errno::from_result(-4095), Some(Errno(4095)));
    }

    #[test]
    fn the_list_is_ascending_without_duplicates() {
        assert!(Errno::ALL.is_sorted_by(|a, b| a < b));
    }
}
