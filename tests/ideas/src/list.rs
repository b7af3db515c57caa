// SPDX-License-Identifier: MIT OR Apache-2.0
//! The complete list of ids, and the rows that are not tested, with the reason.

/// The groups and how many rows each has.
const GROUPS: [(&str, u32); 25] = [
    ("AU", 26),
    ("BI", 24),
    ("BV", 22),
    ("IP", 6),
    ("PQ", 15),
    ("CL", 17),
    ("SE", 18),
    ("ST", 13),
    ("VC", 12),
    ("UM", 15),
    ("RS", 21),
    ("IC", 19),
    ("EA", 13),
    ("SP", 10),
    ("DC", 10),
    ("L2", 12),
    ("FF", 21),
    ("FH", 12),
    ("PO", 16),
    ("UP", 17),
    ("VQ", 6),
    ("XC", 7),
    ("SC", 4),
    ("TD", 9),
    ("CC", 6),
];

/// The ids of all rows, in the order of the table.
pub fn ids() -> impl Iterator<Item = String> {
    GROUPS.into_iter().flat_map(|(group, rows)| (1..=rows).map(move |row| format!("{group}-{row:02}")))
}

/// A row that waits for a feature of the engine.
#[derive(Debug)]
pub struct Awaited {
    /// The row.
    pub id: &'static str,
    /// What the engine must have before it can be tested.
    pub feature: &'static str,
}

const fn awaited(id: &'static str, feature: &'static str) -> Awaited {
    Awaited { id, feature }
}

const VCPU_INFO: &str = "register_vcpu_info";
const UPCALLS: &str = "upcall kinds: vectors, GSI, INTx";
const STATIC: &str = "static channels";
const TEARDOWN: &str = "teardown with continuation, which shows a domain that is dying";
const SUSPEND: &str = "suspend ports";

/// The rows that wait.
pub const AWAITED: &[Awaited] = &[
    awaited("AU-17", TEARDOWN),
    awaited("BI-19", TEARDOWN),
    awaited("UP-03", UPCALLS),
    awaited("UP-04", UPCALLS),
    awaited("UP-05", UPCALLS),
    awaited("UP-06", UPCALLS),
    awaited("UP-07", UPCALLS),
    awaited("UP-08", UPCALLS),
    awaited("UP-09", UPCALLS),
    awaited("UP-10", UPCALLS),
    awaited("UP-11", UPCALLS),
    awaited("UP-12", VCPU_INFO),
    awaited("UP-13", VCPU_INFO),
    awaited("UP-14", VCPU_INFO),
    awaited("UP-15", VCPU_INFO),
    awaited("UP-16", VCPU_INFO),
    awaited("SC-01", STATIC),
    awaited("SC-02", STATIC),
    awaited("SC-03", STATIC),
    awaited("SC-04", STATIC),
    awaited("TD-02", TEARDOWN),
    awaited("TD-08", SUSPEND),
];

/// A row that says nothing about this engine.
#[derive(Debug)]
pub struct NotApplicable {
    /// The row.
    pub id: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// The rows that do not apply.
pub const NOT_APPLICABLE: &[NotApplicable] = &[
    NotApplicable { id: "BV-20", reason: "the engine keeps no bitmap of domain states for VIRQ_DOM_EXC" },
    NotApplicable {
        id: "PQ-14",
        reason: "there is no build without PIRQs; a domain without any has EINVAL (PQ-02)",
    },
    NotApplicable {
        id: "RS-20",
        reason: "soft_reset is a domctl of the toolstack; a reset of a domain that runs is RS-05",
    },
];
