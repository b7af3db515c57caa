// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that name a path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use evtchn_abi::{DomId, Errno};
use rustix::fs::OFlags;
use rustix::io::Errno as OsErrno;

use crate::calls::stat;
use crate::node::Node;
use crate::objects::Objects;
use crate::path::{Link, Surroundings, resolve};
use crate::trapped::{Answer, NewDescriptor, Trapped, program_errno};
use crate::world::World;

/// What a call wants of the path it names.
enum Wish {
    Open(OFlags),
    Stat { to: u64 },
    Statx { to: u64 },
    Access(i32),
    ReadLink,
}

/// A path as a call names it.
struct Named {
    folder: i32,
    path: u64,
    follow: bool,
    wish: Wish,
}

const AT_EMPTY_PATH: i32 = libc::AT_EMPTY_PATH;
const AT_NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;

/// Answers a call that names a path, if it is one of ours.
pub fn handle(world: &mut World, call: &mut Trapped<'_>, domain: DomId) -> Result<Answer, Answer> {
    let named = parse(call)?;
    // Without a path, too, some calls mean the descriptor.
    if named.path == 0 {
        return of_descriptor(world, call, &named);
    }
    // A path that cannot be read is the kernel's to refuse.
    let path = call.read_path(named.path).map_err(|_| Answer::Continue)?;
    if path.as_os_str().is_empty() {
        return of_descriptor(world, call, &named);
    }
    let around = Around { world, call, folder: named.folder };
    let node = resolve(&path, named.follow, &around).ok_or(Answer::Continue)?;
    let node = visible(node, domain);
    match named.wish {
        Wish::Open(flags) => open(world, call, domain, node, flags),
        Wish::Stat { to } => stat::write_stat(call, node, to),
        Wish::Statx { to } => stat::write_statx(call, node, to),
        Wish::Access(mode) => stat::check_access(call, node, mode),
        Wish::ReadLink => Err(Answer::Error(node.facts().err().unwrap_or(Errno::EINVAL))),
    }
}

/// Only domain 0 has the store daemon's files.
fn visible(node: Node, domain: DomId) -> Node {
    match node {
        Node::XsdPort | Node::XsdKva if domain != DomId(0) => Node::Absent,
        other => other,
    }
}

fn parse(call: &Trapped<'_>) -> Result<Named, Answer> {
    let named = |folder, path, follow, wish| Ok(Named { folder, path: call.argument(path), follow, wish });
    let no_follow = |flags: i32| flags & AT_NOFOLLOW == 0;
    match call.call() {
        libc::SYS_openat => {
            let flags = open_flags(call.int(2));
            named(call.int(0), 1, !flags.contains(OFlags::NOFOLLOW), Wish::Open(flags))
        }
        libc::SYS_openat2 => {
            let flags = openat2_flags(call)?;
            named(call.int(0), 1, !flags.contains(OFlags::NOFOLLOW), Wish::Open(flags))
        }
        libc::SYS_newfstatat => {
            named(call.int(0), 1, no_follow(call.int(3)), Wish::Stat { to: call.argument(2) })
        }
        libc::SYS_statx => {
            named(call.int(0), 1, no_follow(call.int(2)), Wish::Statx { to: call.argument(4) })
        }
        libc::SYS_faccessat => named(call.int(0), 1, true, Wish::Access(call.int(2))),
        libc::SYS_faccessat2 => named(call.int(0), 1, no_follow(call.int(3)), Wish::Access(call.int(2))),
        libc::SYS_readlinkat => named(call.int(0), 1, false, Wish::ReadLink),
        number => parse_legacy(call, number),
    }
}

