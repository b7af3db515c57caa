// SPDX-License-Identifier: MIT OR Apache-2.0
//! The packages that a machine is made from.

use std::env::consts::ARCH;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};
use thiserror::Error;

use super::Flavour;
use crate::fetch::{self, Set};

/// There is no machine to be had here: packages or QEMU are missing, or the programs of this computer are not for x86-64.
#[derive(Debug, Error)]
#[error("no emulated machine: {0}")]
pub struct Unavailable(String);

impl Unavailable {
    /// With what is missing, and why.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl Flavour {
    fn set(self) -> Set {
        match self {
            Self::Bookworm => Set::MachineBookworm,
            Self::Sid => Set::MachineSid,
        }
    }

    /// Xen's version as Debian's packages have it in their names.
    #[must_use]
    pub fn xen(self) -> &'static str {
        match self {
            Self::Bookworm => "4.17",
            Self::Sid => "4.20",
        }
    }

    /// The folder in which the flavour's packages are unpacked; they are fetched the first time.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn root(self) -> Result<PathBuf> {
        if ARCH != "x86_64" {
            bail!(Unavailable::new(format!(
                "it runs x86-64 programs, and those of this computer are for {ARCH}"
            )));
        }
        obtain(self.set())
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Sid => "sid",
        })
    }
}

/// The folder of a set of packages.
pub fn obtain(set: Set) -> Result<PathBuf> {
    fetch::obtain(set).map_err(|reason| Unavailable::new(format!("{reason:#}")).into())
}
