//! Recognition of client frames against a slow one that follows the protocol word by word.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_wire::{ClientFrame, Ref, ReplyOutcome, hello_capabilities, recognise};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

fuzz_target!(|text: &str| {
    let ours = recognise(text).map(|frame| describe(text, &frame));
    match reference(text) {
        Ok(theirs) => assert_eq!(ours, theirs),
        // JSON that a Value cannot hold (lone surrogates, 1e400): JSON.parse takes it.
        Err(Unreadable) => {}
    }
    // A frame padded beyond the limit is the application's, save two kinds.
    if text.starts_with('{') && text.ends_with('}') {
        let padded = format!("{text}{}", " ".repeat(8192));
        let long =
            text.starts_with(r#"{"type":"resume""#) || text.starts_with(r#"{"type":"reply""#);
        let kind = ours.as_ref().map(|frame| frame["kind"].clone());
        let stays = long && (kind == Some(json!("resume")) || kind == Some(json!("reply")));
        assert_eq!(recognise(&padded).is_some(), stays);
    }
});

struct Unreadable;

fn describe(text: &str, frame: &ClientFrame<'_>) -> Value {
    match frame {
        ClientFrame::Hello { caps } => {
            let names: Vec<_> = hello_capabilities(text)
                .expect("a hello")
                .map(|name| name.to_cow())
                .collect();
            assert_eq!(caps.has_batch(), names.iter().any(|name| name == "batch"));
            json!({"kind": "hello", "caps": names})
        }
        ClientFrame::Resume {
            session_id,
            last_seen,
        } => json!({
            "kind": "resume", "session": session_id.to_cow(), "seen": value(last_seen.as_str()),
        }),
        ClientFrame::Subscribe { topic, reference } => json!({
            "kind": "subscribe", "topic": topic.to_cow(), "ref": reference.map(show),
        }),
        ClientFrame::SubscribeBatch { topics, reference } => json!({
            "kind": "subscribe-batch", "topics": value(topics.as_str()), "ref": reference.map(show),
        }),
        ClientFrame::Unsubscribe { topic } => {
            json!({"kind": "unsubscribe", "topic": topic.to_cow()})
        }
        ClientFrame::Reply { reference, outcome } => {
            let outcome = match outcome {
                ReplyOutcome::Ok(data) => json!({"ok": data.map(|data| value(data.as_str()))}),
                ReplyOutcome::Err(error) => json!({"err": error.to_cow()}),
            };
            json!({"kind": "reply", "ref": show(*reference), "outcome": outcome})
        }
    }
}

fn show(reference: Ref<'_>) -> Value {
    let json = value(reference.as_json().as_str());
    if let Some(exact) = json.as_u64() {
        assert_eq!(reference.as_u64_exact(), Some(exact));
    }
    if json.is_string() {
        assert_eq!(reference.as_u64_exact(), None);
    }
    json
}

/// Null stands for what a Value cannot hold; such cases are not compared.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn reference(text: &str) -> Result<Option<Value>, Unreadable> {
    if text.as_bytes().get(3) != Some(&b'y') {
        return Ok(None);
    }
    let long = text.starts_with(r#"{"type":"resume""#) || text.starts_with(r#"{"type":"reply""#);
    if text.len() >= 8192 && !long {
        return Ok(None);
    }
    if serde_json::from_str::<IgnoredAny>(text).is_err() || depth(text) > 64 {
        return Ok(None);
    }
    let frame: Value = serde_json::from_str(text).map_err(|_| Unreadable)?;
    let found = shape(&frame);
    let kind = found
        .as_ref()
        .map(|found| found["kind"].as_str().unwrap_or_default().to_owned());
    if text.len() >= 8192 && !matches!(kind.as_deref(), Some("resume" | "reply")) {
        return Ok(None);
    }
    Ok(found)
}

fn shape(frame: &Value) -> Option<Value> {
    let usable = |reference: &Value| {
        let usable = reference.is_number() || reference.is_string();
        usable.then(|| reference.clone())
    };
    let reference = usable(&frame["ref"]);
    let topic = frame["topic"].as_str();
    Some(match frame.get("type")?.as_str()? {
        "hello" => {
            let names = frame["caps"]
                .as_array()?
                .iter()
                .filter(|name| name.is_string());
            json!({"kind": "hello", "caps": names.collect::<Vec<_>>()})
        }
        "resume" => {
            let (session, seen) = (frame["sessionId"].as_str()?, &frame["lastSeenSeqs"]);
            if !seen.is_object() && !seen.is_array() {
                return None;
            }
            json!({"kind": "resume", "session": session, "seen": seen})
        }
        "subscribe" => json!({"kind": "subscribe", "topic": topic?, "ref": reference}),
        "subscribe-batch" => {
            let topics = frame["topics"].as_array()?;
            json!({"kind": "subscribe-batch", "topics": topics, "ref": reference})
        }
        "unsubscribe" => json!({"kind": "unsubscribe", "topic": topic?}),
        "reply" => {
            let outcome = match frame["error"].as_str() {
                Some(error) => json!({"err": error}),
                None => json!({"ok": frame.get("data")}),
            };
            json!({"kind": "reply", "ref": reference?, "outcome": outcome})
        }
        _ => return None,
    })
}

/// Nesting of valid JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}
