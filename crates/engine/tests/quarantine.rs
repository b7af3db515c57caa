// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports that are closed while somebody sends to them: senders are stopped on their way, where a policy is asked.
#![allow(missing_docs)]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{D1, D2};
use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_engine::test_utils::page;
use evtchn_engine::{Denied, DomainConfig, Engine, Hooks, Party, Policy, Upcall};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{HeapPage, Page};

/// Stops each sender that it is asked about: says so, with the means to let it go on.
struct Gate(Mutex<Sender<Sender<()>>>);

impl Policy for Gate {
    fn send(&self, _: &Party, _: &Party) -> Result<(), Denied> {
        let (go, wait) = channel();
        self.0.lock().unwrap().send(go).unwrap();
        let _ = wait.recv(); // or the means were dropped
        Ok(())
    }
}

impl Hooks for Gate {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn policy(&self) -> &dyn Policy {
        self
    }
}

/// Domain 2 sends to ports of domain 1.
struct Env {
    engine: Engine<Gate>,
    page: Arc<HeapPage>,
    stopped: Mutex<Receiver<Sender<()>>>,
}

impl Env {
    fn new() -> Self {
        let (stops, stopped) = channel();
        let engine = Engine::new(Gate(Mutex::new(stops)));
        engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
        engine.create_domain(D2, DomainConfig::guest(1)).unwrap();
        let page = page();
        engine.set_shared_info(D1, Some(page.clone())).unwrap();
        Self { engine, page, stopped: Mutex::new(stopped) }
    }

    /// The ends of domain 2 and of domain 1.
    fn pair(&self) -> (Port, Port) {
        let far = self.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
        (self.engine.bind_interdomain(D2, D1, far).unwrap(), far)
    }

    fn open(&self) -> Port {
        self.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap()
    }

    fn is_pending(&self, port: Port) -> bool {
        self.page.u64(2048).unwrap().load(SeqCst) >> port.0 & 1 == 1
    }
}

/// Runs a send up to where it knows its port, and gives the means to let it go on.
fn stopped_send<'s>(
    env: &'s Env,
    scope: &'s thread::Scope<'s, '_>,
    port: Port,
) -> (thread::ScopedJoinHandle<'s, ()>, Sender<()>) {
    let sender = scope.spawn(move || env.engine.send(D2, port).unwrap());
    (sender, env.stopped.lock().unwrap().recv().unwrap())
}

#[test]
fn a_port_waits_for_the_senders_that_were_there_when_it_was_closed() {
    let env = &Env::new();
    let [(to_first, first), (to_second, second)] = [env.pair(), env.pair()];
    thread::scope(|scope| {
        let (one, go) = stopped_send(env, scope, to_first);
        env.engine.close(D1, first).unwrap();
        let (two, go_too) = stopped_send(env, scope, to_second);
        env.engine.close(D1, second).unwrap();
        // Both numbers may be raised still.
        let other = env.open();
        assert!(![first, second].contains(&other));
        env.engine.validate().unwrap();

        go.send(()).unwrap();
        one.join().unwrap();
        // The first sender has gone, and what it has set goes with it. The second is on its way.
        assert_eq!((env.open(), env.is_pending(first)), (first, false));
        assert!(env.open() != second);
        env.engine.validate().unwrap();

        go_too.send(()).unwrap();
        two.join().unwrap();
        assert_eq!((env.open(), env.is_pending(second)), (second, false));
    });
    env.engine.validate().unwrap();
}

/// Opens all the numbers of domain 1, closes one to which somebody sends, and opens one more.
fn reopen_while_sending(open: impl Fn(&Env) -> Port + Sync) {
    let env = &Env::new();
    let (to_port, port) = env.pair();
    while env.engine.alloc_unbound(D1, DomId::SELF, D2).is_ok() {}
    thread::scope(|scope| {
        let (sender, go) = stopped_send(env, scope, to_port);
        env.engine.close(D1, port).unwrap();
        let opener = scope.spawn(|| open(env));
        // Long enough for the opener to give up.
        thread::sleep(Duration::from_millis(20));
        go.send(()).unwrap();
        sender.join().unwrap();
        assert_eq!((opener.join().unwrap(), env.is_pending(port)), (port, false));
    });
    env.engine.validate().unwrap();
}

#[test]
fn a_domain_without_another_port_waits_for_the_sender() {
    reopen_while_sending(Env::open);
}

#[test]
fn a_domain_without_another_port_waits_before_it_binds() {
    reopen_while_sending(|env| {
        let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
        let port = env.engine.bind_interdomain(D1, D2, far).unwrap();
        let bit = env.page.u64(2048).unwrap();
        bit.fetch_and(!(1 << port.0), SeqCst); // that of the binding
        port
    });
}
