// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters of HVM guests that concern event channels (`hvm/params.h`).

open_enum! {
    /// A parameter that `hvm_op` sets and reads.
    struct HvmParam(u32), "HVM_PARAM_" {
        /// How the domain's vCPUs learn of events; see [`CallbackVia`], on Arm [`CallbackPpi`].
        CALLBACK_IRQ = 0, "CALLBACK_IRQ";
        /// The guest frame of the xenstore ring.
        STORE_PFN = 1, "STORE_PFN";
        /// The port of xenstore.
        STORE_EVTCHN = 2, "STORE_EVTCHN";
        /// The guest frame of the console ring.
        CONSOLE_PFN = 17, "CONSOLE_PFN";
        /// The port of the console.
        CONSOLE_EVTCHN = 18, "CONSOLE_EVTCHN";
    }
}

/// How an HVM guest on x86 wants to learn of events: the decoded value of [`HvmParam::CALLBACK_IRQ`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallbackVia {
    /// Not at all: the value 0, interrupt line 0, or an unknown type.
    None,
    /// By an interrupt line of the interrupt controllers, for vCPU 0 only. Xen takes a line that the domain does not
    /// have for [`None`](Self::None).
    Gsi(u8),
    /// By an INTx pin of a device on PCI bus 0, for vCPU 0 only.
    PciIntx {
        /// The device, 0 to 31.
        device: u8,
        /// The pin, 0 (INTA) to 3 (INTD).
        pin: u8,
    },
    /// By an interrupt vector, on the vCPU that is to be notified.
    Vector(u8),
}

impl CallbackVia {
    /// `HVM_PARAM_CALLBACK_IRQ_TYPE_MASK`: the bits of the value that hold the type.
    pub const TYPE_MASK: u64 = 0xff00_0000_0000_0000;
    /// `HVM_PARAM_CALLBACK_TYPE_GSI`.
    pub const TYPE_GSI: u8 = 0;
    /// `HVM_PARAM_CALLBACK_TYPE_PCI_INTX`.
    pub const TYPE_PCI_INTX: u8 = 1;
    /// `HVM_PARAM_CALLBACK_TYPE_VECTOR`.
    pub const TYPE_VECTOR: u8 = 2;

    /// Reads the parameter's value: the type in the uppermost byte, then what belongs to it. Bits without meaning
    /// are ignored, as Xen ignores them: all but the lowest byte of a line or vector; domain, bus and function of a
    /// device.
    ///
    /// ```
    /// use evtchn_abi::CallbackVia;
    ///
    /// assert_eq!(CallbackVia::from_param(0x0200_0000_0000_00f3), CallbackVia::Vector(0xf3));
    /// assert_eq!(CallbackVia::from_param(9), CallbackVia::Gsi(9));
    /// assert_eq!(CallbackVia::from_param(0), CallbackVia::None);
    /// ```
    #[must_use]
    pub const fn from_param(value: u64) -> Self {
        let [low, next, .., kind] = value.to_le_bytes();
        match kind {
            Self::TYPE_GSI if low == 0 => Self::None,
            Self::TYPE_GSI => Self::Gsi(low),
            Self::TYPE_PCI_INTX => Self::PciIntx { device: next >> 3, pin: low & 3 },
            Self::TYPE_VECTOR => Self::Vector(low),
            _ => Self::None,
        }
    }

    /// The value to set. `None` gives 0, and so does line 0, which is no line. Of a device and a pin the lower five and
    /// two bits count.
    #[must_use]
    pub const fn to_param(self) -> u64 {
        let (kind, next, low) = match self {
            Self::None => return 0,
            Self::Gsi(line) => (Self::TYPE_GSI, 0, line),
            Self::PciIntx { device, pin } => (Self::TYPE_PCI_INTX, device << 3, pin & 3),
            Self::Vector(vector) => (Self::TYPE_VECTOR, 0, vector),
        };
        u64::from_le_bytes([low, next, 0, 0, 0, 0, 0, kind])
    }
}

/// How a guest on Arm learns of events: the decoded value of [`HvmParam::CALLBACK_IRQ`] there. The toolstack sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackPpi {
    /// The private peripheral interrupt, as the interrupt controller counts it.
    pub irq: u8,
    /// Whether the interrupt is edge-triggered; otherwise by level.
    pub edge: bool,
    /// Whether the line is active when low; otherwise when high.
    pub active_low: bool,
}

impl CallbackPpi {
    /// `HVM_PARAM_CALLBACK_TYPE_PPI`. The same number as [`CallbackVia::TYPE_VECTOR`].
    pub const TYPE: u8 = 2;
    /// `HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK`: the bits of the value that hold the flags, its second byte.
    pub const FLAG_MASK: u64 = 0xff00;
    /// Flag: edge-triggered. The headers have no name for it.
    pub const FLAG_EDGE: u8 = 1;
    /// `HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL`. Flag: active when low.
    pub const FLAG_LOW_LEVEL: u8 = 2;

