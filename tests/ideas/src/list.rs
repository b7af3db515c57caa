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
    /// What it is about.
    pub what: &'static str,
    /// What the engine must have before it can be tested.
    pub feature: &'static str,
}

const fn awaited(id: &'static str, what: &'static str, feature: &'static str) -> Awaited {
    Awaited { id, what, feature }
}

const VCPU_INFO: &str = "register_vcpu_info";
const UPCALLS: &str = "upcall kinds: vectors, GSI, INTx";
const STATIC: &str = "static channels";
const TEARDOWN: &str = "teardown with continuation";
const SUSPEND: &str = "suspend ports";

/// The rows that wait.
pub const AWAITED: &[Awaited] = &[
    awaited("AU-17", "a port for a domain that is dying is EINVAL", TEARDOWN),
    awaited(
        "BI-19",
        "a port that still waits in a dying domain can be bound, and is closed with the rest",
        TEARDOWN,
    ),
    awaited(
        "UP-03",
        "the domain-wide vector is injected at each entry until the upcall byte is clear",
        UPCALLS,
    ),
    awaited("UP-04", "with a GSI or INTx line, an event for vCPU 1 gives no interrupt", UPCALLS),
    awaited(
        "UP-05",
        "with a GSI, an event for vCPU 0 asserts the line, and the next entry after the byte is clear deasserts it",
        UPCALLS,
    ),
    awaited(
        "UP-06",
        "a change of the callback while an upcall is pending prods every vCPU that is online",
        UPCALLS,
    ),
    awaited(
        "UP-07",
        "a parameter of 0, GSI 0, type 3 and a GSI out of range mean no callback, with success",
        UPCALLS,
    ),
    awaited("UP-08", "1<<56, device 3<<11, pin 2 means INTx of device 3, pin C", UPCALLS),
    awaited("UP-09", "a per-vCPU vector of 0x0f is EINVAL; 0x10 succeeds and prods the vCPU once", UPCALLS),
    awaited("UP-10", "a per-vCPU vector for an absent vCPU is ENOENT", UPCALLS),
    awaited("UP-11", "a per-vCPU vector goes before the domain-wide one", UPCALLS),
    awaited(
        "UP-12",
        "the old contents are copied, the selector is all ones, and an upcall is pending",
        VCPU_INFO,
    ),
    awaited("UP-13", "a second registration is EBUSY", VCPU_INFO),
    awaited("UP-14", "an area that crosses its page or is misaligned is ENXIO", VCPU_INFO),
    awaited("UP-15", "vCPU 40's area is zeroed with upcalls masked (PV), then as any other", VCPU_INFO),
    awaited("UP-16", "an event that races the registration is visible in the new area", VCPU_INFO),
    awaited(
        "SC-01",
        "10 of one domain and 11 of another are connected at boot; the second end is pending",
        STATIC,
    ),
    awaited("SC-02", "static port 200 makes the records 0 to 255; other ports begin at 1 still", STATIC),
    awaited(
        "SC-03",
        "one port twice is EBUSY, one above the limit ENOSPC, and neither domain starts",
        STATIC,
    ),
    awaited("SC-04", "a guest may close a static port, which is like any other", STATIC),
    awaited("TD-02", "the end of a domain that gives way goes on where it was, and completes", TEARDOWN),
    awaited("TD-08", "a suspend raises the registered port, or without one VIRQ_DOM_EXC", SUSPEND),
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
