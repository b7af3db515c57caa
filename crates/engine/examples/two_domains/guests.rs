// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs in the domains: a disk, which serves requests by urgency and so has the FIFO ABI, and its client, which
//! has the two-level ABI and waits by polling.
//!
//! To them `Cpu::hypercall` is the hypercall instruction. Both use `evtchn-guest`, as a kernel in Rust would.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use evtchn_abi::args::{HvmParamValue, SchedPoll, StatusKind};
use evtchn_abi::{
    CallbackVia, DomId, Errno, Gfn, HvmOp, HvmParam, Hypercall, Layout, Op, Port, Priority, SchedOp,
    XenVersion,
};
use evtchn_engine::GuestMemory;
use evtchn_guest::{Abi, Fifo, FifoVcpu, Frame, Frames, Hypercall as EventHypercall, TwoLevel, TwoLevelVcpu};
use evtchn_sync::{HeapPage, PAGE_SIZE};

use crate::vcpu::Cpu;
use crate::{CLIENT, DISK, V0};

/// Which frames of its memory a guest uses for what.
pub const SHARED_INFO: Gfn = Gfn(0);
const ARGUMENT: Gfn = Gfn(1);
const CONTROL: Gfn = Gfn(2);
const ARRAY: Gfn = Gfn(3);

const ROUND_TRIPS: u32 = 1000;

/// The guests' hypercall: the argument goes into the guest's memory, and comes back from there.
impl EventHypercall for Cpu<'_> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        let (mut memory, address) = (self.memory(), address(ARGUMENT));
        memory.write(address, arg).map_err(|_| Errno::EFAULT)?;
        let result = self.hypercall(Hypercall::EVENT_CHANNEL_OP, [op.0.into(), address, 0, 0, 0]);
        memory.read(address, arg).map_err(|_| Errno::EFAULT)?;
        Errno::from_result(result).map_or(Ok(()), Err)
    }
}

impl Cpu<'_> {
    /// Asks for upcalls by an interrupt vector: without it, a hardware-assisted guest gets none.
    fn want_upcalls(&self) {
        let param = HvmParamValue {
            domid: DomId::SELF,
            index: HvmParam::CALLBACK_IRQ,
            value: CallbackVia::Vector(0xf3).to_param(),
            ..HvmParamValue::default()
        };
        let at = address(ARGUMENT);
        self.memory().write(at, &param.to_bytes()).expect("the frame is there");
        assert_eq!(self.hypercall(Hypercall::HVM_OP, [HvmOp::SET_PARAM.0.into(), at, 0, 0, 0]), 0);
    }

    fn frame(&self, gfn: Gfn) -> Frame<Arc<HeapPage>> {
        Frame { page: self.memory().frame(gfn).expect("our guests have 8 frames"), gfn }
    }

    /// The pages of the two-level ABI.
    fn pages(&self) -> Pages {
        Frames::two_level(self.frame(SHARED_INFO).page, &Layout::X86_64)
    }

    /// Sleeps until the next upcall.
    fn block(&self) {
        assert_eq!(self.hypercall(Hypercall::SCHED_OP, [SchedOp::BLOCK.0.into(), 0, 0, 0, 0]), 0);
    }

    /// Sleeps until there is an event on the port, an upcall, or until this system time; 0 for no limit.
    fn poll(&self, port: Port, timeout: u64) {
        let (at, ports) = (address(ARGUMENT), address(ARGUMENT) + 64);
        let poll = SchedPoll { ports, nr_ports: 1, timeout, ..SchedPoll::default() };
        let mut memory = self.memory();
        memory.write(at, &poll.to_bytes()).expect("the frame is there");
        memory.write(ports, &port.0.to_le_bytes()).expect("the frame is there");
        assert_eq!(self.hypercall(Hypercall::SCHED_OP, [SchedOp::POLL.0.into(), at, 0, 0, 0]), 0);
    }
}

fn address(gfn: Gfn) -> u64 {
    gfn.0 * PAGE_SIZE as u64
}

/// The ports of the disk that its client may bind to.
pub struct Ports {
    bulk: Port,
    urgent: Port,
    goodbye: Port,
}

type Pages = Frames<Arc<HeapPage>, Vec<Frame<Arc<HeapPage>>>>;
type DiskEvents = Fifo<Pages, [FifoVcpu; 1]>;

