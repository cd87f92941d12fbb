//! Modules of calls without state of their own: `rpc`, and those behind guards.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::RawJson;
use millstream_live::{Issue, LiveError, Module, Rest, Stream};
use tokio::time::sleep;

use crate::bytes::length;
use crate::ctl::{Cx, Json, bump, data, raise};
use crate::identity::Identity;
use crate::policies::skip;
use crate::state::Shared;

/// Module `rpc`.
pub(crate) fn module() -> Module<Shared, Identity> {
    Module::new("rpc")
        .call("echo", async |_: Cx, x: Json| Ok(data(x)))
        .call("nil", async |_: Cx| Ok(RawJson::NULL))
        .call("nothing", async |_: Cx| Ok(()))
        .call("args", async |_: Cx, Rest(all): Rest| Ok(all))
        .call("add", async |_: Cx, a: f64, b: f64| Ok(sum(a, b)))
        .call("slow", async |_: Cx, ms: u64, value: Json| {
            sleep(Duration::from_millis(ms)).await;
            Ok(data(value))
        })
        .call("fail", raise)
        .call(
            "crash",
            async |_: Cx, text: Option<String>| -> Result<(), _> {
                Err(LiveError::internal(text.unwrap_or_default()))
            },
        )
        .call("failIssues", async |_: Cx| -> Result<(), _> {
            Err(LiveError::validation(vec![
                Issue::new(["a"], "first"),
                Issue::new(["b", "0"], "second"),
            ]))
        })
        .call("cursor", async |ctx: Cx| {
            Ok(ctx
                .cursor()
                .map_or(RawJson::NULL, |cursor| cursor.to_owned()))
        })
        .call("bump", bump)
        .call("note", note)
        .call(
            "noteFail",
            async |ctx: Cx, log: String, line: String| -> Result<(), _> {
                note(ctx, log, line).await?;
                Err(LiveError::new("NOTED", ""))
            },
        )
        .call("order", async |ctx: Cx, topic: String, n: u32| {
            for step in 1..=n {
                ctx.publish(&topic, "step", &step)?;
            }
            Ok("done")
        })
        .call("skip", skip)
        .call("shed", async |ctx: Cx, class: String| ctx.shed(&class))
        .call("unusualText", async |_: Cx| {
            Ok("\0\u{2028}\u{2029}\"\\\u{1F600}")
        })
}

/// Whole numbers stay whole in JSON.
fn sum(a: f64, b: f64) -> serde_json::Number {
    let sum = a + b;
    let whole = sum.fract() == 0.0 && sum.abs() < 9e15;
    match serde_json::Number::from_f64(sum) {
        Some(number) if !whole => number,
        Some(_) => serde_json::Number::from(sum as i64),
        None => serde_json::Number::from(0),
    }
}

async fn note(ctx: Cx, log: String, line: String) -> Result<(), LiveError> {
    ctx.state().log(&log, line);
    Ok(())
}

/// The modules behind guards that hold calls.
pub(crate) fn guarded() -> [Module<Shared, Identity>; 5] {
    [admin(), own(), signed_in(), nope(), traced()]
}

#[derive(Debug, Clone, Copy)]
struct Level(u32);

fn admin() -> Module<Shared, Identity> {
    Module::new("adm")
        .guard(async |ctx: Cx| match ctx.user() {
            None => Err(LiveError::new("UNAUTHENTICATED", "sign in first")),
            Some(_) => Ok(()),
        })
        .guard(async |ctx: Cx| {
            let admin = ctx.user().and_then(Identity::role) == Some("admin");
            ctx.set(Level(if admin { 10 } else { 1 }));
            Ok(())
        })
        .guard(async |ctx: Cx| match ctx.get::<Level>() {
            Some(Level(10..)) => Ok(()),
            _ => Err(LiveError::new("FORBIDDEN", "admins only")),
        })
        .guard(async |ctx: Cx| {
            if let Some(id) = ctx.user().and_then(|user| user.id.as_deref()) {
                ctx.state().log(&format!("guard:{id}"), "passed");
            }
            Ok(())
        })
        .call("secret", async |ctx: Cx| {
            let level = ctx.get::<Level>().map_or(0, |level| level.0);
            Ok(serde_json::json!({ "level": level }))
        })
        .binary("bytes", length)
        .stream(
            "feed",
            Stream::by(|space: String| format!("admfeed:{space}"))
                .load(async |_: Cx, _: String| Ok(serde_json::json!([{"id": 1}]))),
        )
}

fn own() -> Module<Shared, Identity> {
    Module::new("own")
        .guard(async |ctx: Cx| {
            if ctx.user().and_then(Identity::role) == Some("admin") {
                Ok(())
            } else {
                Err(LiveError::internal("a secret reason"))
            }
        })
        .call("thing", async |_: Cx| Ok("thing"))
}

fn signed_in() -> Module<Shared, Identity> {
    Module::new("auth")
        .authenticated()
        .call("thing", async |ctx: Cx| Ok(ctx.require_user()?.id.clone()))
}

fn nope() -> Module<Shared, Identity> {
    Module::new("nope")
        .guard(async |ctx: Cx| Err(ctx.denied()))
        .call("thing", async |_: Cx| Ok("thing"))
}

/// Adds a line to the trace of a user who wants one.
pub(crate) fn trace(ctx: &Cx, line: &str) {
    if let Some(id) = ctx.user().and_then(|user| user.id.as_deref())
        && id.starts_with("trace-")
    {
        ctx.state().log(&format!("trace:{id}"), line);
    }
}

fn traced() -> Module<Shared, Identity> {
    Module::new("mw")
        .guard(async |ctx: Cx| {
            trace(&ctx, "guard");
            let id = ctx.user().and_then(|user| user.id.as_deref());
            if id.is_some_and(|id| id.starts_with("trace-deny")) {
                return Err(LiveError::new("DENIED", "guard says no"));
            }
            Ok(())
        })
        .call("call", async |ctx: Cx, x: Json| {
            trace(&ctx, "run");
            Ok(data(x))
        })
        .binary("bytes", async |ctx: Cx, bytes: Bytes| {
            trace(&ctx, "run");
            length(ctx, bytes).await
        })
        .stream(
            "stream",
            Stream::by(|space: String| format!("mw:{space}")).load(async |ctx: Cx, _: String| {
                trace(&ctx, "load");
                Ok(RawJson::EMPTY_LIST)
            }),
        )
}
