//! Fields that count per key.

use std::collections::VecDeque;

use millstream_core::RawJsonRef;

use crate::column::{Column, Shape};
use crate::helper::{Folded, Helper, write_object};
use crate::reducer::Path;
use crate::tokens::TokenMap;
use crate::{Event, Limits, ReduceError, Value, js};

/// A map from the text of a field to how often it was seen.
#[derive(Debug)]
pub(crate) struct Counts {
    path: Path,
    keys_max: usize,
    bytes_max: usize,
    windows: Vec<State>,
    /// The key of the current event, when it is not a string token already.
    key: String,
}

type Map = TokenMap<f64>;

#[derive(Debug)]
enum State {
    Whole(Box<Shown>),
    Hops(Box<Hops>),
    /// Shows the starting value whatever happens.
    Ignored,
    Folded(Folded<Map>),
}

/// A map together with its JSON text, in which counts that keep their number of digits are
/// overwritten in place and new keys appended, so that showing a large map costs a copy only.
#[derive(Debug, Default)]
struct Shown {
    map: TokenMap<Cell>,
    text: String,
    stale: bool,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    count: f64,
    /// Where the digits are in the text, if it is not stale.
    at: u32,
    digits: u8,
}

/// Counts over all hops, and what each hop contributed to them, so that dropping a hop subtracts
/// just that: O(1) per event and slide, amortised.
#[derive(Debug)]
struct Hops {
    total: TokenMap<HopCell>,
    /// Newest last; never empty. Pairs of a key's id and its count in that hop.
    hops: VecDeque<Vec<(u32, f64)>>,
    /// Number of the newest hop.
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct HopCell {
    total: f64,
    /// The hop that had it last, and where in there.
    number: u64,
    slot: u32,
}

impl Counts {
    pub(crate) fn new(
        path: Path,
        helper: Option<Helper>,
        shapes: &[Shape],
        limits: &Limits,
    ) -> Self {
        let windows = shapes
            .iter()
            .map(|shape| match (shape, helper) {
                (Shape::Whole, _) => State::Whole(Box::default()),
                (Shape::Hops(buckets), Some(Helper::Counts)) => State::Hops(Box::new(Hops {
                    total: TokenMap::default(),
                    hops: (0..(*buckets).max(1)).map(|_| Vec::new()).collect(),
                    number: 0,
                })),
                (Shape::Hops(buckets), Some(helper)) => {
                    State::Folded(Folded::new(helper, *buckets, &Map::default()))
                }
                (Shape::Hops(_), None) => State::Ignored,
            })
            .collect();
        Self {
            path,
            keys_max: limits.keys_max,
            bytes_max: limits.field_bytes_max,
            windows,
            key: String::new(),
        }
    }

    fn refuse(&self, keys: usize, bytes: usize) -> Result<(), ReduceError> {
        if keys >= self.keys_max {
            return Err(ReduceError::Full {
                what: "map of keys",
                max: self.keys_max,
            });
        }
        if bytes > self.bytes_max {
            return Err(ReduceError::Full {
                what: "map of bytes",
                max: self.bytes_max,
            });
        }
        Ok(())
    }

    fn count(&self, state: &mut State, token: &str) -> Result<(), ReduceError> {
        match state {
            State::Whole(shown) => {
                if let Some(id) = shown.map.find(token) {
                    shown.bump(id);
                    return Ok(());
                }
                self.refuse(shown.map.len(), shown.map.token_bytes() + token.len())?;
                shown.insert(token, 1.0);
            }
            State::Hops(hops) => {
                let id = match hops.total.find(token) {
                    Some(id) => id,
                    None => {
                        self.refuse(hops.total.len(), hops.total.token_bytes() + token.len())?;
                        hops.insert(token)
                    }
                };
                hops.bump(id);
            }
            State::Folded(folded) => {
                let map = folded.newest(&Map::default());
                match map.find(token).and_then(|id| map.get_mut(id)) {
                    Some(count) => *count += 1.0,
                    None => {
                        self.refuse(map.len(), map.token_bytes() + token.len())?;
                        map.insert(token, 1.0);
                    }
                }
            }
            State::Ignored => {}
        }
        Ok(())
    }
}

impl Column for Counts {
    fn add(&mut self, event: &Event<'_>, windows: &[u32]) -> Result<(), ReduceError> {
        let found = event.at(self.path)?;
        let mut key = core::mem::take(&mut self.key);
        let token = token_of(found, &mut key);
        let mut states = core::mem::take(&mut self.windows);
        let mut result = Ok(());
        for window in windows {
            if let Some(state) = states.get_mut(*window as usize) {
                let counted = self.count(state, token);
                result = result.and(counted);
            }
        }
        (self.windows, self.key) = (states, key);
        result
    }

