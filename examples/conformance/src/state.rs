//! What the process remembers. Never reset while it lives: scenarios use fresh names instead.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use millstream_core::RawJson;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

/// Names in each table; a new one beyond that is ignored.
const NAMES_MAX: usize = 100_000;
/// Lines of one log; the oldest go first.
const LINES_MAX: usize = 10_000;

/// The state, shared by calls and hooks.
pub(crate) type Shared = Arc<State>;

/// Flags, counters, logs and rows.
#[derive(Debug, Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
    order: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    flags: HashMap<String, RawJson>,
    counters: HashMap<String, u64>,
    logs: HashMap<String, VecDeque<String>>,
    rows: HashMap<(String, String), RawJson>,
}

impl State {
    /// Sets a flag, or unsets it.
    pub(crate) fn set_flag(&self, name: &str, value: Option<RawJson>) {
        let mut inner = self.inner.lock();
        match value {
            Some(value) => insert(&mut inner.flags, name.to_owned(), value),
            None => drop(inner.flags.remove(name)),
        }
    }

    /// A flag's value.
    pub(crate) fn flag(&self, name: &str) -> Option<RawJson> {
        self.inner.lock().flags.get(name).cloned()
    }

    /// Adds one to a counter and gives the new number.
    pub(crate) fn bump(&self, name: &str) -> u64 {
        let mut inner = self.inner.lock();
        let next = inner.counters.get(name).copied().unwrap_or(0) + 1;
        insert(&mut inner.counters, name.to_owned(), next);
        next
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.inner.lock().counters.get(name).copied().unwrap_or(0)
    }

    /// Adds a line to a log.
    pub(crate) fn log(&self, name: &str, line: impl Into<String>) {
        let mut inner = self.inner.lock();
        if !inner.logs.contains_key(name) {
            insert(&mut inner.logs, name.to_owned(), VecDeque::new());
        }
        if let Some(lines) = inner.logs.get_mut(name) {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line.into());
        }
    }

    pub(crate) fn read_log(&self, name: &str) -> Vec<String> {
        let inner = self.inner.lock();
        inner
            .logs
            .get(name)
            .map(|lines| lines.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn clear_log(&self, name: &str) {
        self.inner.lock().logs.remove(name);
    }

    /// Held while rows are changed and the change is published, so that whoever follows the events
    /// ends with what the rows say, however many write at once.
    pub(crate) fn in_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock()
    }

    /// The rows of a kind and space; an empty list, or null for kind `value`, at first.
    pub(crate) fn rows(&self, kind: &str, space: &str) -> RawJson {
        self.inner.lock().rows(kind, space)
    }

    /// Changes the rows of a kind and space. On an error they stay as they were.
    pub(crate) fn change_rows(
        &self,
        kind: &str,
        space: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<(), serde_json::Error> {
        let mut inner = self.inner.lock();
        let mut rows: Value = serde_json::from_str(inner.rows(kind, space).as_str())?;
        change(&mut rows);
        let rows = RawJson::from_serialize(&rows)?;
        insert(&mut inner.rows, (kind.to_owned(), space.to_owned()), rows);
        Ok(())
    }

    pub(crate) fn set_rows(&self, kind: &str, space: &str, rows: RawJson) {
        insert(
            &mut self.inner.lock().rows,
            (kind.to_owned(), space.to_owned()),
            rows,
        );
    }
}

impl Inner {
    fn rows(&self, kind: &str, space: &str) -> RawJson {
        let first = match kind {
            "value" => RawJson::NULL,
            _ => RawJson::EMPTY_LIST,
        };
        let key = (kind.to_owned(), space.to_owned());
        self.rows.get(&key).cloned().unwrap_or(first)
    }
}

fn insert<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() < NAMES_MAX || map.contains_key(&key) {
        map.insert(key, value);
    }
}
