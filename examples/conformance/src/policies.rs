//! Modules `lim`, `lck`, `idem` and parts of `wrp`: calls with something wrapped around them.

use std::time::Duration;

use millstream_live::{
    Admission, Args, Breaker, BreakerConfig, Call, Handler, Idempotent, LiveError, Lock, Module,
    Rate, RateLimits, Reason, Stream, access,
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::ctl::Cx;
use crate::identity::Identity;
use crate::state::Shared;

const TWO_SECONDS: Duration = Duration::from_secs(2);

/// The limits of calls that have none of their own.
pub(crate) fn central() -> RateLimits {
    let minute = Duration::from_secs(60);
    RateLimits::new()
        .rule("lim/central", Rate::new(2, TWO_SECONDS))
        .rule("lim/exempt", Rate::new(1, minute))
        .rule("lim/own", Rate::new(1, minute))
        .exempt("lim/exempt")
}

/// What is shed, and when.
pub(crate) fn admission(state: Shared) -> Admission {
    Admission::new()
        .class_when("flagged", move |_| state.flag("shed").is_some())
        .class("memory", [Reason::Memory])
        .class("never", [])
}

/// Module `lim`.
pub(crate) fn limited() -> Module<Shared, Identity> {
    let ok = || Call::new(async |_: Cx| Ok("ok"));
    let by_org = ok().rate_limit_by(Rate::new(2, TWO_SECONDS), |ctx: &Cx| {
        ctx.user().and_then(Identity::org).map(str::to_owned)
    });
    Module::new("lim")
        .call_with("three", ok().rate_limit(Rate::new(3, TWO_SECONDS)))
        .call_with("own", ok().rate_limit(Rate::new(4, TWO_SECONDS)))
        .call_with("byOrg", by_org)
        .call_with("central", ok())
        .call_with("exempt", ok())
}

/// Module `lck`.
pub(crate) fn locked() -> Module<Shared, Identity> {
    let by_key = || Lock::by(|key: String| key);
    let bounded = by_key().max_wait(Duration::from_millis(150));
    Module::new("lck")
        .call_with("serial", Call::new(work).lock(by_key()))
        .call_with("other", Call::new(work).lock(by_key()))
        .call_with("bounded", Call::new(work).lock(bounded))
}

async fn work(ctx: Cx, key: String, ms: u64, tag: String) -> Result<String, LiveError> {
    let log = format!("lock:{key}");
    ctx.state().log(&log, format!("start {tag}"));
    sleep(Duration::from_millis(ms)).await;
    ctx.state().log(&log, format!("end {tag}"));
    if tag == "bad" {
        return Err(LiveError::new("WORK_FAILED", ""));
    }
    Ok(tag)
}

/// Module `idem`.
pub(crate) fn idempotent() -> Module<Shared, Identity> {
    let seconds = |seconds| Idempotent::new().ttl(Duration::from_secs(seconds));
    let by_arg = Idempotent::new().key(async |_: Cx, args: Args| {
        let key = args.get(1).and_then(|key| key.as_json_str());
        Ok(key.map(|key| key.to_cow().into_owned()))
    });
    Module::new("idem")
        .call_with("run", once(bump, Idempotent::new()))
        .call_with("second", once(bump, Idempotent::new()))
        .call_with("slow", once(slow, Idempotent::new()))
        .call_with("brief", once(bump, seconds(1)))
        .call_with("never", once(bump, seconds(0)))
        .call_with("byArg", once(bump, by_arg))
        .call_with("failOnce", once(fail_once, Idempotent::new()))
}

fn once<P: 'static>(
    function: impl Handler<Shared, Identity, P>,
    options: Idempotent<Shared, Identity>,
) -> Call<Shared, Identity> {
    Call::new(function).idempotent(options)
}

async fn bump(ctx: Cx, name: String) -> Result<Value, LiveError> {
    Ok(json!({ "n": ctx.state().bump(&name) }))
}

async fn slow(ctx: Cx, name: String, ms: u64) -> Result<Value, LiveError> {
    sleep(Duration::from_millis(ms)).await;
    bump(ctx, name).await
}

async fn fail_once(ctx: Cx, name: String) -> Result<Value, LiveError> {
    match ctx.state().bump(&name) {
        1 => Err(LiveError::new("FIRST_FAILS", "")),
        n => Ok(json!({ "n": n })),
    }
}

/// The calls and the breaker's streams of module `wrp`.
pub(crate) fn wrapped(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    let scoped = Call::new(async |_: Cx, org: String| Ok(format!("org {org}")));
    let locked = Call::new(async |ctx: Cx, key: String| {
        ctx.state().log(&format!("wrp:{key}"), "run");
        Ok(key)
    });
    let breaker = Breaker::new(BreakerConfig {
        failures: 3,
        cool_down: None,
    });
    let fallback = async |_: Cx| Ok(json!([{"id": "fallback"}]));
    module
        .call_with("scopedCall", scoped.scoped(access::org()))
        .call("publicCall", async |_: Cx| Ok("public"))
        .call_with(
            "lockedChecked",
            locked
                .lock(Lock::by(|key: String| key))
                .rate_limit(Rate::new(2, TWO_SECONDS)),
        )
        .stream(
            "brokenFeed",
            Stream::fixed("brk:main").load(dependency).breaker(&breaker),
        )
        .stream(
            "fallbackFeed",
            Stream::fixed("brk:fallback")
                .load(dependency)
                .breaker_or(&breaker, fallback),
        )
        .call("resetBreaker", move |_: Cx| {
            breaker.reset();
            async { Ok(true) }
        })
}

async fn dependency(ctx: Cx) -> Result<Value, LiveError> {
    if ctx.state().flag("brk").is_some() {
        return Err(LiveError::new("DEPENDENCY", "the dependency is down"));
    }
    Ok(json!([{"id": 1}]))
}

/// Whether something was done a moment ago, with arguments of any kind.
pub(crate) async fn skip(ctx: Cx, key: Value, ms: Value) -> Result<bool, LiveError> {
    let ms = ms.as_f64().filter(|ms| *ms > 0.0).unwrap_or(0.0);
    let Value::String(key) = key else {
        let text = "the key is no text";
        return Err(LiveError::new(millstream_live::code::INVALID_ARG, text));
    };
    let time = Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or(Duration::ZERO);
    ctx.skip(&key, time)
}
