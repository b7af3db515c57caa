// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files that a Xen machine has and that programs find under the launcher.

use std::path::Path;

use evtchn_abi::Errno;

/// A path of ours, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// `/dev/xen`
    DevXen,
    /// `/dev/xen/evtchn`
    Evtchn,
    /// `/dev/xen/privcmd`
    Privcmd,
    /// `/dev/xen/gntdev`, which opens so that libraries start, and knows no command.
    Gntdev,
    /// `/proc/xen`
    ProcXen,
    /// `/proc/xen/capabilities`: what toolstacks look at to know whether this is domain 0.
    Capabilities,
    /// `/proc/xen/xsd_port`: the kernel's port for the store daemon.
    XsdPort,
    /// `/proc/xen/xsd_kva`: the page that kernel and store daemon share.
    XsdKva,
    /// A name in one of our folders that does not exist (`/dev/xen/hypercall`: libraries fall back).
    Absent,
    /// A path that goes on below one of our files.
    NotAFolder,
}

const NODES: [(&str, Node); 8] = [
    ("/dev/xen", Node::DevXen),
    ("/dev/xen/evtchn", Node::Evtchn),
    ("/dev/xen/privcmd", Node::Privcmd),
    ("/dev/xen/gntdev", Node::Gntdev),
    ("/proc/xen", Node::ProcXen),
    ("/proc/xen/capabilities", Node::Capabilities),
    ("/proc/xen/xsd_port", Node::XsdPort),
    ("/proc/xen/xsd_kva", Node::XsdKva),
];

/// The misc driver's major number, as on every Linux.
const MISC_MAJOR: u32 = 10;

/// What `stat` tells of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Type and permissions.
    pub mode: u32,
    /// Device number of a device, major and minor.
    pub device: (u32, u32),
    /// Number of the file in its (invented) file system.
    pub inode: u64,
    /// Whether the caller owns it; otherwise root does.
    pub owned_by_caller: bool,
    /// Length in bytes.
    pub size: u64,
}

impl Node {
    /// The node at an absolute path without links and dots. Other names in our folders are [`Node::Absent`].
    pub fn at(path: &Path) -> Option<Self> {
        let known = NODES.iter().find(|(name, _)| Path::new(name) == path).map(|&(_, node)| node);
        known.or_else(|| path.parent().and_then(Self::folder_at).map(|_| Self::Absent))
    }

    /// The folder of ours at an absolute path.
    pub fn folder_at(path: &Path) -> Option<Self> {
        [Self::DevXen, Self::ProcXen].into_iter().find(|folder| folder.path() == path)
    }

    /// Whether one of our nodes has this last name.
    pub fn has_name(name: &[u8]) -> bool {
        NODES.iter().any(|(path, _)| path.rsplit('/').next().is_some_and(|last| last.as_bytes() == name))
    }

    /// The node's path; `/` for what is none.
    pub fn path(self) -> &'static Path {
        Path::new(NODES.iter().find(|(_, node)| *node == self).map_or("/", |(path, _)| path))
    }

    /// The names in a folder of ours.
    pub fn entries(self) -> impl Iterator<Item = (&'static str, Self)> {
        NODES.into_iter().filter_map(move |(path, node)| {
            let name = Path::new(path).strip_prefix(self.path()).ok()?.to_str()?;
            (!name.is_empty() && !name.contains('/')).then_some((name, node))
        })
    }

    /// Whether this is a folder.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::DevXen | Self::ProcXen)
    }

    /// What `stat` tells, or why it fails.
    pub fn facts(self) -> Result<Facts, Errno> {
        let (kind, permissions, minor, size) = match self {
            Self::Absent => return Err(Errno::ENOENT),
            Self::NotAFolder => return Err(Errno::ENOTDIR),
            Self::DevXen | Self::ProcXen => (libc::S_IFDIR, 0o755, 0, 0),
            Self::Evtchn => (libc::S_IFCHR, 0o600, 120, 0),
            Self::Privcmd => (libc::S_IFCHR, 0o600, 121, 0),
            Self::Gntdev => (libc::S_IFCHR, 0o600, 122, 0),
            Self::Capabilities => (libc::S_IFREG, 0o444, 0, 0),
            Self::XsdPort => (libc::S_IFREG, 0o400, 0, 0),
            Self::XsdKva => (libc::S_IFREG, 0o600, 0, 4096),
        };
        let is_device = kind == libc::S_IFCHR;
        Ok(Facts {
            mode: kind | permissions,
            device: if is_device { (MISC_MAJOR, minor) } else { (0, 0) },
            inode: 0x7865_6e00 + self as u64,
            owned_by_caller: !self.is_folder(),
            size,
        })
    }
}
