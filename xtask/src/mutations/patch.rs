// SPDX-License-Identifier: MIT OR Apache-2.0
//! The defects as they are written down.
//!
//! ```text
//! == XSA-327: a vcpu_info may be misaligned
//! test: evtchn-engine vcpu_info each_place_is_checked_as_the_release_does
//! in: crates/engine/src/ops/vcpu_info.rs
//! -    the lines that are replaced
//! +    what they are replaced by
//!      a line that stays
//! ```
//!
//! Instead of `test`: `idea: AU-26`, a row of `tests/ideas`; or `not here: why`, and no edit. A test target `lib` is the unit tests of a
//! package, `loom` and `shuttle` are models. Text before the first `==` explains.

use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// A defect.
#[derive(Debug)]
pub struct Case {
    /// How it is called: the number of an advisory or commit, or a name.
    pub id: String,
    /// What the patched code does.
    pub what: String,
    pub kind: What,
}

#[derive(Debug)]
pub enum What {
    Patch(Patch),
    /// It cannot be put back into this code, and why.
    NotHere(String),
}

impl Case {
    pub fn patch(&self) -> Option<&Patch> {
        match &self.kind {
            What::Patch(patch) => Some(patch),
            What::NotHere(_) => None,
        }
    }
}

/// A defect that can be put back.
#[derive(Debug)]
pub struct Patch {
    pub id: String,
    pub test: Test,
    pub edits: Vec<Edit>,
}

/// What a build replaces the atomics by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    Loom,
    Shuttle,
}

/// A test, by its package, its target and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    pub kind: Kind,
    pub package: String,
    pub target: String,
    pub name: String,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.package, self.target, self.name.trim_end())
    }
}

/// Lines of a file that are replaced.
#[derive(Debug, Default)]
pub struct Edit {
    pub file: String,
    old: Vec<String>,
    new: Vec<String>,
}

impl Edit {
    /// The text with the lines replaced, which must be there once.
    ///
    /// # Errors
    /// They are not, or more than once.
    pub fn apply(&self, text: &str) -> Result<String> {
        let whole = |lines: &[String]| format!("\n{}\n", lines.join("\n"));
        let (text, old) = (format!("\n{text}"), whole(&self.old));
        // Two places may share the end of a line between them.
        let found = text.char_indices().filter(|&(at, _)| text[at..].starts_with(&old)).count();
        ensure!(found == 1, "{}: the lines to be replaced are there {found} times:{old}", self.file);
        Ok(text.replacen(&old, &whole(&self.new), 1).split_off(1))
    }
}

/// All defects.
///
/// # Errors
/// A file cannot be read or understood, or two have one name.
pub fn load() -> Result<Vec<Case>> {
    let folder = paths::workspace().join("tests/mutations");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        cases.extend(parse(&text).with_context(|| file.display().to_string())?);
    }
    for (at, case) in cases.iter().enumerate() {
        let twice = cases[..at].iter().any(|before: &Case| before.id == case.id);
        ensure!(!twice, "two defects {}", case.id);
    }
    Ok(cases)
}

fn parse(text: &str) -> Result<Vec<Case>> {
    let blocks = text.split("\n== ").skip(1);
    blocks
        .map(|block| parse_case(block).with_context(|| block.lines().next().unwrap_or_default().to_owned()))
        .collect()
}

fn parse_case(block: &str) -> Result<Case> {
    let mut lines = block.lines();
    let title = lines.next().and_then(|title| title.split_once(": "));
    let (id, what) = title.context("a title is `ID: what the patched code does`")?;
    let (id, what) = (id.to_owned(), what.to_owned());
    let (mut test, mut edits) = (None, Vec::new());
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(why) = line.strip_prefix("not here: ") {
            return Ok(Case { id, what, kind: What::NotHere(why.to_owned()) });
        } else if let Some(name) = line.strip_prefix("test: ") {
            test = Some(parse_test(name)?);
        } else if let Some(row) = line.strip_prefix("idea: ") {
            test = Some(idea(row));
        } else if let Some(file) = line.strip_prefix("in: ") {
            edits.push(Edit { file: file.to_owned(), ..Edit::default() });
        } else {
            parse_edit(line, edits.last_mut().context("lines without a file")?)?;
        }
    }
    ensure!(!edits.is_empty(), "no edit");
    let patch = Patch { id: id.clone(), test: test.context("no test")?, edits };
    Ok(Case { id, what, kind: What::Patch(patch) })
}

fn parse_edit(line: &str, edit: &mut Edit) -> Result<()> {
    let (mark, rest) = line.split_at_checked(1).unwrap_or_default();
    match mark {
        "-" => edit.old.push(rest.to_owned()),
        "+" => edit.new.push(rest.to_owned()),
        " " => [&mut edit.old, &mut edit.new].into_iter().for_each(|lines| lines.push(rest.to_owned())),
        _ => bail!("not understood: {line}"),
    }
    Ok(())
}

fn parse_test(name: &str) -> Result<Test> {
    let parts: Vec<_> = name.split(' ').collect();
    let [package, target, name] = parts[..] else { bail!("a test is `PACKAGE TARGET NAME`") };
    let kind = match target {
        "loom" => Kind::Loom,
        "shuttle" => Kind::Shuttle,
        _ => Kind::Plain,
    };
    Ok(Test { kind, package: package.to_owned(), target: target.to_owned(), name: name.to_owned() })
}

/// The name of a row's test begins with its id.
fn idea(id: &str) -> Test {
    let (package, target) = ("evtchn-ideas".to_owned(), "table".to_owned());
    Test { kind: Kind::Plain, package, target, name: format!("{id} ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "What this is.\n\n== X-1: breaks b\ntest: p t n\nin: f\n a\n-b\n+c\n+d\n\n== X-2: e\nnot here: f\n";

    #[test]
    fn a_defect_is_an_edit_and_a_test_or_a_reason() {
        let cases = parse(TEXT).unwrap();
        assert_eq!(cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), ["X-1", "X-2"]);
        let patch = cases[0].patch().unwrap();
        assert_eq!(patch.test.to_string(), "p t n");
        assert_eq!(patch.edits[0].apply("1\na\nb\n2\n").unwrap(), "1\na\nc\nd\n2\n");
        assert!(cases[1].patch().is_none());
    }

    #[test]
    fn an_edit_that_does_not_fit_or_fits_twice_is_refused() {
        let cases = parse(TEXT).unwrap();
        let edit = &cases[0].patch().unwrap().edits[0];
        for text in ["a\n b\n", "a\nb\na\nb\n", "a\nbb\n", ""] {
            assert!(edit.apply(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_defects_can_be_read() {
        assert!(!load().unwrap().is_empty());
    }
}
