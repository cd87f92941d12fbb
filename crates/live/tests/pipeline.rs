//! What runs around a call, in which order, and what it costs.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "every test uses another part of it")]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Recorder, ask, caller};
use millstream_core::RawJson;
use millstream_live::testing::{Outcome, Testbed, assert_denied};
use millstream_live::{
    App, Begun, Builder, Call, Ctx, Live, LiveError, Module, Next, Problem, Rate, Stream,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Cx = Ctx<Log, String>;
type Bed = Testbed<Log, String>;

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn add(&self, line: &str) {
        self.0.lock().push(line.to_owned());
    }
}

async fn call(ctx: Cx) -> Result<&'static str, LiveError> {
    ctx.state().add("run");
    Ok("done")
}

fn app() -> Builder<Log, String> {
    let module = Module::new("mw")
        .guard(async |ctx: Cx| {
            ctx.state().add("guard 1");
            ctx.set(7_u32);
            Ok(())
        })
        .guard(async |ctx: Cx| {
            ctx.state()
                .add(&format!("guard 2 sees {:?}", ctx.get::<u32>()));
            if ctx.user().is_some_and(|user| user == "denied") {
                return Err(LiveError::new("DENIED", "guard says no"));
            }
            Ok(())
        })
        .call("call", call)
        .call("panics", async |_: Cx, text: String| -> Result<(), _> {
            panic!("{text}")
        });
    let trace = |name: &'static str| {
        move |ctx: Cx, next: Next<Log, String>| async move {
            ctx.state().add(&format!("{name}>"));
            let outcome = next.run(ctx.clone()).await;
            ctx.state().add(&format!("<{name}"));
            outcome
        }
    };
    App::new(Log::default())
        .module(module)
        .layer(trace("a"))
        .layer(trace("b"))
        .before_execute(async |ctx: Cx, _| {
            ctx.state().add("before");
            Ok(())
        })
        .on_error(|ctx, error| ctx.state().add(&format!("{}: {error}", ctx.path())))
}

/// A testbed, somebody to call from it, and what became of the call.
fn run(app: Builder<Log, String>, user: &str, path: &str, args: Value) -> (Bed, Outcome) {
    let mut t = Testbed::new(app.build().unwrap());
    let caller = t.connect(user.to_owned());
    let outcome = t.call(caller, path, args);
    (t, outcome)
}

#[test]
fn layers_go_around_guard_hook_and_function() {
    let (t, outcome) = run(app(), "ada", "mw/call", json!([]));
    assert_eq!(outcome, Ok(json!("done")));
    let expected = [
        "a>",
        "b>",
        "guard 1",
        "guard 2 sees Some(7)",
        "before",
        "run",
        "<b",
        "<a",
    ];
    assert_eq!(*t.state().0.lock(), expected);
}

#[test]
fn a_guard_stops_everything_inside_it_and_layers_still_see_the_end() {
    let (t, outcome) = run(app(), "denied", "mw/call", json!([]));
    assert_eq!(assert_denied(outcome, "DENIED").message, "guard says no");
    assert_eq!(
        *t.state().0.lock(),
        ["a>", "b>", "guard 1", "guard 2 sees Some(7)", "<b", "<a"]
    );
}

#[test]
fn a_layer_may_stop_a_call_or_replace_its_outcome() {
    let stops =
        app().layer(async |_: Cx, _: Next<Log, String>| Err(LiveError::new("MW_STOP", "stopped")));
    assert_denied(run(stops, "ada", "mw/call", json!([])).1, "MW_STOP");
    let replaces = app().layer(|ctx: Cx, next: Next<Log, String>| async move {
        next.run(ctx).await?;
        Ok(millstream_live::Outcome::Value(None))
    });
    let (t, outcome) = run(replaces, "ada", "mw/call", json!([]));
    assert_eq!(outcome, Ok(Value::Null));
    let reply = r#"{"topic":"__rpc","event":"i0","data":{"id":"i0","ok":true}}"#;
    assert!(
        t.frames(t.client(0)).any(|frame| frame == reply),
        "no value"
    );
}

#[test]
fn a_panic_costs_its_own_call_alone_and_its_text_stays_here() {
    let (mut t, outcome) = run(app(), "ada", "mw/panics", json!(["secret"]));
    let caller = t.client(0);
    assert!(
        !assert_denied(outcome, "INTERNAL_ERROR")
            .message
            .contains("secret")
    );
    assert!(t.frames(caller).all(|frame| !frame.contains("secret")));
    let told = |line: &String| line.starts_with("mw/panics: ") && line.contains("secret");
    assert!(t.state().0.lock().iter().any(told));
    assert!(t.errors()[0].message.contains("secret"));
    assert_eq!(t.call(caller, "mw/call", ()), Ok(json!("done")));
}

#[test]
fn a_panicking_error_hook_costs_nobody_a_reply() {
    let hook = app().on_error(|_, _| panic!("the hook"));
    let (_, outcome) = run(hook, "ada", "mw/panics", json!(["x"]));
    assert_denied(outcome, "INTERNAL_ERROR");
}

