//! Streams that not everybody may have.

use std::time::Duration;

use millstream_live::{Args, LiveError, Merge, Module, Stream, code};
use serde_json::json;
use tokio::time::sleep;

use super::{OurStream, constant};
use crate::ctl::Cx;
use crate::identity::Identity;
use crate::state::Shared;

pub(super) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    let one = || json!([{"id": 1}]);
    let mine = Stream::by(|user: String| format!("mine:{user}"))
        .load(echo)
        .access(is_user);
    let org = Stream::by(|org: String| format!("org:{org}"))
        .load(echo)
        .access(is_org);
    module
        .stream(
            "adminOnly",
            constant("adminonly", one()).access(admin_or_editor),
        )
        .stream(
            "owned",
            constant("owned", one()).access(async |ctx: Cx, _| Ok(ctx.user().is_some())),
        )
        .stream(
            "team",
            constant("team", one())
                .access(async |ctx: Cx, _| Ok(ctx.user().and_then(Identity::team).is_some())),
        )
        .stream("mine", mine)
        .stream("org", org)
        .stream("either", either())
        .stream(
            "both",
            constant("bothneeded", json!([]))
                .access(is_org)
                .access(is_admin),
        )
        .stream(
            "accessFails",
            constant("accessfails", json!([]))
                .access(async |_, _| Err(LiveError::new("ACCESS_BROKEN", ""))),
        )
        .stream(
            "accessWaits",
            constant("accesswaits", json!([])).access(async |ctx: Cx, args| {
                sleep(Duration::from_millis(20)).await;
                is_admin(ctx, args).await
            }),
        )
        .stream("kyc", constant("kyc", one()))
        .stream("flip", constant("flip", one()))
        .stream(
            "badTopic",
            Stream::computed(|_, _| {
                Err(LiveError::new(
                    code::INVALID_REQUEST,
                    "the topic is a number",
                ))
            })
            .load(async |_: Cx| Ok(())),
        )
        .stream("reserved", constant("__reserved", json!([])))
}

/// Streams of module `wrp`: behind one gate, and behind two.
pub(crate) fn gated(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .stream("gated", constant("gated", json!([])).gate(is_open))
        .stream(
            "gatedTwice",
            constant("gated2", json!([]))
                .gate(async |_, _| Ok(true))
                .gate(is_open),
        )
        .stream(
            "scopedChannel",
            Stream::by(|space: String| format!("scopedch:{space}"))
                .merge(Merge::Set)
                .access(is_admin),
        )
}

async fn is_open(ctx: Cx, args: Args) -> Result<bool, LiveError> {
    let space = args.get(0).and_then(|space| space.as_json_str());
    let name = format!(
        "gate:{}",
        space.map_or_else(String::new, |s| s.to_cow().into_owned())
    );
    Ok(ctx
        .state()
        .flag(&name)
        .is_some_and(|flag| flag.as_str() == "true"))
}

fn either() -> OurStream {
    constant("either", json!([])).access(async |ctx: Cx, args: Args| {
        Ok(is_org(ctx.clone(), args.clone()).await? || is_admin(ctx, args).await?)
    })
}

async fn echo(_: Cx, id: String) -> Result<serde_json::Value, LiveError> {
    Ok(json!([{ "id": id }]))
}

async fn is_admin(ctx: Cx, _: Args) -> Result<bool, LiveError> {
    Ok(ctx.user().and_then(Identity::role) == Some("admin"))
}

async fn admin_or_editor(ctx: Cx, _: Args) -> Result<bool, LiveError> {
    let user = ctx.user();
    Ok(match user.and_then(Identity::role) {
        Some("admin") => true,
        Some("editor") => user.and_then(Identity::team) == Some("t1"),
        _ => false,
    })
}

async fn is_org(ctx: Cx, args: Args) -> Result<bool, LiveError> {
    Ok(first_is(&args, ctx.user().and_then(Identity::org)))
}

async fn is_user(ctx: Cx, args: Args) -> Result<bool, LiveError> {
    Ok(first_is(
        &args,
        ctx.user().and_then(|user| user.id.as_deref()),
    ))
}

/// Whether the first argument is this text.
fn first_is(args: &Args, text: Option<&str>) -> bool {
    let first = args.get(0).and_then(|first| first.as_json_str());
    first
        .zip(text)
        .is_some_and(|(first, text)| first.eq_str(text))
}
