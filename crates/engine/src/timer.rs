// SPDX-License-Identifier: MIT OR Apache-2.0
//! The timers of a vCPU, which raise `VIRQ_TIMER`: one that comes once, and one that comes again and again.
//!
//! The engine has no clock. It asks for the earlier of both deadlines by [`Hooks::set_deadline`], and is told by
//! [`Engine::deadline_passed`] that it has come. Times are nanoseconds of the guest's system time.

use evtchn_abi::args::VcpuSetPeriodicTimer;
use evtchn_abi::{DomId, VcpuId, Virq};
use evtchn_sync::enter;

use crate::action::Action;
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::state::TimersState;

/// The longest period that Xen accepts: 146 years.
const MAX_PERIOD_NS: u64 = u64::MAX >> 2;

/// The timers of a vCPU.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    once: Option<u64>,
    period: Option<u64>,
    /// When the periodic timer has come last; it counts on from there if it is stopped and set again.
    last: u64,
    /// The domain is being destroyed.
    ended: bool,
}

/// May a periodic timer have this period?
pub(crate) fn accepts_period(period_ns: u64) -> bool {
    (VcpuSetPeriodicTimer::MIN_PERIOD_NS..=MAX_PERIOD_NS).contains(&period_ns)
}

impl Timers {
    pub fn save(&self) -> TimersState {
        TimersState { singleshot: self.once, period: self.period, last_tick: self.last }
    }

    pub fn restored(state: TimersState) -> Self {
        Self { once: state.singleshot, period: state.period, last: state.last_tick, ended: false }
    }

    /// When to look at them next.
    fn next(&self) -> Option<u64> {
        let ticks = self.next_tick();
        self.once.into_iter().chain(ticks).min()
    }

    fn next_tick(&self) -> Option<u64> {
        self.period.map(|period| self.last.saturating_add(period))
    }

    /// Takes off what is due; whether anything was.
    fn expire(&mut self, now: u64) -> bool {
        let once = self.once.take_if(|deadline| *deadline <= now).is_some();
        let tick = self.next_tick().filter(|&tick| tick <= now);
        if let (Some(tick), Some(period)) = (tick, self.period) {
            // On time or late: the next one counts from when it should have come. One or more missed: a new start.
            self.last = if now - tick < period { tick } else { now };
        }
        once || tick.is_some()
    }
}

impl<H: Hooks> Engine<H> {
    /// Sets a vCPU's one-shot timer, or stops it: `VCPUOP_set_singleshot_timer`, `VCPUOP_stop_singleshot_timer`,
    /// `set_timer_op`.
    ///
    /// A deadline that has passed already is due at once. The guest learns of it by `VIRQ_TIMER`, if that is bound.
    ///
    /// ```
    /// # use evtchn_engine::{Engine, DomainConfig, test_utils::{Call, Recorder}};
    /// # use evtchn_abi::{DomId, VcpuId};
    /// # let engine = Engine::new(Recorder::default());
    /// # let (guest, vcpu) = (DomId(1), VcpuId(0));
    /// # engine.create_domain(guest, DomainConfig::guest(1))?;
    /// engine.set_singleshot_timer(guest, vcpu, Some(5_000))?;
    /// assert_eq!(engine.hooks().take(), [Call::Deadline(guest, vcpu, Some(5_000))]);
    /// // When the guest's system time is 5,000 ns:
    /// assert!(engine.deadline_passed(guest, vcpu, 5_000)?);
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU.
    pub fn set_singleshot_timer(
        &self,
        domain: DomId,
        vcpu: VcpuId,
        deadline: Option<u64>,
    ) -> Result<(), OpError> {
        self.set_singleshot_timer_of(&*self.domain(domain)?, vcpu, deadline)
    }

    pub(crate) fn set_singleshot_timer_of(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        deadline: Option<u64>,
    ) -> Result<(), OpError> {
        let result = self.change_timers(domain, vcpu, |timers| timers.once = deadline);
        self.acted(domain.id, Action::SetSingleshotTimer { vcpu, deadline }, result)
    }

