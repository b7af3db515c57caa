// SPDX-License-Identifier: MIT OR Apache-2.0
//! An unprivileged domain: its own initramfs, and what domain 0 does to run it.

use anyhow::{Context, Result};

use super::image::Image;

/// MiB of memory of the domain.
const MEMORY: u32 = 256;

/// Puts into domain 0's image what starts a domain with the image `inside`, and brings its output and results back.
///
/// # Errors
/// The kernel cannot be read, or the image is too large.
pub fn add_to(
    image: &mut Image,
    inside: &Image,
    kernel: &std::path::Path,
    cpus: u32,
    args: &str,
) -> Result<()> {
    let kernel = std::fs::read(kernel).with_context(|| kernel.display().to_string())?;
    let mut initramfs = Vec::new();
    inside.write(&mut initramfs)?;
    image.file("/machine/domu/kernel", kernel, 0o644);
    image.file("/machine/domu/initramfs", initramfs, 0o644);
    image.file("/machine/domu/config", config(cpus, args), 0o644);
    image.file("/machine/command", include_str!("guest/domu.sh"), 0o755);
    Ok(())
}

/// The domain's configuration as `xl` reads it. No argument of a kernel has a quote in it.
fn config(cpus: u32, args: &str) -> String {
    format!(
        "name = \"domu\"\ntype = \"pv\"\nkernel = \"/machine/domu/kernel\"\nramdisk = \"/machine/domu/initramfs\"\n\
         memory = {MEMORY}\nvcpus = {cpus}\nextra = \"console=hvc0 loglevel=5 panic=1 {}\"\n\
         on_poweroff = \"destroy\"\non_reboot = \"destroy\"\non_crash = \"destroy\"\n",
        args.replace('"', "")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_the_domains_size_and_its_kernels_arguments() {
        let config = config(3, "xen.fifo_events=0");
        assert!(config.contains("vcpus = 3\n"));
        assert!(config.contains("panic=1 xen.fifo_events=0\"\n"), "{config}");
    }
}
