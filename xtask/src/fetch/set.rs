// SPDX-License-Identifier: MIT OR Apache-2.0
//! What packages are fetched for, and the tables that name them.

use anyhow::Result;

use super::table::Table;

const BOOKWORM: (&str, &str) = ("bookworm.txt", include_str!("../../packages/bookworm.txt"));
const MACHINE_BOOKWORM: (&str, &str) =
    ("machine-bookworm.txt", include_str!("../../packages/machine-bookworm.txt"));
const MACHINE_SID: (&str, &str) = ("machine-sid.txt", include_str!("../../packages/machine-sid.txt"));
const KERNEL_BUILD: (&str, &str) = ("kernel-build.txt", include_str!("../../packages/kernel-build.txt"));
const QEMU: (&str, &str) = ("qemu.txt", include_str!("../../packages/qemu.txt"));

/// Packages that are unpacked together.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Set {
    /// Debian 12's Xen programs and library, which the tests run under `evtchn run`
    #[default]
    Bookworm,
    /// The emulated machine with Debian 12: Linux, Xen, toolstack
    MachineBookworm,
    /// The emulated machine with Debian unstable
    MachineSid,
    /// What builds the Linux module for the kernel of Debian unstable
    KernelBuild,
    /// QEMU, for where it is not installed
    Qemu,
}

impl Set {
    /// The folder's name below `target/debian`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::MachineBookworm => "machine-bookworm",
            Self::MachineSid => "machine-sid",
            Self::KernelBuild => "kernel-build",
            Self::Qemu => "qemu",
        }
    }

    /// The set's packages.
    ///
    /// # Errors
    /// A table is damaged.
    pub(super) fn table(self) -> Result<Table> {
        match self {
            Self::Bookworm => Table::parse(&[BOOKWORM]),
            Self::MachineBookworm => Table::parse(&[BOOKWORM, MACHINE_BOOKWORM]),
            Self::MachineSid => Table::parse(&[MACHINE_SID]),
            Self::KernelBuild => Table::parse(&[KERNEL_BUILD]),
            Self::Qemu => Table::parse(&[QEMU]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_what_it_is_for() {
        for (set, package) in [
            (Set::Bookworm, "libxenevtchn1"),
            (Set::MachineBookworm, "xen-hypervisor-4.17-amd64"),
            (Set::MachineBookworm, "xen-utils-4.17"),
            (Set::MachineSid, "xen-hypervisor-4.20-amd64"),
            (Set::KernelBuild, "linux-headers-7.2.13+deb14-amd64"),
            (Set::Qemu, "qemu-system-x86"),
        ] {
            let table = set.table().unwrap();
            assert!(table.packages.iter().any(|known| known.name == package), "{package}");
            assert!(table.packages.iter().all(|known| !known.candidates.is_empty()));
        }
    }
}
