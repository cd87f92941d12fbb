//! Publishing in every form. All of these take effect before the reply is written.

use millstream_core::RawJsonRef;
use millstream_server::{BatchMember, Context, PublishError, PublishOptions};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Args, Handled, Outcome, json, now};
use crate::calls::Failure;

const NUMBERED: PublishOptions = PublishOptions {
    numbered: true,
    volatile: false,
};
const VOLATILE: PublishOptions = PublishOptions {
    numbered: false,
    volatile: true,
};

pub(super) fn run(cx: &mut Context<'_>, name: &str, args: &Args) -> Handled {
    let ordinary = application(cx, name, args).transpose();
    ordinary.or_else(|| platform(cx, name, args).transpose())
}

/// Publishes as an application may: not on system topics.
fn application(cx: &mut Context<'_>, name: &str, args: &Args) -> Result<Option<Outcome>, Failure> {
    Ok(Some(match name {
        "publish" | "publishVolatile" => {
            let topic = ordinary(args.text(0)?)?;
            let options = if name == "publish" {
                NUMBERED
            } else {
                VOLATILE
            };
            publish(cx, &topic, &args.text(1)?, args.raw(2), options)?;
            now(true)?
        }
        "publishMany" => {
            let (topic, event) = (ordinary(args.text(0)?)?, args.text(1)?);
            let list: Vec<Box<RawValue>> = args.parse(2)?;
            for data in &list {
                publish(cx, &topic, &event, data.get(), NUMBERED)?;
            }
            now(list.len())?
        }
        "publishPairs" => {
            let topic = ordinary(args.text(0)?)?;
            let list: Vec<(String, Box<RawValue>)> = args.parse(1)?;
            for (event, data) in &list {
                publish(cx, &topic, event, data.get(), NUMBERED)?;
            }
            now(list.len())?
        }
        _ => return Ok(None),
    }))
}

/// The transport's own verbs, for which every topic is equal.
fn platform(cx: &mut Context<'_>, name: &str, args: &Args) -> Result<Option<Outcome>, Failure> {
    Ok(Some(match name {
        "publishRaw" => {
            let options: Option<Options> = args.parse(3)?;
            let options = options.unwrap_or_default().into();
            now(publish(
                cx,
                &args.text(0)?,
                &args.text(1)?,
                args.raw(2),
                options,
            )?)?
        }
        "publishLoop" => {
            let list: Vec<Member> = args.parse(0)?;
            let delivered: Vec<bool> = list
                .iter()
                .map(|member| publish(cx, &member.topic, &member.event, member.data(), NUMBERED))
                .collect::<Result<_, _>>()?;
            now(delivered)?
        }
        "publishBatched" => {
            batched(cx, &args.parse::<Vec<Member>>(0)?)?;
            now(())?
        }
        "batch" => {
            batched(cx, &args.parse::<Vec<Member>>(0)?)?;
            now(true)?
        }
        "helpers" => {
            helpers(cx, &args.text(0)?)?;
            now(true)?
        }
        "mixed" => {
            let topic = args.text(0)?;
            publish(cx, &topic, "one", "1", NUMBERED)?;
            cx.send(&topic, "two", json("2")?);
            publish(cx, &topic, "three", "3", NUMBERED)?;
            now(true)?
        }
        "health" => {
            publish(
                cx,
                "__realtime",
                &args.text(0)?,
                r#"{"topic":"health"}"#,
                NUMBERED,
            )?;
            now(true)?
        }
        "flood" => {
            let (topic, times) = (args.text(0)?, args.count(1)?);
            let pad = "x".repeat(args.count(2)?);
            for at in 0..times {
                let data = format!(r#"{{"i":{at},"pad":"{pad}"}}"#);
                publish(cx, &topic, "flood", &data, NUMBERED)?;
            }
            now(times)?
        }
        _ => return Ok(None),
    }))
}

/// Whether anybody was subscribed.
fn publish(
    cx: &mut Context<'_>,
    topic: &str,
    event: &str,
    data: &str,
    options: PublishOptions,
) -> Result<bool, Failure> {
    let published = cx
        .publish(topic, event, json(data)?, options)
        .map_err(|e| refused(&e))?;
    Ok(published.delivered)
}

fn helpers(cx: &mut Context<'_>, topic: &str) -> Result<(), Failure> {
    for (event, data) in [
        ("created", r#"{"id":1}"#),
        ("updated", r#"{"id":1}"#),
        ("deleted", r#"{"id":1}"#),
        ("set", "5"),
        ("increment", "1"),
        ("decrement", "3"),
        ("custom", r#""x""#),
    ] {
        publish(cx, topic, event, data, NUMBERED)?;
    }
    Ok(())
}

fn batched(cx: &mut Context<'_>, list: &[Member]) -> Result<(), Failure> {
    let members: Vec<BatchMember<'_>> = list
        .iter()
        .map(Member::borrowed)
        .collect::<Result<_, _>>()?;
    cx.publish_batched(&members)
        .map_err(|error| refused(&error))?;
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    topic: String,
    event: String,
    data: Option<Box<RawValue>>,
    coalesce_key: Option<String>,
    options: Option<Options>,
}

impl Member {
    fn data(&self) -> &str {
        self.data.as_ref().map_or("null", |data| data.get())
    }

    fn borrowed(&self) -> Result<BatchMember<'_>, Failure> {
        let data: RawJsonRef<'_> = json(self.data())?;
        Ok(BatchMember {
            topic: &self.topic,
            event: &self.event,
            data,
            coalesce_key: self.coalesce_key.as_deref(),
            numbered: self
                .options
                .as_ref()
                .is_none_or(|options| options.seq != Some(false)),
        })
    }
}

/// `relay` has no meaning in one process and is accepted.
#[derive(Deserialize, Default)]
struct Options {
    seq: Option<bool>,
}

impl From<Options> for PublishOptions {
    fn from(options: Options) -> Self {
        Self {
            numbered: options.seq != Some(false),
            volatile: false,
        }
    }
}

/// An application may not publish on system topics; the platform verbs may.
fn ordinary(topic: String) -> Result<String, Failure> {
    if topic.starts_with("__") {
        return Err(Failure::new("INVALID_TOPIC", "system topics are reserved"));
    }
    Ok(topic)
}

fn refused(error: &PublishError) -> Failure {
    Failure::new("INVALID_REQUEST", error.to_string())
}
