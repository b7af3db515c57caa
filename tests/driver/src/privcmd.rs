// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls of our own, for channels that the driver did not make.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use evtchn_abi::args::{AllocUnbound, Close, Status};
use evtchn_abi::privcmd::{DEVICE_PATH, HYPERCALL, PrivcmdHypercall};
use evtchn_abi::{CStruct, ChannelStatus, DomId, Hypercall, Op, Port};

use crate::sys;

/// The hypercall device.
pub struct Privcmd(File);

impl Privcmd {
    /// Opens it.
    pub fn open() -> Result<Self> {
        File::options().read(true).write(true).open(DEVICE_PATH).map(Self).context(DEVICE_PATH)
    }

    /// A port that domain 0 may connect to and that Linux does not know.
    pub fn unbound(&self) -> Result<u32> {
        let arguments = AllocUnbound { dom: DomId::SELF, remote_dom: DomId::SELF, ..Default::default() };
        Ok(self.call(Op::ALLOC_UNBOUND, &arguments)?.port.0)
    }

    /// Whether a port is open.
    pub fn is_open(&self, port: u32) -> Result<bool> {
        let arguments = Status { dom: DomId::SELF, port: Port(port), ..Default::default() };
        Ok(self.call(Op::STATUS, &arguments)?.status != ChannelStatus::CLOSED)
    }

    /// Closes a port.
    pub fn close(&self, port: u32) -> Result<()> {
        self.call(Op::CLOSE, &Close { port: Port(port) }).map(drop)
    }

    fn call<A: CStruct>(&self, op: Op, arguments: &A) -> Result<A> {
        let mut bytes = arguments.to_bytes();
        let argument = bytes.as_mut().as_mut_ptr() as u64;
        let call =
            PrivcmdHypercall { op: Hypercall::EVENT_CHANNEL_OP, arg: [op.0.into(), argument, 0, 0, 0] };
        let result = sys::hypercall(self.0.as_fd(), HYPERCALL, &call.to_bytes());
        ensure!(result.is_ok(), "hypercall {op}: {result:?}");
        Ok(A::from_bytes(bytes))
    }
}
