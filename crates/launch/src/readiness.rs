// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel object behind a program's descriptor: a pipe that is readable exactly when the ring is not empty.
//!
//! ```text
//!   program's end                         supervisor
//!   the pipe, opened again   <---------   reader   looks, takes the token back
//!   for reading and writing               writer   puts the token in
//!   (poll, epoll, SIGIO,
//!    blocking: the kernel's)   inotify -> somebody read, wrote or closed it
//! ```
//!
//! # Definitions
//! * The *token* is four bytes in the pipe: a reference to a [`Slot`], which holds the port at the head of the ring.
//! * The pipe is *settled* when it holds the token if and only if the ring has an entry, and nothing else.
//! * A *notice* is an inotify event: somebody read from the pipe, or wrote to it. The supervisor's own reads and writes give notices too.
//!
//! # Invariants
//! 1. The token is put into an empty pipe only, so it stands before everything that a program writes.
//! 2. Whoever reads four bytes natively gets the port that was at the head, and that port is then taken off the ring.
//! 3. The token is put in only when the ring is not empty, which is one edge; a change of the head changes the slot, which is none.
//! 4. No entry is lost: when it is not known which port a native reader got, the newer one is put in again.
//!
//! # Key operations
//! [`Readiness::look`] reports what happened natively since the last look, [`Readiness::settle`] makes the pipe agree with the ring.
//! Between the two the caller accounts for what was found.
//!
//! A token that was read and a port that was written look like the token, so the number of bytes alone does not tell.
//! Notices do: each token that a program reads is one notice of a read that is not the supervisor's own. But a program's
//! notice comes behind its access: the token may be missed before, and another be put in; or the put's own notice come
//! behind that of the read. So they are counted: a notice more than tokens that are known to have been read is of the
//! token that was there (invariant 1), one less is still to come. Those of the supervisor's accesses are there when it
//! looks at them next, and its counts start again whenever all notices were taken. Equal notices in a row come as one:
//! of a put and a write, or two writes, which need not be told apart because nothing was read between them.
//!
//! A program that writes ports natively and then reads may read them back, before the supervisor has found them. Which ports those were is
//! not known then, only that it happened: a notice of a write and one of a read after it. So every port that was delivered and is not enabled counts as
//! written: an event may come that the program has not asked for yet, none stays away for ever.
//!
//! Before Linux 6.6 a put by reference gives no notice (`files` finds out). Then the token is a copy, and a change of
//! the head takes it out and puts another in: one edge more, and nothing else is different.
//!
//! # The last close
//! The program's end is held nowhere in the supervisor, so its last close anywhere shows as a hang-up of the reader, once the supervisor's
//! writer is gone too. Opening a writer for every token would cost more than all the rest of a call. So the writer is kept until
//! inotify tells that somebody has closed the pipe. That comes *before* the hang-up, and for every other opening of the pipe too, so the file is only
//! *suspect* then: writers are opened for the moment of each token until either the hang-up comes or a program is seen to have the file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::objects::FileId;
use crate::slot::{Slot, Slots};
use crate::sys;

const TOKEN: u64 = 4;
/// Two pages: with the token in it the pipe is not full, so it polls as writable.
const PIPE_SIZE: usize = 2 * 4096;

/// The supervisor's side of one device file's pipe.
pub struct Readiness {
    reader: OwnedFd,
    writer: Option<OwnedFd>,
    slot: Slot,
    put: Put,
    /// The port that the token stands for.
    shown: u32,
    has_token: bool,
    suspect: bool,
    /// The supervisor's own reads and puts whose notices are still to come.
    own_reads: u32,
    own_puts: u32,
    /// Notices of programs' reads, less the tokens that programs are known to have read. Below 0 while such a notice is still
    /// to come.
    reads: i32,
    /// A program has written what was not looked at yet.
    was_written: bool,
    /// It, or another, has read after that.
    echoed: bool,
}

/// How the token is put into the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// As a reference to the slot.
    Reference,
    /// As a copy of the port.
    Copy,
}

/// What happened to the pipe while nobody looked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The port at the head was read.
    pub head_taken: bool,
    /// Ports that the program wrote natively.
    pub written: Vec<u32>,
    /// Ports were written that cannot be found any more: a program has read them back.
    pub echoed: bool,
}

/// Whether the pipe agrees with the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// It does.
    Agrees,
    /// No: a program has just read the port at the head, which is to be taken off the ring.
    HeadTaken,
}

