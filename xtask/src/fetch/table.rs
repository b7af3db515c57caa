// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables of packages: the files of `packages`.

use anyhow::{Context, Result, bail, ensure};

/// One file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The package's version as Debian writes it.
    pub version: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// `debian` or `debian-security`.
    pub archive: String,
    /// Path below the archive.
    pub path: String,
}

/// A package and the files that will do for it, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// At least one.
    pub candidates: Vec<Candidate>,
}

/// All packages, and when the snapshot archive had them.
#[derive(Debug)]
pub struct Table {
    /// A timestamp in the form of snapshot.debian.org, `20261120T000000Z`.
    pub snapshot: String,
    /// The packages in the order of the file.
    pub packages: Vec<Package>,
}

impl Table {
    /// The packages of several tables, each with its file's name. The snapshot is that of the last.
    ///
    /// # Errors
    /// A line is damaged, or no table names a snapshot.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self> {
        let mut table = Self { snapshot: String::new(), packages: Vec::new() };
        for (name, text) in files {
            table.file(text).with_context(|| format!("packages/{name}"))?;
        }
        ensure!(!table.snapshot.is_empty(), "no snapshot line");
        Ok(table)
    }

    fn file(&mut self, text: &str) -> Result<()> {
        for (number, line) in text.lines().enumerate() {
            self.line(line).with_context(|| format!("line {}", number + 1))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<()> {
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["snapshot", moment] => self.snapshot = moment.to_owned(),
            [name, version, size, sha256, archive, path] => {
                ensure!(is_sha256(sha256), "{name}: not a SHA-256: {sha256}");
                let size = size.parse().with_context(|| format!("{name}: size {size}"))?;
                let [version, sha256, archive, path] = [version, sha256, archive, path].map(str::to_owned);
                self.add(name, Candidate { version, size, sha256, archive, path });
            }
            _ => bail!("six fields expected"),
        }
        Ok(())
    }

    fn add(&mut self, name: &str, candidate: Candidate) {
        match self.packages.iter_mut().find(|package| package.name == name) {
            Some(package) => package.candidates.push(candidate),
            None => self.packages.push(Package { name: name.to_owned(), candidates: vec![candidate] }),
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0c248b179f1d58277bdf2d67660b75219172bc812aa89cfe4b70a6e12f913a4c";

    fn parse(text: &str) -> Result<Table> {
        Table::parse(&[("f", text)])
    }

    #[test]
    fn lines_of_one_package_are_alternatives_in_order() {
        let text = format!(
            "snapshot S\na 2 10 {HASH} debian-security p/a2\nb 1 10 {HASH} debian p/b\na 1 10 {HASH} debian p/a1\n"
        );
        let table = parse(&text).unwrap();
        let versions: Vec<_> =
            table.packages[0].candidates.iter().map(|candidate| candidate.version.as_str()).collect();
        assert_eq!((table.packages.len(), versions), (2, vec!["2", "1"]));
    }

    #[test]
    fn several_tables_make_one_and_the_last_snapshot_counts() {
        let (first, second) = (
            format!("snapshot S\na 1 10 {HASH} debian p/a\n"),
            format!("snapshot T\nb 1 10 {HASH} debian p/b\n"),
        );
        let table = Table::parse(&[("f", &first), ("g", &second)]).unwrap();
        let names: Vec<_> = table.packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!((names, table.snapshot.as_str()), (vec!["a", "b"], "T"));
    }

    #[test]
    fn a_damaged_hash_or_a_missing_field_is_refused_with_its_line() {
        for bad in ["a 1 10 0c24 debian p/a", "a 1 10", "a 1 ten HASH debian p/a"] {
            let text = format!("snapshot S\n{}\n", bad.replace("HASH", HASH));
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.starts_with("packages/f: line 2"), "{error}");
        }
    }
}
