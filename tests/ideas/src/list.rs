// SPDX-License-Identifier: MIT OR Apache-2.0
//! The complete list of ids.

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
