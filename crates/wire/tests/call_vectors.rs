//! `vectors/rpc-frames.json`: which messages are calls.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;

use millstream_wire::{CallFrame, recognise_call};
use serde_json::Value;

fn message(frame: &Value) -> Option<Vec<u8>> {
    if let Some(text) = frame["text"].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let hex = frame["hex"].as_str()?;
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    Some((0..hex.len()).step_by(2).map(byte).collect())
}

#[test]
fn the_right_messages_are_claimed() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../vectors/rpc-frames.json")).unwrap();
    let mut checked = 0;
    for entry in vectors["entries"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let frames = entry["frames"].as_array().unwrap();
        let messages = frames.iter().filter_map(message);
        let accepted = entry["accepted"].as_array().unwrap();
        for (message, accepted) in messages.zip(accepted) {
            let text: Cow<'_, str> = String::from_utf8_lossy(&message);
            match recognise_call(&text) {
                // The original drops those without a word; ours are answered.
                Some(CallFrame::TooDeep { .. }) => assert_eq!(accepted, false, "{name}"),
                seen => assert_eq!(seen.is_some(), *accepted, "{name}: {text}"),
            }
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
}
