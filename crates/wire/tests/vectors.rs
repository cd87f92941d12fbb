//! `vectors/transport-frames.json`: recognition, answers and dispatch, both directions.
//!
//! Membership and hook calls are the hub's; here a few lines stand in for it, so that every text
//! the vectors name is produced by the real encoders and read by the real decoders.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use millstream_core::{RawJsonRef, TopicName, TopicRules};
use millstream_wire::{
    self as wire, ClientFrame, Data, DecodeLimits, Decoder, Event, Input, Opcode, Ref,
    ReplyOutcome, Role, ServerFrame, client, frame,
};
use serde_json::{Map, Value, json};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const LIMITS: DecodeLimits = DecodeLimits {
    message_bytes_max: 1 << 20,
    empty_fragments_max: 16,
};

fn entries(direction: &str) -> Vec<Value> {
    let all: Vec<Value> =
        serde_json::from_str(include_str!("../../../vectors/transport-frames.json")).unwrap();
    assert_eq!(all.len(), 123);
    all.into_iter()
        .filter(|entry| entry["direction"] == direction)
        .collect()
}

/// The bytes of an entry's frame and whether they go as text.
fn message(entry: &Value) -> (Vec<u8>, bool) {
    let frame = entry["frame"].as_str().unwrap();
    if entry["encoding"] == "text" {
        return (frame.as_bytes().to_vec(), true);
    }
    let hex = |at| u8::from_str_radix(&frame[at..at + 2], 16).unwrap();
    (
        (0..frame.len()).step_by(2).map(hex).collect(),
        entry["check"]["opcode"] == "text",
    )
}

