// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a channel is doing: one word, changed in one step each time.
//!
//! # Definitions
//!
//! * A channel is *held back* while there is a reason: somebody masked it ([`EXPLICIT`]), it is being moved ([`MOVING`]),
//!   its handler has not reported the end of an event ([`EOI`]), or its vCPU is offline ([`AWAY`]).
//! * [`ACTIVE`]: a handler runs.
//! * [`LATCHED`]: an event was taken from the ABI that no handler has got.
//! * [`SILENT`]: the port is masked in memory.
//! * [`SETTLING`]: somebody is making memory say what the word says. Only they touch the port's mask, close the port, and
//!   free the record.
//!
//! # Invariants
//!
//! 1. One handler of a channel runs at a time, and only while the channel is not held back: `ACTIVE` is set only where
//!    neither it nor a reason was.
//! 2. An event that was taken is handled at once, or `LATCHED`, by the same step that finds out which.
//! 3. Whoever makes a word that [wants something done](State::step), while nobody settles it, sets `SETTLING` by the same
//!    step and does it. Whoever settles looks again before they leave: `SETTLING` goes by a step that fails if the word has
//!    changed. So no word is left that wants something, and nobody waits.
//! 4. A port is closed only while nobody moves its channel, and a record freed, which raises its generation, only while no
//!    handler runs either: whoever has set one of these flags may use the port, or the handler.
//!
//! # Key operations
//!
//! `Events::update` is the step of 3, `Events::settle` does what the word wants, `Events::deliver` takes an event (2),
//! `Events::run` calls the handler (1).

/// The life of a record: two bits.
const LIFE: u32 = 3;
/// Nobody's.
const FREE: u32 = 0;
/// Somebody is filling it in.
const RESERVED: u32 = 1;
/// It has a port and a handler.
const BOUND: u32 = 2;
/// It is to be closed and freed.
const CLOSING: u32 = 3;

/// Its handler's answer, or a later word, ends an event.
pub(super) const LATE: u32 = 1 << 2;
/// Held back: masked by its user.
pub(super) const EXPLICIT: u32 = 1 << 3;
/// Held back: it is being moved.
pub(super) const MOVING: u32 = 1 << 4;
/// Held back: the end of an event has not been reported.
pub(super) const EOI: u32 = 1 << 5;
/// The end was reported, and takes effect at the time `due`.
pub(super) const DELAYED: u32 = 1 << 6;
/// A handler runs.
pub(super) const ACTIVE: u32 = 1 << 7;
/// An event was taken that no handler has got.
pub(super) const LATCHED: u32 = 1 << 8;
/// The port is masked in memory.
pub(super) const SILENT: u32 = 1 << 9;
/// Somebody makes memory say what this says.
pub(super) const SETTLING: u32 = 1 << 10;
/// The port is closed.
pub(super) const CLOSED: u32 = 1 << 11;
/// A physical interrupt that has to be told of the end of an event.
pub(super) const NEEDS_EOI: u32 = 1 << 12;
/// Held back: its vCPU is offline.
pub(super) const AWAY: u32 = 1 << 13;
/// Its last event came on another vCPU, and was passed on.
pub(super) const PASSED_ON: u32 = 1 << 14;

const REASONS: u32 = EXPLICIT | MOVING | EOI | AWAY;
const GENERATION_SHIFT: u32 = 16;

/// The word's value at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(pub u32);

/// What has to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Rest,
    /// Mask the port.
    Mask,
    /// Unmask the port.
    Unmask,
    /// Have Xen announce the event that no handler has got.
    RaiseAgain,
    /// Close the port.
    Close,
    /// Free the record.
    Free,
}

impl State {
    /// A record that somebody fills in.
    pub const fn reserved(self) -> Self {
        Self(self.generation_bits() | RESERVED)
    }

    /// The same record, bound to a port that is masked in memory, with these flags.
    pub const fn bound(self, flags: u32) -> Self {
        Self(self.generation_bits() | BOUND | SILENT | flags)
    }

