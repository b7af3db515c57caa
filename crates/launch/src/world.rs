// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the programs' calls act on: the host, the open device files, and the objects that stand for the other nodes.

use std::ops::Range;
use std::os::fd::OwnedFd;

use evtchn_abi::{DomId, Errno, Virq};
use evtchn_host::Host;
use rustix::io::Errno as OsErrno;

use crate::calls;
use crate::files::{Files, PipeId};
use crate::folders::Folders;
use crate::limits;
use crate::node::Node;
use crate::objects::{FileId, Objects};
use crate::trapped::{Answer, Trapped, program_errno};
use crate::warnings::Warnings;

/// Everything that stopped calls can reach.
pub struct World {
    pub host: Host,
    pub files: Files,
    pub objects: Objects,
    pub folders: Folders,
    pub warnings: Warnings,
    range: Range<u32>,
    /// Numbers from here on were given last.
    next: u32,
}

/// What one of a program's descriptors refers to.
pub enum Thing {
    /// A device file; the descriptor's copy goes with it.
    Evtchn(PipeId, OwnedFd),
    /// One of our other nodes.
    Other(Node),
    /// Something that is not ours.
    Foreign,
}

impl World {
    /// A world in which device files get descriptors in `range`.
    pub fn new(host: Host, range: Range<u32>, warnings: Warnings) -> Result<Self, OsErrno> {
        Ok(Self {
            host,
            files: Files::new(limits::device_files())?,
            objects: Objects::new()?,
            folders: Folders::default(),
            warnings,
            next: range.end,
            range,
        })
    }

    /// Answers a stopped call of a program of `domain`.
    pub fn answer(&mut self, call: &mut Trapped<'_>, domain: DomId) {
        // What happened before this call is accounted for before it.
        self.files.catch_up();
        let answer = calls::handle(self, call, domain);
        self.files.settle_woken();
        call.answer(answer);
    }

    /// Raises a VIRQ in a domain; dropped if it is not bound.
    pub fn raise_virq(&mut self, domain: DomId, virq: Virq) {
        self.files.catch_up();
        self.host.raise_virq(domain, virq);
        self.files.settle_woken();
    }

    /// A program's last process is gone: its domain loses a member.
    pub fn leave(&mut self, domain: DomId) {
        self.files.catch_up();
        self.host.leave(domain);
        self.files.settle_woken();
    }

    /// What a descriptor refers to; a device file that is found so is known to be open still. `Err` is the answer for a
    /// program that cannot be looked at.
    pub fn identify(&mut self, call: &mut Trapped<'_>, number: u32) -> Result<Thing, Answer> {
        let copy = match call.descriptor(number) {
            Ok(copy) => copy,
            // No such descriptor, or no such thread any more.
            Err(OsErrno::BADF | OsErrno::SRCH) => return Ok(Thing::Foreign),
            Err(OsErrno::PERM | OsErrno::ACCESS) => return Err(self.hidden(call)),
            // The supervisor's own want must not let the call act on what is behind the descriptor.
            Err(error) => return Err(Answer::Error(program_errno(error))),
        };
        let stat = rustix::fs::fstat(&copy).map_err(|error| Answer::Error(program_errno(error)))?;
        if let Some(id) = self.files.find(FileId::of(&stat)) {
            self.files.trust(id);
            return Ok(Thing::Evtchn(id, copy));
        }
        Ok(self.objects.node_of(&stat).map_or(Thing::Foreign, Thing::Other))
    }

    /// The answer to a call on a descriptor of a program that is not dumpable: it cannot be told whose descriptor
    /// it is, but nothing else puts descriptors into our range.
    fn hidden(&mut self, call: &Trapped<'_>) -> Answer {
        if self.files.is_empty() {
            return Answer::Continue;
        }
        self.warnings.not_dumpable(call.thread());
        Answer::Error(Errno::EACCES)
    }

    /// A free number for a descriptor of ours, at least `lowest`; `None` when the range is used up.
    ///
    /// Giving a number replaces what stands there, so it must stay free until it is given: high ones first, as what a program opens natively
    /// meanwhile gets low ones, and none once those have reached the range.
    pub fn free_number(&mut self, call: &mut Trapped<'_>, lowest: u32) -> Option<u32> {
        let mut is_free = |number| matches!(call.descriptor(number), Err(OsErrno::BADF));
        if self.range.is_empty() || !is_free(self.range.start) {
            return None;
        }
        let start = self.range.start.max(lowest);
        let below = self.next.clamp(start, self.range.end.max(start));
        let mut candidates = (start..below).rev().chain((below..self.range.end).rev());
        let number = candidates.find(|&number| is_free(number))?;
        self.next = number;
        Some(number)
    }
}
