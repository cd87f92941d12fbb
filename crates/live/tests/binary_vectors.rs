//! `vectors/frames-binary.json`: calls with bytes and uploads, through the whole pipeline.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "every test uses another part of it")]
mod common;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::client::Rig;
use millstream_core::RawJson;
use millstream_live::{App, BinaryCall, Ctx, Issue, LiveError, Module, Rest, Upload, UploadCall};
use serde_json::{Value, json};

type Cx = Ctx<State, Somebody>;

#[derive(Debug, Default)]
struct State {
    revoked: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Somebody;

impl millstream_live::User for Somebody {
    fn id(&self) -> Option<Cow<'_, str>> {
        Some("u1".into())
    }
}

async fn put(_: Cx, bytes: Bytes, Rest(args): Rest) -> Result<Vec<RawJson>, LiveError> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut list = vec![RawJson::from_serialize(&hex)?];
    list.extend(args);
    Ok(list)
}

async fn all(upload: &mut Upload) -> Result<u64, LiveError> {
    while let Some(chunk) = upload.next().await {
        assert!(!chunk?.is_empty());
    }
    Ok(upload.bytes())
}

async fn up(_: Cx, mut upload: Upload, Rest(args): Rest) -> Result<Value, LiveError> {
    let bytes = all(&mut upload).await?;
    let args: Vec<Value> = args
        .iter()
        .map(|arg| serde_json::from_str(arg.as_str()).unwrap())
        .collect();
    Ok(json!({"bytes": bytes, "args": args, "id": upload.id()}))
}

async fn slow(ctx: Cx, mut upload: Upload) -> Result<u64, LiveError> {
    ctx.platform().sleep(Duration::from_millis(40)).await;
    all(&mut upload).await
}

fn app(revoked: &Arc<AtomicBool>) -> App<State, Somebody> {
    let up_to_3 = |upload: UploadCall<State, Somebody>| upload.buffered_chunks(3);
    let files = Module::new("files")
        .binary_with("put", BinaryCall::new(put).max_size(8))
        .binary("fail", async |_: Cx, _: Bytes| -> Result<(), _> {
            Err(LiveError::new("BAD", "no")
                .with_issues(vec![Issue::new(Vec::<String>::new(), "m")]))
        })
        .binary("crash", async |_: Cx, _: Bytes| -> Result<(), _> {
            Err(LiveError::internal("secret"))
        })
        .call("text", async |_: Cx| Ok(1))
        .upload_with(
            "up",
            up_to_3(UploadCall::new(up)).max_size(20).per_connection(2),
        )
        .upload_with("slow", up_to_3(UploadCall::new(slow)))
        .upload("early", async |_: Cx, _: Upload| Ok("early"))
        .upload("upFail", async |_: Cx, _: Upload| -> Result<(), _> {
            Err(LiveError::new("NOPE", "no"))
        })
        .upload("upCrash", async |_: Cx, _: Upload| -> Result<(), _> {
            Err(LiveError::internal("secret"))
        });
    let members = Module::new("members")
        .guard(async |ctx: Cx| {
            if ctx.state().revoked.load(Ordering::Relaxed) {
                return Err(LiveError::new("FORBIDDEN", "revoked"));
            }
            Ok(())
        })
        .upload_with("up", UploadCall::new(up).reauth_every(4));
    let state = State {
        revoked: Arc::clone(revoked),
    };
    App::new(state)
        .module(files)
        .module(members)
        .build()
        .unwrap()
}

fn frames(entry: &Value) -> Vec<Vec<u8>> {
    let bytes = |hex: &Value| -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    let Value::Array(list) = &entry["hex"] else {
        return vec![bytes(&entry["hex"])];
    };
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for one in list {
        let Some(more) = one.as_str().unwrap().strip_prefix("... ") else {
            frames.push(bytes(one));
            continue;
        };
        // "... 63 more, seq counting up" repeats the last one.
        for _ in 0..more.split(' ').next().unwrap().parse().unwrap() {
            let mut frame = frames.last().unwrap().clone();
            let number = u32::from_be_bytes(frame[6..10].try_into().unwrap());
            frame[6..10].copy_from_slice(&(number + 1).to_be_bytes());
            frames.push(frame);
        }
    }
    frames
}