fn wire_bytes(entry: &Value, mask: Option<[u8; 4]>) -> Vec<u8> {
    let (payload, text) = message(entry);
    let opcode = if text { Opcode::Text } else { Opcode::Binary };
    let mut bytes = Vec::new();
    frame::encode_header(&mut bytes, opcode, true, payload.len(), mask);
    let start = bytes.len();
    bytes.extend_from_slice(&payload);
    frame::mask(&mut bytes[start..], mask.unwrap_or_default(), 0);
    bytes
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn value(json: RawJsonRef<'_>) -> Value {
    parse(json.as_str())
}

fn list(check: &Value) -> Vec<Value> {
    check.as_array().into_iter().flatten().cloned().collect()
}

// ---- client to server ----

#[derive(Default)]
struct Outcome {
    replies: Vec<Value>,
    app: u64,
    caps: Option<Vec<String>>,
    request_result: Option<Value>,
}

#[test]
fn client_to_server() {
    let entries = entries("client-to-server");
    assert_eq!(entries.len(), 77);
    for entry in &entries {
        let (name, check) = (&entry["name"], &entry["check"]);
        let mut bytes = wire_bytes(entry, Some(MASK));
        let mut input = Input::new(&mut bytes);
        let mut decoder = Decoder::new(Role::Server);
        let event = decoder.next(&mut input, &LIMITS);
        if check.get("closed").is_some() {
            // 1006 in the original, which drops the connection; a code is equally good.
            assert_eq!(event.unwrap_err().close_code(), 1007, "{name}");
            continue;
        }
        let outcome = match event.unwrap().unwrap() {
            Event::Text(text) => serve(text, &check["setup"]),
            Event::Binary(_) => Outcome {
                app: 1,
                ..Outcome::default()
            },
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(outcome.app, check["app"].as_u64().unwrap_or(0), "{name}");
        if let Some(count) = check["reply_count"].as_u64() {
            assert_eq!(outcome.replies.len() as u64, count, "{name}");
        } else {
            let want: Vec<Value> = list(&check["replies"])
                .iter()
                .map(|text| parse(text.as_str().unwrap()))
                .collect();
            assert_eq!(outcome.replies, want, "{name}");
        }
        if let Some(caps) = check.get("caps") {
            assert_eq!(json!(outcome.caps), *caps, "{name}");
        }
        if let Some(result) = check.get("request_result") {
            assert_eq!(outcome.request_result.as_ref(), Some(result), "{name}");
        }
    }
}

fn serve(text: &str, setup: &Value) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(frame) = wire::recognise(text) else {
        outcome.app = 1;
        return outcome;
    };
    let mut out = Vec::new();
    match frame {
        ClientFrame::Hello { caps } => {
            let names: Vec<String> = wire::hello_capabilities(text)
                .unwrap()
                .map(|name| name.to_cow().into_owned())
                .collect();
            assert_eq!(caps.has_batch(), names.iter().any(|name| name == "batch"));
            outcome.caps = Some(names);
        }
        ClientFrame::Resume { .. } => wire::encode_resumed(&mut out),
        ClientFrame::Subscribe { topic, reference } => {
            subscribe(&mut out, &[topic.as_json()], reference, setup);
        }
        ClientFrame::SubscribeBatch { topics, reference } => {
            let topics: Vec<_> = topics.elements().take(256).collect();
            subscribe(&mut out, &topics, reference, setup);
        }
        ClientFrame::Unsubscribe { .. } => {}
        ClientFrame::Reply {
            reference,
            outcome: reply,
        } => {
            let pending = setup["pending_request_ref"].as_u64();
            if pending.is_some() {
                outcome.request_result = Some(if reference.as_u64_exact() == pending {
                    match reply {
                        ReplyOutcome::Ok(data) => json!({"ok": data.map(value)}),
                        ReplyOutcome::Err(error) => json!({"err": error.to_cow()}),
                    }
                } else {
                    json!({"pending": true})
                });
            }
        }
    }
    let mut input = Input::new(&mut out);
    let mut decoder = Decoder::new(Role::Client);
    while let Some(event) = decoder.next(&mut input, &LIMITS).unwrap() {
        let Event::Text(text) = event else {
            panic!("{event:?}")
        };
        outcome.replies.push(parse(text));
    }
    outcome
}

/// Invalid ones are refused first, then the verdicts follow in order.
fn subscribe(
    out: &mut Vec<u8>,
    topics: &[RawJsonRef<'_>],
    reference: Option<Ref<'_>>,
    setup: &Value,
) {
    let Some(to) = reference.map(|reference| reference.as_bytes()) else {
        return;
    };
    let mut valid = Vec::new();
    for topic in topics {
        let name = topic.as_json_str();
        match name.and_then(|name| TopicName::parse_json(name, &TopicRules::WIRE).ok()) {
            Some(name) => valid.push((topic, name)),
            None => wire::encode_denied(out, topic.as_bytes(), to, "INVALID_TOPIC"),
        }
    }
    for (topic, name) in valid {
        let reason = match &setup["deny"][name.as_str()] {
            Value::Bool(false) => "FORBIDDEN",
            Value::String(text) if text == "!throw" => "INTERNAL_ERROR",
            Value::String(text) => text,
            _ => {
                wire::encode_subscribed(out, topic.as_bytes(), to);
                continue;
            }
        };
        wire::encode_denied(out, topic.as_bytes(), to, reason);
    }
}

// ---- server to client ----

#[derive(Default)]
struct Reaction {
    dispatch: Vec<Value>,
    denials: Vec<Value>,
    session: Option<String>,
    seqs: Map<String, Value>,
    sends: Vec<u8>,
}

#[test]
fn server_to_client() {
    let entries = entries("server-to-client");
    assert_eq!(entries.len(), 46);
    for entry in &entries {
        let (name, check) = (&entry["name"], &entry["check"]);
        let mut bytes = wire_bytes(entry, None);
        let mut input = Input::new(&mut bytes);
        let mut decoder = Decoder::new(Role::Client);
        let mut reaction = Reaction::default();
        if let Some(Event::Text(text)) = decoder.next(&mut input, &LIMITS).unwrap() {
            reaction.take(text, check["setup"]["onRequest"].as_str());
        }
        if let Some(want) = check.get("dispatch") {
            assert_eq!(json!(reaction.dispatch), *want, "{name}");
        }
        if let Some(want) = check.get("denials") {
            assert_eq!(json!(reaction.denials), *want, "{name}");
        }
        if let Some(want) = check.get("session") {
            assert_eq!(json!(reaction.session), *want, "{name}");
        }
        if let Some(want) = check.get("seqs") {
            assert_eq!(json!(reaction.seqs), *want, "{name}");
        }
        if check.get("sends").is_some() {
            let want: Vec<Value> = list(&check["sends"])
                .iter()
                .map(|text| parse(text.as_str().unwrap()))
                .collect();
            assert_eq!(sent_texts(&mut reaction.sends), want, "{name}");
        }
    }
}

impl Reaction {
    fn take(&mut self, text: &str, on_request: Option<&str>) {
        match wire::recognise_server(text) {
            None | Some(ServerFrame::Resumed | ServerFrame::Subscribed { .. }) => {}
            Some(ServerFrame::Data(data)) => self.dispatch(&data),
            Some(ServerFrame::Batch(members)) => {
                for data in members {
                    self.dispatch(&data);
                }
            }
            Some(ServerFrame::Welcome { session_id }) => {
                self.session = Some(session_id.to_cow().into_owned());
            }
            Some(ServerFrame::Denied {
                topic,
                reference,
                reason,
            }) => {
                self.denials.push(json!({
                    "topic": topic.to_cow(),
                    "reason": reason.to_cow(),
                    "ref": reference.map(value),
                }));
            }
            Some(ServerFrame::Request {
                reference,
                event,
                data,
            }) => {
                self.answer(on_request, reference, event.to_cow().as_ref(), data);
            }
        }
    }

    fn dispatch(&mut self, data: &Data<'_>) {
        let mut emitted = json!({"topic": value(data.topic), "event": value(data.event)});
        if let Some(payload) = data.data {
            emitted["data"] = value(payload);
        }
        self.dispatch.push(emitted);
        if let (Some(seq), Some(topic)) = (data.seq, data.topic.as_json_str()) {
            self.seqs.insert(topic.to_cow().into_owned(), value(seq));
        }
    }

    fn answer(
        &mut self,
        on_request: Option<&str>,
        reference: Ref<'_>,
        event: &str,
        data: Option<RawJsonRef<'_>>,
    ) {
        let echo = json!({"event": event, "data": data.map(value)}).to_string();
        let outcome = match on_request {
            Some("echo") => ReplyOutcome::Ok(RawJsonRef::parse_str(&echo).ok()),
            Some("throw") => ReplyOutcome::Err(
                RawJsonRef::parse_str("\"no thanks\"")
                    .unwrap()
                    .as_json_str()
                    .unwrap(),
            ),
            Some("void") => ReplyOutcome::Ok(Some(RawJsonRef::NULL)),
            _ => return,
        };
        client::encode_reply(&mut self.sends, MASK, reference, &outcome);
    }
}

fn sent_texts(bytes: &mut [u8]) -> Vec<Value> {
    let mut input = Input::new(bytes);
    let mut decoder = Decoder::new(Role::Server);
    let mut texts = Vec::new();
    while let Some(event) = decoder.next(&mut input, &LIMITS).unwrap() {
        let Event::Text(text) = event else {
            panic!("{event:?}")
        };
        texts.push(parse(text));
    }
    texts
}
