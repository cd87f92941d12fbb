//! What is wrapped around calls: limits, locks, remembered results, breakers, deadlines.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "common/callers.rs"]
mod callers;

use std::time::Duration;

use callers::{Callers, Who, caller, outcome};
use millstream_core::ConnId;
use millstream_live::{
    App, Args, Breaker, BreakerConfig, BreakerState, Builder, Call, Ctx, Idempotent, Limits,
    LiveError, Lock, Module, Problem, Rate, RateLimits, Stream,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

type Cx = Ctx<Log, String>;
type OurCall = Call<Log, String>;
type Host = Callers<Log>;

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

fn log(ctx: &Cx, line: impl Into<String>) {
    ctx.state().0.lock().push(line.into());
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits, then answers with its tag; some tags go wrong.
async fn work(ctx: Cx, _: Option<Value>, wait: u64, tag: String) -> Result<String, LiveError> {
    log(&ctx, format!("start {tag}"));
    if wait > 0 {
        ctx.platform().sleep(ms(wait)).await;
    }
    log(&ctx, format!("end {tag}"));
    match &*tag {
        "bad" => Err(LiveError::new("BAD", "")),
        "panic" => panic!("on purpose"),
        "forbidden" => Err(LiveError::new("FORBIDDEN", "")),
        _ => Ok(tag),
    }
}

fn builder(calls: impl IntoIterator<Item = (&'static str, OurCall)>) -> Builder<Log, String> {
    let module = calls
        .into_iter()
        .fold(Module::new("m"), |module, (name, call)| {
            module.call_with(name, call)
        });
    App::new(Log::default()).module(module)
}

fn host(calls: impl IntoIterator<Item = (&'static str, OurCall)>) -> Host {
    Host::new(builder(calls))
}

/// Notes how each call ends, which nobody is told whose connection is gone.
fn told(builder: Builder<Log, String>) -> Builder<Log, String> {
    builder.layer(|ctx: Cx, next| async move {
        let outcome = next.run(ctx.clone()).await;
        let code = outcome.as_ref().map_or_else(LiveError::code, |_| "ok");
        log(&ctx, format!("reply {code}"));
        outcome
    })
}

fn args(key: &str, wait: u64, tag: &str) -> String {
    format!(r#","args":[{},{wait},"{tag}"]"#, json!(key))
}

fn lines(host: &Host) -> Vec<String> {
    std::mem::take(&mut *host.live.app().state().0.lock())
}

fn problems(builder: Builder<Log, String>) -> Vec<(String, Problem)> {
    let errors = builder.build().unwrap_err().0.into_iter();
    errors
        .map(|error| (error.path.to_string(), error.problem))
        .collect()
}

#[test]
fn a_limit_follows_the_two_windows_to_the_millisecond() {
    let mut host = host([("c", Call::new(work).rate_limit(Rate::new(3, ms(1_000))))]);
    let ada = caller(1, Some("ada"));
    let admitted = [
        0, 10, 20, 1_001, 1_350, 1_700, 2_300, 2_400, 2_700, 5_000, 5_001, 5_002,
    ];
    let refused = [
        (30, 970),
        (500, 500),
        (999, 1),
        (1_000, 1_000),
        (1_200, 800),
        (1_300, 700),
        (1_990, 10),
        (2_000, 1_000),
        (5_003, 997),
    ];
    let mut steps: Vec<(u64, Option<u64>)> = admitted.map(|at| (at, None)).to_vec();
    steps.extend(refused.map(|(at, wait)| (at, Some(wait))));
    steps.sort_unstable();
    let mut now = 0;
    for (at, wait) in steps {
        host.advance(at - now);
        now = at;
        let reply = host.ask(&ada, "m/c", &args("", 0, "x"));
        assert_eq!(reply["retryAfter"].as_u64(), wait, "at {at}: {reply}");
    }
    assert_eq!(host.live.stats().rate_limited, 9);
}

#[test]
fn callers_are_told_apart_by_user_else_by_connection_and_never_meet() {
    let conn = async |ctx: Cx| Ok(ctx.conn().map_or(0, ConnId::to_u64).to_string());
    let mut host = host([
        ("c", Call::new(work).rate_limit(Rate::new(1, ms(1_000)))),
        ("d", Call::new(work).rate_limit(Rate::new(1, ms(1_000)))),
        ("conn", Call::new(conn)),
    ]);
    let guest = caller(3, None);
    let number = host.ask(&guest, "m/conn", "")["data"].clone();
    let number = number.as_str().unwrap();
    let mut ask =
        |caller: &Who, path: &str| outcome(&host.ask(caller, path, &args("", 0, "x"))).to_owned();
    assert_eq!(ask(&caller(1, Some("ada")), "m/c"), "ok");
    assert_eq!(
        ask(&caller(2, Some("ada")), "m/c"),
        "RATE_LIMITED",
        "another tab"
    );
    assert_eq!(ask(&caller(1, Some("ada")), "m/d"), "ok", "another path");
    assert_eq!(ask(&guest, "m/c"), "ok");
    assert_eq!(ask(&guest, "m/c"), "RATE_LIMITED");
    assert_eq!(ask(&caller(4, None), "m/c"), "ok", "another guest");
    assert_eq!(ask(&caller(5, Some(number)), "m/c"), "ok", "no guest");
    for expected in ["ok", "RATE_LIMITED"] {
        let reply = host.ask_as_nobody("m/c", &args("", 0, "x"));
        assert_eq!(outcome(&reply), expected);
    }
}

#[test]
fn a_full_table_locks_nobody_out() {
    let rate = Rate::new(1, ms(60_000)).callers_max(8);
    let mut host = host([("c", Call::new(work).rate_limit(rate))]);
    for number in 0..1_000 {
        let reply = host.ask(&caller(number, None), "m/c", &args("", 0, "x"));
        assert_eq!(outcome(&reply), "ok", "{number}");
    }
    assert!(host.live.gauges().callers_counted <= 8);
}

#[test]
fn a_key_of_ones_own_groups_callers_and_none_falls_back() {
    let call = Call::new(work).rate_limit_by(Rate::new(1, ms(1_000)), |ctx: &Cx| {
        let user = ctx.user()?;
        user.split_once('@').map(|(_, org)| org.to_owned())
    });
    let mut host = host([("c", call)]);
    let mut ask = |user| {
        let reply = host.ask(&caller(1, Some(user)), "m/c", &args("", 0, "x"));
        outcome(&reply).to_owned()
    };
    assert_eq!(ask("ada@mill"), "ok");
    assert_eq!(ask("bob@mill"), "RATE_LIMITED");
    assert_eq!(ask("eve@dam"), "ok");
    assert_eq!(ask("mill"), "ok", "a user named like an organization");
    assert_eq!(ask("mill"), "RATE_LIMITED");
}

#[test]
fn central_limits_are_exempt_own_rule_default_in_this_order() {
    let rate = |points| Rate::new(points, ms(1_000));
    let app = builder([
        ("own", Call::new(work).rate_limit(rate(3))),
        ("ruled", Call::new(work)),
        ("free", Call::new(work)),
        ("other", Call::new(work)),
        ("another", Call::new(work)),
    ])
    .module(
        Module::new("s")
            .stream("one", Stream::fixed("one"))
            .stream("two", Stream::fixed("two")),
    )
    .rate_limits(
        RateLimits::new()
            .default_rate(rate(1))
            .rule("m/ruled", rate(2))
            .rule("m/free", rate(1))
            .rule("m/own", rate(1))
            .exempt("m/free")
            .subscriptions(rate(2)),
    );
    let mut host = Host::new(app);
    let ada = caller(1, Some("ada"));
    let mut admitted = |path: &str| {
        (0..5)
            .filter(|_| outcome(&host.ask(&ada, path, &args("", 0, "x"))) == "ok")
            .count()
    };
    assert_eq!(admitted("m/own"), 3);
    assert_eq!(admitted("m/ruled"), 2);
    assert_eq!(admitted("m/free"), 5);
    assert_eq!(
        (admitted("m/other"), admitted("m/another")),
        (1, 1),
        "each path by itself"
    );
    let mut subscribe = |path: &str| {
        let reply = host.ask(&ada, path, r#","stream":true"#);
        outcome(&reply).to_owned()
    };
    assert_eq!(subscribe("s/one"), "ok");
    assert_eq!(subscribe("s/two"), "ok");
    assert_eq!(subscribe("s/one"), "RATE_LIMITED", "all streams together");
}

#[test]
fn guards_come_before_central_limits_and_refusals_do_not_count() {
    let module = Module::new("g")
        .guard(async |ctx: Cx| match ctx.user() {
            Some(user) if user == "in" => Ok(()),
            _ => Err(ctx.denied()),
        })
        .call("c", async |_: Cx| Ok(()));
    let limits = RateLimits::new().rule("g/c", Rate::new(1, ms(1_000)));
    let app = App::new(Log::default()).module(module).rate_limits(limits);
    let mut host = Host::new(app);
    for _ in 0..3 {
        let reply = host.ask(&caller(1, Some("out")), "g/c", "");
        assert_eq!(outcome(&reply), "FORBIDDEN");
    }
    assert_eq!(outcome(&host.ask(&caller(1, Some("in")), "g/c", "")), "ok");
}

#[test]
fn the_first_named_is_the_outermost() {
    let rate = || Rate::new(1, ms(60_000));
    let by_key = || Lock::by(|key: String| key).max_wait(ms(10));
    let mut host = host([
        (
            "lockFirst",
            Call::new(work).lock(by_key()).rate_limit(rate()),
        ),
        (
            "rateFirst",
            Call::new(work).rate_limit(rate()).lock(by_key()),
        ),
    ]);
    let ada = caller(1, Some("ada"));
    for path in ["m/lockFirst", "m/rateFirst"] {
        let other = caller(2, Some("bob"));
        host.send(&other, path, "holder", &args("k", 100, "h"));
        host.send(&ada, path, "waits", &args("k", 0, "a"));
        host.advance(10);
        assert_eq!(host.take(), ["waits LOCK_TIMEOUT"], "{path}");
        host.advance(100);
        assert_eq!(host.take(), ["holder ok"]);
        // Whether the call that gave up was counted depends on what was outside.
        let again = host.ask(&ada, path, &args("k", 0, "a"));
        let expected = if path == "m/lockFirst" {
            "ok"
        } else {
            "RATE_LIMITED"
        };
        assert_eq!(outcome(&again), expected, "{path}");
    }
}

#[test]
fn locks_are_first_come_first_served_across_paths() {
    let by_key = || Lock::by(|key: String| key);
    let mut host = host([
        ("a", Call::new(work).lock(by_key())),
        ("b", Call::new(work).lock(by_key())),
    ]);
    let ada = caller(1, None);
    for (path, id, tag) in [
        ("m/a", "1", "bad"),
        ("m/b", "2", "panic"),
        ("m/a", "3", "x"),
    ] {
        host.send(&ada, path, id, &args("k", 10, tag));
    }
    host.send(&ada, "m/a", "free", &args("", 0, "no lock"));
    host.send(&ada, "m/a", "other", &args("l", 0, "another key"));
    assert_eq!(host.take(), ["free ok", "other ok"]);
    let gauges = host.live.gauges();
    assert_eq!((gauges.locks_held, gauges.lock_waiters), (1, 2));
    host.advance(10);
    assert_eq!(host.take(), ["1 BAD"]);
    host.advance(10);
    assert_eq!(host.take(), ["2 INTERNAL_ERROR"]);
    host.advance(10);
    assert_eq!(host.take(), ["3 ok"]);
    let gauges = host.live.gauges();
    assert_eq!(
        (
            gauges.locks_held,
            gauges.lock_waiters,
            gauges.closed_waiters
        ),
        (0, 0, 0)
    );
}

#[test]
fn who_gives_up_never_runs_and_the_others_keep_their_order() {
    let call = Call::new(work).lock(Lock::by(|key: String| key).max_wait(ms(50)));
    let mut host = Host::new(told(builder([("c", call)])));
    let (ada, bob) = (caller(1, None), caller(2, None));
    host.send(&ada, "m/c", "1", &args("k", 40, "1"));
    host.send(&ada, "m/c", "dropped", &args("k", 0, "dropped"));
    host.send(&bob, "m/c", "closed", &args("k", 0, "closed"));
    host.send(&ada, "m/c", "2", &args("k", 40, "2"));
    host.send(&ada, "m/c", "late", &args("k", 0, "late"));
    host.drop_call(&ada, "dropped");
    host.close(&bob);
    assert_eq!(lines(&host), ["start 1", "reply CONNECTION_CLOSED"]);
    host.advance(40);
    assert_eq!(host.take(), ["1 ok"]);
    host.advance(10);
    let late = host.take();
    assert_eq!(late, ["late LOCK_TIMEOUT"]);
    host.advance(40);
    assert_eq!(host.take(), ["2 ok"]);
    let told = [
        "end 1",
        "reply ok",
        "start 2",
        "reply LOCK_TIMEOUT",
        "end 2",
        "reply ok",
    ];
    assert_eq!(lines(&host), told);
    assert_eq!(host.live.gauges().lock_waiters, 0);
    assert_eq!(host.bed.tasks(), 0);
}

#[test]
fn a_holder_that_is_dropped_hands_over_and_a_turn_that_nobody_takes_is_passed_on() {
    let call = Call::new(work).lock(Lock::by(|key: String| key));
    let mut host = host([("c", call)]);
    let ada = caller(1, None);
    for id in ["1", "2", "3"] {
        host.send(&ada, "m/c", id, &args("k", 10, id));
    }
    host.drop_call(&ada, "1");
    host.drop_call(&ada, "2");
    host.advance(10);
    assert_eq!(host.take(), ["3 ok"]);
    assert_eq!(host.live.gauges().locks_held, 0);
}

#[test]
fn a_lock_that_does_not_wait_says_so_with_details() {
    let call = Call::new(work).lock(Lock::fixed("one").max_wait(Duration::ZERO));
    let mut host = host([("c", call)]);
    let ada = caller(1, None);
    host.send(&ada, "m/c", "1", &args("", 10, "1"));
    let reply = host.ask(&ada, "m/c", &args("", 0, "2"));
    assert_eq!(outcome(&reply), "LOCK_TIMEOUT");
    assert_eq!(reply["details"], json!({"key": "one", "maxWaitMs": 0}));
    assert_eq!(host.live.stats().lock_timeouts, 1);
}

#[test]
fn the_line_for_a_lock_is_bounded_and_so_is_its_key() {
    let call = Call::new(work).lock(Lock::by(|key: String| key));
    let mut limits = Limits::default();
    limits.messages_in_flight_max = 2_000;
    let mut host = Host::new(builder([("c", call)]).limits(limits));
    let ada = caller(1, None);
    for n in 0..=1_000 {
        host.send(&ada, "m/c", &n.to_string(), &args("k", 1, "x"));
    }
    let reply = host.ask(&ada, "m/c", &args("k", 0, "x"));
    assert_eq!(outcome(&reply), "OVERLOADED");
    let long = host.ask(&ada, "m/c", &args(&"k".repeat(257), 0, "x"));
    assert_eq!(outcome(&long), "INVALID_REQUEST");
    let missing = host.ask(&ada, "m/c", "");
    assert_eq!(outcome(&missing), "VALIDATION", "never unlocked by mistake");
    for _ in 0..=1_000 {
        host.advance(1);
    }
    assert_eq!(host.take().len(), 1_001);
    assert_eq!(host.live.stats().lock_overloads, 1);
}

#[test]
fn a_call_that_would_wait_for_itself_is_refused() {
    let twice = || Lock::<Log, String>::fixed("same");
    let mut host = host([("c", Call::new(work).lock(twice()).lock(twice()))]);
    let reply = host.ask(&caller(1, None), "m/c", &args("", 0, "x"));
    assert_eq!(outcome(&reply), "INTERNAL_ERROR");
    assert_eq!(host.live.gauges().locks_held, 0);
}

fn once() -> OurCall {
    Call::new(work).idempotent(Idempotent::new())
}

fn keyed(wait: u64, tag: &str, key: &str) -> String {
    format!(r#"{},"idempotencyKey":{}"#, args("", wait, tag), json!(key))
}

#[test]
fn a_repeated_call_gets_the_first_result_and_waits_for_it() {
    let mut host = host([("c", once())]);
    let (ada, again) = (caller(1, Some("ada")), caller(2, Some("ada")));
    host.send(&ada, "m/c", "1", &keyed(10, "first", "k"));
    host.send(&again, "m/c", "2", &keyed(10, "second", "k"));
    host.send(&again, "m/c", "3", &keyed(10, "third", "k"));
    host.drop_call(&again, "3");
    assert_eq!(host.live.gauges().result_waiters, 1);
    host.advance(10);
    assert_eq!(host.take(), ["1 ok", "2 ok"]);
    let reply = host.ask(&ada, "m/c", &keyed(10, "fourth", "k"));
    assert_eq!(reply["data"], "first");
    assert_eq!(lines(&host), ["start first", "end first"]);
    let bob = host.ask(&caller(3, Some("bob")), "m/c", &keyed(0, "bob's", "k"));
    assert_eq!(bob["data"], "bob's", "another user");
    let tricky = host.ask(&caller(3, Some("ada:k")), "m/c", &keyed(0, "x", ""));
    assert_eq!(tricky["data"], "x", "an empty key is none");
    assert_eq!(host.live.stats().repeated, 2);
}

#[test]
fn failures_panics_and_dropped_runs_make_way_for_the_next() {
    let mut host = host([("c", once())]);
    let ada = caller(1, Some("ada"));
    for (id, tag) in [
        ("1", "bad"),
        ("2", "panic"),
        ("3", "dropped"),
        ("4", "good"),
        ("5", "no"),
    ] {
        host.send(&ada, "m/c", id, &keyed(10, tag, "k"));
    }
    host.advance(10);
    host.advance(10);
    assert_eq!(host.take(), ["1 BAD", "2 INTERNAL_ERROR"]);
    host.drop_call(&ada, "3");
    host.advance(10);
    assert_eq!(host.take(), ["4 ok", "5 ok"]);
    let reply = host.ask(&ada, "m/c", &keyed(0, "late", "k"));
    assert_eq!(reply["data"], "good");
    assert_eq!(host.live.gauges().result_waiters, 0);
}

#[test]
fn a_run_that_takes_longer_than_its_lease_keeps_its_slot() {
    let mut host = host([("c", once())]);
    let ada = caller(1, Some("ada"));
    host.send(&ada, "m/c", "1", &keyed(300_000, "slow", "k"));
    host.send(&ada, "m/c", "2", &keyed(0, "impatient", "k"));
    for _ in 0..30 {
        host.advance(10_000);
    }
    assert_eq!(host.take(), ["1 ok", "2 ok"]);
    assert_eq!(lines(&host), ["start slow", "end slow"]);
}

#[test]
fn results_end_with_their_time_and_without_time_calls_take_turns() {
    let second = Call::new(work).idempotent(Idempotent::new().ttl(ms(1_000)));
    let never = Call::new(work).idempotent(Idempotent::new().ttl(Duration::ZERO));
    let mut host = host([("second", second), ("never", never)]);
    let ada = caller(1, Some("ada"));
    let tag = |host: &mut Host, tag: &str| {
        host.ask(&ada, "m/second", &keyed(0, tag, "k"))["data"].clone()
    };
    assert_eq!(tag(&mut host, "a"), "a");
    host.advance(999);
    assert_eq!(tag(&mut host, "b"), "a");
    host.advance(1);
    assert_eq!(tag(&mut host, "c"), "c");
    let ada = caller(1, Some("ada"));
    lines(&host);
    host.send(&ada, "m/never", "1", &keyed(10, "1", "k"));
    host.send(&ada, "m/never", "2", &keyed(10, "2", "k"));
    host.advance(10);
    host.advance(10);
    assert_eq!(lines(&host), ["start 1", "end 1", "start 2", "end 2"]);
}

#[test]
fn keys_are_texts_of_bounded_length_made_here_or_there() {
    let made = Idempotent::new().global().key(async |_: Cx, args: Args| {
        let key = args.get(0).and_then(|key| key.as_json_str());
        Ok(key.map(|key| key.to_cow().into_owned()))
    });
    let conflict = Call::new(work).idempotent(Idempotent::new().refuse_running());
    let mut host = host([
        ("c", once()),
        ("made", Call::new(work).idempotent(made)),
        ("conflict", conflict),
    ]);
    let (ada, bob) = (caller(1, Some("ada")), caller(2, Some("bob")));
    for key in [json!(5), json!("k".repeat(257)), json!(null), json!({})] {
        let rest = format!(r#"{},"idempotencyKey":{key}"#, args("", 0, "x"));
        assert_eq!(
            outcome(&host.ask(&ada, "m/c", &rest)),
            "INVALID_REQUEST",
            "{key}"
        );
    }
    let fits = host.ask(&ada, "m/c", &keyed(0, "x", &"k".repeat(256)));
    assert_eq!(outcome(&fits), "ok");
    let first = host.ask(&ada, "m/made", &args("g", 0, "ada's"));
    assert_eq!(first["data"], "ada's");
    assert_eq!(
        host.ask(&bob, "m/made", &args("g", 0, "bob's"))["data"],
        "ada's",
        "global"
    );
    // What a client sends is never global.
    assert_eq!(
        host.ask(&ada, "m/made", &keyed(0, "ada's", "s"))["data"],
        "ada's"
    );
    assert_eq!(
        host.ask(&bob, "m/made", &keyed(0, "bob's", "s"))["data"],
        "bob's"
    );
    host.send(&ada, "m/conflict", "1", &keyed(10, "1", "k"));
    let busy = host.ask(&ada, "m/conflict", &keyed(10, "2", "k"));
    assert_eq!(outcome(&busy), "CONFLICT");
}

#[test]
fn results_are_bounded_and_one_that_does_not_fit_still_reaches_its_caller() {
    let few = Idempotent::new().results_max(10);
    let big = async |_: Cx, n: usize| Ok("x".repeat(n));
    let mut host = host([
        ("few", Call::new(work).idempotent(few)),
        ("big", Call::new(big).idempotent(Idempotent::new())),
    ]);
    let ada = caller(1, Some("ada"));
    for n in 0..1_000 {
        let reply = host.ask(&ada, "m/few", &keyed(0, "x", &n.to_string()));
        assert_eq!(outcome(&reply), "ok");
    }
    assert_eq!(host.live.gauges().results, 10);
    let big = r#","args":[300000],"idempotencyKey":"k""#;
    assert_eq!(outcome(&host.ask(&ada, "m/big", big)), "ok");
    assert_eq!(host.live.stats().results_not_kept, 1);
    host.send(&ada, "m/big", "again", big);
    assert_eq!(
        host.take(),
        [""; 0],
        "what it did is done: not again at once"
    );
    host.advance(60_000);
    assert_eq!(host.take(), ["again ok"]);
}

#[test]
fn a_breaker_opens_and_heals_and_clients_mistakes_do_not_count() {
    let config = BreakerConfig {
        failures: 2,
        cool_down: Some(ms(100)),
    };
    let changes: std::sync::Arc<Mutex<Vec<BreakerState>>> = std::sync::Arc::default();
    let seen = std::sync::Arc::clone(&changes);
    let breaker = Breaker::observed(config, move |state| {
        seen.lock().push(state);
        panic!("the listener");
    });
    let fallback = async |_: Cx, key: String| Ok(format!("instead of {key}"));
    let mut host = host([
        ("c", Call::new(work).breaker(&breaker)),
        ("or", Call::new(work).breaker_or(&breaker, fallback)),
    ]);
    let ada = caller(1, None);
    let ask =
        |host: &mut Host, tag: &str| outcome(&host.ask(&ada, "m/c", &args("k", 0, tag))).to_owned();
    for _ in 0..5 {
        assert_eq!(ask(&mut host, "forbidden"), "FORBIDDEN");
    }
    assert_eq!(ask(&mut host, "bad"), "BAD");
    assert_eq!(ask(&mut host, "panic"), "INTERNAL_ERROR");
    assert_eq!(ask(&mut host, "fine"), "SERVICE_UNAVAILABLE");
    let ada = caller(1, None);
    let instead = host.ask(&ada, "m/or", &args("k", 0, "x"));
    assert_eq!(instead["data"], "instead of k");
    host.advance(100);
    host.send(&ada, "m/c", "probe", &args("k", 10, "x"));
    assert_eq!(
        outcome(&host.ask(&ada, "m/c", &args("k", 0, "x"))),
        "SERVICE_UNAVAILABLE"
    );
    // Given up: the next one may probe.
    host.drop_call(&ada, "probe");
    assert_eq!(outcome(&host.ask(&ada, "m/c", &args("k", 0, "x"))), "ok");
    use BreakerState::{Broken, Healthy, Probing};
    assert_eq!(*changes.lock(), [Broken, Probing, Broken, Probing, Healthy]);
    assert_eq!(host.live.stats().breaker_refusals, 3);
}

#[test]
fn a_breaker_around_a_loader_keeps_everything_else_of_the_stream() {
    let config = BreakerConfig {
        failures: 1,
        cool_down: None,
    };
    let breaker = Breaker::new(config);
    // In either order.
    let stream = Stream::fixed("s")
        .breaker_or(&breaker, async |_: Cx| Ok(json!(["old"])))
        .load(async |ctx: Cx| {
            log(&ctx, "load");
            Err::<(), _>(LiveError::new("DOWN", ""))
        })
        .max(7);
    let app = App::new(Log::default()).module(Module::new("s").stream("s", stream));
    let mut host = Host::new(app);
    let ada = caller(1, None);
    let down = host.ask(&ada, "s/s", r#","stream":true"#);
    assert_eq!(outcome(&down), "DOWN");
    let reply = host.ask(&ada, "s/s", r#","stream":true"#);
    assert_eq!(
        (&reply["data"], &reply["max"]),
        (&json!(["old"]), &json!(7))
    );
    assert_eq!(lines(&host), ["load"]);
    breaker.reset();
    assert_eq!(outcome(&host.ask(&ada, "s/s", r#","stream":true"#)), "DOWN");
}

#[test]
fn deadlines_drop_what_runs_and_own_ones_win() {
    let mut limits = Limits::default();
    limits.call_deadline = Some(ms(100));
    let app = builder([
        ("general", Call::new(work).lock(Lock::fixed("k"))),
        ("own", Call::new(work).deadline(ms(300))),
    ])
    .limits(limits);
    let mut host = Host::new(app);
    let ada = caller(1, None);
    host.send(&ada, "m/general", "1", &args("", 500, "1"));
    host.send(&ada, "m/own", "own", &args("", 200, "own"));
    host.advance(99);
    assert_eq!(host.take(), [""; 0]);
    host.advance(1);
    assert_eq!(host.take(), ["1 TIMEOUT"]);
    let reply = host.ask(&ada, "m/general", &args("", 0, "2"));
    assert_eq!(outcome(&reply), "ok", "the lock is free again");
    host.advance(100);
    assert_eq!(host.take(), ["own ok"]);
    assert_eq!(
        lines(&host),
        ["start 1", "start own", "start 2", "end 2", "end own"]
    );
    assert_eq!(host.live.stats().deadlines, 1);
}

#[test]
fn a_call_notices_that_nobody_listens_any_more() {
    let call = async |ctx: Cx| {
        let before = ctx.is_closed();
        ctx.closed().await;
        log(&ctx, format!("{before} {}", ctx.is_closed()));
        // Another one that begins afterwards.
        ctx.closed().await;
        Ok(())
    };
    let mut host = Host::new(told(builder([("c", Call::new(call))])));
    let ada = caller(1, None);
    host.send(&ada, "m/c", "1", "");
    host.send(&ada, "m/c", "2", "");
    assert_eq!(host.live.gauges().closed_waiters, 2);
    host.drop_call(&ada, "2");
    assert_eq!(host.live.gauges().closed_waiters, 1);
    host.close(&ada);
    assert_eq!(lines(&host), ["false true", "reply ok"]);
    assert_eq!(host.live.gauges().closed_waiters, 0);
}

#[test]
fn skip_opens_windows_by_path_and_refuses_nonsense() {
    let skip = async |ctx: Cx, key: String, ms: u64| ctx.skip(&key, Duration::from_millis(ms));
    let mut limits = Limits::default();
    limits.skip_windows_max = 3;
    let app = builder([("a", Call::new(skip)), ("b", Call::new(skip))]).limits(limits);
    let mut host = Host::new(app);
    let ada = caller(1, None);
    let skip = |host: &mut Host, path: &str, key: &str, ms: u64| {
        let reply = host.ask(&ada, path, &format!(r#","args":["{key}",{ms}]"#));
        reply["data"]
            .as_bool()
            .ok_or_else(|| outcome(&reply).to_owned())
    };
    assert_eq!(skip(&mut host, "m/a", "k", 100), Ok(false));
    assert_eq!(skip(&mut host, "m/a", "k", 100), Ok(true));
    assert_eq!(skip(&mut host, "m/b", "k", 100), Ok(false), "another path");
    assert_eq!(skip(&mut host, "m/a", "l", 100), Ok(false));
    assert_eq!(skip(&mut host, "m/a", "full", 100), Ok(false));
    assert_eq!(skip(&mut host, "m/a", "full", 100), Ok(false), "fails open");
    assert_eq!(host.live.stats().skip_overflows, 2);
    host.advance(100);
    assert_eq!(skip(&mut host, "m/a", "k", 1), Ok(false));
    assert_eq!(
        skip(&mut host, "m/a", "k", 0),
        Err("INVALID_ARG".to_owned())
    );
    let long = "k".repeat(257);
    assert_eq!(
        skip(&mut host, "m/a", &long, 1),
        Err("INVALID_ARG".to_owned())
    );
}

#[test]
fn options_that_make_no_sense_are_found_while_building() {
    let call = || Call::new(work);
    let lock = |key: &str| call().lock(Lock::fixed(key));
    let breaker = Breaker::new(BreakerConfig {
        failures: 0,
        cool_down: None,
    });
    let calls = [
        ("points", call().rate_limit(Rate::new(0, ms(1)))),
        ("window", call().rate_limit(Rate::new(1, Duration::ZERO))),
        (
            "callers",
            call().rate_limit(Rate::new(1, ms(1)).callers_max(0)),
        ),
        ("emptyKey", lock("")),
        ("longKey", lock(&"k".repeat(257))),
        (
            "results",
            call().idempotent(Idempotent::new().results_max(0)),
        ),
        ("global", call().idempotent(Idempotent::new().global())),
        ("breaker", call().breaker(&breaker)),
        ("deadline", call().deadline(Duration::ZERO)),
    ];
    let found = problems(builder(calls));
    let found: Vec<(&str, Problem)> = found
        .iter()
        .map(|(path, p)| (&path[2..], p.clone()))
        .collect();
    let expected = [
        ("points", Problem::Rate),
        ("window", Problem::Rate),
        ("callers", Problem::Rate),
        ("emptyKey", Problem::LockKey),
        ("longKey", Problem::LockKey),
        ("results", Problem::Idempotent),
        ("global", Problem::Idempotent),
        ("breaker", Problem::Breaker),
        ("deadline", Problem::Deadline),
    ];
    assert_eq!(found, expected);
}

#[test]
fn options_of_the_application_are_checked_too() {
    let healthy = Breaker::new(BreakerConfig::default());
    let streams = Module::new("s")
        .stream("channel", Stream::fixed("c").breaker(&healthy))
        .stream("class", Stream::fixed("d").class_of_service("nobody's"));
    let limits = RateLimits::new()
        .default_rate(Rate::new(0, ms(1)))
        .rule("a/b", Rate::new(1, ms(1)))
        .exempt("c/d");
    let mut general = Limits::default();
    general.call_deadline = Some(Duration::ZERO);
    let app = App::new(Log::default())
        .module(streams)
        .rate_limits(limits)
        .limits(general);
    let expected = [
        ("s/channel", Problem::BreakerOfChannel),
        ("s/class", Problem::UnknownClass("nobody's".to_owned())),
        ("a/b", Problem::UnknownPath),
        ("c/d", Problem::UnknownPath),
        ("rate_limits.default", Problem::Rate),
        ("limits.call_deadline", Problem::Deadline),
    ];
    let expected = expected.map(|(path, problem)| (path.to_owned(), problem));
    assert_eq!(problems(app), expected);
}
