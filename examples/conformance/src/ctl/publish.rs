//! Publishing in every form. All of these take effect before the reply is written.

use millstream_core::{RawJson, RawJsonRef};
use millstream_live::{BatchEvent, LiveError, Module, code};
use millstream_server::{BatchMember, PublishError, PublishOptions};
use serde::Deserialize;

use super::{Cx, Json, bounded, connection, data, server};
use crate::identity::Identity;
use crate::state::Shared;

const NUMBERED: PublishOptions = PublishOptions {
    numbered: true,
    volatile: false,
};
const VOLATILE: PublishOptions = PublishOptions {
    numbered: false,
    volatile: true,
};

pub(super) fn add(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    platform(application(module))
}

/// Publishes as an application may: not on system topics.
fn application(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call(
            "publish",
            async |ctx: Cx, topic: String, event: String, json: Json| {
                ctx.publish_raw(&topic, &event, data(json).get(), NUMBERED)?;
                Ok(true)
            },
        )
        .call(
            "publishVolatile",
            async |ctx: Cx, topic: String, event: String, json: Json| {
                ctx.publish_raw(&topic, &event, data(json).get(), VOLATILE)?;
                Ok(true)
            },
        )
        .call("batch", async |ctx: Cx, list: Vec<Member>| {
            let events: Vec<BatchEvent<'_>> = list.iter().map(Member::event).collect();
            ctx.publish_batch(&events)?;
            Ok(true)
        })
        .call("publishMany", many)
        .call("publishPairs", pairs)
}

async fn many(
    ctx: Cx,
    topic: String,
    event: String,
    list: Vec<RawJson>,
) -> Result<usize, LiveError> {
    for data in &list {
        ctx.publish_raw(&topic, &event, data.get(), NUMBERED)?;
    }
    Ok(list.len())
}

async fn pairs(ctx: Cx, topic: String, list: Vec<(String, RawJson)>) -> Result<usize, LiveError> {
    for (event, data) in &list {
        ctx.publish_raw(&topic, event, data.get(), NUMBERED)?;
    }
    Ok(list.len())
}

/// The transport's own verbs, for which every topic is equal.
fn platform(module: Module<Shared, Identity>) -> Module<Shared, Identity> {
    module
        .call("publishRaw", publish_raw)
        .call("publishLoop", publish_loop)
        .call("publishBatched", async |ctx: Cx, list: Vec<Member>| {
            batched(&ctx, &list)?;
            Ok(None::<bool>)
        })
        .call("helpers", helpers)
        .call("mixed", mixed)
        .call("health", async |ctx: Cx, event: String| {
            publish(&ctx, "__realtime", &event, r#"{"topic":"health"}"#).await?;
            Ok(true)
        })
        .call("flood", flood)
}

async fn publish_raw(
    ctx: Cx,
    topic: String,
    event: String,
    json: Json,
    options: Option<Options>,
) -> Result<bool, LiveError> {
    let options = PublishOptions {
        numbered: options.unwrap_or_default().seq != Some(false),
        volatile: false,
    };
    let published = server(&ctx)?.publish(&topic, &event, data(json).get(), options);
    Ok(published.map_err(|error| refused(&error))?.delivered)
}

async fn publish_loop(ctx: Cx, list: Vec<Member>) -> Result<Vec<bool>, LiveError> {
    let mut delivered = Vec::with_capacity(list.len());
    for member in &list {
        let text = member.data().as_str();
        delivered.push(publish(&ctx, &member.topic, &member.event, text).await?);
    }
    Ok(delivered)
}

async fn helpers(ctx: Cx, topic: String) -> Result<bool, LiveError> {
    for (event, data) in [
        ("created", r#"{"id":1}"#),
        ("updated", r#"{"id":1}"#),
        ("deleted", r#"{"id":1}"#),
        ("set", "5"),
        ("increment", "1"),
        ("decrement", "3"),
        ("custom", r#""x""#),
    ] {
        publish(&ctx, &topic, event, data).await?;
    }
    Ok(true)
}

async fn mixed(ctx: Cx, topic: String) -> Result<bool, LiveError> {
    publish(&ctx, &topic, "one", "1").await?;
    let two = RawJson::from_serialize(&2)?;
    connection(&ctx)?.send(&topic, "two", two)?;
    publish(&ctx, &topic, "three", "3").await?;
    Ok(true)
}

async fn flood(ctx: Cx, topic: String, times: usize, size: usize) -> Result<usize, LiveError> {
    let pad = "x".repeat(bounded(size));
    let times = bounded(times);
    for at in 0..times {
        let data = format!(r#"{{"i":{at},"pad":"{pad}"}}"#);
        publish(&ctx, &topic, "flood", &data).await?;
    }
    Ok(times)
}

/// Whether anybody was subscribed. Waits while the workers are too far behind to take more.
async fn publish(ctx: &Cx, topic: &str, event: &str, data: &str) -> Result<bool, LiveError> {
    let data = RawJsonRef::parse_str(data)?;
    loop {
        match server(ctx)?.publish(topic, event, data, NUMBERED) {
            Ok(published) => return Ok(published.delivered),
            Err(PublishError::Busy) => tokio::task::yield_now().await,
            Err(error) => return Err(refused(&error)),
        }
    }
}

fn batched(ctx: &Cx, list: &[Member]) -> Result<(), LiveError> {
    let members: Vec<BatchMember<'_>> = list.iter().map(Member::borrowed).collect();
    let queued = ctx.platform().publish_batched(&members);
    queued.map(drop).map_err(|error| refused(&error))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    topic: String,
    event: String,
    data: Json,
    coalesce_key: Option<String>,
    options: Option<Options>,
}

impl Member {
    fn data(&self) -> RawJsonRef<'_> {
        self.data.as_ref().map_or(RawJsonRef::NULL, RawJson::get)
    }

    fn event(&self) -> BatchEvent<'_> {
        let event = BatchEvent::raw(&self.topic, &self.event, data(self.data.clone()));
        event.options(PublishOptions {
            numbered: self.is_numbered(),
            ..NUMBERED
        })
    }

    fn is_numbered(&self) -> bool {
        let options = self.options.as_ref();
        options.is_none_or(|options| options.seq != Some(false))
    }

    fn borrowed(&self) -> BatchMember<'_> {
        BatchMember {
            topic: &self.topic,
            event: &self.event,
            data: self.data(),
            coalesce_key: self.coalesce_key.as_deref(),
            numbered: self.is_numbered(),
        }
    }
}

/// `relay` has no meaning in one process and is accepted.
#[derive(Deserialize, Default)]
struct Options {
    seq: Option<bool>,
}

fn refused(error: &PublishError) -> LiveError {
    LiveError::new(code::INVALID_REQUEST, error.to_string())
}
