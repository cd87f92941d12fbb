//! Rooms with a memory: one call, one stream, one guard.
//!
//! Connect to `/ws?user=ada` and send
//! `{"rpc":"chat/lines","id":"1","args":["lobby"],"stream":true}` to enter a room, then
//! `{"rpc":"chat/say","id":"2","args":["lobby","hello"]}` to be heard there.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use clap::Parser;
use millstream_live::{App, Ctx, LiveError, Merge, Module, RegistrationErrors, Stream};
use millstream_server::{
    Admission, Answer, Config, HookError, Hooks, Server, UpgradeRequest, with_live,
};
use parking_lot::Mutex;
use serde::Serialize;

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// I/O worker threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    workers: u32,
}

/// Lines that a room remembers.
const LINES_MAX: u32 = 100;
/// Rooms; a new one beyond that is refused.
const ROOMS_MAX: usize = 10_000;

/// The newest lines of each room.
#[derive(Default)]
struct Rooms(Mutex<HashMap<String, VecDeque<Line>>>);

#[derive(Clone, Serialize)]
struct Line {
    from: String,
    text: String,
}

/// Users are known by their name.
type Cx = Ctx<Rooms, String>;

async fn say(ctx: Cx, room: String, text: String) -> Result<(), LiveError> {
    if text.is_empty() || text.chars().count() > 500 {
        return Err(LiveError::new("BAD_TEXT", "a line has 1 to 500 characters"));
    }
    let from = ctx.require_user()?.clone();
    let line = Line { from, text };
    // Remembered and published under one lock, so that both have one order.
    let mut rooms = ctx.state().0.lock();
    if rooms.len() >= ROOMS_MAX && !rooms.contains_key(&room) {
        return Err(LiveError::new("NO_MORE_ROOMS", ""));
    }
    let lines = rooms.entry(room.clone()).or_default();
    lines.push_back(line.clone());
    if lines.len() > LINES_MAX as usize {
        lines.pop_front();
    }
    ctx.publish(&format!("chat:{room}"), "said", &line)?;
    Ok(())
}

async fn lines(ctx: Cx, room: String) -> Result<VecDeque<Line>, LiveError> {
    let rooms = ctx.state().0.lock();
    Ok(rooms.get(&room).cloned().unwrap_or_default())
}

fn app() -> Result<App<Rooms, String>, RegistrationErrors> {
    let lines = Stream::by(|room: String| format!("chat:{room}"))
        .load(lines)
        .merge(Merge::Latest)
        .max(LINES_MAX);
    let chat = Module::new("chat")
        .authenticated()
        .call("say", say)
        .stream("lines", lines);
    App::new(Rooms::default()).module(chat).build()
}

/// Who connects says who it is. A real application would look at a cookie or a token.
struct Names;

impl Hooks for Names {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        Ok(match request.query("user") {
            Some(name) => Admission::user(name.into_owned()),
            None => Admission::anonymous(),
        })
        .into()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut config = Config::default();
    config.listen = args.listen;
    config.workers = args.workers;
    let hooks = with_live(app()?, Names);
    let server = Server::builder(hooks).config(config).bind().await?;
    server.announce()?;
    server.run().await?;
    Ok(())
}