/// Answers each request by an event on the channel that it came from, until it is told goodbye.
pub fn disk(cpu: &Cpu<'_>, to_client: &Sender<Ports>, connected: &Receiver<()>) {
    cpu.want_upcalls();
    let (control_blocks, event_array) = (vec![cpu.frame(CONTROL)], vec![cpu.frame(ARRAY)]);
    let fifo = Fifo::new(Frames { control_blocks, event_array, ..cpu.pages() }, [FifoVcpu::new()]);
    fifo.online(V0, cpu).expect("the first control block switches to FIFO");

    let open = |priority| {
        let port = cpu.alloc_unbound(DomId::SELF, CLIENT).expect("there are free ports");
        cpu.set_priority(port, priority).expect("the port is open");
        fifo.cover(port, cpu).expect("the array's one page has 1,024 ports");
        fifo.unmask(port, cpu).expect("the port is open");
        port
    };
    let [bulk, urgent, goodbye] = [Priority(10), Priority::HIGHEST, Priority::LOWEST].map(open);
    println!("disk:   has the FIFO ABI and {} ports", fifo.nr_channels());
    to_client.send(Ports { bulk, urgent, goodbye }).expect("the client runs");

    // The client sends on both channels before we look.
    connected.recv().expect("the client runs");
    let mut order = Vec::new();
    let (mut requests, mut leaving) = (0, false);
    while !leaving {
        fifo.upcall(V0, |port| {
            leaving |= port == goodbye;
            requests += u32::from(port != goodbye);
            order.push(port);
            cpu.send(port).expect("the port is connected"); // back through the same channel
        });
        if !leaving {
            cpu.block();
        }
    }
    assert_eq!(order[..2], [urgent, bulk], "not in the order in which they were sent");
    println!(
        "disk:   {requests} requests; the first two came as bulk, urgent and were served as urgent, bulk"
    );
    assert_eq!(requests, 2 + ROUND_TRIPS);
    switch_off(cpu, &fifo);
}

/// Closes all ports, after opening so many that Xen does it in pieces; then the disk is two-level again.
fn switch_off(cpu: &Cpu<'_>, fifo: &DiskEvents) {
    let ports: Vec<Port> = (0..500).map(|_| cpu.bind_ipi(V0).expect("there are free ports")).collect();
    cpu.reset(DomId::SELF).expect("a guest may reset itself");
    fifo.forget();
    for port in ports {
        let status = cpu.status(DomId::SELF, port).expect("such a port can exist");
        assert_eq!(status.kind(), Some(StatusKind::Closed));
    }
    assert_eq!(fifo.cover(Port(1), cpu), Err(Errno::EOPNOTSUPP), "only for guests with FIFO");
    println!("disk:   has closed its ports, and the two-level ABI again");
}

/// Sends requests and waits for the answers.
pub fn client(cpu: &Cpu<'_>, from_disk: &Receiver<Ports>, connected: &Sender<()>) {
    let version = cpu.hypercall(Hypercall::XEN_VERSION, [XenVersion::VERSION.0.into(), 0, 0, 0, 0]);
    cpu.want_upcalls();
    let events = TwoLevel::new(cpu.pages(), [TwoLevelVcpu::new()]);
    events.start(); // every port is masked, as each guest begins; a poll sees masked ports, too
    println!("client: runs on Xen {}.{} with the two-level ABI", version >> 16, version & 0xffff);

    let ports = from_disk.recv().expect("the disk runs");
    let bind = |far| {
        let port = cpu.bind_interdomain(DISK, far).expect("the disk waits for us");
        events.bind(port, V0);
        events.clear_pending(port); // a new connection says hello to its maker
        port
    };
    let [bulk, urgent, goodbye] = [ports.bulk, ports.urgent, ports.goodbye].map(bind);
    let answered = |port| {
        while !events.clear_pending(port) {
            cpu.poll(port, 0);
        }
    };

    cpu.send(bulk).expect("it is connected");
    cpu.send(urgent).expect("it is connected");
    connected.send(()).expect("the disk runs");
    answered(urgent);
    answered(bulk);
    for _ in 0..ROUND_TRIPS {
        cpu.send(urgent).expect("it is connected");
        answered(urgent);
    }
    println!("client: {ROUND_TRIPS} requests, {ROUND_TRIPS} answers");

    let deadline = cpu.now() + 20_000_000;
    while cpu.now() < deadline {
        cpu.poll(bulk, deadline); // may end early, by a wake-up that came late
        assert!(!events.is_pending(bulk));
    }
    println!("client: 20 ms without an event, as nothing was asked");

    // The last answer comes as an upcall.
    events.unmask(goodbye, cpu).expect("it is connected");
    cpu.send(goodbye).expect("it is connected");
    let mut last = None;
    while last.is_none() {
        events.upcall(V0, |port| last = Some(port));
        if last.is_none() {
            cpu.block();
        }
    }
    assert_eq!(last, Some(goodbye));
    println!("client: said goodbye, and was answered by an upcall");
    [bulk, urgent, goodbye].iter().for_each(|&port| cpu.close(port).expect("it is ours"));
}
