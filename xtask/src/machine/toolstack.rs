// SPDX-License-Identifier: MIT OR Apache-2.0
//! Xen's own programs in domain 0, with the libraries of their Debian.
//!
//! They are kept apart from the libraries of given programs, which are those of this machine: each is started by its own loader.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Flavour;
use super::image::Image;

/// What is needed to start a domain, and to look at the machine.
const PROGRAMS: [&str; 5] = ["xl", "xenstored", "xenconsoled", "xen-init-dom0", "lsevtchn"];
/// Programs that are not in the folder of Xen's version.
const CLIENTS: [&str; 2] = ["xenstore-read", "xenstore-ls"];
/// Where Debian keeps libraries.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Which libraries these programs need, without those that Xen's packages bring, which are all taken.
const OTHERS: [&str; 11] = [
    "libc.",
    "libm.",
    "libdl.",
    "libpthread.",
    "librt.",
    "libyajl.",
    "libz.",
    "liblzma.",
    "libzstd.",
    "libuuid.",
    // Loaded by libc when a thread ends another, as `xl` does at its end.
    "libgcc_s.",
];

/// Puts the programs into the image, each under its name in `/bin`, and `start-toolstack` besides.
///
/// # Errors
/// A file of the packages cannot be read.
pub fn add_to(image: &mut Image, root: &Path, flavour: Flavour) -> Result<()> {
    for entry in fs::read_dir(root.join(LIBRARIES)).context("no libraries in the packages")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_needed(&name) && path.is_file() {
            image.file(&format!("/xen/lib/{name}"), fs::read(&path)?, 0o755);
        }
    }
    let loader = root.join(LIBRARIES).join("ld-linux-x86-64.so.2");
    image.file("/xen/ld.so", fs::read(&loader).with_context(|| loader.display().to_string())?, 0o755);
    let (own, common) = (root.join(format!("usr/lib/xen-{}/bin", flavour.xen())), root.join("usr/bin"));
    let all = PROGRAMS.map(|name| (name, own.join(name)));
    for (name, path) in all.into_iter().chain(CLIENTS.map(|name| (name, common.join(name)))) {
        let contents = fs::read(&path).with_context(|| path.display().to_string())?;
        image.file(&format!("/xen/bin/{name}"), contents, 0o755);
        let script = format!("#!/bin/sh\nexec /xen/ld.so --library-path /xen/lib /xen/bin/{name} \"$@\"\n");
        image.file(&format!("/bin/{name}"), script, 0o755);
    }
    image.file("/bin/start-toolstack", include_str!("guest/start-toolstack.sh"), 0o755);
    Ok(())
}

fn is_needed(name: &str) -> bool {
    let wanted = name.starts_with("libxen")
        || name.starts_with("libxl")
        || OTHERS.iter().any(|other| name.starts_with(other));
    wanted && name.contains(".so.")
}
