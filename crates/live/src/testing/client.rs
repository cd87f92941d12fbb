//! A client that speaks the frames of svelte-realtime and folds events as it does.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_core::SeededRandom;
use millstream_core::{ConnId, ListWriter, Millis, ObjectWriter, Random, RawJson, RawJsonRef};
use millstream_wire::client::{self as wire, ServerFrame, recognise_server};
use millstream_wire::{
    Data, DecodeLimits, Decoder, Event as Frame, Input, Role, encode_binary_call,
};

use super::identity::Identity;
use super::outcome::{CallError, Outcome, read_reply};
use super::settings::Settings;
use super::stream::{Status, Stream};
use super::uploads::{UPLOAD_TOPIC, Uploads};
use crate::reply::{BATCH_EVENT, REPLY_TOPIC};

/// Frames kept per client, for tests that look at them.
const FRAMES_KEPT: usize = 10_000;
/// No server sends more in one message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who waits for a reply.
pub(super) enum Waiting {
    Call(usize),
    Stream(usize),
    Page(usize),
}

pub(super) struct Client<U> {
    pub(super) identity: Arc<Identity<U>>,
    pub(super) conn: Option<ConnId>,
    pub(super) streams: Vec<Stream>,
    pub(super) calls: Vec<Option<Outcome>>,
    pub(super) frames: VecDeque<String>,
    /// Close frame of the server.
    pub(super) closed: Option<(u16, String)>,
    /// Bytes to be written.
    pub(super) out: Vec<u8>,
    decoder: Decoder,
    random: SeededRandom,
    now: Millis,
    session: Option<String>,
    seen: BTreeMap<String, u64>,
    ids: u64,
    refs: u64,
    pub(super) uploads: Uploads,
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// Topics listened to without a stream.
    plain: BTreeSet<String>,
    /// The newest event of each topic that somebody listens to.
    newest: BTreeMap<String, (String, RawJson)>,
    hand_over: bool,
    reorder: bool,
    timeout: Duration,
    grace: Duration,
}

/// One event, owned.
struct Arrived {
    topic: String,
    event: String,
    data: RawJson,
    seq: Option<u64>,
}

impl Arrived {
    fn read(data: &Data<'_>) -> Option<Self> {
        let text = |json: RawJsonRef<'_>| Some(json.as_json_str()?.to_cow().into_owned());
        Some(Self {
            topic: text(data.topic)?,
            event: text(data.event)?,
            data: data.data.map_or(RawJson::NULL, |data| data.to_owned()),
            seq: data.seq.and_then(|seq| seq.as_u64()),
        })
    }
}

impl<U> Client<U> {
    pub(super) fn new(identity: Identity<U>, settings: &Settings, random: SeededRandom) -> Self {
        Self {
            identity: Arc::new(identity),
            conn: None,
            streams: Vec::new(),
            calls: Vec::new(),
            frames: VecDeque::new(),
            closed: None,
            out: Vec::new(),
            decoder: Decoder::new(Role::Client),
            random,
            now: Millis::ZERO,
            session: None,
            seen: BTreeMap::new(),
            ids: 0,
            refs: 0,
            uploads: Uploads::new(settings.upload_frame_bytes),
            waiting: BTreeMap::new(),
            plain: BTreeSet::new(),
            newest: BTreeMap::new(),
            hand_over: settings.hand_over,
            reorder: settings.chaos.reorder,
            timeout: settings.timeout,
            grace: settings.grace,
        }
    }

    fn mask(&mut self) -> [u8; 4] {
        let mut mask = [0; 4];
        self.random.fill(&mut mask);
        mask
    }

    fn fresh_id(&mut self) -> String {
        let id = format!("i{}", self.ids);
        self.ids += 1;
        id
    }

    pub(super) fn send_text(&mut self, text: &str) {
        let mask = self.mask();
        wire::encode_text(&mut self.out, mask, text);
    }

    pub(super) fn send_binary(&mut self, bytes: &[u8]) {
        let mask = self.mask();
        wire::encode_binary(&mut self.out, mask, bytes);
    }

    /// The opening burst of a connection.
    pub(super) fn opened(&mut self, conn: ConnId, session: &str) {
        let again = self.session.is_some();
        self.conn = Some(conn);
        self.closed = None;
        self.decoder = Decoder::new(Role::Client);
        let mask = self.mask();
        wire::encode_hello(&mut self.out, mask);
        if let Some(old) = self.session.replace(session.to_owned())
            && !self.seen.is_empty()
        {
            let mask = self.mask();
            let seen = self.seen.iter().map(|(topic, seq)| (topic.as_str(), *seq));
            wire::encode_resume(&mut self.out, mask, &old, seen);
        }
        let topics: Vec<String> = self.topics().into_iter().collect();
        for batch in wire::batches(&topics) {
            self.refs += 1;
            let mask = self.mask();
            let topics = batch.iter().map(String::as_str);
            wire::encode_subscribe_batch(&mut self.out, mask, topics, Some(self.refs));
        }
        for at in 0..self.streams.len() {
            let idle = self.streams[at].status == Status::Idle;
            if again && !idle {
                let delay = Duration::from_millis(20 + self.random.below(80));
                let stream = &mut self.streams[at];
                stream.status = Status::Reconnecting;
                stream.again_at = Some(self.now + delay);
            }
        }
    }

