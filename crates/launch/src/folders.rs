// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real folders for programs that open `/dev/xen` or `/proc/xen` itself, to list it or to start from it.
//!
//! They are made when the first program does so, hold an empty file for every node, and are removed at the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::node::Node;

/// The folders, once they are made.
#[derive(Default)]
pub struct Folders {
    root: Option<PathBuf>,
}

impl Folders {
    /// The real folder that stands for one of ours.
    pub fn real(&mut self, node: Node) -> io::Result<PathBuf> {
        let root = match &mut self.root {
            Some(root) => root,
            none => none.insert(make()?),
        };
        Ok(inside(root, node.path()))
    }

    /// The path that a program means when it starts from `path`.
    pub fn meant(&self, path: PathBuf) -> PathBuf {
        match self.root.as_ref().and_then(|root| path.strip_prefix(root).ok()) {
            Some(inner) => Path::new("/").join(inner),
            None => path,
        }
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        if let Some(root) = &self.root {
            // What cannot be removed is an empty folder of ours in the folder for temporary files.
            let _ = fs::remove_dir_all(root);
        }
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn make() -> io::Result<PathBuf> {
    let root = new_folder()?;
    for folder in [Node::DevXen, Node::ProcXen] {
        fs::create_dir_all(inside(&root, folder.path()))?;
        for (_, node) in folder.entries() {
            fs::write(inside(&root, node.path()), "")?;
        }
    }
    Ok(root)
}

/// A new folder that only this user can enter.
fn new_folder() -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let process = std::process::id();
    for attempt in 0..1000 {
        let path = std::env::temp_dir().join(format!("evtchn-{process}-{attempt}"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| path),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
