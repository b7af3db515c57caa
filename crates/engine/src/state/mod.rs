// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saved state: what the engine knows of its domains, as plain data.
//!
//! ```
//! use evtchn_engine::test_utils::{Recorder, page};
//! use evtchn_engine::{DomainConfig, Engine};
//! use evtchn_abi::{DomId, Port, VcpuId};
//!
//! let engine = Engine::new(Recorder::default());
//! engine.create_domain(DomId(1), DomainConfig::guest(2))?;
//! let port = engine.bind_ipi(DomId(1), VcpuId(1))?;
//! let state = engine.save_domain(DomId(1))?;
//!
//! // Later, in another process, perhaps on another machine; the page is the guest's memory.
//! let engine = Engine::new(Recorder::default());
//! engine.restore_domain(&state, Some(page()))?;
//! engine.send(DomId(1), port)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is saved, and what is not
//!
//! The state has what a domain was created with, and every open port with its binding, vCPU, priority and consumer;
//! VIRQ and PIRQ tables follow from those. It has the width and whether the domain is paused, where a reset or a teardown goes
//! on that gave way, and of the FIFO ABI the frames, the queues' tails and the events that wait for an array page. Of each
//! vCPU it has where its vcpu_info is registered, its vector for upcalls, and its timers; besides, the domain's
//! callback, its suspend port, and whether an EOI unmasks.
//!
//! Bits, event words and vcpu_infos are the guest's memory, which the embedder saves. A poll that sleeps is not saved: the
//! vCPU has not returned from its hypercall yet, so the embedder lets it make that again. Neither is what the hooks
//! know: whether a line is asserted or waits for its EOI, which routes are carried out elsewhere, what a
//! [sink](crate::Delivery::Sink) was told. Deadlines are times of the guest's system time, which the embedder lets go on
//! from where it was; [`Hooks::set_deadline`](crate::Hooks::set_deadline) asks for them again.
//!
//! # In which order
//!
//! 1. The domain's vCPUs stop.
//! 2. [`Engine::save_domain`](crate::Engine::save_domain) or [`Engine::save`](crate::Engine::save).
//! 3. The memory is copied.
//!
//! From 1 to 3 other domains and the embedder may go on sending to it, and its timers may come, but nobody else may operate on
//! its ports. At the other end: the memory is filled, the state restored, and then the vCPUs run.
//!
//! What was sent before the state was saved is not lost, and neither is what was sent before the copy began, but for FIFO ports that
//! have no event word yet: those are kept by the engine alone, and belong to the state. A send that runs
//! beside the copy is either in it, or it is as if it had not been made.
//!
//! Restoring says again what was pending, as the interrupts on their way may be gone: each open port that is pending and
//! not masked is announced (selector, or queue), and [`Hooks::deliver`](crate::Hooks::deliver) is called for each vCPU
//! whose `evtchn_upcall_pending` is set. A vCPU that has registered its vcpu_info gets all of its selector and an upcall, as
//! when it did that. So a guest may look and find nothing. Then all routes are offered again to
//! [`Hooks::offload`](crate::Hooks::offload), and lines were connected before by [`Hooks::pirq_bind`](crate::Hooks::pirq_bind).
//!
//! # Who is at the other end
//!
//! In a whole machine each channel has both its ends. A single domain is restored among others that have lived on: where
//! the peer's port waits for this domain, as it does when the domain was destroyed, the channel is connected again, and the
//! restored end raised, because what the peer sent meanwhile was dropped. Else the port is unbound, and names its peer, as after
//! the peer's close. So domains that are restored one after the other find each other again, and a state gets its domain no
//! channel that `bind_interdomain` would not have given it.
//!
//! # Trust
//!
//! A state may come from anywhere. Restoring checks all of it before anything changes, with work and memory bounded by
//! constants, and refuses what no engine saves. It does not judge: a state that says that a domain is privileged is
//! believed. Look at [`DomainState::config`] if you would not create such a domain for whoever sent it.
//!
//! # Versions
//!
//! [`VERSION`] counts the layouts. With the feature `serde` the states can be stored, by any format: each begins with
//! its version, and every version ever released can be loaded; a newer one is refused by name. (In a format with field
//! names the version must stay before the state.) A program that adds a field:
//!
//! * counts [`VERSION`] up, and lets the layout of the version before stay in a module of its own (`v1.rs`), with a
//!   conversion that fills the new field with what older engines meant by not having it. Formats without field names
//!   (postcard) need this;
//! * marks the new field `#[serde(default)]` in the new layout, so that hand-written JSON may leave it out;
//! * adds golden files of the new version to `tests/golden`, and touches none of the old ones.

