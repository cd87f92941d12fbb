//! What a call does to connections: the caller's own, or those of a user.

use std::time::Duration;

use millstream_core::RawJson;
use millstream_live::{LiveError, Module};
use millstream_server::{Conn, Peer};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{Cx, Json, connection, data, server};
use crate::identity::Identity;
use crate::state::Shared;

/// How long a call that ends its own connection waits, so that its reply may get out.
const LAST_WORDS: Duration = Duration::from_millis(10);

pub(super) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    asking(ending(subscribing(sending(module))))
}

fn sending(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call(
            "send",
            async |ctx: Cx, topic: String, event: String, json: Json| {
                connection(&ctx)?.send(&topic, &event, data(json))?;
                Ok(true)
            },
        )
        .call("sendTo", send_to)
        .call("sendCoalesced", async |ctx: Cx, list: Vec<Coalesced>| {
            let (conn, count) = (connection(&ctx)?, list.len());
            for one in list {
                conn.send_coalesced(&one.key, &one.topic, &one.event, data(one.data))?;
            }
            Ok(count)
        })
}

fn subscribing(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call("subscribeMe", async |ctx: Cx, topic: String| {
            Ok(connection(&ctx)?.subscribe(&topic).await.err())
        })
        .call("checkMe", async |ctx: Cx, topic: String| {
            Ok(connection(&ctx)?.check_subscribe(&topic).await.err())
        })
        .call("unsubscribeMe", async |ctx: Cx, topic: String| {
            Ok(connection(&ctx)?.unsubscribe(&topic).await)
        })
        .call("holds", async |ctx: Cx, topic: String| {
            Ok(connection(&ctx)?.holds(&topic).await)
        })
        .call("subscribers", async |ctx: Cx, topic: String| {
            Ok(server(&ctx)?.subscribers(&topic))
        })
        .call("connections", async |ctx: Cx| {
            Ok(server(&ctx)?.connections())
        })
}

fn ending(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call(
            "closeMe",
            async |ctx: Cx, code: u16, reason: Option<String>| {
                let conn = connection(&ctx)?;
                soon(move || conn.close(code, &reason.unwrap_or_default()));
                Ok(true)
            },
        )
        .call("dropMe", async |ctx: Cx| {
            let conn = connection(&ctx)?;
            soon(move || conn.terminate());
            Ok(true)
        })
        .call(
            "closeUser",
            async |ctx: Cx, user: String, code: u16, reason: Option<String>| {
                let reason = reason.unwrap_or_default();
                Ok(server(&ctx)?.close_where(is_of(user), code, &reason).await)
            },
        )
        .call("dropUser", async |ctx: Cx, user: String| {
            Ok(server(&ctx)?.terminate_where(is_of(user)).await)
        })
}

fn asking(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call("request", request)
        .call("requestLogged", request_logged)
}

fn soon(end: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        sleep(LAST_WORDS).await;
        end();
    });
}

/// Accepts the connections of one user.
fn is_of(user: String) -> impl Fn(&Peer) -> bool + Send + Sync + 'static {
    move |peer| {
        let identity = peer.user.get::<Identity>();
        identity.and_then(|identity| identity.id.as_deref()) == Some(&*user)
    }
}

async fn send_to(
    ctx: Cx,
    user: String,
    topic: String,
    event: String,
    json: Json,
) -> Result<usize, LiveError> {
    let sent = server(&ctx)?.send_to(is_of(user), &topic, &event, data(json));
    Ok(sent.await)
}

#[derive(Deserialize)]
struct Coalesced {
    key: String,
    topic: String,
    event: String,
    data: Json,
}

/// What came of a request to the client.
#[derive(Serialize)]
struct Answer {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn request(
    ctx: Cx,
    event: String,
    json: Json,
    timeout_ms: Option<u64>,
) -> Result<Answer, LiveError> {
    let (value, error) = match ask(&connection(&ctx)?, &event, json, timeout_ms).await {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    };
    Ok(Answer {
        ok: error.is_none(),
        value,
        error,
    })
}

async fn request_logged(
    ctx: Cx,
    log: String,
    event: String,
    json: Json,
    timeout_ms: Option<u64>,
) -> Result<bool, LiveError> {
    let conn = connection(&ctx)?;
    tokio::spawn(async move {
        let line = match ask(&conn, &event, json, timeout_ms).await {
            Ok(value) => format!("ok {}", value.as_str()),
            Err(error) => format!("error {error}"),
        };
        ctx.state().log(&log, line);
    });
    Ok(true)
}

/// The answer, or the error's text. No time or none at all means the default.
async fn ask(
    conn: &Conn,
    event: &str,
    json: Json,
    timeout_ms: Option<u64>,
) -> Result<RawJson, String> {
    let timeout = timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis);
    let answer = conn.request(event, data(json), timeout).await;
    answer.map_err(|error| error.to_string())
}
