// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and restoring: what comes back, who finds whom again, and what is refused.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::state::{Machine, array, configs, control};
use common::{D0, D1, D2, NOBODY};
use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};
use evtchn_engine::state::{BindingState, DomainError, HandlerState, PortState, TailState};
use evtchn_engine::test_utils::{Call, Recorder, page};
use evtchn_engine::{
    Consumer, DomainConfig, DomainState, Engine, Hooks, Level, MachineState, OpError, PirqRefused,
    ResetOutcome, RestoreError, State, Upcall, Width,
};
use evtchn_sync::{HeapPage, Page};

/// A machine with something of everything, domain 1 with FIFO.
fn full() -> Machine {
    let mut machine = Machine::new(&configs());
    assert_eq!(machine.init_control(D1, 0), "Ok(())");
    assert_eq!(machine.init_control(D1, 2), "Ok(())");
    assert_eq!(machine.expand_array(D1), "Ok(())");
    let engine = &machine.engine;
    let waiting = engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    engine.bind_interdomain(D1, D2, waiting).unwrap();
    let own = engine.alloc_unbound(D1, DomId::SELF, D1).unwrap();
    engine.bind_interdomain(D1, D1, own).unwrap();
    engine.bind_ipi(D1, VcpuId(2)).unwrap();
    engine.bind_virq(D1, Virq::TIMER, VcpuId(1)).unwrap();
    engine.bind_virq(D0, Virq::DOM_EXC, VcpuId(0)).unwrap();
    engine.set_virq_handler(Virq::CONSOLE, D2).unwrap();
    engine.bind_pirq(D1, Pirq(3), 1).unwrap();
    engine.alloc_consumer(D0, D1, VcpuId(0), D2, Consumer::new(5).unwrap()).unwrap();
    engine.alloc_unbound(D0, DomId::SELF, NOBODY).unwrap();
    machine
}

fn state() -> MachineState {
    full().engine.save().unwrap()
}

/// Domain 1 of [`full`], by itself.
fn domain() -> DomainState {
    full().engine.save_domain(D1).unwrap()
}

/// Restores, which must fail and leave nothing behind.
fn refused(state: &MachineState) -> RestoreError {
    let machine = Machine::empty(3);
    let refused = machine.engine.restore(state, |id| Some(machine.page(id).clone())).unwrap_err();
    assert!(machine.ids().all(|id| !machine.engine.domain_exists(id)));
    assert!(machine.words().iter().all(|&word| word == 0), "memory was written");
    assert_eq!(machine.calls(), []);
    machine.engine.validate().unwrap();
    refused
}

#[track_caller]
fn assert_wrong(change: impl FnOnce(&mut DomainState), expected: DomainError) {
    let mut state = state();
    change(&mut state.domains[1]);
    assert_eq!(refused(&state), RestoreError::Domain(D1, expected));
}

fn port_of(state: &mut DomainState, wanted: fn(&BindingState) -> bool) -> &mut PortState {
    state.ports.iter_mut().find(|port| wanted(&port.binding)).unwrap()
}

#[test]
fn everything_that_was_saved_comes_back() {
    let machine = full();
    let state = machine.engine.save().unwrap();
    let new = machine.moved(&state);
    assert_eq!(new.engine.save().unwrap(), state);
    assert_eq!(new.dumps(), machine.dumps());
    assert_eq!(new.engine.ports_in_use(D1), machine.engine.ports_in_use(D1));
    new.engine.validate().unwrap();
}

