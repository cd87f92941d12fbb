//! Rows of a kind and space, and how an event changes them.

use millstream_core::RawJson;
use serde_json::Value;

use crate::state::State;

/// How a kind keeps its rows.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The newest entries.
    Append { keep: usize },
    /// Items with a key; the names of the events that put and remove them.
    Keyed(Keyed),
    /// One value.
    Value,
}

#[derive(Debug, Clone, Copy)]
struct Keyed {
    key: &'static str,
    /// Replaces an item, or adds it.
    put: &'static str,
    /// Replaces an item that is there.
    change: Option<&'static str>,
    remove: &'static str,
    /// Replaces everything.
    set: Option<&'static str>,
    /// New items go to the front, and only so many are kept.
    front: Option<usize>,
}

impl Keyed {
    const fn crud(key: &'static str) -> Self {
        Self {
            key,
            put: "created",
            change: Some("updated"),
            remove: "deleted",
            set: None,
            front: None,
        }
    }

    const fn people(put: &'static str, remove: &'static str) -> Self {
        Self {
            key: "key",
            put,
            change: None,
            remove,
            set: Some("set"),
            front: None,
        }
    }
}

fn rule(kind: &str) -> Rule {
    match kind {
        "value" => Rule::Value,
        "log" => Rule::Append { keep: 4 },
        "replog" => Rule::Append { keep: 50 },
        "sku" => Rule::Keyed(Keyed::crud("sku")),
        "coal" => Rule::Keyed(Keyed::crud("k")),
        "top" => Rule::Keyed(Keyed {
            front: Some(5),
            ..Keyed::crud("id")
        }),
        "who" => Rule::Keyed(Keyed::people("join", "leave")),
        "ptr" => Rule::Keyed(Keyed::people("update", "remove")),
        _ => Rule::Keyed(Keyed::crud("id")),
    }
}

/// Applies an event to the rows of a kind and space.
pub(crate) fn apply(
    state: &State,
    kind: &str,
    space: &str,
    event: &str,
    data: &RawJson,
) -> Result<(), serde_json::Error> {
    let data: Value = serde_json::from_str(data.as_str())?;
    state.change_rows(kind, space, |rows| match rule(kind) {
        _ if event == "refreshed" => *rows = data,
        Rule::Value => *rows = data,
        Rule::Append { keep } => append(rows, data, keep),
        Rule::Keyed(keyed) => keyed.apply(rows, event, data),
    })
}

fn append(rows: &mut Value, data: Value, keep: usize) {
    if let Value::Array(rows) = rows {
        rows.push(data);
        let surplus = rows.len().saturating_sub(keep);
        rows.drain(..surplus);
    }
}

impl Keyed {
    fn apply(&self, rows: &mut Value, event: &str, data: Value) {
        if self.set == Some(event) {
            *rows = data;
            return;
        }
        let Value::Array(rows) = rows else {
            return;
        };
        let at = rows.iter().position(|row| row[self.key] == data[self.key]);
        match at {
            Some(at) if event == self.put || self.change == Some(event) => rows[at] = data,
            Some(at) if event == self.remove => drop(rows.remove(at)),
            None if event == self.put => match self.front {
                Some(keep) => {
                    rows.insert(0, data);
                    rows.truncate(keep);
                }
                None => rows.push(data),
            },
            _ => {}
        }
    }
}
