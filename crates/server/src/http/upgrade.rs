//! From a GET with a WebSocket key to a connection of a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::hook::{Failure, ask};
use super::slots::Slot;
use super::{Site, Via, respond};
use crate::cookies;
use crate::handover::{Accepted, Socket};
use crate::hooks::{Admission, UpgradeRequest};
use crate::metrics::Upgrade;
use crate::peer::{Peer, UserData};

/// A refusal on the way, with the outcome to count. Boxed: the good way should stay small.
struct Refusal(Box<(Upgrade, Response<Full<Bytes>>)>);

impl Refusal {
    fn new(outcome: Upgrade, response: Response<Full<Bytes>>) -> Self {
        Self(Box::new((outcome, response)))
    }
}

/// Answers a request for the WebSocket path.
pub(super) async fn upgrade(
    site: &Arc<Site>,
    via: &Via,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    // Without a proper key it is an ordinary request for a page that does not exist.
    if !has_key(request.headers()) {
        return respond::text(StatusCode::NOT_FOUND, "Not Found");
    }
    if request.method() != Method::GET {
        return respond::method_not_allowed("GET");
    }
    match admit(site, via, request).await {
        Ok(response) => response,
        Err(Refusal(refusal)) => {
            let (outcome, response) = *refusal;
            site.metrics.upgrades.count(outcome);
            response
        }
    }
}

/// The checks, in the order clients may rely on: handshake, admission, rate, origin, hook.
async fn admit(
    site: &Arc<Site>,
    via: &Via,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    if request.version() != Version::HTTP_11 {
        return Err(bad_handshake("An upgrade needs HTTP/1.1"));
    }
    check_handshake(request.headers())?;
    let (_upgrading, arriving) = take_slots(site)?;
    let address = site.address.address(request.headers(), via.peer);
    let now = site.started.elapsed();
    if let Err(wait) = site.rate.lock().attempt(&address, now) {
        let response = respond::text(StatusCode::TOO_MANY_REQUESTS, "Too many upgrade requests");
        return Err(Refusal::new(
            Upgrade::RateLimited,
            respond::retry_after(response, wait),
        ));
    }
    let has_hook = site.hooks.has_upgrade();
    if !site.origin.allows(request.headers(), has_hook) {
        let response = respond::text(StatusCode::FORBIDDEN, "Origin not allowed");
        return Err(Refusal::new(Upgrade::OriginRefused, response));
    }

    let on_upgrade = hyper::upgrade::on(&mut request);
    let handshake = fastwebsockets::upgrade::upgrade(&mut request);
    let (handshake, _) = handshake.map_err(|_| bad_handshake("Bad WebSocket handshake"))?;
    let protocol = first_protocol(request.headers());
    let request_id = super::request_id::request_id(request.headers());
    let (user, extra) = if has_hook {
        let seen = UpgradeRequest {
            cookies: cookies::parse(request.headers()),
            headers: std::mem::take(request.headers_mut()),
            url: request
                .uri()
                .path_and_query()
                .map_or("/", |url| url.as_str())
                .to_owned(),
            remote_address: address.clone(),
            request_id: request_id.clone(),
        };
        ask_hook(site, seen).await?
    } else {
        (UserData::none(), Vec::new())
    };

    let peer = Peer {
        remote_address: address,
        request_id,
        user,
        session: [0; 16],
        in_flight: AtomicU32::new(0),
        closed: AtomicBool::new(false),
    };
    tokio::spawn(hand_over(
        Arc::clone(site),
        via.clone(),
        on_upgrade,
        peer,
        arriving,
    ));
    let mut response = handshake.map(|_| Full::default());
    if let Some(protocol) = protocol {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    for (name, value) in extra.into_iter().filter(|(name, _)| is_free(name)) {
        response.headers_mut().append(name, value);
    }
    site.metrics.upgrades.count(Upgrade::Accepted);
    Ok(response)
}

fn take_slots(site: &Site) -> Result<(Slot, Slot), Refusal> {
    const FULL: &str = "Server is at upgrade capacity, please retry";
    if site.is_closed() {
        return Err(Refusal::new(
            Upgrade::Draining,
            respond::unavailable("Server is not accepting connections"),
        ));
    }
    let over = || Refusal::new(Upgrade::OverCapacity, respond::unavailable(FULL));
    let concurrent = match site.config.upgrade_concurrent_max as usize {
        0 => usize::MAX,
        limit => limit,
    };
    let upgrading = site.upgrades.take(concurrent).ok_or_else(over)?;
    let connections_max = site.config.connections_max as usize;
    let room = connections_max.saturating_sub(site.gateway.connections());
    let arriving = site.arriving.take(room).ok_or_else(over)?;
    Ok((upgrading, arriving))
}

async fn ask_hook(
    site: &Site,
    request: UpgradeRequest,
) -> Result<(UserData, Vec<(HeaderName, HeaderValue)>), Refusal> {
    let request_id = request.request_id.clone();
    let answer = ask(site.config.upgrade_timeout, || site.hooks.upgrade(request)).await;
    let admission = answer.map_err(|failure| {
        tracing::warn!(%request_id, "upgrade refused: {failure}");
        match failure {
            Failure::TimedOut => Refusal::new(
                Upgrade::TimedOut,
                respond::text(StatusCode::GATEWAY_TIMEOUT, "Upgrade timed out"),
            ),
            Failure::Failed(_) | Failure::Panicked => {
                Refusal::new(Upgrade::HookFailed, internal_error())
            }
        }
    })?;
    match admission {
        Admission::Accept { user, headers } => Ok((UserData::from_box(user), headers)),
        Admission::Reject => Err(Refusal::new(
            Upgrade::Rejected,
            respond::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
        )),
        Admission::Respond(response) if response.status().is_informational() => {
            tracing::warn!(%request_id, "an upgrade hook may not answer with a 1xx status");
            Err(Refusal::new(Upgrade::HookFailed, internal_error()))
        }
        Admission::Respond(response) => Err(Refusal::new(
            Upgrade::HookResponded,
            response.map(Full::new),
        )),
    }
}

fn internal_error() -> Response<Full<Bytes>> {
    respond::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

/// Waits until the 101 is written, then gives the socket to a worker.
async fn hand_over(site: Arc<Site>, via: Via, on_upgrade: OnUpgrade, peer: Peer, arriving: Slot) {
    let accepted = match on_upgrade.await {
        Ok(upgraded) => take_socket(upgraded, peer),
        Err(_) => None, // the client went away before the 101 was out
    };
    match accepted {
        Some(accepted) => site.gateway.hand_over(accepted),
        None => site.metrics.upgrades.count(Upgrade::Lost),
    }
    drop((via.permit, arriving));
}

/// The raw socket, freed from hyper and the async runtime.
fn take_socket(upgraded: Upgraded, peer: Peer) -> Option<Accepted> {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let socket = Socket::Plain(parts.io.into_inner().into_std().ok()?);
            return Some(Accepted {
                socket,
                early: parts.read_buf,
                peer,
            });
        }
        Err(upgraded) => upgraded,
    };
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    let (stream, session) = parts.io.into_inner().into_inner();
    let socket = Socket::Tls(stream.into_std().ok()?, Box::new(session));
    Some(Accepted {
        socket,
        early: parts.read_buf,
        peer,
    })
}

