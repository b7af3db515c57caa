// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorded machine, built up on the engine.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use evtchn_abi::{DomId, Port, VcpuId, args::StatusKind};
use evtchn_engine::{Consumer, DomainConfig, Engine, Level, OpError, Outcome};
use evtchn_sync::HeapPage;

use crate::{
    board::{self, Board},
    hypercall::Call,
    kernel::Kernel,
    memory::Memory,
};

/// The bare guest's id, and the highest port that the toolstack allows it.
pub(crate) const BARE_GUEST: DomId = DomId(1);
const BARE_GUEST_MAX_PORT: u32 = 6000;

/// The recorded machine, running.
pub(crate) struct Machine {
    engine: Engine<Board>,
    memory: Memory,
    kernels: BTreeMap<DomId, Kernel>,
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
    /// A machine with one domain, of the kind that dom0 or another domain has, all its ports masked. `fifo` says which
    /// ABI its kernel uses.
    pub fn start(domid: u16, vcpus: u32, fifo: bool) -> Result<Self> {
        let mut machine = Self::empty(DomId(domid));
        let page = machine.create(machine.domid, board::domain(domid, vcpus))?;
        Kernel::mask_all(&page);
        if fifo {
            let kernel = Kernel::fifo(&machine.engine, machine.domid, vcpus, page)?;
            machine.kernels.insert(machine.domid, kernel);
        }
        Ok(machine)
    }

    /// A machine with the bare guest, whose shared_info is `shared`, and a domain 0 to serve it.
    pub fn bare_guest(shared: &Arc<HeapPage>) -> Result<Self> {
        let mut machine = Self::empty(BARE_GUEST);
        machine.create(DomId(0), board::domain(0, 1))?;
        let config = DomainConfig { max_port: Some(BARE_GUEST_MAX_PORT), ..board::domain(BARE_GUEST.0, 2) };
        machine.create(BARE_GUEST, config)?;
        machine.engine.set_shared_info(BARE_GUEST, Some(Arc::clone(shared)))?;
        Ok(machine)
    }

    fn empty(domid: DomId) -> Self {
        let engine = Engine::with_level(Board::default(), Level::Xen4_17);
        Self { engine, memory: Memory::new(), kernels: BTreeMap::new(), domid }
    }

    /// Gives the recorded domain a page that it may share with Xen.
    pub fn share(&self, gfn: u64, page: &Arc<HeapPage>) {
        self.engine.hooks().share(self.domid, gfn, page);
    }

    /// The engine itself.
    pub fn engine(&self) -> &Engine<Board> {
        &self.engine
    }

    /// Opens the recorded domain's next port, which must be `port`, for another domain, and connects that one's
    /// `peer_port` to it. Lower free ports of the other domain are used up.
    pub fn serve(&self, peer: u16, port: u32, peer_port: u32) -> Result<()> {
        let peer = DomId(peer);
        let opened = self.engine.alloc_unbound(self.domid, DomId::SELF, peer)?;
        ensure!(opened == Port(port), "got port {opened}");
        while !self.is_open(peer, Port(peer_port - 1)) {
            self.engine.alloc_unbound(peer, DomId::SELF, DomId::SELF)?;
        }
        let bound = self.engine.bind_interdomain(peer, self.domid, opened)?;
        ensure!(bound == Port(peer_port), "the peer got port {bound}");
        Ok(())
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
        self.kernels.remove(&DomId(id));
        Ok(())
    }

    /// Issues a hypercall of the recorded domain, its argument block placed in guest memory.
    pub fn call(&mut self, call: &Call) -> Answer {
        let Call { number, address, args: [first, second], .. } = *call;
        self.memory.place(address, &call.block);
        let args = [first, second, 0, 0, 0];
        let outcome = self.engine.hypercall(self.domid, VcpuId(0), number, args, &mut self.memory);
        self.kernels.get(&self.domid).into_iter().for_each(Kernel::run);
        let (block, kept_to_block) = self.memory.block(address, call.block.len());
        Answer { outcome, block, kept_to_block }
    }

    /// Creates a domain with the two-level ABI. Its shared_info.
    fn create(&mut self, id: DomId, config: DomainConfig) -> Result<Arc<HeapPage>> {
        let page = Arc::new(HeapPage::new());
        self.engine.create_domain(id, config).with_context(|| format!("creating domain {id}"))?;
        self.engine.set_shared_info(id, Some(Arc::clone(&page)))?;
        self.kernels.insert(id, Kernel::TwoLevel(Arc::clone(&page)));
        Ok(page)
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
        let kernel = self.kernels.get(&DomId(domain))?;
        let rows = self.engine.debug_dump(DomId(domain)).ok()?;
        let row = rows.iter().find(|row| row.port == Port(port))?;
        Some(Row {
            pending: kernel.is_pending(port),
            masked: kernel.is_masked(port),
            state: row.state.number(),
            vcpu: row.vcpu.0,
            consumer: row.consumer.map_or(0, Consumer::get),
        })
    }

    /// Takes an event of the recorded domain, as its kernel would.
    pub fn take_event(&self, port: u32) {
        self.kernels.get(&self.domid).into_iter().for_each(|kernel| kernel.take_event(port));
    }

    /// A mask bit of the recorded domain.
    pub fn is_masked(&self, port: u32) -> bool {
        self.kernels.get(&self.domid).is_some_and(|kernel| kernel.is_masked(port))
    }

    /// Sets a mask bit of the recorded domain, as its kernel would.
    pub fn set_masked(&self, port: u32, masked: bool) -> Result<()> {
        let kernel = self.kernels.get(&self.domid).context("no such domain")?;
        kernel.set_masked(port, masked, &self.engine, self.domid)
    }

    /// Issues a hypercall that must answer zero.
    pub fn succeed(&mut self, call: &Call) -> Result<Answer> {
        let answer = self.call(call);
        ensure!(answer.ret()? == 0, "{call:?}: {:?}", answer.outcome);
        Ok(answer)
    }
}