mod callback;
mod check;
mod error;
mod restore;
mod save;
#[cfg(feature = "serde")]
mod stored;
#[cfg(feature = "serde")]
mod v1;
mod vcpu;

use alloc::vec::Vec;

pub use self::callback::{CallbackState, ViaState};
pub use self::error::{DomainError, RestoreError};
pub use self::vcpu::{TimersState, VcpuInfoState, VcpuState};

use crate::config::{Delivery, DomainConfig, DomainKind, Width};
use crate::error::OpError;

/// The layout of the states that this program saves.
pub const VERSION: u32 = 2;

/// A whole machine: what [`Engine::save`](crate::Engine::save) gives and [`Engine::restore`](crate::Engine::restore) takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineState {
    /// [`VERSION`].
    pub version: u32,
    /// The domains, with ascending ids.
    pub domains: Vec<DomainState>,
    /// The domain that handles the global VIRQs that no other does.
    pub hardware: Option<u16>,
    /// Which domains were made handlers, with ascending VIRQs.
    pub virq_handlers: Vec<HandlerState>,
}

/// A domain that was made the handler of a global VIRQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HandlerState {
    /// The VIRQ.
    pub virq: u32,
    /// The domain.
    pub domain: u16,
}

/// A domain: what [`Engine::save_domain`](crate::Engine::save_domain) gives and
/// [`Engine::restore_domain`](crate::Engine::restore_domain) takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainState {
    /// [`VERSION`].
    pub version: u32,
    /// The domain's id.
    pub id: u16,
    /// What it was created with.
    pub config: ConfigState,
    /// The width that it uses now.
    pub width: WidthState,
    /// Has the toolstack paused it?
    pub paused: bool,
    /// How many records exist: port numbers below are valid. A multiple of 64.
    pub records: u32,
    /// The open ports, with ascending numbers.
    pub ports: Vec<PortState>,
    /// The port at which a reset goes on that gave way.
    pub reset: Option<u32>,
    /// What the FIFO ABI has; none while the domain is two-level.
    pub fifo: Option<FifoState>,
    /// The vCPUs of which there is more to say than that they exist, ascending.
    pub vcpus: Vec<VcpuState>,
    /// How the vCPUs of a hardware-assisted domain learn of events.
    pub callback: CallbackState,
    /// Does an EOI of a PIRQ unmask its port?
    pub auto_unmask: bool,
    /// The port on which a send tells that the domain has suspended.
    pub suspend_port: Option<u32>,
    /// The domain is being destroyed, which gave way: the port at which it goes on. There is no open port above it.
    pub teardown: Option<u32>,
}

/// What a domain was created with: see [`DomainConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConfigState {
    /// How many vCPUs.
    pub vcpus: u32,
    /// The highest port number.
    pub max_port: Option<u32>,
    /// A control domain?
    pub privileged: bool,
    /// The hardware domain?
    pub hardware: bool,
    /// How it is virtualised.
    pub kind: KindState,
    /// The width that it began with.
    pub width: WidthState,
    /// How many PIRQs.
    pub nr_pirqs: u32,
    /// May it use FIFO?
    pub fifo: bool,
    /// The domain that it serves as device model.
    pub target: Option<u16>,
    /// How many interrupt lines.
    #[cfg_attr(feature = "serde", serde(default = "stored::nr_gsis"))]
    pub nr_gsis: u32,
    /// Where its events go.
    #[cfg_attr(feature = "serde", serde(default))]
    pub delivery: DeliveryState,
}

/// [`Delivery`] as saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum DeliveryState {
    /// Into shared pages.
    #[default]
    Shared,
    /// To the embedder, one by one.
    Sink,
}

/// [`DomainKind`] as saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum KindState {
    /// Paravirtual.
    Pv,
    /// Hardware-assisted.
    Hvm,
}

