//! Calls of one connection in a row: each is on its own, though they share memory.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "every test uses another part of it")]
mod common;

use std::sync::Arc;

use common::{Recorder, caller};
use futures_util::future::pending;
use millstream_live::{App, Begun, Calls, Ctx, Live, LiveError, Module};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Context = Ctx<Kept, String>;

/// What functions keep beyond their calls.
#[derive(Default)]
struct Kept(Mutex<Vec<Context>>);

/// A value that somebody can see being dropped.
#[derive(Clone)]
struct Token(#[allow(dead_code, reason = "counted by its clones")] Arc<()>);

fn live(token: &Arc<()>) -> Live<Kept, String> {
    let seen = async |ctx: Context| {
        Ok::<_, LiveError>(json!({
            "user": ctx.user(),
            "path": ctx.path(),
            "cursor": ctx.cursor().map(|json| json.as_str().to_owned()),
            "key": ctx.idempotency_key().map(|json| json.as_str().to_owned()),
            "left": ctx.get::<Token>().is_some(),
            "call": ctx.call_id(),
        }))
    };
    let leaving = {
        let token = Arc::clone(token);
        move |ctx: &Context| ctx.set(Token(Arc::clone(&token)))
    };
    let (leave, keep, fail, wait) = (
        leaving.clone(),
        leaving.clone(),
        leaving.clone(),
        leaving.clone(),
    );
    let module = Module::new("m")
        .call("seen", seen)
        .call("other", seen)
        .call("leave", move |ctx: Context| {
            leave(&ctx);
            async move { seen(ctx).await }
        })
        .call("keep", move |ctx: Context| {
            keep(&ctx);
            async move {
                ctx.state().0.lock().push(ctx.clone());
                seen(ctx).await
            }
        })
        .call("fail", move |ctx: Context| {
            fail(&ctx);
            async move {
                assert!(!ctx.call_id().is_empty());
                panic!("on purpose");
                #[allow(unreachable_code, reason = "says what it would give")]
                Ok::<(), LiveError>(())
            }
        })
        .call("wait", move |ctx: Context| {
            wait(&ctx);
            async move {
                let _ctx = ctx;
                pending::<Result<(), LiveError>>().await
            }
        });
    let app = App::new(Kept::default()).module(module).build().unwrap();
    Live::new(app, Arc::new(Recorder::default()))
}

/// Calls, and gives what the function saw.
fn call(calls: &mut Calls<Kept, String>, path: &str, rest: &str) -> Option<Value> {
    let frame = format!(r#"{{"rpc":"m/{path}","id":"k1","args":[]{rest}}}"#);
    match calls.begin_text(&frame) {
        Begun::Answered(answer) => {
            let data = answer?.data()?.as_str().to_owned();
            Some(serde_json::from_str(&data).unwrap())
        }
        Begun::Claimed(_) => None,
        Begun::Unclaimed => panic!("{frame} is a call"),
    }
}

const NOTHING: [&str; 3] = ["cursor", "key", "left"];

fn is_fresh(seen: &Value) -> bool {
    NOTHING
        .iter()
        .all(|name| matches!(seen[name], Value::Null | Value::Bool(false)))
}

#[test]
fn a_call_finds_nothing_of_the_one_before() {
    let token = Arc::new(());
    let live = live(&token);
    let mut calls = live.calls(caller(Some("ann".to_owned())));
    let brings = r#","cursor":7,"idempotencyKey":"once""#;
    let mut ids = Vec::new();
    for path in ["leave", "keep", "fail", "wait"] {
        if let Some(seen) = call(&mut calls, path, brings) {
            assert_eq!(seen["path"], format!("m/{path}"));
            assert_eq!(
                (&seen["cursor"], &seen["key"]),
                (&json!("7"), &json!("\"once\""))
            );
            assert_eq!(seen["left"], true);
            ids.push(seen["call"].clone());
        }
        for path in ["seen", "other", "seen"] {
            let seen = call(&mut calls, path, "").unwrap();
            assert!(is_fresh(&seen), "{seen}");
            assert_eq!(seen["path"], format!("m/{path}"));
            ids.push(seen["call"].clone());
        }
    }
    let count = ids.len();
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), count, "each call has an id of its own");
}

#[test]
fn what_a_call_has_left_is_dropped_when_it_ends() {
    let token = Arc::new(());
    let live = live(&token);
    let mut calls = live.calls(caller(Some("ann".to_owned())));
    // Two: the application's own, which its functions share, and this one.
    let idle = Arc::strong_count(&token);
    for path in ["leave", "fail"] {
        call(&mut calls, path, "");
        assert_eq!(Arc::strong_count(&token), idle, "{path}");
    }
    let waiting = calls.begin_text(r#"{"rpc":"m/wait","id":"k1","args":[]}"#);
    assert_eq!(Arc::strong_count(&token), idle + 1);
    drop(waiting);
    assert_eq!(Arc::strong_count(&token), idle);
    call(&mut calls, "keep", "");
    assert_eq!(Arc::strong_count(&token), idle + 1);
    live.app().state().0.lock().clear();
    assert_eq!(Arc::strong_count(&token), idle);
}

#[test]
fn a_context_that_is_kept_stays_what_it_was() {
    let token = Arc::new(());
    let live = live(&token);
    let mut calls = live.calls(caller(Some("ann".to_owned())));
    call(&mut calls, "keep", r#","cursor":7"#);
    calls.turn_to(caller(Some("bob".to_owned())));
    call(&mut calls, "keep", "");
    call(&mut calls, "seen", "");
    let kept = live.app().state().0.lock();
    let facts = |ctx: &Context| {
        let cursor = ctx.cursor().map(|cursor| cursor.as_str().to_owned());
        (ctx.user().unwrap().clone(), cursor, ctx.path().to_owned())
    };
    let kept: Vec<_> = kept.iter().map(facts).collect();
    let path = "m/keep".to_owned();
    assert_eq!(
        kept,
        [
            ("ann".to_owned(), Some("7".to_owned()), path.clone()),
            ("bob".to_owned(), None, path),
        ]
    );
}

#[test]
fn calls_turn_to_another_caller_whatever_became_of_the_last_context() {
    let token = Arc::new(());
    let live = live(&token);
    let mut calls = live.calls(caller(Some("ann".to_owned())));
    let mut waiting = Vec::new();
    for (path, user) in [
        ("seen", "bob"),
        ("keep", "cid"),
        ("fail", "dan"),
        ("wait", "eve"),
        ("seen", "fay"),
    ] {
        let frame = format!(r#"{{"rpc":"m/{path}","id":"k1","args":[]}}"#);
        if let Begun::Claimed(running) = calls.begin_text(&frame) {
            waiting.push(running);
        }
        calls.turn_to(caller(Some(user.to_owned())));
        // Nobody has the last one any more, now that it is too late.
        live.app().state().0.lock().clear();
        waiting.clear();
        for _ in 0..2 {
            assert_eq!(call(&mut calls, "seen", "").unwrap()["user"], user);
        }
        assert_eq!(calls.caller().client.user().unwrap(), user);
    }
}
