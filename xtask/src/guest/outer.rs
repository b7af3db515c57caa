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
const MARGIN: u32 = 90;
/// Its memory in MiB: two guests, and the kernels.
const MEMORY: u32 = 2048;

/// What the VMM needs, on this machine.
pub struct Parts {
    pub vmm: PathBuf,
    pub probe: PathBuf,
    pub recorder: PathBuf,
    /// Where kernels and initramfs are made.
    pub folder: PathBuf,
}

/// Can the VMM run on this very machine?
pub fn runs_here(parts: &Parts) -> bool {
    let check = Command::new(&parts.vmm).arg("--check").stdout(Stdio::null()).stderr(Stdio::null()).status();
    check.is_ok_and(|status| status.success())
}

/// Runs scenarios one after the other; what they left is in `out`.
///
/// # Errors
/// A file cannot be made, or the machine did not finish; what was done before that is lost.
pub fn run(parts: &Parts, scenarios: &[Scenario], out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let counted = scenarios.iter().any(|scenario| scenario.counted);
    // Only the emulated machine's clock counts.
    let here = !counted && runs_here(parts);
    let files = files(parts, scenarios)?;
    if here {
        let script = script(scenarios, &parts.vmm.to_string_lossy(), &parts.folder.to_string_lossy(), "");
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", &script]).env("OUT", out).status();
        status.context("cannot start sh")?;
        return Ok(());
    }
    let limit = MARGIN + scenarios.iter().map(|scenario| scenario.limit).sum::<u32>();
    // One CPU: with more, patching its own code under emulation stops Linux now and then.
    let mut machine = Machine::new(Flavour::Sid, System::Plain).cpus(1).memory(MEMORY).nested();
    if counted {
        machine = machine.counted();
    }
    machine = machine.limit(Duration::from_secs(limit.into())).out(out).file(&parts.vmm, "/t/evtchn-vmm");
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        machine = machine.file(file, &format!("/t/{name}"));
    }
    let script = script(scenarios, "./evtchn-vmm", "/t", "--no-xsave");
    machine.run(&["sh", "-c", &script]).map(drop)
}

/// The kernels and initramfs that are needed.
fn files(parts: &Parts, scenarios: &[Scenario]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for flavour in [Flavour::Sid, Flavour::Bookworm] {
        let of_it = || scenarios.iter().filter(|scenario| scenario.kernel == flavour);
        if of_it().next().is_none() {
            continue;
        }
        let kernel = Kernel::of(&flavour.root()?)?;
        let name = |what: &str| parts.folder.join(format!("{what}-{flavour:?}").to_lowercase());
        if of_it().any(|scenario| !is_pvh(scenario)) {
            fs::copy(&kernel.image, name("bzimage"))?;
            files.push(name("bzimage"));
        }
        if of_it().any(is_pvh) {
            if !name("elf").exists() {
                progress::line(&format!("unpacking {}", kernel.image.display()));
                fs::write(name("elf"), kernel.uncompressed()?)?;
                progress::line("");
            }
            files.push(name("elf"));
        }
        let programs = initramfs::Programs { probe: &parts.probe, recorder: &parts.recorder };
        initramfs::write(flavour, &programs, &name("initramfs"))?;
        files.push(name("initramfs"));
    }
    Ok(files)
}

fn is_pvh(scenario: &Scenario) -> bool {
    scenario.vmm.contains("--pvh")
}

/// Each scenario leaves its output, its complaints, its status, and the VMM's report in `$OUT`.
fn script(scenarios: &[Scenario], vmm: &str, folder: &str, usual: &str) -> String {
    let line = |scenario: &Scenario| {
        let Scenario { name, vmm: options, linux, limit, .. } = scenario;
        let kernel = if is_pvh(scenario) { "elf" } else { "bzimage" };
        let flavour = format!("{:?}", scenario.kernel).to_lowercase();
        format!(
            "{vmm} {usual} --kernel {folder}/{kernel}-{flavour} --initramfs {folder}/initramfs-{flavour} \
             --timeout {limit} --report $OUT/{name}.json --output $OUT/{name}.out {options} --append '{linux}' \
             >$OUT/{name}.console 2>$OUT/{name}.stderr\n\
             echo $? >$OUT/{name}.status\n\
             echo \"{name}: status $(cat $OUT/{name}.status)\"\n\
             grep -h -E '^([0-9][|] )?(xen:events|processors|rounds|costs|answer|ask|hostile|guest-probe):' $OUT/{name}.console\n\
             [ $(cat $OUT/{name}.status) = 0 ] || tail -n 5 $OUT/{name}.console $OUT/{name}.stderr\n"
        )
    };
    scenarios.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::scenario::ALL;

    #[test]
    fn each_scenario_is_a_command_with_its_kernel_and_its_job() {
        for scenario in ALL {
            let script = script(&[*scenario], "./vmm", "/t", "--no-xsave");
            let kernel = if is_pvh(scenario) { "/t/elf-" } else { "/t/bzimage-" };
            assert!(script.starts_with(&format!("./vmm --no-xsave --kernel {kernel}")), "{script}");
            assert!(script.contains(&format!("--append '{}'", scenario.linux)));
            assert!(scenario.linux.contains("job="), "{}", scenario.name);
            assert!(!scenario.expected.is_empty(), "{}", scenario.name);
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
