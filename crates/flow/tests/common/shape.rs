//! Throttle, debounce and coalesce.

use core::time::Duration;

use millstream_core::Millis;
use millstream_flow::{
    AtLimit, Coalesce, CoalesceLimits, Debounce, Pushed, Reply, ShapeError, ShapeLimits, Slot,
    Throttle,
};

use super::{Input, Load, UNITS_MAX, load, name, tight};

type Name = (&'static str, &'static str);

/// Slots by age.
struct Model {
    slots: Vec<Entry>,
    limits: ShapeLimits,
    out: Vec<Load>,
    armed: u64,
}

struct Entry {
    name: Name,
    /// Throttle: end of the window. Debounce: last push.
    time: u64,
    first: u64,
    armed: u64,
    /// Age of the slot.
    born: u64,
    waiting: Option<Load>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let waiting = self.waiting.map_or(0, |load| usize::from(load.weight));
        self.name.0.len() + self.name.1.len() + waiting
    }
}

impl Model {
    fn new(limits: ShapeLimits) -> Self {
        Self {
            slots: Vec::new(),
            limits,
            out: Vec::new(),
            armed: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.slots.iter().map(Entry::bytes).sum()
    }

    fn find(&self, name: Name) -> Option<usize> {
        self.slots.iter().position(|entry| entry.name == name)
    }

    fn arm(&mut self) -> u64 {
        self.armed += 1;
        self.armed
    }

    fn flush(&mut self, at: usize) {
        let entry = self.slots.remove(at);
        self.out.extend(entry.waiting);
    }

    fn refuses(&self, name: Name, more: usize, alone: usize, new: bool) -> Option<&'static str> {
        let long = |text: &str| text.encode_utf16().count() > UNITS_MAX;
        if name.0.is_empty() || long(name.0) || long(name.1) {
            return Some("key");
        }
        let refuse = self.limits.at_limit == AtLimit::Refuse;
        let full = new && self.slots.len() >= self.limits.slots_max;
        if full && (refuse || self.limits.slots_max == 0) {
            return Some("full");
        }
        let over = refuse && self.bytes() + more > self.limits.bytes_max;
        (alone > self.limits.bytes_max || over).then_some("room")
    }

    /// Makes room for a slot that is not there.
    fn make_room(&mut self, bytes: usize) {
        if self.slots.len() >= self.limits.slots_max {
            self.flush(0);
        }
        while self.bytes() + bytes > self.limits.bytes_max && !self.slots.is_empty() {
            self.flush(0);
        }
    }

    /// Puts a value into a slot that is there.
    fn put(&mut self, name: Name, value: Load) -> Pushed {
        let at = self.find(name).expect("it is there");
        let old = self.slots[at].waiting.replace(value);
        while self.bytes() > self.limits.bytes_max {
            let oldest = usize::from(self.slots[0].name == name);
            self.flush(oldest);
        }
        if old.is_some() {
            Pushed::Replaced
        } else {
            Pushed::Waiting
        }
    }

    fn add(&mut self, name: Name, time: u64, first: u64, waiting: Option<Load>) {
        let armed = self.arm();
        self.slots.push(Entry {
            name,
            time,
            first,
            armed,
            born: armed,
            waiting,
        });
    }
}

fn limits(input: &mut Input<'_>) -> ShapeLimits {
    let at_limit = [AtLimit::FlushOldest, AtLimit::Refuse][input.option(2)];
    ShapeLimits {
        slots_max: tight(input, 4),
        name_units_max: UNITS_MAX,
        bytes_max: tight(input, 30),
        at_limit,
    }
}

fn code(result: Result<Pushed, ShapeError>) -> Result<Pushed, &'static str> {
    result.map_err(|error| match error {
        ShapeError::Key(_) => "key",
        ShapeError::Full { .. } => "full",
        _ => "room",
    })
}

fn slot(input: &mut Input<'_>) -> Option<(Name, Slot<'static>)> {
    let topic = name(input)?;
    let key = if input.below(4)? == 0 {
        name(input)?
    } else {
        ""
    };
    Some(((topic, key), Slot::of(topic, key)))
}