#[test]
fn a_layer_in_the_place_of_a_stream_s_reply_keeps_no_events_back() {
    let app = App::new(())
        .module(Module::new("m").stream("rows", Stream::fixed("rows")))
        .layer(|ctx: Ctx<(), String>, next: Next<(), String>| async move {
            next.run(ctx).await?;
            Ok(millstream_live::Outcome::Value(None))
        });
    let mut t = Testbed::new(app.build().unwrap());
    let ada = t.connect("ada".to_owned());
    t.send_text(ada, r#"{"rpc":"m/rows","id":"x","args":[],"stream":true}"#);
    t.settle();
    t.publish("rows", "created", &json!({"id": 1}));
    t.settle();
    let frames: Vec<&str> = t.frames(ada).collect();
    assert!(
        frames
            .iter()
            .any(|frame| frame.contains(r#""event":"created""#)),
        "{frames:?}"
    );
}

#[test]
fn every_call_has_an_id_of_its_own_when_it_asks() {
    let ids = async |ctx: Ctx<(), String>| {
        let again = ctx.clone();
        Ok([ctx.call_id(), again.call_id(), ctx.request_id()])
    };
    let app = App::new(()).module(Module::new("m").call("ids", ids));
    let mut t = Testbed::new(app.build().unwrap());
    let ada = t.connect("ada".to_owned());
    let calls = [("m/ids", json!([])), ("m/ids", json!([]))];
    let answers = t.batch(ada, &calls).into_iter();
    let answers: Vec<[String; 3]> = answers
        .map(|answer| serde_json::from_value(answer.unwrap()).unwrap())
        .collect();
    for [id, again, request] in &answers {
        assert_eq!(id, again);
        assert!(id.starts_with(&format!("{request}-")), "{id} of {request}");
    }
    assert_ne!(answers[0][0], answers[1][0]);
}

#[test]
fn everything_wrong_is_found_before_the_first_request() {
    let errors = App::<(), ()>::new(())
        .module(Module::new("a.b").call("c", async |_: Ctx<(), ()>| Ok(())))
        .module(Module::new("m").call("c", async |_: Ctx<(), ()>| Ok(())))
        .module(Module::new("m").call("c", async |_: Ctx<(), ()>| Ok(())))
        .build()
        .unwrap_err();
    let found: Vec<(&str, &Problem)> = errors
        .0
        .iter()
        .map(|error| (&*error.path, &error.problem))
        .collect();
    assert_eq!(found, [("a.b/c", &Problem::Path), ("m/c", &Problem::Twice)]);
    assert!(
        errors.to_string().starts_with("[millstream] a.b/c: "),
        "{errors}"
    );
}

#[test]
fn a_call_that_does_not_wait_allocates_a_fixed_number_of_times() {
    let plain = App::<(), ()>::new(())
        .module(Module::new("rpc").call("echo", async |_: Ctx<(), ()>, x: f64| Ok(x)))
        .build()
        .unwrap();
    let live = Live::new(plain, Arc::new(Recorder::default()));
    let caller = caller(None);
    let frame = br#"{"rpc":"rpc/echo","id":"k1","args":[1.5]}"#;
    let count = || allocation_counter::measure(|| drop(ask(&live, &caller, frame))).count_total;
    let first = count();
    assert_eq!(count(), first);
    // The caller; context; the function's future; the result and what shares it; the reply and the
    // future that brings it.
    assert!(first <= 7, "{first}");
    let frame = str::from_utf8(frame).unwrap();
    let mut calls = live.calls(caller);
    let mut begin = || {
        let begun = allocation_counter::measure(|| match calls.begin_text(frame) {
            Begun::Answered(Some(answer)) => drop(answer),
            other => panic!("{other:?}"),
        });
        begun.count_total
    };
    // A host that writes answers itself pays for future and result alone, and once for the context.
    let (first, second) = (begin(), begin());
    assert!(first <= 4, "{first}");
    assert!(second <= 3, "{second}");
    assert_eq!(begin(), second);
}

#[test]
fn a_limited_call_that_passes_costs_one_allocation_for_each_policy_at_most() {
    let plain = async |_: Ctx<(), ()>| Ok(RawJson::NULL);
    let rate = Rate::new(u32::MAX, Duration::from_secs(1));
    let module = Module::new("m")
        .call("plain", plain)
        .call_with("limited", Call::new(plain).rate_limit(rate));
    let app = App::<(), ()>::new(()).module(module).build().unwrap();
    let live = Live::new(app, Arc::new(Recorder::default()));
    let caller = caller(None);
    let count = |path: &str| {
        let frame = format!(r#"{{"rpc":"{path}","id":"k1"}}"#);
        let call = || drop(ask(&live, &caller, frame.as_bytes()));
        call();
        allocation_counter::measure(call).count_total
    };
    let (plain, limited) = (count("m/plain"), count("m/limited"));
    // The chain, the start of the function, and the future around both.
    assert!(limited <= plain + 3, "{limited} {plain}");
}
