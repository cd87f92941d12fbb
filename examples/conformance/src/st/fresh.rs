//! Streams that are loaded again by themselves: after silence, or when something was published.

use std::time::Duration;

use millstream_live::{LiveError, Module, Page};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{OurStream, Space, on, special::observe};
use crate::ctl::Cx;
use crate::identity::Identity;
use crate::state::Shared;

pub(super) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .stream("stale", stale())
        .stream("stalePage", stale_page())
        .stream("staleFail", stale_fail())
        .stream("inval", invalidated())
}

fn stale() -> OurStream {
    on("stale")
        .load(async |ctx: Cx, Space(space): Space| {
            let loads = ctx.state().bump(&format!("stale:{space}"));
            let by = ctx.user().and_then(|user| user.id.clone());
            Ok(json!([{"id": 1, "loads": loads, "by": by}]))
        })
        .stale_after(Duration::from_millis(700))
}

fn stale_page() -> OurStream {
    on("stalepage")
        .load(async |ctx: Cx, Space(space): Space| {
            let loads = ctx.state().bump(&format!("stalepage:{space}"));
            Ok(Page {
                data: vec![json!({"id": 1, "loads": loads})],
                has_more: false,
                cursor: Some(1),
            })
        })
        .stale_after(Duration::from_millis(700))
}

fn stale_fail() -> OurStream {
    on("stalefail")
        .load(async |ctx: Cx, Space(space): Space| -> Result<Value, _> {
            if ctx.state().flag(&format!("fail:{space}")).is_some() {
                return Err(LiveError::new("LOAD_FAILED", "the loader failed"));
            }
            Ok(json!([{"id": ctx.state().bump(&format!("stalefail:{space}"))}]))
        })
        .on_error(observe)
        .stale_after(Duration::from_millis(500))
}

fn invalidated() -> OurStream {
    on("inval")
        .load(async |ctx: Cx, Space(space): Space| {
            let loads = ctx.state().bump(&format!("inval:{space}"));
            let slow = ctx.state().flag(&format!("slow:{space}"));
            if let Some(millis) = slow.and_then(|slow| slow.get().as_u64()) {
                sleep(Duration::from_millis(millis)).await;
            }
            Ok(json!([{"id": 1, "loads": loads}]))
        })
        .invalidate_on(["src:*", "exact-src"])
}
