// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which routes KVM may carry out.

use evtchn_abi::DomId;
use evtchn_engine::OffloadRoute;

use crate::attributes::VmAttribute;
use crate::domain::Interface;

/// What KVM is to be told for a route; `None` if it stays the engine's.
pub(crate) fn plan(domain: DomId, interface: Interface, route: &OffloadRoute) -> Option<VmAttribute> {
    let fits = interface == Interface::Xen { sends: true } && route.is_ipi() && route.receiver == domain;
    fits.then_some(VmAttribute::Ipi { port: route.receiver_port.0, vcpu: route.vcpu.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use evtchn_abi::VcpuId;
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
        assert_eq!(plan(ONE, XEN, &route), Some(VmAttribute::Ipi { port: 1, vcpu: 1 }));
    }

    #[test]
    fn nothing_is_taken_where_kvm_may_not_send() {
        let routes = offers(|engine| assert!(engine.bind_ipi(ONE, VcpuId(0)).is_ok()));
        for interface in [Interface::Xen { sends: false }, Interface::Ports] {
            assert_eq!(plan(ONE, interface, &routes[0]), None);
        }
    }

    #[test]
    fn what_leads_to_another_domain_stays_with_the_engine() {
        let routes = offers(|engine| {
            let port = engine.alloc_unbound(ONE, DomId::SELF, TWO).unwrap();
            engine.bind_interdomain(TWO, ONE, port).unwrap();
        });
        assert!(
            routes.iter().all(|route| plan(ONE, XEN, route).is_none() && plan(TWO, XEN, route).is_none())
        );
    }

    #[test]
    fn the_ipi_of_another_domain_is_nothing_to_this_ones_kvm() {
        let routes = offers(|engine| assert!(engine.bind_ipi(ONE, VcpuId(0)).is_ok()));
        assert_eq!(plan(TWO, XEN, &routes[0]), None);
    }
}
