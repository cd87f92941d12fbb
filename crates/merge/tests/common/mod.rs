//! Plays operations, given as bytes, on the engine and on a naive model of it, and compares.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on should fail"
)]

mod model;

use millstream_core::RawJson;
use millstream_merge::{
    Change, ChangeId, Edit, Event, Evicted, Item, Key, Limits, Merge, Options, Reply, Settings,
    Shape, Strategy, Stream, StreamLimits,
};
use serde_json::Value;

use self::model::{Model, Name, normal, same_primitive};

/// Items; `@` stands for the key field, `#` for a number that is never used twice.
const ITEMS: &[&str] = &[
    r#"{"@":1,"n":#}"#,
    r#"{"@":2,"n":#}"#,
    r#"{"@":3,"n":#}"#,
    r#"{"@":4,"n":#}"#,
    r#"{"@":5,"n":#}"#,
    r#"{"n":#,"@":1.0}"#,
    r#"{ "@" : 1e0 , "n":#}"#,
    r#"{"@":"1","n":#}"#,
    r#"{"@":"a","n":#}"#,
    r#"{"@":"\u0061","n":#}"#,
    r#"{"n":#,"x":{"@":9},"@":2,"s":"@"}"#,
    r#"{"@":9,"@":3,"n":#}"#,
    r#"{"n":#}"#,
    r#"{"x":{"@":1},"s":"\"@\":1","n":#}"#,
    r#"{"@":null,"n":#}"#,
    r#"{"@":true,"n":#}"#,
    r#"{"@":0,"n":#}"#,
    r#"{"@":-0.0,"n":#}"#,
    r#"{"@":"","n":#}"#,
    r#"{"@":{},"n":#}"#,
    r#"{"@":[1],"n":#}"#,
    r#"{"@":4,"n":#,"__proto__":{"a":1},"constructor":2}"#,
    r#"{"\u005f_proto__":1,"@":5,"n":#,"deep":{"prototype":1}}"#,
    r#"{"@":"é\u2028\"","n":#}"#,
    "#",
    r#""text""#,
    "true",
    "[]",
    r#"[{"@":1,"prototype":#}]"#,
    "null",
];

const EVENTS: &[&str] = &[
    "created",
    "created",
    "created",
    "updated",
    "updated",
    "deleted",
    "deleted",
    "join",
    "join",
    "leave",
    "update",
    "update",
    "remove",
    "set",
    "refreshed",
    "push",
    "noop",
    "Created",
];

/// The engine and its model.
pub(crate) struct Rig<'a> {
    bytes: &'a [u8],
    number: u32,
    /// A value that hears of changes only from what `apply` says.
    merge: Merge<RawJson>,
    mirror: Vec<RawJson>,
    stream: Stream<RawJson>,
    model: Model,
    last_seen: Option<Value>,
    pending: Vec<Pending>,
}

struct Pending {
    id: ChangeId,
    event: &'static str,
    data: Value,
    confirmed: bool,
}

