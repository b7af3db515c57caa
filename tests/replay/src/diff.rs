// SPDX-License-Identifier: MIT OR Apache-2.0
//! The leaves in which two JSON values differ.

use std::collections::BTreeSet;

use serde_json::Value;

/// One differing leaf; `None` means that the side does not have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    /// The keys that lead to it, joined by dots.
    pub field: String,
    pub ours: Option<Value>,
    pub theirs: Option<Value>,
}

/// Adds to `found` every leaf below `field` in which the two sides differ. Only objects are entered.
pub(crate) fn differing(field: &str, ours: Option<&Value>, theirs: Option<&Value>, found: &mut Vec<Leaf>) {
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (ours, theirs) {
        for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            differing(&join(field, key), a.get(key), b.get(key), found);
        }
    } else if ours != theirs {
        found.push(Leaf { field: field.to_owned(), ours: ours.cloned(), theirs: theirs.cloned() });
    }
}

fn join(field: &str, key: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(ours: &Value, theirs: &Value) -> Vec<String> {
        let mut found = Vec::new();
        differing("", Some(ours), Some(theirs), &mut found);
        found.into_iter().map(|leaf| leaf.field).collect()
    }

    #[test]
    fn equal_values_have_no_differing_leaf() {
        let value = json!({"p0": {"p": 1, "m": 0}, "ret": 0});
        assert!(fields(&value, &value).is_empty());
    }

    #[test]
    fn a_leaf_is_named_by_its_path() {
        let ours = json!({"p0": {"p": 1, "m": 0}, "ret": 0});
        let theirs = json!({"p0": {"p": 0, "m": 0}, "ret": -22});
        assert_eq!(fields(&ours, &theirs), ["p0.p", "ret"]);
    }

    #[test]
    fn what_only_one_side_has_is_a_difference() {
        let mut found = Vec::new();
        differing("", Some(&json!({"port": 5})), Some(&json!({})), &mut found);
        assert_eq!(found, [Leaf { field: "port".into(), ours: Some(json!(5)), theirs: None }]);
    }
}
