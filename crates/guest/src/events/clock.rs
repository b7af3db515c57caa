// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel that is put together from hypercalls and a clock.

use evtchn_abi::VcpuId;

use super::Kernel;
use crate::Hypercall;

/// A [`Kernel`] of a [`Hypercall`] and two functions: what the time is, and who asks for [`Events::expire`](super::Events::expire).
///
/// Every function of the [`Hypercall`] is passed on. In a `static` the two are function pointers: `WithClock<Xen, fn() -> u64,
/// fn(VcpuId, u64)>`.
///
/// A kernel under test, whose hypervisor is the engine in the same process:
///
/// ```
/// use std::time::Instant;
/// use evtchn_abi::{DomId, Layout, VcpuId};
/// use evtchn_engine::test_utils::{Recorder, page};
/// use evtchn_engine::{DomainConfig, Engine};
/// use evtchn_guest::{Answer, Event, Events, Frames, InProcess, Settings, Table, TwoLevel, TwoLevelVcpu, WithClock};
///
/// let engine = Engine::new(Recorder::default());
/// let (guest, v0, shared_info) = (DomId(1), VcpuId(0), page());
/// engine.create_domain(guest, DomainConfig::guest(1))?;
/// engine.set_shared_info(guest, Some(shared_info.clone()))?;
///
/// let started = Instant::now();
/// let now = || started.elapsed().as_nanos() as u64;
/// let expire_at = |_: VcpuId, _: u64| unreachable!("there are no late channels");
/// let kernel = WithClock::new(InProcess::new(&engine, guest, v0), now, expire_at);
///
/// let memory = Frames::<_, Vec<_>>::two_level(shared_info, &Layout::X86_64);
/// let table = Table::<_, 16, 64, 1>::new();
/// let events = Events::new(TwoLevel::new(memory, [TwoLevelVcpu::new()]), kernel, table);
/// events.start();
/// events.online(v0)?;
/// let ipi = events.bind_ipi(Settings::on(v0), |_: &Event<'_>| Answer::Done)?;
/// events.notify(ipi)?;
/// let _ = events.upcall(v0);
/// assert_eq!(events.stats(ipi).unwrap().events, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WithClock<H, N, X> {
    pub(crate) hypercall: H,
    now: N,
    expire_at: X,
}

impl<H, N, X> WithClock<H, N, X> {
    /// A kernel whose [`now`](Kernel::now) and [`expire_at`](Kernel::expire_at) are these functions.
    ///
    /// Only channels of the flow [late](super::Flow::LateEoi) are delayed: without them `expire_at` is not called.
    pub const fn new(hypercall: H, now: N, expire_at: X) -> Self {
        Self { hypercall, now, expire_at }
    }

    /// Who makes the hypercalls.
    pub const fn hypercall(&self) -> &H {
        &self.hypercall
    }
}

impl<H: Hypercall, N: Fn() -> u64, X: Fn(VcpuId, u64)> Kernel for WithClock<H, N, X> {
    fn now(&self) -> u64 {
        (self.now)()
    }

    fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
        (self.expire_at)(vcpu, deadline);
    }
}
