//! Every client frame of the shared vectors, against a hub whose host allows everything.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::collections::HashMap;
use std::time::Duration;

use millstream_core::{Key, Millis, RawJsonRef};
use millstream_hub::{Event, Hub, HubConfig, Pattern, Receipt, RequestError, Sink, Verdict, Wrote};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};
use serde_json::{Value, json};

const VECTORS: &str = include_str!("../../../vectors/transport-frames.json");

/// Where we do better on purpose; the vectors describe the original.
const DEPARTURES: [(&str, &str); 2] = [
    (
        "subscribe-again-now-denied",
        "a denial ends the subscription it is about",
    ),
    (
        "unsubscribe-system-topic",
        "a client has no say over subscriptions the server made",
    ),
];

#[derive(Default)]
struct Wire(Vec<u8>);

impl Sink for Wire {
    fn send(&mut self, _: Key, bytes: &[u8]) -> Wrote {
        self.0.extend_from_slice(bytes);
        Wrote::Bytes(bytes.len())
    }
}

impl Wire {
    fn take(&mut self) -> Vec<Value> {
        let mut decoder = Decoder::new(Role::Client);
        let limits = DecodeLimits {
            message_bytes_max: 1 << 20,
            ..DecodeLimits::default()
        };
        let mut input = Input::new(&mut self.0);
        let mut texts = Vec::new();
        while let Some(frame) = decoder.next(&mut input, &limits).unwrap() {
            let Frame::Text(text) = frame else {
                panic!("only text frames: {frame:?}")
            };
            texts.push(serde_json::from_str(text).unwrap());
        }
        self.0.clear();
        texts
    }
}

#[derive(Default)]
struct Host {
    deny: HashMap<String, Value>,
    hooks: Vec<Value>,
    replied: Option<Result<Value, RequestError>>,
}

impl Host {
    fn pump(&mut self, hub: &mut Hub) {
        while let Some(event) = hub.poll_event() {
            match event {
                Event::Ask { ticket, topics, .. } => {
                    let mut verdicts = Vec::new();
                    for topic in topics {
                        self.hooks.push(json!(["subscribe", &*topic]));
                        verdicts.push(match self.deny.get(&*topic) {
                            None => Verdict::Allow,
                            Some(Value::Bool(false)) => Verdict::FORBIDDEN,
                            Some(Value::String(text)) if text == "!throw" => Verdict::FAILED,
                            Some(Value::String(text)) => Verdict::Deny(text.clone().into()),
                            Some(other) => panic!("{other}"),
                        });
                    }
                    hub.settle(ticket, verdicts);
                }
                Event::Unsubscribed { topic, .. } => {
                    self.hooks.push(json!(["unsubscribe", &*topic]));
                }
                Event::Resume { conn, .. } => hub.resumed(conn),
                Event::Replied { result, .. } => {
                    let value = result.map(|data| serde_json::from_str(data.as_str()).unwrap());
                    self.replied = Some(value);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_hub_reacts_as_the_vectors_say() {
    let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
    let mut ran = 0;
    for vector in &vectors {
        if vector["direction"] == "client-to-server" {
            run(vector);
            ran += 1;
        }
    }
    assert_eq!(ran, 77);
}

fn run(vector: &Value) {
    let name = vector["name"].as_str().unwrap();
    let check = &vector["check"];
    let config = HubConfig {
        open_topics: vec![Pattern::new("*")],
        ..HubConfig::default()
    };
    let mut hub = Hub::single(config);
    let mut host = Host::default();
    let mut wire = Wire::default();
    let conn = hub.open(Some("s"), Millis::ZERO).unwrap();
    let subscribed = check["setup"]["subscribed"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for topic in &subscribed {
        let text = json!({"type": "subscribe", "topic": topic});
        assert_eq!(
            receive(&mut hub, conn, &text_with_type_first(&text)),
            Receipt::Control
        );
        host.pump(&mut hub);
    }
    if let Some(deny) = check["setup"]["deny"].as_object() {
        host.deny = deny
            .iter()
            .map(|(topic, result)| (topic.clone(), result.clone()))
            .collect();
    }
    let pending = !check["setup"]["pending_request_ref"].is_null();
    if pending {
        hub.request(
            conn,
            1,
            "ask",
            RawJsonRef::NULL,
            Duration::ZERO,
            Millis::ZERO,
        );
    }
    hub.flush(&mut wire);
    wire.take();
    host.hooks.clear();

    let mut app = 0;
    if vector["encoding"] == "text" {
        let text = vector["frame"].as_str().unwrap();
        app += usize::from(receive(&mut hub, conn, text) == Receipt::App);
    } else {
        // Binary messages never reach the hub; one that is not UTF-8 fails in the decoder.
        app += usize::from(check["closed"].is_null());
    }
    host.pump(&mut hub);
    hub.flush(&mut wire);
    let replies = wire.take();

    check_answers(name, check, &replies, app);
    check_state(name, check, &hub, conn, &host);
}

fn check_answers(name: &str, check: &Value, replies: &[Value], app: usize) {
    if let Some(expected) = check["replies"].as_array() {
        let expected: Vec<Value> = expected
            .iter()
            .map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap())
            .collect();
        assert_eq!(replies, expected, "{name}");
    }
    if let Some(count) = check["reply_count"].as_u64() {
        assert_eq!(replies.len() as u64, count, "{name}");
    }
    if let Some(expected) = check["app"].as_u64() {
        assert_eq!(app as u64, expected, "{name}");
    }
}

fn check_state(name: &str, check: &Value, hub: &Hub, conn: Key, host: &Host) {
    let departs = DEPARTURES.iter().any(|(departure, _)| *departure == name);
    if let Some(expected) = check["hooks"].as_array()
        && !departs
    {
        assert_eq!(&host.hooks, expected, "{name}");
    }
    for topic in check["subscribed"].as_array().into_iter().flatten() {
        let holds = hub.holds(conn, topic.as_str().unwrap());
        assert_eq!(holds, !departs, "{name}: {topic}");
    }
    for topic in check["not_subscribed"].as_array().into_iter().flatten() {
        assert!(!hub.holds(conn, topic.as_str().unwrap()), "{name}: {topic}");
    }
    let result = &check["request_result"];
    if result["pending"] == true {
        assert!(host.replied.is_none(), "{name}");
    } else if let Some(text) = result["err"].as_str() {
        let expected = RequestError::Client(text.to_owned());
        assert_eq!(host.replied, Some(Err(expected)), "{name}");
    } else if let Some(value) = result.get("ok") {
        assert_eq!(host.replied, Some(Ok(value.clone())), "{name}");
    }
}

fn receive(hub: &mut Hub, conn: Key, text: &str) -> Receipt {
    hub.receive(conn, text)
}

/// serde_json sorts members; a control frame begins with its type.
fn text_with_type_first(frame: &Value) -> String {
    format!(r#"{{"type":{},"topic":{}}}"#, frame["type"], frame["topic"])
}