fn has_key(headers: &HeaderMap) -> bool {
    headers
        .get(SEC_WEBSOCKET_KEY)
        .is_some_and(|key| key.len() == 24)
}

/// What RFC 6455 section 4.2.1 asks of the request beside the key.
fn check_handshake(headers: &HeaderMap) -> Result<(), Refusal> {
    if !has_token(headers, UPGRADE, "websocket") {
        return Err(bad_handshake("The Upgrade header must name websocket"));
    }
    if !has_token(headers, CONNECTION, "upgrade") {
        return Err(bad_handshake("The Connection header must name Upgrade"));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut response = respond::text(
            StatusCode::UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13",
        );
        let version = HeaderValue::from_static("13");
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, version);
        return Err(Refusal::new(Upgrade::BadHandshake, response));
    }
    if headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
    {
        return Err(bad_handshake("An upgrade request has no body"));
    }
    Ok(())
}

fn bad_handshake(text: &'static str) -> Refusal {
    Refusal::new(
        Upgrade::BadHandshake,
        respond::closing(respond::text(StatusCode::BAD_REQUEST, text)),
    )
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// The first subprotocol offered. It is echoed unseen, as clients of the original expect.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let first = offered.split(',').next()?.trim();
    let is_token = !first.is_empty()
        && first
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte));
    is_token
        .then(|| HeaderValue::from_str(first).ok())
        .flatten()
}

/// Whether a hook may add this header: not those that make the handshake.
fn is_free(name: &HeaderName) -> bool {
    let reserved = [CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
        || name.as_str().starts_with("sec-websocket-");
    if reserved {
        tracing::warn!(%name, "an upgrade hook may not set this header");
    }
    !reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(offer: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_str(offer).expect("header"),
        );
        first_protocol(&headers).map(|value| value.to_str().expect("ascii").to_owned())
    }

    #[test]
    fn the_first_subprotocol_is_echoed_if_it_is_a_token() {
        assert_eq!(protocol("alpha, beta").as_deref(), Some("alpha"));
        assert_eq!(protocol(" graphql-ws ").as_deref(), Some("graphql-ws"));
        assert_eq!(protocol(", beta"), None);
        assert_eq!(protocol("a b"), None);
    }

    #[test]
    fn tokens_are_found_in_lists_and_whatever_their_case() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("keep-alive, UPGRADE"));
        assert!(has_token(&headers, CONNECTION, "upgrade"));
        assert!(!has_token(&headers, CONNECTION, "up"));
    }
}
