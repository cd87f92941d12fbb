//! Small responses.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A body without a content type.
pub(super) fn bare(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// A plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = bare(status, body);
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}

/// JSON; the types passed here always serialise.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = bare(status, serde_json::to_vec(body).unwrap_or_default());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// 405 that says what is allowed.
pub(super) fn method_not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// 503 that asks to come back in a second.
pub(super) fn unavailable(body: &'static str) -> Response<Full<Bytes>> {
    retry_after(
        text(StatusCode::SERVICE_UNAVAILABLE, body),
        Duration::from_secs(1),
    )
}

/// Adds `Retry-After`, whole seconds rounded up.
pub(super) fn retry_after(
    mut response: Response<Full<Bytes>>,
    wait: Duration,
) -> Response<Full<Bytes>> {
    let seconds = wait.as_millis().div_ceil(1_000).max(1);
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// Asks hyper to close the connection: what is left of the request's body is not read.
pub(super) fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Notes that the response depends on `Origin`.
pub(super) fn varies_by_origin(response: &mut Response<Full<Bytes>>) {
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Origin"));
}

/// What every response carries.
pub(super) fn finish(response: &mut Response<Full<Bytes>>) {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let nosniff = HeaderValue::from_static("nosniff");
        response
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    }
}

pub(super) fn html_escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}
