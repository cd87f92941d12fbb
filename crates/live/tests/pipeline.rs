//! What runs around a call, in which order, and what it costs.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "every test uses another part of it")]
mod common;

use std::sync::Arc;

use common::{Recorder, ask, caller};
use millstream_live::{App, Builder, Ctx, Live, LiveError, Module, Next, Problem};
use parking_lot::Mutex;

type Cx = Ctx<Log, String>;

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

fn live(app: Builder<Log, String>) -> Live<Log, String> {
    Live::new(app.build().unwrap(), Arc::new(Recorder::default()))
}

fn run(live: &Live<Log, String>, user: &str, frame: &str) -> String {
    let (_, reply) = ask(live, &caller(Some(user.to_owned())), frame.as_bytes());
    reply.map_or_else(String::new, |reply| reply.data.as_str().to_owned())
}

const CALL: &str = r#"{"rpc":"mw/call","id":"k","args":[]}"#;

#[test]
fn layers_go_around_guard_hook_and_function() {
    let live = live(app());
    assert_eq!(
        run(&live, "ada", CALL),
        r#"{"id":"k","ok":true,"data":"done"}"#
    );
    let log = live.app().state().0.lock().clone();
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
    assert_eq!(log, expected);
}

#[test]
fn a_guard_stops_everything_inside_it_and_layers_still_see_the_end() {
    let live = live(app());
    assert_eq!(
        run(&live, "denied", CALL),
        r#"{"id":"k","ok":false,"code":"DENIED","error":"guard says no"}"#
    );
    let log = live.app().state().0.lock().clone();
    assert_eq!(
        log,
        ["a>", "b>", "guard 1", "guard 2 sees Some(7)", "<b", "<a"]
    );
}

#[test]
fn a_layer_may_stop_a_call_or_replace_its_outcome() {
    let stopped = live(
        app().layer(async |_: Cx, _: Next<Log, String>| Err(LiveError::new("MW_STOP", "stopped"))),
    );
    assert!(run(&stopped, "ada", CALL).contains("MW_STOP"));
    let replaced = live(app().layer(|ctx: Cx, next: Next<Log, String>| async move {
        next.run(ctx).await?;
        Ok(millstream_live::Outcome::Value(None))
    }));
    assert_eq!(run(&replaced, "ada", CALL), r#"{"id":"k","ok":true}"#);
}

#[test]
fn a_panic_costs_its_own_call_alone_and_its_text_stays_here() {
    let live = live(app());
    let frame = r#"{"rpc":"mw/panics","id":"p","args":["secret"]}"#;
    let reply = run(&live, "ada", frame);
    assert!(
        reply.contains("INTERNAL_ERROR") && !reply.contains("secret"),
        "{reply}"
    );
    let log = live.app().state().0.lock().clone();
    assert!(
        log.iter()
            .any(|line| line.starts_with("mw/panics: ") && line.contains("secret"))
    );
    assert!(run(&live, "ada", CALL).contains("done"));
}

#[test]
fn a_panicking_error_hook_costs_nobody_a_reply() {
    let live = live(app().on_error(|_, _| panic!("the hook")));
    let frame = r#"{"rpc":"mw/panics","id":"p","args":["x"]}"#;
    assert!(run(&live, "ada", frame).contains("INTERNAL_ERROR"));
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
    // Arguments; context; the call's future and the function's; result; reply.
    assert!(first <= 8, "{first}");
}
