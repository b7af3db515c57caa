// SPDX-License-Identifier: MIT OR Apache-2.0
//! Man pages: what clap_mangen makes of a command, with the text after the options as sections of its own.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// How far a line is indented that explains the one before it.
const EXPLANATION: &str = "      ";

/// An empty date would be left out, and what follows it taken for the date.
const NO_DATE: &str = " ";

/// Writes the pages of a command and of its visible subcommands into a folder.
pub fn write(mut command: Command, folder: &Path) -> io::Result<()> {
    command = command.disable_help_subcommand(true);
    command.build();
    let source = format!("{} {}", command.get_name(), env!("CARGO_PKG_VERSION"));
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    for command in subcommands.chain([&command]) {
        let man = Man::new(command.clone()).source(&source).date(NO_DATE).manual("User Commands");
        std::fs::write(folder.join(man.get_filename()), page(&man, command)?)?;
    }
    Ok(())
}

fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_long_help() {
        page.write_all(sections(&text.to_string()).render().as_bytes())?;
    }
    Ok(page)
}

/// Text whose lines are headings ("Examples:"), paragraphs, and terms with what explains them further indented on the next line.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        let is_term = next.starts_with(EXPLANATION);
        match line.strip_suffix(':') {
            _ if line.is_empty() && !next.starts_with(' ') => continue,
            _ if line.is_empty() => roff.control("PP", []),
            Some(heading) if !line.starts_with(' ') => roff.control("SH", [heading.to_uppercase().as_str()]),
            _ if is_term => roff.control("TP", []).text([bold(line.trim())]),
            _ => roff.text([roman(line.trim())]),
        };
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_the_options_is_sections() {
        let roff = sections("Some examples:\n  a --b\n      does c\n\nStatus:\n  One: it\n  is.\n\n  Two.");
        let lines: Vec<_> = roff.render().lines().map(str::to_owned).collect();
        let expected = [
            ".SH \"SOME EXAMPLES\"",
            ".TP",
            "\\fBa \\-\\-b\\fR",
            "does c",
            ".SH STATUS",
            "One: it",
            "is.",
            ".PP",
            "Two.",
        ];
        assert!(lines.ends_with(&expected.map(str::to_owned)), "{lines:?}");
    }
}
