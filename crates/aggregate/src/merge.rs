//! Fields that merge objects key by key, and fields that keep lists.

use std::collections::VecDeque;

use millstream_core::{JsonKind, RawJsonRef};

use crate::column::{Column, Shape};
use crate::counts::token_of;
use crate::helper::{Folded, Helper, write_object};
use crate::tokens::TokenMap;
use crate::{Event, Limits, ReduceError, Value, js};

/// The data of all events, shallowly merged: per key the newest value.
#[derive(Debug)]
pub(crate) struct Merge {
    keys_max: usize,
    bytes_max: usize,
    windows: Vec<State>,
    /// A key that is not written canonically in the event.
    key: String,
}

#[derive(Debug)]
enum State {
    Whole(Box<Map>),
    Hops(Box<Hops>),
    Ignored,
    Folded(Folded<Map>),
}

/// Keys and values, with the bytes of the values.
#[derive(Clone, Debug, Default)]
struct Map {
    map: TokenMap<Entry>,
    value_bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    json: String,
    /// The hop that set it.
    number: u64,
}

/// The newest hop that has a key wins, which is the order in which events set it: one map is
/// enough. Each hop lists the keys set in it, so that dropping a hop drops the keys that nothing
/// newer has set: O(1) per set key, amortised.
#[derive(Debug)]
struct Hops {
    map: Map,
    /// Newest last; never empty.
    hops: VecDeque<Vec<u32>>,
    number: u64,
}

impl Merge {
    pub(crate) fn new(helper: Option<Helper>, shapes: &[Shape], limits: &Limits) -> Self {
        let windows = shapes
            .iter()
            .map(|shape| match (shape, helper) {
                (Shape::Whole, _) => State::Whole(Box::default()),
                (Shape::Hops(buckets), Some(Helper::Merge)) => State::Hops(Box::new(Hops {
                    map: Map::default(),
                    hops: (0..(*buckets).max(1)).map(|_| Vec::new()).collect(),
                    // 0 marks entries that are new.
                    number: 1,
                })),
                (Shape::Hops(buckets), Some(helper)) => {
                    State::Folded(Folded::new(helper, *buckets, &Map::default()))
                }
                (Shape::Hops(_), None) => State::Ignored,
            })
            .collect();
        Self {
            keys_max: limits.keys_max,
            bytes_max: limits.field_bytes_max,
            windows,
            key: String::new(),
        }
    }

    /// Whether all keys of `data` fit into `map`: either the whole event is merged or nothing.
    fn fits(
        &self,
        map: &Map,
        data: RawJsonRef<'_>,
        scratch: &mut String,
    ) -> Result<(), ReduceError> {
        // Only what could be too much is looked at closely.
        let size = data.as_str().len();
        let roomy = map.bytes() + size <= self.bytes_max;
        if roomy && map.map.len() + size / 4 < self.keys_max {
            return Ok(());
        }
        let (mut keys, mut grows, mut shrinks) = (0, 0, 0);
        members(data, scratch, &mut |token, value| {
            grows += value.len();
            match map.map.find(token).and_then(|id| map.map.get(id)) {
                Some(entry) => shrinks += entry.json.len(),
                None => {
                    keys += 1;
                    grows += token.len();
                }
            }
        });
        if map.map.len() + keys > self.keys_max {
            return Err(ReduceError::Full {
                what: "map of keys",
                max: self.keys_max,
            });
        }
        if (map.bytes() + grows).saturating_sub(shrinks) > self.bytes_max {
            return Err(ReduceError::Full {
                what: "map of bytes",
                max: self.bytes_max,
            });
        }
        Ok(())
    }

    fn merge(
        &self,
        state: &mut State,
        data: RawJsonRef<'_>,
        scratch: &mut String,
    ) -> Result<(), ReduceError> {
        match state {
            State::Whole(map) => {
                self.fits(map, data, scratch)?;
                members(data, scratch, &mut |token, value| map.put(token, value));
            }
            State::Hops(hops) => {
                self.fits(&hops.map, data, scratch)?;
                members(data, scratch, &mut |token, value| hops.set(token, value));
            }
            State::Folded(folded) => {
                let map = folded.newest(&Map::default());
                self.fits(map, data, scratch)?;
                members(data, scratch, &mut |token, value| map.put(token, value));
            }
            State::Ignored => {}
        }
        Ok(())
    }

    fn shown(&self, window: usize) -> Option<&Map> {
        match self.windows.get(window)? {
            State::Whole(map) => Some(map),
            State::Hops(hops) => Some(&hops.map),
            State::Ignored | State::Folded(_) => None,
        }
    }
}

