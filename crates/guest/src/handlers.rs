// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who handles each port.

use core::marker::PhantomData;

use evtchn_abi::Port;

/// A table of handlers, one for each port number, in storage that the embedder gives: an array, a slice, a box.
///
/// A port whose number is beyond the storage can have no handler. The table takes no lock: a guest whose vCPUs share one puts it behind its own.
///
/// ```
/// use evtchn_abi::Port;
/// use evtchn_guest::Handlers;
///
/// fn console(port: Port) {
///     println!("input on port {port}");
/// }
///
/// let mut handlers = Handlers::new([None::<fn(Port)>; 64]);
/// handlers.set(Port(2), console).unwrap();
/// assert!(handlers.handle(Port(2)));
/// assert!(!handlers.handle(Port(3))); // nobody's: spurious
/// assert!(handlers.set(Port(64), console).is_err()); // no room
/// ```
///
/// The closure given to [`TwoLevel::upcall`](crate::TwoLevel::upcall) calls [`handle`](Self::handle) and counts what is spurious.
#[derive(Debug)]
pub struct Handlers<F, S> {
    slots: S,
    handler: PhantomData<F>,
}

impl<F, S: AsRef<[Option<F>]> + AsMut<[Option<F>]>> Handlers<F, S> {
    /// A table in `slots`, with the handlers that stand there.
    pub const fn new(slots: S) -> Self {
        Self { slots, handler: PhantomData }
    }

    /// Gives a port a handler and returns the one it had.
    ///
    /// # Errors
    /// The handler itself, if the table has no room for the port.
    pub fn set(&mut self, port: Port, handler: F) -> Result<Option<F>, F> {
        match self.slot(port) {
            Some(slot) => Ok(slot.replace(handler)),
            None => Err(handler),
        }
    }

    /// Takes a port's handler away.
    pub fn take(&mut self, port: Port) -> Option<F> {
        self.slot(port)?.take()
    }

    /// A port's handler.
    pub fn get(&self, port: Port) -> Option<&F> {
        self.slots.as_ref().get(port.0 as usize)?.as_ref()
    }

    /// Calls a port's handler. `false` says that it has none: the event is spurious.
    pub fn handle(&mut self, port: Port) -> bool
    where
        F: FnMut(Port),
    {
        let handler = self.slot(port).and_then(Option::as_mut);
        handler.map(|handler| handler(port)).is_some()
    }

    fn slot(&mut self, port: Port) -> Option<&mut Option<F>> {
        self.slots.as_mut().get_mut(port.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_its_own_handler() {
        let mut seen = [0; 2];
        let [first, second] = &mut seen;
        let mut slots: [Option<&mut dyn FnMut(Port)>; 8] = [const { None }; 8];
        let mut count_first = |_| *first += 1;
        let mut count_second = |_| *second += 1;
        slots[3] = Some(&mut count_first);
        let mut handlers = Handlers::new(slots);
        assert!(handlers.set(Port(7), &mut count_second).is_ok_and(|old| old.is_none()));
        assert!(handlers.handle(Port(3)) && handlers.handle(Port(7)) && handlers.handle(Port(7)));
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn a_port_without_a_handler_is_spurious() {
        fn ignore(_: Port) {}
        let mut handlers = Handlers::new([None::<fn(Port)>; 4]);
        handlers.set(Port(1), ignore).unwrap();
        assert!(handlers.get(Port(1)).is_some());
        assert!(handlers.take(Port(1)).is_some());
        for port in [0, 1, 3, 4, u32::MAX] {
            assert!(!handlers.handle(Port(port)), "port {port}");
        }
    }

    #[test]
    fn a_port_beyond_the_storage_gets_its_handler_back() {
        let mut handlers = Handlers::new([None::<fn(Port)>; 4]);
        assert!(handlers.set(Port(4), |_| ()).is_err());
        assert!(handlers.set(Port(u32::MAX), |_| ()).is_err());
    }
}
