// SPDX-License-Identifier: MIT OR Apache-2.0
//! The open device files of all programs, by the inode of their pipes.
//!
//! A file stays here until its last descriptor is closed anywhere. What programs do to the pipes natively (read
//! one port, write on a descriptor that the filter does not know, close) arrives through one inotify descriptor.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use evtchn_abi::{DomId, Errno, Port};
use evtchn_host::{DeviceFile, Host, MAX_BYTES, Readable};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::OFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno as OsErrno;

use crate::objects::FileId;
use crate::readiness::{Put, Readiness, Settled};
use crate::slot::Slots;

/// The inode of a pipe; all pipes are in one file system.
pub type PipeId = u64;

/// One open of `/dev/xen/evtchn`.
pub struct OpenFile {
    /// The device's side: ring, bindings, restriction.
    pub device: DeviceFile,
    /// How it was opened.
    pub flags: evtchn_host::OpenFlags,
    readiness: Readiness,
    watch: i32,
}

/// All of them.
pub struct Files {
    open: HashMap<PipeId, OpenFile>,
    /// The file system of all pipes, once there is one.
    pipes: Option<u64>,
    by_watch: HashMap<i32, PipeId>,
    notices: OwnedFd,
    /// Files that somebody has closed; perhaps it was the last close.
    suspects: HashSet<PipeId>,
    /// An epoll set of the suspects' pipes.
    hangups: OwnedFd,
    /// Files whose pipe could not be made to agree with their ring.
    unsettled: BTreeSet<PipeId>,
    slots: Slots,
    put: Put,
    /// Files whose ring turned from empty to not empty.
    woken: Receiver<PipeId>,
    waker: Sender<PipeId>,
    /// How many files may be open: each needs two descriptors here, and some are needed for all else.
    limit: usize,
}

impl Files {
    /// No open files, and no more than `limit` later.
    pub fn new(limit: usize) -> Result<Self, OsErrno> {
        let (waker, woken) = channel();
        let slots = Slots::default();
        let put = if reference_is_noticed(&slots)? { Put::Reference } else { Put::Copy };
        Ok(Self {
            open: HashMap::new(),
            pipes: None,
            by_watch: HashMap::new(),
            notices: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            suspects: HashSet::new(),
            hangups: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            unsettled: BTreeSet::new(),
            slots,
            put,
            woken,
            waker,
            limit,
        })
    }

    /// Descriptors of which one is readable when a program has done something natively.
    pub fn sources(&self) -> [BorrowedFd<'_>; 2] {
        [self.notices.as_fd(), self.hangups.as_fd()]
    }

    /// The file whose pipe was looked at.
    pub fn find(&self, pipe: FileId) -> Option<PipeId> {
        let known = self.pipes == Some(pipe.device) && self.open.contains_key(&pipe.inode);
        known.then_some(pipe.inode)
    }

    /// The file of a pipe.
    pub fn get(&self, id: PipeId) -> Option<&OpenFile> {
        self.open.get(&id)
    }

    /// Whether any file is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens the device for a program of `domain`. The result is the program's descriptor; if it gets
    /// none after all, dropping it closes the file.
    ///
    /// # Errors
    /// ENFILE when the supervisor's own limits are reached, ENOMEM.
    pub fn open(&mut self, host: &Host, domain: DomId, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        if self.open.len() >= self.limit {
            return Err(Errno::ENFILE);
        }
        let kept = flags & (OFlags::NONBLOCK | OFlags::from_bits_retain(libc::O_ASYNC as u32));
        let (readiness, program) = Readiness::new(&self.slots, self.put, kept).map_err(ours)?;
        let FileId { device: pipes, inode: id } = readiness.id().map_err(ours)?;
        self.pipes = Some(pipes);
        let events = WatchFlags::ACCESS | WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE;
        let watch = inotify::add_watch(&self.notices, readiness.path(), events).map_err(ours)?;
        let waker = self.waker.clone();
        let wake = move || {
            // The receiver lives as long as the files; a wake-up after that is nobody's.
            let _ = waker.send(id);
        };
        let device = host.open(domain, name, Arc::new(wake))?;
        self.by_watch.insert(watch, id);
        let flags = evtchn_host::OpenFlags(flags.bits());
        self.open.insert(id, OpenFile { device, flags, readiness, watch });
        Ok(program)
    }

