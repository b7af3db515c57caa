// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask fetch`: Debian packages for the tests, without root and without touching the system's package state.
//!
//! Packages come in [sets](Set). Files are kept by hash below `target/debian/cache` and unpacked below `target/debian/SET/root`;
//! nothing is used whose SHA-256 is not in the set's tables. A second run finds everything in place and asks nobody.

mod download;
mod set;
mod sources;
mod table;
mod unpack;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use self::download::Downloader;
pub use self::set::Set;
use self::sources::Sources;
use self::table::{Candidate, Package, Table};
use crate::{paths, progress};

/// What `fetch` is asked for.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// Fail if a package cannot be had; otherwise the tests that need it skip themselves
    #[arg(long)]
    pub require: bool,
    /// What the packages are for
    #[arg(long, value_enum, default_value_t)]
    pub set: Set,
}

/// Gets all packages of a set and unpacks them; says which are missing and why, and returns how many.
pub fn run(args: &Args) -> Result<usize> {
    let missing = if env::consts::ARCH == "x86_64" { fetch(args.set)? } else { vec![other_machine()] };
    for line in &missing {
        eprintln!("fetch: {line}");
    }
    if !missing.is_empty() && args.require {
        bail!("{} missing", count(missing.len(), "package"));
    }
    Ok(missing.len())
}

/// Gets a set of packages and answers with the folder that they are unpacked in; says nothing if it is there already.
///
/// # Errors
/// A package cannot be had, or unpacked: the first one's reason, and how many there are.
pub fn obtain(set: Set) -> Result<PathBuf> {
    let (store, table) = (Store::new(paths::debian(), set.name()), set.table()?);
    if !store.is_complete(&table) {
        let missing = store.fill(&table)?;
        if let Some(first) = missing.first() {
            bail!("{} of {} missing; {first}", count(missing.len(), "package"), set.name());
        }
    }
    Ok(store.root())
}

fn other_machine() -> String {
    format!(
        "the packages are for amd64 only, this machine is {}: their tests will be skipped",
        env::consts::ARCH
    )
}

fn fetch(set: Set) -> Result<Vec<String>> {
    let store = Store::new(paths::debian(), set.name());
    let table = set.table()?;
    if store.is_complete(&table) {
        println!(
            "fetch: {} in place below {}",
            count(table.packages.len(), "package"),
            store.root().display()
        );
        return Ok(Vec::new());
    }
    let missing = store.fill(&table)?;
    let found = table.packages.len() - missing.len();
    println!("fetch: {} below {}", count(found, "package"), store.root().display());
    Ok(missing)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The folder `target/debian`, and in it that of one set.
struct Store {
    folder: PathBuf,
    set: &'static str,
}

impl Store {
    fn new(folder: PathBuf, set: &'static str) -> Self {
        Self { folder, set }
    }

    fn root(&self) -> PathBuf {
        self.folder.join(self.set).join("root")
    }

    /// The hashes of what `root` was made from, one a line.
    fn manifest(&self) -> PathBuf {
        self.folder.join(self.set).join("manifest")
    }

    fn cached(&self, candidate: &Candidate) -> PathBuf {
        self.folder.join("cache").join(format!("{}.deb", candidate.sha256))
    }

    /// A name in the cache for something unfinished, not used by another process.
    fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join("cache").join(format!("{name}.{}.part", process::id()))
    }

    /// The best candidate of a package that is in the cache and intact.
    fn in_cache<'a>(&self, package: &'a Package) -> Option<&'a Candidate> {
        package.candidates.iter().find(|candidate| verify(&self.cached(candidate), candidate).is_ok())
    }

    fn is_complete(&self, table: &Table) -> bool {
        let manifest = fs::read_to_string(self.manifest()).unwrap_or_default();
        let unpacked = |candidate: &Candidate| manifest.lines().any(|line| line == candidate.sha256);
        self.root().is_dir() && table.packages.iter().all(|package| package.candidates.iter().any(unpacked))
    }

    /// Downloads and unpacks; answers with a line for each package that could not be had.
    fn fill(&self, table: &Table) -> Result<Vec<String>> {
        let prepare =
            || format!("cannot use {} (EVTCHN_DEBIAN_DIR names another folder)", self.folder.display());
        fs::create_dir_all(self.folder.join("cache")).with_context(prepare)?;
        let lock = File::create(self.folder.join("lock")).with_context(prepare)?;
        flock(&lock, FlockOperation::LockExclusive).with_context(prepare)?;
        let (found, missing) = self.collect(table);
        self.unpack(&found)?;
        Ok(missing)
    }

    fn collect<'a>(&self, table: &'a Table) -> (Vec<&'a Candidate>, Vec<String>) {
        let mut search =
            Search { store: self, sources: Sources::new(&table.snapshot), downloader: Downloader::default() };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (index, package) in table.packages.iter().enumerate() {
            progress::line(&format!("fetch: [{}/{}] {}", index + 1, table.packages.len(), package.name));
            match search.find(package) {
                Ok(candidate) => found.push(candidate),
                Err(reason) => missing.push(format!("{}: {reason}", package.name)),
            }
        }
        progress::line("");
        (found, missing)
    }

    fn unpack(&self, found: &[&Candidate]) -> Result<()> {
        let manifest: String = found.iter().map(|candidate| format!("{}\n", candidate.sha256)).collect();
        if self.root().is_dir() && fs::read_to_string(self.manifest()).is_ok_and(|old| old == manifest) {
            return Ok(());
        }
        let _ = fs::remove_file(self.manifest());
        let debs: Vec<PathBuf> = found.iter().map(|candidate| self.cached(candidate)).collect();
        unpack::unpack_all(debs.iter().map(PathBuf::as_path), &self.root())?;
        fs::write(self.manifest(), manifest).context("cannot write the manifest")
    }
}

