// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory files that stand for the nodes which are not event channels.
//!
//! A program's descriptor of `/dev/xen/privcmd` is an empty memory file opened again with the program's own flags;
//! which node it stands for is known by its inode. The store daemon's port and page are memory files with that content, and programs use them natively.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, OFlags, Stat};
use rustix::io::Errno;

use crate::node::Node;
use crate::readiness::reopen;

/// Nodes whose descriptors have to be recognised: calls on them are answered by the supervisor.
const DEVICES: [Node; 2] = [Node::Privcmd, Node::Gntdev];

/// What identifies an open file: its file system and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The file system's device number.
    pub device: u64,
    /// The number of the file in it.
    pub inode: u64,
}

impl FileId {
    /// The identity of the file that was looked at.
    pub fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// The memory files.
pub struct Objects {
    devices: Vec<(Node, OwnedFd, FileId)>,
    store_page: OwnedFd,
}

impl Objects {
    /// Makes them.
    pub fn new() -> Result<Self, Errno> {
        let device = |node: Node| {
            let file = memory_file(b"")?;
            let id = FileId::of(&rustix::fs::fstat(&file)?);
            Ok((node, file, id))
        };
        Ok(Self {
            devices: DEVICES.into_iter().map(device).collect::<Result<_, Errno>>()?,
            store_page: memory_file(&[0; 4096])?,
        })
    }

    /// The device that a descriptor of a program stands for.
    pub fn node_of(&self, stat: &Stat) -> Option<Node> {
        let id = FileId::of(stat);
        self.devices.iter().find(|(_, _, known)| *known == id).map(|&(node, ..)| node)
    }

    /// A new open of a device node that is not an event channel.
    pub fn open_device(&self, node: Node, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (_, file, _) = self.devices.iter().find(|(known, ..)| *known == node).ok_or(Errno::NOENT)?;
        reopen(file.as_fd(), flags)
    }

    /// A new open of the page that the kernel of domain 0 shares with the store daemon.
    pub fn open_store_page(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        reopen(self.store_page.as_fd(), flags)
    }

    /// A read-only file with this text.
    pub fn open_text(text: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        reopen(memory_file(text.as_bytes())?.as_fd(), flags)
    }
}

fn memory_file(content: &[u8]) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create("evtchn", MemfdFlags::CLOEXEC)?;
    let mut rest = content;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest)?;
        rest = &rest[count..];
    }
    Ok(file)
}
