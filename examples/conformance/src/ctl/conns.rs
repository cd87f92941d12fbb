//! What a call does to connections: the caller's own, or those of a user.

use std::time::Duration;

use millstream_core::RawJson;
use millstream_server::{Conn, Context, Handle, Peer};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::{Args, Handled, Outcome, encode, json, now, owned_json};
use crate::calls::Failure;
use crate::hooks::App;
use crate::identity::Identity;

/// How long a call that ends its own connection waits, so that its reply may get out.
const LAST_WORDS: Duration = Duration::from_millis(10);

pub(super) fn run(app: &App, cx: &mut Context<'_>, name: &str, args: &Args) -> Handled {
    run_inner(app, cx, name, args).transpose()
}

fn run_inner(
    app: &App,
    cx: &mut Context<'_>,
    name: &str,
    args: &Args,
) -> Result<Option<Outcome>, Failure> {
    Ok(Some(match name {
        "send" => {
            cx.send(&args.text(0)?, &args.text(1)?, json(args.raw(2))?);
            now(true)?
        }
        "sendTo" => send_to(cx, args)?,
        "sendCoalesced" => send_coalesced(cx, args)?,
        "subscribeMe" | "checkMe" => subscribe(cx.conn(), name == "checkMe", args.text(0)?),
        "unsubscribeMe" => now(cx.unsubscribe(&args.text(0)?))?,
        "holds" => now(cx.holds(&args.text(0)?))?,
        "subscribers" => now(cx.handle().subscribers(&args.text(0)?))?,
        "connections" => now(cx.handle().connections())?,
        "closeMe" | "dropMe" => {
            let how = if name == "dropMe" {
                How::Drop
            } else {
                How::close(args, 0)?
            };
            let conn = cx.conn();
            app.runtime.spawn(async move {
                sleep(LAST_WORDS).await;
                how.end(&conn);
            });
            now(true)?
        }
        "closeUser" | "dropUser" => {
            let how = if name == "dropUser" {
                How::Drop
            } else {
                How::close(args, 1)?
            };
            let (handle, user) = (cx.handle(), args.text(0)?);
            Outcome::later(async move { encode(how.end_all(&handle, user).await) })
        }
        "request" => {
            let question = Question::read(cx.conn(), args, 0)?;
            Outcome::later(async move {
                let answer = match question.ask().await {
                    Ok(value) => format!(r#"{{"ok":true,"value":{value}}}"#),
                    Err(error) => {
                        let error = serde_json::Value::from(error);
                        format!(r#"{{"ok":false,"error":{error}}}"#)
                    }
                };
                Ok(Some(answer))
            })
        }
        "requestLogged" => {
            let (log, question) = (args.text(0)?, Question::read(cx.conn(), args, 1)?);
            let state = app.state.clone();
            app.runtime.spawn(async move {
                let line = match question.ask().await {
                    Ok(value) => format!("ok {value}"),
                    Err(error) => format!("error {error}"),
                };
                state.log(&log, line);
            });
            now(true)?
        }
        _ => return Ok(None),
    }))
}

/// Accepts the connections of one user.
fn is_of(user: String) -> impl Fn(&Peer) -> bool + Send + Sync + 'static {
    move |peer| {
        let identity = peer.user.get::<Identity>();
        identity.and_then(|identity| identity.id.as_deref()) == Some(&*user)
    }
}

fn send_to(cx: &Context<'_>, args: &Args) -> Result<Outcome, Failure> {
    let (user, topic, event) = (args.text(0)?, args.text(1)?, args.text(2)?);
    let (handle, data) = (cx.handle(), owned_json(args.raw(3))?);
    Ok(Outcome::later(async move {
        encode(handle.send_to(is_of(user), &topic, &event, data).await)
    }))
}

fn send_coalesced(cx: &mut Context<'_>, args: &Args) -> Result<Outcome, Failure> {
    #[derive(Deserialize)]
    struct Entry {
        key: String,
        topic: String,
        event: String,
        data: Option<Box<RawValue>>,
    }
    let list: Vec<Entry> = args.parse(0)?;
    for entry in &list {
        let data = json(entry.data.as_ref().map_or("null", |data| data.get()))?;
        cx.send_coalesced(&entry.key, &entry.topic, &entry.event, data);
    }
    now(list.len())
}

/// Null, or the reason why not.
fn subscribe(conn: Conn, only_ask: bool, topic: String) -> Outcome {
    Outcome::later(async move {
        let result = if only_ask {
            conn.check_subscribe(&topic).await
        } else {
            conn.subscribe(&topic).await
        };
        encode(result.err())
    })
}

/// How a connection ends.
enum How {
    Close { code: u16, reason: String },
    Drop,
}

impl How {
    /// Code and reason, from the argument at `at` on.
    fn close(args: &Args, at: usize) -> Result<Self, Failure> {
        let reason: Option<String> = args.parse(at + 1)?;
        Ok(Self::Close {
            code: args.parse(at)?,
            reason: reason.unwrap_or_default(),
        })
    }

    fn end(&self, conn: &Conn) {
        match self {
            Self::Close { code, reason } => conn.close(*code, reason),
            Self::Drop => conn.terminate(),
        }
    }

    /// Ends every connection of a user; how many there were.
    async fn end_all(&self, handle: &Handle, user: String) -> usize {
        match self {
            Self::Close { code, reason } => handle.close_where(is_of(user), *code, reason).await,
            Self::Drop => handle.terminate_where(is_of(user)).await,
        }
    }
}

/// A request to the client.
struct Question {
    conn: Conn,
    event: String,
    data: RawJson,
    timeout: Option<Duration>,
}

impl Question {
    /// Event, data and time limit, from the argument at `at` on.
    fn read(conn: Conn, args: &Args, at: usize) -> Result<Self, Failure> {
        let limit: Option<u64> = args.parse(at + 2)?;
        Ok(Self {
            conn,
            event: args.text(at)?,
            data: owned_json(args.raw(at + 1))?,
            // Zero means the default, as does nothing.
            timeout: limit.filter(|&ms| ms > 0).map(Duration::from_millis),
        })
    }

    /// The answer as JSON text, or the error's text.
    async fn ask(self) -> Result<String, String> {
        let answer = self
            .conn
            .request(&self.event, self.data, self.timeout)
            .await;
        answer
            .map(|value| value.as_str().to_owned())
            .map_err(|error| error.to_string())
    }
}
