//! Streams that not everybody may have.

use std::time::Duration;

use millstream_live::{Args, LiveError, Merge, Module, Stream, access, code};
use serde_json::json;
use tokio::time::sleep;

use super::constant;
use crate::ctl::Cx;
use crate::identity::Identity;
use crate::state::Shared;

pub(super) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    let one = || json!([{"id": 1}]);
    let mine = Stream::by(|user: String| format!("mine:{user}"))
        .load(echo)
        .access(access::user());
    let org = Stream::by(|org: String| format!("org:{org}"))
        .load(echo)
        .access(access::org());
    let either = access::any([access::org(), admin()]);
    let both = access::all([access::org(), admin()]);
    module
        .stream(
            "adminOnly",
            constant("adminonly", one()).access(admin_or_editor()),
        )
        .stream("owned", constant("owned", one()).access(access::owner()))
        .stream("team", constant("team", one()).access(access::team()))
        .stream("mine", mine)
        .stream("org", org)
        .stream("either", constant("either", json!([])).access(either))
        .stream("both", constant("bothneeded", json!([])).access(both))
        .stream(
            "accessFails",
            constant("accessfails", json!([]))
                .access(async |_, _| Err(LiveError::new("ACCESS_BROKEN", ""))),
        )
        .stream(
            "accessWaits",
            constant("accesswaits", json!([])).access(async |ctx: Cx, args| {
                sleep(Duration::from_millis(20)).await;
                admin()(ctx, args).await
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
        .stream("shed", constant("shed", one()).class_of_service("flagged"))
        .stream(
            "shedUnknown",
            constant("shedx", one()).class_of_service("never"),
        )
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
                .scoped(admin()),
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

async fn echo(_: Cx, id: String) -> Result<serde_json::Value, LiveError> {
    Ok(json!([{ "id": id }]))
}

fn admin() -> access::Predicate<Shared, Identity> {
    access::role([("admin", access::Role::Yes)])
}

fn admin_or_editor() -> access::Predicate<Shared, Identity> {
    let first_team = access::check(async |ctx: Cx, _| {
        let team = ctx.user().and_then(Identity::team);
        Ok(team == Some("t1"))
    });
    access::role([
        ("admin", access::Role::Yes),
        ("editor", access::Role::If(first_team)),
    ])
}
