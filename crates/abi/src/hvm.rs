// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters of HVM guests that concern event channels (`hvm/params.h`).

open_enum! {
    /// A parameter that `hvm_op` sets and reads.
    struct HvmParam(u32), "HVM_PARAM_" {
        /// How the domain's vCPUs learn of events; see [`CallbackVia`].
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
    /// Not at all: the value 0, or an unknown type.
    None,
    /// By an interrupt line of the interrupt controllers.
    Gsi(u8),
    /// By an INTx pin of a device on PCI bus 0.
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
    /// `HVM_PARAM_CALLBACK_TYPE_GSI`.
    pub const TYPE_GSI: u8 = 0;
    /// `HVM_PARAM_CALLBACK_TYPE_PCI_INTX`.
    pub const TYPE_PCI_INTX: u8 = 1;
    /// `HVM_PARAM_CALLBACK_TYPE_VECTOR`.
    pub const TYPE_VECTOR: u8 = 2;

    /// Reads the parameter's value: the type in the uppermost byte, then what belongs to it. Bits without meaning
    /// are ignored.
    ///
    /// ```
    /// use evtchn_abi::CallbackVia;
    ///
    /// assert_eq!(CallbackVia::from_param(0x0200_0000_0000_00f3), CallbackVia::Vector(0xf3));
    /// assert_eq!(CallbackVia::from_param(0), CallbackVia::None);
    /// ```
    #[must_use]
    pub const fn from_param(value: u64) -> Self {
        let [low, next, .., kind] = value.to_le_bytes();
        match kind {
            _ if value == 0 => Self::None,
            Self::TYPE_GSI => Self::Gsi(low),
            Self::TYPE_PCI_INTX => Self::PciIntx { device: next >> 3, pin: low & 3 },
            Self::TYPE_VECTOR => Self::Vector(low),
            _ => Self::None,
        }
    }

    /// The value to set. `None` gives 0, and so does line 0, which is no line.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_survives_a_round_trip() {
        for via in [
            CallbackVia::None,
            CallbackVia::Gsi(9),
            CallbackVia::PciIntx { device: 31, pin: 3 },
            CallbackVia::PciIntx { device: 0, pin: 0 },
            CallbackVia::Vector(0xf3),
        ] {
            assert_eq!(CallbackVia::from_param(via.to_param()), via);
        }
    }

    #[test]
    fn bus_domain_and_function_of_an_intx_callback_are_ignored() {
        let value = 0x01ff_ffff_ffff_0000 | 2 << 11 | 7 << 8 | 0xfc | 1;
        assert_eq!(CallbackVia::from_param(value), CallbackVia::PciIntx { device: 2, pin: 1 });
    }

    #[test]
    fn unknown_types_and_zero_switch_the_callback_off() {
        assert_eq!(CallbackVia::from_param(3 << 56 | 5), CallbackVia::None);
        assert_eq!(CallbackVia::from_param(0), CallbackVia::None);
    }

    #[test]
    fn a_line_of_zero_with_stray_bits_is_still_a_line() {
        assert_eq!(CallbackVia::from_param(0x100), CallbackVia::Gsi(0));
    }
}
