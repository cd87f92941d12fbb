//! Replay on topics that begin with `rp:`: the server keeps their newest events, and clients ask
//! for what they missed by message or when they resume.

use millstream_core::{RawJson, RawJsonRef};
use millstream_live::{LiveError, Module};
use millstream_replay::{encode_record, parse_number, write_end, write_msg};
use millstream_server::{Context, Handle};
use serde::Serialize;

use crate::ctl::{Cx, Json, data};
use crate::identity::Identity;
use crate::state::Shared;

/// Topics that can be asked for, and how many of their events are kept.
pub(crate) const TOPICS: &str = "rp:*";
pub(crate) const EVENTS: u32 = 10;

/// Adds the engine's calls to the module `plug`.
pub(crate) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call(
            "replayPublish",
            async |ctx: Cx, topic: String, event: String, json: Json| {
                publish(&ctx, &topic, &event, data(json).get())
            },
        )
        .call(
            "replayPublishMany",
            async |ctx: Cx, topic: String, event: String, list: Vec<RawJson>| {
                for json in &list {
                    publish(&ctx, &topic, &event, json.get())?;
                }
                Ok(position(&ctx, &topic))
            },
        )
        .call("replaySeq", async |ctx: Cx, topic: String| {
            Ok(position(&ctx, &topic))
        })
        .call("replaySince", since)
}

fn position(ctx: &Cx, topic: &str) -> Option<u64> {
    ctx.platform().position(topic)
}

fn publish(
    ctx: &Cx,
    topic: &str,
    event: &str,
    data: RawJsonRef<'_>,
) -> Result<Option<u64>, LiveError> {
    let published = ctx.publish_raw(topic, event, data, Default::default())?;
    Ok(published.seq)
}

#[derive(Serialize)]
struct Record {
    seq: u64,
    topic: String,
    event: String,
    data: RawJson,
}

async fn since(ctx: Cx, topic: String, number: RawJson) -> Result<Vec<Record>, LiveError> {
    let number = parse_number(number.get());
    let history = number.and_then(|number| ctx.platform().since(&topic, number));
    let events = history.map(|history| history.events).unwrap_or_default();
    let record = |event: &millstream_server::Retained| Record {
        seq: event.number(),
        topic: topic.clone(),
        event: event.event().to_owned(),
        data: event.data().to_owned(),
    };
    Ok(events.iter().map(record).collect())
}

/// Answers a client's request. False when the message is none.
pub(crate) fn handle_message(cx: &mut Context<'_>, message: RawJsonRef<'_>) -> bool {
    let text = |name| message.field(name).and_then(|field| field.as_json_str());
    let (Some(kind), Some(topic)) = (text("type"), text("topic")) else {
        return false;
    };
    let topic = topic.to_cow();
    if !kind.eq_str("replay") || !is_replayed(&topic) {
        return false;
    }
    let request_id = message.field("reqId");
    for text in answer(&cx.handle(), &topic, message.field("since"), request_id) {
        cx.send_text(&text);
    }
    true
}

/// Whether a topic can be asked for.
pub(crate) fn is_replayed(topic: &str) -> bool {
    topic.starts_with("rp:")
}

/// What a client is sent: one message per missed event, then the end, which says whether there
/// was more.
pub(crate) fn answer(
    server: &Handle,
    topic: &str,
    since: Option<RawJsonRef<'_>>,
    request_id: Option<RawJsonRef<'_>>,
) -> Vec<String> {
    let number = since.and_then(parse_number);
    let history = number.and_then(|number| server.since(topic, number));
    let mut texts = Vec::new();
    let mut push = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut text = Vec::new();
        write(&mut text);
        texts.extend(String::from_utf8(text));
    };
    let complete = history.as_ref().is_none_or(|history| history.is_complete());
    for event in history.iter().flat_map(|history| &history.events) {
        let record = encode_record(event.number(), event.event(), event.data());
        push(&|out| write_msg(out, topic, request_id, &record));
    }
    push(&|out| write_end(out, topic, request_id, !complete));
    texts
}
