// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an observer is told of calls that are no operation of `event_channel_op`.

use evtchn_abi::{DomId, Gfn, Pirq, Port, VcpuId, Virq};

use crate::config::Width;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::{Hooks, Observed};

/// A call that is no operation of `event_channel_op`: a neighbouring hypercall, or the embedder's. Questions that
/// change nothing and that no guest can ask are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// [`Engine::create_domain`].
    CreateDomain,
    /// [`Engine::destroy_domain`] or [`Engine::tear_down`].
    DestroyDomain {
        /// False if it gave way.
        done: bool,
    },
    /// [`Engine::set_paused`].
    SetPaused(bool),
    /// [`Engine::set_shared_info`].
    SetSharedInfo {
        /// Is there a page from now on?
        present: bool,
    },
    /// [`Engine::set_width`].
    SetWidth(Width),
    /// [`Engine::sched_poll`].
    Poll {
        /// Who polls.
        vcpu: VcpuId,
        /// For how many ports.
        ports: u32,
        /// Should it sleep?
        sleeps: bool,
    },
    /// [`Engine::finish_poll`].
    FinishPoll {
        /// Whose poll it was.
        vcpu: VcpuId,
        /// Was it still polling?
        was_polling: bool,
    },
    /// [`Engine::sched_block`].
    Block {
        /// Who blocks.
        vcpu: VcpuId,
        /// Should it sleep?
        sleeps: bool,
    },
    /// [`Engine::set_callback`], with the parameter's value.
    SetCallback(u64),
    /// [`Engine::set_upcall_vector`].
    SetUpcallVector {
        /// Whose.
        vcpu: VcpuId,
        /// Which.
        vector: u8,
    },
    /// [`Engine::register_vcpu_info`].
    RegisterVcpuInfo {
        /// Whose.
        vcpu: VcpuId,
        /// The frame.
        gfn: Gfn,
        /// Where it begins there, in bytes.
        offset: u32,
    },
    /// [`Engine::drop_vcpu_infos`].
    DropVcpuInfos,
    /// [`Engine::set_singleshot_timer`].
    SetSingleshotTimer {
        /// Whose.
        vcpu: VcpuId,
        /// When it is due; `None` for never.
        deadline: Option<u64>,
    },
    /// [`Engine::set_periodic_timer`].
    SetPeriodicTimer {
        /// Whose.
        vcpu: VcpuId,
        /// How often, in nanoseconds; `None` for never.
        period_ns: Option<u64>,
    },
    /// [`Engine::deadline_passed`].
    DeadlinePassed {
        /// Whose.
        vcpu: VcpuId,
        /// The guest's time.
        now: u64,
        /// Was a timer due?
        due: bool,
    },
    /// [`Engine::alloc_consumer`]; port 0 if that failed.
    AllocConsumer(Port),
    /// [`Engine::notify_consumer`].
    NotifyConsumer(Port),
    /// [`Engine::free_consumer`].
    FreeConsumer(Port),
    /// [`Engine::connect_static`]; the domain is the first one.
    ConnectStatic {
        /// The first domain's port.
        port: Port,
        /// The second domain.
        second: DomId,
        /// Its port.
        second_port: Port,
    },
    /// [`Engine::raise_virq`].
    RaiseVirq {
        /// Which.
        virq: Virq,
        /// On which vCPU.
        vcpu: VcpuId,
        /// Has somebody bound it?
        bound: bool,
    },
    /// [`Engine::raise_global_virq`]; the domain is its handler, or `DomId::INVALID`.
    RaiseGlobalVirq {
        /// Which.
        virq: Virq,
        /// Has the handler bound it?
        bound: bool,
    },
    /// [`Engine::set_virq_handler`].
    SetVirqHandler(Virq),
    /// [`Engine::raise_pirq`].
    RaisePirq {
        /// Which.
        pirq: Pirq,
        /// Has the domain bound it?
        bound: bool,
    },
    /// [`Engine::pirq_eoi`].
    PirqEoi(Pirq),
    /// [`Engine::pirq_status`].
    PirqStatus(Pirq),
    /// [`Engine::set_auto_unmask`].
    SetAutoUnmask(bool),
    /// [`Engine::set_suspend_port`]; port 0 for none.
    SetSuspendPort(Port),
    /// [`Engine::suspended`].
    Suspended,
}

impl<H: Hooks> Engine<H> {
    /// Tells the observer how an action ended. Without locks, and not by a reader.
    #[inline]
    pub(crate) fn acted<T>(
        &self,
        domain: DomId,
        action: Action,
        result: Result<T, OpError>,
    ) -> Result<T, OpError> {
        let ended = result.as_ref().map(|_| ()).map_err(|&error| error);
        self.hooks.observe(Observed::Action { domain, action, result: ended });
        result
    }

    /// Tells the observer of an action that is described by what it led to; of a failed one, by the default.
    #[inline]
    pub(crate) fn acted_with<T: Copy + Default>(
        &self,
        domain: DomId,
        result: Result<T, OpError>,
        action: impl FnOnce(T) -> Action,
    ) -> Result<T, OpError> {
        self.acted(domain, action(result.unwrap_or_default()), result)
    }
}
