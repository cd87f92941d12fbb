//! Flags, counters, logs and rows.

use millstream_core::RawJson;
use millstream_live::{LiveError, Module};

use super::{Cx, Json, data};
use crate::identity::Identity;
use crate::state::Shared;

pub(super) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call("setFlag", async |ctx: Cx, name: String, value: Json| {
            let value = value.filter(|value| !value.get().is_null());
            ctx.state().set_flag(&name, value);
            Ok(true)
        })
        .call("getFlag", async |ctx: Cx, name: String| {
            Ok(data(ctx.state().flag(&name)))
        })
        .call("counter", async |ctx: Cx, name: String| {
            Ok(ctx.state().counter(&name))
        })
        .call("bump", bump)
        .call("readLog", async |ctx: Cx, name: String| {
            Ok(ctx.state().read_log(&name))
        })
        .call("addLog", async |ctx: Cx, name: String, line: String| {
            ctx.state().log(&name, line);
            Ok(true)
        })
        .call("clearLog", async |ctx: Cx, name: String| {
            ctx.state().clear_log(&name);
            Ok(true)
        })
        .call("truth", async |ctx: Cx, kind: String, space: String| {
            Ok(ctx.state().rows(&kind, &space))
        })
        .call("seed", seed)
}

/// Adds one to a counter; the new number.
pub(crate) async fn bump(ctx: Cx, name: String) -> Result<u64, LiveError> {
    Ok(ctx.state().bump(&name))
}

async fn seed(ctx: Cx, kind: String, space: String, rows: RawJson) -> Result<bool, LiveError> {
    ctx.state().set_rows(&kind, &space, rows);
    Ok(true)
}