    fn reset(&mut self, window: usize) {
        if let Some(State::Whole(shown)) = self.windows.get_mut(window) {
            shown.map.clear();
            shown.stale = true;
        }
    }

    fn slide(&mut self, window: usize, steps: u32) {
        match self.windows.get_mut(window) {
            Some(State::Hops(hops)) => (0..steps).for_each(|_| hops.slide()),
            Some(State::Folded(folded)) => folded.slide(steps, &Map::default()),
            _ => {}
        }
    }

    fn write(&mut self, window: usize, out: &mut String) -> bool {
        match self.windows.get_mut(window) {
            Some(State::Whole(shown)) => {
                out.push_str(shown.text());
                true
            }
            Some(State::Hops(hops)) => {
                let totals = hops.total.iter().map(|(key, cell)| (key, cell.total));
                write_object(out, totals, js::write_number);
                true
            }
            _ => self.value(window).write(out),
        }
    }

    fn value(&self, window: usize) -> Value {
        let object = |map: &Map| {
            let mut out = String::new();
            write_object(&mut out, map.iter(), |out, count| {
                js::write_number(out, *count);
            });
            Value::Json(out.into())
        };
        match self.windows.get(window) {
            None => Value::Absent,
            Some(State::Ignored) => Value::Json("{}".into()),
            Some(State::Folded(folded)) => folded.value(object),
            Some(State::Whole(_) | State::Hops(_)) => {
                let mut out = String::new();
                let entries = self.entries(window).unwrap_or_default();
                write_object(&mut out, entries.into_iter(), js::write_number);
                Value::Json(out.into())
            }
        }
    }

    fn entries(&self, window: usize) -> Option<Vec<(&str, f64)>> {
        match self.windows.get(window)? {
            State::Whole(shown) => {
                let cells = shown.map.iter();
                Some(cells.map(|(key, cell)| (key, cell.count)).collect())
            }
            State::Hops(hops) => {
                let cells = hops.total.iter();
                Some(cells.map(|(key, cell)| (key, cell.total)).collect())
            }
            State::Ignored => Some(Vec::new()),
            State::Folded(_) => None,
        }
    }

    fn restore(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let (keys_max, bytes_max) = (self.keys_max, self.bytes_max);
        let Some(State::Whole(shown)) = self.windows.get_mut(window) else {
            return false;
        };
        let Some(map) = parse(saved, keys_max, bytes_max) else {
            return false;
        };
        **shown = Shown::default();
        map.iter()
            .for_each(|(key, count)| shown.insert(key, *count));
        true
    }

    fn absorb(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let (keys_max, bytes_max) = (self.keys_max, self.bytes_max);
        let Some(State::Whole(shown)) = self.windows.get_mut(window) else {
            return false;
        };
        let Some(map) = parse(saved, keys_max, bytes_max) else {
            return false;
        };
        let new = || map.iter().filter(|(key, _)| shown.map.find(key).is_none());
        let bytes: usize = new().map(|(key, _)| key.len()).sum();
        if shown.map.len() + new().count() > keys_max || shown.map.token_bytes() + bytes > bytes_max
        {
            return false;
        }
        for (key, count) in map.iter() {
            let id = shown.map.find(key);
            match id.and_then(|id| shown.map.get_mut(id)) {
                Some(cell) => cell.count += count,
                None => shown.insert(key, *count),
            }
        }
        shown.stale = true;
        true
    }

