//! Plays merge scenarios. A scenario is one JSON object:
//!
//! ```json
//! {"name": "...", "options": {"merge": "crud", "key": "id", "prepend": false, "max": 0},
//!  "initial": [], "events": [{"event": "created", "data": {"id": 1}}]}
//! ```
//!
//! `options` are given both as the declaration of the stream and in the subscribe reply whose
//! `data` is `initial`. With `frames`, a list of lists of events, in place of `events`, each list
//! is applied as one animation frame.
//!
//! What comes out is the same object with `expect` (the value shown after each event or frame),
//! `notified` (whether readers were called) and `throws` (positions of refused events; left out if
//! there are none) as observed. Values are passed through as text.
//!
//! Steps other than live events, in `events`:
//!
//! | step | meaning |
//! |---|---|
//! | `{"reply": {"data": ..., "delta": true, ...}}` | a subscribe reply, options included |
//! | `{"page": [...]}` | another page |
//! | `{"hydrate": value}` | a value before the first load |
//! | `{"start": {"event", "data"}, "id": 1}` | a change in flight; ids default to 0, 1, ... |
//! | `{"start": {"set": value}}`, `{"start": {"push": value}}` | the same with a function |
//! | `{"settle": 1, "ok": true}` | its outcome; `null` means the oldest |
//! | `{"frame": [...]}` | an animation frame |
//! | `{"history": 50}`, `{"undo": true}`, `{"redo": true}` | remember values, go back, go forth |
//! | `{"pause": true}`, `{"resume": true}` | stop and go on remembering |
//!
//! Other words for them are `subscribe` and `resubscribe` for `reply`; `loadMore` for `page`;
//! `mutate` and `optimistic` for `start`; `resolve`, `confirm`, `reject` and `rollback` with the id
//! for `settle`. A step may also name itself in `op`, `type` or `kind` and carry its members beside
//! it: `{"op": "start", "id": 1, "event": "created", "data": {}}`.

use std::collections::HashMap;

use bytes::Bytes;
use millstream_core::{RawJson, RawJsonRef};
use millstream_merge::{
    ChangeId, Content, Edit, Event, HistoryLimits, Item, Limits, MergeError, Options, Reply,
    Settings, Shape, Stream, StreamLimits,
};

/// Plays the scenario of one line.
pub(crate) fn observe(line: &str) -> Result<String, String> {
    let whole = RawJson::parse_with_depth(Bytes::copy_from_slice(line.as_bytes()), 128)
        .map_err(|error| error.to_string())?;
    let scenario = whole.get();
    let mut player = Player::new(scenario)?;
    if let Some(frames) = scenario.field("frames") {
        frames.elements().for_each(|frame| player.frame(frame));
    } else {
        let events = scenario
            .field("events")
            .ok_or("neither events nor frames")?;
        events.elements().try_for_each(|step| player.step(step))?;
    }
    let mut out = String::from("{");
    for (name, value) in scenario.fields() {
        if !["expect", "notified", "throws"]
            .iter()
            .any(|own| name.eq_str(own))
        {
            out += &format!("{}:{},", name.raw(), value.as_str());
        }
    }
    out += &format!("\"expect\":[{}]", player.states.join(","));
    out += &format!(",\"notified\":{:?}", player.notified);
    if !player.throws.is_empty() {
        out += &format!(",\"throws\":{:?}", player.throws);
    }
    out.push('}');
    Ok(out)
}

struct Player {
    stream: Stream<RawJson>,
    settings: Settings,
    changes: HashMap<String, ChangeId>,
    /// In the order in which they were started.
    order: Vec<String>,
    started: usize,
    states: Vec<String>,
    notified: Vec<bool>,
    throws: Vec<usize>,
}

impl Player {
    fn new(scenario: RawJsonRef<'_>) -> Result<Self, String> {
        let settings = scenario
            .field("options")
            .map_or_else(Settings::default, Settings::read);
        let options = Options::declared(&settings);
        let mut player = Self {
            stream: Stream::new(options, Limits::NONE, StreamLimits::default()),
            settings,
            changes: HashMap::new(),
            order: Vec::new(),
            started: 0,
            states: Vec::new(),
            notified: Vec::new(),
            throws: Vec::new(),
        };
        if let Some(initial) = scenario.field("initial") {
            let reply = Reply::Full(initial.to_owned());
            let loaded = player.stream.handle_reply(&player.settings, reply);
            loaded.map_err(|error| error.to_string())?;
        }
        Ok(player)
    }

