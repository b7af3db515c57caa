// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorded machine, built up on the engine.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use anyhow::{Context, Result, bail, ensure};
use evtchn_abi::{DomId, Port, VcpuId, args::StatusKind};
use evtchn_engine::{Consumer, DomainConfig, Engine, Level, OpError, Outcome};
use evtchn_sync::{HeapPage, Page};

use crate::{
    board::{self, Board},
    hypercall::Call,
    memory::Memory,
};

/// The first byte of `evtchn_pending` in shared_info.
const PENDING: usize = 2048;
/// The first byte of `evtchn_mask` in shared_info.
const MASK: usize = 2560;
/// Ports of the two-level ABI with 64-bit words.
const TWO_LEVEL_PORTS: u32 = 4096;

/// The recorded machine, running.
pub(crate) struct Machine {
    engine: Engine<Board>,
    memory: Memory,
    pages: BTreeMap<DomId, Arc<HeapPage>>,
    domid: DomId,
}

/// A port as Xen's debug key `e` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub pending: bool,
    pub masked: bool,
    pub state: u8,
    pub vcpu: u32,
    pub consumer: u8,
}

/// What a hypercall answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its result, or why there is none.
    pub outcome: Outcome,
    /// The argument block afterwards.
    pub block: Vec<u8>,
    /// Whether nothing behind the block was written.
    pub kept_to_block: bool,
}

impl Answer {
    /// The result. No recorded call sleeps or is continued.
    pub fn ret(&self) -> Result<i64> {
        match self.outcome {
            Outcome::Done(ret) => Ok(ret),
            other => bail!("the engine answered {other:?}"),
        }
    }
}

impl Machine {
    /// A machine with one domain, of the kind that dom0 or another domain has, all its ports masked.
    pub fn start(domid: u16, vcpus: u32) -> Result<Self> {
        let mut machine = Self {
            engine: Engine::with_level(Board, Level::Xen4_17),
            memory: Memory::new(),
            pages: BTreeMap::new(),
            domid: DomId(domid),
        };
        machine.create(machine.domid, board::domain(domid, vcpus))?;
        (0..TWO_LEVEL_PORTS).for_each(|port| machine.set_masked(port, true));
        Ok(machine)
    }

    /// Makes a port of another domain wait for the recorded one. Lower free ports of the other domain are used up too.
    pub fn offer(&mut self, peer: u16, port: u32) -> Result<()> {
        let peer = DomId(peer);
        if !self.engine.domain_exists(peer) {
            self.create(peer, board::domain(peer.0, 1))?;
        }
        while !self.is_open(peer, Port(port)) {
            self.engine.alloc_unbound(peer, DomId::SELF, self.domid)?;
        }
        Ok(())
    }

    fn is_open(&self, domain: DomId, port: Port) -> bool {
        let status = self.engine.status(domain, DomId::SELF, port);
        status.is_ok_and(|status| status.kind != StatusKind::Closed)
    }

    /// Creates the second domain, as a toolstack does: paused.
    pub fn create_second(&mut self, id: u16, max_port: u32, vcpus: u32) -> Result<()> {
        let config = DomainConfig { max_port: Some(max_port), ..DomainConfig::guest(vcpus) };
        self.create(DomId(id), config)?;
        Ok(self.pause(id, true)?)
    }

    /// Pauses or unpauses a domain.
    pub fn pause(&self, id: u16, paused: bool) -> Result<(), OpError> {
        self.engine.set_paused(DomId(id), paused)
    }

    /// Destroys a domain.
    pub fn destroy(&mut self, id: u16) -> Result<(), OpError> {
        self.engine.destroy_domain(DomId(id))?;
        self.pages.remove(&DomId(id));
        Ok(())
    }

    /// Issues a hypercall of the recorded domain, its argument block placed in guest memory.
    pub fn call(&mut self, call: &Call) -> Answer {
        let Call { number, address, args: [first, second], .. } = *call;
        self.memory.place(address, &call.block);
        let args = [first, second, 0, 0, 0];
        let outcome = self.engine.hypercall(self.domid, VcpuId(0), number, args, &mut self.memory);
        let (block, kept_to_block) = self.memory.block(address, call.block.len());
        Answer { outcome, block, kept_to_block }
    }