impl Readiness {
    /// Makes a pipe. `flags` are the program's (`O_NONBLOCK` and such); the result's second part is the program's end.
    pub fn new(slots: &Slots, put: Put, flags: OFlags) -> Result<(Self, OwnedFd), Errno> {
        let (reader, first_writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Over its user's limit a pipe may be smaller already, never less than it needs.
        let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_SIZE);
        let program = reopen(reader.as_fd(), OFlags::RDWR | flags)?;
        drop(first_writer);
        let readiness = Self {
            reader,
            writer: None,
            slot: slots.take()?,
            put,
            shown: 0,
            has_token: false,
            suspect: false,
            own_reads: 0,
            own_puts: 0,
            reads: 0,
            was_written: false,
            echoed: false,
        };
        Ok((readiness, program))
    }

    /// What identifies the pipe in the kernel.
    pub fn id(&self) -> Result<FileId, Errno> {
        Ok(FileId::of(&rustix::fs::fstat(&self.reader)?))
    }

    /// A path at which the pipe can be opened or watched.
    pub fn path(&self) -> String {
        fd_path(self.reader.as_fd())
    }

    /// A notice that somebody has read.
    pub fn notice_read(&mut self) {
        if self.own_reads > 0 {
            self.own_reads -= 1;
        } else {
            self.reads = self.reads.saturating_add(1);
            self.echoed |= self.was_written;
        }
    }

    /// A notice that somebody has written.
    pub fn notice_write(&mut self) {
        if self.own_puts > 0 {
            self.own_puts -= 1;
        } else {
            self.was_written = true;
        }
    }

    /// Notices were lost: somebody may have read, written, and read that again.
    pub fn lost_notices(&mut self) {
        self.echoed = true;
        self.reads = 0;
    }

    /// All notices were taken: none of the supervisor's own accesses is still to come.
    pub fn no_more_notices(&mut self) {
        self.own_reads = 0;
        self.own_puts = 0;
    }

    /// Finds out what the program did natively.
    pub fn look(&mut self) -> Result<Seen, Errno> {
        let available = sys::bytes_available(&self.reader)?;
        let head_taken = self.has_token && (self.reads > 0 || available == 0);
        if head_taken {
            self.token_was_read();
        }
        if !self.has_token {
            // What was read besides had been written by programs.
            self.reads = self.reads.min(0);
        }
        let expected = if self.has_token { TOKEN } else { 0 };
        let written = if available > expected { self.take_written()? } else { Vec::new() };
        self.was_written = false;
        Ok(Seen { head_taken, written, echoed: std::mem::take(&mut self.echoed) })
    }

    /// A program has read the token.
    fn token_was_read(&mut self) {
        self.has_token = false;
        self.reads = self.reads.saturating_sub(1);
    }

    /// Takes everything out of the pipe: the token if it is there, and ports that were written behind it.
    fn take_written(&mut self) -> Result<Vec<u32>, Errno> {
        let mut bytes = [0; PIPE_SIZE];
        let count = self.read(&mut bytes)?;
        let token = if std::mem::take(&mut self.has_token) { TOKEN as usize } else { 0 };
        let written = bytes[..count].get(token..).unwrap_or_default();
        Ok(written.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let count = rustix::io::read(&self.reader, buffer)?;
        self.own_reads += 1;
        Ok(count)
    }

    /// Makes the pipe agree with the ring, whose first entry is `head`.
    pub fn settle(&mut self, head: Option<u32>) -> Result<Settled, Errno> {
        match head {
            Some(port) => self.show(port),
            None => {
                self.withdraw();
                Ok(Settled::Agrees)
            }
        }
    }

    fn show(&mut self, port: u32) -> Result<Settled, Errno> {
        let is_new = self.shown != port;
        if self.put == Put::Copy && is_new {
            self.withdraw();
        }
        self.shown = port;
        self.slot.set(port);
        if self.has_token {
            if sys::bytes_available(&self.reader)? >= TOKEN {
                return Ok(Settled::Agrees);
            }
            // A native reader has taken it just now.
            self.token_was_read();
            if !is_new {
                return Ok(Settled::HeadTaken);
            }
            // With the slot's old value or the new one. Put that in again: a port that is read twice is spurious, one that
            // is not read is lost.
        }
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => reopen(self.reader.as_fd(), OFlags::WRONLY | OFlags::NONBLOCK)?,
        };
        match self.put {
            Put::Reference => self.slot.put(writer.as_fd())?,
            Put::Copy => rustix::io::write(&writer, &port.to_ne_bytes()).map(drop)?,
        }
        self.has_token = true;
        self.own_puts += 1;
        if !self.suspect {
            self.writer = Some(writer);
        }
        Ok(Settled::Agrees)
    }

