// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is saved of how a domain learns of events.

use evtchn_abi::{CallbackPpi, CallbackVia};

use super::error::DomainError;
use super::{ConfigState, KindState};
use crate::callback::{Callback, CallbackCell};

/// How the vCPUs of a hardware-assisted domain learn of events: see
/// [`Engine::set_callback`](crate::Engine::set_callback). In a paravirtual domain all is as at the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CallbackState {
    /// `HVM_PARAM_CALLBACK_IRQ` as it was set.
    pub param: u64,
    /// What counts. It follows from `param`, unless the domain has no interrupt controllers and has tried to give up
    /// its vector.
    pub via: ViaState,
}

/// [`Callback`] as saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum ViaState {
    /// Not at all.
    #[default]
    None,
    /// By an interrupt line.
    Gsi {
        /// Its number, below that of the domain's lines.
        line: u8,
    },
    /// By a pin of a device on PCI bus 0.
    Intx {
        /// The device, 0 to 31.
        device: u8,
        /// The pin, 0 to 3.
        pin: u8,
    },
    /// By a vector.
    Vector {
        /// The vector.
        vector: u8,
    },
    /// On Arm, by a private peripheral interrupt.
    Ppi {
        /// The interrupt.
        irq: u8,
        /// By edge?
        edge: bool,
        /// Active when low?
        active_low: bool,
    },
}

impl From<Callback> for ViaState {
    fn from(callback: Callback) -> Self {
        match callback {
            Callback::Via(CallbackVia::None) => Self::None,
            Callback::Via(CallbackVia::Gsi(line)) => Self::Gsi { line },
            Callback::Via(CallbackVia::PciIntx { device, pin }) => Self::Intx { device, pin },
            Callback::Via(CallbackVia::Vector(vector)) => Self::Vector { vector },
            Callback::Ppi(CallbackPpi { irq, edge, active_low }) => Self::Ppi { irq, edge, active_low },
        }
    }
}

impl From<ViaState> for Callback {
    fn from(state: ViaState) -> Self {
        match state {
            ViaState::None => CallbackVia::None.into(),
            ViaState::Gsi { line } => CallbackVia::Gsi(line).into(),
            ViaState::Intx { device, pin } => CallbackVia::PciIntx { device, pin }.into(),
            ViaState::Vector { vector } => CallbackVia::Vector(vector).into(),
            ViaState::Ppi { irq, edge, active_low } => CallbackPpi { irq, edge, active_low }.into(),
        }
    }
}

impl CallbackState {
    /// What a cell has. Under the event lock.
    pub(super) fn saved(cell: &CallbackCell) -> Self {
        Self { param: cell.param(), via: cell.get().into() }
    }

    /// Fills the cell of a domain that nobody sees yet.
    pub(super) fn restore_to(self, cell: &CallbackCell) {
        cell.put(self.param, self.via.into());
    }

    /// Checks that a domain can have come to this.
    pub(super) fn check(self, config: &ConfigState) -> Result<(), DomainError> {
        let possible = match config.kind {
            KindState::Pv => self == Self::default(),
            KindState::Hvm => self.follows(config.nr_gsis) || self.remains(config.nr_gsis),
        };
        possible.then_some(()).ok_or(DomainError::Callback)
    }

    /// Is this what setting the parameter leads to?
    fn follows(self, nr_gsis: u32) -> bool {
        let ppi = CallbackPpi::from_param(self.param).filter(|ppi| ppi.to_param() == self.param);
        let by = |callback| {
            let cell = CallbackCell::new();
            cell.set(self.param, callback, nr_gsis);
            Self::saved(&cell) == self
        };
        by(CallbackVia::from_param(self.param).into()) || ppi.is_some_and(|ppi| by(ppi.into()))
    }

    /// Is this the vector of a domain that knows no other way, after a parameter that was ignored?
    fn remains(self, nr_gsis: u32) -> bool {
        let vector = matches!(self.via, ViaState::Vector { .. } | ViaState::Ppi { .. });
        let ignored = !matches!(CallbackVia::from_param(self.param), CallbackVia::Vector(_));
        nr_gsis == 0 && vector && ignored
    }
}
