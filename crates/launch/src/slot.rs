// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words that pipes can refer to instead of holding a copy.
//!
//! `vmsplice` puts a reference to a page into a pipe; who reads the pipe gets what the page holds *then*. So the one port that a
//! readiness pipe holds can follow the head of the ring without being taken out and put in again, which a poller
//! would see as a new edge. The pages are shared memory: private ones would be copied, and the pipe would keep the old copy, once the launcher forks.

// UNSAFETY: a mapping of our own that the kernel reads on behalf of other processes.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

const PAGE: usize = 4096;
const PER_PAGE: usize = PAGE / size_of::<u32>();

/// A supply of slots.
#[derive(Default, Clone)]
pub struct Slots {
    free: Rc<RefCell<Vec<Place>>>,
}

#[derive(Clone)]
struct Place {
    page: Rc<Mapping>,
    index: usize,
}

struct Mapping {
    address: NonNull<c_void>,
    _memory: OwnedFd,
}

/// One word. It returns to its supply when dropped.
pub struct Slot {
    place: Place,
    supply: Slots,
}

impl Slots {
    /// Takes a slot.
    pub fn take(&self) -> Result<Slot, Errno> {
        if self.free.borrow().is_empty() {
            let page = Rc::new(Mapping::new()?);
            let places = (0..PER_PAGE).map(|index| Place { page: Rc::clone(&page), index });
            self.free.borrow_mut().extend(places);
        }
        let place = self.free.borrow_mut().pop().ok_or(Errno::NOMEM)?;
        Ok(Slot { place, supply: self.clone() })
    }
}

impl Mapping {
    fn new() -> Result<Self, Errno> {
        let memory = rustix::fs::memfd_create("evtchn-ports", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, PAGE as u64)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let address = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), PAGE, protection, MapFlags::SHARED, &memory, 0)
        }?;
        let address = NonNull::new(address).ok_or(Errno::NOMEM)?;
        Ok(Self { address, _memory: memory })
    }

    fn words(&self) -> &[AtomicU32; PER_PAGE] {
        // SAFETY: the mapping is one page, aligned, writable, lives as long as `self`, and is only seen as atomics.
        unsafe { self.address.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference to it outlives `self`. Pipes keep the page, not the mapping.
        let _ = unsafe { rustix::mm::munmap(self.address.as_ptr(), PAGE) };
    }
}

impl Slot {
    fn word(&self) -> &AtomicU32 {
        &self.place.page.words()[self.place.index]
    }

    /// Changes what a reader of the pipe will get.
    pub fn set(&self, value: u32) {
        // SeqCst: the caller looks at the pipe afterwards; a reader that took the word before that look may have got the old value.
        self.word().store(value, Ordering::SeqCst);
    }

    /// Puts the slot into a pipe.
    pub fn put(&self, writer: BorrowedFd<'_>) -> Result<(), Errno> {
        let vector = libc::iovec { iov_base: self.word().as_ptr().cast(), iov_len: size_of::<u32>() };
        // SAFETY: the vector names a word of a live mapping; the kernel takes a reference of its own on the page.
        let count =
            unsafe { libc::vmsplice(writer.as_raw_fd(), &raw const vector, 1, libc::SPLICE_F_NONBLOCK) };
        match count {
            4 => Ok(()),
            _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.supply.free.borrow_mut().push(self.place.clone());
    }
}
