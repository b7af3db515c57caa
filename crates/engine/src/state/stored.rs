// SPDX-License-Identifier: MIT OR Apache-2.0
//! How states are stored: a version, then the state as that version laid it out.
//!
//! The version comes first, so that a reader knows what follows also where the format has no field names.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::v1::DomainV1;
use super::{
    CallbackState, ConfigState, DomainState, FifoState, HandlerState, MachineState, PortState, VERSION,
    VcpuState, WidthState,
};
use crate::config::DomainConfig;

const FIELDS: &[&str] = &["version", "state"];

/// A structure whose layout changes with [`VERSION`].
trait Versioned: Sized {
    const NAME: &'static str;

    fn store<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads the layout of a version that is known.
    fn load<'de, D: Deserializer<'de>>(version: u32, deserializer: D) -> Result<Self, D::Error>;
}

/// The present layout, as a value of its own.
struct Body<T>(T);

impl<T: Versioned> Serialize for Body<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.store(serializer)
    }
}

/// A version that is known, to read a state of.
struct Layout<T>(u32, PhantomData<T>);

impl<T> Layout<T> {
    fn of<E: Error>(version: u32) -> Result<Self, E> {
        match version {
            0 => Err(E::invalid_value(Unexpected::Unsigned(0), &"a version of 1 or more")),
            1..=VERSION => Ok(Self(version, PhantomData)),
            newer => Err(E::custom(super::RestoreError::Version(newer))),
        }
    }
}

impl<'de, T: Versioned> DeserializeSeed<'de> for Layout<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::load(self.0, deserializer)
    }
}

fn store<T: Versioned, S: Serializer>(state: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct(T::NAME, FIELDS.len())?;
    fields.serialize_field("version", &VERSION)?;
    fields.serialize_field("state", &Body(state))?;
    fields.end()
}

struct Loader<T>(PhantomData<T>);

impl<'de, T: Versioned> Visitor<'de> for Loader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version, then the state")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
        let missing = |index: usize| A::Error::missing_field(FIELDS[index]);
        let version = fields.next_element()?.ok_or_else(|| missing(0))?;
        fields.next_element_seed(Layout::of(version)?)?.ok_or_else(|| missing(1))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
        let key = |fields: &mut A, wanted| match fields.next_key::<Field>()? {
            Some(Field(found)) if found == wanted => Ok(()),
            Some(_) => Err(A::Error::custom("the version must come before the state, and nothing else")),
            None => Err(A::Error::missing_field(wanted)),
        };
        key(&mut fields, FIELDS[0])?;
        let layout = Layout::of(fields.next_value()?)?;
        key(&mut fields, FIELDS[1])?;
        fields.next_value_seed(layout)
    }
}

/// The name of a field; empty for one that is not known.
struct Field(&'static str);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
                let known = FIELDS.iter().find(|&&known| known == name);
                Ok(Field(known.copied().unwrap_or_default()))
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

fn version() -> u32 {
    VERSION
}

/// The number of interrupt lines of a domain of which a state does not tell it: what an embedder gets that does not say.
pub(super) fn nr_gsis() -> u32 {
    DomainConfig::default().nr_gsis
}

/// The layout of a machine since version 1.
#[derive(Serialize, Deserialize)]
#[serde(remote = "MachineState")]
struct MachineV1 {
    #[serde(skip, default = "version")]
    version: u32,
    domains: Vec<DomainState>,
    hardware: Option<u16>,
    virq_handlers: Vec<HandlerState>,
}

/// The layout of version 2 of a domain. What is in it lays itself out.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DomainState")]
struct DomainV2 {
    #[serde(skip, default = "version")]
    version: u32,
    id: u16,
    config: ConfigState,
    width: WidthState,
    paused: bool,
    records: u32,
    ports: Vec<PortState>,
    reset: Option<u32>,
    fifo: Option<FifoState>,
    #[serde(default)]
    vcpus: Vec<VcpuState>,
    #[serde(default)]
    callback: CallbackState,
    #[serde(default)]
    auto_unmask: bool,
    #[serde(default)]
    suspend_port: Option<u32>,
    #[serde(default)]
    teardown: Option<u32>,
}

macro_rules! stored {
    ($($state:ident = $layout:ident $(, of version $old:literal: $before:ident)*;)*) => {$(
        impl Versioned for $state {
            const NAME: &'static str = stringify!($state);

            fn store<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $layout::serialize(self, serializer)
            }

            fn load<'de, D: Deserializer<'de>>(version: u32, deserializer: D) -> Result<Self, D::Error> {
                match version {
                    $($old => $before::deserialize(deserializer).map(Self::from),)*
                    _ => $layout::deserialize(deserializer),
                }
            }
        }

        impl Serialize for $state {
            /// Stores the version, then the state.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                store(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $state {
            /// Loads a state of any version up to [`VERSION`].
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_struct(Self::NAME, FIELDS, Loader(PhantomData))
            }
        }
    )*};
}

stored! {
    MachineState = MachineV1;
    DomainState = DomainV2, of version 1: DomainV1;
}
