// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask xen`: a program on a real Xen, or on Linux alone, in an emulated machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::{Flavour, Hung, Kernel, Machine, System};

/// The status when the machine did not finish in time or stopped, as `timeout` has it.
const HUNG: u8 = 124;
/// The status when there was no machine to run anything in.
const FAILED: u8 = 125;

/// Runs a program in an emulated machine with a real Xen, made from Debian packages; needs no root and no KVM.
///
/// The program runs in domain 0, in the folder /t. If COMMAND is a path, that file is brought along, with the shared libraries
/// that it needs; otherwise it is one of the machine's own commands (busybox). What it leaves in the folder $OUT comes back.
/// The status is the program's; 124 if the machine did not finish, 125 if there is none.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which Debian the machine is made from
    #[arg(long, value_enum, default_value_t)]
    flavour: Flavour,
    /// Linux without Xen
    #[arg(long, conflicts_with = "domu")]
    plain: bool,
    /// In an unprivileged PV domain; the output comes at its end
    #[arg(long)]
    domu: bool,
    /// Processors of the machine and of the domain
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Memory of the machine; domain 0 gets all but 800 of it
    #[arg(long, value_name = "MIB", default_value_t = 1400)]
    memory: u32,
    /// QEMU's CPU model with its flags
    #[arg(long, value_name = "MODEL")]
    cpu_model: Option<String>,
    /// Another kernel: a folder in which the packages of one are unpacked
    #[arg(long, value_name = "ROOT")]
    kernel: Option<PathBuf>,
    /// More of Linux's command line, such as xen.fifo_events=0
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    linux_args: Option<String>,
    /// More of Xen's command line
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    xen_args: Option<String>,
    /// A module of Debian's kernel to load, with what it depends on
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// Without Linux's drivers behind /dev/xen and /proc/xen
    #[arg(long)]
    no_drivers: bool,
    /// Bring Xen's own programs into domain 0 (xl, xenstored, lsevtchn and others)
    #[arg(long)]
    toolstack: bool,
    /// A file to bring into /t, or a folder whose contents land there; behind a colon another place
    #[arg(long, value_name = "PATH[:PLACE]")]
    with: Vec<String>,
    /// Where results go: the console, the kernel's messages and what the program left in $OUT
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seconds that the machine may run
    #[arg(long, value_name = "S", default_value_t = 300)]
    timeout: u64,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the command and answers with the program's status.
///
/// # Errors
/// None: what goes wrong with the machine is told here and becomes a status.
pub fn run(args: &Args) -> Result<ExitCode> {
    let outcome = machine(args)
        .and_then(|(machine, command)| machine.run(&command.iter().map(String::as_str).collect::<Vec<_>>()));
    match outcome {
        Ok(outcome) => {
            if let signal @ 1..=64 = outcome.status - 128 {
                eprintln!("xen: status {}: the program was killed by signal {signal}", outcome.status);
            }
            Ok(ExitCode::from(u8::try_from(outcome.status).unwrap_or(u8::MAX)))
        }
        Err(error) => {
            eprintln!("xen: {error:#}");
            Ok(ExitCode::from(if error.is::<Hung>() { HUNG } else { FAILED }))
        }
    }
}

/// The machine that is asked for, and the command as it is called there.
fn machine(args: &Args) -> Result<(Machine, Vec<String>)> {
    let system = match args {
        Args { plain: true, .. } => System::Plain,
        Args { domu: true, .. } => System::DomU,
        _ => System::Dom0,
    };
    let mut machine = Machine::new(args.flavour, system).cpus(args.cpus).memory(args.memory);
    machine = machine.limit(Duration::from_secs(args.timeout));
    if let Some(root) = &args.kernel {
        machine = machine.kernel(Kernel::of(root)?);
    }
    machine = args.cpu_model.iter().fold(machine, |machine, model| machine.cpu_model(model));
    machine = if args.no_drivers { machine.drivers(&[]) } else { machine };
    machine = args.linux_args.iter().fold(machine, |machine, args| machine.kernel_args(args));
    machine = args.xen_args.iter().fold(machine, |machine, args| machine.xen_args(args));
    machine = args.module.iter().fold(machine, |machine, name| machine.module(name));
    machine = args.out.iter().fold(machine, Machine::out);
    machine = if args.toolstack { machine.toolstack() } else { machine };
    machine = args.with.iter().try_fold(machine, |machine, given| bring(machine, given))?;
    let mut command = args.command.clone();
    if let Some(program) =
        command.first_mut().filter(|program| program.contains('/') && Path::new(program).is_file())
    {
        let there = format!("/t/{}", name(Path::new(&*program))?);
        machine = machine.file(&*program, &there);
        *program = there;
    }
    Ok((machine, command))
}

/// Adds `PATH` or `PATH:PLACE`.
fn bring(machine: Machine, given: &str) -> Result<Machine> {
    let (here, place) = given.split_once(':').map_or((given, None), |(here, place)| (here, Some(place)));
    let here = Path::new(here);
    let folder = here.metadata().with_context(|| format!("cannot read {}", here.display()))?.is_dir();
    Ok(match place {
        Some(place) if folder => machine.folder(here, place),
        Some(place) => machine.file(here, place),
        None if folder => machine.folder(here, "/t"),
        None => machine.file(here, &format!("/t/{}", name(here)?)),
    })
}

fn name(path: &Path) -> Result<String> {
    let name = path.file_name().with_context(|| format!("{}: no name of a file", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}
