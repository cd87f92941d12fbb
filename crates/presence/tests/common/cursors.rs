//! Cursors, one timer per waiting value.

use core::time::Duration;
use std::collections::BTreeMap;

use millstream_core::{ConnId, Millis, RawJson};
use millstream_presence::{CursorConfig, Cursors, Effect, Select, Update};
use serde_json::Value;

use super::{line, take};

const TOPICS: [&str; 5] = ["a", "b", "long-name", "", "bad\\"];
/// Which of them an operation means: mostly those that will do.
const PICK: [usize; 8] = [0, 0, 0, 1, 1, 2, 3, 4];
const WINDOW: u64 = 50;
const USERS: [&str; 3] = [r#"{"id":1,"n":"Ann"}"#, r#"{"id":2}"#, "null"];

struct Entry {
    topic: &'static str,
    key: u64,
    conn: u64,
    data: String,
    last: Option<u64>,
    /// Instant of its timer and when it was armed, as a count.
    timer: Option<u64>,
}

#[derive(Default)]
struct Model {
    /// Key and frame prefix of the known connections.
    conns: BTreeMap<u64, (u64, String)>,
    /// In order of creation.
    entries: Vec<Entry>,
    number: u64,
    expected: Vec<String>,
}

impl Model {
    fn text(&self, entry: &Entry) -> String {
        let (key, user) = &self.conns[&entry.conn];
        let data = match entry.data.as_str() {
            "" => String::new(),
            data => format!(",\"data\":{data}"),
        };
        format!("{{\"key\":\"{key}\",\"user\":{user}{data}}}")
    }

    fn publish(&mut self, at: usize, now: u64) {
        self.entries[at].last = Some(now);
        self.entries[at].timer = None;
        let entry = &self.entries[at];
        let (topic, text) = (entry.topic, self.text(entry));
        self.expected
            .push(format!("publish __cursor:{topic} update {text}"));
    }

    fn list(&self, topic: &str) -> Vec<String> {
        let entries = self.entries.iter().filter(|entry| entry.topic == topic);
        entries.map(|entry| self.text(entry)).collect()
    }

    fn remove(&mut self, at: usize) {
        let entry = self.entries.remove(at);
        let (topic, key) = (entry.topic, entry.key);
        self.expected.push(format!(
            "publish __cursor:{topic} remove {{\"key\":\"{key}\"}}"
        ));
    }
}

struct Rig {
    cursors: Cursors,
    config: CursorConfig,
    model: Model,
    now: u64,
    out: Vec<Effect>,
    /// What a browser that watches everything believes, by topic and key.
    browser: BTreeMap<(String, String), Value>,
    /// With a tick: when a topic was last published.
    sent: BTreeMap<String, u64>,
}

pub(super) fn play(mode: u8, operations: &[u8]) {
    let small = mode & 1 == 1;
    let config = CursorConfig {
        throttle: Duration::from_millis(if mode & 2 == 2 { 0 } else { WINDOW }),
        tick: (mode & 4 == 4).then_some(Duration::from_millis(WINDOW)),
        select: Select::Identity,
        connections_max: if small { 2 } else { 100 },
        topics_max: if small { 1 } else { 100 },
        topic_units_max: 8,
        data_bytes_max: 12,
        timeout_cursors_max: if mode & 8 == 8 { 1 } else { 100 },
        bulk_cursors_max: if mode & 16 == 16 { 2 } else { 100 },
        ..CursorConfig::default()
    };
    let mut rig = Rig {
        cursors: Cursors::new(config.clone()),
        config,
        model: Model::default(),
        now: 0,
        out: Vec::new(),
        browser: BTreeMap::new(),
        sent: BTreeMap::new(),
    };
    for operation in operations.chunks_exact(3) {
        rig.step(operation[0], operation[1], operation[2]);
    }
    rig.end();
}

fn raw(text: &str) -> RawJson {
    RawJson::parse(text.to_owned().into()).unwrap()
}

/// A value and whether it is short enough.
fn value(byte: u8) -> (Option<String>, bool) {
    match byte % 8 {
        0 => (None, true),
        1 => (Some("null".into()), true),
        2 => (
            Some(format!("\"{}\"", "x".repeat(usize::from(byte % 20)))),
            byte % 20 <= 10,
        ),
        3 => (
            Some(format!("[{}]", " ".repeat(usize::from(byte)))),
            byte <= 94,
        ),
        // 1e20 has twenty-one digits.
        4 => (Some("1e20".into()), false),
        5 => (Some("\"\\u0041\\u0041\\u0041\"".into()), true),
        _ => (Some(byte.to_string()), true),
    }
}

impl Rig {
    fn step(&mut self, op: u8, who: u8, what: u8) {
        let conn = u64::from(who % 5);
        let id = ConnId::from_u64(conn);
        let topic = TOPICS[PICK[usize::from(op >> 4) % PICK.len()]];
        match op % 16 {
            0..=7 => self.update(conn, topic, what),
            8 => {
                self.cursors.leave(id, topic, &mut self.out);
                let mut entries = self.model.entries.iter();
                let at = entries.position(|entry| entry.conn == conn && entry.topic == topic);
                if let Some(at) = at {
                    self.model.remove(at);
                }
            }
            9 => {
                self.cursors.handle_close(id, &mut self.out);
                self.close(conn);
            }
            10 => {
                self.cursors.watch(id, topic, &mut self.out);
                if topic != "bad\\" {
                    let list = self.model.list(topic).join(",");
                    let expected = &mut self.model.expected;
                    expected.push(format!("tap {conn} __cursor:{topic}"));
                    expected.push(format!("send {conn} __cursor:{topic} snapshot [{list}]"));
                }
            }
            11 if what == 77 => {
                self.cursors.clear();
                self.model = Model::default();
                self.browser.clear();
                self.sent.clear();
            }
            // A host that is late: time has passed, and nobody looked.
            11 | 12 => self.now += u64::from(what % 64),
            13 => self.advance(u64::from(what)),
            _ => self.advance(u64::from(what % 32)),
        }
        self.compare();
    }

    fn update(&mut self, conn: u64, topic: &'static str, what: u8) {
        let (data, is_short) = value(what);
        let user = USERS[usize::from(what) % USERS.len()];
        let json = data.as_deref().map(raw);
        let json = json.as_ref().map(|data| data.get());
        let now = Millis::from_millis(self.now);
        let id = ConnId::from_u64(conn);
        let done = self
            .cursors
            .update(now, id, topic, json, raw(user).get(), &mut self.out);
        if topic.is_empty() || topic.len() > 8 || topic == "bad\\" || !is_short {
            assert_eq!(done, Ok(Update::Ignored), "{data:?}");
            return;
        }
        let model = &mut self.model;
        let mut topics: Vec<&str> = model.entries.iter().map(|entry| entry.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let is_full = (!model.conns.contains_key(&conn)
            && model.conns.len() >= self.config.connections_max)
            || (!topics.contains(&topic) && topics.len() >= self.config.topics_max);
        if self.config.tick.is_some() && done.is_err() {
            // An open window keeps the topic; the model of ticks does not follow that.
            return;
        }
        if is_full {
            assert!(done.is_err(), "{done:?}");
            return;
        }
        if !model.conns.contains_key(&conn) {
            model.number += 1;
            model.conns.insert(conn, (model.number, user.to_owned()));
        }
        let at = self.entry(conn, topic);
        self.model.entries[at].data = data.unwrap_or_default();
        if self.config.tick.is_some() {
            assert!(done.is_ok());
            return;
        }
        let throttle = u64::try_from(self.config.throttle.as_millis()).unwrap();
        let entry = &mut self.model.entries[at];
        match entry.last {
            Some(last) if self.now < last + throttle => {
                entry.timer = Some(last + throttle);
                assert_eq!(done, Ok(Update::Waiting));
            }
            _ => {
                self.model.publish(at, self.now);
                assert_eq!(done, Ok(Update::Published));
            }
        }
    }

    fn entry(&mut self, conn: u64, topic: &'static str) -> usize {
        let mut entries = self.model.entries.iter();
        let at = entries.position(|entry| entry.conn == conn && entry.topic == topic);
        at.unwrap_or_else(|| {
            self.model.entries.push(Entry {
                topic,
                key: self.model.conns[&conn].0,
                conn,
                data: String::new(),
                last: None,
                timer: None,
            });
            self.model.entries.len() - 1
        })
    }

    fn close(&mut self, conn: u64) {
        while let Some(at) = self
            .model
            .entries
            .iter()
            .position(|entry| entry.conn == conn)
        {
            self.model.remove(at);
        }
        self.model.conns.remove(&conn);
    }

    /// Runs the timers on the way to a later instant, each at its own.
    fn advance(&mut self, by: u64) {
        // What a late host has left undone is done first, late.
        self.timers();
        let end = self.now + by;
        while let Some(due) = self.cursors.next_deadline().map(Millis::as_millis)
            && due <= end
        {
            self.now = due;
            self.timers();
        }
        self.now = end;
    }

    fn timers(&mut self) {
        let now = Millis::from_millis(self.now);
        let mut calls = 0;
        while self.cursors.next_deadline().is_some_and(|due| due <= now) {
            self.cursors.handle_timeout(now, &mut self.out);
            calls += 1;
            assert!(calls < 1_000, "the deadline does not move");
        }
        for at in 0..self.model.entries.len() {
            if self.model.entries[at]
                .timer
                .is_some_and(|due| due <= self.now)
            {
                self.model.publish(at, self.now);
            }
        }
        // Timers of one instant have no order between each other.
        self.out.sort_by_key(line);
        self.model.expected.sort();
        self.compare();
    }

    fn compare(&mut self) {
        if self.config.tick.is_some() {
            self.check_rate();
        }
        self.show();
        let mut observed = take(&mut self.out);
        let mut expected = std::mem::take(&mut self.model.expected);
        if self.config.tick.is_some() {
            let is_value = |line: &String| line.contains(" update ") || line.contains(" bulk ");
            observed.retain(|line| !is_value(line));
            expected.retain(|line| !is_value(line));
        }
        // A connection leaves its topics in the order of their use, which the model does not
        // keep apart from that of the entries.
        assert_eq!(observed, expected);
        assert_eq!(self.cursors.len(), self.model.entries.len());
        for topic in TOPICS {
            let list = self
                .cursors
                .list(topic)
                .map(|one| String::from_utf8(one).unwrap());
            assert!(list.eq(self.model.list(topic)), "{topic}");
        }
        assert_eq!(self.cursors.connections(), self.model.conns.len());
    }

    /// At most one broadcast of values per topic and tick, in as many frames as it takes.
    fn check_rate(&mut self) {
        for effect in &self.out {
            let Effect::Publish { topic, event, .. } = effect else {
                continue;
            };
            if &**event == "remove" {
                continue;
            }
            let last = self.sent.insert((**topic).to_owned(), self.now);
            let split = self.config.bulk_cursors_max < 5 || self.config.timeout_cursors_max < 5;
            let gap = last.map_or(u64::MAX, |last| self.now - last);
            assert!(gap >= WINDOW || (gap == 0 && split), "{gap} ms on {topic}");
        }
    }

    fn show(&mut self) {
        for effect in &self.out {
            let Effect::Publish { topic, event, data } = effect else {
                continue;
            };
            let value: Value = serde_json::from_slice(&data.to_vec()).unwrap();
            let mut set = |one: &Value| {
                let key = one["key"].as_str().unwrap().to_owned();
                self.browser
                    .insert(((**topic).to_owned(), key), one.clone());
            };
            match &**event {
                "update" => set(&value),
                "bulk" => value.as_array().unwrap().iter().for_each(set),
                _ => {
                    let key = value["key"].as_str().unwrap().to_owned();
                    self.browser.remove(&((**topic).to_owned(), key));
                }
            }
        }
    }

    /// After a while of quiet everybody knows every last value, and nothing is due.
    fn end(mut self) {
        self.advance(10 * WINDOW);
        self.compare();
        assert_eq!(self.cursors.next_deadline(), None);
        let mut all = BTreeMap::new();
        for topic in TOPICS {
            for one in self.cursors.list(topic) {
                let one: Value = serde_json::from_slice(&one).unwrap();
                let key = one["key"].as_str().unwrap().to_owned();
                all.insert((format!("__cursor:{topic}"), key), one);
            }
        }
        assert_eq!(self.browser, all);
        for conn in 0..5 {
            self.cursors
                .handle_close(ConnId::from_u64(conn), &mut self.out);
        }
        let state = (
            self.cursors.len(),
            self.cursors.topics(),
            self.cursors.connections(),
            self.cursors.bytes(),
        );
        assert_eq!(state, (0, 0, 0, 0));
    }
}