#[test]
fn width_pause_and_a_reset_that_gave_way_come_back() {
    struct Busy(Recorder);
    impl Hooks for Busy {
        type Page = std::sync::Arc<HeapPage>;
        fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
        fn wake_poller(&self, _: DomId, _: VcpuId) {}
        fn preempt(&self, _: DomId) -> bool {
            true
        }
    }
    let engine = Engine::new(Busy(Recorder::default()));
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    (0..100).for_each(|_| assert!(engine.bind_ipi(D1, VcpuId(0)).is_ok()));
    engine.set_width(D1, Width::Bits32).unwrap();
    engine.set_paused(D1, true).unwrap();
    assert_eq!(engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Again));
    let state = engine.save_domain(D1).unwrap();
    assert_eq!((state.reset, state.records, state.ports.len()), (Some(64), 128, 37));
    let new = Engine::new(Busy(Recorder::default()));
    new.restore_domain(&state, None).unwrap();
    assert_eq!(new.save_domain(D1).unwrap(), state);
    assert_eq!(new.reset(D1, DomId::SELF), Err(OpError::ResetPhase));
    while new.reset_cont(D1, DomId::SELF).unwrap() == ResetOutcome::Again {}
    assert_eq!(new.ports_in_use(D1), Ok((0, 0)));
    assert_eq!(new.alloc_unbound(D1, DomId::SELF, D1), Ok(Port(1)));
    let _ = &new.hooks().0;
}

#[test]
fn what_was_pending_is_announced_and_each_waiting_upcall_delivered_once() {
    let machine = Machine::new(&configs());
    let ports: Vec<_> = (0..3).map(|vcpu| machine.engine.bind_ipi(D1, VcpuId(vcpu)).unwrap()).collect();
    let page = machine.page(D1);
    common::set_bit(page, 2048, ports[0].0, true);
    common::set_bit(page, 2048, ports[1].0, true);
    common::set_bit(page, 2560, ports[1].0, true); // masked
    page.u8(64 * 2).unwrap().store(1, SeqCst); // an upcall, whatever it was for
    let new = machine.moved(&machine.engine.save().unwrap());
    let delivered = |vcpu| Call::Deliver(D1, VcpuId(vcpu), Upcall::PvEntry);
    assert_eq!(new.calls(), [delivered(0), delivered(2)]);
    assert!(common::bit(new.page(D1), 8, 0) && !common::bit(new.page(D1), 72, 0));
}

#[test]
fn a_fifo_port_that_is_pending_and_on_no_queue_is_linked() {
    let mut machine = full();
    let ipi = machine.engine.bind_ipi(D1, VcpuId(2)).unwrap();
    machine.with_word(D1, ipi, |word| word.fetch_or(evtchn_abi::fifo::PENDING, SeqCst));
    let mut new = machine.moved(&machine.engine.save().unwrap());
    assert_eq!(new.take_fifo(D1, 2), Some((ipi, true)));
    assert_eq!(machine.take_fifo(D1, 2), None);
}

/// As if a sender had been stopped between READY and the upcall byte.
#[test]
fn a_queue_that_nobody_was_told_of_is_announced() {
    let mut machine = Machine::new(&configs());
    machine.init_control(D1, 0);
    machine.expand_array(D1);
    let ipi = machine.engine.bind_ipi(D1, VcpuId(0)).unwrap();
    machine.engine.send(D1, ipi).unwrap();
    machine.page(D1).u8(0).unwrap().store(0, SeqCst);
    let new = machine.moved(&machine.engine.save().unwrap());
    assert_eq!(new.calls(), [Call::Deliver(D1, VcpuId(0), Upcall::PvEntry)]);
    assert_eq!(new.page(D1).u8(0).unwrap().load(SeqCst), 1);
}

#[test]
fn an_event_that_waits_for_an_array_page_is_kept() {
    let mut machine = Machine::new(&configs());
    machine.init_control(D1, 0);
    let ipi = machine.engine.bind_ipi(D1, VcpuId(0)).unwrap();
    machine.engine.send(D1, ipi).unwrap();
    let state = machine.engine.save().unwrap();
    assert_eq!(state.domains[1].fifo.as_ref().unwrap().kept, [ipi.0]);
    let mut new = machine.moved(&state);
    assert_eq!(new.take_fifo(D1, 0), None);
    new.expand_array(D1);
    assert_eq!(new.take_fifo(D1, 0), Some((ipi, true)));
}

#[test]
fn restored_frames_are_pinned_and_used() {
    let machine = full();
    let new = machine.moved(&machine.engine.save().unwrap());
    assert_eq!(new.engine.init_control(D1, VcpuId(2), control(1), 0), Err(OpError::HasControlBlock));
    assert_eq!(new.engine.init_control(D1, VcpuId(1), control(1), 0), Ok(()));
    assert_eq!(new.engine.expand_array(D1, array(1)), Ok(()));
}

