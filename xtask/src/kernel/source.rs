// SPDX-License-Identifier: MIT OR Apache-2.0
//! The module's source as one folder: `kernel/`, and the crates that it shares with the rest of the project.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::RELEASE;
use super::environment::Environment;
use crate::paths;

/// The crates that are compiled into the module, and what their folders are called there.
const CRATES: [(&str, &str); 2] = [("crates/abi/src", "evtchn_abi"), ("crates/device/src", "evtchn_device")];

/// Writes everything that kbuild and DKMS need into a folder.
///
/// # Errors
/// The folder is not empty, or something cannot be copied.
pub fn write(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    ensure!(fs::read_dir(folder)?.next().is_none(), "{} is not empty", folder.display());
    let workspace = paths::workspace();
    copy(&workspace.join("kernel"), folder)?;
    for (here, there) in CRATES {
        copy(&workspace.join(here), &folder.join(there))?;
    }
    let licences = ["LICENSE-MIT", "LICENSE-APACHE"];
    for licence in licences {
        fs::copy(workspace.join(licence), folder.join(licence)).context(licence)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to).with_context(|| to.display().to_string())?;
        }
    }
    Ok(())
}

/// Has DKMS build the package, in the build environment. Nothing is installed.
///
/// # Errors
/// DKMS fails, or there is no module afterwards.
pub fn check(environment: &Environment) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let root = environment.root();
    let source = root.join(format!("usr/src/evtchn-{version}"));
    let _ = fs::remove_dir_all(&source);
    let _ = fs::remove_dir_all(root.join("var/lib/dkms/evtchn"));
    write(&source)?;
    let module = format!("evtchn/{version}");
    let inside = environment.inside()?;
    inside.run(&["dkms", "add", &module], "dkms add")?;
    inside.run(&["dkms", "build", &module, "-k", RELEASE], "dkms build")?;
    let built = root.join(format!("var/lib/dkms/{module}/{RELEASE}/x86_64/module"));
    let found = fs::read_dir(&built).with_context(|| built.display().to_string())?;
    let names: Vec<String> =
        found.filter_map(|file| Some(file.ok()?.file_name().to_string_lossy().into_owned())).collect();
    ensure!(names.iter().any(|name| name.starts_with("xen-evtchn.ko")), "DKMS built {names:?}");
    println!("kernel: DKMS built {}", names.join(", "));
    Ok(())
}
