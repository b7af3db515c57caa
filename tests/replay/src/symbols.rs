// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that a recording gives to ports and to the second domain.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The name of the second domain.
const SECOND: &str = "X";

/// Which of the two domains a port belongs to: false for the recorded one, true for the second.
pub(crate) type InSecond = bool;

/// The names in use in the present sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Symbols {
    second: Option<u16>,
    ports: BTreeMap<(InSecond, u32), String>,
}

impl Symbols {
    /// Begins a sequence: ports have no names any more.
    pub fn begin(&mut self) {
        self.ports.clear();
    }

    /// The second domain was created.
    pub fn created(&mut self, id: u16) {
        self.second = Some(id);
        self.ports.retain(|(in_second, _), _| !in_second);
    }

    /// The second domain's id, while the recorder knows one.
    pub fn second(&self) -> Option<u16> {
        self.second
    }

    /// Whether `id` is the second domain.
    pub fn is_second(&self, id: u16) -> InSecond {
        self.second == Some(id)
    }

    /// Gives a new port its name.
    pub fn name(&mut self, in_second: InSecond, port: u32, name: &str) {
        self.ports.insert((in_second, port), name.to_owned());
    }

    /// The named ports: whose, number, name.
    pub fn ports(&self) -> impl Iterator<Item = (InSecond, u32, &str)> {
        self.ports.iter().map(|(&(in_second, port), name)| (in_second, port, name.as_str()))
    }

    /// A domain id as outputs have it.
    pub fn domain(&self, id: u16) -> Value {
        if self.is_second(id) { json!(SECOND) } else { json!(id) }
    }
}

/// Recorded outputs with raw numbers in the place of port names.
pub(crate) fn with_raw_numbers(out: &Map<String, Value>) -> Map<String, Value> {
    let named = out.iter().filter(|(key, _)| !key.ends_with("_raw"));
    named
        .map(|(key, value)| {
            let raw = out.get(&format!("{key}_raw")).unwrap_or(value);
            (key.clone(), raw.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_numbers_take_the_place_of_names() {
        let out = json!({"port": "p1", "port_raw": 25, "vcpu": 0, "remote_dom": "X"});
        let Value::Object(out) = out else { unreachable!() };
        let expected = json!({"port": 25, "vcpu": 0, "remote_dom": "X"});
        assert_eq!(Value::Object(with_raw_numbers(&out)), expected);
    }

    #[test]
    fn a_new_second_domain_has_no_named_ports() {
        let mut symbols = Symbols::default();
        symbols.created(3);
        symbols.name(true, 1, "p0");
        symbols.name(false, 1, "p1");
        symbols.created(4);
        assert_eq!(symbols.ports().collect::<Vec<_>>(), [(false, 1, "p1")]);
        assert_eq!((symbols.domain(4), symbols.domain(3)), (json!("X"), json!(3)));
    }
}
