//! To-do lists that the server keeps: three calls, one stream, no storage.
//!
//! Connect to `/ws` and send
//! `{"rpc":"todo/list","id":"1","args":["home"],"stream":true}` to see a list, then
//! `{"rpc":"todo/add","id":"2","args":["home","buy milk"]}`,
//! `{"rpc":"todo/set","id":"3","args":["home",{"id":1,"text":"buy milk","done":true}]}` and
//! `{"rpc":"todo/remove","id":"4","args":["home",1]}`. Whoever comes later, or comes back, gets
//! the list as all these events have left it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use millstream_live::{App, Ctx, LiveError, Module, RegistrationErrors, Stream};
use millstream_server::{Config, Server, with_live};
use serde::{Deserialize, Serialize};

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// I/O worker threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    workers: u32,
}

/// All that the application itself remembers; the lists are the server's.
#[derive(Default)]
struct State {
    last_id: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct Item {
    id: u64,
    text: String,
    done: bool,
}

type Cx = Ctx<State, ()>;

/// Lists that nobody looks at or changes are forgotten after a day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn topic(list: &str) -> String {
    format!("todo:{list}")
}

async fn add(ctx: Cx, list: String, text: String) -> Result<u64, LiveError> {
    let id = ctx.state().last_id.fetch_add(1, Ordering::Relaxed) + 1;
    let item = Item {
        id,
        text: checked(text)?,
        done: false,
    };
    ctx.publish(&topic(&list), "created", &item)?;
    Ok(id)
}

async fn set(ctx: Cx, list: String, mut item: Item) -> Result<(), LiveError> {
    item.text = checked(item.text)?;
    ctx.publish(&topic(&list), "updated", &item).map(drop)
}

async fn remove(ctx: Cx, list: String, id: u64) -> Result<(), LiveError> {
    let gone = serde_json::json!({ "id": id });
    ctx.publish(&topic(&list), "deleted", &gone).map(drop)
}

fn checked(text: String) -> Result<String, LiveError> {
    match text.chars().count() {
        1..=200 => Ok(text),
        _ => Err(LiveError::new("BAD_TEXT", "1 to 200 characters")),
    }
}

fn app() -> Result<App<State, ()>, RegistrationErrors> {
    let list = Stream::by(|list: String| topic(&list))
        .topics("todo:*")
        .held()
        .drop_idle_after(DAY);
    let todo = Module::new("todo")
        .stream("list", list)
        .call("add", add)
        .call("set", set)
        .call("remove", remove);
    App::new(State::default()).module(todo).build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut config = Config::default();
    config.listen = args.listen;
    config.workers = args.workers;
    let server = Server::builder(with_live(app()?, ()))
        .config(config)
        .bind()
        .await?;
    server.announce()?;
    server.run().await?;
    Ok(())
}