fn throttle_push(model: &mut Model, now: u64, ms: u64, name: Name, value: Load) -> Pushed {
    let until = now + ms;
    let Some(at) = model.find(name) else {
        model.make_room(name.0.len() + name.1.len());
        model.out.push(value);
        model.add(name, until, now, None);
        return Pushed::Sent;
    };
    if model.slots[at].time > now {
        return model.put(name, value);
    }
    let Some(waiting) = model.slots[at].waiting.take() else {
        model.slots.remove(at);
        model.out.push(value);
        model.add(name, until, now, None);
        return Pushed::Sent;
    };
    model.out.push(waiting);
    model.slots[at].time = until;
    model.slots[at].armed = model.arm();
    model.put(name, value)
}

fn throttle_refuses(model: &Model, now: u64, name: Name, value: Load) -> Option<&'static str> {
    let bytes = name.0.len() + name.1.len();
    let weight = usize::from(value.weight);
    match model.find(name) {
        None => model.refuses(name, bytes, bytes, true),
        Some(at) if model.slots[at].time <= now && model.slots[at].waiting.is_none() => None,
        Some(at) => {
            let old = model.slots[at].bytes() - bytes;
            // What waits now makes way for the value.
            let more = weight.saturating_sub(old);
            model.refuses(name, more, bytes + weight, false)
        }
    }
}

#[allow(clippy::too_many_lines, reason = "one arm for each operation")]
pub(super) fn throttle(input: &mut Input<'_>) {
    let limits = limits(input);
    let ms = input.option(20) as u64;
    let mut throttle = Throttle::new(Duration::from_millis(ms), limits.clone());
    let mut model = Model::new(limits);
    let (mut out, mut numbers, mut clock, mut latest) = (Vec::new(), 0, 0, 0);
    // When a slot last sent of its own accord, and which values have to arrive.
    let mut sent: Vec<(Name, u64)> = Vec::new();
    let mut owed: Vec<(Name, Load)> = Vec::new();
    while let Some(op) = input.below(10) {
        let before = out.len();
        let Some(now) = input.step(&mut clock) else {
            break;
        };
        // Only pushes and timeouts tell the engine the time.
        if op <= 6 {
            latest = now.as_millis().max(latest);
        }
        match op {
            0..=4 => {
                let Some((name, slot)) = slot(input) else {
                    break;
                };
                let Some(value) = load(input, &mut numbers) else {
                    break;
                };
                let refused = throttle_refuses(&model, latest, name, value);
                let got = code(throttle.push(now, slot, value, &mut out));
                let want = match refused {
                    Some(refused) => Err(refused),
                    None => Ok(throttle_push(&mut model, latest, ms, name, value)),
                };
                assert_eq!(got, want);
                if got.is_ok() {
                    owed.retain(|(other, _)| *other != name);
                    owed.push((name, value));
                }
                if got == Ok(Pushed::Sent) {
                    note(&mut sent, &model, name, latest, ms);
                }
            }
            5 | 6 => {
                for name in throttle_due(&mut model, latest, ms) {
                    note(&mut sent, &model, name, latest, ms);
                }
                throttle.handle_timeout(now, &mut out);
            }
            7 => {
                let Some((name, slot)) = slot(input) else {
                    break;
                };
                let found = model.find(name);
                assert_eq!(throttle.flush(slot, &mut out), found.is_some());
                if let Some(at) = found {
                    model.flush(at);
                }
            }
            8 => {
                let Some((name, slot)) = slot(input) else {
                    break;
                };
                let found = model.find(name);
                assert_eq!(throttle.cancel(slot), found.is_some());
                if let Some(at) = found
                    && let Some(lost) = model.slots.remove(at).waiting
                {
                    owed.retain(|(_, value)| *value != lost);
                }
            }
            _ => {
                throttle.flush_all(&mut out);
                while !model.slots.is_empty() {
                    model.flush(0);
                }
            }
        }
        assert_eq!(out[before..], model.out[before..]);
        // A slot that has gone makes no promise about its next value.
        sent.retain(|(name, _)| model.find(*name).is_some());
        let held = (throttle.len(), throttle.bytes());
        assert_eq!(held, (model.slots.len(), model.bytes()));
        assert!(model.bytes() <= throttle_bytes_max(&model));
        let next = model.slots.iter().map(|entry| entry.time).min();
        assert_eq!(throttle.next_deadline().map(Millis::as_millis), next);
    }
    while let Some(next) = throttle.next_deadline() {
        throttle.handle_timeout(next, &mut out);
    }
    assert!(throttle.is_empty());
    for (_, value) in owed {
        assert!(
            out.contains(&value),
            "the last value of a slot never left: {value:?}"
        );
    }
}

