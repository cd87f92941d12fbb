//! One stream of a client: what it shows, and what it remembers for the next time.

use std::collections::VecDeque;

use millstream_core::{Millis, ObjectWriter, RawJson, RawJsonRef};
use millstream_merge as merge;
use serde_json::Value;

use super::outcome::{CallError, value};

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The first reply has not come.
    Loading,
    /// The value follows the server's.
    Connected,
    /// The connection was lost; the value is the old one.
    Reconnecting,
    /// Refused; see [`error`](super::Testbed::error).
    Error,
    /// Nobody reads it.
    Idle,
}

/// Events kept per stream, for tests that look at them.
const EVENTS_KEPT: usize = 10_000;

pub(super) struct Stream {
    pub(super) path: String,
    /// The arguments, a list.
    pub(super) args: RawJson,
    pub(super) status: Status,
    pub(super) error: Option<CallError>,
    pub(super) topic: Option<String>,
    /// It listens on its topic.
    pub(super) attached: bool,
    pub(super) shown: merge::Stream<RawJson>,
    seq: Option<RawJson>,
    version: Option<RawJson>,
    schema_version: Option<RawJson>,
    pub(super) has_more: bool,
    cursor: Option<RawJson>,
    pub(super) events: VecDeque<(String, Value)>,
    /// Id of the request under way.
    pub(super) asking: Option<String>,
    pub(super) asked_until: Millis,
    pub(super) paging: Option<String>,
    pub(super) page: Option<Result<bool, CallError>>,
    /// When it asks again after a reconnect.
    pub(super) again_at: Option<Millis>,
    /// When its value is forgotten.
    pub(super) forget_at: Option<Millis>,
    pub(super) replies: u64,
}

fn empty() -> merge::Stream<RawJson> {
    let options = merge::Options::default();
    // A test wants to see everything.
    merge::Stream::new(options, merge::Limits::NONE, merge::StreamLimits::default())
}

impl Stream {
    pub(super) fn new(path: &str, args: RawJson) -> Self {
        Self {
            path: path.to_owned(),
            args,
            status: Status::Loading,
            error: None,
            topic: None,
            attached: false,
            shown: empty(),
            seq: None,
            version: None,
            schema_version: None,
            has_more: false,
            cursor: None,
            events: VecDeque::new(),
            asking: None,
            asked_until: Millis::MAX,
            paging: None,
            page: None,
            again_at: None,
            forget_at: None,
            replies: 0,
        }
    }

    /// The request, with what is remembered.
    pub(super) fn request(&self, id: &str) -> RawJson {
        let mut object = self.head(id, self.args.get());
        for (name, value) in [
            ("seq", &self.seq),
            ("version", &self.version),
            ("schemaVersion", &self.schema_version),
        ] {
            if let Some(value) = value {
                object.raw(name, value.get());
            }
        }
        object.finish()
    }

    fn head(&self, id: &str, args: RawJsonRef<'_>) -> ObjectWriter {
        let mut object = ObjectWriter::new();
        object
            .text("rpc", &self.path)
            .text("id", id)
            .raw("args", args)
            .raw("stream", RawJsonRef::TRUE);
        object
    }

    /// The request for the next page; `None` when there is none.
    pub(super) fn page_request(&self, id: &str) -> Option<RawJson> {
        let cursor = self.cursor.as_ref().filter(|_| self.has_more)?;
        let mut object = self.head(id, self.args.get());
        object.raw("cursor", cursor.get());
        Some(object.finish())
    }

    /// Takes the reply to a request. True when the stream has a topic to listen on.
    pub(super) fn handle_reply(&mut self, payload: &RawJson) -> bool {
        self.asking = None;
        self.replies += 1;
        if let Err(error) = super::outcome::read_reply(payload) {
            self.error = Some(error);
            self.status = Status::Error;
            return false;
        }
        self.error = None;
        self.status = Status::Connected;
        let json = payload.get();
        let member = |name| json.field(name).map(|value| value.to_owned());
        self.topic = json
            .field("topic")
            .and_then(|topic| topic.as_json_str())
            .map(|topic| topic.to_cow().into_owned());
        self.seq = member("seq").or_else(|| self.seq.take());
        self.version = member("version").or_else(|| self.version.take());
        self.schema_version = member("schemaVersion").or_else(|| self.schema_version.take());
        if let Ok((reply, settings)) = merge::Reply::read(payload) {
            if let merge::Reply::Replay(missed) = &reply
                && json.field("seq").is_none()
                && let Some(seq) = missed.iter().rev().find_map(|missed| missed.seq)
            {
                self.seq = RawJson::from_serialize(&seq).ok();
            }
            // No limits are set, so nothing is refused.
            let _ = self.shown.handle_reply(&settings, reply);
        }
        self.remember_page(json);
        self.topic.is_some()
    }

    fn remember_page(&mut self, json: RawJsonRef<'_>) {
        if let Some(more) = json.field("hasMore") {
            self.has_more = more.as_bool() == Some(true);
        }
        if let Some(cursor) = json.field("cursor") {
            self.cursor = Some(cursor.to_owned());
        }
    }

    /// Takes another page.
    pub(super) fn handle_page(&mut self, payload: &RawJson) {
        self.paging = None;
        if let Err(error) = super::outcome::read_reply(payload) {
            self.page = Some(Err(error));
            return;
        }
        let json = payload.get();
        self.remember_page(json);
        if let Some(data) = json.field("data") {
            let _ = self.shown.handle_page(data.to_owned());
        }
        self.page = Some(Ok(self.has_more));
    }

    /// Takes a live event.
    pub(super) fn handle_event(&mut self, event: &str, data: &RawJson) {
        if self.events.len() >= EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back((event.to_owned(), value(data)));
        // `null` on a keyed list is refused, and costs that event only.
        let _ = self.shown.handle_event(event, data.clone());
    }

    /// Forgets the number, so that the next reply is a whole value.
    pub(super) fn forget_seq(&mut self) {
        self.seq = None;
    }

    /// As if it had never been read.
    pub(super) fn reset(&mut self) {
        let fresh = Self::new(&self.path, self.args.clone());
        *self = Self {
            status: Status::Idle,
            replies: self.replies,
            ..fresh
        };
    }

    /// What readers see; `None` before the first value.
    pub(super) fn value(&mut self) -> Option<Value> {
        let shown = self.shown.shown();
        if matches!(shown.shape(), merge::Shape::Undefined) {
            return None;
        }
        let mut text = Vec::new();
        shown.write_json(&mut text);
        serde_json::from_slice(&text).ok()
    }
}
