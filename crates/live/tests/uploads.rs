//! Uploads through the whole pipeline: credit, endings, permission, and what hostile clients do.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future};
use millstream_core::RawJsonRef;
use millstream_live::testing::{ClientId, Testbed};
use millstream_live::{
    App, BinaryCall, Builder, Ctx, Limits, Live, LiveError, Module, Problem, Upload, UploadCall,
};
use millstream_wire::{UploadChunk, encode_binary_call, encode_cancel, encode_chunk};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Cx = Ctx<State, Somebody>;
type Receive = UploadCall<State, Somebody>;

#[derive(Debug, Default)]
struct State {
    revoked: AtomicBool,
    log: Mutex<Vec<String>>,
}

impl State {
    fn log(&self, line: impl Into<String>) {
        self.log.lock().push(line.into());
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

#[derive(Debug)]
struct Somebody;

impl millstream_live::User for Somebody {
    fn id(&self) -> Option<Cow<'_, str>> {
        Some("u1".into())
    }
}

async fn sum(ctx: Cx, mut upload: Upload, _: Value) -> Result<u64, LiveError> {
    while let Some(chunk) = upload.next().await {
        if let Err(error) = chunk {
            ctx.state().log(format!("ended {}", error.code()));
            let again = upload.next().await.unwrap().unwrap_err();
            assert_eq!(again.code(), error.code(), "for ever");
            return Err(error);
        }
    }
    Ok(upload.bytes())
}

/// Takes a chunk every 10 ms.
async fn slow(ctx: Cx, mut upload: Upload, _: Value) -> Result<u64, LiveError> {
    while let Some(chunk) = upload.next().await {
        chunk?;
        ctx.platform().sleep(Duration::from_millis(10)).await;
    }
    Ok(upload.bytes())
}

fn app(upload: Receive) -> Builder<State, Somebody> {
    let module = Module::new("up")
        .guard(async |ctx: Cx| {
            if ctx.state().revoked.load(Ordering::Relaxed) {
                return Err(LiveError::new("REVOKED", "access was revoked"));
            }
            Ok(())
        })
        .upload_with("run", upload);
    App::new(State::default()).module(module)
}

/// An application and one client, who writes the frames of its uploads by hand.
struct Rig {
    bed: Testbed<State, Somebody>,
    live: Live<State, Somebody>,
    client: ClientId,
    /// Frames of the client that were looked at.
    seen: usize,
}

fn rig(upload: Receive) -> Rig {
    Rig::new(app(upload))
}

impl Rig {
    fn new(app: Builder<State, Somebody>) -> Self {
        let mut bed = Testbed::new(app.build().unwrap());
        let client = bed.connect(Somebody);
        Self {
            live: bed.live(),
            bed,
            client,
            seen: 0,
        }
    }

    fn receive(&mut self, message: &[u8]) {
        self.bed.send_binary(self.client, message);
    }

