// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building the modules with kbuild, and what rustfmt and clippy say about their source.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::environment::Environment;
use super::{RELEASE, output, source};
use crate::{cargo, paths};

/// The edition of the module's own files, which is that of the kernel's.
const EDITION: &str = "2021";
/// Their style is that of the rest of the project.
const STYLE: &str = "2024";

/// The module for Xen, or the one that simulates channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Xen,
    Simulated,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Xen, Self::Simulated];

    /// The file's name.
    pub fn file(self) -> &'static str {
        match self {
            Self::Xen => "xen-evtchn.ko",
            Self::Simulated => "evtchn-sim.ko",
        }
    }

    /// The built module.
    pub fn path(self) -> PathBuf {
        output().join(self.file())
    }

    /// The folder that it is built in.
    fn folder(self) -> &'static str {
        match self {
            Self::Xen => "xen",
            Self::Simulated => "simulated",
        }
    }

    /// What `make` is told.
    fn choice(self) -> &'static [&'static str] {
        match self {
            Self::Xen => &[],
            Self::Simulated => &["EVTCHN_SIM=1"],
        }
    }
}

/// Builds a module into `target/kernel`, without what only debuggers read.
///
/// # Errors
/// It cannot be built; a warning is an error.
pub fn module(environment: &Environment, variant: Variant) -> Result<()> {
    make(environment, variant.folder(), variant.choice())?;
    let built = environment.folder().join(variant.folder()).join(variant.file());
    let inner = format!("/build/{}/{}", variant.folder(), variant.file());
    environment.inside()?.run(&["strip", "--strip-debug", &inner], "strip")?;
    fs::create_dir_all(output())?;
    fs::copy(&built, variant.path()).with_context(|| built.display().to_string())?;
    println!("kernel: {} has {} bytes", variant.path().display(), fs::metadata(variant.path())?.len());
    Ok(())
}

/// Copies the source into a fresh folder and has kbuild build it.
fn make(environment: &Environment, name: &str, arguments: &[&str]) -> Result<()> {
    let (folder, inner) = environment.fresh(name)?;
    source::write(&folder)?;
    let (headers, module) = (format!("/usr/src/linux-headers-{RELEASE}"), format!("M={inner}"));
    let mut words = vec!["make", "-C", &headers, &module, "KRUSTFLAGS=-Dwarnings"];
    words.extend(arguments);
    words.push("modules");
    environment.inside()?.run(&words, name)
}

/// rustfmt of the module's own files, which are not part of the workspace.
///
/// # Errors
/// It would change something.
pub fn format() -> Result<()> {
    let root = paths::workspace().join("kernel/src/main.rs");
    let mut rustfmt = Command::new("rustfmt");
    rustfmt
        .args(["--check", "--edition", EDITION, "--style-edition", STYLE])
        .arg(root)
        .current_dir(paths::workspace());
    cargo::run(&mut rustfmt, "rustfmt of kernel/")
}

/// rustfmt, and clippy with the lints that the kernel's build gives it. Warnings are errors.
///
/// # Errors
/// One of them has something to say.
pub fn lints(environment: &Environment) -> Result<()> {
    format()?;
    for variant in Variant::ALL {
        let folder = format!("clippy-{}", variant.folder());
        make(environment, &folder, &[&["CLIPPY=1"], variant.choice()].concat())?;
    }
    Ok(())
}