/// Calls `each` with the keys and values that `{...data}` has in JavaScript: those of an object,
/// the indexes of a list. Text, which would fall apart into letters, has none here.
fn members(data: RawJsonRef<'_>, scratch: &mut String, each: &mut dyn FnMut(&str, &str)) {
    match data.kind() {
        JsonKind::Object => {
            for (key, value) in data.fields() {
                each(token_of(Some(key.as_json()), scratch), value.as_str());
            }
        }
        JsonKind::Array => {
            for (index, value) in data.elements().enumerate() {
                scratch.clear();
                scratch.push('"');
                scratch.push_str(itoa::Buffer::new().format(index));
                scratch.push('"');
                each(scratch, value.as_str());
            }
        }
        _ => {}
    }
}

impl Column for Merge {
    fn add(&mut self, event: &Event<'_>, windows: &[u32]) -> Result<(), ReduceError> {
        let mut states = core::mem::take(&mut self.windows);
        let mut scratch = core::mem::take(&mut self.key);
        let mut result = Ok(());
        for window in windows {
            if let Some(state) = states.get_mut(*window as usize) {
                let merged = self.merge(state, event.data, &mut scratch);
                result = result.and(merged);
            }
        }
        (self.windows, self.key) = (states, scratch);
        result
    }

    fn reset(&mut self, window: usize) {
        if let Some(State::Whole(map)) = self.windows.get_mut(window) {
            map.map.clear();
            map.value_bytes = 0;
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
        match self.shown(window) {
            Some(map) => {
                map.write(out);
                true
            }
            None => self.value(window).write(out),
        }
    }

    fn value(&self, window: usize) -> Value {
        let object = |map: &Map| {
            let mut out = String::new();
            map.write(&mut out);
            Value::Json(out.into())
        };
        match self.windows.get(window) {
            None => Value::Absent,
            Some(State::Ignored) => Value::Json("{}".into()),
            Some(State::Folded(folded)) => folded.value(object),
            Some(State::Whole(map)) => object(map),
            Some(State::Hops(hops)) => object(&hops.map),
        }
    }

    fn entries(&self, window: usize) -> Option<Vec<(&str, f64)>> {
        let number = |json: &str| js::to_number(&Value::from_json(RawJsonRef::trust(json)));
        let entries = self.shown(window)?.map.iter();
        Some(
            entries
                .map(|(key, entry)| (key, number(&entry.json)))
                .collect(),
        )
    }

    fn restore(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let (mut map, mut scratch) = (Map::default(), String::new());
        if !saved.is_object() || self.fits(&map, saved, &mut scratch).is_err() {
            return false;
        }
        members(saved, &mut scratch, &mut |token, value| {
            map.put(token, value)
        });
        let Some(State::Whole(target)) = self.windows.get_mut(window) else {
            return false;
        };
        **target = map;
        true
    }

    fn absorb(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let Some(State::Whole(map)) = self.windows.get(window) else {
            return false;
        };
        let mut scratch = String::new();
        if !saved.is_object() || self.fits(map, saved, &mut scratch).is_err() {
            return false;
        }
        if let Some(State::Whole(map)) = self.windows.get_mut(window) {
            members(saved, &mut scratch, &mut |token, value| {
                map.put(token, value)
            });
        }
        true
    }

    fn bytes(&self, window: usize) -> usize {
        match self.windows.get(window) {
            Some(State::Folded(folded)) => folded.iter().map(Map::bytes).sum(),
            _ => self.shown(window).map_or(0, Map::bytes),
        }
    }
}

impl Map {
    fn bytes(&self) -> usize {
        self.map.token_bytes() + self.value_bytes
    }

    /// Sets a key; gives its id and the hop that had set it before.
    fn set(&mut self, token: &str, value: &str, number: u64) -> (u32, u64) {
        let found = self.map.find(token);
        let id = found.unwrap_or_else(|| self.map.insert(token, Entry::default()));
        let Some(entry) = self.map.get_mut(id) else {
            return (id, number);
        };
        self.value_bytes = self.value_bytes + value.len() - entry.json.len();
        entry.json.clear();
        entry.json.push_str(value);
        (id, core::mem::replace(&mut entry.number, number))
    }

    /// Sets a key where hops do not matter.
    fn put(&mut self, token: &str, value: &str) {
        self.set(token, value, 0);
    }

    fn write(&self, out: &mut String) {
        write_object(out, self.map.iter(), |out, entry| out.push_str(&entry.json));
    }
}

impl Hops {
    fn set(&mut self, token: &str, value: &str) {
        let (id, before) = self.map.set(token, value, self.number);
        if before != self.number
            && let Some(newest) = self.hops.back_mut()
        {
            newest.push(id);
        }
    }