    /// The connection is gone: whoever waits for a reply waits in vain.
    pub(super) fn lost(&mut self) {
        self.conn = None;
        self.out.clear();
        for waiting in core::mem::take(&mut self.waiting).into_values() {
            match waiting {
                Waiting::Call(call) => self.calls[call] = Some(Err(CallError::disconnected())),
                Waiting::Page(at) => {
                    self.streams[at].paging = None;
                    self.streams[at].page = Some(Err(CallError::disconnected()));
                }
                Waiting::Stream(at) => {
                    let stream = &mut self.streams[at];
                    stream.asking = None;
                    stream.error = Some(CallError::disconnected());
                    stream.status = Status::Error;
                }
            }
        }
        for stream in &mut self.streams {
            stream.again_at = None;
            if stream.status == Status::Connected {
                stream.status = Status::Reconnecting;
            }
        }
    }

    /// Topics that somebody listens to.
    fn topics(&self) -> BTreeSet<String> {
        let attached = self.streams.iter().filter(|stream| stream.attached);
        let topics = attached.filter_map(|stream| stream.topic.clone());
        topics.chain(self.plain.iter().cloned()).collect()
    }

    fn listens(&self, topic: &str) -> bool {
        let on = |stream: &Stream| stream.attached && stream.topic.as_deref() == Some(topic);
        self.plain.contains(topic) || self.streams.iter().any(on)
    }

    /// Starts a call.
    pub(super) fn call(&mut self, path: &str, args: RawJsonRef<'_>, key: Option<&str>) -> usize {
        let (call, id) = self.begin_call();
        if self.conn.is_some() {
            let mut object = call_object(path, &id, args);
            if let Some(key) = key {
                object.text("idempotencyKey", key);
            }
            self.send_text(object.finish().as_str());
        }
        call
    }

    /// The id under which a call that has no reply was sent.
    pub(super) fn id_of(&self, call: usize) -> Option<&str> {
        let mut waiting = self.waiting.iter();
        let id = waiting.find(|(_, one)| matches!(one, Waiting::Call(other) if *other == call));
        id.map(|(id, _)| id.as_str())
    }

    /// Starts a call with bytes.
    pub(super) fn call_binary(&mut self, path: &str, args: RawJsonRef<'_>, bytes: &[u8]) -> usize {
        let (call, id) = self.begin_call();
        if self.conn.is_some() {
            let header = call_text(path, &id, args);
            let mut frame = Vec::new();
            encode_binary_call(&mut frame, header.get(), bytes).expect("a header below 64 KiB");
            self.send_binary(&frame);
        }
        call
    }

    fn begin_call(&mut self) -> (usize, String) {
        let id = self.fresh_id();
        (self.await_reply(id.clone()), id)
    }

    /// A new call, answered under a name.
    pub(super) fn await_reply(&mut self, id: String) -> usize {
        let call = self.calls.len();
        if self.conn.is_some() {
            self.calls.push(None);
            self.waiting.insert(id, Waiting::Call(call));
        } else {
            self.calls.push(Some(Err(CallError::disconnected())));
        }
        call
    }

    /// Starts several calls in one frame.
    pub(super) fn batch(&mut self, calls: &[(String, RawJson)], sequential: bool) -> Vec<usize> {
        let mut list = ListWriter::new();
        let mut started = Vec::new();
        for (path, args) in calls {
            let (call, id) = self.begin_call();
            started.push(call);
            list.push(call_text(path, &id, args.get()).get());
        }
        let mut object = ObjectWriter::new();
        object.raw("batch", list.finish().get());
        if sequential {
            object.raw("sequential", RawJsonRef::TRUE);
        }
        if self.conn.is_some() {
            self.send_text(object.finish().as_str());
        }
        started
    }

    /// Begins to read new streams: one frame for all of them.
    pub(super) fn subscribe(&mut self, streams: Vec<Stream>) -> Vec<usize> {
        let first = self.streams.len();
        self.streams.extend(streams);
        let all: Vec<usize> = (first..self.streams.len()).collect();
        self.ask(&all);
        all
    }