#[test]
fn a_domain_finds_a_peer_that_waits_for_it_and_is_raised() {
    let machine = full();
    let state = machine.engine.save_domain(D1).unwrap();
    let page = machine.engine.destroy_domain(D1).unwrap();
    let peer = Port(1);
    assert_eq!(machine.engine.send(D2, peer), Ok(())); // dropped: nobody is there
    machine.calls();
    machine.engine.restore_domain(&state, page).unwrap();
    assert_eq!(machine.engine.save_domain(D1).unwrap().ports, state.ports);
    assert!(machine.calls().contains(&Call::Deliver(D1, VcpuId(0), Upcall::PvEntry)));
    assert_eq!(machine.engine.validate(), Ok(()));
}

#[test]
fn a_domain_whose_peer_is_gone_or_taken_waits_for_it() {
    let machine = full();
    let state = machine.engine.save_domain(D1).unwrap();
    machine.engine.destroy_domain(D1).unwrap();
    machine.engine.close(D2, Port(1)).unwrap();
    machine.engine.restore_domain(&state, Some(page())).unwrap();
    let first = |engine: &Engine<Recorder>| engine.debug_dump(D1).unwrap()[0].state;
    assert_eq!(first(&machine.engine), State::Unbound { remote: D2 });
    // Also if the port there is another now, and if there is no such domain at all.
    let other = machine.engine.alloc_unbound(D2, DomId::SELF, D0).unwrap();
    assert_eq!(other, Port(1));
    machine.engine.destroy_domain(D1).unwrap();
    machine.engine.restore_domain(&state, Some(page())).unwrap();
    assert_eq!(first(&machine.engine), State::Unbound { remote: D2 });
    let empty = Machine::empty(3);
    empty.engine.restore_domain(&state, Some(page())).unwrap();
    assert_eq!(first(&empty.engine), State::Unbound { remote: D2 });
    empty.engine.validate().unwrap();
}

#[test]
fn domains_that_are_restored_one_after_the_other_find_each_other() {
    let machine = full();
    let states: Vec<_> = machine.ids().map(|id| machine.engine.save_domain(id).unwrap()).collect();
    let new = Machine::empty(3);
    for state in states.iter().rev() {
        new.engine.restore_domain(state, Some(new.page(DomId(state.id)).clone())).unwrap();
        new.engine.validate().unwrap();
    }
    let again: Vec<_> = new.ids().map(|id| new.engine.save_domain(id).unwrap().ports).collect();
    assert_eq!(again, states.iter().map(|state| state.ports.clone()).collect::<Vec<_>>());
}

#[test]
fn what_a_consumer_is_connected_to_reaches_it_after_a_restore() {
    let machine = Machine::new(&configs());
    let consumer = Consumer::new(2).unwrap();
    let near = machine.engine.alloc_consumer(D0, D1, VcpuId(1), D2, consumer).unwrap();
    let far = machine.engine.bind_interdomain(D2, D1, near).unwrap();
    let states = [D1, D2].map(|id| machine.engine.save_domain(id).unwrap());
    let whole = machine.moved(&machine.engine.save().unwrap());
    let single = Machine::empty(3);
    states.iter().for_each(|state| single.engine.restore_domain(state, None).unwrap());
    for new in [whole, single] {
        new.calls();
        new.engine.send(D2, far).unwrap();
        assert_eq!(new.calls(), [Call::Consumer(consumer, D1, VcpuId(1), near)]);
        assert_eq!(new.engine.close(D1, near), Err(OpError::XenOwned));
        new.engine.free_consumer(D1, near).unwrap();
        new.engine.validate().unwrap();
    }
}

#[test]
fn a_restored_domain_is_no_handler_but_a_machine_has_its_handlers() {
    let machine = full();
    let new = machine.moved(&machine.engine.save().unwrap());
    assert_eq!(new.engine.bind_virq(D2, Virq::CONSOLE, VcpuId(0)).map(drop), Ok(()));
    assert_eq!(new.engine.raise_global_virq(Virq::DOM_EXC), Ok(true));
    let alone = Machine::empty(3);
    alone.engine.restore_domain(&machine.engine.save_domain(D2).unwrap(), None).unwrap();
    assert_eq!(alone.engine.bind_virq(D2, Virq::CONSOLE, VcpuId(0)), Err(OpError::VirqElsewhere));
}

