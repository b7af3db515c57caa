// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypercall as a value: what was asked and what came of it.

use core::fmt;
use core::num::NonZeroU64;

use evtchn_abi::{Errno, HvmOp, Hypercall, Op, PhysdevOp, Port, SchedOp, VcpuId, VcpuOp};

/// The bytes of a hypercall's argument.
///
/// The first [`KEPT`](Self::KEPT) of them are kept, which is more than any of our structures has. Of what is longer, such as a
/// poll of many ports, the length and a checksum are kept besides: enough to compare it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Argument {
    len: u32,
    bytes: [u8; Self::KEPT],
    rest: u64,
}

impl Argument {
    /// How many bytes are kept.
    pub const KEPT: usize = 32;
    /// No argument.
    pub const NONE: Self = Self { len: 0, bytes: [0; Self::KEPT], rest: FNV_BASIS };

    /// The argument of these bytes.
    ///
    /// ```
    /// use evtchn_guest::Argument;
    ///
    /// let argument = Argument::new(&[4, 0, 0, 0]);
    /// assert_eq!(argument.bytes(), [4, 0, 0, 0]);
    /// assert_eq!(argument.to_string(), "[04 00 00 00]");
    /// ```
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut argument = Self::NONE;
        argument.extend(bytes);
        argument
    }

    /// What is compared of a poll: its deadline, 0 for none, and its ports.
    pub(super) fn of_poll(ports: &[Port], deadline: Option<NonZeroU64>) -> Self {
        let mut argument = Self::of_deadline(deadline);
        for port in ports {
            argument.extend(&port.0.to_le_bytes());
        }
        argument
    }

    pub(super) fn of_deadline(deadline: Option<NonZeroU64>) -> Self {
        Self::new(&deadline.map_or(0, NonZeroU64::get).to_le_bytes())
    }

    fn extend(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match self.bytes.get_mut(self.len as usize) {
                Some(place) => *place = byte,
                None => self.rest = (self.rest ^ u64::from(byte)).wrapping_mul(FNV_PRIME),
            }
            self.len = self.len.saturating_add(1);
        }
    }

    /// The bytes, as far as they are kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or(&self.bytes)
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Is there none?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts the bytes where the caller's argument is.
    pub(super) fn write_to(&self, arg: &mut [u8]) {
        for (to, from) in arg.iter_mut().zip(self.bytes()) {
            *to = *from;
        }
    }
}

/// FNV-1a with 64 bits.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, byte) in self.bytes().iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{byte:02x}")?;
        }
        match self.len().saturating_sub(Self::KEPT) {
            0 => f.write_str("]"),
            more => write!(f, " and {more} more]"),
        }
    }
}

impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a guest asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Which hypercall.
    pub hypercall: Hypercall,
    /// Its command; 0 for `set_timer_op`, which has none.
    pub command: u32,
    /// The vCPU that `vcpu_op` names; 0 with others.
    pub vcpu: VcpuId,
    /// The argument as the guest gave it. For a poll the deadline, 8 bytes, 0 for none, and the ports, 4 bytes each; for
    /// `set_timer_op` the deadline.
    pub argument: Argument,
}

impl Request {
    pub(super) fn new(hypercall: Hypercall, command: u32, arg: &[u8]) -> Self {
        Self { hypercall, command, vcpu: VcpuId(0), argument: Argument::new(arg) }
    }

    pub(super) fn poll(ports: &[Port], deadline: Option<NonZeroU64>) -> Self {
        let argument = Argument::of_poll(ports, deadline);
        Self { argument, ..Self::new(Hypercall::SCHED_OP, SchedOp::POLL.0, &[]) }
    }

    pub(super) fn set_timer(deadline: Option<NonZeroU64>) -> Self {
        let argument = Argument::of_deadline(deadline);
        Self { argument, ..Self::new(Hypercall::SET_TIMER_OP, 0, &[]) }
    }

    /// The command's name as in C, without its prefix.
    fn command_name(&self) -> Option<&'static str> {
        match self.hypercall {
            Hypercall::EVENT_CHANNEL_OP => Op(self.command).name(),
            Hypercall::SCHED_OP => SchedOp(self.command).name(),
            Hypercall::VCPU_OP => VcpuOp(self.command).name(),
            Hypercall::HVM_OP => HvmOp(self.command).name(),
            Hypercall::PHYSDEV_OP => PhysdevOp(self.command).name(),
            _ => None,
        }
    }
}

