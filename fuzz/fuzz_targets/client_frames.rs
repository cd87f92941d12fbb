//! Recognition of server frames against a slow one that follows the protocol word by word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_core::RawJsonRef;
use millstream_wire::{BatchEntry, CallFrame, Data, ServerFrame, recognise_call, recognise_server};
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let ours = recognise_server(text).map(describe);
    // What a Value cannot hold (lone surrogates, 1e400, depth) cannot be compared.
    if let Ok(frame) = serde_json::from_str::<Value>(text) {
        let deepest = text.matches(['[', '{']).count();
        if deepest < 64 {
            assert_eq!(ours, reference(&frame));
            assert_eq!(recognise_call(text).map(describe_call), call(text, &frame));
        }
    }
});

/// A call as it was recognised: what it is, and its id.
fn describe_call(frame: CallFrame<'_>) -> Value {
    match frame {
        CallFrame::Call(call) => json!({
            "path": call.path.to_cow(), "id": call.id.map(|id| id.to_cow()),
            "args": call.args.iter().count(),
        }),
        CallFrame::Batch(batch) => json!(
            batch
                .entries()
                .map(|entry| matches!(entry, BatchEntry::Call(_)))
                .collect::<Vec<_>>()
        ),
        CallFrame::TooDeep { id } => json!({"deep": id.to_cow()}),
    }
}

/// The same from the rules, over a parsed value.
fn call(text: &str, frame: &Value) -> Option<Value> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[0] != b'{' || !matches!(bytes[2], b'r' | b'b') {
        return None;
    }
    if let Some(entries) = frame["batch"].as_array() {
        let whole = |entry: &Value| entry["rpc"].is_string() && entry["id"].is_string();
        return Some(json!(entries.iter().map(whole).collect::<Vec<_>>()));
    }
    let path = frame["rpc"].as_str()?;
    match frame.get("id") {
        None if path.is_empty() => return None,
        None => {}
        Some(id) => drop(id.as_str()?),
    }
    let args = frame["args"].as_array().map_or(0, Vec::len);
    Some(json!({"path": path, "id": frame.get("id"), "args": args}))
}

fn describe(frame: ServerFrame<'_>) -> Value {
    match frame {
        ServerFrame::Data(data) => show(&data),
        ServerFrame::Batch(members) => {
            json!({"kind": "batch", "members": members.map(|data| show(&data)).collect::<Vec<_>>()})
        }
        ServerFrame::Welcome { session_id } => {
            json!({"kind": "welcome", "id": session_id.to_cow()})
        }
        ServerFrame::Resumed => json!({"kind": "resumed"}),
        ServerFrame::Subscribed { topic, reference } => {
            json!({"kind": "subscribed", "topic": topic.to_cow(), "ref": reference.map(value)})
        }
        ServerFrame::Denied {
            topic,
            reference,
            reason,
        } => json!({
            "kind": "denied", "topic": topic.to_cow(), "ref": reference.map(value),
            "reason": reason.to_cow(),
        }),
        ServerFrame::Request {
            reference,
            event,
            data,
        } => json!({
            "kind": "request", "ref": value(reference.as_json()), "event": event.to_cow(),
            "data": data.map(value),
        }),
    }
}

fn show(data: &Data<'_>) -> Value {
    json!({
        "kind": "data", "topic": value(data.topic), "event": value(data.event),
        "data": data.data.map(value), "seq": data.seq.map(value),
    })
}

fn value(json: RawJsonRef<'_>) -> Value {
    serde_json::from_str(json.as_str()).unwrap_or_default()
}

fn reference(frame: &Value) -> Option<Value> {
    let topic = &frame["topic"];
    let truthy = match topic {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    };
    if truthy && frame.get("event").is_some() {
        return Some(data(frame));
    }
    let (topic, event) = (topic.as_str(), frame["event"].as_str());
    Some(match frame.get("type")?.as_str()? {
        "batch" => {
            let is_data =
                |member: &&Value| member["topic"].is_string() && member.get("event").is_some();
            let members = frame["events"].as_array()?.iter().filter(is_data).map(data);
            json!({"kind": "batch", "members": members.collect::<Vec<_>>()})
        }
        "welcome" => json!({"kind": "welcome", "id": frame["sessionId"].as_str()?}),
        "resumed" => json!({"kind": "resumed"}),
        "subscribed" => json!({"kind": "subscribed", "topic": topic?, "ref": frame.get("ref")}),
        "subscribe-denied" => json!({
            "kind": "denied", "topic": topic?, "ref": frame.get("ref"),
            "reason": frame["reason"].as_str()?,
        }),
        "request" => {
            let reference = &frame["ref"];
            if !reference.is_number() && !reference.is_string() {
                return None;
            }
            json!({"kind": "request", "ref": reference, "event": event?, "data": frame.get("data")})
        }
        _ => return None,
    })
}

fn data(frame: &Value) -> Value {
    let seq = frame.get("seq").filter(|seq| seq.is_number());
    json!({
        "kind": "data", "topic": frame["topic"], "event": frame["event"],
        "data": frame.get("data"), "seq": seq,
    })
}
