// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's script once more, with the engine in the place of Xen.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use anyhow::{Context, Result, ensure};
use evtchn_abi::{CallbackVia, DomId, VcpuId};
use evtchn_engine::{DomainConfig, DomainKind, Engine, Hooks, Level, OpError, Upcall};
use evtchn_guest::{InProcess, Recording};
use evtchn_sync::{HeapPage, Page};

use super::Type;

#[path = "../../../tests/unikernel/src/script.rs"]
mod script;

const DOM0: DomId = DomId(0);
/// Where a PV guest keeps upcalls out, for vCPU 0.
const UPCALL_MASK: usize = 1;

/// Compares the calls that a guest, the domain `guest`, has recorded with those of the engine; how many they are.
///
/// # Errors
/// The first that is not the same.
pub fn compare(kind: Type, guest: DomId, output: &str) -> Result<usize> {
    let prefix = format!("{}: unikernel: call: ", kind.name());
    let real: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
    let ours = calls(kind, guest, level(kind, output)?).context("the engine refused the script")?;
    for (index, (real, ours)) in real.iter().zip(&ours).enumerate() {
        ensure!(real == ours, "call {index} of the {} guest:\n   Xen: {real}\nengine: {ours}", kind.name());
    }
    let (real, ours) = (real.len(), ours.len());
    ensure!(real == ours, "the {} guest made {real} calls on Xen, and {ours} to the engine", kind.name());
    Ok(ours)
}

/// The behaviour of the release that the guest has found.
fn level(kind: Type, output: &str) -> Result<Level> {
    let prefix = format!("{}: unikernel: {} guest on Xen ", kind.name(), kind.name().to_uppercase());
    let release =
        output.lines().find_map(|line| line.strip_prefix(&prefix)).context("no release of Xen's")?;
    Ok(if release == "4.17" { Level::Xen4_17 } else { Level::Current })
}

/// What the script asks the engine, and what it answers.
fn calls(kind: Type, guest: DomId, level: Level) -> Result<Vec<String>> {
    let engine = machine(kind, guest, level)?;
    let calls = RefCell::new(Vec::new());
    let xen = InProcess::new(&engine, guest, VcpuId(0));
    let xen = Recording::new(xen, |call| calls.borrow_mut().push(call.to_string()));
    script::run(&xen, kind == Type::Pv)?;
    Ok(calls.into_inner())
}

/// The guest runs its script with upcalls kept out, and names no frame that it has.
struct Shut;

impl Hooks for Shut {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn accepts_upcall(&self, _: DomId, _: VcpuId) -> bool {
        false
    }
}

/// A guest as the toolstack makes it: a port for the store and one for the console; upcalls by a vector if it is PVH.
fn machine(kind: Type, guest: DomId, level: Level) -> Result<Engine<Shut>, OpError> {
    let engine = Engine::with_level(Shut, level);
    let kind = match kind {
        Type::Pv => DomainKind::Pv,
        Type::Pvh => DomainKind::Hvm,
    };
    engine.create_domain(DOM0, DomainConfig::guest(1))?;
    engine.create_domain(guest, DomainConfig { kind, ..DomainConfig::guest(1) })?;
    let shared_info = Arc::new(HeapPage::new());
    if let Some(mask) = shared_info.u8(UPCALL_MASK) {
        mask.store(1, SeqCst);
    }
    engine.set_shared_info(guest, Some(shared_info))?;
    for _ in ["store", "console"] {
        engine.alloc_unbound(guest, DomId::SELF, DOM0)?;
    }
    if kind == DomainKind::Hvm {
        engine.set_callback(guest, CallbackVia::Vector(0xf3))?;
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: DomId = DomId(1);

    fn said(kind: Type) -> String {
        let name = kind.name();
        let mut lines = vec![format!("{name}: unikernel: {} guest on Xen 4.17", name.to_uppercase())];
        let calls = calls(kind, GUEST, Level::Xen4_17).unwrap();
        lines.extend(calls.iter().map(|call| format!("{name}: unikernel: call: {call}")));
        lines.join("\n")
    }

    #[test]
    fn what_the_engine_says_is_the_same() {
        for kind in [Type::Pv, Type::Pvh] {
            assert!(compare(kind, GUEST, &said(kind)).unwrap() > 100);
        }
    }

    #[test]
    fn another_answer_is_found_and_so_is_a_missing_one() {
        let said = said(Type::Pv);
        let other = said.replacen("= ESRCH", "= EPERM", 1);
        let error = compare(Type::Pv, GUEST, &other).unwrap_err().to_string();
        assert!(error.contains("engine: ") && error.contains("ESRCH"), "{error}");
        let (short, _) = said.rsplit_once('\n').unwrap();
        assert!(compare(Type::Pv, GUEST, short).is_err());
        assert!(compare(Type::Pvh, GUEST, &said).is_err());
    }
}
