//! A small host that plays the functions of `vectors/frames-binary.json` on virtual time. Used by
//! the vector test and by the driver.

mod describe;
mod functions;

use bytes::Bytes;
use describe::{describe, is_well_formed};
use functions::Server;
use millstream_wire::recognise_binary;
use serde_json::{Map, Value, json};

/// Plays one entry and gives what was observed of it: `decoded`, `valid` and `error`, and unless
/// the frames were produced by a client, `wellFormed`, `accepted` and `replies`.
pub fn observe(entry: &Value) -> Result<Map<String, Value>, String> {
    let frames = frames(&entry["hex"])?;
    let listed = entry["hex"].as_array().map_or(1, Vec::len);
    // A list that ends in "... more" is described by the frames it spells out.
    let described: Vec<Bytes> = match frames.len() {
        len if len > listed => frames[..listed - 1].to_vec(),
        _ => frames.clone(),
    };
    let single = described.len() == 1 && entry["hex"].is_string();
    let each = |values: Vec<Value>| match single {
        true => values.into_iter().next().unwrap_or_default(),
        false => Value::Array(values),
    };
    let well_formed: Vec<bool> = frames.iter().map(|frame| is_well_formed(frame)).collect();
    let mut seen = Map::new();
    let decoded = described.iter().map(|frame| describe(frame)).collect();
    seen.insert("decoded".into(), each(decoded));
    if entry["producedBy"] == "client" {
        seen.insert("valid".into(), json!(well_formed.iter().all(|one| *one)));
        seen.insert("error".into(), Value::Null);
        return Ok(seen);
    }
    let verdict = |verdicts: Vec<bool>| match frames.len() > listed {
        true => json!(verdicts.iter().all(|one| *one)),
        false => each(verdicts.into_iter().map(Value::from).collect()),
    };
    let accepted = frames.iter().map(|frame| recognise_binary(frame).is_some());
    seen.insert("accepted".into(), verdict(accepted.collect()));
    seen.insert("wellFormed".into(), verdict(well_formed));
    let replies = play(entry, &frames);
    let failure = replies
        .iter()
        .map(|reply| &reply["data"])
        .find(|data| data["ok"] == false);
    let error = failure.map(|data| json!({"code": data["code"], "error": data["error"]}));
    seen.insert(
        "valid".into(),
        json!(error.is_none() && !replies.is_empty()),
    );
    seen.insert("error".into(), error.unwrap_or_default());
    seen.insert("replies".into(), Value::Array(replies));
    Ok(seen)
}

/// The frames of an entry; `"... 63 more, seq counting up"` repeats the last one.
fn frames(hex: &Value) -> Result<Vec<Bytes>, String> {
    let lines = hex.as_array().cloned().unwrap_or_else(|| vec![hex.clone()]);
    let mut frames: Vec<Bytes> = Vec::new();
    for line in lines {
        let text = line.as_str().ok_or("hex is text")?;
        match text.strip_prefix("... ") {
            None => frames.push(bytes(text)?),
            Some(more) => {
                let count = more
                    .split(' ')
                    .next()
                    .and_then(|count| count.parse::<u32>().ok());
                let last = frames.last().ok_or("nothing to repeat")?.clone();
                let number = last.get(6..10).and_then(|n| n.try_into().ok());
                let number = u32::from_be_bytes(number.ok_or("no chunk to repeat")?);
                for step in 1..=count.ok_or("how many more")? {
                    let number = number.wrapping_add(step).to_be_bytes();
                    let frame = [&last[..6], &number, &last[10..]].concat();
                    frames.push(frame.into());
                }
            }
        }
    }
    Ok(frames)
}

fn bytes(hex: &str) -> Result<Bytes, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("not hexadecimal");
    if !hex.len().is_multiple_of(2) {
        return Err("half a byte".into());
    }
    let pairs = hex.as_bytes().chunks_exact(2);
    let bytes: Result<Vec<u8>, &str> = pairs
        .map(|pair| Ok(u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).unwrap_or(0)))
        .collect();
    Ok(Bytes::from(bytes?))
}

/// Performs the entry's steps, or delivers all frames without a pause.
fn play(entry: &Value, frames: &[Bytes]) -> Vec<Value> {
    let name = entry["name"].as_str().unwrap_or_default();
    // Where an entry is not about the announcement, an earlier upload has used it up.
    let mut server = Server::new(!name.contains("announce"));
    let mut frames = frames.iter();
    match entry["steps"].as_array() {
        None => frames.for_each(|frame| server.receive(frame.clone())),
        Some(steps) => {
            for step in steps {
                if step == "frame" {
                    if let Some(frame) = frames.next() {
                        server.receive(frame.clone());
                    }
                } else if let Some(ms) = step["waitMs"].as_u64() {
                    server.wait(ms);
                } else if name.contains("closes") {
                    server.close();
                } else {
                    server.toggle_permission();
                }
            }
        }
    }
    server.wait(1_000);
    server.into_replies()
}