    fn bytes(&self, window: usize) -> usize {
        const ENTRY: usize = 16 + 16 + 8;
        match self.windows.get(window) {
            Some(State::Whole(shown)) => {
                shown.map.len() * ENTRY + shown.map.token_bytes() + shown.text.len()
            }
            Some(State::Hops(hops)) => {
                let cells: usize = hops.hops.iter().map(Vec::len).sum();
                hops.total.len() * ENTRY + hops.total.token_bytes() + (cells + hops.hops.len()) * 16
            }
            Some(State::Folded(folded)) => {
                let maps = folded.iter();
                maps.map(|map| map.len() * ENTRY + map.token_bytes()).sum()
            }
            Some(State::Ignored) | None => 0,
        }
    }
}

impl Shown {
    fn insert(&mut self, token: &str, count: f64) {
        let cell = Cell {
            count,
            at: 0,
            digits: 0,
        };
        let id = self.map.insert(token, cell);
        if self.text.is_empty() {
            self.stale = true;
        }
        if self.stale {
            return;
        }
        self.text.pop();
        if self.map.len() > 1 {
            self.text.push(',');
        }
        self.text.push_str(token);
        self.text.push(':');
        let cell = Cell::written(&mut self.text, count);
        self.text.push('}');
        if let Some(place) = self.map.get_mut(id) {
            *place = cell;
        }
    }

    fn bump(&mut self, id: u32) {
        let Some(cell) = self.map.get_mut(id) else {
            return;
        };
        cell.count += 1.0;
        if self.stale {
            return;
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(cell.count as i64);
        // What is not a plain whole number was written differently and has another length.
        if digits.len() == cell.digits as usize {
            let at = cell.at as usize;
            self.text.replace_range(at..at + digits.len(), digits);
        } else {
            self.stale = true;
        }
    }

    fn text(&mut self) -> &str {
        if self.stale || self.text.is_empty() {
            self.stale = false;
            self.text.clear();
            self.text.push('{');
            for (token, cell) in self.map.iter_mut() {
                if self.text.len() > 1 {
                    self.text.push(',');
                }
                self.text.push_str(token);
                self.text.push(':');
                *cell = Cell::written(&mut self.text, cell.count);
            }
            self.text.push('}');
        }
        &self.text
    }
}

impl Cell {
    /// Appends the count. Only the place of a plain whole number is remembered.
    fn written(text: &mut String, count: f64) -> Self {
        let at = text.len();
        js::write_number(text, count);
        let plain = count.trunc() == count && (0.0..1e15).contains(&count);
        Self {
            count,
            at: at as u32,
            digits: if plain { (text.len() - at) as u8 } else { 0 },
        }
    }
}

impl Hops {
    fn insert(&mut self, token: &str) -> u32 {
        let cell = HopCell {
            total: 0.0,
            number: u64::MAX,
            slot: 0,
        };
        self.total.insert(token, cell)
    }

    fn bump(&mut self, id: u32) {
        let (Some(cell), Some(hop)) = (self.total.get_mut(id), self.hops.back_mut()) else {
            return;
        };
        cell.total += 1.0;
        if cell.number != self.number {
            (cell.number, cell.slot) = (self.number, hop.len() as u32);
            hop.push((id, 0.0));
        }
        if let Some((_, count)) = hop.get_mut(cell.slot as usize) {
            *count += 1.0;
        }
    }

    fn slide(&mut self) {
        let mut oldest = self.hops.pop_front().unwrap_or_default();
        for (id, count) in oldest.drain(..) {
            if let Some(cell) = self.total.get_mut(id) {
                cell.total -= count;
                if cell.total <= 0.0 {
                    self.total.remove(id);
                }
            }
        }
        self.hops.push_back(oldest);
        self.number += 1;
    }
}

/// The string token of `String(value)`.
pub(crate) fn token_of<'a>(found: Option<RawJsonRef<'a>>, scratch: &'a mut String) -> &'a str {
    let token = found.and_then(|json| json.as_json_str());
    if let Some(token) = token.filter(|token| token.plain().is_some()) {
        return token.raw();
    }
    scratch.clear();
    scratch.push('"');
    match found {
        Some(json) => js::write_raw_inner(scratch, json),
        None => scratch.push_str("undefined"),
    }
    scratch.push('"');
    scratch
}

/// Reads a map of numbers within the limits.
fn parse(saved: RawJsonRef<'_>, keys_max: usize, bytes_max: usize) -> Option<Map> {
    if !saved.is_object() {
        return None;
    }
    let mut map = Map::default();
    let mut scratch = String::new();
    for (key, value) in saved.fields() {
        let count = js::parse_number(value.is_number().then(|| value.as_str())?);
        let token = token_of(Some(key.as_json()), &mut scratch);
        match map.find(token).and_then(|id| map.get_mut(id)) {
            Some(have) => *have = count,
            None => {
                map.insert(token, count);
            }
        }
        if map.len() > keys_max || map.token_bytes() > bytes_max {
            return None;
        }
    }
    Some(map)
}
