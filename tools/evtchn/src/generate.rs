// SPDX-License-Identifier: MIT OR Apache-2.0
//! What packages install beside the binary: completions for shells, and man pages.

mod man;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;

/// Prints the completions for a shell.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

/// Writes a man page for each command into a folder.
#[derive(clap::Args)]
pub struct Man {
    /// The folder; it is made if it does not exist.
    folder: PathBuf,
}

/// Prints the completions of `command`.
pub fn completions(args: Completions, command: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(&command), "evtchn", &mut script);
    std::io::stdout().write_all(&script).context("completions")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the man pages of `command`.
pub fn man(args: Man, command: Command) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| man::write(command, &args.folder))
        .with_context(|| format!("man: {}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The command without its hidden subcommands, which the completions would offer, and with the word that is no option but looks like one.
fn visible(command: &Command) -> Command {
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    let and = Arg::new("and").long("and").action(ArgAction::SetTrue).help("Begin another program");
    Command::new("evtchn")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(subcommands.cloned())
        .mut_subcommand("run", |run| run.arg(and))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_not_completed() {
        let command = Command::new("evtchn")
            .subcommand(Command::new("run"))
            .subcommand(Command::new("hidden").hide(true));
        let visible = visible(&command);
        let names: Vec<_> = visible.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, ["run"]);
    }
}
