// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's own programs and library, unmodified.

use std::fs;
use std::path::Path;

use evtchn_programs_tests::{Launch, Packages, Scratch, Source};

const HEADER: &str = "usr/include/xenevtchn.h";
const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libxenevtchn.so.1";
const LSEVTCHN: &str = "usr/lib/xen-4.17/bin/lsevtchn";
const XENSTORED: &str = "usr/lib/xen-4.17/bin/xenstored";
const XENSTORE: &str = "usr/bin/xenstore-read";

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).to_string_lossy().into_owned()
}

#[test]
fn all_twelve_library_calls_work_between_two_domains() {
    twelve_calls("2", "1");
}

#[test]
fn all_twelve_library_calls_work_within_one_domain() {
    twelve_calls("0", "0");
}

/// The conversation of the two programs, in these domains.
fn twelve_calls(client_domain: &str, server_domain: &str) {
    let Some(packages) = Packages::with(&[HEADER, LIBRARY]) else {
        return;
    };
    let scratch = Scratch::new();
    let Some(server) = Source::new("twelve_server").with_libxenevtchn(&packages).compile(&scratch) else {
        return;
    };
    let Some(client) = Source::new("twelve_client").with_libxenevtchn(&packages).compile(&scratch) else {
        return;
    };
    let dir = scratch.arg();
    let client = ["--domain", client_domain, "--", &client, &dir, server_domain];
    let server = ["--domain", server_domain, "--", &server, &dir, client_domain];
    let both = [&client[..], &["--and"], &server].concat();
    let finished = Launch::new(both).succeed();
    assert!(
        finished.stdout.contains("server done\n") && finished.stdout.contains("client done\n"),
        "{finished}"
    );
}

#[test]
fn the_library_prints_what_it_printed_on_real_xen() {
    let Some(packages) = Packages::with(&[HEADER, LIBRARY]) else {
        return;
    };
    let scratch = Scratch::new();
    let Some(sample) = Source::new("libxenevtchn_sample").with_libxenevtchn(&packages).compile(&scratch)
    else {
        return;
    };
    let finished = Launch::new(["--domain", "0", "--vcpus", "2", "--", &sample]).succeed();
    let recorded = fs::read_to_string(file("recordings/libxenevtchn.txt")).expect("the recording is there");
    assert_eq!(with_symbolic_ports(&finished.stdout), with_symbolic_ports(&recorded));
}

