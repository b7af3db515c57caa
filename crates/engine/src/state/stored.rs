// SPDX-License-Identifier: MIT OR Apache-2.0
//! How states are stored: a version, then the state as that version laid it out.
//!
//! The version comes first, so that a reader knows what follows also where the format has no field names.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ConfigState, DomainState, FifoState, HandlerState, MachineState, PortState, VERSION, WidthState,
};

const FIELDS: &[&str] = &["version", "state"];

/// A structure whose layout changes with [`VERSION`].
trait Versioned: Sized {
    const NAME: &'static str;

    fn store<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads the layout of the present version.
    fn load<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// The present layout, as a value of its own.
struct Body<T>(T);

impl<T: Versioned> Serialize for Body<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.store(serializer)
    }
}

impl<'de, T: Versioned> Deserialize<'de> for Body<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::load(deserializer).map(Self)
    }
}

fn store<T: Versioned, S: Serializer>(state: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct(T::NAME, FIELDS.len())?;
    fields.serialize_field("version", &VERSION)?;
    fields.serialize_field("state", &Body(state))?;
    fields.end()
}

struct Loader<T>(PhantomData<T>);

impl<T: Versioned> Loader<T> {
    /// Reads the state with the layout of its version, which `read` gives it.
    fn state<E: Error>(version: u32, read: impl FnOnce() -> Result<Option<Body<T>>, E>) -> Result<T, E> {
        match version {
            // A newer version keeps this line for version 1, with `load` of that layout and a conversion.
            VERSION => read()?.map(|Body(state)| state).ok_or_else(|| E::missing_field("state")),
            0 => Err(E::invalid_value(Unexpected::Unsigned(0), &"a version of 1 or more")),
            newer => Err(E::custom(super::RestoreError::Version(newer))),
        }
    }
}

impl<'de, T: Versioned> Visitor<'de> for Loader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a version, then the state")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
        let version = fields.next_element()?.ok_or_else(|| A::Error::missing_field("version"))?;
        Self::state(version, || fields.next_element())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<T, A::Error> {
        let key = |fields: &mut A, wanted| match fields.next_key::<Field>()? {
            Some(Field(found)) if found == wanted => Ok(()),
            Some(_) => Err(A::Error::custom("the version must come before the state, and nothing else")),
            None => Err(A::Error::missing_field(wanted)),
        };
        key(&mut fields, FIELDS[0])?;
        let version = fields.next_value()?;
        Self::state(version, || {
            key(&mut fields, FIELDS[1])?;
            fields.next_value().map(Some)
        })
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

/// The layout of version 1 of a machine.
#[derive(Serialize, Deserialize)]
#[serde(remote = "MachineState")]
struct MachineV1 {
    #[serde(skip, default = "version")]
    version: u32,
    domains: Vec<DomainState>,
    hardware: Option<u16>,
    virq_handlers: Vec<HandlerState>,
}

/// The layout of version 1 of a domain. What is in it lays itself out.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DomainState")]
struct DomainV1 {
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
}

macro_rules! stored {
    ($($state:ident = $layout:ident;)*) => {$(
        impl Versioned for $state {
            const NAME: &'static str = stringify!($state);

            fn store<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $layout::serialize(self, serializer)
            }

            fn load<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $layout::deserialize(deserializer)
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
    DomainState = DomainV1;
}
