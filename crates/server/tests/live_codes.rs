//! Every code that a refused call can have, provoked through real sockets.

mod common;

use std::time::Duration;

use common::ws::Ws;
use common::{Running, metric, start, until};
use millstream_live::{
    Admission as Classes, App, Breaker, BreakerConfig, Call, Ctx, Idempotent, Limits, LiveError,
    Lock, Module, Rate, RateLimits, Stream, access,
};
use millstream_server::{Admission, Answer, HookError, Hooks, UpgradeRequest, with_live};

type Cx = Ctx<(), String>;

/// Who gives a name is known by it.
struct Own;

impl Hooks for Own {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        let name = request.query("user").map(|name| name.into_owned());
        Ok(name.map_or_else(Admission::anonymous, Admission::user)).into()
    }
}

async fn slow(_: Cx, ms: u64) -> Result<u64, LiveError> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(ms)
}

fn wrapped() -> Module<(), String> {
    let minute = Duration::from_secs(60);
    let down = async |_: Cx| Err::<(), _>(LiveError::new("DOWN", ""));
    let breaker = Breaker::new(BreakerConfig {
        failures: 1,
        cool_down: Some(minute),
    });
    let lock = || Lock::fixed("one");
    let bounded = lock().max_wait(Duration::from_millis(20));
    let mine = async |_: Cx, _: String| Ok(());
    let busy = Idempotent::new().refuse_running();
    Module::new("w")
        .call_with("own", Call::new(slow).rate_limit(Rate::new(1, minute)))
        .call("central", slow)
        .call_with("lock", Call::new(slow).lock(lock()))
        .call_with("bounded", Call::new(slow).lock(bounded))
        .call_with("once", Call::new(slow).idempotent(busy))
        .call_with("down", Call::new(down).breaker(&breaker))
        .call_with(
            "deadline",
            Call::new(slow).deadline(Duration::from_millis(20)),
        )
        .call_with("mine", Call::new(mine).scoped(access::user()))
        .stream("shed", Stream::fixed("shed").class_of_service("shed"))
}

fn plain() -> Module<(), String> {
    Module::new("p")
        .call("skip", async |ctx: Cx| ctx.skip("k", Duration::ZERO))
        .call("number", async |_: Cx, n: u8| Ok(n))
        .call("crash", async |_: Cx| {
            Err::<(), _>(LiveError::internal("secret"))
        })
        .call("publish", async |ctx: Cx| {
            ctx.publish("__rpc", "x", &1).map(drop)
        })
        .call("big", async |_: Cx| Ok("x".repeat(2 << 20)))
        .call("own", async |_: Cx| {
            Err::<(), _>(LiveError::new("TEAPOT", "short and stout"))
        })
        .stream("feed", Stream::fixed("feed"))
}

async fn serve(workers: u32) -> Running {
    let minute = Duration::from_secs(60);
    let mut limits = Limits::default();
    limits.subscriptions_max = 1;
    let app = App::<(), String>::new(())
        .module(wrapped())
        .module(plain())
        .rate_limits(RateLimits::new().rule("w/central", Rate::new(1, minute)))
        .admission(Classes::new().class_when("shed", |_| true))
        .limits(limits)
        .build()
        .expect("valid");
    start(with_live(app, Own), |config| config.workers = workers).await
}

/// Connects somebody, or nobody in particular.
async fn connect(server: &Running, user: Option<&str>) -> Ws {
    let stream = tokio::net::TcpStream::connect(server.address)
        .await
        .expect("connects");
    let target = user.map_or_else(|| "/ws".to_owned(), |user| format!("/ws?user={user}"));
    Ws::over_at(stream, &target).await
}

