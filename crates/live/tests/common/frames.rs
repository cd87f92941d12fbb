//! Requests written by hand on the harness, for members that its clients do not write, and replies
//! as they came, before a client has folded them.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_live::User;
use millstream_live::testing::{ClientId, Testbed};
use serde_json::Value;

static IDS: AtomicU64 = AtomicU64::new(0);

/// Sends a request with further members; gives its id.
pub(crate) fn start<S: Send + Sync + 'static, U: User>(
    bed: &mut Testbed<S, U>,
    client: ClientId,
    path: &str,
    members: &str,
) -> String {
    let id = format!("r{}", IDS.fetch_add(1, Ordering::Relaxed));
    bed.send_text(
        client,
        &format!(r#"{{"rpc":"{path}","id":"{id}"{members}}}"#),
    );
    id
}

/// The reply to a request, if there is one.
pub(crate) fn reply<S: Send + Sync + 'static, U: User>(
    bed: &Testbed<S, U>,
    client: ClientId,
    id: &str,
) -> Option<Value> {
    let start = format!(r#"{{"topic":"__rpc","event":"{id}","data":"#);
    let mut frames = bed.frames(client).filter(|frame| frame.starts_with(&start));
    let frame = frames.next()?;
    assert!(frames.next().is_none(), "answered twice: {id}");
    let frame: Value = serde_json::from_str(frame).expect("JSON");
    Some(frame["data"].clone())
}

/// Sends a request and gives its reply, which has to come without time passing.
pub(crate) fn ask<S: Send + Sync + 'static, U: User>(
    bed: &mut Testbed<S, U>,
    client: ClientId,
    path: &str,
    members: &str,
) -> Value {
    let before = bed.elapsed();
    let id = start(bed, client, path, members);
    assert_eq!(bed.elapsed(), before);
    let reply = reply(bed, client, &id);
    reply.unwrap_or_else(|| panic!("{path}{members} waits"))
}

/// Subscribes with a list of arguments; gives the whole reply.
pub(crate) fn subscribe<S: Send + Sync + 'static, U: User>(
    bed: &mut Testbed<S, U>,
    client: ClientId,
    path: &str,
    args: &Value,
) -> Value {
    ask(bed, client, path, &subscription(args))
}

/// The members of a subscription.
pub(crate) fn subscription(args: &Value) -> String {
    format!(r#","args":{args},"stream":true"#)
}
