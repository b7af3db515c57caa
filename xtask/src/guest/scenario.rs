// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests are started for.

use serde_json::{Value, json};

use crate::machine::Flavour;

/// A start of the VMM.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// Whose Linux the guests have; none for the kernel in Rust of `tests/unikernel`.
    pub kernel: Option<Flavour>,
    /// Options of the VMM.
    pub vmm: &'static str,
    /// More of the kernel's command line: options, and what the guests are to do (see `init.sh`).
    pub linux: &'static str,
    /// What must be in the guests' output.
    pub expected: &'static [&'static str],
    /// Numbers of the first guest's report, which must not be less.
    pub at_least: &'static [(&'static str, u64)],
    /// A recording of a real Xen, whose program the guest runs again.
    pub recording: Option<&'static str>,
    /// The outer machine's clock counts instructions: a nanosecond is one.
    pub counted: bool,
    /// Seconds that it may take: twenty times what it takes on a computer that has nothing else to do.
    pub limit: u32,
}

impl Scenario {
    /// For the list.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "kernel": self.whose(),
            "vmm": self.vmm,
            "command_line": self.linux,
            "expected": self.expected,
            "recording": self.recording,
            "counted": self.counted,
            "limit_s": self.limit,
        })
    }

    /// Whose kernel it has, in small letters.
    pub fn whose(&self) -> String {
        self.kernel.map_or("unikernel".to_owned(), |flavour| format!("{flavour:?}").to_lowercase())
    }
}

const FIFO: &str = "Using FIFO-based ABI";
const TWO_LEVEL: &str = "Using 2-level ABI";
const ROUNDS: &str = "job=rounds,500";
const ROUNDS_2L: &str = "xen.fifo_events=0 job=rounds,500";
const DONE: &str = "rounds: 500 without a loss";

const fn boot(
    name: &'static str,
    kernel: Flavour,
    vmm: &'static str,
    linux: &'static str,
    expected: &'static [&'static str],
) -> Scenario {
    let kernel = Some(kernel);
    Scenario {
        name,
        kernel,
        vmm,
        linux,
        expected,
        at_least: &[],
        recording: None,
        counted: false,
        limit: 300,
    }
}

const fn unikernel(name: &'static str, vmm: &'static str, linux: &'static str) -> Scenario {
    let expected = &["unikernel: passed"];
    Scenario { kernel: None, ..boot(name, Sid, vmm, linux, expected) }
}

use Flavour::{Bookworm, Sid};

