// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets the machine up as the `meta` record describes it: the ports that the kernel had bound, at the same numbers.

use anyhow::{Context, Result, bail, ensure};
use evtchn_abi::DomId;
use serde_json::{Map, Value, json};

use crate::{
    hypercall::Call,
    machine::Machine,
    recording::{Meta, PortStatus},
};

/// The kernel's ABI as recordings name it.
const FIFO: &str = "fifo";

/// Starts the machine of a recording.
pub(crate) fn boot(meta: &Meta) -> Result<Machine> {
    let mut machine = Machine::start(meta.domid, meta.vcpus, meta.abi == FIFO)?;
    let last = meta.ports.keys().last().copied().unwrap_or(0);
    for port in 1..=last {
        let bound = bind(&mut machine, port, in_use(meta, port));
        bound.with_context(|| format!("the kernel's port {port}"))?;
    }
    // The gaps have been filled, so that the ports behind them got their numbers.
    for gap in (1..=last).filter(|port| in_use(meta, *port).is_none()) {
        machine.close(gap)?;
    }
    Ok(machine)
}

fn in_use(meta: &Meta, port: u32) -> Option<&PortStatus> {
    let status = meta.ports.get(&port)?;
    (status.name != "closed").then_some(status)
}

/// Binds the next port as the kernel did, or as a placeholder.
fn bind(machine: &mut Machine, port: u32, status: Option<&PortStatus>) -> Result<()> {
    let Some(status) = status else {
        return allocate(machine, port, &Call::alloc_unbound_self());
    };
    if status.name == "interdomain" {
        connect(machine, port, status)?;
    } else {
        allocate(machine, port, &binding(status)?)?;
    }
    move_to_vcpu(machine, port, status)
}

/// Binds the next port to the port of another domain that it was bound to, and takes the event of that.
fn connect(machine: &mut Machine, port: u32, status: &PortStatus) -> Result<()> {
    let peer = status.remote_dom.context("no `remote_dom`")?;
    let remote_port = status.remote_port_raw.context("no `remote_port_raw`")?;
    machine.offer(peer, remote_port)?;
    let args = json!({ "remote_dom": peer, "remote_port": remote_port });
    allocate(machine, port, &call("bind_interdomain", args)?)?;
    machine.take_event(port);
    Ok(())
}

/// The call that makes a binding of the kernel.
fn binding(status: &PortStatus) -> Result<Call> {
    let PortStatus { vcpu, virq, pirq, remote_dom, .. } = status;
    match status.name.as_str() {
        "unbound" => call("alloc_unbound", json!({ "dom": DomId::SELF.0, "remote_dom": remote_dom })),
        "virq" if is_per_vcpu(status) => call("bind_virq", json!({ "virq": virq, "vcpu": vcpu })),
        "virq" => call("bind_virq", json!({ "virq": virq, "vcpu": 0 })),
        "pirq" => call("bind_pirq", json!({ "pirq": pirq, "flags": 1 })),
        "ipi" => call("bind_ipi", json!({ "vcpu": vcpu })),
        kind => bail!("unknown kind of port `{kind}`"),
    }
}

/// Moves a port that is not on vCPU 0, unless it is of a kind that cannot be moved.
fn move_to_vcpu(machine: &mut Machine, port: u32, status: &PortStatus) -> Result<()> {
    if status.vcpu == 0 || status.name == "ipi" || is_per_vcpu(status) {
        return Ok(());
    }
    let args = json!({ "port": port, "vcpu": status.vcpu });
    machine.succeed(&call("bind_vcpu", args)?).map(drop)
}

fn allocate(machine: &mut Machine, port: u32, call: &Call) -> Result<()> {
    let got = call.new_port(&machine.succeed(call)?.block);
    ensure!(got == Some(port), "got {got:?}");
    Ok(())
}

fn call(op: &str, args: Value) -> Result<Call> {
    let args = if let Value::Object(args) = args { args } else { Map::new() };
    Call::operation(op, &args)
}

/// The VIRQs that are bound once for each vCPU and cannot be moved.
fn is_per_vcpu(status: &PortStatus) -> bool {
    matches!(status.virq, Some(0 | 1 | 7 | 13))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{recording::Recording, workspace::stored};
    use evtchn_engine::Outcome;

    fn assert_as_recorded(name: &str) {
        let meta = Recording::load(&stored(name)).unwrap().meta;
        let mut machine = boot(&meta).unwrap();
        for (&port, status) in &meta.ports {
            let answer = machine.status(port);
            assert_eq!(answer.outcome, Outcome::Done(0), "{name}: port {port}");
            let vcpu = u32::from_le_bytes(answer.block[12..16].try_into().unwrap());
            assert_eq!(Call::status_name(&answer.block), status.name, "{name}: port {port}");
            assert_eq!(vcpu, status.vcpu, "{name}: port {port}");
        }
    }

    #[test]
    fn every_port_of_the_kernel_is_as_recorded() {
        assert_as_recorded("xen4.17.7_linux6.1.192_2l.hyper-fixed");
        assert_as_recorded("xen4.20.5_linux7.2.13_2l.hyperx-random");
        assert_as_recorded("xen4.17.7_linux6.1.192_domu.hyper-fixed");
        assert_as_recorded("xen4.17.7_linux6.1.192_fifo.hyper-fixed");
    }

    #[test]
    fn gaps_between_the_kernels_ports_are_free() {
        let mut meta = Recording::load(&stored("xen4.17.7_linux6.1.192_2l.hyper-fixed")).unwrap().meta;
        meta.ports.remove(&7);
        let mut machine = boot(&meta).unwrap();
        assert!(machine.is_used(8) && !machine.is_used(7));
        assert_eq!(machine.allocate().unwrap(), 7);
    }
}