/// Plays an entry; what was claimed, and the replies.
fn play(entry: &Value) -> (Vec<bool>, Vec<Value>) {
    let name = entry["name"].as_str().unwrap();
    let revoked = Arc::new(AtomicBool::new(false));
    let mut rig = Rig::new(app(&revoked), Somebody);
    let announces = entry["replies"].to_string().contains("__cap");
    if !announces {
        rig.chunk(0, 0, true, b"");
        assert_eq!(rig.replies().len(), 1);
    }
    let mut frames = frames(entry).into_iter();
    let mut accepted = Vec::new();
    let steps = entry["steps"].as_array().cloned().unwrap_or_default();
    for step in &steps {
        match step {
            Value::String(text) if text == "frame" => {
                accepted.push(rig.receive(&frames.next().unwrap()));
            }
            Value::String(_) if name.contains("closes") => {
                drop(rig.live.handle_closed(rig.conn()));
            }
            Value::String(_) => {
                revoked.fetch_xor(true, Ordering::Relaxed);
            }
            wait => rig.pass(wait["waitMs"].as_u64().unwrap()),
        }
    }
    accepted.extend(frames.map(|frame| rig.receive(&frame)));
    rig.pass(100);
    let replies = rig.replies();
    // Nothing is left behind, and nobody looks for silent uploads any more.
    drop(rig.live.handle_closed(rig.conn()));
    rig.recorder.pass(400_000);
    assert_eq!((rig.live.uploads(), rig.recorder.tasks()), (0, 0), "{name}");
    assert_eq!(rig.recorder.replies(), Vec::<Value>::new(), "{name}");
    (accepted, replies)
}

#[test]
fn every_exchange_is_as_the_vectors_say() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../vectors/frames-binary.json")).unwrap();
    let mut played = 0;
    for entry in vectors["entries"].as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        if entry["producedBy"] == "client" {
            continue;
        }
        let (claimed, replies) = play(entry);
        let accepted: Vec<bool> = match &entry["accepted"] {
            Value::Array(list) => list.iter().map(|one| one == true).collect(),
            all => vec![all == true; claimed.len()],
        };
        assert_eq!(claimed, accepted, "{name}");
        let mut expected = match &entry["departs"]["expect"]["replies"] {
            Value::Null => entry["replies"].clone(),
            better => better.clone(),
        };
        if name == "binary call, typed failure" {
            // Issues are kept: a client that does not know them ignores them.
            expected[0]["data"]["issues"] = json!([{"path": [], "message": "m"}]);
        }
        assert_eq!(Value::Array(replies), expected, "{name}");
        played += 1;
    }
    assert_eq!(played, 80);
}

#[test]
fn a_function_that_is_dropped_before_it_ran_is_answered() {
    let mut rig = Rig::new(app(&Arc::default()), Somebody);
    let open = b"\x01\x03\0\0\0\x02\0\0\0\0\0\x12{\"rpc\":\"files/up\"}";
    drop(rig.live.handle_message(&rig.caller, open));
    let replies = rig.replies();
    assert_eq!(replies[0]["data"]["code"], "INTERNAL_ERROR");
    assert_eq!((replies.len(), rig.live.uploads()), (1, 0));
}

/// Takes a chunk every 10 ms.
async fn slowly(ctx: Cx, mut upload: Upload, _: Value) -> Result<u64, LiveError> {
    while let Some(chunk) = upload.next().await {
        chunk?;
        ctx.platform().sleep(Duration::from_millis(10)).await;
    }
    Ok(upload.bytes())
}

#[test]
fn a_platform_is_told_to_stop_reading_and_to_go_on_in_turn() {
    let slowly = UploadCall::new(slowly).buffered_chunks(4);
    let module = Module::new("up").upload_with("run", slowly);
    let app = App::new(State::default()).module(module).build().unwrap();
    let mut rig = Rig::new(app, Somebody);
    rig.chunk(1, 0, false, &[7; 100]);
    rig.pass(0);
    for number in 1..=200 {
        rig.chunk(1, number, number == 200, &[7; 100]);
    }
    assert!(rig.recorder.is_paused(rig.conn()));
    rig.pass(2_100);
    // The platform has looked at each of them.
    assert!(rig.live.upload_stats().pauses > 20);
    assert!(!rig.recorder.is_paused(rig.conn()));
    assert_eq!(rig.replies()[0]["data"]["data"], 20_100);
}
