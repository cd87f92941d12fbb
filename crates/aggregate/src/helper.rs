//! The built-in ways to put the hops of a sliding window together.

use core::cmp::Ordering;
use std::collections::VecDeque;

use millstream_core::RawJsonRef;

use crate::tokens::TokenMap;
use crate::{Value, js};

/// How the hops of a sliding window become one value; absent and `null` hops are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Helper {
    /// The sum.
    Sum,
    /// The largest; 0 when there is none.
    Max,
    /// The smallest; 0 when there is none.
    Min,
    /// Maps of numbers: the sum per key.
    Counts,
    /// Maps: per key the value of the newest hop that has it.
    Merge,
}

impl Helper {
    /// The name in declarations.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "sum" => Self::Sum,
            "max" => Self::Max,
            "min" => Self::Min,
            "counts" => Self::Counts,
            "merge" => Self::Merge,
            _ => return None,
        })
    }

    /// Puts values together, oldest first.
    pub(crate) fn fold<'a>(self, values: impl Iterator<Item = &'a Value>) -> Value {
        let present = values.filter(|value| !value.is_missing());
        match self {
            Self::Sum => present.fold(Value::Number(0.0), |sum, value| js::add(&sum, value)),
            Self::Max | Self::Min => {
                let mut best = Value::Absent;
                present.for_each(|value| self.extreme(&mut best, value));
                or_zero(best)
            }
            Self::Counts => {
                let mut map = TokenMap::default();
                for (key, value) in present.flat_map(members) {
                    let number = js::to_number(&Value::from_json(value));
                    match map.find(key).and_then(|id| map.get_mut(id)) {
                        Some(sum) => *sum += number,
                        None => {
                            map.insert(key, number);
                        }
                    }
                }
                object(map.iter(), |out, number| js::write_number(out, *number))
            }
            Self::Merge => {
                let mut map = TokenMap::default();
                for (key, value) in present.flat_map(members) {
                    match map.find(key).and_then(|id| map.get_mut(id)) {
                        Some(newest) => *newest = value,
                        None => {
                            map.insert(key, value);
                        }
                    }
                }
                object(map.iter(), |out, json| out.push_str(json.as_str()))
            }
        }
    }

    /// Replaces `best` if `value` is beyond it. What cannot be compared, such as NaN, is missing.
    pub(crate) fn extreme(self, best: &mut Value, value: &Value) {
        if value.is_missing() || js::compare(value, value).is_none() {
            return;
        }
        let beyond = match self {
            Self::Min => Ordering::Less,
            _ => Ordering::Greater,
        };
        if best.is_missing() || js::compare(value, best) == Some(beyond) {
            best.clone_from(value);
        }
    }
}

/// The extreme of nothing is 0: clients of the original rely on it.
pub(crate) fn or_zero(value: Value) -> Value {
    if value.is_missing() {
        return Value::Number(0.0);
    }
    value
}

fn members(value: &Value) -> impl Iterator<Item = (&str, RawJsonRef<'_>)> {
    let json = match value {
        Value::Json(json) => RawJsonRef::trust(json),
        _ => RawJsonRef::NULL,
    };
    json.fields().map(|(key, value)| (key.raw(), value))
}

fn object<'a, V: 'a>(
    entries: impl Iterator<Item = (&'a str, &'a V)>,
    write: impl Fn(&mut String, &V),
) -> Value {
    let mut out = String::new();
    write_object(&mut out, entries, write);
    Value::Json(out.into())
}

/// Appends an object of tokens and values.
pub(crate) fn write_object<'a, V: 'a>(
    out: &mut String,
    entries: impl Iterator<Item = (&'a str, V)>,
    write: impl Fn(&mut String, V),
) {
    out.push('{');
    let start = out.len();
    for (token, value) in entries {
        if out.len() > start {
            out.push(',');
        }
        out.push_str(token);
        out.push(':');
        write(out, value);
    }
    out.push('}');
}

/// A state that is kept once per hop and folded whenever it is shown: for combinations of a
/// reducer and a helper that nobody made fast. Showing costs O(hops).
#[derive(Clone, Debug)]
pub(crate) struct Folded<P> {
    helper: Helper,
    /// Newest last; never empty.
    hops: VecDeque<P>,
}

impl<P: Clone> Folded<P> {
    pub(crate) fn new(helper: Helper, buckets: u32, init: &P) -> Self {
        let hops = (0..buckets.max(1)).map(|_| init.clone()).collect();
        Self { helper, hops }
    }

    pub(crate) fn newest(&mut self, init: &P) -> &mut P {
        if self.hops.is_empty() {
            self.hops.push_back(init.clone());
        }
        let newest = self.hops.len() - 1;
        &mut self.hops[newest]
    }

    pub(crate) fn slide(&mut self, steps: u32, init: &P) {
        for _ in 0..steps {
            self.hops.pop_front();
            self.hops.push_back(init.clone());
        }
    }

    pub(crate) fn value(&self, value: impl Fn(&P) -> Value) -> Value {
        let values: Vec<Value> = self.hops.iter().map(value).collect();
        self.helper.fold(values.iter())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> {
        self.hops.iter()
    }
}
