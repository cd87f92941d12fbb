//! Calls: recognising their frames, and the shape of their replies.

use millstream_core::RawJsonRef;
use millstream_server::{Conn, Context};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ctl::{self, Outcome};
use crate::hooks::App;

/// A frame `{"rpc":path,"id":id,"args":[...]}`.
pub(crate) struct Call {
    pub(crate) path: String,
    /// Without an id no reply is wanted.
    id: Option<String>,
    args: Args,
}

enum Args {
    List(Vec<Box<RawValue>>),
    NoList,
}

#[derive(Deserialize)]
struct Frame {
    rpc: String,
    #[serde(default, deserialize_with = "present")]
    id: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    args: Option<Box<RawValue>>,
}

/// Tells an absent member from one that is null.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

impl Call {
    /// Bytes that are not claimed belong to the application's other messages.
    pub(crate) fn recognise(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 10 || bytes[0] != b'{' || bytes[2] != b'r' {
            return None;
        }
        // Nesting beyond the limit is refused by this parser, as it should be.
        RawJsonRef::parse(bytes).ok()?;
        let frame: Frame = serde_json::from_slice(bytes).ok()?;
        let id = match frame.id {
            None if frame.rpc.is_empty() => return None,
            None => None,
            Some(id) => Some(serde_json::from_str(id.get()).ok()?),
        };
        let args = match frame.args {
            None => Args::List(Vec::new()),
            Some(args) => serde_json::from_str(args.get()).map_or(Args::NoList, Args::List),
        };
        Some(Self {
            path: frame.rpc,
            id,
            args,
        })
    }
}

/// Why a call fails, as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    #[serde(rename = "error")]
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }

    pub(crate) fn internal() -> Self {
        Self::new("INTERNAL_ERROR", "Internal server error")
    }
}

/// A JSON text, or no value at all.
pub(crate) type Reply = Result<Option<String>, Failure>;

/// Runs a call and replies, now or later.
pub(crate) fn answer(app: &App, cx: &mut Context<'_>, call: Call) {
    let outcome = match call.args {
        _ if !is_path(&call.path) => {
            Outcome::Now(Err(Failure::new("INVALID_REQUEST", "Invalid path")))
        }
        Args::NoList => Outcome::Now(Err(Failure::new(
            "INVALID_REQUEST",
            "args must be an array",
        ))),
        Args::List(args) => ctl::run(app, cx, &call.path, args.into()),
    };
    let id = call.id;
    match outcome {
        Outcome::Now(reply) => {
            if let Some(id) = id
                && let Some(data) = encode(&id, reply)
                && let Ok(data) = RawJsonRef::parse(data.as_bytes())
            {
                cx.send("__rpc", &id, data);
            }
        }
        Outcome::Later(work) => {
            let conn = cx.conn();
            app.runtime.spawn(async move {
                let reply = work.await;
                if let Some(id) = id {
                    reply_later(&conn, &id, reply);
                }
            });
        }
    }
}

fn reply_later(conn: &Conn, id: &str, reply: Reply) {
    if let Some(data) = encode(id, reply)
        && let Ok(data) = millstream_core::RawJson::parse(data.into())
    {
        // A caller whose reply finds no room waits until its own time limit.
        if conn.send("__rpc", id, data).is_err() {
            tracing::warn!("a reply was not sent: the worker is far behind");
        }
    }
}

fn encode(id: &str, reply: Reply) -> Option<String> {
    #[derive(Serialize)]
    struct Encoded<'a> {
        id: &'a str,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Box<RawValue>>,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    }
    let (data, failure) = match reply {
        Ok(data) => (data, None),
        Err(failure) => (None, Some(failure)),
    };
    // Every result was made by a serializer or checked on its way in, so this does not fail.
    let data = data.map(RawValue::from_string).transpose().ok()?;
    serde_json::to_string(&Encoded {
        id,
        ok: failure.is_none(),
        data,
        failure,
    })
    .ok()
}

/// `module/name` with at least two segments of letters, digits, `_` and `-`.
fn is_path(path: &str) -> bool {
    let segment = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    path.contains('/') && path.split('/').all(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_call_frames_are_claimed() {
        for frame in [
            r#"{"rpc":"a/b","id":"1"}"#,
            r#"{"rpc":"a/b","id":"","args":null}"#,
            r#"{"rpc":"a/b"}   "#,
        ] {
            assert!(Call::recognise(frame.as_bytes()).is_some(), "{frame}");
        }
        for frame in [
            r#"{"app":1,"rpc":"a/b"}"#,
            r#"{"rpc":5,"id":"1"}"#,
            r#"{"rpc":"a/b","id":null}"#,
            r#"{"rpc":""}   "#,
            r#"{"rpc":"a/b","id":"1""#,
            r#" {"rpc":"a/b","id":"1"}"#,
        ] {
            assert!(Call::recognise(frame.as_bytes()).is_none(), "{frame}");
        }
    }

    #[test]
    fn replies_have_the_specified_members() {
        let encoded = |reply| encode("k1", reply).expect("encodes");
        assert_eq!(encoded(Ok(None)), r#"{"id":"k1","ok":true}"#);
        assert_eq!(
            encoded(Ok(Some("null".into()))),
            r#"{"id":"k1","ok":true,"data":null}"#
        );
        assert_eq!(
            encoded(Err(Failure::new("C", "text"))),
            r#"{"id":"k1","ok":false,"code":"C","error":"text"}"#
        );
    }

    #[test]
    fn paths_have_two_segments_or_more() {
        assert!(is_path("ctl/ping") && is_path("a/b/c-d_1"));
        assert!(!is_path("ctl") && !is_path("ctl/") && !is_path("a/b\n") && !is_path("a/b.c"));
    }
}