/// All of them. The first is what runs if none is named.
pub const ALL: &[Scenario] = &[
    boot("hvm-fifo", Sid, "", ROUNDS, &[FIFO, DONE]),
    boot("hvm-2level", Sid, "", ROUNDS_2L, &[TWO_LEVEL, DONE]),
    boot("hvm-fifo-2cpu", Sid, "--vcpus 2", ROUNDS, &[FIFO, DONE, "processors: 2"]),
    boot("hvm-fifo-vector", Sid, "--vcpu-vector", ROUNDS, &[FIFO, DONE]),
    boot("hvm-fifo-vector-2cpu", Sid, "--vcpu-vector --vcpus 2", ROUNDS, &[FIFO, DONE, "processors: 2"]),
    boot(
        "hvm-2level-vector-2cpu",
        Sid,
        "--vcpu-vector --vcpus 2",
        ROUNDS_2L,
        &[TWO_LEVEL, DONE, "processors: 2"],
    ),
    boot("pvh-fifo", Sid, "--pvh", ROUNDS, &[FIFO, DONE]),
    boot("pvh-2level-2cpu", Sid, "--pvh --vcpus 2", ROUNDS_2L, &[TWO_LEVEL, DONE, "processors: 2"]),
    boot(
        "pvh-fifo-vector-2cpu",
        Sid,
        "--pvh --vcpu-vector --vcpus 2",
        ROUNDS,
        &[FIFO, DONE, "processors: 2"],
    ),
    boot("bookworm-hvm-fifo", Bookworm, "", ROUNDS, &[FIFO, DONE]),
    boot("bookworm-hvm-2level-2cpu", Bookworm, "--vcpus 2", ROUNDS_2L, &[TWO_LEVEL, DONE, "processors: 2"]),
    boot("bookworm-pvh-fifo-vector", Bookworm, "--pvh --vcpu-vector", ROUNDS, &[FIFO, DONE]),
    boot("no-fifo", Sid, "--no-fifo", ROUNDS, &[TWO_LEVEL, DONE]),
    boot("offload-2cpu", Sid, "--no-fifo --offload --vcpus 2", ROUNDS, &[TWO_LEVEL, DONE, "processors: 2"]),
    boot(
        "pair-offload-2cpu",
        Sid,
        "--guests 2 --vcpus 2 --no-fifo --offload",
        "job=pair,1000,--domain,1 job2=pair,1000,--domain,2",
        &["1| answer: 1000 questions, 1000 answers", "2| ask: 1000 questions, 1000 answers"],
    ),
    boot("hvm-fifo-8cpu", Sid, "--vcpus 8 --vcpu-vector", ROUNDS, &[FIFO, DONE, "processors: 8"]),
    boot("costs", Sid, "", "job=costs,3000", &[FIFO, "costs:"]),
    Scenario { counted: true, ..boot("costs-counted", Sid, "", "job=costs,3000", &[FIFO, "costs:"]) },
    Scenario {
        counted: true,
        ..boot("costs-counted-2level", Sid, "", "xen.fifo_events=0 job=costs,3000", &[TWO_LEVEL, "costs:"])
    },
    boot(
        "pair",
        Sid,
        "--guests 2 --vcpu-vector",
        "job=pair,1000,--domain,1 job2=pair,1000,--domain,2",
        &[
            "1| answer: 1000 questions, 1000 answers",
            "2| ask: 1000 questions, 1000 answers",
            "0 of 10 counts differ",
        ],
    ),
    boot(
        "pair-2level",
        Sid,
        "--guests 2 --vcpus 2 --vcpu-vector",
        "xen.fifo_events=0 job=pair,500,--domain,1 job2=pair,500,--domain,2",
        &["1| answer: 500 questions, 500 answers", "2| ask: 500 questions, 500 answers"],
    ),
    boot(
        "killed-peer",
        Sid,
        "--guests 2 --vcpu-vector",
        "job=pair,200,--kill,--domain,1 job2=pair,200,--kill,--domain,2",
        &["1| answer: the peer is gone", "is unbound, for domain 2"],
    ),
    Scenario {
        at_least: &[("snapshots", 10)],
        ..boot(
            "snapshots",
            Sid,
            "--guests 2",
            "job=pair,600,--domain,1 job2=pair,600,--snapshots,10,--domain,2",
            &["1| answer: 600 questions, 600 answers", "2| ask: 600 questions, 600 answers"],
        )
    },
    boot(
        "killed-peer-offload",
        Sid,
        "--guests 2 --no-fifo --offload",
        "job=pair,200,--kill,--domain,1 job2=pair,200,--kill,--domain,2",
        &["1| answer: the peer is gone", "is unbound, for domain 2"],
    ),
    Scenario {
        at_least: &[("snapshots", 10), ("offloaded", 20)],
        ..boot(
            "snapshots-offload",
            Sid,
            "--guests 2 --no-fifo --offload",
            "job=pair,600,--domain,1 job2=pair,600,--snapshots,10,--domain,2",
            &["1| answer: 600 questions, 600 answers", "2| ask: 600 questions, 600 answers"],
        )
    },
    boot(
        "hostile",
        Sid,
        "--guests 2 --vcpu-vector",
        "job=rounds,1000 job2=hostile,3000,--seed,7",
        &["1| rounds: 1000 without a loss", "2| hostile: 3000 hypercalls"],
    ),
    Scenario {
        limit: 600,
        ..boot(
            "hostile-all",
            Sid,
            "--guests 2 --main 1 --vcpu-vector",
            "job=rounds,5000 job2=hostile,1000000,--all,--seed,3",
            &["1| rounds: 5000 without a loss"],
        )
    },
    Scenario {
        limit: 1200,
        ..boot("events", Sid, "--vcpu-vector", "job=rounds,100000", &[FIFO, "rounds: 100000 without a loss"])
    },
    unikernel("unikernel", "--pvh --memory 64", "no-polls"),
    unikernel("unikernel-ports", "--pvh --memory 64 --ports --vcpu-vector", "no-instruction vcpu-vector"),
    // Level 4.17: that is the release of the recording that the engine has a level for.
    Scenario {
        recording: Some("xen4.17.7_linux6.1.192_domu.hyper-fixed"),
        ..boot(
            "recorder-hypercalls",
            Bookworm,
            "--vcpus 2 --vcpu-vector --xen-4-17",
            "job=record,hyper-fixed,0",
            &[FIFO],
        )
    },
    Scenario {
        recording: Some("xen4.17.7_linux6.1.192_domu.dev-fixed"),
        limit: 600,
        ..boot(
            "recorder-device",
            Bookworm,
            "--vcpus 2 --vcpu-vector --xen-4-17",
            "job=record,dev-fixed,80000",
            &[FIFO],
        )
    },
];
