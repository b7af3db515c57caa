// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the VMM runs: in an emulated machine whose Linux has a KVM that emulates nothing, or right here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::initramfs;
use super::scenario::Scenario;
use crate::machine::{Flavour, Kernel, Machine, System};
use crate::progress;

/// The outer machine's start and end, on a busy computer.
const MARGIN: Duration = Duration::from_secs(90);
/// Its memory in MiB: two guests, and the kernels.
const MEMORY: u32 = 2048;

/// What the VMM needs, on this machine.
pub struct Parts {
    pub vmm: PathBuf,
    pub probe: PathBuf,
    pub recorder: PathBuf,
    pub unikernel: PathBuf,
    /// Where kernels and initramfs are made.
    pub folder: PathBuf,
}

/// Can the VMM run on this very machine?
pub fn runs_here(parts: &Parts) -> bool {
    let check = Command::new(&parts.vmm).arg("--check").stdout(Stdio::null()).stderr(Stdio::null()).status();
    check.is_ok_and(|status| status.success())
}

/// Runs a scenario; what it left is in `out`.
///
/// # Errors
/// A file cannot be made; [`Hung`](crate::machine::Hung) if the machine did not finish.
pub fn run(parts: &Parts, scenario: &Scenario, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let files = files(parts, scenario)?;
    // Only the emulated machine's clock counts instructions.
    if !scenario.counted && runs_here(parts) {
        let script = script(scenario, &parts.vmm.to_string_lossy(), &parts.folder.to_string_lossy(), "");
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", &script]).env("OUT", out).status();
        status.context("cannot start sh")?;
        return Ok(());
    }
    // One CPU: with more, patching its own code under emulation stops Linux now and then.
    let mut machine = Machine::new(Flavour::Sid, System::Plain).cpus(1).memory(MEMORY).nested().out(out);
    machine = machine.limit(MARGIN + Duration::from_secs(scenario.limit.into()));
    if scenario.counted {
        machine = machine.counted();
    }
    machine = machine.file(&parts.vmm, "/t/evtchn-vmm");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        machine = machine.file(file, &format!("/t/{name}"));
    }
    let script = script(scenario, "./evtchn-vmm", "/t", "--no-xsave");
    machine.run(&["sh", "-c", &script]).map(drop)
}

/// The kernel, and the initramfs that goes with it.
fn files(parts: &Parts, scenario: &Scenario) -> Result<Vec<PathBuf>> {
    let image = parts.folder.join(image(scenario));
    let Some(flavour) = scenario.kernel else {
        fs::copy(&parts.unikernel, &image)?;
        return Ok(vec![image]);
    };
    let kernel = Kernel::of(&flavour.root()?)?;
    if !is_pvh(scenario) {
        fs::copy(&kernel.image, &image)?;
    } else if !image.exists() {
        progress::line(&format!("unpacking {}", kernel.image.display()));
        fs::write(&image, kernel.uncompressed()?)?;
        progress::line("");
    }
    let programs = initramfs::Programs { probe: &parts.probe, recorder: &parts.recorder };
    let initramfs = parts.folder.join(initramfs_of(scenario));
    initramfs::write(flavour, &programs, &initramfs)?;
    Ok(vec![image, initramfs])
}

/// The names of these files.
fn image(scenario: &Scenario) -> String {
    format!("{}-{}", if is_pvh(scenario) { "elf" } else { "bzimage" }, scenario.whose())
}

fn initramfs_of(scenario: &Scenario) -> String {
    format!("initramfs-{}", scenario.whose())
}

fn is_pvh(scenario: &Scenario) -> bool {
    scenario.vmm.contains("--pvh")
}

/// A scenario leaves its output, its complaints, its status, and the VMM's report in `$OUT`.
fn script(scenario: &Scenario, vmm: &str, folder: &str, usual: &str) -> String {
    let Scenario { name, vmm: options, linux, limit, .. } = scenario;
    let image = image(scenario);
    // The unikernel has no other console than the one by hypercalls.
    let with = match scenario.kernel {
        Some(_) => format!("--initramfs {folder}/{} --output $OUT/{name}.out", initramfs_of(scenario)),
        None => String::new(),
    };
    format!(
        "{vmm} {usual} --kernel {folder}/{image} {with} \
         --timeout {limit} --report $OUT/{name}.json {options} --append '{linux}' \
         >$OUT/{name}.console 2>$OUT/{name}.stderr\n\
         echo $? >$OUT/{name}.status\n\
         echo \"{name}: status $(cat $OUT/{name}.status)\"\n\
         grep -h -E '^([0-9][|] )?(xen:events|processors|rounds|costs|answer|ask|hostile|guest-probe):' $OUT/{name}.console | tr -d '\\r'\n\
         [ $(cat $OUT/{name}.status) = 0 ] || tail -n 5 $OUT/{name}.console $OUT/{name}.stderr\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::scenario::ALL;

    #[test]
    fn each_scenario_is_a_command_with_its_kernel_and_its_job() {
        for scenario in ALL {
            assert!(!scenario.expected.is_empty(), "{}", scenario.name);
            let script = script(scenario, "./vmm", "/t", "--no-xsave");
            let kernel = if is_pvh(scenario) { "/t/elf-" } else { "/t/bzimage-" };
            assert!(script.starts_with(&format!("./vmm --no-xsave --kernel {kernel}")), "{script}");
            assert!(script.contains(&format!("--append '{}'", scenario.linux)));
            assert_eq!(scenario.linux.contains("job="), scenario.kernel.is_some(), "{}", scenario.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