    fn slide(&mut self) {
        let mut oldest = self.hops.pop_front().unwrap_or_default();
        // Hops are numbered without gaps, the newest last.
        let number = self.number - self.hops.len().min(self.number as usize) as u64;
        for id in oldest.drain(..) {
            if let Some(entry) = self.map.map.get(id)
                && entry.number == number
            {
                self.map.value_bytes -= entry.json.len();
                self.map.map.remove(id);
            }
        }
        self.hops.push_back(oldest);
        self.number += 1;
    }
}

/// A list of what a field held, event by event.
#[derive(Debug)]
pub(crate) struct List {
    path: crate::reducer::Path,
    items_max: usize,
    bytes_max: usize,
    windows: Vec<ListState>,
}

#[derive(Debug)]
enum ListState {
    Whole(Items),
    Ignored,
    Folded(Folded<Items>),
}

/// The elements, joined by commas.
#[derive(Clone, Debug, Default)]
struct Items {
    text: String,
    count: usize,
}

impl Items {
    fn value(&self) -> Value {
        Value::Json(format!("[{}]", self.text).into())
    }

    fn push(&mut self, json: &str) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.text.push_str(json);
        self.count += 1;
    }
}

impl List {
    pub(crate) fn new(
        path: crate::reducer::Path,
        helper: Option<Helper>,
        shapes: &[Shape],
        limits: &Limits,
    ) -> Self {
        let windows = shapes
            .iter()
            .map(|shape| match (shape, helper) {
                (Shape::Whole, _) => ListState::Whole(Items::default()),
                (Shape::Hops(_), None) => ListState::Ignored,
                (Shape::Hops(buckets), Some(helper)) => {
                    ListState::Folded(Folded::new(helper, *buckets, &Items::default()))
                }
            })
            .collect();
        Self {
            path,
            items_max: limits.items_max,
            bytes_max: limits.field_bytes_max,
            windows,
        }
    }

    fn parse(&self, saved: RawJsonRef<'_>, mut items: Items) -> Option<Items> {
        if !saved.is_array() {
            return None;
        }
        for element in saved.elements() {
            items.push(element.as_str());
            if items.count > self.items_max || items.text.len() > self.bytes_max {
                return None;
            }
        }
        Some(items)
    }
}

impl Column for List {
    fn add(&mut self, event: &Event<'_>, windows: &[u32]) -> Result<(), ReduceError> {
        // An element that is not there is null in a JavaScript list.
        let json = event.at(self.path)?.map_or("null", |json| json.as_str());
        let mut result = Ok(());
        for window in windows {
            let items = match self.windows.get_mut(*window as usize) {
                Some(ListState::Whole(items)) => items,
                Some(ListState::Folded(folded)) => folded.newest(&Items::default()),
                _ => continue,
            };
            if items.count >= self.items_max {
                let (what, max) = ("list of items", self.items_max);
                result = Err(ReduceError::Full { what, max });
            } else if items.text.len() + json.len() >= self.bytes_max {
                let (what, max) = ("list of bytes", self.bytes_max);
                result = Err(ReduceError::Full { what, max });
            } else {
                items.push(json);
            }
        }
        result
    }

    fn reset(&mut self, window: usize) {
        if let Some(ListState::Whole(items)) = self.windows.get_mut(window) {
            items.text.clear();
            items.count = 0;
        }
    }

    fn slide(&mut self, window: usize, steps: u32) {
        if let Some(ListState::Folded(folded)) = self.windows.get_mut(window) {
            folded.slide(steps, &Items::default());
        }
    }

    fn write(&mut self, window: usize, out: &mut String) -> bool {
        match self.windows.get(window) {
            Some(ListState::Whole(items)) => {
                out.push('[');
                out.push_str(&items.text);
                out.push(']');
                true
            }
            _ => self.value(window).write(out),
        }
    }

    fn value(&self, window: usize) -> Value {
        match self.windows.get(window) {
            None => Value::Absent,
            Some(ListState::Ignored) => Value::Json("[]".into()),
            Some(ListState::Whole(items)) => items.value(),
            Some(ListState::Folded(folded)) => folded.value(Items::value),
        }
    }

    fn restore(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let parsed = self.parse(saved, Items::default());
        match (self.windows.get_mut(window), parsed) {
            (Some(ListState::Whole(items)), Some(parsed)) => {
                *items = parsed;
                true
            }
            _ => false,
        }
    }

    fn absorb(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let Some(ListState::Whole(items)) = self.windows.get(window) else {
            return false;
        };
        let parsed = self.parse(saved, items.clone());
        match (self.windows.get_mut(window), parsed) {
            (Some(ListState::Whole(items)), Some(parsed)) => {
                *items = parsed;
                true
            }
            _ => false,
        }
    }

    fn bytes(&self, window: usize) -> usize {
        match self.windows.get(window) {
            Some(ListState::Whole(items)) => items.text.len(),
            Some(ListState::Folded(folded)) => folded.iter().map(|items| items.text.len()).sum(),
            _ => 0,
        }
    }
}
