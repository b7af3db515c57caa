// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine's initramfs has in it.

use std::path::Path;

use anyhow::{Context, Result};

use super::image::Image;
use super::kernel::Kernel;
use super::modules::Tree;
use super::{Machine, System, XEN_DRIVERS, domu, toolstack};

/// Drivers of the ports by which output and results leave the machine.
const PORTS: [&str; 2] = ["virtio_pci", "virtio_console"];
/// Options of modules. An unprivileged domain's programs may make hypercalls only so.
const OPTIONS: [(&str, &str); 1] = [("xen_privcmd", "unrestricted=1")];

/// The initramfs of the kernel that the machine starts.
///
/// # Errors
/// A file of the packages, or a given one, cannot be read.
pub fn initramfs(machine: &Machine, root: &Path, kernel: &Kernel, command: &[&str]) -> Result<Image> {
    let mut inside = base(root)?;
    machine.files.add_to(&mut inside)?;
    inside.file("/machine/command", script(command), 0o755);
    if machine.system != System::DomU {
        add_modules(machine, kernel, &PORTS, &mut inside)?;
        if machine.system == System::Dom0 && machine.toolstack {
            toolstack::add_to(&mut inside, root, machine.flavour)?;
        }
        return Ok(inside);
    }
    inside.file("/machine/domu-inside", "", 0o644);
    add_modules(machine, kernel, &[], &mut inside)?;
    let mut outside = base(root)?;
    let plain = Machine::new(machine.flavour, System::Dom0);
    add_modules(&plain, kernel, &PORTS, &mut outside)?;
    toolstack::add_to(&mut outside, root, machine.flavour)?;
    domu::add_to(&mut outside, &inside, &kernel.image, machine.cpus, &machine.kernel_args.join(" "))?;
    Ok(outside)
}

fn base(root: &Path) -> Result<Image> {
    let mut image = Image::default();
    let busybox = root.join("usr/bin/busybox");
    image.file(
        "/bin/busybox",
        std::fs::read(&busybox).with_context(|| busybox.display().to_string())?,
        0o755,
    );
    image.file("/init", include_str!("guest/init.sh"), 0o755);
    image.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    for folder in ["/dev", "/proc", "/sys", "/t"] {
        image.folder(folder);
    }
    Ok(image)
}

fn add_modules(machine: &Machine, kernel: &Kernel, transport: &[&str], image: &mut Image) -> Result<()> {
    let usual: &[&str] = if machine.system == System::Plain { &[] } else { &XEN_DRIVERS };
    let drivers = machine.drivers.as_ref();
    let drivers: Vec<&str> =
        drivers.map_or(usual.to_vec(), |names| names.iter().map(String::as_str).collect());
    let wanted = transport.iter().copied().chain(drivers).chain(machine.modules.iter().map(String::as_str));
    let mut order = String::new();
    for module in Tree::below(&kernel.modules)?.in_order(wanted)? {
        let options =
            OPTIONS.iter().find(|(name, _)| *name == module.name).map_or("", |(_, options)| *options);
        order.push_str(&format!("{} {options}\n", module.name));
        image.file(&format!("/machine/modules/{}.ko", module.name), module.contents, 0o644);
    }
    image.file("/machine/modules/order", order, 0o644);
    Ok(())
}

/// The program as a script, whatever is in its arguments.
fn script(command: &[&str]) -> String {
    let words: Vec<String> =
        command.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
    format!("#!/bin/sh\ncd /t\nexec {}\n", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_reach_the_program_unchanged() {
        let script = script(&["printf", "<%s>", "a b", "", "it's", "$HOME", "--"]).replace("cd /t", "");
        let output = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "<a b><><it's><$HOME><-->");
    }
}