#[cfg(target_arch = "x86_64")]
fn parse_legacy(call: &Trapped<'_>, number: i64) -> Result<Named, Answer> {
    let here = |follow, wish| Ok(Named { folder: libc::AT_FDCWD, path: call.argument(0), follow, wish });
    match number {
        libc::SYS_open => {
            let flags = open_flags(call.int(1));
            here(!flags.contains(OFlags::NOFOLLOW), Wish::Open(flags))
        }
        libc::SYS_creat => here(true, Wish::Open(OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC)),
        libc::SYS_stat => here(true, Wish::Stat { to: call.argument(1) }),
        libc::SYS_lstat => here(false, Wish::Stat { to: call.argument(1) }),
        libc::SYS_access => here(true, Wish::Access(call.int(1))),
        libc::SYS_readlink => here(false, Wish::ReadLink),
        _ => Err(Answer::Continue),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn parse_legacy(_: &Trapped<'_>, _: i64) -> Result<Named, Answer> {
    Err(Answer::Continue)
}

fn open_flags(flags: i32) -> OFlags {
    OFlags::from_bits_retain(flags as u32)
}

/// The flags of an `openat2`. One with rules on how to resolve is left to the kernel.
fn openat2_flags(call: &Trapped<'_>) -> Result<OFlags, Answer> {
    let mut how = [[0; 8]; 3];
    let size = usize::try_from(call.argument(3)).map_err(|_| Answer::Continue)?;
    if size < size_of_val(&how) {
        return Err(Answer::Continue);
    }
    call.read(call.argument(2), how.as_flattened_mut()).map_err(|_| Answer::Continue)?;
    let [flags, _mode, resolve] = how.map(u64::from_ne_bytes);
    if resolve != 0 {
        return Err(Answer::Continue);
    }
    Ok(open_flags(flags as i32))
}

/// An empty path names the descriptor itself, for the calls that allow it.
fn of_descriptor(world: &mut World, call: &mut Trapped<'_>, named: &Named) -> Result<Answer, Answer> {
    let (flags, to) = match named.wish {
        Wish::Stat { to } => (call.int(3), to),
        Wish::Statx { to } => (call.int(2), to),
        _ => return Err(Answer::Continue),
    };
    if flags & AT_EMPTY_PATH == 0 || named.folder < 0 {
        return Err(Answer::Continue);
    }
    let node = stat::descriptor_node(world, call, named.folder)?;
    match named.wish {
        Wish::Statx { .. } => stat::write_statx(call, node, to),
        _ => stat::write_stat(call, node, to),
    }
}

fn open(
    world: &mut World,
    call: &mut Trapped<'_>,
    domain: DomId,
    node: Node,
    flags: OFlags,
) -> Result<Answer, Answer> {
    check_open(node, flags)?;
    let failed = |error| Answer::Error(program_errno(error));
    let plain = flags & (OFlags::ACCMODE | OFlags::NONBLOCK);
    let file = match node {
        Node::Evtchn => {
            let name = program_name(call);
            world.files.open(&world.host, domain, &name, flags)?
        }
        Node::Privcmd | Node::Gntdev => world.objects.open_device(node, plain).map_err(failed)?,
        Node::XsdKva => return Ok(lowest(world.objects.open_store_page(plain).map_err(failed)?, flags)),
        Node::XsdPort => {
            let port = world.host.store_port(domain).ok_or(Errno::ENOENT)?;
            return Ok(lowest(Objects::open_text(&port.to_string(), plain).map_err(failed)?, flags));
        }
        Node::Capabilities => {
            let text = if domain == DomId(0) { "control_d\n" } else { "" };
            return Ok(lowest(Objects::open_text(text, plain).map_err(failed)?, flags));
        }
        Node::DevXen | Node::ProcXen => return open_folder(world, node, flags),
        Node::Absent | Node::NotAFolder => return Err(Answer::Error(Errno::ENOENT)),
    };
    let number = world.free_number(call, 0);
    Ok(Answer::Descriptor(NewDescriptor { file, number, close_on_exec: flags.contains(OFlags::CLOEXEC) }))
}

/// What `open` refuses before a driver is asked.
fn check_open(node: Node, flags: OFlags) -> Result<(), Errno> {
    node.facts()?;
    if flags.contains(OFlags::PATH) {
        // The kernel gives no such descriptor to another process.
        return Err(Errno::EOPNOTSUPP);
    }
    let writes = flags & OFlags::ACCMODE != OFlags::RDONLY;
    if flags.contains(OFlags::CREATE | OFlags::EXCL) {
        Err(Errno::EEXIST)
    } else if node.is_folder() && (writes || flags.contains(OFlags::CREATE)) {
        Err(Errno::EISDIR)
    } else if !node.is_folder() && flags.contains(OFlags::DIRECTORY) {
        Err(Errno::ENOTDIR)
    } else if writes && matches!(node, Node::XsdPort | Node::Capabilities) {
        Err(Errno::EACCES)
    } else {
        Ok(())
    }
}

fn lowest(file: std::os::fd::OwnedFd, flags: OFlags) -> Answer {
    Answer::Descriptor(NewDescriptor { file, number: None, close_on_exec: flags.contains(OFlags::CLOEXEC) })
}

fn open_folder(world: &mut World, node: Node, flags: OFlags) -> Result<Answer, Answer> {
    let real = world.folders.real(node).map_err(|_| Answer::Error(Errno::EIO))?;
    let opened = rustix::fs::open(real, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    Ok(lowest(opened.map_err(|error| Answer::Error(program_errno(error)))?, flags))
}

/// The caller's name, which the driver puts into the names of its interrupts.
fn program_name(call: &Trapped<'_>) -> String {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", call.thread())).unwrap_or_default();
    name.trim_end().to_owned()
}

/// The file system as the calling thread sees it.
struct Around<'a, 'b> {
    world: &'a World,
    call: &'a Trapped<'b>,
    folder: i32,
}

impl Around<'_, '_> {
    fn proc(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.call.thread()).into()
    }
}

impl Surroundings for Around<'_, '_> {
    fn base(&self) -> Option<PathBuf> {
        let link = if self.folder == libc::AT_FDCWD {
            self.proc("cwd")
        } else {
            self.proc(&format!("fd/{}", self.folder))
        };
        let base = std::fs::read_link(link).ok()?;
        let root = std::fs::read_link(self.proc("root")).ok()?;
        // Links in /proc are told from our own root.
        let base = match base.strip_prefix(&root) {
            Ok(inner) => Path::new("/").join(inner),
            Err(_) => base,
        };
        base.is_absolute().then(|| self.world.folders.meant(base))
    }

    fn read_link(&self, path: &Path) -> Link {
        let inside = self.proc("root").join(path.strip_prefix("/").unwrap_or(path));
        match rustix::fs::readlink(&inside, Vec::new()) {
            Ok(text) => Link::To(OsStr::from_bytes(text.as_bytes()).into()),
            Err(OsErrno::INVAL) => Link::No,
            Err(_) => Link::Missing,
        }
    }

    fn proc_self(&self) -> PathBuf {
        format!("/proc/{}", self.call.thread()).into()
    }

    fn anonymous(&self, text: &OsStr) -> Option<Node> {
        let number = text.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?;
        self.world.files.get(number.parse().ok()?).map(|_| Node::Evtchn)
    }
}