/// Positive results become `p0`, `p1`, ... in the order of their first appearance.
fn with_symbolic_ports(text: &str) -> String {
    let mut ports: Vec<u32> = Vec::new();
    let line = |line: &str| match line.rsplit_once(" -> ").map(|(call, result)| (call, result.parse::<u32>()))
    {
        Some((call, Ok(port @ 1..))) => {
            let known = ports.iter().position(|known| *known == port);
            let number = known.unwrap_or_else(|| {
                ports.push(port);
                ports.len() - 1
            });
            format!("{call} -> p{number}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// One line of lsevtchn: a port, its vcpu, what it is.
fn listed(line: &str) -> Option<(u32, &str)> {
    let (port, rest) = line.split_once(": VCPU ")?;
    let (_vcpu, kind) = rest.split_once(": ")?;
    Some((port.trim_start().parse().ok()?, kind))
}

#[test]
fn lsevtchn_lists_the_kernels_own_ports() {
    let Some(packages) = Packages::with(&[LSEVTCHN, LIBRARY]) else {
        return;
    };
    let finished =
        Launch::new(["--domain", "0", "--", "env", &packages.library_path(), &packages.arg(LSEVTCHN)])
            .succeed();
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert!(lines.iter().all(|line| listed(line).is_some()), "{finished}");
    assert!(
        lines.iter().any(|line| listed(line).is_some_and(|(_, kind)| kind == "Virtual IRQ 0")),
        "{finished}"
    );
}

#[test]
fn lsevtchn_lists_the_ports_of_another_program_of_its_domain() {
    let Some(packages) = Packages::with(&[LSEVTCHN, LIBRARY]) else {
        return;
    };
    let scratch = Scratch::new();
    let Some(hold) = Source::new("hold").compile(&scratch) else {
        return;
    };
    let script = "until [ -e \"$0/ready\" ]; do sleep 0.01; done; env \"$1\" \"$2\"; status=$?; : >\"$0/done.new\"; \
                  echo 1 >\"$0/done.new\"; mv \"$0/done.new\" \"$0/done\"; exit $status";
    let (dir, libraries, lsevtchn) = (scratch.arg(), packages.library_path(), packages.arg(LSEVTCHN));
    let finished =
        Launch::new(["--", &hold, &dir, "--and", "--", "sh", "-c", script, &dir, &libraries, &lsevtchn])
            .succeed();
    let port = |name: &str| scratch.read(name).parse::<u32>().expect("the program left its port");
    let (listener, caller) = (port("listener"), port("caller"));
    for (port, kind) in [
        (port("waiting"), "Interdomain (Waiting connection) - Remote Domain 5".to_owned()),
        (listener, format!("Interdomain (Connected) - Remote Domain 0, Port {caller}")),
        (caller, format!("Interdomain (Connected) - Remote Domain 0, Port {listener}")),
        (port("virq"), "Virtual IRQ 8".to_owned()),
    ] {
        assert!(
            finished.stdout.lines().any(|line| listed(line) == Some((port, &kind))),
            "{port} {kind} in {finished}"
        );
    }
}

/// `xenstored` with its folders in `scratch`, and the script that speaks with it.
struct Store {
    scratch: Scratch,
    packages: Packages,
}

impl Store {
    fn new() -> Option<Self> {
        let packages = Packages::with(&[XENSTORED, XENSTORE, LIBRARY])?;
        Some(Self { scratch: Scratch::new(), packages })
    }

    /// `env ... PROGRAM ARGS` with what xenstored and its clients need.
    fn with_environment(&self, program: &[&str]) -> Vec<String> {
        let dir = self.scratch.arg();
        let names = ["XENSTORED_RUNDIR", "XENSTORED_ROOTDIR"].map(|name| format!("{name}={dir}"));
        let socket = format!("XENSTORED_PATH={dir}/socket");
        let environment =
            ["env".to_owned(), self.packages.library_path()].into_iter().chain(names).chain([socket]);
        environment.chain(program.iter().map(ToString::to_string)).collect()
    }

    fn daemon(&self, options: &[&str]) -> Vec<String> {
        let (program, pid_file) = (self.packages.arg(XENSTORED), format!("{}/pid", self.scratch.arg()));
        self.with_environment(&[&[program.as_str(), "--pid-file", &pid_file], options].concat())
    }

    fn clients(&self) -> Vec<String> {
        let bin = self.packages.arg("usr/bin");
        self.with_environment(&["sh", &file("scripts/xenstore.sh"), &self.scratch.arg(), &bin])
    }
}

const CONVERSATION: &str = "one\ntwo\na = \"one\"\nb = \"two\"\nremoved\n";

#[test]
fn xenstored_serves_clients_of_a_second_program() {
    let Some(store) = Store::new() else { return };
    let mut args = vec!["--".to_owned()];
    args.extend(store.daemon(&["-N"]));
    args.extend(["--and".to_owned(), "--".to_owned()]);
    args.extend(store.clients());
    let finished = Launch::new(args).succeed();
    assert_eq!(finished.stdout, CONVERSATION, "{finished}");
}

#[test]
fn xenstored_serves_clients_after_it_has_become_a_daemon() {
    let Some(store) = Store::new() else { return };
    let both = ["\"$@\"; daemon=$?; [ $daemon = 0 ] || exit $daemon", &quoted(&store.clients())].join("\n");
    let mut args = ["--", "sh", "-c", &both, "sh"].map(str::to_owned).to_vec();
    args.extend(store.daemon(&[]));
    let finished = Launch::new(args).succeed();
    assert_eq!(finished.stdout, CONVERSATION, "{finished}");
}

/// A command line of the shell. No word has a quote in it.
fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
}
