//! The HTTP half: everything that happens to a connection before it is a WebSocket.

mod address;
mod api;
mod auth;
mod hook;
mod listener;
mod load;
mod origin;
mod publish;
mod rate;
mod request_id;
mod respond;
mod slots;
mod tls;
mod upgrade;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use self::listener::{Listener, bind};
pub(crate) use self::origin::NoHostPin;
pub(crate) use self::tls::Tls;

use self::address::AddressRule;
use self::origin::OriginPolicy;
use self::rate::RateLimiter;
use self::slots::Slots;
use crate::config::Config;
use crate::handover::Gateway;
use crate::hooks::Hooks;
use crate::metrics::{Class, HttpMetrics};

const PLAYGROUND: &str = include_str!("../assets/playground.html");
const PUBLISH_PATH: &str = "/api/publish";
const LOAD_PATH: &str = "/api/load";

/// What all requests share.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) gateway: Arc<dyn Gateway>,
    pub(crate) metrics: HttpMetrics,
    registry: Registry,
    origin: OriginPolicy,
    address: AddressRule,
    rate: Mutex<RateLimiter>,
    /// Upgrades between admission and their response.
    upgrades: Slots,
    /// Upgrades between admission and the workers: they count towards `connections_max`.
    arriving: Slots,
    auths: Slots,
    leaving: AtomicBool,
    started: Instant,
}

/// What one request knows about the connection it came on.
#[derive(Debug, Clone)]
pub(crate) struct Via {
    pub(crate) peer: SocketAddr,
    /// Held until the connection leaves the HTTP phase.
    pub(crate) permit: Arc<OwnedSemaphorePermit>,
}

impl Site {
    /// Whether a site can be made of this.
    ///
    /// # Errors
    /// [`NoHostPin`], see there.
    pub(crate) fn check(config: &Config, hooks: &dyn Hooks) -> Result<(), NoHostPin> {
        OriginPolicy::new(config, hooks.has_upgrade()).map(drop)
    }

    /// Puts the site together.
    ///
    /// # Errors
    /// [`NoHostPin`], see there.
    pub(crate) fn new(
        config: Config,
        hooks: Arc<dyn Hooks>,
        gateway: Arc<dyn Gateway>,
    ) -> Result<Self, NoHostPin> {
        let mut registry = Registry::with_prefix("millstream");
        let metrics = HttpMetrics::register(&mut registry);
        gateway.metrics(&mut registry);
        Ok(Self {
            origin: OriginPolicy::new(&config, hooks.has_upgrade())?,
            address: AddressRule::new(config.address_header.clone(), config.xff_depth),
            rate: Mutex::new(RateLimiter::new(
                config.upgrade_rate_limit,
                config.upgrade_rate_window,
            )),
            upgrades: Slots::default(),
            arriving: Slots::default(),
            auths: Slots::default(),
            leaving: AtomicBool::new(false),
            started: Instant::now(),
            config,
            hooks,
            gateway,
            metrics,
            registry,
        })
    }

    /// From now on the server says that it is not ready.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Answers one request.
    async fn answer(
        self: &Arc<Self>,
        via: &Via,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let mut response = self.route(via, request).await;
        respond::finish(&mut response);
        self.metrics.responses.count(Class::of(response.status()));
        response
    }

    async fn route(
        self: &Arc<Self>,
        via: &Via,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let config = &self.config;
        let is = |optional: &Option<String>| optional.as_deref() == Some(path);
        if path == config.path {
            return upgrade::upgrade(self, via, request).await;
        }
        if path == config.auth_path && self.hooks.authenticates() {
            return auth::authenticate(self, via, request).await;
        }
        if path == LOAD_PATH {
            return load::load(self, request).await;
        }
        if path == PUBLISH_PATH {
            return publish::publish(self, request).await;
        }
        let page: fn(&Self) -> Response<Full<Bytes>> = if is(&config.health_path) {
            |_| respond::bare(StatusCode::OK, "OK")
        } else if is(&config.ready_path) {
            Self::readiness
        } else if is(&config.metrics_path) {
            Self::exposition
        } else if path == "/" && config.serves_playground() {
            Self::playground
        } else {
            return respond::text(StatusCode::NOT_FOUND, "Not Found");
        };
        match *request.method() {
            Method::GET | Method::HEAD => page(self),
            _ => respond::method_not_allowed("GET, HEAD"),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let state = if self.is_leaving() {
            "draining"
        } else if !self.gateway.is_ready() {
            "starting"
        } else if self.gateway.connections() >= self.config.connections_max as usize {
            "full"
        } else {
            return respond::text(StatusCode::OK, "ready");
        };
        respond::text(StatusCode::SERVICE_UNAVAILABLE, state)
    }

    fn exposition(&self) -> Response<Full<Bytes>> {
        const TYPE: HeaderValue =
            HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return respond::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
        let mut response = respond::text(StatusCode::OK, text);
        response.headers_mut().insert(CONTENT_TYPE, TYPE);
        response
    }

    /// The page to try the server by hand. Its one script runs by a nonce; nothing else may.
    fn playground(&self) -> Response<Full<Bytes>> {
        const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
        const FRAMES: HeaderName = HeaderName::from_static("x-frame-options");
        let nonce = uuid::Uuid::new_v4().simple().to_string();
        let page = PLAYGROUND
            .replace("{{nonce}}", &nonce)
            .replace("{{path}}", &respond::html_escaped(&self.config.path));
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let mut response = respond::text(StatusCode::OK, page);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HTML);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(FRAMES, HeaderValue::from_static("DENY"));
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        response
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.gateway.is_draining()
    }

    /// Whether new connections are no longer taken. During the shutdown delay they still are.
    fn is_closed(&self) -> bool {
        self.gateway.is_draining() || !self.gateway.is_ready()
    }
}
