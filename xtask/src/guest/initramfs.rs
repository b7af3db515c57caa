// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest has in its memory: busybox, Linux's drivers for `/dev/xen`, and the programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::machine::{Files, Flavour, Image, Kernel, Tree};

/// Linux's own drivers, and their options: without it an unprivileged domain's programs make no hypercalls.
const DRIVERS: [(&str, &str); 2] = [("xen-privcmd", "unrestricted=1"), ("xen-evtchn", "")];

/// The programs of a guest, on this machine.
pub struct Programs<'a> {
    pub probe: &'a Path,
    pub recorder: &'a Path,
}

/// Writes the initramfs for a flavour's kernel.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(flavour: Flavour, programs: &Programs<'_>, to: &Path) -> Result<()> {
    let root = flavour.root()?;
    let mut image = Image::default();
    let mut files = Files::default();
    files.file(root.join("usr/bin/busybox"), "/bin/busybox");
    files.file(programs.probe.to_owned(), "/bin/guest-probe");
    files.file(programs.recorder.to_owned(), "/bin/recorder");
    files.add_to(&mut image)?;
    image.file("/init", include_str!("init.sh"), 0o755);
    drivers(&Kernel::of(&root)?, &mut image)?;
    for folder in ["/dev", "/proc", "/sys", "/tmp"] {
        image.folder(folder);
    }
    let mut archive = BufWriter::new(File::create(to).with_context(|| to.display().to_string())?);
    image.write(&mut archive)?;
    archive.flush()?;
    Ok(())
}

fn drivers(kernel: &Kernel, image: &mut Image) -> Result<()> {
    let mut order = String::new();
    for module in Tree::below(&kernel.modules)?.in_order(DRIVERS.map(|(name, _)| name))? {
        let known = DRIVERS.iter().find(|(name, _)| name.replace('-', "_") == module.name);
        order.push_str(&format!("{} {}\n", module.name, known.map_or("", |(_, options)| options)));
        image.file(&format!("/modules/{}.ko", module.name), module.contents, 0o644);
    }
    image.file("/modules/order", order, 0o644);
    Ok(())
}