fn throttle_bytes_max(model: &Model) -> usize {
    model.limits.bytes_max
}

/// The rate: two sends of one slot that was not forgotten lie an interval apart.
fn note(sent: &mut Vec<(Name, u64)>, model: &Model, name: Name, now: u64, ms: u64) {
    if let Some((_, last)) = sent.iter().find(|(other, _)| *other == name) {
        assert!(now >= last + ms, "{name:?} sent at {last} and {now}");
    }
    sent.retain(|(other, _)| *other != name && model.find(*other).is_some());
    sent.push((name, now));
}

fn throttle_due(model: &mut Model, now: u64, ms: u64) -> Vec<Name> {
    let mut sent = Vec::new();
    while let Some(at) = (0..model.slots.len())
        .filter(|at| model.slots[*at].time <= now)
        .min_by_key(|at| (model.slots[*at].time, model.slots[*at].armed))
    {
        let Some(waiting) = model.slots[at].waiting.take() else {
            model.slots.remove(at);
            continue;
        };
        model.out.push(waiting);
        sent.push(model.slots[at].name);
        model.slots[at].time = now + ms;
        model.slots[at].armed = model.arm();
    }
    sent
}

/// When a slot is due, and a tie-breaker: quiet before patience, then by last push.
fn debounce_due(entry: &Entry, ms: u64, patience: Option<u64>) -> (u64, bool, u64) {
    let quiet = entry.time + ms;
    match patience.map(|patience| entry.first + patience) {
        Some(end) if end < quiet => (end, true, entry.armed),
        _ => (quiet, false, entry.armed),
    }
}

fn debounce_push(
    model: &mut Model,
    now: u64,
    due: impl Fn(&Entry) -> u64,
    name: Name,
    value: Load,
) -> Result<Pushed, &'static str> {
    let bytes = name.0.len() + name.1.len();
    let weight = usize::from(value.weight);
    let Some(at) = model.find(name) else {
        if let Some(refused) = model.refuses(name, bytes + weight, bytes + weight, true) {
            return Err(refused);
        }
        model.make_room(bytes + weight);
        model.add(name, now, now, Some(value));
        return Ok(Pushed::Waiting);
    };
    let more = weight.saturating_sub(model.slots[at].bytes() - bytes);
    if let Some(refused) = model.refuses(name, more, bytes + weight, false) {
        return Err(refused);
    }
    if due(&model.slots[at]) <= now {
        model.flush(at);
        model.add(name, now, now, None);
        return Ok(model.put(name, value));
    }
    model.slots[at].time = now;
    model.slots[at].armed = model.arm();
    Ok(model.put(name, value))
}