    /// Sends the requests of streams.
    fn ask(&mut self, streams: &[usize]) {
        if self.conn.is_none() {
            return;
        }
        let mut requests = Vec::new();
        for at in streams {
            let id = self.fresh_id();
            requests.push(self.streams[*at].request(&id));
            self.waiting.insert(id.clone(), Waiting::Stream(*at));
            let stream = &mut self.streams[*at];
            stream.asking = Some(id);
            stream.asked_until = self.now + self.timeout;
        }
        let text = match requests.as_slice() {
            [] => return,
            [one] => one.clone(),
            several => {
                let mut list = ListWriter::new();
                for one in several {
                    list.push(one.get());
                }
                let mut object = ObjectWriter::new();
                object.raw("batch", list.finish().get());
                object.finish()
            }
        };
        self.send_text(text.as_str());
    }

    pub(super) fn load_more(&mut self, at: usize) -> bool {
        let id = self.fresh_id();
        let stream = &mut self.streams[at];
        stream.page = None;
        let Some(request) = stream.page_request(&id).filter(|_| stream.paging.is_none()) else {
            stream.page = Some(Ok(false));
            return false;
        };
        stream.paging = Some(id.clone());
        self.waiting.insert(id, Waiting::Page(at));
        self.send_text(request.as_str());
        true
    }

    /// The last reader leaves.
    pub(super) fn release(&mut self, at: usize) {
        let grace = self.grace;
        let stream = &mut self.streams[at];
        if stream.status == Status::Idle {
            return;
        }
        stream.status = Status::Idle;
        stream.error = None;
        stream.again_at = None;
        stream.forget_at = Some(self.now + grace);
        if let Some(id) = stream.asking.take() {
            self.waiting.remove(&id);
        }
        self.detach(at);
        if grace == Duration::ZERO {
            self.streams[at].reset();
        }
    }

    /// Stops listening, and says so if nobody else listens.
    fn detach(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if !core::mem::take(&mut stream.attached) {
            return;
        }
        let Some(topic) = stream.topic.clone() else {
            return;
        };
        if !self.listens(&topic) {
            self.newest.remove(&topic);
            if self.conn.is_some() {
                let mask = self.mask();
                wire::encode_unsubscribe(&mut self.out, mask, &topic);
            }
        }
    }

    /// A reader comes back.
    pub(super) fn retain(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        if stream.status != Status::Idle {
            return;
        }
        stream.forget_at = None;
        stream.status = Status::Loading;
        self.ask(&[at]);
    }

    /// Gives the topic up and asks again with what is remembered.
    pub(super) fn ask_again(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.again_at = None;
        stream.status = Status::Reconnecting;
        if let Some(id) = stream.asking.take() {
            self.waiting.remove(&id);
        }
        self.detach(at);
        self.ask(&[at]);
    }

    /// Listens to a topic without a stream.
    pub(super) fn listen(&mut self, topic: &str) {
        if self.listens(topic) || !self.plain.insert(topic.to_owned()) {
            self.plain.insert(topic.to_owned());
            return;
        }
        self.say_subscribe(topic);
    }

    fn say_subscribe(&mut self, topic: &str) {
        if self.conn.is_some() {
            self.refs += 1;
            let (mask, reference) = (self.mask(), self.refs);
            wire::encode_subscribe(&mut self.out, mask, topic, Some(reference));
        }
    }

