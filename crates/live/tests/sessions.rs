//! `vectors/client-sessions.json` from the server's side: what the client of the sessions wrote is
//! played to an application, and what the server sends is what that client was sent.
//!
//! The application is made from the session: what a function answers, and after how long, is what
//! was recorded. What is checked is everything around it: that each frame the client wrote is
//! understood, and that replies and events have the members and the order on which it relies.
//! Not compared: numbers of events, acknowledgements that the recording leaves out (it answers
//! only where the client's behaviour depends on it), and the order inside a batch reply.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use millstream_core::{ObjectWriter, RawJson};
use millstream_hub::Pattern;
use millstream_live::testing::{ClientId, Settings, Testbed};
use millstream_live::{
    App, Args, Ctx, Issue, LiveError, Merge, Module, Next as MoreLayers, Outcome, Rest, Stream,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Sessions that are left out, and why.
const LEFT_OUT: [(&str, &str); 9] = [
    (
        "paging with prepend",
        "ours repeats prepend and max in the second page, where no client reads them",
    ),
    (
        "stream: events that arrive before the reply are lost",
        "ours holds them back until then",
    ),
    (
        "stream: topic refused by the transport after the reply",
        "one hook that says yes to the stream and no to its topic",
    ),
    (
        "reconnect: replay after live events",
        "ours gives all of a list of the newest, or the client would have entries twice",
    ),
    (
        "reconnect: a derived stream keeps its value",
        "there are no derived streams here",
    ),
    ("push", "functions cannot ask clients here"),
    (
        "push without any handler",
        "functions cannot ask clients here",
    ),
    (
        "signals and health need no subscribe frame",
        "there are no signals here",
    ),
    (
        "events in a transport batch frame",
        "it has a member of a topic that the client does not hold: no server sends that",
    ),
];

/// How each function goes on, in the order of the requests.
struct Script {
    answers: Mutex<HashMap<String, VecDeque<Answer>>>,
    /// The answer that the version function has taken.
    current: Mutex<HashMap<String, Value>>,
}

#[derive(Debug, Clone)]
struct Answer {
    /// `None`: never.
    after: Option<Duration>,
    reply: Value,
    /// What the client was sent between the request and the reply.
    published: Vec<Value>,
}

type Cx = Ctx<Script, String>;

/// Waits for the time of the recorded reply, and gives it.
async fn next(ctx: &Cx) -> Value {
    let answer = {
        let mut answers = ctx.state().answers.lock();
        answers.get_mut(ctx.path()).and_then(VecDeque::pop_front)
    };
    let never = Answer {
        after: None,
        reply: Value::Null,
        published: Vec::new(),
    };
    let answer = answer.unwrap_or(never);
    let after = answer.after.unwrap_or(Duration::from_secs(86_400));
    if after > Duration::ZERO {
        ctx.platform().sleep(after).await;
    }
    for event in &answer.published {
        publish(ctx, event);
    }
    answer.reply
}

fn publish(ctx: &Cx, event: &Value) {
    let text = |name: &str| event[name].as_str().unwrap();
    ctx.publish(text("topic"), text("event"), &event["data"])
        .unwrap();
}

/// What a function gives for a recorded reply.
fn given(reply: &Value) -> Result<Option<RawJson>, LiveError> {
    if reply["ok"] == true {
        let mut data = reply.get("data").cloned();
        if let Some(more) = reply.get("hasMore") {
            data = Some(json!({"data": data, "hasMore": more, "cursor": reply["cursor"]}));
        }
        return Ok(data.map(|data| RawJson::from_serialize(&data).unwrap()));
    }
    let text = |name: &str| reply[name].as_str().unwrap_or_default().to_owned();
    let issues = reply["issues"].as_array().into_iter().flatten();
    let issues = issues.map(|issue| {
        let path = issue["path"].as_array().unwrap().iter();
        Issue::new(
            path.map(|part| part.as_str().unwrap()),
            issue["message"].as_str().unwrap(),
        )
    });
    let error = LiveError::new(text("code"), text("error"));
    Err(error.with_issues(issues.collect()))
}

/// A call that succeeded without giving anything.
#[derive(Clone)]
struct Nothing;

async fn answer(ctx: Cx, _: Rest) -> Result<Option<RawJson>, LiveError> {
    let given = given(&next(&ctx).await)?;
    if given.is_none() {
        ctx.set(Nothing);
    }
    Ok(given)
}

/// A function that gives now a value and now none would need two types.
async fn without_nothing(ctx: Cx, next: MoreLayers<Script, String>) -> Result<Outcome, LiveError> {
    let outcome = next.run(ctx.clone()).await?;
    Ok(match ctx.get::<Nothing>() {
        Some(Nothing) => Outcome::Value(None),
        None => outcome,
    })
}

/// A stream that is declared as its first reply says, and whether one of the others replays.
fn stream(first: &Value, replays: bool) -> Stream<Script, String> {
    let topic = first["topic"].as_str().unwrap_or("nowhere").to_owned();
    let pattern = topic.clone();
    // Computed, since two of a session may share one.
    let mut stream =
        Stream::computed(move |_, _| Ok(topic.clone())).merge(match first["merge"].as_str() {
            Some("latest") => Merge::Latest,
            Some("set") => Merge::Set,
            _ => Merge::Crud,
        });
    let versions = first.get("version").is_some();
    if first.get("channel").is_none() {
        stream = stream.load(move |ctx: Cx, _: Rest| async move {
            if !versions {
                return given(&next(&ctx).await);
            }
            let current = ctx.state().current.lock();
            given(&current[ctx.path()])
        });
    }
    if versions {
        stream = stream.delta(
            async |ctx: Cx, _: Args| {
                let reply = next(&ctx).await;
                let version = RawJson::from_serialize(&reply["version"])?;
                ctx.state()
                    .current
                    .lock()
                    .insert(ctx.path().to_owned(), reply);
                Ok(version)
            },
            async |ctx: Cx, _: Args, _| {
                let current = ctx.state().current.lock();
                let reply = &current[ctx.path()];
                if reply["delta"] == true {
                    given(reply)
                } else {
                    Ok(None)
                }
            },
        );
    }
    if replays {
        stream = stream.topics(&pattern).replay(10);
    }
    if let Some(key) = first["key"].as_str().filter(|key| *key != "id") {
        stream = stream.key(key);
    }
    if let Some(max) = first["max"].as_u64() {
        stream = stream.max(u32::try_from(max).unwrap());
    }
    if let Some(version) = first["schemaVersion"].as_u64() {
        stream = stream.version(u32::try_from(version).unwrap());
    }
    if let Some(prepend) = first["prepend"].as_bool() {
        stream = stream.prepend(prepend);
    }
    if first["gated"] == true {
        stream = stream.gate(async |_, _| Ok(false));
    }
    stream
}

/// What a session's requests and replies say about the application.
#[derive(Default)]
struct Recorded {
    /// Path to whether it is a stream.
    paths: BTreeMap<String, bool>,
    requests: Vec<Request>,
    replies: HashMap<String, (Value, Duration)>,
    /// Steps with events that a function publishes.
    published: HashSet<usize>,
}

struct Request {
    path: String,
    id: String,
    at: Duration,
    published: Vec<Value>,
}

/// An event on a topic of the application.
fn is_event(frame: &Value) -> bool {
    let topic = frame["topic"].as_str();
    topic.is_some_and(|topic| !topic.starts_with("__")) && frame["event"].is_string()
}

impl Recorded {
    fn read(transcript: &[Value]) -> Self {
        let (mut recorded, mut now) = (Self::default(), Duration::ZERO);
        for (at, step) in transcript.iter().enumerate() {
            if let Some(millis) = step["wait"].as_u64() {
                now += Duration::from_millis(millis);
            }
            if is_event(&step["in"]) {
                recorded.event(at, transcript);
            }
            match step["out"]["batch"].as_array() {
                Some(batch) => batch.iter().for_each(|one| recorded.request(one, now)),
                None => recorded.request(&step["out"], now),
            }
            if step["in"]["topic"] == "__rpc" {
                let data = &step["in"]["data"];
                let one = std::slice::from_ref(data);
                for reply in data["batch"].as_array().map_or(one, Vec::as_slice) {
                    if let Some(id) = reply["id"].as_str() {
                        recorded.replies.insert(id.to_owned(), (reply.clone(), now));
                    }
                }
            }
        }
        recorded
    }

    fn request(&mut self, frame: &Value, now: Duration) {
        let Some(path) = frame["rpc"].as_str() else {
            return;
        };
        *self.paths.entry(path.to_owned()).or_default() |= frame["stream"] == true;
        self.requests.push(Request {
            path: path.to_owned(),
            id: frame["id"].as_str().unwrap_or_default().to_owned(),
            at: now,
            published: Vec::new(),
        });
    }

    /// An event that comes while a call is under way was published by that call.
    fn event(&mut self, at: usize, transcript: &[Value]) {
        let Some(request) = self.requests.last_mut() else {
            return;
        };
        let later = |step: &Value| step["in"]["event"] == request.id.as_str();
        if !self.paths[&request.path] && transcript[at..].iter().any(later) {
            request.published.push(transcript[at]["in"].clone());
            self.published.insert(at);
        }
    }

    fn app(self) -> App<Script, String> {
        let mut answers: HashMap<String, VecDeque<Answer>> = HashMap::new();
        for request in self.requests {
            let reply = self.replies.get(&request.id);
            answers.entry(request.path).or_default().push_back(Answer {
                after: reply.map(|(_, then)| *then - request.at),
                reply: reply.map_or(Value::Null, |(reply, _)| reply.clone()),
                published: request.published,
            });
        }
        let mut module = Module::new("m");
        for (path, is_stream) in self.paths {
            let name = path.strip_prefix("m/").unwrap();
            module = if is_stream {
                let known = answers[&path]
                    .iter()
                    .find(|answer| answer.reply["ok"] == true);
                // Of a stream that nobody answers nothing is known but its name.
                let unknown = json!({"topic": format!("of {path}")});
                let replays = |answer: &Answer| answer.reply["replay"] == true;
                let replays = answers[&path].iter().any(replays);
                let first = known.map_or(&unknown, |answer| &answer.reply);
                module.stream(name, stream(first, replays))
            } else {
                module.call(name, answer)
            };
        }
        let script = Script {
            answers: Mutex::new(answers),
            current: Mutex::default(),
        };
        let app = App::new(script).module(module).layer(without_nothing);
        app.build().unwrap()
    }
}

/// A frame as the client writes it: the member that tells its kind comes first.
fn written(frame: &Value) -> RawJson {
    let raw = |value: &Value| RawJson::from_serialize(value).unwrap();
    let mut object = ObjectWriter::new();
    let first = |name: &&String| matches!(name.as_str(), "rpc" | "type" | "batch");
    let names = frame.as_object().unwrap().keys();
    let others = names.clone().filter(|name| !first(name));
    for name in names.filter(first).chain(others) {
        object.raw(name, raw(&frame[name]).get());
    }
    object.finish()
}

/// What is compared of a frame of the server.
fn compared(frame: &Value, asked_for: bool) -> Option<Value> {
    let mut frame = frame.clone();
    match frame["type"].as_str() {
        // The client's next steps do not depend on them; most are not recorded.
        Some("welcome" | "resumed" | "subscribed") => return None,
        _ if frame["topic"] != "__rpc" => {
            frame.as_object_mut().unwrap().remove("seq");
            return Some(frame);
        }
        _ => {}
    }
    let data = frame["data"].as_object_mut().unwrap();
    data.remove("seq");
    if data.get("replay") == Some(&json!(true)) {
        let missed = data["data"].as_array_mut().unwrap().iter_mut();
        missed.for_each(|event| drop(event.as_object_mut().unwrap().remove("seq")));
    }
    if data.is_empty() && asked_for {
        // A reply without any member: made up for the client's sake.
        return None;
    }
    if let Some(batch) = data.get_mut("batch").and_then(Value::as_array_mut) {
        batch.sort_by_key(|one| one["id"].to_string());
    }
    Some(frame)
}

struct Session {
    t: Testbed<Script, String>,
    client: ClientId,
    published: HashSet<usize>,
    /// Replies that replay, by the id of their request.
    missed: HashMap<String, Value>,
    /// The id of the newest request for each stream.
    asked: HashMap<String, String>,
}

impl Session {
    fn new(transcript: &[Value]) -> Self {
        let settings = Settings {
            open_topics: vec![Pattern::new("*")],
            ..Settings::default()
        };
        let mut recorded = Recorded::read(transcript);
        let published = core::mem::take(&mut recorded.published);
        let replies = recorded.replies.iter();
        let replays = replies.filter(|(_, (reply, _))| reply["replay"] == true);
        let missed = replays
            .map(|(id, (reply, _))| (id.clone(), reply.clone()))
            .collect();
        let mut t = Testbed::with(recorded.app(), settings);
        let client = t.connect("ada".to_owned());
        Self {
            t,
            client,
            published,
            missed,
            asked: HashMap::new(),
        }
    }

    /// A request with the number that our server has given for the recorded one, after what it
    /// will have missed has happened.
    fn numbered(&mut self, frame: &Value) -> Value {
        let mut frame = frame.clone();
        let (Some(path), Some(id)) = (frame["rpc"].as_str(), frame["id"].as_str()) else {
            return frame;
        };
        if let Some(reply) = self.missed.remove(id) {
            for event in reply["data"].as_array().unwrap() {
                let mut event = event.clone();
                event["topic"] = reply["topic"].clone();
                publish(&self.t.context(), &event);
            }
        }
        let asked = self.asked.insert(path.to_owned(), id.to_owned());
        let seq = asked.and_then(|id| {
            let mut sent = self.sent_frames();
            let reply = sent.find(|sent| sent["event"] == id.as_str())?;
            reply["data"]["seq"].as_u64()
        });
        if let (Some(seq), true) = (seq, frame["seq"].is_u64()) {
            frame["seq"] = json!(seq);
        }
        frame
    }

    fn step(&mut self, at: usize, step: &Value) {
        let frame = &step["out"];
        // The testbed's client says hello itself.
        if frame.is_object() && frame["type"] != "hello" {
            let frame = self.numbered(frame);
            self.t.send_text(self.client, written(&frame).as_str());
        }
        if let Some(millis) = step["wait"].as_u64() {
            self.t.advance(Duration::from_millis(millis));
        }
        match step["socket"].as_str() {
            Some("closes") => self.t.disconnect(self.client),
            Some("opens") if !self.t.is_connected(self.client) => self.t.reconnect(self.client),
            _ => {}
        }
        if is_event(&step["in"]) && !self.published.contains(&at) {
            publish(&self.t.context(), &step["in"]);
            self.t.settle();
        }
    }

    fn sent_frames(&self) -> impl Iterator<Item = Value> {
        let frames = self.t.frames(self.client);
        frames.map(|frame| serde_json::from_str(frame).unwrap())
    }

    fn sent(&self) -> Vec<Value> {
        let frames = self.sent_frames();
        frames.filter_map(|frame| compared(&frame, false)).collect()
    }
}

#[test]
fn the_clients_of_the_sessions_are_served_as_they_were() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../vectors/client-sessions.json")).unwrap();
    let mut played = 0;
    for session in vectors["sessions"].as_array().unwrap() {
        let name = session["name"].as_str().unwrap();
        if LEFT_OUT.iter().any(|(left, _)| *left == name) {
            continue;
        }
        let transcript = session["transcript"].as_array().unwrap();
        let mut run = Session::new(transcript);
        for (at, step) in transcript.iter().enumerate() {
            run.step(at, step);
        }
        let frames = transcript.iter().map(|step| &step["in"]);
        let frames = frames.filter(|frame| frame.is_object());
        let recorded: Vec<Value> = frames.filter_map(|frame| compared(frame, true)).collect();
        assert_eq!(run.sent(), recorded, "{name}");
        assert_eq!(run.t.panics(), [""; 0], "{name}");
        played += 1;
    }
    assert_eq!(
        played + LEFT_OUT.len(),
        46,
        "every session is played or left out"
    );
}
