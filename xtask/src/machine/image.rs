// SPDX-License-Identifier: MIT OR Apache-2.0
//! An initramfs: a file system as an archive that the kernel unpacks into memory.

use std::collections::BTreeMap;
use std::io::{self, Write};

use cpio::newc::{Builder, trailer};

/// The file type bits of a mode.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// A file system to be. A path that is added twice has what was added last.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// By path without the leading slash, so that a folder comes before what is in it.
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    contents: Vec<u8>,
}

impl Image {
    /// Adds a folder, and those that it is in.
    pub fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if !path.is_empty() && !self.entries.contains_key(path) {
            self.parents(path);
            self.entries.insert(path.to_owned(), Entry { mode: FOLDER | 0o755, contents: Vec::new() });
        }
    }

    /// Adds a file with the permission bits of `mode`, and the folders that it is in.
    pub fn file(&mut self, path: &str, contents: impl Into<Vec<u8>>, mode: u32) {
        let path = path.trim_matches('/');
        self.parents(path);
        let entry = Entry { mode: FILE | (mode & 0o7777), contents: contents.into() };
        self.entries.insert(path.to_owned(), entry);
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
    }

    /// Writes the archive, in the form that Linux calls `newc`.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let header = Builder::new(path).ino(number).nlink(1).mode(entry.mode);
            let length = u32::try_from(entry.contents.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let mut file = header.write(&mut *to, length);
            file.write_all(&entry.contents)?;
            file.finish()?;
        }
        trailer(to).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(image: &Image) -> Vec<(String, u32, Vec<u8>)> {
        let mut bytes = Vec::new();
        image.write(&mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        let mut found = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut contents = Vec::new();
            io::Read::read_to_end(&mut reader, &mut contents).unwrap();
            found.push((name, mode, contents));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn a_file_brings_its_folders_and_they_come_first() {
        let mut image = Image::default();
        image.file("/a/b/c", "text", 0o755);
        let names = [("a", 0o040_755, ""), ("a/b", 0o040_755, ""), ("a/b/c", 0o100_755, "text")];
        let expected = names.map(|(name, mode, text)| (name.to_owned(), mode, text.as_bytes().to_vec()));
        assert_eq!(listed(&image), expected);
    }

    #[test]
    fn what_is_added_last_counts_and_a_folder_replaces_nothing() {
        let mut image = Image::default();
        image.file("/a", "old", 0o644);
        image.file("/a", "new", 0o600);
        image.folder("/a");
        assert_eq!(listed(&image), [("a".to_owned(), 0o100_600, b"new".to_vec())]);
    }
}
