//! Rosters, one person at a time.

use core::time::Duration;
use std::collections::BTreeMap;

use millstream_core::{ConnId, Millis, RawJsonRef};
use millstream_presence::{Effect, Joined, OwnedData, Presence, PresenceConfig, Select, Snapshot};
use serde_json::Value;

use super::take;

const TOPICS: [&str; 6] = ["a", "b", "c", "", "__x", "bad\""];
const PERIOD: u64 = 100;

/// Records with the key they ask for, and which of them are equal.
const RECORDS: [(&str, Option<&str>, u8); 12] = [
    (r#"{"id":"ann","n":1}"#, Some("ann"), 0),
    (r#"{"n":1.0,"id":"ann"}"#, Some("ann"), 0),
    (r#"{"id":"ann","n":2}"#, Some("ann"), 1),
    (r#"{"id":7}"#, Some("7"), 2),
    (r#"{"id":"7"}"#, Some("7"), 3),
    (r#"{"id":"__conn:1"}"#, Some("__conn:1"), 4),
    (r#"{"id":"__conn:3","x":[]}"#, Some("__conn:3"), 5),
    (r#"{}"#, None, 6),
    (r#"{"id":null}"#, None, 7),
    (
        r#"{"id":"q\"\\","long":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#,
        Some("q\"\\"),
        8,
    ),
    ("5", None, 9),
    (r#"{"id":"é","n":[1,{"a":null}]}"#, Some("é"), 10),
];

struct Person {
    key: String,
    record: String,
    class: (u8, u8),
    conns: usize,
    generated: bool,
}

/// Key, whether it left, text.
type Change = (String, bool, String);

#[derive(Default)]
struct Model {
    /// In order of their first person.
    topics: Vec<(&'static str, Vec<Person>)>,
    /// Memberships in order of joining.
    members: Vec<(u64, &'static str, String)>,
    /// Topics in order of first touch.
    pending: Vec<(&'static str, Vec<Change>)>,
    generated: u64,
    due: Option<u64>,
    expected: Vec<String>,
}

impl Model {
    fn people(&self, topic: &str) -> &[Person] {
        let found = self.topics.iter().find(|(name, _)| *name == topic);
        found.map_or(&[], |(_, people)| people)
    }

    fn is_joined(&self, conn: u64, topic: &str) -> bool {
        self.members
            .iter()
            .any(|(c, t, _)| *c == conn && *t == topic)
    }

    fn state(&self, topic: &str) -> String {
        let texts: Vec<String> = self.people(topic).iter().map(text).collect();
        format!("{{{}}}", texts.join(","))
    }

    fn note(&mut self, topic: &'static str, key: &str, left: bool, text: String) {
        let at = self.pending.iter().position(|(name, _)| *name == topic);
        let at = at.unwrap_or_else(|| {
            self.pending.push((topic, Vec::new()));
            self.pending.len() - 1
        });
        let ops = &mut self.pending[at].1;
        match ops.iter_mut().find(|(k, ..)| k == key) {
            Some(op) => *op = (key.to_owned(), left, text),
            None => ops.push((key.to_owned(), left, text)),
        }
    }

    fn key(&mut self, topic: &str, id: Option<&str>) -> (String, bool) {
        if let Some(id) = id {
            let taken = |p: &Person| p.key == id && p.generated;
            if !self.people(topic).iter().any(taken) {
                return (id.to_owned(), false);
            }
        }
        let (mut number, mut step) = (self.generated + 1, 1);
        while self
            .people(topic)
            .iter()
            .any(|p| p.key == format!("__conn:{number}"))
        {
            number += step;
            step *= 2;
        }
        self.generated = number;
        (format!("__conn:{number}"), true)
    }

    fn join(&mut self, conn: u64, topic: &'static str, record: &Record) {
        let (key, generated) = self.key(topic, record.id.as_deref());
        if self.people(topic).is_empty() {
            self.topics.push((topic, Vec::new()));
        }
        let at = self
            .topics
            .iter()
            .position(|(name, _)| *name == topic)
            .unwrap();
        let people = &mut self.topics[at].1;
        let mut news = None;
        match people.iter_mut().find(|person| person.key == key) {
            Some(person) => {
                person.conns += 1;
                news = renew(person, record);
            }
            None => {
                people.push(Person {
                    key: key.clone(),
                    record: record.text.clone(),
                    class: record.class,
                    conns: 1,
                    generated,
                });
                news = news.or_else(|| people.last().map(text));
            }
        }
        if let Some(news) = news {
            self.note(topic, &key, false, news);
        }
        self.members.push((conn, topic, key));
        self.expected.push(format!("tap {conn} __presence:{topic}"));
        let state = self.state(topic);
        self.expected.push(format!(
            "send {conn} __presence:{topic} presence_state {state}"
        ));
    }

    fn update(&mut self, conn: u64, topic: &'static str, record: &Record) -> bool {
        let found = self
            .members
            .iter()
            .find(|(c, t, _)| *c == conn && *t == topic);
        let Some((_, _, key)) = found.cloned() else {
            return false;
        };
        let people = self
            .topics
            .iter_mut()
            .find(|(name, _)| *name == topic)
            .unwrap();
        let person = people
            .1
            .iter_mut()
            .find(|person| person.key == key)
            .unwrap();
        let news = renew(person, record);
        let changed = news.is_some();
        if let Some(news) = news {
            self.note(topic, &key, false, news);
        }
        changed
    }

    fn leave(&mut self, conn: u64, topic: &'static str) {
        let found = self
            .members
            .iter()
            .position(|(c, t, _)| *c == conn && *t == topic);
        let Some(at) = found else { return };
        let (_, _, key) = self.members.remove(at);
        let at = self
            .topics
            .iter()
            .position(|(name, _)| *name == topic)
            .unwrap();
        let people = &mut self.topics[at].1;
        let who = people.iter().position(|person| person.key == key).unwrap();
        people[who].conns -= 1;
        if people[who].conns == 0 {
            let gone = people.remove(who);
            if people.is_empty() {
                self.topics.remove(at);
            }
            self.note(topic, &key, true, text(&gone));
        }
        self.expected
            .push(format!("untap {conn} __presence:{topic}"));
    }

    fn close(&mut self, conn: u64) {
        while let Some((_, topic, _)) = self.members.iter().find(|(c, ..)| *c == conn) {
            self.leave(conn, topic);
        }
    }

    fn flush(&mut self) {
        for (topic, ops) in std::mem::take(&mut self.pending) {
            let part = |left| {
                let ops = ops.iter().filter(|op| op.1 == left);
                ops.map(|op| op.2.as_str()).collect::<Vec<_>>().join(",")
            };
            let (joins, leaves) = (part(false), part(true));
            self.expected.push(format!(
                "publish __presence:{topic} presence_diff \
                 {{\"joins\":{{{joins}}},\"leaves\":{{{leaves}}}}}"
            ));
        }
    }

    fn heartbeats(&mut self, now: u64) {
        let Some(due) = self.due.filter(|due| *due <= now) else {
            return;
        };
        for (topic, people) in &self.topics {
            let keys: Vec<String> = people.iter().map(|p| quoted(&p.key)).collect();
            let keys = keys.join(",");
            self.expected
                .push(format!("publish __presence:{topic} heartbeat [{keys}]"));
        }
        self.due = Some(due + PERIOD * ((now - due) / PERIOD + 1));
    }
}

struct Record {
    text: String,
    id: Option<String>,
    class: (u8, u8),
}

impl Record {
    fn new(byte: u8) -> Self {
        if let Some((text, id, class)) = RECORDS.get(usize::from(byte)) {
            return Self {
                text: (*text).to_owned(),
                id: id.map(str::to_owned),
                class: (0, *class),
            };
        }
        Self {
            text: format!(
                r#"{{"id":{byte},"pad":"{}"}}"#,
                "p".repeat(usize::from(byte))
            ),
            id: Some(byte.to_string()),
            class: (1, byte),
        }
    }
}

fn renew(person: &mut Person, record: &Record) -> Option<String> {
    if person.class == record.class {
        return None;
    }
    person.class = record.class;
    person.record.clone_from(&record.text);
    Some(text(person))
}

fn text(person: &Person) -> String {
    format!("{}:{}", quoted(&person.key), person.record)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Rig {
    presence: Presence,
    model: Model,
    config: PresenceConfig,
    now: u64,
    out: Vec<Effect>,
    /// What a browser of each tapped connection believes.
    browsers: BTreeMap<(u64, String), BTreeMap<String, Value>>,
    /// Snapshots as they were.
    kept: Vec<(Snapshot, Vec<u8>)>,
}

pub(super) fn play(mode: u8, operations: &[u8]) {
    let small = mode & 1 == 1;
    let config = PresenceConfig {
        select: Select::Identity,
        heartbeat: (mode & 2 == 2).then_some(Duration::from_millis(PERIOD)),
        connections_max: if small { 3 } else { 1_000 },
        topics_max: if small { 2 } else { 1_000 },
        members_max: if small { 4 } else { 1_000 },
        heartbeat_topics_max: if mode & 4 == 4 { 1 } else { 1_000 },
        ..PresenceConfig::default()
    };
    let mut rig = Rig {
        presence: Presence::new(config.clone()),
        model: Model::default(),
        config,
        now: 0,
        out: Vec::new(),
        browsers: BTreeMap::new(),
        kept: Vec::new(),
    };
    for operation in operations.chunks_exact(3) {
        rig.step(operation[0], operation[1], operation[2]);
    }
    rig.end();
}

impl Rig {
    fn step(&mut self, op: u8, who: u8, what: u8) {
        let conn = if self.config.connections_max == 3 {
            who % 6
        } else {
            who
        };
        let topic = TOPICS[usize::from(op >> 4) % TOPICS.len()];
        let (id, conn) = (ConnId::from_u64(conn.into()), u64::from(conn));
        let now = Millis::from_millis(self.now);
        match op % 16 {
            0..=6 => self.join(id, topic, what),
            7 | 8 => {
                self.presence.handle_unsubscribe(id, topic, &mut self.out);
                if !topic.starts_with("__") {
                    self.model.leave(conn, topic);
                }
            }
            9 => {
                self.start();
                self.presence.handle_close(now, id, &mut self.out);
                self.model.close(conn);
            }
            10 => {
                self.start();
                self.presence.sync(now, id, topic, &mut self.out);
                if !topic.contains('"') {
                    let state = self.model.state(topic);
                    let expected = &mut self.model.expected;
                    expected.push(format!("tap {conn} __presence:{topic}"));
                    expected.push(format!(
                        "send {conn} __presence:{topic} presence_state {state}"
                    ));
                }
            }
            11 | 12 => self.end_of_turn(),
            13 => {
                self.end_of_turn();
                self.advance(u64::from(what));
            }
            14 => {
                let record = Record::new(what % 40);
                let user = RawJsonRef::parse(record.text.as_bytes()).unwrap();
                let done = self.presence.update(id, topic, user, &mut self.out);
                let refused = record.text == "5" && self.model.is_joined(conn, topic);
                assert_eq!(done.is_err(), refused);
                if !refused {
                    let changed = self.model.update(conn, topic, &record);
                    assert_eq!(done, Ok(changed));
                }
            }
            _ if what == 77 => {
                self.end_of_turn();
                self.presence.clear();
                self.browsers.clear();
                self.model = Model::default();
            }
            _ => {
                let snapshot = self.presence.snapshot(topic);
                assert_eq!(snapshot.to_vec(), self.model.state(topic).as_bytes());
                if self.kept.len() < 20 {
                    let text = snapshot.to_vec();
                    self.kept.push((snapshot, text));
                }
            }
        }
        self.compare();
    }

    fn start(&mut self) {
        if self.config.heartbeat.is_some() && self.model.due.is_none() {
            self.model.due = Some(self.now + PERIOD);
        }
    }

    fn join(&mut self, id: ConnId, topic: &'static str, what: u8) {
        self.start();
        let conn = id.to_u64();
        let record = Record::new(what);
        let user = RawJsonRef::parse(record.text.as_bytes()).unwrap();
        let now = Millis::from_millis(self.now);
        let done = self.presence.join(now, id, topic, user, &mut self.out);
        let model = &self.model;
        let known = model.members.iter().any(|(c, ..)| *c == conn);
        let mut conns: Vec<u64> = model.members.iter().map(|(c, ..)| *c).collect();
        conns.sort_unstable();
        conns.dedup();
        let full = (!known && conns.len() >= self.config.connections_max)
            || (model.people(topic).is_empty() && model.topics.len() >= self.config.topics_max)
            || model.members.len() >= self.config.members_max;
        if topic.starts_with("__") {
            assert_eq!(done, Ok(Joined::Reserved));
        } else if model.is_joined(conn, topic) {
            assert_eq!(done, Ok(Joined::Already));
        } else if topic.contains('"') || full || record.text == "5" {
            assert!(done.is_err(), "{done:?}");
        } else {
            assert_eq!(done, Ok(Joined::New));
            self.model.join(conn, topic, &record);
        }
    }

    fn end_of_turn(&mut self) {
        self.presence.end_of_turn(&mut self.out);
        self.model.flush();
        self.compare();
        self.check_browsers();
    }

    fn advance(&mut self, by: u64) {
        self.now += by;
        let now = Millis::from_millis(self.now);
        let mut calls = 0;
        while self.presence.next_deadline().is_some_and(|due| due <= now) {
            self.presence.handle_timeout(now, &mut self.out);
            calls += 1;
            assert!(calls < 1_000, "the deadline does not move");
        }
        self.model.heartbeats(self.now);
        let due = self.presence.next_deadline().map(Millis::as_millis);
        assert_eq!(due, self.model.due);
    }

    /// The same effects, and the same state.
    fn compare(&mut self) {
        for effect in self.out.clone() {
            self.show(effect);
        }
        let observed = take(&mut self.out);
        let expected = std::mem::take(&mut self.model.expected);
        assert_eq!(observed, expected);
        let model = &self.model;
        assert_eq!(self.presence.topics(), model.topics.len());
        for topic in TOPICS {
            let people = model.people(topic);
            assert_eq!(self.presence.count(topic), people.len());
            let list = self.presence.list(topic);
            let list = list.map(|(key, record)| format!("{}:{}", key.raw(), record.as_str()));
            assert!(list.eq(people.iter().map(text)), "{topic}");
        }
        assert_eq!(self.presence.members().count(), model.members.len());
    }

    /// What a browser makes of a frame.
    fn show(&mut self, effect: Effect) {
        let object = |data: &OwnedData| serde_json::from_slice::<Value>(&data.to_vec()).unwrap();
        match effect {
            Effect::Untap { conn, topic } => {
                self.browsers.remove(&(conn.to_u64(), topic.into()));
            }
            Effect::Send {
                conn, topic, data, ..
            } => {
                let state = object(&data);
                let state = state.as_object().unwrap().clone().into_iter().collect();
                self.browsers.insert((conn.to_u64(), topic.into()), state);
            }
            Effect::Publish { topic, event, data } if &*event == "presence_diff" => {
                let diff = object(&data);
                for ((_, tap), people) in &mut self.browsers {
                    if **tap != *topic {
                        continue;
                    }
                    for key in diff["leaves"].as_object().unwrap().keys() {
                        people.remove(key);
                    }
                    for (key, record) in diff["joins"].as_object().unwrap() {
                        people.insert(key.clone(), record.clone());
                    }
                }
            }
            _ => {}
        }
    }

    /// At the end of a turn everybody sees the same people.
    fn check_browsers(&self) {
        for ((conn, tap), people) in &self.browsers {
            let topic = tap.strip_prefix("__presence:").unwrap();
            let list = self.model.people(topic);
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let list = list.iter().map(|p| (p.key.clone(), parse(&p.record)));
            let list: BTreeMap<String, Value> = list.collect();
            assert_eq!(people, &list, "connection {conn} on {topic}");
        }
    }

    /// Nothing remains when all have left, and snapshots are as they were.
    fn end(mut self) {
        self.end_of_turn();
        for conn in 0..=255 {
            let now = Millis::from_millis(self.now);
            self.presence
                .handle_close(now, ConnId::from_u64(conn), &mut self.out);
        }
        self.presence.end_of_turn(&mut self.out);
        let state = (
            self.presence.topics(),
            self.presence.connections(),
            self.presence.members().count(),
            self.presence.bytes(),
        );
        assert_eq!(state, (0, 0, 0, 0));
        for (snapshot, text) in self.kept {
            assert_eq!(snapshot.to_vec(), text);
        }
    }
}
