// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said about wrong usage where the parser's own words would mislead: it takes a mistyped option for a program's name, and knows
//! nothing of what stands around `--and`.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The word between two programs.
pub const AND: &str = "--and";
/// The options that hold for all programs.
const GENERAL: [&str; 4] = ["--xen", "--linux", "--abi", "--vcpus"];
/// The exit status for wrong usage.
const WRONG_USAGE: i32 = 2;

/// Where a mistake was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the first program.
    First,
    /// After `--and`.
    Further,
}

/// Ends the command with what the parser said, or with better words.
pub fn refuse(error: &clap::Error, place: Place) -> ! {
    match complaint(error, place) {
        Some(complaint) => end(&complaint),
        None => error.exit(),
    }
}

/// Ends the command: there is a first `--and` without a program before it.
pub fn nothing_before_and() -> ! {
    end(&missing_before_and())
}

fn end(complaint: &str) -> ! {
    eprintln!("evtchn: run: {complaint}");
    std::process::exit(WRONG_USAGE)
}

fn missing_before_and() -> String {
    format!("a program is missing before {AND}")
}

fn complaint(error: &clap::Error, place: Place) -> Option<String> {
    match (error.kind(), place) {
        (ErrorKind::UnknownArgument, _) => {
            Some(unknown(&text(error, ContextKind::InvalidArg)?, error, place))
        }
        (ErrorKind::MissingRequiredArgument, Place::First) => {
            Some("a program is missing (hint: evtchn run ./program; more in `evtchn run --help`)".into())
        }
        (ErrorKind::MissingRequiredArgument, Place::Further) => {
            Some(format!("a program is missing after {AND}"))
        }
        _ => None,
    }
}

fn unknown(option: &str, error: &clap::Error, place: Place) -> String {
    match place {
        Place::First if option == AND => return missing_before_and(),
        Place::Further if GENERAL.contains(&option) => {
            return format!(
                "{option}: not allowed after {AND} (hint: it is for all programs, so it belongs before the first)"
            );
        }
        _ => {}
    }
    let hint = text(error, ContextKind::SuggestedArg).map_or_else(
        || "a program's own options come after its name; `evtchn run --help` lists these".into(),
        |similar| format!("there is {similar}"),
    );
    format!("{option}: no such option (hint: {hint})")
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}