    fn open(&mut self, upload: u32, path: &str) {
        let header = format!(r#"{{"rpc":"{path}"}}"#);
        self.send(upload, 0, false, Some(&header), b"");
    }

    fn chunk(&mut self, upload: u32, number: u32, last: bool, payload: &[u8]) {
        let header = (number == 0).then_some(r#"{"rpc":"up/run","args":["a"]}"#);
        self.send(upload, number, last, header, payload);
    }

    fn send(&mut self, upload: u32, number: u32, last: bool, header: Option<&str>, payload: &[u8]) {
        let chunk = UploadChunk {
            upload,
            number,
            last,
            header: header.map(|text| RawJsonRef::parse_str(text).unwrap()),
            payload,
        };
        let mut frame = Vec::new();
        encode_chunk(&mut frame, &chunk).unwrap();
        self.receive(&frame);
    }

    fn cancel(&mut self, upload: u32) {
        let mut frame = Vec::new();
        encode_cancel(&mut frame, upload);
        self.receive(&frame);
    }

    fn call(&mut self, header: &str, payload: &[u8]) {
        let mut frame = Vec::new();
        let header = RawJsonRef::parse_str(header).unwrap();
        encode_binary_call(&mut frame, header, payload).unwrap();
        self.receive(&frame);
    }

    fn pass(&mut self, millis: u64) {
        self.bed.advance(Duration::from_millis(millis));
    }

    fn is_paused(&self) -> bool {
        self.bed.is_paused(self.client)
    }

    /// The replies since the last time.
    fn replies(&mut self) -> Vec<Value> {
        let frames = self.bed.frames(self.client).skip(self.seen);
        let frames: Vec<Value> = frames
            .map(|frame| serde_json::from_str(frame).unwrap())
            .collect();
        self.seen += frames.len();
        let reply = |frame: &Value| frame["topic"] == "__rpc" || frame["topic"] == "__upload";
        frames.into_iter().filter(reply).collect()
    }
}

fn code(reply: &Value) -> &str {
    reply["data"]["code"].as_str().unwrap_or("ok")
}

#[test]
fn a_slow_function_pauses_its_connection_and_fails_nothing() {
    let mut rig = rig(Receive::new(slow).buffered_chunks(4));
    rig.chunk(1, 0, false, b"x");
    rig.pass(0);
    for number in 1..=1_000 {
        rig.chunk(1, number, number == 1_000, &[7; 100]);
    }
    assert!(rig.is_paused());
    rig.pass(11_000);
    let reply = rig.replies().pop().unwrap();
    assert_eq!(reply["data"]["data"], 100_001);
    assert!(!rig.is_paused());
    assert!(rig.live.upload_stats().pauses > 100);
}

#[test]
fn the_first_reply_of_a_connection_tells_the_largest_frame() {
    let mut rig = rig(Receive::new(sum));
    rig.chunk(1, 0, true, b"abc");
    rig.chunk(2, 0, true, b"");
    let expected = json!([
        {"topic": "__upload", "event": "00000001",
            "data": {"ok": true, "data": 3, "__cap": 65_536}},
        {"topic": "__upload", "event": "00000002", "data": {"ok": true, "data": 0}},
    ]);
    assert_eq!(Value::Array(rig.replies()), expected);
}

#[test]
fn every_ending_is_answered_once_and_heard_by_the_function() {
    let mut rig = rig(Receive::new(sum).max_size(10));
    rig.chunk(1, 0, false, b"x");
    rig.pass(0);
    rig.cancel(1);
    rig.cancel(1);
    rig.chunk(2, 0, false, b"x");
    rig.pass(0);
    rig.chunk(2, 1, false, b"0123456789");
    rig.chunk(3, 0, false, b"x");
    rig.pass(0);
    rig.chunk(3, 2, true, b"");
    rig.chunk(4, 0, false, b"x");
    rig.pass(0);
    rig.bed.disconnect(rig.client);
    let replies = rig.replies();
    let codes: Vec<&str> = replies.iter().map(code).collect();
    assert_eq!(codes, ["CANCELLED", "PAYLOAD_TOO_LARGE", "INVALID_REQUEST"]);
    let ends = [
        "ended CANCELLED",
        "ended PAYLOAD_TOO_LARGE",
        "ended INVALID_REQUEST",
        "ended DISCONNECTED",
    ];
    assert_eq!(rig.live.app().state().take_log(), ends);
    assert_eq!(rig.live.uploads(), 0);
    rig.pass(400_000);
    assert_eq!(rig.bed.tasks(), 0);
}

#[test]
fn a_function_that_does_not_read_hears_of_the_end_too() {
    let waits = async |ctx: Cx, upload: Upload, _: Value| -> Result<(), _> {
        let reason = upload.cancelled().clone().await;
        // All of them, at any time, and while reading as well.
        let (one, two) = future::join(upload.cancelled(), upload.cancelled()).await;
        ctx.state()
            .log(format!("{} {} {}", reason.code(), one.code(), two.code()));
        Err(LiveError::new("LATE", "nobody hears this"))
    };
    let mut rig = rig(Receive::new(waits));
    rig.chunk(1, 0, false, b"x");
    rig.pass(5);
    rig.cancel(1);
    // The number is free at once, and the old function does not touch the new upload.
    rig.chunk(1, 0, false, b"y");
    assert_eq!(rig.replies().len(), 1);
    assert_eq!(rig.live.uploads(), 1);
    let log = rig.live.app().state().take_log();
    assert_eq!(log, ["CANCELLED CANCELLED CANCELLED"]);
}

#[test]
fn an_upload_is_a_stream_and_cancelled_ends_with_its_function() {
    let kept: Arc<Mutex<Option<millstream_live::Cancelled>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let collect = move |_: Cx, upload: Upload, _: Value| {
        *keep.lock() = Some(upload.cancelled());
        async move {
            let chunks: Vec<Result<Bytes, LiveError>> = upload.collect().await;
            Ok::<_, LiveError>(chunks.len())
        }
    };
    let mut rig = rig(Receive::new(collect));
    rig.chunk(1, 0, false, b"x");
    rig.chunk(1, 1, false, b"");
    rig.chunk(1, 2, true, b"y");
    assert_eq!(
        rig.replies()[0]["data"]["data"],
        2,
        "empty ones do not count"
    );
    let over = kept.lock().take().unwrap().now_or_never().unwrap();
    assert_eq!(over.message(), "upload is over");
}

#[test]
fn permission_is_asked_again_while_bytes_come() {
    let mut rig = rig(Receive::new(sum).reauth_every(10));
    rig.chunk(1, 0, false, &[0; 9]);
    rig.pass(0);
    rig.live
        .app()
        .state()
        .revoked
        .store(true, Ordering::Relaxed);
    rig.chunk(1, 1, false, &[0; 9]);
    assert!(rig.replies().is_empty(), "nine more bytes, not ten");
    rig.chunk(1, 2, false, &[0; 9]);
    assert_eq!(code(&rig.replies()[0]), "REVOKED");
    assert_eq!(rig.live.app().state().take_log(), ["ended REVOKED"]);
    rig.chunk(2, 0, true, b"");
    assert_eq!(code(&rig.replies()[0]), "REVOKED", "at the start as well");
}

#[test]
fn panics_and_functions_that_read_nothing_are_answered() {
    let moody = async |_: Cx, mut upload: Upload, _: Value| {
        let first = upload.next().await.transpose()?;
        assert!(first.is_none_or(|chunk| chunk != "panic"), "secret");
        Ok::<_, LiveError>(())
    };
    let mut rig = rig(Receive::new(moody));
    rig.chunk(1, 0, false, b"panic");
    rig.chunk(2, 0, false, b"enough");
    let replies = rig.replies();
    assert_eq!(code(&replies[0]), "INTERNAL_ERROR");
    assert!(!replies[0].to_string().contains("secret"));
    // Nothing is not null.
    assert_eq!(replies[1]["data"], json!({"ok": true}));
    rig.chunk(2, 1, true, b"late");
    assert!(rig.replies().is_empty());
}

#[test]
fn a_client_that_falls_silent_gives_its_place_back() {
    let mut limits = Limits::default();
    limits.uploads.idle_after = Duration::from_secs(1);
    let mut rig = Rig::new(app(Receive::new(sum)).limits(limits));
    rig.chunk(1, 0, false, b"x");
    rig.pass(900);
    rig.chunk(1, 1, false, b"x");
    rig.pass(900);
    assert!(rig.replies().is_empty());
    rig.pass(200);
    assert_eq!(code(&rig.replies()[0]), "TIMEOUT");
    rig.pass(2_000);
    assert_eq!(rig.bed.tasks(), 0, "nobody looks any more");
    rig.chunk(1, 0, false, b"x");
    rig.pass(1_100);
    assert_eq!(code(&rig.replies()[0]), "TIMEOUT", "somebody looks again");
}

#[test]
fn bytes_of_the_whole_process_are_bounded() {
    let mut limits = Limits::default();
    limits.upload_budget.waiting_bytes_max = 1_000;
    let never =
        async |_: Cx, upload: Upload, _: Value| -> Result<(), _> { Err(upload.cancelled().await) };
    let mut rig = Rig::new(app(Receive::new(never)).limits(limits));
    rig.chunk(1, 0, false, &[0; 500]);
    rig.pass(0);
    rig.chunk(2, 0, false, &[0; 500]);
    assert_eq!(code(&rig.replies()[0]), "OVERLOADED");
}

#[test]
fn limits_of_concurrency_count_in_the_order_of_opening() {
    let mut rig = rig(Receive::new(sum).per_connection(2));
    for number in 1..=3 {
        rig.chunk(number, 0, false, b"");
    }
    let replies = rig.replies();
    assert_eq!(replies.len(), 1);
    assert_eq!(
        (code(&replies[0]), &replies[0]["event"]),
        ("TOO_MANY_UPLOADS", &json!("00000003"))
    );
    let mut rig = self::rig(Receive::new(sum).per_process(1));
    rig.chunk(1, 0, false, b"");
    rig.chunk(2, 0, false, b"");
    assert_eq!(code(&rig.replies()[0]), "TOO_MANY_UPLOADS");
    rig.cancel(1);
    rig.chunk(2, 0, true, b"");
    let replies = rig.replies();
    let codes: Vec<&str> = replies.iter().map(code).collect();
    assert_eq!(codes, ["CANCELLED", "ok"]);
}

#[test]
fn a_connection_with_too_much_under_way_opens_nothing_but_goes_on_with_what_runs() {
    let mut limits = Limits::default();
    limits.messages_in_flight_max = 1;
    let mut rig = Rig::new(app(Receive::new(sum)).limits(limits));
    rig.chunk(1, 0, false, b"x");
    rig.open(2, "up/run");
    let refused = rig.replies();
    assert_eq!((code(&refused[0]), refused.len()), ("OVERLOADED", 1));
    assert_eq!(refused[0]["event"], "00000002");
    rig.chunk(1, 1, false, b"y");
    assert!(rig.replies().is_empty());
    rig.call(r#"{"rpc":"a/b","id":"7"}"#, b"  payload");
    let refused = rig.replies();
    assert_eq!((code(&refused[0]), refused.len()), ("OVERLOADED", 1));
    assert_eq!(refused[0]["event"], "7");
    rig.chunk(1, 2, true, b"z");
    assert_eq!(rig.replies()[0]["data"]["data"], 3);
    rig.call(r#"{"rpc":"a/b","id":"8"}"#, b"  payload");
    assert_eq!(code(&rig.replies()[0]), "NOT_FOUND", "there is room again");
}

#[test]
fn a_result_that_no_client_would_read_becomes_a_failure() {
    let big = async |_: Cx, _: Upload, _: Value| Ok("x".repeat(2_000_000));
    let mut rig = rig(Receive::new(big));
    rig.chunk(1, 0, true, b"");
    assert_eq!(code(&rig.replies()[0]), "PAYLOAD_TOO_LARGE");
}

#[test]
fn options_that_are_zero_are_found_when_the_application_is_built() {
    type Change = fn(Receive) -> Receive;
    let changes: [(&str, Change); 5] = [
        ("max_size", |upload| upload.max_size(0)),
        ("per_connection", |upload| upload.per_connection(0)),
        ("per_process", |upload| upload.per_process(0)),
        ("buffered_chunks", |upload| upload.buffered_chunks(0)),
        ("reauth_every", |upload| upload.reauth_every(0)),
    ];
    for (option, change) in changes {
        let errors = app(change(Receive::new(sum))).build().unwrap_err();
        assert_eq!(errors.0[0].problem, Problem::Zero(option));
    }
    let binary = BinaryCall::new(async |_: Cx, _: Bytes| Ok(())).max_size(0);
    let module = Module::new("m").binary_with("b", binary);
    let errors = App::new(State::default()).module(module).build();
    assert_eq!(errors.unwrap_err().0[0].problem, Problem::Zero("max_size"));
}

#[test]
fn scopes_and_layers_hold_for_bytes_as_for_everything() {
    let scoped = |call: millstream_live::Call<State, Somebody>| {
        call.scoped(async |ctx, args| {
            let named = args.get(0).is_some();
            Ok(named && ctx.payload().is_none_or(|bytes| bytes.len() < 3))
        })
    };
    let module = Module::new("m")
        .binary_with(
            "b",
            BinaryCall::new(async |_: Cx, bytes: Bytes, _: Value| Ok(bytes.len())).options(scoped),
        )
        .upload_with("u", Receive::new(sum).options(scoped));
    let app = App::new(State::default())
        .module(module)
        .layer(|ctx: Cx, next| async move {
            ctx.state().log(ctx.path());
            next.run(ctx).await
        });
    let mut rig = Rig::new(app);
    let header = r#"{"rpc":"m/b","id":"1","args":[1]}"#;
    rig.call(header, b"ab");
    rig.call(header, b"abc");
    rig.open(2, "m/u");
    let replies = rig.replies();
    assert_eq!(replies[0]["data"], json!({"ok": true, "data": 2}));
    assert_eq!(code(&replies[1]), "FORBIDDEN");
    assert_eq!(code(&replies[2]), "FORBIDDEN", "no arguments");
    assert_eq!(rig.live.app().state().take_log(), ["m/b", "m/b", "m/u"]);
}
