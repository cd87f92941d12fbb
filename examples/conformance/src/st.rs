//! Module `st`: streams over rows, and the calls that change them.

mod fresh;
pub(crate) mod guarded;
mod recovery;
mod special;

use std::time::Duration;

use millstream_core::RawJson;
use millstream_live::{LiveError, Merge, Module, Stream};
use serde::{Deserialize, Deserializer};
use tokio::time::sleep;

use crate::ctl::{Cx, Json, data};
use crate::identity::Identity;
use crate::rows;
use crate::state::Shared;

pub(crate) type OurStream = Stream<Shared, Identity>;

/// A space: a text, or the text form of another kind of value.
#[derive(Debug, Clone)]
pub(crate) struct Space(pub(crate) String);

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Null => Err(serde::de::Error::custom("a space is missing")),
            serde_json::Value::String(text) => Ok(Self(text)),
            other => Ok(Self(other.to_string())),
        }
    }
}

/// The module.
pub(crate) fn module() -> Module<Shared, Identity> {
    let module = Module::new("st")
        .stream("items", over("items"))
        .stream("top", over("top").key("id").prepend(true).max(5))
        .stream("sku", over("sku").key("sku"))
        .stream("lines", over("log").merge(Merge::Latest).max(4))
        .stream("value", over("value").merge(Merge::Set))
        .stream("who", over("who").merge(Merge::Presence))
        .stream("ptr", over("ptr").merge(Merge::Cursor))
        .stream("volatile", over("volatile").topics("volatile:*").volatile())
        .stream(
            "coal",
            over("coal")
                .key("k")
                .topics("coal:*")
                .coalesce_by(|row: serde_json::Value| row["k"].as_str().map(str::to_owned)),
        )
        .stream("shaped", special::shaped(over("shaped").topics("shaped:*")))
        .stream("slow", special::slow())
        .stream("failing", special::failing())
        .stream("hooked", special::hooked())
        .stream("fixed", special::fixed())
        .stream("pages", special::pages("pages"))
        .stream("pagesTop", special::pages("pagestop").prepend(true))
        .stream("args", special::args())
        .stream("versioned", special::versioned())
        .stream("shapedPages", special::shaped_pages());
    recovery::add(guarded::add(fresh::add(module)))
        .call("emit", emit)
        .call("emitMany", emit_many)
        .call("emitSlow", emit_slow)
        .call("emitFail", emit_fail)
}

/// A stream on `<kind>:<space>`.
fn on(kind: &'static str) -> OurStream {
    Stream::by(move |Space(space): Space| format!("{kind}:{space}"))
}

/// A stream over the rows of a kind.
fn over(kind: &'static str) -> OurStream {
    on(kind)
        .load(move |ctx: Cx, Space(space): Space| async move { Ok(ctx.state().rows(kind, &space)) })
}

/// A stream that always begins with the same value.
fn constant(kind: &'static str, value: serde_json::Value) -> OurStream {
    on(kind).load(move |_: Cx, _: Space| {
        let value = value.clone();
        async move { Ok(value) }
    })
}

async fn emit(
    ctx: Cx,
    kind: String,
    Space(space): Space,
    event: String,
    json: Json,
) -> Result<RawJson, LiveError> {
    let json = data(json);
    let _order = ctx.state().in_order();
    rows::apply(ctx.state(), &kind, &space, &event, &json)?;
    let topic = format!("{kind}:{space}");
    ctx.publish_raw(&topic, &event, json.get(), Default::default())?;
    Ok(json)
}

async fn emit_many(
    ctx: Cx,
    kind: String,
    space: Space,
    list: Vec<(String, RawJson)>,
) -> Result<usize, LiveError> {
    let count = list.len();
    for (event, json) in list {
        emit(ctx.clone(), kind.clone(), space.clone(), event, Some(json)).await?;
    }
    Ok(count)
}

async fn emit_slow(
    ctx: Cx,
    kind: String,
    space: Space,
    event: String,
    json: Json,
    ms: u64,
) -> Result<RawJson, LiveError> {
    sleep(Duration::from_millis(ms)).await;
    emit(ctx, kind, space, event, json).await
}

async fn emit_fail(
    _: Cx,
    _: String,
    _: Space,
    _: String,
    _: Json,
    ms: u64,
    code: String,
) -> Result<(), LiveError> {
    sleep(Duration::from_millis(ms)).await;
    Err(LiveError::new(code, "refused on purpose"))
}