    /// Accounts for everything that programs did natively until now: closes have happened, consumed ports are gone.
    pub fn catch_up(&mut self) {
        let touched = self.take_notices();
        for &id in &touched {
            if let Some(file) = self.open.get_mut(&id) {
                file.readiness.no_more_notices();
            }
            self.absorb(id);
        }
        self.release_abandoned();
        self.settle_woken();
        for id in std::mem::take(&mut self.unsettled) {
            self.absorb(id);
        }
    }

    /// Notes what inotify has to tell, and returns the files it was about.
    fn take_notices(&mut self) -> BTreeSet<PipeId> {
        let mut touched = BTreeSet::new();
        for (watch, flags) in read_notices(self.notices.as_fd()) {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                touched.extend(self.open.keys());
                self.lost_notices();
            } else if let Some(&id) = self.by_watch.get(&watch) {
                self.notice(id, flags);
                touched.insert(id);
            }
        }
        touched
    }

    /// Nobody knows what was done natively to any file.
    fn lost_notices(&mut self) {
        let all: Vec<PipeId> = self.open.keys().copied().collect();
        for id in all {
            self.suspect(id);
            if let Some(file) = self.open.get_mut(&id) {
                file.readiness.lost_notices();
            }
        }
    }

    fn notice(&mut self, id: PipeId, flags: ReadFlags) {
        if flags.contains(ReadFlags::CLOSE_WRITE) {
            self.suspect(id);
        }
        let Some(file) = self.open.get_mut(&id) else { return };
        if flags.contains(ReadFlags::ACCESS) {
            file.readiness.notice_read();
        }
        if flags.contains(ReadFlags::MODIFY) {
            file.readiness.notice_write();
        }
    }

    /// Makes the pipes of all files that were woken agree with their rings.
    pub fn settle_woken(&mut self) {
        while let Ok(id) = self.woken.try_recv() {
            self.absorb(id);
        }
    }

    /// Takes in what was done to a pipe natively, and makes it agree with its ring again.
    pub fn absorb(&mut self, id: PipeId) {
        let Some(file) = self.open.get_mut(&id) else { return };
        let Ok(seen) = file.readiness.look() else {
            self.unsettled.insert(id);
            return;
        };
        if seen.head_taken {
            file.device.take_head();
        }
        if file.flags.check_write().is_ok() {
            file.device.enable(seen.written.into_iter().map(Port));
            if seen.echoed {
                file.device.enable_delivered();
            }
        }
        self.settle(id);
    }

    /// Does a `read` of `length` bytes: hands the bytes to `copy`, and takes the ports out of the ring if it succeeds.
    ///
    /// # Errors
    /// EAGAIN if there is nothing, or a program has just read natively what there was; and the errors of `copy`.
    pub fn read(
        &mut self,
        id: PipeId,
        length: usize,
        copy: impl FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let file = self.open.get_mut(&id).ok_or(Errno::EBADF)?;
        let result = file.read(length, copy);
        match result {
            Ok(_) => self.settle(id),
            Err(_) => self.absorb(id),
        }
        result
    }

    /// Makes a file's pipe agree with its ring. If it fails, for want of memory or descriptors, it is tried again later.
    pub fn settle(&mut self, id: PipeId) {
        let Some(file) = self.open.get_mut(&id) else { return };
        if file.settle().is_err() {
            self.unsettled.insert(id);
        }
    }

    /// A program was seen to have a file.
    pub fn trust(&mut self, id: PipeId) {
        if !self.suspects.remove(&id) {
            return;
        }
        if let Some(file) = self.open.get_mut(&id) {
            file.readiness.trust();
            // It was put there when the file became suspect.
            let _ = epoll::delete(&self.hangups, file.readiness.reader());
        }
    }

    fn suspect(&mut self, id: PipeId) {
        let Some(file) = self.open.get_mut(&id) else { return };
        file.readiness.suspect();
        if self.suspects.insert(id) {
            // A hang-up is reported whether asked for or not. Without memory for it, the next call finds it.
            let data = EventData::new_u64(id);
            let _ = epoll::add(&self.hangups, file.readiness.reader(), data, EventFlags::empty());
        }
    }

    fn release_abandoned(&mut self) {
        let abandoned = |id: &PipeId| self.open.get(id).is_none_or(|file| file.readiness.is_abandoned());
        let abandoned: Vec<PipeId> = self.suspects.iter().copied().filter(abandoned).collect();
        for id in abandoned {
            self.suspects.remove(&id);
            if let Some(file) = self.open.remove(&id) {
                self.by_watch.remove(&file.watch);
                let _ = inotify::remove_watch(&self.notices, file.watch);
            }
        }
    }
}

