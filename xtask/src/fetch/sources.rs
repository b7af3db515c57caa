// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a file of the archive may be found, in the order in which the places are asked.

use std::collections::HashSet;
use std::env;
use std::process::Command;

use super::table::Candidate;

/// The places that carry an archive.
pub struct Sources {
    /// The machine's own mirrors, as its apt and its environment know them.
    local: Vec<String>,
    snapshot: String,
}

impl Sources {
    /// The mirrors of this machine (those of `DEBIAN_MIRROR` and `DEBIAN_SECURITY_MIRROR`, whose addresses end in the archive's
    /// name, and apt's own), then the public ones; `snapshot` is a moment of snapshot.debian.org.
    pub fn new(snapshot: &str) -> Self {
        let named =
            ["DEBIAN_MIRROR", "DEBIAN_SECURITY_MIRROR"].into_iter().filter_map(|name| env::var(name).ok());
        let local = named.chain(apt_mirrors()).map(|uri| uri.trim_end_matches('/').to_owned()).collect();
        Self { local, snapshot: snapshot.to_owned() }
    }

    /// Base addresses for `candidate`, best first, each once. Plain http: every file is checked by its hash, and a fresh machine
    /// may have no certificates.
    pub fn bases(&self, candidate: &Candidate) -> Vec<String> {
        let archive = &candidate.archive;
        let suffix = format!("/{archive}");
        let mut bases: Vec<String> =
            self.local.iter().filter(|uri| uri.ends_with(&suffix)).cloned().collect();
        bases.push(format!("http://deb.debian.org/{archive}"));
        if archive == "debian-security" {
            bases.push("http://security.debian.org/debian-security".to_owned());
        }
        bases.push(format!("http://archive.debian.org/{archive}"));
        bases.push(format!("http://snapshot.debian.org/archive/{archive}/{}", self.snapshot));
        let mut seen = HashSet::new();
        bases.retain(|base| seen.insert(base.clone()));
        bases
    }
}

/// What the machine's apt uses; nothing where there is no apt.
fn apt_mirrors() -> Vec<String> {
    let output = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("http")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(archive: &str) -> Candidate {
        Candidate {
            version: String::new(),
            size: 0,
            sha256: String::new(),
            archive: archive.to_owned(),
            path: String::new(),
        }
    }

    #[test]
    fn the_machines_own_mirror_comes_first_and_no_place_is_asked_twice() {
        let local =
            vec!["http://mirror.example/debian".to_owned(), "http://deb.debian.org/debian".to_owned()];
        let bases = Sources { local, snapshot: "S".to_owned() }.bases(&candidate("debian"));
        assert_eq!(bases[0], "http://mirror.example/debian");
        assert_eq!(bases.iter().filter(|base| *base == "http://deb.debian.org/debian").count(), 1);
    }

    #[test]
    fn a_mirror_of_another_archive_is_not_asked() {
        let local = vec!["http://mirror.example/debian".to_owned()];
        let bases = Sources { local, snapshot: "S".to_owned() }.bases(&candidate("debian-security"));
        assert!(bases.iter().all(|base| base.contains("/debian-security")), "{bases:?}");
    }
}
