//! `vectors/websocket-cases.json`: RFC 6455 as a table, in the order of the Autobahn suite.
//!
//! A case is a list of frames and what comes of them. `frames[]`: `op` (name or number), `fin`
//! (true), `rsv` (0), payload as `text`, `hex` or `repeat: [hex, count]`, `masked` (as the role
//! demands), `mask` (hex), `length` (`"16"` or `"64"` forces a longer form), `cut` (bytes missing
//! at the end), or `raw` (hex, nothing added). `events[]`: `[kind, payload]` or `["close", code,
//! reason]`; `violation` is what ends the stream. Every case runs whole, frame by frame and byte
//! by byte.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use millstream_wire::{DecodeLimits, Decoder, Event, Input, Role, frame};
use serde_json::Value;

#[test]
fn all_cases_in_all_pieces() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../vectors/websocket-cases.json")).unwrap();
    assert!(cases.len() >= 190, "only {} cases", cases.len());
    for case in &cases {
        let frames: Vec<Vec<u8>> = list(&case["frames"])
            .map(|f| frame_bytes(f, role(case)))
            .collect();
        let whole = vec![frames.concat()];
        let bytes: Vec<Vec<u8>> = whole[0].iter().map(|byte| vec![*byte]).collect();
        for (how, pieces) in [("whole", &whole), ("frames", &frames), ("bytes", &bytes)] {
            let (events, violation) = run(case, pieces);
            let want: Vec<String> = list(&case["events"]).map(wanted_event).collect();
            assert_eq!(events, want, "{} {how}", case["name"]);
            assert_eq!(
                violation.as_deref(),
                case["violation"].as_str(),
                "{} {how}",
                case["name"]
            );
        }
    }
}

fn run(case: &Value, pieces: &[Vec<u8>]) -> (Vec<String>, Option<String>) {
    let mut limits = DecodeLimits {
        message_bytes_max: 1 << 20,
        ..DecodeLimits::default()
    };
    if let Some(max) = case["limits"]["message_bytes_max"].as_u64() {
        limits.message_bytes_max = max as usize;
    }
    let mut decoder = Decoder::new(role(case));
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.clone();
        let mut input = Input::new(&mut piece);
        loop {
            match decoder.next(&mut input, &limits) {
                Ok(Some(event)) => events.push(seen_event(&event)),
                Ok(None) => break,
                Err(violation) => return (events, Some(format!("{violation:?}"))),
            }
        }
        assert_eq!(input.remaining(), 0);
    }
    (events, None)
}

fn role(case: &Value) -> Role {
    if case["role"] == "client" {
        Role::Client
    } else {
        Role::Server
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn seen_event(event: &Event<'_>) -> String {
    match event {
        Event::Text(text) => show("text", text.as_bytes()),
        Event::Binary(payload) => show("binary", payload),
        Event::Ping(payload) => show("ping", payload),
        Event::Pong(payload) => show("pong", payload),
        Event::Close { code, reason } => format!("close {code:?} {reason}"),
    }
}

fn wanted_event(event: &Value) -> String {
    let kind = event[0].as_str().unwrap();
    if kind == "close" {
        let code = event[1].as_u64().map(|code| code as u16);
        return format!("close {code:?} {}", event[2].as_str().unwrap());
    }
    show(kind, &payload(&event[1]))
}

fn show(kind: &str, payload: &[u8]) -> String {
    let head: Vec<String> = payload
        .iter()
        .take(64)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{kind} {} bytes {}", payload.len(), head.concat())
}

fn payload(value: &Value) -> Vec<u8> {
    if let Some(text) = value["text"].as_str() {
        return text.into();
    }
    if let Some(count) = value["repeat"][1].as_u64() {
        return unhex(&value["repeat"][0]).repeat(count as usize);
    }
    unhex(&value["hex"])
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn frame_bytes(spec: &Value, role: Role) -> Vec<u8> {
    if spec["raw"].is_string() {
        return unhex(&spec["raw"]);
    }
    let opcode = match spec["op"].as_str() {
        Some("continuation") => 0,
        Some("text") => 1,
        Some("binary") => 2,
        Some("close") => 8,
        Some("ping") => 9,
        Some("pong") => 10,
        _ => spec["op"].as_u64().unwrap() as u8,
    };
    let fin = spec["fin"].as_bool().unwrap_or(true);
    let rsv = spec["rsv"].as_u64().unwrap_or(0) as u8;
    let mut bytes = vec![u8::from(fin) << 7 | rsv << 4 | opcode];
    let mut payload = payload(spec);
    let masked = spec["masked"].as_bool().unwrap_or(role == Role::Server);
    let bit = u8::from(masked) << 7;
    match (spec["length"].as_str(), payload.len()) {
        (None, len @ 0..126) => bytes.push(bit | len as u8),
        (Some("16"), len) | (None, len @ 126..=0xffff) => {
            bytes.push(bit | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        (_, len) => {
            bytes.push(bit | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if masked {
        let key = unhex(&spec["mask"])
            .try_into()
            .unwrap_or([0x37, 0xfa, 0x21, 0x3d]);
        bytes.extend_from_slice(&key);
        frame::mask(&mut payload, key, 0);
    }
    bytes.extend_from_slice(&payload);
    bytes.truncate(bytes.len() - spec["cut"].as_u64().unwrap_or(0) as usize);
    bytes
}