    /// The record, free, for its next user.
    pub const fn freed(self) -> Self {
        Self(self.generation_bits().wrapping_add(1 << GENERATION_SHIFT))
    }

    pub const fn is_free(self) -> bool {
        self.0 & LIFE == FREE
    }

    pub const fn is_bound(self) -> bool {
        self.0 & LIFE == BOUND
    }

    pub const fn is_closing(self) -> bool {
        self.0 & LIFE == CLOSING
    }

    /// The same, to be closed. What was latched is nobody's any more.
    pub const fn closing(self) -> Self {
        Self(self.0 & !LATCHED | CLOSING)
    }

    pub const fn generation(self) -> u16 {
        (self.0 >> GENERATION_SHIFT) as u16
    }

    const fn generation_bits(self) -> u32 {
        self.0 >> GENERATION_SHIFT << GENERATION_SHIFT
    }

    /// Is one of these flags set?
    pub const fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    pub const fn with(self, flags: u32) -> Self {
        Self(self.0 | flags)
    }

    pub const fn without(self, flags: u32) -> Self {
        Self(self.0 & !flags)
    }

    /// Must an event wait?
    pub const fn is_held_back(self) -> bool {
        self.has(REASONS)
    }

    /// What has to be done.
    pub const fn step(self) -> Step {
        match self.0 & LIFE {
            // Whoever moves it uses its port.
            CLOSING if self.has(MOVING) => Step::Rest,
            CLOSING if !self.has(CLOSED) => Step::Close,
            CLOSING if !self.has(ACTIVE) => Step::Free,
            BOUND if self.is_held_back() => {
                if self.has(SILENT) {
                    Step::Rest
                } else {
                    Step::Mask
                }
            }
            BOUND if self.has(LATCHED) && !self.has(ACTIVE) => Step::RaiseAgain,
            BOUND if self.has(SILENT) => Step::Unmask,
            _ => Step::Rest,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BORN: State = State(7 << GENERATION_SHIFT);

    fn bound(flags: u32) -> State {
        State(BORN.bound(flags).0 & !SILENT)
    }

    #[test]
    fn a_new_binding_is_unmasked_unless_somebody_holds_it_back() {
        assert_eq!(BORN.bound(0).step(), Step::Unmask);
        assert_eq!(BORN.bound(EXPLICIT).step(), Step::Rest);
        assert_eq!(bound(0).step(), Step::Rest);
    }

    #[test]
    fn each_reason_masks_the_port() {
        for reason in [EXPLICIT, MOVING, EOI, AWAY] {
            assert_eq!(bound(reason).step(), Step::Mask);
            assert_eq!(bound(reason | LATCHED).step(), Step::Mask);
        }
    }

    #[test]
    fn a_latched_event_is_raised_again_when_nothing_holds_it_back_and_no_handler_runs() {
        assert_eq!(bound(LATCHED).step(), Step::RaiseAgain);
        assert_eq!(BORN.bound(LATCHED).step(), Step::RaiseAgain);
        assert_eq!(bound(LATCHED | ACTIVE).step(), Step::Rest);
    }

    #[test]
    fn a_record_is_freed_when_its_port_is_closed_and_its_handler_has_returned() {
        let closing = bound(ACTIVE | LATCHED).closing();
        assert_eq!(closing.with(MOVING).step(), Step::Rest);
        assert_eq!(closing.step(), Step::Close);
        assert_eq!(closing.with(CLOSED).step(), Step::Rest);
        assert_eq!(closing.with(CLOSED).without(ACTIVE).step(), Step::Free);
    }

    #[test]
    fn each_user_of_a_record_has_another_generation() {
        assert_eq!(BORN.generation(), 7);
        assert_eq!(bound(u32::MAX >> 16 & !LIFE).freed(), State(8 << GENERATION_SHIFT));
        assert_eq!(State(u32::MAX).freed(), State(0));
        assert!(State(0).is_free() && !State(0).reserved().is_free());
    }
}