/// Hooks that count the lines that are connected, and have room for some.
#[derive(Default)]
struct Lines {
    connected: std::sync::Mutex<Vec<(Pirq, bool)>>,
    room: usize,
}

impl Hooks for Lines {
    type Page = std::sync::Arc<HeapPage>;
    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
    fn wake_poller(&self, _: DomId, _: VcpuId) {}
    fn pirq_bind(&self, _: DomId, pirq: Pirq, share: bool) -> Result<(), PirqRefused> {
        let mut connected = self.connected.lock().unwrap();
        if connected.len() == self.room {
            return Err(PirqRefused::InUse);
        }
        connected.push((pirq, share));
        Ok(())
    }
    fn pirq_unbind(&self, _: DomId, pirq: Pirq) {
        self.connected.lock().unwrap().retain(|&(other, _)| other != pirq);
    }
}

#[test]
fn lines_are_connected_again_all_or_none() {
    let lines = |room| Engine::new(Lines { room, ..Lines::default() });
    let engine = lines(9);
    engine.create_domain(D1, DomainConfig { nr_pirqs: 9, ..DomainConfig::guest(1) }).unwrap();
    (0..3).for_each(|pirq| assert!(engine.bind_pirq(D1, Pirq(pirq), pirq % 2).is_ok()));
    let state = engine.save_domain(D1).unwrap();
    let new = lines(9);
    new.restore_domain(&state, None).unwrap();
    assert_eq!(*new.hooks().connected.lock().unwrap(), *engine.hooks().connected.lock().unwrap());
    assert_eq!(new.raise_pirq(D1, Pirq(2)), Ok(true));
    let short = lines(2);
    let refused = DomainError::PirqRefused(3, OpError::IrqInUse);
    assert_eq!(short.restore_domain(&state, None), Err(RestoreError::Domain(D1, refused)));
    assert_eq!(*short.hooks().connected.lock().unwrap(), []);
    assert!(!short.domain_exists(D1));
}

#[test]
fn a_frame_that_is_refused_is_named() {
    let mut state = state();
    state.domains[1].fifo.as_mut().unwrap().array.push(0xdead);
    assert_eq!(refused(&state), RestoreError::Domain(D1, DomainError::Frame(0xdead)));
}

#[test]
fn a_domain_that_is_there_is_not_replaced() {
    let machine = full();
    let before = machine.engine.save().unwrap();
    let exists = RestoreError::Domain(D1, DomainError::Exists);
    assert_eq!(machine.engine.restore_domain(&domain(), Some(page())), Err(exists));
    assert_eq!(machine.engine.restore(&before, |_| None), Err(RestoreError::NotEmpty));
    assert_eq!(machine.engine.save().unwrap(), before);
}

#[test]
fn what_does_not_exist_cannot_be_saved() {
    assert_eq!(full().engine.save_domain(NOBODY), Err(OpError::NoDomain));
}

#[test]
fn other_versions_are_refused() {
    for version in [0, 1, 3, u32::MAX] {
        let mut machine = state();
        machine.version = version;
        assert_eq!(refused(&machine), RestoreError::Version(version));
        let mut machine = state();
        machine.domains[1].version = version;
        assert_eq!(refused(&machine), RestoreError::Version(version));
    }
}

#[test]
fn machines_out_of_order_or_too_large_are_refused() {
    let mut swapped = state();
    swapped.domains.swap(0, 1);
    assert_eq!(refused(&swapped), RestoreError::DomainOrder(D0));
    let mut twice = state();
    twice.domains.insert(1, twice.domains[1].clone());
    assert_eq!(refused(&twice), RestoreError::DomainOrder(D1));
    let mut large = state();
    let many = |id| {
        let mut domain = domain();
        (domain.id, domain.records) = (id, 131_072);
        domain
    };
    large.domains = (0..33).map(many).collect();
    assert_eq!(refused(&large), RestoreError::TooLarge);
}

