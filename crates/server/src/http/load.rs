//! `POST /api/load`: what a stream holds at first, for pages that are rendered on a server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use millstream_core::{ObjectWriter, RawJson, RawJsonRef};
use serde::Deserialize;

use super::api::{self, Refusal, bad, refuse};
use super::{Site, respond};
use crate::hooks::{Answer, LoadRequest};
use crate::metrics::Load;

/// How long a loader may take.
const LOAD_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    path: String,
    /// Absent reads as no arguments.
    #[serde(default)]
    args: Option<RawJson>,
    #[serde(default)]
    cursor: Option<RawJson>,
    /// Whose page it is; null for a visitor whom nobody knows. Has to be said.
    user: RawJson,
}

/// Answers a load request.
pub(super) async fn load(site: &Arc<Site>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match try_load(site, request).await {
        Ok((body, outcome)) => {
            site.metrics.loads.count(outcome);
            respond::json(StatusCode::OK, &body)
        }
        Err(refusal) => {
            site.metrics.loads.count(match refusal.status {
                StatusCode::UNAUTHORIZED => Load::Unauthorized,
                StatusCode::GATEWAY_TIMEOUT => Load::Timeout,
                _ => Load::BadRequest,
            });
            refusal.response()
        }
    }
}

async fn try_load(site: &Site, request: Request<Incoming>) -> Result<(RawJson, Load), Refusal> {
    let body = api::open(site, request).await?;
    let order: Order = api::read(&body)?;
    let args = order.args.unwrap_or(RawJson::EMPTY_LIST);
    if !args.get().is_array() {
        return Err(bad("bad_request", "args must be an array".to_owned()));
    }
    let request = LoadRequest {
        path: order.path,
        args,
        cursor: order.cursor,
        user: order.user,
    };
    let loaded = match site.hooks.load(request) {
        None => {
            return Err(refuse(
                StatusCode::NOT_FOUND,
                "no_streams",
                "there are no streams",
            ));
        }
        Some(Answer::Now(loaded)) => loaded,
        Some(Answer::Later(loading)) => match tokio::time::timeout(LOAD_TIME_MAX, loading).await {
            Ok(loaded) => loaded,
            Err(_) => {
                let message = "the stream's loader took too long";
                return Err(refuse(StatusCode::GATEWAY_TIMEOUT, "timeout", message));
            }
        },
    };
    let mut reply = ObjectWriter::new();
    let outcome = match loaded {
        Ok(value) => {
            reply.raw("ok", RawJsonRef::TRUE);
            if let Some(value) = &value {
                reply.raw("data", value.get());
            }
            Load::Loaded
        }
        Err(error) => {
            error.write(&mut reply);
            Load::Refused
        }
    };
    Ok((reply.finish(), outcome))
}
