// SPDX-License-Identifier: MIT OR Apache-2.0
//! `evtchn demo`: two processes, two domains, one event channel.
//!
//! The command runs itself twice under the launcher, as two ordinary programs that know nothing but the
//! device's file. They leave what they counted in a page of memory that both share with the command.

mod clock;
mod device;
mod direction;
mod histogram;
mod page;
mod progress;
mod receiver;
mod report;
mod sender;
mod table;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::{Context, bail};
use evtchn_launch::{Abi, Config, Ending, Levels, Program};

use page::Page;
use report::Report;

/// The receiver's domain.
const RECEIVER: u32 = 1;
/// The sender's domain.
const SENDER: u32 = 2;
/// What the receiver has not seen by then is lost.
const GRACE: Duration = Duration::from_secs(1);

/// Lets two processes in two domains exchange events, and measures it.
#[derive(clap::Args)]
#[command(override_usage = "evtchn demo [--seconds N] [--json]")]
pub struct Args {
    /// How long, 1 to 3600.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = crate::number::within(1..=3600))]
    seconds: u32,
    /// Print the result as JSON; times are in nanoseconds.
    #[arg(long)]
    json: bool,
}

/// What both programs are given.
#[derive(clap::Args)]
pub struct Part {
    /// The descriptor of the shared page.
    #[arg(long, value_name = "DESCRIPTOR")]
    page: u32,
}

/// Runs the two programs and prints what they measured.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    demo(&args).context("demo")
}

/// The program that receives.
pub fn receiver(part: Part) -> anyhow::Result<ExitCode> {
    play(&part, receiver::run).context("demo: receiver")
}

/// The program that sends.
pub fn sender(part: Part) -> anyhow::Result<ExitCode> {
    play(&part, sender::run).context("demo: sender")
}

fn play(part: &Part, program: fn(&Page) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let page = page::open(part.page).context("the shared page (hint: this is a part of `evtchn demo`)")?;
    program(page).map(|()| ExitCode::SUCCESS)
}

fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    let (memory, page) = page::create().context("the shared page")?;
    page.milliseconds.store(u64::from(args.seconds) * 1000, SeqCst);
    let programs = [(RECEIVER, "demo-receiver"), (SENDER, "demo-sender")]
        .map(|(domain, command)| program(domain, command, &page::name(&memory)));
    let config = Config {
        programs: programs.into(),
        vcpus: 1,
        levels: Levels::default(),
        abi: Abi::default(),
        give_up_streams: false,
        prefix: format!("{}evtchn: demo: ", progress::erase()),
    };
    match evtchn_launch::run(&config)? {
        Ending::Exited(0) => {}
        // It has said why, or the user has ended it.
        other => {
            progress::clear();
            other.mirror()
        }
    }
    let report = Report::new(page);
    print(&report, args.json).context("print the result")?;
    verdict(&report)
}

/// This same binary, as another command.
fn program(domain: u32, command: &str, page: &str) -> Program {
    let argv = ["/proc/self/exe", command, "--page", page].map(OsString::from).into();
    Program { domain, argv, virqs: Vec::new() }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut output, report)?;
        writeln!(output)?;
    } else {
        write!(output, "{}", table::Table { report, command: &command() })?;
    }
    Ok(output.flush()?)
}

/// How the user started this binary.
fn command() -> String {
    std::env::args().next().unwrap_or_else(|| "evtchn".into())
}

fn verdict(report: &Report) -> anyhow::Result<ExitCode> {
    match report.complaint() {
        Some(complaint) => bail!(complaint),
        None => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left when one event was sent and arrived.
    fn finished() -> &'static Page {
        let (_, page) = page::create().unwrap();
        page.flood.raise(1);
        page.flood.announce(2);
        page.receiver.store(page::DONE, SeqCst);
        page
    }

    #[test]
    fn a_receiver_that_ends_early_fails_the_demo() {
        let page = finished();
        page.receiver.store(page::RUNNING, SeqCst);
        assert!(verdict(&Report::new(page)).is_err());
        page.receiver.store(page::FAILED, SeqCst);
        assert!(verdict(&Report::new(page)).is_err());
    }

    #[test]
    fn a_lost_event_fails_the_demo() {
        let page = finished();
        assert!(verdict(&Report::new(page)).is_ok());
        page.flood.raise(3);
        let report = Report::new(page);
        assert_eq!((report.lost, report.flood.account.lost), (1, 1));
        assert!(verdict(&report).unwrap_err().to_string().starts_with("1 events were lost"));
    }
}
