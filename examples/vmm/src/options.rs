// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use evtchn_engine::Level;

/// Boots Linux as a guest of Xen on KVM, with event channels by evtchn-engine.
///
/// The guest's console goes to stdout; at the end a report goes to stderr, or as JSON into a file. The status is 0 if no guest
/// ended with another status than 0.
#[derive(Parser, Clone, Debug)]
#[command(name = "evtchn-vmm", version, arg_required_else_help = true)]
pub struct Options {
    /// A bzImage, or with --pvh an uncompressed ELF file
    #[arg(long, value_name = "FILE", required_unless_present = "check")]
    kernel: Option<PathBuf>,
    /// The initramfs
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,
    /// Only say whether this machine's KVM can run such guests
    #[arg(long)]
    pub check: bool,
    /// More of Linux's command line
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// Boot by the PVH entry
    #[arg(long)]
    pub pvh: bool,
    /// Memory of each guest
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=2048))]
    pub memory: u32,
    /// vCPUs of each guest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub vcpus: u8,
    /// Guests: domains 1 and 2, with the same kernel and initramfs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub guests: u8,
    /// The guest with whose end all others are killed
    #[arg(long, value_name = "DOMAIN")]
    pub main: Option<u16>,
    /// Offer a vector for each vCPU, which Linux then prefers to a global one
    #[arg(long)]
    pub vcpu_vector: bool,
    /// Answer like a Xen without the FIFO ABI
    #[arg(long)]
    pub no_fifo: bool,
    /// Answer like Xen 4.17 instead of the latest
    #[arg(long)]
    pub xen_4_17: bool,
    /// Let KVM carry out IPIs itself
    #[arg(long, requires = "no_fifo")]
    pub offload: bool,
    /// Take hypercalls by an I/O port, where KVM has no Xen support; for guests that use the hypercall page and a vector of each vCPU
    #[arg(long, requires = "vcpu_vector", conflicts_with = "offload")]
    pub ports: bool,
    /// Hide XSAVE and what needs it; for machines whose KVM is itself emulated
    #[arg(long)]
    pub no_xsave: bool,
    /// Where what guests write with Xen's console_io goes: FILE.1, FILE.2; without it to stdout
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Seconds until guests that still run are killed
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub timeout: u64,
}

impl Options {
    /// The file that is booted.
    pub fn kernel(&self) -> Result<&Path> {
        self.kernel.as_deref().context("no --kernel")
    }

    /// Which Xen the guests see.
    pub fn level(&self) -> Level {
        if self.xen_4_17 { Level::Xen4_17 } else { Level::Current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["evtchn-vmm"].into_iter().chain(words.split_whitespace()))
    }

    #[test]
    fn a_check_needs_no_kernel_and_a_guest_does() {
        assert!(parsed("--check").unwrap().check);
        assert!(parsed("--vcpus 2").is_err());
        assert!(parsed("--check").unwrap().kernel().is_err());
        let options = parsed("--kernel k").unwrap();
        assert_eq!(options.kernel().unwrap(), Path::new("k"));
    }

    #[test]
    fn sends_are_carried_out_by_kvm_only_where_there_is_no_fifo() {
        assert!(parsed("--kernel k --offload").is_err());
        assert!(parsed("--kernel k --offload --no-fifo").is_ok());
        assert!(parsed("--kernel k --offload --no-fifo --ports --vcpu-vector").is_err());
    }
}
