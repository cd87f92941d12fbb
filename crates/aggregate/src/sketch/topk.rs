//! The most frequent values of a field.

use std::collections::BTreeSet;

use millstream_core::RawJsonRef;

use super::Source;
use crate::counts::token_of;
use crate::tokens::TokenMap;
use crate::{Combine, Event, ReduceError, Reducer, Value, js};

/// The `k` most frequent values of a field, by Space-Saving with a fixed number of counters.
///
/// Shows `[[value, count], ...]`, largest count first, then by key. A count is never too small and
/// too large by at most `events / counters`; every value with more than `events / counters` events
/// is among the counters. While there are no more different values than counters, all is exact.
///
/// Sources: Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements
/// in data streams" (2005); combining as in Agarwal et al., "Mergeable summaries" (2012).
///
/// # Cost
/// `counters` (10 times k by default) times 100 bytes and the value; O(log counters) per event,
/// O(counters) to show. Values longer than 256 bytes do not count and are reported.
#[derive(Clone, Debug)]
pub struct TopK {
    source: Source,
    k: usize,
    counters: usize,
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    map: TokenMap<Counter>,
    /// Smallest count first; the id tells which.
    order: BTreeSet<(u64, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Counter {
    count: u64,
    /// How much of it may belong to values that had the counter before.
    error: u64,
}

const TOKEN_BYTES_MAX: usize = 256;
const COUNT_MAX: u64 = 1 << 53;

impl TopK {
    /// The `k` (1 to 1,000) most frequent values of this field.
    #[must_use]
    pub fn of(field: &str, k: usize) -> Self {
        Self::from(Source::Field(field.into()), k)
    }

    pub(crate) fn from(source: Source, k: usize) -> Self {
        let k = k.clamp(1, 1_000);
        let counters = k * 10;
        Self {
            source,
            k,
            counters,
        }
    }

    /// More counters give smaller errors; kept between k and 100,000.
    #[must_use]
    pub fn counters(mut self, counters: usize) -> Self {
        self.counters = counters.clamp(self.k, 100_000);
        self
    }
}

impl Counters {
    /// What a value that has no counter may have had at most.
    fn missed(&self, counters: usize) -> u64 {
        let full = self.map.len() >= counters;
        let least = self.order.first().map_or(0, |(count, _)| *count);
        if full { least } else { 0 }
    }

    fn put(&mut self, token: &str, counter: Counter) {
        let id = self.map.insert(token, counter);
        self.order.insert((counter.count, id));
    }

    fn pop_least(&mut self) {
        if let Some((_, id)) = self.order.pop_first() {
            self.map.remove(id);
        }
    }

    fn add(&mut self, id: u32, count: u64, error: u64) {
        let Some(counter) = self.map.get_mut(id) else {
            return;
        };
        self.order.remove(&(counter.count, id));
        counter.count = counter.count.saturating_add(count).min(COUNT_MAX);
        counter.error = counter.error.saturating_add(error).min(COUNT_MAX);
        self.order.insert((counter.count, id));
    }
}

impl Reducer for TopK {
    /// The string token.
    type Input = Box<str>;
    type State = Counters;

    fn init(&self) -> Counters {
        Counters::default()
    }

    fn read(&self, event: &Event<'_>) -> Result<Option<Box<str>>, ReduceError> {
        let found = self.source.read(event)?;
        let mut scratch = String::new();
        let token = found.map(|_| token_of(found, &mut scratch));
        if token.is_some_and(|token| token.len() > TOKEN_BYTES_MAX) {
            return Err(ReduceError::Full {
                what: "value to count",
                max: TOKEN_BYTES_MAX,
            });
        }
        Ok(token.map(Into::into))
    }

    fn reduce(&self, state: &mut Counters, input: &Box<str>) {
        if let Some(id) = state.map.find(input) {
            return state.add(id, 1, 0);
        }
        let error = state.missed(self.counters);
        if state.map.len() >= self.counters {
            state.pop_least();
        }
        let count = (error + 1).min(COUNT_MAX);
        state.put(input, Counter { count, error });
    }

    fn value(&self, state: &Counters) -> Value {
        let mut best: Vec<(&str, u64)> = state
            .map
            .iter()
            .map(|(token, counter)| (token, counter.count))
            .collect();
        best.sort_unstable_by(|(key_a, a), (key_b, b)| {
            b.cmp(a).then_with(|| js::compare_tokens(key_a, key_b))
        });
        let mut out = String::from("[");
        for (at, (token, count)) in best.into_iter().take(self.k).enumerate() {
            out.push_str(if at > 0 { ",[" } else { "[" });
            out.push_str(token);
            out.push(',');
            out.push_str(itoa::Buffer::new().format(count));
            out.push(']');
        }
        out.push(']');
        Value::Json(out.into())
    }

    /// `{"value": [count, error]}`
    fn save(&self, state: &Counters) -> Value {
        let mut out = String::new();
        crate::helper::write_object(&mut out, state.map.iter(), |out, counter| {
            out.push('[');
            out.push_str(itoa::Buffer::new().format(counter.count));
            out.push(',');
            out.push_str(itoa::Buffer::new().format(counter.error));
            out.push(']');
        });
        Value::Json(out.into())
    }

    fn restore(&self, saved: RawJsonRef<'_>) -> Option<Counters> {
        if !saved.is_object() {
            return None;
        }
        let mut state = Counters::default();
        let mut scratch = String::new();
        for (key, pair) in saved.fields() {
            let mut pair = pair.elements().map(|number| number.as_u64());
            let (count, error) = (pair.next()??, pair.next()??);
            let token = token_of(Some(key.as_json()), &mut scratch);
            let sound = count > error && count <= COUNT_MAX && token.len() <= TOKEN_BYTES_MAX;
            if !sound || state.map.find(token).is_some() || state.map.len() == self.counters {
                return None;
            }
            state.put(token, Counter { count, error });
        }
        Some(state)
    }
}

impl Combine for TopK {
    /// Within the error bounds.
    const DISTRIBUTES: bool = true;

    fn combine(&self, older: &mut Counters, newer: &Counters) {
        let (missed_old, missed_new) = (older.missed(self.counters), newer.missed(self.counters));
        let ids: Vec<u32> = older.order.iter().map(|(_, id)| *id).collect();
        // What the newer one has no counter for may still have been there.
        ids.into_iter()
            .for_each(|id| older.add(id, missed_new, missed_new));
        for (token, counter) in newer.map.iter() {
            match older.map.find(token) {
                Some(id) => {
                    let extra = |have: u64| have.saturating_sub(missed_new);
                    older.add(id, extra(counter.count), 0);
                    if let Some(place) = older.map.get_mut(id) {
                        place.error = place.error.saturating_sub(missed_new) + counter.error;
                    }
                }
                None => older.put(
                    token,
                    Counter {
                        count: (counter.count + missed_old).min(COUNT_MAX),
                        error: counter.error + missed_old,
                    },
                ),
            }
        }
        while older.map.len() > self.counters {
            older.pop_least();
        }
    }
}
