// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shared libraries that a program of this machine is linked with, as its own loader finds them.
//!
//! They go to the same paths in the emulated machine, the loader among them, so that the program finds there what it finds here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, ProgramHeader};

/// The libraries and the loader of a file with these contents; none if it is not a program that needs any. One that is not found
/// here is left out: the program may be meant to find it elsewhere there.
///
/// # Errors
/// The loader cannot be started.
pub fn of(file: &Path, contents: &[u8]) -> Result<Vec<PathBuf>> {
    let Some(loader) = loader(contents) else {
        return Ok(Vec::new());
    };
    // What `ldd` does: the loader lists, and does not start the program.
    let listing = Command::new(&loader).arg(file).env("LD_TRACE_LOADED_OBJECTS", "1").output();
    let listing = listing.with_context(|| format!("cannot start {}", loader.display()))?;
    let mut found: Vec<PathBuf> = String::from_utf8_lossy(&listing.stdout).lines().filter_map(path).collect();
    found.push(loader);
    Ok(found)
}

/// The loader that a dynamically linked program names.
fn loader(contents: &[u8]) -> Option<PathBuf> {
    let file = ElfFile64::<Endianness>::parse(contents).ok()?;
    let endian = file.endian();
    let headers = file.elf_program_headers();
    let path = headers.iter().find_map(|header| header.interpreter(endian, contents).ok().flatten())?;
    debug_assert!(headers.iter().any(|header| header.p_type(endian) == PT_INTERP));
    Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
}

/// The path in a line of the loader's list: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`; what the kernel brings has none.
fn path(line: &str) -> Option<PathBuf> {
    let line = line.split_once(" => ").map_or(line, |(_, path)| path);
    let path = line.trim().rsplit_once(" (").map_or(line, |(path, _)| path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_the_loaders_list() {
        for (line, expected) in [
            (
                "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
            ),
            ("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)", Some("/lib64/ld-linux-x86-64.so.2")),
            ("\tlibnone.so.1 => not found", None),
            ("\tlinux-vdso.so.1 (0x00007ffd)", None),
        ] {
            assert_eq!(path(line), expected.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn this_very_program_needs_a_loader_and_a_libc() {
        let me = std::env::current_exe().unwrap();
        let found = of(&me, &std::fs::read(&me).unwrap()).unwrap();
        assert!(found.iter().any(|path| path.to_string_lossy().contains("libc.so")), "{found:?}");
        assert!(found.iter().all(|path| path.exists()), "{found:?}");
    }

    #[test]
    fn a_script_needs_nothing() {
        assert!(of(Path::new("script"), b"#!/bin/sh\n").unwrap().is_empty());
    }
}