#[test]
fn wrong_handlers_are_refused() {
    let wrong = |handlers: &[(u32, u16)]| {
        let mut state = state();
        state.virq_handlers = handlers.iter().map(|&(virq, domain)| HandlerState { virq, domain }).collect();
        refused(&state)
    };
    assert_eq!(wrong(&[(0, 1)]), RestoreError::Handler(0)); // per vCPU
    assert_eq!(wrong(&[(24, 1)]), RestoreError::Handler(24));
    assert_eq!(wrong(&[(2, 1), (2, 1)]), RestoreError::Handler(2));
    assert_eq!(wrong(&[(2, 7)]), RestoreError::Handler(2));
    let mut machine = state();
    machine.hardware = Some(1);
    assert_eq!(refused(&machine), RestoreError::Hardware(D1));
    machine.hardware = Some(9);
    assert_eq!(refused(&machine), RestoreError::Hardware(DomId(9)));
}

#[test]
fn wrong_configurations_are_refused() {
    let mut reserved = domain();
    reserved.id = 0x7ff0;
    let refused = Machine::empty(3).engine.restore_domain(&reserved, None);
    assert_eq!(refused, Err(RestoreError::Domain(DomId::SELF, DomainError::Id)));
    assert_wrong(|state| state.config.vcpus = 0, DomainError::Vcpus(0));
    assert_wrong(|state| state.config.vcpus = 8193, DomainError::Vcpus(8193));
    assert_wrong(|state| state.config.nr_pirqs = 1 << 21, DomainError::Pirqs(1 << 21));
    for records in [0, 63, 65, 131_136] {
        assert_wrong(|state| state.records = records, DomainError::Records(records));
    }
}

#[test]
fn records_beyond_the_highest_port_are_refused() {
    let limit = |state: &mut DomainState| {
        state.config.max_port = Some(63);
        state.records = 128;
    };
    assert_wrong(limit, DomainError::Records(128));
}

#[test]
fn wrong_ports_are_refused() {
    assert_wrong(|state| state.reset = Some(0), DomainError::Reset(0));
    assert_wrong(|state| state.reset = Some(131_073), DomainError::Reset(131_073));
    assert_wrong(|state| state.ports[0].port = 0, DomainError::PortRange(0));
    assert_wrong(|state| state.ports.last_mut().unwrap().port = 64, DomainError::PortRange(64));
    assert_wrong(|state| state.ports.swap(0, 1), DomainError::PortOrder(1));
    assert_wrong(|state| state.ports[1].port = 1, DomainError::PortOrder(1));
    assert_wrong(|state| state.ports[0].vcpu = 3, DomainError::PortVcpu(1));
    assert_wrong(|state| state.ports[0].priority = 16, DomainError::Priority(1));
    assert_wrong(|state| state.ports[0].consumer = 8, DomainError::Consumer(1));
    let ipi = |binding: &BindingState| *binding == BindingState::Ipi;
    assert_wrong(|state| port_of(state, ipi).consumer = 1, DomainError::Consumer(4));
}

#[test]
fn wrong_peers_are_refused() {
    let peer = |remote, port| {
        move |state: &mut DomainState| {
            state.ports[0].binding = BindingState::Interdomain { remote, port };
        }
    };
    assert_wrong(peer(2, 0), DomainError::Peer(1));
    assert_wrong(peer(2, 131_072), DomainError::Peer(1));
    assert_wrong(peer(0x7ff0, 1), DomainError::Peer(1));
    assert_wrong(peer(1, 1), DomainError::Peer(1)); // itself
    assert_wrong(peer(7, 1), DomainError::PeerMissing(1));
    assert_wrong(peer(2, 2), DomainError::Asymmetric(1));
    assert_wrong(peer(0, 1), DomainError::Asymmetric(1));
    // From the other side, too: domain 0 comes first.
    let mut state = state();
    state.domains[0].ports[0].binding = BindingState::Interdomain { remote: 1, port: 1 };
    assert_eq!(refused(&state), RestoreError::Domain(D0, DomainError::Asymmetric(1)));
    // A single domain's peers in itself.
    let mut domain = domain();
    let own = domain
        .ports
        .iter_mut()
        .find(|port| matches!(port.binding, BindingState::Interdomain { remote: 1, .. }));
    own.unwrap().binding = BindingState::Ipi;
    let refused = Machine::empty(3).engine.restore_domain(&domain, None);
    assert_eq!(refused, Err(RestoreError::Domain(D1, DomainError::Asymmetric(3))));
}

