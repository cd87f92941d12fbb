//! What the bytes of a frame say, as JSON.

use millstream_wire::{
    BinaryFault, BinaryFrame, ChunkHead, recognise_binary, split_call, split_control,
};
use serde_json::{Value, json};

/// Whether a frame keeps the rules of its form. A control type nobody knows does.
pub(crate) fn is_well_formed(frame: &[u8]) -> bool {
    match recognise_binary(frame) {
        Some(BinaryFrame::Dropped(fault)) => matches!(fault, BinaryFault::UnknownControl { .. }),
        Some(_) => true,
        None => false,
    }
}

/// What is there, in order or not.
pub(crate) fn describe(frame: &[u8]) -> Value {
    match frame.first() {
        Some(0) => call(frame),
        Some(1) => chunk(frame),
        Some(2) => control(frame),
        _ => json!({"kind": "other"}),
    }
}

fn call(frame: &[u8]) -> Value {
    let mut seen = json!({"kind": "binary-rpc"});
    match split_call(frame) {
        Ok((header, payload)) => {
            seen["headerLength"] = json!(header.len());
            text_or_value(&mut seen, "header", header);
            seen["payload"] = json!(hex(payload));
        }
        Err(BinaryFault::HeaderPastEnd { header }) => {
            seen["headerLength"] = json!(header);
            seen["problem"] = json!("header runs past the end");
        }
        Err(_) => seen["problem"] = json!("too short"),
    }
    seen
}

fn chunk(frame: &[u8]) -> Value {
    let mut seen = json!({"kind": "upload-chunk"});
    let Ok(head) = ChunkHead::split(frame) else {
        seen["problem"] = json!("too short");
        return seen;
    };
    seen["flags"] = json!(head.flags);
    seen["hasArgs"] = json!(head.has_header());
    seen["isLast"] = json!(head.is_last());
    seen["reservedBits"] = json!(head.reserved_flags());
    seen["streamId"] = json!(head.upload);
    seen["seq"] = json!(head.number);
    match head.body() {
        Ok((header, payload)) => {
            if let Some(header) = header {
                seen["argsLength"] = json!(header.len());
                text_or_value(&mut seen, "args", header);
            }
            seen["payload"] = json!(hex(payload));
        }
        Err(BinaryFault::HeaderPastEnd { header }) => {
            seen["argsLength"] = json!(header);
            seen["problem"] = json!("arguments run past the end");
        }
        Err(_) => seen["problem"] = json!("no room for the argument length"),
    }
    seen
}

fn control(frame: &[u8]) -> Value {
    match split_control(frame) {
        Some((kind, upload)) => {
            json!({"kind": "upload-control", "control": kind, "streamId": upload})
        }
        None => json!({"kind": "upload-control", "problem": "too short"}),
    }
}

fn text_or_value(seen: &mut Value, name: &str, bytes: &[u8]) {
    match serde_json::from_slice(bytes) {
        Ok(value) => seen[name] = value,
        Err(_) => seen[format!("{name}Text")] = json!(String::from_utf8_lossy(bytes)),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