impl<'a> Rig<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let (head, bytes) = bytes.split_at(bytes.len().min(3));
        let head = [0, 1, 2].map(|at| head.get(at).copied().unwrap_or(0));
        let names = [
            "crud", "crud", "presence", "cursor", "latest", "set", "sorted",
        ];
        let name = names[usize::from(head[0]) % names.len()];
        let key = ["id", "sku", "a/b"][usize::from(head[0] / 16) % 3];
        let (prepend, max) = (head[1] % 2 == 1, usize::from(head[2] % 7));
        let mut options = Options::new(Strategy::named(name));
        (options.key, options.prepend, options.max) = (key.into(), prepend, max);
        Self {
            bytes,
            number: 0,
            merge: Merge::new(options.clone(), Limits::NONE),
            mirror: Vec::new(),
            stream: Stream::new(options, Limits::NONE, StreamLimits::default()),
            model: Model::new(name, key, prepend, max),
            last_seen: None,
            pending: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) {
        while !self.bytes.is_empty() {
            match self.byte() % 24 {
                0..=11 => self.event(),
                12..=14 => self.frame(),
                15 => self.load(),
                16 => self.page(),
                17 => self.delta(),
                18 => self.replay(),
                19 | 20 => self.start(),
                _ => self.settle(),
            }
            self.compare();
        }
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    fn item(&mut self) -> (RawJson, Value) {
        let template = ITEMS[usize::from(self.byte()) % ITEMS.len()];
        self.number += 1;
        let field = self.model.field().to_owned();
        let text = template
            .replace('@', &field)
            .replace('#', &self.number.to_string());
        both(&text)
    }

    fn list(&mut self) -> (RawJson, Value) {
        let count = self.byte() % 8;
        let rows: Vec<String> = (0..count)
            .map(|_| self.item().0.as_str().to_owned())
            // A `null` in a list breaks the original; it has no key here.
            .filter(|row| row != "null")
            .collect();
        both(&format!("[{}]", rows.join(" ,")))
    }

    fn value(&mut self) -> (RawJson, Value) {
        if self.byte().is_multiple_of(4) {
            self.item()
        } else {
            self.list()
        }
    }

    fn event_parts(&mut self) -> (&'static str, RawJson, Value) {
        let event = EVENTS[usize::from(self.byte()) % EVENTS.len()];
        let (raw, value) = match event {
            "refreshed" | "set" => self.value(),
            _ => self.item(),
        };
        (event, raw, value)
    }

    fn event(&mut self) {
        let (event, raw, value) = self.event_parts();
        let was_list = self.merge.shape() == Shape::List;
        let change = self.merge.apply(event, raw.clone());
        let expected = self.model.apply(event, &value);
        match (&change, &expected) {
            (Ok(change), Ok(notifies)) => {
                assert_eq!(change.notifies(), *notifies);
                self.mirror(change, was_list);
            }
            (Err(_), Err(_)) => {}
            _ => panic!("{event} {raw:?}: {change:?}, expected {expected:?}"),
        }
        let notified = self.stream.handle_event(event, raw);
        if expected.is_ok() {
            self.confirm(event, &value);
        }
        let notifies = expected.unwrap_or(false) && self.seen();
        assert_eq!(notified.unwrap_or(false), notifies, "{event}");
    }

    fn frame(&mut self) {
        let events: Vec<_> = (0..=self.byte() % 6).map(|_| self.event_parts()).collect();
        let queue = || {
            let event = |(name, data, _): &(&'static str, RawJson, Value)| Event {
                name,
                data: data.clone(),
            };
            events.iter().map(event).collect()
        };
        let parts: Vec<(&str, Value)> = events
            .iter()
            .map(|(name, _, value)| (*name, value.clone()))
            .collect();
        let notifies = self.model.frame(&parts);
        let frame = self.merge.apply_frame(&mut queue(), |_| ());
        assert_eq!(frame.notifies, notifies);
        assert_eq!(
            frame.applied + frame.superseded + frame.refused,
            events.len()
        );
        let frame = self.stream.handle_frame(&mut queue());
        for (event, value) in &parts {
            if !value.is_null() {
                self.confirm(event, value);
            }
        }
        assert_eq!(frame.notifies, notifies && self.seen());
        self.mirror = self.merge.rows().cloned().collect();
    }

    fn load(&mut self) {
        let (raw, value) = self.value();
        self.model.load(value);
        self.reply(|| Reply::Full(raw.clone()));
    }

    fn page(&mut self) {
        let (raw, value) = self.value();
        self.model.page(value);
        self.merge.handle_page(raw.clone()).unwrap();
        let _ = self.stream.handle_page(raw).unwrap();
        self.seen();
        self.mirror = self.merge.rows().cloned().collect();
    }

    fn delta(&mut self) {
        let (raw, _) = self.list();
        let mut text = raw.as_str().to_owned();
        if self.byte().is_multiple_of(2) {
            text = text.replacen("{\"", "{\"_deleted\":1,\"", 1);
        }
        let (raw, value) = both(&text);
        self.model.delta(value.as_array().unwrap());
        self.reply(|| Reply::Delta(raw.clone().into_rows().unwrap()));
    }

    fn replay(&mut self) {
        let events: Vec<_> = (0..self.byte() % 5).map(|_| self.event_parts()).collect();
        let mut text = Vec::new();
        for (event, raw, value) in &events {
            let _ = self.model.apply(event, value);
            text.push(format!(
                r#"{{"event":"{event}","data":{},"seq":7}}"#,
                raw.as_str()
            ));
        }
        self.model.rebuild();
        let reply = both(&format!(r#"{{"replay":true,"data":[{}]}}"#, text.join(","))).0;
        self.reply(|| Reply::read(&reply).unwrap().0);
    }

    fn reply(&mut self, reply: impl Fn() -> Reply<RawJson>) {
        let settings = Settings::default();
        assert!(self.merge.handle_reply(reply()).unwrap());
        let notified = self.stream.handle_reply(&settings, reply()).unwrap();
        assert_eq!(notified, self.seen());
        self.mirror = self.merge.rows().cloned().collect();
    }

    fn start(&mut self) {
        let (event, raw, value) = self.event_parts();
        let edit = Edit::Event {
            name: event.into(),
            data: raw,
        };
        let Ok(id) = self.stream.start(edit) else {
            assert!(self.pending.len() >= 1_000 || value.is_null());
            return;
        };
        if self.model.value.is_none() && !matches!(self.model.strategy, "set" | "sorted") {
            self.model.load(Value::Array(Vec::new()));
            self.merge.load_rows(Vec::new()).unwrap();
        }
        self.pending.push(Pending {
            id,
            event,
            data: value,
            confirmed: false,
        });
        self.seen();
    }

    fn settle(&mut self) {
        let Some(at) = usize::from(self.byte()).checked_rem(self.pending.len()) else {
            return;
        };
        let success = !self.byte().is_multiple_of(3);
        let Pending {
            id,
            event,
            data,
            confirmed,
        } = self.pending.remove(at);
        assert_eq!(self.stream.is_confirmed(id), confirmed);
        if success && !confirmed {
            let _ = self.model.apply(event, &data);
            let (raw, _) = both(&data.to_string());
            let _ = self.merge.apply(event, raw);
        }
        assert_eq!(self.stream.settle(id, success), self.seen());
        assert!(!self.stream.settle(id, success), "settled twice");
        self.mirror = self.merge.rows().cloned().collect();
    }

    fn confirm(&mut self, event: &str, value: &Value) {
        let confirms = matches!(
            (self.model.strategy, event),
            ("crud", "created" | "updated") | ("presence", "join") | ("cursor", "update")
        );
        let name = self.model.name(value);
        if !confirms || matches!(name, None | Some(Name::Missing)) {
            return;
        }
        for pending in &mut self.pending {
            pending.confirmed |= self.model.name(&pending.data) == name;
        }
    }

    fn shown(&self) -> Model {
        let mut shown = self.model.clone();
        for pending in self.pending.iter().filter(|pending| !pending.confirmed) {
            let _ = shown.apply(pending.event, &pending.data);
        }
        shown
    }

    /// Whether readers hear of what is shown now: always of lists and objects, of others if they
    /// differ from what was seen last.
    fn seen(&mut self) -> bool {
        let list_rules = !matches!(self.model.strategy, "set" | "sorted");
        let now = if list_rules && !self.pending.is_empty() {
            Some(Value::Array(Vec::new()))
        } else {
            self.shown().value
        };
        let same = match (&now, &self.last_seen) {
            (None, None) => true,
            (Some(now), Some(last)) => same_primitive(now, last),
            _ => false,
        };
        self.last_seen = now;
        !same
    }

    /// Follows a change by what it says of itself.
    fn mirror(&mut self, change: &Change<RawJson>, was_list: bool) {
        let new = |at: usize| self.merge.row(at).unwrap().clone();
        match change {
            Change::Same | Change::Ignored => {}
            Change::Inserted { at, evicted } => {
                assert!(was_list);
                let (mirror, gone) = (&mut self.mirror, evicted.items().len());
                match evicted {
                    Evicted::Front(items) => {
                        mirror.push(new(*at));
                        assert!(mirror.drain(..gone).eq(items.iter().cloned()));
                    }
                    Evicted::Back(items) => {
                        mirror.insert(0, new(*at));
                        let kept = mirror.len() - gone;
                        assert!(mirror.drain(kept..).rev().eq(items.iter().cloned()));
                    }
                    Evicted::None => mirror.insert(*at, new(*at)),
                }
            }
            Change::Replaced { at, old } => {
                assert_eq!(self.mirror[*at], *old);
                self.mirror[*at] = new(*at);
            }
            Change::Removed {
                at,
                old,
                moved_from,
            } => {
                assert_eq!(moved_from.unwrap_or(*at), self.mirror.len() - 1);
                assert_eq!(self.mirror.swap_remove(*at), *old);
            }
            Change::Reset => self.mirror = self.merge.rows().cloned().collect(),
            other => panic!("{other:?}"),
        }
    }

    fn compare(&mut self) {
        assert_eq!(value_of(&self.merge), self.model.value.as_ref().map(normal));
        assert_eq!(
            value_of(self.stream.server()),
            self.model.value.as_ref().map(normal)
        );
        let shown = self.shown().value;
        assert_eq!(value_of(self.stream.shown()), shown.as_ref().map(normal));
        assert!(self.merge.rows().eq(&self.mirror));
        assert_eq!(self.stream.pending(), self.pending.len());
        let bytes: usize = match self.merge.shape() {
            Shape::Whole(value) => value.as_bytes().len(),
            _ => self.merge.rows().map(|row| row.as_bytes().len()).sum(),
        };
        assert_eq!(self.merge.bytes(), bytes);
        for (name, at) in &self.model.index {
            let found = self.merge.find(key(name));
            assert!(
                core::ptr::eq(found.unwrap(), self.merge.row(*at).unwrap()),
                "{name:?}"
            );
        }
        for row in self.merge.rows().filter(|_| self.model.keyed()) {
            let value: Value = serde_json::from_str(row.as_str()).unwrap();
            let name = self.model.name(&value);
            let known = self
                .model
                .index
                .iter()
                .any(|(other, _)| Some(other) == name.as_ref());
            assert_eq!(
                self.merge.find(self.merge.key_of(row)).is_some(),
                known,
                "{row:?}"
            );
        }
    }
}

fn both(text: &str) -> (RawJson, Value) {
    let raw = RawJson::parse(text.as_bytes().to_vec().into()).unwrap();
    (raw, serde_json::from_str(text).unwrap())
}

fn key(name: &Name) -> Key<'_> {
    match name {
        Name::Missing => Key::Missing,
        Name::Value(Value::Null) => Key::Null,
        Name::Value(Value::Bool(value)) => Key::Bool(*value),
        Name::Value(Value::Number(number)) => Key::Number(number.as_f64().unwrap()),
        Name::Value(Value::String(text)) => Key::Text(text),
        Name::Value(other) => panic!("{other}"),
    }
}

fn value_of(merge: &Merge<RawJson>) -> Option<Value> {
    let mut text = Vec::new();
    merge.write_json(&mut text);
    (!text.is_empty()).then(|| normal(&serde_json::from_slice(&text).unwrap()))
}
