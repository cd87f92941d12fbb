//! What the routes for back ends share: who may use them, how a body is read, how they refuse.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use subtle::ConstantTimeEq;

use super::origin::is_loopback_host;
use super::{Site, respond};

/// A refusal with the machine's word and the human's sentence.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
}

/// Checks a request and reads its body.
pub(super) async fn open(site: &Site, request: Request<Incoming>) -> Result<Bytes, Refusal> {
    if *request.method() != Method::POST {
        return Err(refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "use POST",
        ));
    }
    check_caller(site, request.headers())?;
    if !is_json(request.headers()) {
        let message = "Content-Type must be application/json";
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        ));
    }
    if site.is_closed() {
        return Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the server is stopping",
        ));
    }
    read_body(site, request.into_body()).await
}

/// Reads a body.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => bad("bad_request", error.to_string()),
        _ => bad("bad_json", error.to_string()),
    })
}

/// Who may use these routes: holders of a key; without keys, local programs of a loopback server.
/// Never a page of another origin, which a browser would let send a request on its visitor's
/// behalf.
fn check_caller(site: &Site, headers: &HeaderMap) -> Result<(), Refusal> {
    const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
    let foreign = headers
        .get(FETCH_SITE)
        .is_some_and(|value| !(value == "same-origin" || value == "none"));
    if foreign || (headers.contains_key(ORIGIN) && !site.origin.is_own(headers)) {
        let message = "pages of other origins may not use this";
        return Err(refuse(StatusCode::FORBIDDEN, "origin_not_allowed", message));
    }
    let keys = &site.config.api_keys;
    if keys.is_empty() {
        if !site.config.is_loopback() {
            let message = "this needs api_keys to be configured";
            return Err(refuse(StatusCode::FORBIDDEN, "not_configured", message));
        }
        if !is_loopback_host(headers) {
            let message = "without api_keys the Host header must be a loopback name";
            return Err(refuse(StatusCode::FORBIDDEN, "host_not_allowed", message));
        }
        return Ok(());
    }
    let given = headers
        .get(AUTHORIZATION)
        .map(HeaderValue::as_bytes)
        .and_then(bearer);
    // Every key is compared, in constant time, so that timing tells nothing about their content.
    let given = given.unwrap_or_default();
    let fits = keys.iter().fold(subtle::Choice::from(0), |fits, key| {
        fits | key.as_bytes().ct_eq(given)
    });
    if bool::from(fits) && !given.is_empty() {
        return Ok(());
    }
    let message = "send a valid key as `Authorization: Bearer KEY`";
    Err(refuse(StatusCode::UNAUTHORIZED, "unauthorized", message))
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    let media_type = value.split(';').next().unwrap_or("").trim();
    media_type.eq_ignore_ascii_case("application/json")
}

async fn read_body(site: &Site, body: Incoming) -> Result<Bytes, Refusal> {
    let limit = site.config.message_bytes_max;
    let too_large = || {
        let message = format!("the body is over the limit of {limit} bytes");
        refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(site.config.header_read_timeout, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(bad("bad_body", "the body could not be read".into())),
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body did not arrive",
        )),
    }
}

pub(super) fn bad(code: &'static str, message: String) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, code, message)
}

pub(super) fn refuse(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
) -> Refusal {
    Refusal {
        status,
        code,
        message: message.into(),
    }
}

impl Refusal {
    pub(super) fn response(self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Detail<'a>,
        }
        #[derive(Serialize)]
        struct Detail<'a> {
            code: &'a str,
            message: &'a str,
        }
        let body = Body {
            error: Detail {
                code: self.code,
                message: &self.message,
            },
        };
        let mut response = respond::closing(respond::json(self.status, &body));
        let (name, value) = match self.status {
            StatusCode::METHOD_NOT_ALLOWED => (http::header::ALLOW, "POST"),
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, "Bearer"),
            StatusCode::SERVICE_UNAVAILABLE => (http::header::RETRY_AFTER, "1"),
            _ => return response,
        };
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        response
    }
}