    fn withdraw(&mut self) {
        // If it was taken natively just now, that reader has a port too many, which is spurious.
        if !self.take_token() && self.has_token {
            self.token_was_read();
        }
    }

    /// Takes the token back, if it is there and no program has read it.
    pub fn take_token(&mut self) -> bool {
        let taken = self.has_token && self.read(&mut [0; TOKEN as usize]).is_ok();
        self.has_token &= !taken;
        taken
    }

    /// Somebody has closed the pipe, or is about to: keep no writer, so that a hang-up shows.
    pub fn suspect(&mut self) {
        self.suspect = true;
        self.writer = None;
    }

    /// A program has its end still.
    pub fn trust(&mut self) {
        self.suspect = false;
    }

    /// What shows the hang-up.
    pub fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// Whether the program's end is closed everywhere. Only a suspect's hang-up is sure to show.
    pub fn is_abandoned(&self) -> bool {
        let mut ends = [PollFd::new(&self.reader, PollFlags::empty())];
        let found = poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        found.is_ok() && ends[0].revents().contains(PollFlags::HUP)
    }
}

fn fd_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens what a descriptor refers to again.
pub fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(fd_path(fd), flags | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: PollFlags = PollFlags::OUT.union(PollFlags::WRNORM);
    const READY: PollFlags = IDLE.union(PollFlags::IN).union(PollFlags::RDNORM);

    fn pair() -> (Readiness, OwnedFd) {
        Readiness::new(&Slots::default(), Put::Reference, OFlags::NONBLOCK).unwrap()
    }

    fn agree(pipe: &mut Readiness, head: Option<u32>) {
        assert_eq!(pipe.settle(head), Ok(Settled::Agrees));
    }

    fn mask(fd: &OwnedFd) -> PollFlags {
        let mut ends = [PollFd::new(fd, PollFlags::from_bits_retain(0x7ff))];
        poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        ends[0].revents()
    }

    fn read_port(fd: &OwnedFd) -> Result<u32, Errno> {
        let mut port = [0; 4];
        rustix::io::read(fd, &mut port).map(|_| u32::from_ne_bytes(port))
    }

    #[test]
    fn the_poll_mask_is_the_drivers() {
        let (mut pipe, program) = pair();
        assert_eq!(mask(&program), IDLE);
        agree(&mut pipe, Some(7));
        assert_eq!(mask(&program), READY);
        agree(&mut pipe, None);
        assert_eq!(mask(&program), IDLE);
    }

    #[test]
    fn a_native_read_gets_the_head_of_the_ring_as_it_is_then() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        agree(&mut pipe, Some(9));
        assert_eq!(read_port(&program), Ok(9));
        assert_eq!(pipe.look().unwrap(), Seen { head_taken: true, ..Seen::default() });
        assert_eq!(read_port(&program), Err(Errno::AGAIN));
    }

    #[test]
    fn a_copy_follows_the_head_as_well() {
        let (mut pipe, program) = Readiness::new(&Slots::default(), Put::Copy, OFlags::NONBLOCK).unwrap();
        agree(&mut pipe, Some(7));
        agree(&mut pipe, Some(7));
        assert_eq!(mask(&program), READY);
        agree(&mut pipe, Some(9));
        assert_eq!(read_port(&program), Ok(9));
        assert_eq!(read_port(&program), Err(Errno::AGAIN));
        assert!(pipe.look().unwrap().head_taken);
    }

    #[test]
    fn a_change_of_the_head_is_no_edge() {
        use rustix::event::epoll;
        let (mut pipe, program) = pair();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&set, &program, epoll::EventData::new_u64(1), flags).unwrap();
        let edges = || {
            let mut events = Vec::with_capacity(1);
            epoll::wait(
                &set,
                rustix::buffer::spare_capacity(&mut events),
                Some(&Timespec { tv_sec: 0, tv_nsec: 0 }),
            )
            .unwrap()
        };
        agree(&mut pipe, Some(7));
        assert_eq!(edges(), 1);
        agree(&mut pipe, Some(9));
        assert_eq!(edges(), 0);
    }

    #[test]
    fn ports_written_natively_are_found_and_the_token_stays_apart() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        rustix::io::write(&program, &[5u32.to_ne_bytes(), 7u32.to_ne_bytes()].concat()).unwrap();
        assert_eq!(pipe.look().unwrap(), Seen { written: vec![5, 7], ..Seen::default() });
        agree(&mut pipe, Some(7));
        assert_eq!(read_port(&program), Ok(7));
    }

    #[test]
    fn a_port_that_was_read_and_written_is_not_the_token() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        assert_eq!(read_port(&program), Ok(7));
        rustix::io::write(&program, &7u32.to_ne_bytes()).unwrap();
        // As inotify tells: the put, the read, the write.
        pipe.notice_write();
        pipe.notice_read();
        pipe.notice_write();
        pipe.no_more_notices();
        assert_eq!(pipe.look().unwrap(), Seen { head_taken: true, written: vec![7], echoed: false });
    }

    #[test]
    fn ports_that_were_written_and_read_back_are_known_of() {
        let (mut pipe, program) = pair();
        rustix::io::write(&program, &7u32.to_ne_bytes()).unwrap();
        assert_eq!(read_port(&program), Ok(7));
        pipe.notice_write();
        pipe.notice_read();
        pipe.no_more_notices();
        assert_eq!(pipe.look().unwrap(), Seen { echoed: true, ..Seen::default() });
        agree(&mut pipe, Some(9));
        assert_eq!(pipe.look().unwrap(), Seen::default(), "the read was not of the token that came after it");
        assert_eq!(read_port(&program), Ok(9));
    }

    #[test]
    fn a_read_before_the_put_is_not_of_the_token() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        assert_eq!(read_port(&program), Ok(7));
        // Found by the size of the pipe, before the notices were looked at.
        assert!(pipe.look().unwrap().head_taken);
        agree(&mut pipe, Some(9));
        pipe.notice_write();
        pipe.notice_read();
        pipe.notice_write();
        pipe.no_more_notices();
        assert_eq!(pipe.look().unwrap(), Seen::default());
        assert_eq!(read_port(&program), Ok(9));
    }

    #[test]
    fn a_head_that_is_read_before_it_is_shown_again_is_not_read_twice() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        assert_eq!(read_port(&program), Ok(7));
        assert_eq!(pipe.settle(Some(7)), Ok(Settled::HeadTaken));
        assert_eq!(read_port(&program), Err(Errno::AGAIN));
        agree(&mut pipe, Some(7)); // another event of the same port
        assert_eq!(read_port(&program), Ok(7));
    }

    #[test]
    fn a_notice_that_comes_after_the_next_put_is_not_of_that_token() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        pipe.notice_write();
        pipe.no_more_notices();
        assert_eq!(read_port(&program), Ok(7));
        assert!(pipe.look().unwrap().head_taken, "the token is missed, and nothing was noticed");
        agree(&mut pipe, Some(9));
        pipe.notice_write();
        pipe.notice_read();
        pipe.no_more_notices();
        assert_eq!(pipe.look().unwrap(), Seen::default());
        assert_eq!(read_port(&program), Ok(9));
        pipe.notice_read();
        assert!(pipe.look().unwrap().head_taken);
    }

    #[test]
    fn a_token_that_is_read_before_it_is_withdrawn_has_a_notice_too() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        assert_eq!(read_port(&program), Ok(7));
        agree(&mut pipe, None);
        assert_eq!(pipe.look().unwrap(), Seen::default(), "what comes next was not read");
        agree(&mut pipe, Some(9));
        pipe.notice_read();
        assert_eq!(pipe.look().unwrap(), Seen::default());
        assert_eq!(read_port(&program), Ok(9));
    }

    #[test]
    fn a_notice_that_comes_before_that_of_the_put_is_of_the_token() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        assert_eq!(read_port(&program), Ok(7));
        rustix::io::write(&program, &7u32.to_ne_bytes()).unwrap();
        pipe.notice_read();
        pipe.notice_write();
        pipe.no_more_notices();
        assert_eq!(pipe.look().unwrap(), Seen { head_taken: true, written: vec![7], echoed: false });
    }

    #[test]
    fn the_last_close_shows_and_an_earlier_one_does_not() {
        let (mut pipe, program) = pair();
        agree(&mut pipe, Some(7));
        let copy = rustix::io::dup(&program).unwrap();
        drop(program);
        pipe.suspect();
        agree(&mut pipe, Some(7));
        assert!(!pipe.is_abandoned());
        drop(copy);
        assert!(pipe.is_abandoned());
    }
}
