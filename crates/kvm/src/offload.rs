// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which routes KVM may carry out.

use std::os::fd::RawFd;

use evtchn_abi::DomId;
use evtchn_engine::OffloadRoute;
use kvm_bindings::{
    KVM_IRQ_ROUTING_XEN_EVTCHN, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_xen_evtchn,
};

use crate::attributes::{PRIORITY_2LEVEL, VmAttribute};
use crate::domain::Interface;

/// What KVM is to be told for a route that does not leave a domain; `None` if it stays the engine's.
pub(crate) fn within(domain: DomId, interface: Interface, route: &OffloadRoute) -> Option<VmAttribute> {
    let (port, to, vcpu) = (route.sender_port.0, route.receiver_port.0, route.vcpu.0);
    let fits = may_send(domain, interface, route) && route.receiver == domain;
    fits.then_some(if route.is_ipi() {
        VmAttribute::Ipi { port, vcpu }
    } else {
        VmAttribute::Loop { port, to, vcpu }
    })
}

/// The same for a route to another domain, which is told by an eventfd.
pub(crate) fn away(
    domain: DomId,
    interface: Interface,
    route: &OffloadRoute,
    eventfd: RawFd,
) -> Option<VmAttribute> {
    let fits = may_send(domain, interface, route) && route.receiver != domain;
    fits.then_some(VmAttribute::Signal { port: route.sender_port.0, eventfd })
}

fn may_send(domain: DomId, interface: Interface, route: &OffloadRoute) -> bool {
    interface == Interface::Xen { sends: true } && route.sender == domain
}

/// An entry of the routing table of the machine that receives: an interrupt `gsi`, such as an irqfd's, raises the route's port and
/// tells its vCPU. The table is the VMM's as a whole (`KVM_SET_GSI_ROUTING`).
#[must_use]
pub fn routing_entry(gsi: u32, route: &OffloadRoute) -> kvm_irq_routing_entry {
    let event = kvm_irq_routing_xen_evtchn {
        port: route.receiver_port.0,
        vcpu: route.vcpu.0,
        priority: PRIORITY_2LEVEL,
    };
    let u = kvm_irq_routing_entry__bindgen_ty_1 { xen_evtchn: event };
    kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_XEN_EVTCHN, u, ..kvm_irq_routing_entry::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use evtchn_abi::{Port, VcpuId};
    use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
    use evtchn_sync::HeapPage;
    use std::sync::Arc;

    const XEN: Interface = Interface::Xen { sends: true };
    const ONE: DomId = DomId(1);
    const TWO: DomId = DomId(2);

    /// Routes as the engine offers them.
    #[derive(Default)]
    struct Offers(Mutex<Vec<OffloadRoute>>);

    impl Hooks for Offers {
        type Page = Arc<HeapPage>;
        fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
        fn wake_poller(&self, _: DomId, _: VcpuId) {}
        fn offload(&self, route: &OffloadRoute) -> bool {
            self.0.lock().unwrap().push(*route);
            false
        }
    }

    fn offers(bind: impl FnOnce(&Engine<Offers>)) -> Vec<OffloadRoute> {
        let engine = Engine::new(Offers::default());
        for domain in [ONE, TWO] {
            engine.create_domain(domain, DomainConfig::guest(2)).unwrap();
        }
        bind(&engine);
        let routes = engine.hooks().0.lock().unwrap().clone();
        assert!(!routes.is_empty());
        routes
    }

    #[test]
    fn an_ipi_is_taken_with_its_port_and_vcpu() {
        let [route] = offers(|engine| assert!(engine.bind_ipi(ONE, VcpuId(1)).is_ok())).try_into().unwrap();
        assert_eq!(within(ONE, XEN, &route), Some(VmAttribute::Ipi { port: 1, vcpu: 1 }));
        assert_eq!(away(ONE, XEN, &route, 3), None);
    }

    #[test]
    fn nothing_is_taken_where_kvm_may_not_send() {
        let routes = offers(|engine| assert!(engine.bind_ipi(ONE, VcpuId(0)).is_ok()));
        for interface in [Interface::Xen { sends: false }, Interface::Ports] {
            assert_eq!(within(ONE, interface, &routes[0]), None);
        }
    }

    #[test]
    fn what_leads_to_another_domain_signals_an_eventfd_which_raises_the_port_there() {
        let routes = offers(|engine| {
            engine.bind_ipi(ONE, VcpuId(0)).unwrap();
            let port = engine.alloc_unbound(ONE, DomId::SELF, TWO).unwrap();
            engine.bind_interdomain(TWO, ONE, port).unwrap();
            engine.bind_vcpu(ONE, port, VcpuId(1)).unwrap();
        });
        let route = routes.iter().rfind(|route| route.receiver == ONE).unwrap();
        assert!([ONE, TWO].iter().all(|&domain| within(domain, XEN, route).is_none()));
        assert_eq!(away(ONE, XEN, route, 3), None, "it is the sender's machine that is told");
        assert_eq!(away(TWO, Interface::Xen { sends: false }, route, 3), None);
        assert_eq!(away(TWO, XEN, route, 3), Some(VmAttribute::Signal { port: 1, eventfd: 3 }));
        let entry = routing_entry(24, route);
        assert_eq!((entry.gsi, entry.type_), (24, KVM_IRQ_ROUTING_XEN_EVTCHN));
    }

    #[test]
    fn a_channel_within_a_domain_raises_its_other_end() {
        let routes = offers(|engine| {
            let far = engine.alloc_unbound(ONE, DomId::SELF, ONE).unwrap();
            engine.bind_interdomain(ONE, ONE, far).unwrap();
        });
        let route = routes.iter().find(|route| route.receiver_port == Port(1)).unwrap();
        assert_eq!(within(ONE, XEN, route), Some(VmAttribute::Loop { port: 2, to: 1, vcpu: 0 }));
    }

    #[test]
    fn the_ipi_of_another_domain_is_nothing_to_this_ones_kvm() {
        let routes = offers(|engine| assert!(engine.bind_ipi(ONE, VcpuId(0)).is_ok()));
        assert_eq!(within(TWO, XEN, &routes[0]), None);
    }
}
