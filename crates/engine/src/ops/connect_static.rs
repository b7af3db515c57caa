// SPDX-License-Identifier: MIT OR Apache-2.0
//! Static channels: those that exist before their domains run.

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::Page;

use crate::action::Action;
use crate::channel::{Binding, State};
use crate::deliver::Effect;
use crate::domain::{Domain, Events};
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::locks::Pair;

/// A port whose number is chosen beforehand, in its domain.
type Chosen<'a, P> = (&'a Domain<P>, Port);

impl<H: Hooks> Engine<H> {
    /// Connects two ports of chosen numbers, as Xen does on Arm for the `xen,evtchn-v1` nodes of a device tree, before
    /// the domains run.
    ///
    /// It is as if the first domain had opened its port for the second, which then bound to it: an ordinary
    /// interdomain channel, whose second end is pending. Ports below a chosen number become valid with it, and stay
    /// free; other ports are still given out from the lowest. No policy is asked.
    ///
    /// ```
    /// # use evtchn_engine::{Engine, DomainConfig, test_utils::Recorder};
    /// # use evtchn_abi::{DomId, Port};
    /// # let engine = Engine::new(Recorder::default());
    /// # engine.create_domain(DomId(1), DomainConfig::guest(1))?;
    /// # engine.create_domain(DomId(2), DomainConfig::guest(1))?;
    /// engine.connect_static((DomId(1), Port(10)), (DomId(2), Port(11)))?;
    /// engine.send(DomId(1), Port(10))?;
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    ///
    /// # Errors
    /// ESRCH if a domain does not exist; EINVAL if it is dying; ENOSPC for a number beyond a domain's limits; EBUSY if
    /// the port is in use, or is port 0; ENOMEM. Nothing is opened then.
    pub fn connect_static(&self, first: (DomId, Port), second: (DomId, Port)) -> Result<(), OpError> {
        let effect = self.domain(first.0).and_then(|domain| {
            let other = self.domain(second.0)?;
            // A port that was just closed may only be waiting to be free.
            [&domain, &other].into_iter().for_each(|domain| domain.settle());
            self.connect_chosen((&domain, first.1), (&other, second.1))
        });
        let result = effect.map(|effect| self.fire(effect));
        let action = Action::ConnectStatic { port: first.1, second: second.0, second_port: second.1 };
        self.acted(first.0, action, result)
    }

    fn connect_chosen(
        &self,
        (first, waiting): Chosen<'_, H::Page>,
        (second, binding): Chosen<'_, H::Page>,
    ) -> Result<Effect, OpError> {
        let mut locks = Pair::lock(second, first);
        first.allocate_chosen(locks.peer(), waiting)?;
        if let Err(refused) = second.allocate_chosen(locks.own(), binding) {
            locks.peer().ports.undo_take(waiting);
            return Err(refused);
        }
        first.open(waiting, Binding::guest(State::Unbound { remote: second.id }), VcpuId(0));
        Ok(self.join(second, binding, first, waiting, first.channel(waiting)?))
    }
}

impl<P: Page> Domain<P> {
    /// Takes the port of this number. Its record stays free until [`Domain::open`].
    fn allocate_chosen(&self, events: &mut Events, port: Port) -> Result<(), OpError> {
        if events.dying {
            return Err(OpError::Dying);
        }
        events.ports.take_chosen(port, self.highest_port(), &self.channels, |port| self.is_busy(port))
    }
}
