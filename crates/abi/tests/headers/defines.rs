// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that a header defines.

use std::path::Path;

/// Names of `#define` lines that begin with one of the prefixes, in the header's order.
pub fn in_file(path: &Path, prefixes: &[&str]) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let wanted = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    text.lines().filter_map(defined_name).filter(wanted).collect()
}

fn defined_name(line: &str) -> Option<String> {
    let name = line.trim_start().strip_prefix("#define")?.split_whitespace().next()?;
    Some(name.split('(').next().unwrap_or(name).to_owned())
}
