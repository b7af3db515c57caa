// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names that the bare guest gives to its ports, and the list of those that it holds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The guest shows the words of at most this many of its ports.
const SHOWN: usize = 40;

/// Names and ports of the present sequence.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<u32, usize>,
    given: usize,
    /// The ports held, in the guest's own order: a closed one is replaced by the last.
    held: Vec<u32>,
    newest: u32,
}

impl Names {
    /// A new port has the next name, and is held.
    pub fn add(&mut self, port: u32) {
        self.names.insert(port, self.given);
        self.given += 1;
        self.held.push(port);
        self.newest = port;
    }

    /// A port was closed. Its name stays.
    pub fn remove(&mut self, port: u32) {
        if let Some(at) = self.held.iter().position(|held| *held == port) {
            self.held.swap_remove(at);
        }
    }

    /// A reset closed all ports.
    pub fn remove_all(&mut self) {
        self.held.clear();
    }

    /// The port that got the newest name.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// The ports whose bits the guest shows.
    pub fn shown(&self) -> impl Iterator<Item = u32> {
        self.held.iter().copied().take(SHOWN)
    }

    /// A port as records have it: its name, or its number if it has none.
    pub fn of(&self, port: u32) -> Value {
        self.names.get(&port).map_or_else(|| json!(port), |name| json!(format!("p{name}")))
    }

    /// A recorded step's arguments with our numbers for the ports that have names, where the engine has given out others.
    pub fn resolve(&self, args: &Map<String, Value>) -> Map<String, Value> {
        let mut args = args.clone();
        for name in ["port", "remote_port"] {
            let ours = args.get(name).and_then(Value::as_str).and_then(|name| self.port(name));
            if let Some(port) = ours {
                args.insert(format!("{name}_raw"), json!(port));
            }
        }
        args
    }

    /// The port that has a name.
    fn port(&self, name: &str) -> Option<u32> {
        let number: usize = name.strip_prefix('p')?.parse().ok()?;
        self.names.iter().find_map(|(port, name)| (*name == number).then_some(*port))
    }

    /// The same as an object's key.
    pub fn key(&self, port: u32) -> String {
        self.names.get(&port).map_or_else(|| port.to_string(), |name| format!("p{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_port_keeps_its_name_until_its_number_gets_a_new_one() {
        let mut names = Names::default();
        [3, 4].into_iter().for_each(|port| names.add(port));
        names.remove(3);
        assert_eq!(names.shown().collect::<Vec<_>>(), [4]);
        assert_eq!((names.of(3), names.of(9)), (json!("p0"), json!(9)));
        names.add(3);
        assert_eq!((names.key(3), names.newest()), ("p2".into(), 3));
    }

    #[test]
    fn a_name_stands_for_our_number() {
        let mut names = Names::default();
        names.add(3);
        let args = json!({ "port": "p0", "port_raw": 7, "vcpu": 1 });
        let args = names.resolve(args.as_object().unwrap());
        assert_eq!(Value::Object(args), json!({ "port": "p0", "port_raw": 3, "vcpu": 1 }));
    }
}
