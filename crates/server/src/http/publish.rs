//! `POST /api/publish`: any language can publish.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use millstream_core::{RawJson, TopicName, TopicRules, check_event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{self, Refusal, bad, refuse};
use super::{Site, respond};
use crate::config::Config;
use crate::handover::PublishError;
use crate::metrics::Publish;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order<'a> {
    #[serde(borrow)]
    topic: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    event: std::borrow::Cow<'a, str>,
    /// Absent reads as null.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Receipt {
    delivered: bool,
    seq: Option<u64>,
}

/// Answers a publish request.
pub(super) async fn publish(site: &Arc<Site>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match try_publish(site, request).await {
        Ok(receipt) => {
            site.metrics.publishes.count(Publish::Published);
            respond::json(StatusCode::OK, &receipt)
        }
        Err(refusal) => {
            site.metrics.publishes.count(match refusal.status {
                StatusCode::UNAUTHORIZED => Publish::Unauthorized,
                StatusCode::SERVICE_UNAVAILABLE => Publish::Busy,
                _ => Publish::BadRequest,
            });
            refusal.response()
        }
    }
}

async fn try_publish(site: &Site, request: Request<Incoming>) -> Result<Receipt, Refusal> {
    let body = api::open(site, request).await?;
    let order: Order<'_> = api::read(&body)?;
    let topic = check_topic(&site.config, &order.topic)?;
    check_event(&order.event).map_err(|error| bad("bad_event", error.to_string()))?;
    if order.event.is_empty() {
        return Err(bad("bad_event", "the event name is empty".into()));
    }
    let data = match order.data.map(RawValue::get) {
        Some(data) => body.slice_ref(data.as_bytes()),
        None => Bytes::from_static(b"null"),
    };
    let data = RawJson::parse(data).map_err(|error| bad("bad_data", error.to_string()))?;
    match site.gateway.publish(&topic, &order.event, data) {
        Ok(published) => Ok(Receipt {
            delivered: published.delivered,
            seq: published.seq,
        }),
        Err(error) => Err(refused_by_hub(error)),
    }
}

fn check_topic(config: &Config, topic: &str) -> Result<TopicName, Refusal> {
    let rules = TopicRules {
        non_ascii: config.non_ascii_topics,
        system: true,
    };
    let topic =
        TopicName::parse(topic, &rules).map_err(|error| bad("bad_topic", error.to_string()))?;
    if topic.is_system() {
        let message = "topics that begin with `__` belong to the server";
        return Err(refuse(StatusCode::FORBIDDEN, "system_topic", message));
    }
    Ok(topic)
}

fn refused_by_hub(error: PublishError) -> Refusal {
    let (status, code) = match &error {
        PublishError::BadTopic => (StatusCode::BAD_REQUEST, "bad_topic"),
        PublishError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        PublishError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        PublishError::Refused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
        PublishError::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    };
    refuse(status, code, error.to_string())
}
