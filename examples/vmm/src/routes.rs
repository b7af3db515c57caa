// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's table of interrupts: where its devices' lines go, and the events of other guests that KVM brings by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use evtchn_abi::Port;
use evtchn_engine::OffloadRoute;
use evtchn_kvm::routing_entry;
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Interrupts of the two PICs, and of the IOAPIC.
const PICS: u32 = 16;
const IOAPIC: u32 = 24;

/// The table, and the eventfds of what is in it beside the lines.
pub struct Routes {
    vm: Arc<VmFd>,
    /// By the ports that are raised.
    events: BTreeMap<Port, Event>,
}

struct Event {
    eventfd: EventFd,
    entry: kvm_irq_routing_entry,
}

impl Routes {
    /// The machine's table is KVM's own as yet, of lines alone.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self { vm, events: BTreeMap::new() }
    }

    /// An eventfd that raises the route's port of this guest.
    pub fn listen(&mut self, route: &OffloadRoute) -> Result<&EventFd> {
        let gsi = self.free().context("no interrupt is free")?;
        let port = route.receiver_port;
        let event = Event { eventfd: EventFd::new(EFD_NONBLOCK)?, entry: routing_entry(gsi, route) };
        self.events.insert(port, event);
        let registered =
            self.load().and_then(|()| Ok(self.vm.register_irqfd(&self.events[&port].eventfd, gsi)?));
        if let Err(error) = registered {
            self.events.remove(&port);
            return Err(error);
        }
        Ok(&self.events[&port].eventfd)
    }

    /// Nobody signals that port any more. When this returns, what was signalled has been raised.
    pub fn forget(&mut self, port: Port) -> Result<()> {
        let Some(event) = self.events.remove(&port) else { return Ok(()) };
        self.vm.unregister_irqfd(&event.eventfd, event.entry.gsi)?;
        self.load()
    }

    fn free(&self) -> Option<u32> {
        (IOAPIC..).find(|gsi| self.events.values().all(|event| event.entry.gsi != *gsi))
    }

    fn load(&self) -> Result<()> {
        let entries: Vec<_> = lines().chain(self.events.values().map(|event| event.entry)).collect();
        let table = KvmIrqRouting::from_entries(&entries).context("too many routes")?;
        self.vm.set_gsi_routing(&table).context("KVM_SET_GSI_ROUTING")
    }
}

/// The lines of devices, as KVM has them at first: to the PICs and to the IOAPIC.
fn lines() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let to = |gsi, irqchip, pin| {
        let u = kvm_irq_routing_entry__bindgen_ty_1 { irqchip: kvm_irq_routing_irqchip { irqchip, pin } };
        kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, u, ..kvm_irq_routing_entry::default() }
    };
    let pics = (0..PICS).map(move |gsi| match gsi {
        0..8 => to(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => to(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    pics.chain((0..IOAPIC).map(move |gsi| to(gsi, KVM_IRQCHIP_IOAPIC, gsi)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_leads_to_the_ioapic_and_the_first_sixteen_to_a_pic_too() {
        let count = |gsi| lines().filter(|line| line.gsi == gsi).count();
        assert_eq!((0..IOAPIC).map(count).collect::<Vec<_>>(), [[2; 16].as_slice(), &[1; 8]].concat());
    }
}
