// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of our nodes a path names, as the program would resolve it.
//!
//! The kernel resolves paths natively for everything that is not ours. So the question here is only "could this
//! path end at one of our nodes?", and the common answer, no, must be cheap: one `readlink` for a path whose last name is not
//! one of ours. Otherwise the path is walked as the kernel would: from the program's root or folder, through `..` and symbolic links.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::node::Node;

/// The kernel's own limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What path resolution asks of the program's surroundings. All paths are as the program sees them.
pub trait Surroundings {
    /// The folder that a relative path starts from; `None` if it has no name.
    fn base(&self) -> Option<PathBuf>;
    /// A symbolic link's text.
    fn read_link(&self, path: &Path) -> Link;
    /// The process's own folder in `/proc`.
    fn proc_self(&self) -> PathBuf;
    /// The node behind an object without a path of its own (`pipe:[17]`), if it is one of ours.
    fn anonymous(&self, text: &OsStr) -> Option<Node>;
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Link {
    /// A symbolic link with this text.
    To(PathBuf),
    /// Something that is not a symbolic link.
    No,
    /// Nothing that could be reached.
    Missing,
}

/// Which node a path names. `follow` tells whether a symbolic link at its end counts as what it points to.
pub fn resolve(path: &Path, follow: bool, around: &impl Surroundings) -> Option<Node> {
    let start = if path.is_absolute() { PathBuf::from("/") } else { around.base()? };
    if !worth_walking(&start, path, follow, around) {
        return None;
    }
    let node = Walk { around, links: 0 }.walk(start, path, follow)?;
    let must_be_folder = matches!(path.as_os_str().as_bytes(), [.., b'/'] | [.., b'/', b'.']);
    Some(if must_be_folder && !node.is_folder() { Node::NotAFolder } else { node })
}

/// Whether the path could name one of our nodes: by its own words, by where it starts, or because its end is a link.
fn worth_walking(start: &Path, path: &Path, follow: bool, around: &impl Surroundings) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.rsplit(|&b| b == b'/').next().unwrap_or(bytes);
    let named = matches!(last, b"" | b"." | b"..") || Node::has_name(last);
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    named
        || contains(b"xen")
        // Links of /proc/self mean another process when the supervisor looks at them.
        || contains(b"/fd/")
        || Node::folder_at(start).is_some()
        || (follow && matches!(around.read_link(&start.join(path)), Link::To(_)))
}

struct Walk<'a, S> {
    around: &'a S,
    links: usize,
}

