//! Uploads through the whole pipeline: credit, endings, permission, and what hostile clients do.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "every test uses another part of it")]
mod common;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::client::Rig;
use futures_util::{StreamExt, future};
use millstream_live::{
    App, BinaryCall, Builder, Ctx, Handled, Limits, LiveError, Module, Problem, Upload, UploadCall,
};
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

fn rig(upload: Receive) -> Rig<State, Somebody> {
    Rig::new(app(upload).build().unwrap(), Somebody)
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
    assert!(rig.world.is_paused(rig.conn()));
    rig.pass(11_000);
    let reply = rig.replies().pop().unwrap();
    assert_eq!(reply["data"]["data"], 100_001);
    assert!(!rig.world.is_paused(rig.conn()));
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
    drop(rig.live.handle_closed(rig.conn()));
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
    assert_eq!(rig.world.tasks(), 0);
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
    let over = common::finish(Box::pin(kept.lock().take().unwrap())).unwrap();
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
    let app = app(Receive::new(sum)).limits(limits).build().unwrap();
    let mut rig = Rig::new(app, Somebody);
    rig.chunk(1, 0, false, b"x");
    rig.pass(900);
    rig.chunk(1, 1, false, b"x");
    rig.pass(900);
    assert!(rig.replies().is_empty());
    rig.pass(200);
    assert_eq!(code(&rig.replies()[0]), "TIMEOUT");
    rig.pass(2_000);
    assert_eq!(rig.world.tasks(), 0, "nobody looks any more");
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
    let app = app(Receive::new(never)).limits(limits).build().unwrap();
    let mut rig = Rig::new(app, Somebody);
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
    let mut rig = rig(Receive::new(sum));
    rig.chunk(1, 0, false, b"x");
    rig.pass(0);
    let refuse = |rig: &Rig<State, Somebody>, message: &[u8]| {
        let Handled::Claimed(done) = rig.live.refuse_message(&rig.caller, message) else {
            panic!("claimed");
        };
        common::finish(done).unwrap()
    };
    let open = b"\x01\x03\0\0\0\x02\0\0\0\0\0\x10{\"rpc\":\"up/run\"}";
    assert!(refuse(&rig, open).is_none());
    assert_eq!(code(&rig.replies()[0]), "OVERLOADED");
    assert!(refuse(&rig, b"\x01\x02\0\0\0\x01\0\0\0\x01yz").is_none());
    assert_eq!(rig.replies()[0]["data"]["data"], 3);
    let call = b"\0\0\x17{\"rpc\":\"a/b\",\"id\":\"7\"}  payload";
    let reply = refuse(&rig, call).unwrap();
    assert!(reply.event == "7" && reply.data.as_str().contains("OVERLOADED"));
}

#[test]
fn a_function_that_is_dropped_before_it_ran_is_answered() {
    let mut rig = rig(Receive::new(sum));
    let open = b"\x01\x03\0\0\0\x02\0\0\0\0\0\x10{\"rpc\":\"up/run\"}";
    drop(rig.live.handle_message(&rig.caller, open));
    assert_eq!(code(&rig.replies()[0]), "INTERNAL_ERROR");
    assert_eq!(rig.live.uploads(), 0);
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
    let mut rig = Rig::new(app.build().unwrap(), Somebody);
    let call = |payload: &str| {
        let header = r#"{"rpc":"m/b","id":"1","args":[1]}"#;
        format!("\0\0{}{header}{payload}", char::from(header.len() as u8)).into_bytes()
    };
    assert!(rig.receive(&call("ab")) && rig.receive(&call("abc")));
    let open = b"\x01\x03\0\0\0\x02\0\0\0\0\0\x0d{\"rpc\":\"m/u\"}";
    assert!(rig.receive(open));
    let replies = rig.replies();
    assert_eq!(replies[0]["data"], json!({"ok": true, "data": 2}));
    assert_eq!(code(&replies[1]), "FORBIDDEN");
    assert_eq!(code(&replies[2]), "FORBIDDEN", "no arguments");
    assert_eq!(rig.live.app().state().take_log(), ["m/b", "m/b", "m/u"]);
}