/// [`Width`] as saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum WidthState {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// An open port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortState {
    /// Its number.
    pub port: u32,
    /// What it is bound to.
    pub binding: BindingState,
    /// The vCPU that it notifies.
    pub vcpu: u32,
    /// Its priority in the FIFO ABI, 0 to 15.
    pub priority: u8,
    /// Who in the embedder consumes it, 1 to 7; 0 for the guest.
    pub consumer: u8,
}

/// What a port is bound to: see [`State`](crate::State).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum BindingState {
    /// Waiting for a domain to bind.
    Unbound {
        /// That domain.
        remote: u16,
    },
    /// One end of a channel.
    Interdomain {
        /// The domain at the other end.
        remote: u16,
        /// The other end.
        port: u32,
    },
    /// Raised by a physical interrupt.
    Pirq {
        /// Its number.
        pirq: u32,
        /// Does the guest agree to share the line?
        shares: bool,
    },
    /// Raised by a virtual interrupt; a per-vCPU one by that of the port's vCPU.
    Virq {
        /// Its number.
        virq: u32,
    },
    /// Raised by the domain itself.
    Ipi,
}

/// What the FIFO ABI has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FifoState {
    /// The control blocks, with ascending vCPUs.
    pub controls: Vec<ControlState>,
    /// The frames of the event array.
    pub array: Vec<u64>,
    /// The queues that have had something on them, ascending by vCPU, then priority.
    pub tails: Vec<TailState>,
    /// The ports whose words had LINKED, ascending: what has it when the state is restored, and is not named here, was
    /// linked in between.
    pub linked: Vec<u32>,
    /// The ports with an event that waits for an array page, ascending.
    pub kept: Vec<u32>,
}

/// A vCPU's control block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ControlState {
    /// The vCPU.
    pub vcpu: u32,
    /// The frame that it lies in.
    pub gfn: u64,
    /// Where in the frame, in bytes.
    pub offset: u32,
}

/// The port that was linked last on a queue. It may have left the queue since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TailState {
    /// Whose queue.
    pub vcpu: u32,
    /// Which of its queues.
    pub priority: u8,
    /// The port.
    pub port: u32,
}

/// Appends, or says that there is no memory.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), OpError> {
    list.try_reserve(1).map_err(|_| OpError::OutOfMemory)?;
    list.push(item);
    Ok(())
}

impl From<&DomainConfig> for ConfigState {
    fn from(config: &DomainConfig) -> Self {
        Self {
            vcpus: config.vcpus,
            max_port: config.max_port,
            privileged: config.privileged,
            hardware: config.hardware,
            kind: match config.kind {
                DomainKind::Pv => KindState::Pv,
                DomainKind::Hvm => KindState::Hvm,
            },
            width: config.width.into(),
            nr_pirqs: config.nr_pirqs,
            fifo: config.fifo,
            target: config.target.map(|target| target.0),
            nr_gsis: config.nr_gsis,
            delivery: match config.delivery {
                Delivery::Shared => DeliveryState::Shared,
                Delivery::Sink => DeliveryState::Sink,
            },
        }
    }
}

impl From<ConfigState> for DomainConfig {
    fn from(state: ConfigState) -> Self {
        Self {
            vcpus: state.vcpus,
            max_port: state.max_port,
            privileged: state.privileged,
            hardware: state.hardware,
            kind: match state.kind {
                KindState::Pv => DomainKind::Pv,
                KindState::Hvm => DomainKind::Hvm,
            },
            width: state.width.into(),
            nr_pirqs: state.nr_pirqs,
            fifo: state.fifo,
            target: state.target.map(evtchn_abi::DomId),
            nr_gsis: state.nr_gsis,
            delivery: match state.delivery {
                DeliveryState::Shared => Delivery::Shared,
                DeliveryState::Sink => Delivery::Sink,
            },
        }
    }
}

impl From<Width> for WidthState {
    fn from(width: Width) -> Self {
        match width {
            Width::Bits32 => Self::Bits32,
            Width::Bits64 => Self::Bits64,
        }
    }
}

impl From<WidthState> for Width {
    fn from(state: WidthState) -> Self {
        match state {
            WidthState::Bits32 => Self::Bits32,
            WidthState::Bits64 => Self::Bits64,
        }
    }
}
