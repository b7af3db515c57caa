// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask link`: the engine, the guest, the device and the hypercall in programs that have neither std nor libc, as in
//! a kernel.
//!
//! The programs of `tests/link` bring the little that they need. Each is built, looked at and run: it exchanges events
//! and says in its exit status whether they arrived.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use object::elf::{PT_DYNAMIC, PT_INTERP};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::{cargo, paths};

/// Each with the feature of the same name, which has what it links.
const PROGRAMS: &[&str] = &[
    "engine",
    "guest",
    "device",
    #[cfg(target_arch = "x86_64")]
    "hypercall",
];

/// Functions that come with libc or with unwinding, and whatever is in the crate `std`.
const FOREIGN: [&str; 6] =
    ["__libc_start_main", "malloc", "pthread_create", "write", "_Unwind_RaiseException", "main"];

/// Builds, examines and runs the programs.
///
/// # Errors
/// One of them cannot be linked, has something from elsewhere in it, or did not do what it should.
pub fn run() -> Result<()> {
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        println!("link: skipped: the programs are for Linux on x86-64 and aarch64");
        return Ok(());
    }
    PROGRAMS.iter().try_for_each(|program| check(program).with_context(|| format!("the program {program}")))
}

fn check(program: &str) -> Result<()> {
    lint(program)?;
    let path = cargo::build(on(&mut cargo::cargo(), "build", program), program)?;
    let size = stands_alone(&path)?;
    let status = Command::new(&path).env_clear().status().context("cannot be started")?;
    ensure!(status.success(), "{status}: the code is the number of the step that failed");
    println!("link: {program}: {size} bytes without std and libc, and it works");
    Ok(())
}

/// The programs are no members of the workspace, so they are looked at here.
fn lint(program: &str) -> Result<()> {
    if cargo::has("fmt") {
        let mut command = cargo::cargo();
        command.args(["fmt", "--check", "--manifest-path"]).arg(manifest());
        cargo::run(&mut command, "format")?;
    }
    if cargo::has("clippy") {
        let mut command = cargo::cargo();
        on(&mut command, "clippy", program).args(["--quiet", "--", "-D", "warnings"]);
        cargo::run(&mut command, "lints")?;
    }
    Ok(())
}

/// A cargo command for one program. Flags for this workspace (coverage, sanitizers) would bring std with them.
fn on<'a>(command: &'a mut Command, subcommand: &str, program: &str) -> &'a mut Command {
    command.args([subcommand, "--release", "--features", program, "--bin", program]);
    command.arg("--manifest-path").arg(manifest());
    command.env("CARGO_TARGET_DIR", paths::workspace().join("target/link"));
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET")
}

fn manifest() -> PathBuf {
    paths::workspace().join("tests/link/Cargo.toml")
}

/// Makes sure that a program needs no other file, and that nothing is in it that was not meant to be. Its size.
fn stands_alone(path: &Path) -> Result<usize> {
    let bytes = fs::read(path).context("cannot be read")?;
    let file = ElfFile64::<Endianness>::parse(&*bytes).context("is not an ELF file")?;
    let endian = file.endian();
    let has = |kind| file.elf_program_headers().iter().any(|header| header.p_type(endian) == kind);
    ensure!(!has(PT_INTERP), "asks for a dynamic loader");
    ensure!(!has(PT_DYNAMIC), "is linked dynamically");
    let names: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    ensure!(names.contains(&"_start"), "has no symbols to look at");
    let foreign = names.iter().find(|name| is_foreign(name));
    ensure!(foreign.is_none(), "has {} in it", foreign.unwrap_or(&""));
    Ok(bytes.len())
}

/// `3std` is how both of Rust's schemes write the crate's name.
fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name) || name.starts_with("_ZN3std") || name.contains("_3std")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_std_and_libc_are_recognised() {
        for name in
            ["malloc", "_ZN3std2io5stdio6_print17h0123456789abcdefE", "_RNvNtCs1234_3std2rt10lang_start"]
        {
            assert!(is_foreign(name), "{name}");
        }
        for name in ["memcpy", "_start", "_ZN4core3fmt5write17h0123456789abcdefE", "_RNvCs1234_5alloc5stdin"]
        {
            assert!(!is_foreign(name), "{name}");
        }
    }

    /// This very program has both.
    #[test]
    fn an_ordinary_program_does_not_stand_alone() {
        let error = stands_alone(&std::env::current_exe().unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("loader") || error.contains("dynamically") || error.contains("in it"),
            "{error}"
        );
    }
}