    fn step(&mut self, step: RawJsonRef<'_>) -> Result<(), String> {
        let (word, argument) = word(step);
        let result = match word.as_str() {
            "event" | "live" | "publish" => {
                let (name, data) = event(step);
                self.stream.handle_event(&name, data)
            }
            "frame" => {
                let events = step.field("events").unwrap_or(argument);
                self.frame(events);
                return Ok(());
            }
            "reply" | "subscribe" | "resubscribe" => self.reply(argument),
            "page" | "loadMore" => {
                let page = if argument.is_object() {
                    argument.field("data")
                } else {
                    None
                };
                self.stream.handle_page(page.unwrap_or(argument).to_owned())
            }
            "hydrate" => self.stream.hydrate(argument.to_owned()),
            "start" | "mutate" | "optimistic" => self.start(step, argument),
            "settle" => {
                let ok = step.field("ok").or_else(|| step.field("success"));
                let ok = ok.and_then(|ok| ok.as_bool()).unwrap_or(true);
                Ok(self.settle(step.field("id").unwrap_or(argument), ok))
            }
            "resolve" | "confirm" => Ok(self.settle(step.field("id").unwrap_or(argument), true)),
            "reject" | "rollback" => Ok(self.settle(step.field("id").unwrap_or(argument), false)),
            "history" => {
                let entries_max = argument.as_u64().map_or(50, |max| max as usize);
                let limits = HistoryLimits {
                    entries_max,
                    ..HistoryLimits::default()
                };
                self.stream.enable_history(limits);
                Ok(false)
            }
            "undo" => self.stream.undo(),
            "redo" => self.stream.redo(),
            "pause" | "pauseHistory" => {
                self.stream.pause_history();
                Ok(false)
            }
            "resume" | "resumeHistory" => {
                self.stream.resume_history();
                Ok(false)
            }
            other => return Err(format!("unknown step {other:?}: {step:?}")),
        };
        self.record(result);
        Ok(())
    }

    fn frame(&mut self, events: RawJsonRef<'_>) {
        let events: Vec<(String, RawJson)> = events.elements().map(event).collect();
        let mut queue = events
            .iter()
            .map(|(name, data)| Event {
                name,
                data: data.clone(),
            })
            .collect();
        let frame = self.stream.handle_frame(&mut queue);
        self.record(Ok(frame.notifies));
    }

    fn reply(&mut self, reply: RawJsonRef<'_>) -> Result<bool, MergeError> {
        match Reply::read(&reply.to_owned()) {
            Ok((reply, settings)) => self.stream.handle_reply(&settings, reply),
            // A reply that is only a value.
            Err(_) => {
                let reply = Reply::Full(reply.to_owned());
                self.stream.handle_reply(&self.settings, reply)
            }
        }
    }

    fn start(&mut self, step: RawJsonRef<'_>, change: RawJsonRef<'_>) -> Result<bool, MergeError> {
        let id = step
            .field("id")
            .or_else(|| change.field("id").filter(|_| is_change(change)));
        let id = id.map_or_else(|| self.started.to_string(), |id| id.as_str().to_owned());
        self.started += 1;
        let edit = if let Some(value) = change.field("set").map(|value| value.to_owned()) {
            Edit::Function(Box::new(move |content| {
                *content = match value.clone().into_rows() {
                    Ok(rows) => Content::List(rows),
                    Err(value) => Content::Whole(value),
                }
            }))
        } else if let Some(value) = change.field("push").map(|value| value.to_owned()) {
            Edit::Function(Box::new(move |content| {
                if let Content::List(rows) = content {
                    rows.push(value.clone());
                }
            }))
        } else {
            let (name, data) = event(change);
            Edit::Event {
                name: name.into(),
                data,
            }
        };
        let change = self.stream.start(edit)?;
        self.changes.insert(id.clone(), change);
        self.order.push(id);
        Ok(true)
    }

    fn settle(&mut self, id: RawJsonRef<'_>, success: bool) -> bool {
        let id = match id.kind() {
            millstream_core::JsonKind::Null | millstream_core::JsonKind::Bool => {
                self.order.first().cloned().unwrap_or_default()
            }
            _ => id.as_str().to_owned(),
        };
        self.order.retain(|other| *other != id);
        let change = self.changes.remove(&id);
        change.is_some_and(|change| self.stream.settle(change, success))
    }

    fn record(&mut self, result: Result<bool, MergeError>) {
        if result.is_err() {
            self.throws.push(self.states.len());
        }
        self.notified.push(result.unwrap_or(false));
        let mut state = Vec::new();
        let shown = self.stream.shown();
        shown.write_json(&mut state);
        if shown.shape() == Shape::Undefined {
            state = b"null".to_vec();
        }
        self.states
            .push(String::from_utf8_lossy(&state).into_owned());
    }
}

/// What a step is, and its argument: the member of that name, or the whole step.
fn word(step: RawJsonRef<'_>) -> (String, RawJsonRef<'_>) {
    for tag in ["op", "type", "kind"] {
        if let Some(name) = step.field(tag).and_then(|name| name.as_json_str()) {
            let name = name.to_cow().into_owned();
            let argument = step.field(&name).unwrap_or(step);
            return (name, argument);
        }
    }
    if step.field("event").is_some() {
        return ("event".to_owned(), step);
    }
    let first = step
        .fields()
        .find(|(name, _)| !name.eq_str("id") && !name.eq_str("ok"));
    match first {
        Some((name, argument)) => (name.to_cow().into_owned(), argument),
        None => (String::new(), step),
    }
}

fn is_change(change: RawJsonRef<'_>) -> bool {
    ["event", "set", "push"]
        .iter()
        .any(|name| change.field(name).is_some())
}

fn event(event: RawJsonRef<'_>) -> (String, RawJson) {
    let name = event.field("event").and_then(|name| name.as_json_str());
    let name = name
        .map(|name| name.to_cow().into_owned())
        .unwrap_or_default();
    let data = event
        .field("data")
        .map_or(RawJson::NULL, |data| data.to_owned());
    (name, data)
}