    fn create(&mut self, id: DomId, config: DomainConfig) -> Result<()> {
        let page = Arc::new(HeapPage::new());
        self.engine.create_domain(id, config).with_context(|| format!("creating domain {id}"))?;
        self.engine.set_shared_info(id, Some(Arc::clone(&page)))?;
        self.pages.insert(id, page);
        Ok(())
    }

    /// What is wrong with the engine's own bookkeeping, if anything.
    pub fn broken_invariant(&self) -> Option<String> {
        self.engine.validate().err()
    }

    /// The recorded domain's id.
    pub fn id(&self) -> u16 {
        self.domid.0
    }

    /// Takes the lowest free port.
    pub fn allocate(&mut self) -> Result<u32> {
        let call = Call::alloc_unbound_self();
        call.new_port(&self.succeed(&call)?.block).context("no port")
    }

    /// Closes a port.
    pub fn close(&mut self, port: u32) -> Result<()> {
        self.succeed(&Call::close(port)).map(drop)
    }

    /// The status of a port.
    pub fn status(&mut self, port: u32) -> Answer {
        self.call(&Call::status_self(port))
    }

    /// Whether a port is in use, by its status.
    pub fn is_used(&mut self, port: u32) -> bool {
        let answer = self.status(port);
        answer.outcome == Outcome::Done(0) && Call::status_name(&answer.block) != "closed"
    }

    /// A port of a domain as the hypervisor prints it, its bits taken from guest memory; `None` if it is free or the
    /// domain does not exist.
    pub fn row(&self, domain: u16, port: u32) -> Option<Row> {
        let page = self.pages.get(&DomId(domain))?;
        let rows = self.engine.debug_dump(DomId(domain)).ok()?;
        let row = rows.iter().find(|row| row.port == Port(port))?;
        Some(Row {
            pending: is_set(page, PENDING, port),
            masked: is_set(page, MASK, port),
            state: row.state.number(),
            vcpu: row.vcpu.0,
            consumer: row.consumer.map_or(0, Consumer::get),
        })
    }

    /// Takes an event of the recorded domain, as its kernel would.
    pub fn take_event(&self, port: u32) {
        let page = self.pages.get(&self.domid);
        if let Some(word) = page.and_then(|page| word_of(page, PENDING, port)) {
            word.fetch_and(!bit_of(port), SeqCst);
        }
    }

    /// A mask bit of the recorded domain.
    pub fn is_masked(&self, port: u32) -> bool {
        self.pages.get(&self.domid).is_some_and(|page| is_set(page, MASK, port))
    }

    /// Sets a mask bit of the recorded domain, as its kernel would.
    pub fn set_masked(&self, port: u32, masked: bool) {
        let word = self.pages.get(&self.domid).and_then(|page| word_of(page, MASK, port));
        let (Some(word), bit) = (word, bit_of(port)) else {
            return;
        };
        if masked {
            word.fetch_or(bit, SeqCst);
        } else {
            word.fetch_and(!bit, SeqCst);
        }
    }

    /// Issues a hypercall that must answer zero.
    pub fn succeed(&mut self, call: &Call) -> Result<Answer> {
        let answer = self.call(call);
        ensure!(answer.ret()? == 0, "{call:?}: {:?}", answer.outcome);
        Ok(answer)
    }
}

/// The word of a bit array of shared_info that a port's bit is in.
fn word_of(page: &HeapPage, array: usize, port: u32) -> Option<&AtomicU64> {
    page.u64(array + port as usize / 64 * 8)
}

fn bit_of(port: u32) -> u64 {
    1 << (port % 64)
}

fn is_set(page: &HeapPage, array: usize, port: u32) -> bool {
    word_of(page, array, port).is_some_and(|word| word.load(SeqCst) & bit_of(port) != 0)
}