/// Looks for packages in the cache, then in the archives.
struct Search<'a> {
    store: &'a Store,
    sources: Sources,
    downloader: Downloader,
}

impl Search<'_> {
    fn find<'a>(&mut self, package: &'a Package) -> Result<&'a Candidate, String> {
        if let Some(candidate) = self.store.in_cache(package) {
            return Ok(candidate);
        }
        let mut reasons = Vec::new();
        for candidate in &package.candidates {
            match self.download(candidate) {
                Ok(()) => return Ok(candidate),
                Err(_) if self.ask_apt(&package.name, candidate).is_ok() => return Ok(candidate),
                Err(reason) if reasons.contains(&reason) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; ") + &self.newer(package))
    }

    /// Asks each place in turn; the first one's reason is the answer, since it is the likeliest to have the file.
    fn download(&mut self, candidate: &Candidate) -> Result<(), String> {
        let part = self.store.scratch(&candidate.sha256);
        let mut reasons = Vec::new();
        for base in self.sources.bases(candidate) {
            match self.downloader.get(&base, &candidate.path, &part) {
                Ok(()) => match self.keep(candidate, &part) {
                    Ok(()) => return Ok(()),
                    Err(error) => reasons.push(format!("from {base}: {error}")),
                },
                Err(failure) => reasons.push(failure.to_string()),
            }
        }
        Err(reasons.into_iter().next().unwrap_or_default())
    }

    fn ask_apt(&mut self, name: &str, candidate: &Candidate) -> Result<()> {
        let folder = self.store.scratch(&candidate.sha256);
        fs::create_dir(&folder)?;
        let file = self.downloader.by_apt(name, &candidate.version, &folder);
        let kept = file.map_err(Into::into).and_then(|file| self.keep(candidate, &file));
        fs::remove_dir_all(&folder)?;
        kept
    }

    /// Moves a download into the cache if it is what the table says.
    fn keep(&self, candidate: &Candidate, part: &Path) -> Result<()> {
        let checked = verify(part, candidate);
        if checked.is_err() {
            let _ = fs::remove_file(part);
        }
        checked?;
        fs::rename(part, self.store.cached(candidate)).context("cannot move it into the cache")
    }

    /// Names newer files of the package that the archive offers, for the person who updates the table. They are not used.
    fn newer(&mut self, package: &Package) -> String {
        let Some(candidate) = package.candidates.first() else {
            return String::new();
        };
        let Some((pool, _)) = candidate.path.rsplit_once('/') else {
            return String::new();
        };
        let page = self.store.scratch("listing");
        let Some(base) = self.sources.bases(candidate).into_iter().next() else {
            return String::new();
        };
        let listed =
            self.downloader.get(&base, &format!("{pool}/"), &page).ok().and_then(|()| fs::read(&page).ok());
        let _ = fs::remove_file(&page);
        let versions = listed
            .map(|text| listed_versions(&String::from_utf8_lossy(&text), &package.name))
            .unwrap_or_default();
        if versions.is_empty() {
            String::new()
        } else {
            format!("; the archive has {}: update the table", versions.join(", "))
        }
    }
}