#[test]
fn wrong_interrupts_are_refused() {
    let virq = |virq| move |state: &mut DomainState| state.ports[3].binding = BindingState::Virq { virq };
    assert_wrong(virq(24), DomainError::Virq(4));
    assert_wrong(
        |state| {
            virq(0)(state);
            state.ports[3].vcpu = 1;
        },
        DomainError::VirqTwice(5),
    );
    let pirq = |pirq| {
        move |state: &mut DomainState| state.ports[3].binding = BindingState::Pirq { pirq, shares: false }
    };
    assert_wrong(pirq(8), DomainError::Pirq(4));
    assert_wrong(pirq(3), DomainError::PirqTwice(6));
    // One that is not per vCPU, on two vCPUs.
    assert_wrong(
        |state| {
            virq(2)(state);
            state.ports[4].binding = BindingState::Virq { virq: 2 };
        },
        DomainError::VirqTwice(5),
    );
}

#[test]
fn wrong_fifo_states_are_refused() {
    fn fifo(change: fn(&mut evtchn_engine::state::FifoState)) -> impl FnOnce(&mut DomainState) {
        move |state| change(state.fifo.as_mut().unwrap())
    }
    assert_wrong(|state| state.config.fifo = false, DomainError::FifoNotAllowed);
    assert_wrong(fifo(|fifo| fifo.controls.clear()), DomainError::Controls);
    assert_wrong(fifo(|fifo| fifo.controls.swap(0, 1)), DomainError::Controls);
    assert_wrong(fifo(|fifo| fifo.controls[1].vcpu = 3), DomainError::Control(3));
    assert_wrong(fifo(|fifo| fifo.controls[1].offset = 4), DomainError::Control(2));
    assert_wrong(fifo(|fifo| fifo.controls[1].offset = 4032), DomainError::Control(2));
    assert_wrong(fifo(|fifo| fifo.array.resize(129, 200)), DomainError::Array(129));
    let tail = |vcpu, priority, port| TailState { vcpu, priority, port };
    for wrong in [tail(1, 7, 1), tail(0, 16, 1), tail(0, 7, 0), tail(0, 7, 64), tail(0, 7, 5000)] {
        let change = move |state: &mut DomainState| state.fifo.as_mut().unwrap().tails = vec![wrong];
        assert_wrong(change, DomainError::Tail(wrong.port));
    }
    let two = |a, b| move |state: &mut DomainState| state.fifo.as_mut().unwrap().tails = vec![a, b];
    assert_wrong(two(tail(0, 7, 1), tail(0, 7, 2)), DomainError::Tail(2));
    assert_wrong(two(tail(0, 7, 1), tail(0, 8, 1)), DomainError::Tail(1)); // of two queues
    assert_wrong(two(tail(0, 0, 1), tail(2, 8, 1)), DomainError::Tail(1));
    assert_wrong(fifo(|fifo| fifo.linked = vec![1024]), DomainError::Linked(1024));
    assert_wrong(fifo(|fifo| fifo.linked = vec![5, 5]), DomainError::Linked(5));
    assert_wrong(fifo(|fifo| fifo.kept = vec![64]), DomainError::Kept(64));
    assert_wrong(fifo(|fifo| fifo.kept = vec![5, 4]), DomainError::Kept(4));
}

#[test]
fn a_state_of_an_older_level_can_be_restored() {
    let engine = Engine::with_level(Recorder::default(), Level::Xen4_17);
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    engine.bind_virq(D1, Virq::ARGO, VcpuId(0)).unwrap();
    engine.bind_virq(D1, Virq::CONSOLE, VcpuId(0)).unwrap(); // without being its handler
    let new = Engine::new(Recorder::default());
    new.restore_domain(&engine.save_domain(D1).unwrap(), None).unwrap();
    assert_eq!(new.raise_global_virq(Virq::CONSOLE), Ok(false));
    new.validate().unwrap();
}
