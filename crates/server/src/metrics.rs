//! Counters of the HTTP side. Labels are small closed sets, never addresses, topics or users.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A closed set of label values and its counters: `counters.count(Upgrade::Accepted)`.
macro_rules! outcomes {
    ($(#[$doc:meta])* $name:ident, $label:literal { $($variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($variant,)* }

        impl Outcome for $name {
            const LABEL: &'static str = $label;
            const TEXTS: &'static [&'static str] = &[$($text,)*];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) trait Outcome: Copy {
    const LABEL: &'static str;
    const TEXTS: &'static [&'static str];

    fn index(self) -> usize;
}

outcomes! {
    /// How an upgrade request ended.
    Upgrade, "outcome" {
        Accepted = "accepted",
        BadHandshake = "bad_handshake",
        Draining = "draining",
        HookFailed = "hook_failed",
        HookResponded = "hook_responded",
        Lost = "lost",
        OriginRefused = "origin_refused",
        OverCapacity = "over_capacity",
        RateLimited = "rate_limited",
        Rejected = "rejected",
        TimedOut = "timed_out",
    }
}

outcomes! {
    /// How an auth preflight ended.
    Auth, "outcome" {
        Accepted = "accepted",
        BadRequest = "bad_request",
        HookFailed = "hook_failed",
        HookResponded = "hook_responded",
        OriginRefused = "origin_refused",
        OverCapacity = "over_capacity",
        Preflight = "preflight",
        Rejected = "rejected",
        TimedOut = "timed_out",
    }
}

outcomes! {
    /// How a request to load a stream ended.
    Load, "outcome" {
        BadRequest = "bad_request",
        Loaded = "loaded",
        Refused = "refused",
        Timeout = "timeout",
        Unauthorized = "unauthorized",
    }
}

outcomes! {
    /// How a publish request ended.
    Publish, "outcome" {
        BadRequest = "bad_request",
        Busy = "busy",
        Published = "published",
        Unauthorized = "unauthorized",
    }
}

outcomes! {
    /// Why an HTTP connection ended other than by an upgrade or the client's wish.
    Ended, "reason" {
        Age = "age",
        Error = "error",
        TlsFailed = "tls_failed",
    }
}

outcomes! {
    /// Responses by class.
    Class, "class" {
        Informational = "1xx",
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
    }
}

outcomes! {
    /// What a certificate reload did.
    Reload, "outcome" {
        Failed = "failed",
        Reloaded = "reloaded",
    }
}

/// One counter per outcome, resolved once.
#[derive(Debug)]
pub(crate) struct Counted<O> {
    counters: Vec<Counter>,
    outcome: std::marker::PhantomData<O>,
}

impl<O: Outcome> Counted<O> {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        registry.register(name, help, family.clone());
        let child = |text: &&'static str| family.get_or_create(&[(O::LABEL, *text)]).clone();
        Self {
            counters: O::TEXTS.iter().map(child).collect(),
            outcome: std::marker::PhantomData,
        }
    }

    pub(crate) fn count(&self, outcome: O) {
        if let Some(counter) = self.counters.get(outcome.index()) {
            counter.inc();
        }
    }
}

/// Everything the HTTP side counts.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    pub(crate) upgrades: Counted<Upgrade>,
    pub(crate) auths: Counted<Auth>,
    pub(crate) loads: Counted<Load>,
    pub(crate) publishes: Counted<Publish>,
    pub(crate) ended: Counted<Ended>,
    pub(crate) responses: Counted<Class>,
    pub(crate) tls_reloads: Counted<Reload>,
    pub(crate) accept_errors: Counter,
    pub(crate) connections: Gauge,
}

impl HttpMetrics {
    /// Makes the counters and registers them (the exposition adds `_total`).
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let accept_errors = Counter::default();
        registry.register(
            "accept_errors",
            "Connections the system refused to hand out, mostly for want of file descriptors",
            accept_errors.clone(),
        );
        let connections = Gauge::default();
        registry.register(
            "http_connections",
            "Connections in the HTTP phase",
            connections.clone(),
        );
        Self {
            upgrades: Counted::register(registry, "upgrades", "WebSocket upgrade requests"),
            auths: Counted::register(registry, "auth", "Auth preflight requests"),
            loads: Counted::register(registry, "load_requests", "Streams loaded by HTTP"),
            publishes: Counted::register(registry, "publish_requests", "Publishes by HTTP"),
            ended: Counted::register(
                registry,
                "http_connections_ended",
                "HTTP connections that were cut or failed",
            ),
            responses: Counted::register(registry, "http_requests", "HTTP requests answered"),
            tls_reloads: Counted::register(registry, "tls_reloads", "Certificate reloads"),
            accept_errors,
            connections,
        }
    }
}

impl Class {
    pub(crate) fn of(status: http::StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_outcomes_are_exposed_from_the_start() {
        let mut registry = Registry::with_prefix("millstream");
        let metrics = HttpMetrics::register(&mut registry);
        metrics.upgrades.count(Upgrade::RateLimited);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        assert!(
            text.contains("millstream_upgrades_total{outcome=\"rate_limited\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("millstream_upgrades_total{outcome=\"accepted\"} 0\n"),
            "{text}"
        );
        assert!(text.contains("millstream_http_connections 0\n"), "{text}");
    }
}