    /// Sets a vCPU's periodic timer, or stops it: `VCPUOP_set_periodic_timer`, `VCPUOP_stop_periodic_timer`.
    ///
    /// The first event comes one period after the last one that a periodic timer of this vCPU has raised; so if there was
    /// none yet, at once. Later ones follow without drift, but what is late by a whole period is left out.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU, EINVAL for less than a millisecond or more than
    /// `u64::MAX >> 2` nanoseconds.
    pub fn set_periodic_timer(
        &self,
        domain: DomId,
        vcpu: VcpuId,
        period_ns: Option<u64>,
    ) -> Result<(), OpError> {
        self.set_periodic_timer_of(&*self.domain(domain)?, vcpu, period_ns)
    }

    pub(crate) fn set_periodic_timer_of(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        period_ns: Option<u64>,
    ) -> Result<(), OpError> {
        let result = self.change_period(domain, vcpu, period_ns);
        self.acted(domain.id, Action::SetPeriodicTimer { vcpu, period_ns }, result)
    }

    fn change_period(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        period_ns: Option<u64>,
    ) -> Result<(), OpError> {
        domain.vcpu(vcpu)?;
        if period_ns.is_some_and(|period| !accepts_period(period)) {
            return Err(OpError::Invalid);
        }
        self.change_timers(domain, vcpu, |timers| timers.period = period_ns)
    }

    /// It is `now` in the guest's system time: raises `VIRQ_TIMER` if a timer of the vCPU is due, and asks for the next
    /// deadline. Returns whether one was due.
    ///
    /// Too early a call does nothing but ask again.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU.
    pub fn deadline_passed(&self, domain: DomId, vcpu: VcpuId, now: u64) -> Result<bool, OpError> {
        let passed = self.domain(domain).and_then(|domain| self.expire(&domain, vcpu, now));
        let (due, effect) = passed.map_or_else(|error| (Err(error), None), |(due, effect)| (Ok(due), effect));
        let due = self.acted_with(domain, due, |due| Action::DeadlinePassed { vcpu, now, due })?;
        if due {
            let bound = self.fire_if_bound(effect);
            self.acted(domain, Action::RaiseVirq { virq: Virq::TIMER, vcpu, bound }, Ok(()))?;
        }
        Ok(due)
    }

    /// Takes off what is due; whether anything was, and what its VIRQ leads to if it is bound.
    ///
    /// It is raised before the timers are unlocked: a state that is saved without a timer that has come is
    /// older than its event, which is in the memory that is copied later.
    fn expire(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        now: u64,
    ) -> Result<(bool, Option<Effect>), OpError> {
        self.change_timers(domain, vcpu, |timers| {
            let due = timers.expire(now);
            (due, if due { self.virq_effect(domain, Virq::TIMER, vcpu, &enter()) } else { None })
        })
    }

    /// What was last asked for by [`Hooks::set_deadline`].
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU.
    pub fn deadline(&self, domain: DomId, vcpu: VcpuId) -> Result<Option<u64>, OpError> {
        let domain = self.domain(domain)?;
        let timers = domain.vcpu(vcpu)?.timers.lock();
        Ok(timers.next())
    }

    /// Changes a vCPU's timers and asks for the next deadline.
    ///
    /// The hook is called under the lock: of two changes the later one's deadline must be asked for last.
    fn change_timers<T>(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        change: impl FnOnce(&mut Timers) -> T,
    ) -> Result<T, OpError> {
        let mut timers = domain.vcpu(vcpu)?.timers.lock();
        if timers.ended {
            return Err(OpError::NoDomain);
        }
        let result = change(&mut timers);
        self.hooks.set_deadline(domain.id, vcpu, timers.next());
        Ok(result)
    }

    /// Asks for the deadlines of a domain that was restored.
    pub(crate) fn ask_again(&self, domain: &Domain<H::Page>) {
        for (id, vcpu) in (0..).map(VcpuId).zip(&domain.vcpus) {
            let timers = vcpu.timers.lock();
            if let Some(deadline) = timers.next() {
                self.hooks.set_deadline(domain.id, id, Some(deadline));
            }
        }
    }

    /// The domain ends: takes back what was asked for, and asks for nothing more. A domain that gets its id later would
    /// be mistaken for it.
    pub(crate) fn end_timers(&self, domain: &Domain<H::Page>) {
        for (id, vcpu) in (0..).map(VcpuId).zip(&domain.vcpus) {
            let mut timers = vcpu.timers.lock();
            if timers.next().is_some() {
                self.hooks.set_deadline(domain.id, id, None);
            }
            *timers = Timers { ended: true, ..Timers::default() };
        }
    }
}
