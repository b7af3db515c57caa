// SPDX-License-Identifier: GPL-2.0
//! One open file, shared by all its descriptors.

use evtchn_abi::Port;
use evtchn_abi::{Errno, ioctl::Ioctl};
use evtchn_device::{
    Command, Fault, Level, Pushed, ReadStep, UserArgument, ports_in, transfer::MAX_BYTES, whole_bytes,
};
use kernel::prelude::*;
use kernel::sync::{Mutex, new_mutex};
use kernel::uaccess::{UserPtr, UserSlice};

use crate::bindings::Bindings;
use crate::driver::View;
use crate::name::InterruptName;
use crate::ring::SharedRing;
use crate::signal::Signals;
use crate::wait::WaitQueue;

/// The newest driver's ioctls.
const LEVEL: Level = Level::Linux7_2;

/// A write of up to this many bytes needs no allocation.
const SMALL_WRITE: usize = 32;

/// What an open file is.
#[pin_data(PinnedDrop)]
pub(crate) struct File {
    /// The bind lock: whoever holds it may change what is bound.
    #[pin]
    bindings: Mutex<Bindings>,
    #[pin]
    ring: SharedRing,
    #[pin]
    readers: WaitQueue,
    signals: Signals,
    name: InterruptName,
}

impl File {
    /// A file with nothing bound, whose interrupts carry the current program's name.
    pub(crate) fn open() -> Result<Pin<KBox<Self>>, Errno> {
        let name = InterruptName::of_current_program();
        let file = pin_init!(Self {
            bindings <- new_mutex!(Bindings::new(), "evtchn_bind"),
            ring <- SharedRing::new(),
            readers <- WaitQueue::new(),
            signals: Signals::new(),
            name,
        });
        KBox::pin_init(file, GFP_KERNEL).map_err(|_| Errno::ENOMEM)
    }

    /// Copies the oldest ports to `buffer`, at most `length` bytes of them, and takes them out of the ring.
    ///
    /// The errors are the driver's: EFBIG after an overflow, EAGAIN or a signal (ERESTARTSYS) when there is nothing to
    /// read, EFAULT (then nothing was taken).
    pub(crate) fn read(&self, buffer: UserPtr, length: usize, nonblocking: bool) -> Result<usize, Errno> {
        loop {
            let read = self.ring.read(length, |step| match step {
                ReadStep::Nothing => Ok(Some(0)),
                ReadStep::Overflowed => Err(Errno::EFBIG),
                ReadStep::Empty => Ok(None),
                ReadStep::Ready(ready) => {
                    let mut user = UserSlice::new(buffer, ready.byte_len()).writer();
                    ready.copy_out(|bytes| user.write_slice(bytes)).map_err(|_| Errno::EFAULT)?;
                    Ok(Some(ready.consume()))
                }
            })?;
            match read {
                Some(bytes) => return Ok(bytes),
                None if nonblocking => return Err(Errno::EAGAIN),
                None => self.readers.wait(|| !self.ring.is_empty())?,
            }
        }
    }

    /// Lets the ports in `buffer` fire again: those that are bound to this file and disabled.
    ///
    /// The errors are EFAULT and ENOMEM; nothing was done then.
    pub(crate) fn write(&self, buffer: UserPtr, length: usize) -> Result<usize, Errno> {
        let length = whole_bytes(length);
        if length == 0 {
            return Ok(0);
        }
        let user = UserSlice::new(buffer, length);
        if length <= SMALL_WRITE {
            let mut bytes = [0; SMALL_WRITE];
            let bytes = bytes.get_mut(..length).unwrap_or_default();
            user.reader().read_slice(bytes).map_err(|_| Errno::EFAULT)?;
            self.enable(bytes);
        } else {
            let mut bytes = KVec::with_capacity(MAX_BYTES, GFP_KERNEL).map_err(|_| Errno::ENOMEM)?;
            user.read_all(&mut bytes, GFP_KERNEL).map_err(|_| Errno::EFAULT)?;
            self.enable(&bytes);
        }
        Ok(length)
    }

    fn enable(&self, bytes: &[u8]) {
        let bindings = self.bindings.lock();
        for port in ports_in(bytes) {
            bindings.enable(port);
        }
    }

    /// Does an ioctl under the bind lock. Answers the port of a bind, else 0; the errors are those of [`evtchn_device::ioctl`].
    pub(crate) fn ioctl(self: Pin<&Self>, word: Ioctl, argument: UserPtr) -> Result<u32, Errno> {
        let mut guard = self.bindings.lock();
        let Bindings { restriction, ports } = &mut *guard;
        if Command::decode(LEVEL, word) == Some(Command::BindStatic) {
            // Beyond what Linux does: a file that gave its privileges up may not pick up ports of other domains this way.
            restriction.require_none()?;
        }
        evtchn_device::ioctl(LEVEL, word, Argument(argument), restriction, &mut View::new(self, ports))
    }

    /// What poll answers. The caller has registered with [`File::readers`] first.
    pub(crate) fn poll_mask(&self) -> u32 {
        self.ring.poll_mask()
    }

    /// A port of this file fired. Called in interrupt context.
    pub(crate) fn push(&self, port: Port) {
        match self.ring.push(port) {
            Pushed::FirstEntry => {
                self.readers.wake();
                self.signals.send();
            }
            Pushed::Queued | Pushed::Overflow => {}
        }
    }

    /// Who waits for the ring.
    pub(crate) fn readers(&self) -> &WaitQueue {
        &self.readers
    }

    /// Who wants SIGIO.
    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The ring.
    pub(crate) fn ring(&self) -> &SharedRing {
        &self.ring
    }

    /// What the interrupts are called.
    pub(crate) fn name(&self) -> &InterruptName {
        &self.name
    }
}

#[pinned_drop]
impl PinnedDrop for File {
    /// The last close: gives up every port. When the last handler is gone, ring and name may go.
    fn drop(self: Pin<&mut Self>) {
        self.bindings.lock().ports.tear_down_all();
    }
}

/// Calls on one file come from any thread, and interrupts on any CPU.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<File>();
};

/// What the argument of an ioctl points to.
struct Argument(UserPtr);

impl UserArgument for Argument {
    fn copy_in(&mut self, to: &mut [u8]) -> Result<(), Fault> {
        UserSlice::new(self.0, to.len()).reader().read_slice(to).map_err(|_| Fault)
    }
}