impl OpenFile {
    /// As [`Files::settle`].
    fn settle(&mut self) -> Result<(), OsErrno> {
        // Once more at most: then there is no token that anybody could have taken.
        while self.readiness.settle(self.device.head().map(|port| port.0))? == Settled::HeadTaken {
            self.device.take_head();
        }
        Ok(())
    }

    /// As [`Files::read`]. If the ring will be empty, the token has to be had first, or a native reader gets the port as well.
    fn read(
        &mut self,
        length: usize,
        mut copy: impl FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let Self { device, readiness, .. } = self;
        let (Readable::Ports(wanted), Readable::Ports(all)) =
            (device.readable(length), device.readable(MAX_BYTES))
        else {
            return Err(Errno::EAGAIN);
        };
        let mut left = wanted * size_of::<u32>();
        device.read(length, |bytes| {
            copy(bytes)?;
            left -= bytes.len();
            if left == 0 && wanted == all && !readiness.take_token() {
                return Err(Errno::EAGAIN);
            }
            Ok(())
        })
    }
}

/// Whether the kernel tells of a token that is put into a pipe by reference.
fn reference_is_noticed(slots: &Slots) -> Result<bool, OsErrno> {
    let (mut pipe, _program) = Readiness::new(slots, Put::Reference, OFlags::NONBLOCK)?;
    let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&notices, pipe.path(), WatchFlags::MODIFY)?;
    let _ = pipe.settle(Some(0))?;
    Ok(!read_notices(notices.as_fd()).is_empty())
}

/// What inotify has to tell: everything that it had when asked. A read that leaves room for another event has emptied the queue; one that goes
/// on for longer than the queue is long only gets what came meanwhile.
fn read_notices(notices: BorrowedFd<'_>) -> Vec<(i32, ReadFlags)> {
    /// Watch, mask, cookie and length; events of a watched file carry no name.
    const EVENT: usize = 16;
    /// The usual `fs.inotify.max_queued_events`. A longer queue is read on in the next round.
    const QUEUE: usize = 16384;
    let mut found = Vec::new();
    let mut buffer = [0; 64 * EVENT];
    for _ in 0..QUEUE / 64 {
        let Ok(count) = rustix::io::read(notices, &mut buffer) else { break };
        let (events, _) = buffer[..count].as_chunks::<EVENT>();
        found.extend(events.iter().map(|&[w0, w1, w2, w3, m0, m1, m2, m3, ..]| {
            let mask = u32::from_ne_bytes([m0, m1, m2, m3]);
            (i32::from_ne_bytes([w0, w1, w2, w3]), ReadFlags::from_bits_retain(mask))
        }));
        if count + EVENT <= buffer.len() {
            break;
        }
    }
    found
}

/// The supervisor's own limits, as the kernel's are for a real driver: its table of open files is full.
fn ours(error: OsErrno) -> Errno {
    match error {
        OsErrno::MFILE | OsErrno::NFILE | OsErrno::NOSPC => Errno::ENFILE,
        OsErrno::NOMEM => Errno::ENOMEM,
        other => crate::trapped::program_errno(other),
    }
}
