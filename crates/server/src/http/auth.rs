//! The auth preflight: an ordinary POST before the upgrade, so that cookies can be set.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, SET_COOKIE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

use super::hook::{Failure, ask};
use super::{Site, Via, respond};
use crate::cookies::CookieJar;
use crate::hooks::{AuthOutcome, AuthRequest};
use crate::metrics::Auth;

const BODY_BYTES_MAX: usize = 65_536;
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Answers a request for the auth path.
pub(super) async fn authenticate(
    site: &Arc<Site>,
    via: &Via,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let cross = site
        .origin
        .cross_origin(request.headers())
        .map(str::to_owned);
    let (outcome, mut response) = decide(site, via, request, cross.is_some()).await;
    site.metrics.auths.count(outcome);
    // Also on refusals, so that the page sees the status and not a network error.
    if let Some(origin) = cross.and_then(|origin| HeaderValue::try_from(origin).ok()) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        respond::varies_by_origin(&mut response);
    }
    response
}

async fn decide(
    site: &Arc<Site>,
    via: &Via,
    request: Request<Incoming>,
    cross_origin: bool,
) -> (Auth, Response<Full<Bytes>>) {
    if *request.method() == Method::OPTIONS
        && cross_origin
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    {
        return (Auth::Preflight, grant());
    }
    if *request.method() != Method::POST {
        return (Auth::BadRequest, respond::method_not_allowed("POST"));
    }
    if site.config.auth_require_origin && !passes_guard(site, request.headers()) {
        let response = respond::text(StatusCode::FORBIDDEN, "Origin not allowed");
        return (Auth::OriginRefused, respond::closing(response));
    }
    let slot = site.auths.take(site.config.auth_concurrent_max as usize);
    let Some(_slot) = slot.filter(|_| !site.is_closed()) else {
        let response = respond::unavailable("Server is at capacity, please retry");
        return (Auth::OverCapacity, respond::closing(response));
    };
    let (head, body) = request.into_parts();
    let body = match read_body(site, body).await {
        Ok(body) => body,
        Err(response) => return (Auth::BadRequest, respond::closing(response)),
    };
    let request = AuthRequest {
        cookies: CookieJar::from_headers(&head.headers),
        remote_address: site.address.address(&head.headers, via.peer),
        request_id: super::request_id::request_id(&head.headers),
        url: head
            .uri
            .path_and_query()
            .map_or("/", |url| url.as_str())
            .to_owned(),
        method: head.method,
        headers: head.headers,
        body,
    };
    ask_hook(site, request).await
}

async fn ask_hook(site: &Site, request: AuthRequest) -> (Auth, Response<Full<Bytes>>) {
    let request_id = request.request_id.clone();
    let answer = ask(site.config.upgrade_timeout, || {
        site.hooks.authenticate(request)
    })
    .await;
    match answer {
        Ok(AuthOutcome::Accept { cookies }) => {
            let response = respond::bare(StatusCode::NO_CONTENT, "");
            (Auth::Accepted, with_cookies(response, &cookies))
        }
        Ok(AuthOutcome::Reject) => (
            Auth::Rejected,
            respond::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        ),
        Ok(AuthOutcome::Respond { response, cookies }) if !response.status().is_informational() => {
            (
                Auth::HookResponded,
                with_cookies(response.map(Full::new), &cookies),
            )
        }
        Ok(AuthOutcome::Respond { .. }) => {
            tracing::warn!(%request_id, "an auth hook may not answer with a 1xx status");
            (Auth::HookFailed, internal_error())
        }
        Err(failure) => {
            tracing::warn!(%request_id, "auth preflight: {failure}");
            match failure {
                Failure::TimedOut => (
                    Auth::TimedOut,
                    respond::text(StatusCode::GATEWAY_TIMEOUT, "Authentication timed out"),
                ),
                Failure::Failed(_) | Failure::Panicked => (Auth::HookFailed, internal_error()),
            }
        }
    }
}

fn internal_error() -> Response<Full<Bytes>> {
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

/// A cross-site page cannot send these headers without a CORS grant, nor forge the other two.
/// `svelte-adapter-uws` is what the JS client sends.
fn passes_guard(site: &Site, headers: &HeaderMap) -> bool {
    let equals = |name: HeaderName, wanted: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    equals(REQUESTED_WITH, "XMLHttpRequest")
        || equals(REQUESTED_WITH, "svelte-adapter-uws")
        || equals(FETCH_SITE, "same-origin")
        || site.origin.allows(headers, false)
}

/// The body, or the refusal: 413 at 64 KiB, 503 when it does not arrive (a 4xx would be final).
async fn read_body(site: &Site, body: Incoming) -> Result<Bytes, Response<Full<Bytes>>> {
    let too_large = || respond::text(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large");
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(site.config.header_read_timeout, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) | Err(_) => Err(respond::unavailable("The request body did not arrive")),
    }
}

fn with_cookies(mut response: Response<Full<Bytes>>, cookies: &CookieJar) -> Response<Full<Bytes>> {
    for line in cookies.header_values() {
        response.headers_mut().append(SET_COOKIE, line);
    }
    response
}

/// The answer to a CORS preflight of an origin that the policy names.
fn grant() -> Response<Full<Bytes>> {
    let mut response = respond::bare(StatusCode::NO_CONTENT, "");
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "x-requested-with, content-type, x-request-id",
        ),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
