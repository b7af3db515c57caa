// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two ways to write down what C headers say: a list of numbers, and a structure.

/// A list of numbers that the other side may also fill with anything else: a newtype with constants, never a Rust `enum`.
///
/// The form `impl` adds the constants to a type that exists already.
macro_rules! open_enum {
    ($(#[$doc:meta])* struct $name:ident($inner:ty), $prefix:literal {
        $($(#[$item_doc:meta])* $item:ident = $value:expr, $c_name:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        open_enum! { impl $name($inner), $prefix { $($(#[$item_doc])* $item = $value, $c_name;)* } }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => core::fmt::Display::fmt(&self.0, f),
                }
            }
        }
    };
    (impl $name:ident($inner:ty), $prefix:literal {
        $($(#[$item_doc:meta])* $item:ident = $value:expr, $c_name:literal;)*
    }) => {
        impl $name {
            $(
                #[doc = concat!("`", $prefix, $c_name, "`. ")]
                $(#[$item_doc])*
                pub const $item: Self = Self($value);
            )*

            #[doc = concat!("What the C headers put before every name: `", $prefix, "`.")]
            pub const C_PREFIX: &'static str = $prefix;

            /// Every number that has a name here, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// The name as in C, without [`C_PREFIX`](Self::C_PREFIX); `None` for a number that is not listed here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$item => Some($c_name),)*
                    _ => None,
                }
            }

            /// Whether the number has a name here.
            #[must_use]
            pub const fn is_known(self) -> bool {
                self.name().is_some()
            }
        }
    };
}

/// A C structure, every byte of it: each field with its offset, implicit padding as a field of its own.
///
/// That the fields touch each other and fill the size is checked when the crate is compiled.
macro_rules! c_struct {
    ($(#[$doc:meta])* $name:ident = $c_name:literal, $size:literal bytes {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $offset:literal,)*
    }) => {
        $(#[$doc])*
        #[doc(alias = $c_name)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// The size in bytes.
            pub const SIZE: usize = $size;

            /// Reads the structure from the bytes of guest or program memory. Every value is accepted.
            #[inline]
            #[must_use]
            pub fn from_bytes(bytes: [u8; $size]) -> Self {
                let mut reader = $crate::c_struct::Reader::new(&bytes);
                Self { $($field: $crate::c_struct::Scalar::take(&mut reader),)* }
            }

            /// The bytes to write to guest or program memory, padding included.
            #[inline]
            #[must_use]
            pub fn to_bytes(&self) -> [u8; $size] {
                let mut bytes = [0; $size];
                let mut writer = $crate::c_struct::Writer::new(&mut bytes);
                $($crate::c_struct::Scalar::put(self.$field, &mut writer);)*
                bytes
            }
        }

        impl $crate::CStruct for $name {
            type Bytes = [u8; $size];
            const C_NAME: &'static str = $c_name;
            const SIZE: usize = $size;
            const ZEROED: Self::Bytes = [0; $size];
            const FIELDS: &'static [$crate::Field] = &[$($crate::Field {
                name: stringify!($field),
                offset: $offset,
                size: <$type as $crate::c_struct::Scalar>::SIZE,
            },)*];

            #[inline]
            fn from_bytes(bytes: Self::Bytes) -> Self {
                Self::from_bytes(bytes)
            }

            #[inline]
            fn to_bytes(&self) -> Self::Bytes {
                self.to_bytes()
            }
        }

        const _: () = {
            let end = 0usize;
            $(
                assert!(end == $offset, "a field does not begin where the one before it ends");
                let end = end.wrapping_add(<$type as $crate::c_struct::Scalar>::SIZE);
            )*
            assert!(end == $size, "the fields do not fill the structure");
        };
    };
}