    /// When [`set_now`](Self::set_now) has something to do.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let times = self.streams.iter().flat_map(|stream| {
            let asked = stream.asking.as_ref().map(|_| stream.asked_until);
            [stream.again_at, stream.forget_at, asked]
        });
        times.flatten().min()
    }

    pub(super) fn set_now(&mut self, now: Millis) {
        self.now = now;
        for at in 0..self.streams.len() {
            let stream = &mut self.streams[at];
            if stream.forget_at.is_some_and(|at| at <= now) {
                stream.reset();
            }
            if stream.asking.is_some() && stream.asked_until <= now {
                if let Some(id) = stream.asking.take() {
                    self.waiting.remove(&id);
                }
                stream.error = Some(CallError::timeout());
                stream.status = Status::Error;
            }
            if self.streams[at].again_at.is_some_and(|at| at <= now) {
                self.ask_again(at);
            }
        }
    }

    /// Takes bytes of the server.
    pub(super) fn feed(&mut self, bytes: &mut [u8]) {
        let limits = DecodeLimits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            ..DecodeLimits::default()
        };
        let mut decoder = core::mem::replace(&mut self.decoder, Decoder::new(Role::Client));
        let mut input = Input::new(bytes);
        let mut arrived = Vec::new();
        loop {
            match decoder.next(&mut input, &limits) {
                Ok(None) => break,
                Ok(Some(Frame::Text(text))) => self.text(text, &mut arrived),
                Ok(Some(Frame::Ping(payload))) => {
                    let mask = self.mask();
                    wire::encode_pong(&mut self.out, mask, payload);
                }
                Ok(Some(Frame::Close { code, reason })) => {
                    self.closed = Some((code.unwrap_or(1005), reason.to_owned()));
                    break;
                }
                Ok(Some(_)) => {}
                Err(violation) => panic!("the server broke the protocol: {violation}"),
            }
        }
        self.decoder = decoder;
        self.dispatch(arrived);
    }

    fn text(&mut self, text: &str, arrived: &mut Vec<Arrived>) {
        if self.frames.len() >= FRAMES_KEPT {
            self.frames.pop_front();
        }
        self.frames.push_back(text.to_owned());
        match recognise_server(text) {
            Some(ServerFrame::Data(data)) => arrived.extend(Arrived::read(&data)),
            Some(ServerFrame::Batch(members)) => {
                arrived.extend(members.filter_map(|data| Arrived::read(&data)));
            }
            Some(ServerFrame::Denied { topic, reason, .. }) => {
                let (topic, reason) = (topic.to_cow(), reason.to_cow());
                for stream in &mut self.streams {
                    // Also when it has left the topic to ask again.
                    if stream.status != Status::Idle && stream.topic.as_deref() == Some(&*topic) {
                        stream.error = Some(CallError::new(&reason, "subscription denied"));
                        stream.status = Status::Error;
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes events one after the other; those of different topics in any order if asked to.
    fn dispatch(&mut self, mut arrived: Vec<Arrived>) {
        if self.reorder {
            self.shuffle_topics(&mut arrived);
        }
        for one in arrived {
            if let Some(seq) = one.seq {
                let seen = self.seen.entry(one.topic.clone()).or_default();
                *seen = seq.max(*seen);
            }
            match (one.topic.as_str(), one.event.as_str()) {
                (REPLY_TOPIC, BATCH_EVENT) => {
                    if let Some(batch) = one.data.get().field("batch") {
                        for entry in batch.elements() {
                            let id = entry.field("id").and_then(|id| id.as_json_str());
                            if let Some(id) = id {
                                self.reply(&id.to_cow(), &entry.to_owned());
                            }
                        }
                    }
                }
                (REPLY_TOPIC, id) => self.reply(id, &one.data),
                (UPLOAD_TOPIC, number) => self.upload_reply(number, &one.data),
                (topic, event) => self.event(topic, event, &one.data),
            }
        }
    }

    /// Neighbours of different topics change places; replies stay where they are.
    fn shuffle_topics(&mut self, arrived: &mut [Arrived]) {
        for _ in 0..arrived.len() {
            for at in 1..arrived.len() {
                let (one, next) = (&arrived[at - 1].topic, &arrived[at].topic);
                let reply = |topic: &str| [REPLY_TOPIC, UPLOAD_TOPIC].contains(&topic);
                if one != next && !reply(one) && !reply(next) && self.random.below(2) == 0 {
                    arrived.swap(at - 1, at);
                }
            }
        }
    }

    fn reply(&mut self, id: &str, payload: &RawJson) {
        let Some(waiting) = self.waiting.remove(id) else {
            return;
        };
        match waiting {
            Waiting::Call(call) => self.calls[call] = Some(read_reply(payload)),
            Waiting::Page(at) => self.streams[at].handle_page(payload),
            Waiting::Stream(at) => {
                if self.streams[at].handle_reply(payload) {
                    self.attach(at);
                }
            }
        }
    }

    /// Begins to listen on the topic of a reply.
    fn attach(&mut self, at: usize) {
        let Some(topic) = self.streams[at].topic.clone() else {
            return;
        };
        if self.listens(&topic) {
            let newest = self.newest.get(&topic).cloned();
            if let Some((event, data)) = newest.filter(|_| self.hand_over) {
                self.streams[at].handle_event(&event, &data);
            }
        } else {
            self.say_subscribe(&topic);
        }
        self.streams[at].attached = true;
    }

    fn event(&mut self, topic: &str, event: &str, data: &RawJson) {
        if self.listens(topic) {
            self.newest
                .insert(topic.to_owned(), (event.to_owned(), data.clone()));
        }
        let marker = data.get().field("reqId").is_some();
        let truncated = data
            .get()
            .field("truncated")
            .and_then(|json| json.as_bool());
        for at in 0..self.streams.len() {
            let stream = &mut self.streams[at];
            if !stream.attached || stream.topic.as_deref() != Some(topic) {
                continue;
            }
            if !marker {
                stream.handle_event(event, data);
            } else if truncated == Some(true) {
                stream.forget_seq();
                self.ask_again(at);
            }
        }
    }
}

fn call_text(path: &str, id: &str, args: RawJsonRef<'_>) -> RawJson {
    call_object(path, id, args).finish()
}

fn call_object(path: &str, id: &str, args: RawJsonRef<'_>) -> ObjectWriter {
    let mut object = ObjectWriter::new();
    object.text("rpc", path).text("id", id).raw("args", args);
    object
}
