//! Module `ctl`: calls with which a scenario makes the server do something and sees what it did.

mod conns;
mod memory;
mod publish;

use millstream_core::RawJson;
use millstream_live::{Ctx, LiveError, Module, code};
use millstream_server::{Conn, Handle, ServerCtx};
use serde::Serialize;

pub(crate) use self::memory::bump;
use crate::identity::Identity;
use crate::state::Shared;

/// The context of every call of this application.
pub(crate) type Cx = Ctx<Shared, Identity>;

/// A payload that may be left out.
pub(crate) type Json = Option<RawJson>;

/// The module with all its calls.
pub(crate) fn module() -> Module<Shared, Identity> {
    let module = Module::new("ctl")
        .call("ping", async |_: Cx| Ok("pong"))
        .call("info", async |_: Cx| Ok(Info::NEW))
        .call("whoami", async |ctx: Cx| {
            ctx.attached().cloned().ok_or_else(gone)
        })
        .call("big", async |_: Cx, n: usize| Ok("x".repeat(bounded(n))))
        .call("raise", raise);
    conns::add(publish::add(memory::add(module)))
}

#[derive(Serialize)]
struct Info {
    app: &'static str,
    revision: u32,
    #[serde(rename = "impl")]
    implementation: &'static str,
}

impl Info {
    const NEW: Self = Self {
        app: "conformance",
        revision: 1,
        implementation: concat!("millstream ", env!("CARGO_PKG_VERSION")),
    };
}

/// Fails as it is told to.
pub(crate) async fn raise(_: Cx, code: String, text: Option<String>) -> Result<(), LiveError> {
    Err(LiveError::new(code, text.unwrap_or_default()))
}

/// A size or a number of repetitions, at most ten million.
pub(crate) fn bounded(count: usize) -> usize {
    count.min(10_000_000)
}

/// A payload, null when it was left out.
pub(crate) fn data(json: Json) -> RawJson {
    json.unwrap_or(RawJson::NULL)
}

fn server(ctx: &Cx) -> Result<&Handle, LiveError> {
    ctx.server().ok_or_else(gone)
}

fn connection(ctx: &Cx) -> Result<Conn, LiveError> {
    ctx.connection().ok_or_else(gone)
}

fn gone() -> LiveError {
    LiveError::new(code::CONNECTION_CLOSED, "there is no connection")
}