/// Versions of `name` in an archive's listing of a folder.
fn listed_versions(page: &str, name: &str) -> Vec<String> {
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let file =
        |link: &str| Some(link.strip_prefix(name)?.strip_prefix('_')?.strip_suffix("_amd64.deb")?.to_owned());
    links.filter_map(|link| file(&link.replace("%2b", "+"))).collect()
}

/// Checks length and SHA-256 of a file.
fn verify(file: &Path, candidate: &Candidate) -> Result<()> {
    let length = fs::metadata(file)?.len();
    ensure!(length == candidate.size, "{length} bytes, {} expected", candidate.size);
    let digest = Sha256::digest(fs::read(file)?);
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(hash == candidate.sha256, "SHA-256 {hash}, {} expected", candidate.sha256);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SHA256("abc")`, the standard's own example.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn abc() -> Candidate {
        let [version, archive, path] = ["1", "debian", "pool/a.deb"].map(str::to_owned);
        Candidate { version, size: 3, sha256: ABC.to_owned(), archive, path }
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("xtask-{name}-{}", process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("cache")).unwrap();
        folder
    }

    fn table() -> Table {
        let package = Package { name: "a".to_owned(), candidates: vec![abc()] };
        Table { snapshot: "S".to_owned(), packages: vec![package] }
    }

    #[test]
    fn only_a_file_of_the_right_length_and_hash_is_accepted() {
        let file = scratch("verify").join("file");
        for (contents, accepted) in [("abc", true), ("abd", false), ("abcd", false), ("", false)] {
            fs::write(&file, contents).unwrap();
            assert_eq!(verify(&file, &abc()).is_ok(), accepted, "{contents}");
        }
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_not_used() {
        let store = Store::new(scratch("cache"), "set");
        fs::write(store.cached(&abc()), "abd").unwrap();
        assert_eq!(store.in_cache(&table().packages[0]), None);
        fs::write(store.cached(&abc()), "abc").unwrap();
        assert_eq!(store.in_cache(&table().packages[0]), Some(&abc()));
    }

    #[test]
    fn a_store_is_complete_when_its_root_was_made_from_a_candidate_of_each_package() {
        let store = Store::new(scratch("complete"), "set");
        fs::create_dir_all(store.root()).unwrap();
        assert!(!store.is_complete(&table()));
        fs::write(store.manifest(), format!("{ABC}\n")).unwrap();
        assert!(store.is_complete(&table()));
        fs::remove_dir(store.root()).unwrap();
        assert!(!store.is_complete(&table()));
    }

    #[test]
    fn newer_versions_are_read_from_the_archives_listing() {
        let page = r#"<a href="libx1_4.17.7%2b13-1_amd64.deb">libx1</a> <a href="libx1-dev_5_amd64.deb">d</a> <a href="libx1_5_i386.deb">"#;
        assert_eq!(listed_versions(page, "libx1"), ["4.17.7+13-1"]);
    }
}
