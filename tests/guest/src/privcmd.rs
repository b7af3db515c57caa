// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/dev/xen/privcmd`: hypercalls of one's own.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use evtchn_abi::args::{Status, StatusKind};
use evtchn_abi::privcmd::{DEVICE_PATH, HYPERCALL, PrivcmdHypercall};
use evtchn_abi::{CStruct, DomId, Hypercall, Op, Port};
use rustix::fs::{Mode, OFlags};

use crate::calls::call;

const CONSOLE_IO: Hypercall = Hypercall(18);
const CHUNK: usize = 4096;

pub struct Privcmd(OwnedFd);

impl Privcmd {
    pub fn open() -> Result<Self> {
        let file = rustix::fs::open(DEVICE_PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        file.map(Self).with_context(|| format!("open {DEVICE_PATH}"))
    }

    /// Makes a hypercall. Addresses among the arguments are those of this program.
    pub fn hypercall(&self, op: Hypercall, arg: [u64; 5]) -> rustix::io::Result<i32> {
        call(&self.0, HYPERCALL, PrivcmdHypercall { op, arg }.to_bytes())
    }

    /// What a port of this domain's is.
    pub fn status(&self, port: Port) -> Result<Option<StatusKind>> {
        let question = Status { dom: DomId::SELF, port, ..Status::from_bytes(Status::ZEROED) };
        let mut bytes = question.to_bytes();
        let address = (&raw mut bytes) as u64;
        self.hypercall(Hypercall::EVENT_CHANNEL_OP, [Op::STATUS.0.into(), address, 0, 0, 0])
            .context("EVTCHNOP_status")?;
        Ok(Status::from_bytes(std::hint::black_box(bytes)).kind())
    }

    /// Writes to Xen's debug console.
    pub fn console(&self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            let (length, address) = (chunk.len() as u64, chunk.as_ptr() as u64);
            self.hypercall(CONSOLE_IO, [0, length, address, 0, 0]).context("CONSOLEIO_write")?;
        }
        Ok(())
    }
}
