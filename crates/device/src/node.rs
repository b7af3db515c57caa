// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device node looks like from outside, and which calls an open of it permits.

use evtchn_abi::Errno;
/// Where programs look for it.
pub use evtchn_abi::ioctl::DEVICE_PATH as PATH;

/// Its major number, that of the miscellaneous devices. The minor number is dynamic.
pub const MAJOR: u32 = 10;
/// Its permissions; the owner is root.
pub const MODE: u32 = 0o600;
/// What the names of its interrupts start with; the name of the program that opened it follows.
pub const INTERRUPT_NAME_PREFIX: &str = "evtchn:";
/// The answer to `lseek`, `pread` and `pwrite`: the file is a stream. It also means that a reader that waits does not
/// hold up a writer.
pub const NOT_SEEKABLE: Errno = Errno::ESPIPE;
/// The answer to an ioctl of a 32-bit program on a 64-bit kernel, which has no entry of its own. Reads and writes work.
pub const NO_COMPAT_IOCTL: Errno = Errno::ENOTTY;

/// How a file was opened, as far as it matters here: `open`'s flags.
///
/// ioctl and poll need no access at all; every bind works on a file that is open only for reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags(pub u32);

impl OpenFlags {
    const ACCESS_MODE: u32 = 0o3;
    const READ_ONLY: u32 = 0o0;
    const WRITE_ONLY: u32 = 0o1;
    const READ_WRITE: u32 = 0o2;

    /// Checks that a `read` is permitted.
    ///
    /// # Errors
    ///
    /// `EBADF`: the file is not open for reading.
    pub const fn check_read(self) -> Result<(), Errno> {
        match self.0 & Self::ACCESS_MODE {
            Self::READ_ONLY | Self::READ_WRITE => Ok(()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Checks that a `write` is permitted.
    ///
    /// # Errors
    ///
    /// `EBADF`: the file is not open for writing.
    pub const fn check_write(self) -> Result<(), Errno> {
        match self.0 & Self::ACCESS_MODE {
            Self::WRITE_ONLY | Self::READ_WRITE => Ok(()),
            _ => Err(Errno::EBADF),
        }
    }
}
