//! Users, rooms they may enter, and a clock that everybody sees.
//!
//! Connect to `/ws?user=ada`, subscribe to `room:ada` or `clock`, and send any text: it appears in
//! your room. The check of who may enter takes a while, as a look into a database would.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use millstream_core::{RawJsonRef, TopicName, write_json_str};
use millstream_server::{
    Admission, Answer, Config, Context, HookError, Hooks, Message, PublishOptions, Server,
    UpgradeRequest, Verdict,
};

#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// I/O worker threads; 0 means one per core.
    #[arg(long, default_value_t = 0)]
    workers: u32,
}

struct Rooms;

/// What a connection is known by. The server carries it and gives it back typed.
struct User(String);

impl Hooks for Rooms {
    fn has_upgrade(&self) -> bool {
        true
    }

    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        let admission = match request.query("user") {
            Some(name) => Admission::user(User(name.into_owned())),
            None => Admission::Reject,
        };
        Ok(admission).into()
    }

    fn subscribe(
        &self,
        cx: &mut Context<'_>,
        topic: &TopicName,
    ) -> Answer<Result<Verdict, HookError>> {
        let (conn, topic) = (cx.conn(), topic.clone());
        Answer::later(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let own = conn
                .user()
                .is_some_and(|User(name)| *topic == format!("room:{name}"));
            Ok(if own || &*topic == "clock" {
                Verdict::Allow
            } else {
                Verdict::FORBIDDEN
            })
        })
    }

    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {
        let (Message::Text(text), Some(User(name))) = (message, cx.user()) else {
            return;
        };
        let room = format!("room:{name}");
        let mut data = Vec::new();
        write_json_str(&mut data, text);
        let published = RawJsonRef::parse(&data)
            .map(|data| cx.publish(&room, "said", data, PublishOptions::default()));
        if !matches!(published, Ok(Ok(_))) {
            cx.close(1013, "too much at once");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut config = Config::default();
    config.listen = args.listen;
    config.workers = args.workers;
    config.open_topics = Some(vec!["room:*".to_owned(), "clock".to_owned()]);
    let server = Server::builder(Rooms).config(config).bind().await?;
    server.announce()?;
    let handle = server.handle();
    tokio::spawn(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        for count in 0_u64.. {
            seconds.tick().await;
            let count = count.to_string();
            if let Ok(data) = RawJsonRef::parse_str(&count) {
                // Nobody listens, or a worker is behind: the next second comes anyway.
                let _ = handle.publish("clock", "tick", data, PublishOptions::default());
            }
        }
    });
    server.run().await?;
    Ok(())
}