    /// Reads the parameter's value; `None` if it is of another type. Bits without meaning are ignored.
    ///
    /// ```
    /// use evtchn_abi::CallbackPpi;
    ///
    /// let ppi = CallbackPpi { irq: 31, edge: false, active_low: true };
    /// assert_eq!(CallbackPpi::from_param(0x0200_0000_0000_021f), Some(ppi));
    /// assert_eq!(CallbackPpi::from_param(0x0000_0000_0000_021f), None);
    /// ```
    #[must_use]
    pub const fn from_param(value: u64) -> Option<Self> {
        let [irq, flags, .., kind] = value.to_le_bytes();
        if kind != Self::TYPE {
            return None;
        }
        let active_low = flags & Self::FLAG_LOW_LEVEL != 0;
        Some(Self { irq, edge: flags & Self::FLAG_EDGE != 0, active_low })
    }

    /// The value to set.
    #[must_use]
    pub const fn to_param(self) -> u64 {
        let edge = if self.edge { Self::FLAG_EDGE } else { 0 };
        let level = if self.active_low { Self::FLAG_LOW_LEVEL } else { 0 };
        u64::from_le_bytes([self.irq, edge | level, 0, 0, 0, 0, 0, Self::TYPE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_survives_a_round_trip() {
        let lines = (1..=u8::MAX).map(CallbackVia::Gsi);
        let vectors = (0..=u8::MAX).map(CallbackVia::Vector);
        let pins = (0..32).flat_map(|device| (0..4).map(move |pin| CallbackVia::PciIntx { device, pin }));
        for via in lines.chain(vectors).chain(pins).chain([CallbackVia::None]) {
            assert_eq!(CallbackVia::from_param(via.to_param()), via);
        }
    }

    #[test]
    fn all_but_the_lowest_byte_of_a_line_or_vector_is_ignored() {
        assert_eq!(CallbackVia::from_param(0x00ff_ffff_ffff_ff09), CallbackVia::Gsi(9));
        assert_eq!(CallbackVia::from_param(0x02ff_ffff_ffff_fff3), CallbackVia::Vector(0xf3));
    }

    #[test]
    fn a_device_and_a_pin_out_of_range_do_not_reach_other_bits() {
        let value = CallbackVia::PciIntx { device: 0xff, pin: 0xff }.to_param();
        assert_eq!(value, 0x0100_0000_0000_f803);
    }

    #[test]
    fn the_type_is_what_the_mask_covers() {
        let types = [CallbackVia::Gsi(9), CallbackVia::PciIntx { device: 1, pin: 1 }, CallbackVia::Vector(9)];
        for (kind, via) in (0..).zip(types) {
            assert_eq!((via.to_param() & CallbackVia::TYPE_MASK) >> 56, kind);
        }
    }

    #[test]
    fn bus_domain_and_function_of_an_intx_callback_are_ignored() {
        let value = 0x01ff_ffff_ffff_0000 | 2 << 11 | 7 << 8 | 0xfc | 1;
        assert_eq!(CallbackVia::from_param(value), CallbackVia::PciIntx { device: 2, pin: 1 });
    }

    #[test]
    fn unknown_types_and_zero_switch_the_callback_off() {
        for kind in 3..=u64::from(u8::MAX) {
            assert_eq!(CallbackVia::from_param(kind << 56 | 5), CallbackVia::None);
        }
        assert_eq!(CallbackVia::from_param(0), CallbackVia::None);
    }

    #[test]
    fn line_zero_is_no_line_whatever_the_other_bits_are() {
        assert_eq!(CallbackVia::from_param(0x100), CallbackVia::None);
        assert_eq!(CallbackVia::Gsi(0).to_param(), 0);
    }

    #[test]
    fn a_ppi_survives_a_round_trip() {
        for irq in 0..=u8::MAX {
            for (edge, active_low) in [(false, false), (false, true), (true, false), (true, true)] {
                let ppi = CallbackPpi { irq, edge, active_low };
                assert_eq!(CallbackPpi::from_param(ppi.to_param()), Some(ppi));
            }
        }
    }

    #[test]
    fn only_one_type_is_a_ppi_and_unknown_flags_of_it_are_ignored() {
        for kind in 0..=u64::from(u8::MAX) {
            let found = CallbackPpi::from_param(kind << 56 | 0x00ff_ffff_ffff_fc1f);
            let ppi = CallbackPpi { irq: 31, edge: false, active_low: false };
            assert_eq!(found, (kind == 2).then_some(ppi));
        }
    }
}
