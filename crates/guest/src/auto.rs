// SPDX-License-Identifier: MIT OR Apache-2.0
//! FIFO where Xen has it, two-level elsewhere.

use core::ops::ControlFlow;

use evtchn_abi::{Errno, Port, Priority, VcpuId};
use evtchn_sync::atomic::{AtomicU8, Ordering::SeqCst};
use evtchn_sync::const_fn;

use crate::{Abi, Fifo, FifoVcpu, Hypercall, Memory, Scan, TwoLevel, TwoLevelVcpu};

/// Which ABI an [`Auto`] guest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Choice {
    /// None yet: the first vCPU that comes online decides.
    Open = 0,
    /// [`TwoLevel`].
    TwoLevel = 1,
    /// [`Fifo`].
    Fifo = 2,
}

/// The FIFO ABI if Xen has it, else two-level: what Linux does.
///
/// The first vCPU to come [online](Abi::online) tries FIFO; an error of `init_control` makes the guest a two-level one.
/// A kernel that another has started in the same domain, as kexec does, [resets](Hypercall::reset) the event channels first:
/// where FIFO is in use already `init_control` is refused, and so is coming online, as two-level would hear nothing.
///
/// `M` is where the pages are, for both: a reference, for instance.
#[derive(Debug)]
pub struct Auto<M, T, F> {
    two_level: TwoLevel<M, T>,
    fifo: Fifo<M, F>,
    choice: AtomicU8,
}

impl<M: Memory + Clone, T: AsRef<[TwoLevelVcpu]>, F: AsRef<[FifoVcpu]>> Auto<M, T, F> {
    /// The ports in `memory`. Each array holds an element for each vCPU.
    pub fn new(memory: M, two_level: T, fifo: F) -> Self {
        Self::from_parts(TwoLevel::new(memory.clone(), two_level), Fifo::new(memory, fifo))
    }
}

impl<M, T, F> Auto<M, T, F> {
    const_fn! {
        /// The ports of both, which are in the same memory. For a `static`.
        pub const fn from_parts(two_level: TwoLevel<M, T>, fifo: Fifo<M, F>) -> Self {
            Self { two_level, fifo, choice: AtomicU8::new(Choice::Open as u8) }
        }
    }

    /// Which ABI is used.
    pub fn choice(&self) -> Choice {
        match self.choice.load(SeqCst) {
            0 => Choice::Open,
            1 => Choice::TwoLevel,
            _ => Choice::Fifo,
        }
    }

    /// Uses two-level, whatever Xen has. Before the first vCPU comes online.
    pub fn use_two_level(&self) {
        self.choose(Choice::TwoLevel);
    }

    fn choose(&self, choice: Choice) {
        self.choice.store(choice as u8, SeqCst);
    }

    fn is_fifo(&self) -> bool {
        self.choice() == Choice::Fifo
    }
}

/// Is FIFO what Xen uses now? Then it refuses a priority for port 0 as it does for a closed port; else the operation as a whole.
fn uses_fifo(xen: &(impl Hypercall + ?Sized)) -> bool {
    xen.set_priority(Port(0), Priority::DEFAULT) == Err(Errno::EACCES)
}

/// Calls the same method of the ABI that is used.
macro_rules! either {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        if $self.is_fifo() { $self.fifo.$method($($argument),*) } else { $self.two_level.$method($($argument),*) }
    };
}

impl<M, T, F> Abi for Auto<M, T, F>
where
    M: Memory,
    T: AsRef<[TwoLevelVcpu]>,
    F: AsRef<[FifoVcpu]>,
{
    fn nr_channels(&self) -> u32 {
        either!(self, nr_channels())
    }

    fn start(&self) {
        // The two-level ones are in use until the first vCPU is online.
        self.two_level.start();
        self.fifo.start();
    }

    fn online(&self, vcpu: VcpuId, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        match self.choice() {
            Choice::Open => match self.fifo.give_block(vcpu, xen) {
                Ok(()) => self.choose(Choice::Fifo),
                // An earlier kernel has used FIFO in this domain: nothing would come to the two-level bits.
                Err(error) if uses_fifo(xen) => return Err(error),
                Err(_) => self.choose(Choice::TwoLevel),
            },
            Choice::Fifo => self.fifo.give_block(vcpu, xen)?,
            Choice::TwoLevel => {}
        }
        // The `vcpu_info` belongs to no ABI, and two-level has nothing more. So it is known which have been registered
        // when the other ABI is chosen after a reset.
        self.two_level.online(vcpu, xen)
    }

    fn offline(&self, vcpu: VcpuId, left: impl FnMut(Port)) {
        either!(self, offline(vcpu, left));
    }

    /// The choice is open again: another Xen may have another ABI.
    fn forget(&self) {
        self.two_level.forget();
        self.fifo.forget();
        self.choose(Choice::Open);
    }

    fn cover(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        either!(self, cover(port, xen))
    }

    fn bind(&self, port: Port, vcpu: VcpuId) {
        either!(self, bind(port, vcpu));
    }

    fn unbind(&self, port: Port) {
        either!(self, unbind(port));
    }

    fn mask(&self, port: Port) -> bool {
        either!(self, mask(port))
    }

    fn unmask(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        either!(self, unmask(port, xen))
    }

    fn is_masked(&self, port: Port) -> bool {
        either!(self, is_masked(port))
    }

    fn is_pending(&self, port: Port) -> bool {
        either!(self, is_pending(port))
    }

    fn set_pending(&self, port: Port) -> bool {
        either!(self, set_pending(port))
    }

    fn clear_pending(&self, port: Port) -> bool {
        either!(self, clear_pending(port))
    }

    fn upcall_is_pending(&self, vcpu: VcpuId) -> bool {
        either!(self, upcall_is_pending(vcpu))
    }

    #[inline]
    fn upcall_while(&self, vcpu: VcpuId, handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        either!(self, upcall_while(vcpu, handle))
    }
}