async fn ask(ws: &mut Ws, path: &str, rest: &str) -> String {
    ws.say(&format!(r#"{{"rpc":"{path}","id":"i"{rest}}}"#))
        .await;
    ws.text().await
}

fn code(reply: &str) -> &str {
    let Some((_, rest)) = reply.split_once(r#""code":""#) else {
        assert!(reply.contains(r#""ok":true"#), "{reply}");
        return "ok";
    };
    rest.split('"').next().unwrap_or_default()
}

#[tokio::test]
async fn each_code_reaches_the_client() {
    const ZERO: &str = r#","args":[0]"#;
    let cases = [
        ("w/own", ZERO, "ok"),
        ("w/own", ZERO, "RATE_LIMITED"),
        ("w/central", ZERO, "ok"),
        ("w/central", ZERO, "RATE_LIMITED"),
        (
            "w/once",
            r#","args":[0],"idempotencyKey":7"#,
            "INVALID_REQUEST",
        ),
        ("w/down", "", "DOWN"),
        ("w/down", "", "SERVICE_UNAVAILABLE"),
        ("w/deadline", r#","args":[5000]"#, "TIMEOUT"),
        ("w/mine", r#","args":["ada"]"#, "ok"),
        ("w/mine", r#","args":["eve"]"#, "FORBIDDEN"),
        ("w/shed", r#","stream":true"#, "OVERLOADED"),
        ("p/skip", "", "INVALID_ARG"),
        ("p/number", r#","args":["x"]"#, "VALIDATION"),
        ("p/crash", "", "INTERNAL_ERROR"),
        ("p/publish", "", "INVALID_TOPIC"),
        ("p/big", "", "PAYLOAD_TOO_LARGE"),
        ("p/own", "", "TEAPOT"),
        ("p/number", r#","args":{}"#, "INVALID_REQUEST"),
        ("p", "", "INVALID_REQUEST"),
        ("p/nowhere", "", "NOT_FOUND"),
        ("p/feed", "", "INVALID_REQUEST"),
        ("p/feed", r#","stream":true"#, "ok"),
        ("p/feed", r#","stream":true"#, "RATE_LIMITED"),
    ];
    for workers in [1, 2] {
        let server = serve(workers).await;
        let mut ws = connect(&server, Some("ada")).await;
        for (path, rest, expected) in cases {
            let reply = ask(&mut ws, path, rest).await;
            assert_eq!(code(&reply), expected, "{path}{rest}: {reply}");
            assert!(!reply.contains("secret"), "{reply}");
        }
        let mut nobody = connect(&server, None).await;
        let reply = ask(&mut nobody, "w/mine", r#","args":["ada"]"#).await;
        assert_eq!(code(&reply), "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn limits_say_when_to_come_back_and_are_measured() {
    let server = serve(1).await;
    let mut ws = connect(&server, Some("ada")).await;
    let mut tab = connect(&server, Some("ada")).await;
    ask(&mut ws, "w/own", r#","args":[0]"#).await;
    let reply = ask(&mut tab, "w/own", r#","args":[0]"#).await;
    assert_eq!(code(&reply), "RATE_LIMITED");
    assert!(reply.contains(r#""retryAfter":"#), "{reply}");
    assert_eq!(
        metric(server.address, "millstream_live_rate_limited_total").await,
        1
    );
    assert_eq!(
        metric(server.address, "millstream_live_callers_counted").await,
        1
    );
}

#[tokio::test]
async fn locks_and_running_calls_exclude_others_and_a_closed_connection_leaves_the_line() {
    let server = serve(2).await;
    let mut ws = connect(&server, Some("ada")).await;
    ask(&mut ws, "p/number", r#","args":[1]"#).await;
    ws.say(r#"{"rpc":"w/lock","id":"holder","args":[400]}"#)
        .await;
    until(async || metric(server.address, "millstream_live_locks_held").await == 1).await;
    let reply = ask(&mut ws, "w/bounded", r#","args":[0]"#).await;
    assert_eq!(code(&reply), "LOCK_TIMEOUT");
    assert!(
        reply.contains(r#""details":{"key":"one","maxWaitMs":20}"#),
        "{reply}"
    );
    let mut leaves = connect(&server, Some("eve")).await;
    leaves
        .say(r#"{"rpc":"w/lock","id":"never","args":[60000]}"#)
        .await;
    until(async || metric(server.address, "millstream_live_lock_waiters").await == 1).await;
    drop(leaves);
    until(async || metric(server.address, "millstream_live_lock_waiters").await == 0).await;
    assert!(ws.text().await.contains(r#""id":"holder","ok":true"#));
    let reply = ask(&mut ws, "w/lock", r#","args":[0]"#).await;
    assert_eq!(code(&reply), "ok");

    let running = r#"{"rpc":"w/once","id":"first","args":[300],"idempotencyKey":"k"}"#;
    ws.say(running).await;
    let reply = ask(&mut ws, "w/once", r#","args":[300],"idempotencyKey":"k""#).await;
    assert_eq!(code(&reply), "CONFLICT");
    assert!(
        ws.text()
            .await
            .contains(r#""id":"first","ok":true,"data":300"#)
    );
    let reply = ask(&mut ws, "w/once", r#","args":[0],"idempotencyKey":"k""#).await;
    assert!(reply.contains(r#""data":300"#), "{reply}");
}

#[tokio::test]
async fn a_line_that_is_full_refuses() {
    let server = serve(1).await;
    let mut ws = connect(&server, Some("ada")).await;
    ask(&mut ws, "p/number", r#","args":[1]"#).await;
    ws.say(r#"{"rpc":"w/lock","id":"holder","args":[2000]}"#)
        .await;
    // A batch is one message of its connection, so these all may wait.
    let entry = r#"{"rpc":"w/lock","id":"x","args":[0]}"#;
    let batch = format!(r#"{{"batch":[{}]}}"#, vec![entry; 50].join(","));
    for _ in 0..20 {
        ws.say(&batch).await;
    }
    until(async || metric(server.address, "millstream_live_lock_waiters").await == 1_000).await;
    let reply = ask(&mut ws, "w/lock", r#","args":[0]"#).await;
    assert_eq!(code(&reply), "OVERLOADED");
}

#[tokio::test]
async fn who_subscribes_for_a_connection_that_is_gone_hears_that_it_is() {
    let heard = std::sync::Arc::new(parking_lot::Mutex::new(None));
    let note = std::sync::Arc::clone(&heard);
    let app = App::<(), String>::new(())
        .module(Module::new("p").stream("feed", Stream::fixed("feed")))
        .layer(move |ctx: Cx, next| {
            let note = std::sync::Arc::clone(&note);
            async move {
                ctx.closed().await;
                let outcome = next.run(ctx).await;
                *note.lock() = outcome.as_ref().err().map(|error| error.code().to_owned());
                outcome
            }
        })
        .build()
        .expect("valid");
    let server = start(with_live(app, Own), |_| {}).await;
    let mut ws = Ws::connect(server.address).await;
    ws.say(r#"{"rpc":"p/feed","id":"1","args":[],"stream":true}"#)
        .await;
    // Answered behind the call: that has begun.
    ws.say(r#"{"type":"subscribe","topic":"other","ref":1}"#)
        .await;
    while !ws.text().await.contains("other") {}
    drop(ws);
    until(async || heard.lock().as_deref() == Some("CONNECTION_CLOSED")).await;
}
