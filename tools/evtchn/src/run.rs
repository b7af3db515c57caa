// SPDX-License-Identifier: MIT OR Apache-2.0
//! `evtchn run`.

mod usage;

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use evtchn_abi::virq::NR_VIRQS;
use evtchn_abi::{DomId, Virq};
use evtchn_launch::{Abi, Config, Ending, Levels, LinuxLevel, PeriodicVirq, Program, XenLevel};

use usage::{AND, Place};

use crate::number;

/// The highest id that a domain can have.
const LAST_DOMAIN: u32 = DomId::FIRST_RESERVED.0 as u32 - 1;

const MORE: &str = "\
Several programs:
  Options before the first program: all of the above. After --and: --domain and
  --virq, which belong to one program.

  A program whose name begins with - comes after --. The word --and always
  begins another program; one that wants it as an argument goes into a script:
  sh -c './program --and'.

Examples:
  evtchn run ./program --its-option
      one program, in domain 0
  evtchn run --domain 1 ./server --and --domain 2 ./client
      two programs in two domains; ./client is in the foreground
  evtchn run --virq 3@500 xenstored -N
      with VIRQ_DOM_EXC twice a second

Exit status:
  That of the last program, or its signal; 127 if a program is not found, 126
  if it cannot be executed, 1 if it cannot be run for another reason, 2 for
  wrong usage.

Signals:
  SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to the programs. So are
  SIGINT and SIGQUIT that a process sends to evtchn; those of the terminal
  reach the programs by themselves. When only daemons are left, SIGINT and
  SIGQUIT end them. If evtchn is killed, so are the programs.";

/// Runs programs with a working /dev/xen/evtchn.
///
/// Each program runs unmodified in a domain of a machine that lives as long as they do. Several programs are separated by `--and`; the
/// last one is in the foreground: its exit status is the command's, and when it ends the others get SIGTERM, and SIGKILL 5 seconds later.
#[derive(clap::Args)]
#[command(after_long_help = MORE)]
#[command(override_usage = "\
evtchn run [OPTIONS] [--] PROGRAM [ARGS]...
                  [--and [--domain N] [--virq N@MS] [--] PROGRAM [ARGS]...]...")]
pub struct Args {
    /// Answer like this release of Xen (`current`: the latest, 4.21).
    #[arg(long, value_enum, default_value = "4.17")]
    xen: Xen,
    /// Answer like the driver of this release of Linux (7.2 has BIND_STATIC).
    #[arg(long, value_enum, default_value = "6.1")]
    linux: Linux,
    /// How events come to the domains' kernels: fifo has 131,072 ports, two-level 4,096 (programs in domain 0 can see that).
    #[arg(long, value_enum, default_value_t)]
    abi: EventAbi,
    /// How many vCPUs each domain has, 1 to 32.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number::within(1..=32))]
    vcpus: u32,
    #[command(flatten)]
    program: ProgramArgs,
}

/// A program after `--and`.
#[derive(Parser)]
#[command(name = "evtchn run ... --and", no_binary_name = true)]
struct Further {
    #[command(flatten)]
    program: ProgramArgs,
}

#[derive(clap::Args)]
struct ProgramArgs {
    /// The domain that the program runs in, 0 to 32751. Domain 0 is privileged. Several programs may share a domain; one after `--and` is in
    /// domain 0, too, unless it says otherwise.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::within(0..=LAST_DOMAIN))]
    domain: u32,
    /// Raise the virtual interrupt N, 0 to 23, in the program's domain every MS milliseconds. May be given several times. Already taken by
    /// the domain's kernel: 0; with `--abi two-level` also 1; in domain 0 also 2, 9 and 16.
    #[arg(long = "virq", value_name = "N@MS", value_parser = periodic_virq)]
    virqs: Vec<PeriodicVirq>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Xen {
    #[value(name = "4.17")]
    V4_17,
    Current,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum EventAbi {
    /// As Linux has by default.
    #[default]
    Fifo,
    /// As Linux booted with `xen.fifo_events=0`.
    TwoLevel,
}

#[derive(Clone, Copy, ValueEnum)]
enum Linux {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "7.2")]
    V7_2,
}

