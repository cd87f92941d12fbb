//! What runs around every call: two layers, the hook before, the hook for errors.

use millstream_core::{ObjectWriter, RawJson};
use millstream_live::{App, Builder, LiveError, Module, Next, Outcome};

use crate::bytes;
use crate::ch;
use crate::ctl::{self, Cx};
use crate::identity::Identity;
use crate::piped;
use crate::policies;
use crate::replay;
use crate::rpc::{self, trace};
use crate::st;
use crate::state::Shared;
use crate::val;

type Rest = Next<Shared, Identity>;

/// The whole application.
pub(crate) fn app(state: Shared) -> Builder<Shared, Identity> {
    let admission = policies::admission(Shared::clone(&state));
    let mut app = App::new(state)
        .rate_limits(policies::central())
        .admission(admission)
        .module(ctl::module())
        .module(rpc::module())
        .module(st::module())
        .module(ch::module())
        .module(piped::module())
        .module(val::module())
        .module(val::wrapped())
        .module(policies::limited())
        .module(policies::locked())
        .module(policies::idempotent())
        .module(hooked())
        .module(replay::add(Module::new("plug")))
        .retain(replay::TOPICS, replay::EVENTS)
        .module(bytes::calls())
        .module(bytes::uploads())
        .module(bytes::guarded())
        .layer(first)
        .layer(second)
        .before_execute(|ctx, _| before(ctx))
        .on_error(|ctx, error| {
            let text = error.cause().map_or_else(String::new, ToString::to_string);
            ctx.state().log("calls", format!("{}: {text}", ctx.path()));
        });
    for module in rpc::guarded() {
        app = app.module(module);
    }
    app
}

/// Calls that the hook before never lets through.
fn hooked() -> Module<Shared, Identity> {
    Module::new("hk")
        .call("refused", async |_: Cx| Ok("never"))
        .call("broken", async |_: Cx| Ok("never"))
}

fn id(ctx: &Cx) -> String {
    ctx.user()
        .and_then(|user| user.id.clone())
        .unwrap_or_default()
}

async fn first(ctx: Cx, rest: Rest) -> Result<Outcome, LiveError> {
    if id(&ctx).starts_with("stopped-") {
        return Err(LiveError::new("MW_STOP", "stopped by middleware"));
    }
    trace(&ctx, "a>");
    let outcome = rest.run(ctx.clone()).await;
    trace(&ctx, "<a");
    outcome
}

async fn second(ctx: Cx, rest: Rest) -> Result<Outcome, LiveError> {
    let id = id(&ctx);
    trace(&ctx, "b>");
    let outcome = rest.run(ctx.clone()).await;
    trace(&ctx, "<b");
    if id.starts_with("twice-") {
        // The rest cannot be run twice; what would be an error elsewhere is one here, too.
        return Err(LiveError::internal("the rest was asked for a second time"));
    }
    match outcome? {
        Outcome::Value(value) if id.starts_with("swap-") => {
            let mut object = ObjectWriter::new();
            object.raw("swapped", value.unwrap_or(RawJson::NULL).get());
            Ok(Outcome::Value(Some(object.finish())))
        }
        outcome => Ok(outcome),
    }
}

async fn before(ctx: Cx) -> Result<(), LiveError> {
    trace(&ctx, "before");
    match ctx.path() {
        "hk/refused" => Err(LiveError::new("BEFORE_REFUSED", "refused before execution")),
        "hk/broken" => Err(LiveError::internal("broken before execution")),
        _ => Ok(()),
    }
}
