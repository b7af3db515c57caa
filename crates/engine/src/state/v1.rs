// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layouts of version 1, and what they mean today. What is not here is as it was then.

use alloc::vec::Vec;

use serde::Deserialize;

use super::stored::nr_gsis;
use super::{
    CallbackState, ConfigState, DeliveryState, DomainState, FifoState, KindState, PortState, VERSION,
    WidthState,
};

/// A domain.
#[derive(Deserialize)]
pub(super) struct DomainV1 {
    id: u16,
    config: ConfigV1,
    width: WidthState,
    paused: bool,
    records: u32,
    ports: Vec<PortState>,
    reset: Option<u32>,
    fifo: Option<FifoState>,
}

/// What a domain was created with.
#[derive(Deserialize)]
struct ConfigV1 {
    vcpus: u32,
    max_port: Option<u32>,
    privileged: bool,
    hardware: bool,
    kind: KindState,
    width: WidthState,
    nr_pirqs: u32,
    fifo: bool,
    target: Option<u16>,
}

impl From<DomainV1> for DomainState {
    /// Every domain had pages; no vCPU had a timer, or had said where its vcpu_info is and how it wants to be
    /// told of events. Domains that were being destroyed were not saved.
    fn from(old: DomainV1) -> Self {
        Self {
            version: VERSION,
            id: old.id,
            config: old.config.into(),
            width: old.width,
            paused: old.paused,
            records: old.records,
            ports: old.ports,
            reset: old.reset,
            fifo: old.fifo,
            vcpus: Vec::new(),
            callback: CallbackState::default(),
            auto_unmask: false,
            suspend_port: None,
            teardown: None,
        }
    }
}

impl From<ConfigV1> for ConfigState {
    fn from(old: ConfigV1) -> Self {
        Self {
            vcpus: old.vcpus,
            max_port: old.max_port,
            privileged: old.privileged,
            hardware: old.hardware,
            kind: old.kind,
            width: old.width,
            nr_pirqs: old.nr_pirqs,
            fifo: old.fifo,
            target: old.target,
            nr_gsis: nr_gsis(),
            delivery: DeliveryState::Shared,
        }
    }
}