/// Runs the programs and tells how the foreground one ended.
pub fn run(args: Args) -> anyhow::Result<Ending> {
    let levels = Levels {
        xen: match args.xen {
            Xen::V4_17 => XenLevel::Xen4_17,
            Xen::Current => XenLevel::Current,
        },
        linux: match args.linux {
            Linux::V6_1 => LinuxLevel::Linux6_1,
            Linux::V7_2 => LinuxLevel::Linux7_2,
        },
    };
    let abi = match args.abi {
        EventAbi::Fifo => Abi::Fifo,
        EventAbi::TwoLevel => Abi::TwoLevel,
    };
    let config = Config {
        programs: programs(args.program),
        vcpus: args.vcpus,
        levels,
        abi,
        give_up_streams: true,
        prefix: "evtchn: run: ".into(),
    };
    evtchn_launch::run(&config).context("run")
}

/// Ends the command for wrong usage that the parser found in its words.
pub fn refuse(error: &clap::Error) -> ! {
    usage::refuse(error, Place::First)
}

/// The first program, and those after each `--and`. A mistake there ends the command with its usage.
fn programs(first: ProgramArgs) -> Vec<Program> {
    let ProgramArgs { domain, virqs, command } = first;
    let mut groups = command.split(|word| word == AND).map(<[OsString]>::to_vec);
    let argv = groups.next().unwrap_or_default();
    if argv.is_empty() {
        usage::nothing_before_and();
    }
    let further = groups.map(|group| {
        let parsed = Further::try_parse_from(group);
        let Further { program } = parsed.unwrap_or_else(|error| usage::refuse(&error, Place::Further));
        Program { domain: program.domain, argv: program.command, virqs: program.virqs }
    });
    std::iter::once(Program { domain, argv, virqs }).chain(further).collect()
}

fn periodic_virq(text: &str) -> Result<PeriodicVirq, String> {
    let (virq, milliseconds) = text.split_once('@').ok_or("the form is N@MS, for example 3@500")?;
    let virq = match virq.parse() {
        Ok(number @ 0..NR_VIRQS) => Virq(number),
        _ => return Err(format!("{virq} is not a virtual interrupt: they go from 0 to {}", NR_VIRQS - 1)),
    };
    let every = match milliseconds.parse() {
        Ok(milliseconds @ 1..) => Duration::from_millis(milliseconds),
        _ => return Err(format!("{milliseconds}: the number of milliseconds is at least 1")),
    };
    Ok(PeriodicVirq { virq, every })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Whole {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Vec<Program> {
        programs(Whole::parse_from([&["run"], words].concat()).args.program)
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut command = <Whole as clap::CommandFactory>::command().term_width(80);
        let help = command.render_long_help().to_string();
        let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(help.contains("Signals:") && wide.is_empty(), "{wide:?}");
    }

    #[test]
    fn programs_are_separated_by_and() {
        let parsed =
            parse(&["--domain", "1", "--", "a", "--x", "--and", "--domain", "2", "b", "--domain", "3"]);
        assert_eq!(parsed.len(), 2);
        assert_eq!((parsed[0].domain, &parsed[0].argv[..]), (1, &["a".into(), "--x".into()][..]));
        assert_eq!((parsed[1].domain, parsed[1].argv.len()), (2, 3));
    }

    #[test]
    fn a_virq_has_a_number_and_a_period() {
        assert_eq!(
            periodic_virq("3@500"),
            Ok(PeriodicVirq { virq: Virq(3), every: Duration::from_millis(500) })
        );
        assert!(
            periodic_virq("3").is_err()
                && periodic_virq("3@0").is_err()
                && periodic_virq("x@1").is_err()
                && periodic_virq("3@x").is_err()
        );
    }
}