impl<S: Surroundings> Walk<'_, S> {
    fn walk(&mut self, mut at: PathBuf, path: &Path, follow: bool) -> Option<Node> {
        let mut names = path.as_os_str().as_bytes().split(|&b| b == b'/').peekable();
        let mut leaf = None;
        while let Some(name) = names.next() {
            let is_last = names.clone().all(|rest| rest.is_empty() || rest == b".");
            match name {
                b"" | b"." => continue,
                _ if leaf.is_some() => return Some(Node::NotAFolder),
                b".." => drop(at.pop()),
                _ => {
                    at = self.step(at, OsStr::from_bytes(name), follow || !is_last)?;
                    leaf = Node::at(&at).filter(|node| !node.is_folder());
                }
            }
        }
        leaf.or_else(|| Node::folder_at(&at))
    }

    /// Goes down by one name; a symbolic link is followed if `follow`.
    fn step(&mut self, at: PathBuf, name: &OsStr, follow: bool) -> Option<PathBuf> {
        if at == Path::new("/proc") && (name == "self" || name == "thread-self") {
            return Some(self.around.proc_self());
        }
        let next = at.join(name);
        if Node::at(&next).is_some() || !follow {
            return Some(next);
        }
        match self.around.read_link(&next) {
            Link::No => Some(next),
            Link::Missing => None,
            Link::To(text) => self.jump(&at, &text),
        }
    }

    /// Where a link's text leads from the folder it stands in.
    fn jump(&mut self, from: &Path, text: &Path) -> Option<PathBuf> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return None;
        }
        // Only the kernel's own links lead to what has no path.
        let kernels = from.starts_with("/proc") && from.ends_with("fd");
        if let Some(node) = self.around.anonymous(text.as_os_str()).filter(|_| kernels) {
            return Some(node.path().to_owned());
        }
        let mut at = if text.is_absolute() { PathBuf::from("/") } else { from.to_owned() };
        for name in text.as_os_str().as_bytes().split(|&b| b == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(at.pop()),
                _ => at = self.step(at, OsStr::from_bytes(name), true)?,
            }
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Default)]
    struct Files {
        base: PathBuf,
        links: HashMap<&'static str, &'static str>,
        present: Vec<&'static str>,
    }

    impl Surroundings for Files {
        fn base(&self) -> Option<PathBuf> {
            Some(self.base.clone())
        }
        fn read_link(&self, path: &Path) -> Link {
            let path = path.to_str().unwrap();
            match self.links.get(path) {
                Some(text) => Link::To(text.into()),
                None if path.starts_with("/proc/17") || self.present.contains(&path) => Link::No,
                None => Link::Missing,
            }
        }
        fn proc_self(&self) -> PathBuf {
            "/proc/17".into()
        }
        fn anonymous(&self, text: &OsStr) -> Option<Node> {
            (text == "pipe:[5]").then_some(Node::Evtchn)
        }
    }

    fn files() -> Files {
        Files {
            base: "/home/u".into(),
            links: HashMap::from([
                ("/tmp/e", "/dev/xen/evtchn"),
                ("/tmp/d", "../dev/xen"),
                ("/tmp/twice", "e"),
                ("/tmp/loop", "/tmp/loop"),
                ("/tmp/devlink", "/dev"),
                ("/proc/17/fd/9", "pipe:[5]"),
                ("/proc/17/fd/8", "pipe:[6]"),
                ("/dev/fd", "/proc/self/fd"),
                ("/proc/17/root", "/"),
            ]),
            present: vec!["/dev", "/tmp", "/home", "/home/u", "/proc"],
        }
    }

    fn node(path: &str) -> Option<Node> {
        resolve(Path::new(path), true, &files())
    }

    #[test]
    fn a_plain_path_names_the_node() {
        assert_eq!(node("/dev/xen/evtchn"), Some(Node::Evtchn));
        assert_eq!(node("//dev/./xen//evtchn"), Some(Node::Evtchn));
        assert_eq!(node("/proc/xen/xsd_port"), Some(Node::XsdPort));
        assert_eq!(node("/dev/xen"), Some(Node::DevXen));
        assert_eq!(node("/dev/xen/"), Some(Node::DevXen));
        assert_eq!(node("/dev/xen/."), Some(Node::DevXen));
    }

    #[test]
    fn everything_else_is_left_to_the_kernel() {
        for path in ["/dev/null", "/home/u/evtchn", "evtchn", "/dev/xenevt", "/", "", "/tmp/nothing", "/xen"]
        {
            assert_eq!(node(path), None, "{path}");
        }
    }

    #[test]
    fn unknown_names_in_our_folders_are_absent() {
        assert_eq!(node("/dev/xen/hypercall"), Some(Node::Absent));
        assert_eq!(node("/proc/xen/unknown"), Some(Node::Absent));
    }

    #[test]
    fn a_device_is_not_a_folder() {
        assert_eq!(node("/dev/xen/evtchn/"), Some(Node::NotAFolder));
        assert_eq!(node("/dev/xen/evtchn/x"), Some(Node::NotAFolder));
        assert_eq!(node("/dev/xen/evtchn/.."), Some(Node::NotAFolder));
    }

    #[test]
    fn dots_and_relative_paths_are_resolved() {
        assert_eq!(node("../../dev/xen/evtchn"), Some(Node::Evtchn));
        assert_eq!(node("/dev/xen/../xen/evtchn"), Some(Node::Evtchn));
        assert_eq!(node("/dev/xen/.."), None);
        let inside = Files { base: "/dev/xen".into(), ..files() };
        assert_eq!(resolve(Path::new("evtchn"), true, &inside), Some(Node::Evtchn));
        assert_eq!(resolve(Path::new("."), true, &inside), Some(Node::DevXen));
    }

    #[test]
    fn links_are_followed_where_the_kernel_would() {
        for path in [
            "/tmp/e",
            "/tmp/d/evtchn",
            "/tmp/twice",
            "/tmp/devlink/xen/evtchn",
            "/proc/self/root/dev/xen/evtchn",
        ] {
            assert_eq!(node(path), Some(Node::Evtchn), "{path}");
        }
        assert_eq!(node("/tmp/loop"), None);
        assert_eq!(resolve(Path::new("/tmp/e"), false, &files()), None);
        assert_eq!(resolve(Path::new("/dev/xen/evtchn"), false, &files()), Some(Node::Evtchn));
    }

    #[test]
    fn a_missing_folder_on_the_way_is_left_to_the_kernel() {
        assert_eq!(node("/missing/../dev/xen/evtchn"), None);
    }

    #[test]
    fn opening_a_descriptor_again_opens_the_device_again() {
        assert_eq!(node("/dev/fd/9"), Some(Node::Evtchn));
        assert_eq!(node("/proc/self/fd/9"), Some(Node::Evtchn));
        assert_eq!(node("/proc/self/fd/8"), None);
    }
}
