//! Calls and streams with nothing behind them, to price the whole path from a frame to a frame.
//!
//! The module `bench` has what a load generator of the real protocol needs: an echo, topics of
//! every merge strategy, and calls that publish to them.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use millstream_core::RawJson;
use millstream_hub::PublishOptions;
use millstream_live::{App, Ctx, LiveError, Merge, Module, Stream};
use millstream_server::{Admission, Answer, Config, HookError, Hooks, Server, UpgradeRequest};
use millstream_server::{LiveHooks, with_live};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A server for measurements; not for the open network.
#[derive(Debug, Parser)]
struct Args {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: std::net::SocketAddr,
    /// I/O workers; 0 means one per core.
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

/// Everybody is let in, with or without an `Origin`.
struct Open;

impl Hooks for Open {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, _: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        Ok(Admission::anonymous()).into()
    }
}

/// How often `bench/bump` was called.
#[derive(Default)]
struct Bumps(AtomicU64);

type Context = Ctx<Bumps, ()>;
type Done<T> = Result<T, LiveError>;

fn app() -> Result<LiveHooks<Bumps, (), Open>, Box<dyn std::error::Error>> {
    let feed = Stream::fixed("feed")
        .load(async |_: Context| Ok(json!([{"id": "seed", "t": 0}])))
        .max(200);
    let room = Stream::by(|number: RawJson| room_of(&number))
        .load(async |_: Context, _: RawJson| Ok([(); 0]))
        .merge(Merge::Latest)
        .max(50);
    let total = Stream::fixed("total")
        .load(async |ctx: Context| Ok(json!({"n": ctx.state().0.load(Ordering::Relaxed)})))
        .merge(Merge::Set);
    let module = Module::new("bench")
        .call("echo", async |_: Context, value: RawJson| Ok(value))
        .stream("feed", feed)
        .call("pub", async |ctx: Context, item: RawJson| {
            publish(&ctx, "feed", "created", &item)?;
            Ok(true)
        })
        .stream("room", room)
        .call(
            "pubTo",
            async |ctx: Context, number: RawJson, item: RawJson| {
                publish(&ctx, &room_of(&number), "created", &item)?;
                Ok(true)
            },
        )
        .stream("total", total)
        .call("bump", bump)
        .stream("who", Stream::fixed("who").merge(Merge::Presence))
        .call("join", async |ctx: Context, key: String| {
            ctx.publish("who", "join", &json!({"key": key, "user": {"id": key}}))?;
            Ok(true)
        })
        .stream("cursors", Stream::fixed("cursors").merge(Merge::Cursor))
        .call("move", async |ctx: Context, key: String, x: f64, y: f64| {
            ctx.publish("cursors", "update", &json!({"key": key, "x": x, "y": y}))?;
            Ok(true)
        });
    let app = App::new(Bumps::default()).module(module).build()?;
    Ok(with_live(app, Open))
}

/// The topic of the stream `bench/room` for the same argument.
fn room_of(number: &RawJson) -> String {
    ["room:", number.as_str()].concat()
}

/// Passes the item on as it came.
fn publish(ctx: &Context, topic: &str, event: &str, item: &RawJson) -> Done<()> {
    ctx.publish_raw(topic, event, item.get(), PublishOptions::default())
        .map(drop)
}

async fn bump(ctx: Context) -> Done<u64> {
    let n = ctx.state().0.fetch_add(1, Ordering::Relaxed) + 1;
    ctx.publish("total", "set", &json!({ "n": n }))?;
    Ok(n)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut config = Config::default();
    config.listen = args.listen;
    config.workers = args.workers;
    config.upgrade_rate_limit = 0;
    config.message_bytes_max = 1024 * 1024;
    let server = Server::builder(app()?).config(config).bind().await?;
    server.announce()?;
    server.run().await?;
    Ok(())
}