#[allow(clippy::too_many_lines, reason = "one arm for each operation")]
pub(super) fn debounce(input: &mut Input<'_>) {
    let limits = limits(input);
    let ms = input.option(20) as u64;
    let patience = match input.option(3) {
        0 => None,
        n => Some(ms + n as u64 * 10),
    };
    let quiet = Duration::from_millis(ms);
    let wait_max = patience.map(Duration::from_millis);
    let mut debounce = Debounce::new(quiet, wait_max, limits.clone());
    let mut model = Model::new(limits);
    let (mut out, mut numbers, mut clock, mut latest) = (Vec::new(), 0, 0, 0);
    let due = |entry: &Entry| debounce_due(entry, ms, patience).0;
    while let Some(op) = input.below(8) {
        let before = out.len();
        let Some(now) = input.step(&mut clock) else {
            break;
        };
        if op <= 5 {
            latest = now.as_millis().max(latest);
        }
        match op {
            0..=3 => {
                let Some((name, slot)) = slot(input) else {
                    break;
                };
                let Some(value) = load(input, &mut numbers) else {
                    break;
                };
                let got = code(debounce.push(now, slot, value, &mut out));
                assert_eq!(got, debounce_push(&mut model, latest, due, name, value));
            }
            4 | 5 => {
                debounce.handle_timeout(now, &mut out);
                model
                    .slots
                    .sort_by_key(|entry| debounce_due(entry, ms, patience));
                while model
                    .slots
                    .first()
                    .is_some_and(|entry| due(entry) <= latest)
                {
                    model.flush(0);
                }
                model.slots.sort_by_key(|entry| entry.born);
                // Slots of one instant come due, and go, in whatever order.
                out[before..].sort_unstable_by_key(|load: &Load| load.number);
                model.out[before..].sort_unstable_by_key(|load| load.number);
            }
            6 => {
                let Some((name, slot)) = slot(input) else {
                    break;
                };
                let found = model.find(name);
                assert_eq!(debounce.flush(slot, &mut out), found.is_some());
                if let Some(at) = found {
                    model.flush(at);
                }
            }
            _ => {
                let Some((name, slot)) = slot(input) else {
                    break;
                };
                let found = model.find(name);
                assert_eq!(debounce.cancel(slot), found.is_some());
                if let Some(at) = found {
                    let _ = model.slots.remove(at);
                }
            }
        }
        assert_eq!(out[before..], model.out[before..]);
        assert_eq!(
            (debounce.len(), debounce.bytes()),
            (model.slots.len(), model.bytes())
        );
        let next = model.slots.iter().map(due).min();
        assert_eq!(debounce.next_deadline().map(Millis::as_millis), next);
    }
    let waiting = model.slots.len();
    out.clear();
    debounce.handle_timeout(Millis::MAX, &mut out);
    assert_eq!((out.len(), debounce.len()), (waiting, 0));
}

#[allow(clippy::too_many_lines, reason = "one arm for each operation")]
pub(super) fn coalesce(input: &mut Input<'_>) {
    let (keys_max, bytes_max) = (tight(input, 4), tight(input, 30));
    let limits = CoalesceLimits {
        keys_max,
        key_units_max: UNITS_MAX,
        bytes_max,
    };
    let mut engine = Coalesce::new(limits);
    let mut model: Vec<(&str, Load)> = Vec::new();
    let mut numbers = 0;
    let bytes = |model: &[(&str, Load)]| -> usize {
        model
            .iter()
            .map(|(key, load)| key.len() + usize::from(load.weight))
            .sum()
    };
    while let Some(op) = input.below(6) {
        match op {
            0..=3 => {
                let Some(key) = name(input) else { break };
                let Some(value) = load(input, &mut numbers) else {
                    break;
                };
                let alone = bytes(&[(key, value)]);
                let refused =
                    key.encode_utf16().count() > UNITS_MAX || alone > bytes_max || keys_max == 0;
                let got = engine.put(key, value);
                assert_eq!(got.is_err(), refused);
                let Ok(displaced) = got else { continue };
                let old = model.iter().position(|(other, _)| *other == key);
                let mut evicted = 0;
                if let Some(at) = old {
                    model[at].1 = value;
                } else {
                    if model.len() >= keys_max {
                        model.remove(0);
                        evicted += 1;
                    }
                    model.push((key, value));
                }
                while bytes(&model) > bytes_max {
                    model.remove(usize::from(model[0].0 == key));
                    evicted += 1;
                }
                assert_eq!(
                    (displaced.replaced, displaced.evicted),
                    (old.is_some(), evicted)
                );
            }
            4 => {
                let Some(key) = name(input) else { break };
                let at = model.iter().position(|(other, _)| *other == key);
                assert_eq!(engine.remove(key), at.map(|at| model.remove(at).1));
            }
            _ => {
                let replies = [Reply::Sent, Reply::Pressure, Reply::Dropped];
                engine.drain(|key, value| {
                    assert_eq!((key, *value), model[0]);
                    let reply = replies[input.option(3)];
                    if reply != Reply::Dropped {
                        model.remove(0);
                    }
                    reply
                });
            }
        }
        assert_eq!((engine.len(), engine.bytes()), (model.len(), bytes(&model)));
    }
    while let Some((key, value)) = engine.pop() {
        assert_eq!((&*key, value), model.remove(0));
    }
    assert!(model.is_empty());
}
