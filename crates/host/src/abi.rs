// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which ABI the kernels use.

/// How events come to the kernels of a machine's domains. It decides how many ports a kernel can use, and when UNBIND answers
/// EINVAL instead of ENOTCONN; all else is the same for a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Abi {
    /// FIFO, as Linux since 3.14: up to 131,072 ports, usable by the 1,024 as they are needed.
    #[default]
    Fifo,
    /// Two-level, as Linux with `xen.fifo_events=0`: 4,096 ports, all usable.
    TwoLevel,
}