/// `event_channel_op send [09 00 00 00]`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hypercall)?;
        match self.command_name() {
            Some(name) => write!(f, " {name}")?,
            None if self.hypercall == Hypercall::SET_TIMER_OP => {}
            None => write!(f, " {}", self.command)?,
        }
        if self.hypercall == Hypercall::VCPU_OP {
            write!(f, " vCPU {}", self.vcpu)?;
        }
        if self.argument.is_empty() { Ok(()) } else { write!(f, " {}", self.argument) }
    }
}

/// A hypercall that was made: some 120 bytes, without pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// What was asked.
    pub request: Request,
    /// What was answered.
    pub result: Result<u32, Errno>,
    /// The argument as it was afterwards. Of a poll and a `set_timer_op`, which have no results, as it was before.
    pub after: Argument,
}

/// `event_channel_op bind_ipi [00 00 00 00 00 00 00 00] = 0 [00 00 00 00 05 00 00 00]`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = ", self.request)?;
        match self.result {
            Ok(value) => write!(f, "{value}")?,
            Err(error) => write!(f, "{error}")?,
        }
        if self.after == self.request.argument { Ok(()) } else { write!(f, " {}", self.after) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_does_not_fit_is_still_compared() {
        let long = Argument::new(&[1; 40]);
        let mut other = [1; 40];
        other[39] = 2;
        assert_ne!(long, Argument::new(&other));
        assert_ne!(long, Argument::new(&[1; 41]));
        assert_eq!(long, Argument::new(&[1; 40]));
        assert_eq!((long.len(), long.bytes().len()), (40, 32));
        assert!(long.to_string().ends_with("01 and 8 more]"), "{long}");
    }

    #[test]
    fn the_order_of_what_does_not_fit_counts() {
        let (mut first, mut second) = ([0; 34], [0; 34]);
        (first[32], second[33]) = (1, 1);
        assert_ne!(Argument::new(&first), Argument::new(&second));
    }

    #[test]
    fn only_an_argument_without_bytes_is_empty() {
        assert!(Argument::NONE.is_empty() && Argument::new(&[]).is_empty());
        assert!(!Argument::new(&[0]).is_empty());
        assert_eq!(Argument::new(&[]).to_string(), "[]");
    }

    #[test]
    fn requests_are_named_as_in_c() {
        let text = |hypercall, command| Request::new(hypercall, command, &[7]).to_string();
        assert_eq!(text(Hypercall::EVENT_CHANNEL_OP, 4), "event_channel_op send [07]");
        assert_eq!(text(Hypercall::EVENT_CHANNEL_OP, 99), "event_channel_op 99 [07]");
        assert_eq!(text(Hypercall::SCHED_OP, 1), "sched_op block [07]");
        assert_eq!(text(Hypercall::VCPU_OP, 10), "vcpu_op register_vcpu_info vCPU 0 [07]");
        assert_eq!(text(Hypercall::HVM_OP, 0), "hvm_op set_param [07]");
        assert_eq!(text(Hypercall::PHYSDEV_OP, 12), "physdev_op eoi [07]");
        let timer = Request::set_timer(NonZeroU64::new(5)).to_string();
        assert_eq!(timer, "set_timer_op [05 00 00 00 00 00 00 00]");
        assert_eq!(Request::new(Hypercall::SCHED_OP, 0, &[]).to_string(), "sched_op yield");
    }

    #[test]
    fn a_call_says_what_came_of_it() {
        let request = Request::new(Hypercall::EVENT_CHANNEL_OP, Op::BIND_IPI.0, &[0, 0]);
        let done = Call { request, result: Ok(0), after: Argument::new(&[0, 5]) };
        assert_eq!(done.to_string(), "event_channel_op bind_ipi [00 00] = 0 [00 05]");
        let refused = Call { result: Err(Errno::ENOSPC), after: request.argument, ..done };
        assert_eq!(refused.to_string(), "event_channel_op bind_ipi [00 00] = ENOSPC");
    }
}
