//! Which pages may open a WebSocket, and the refusal to start when that cannot be decided.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName};
use url::{Host, Url};

use crate::config::{AllowedOrigins, Config, FixedOrigin};

/// The configured policy, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) struct OriginPolicy {
    allowed: AllowedOrigins,
    fixed: Option<FixedOrigin>,
    host_header: Option<HeaderName>,
    protocol_header: Option<HeaderName>,
    port_header: Option<HeaderName>,
    tls: bool,
    /// On loopback nothing else pins the host: accept loopback names only (DNS rebinding).
    loopback_only: bool,
}

/// The configuration compares two values that a client chooses both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "allowed_origins is same-origin, but nothing says which host is the right one: a scripted \
     client chooses Origin and Host both. Set origin, host_header, TLS or a list of \
     allowed_origins, authenticate in an upgrade hook, or set \
     unsafe_same_origin_without_host_pin to start regardless"
)]
pub(crate) struct NoHostPin;

impl OriginPolicy {
    /// Reads the policy.
    ///
    /// # Errors
    /// [`NoHostPin`] for a same-origin policy that means nothing. Bound to loopback that is no
    /// error: the `Host` header is then pinned to loopback names.
    pub(crate) fn new(config: &Config, has_upgrade_hook: bool) -> Result<Self, NoHostPin> {
        let pinned = config.allowed_origins != AllowedOrigins::SameOrigin
            || config.origin.is_some()
            || config.host_header.is_some()
            || config.is_tls()
            || has_upgrade_hook
            || config.unsafe_same_origin_without_host_pin;
        if !pinned && !config.is_loopback() {
            return Err(NoHostPin);
        }
        Ok(Self {
            allowed: config.allowed_origins.clone(),
            fixed: config.origin.clone(),
            host_header: config.host_header.clone(),
            protocol_header: config.protocol_header.clone(),
            port_header: config.port_header.clone(),
            tls: config.is_tls(),
            loopback_only: !pinned,
        })
    }

    /// Whether a request may pass; one without `Origin` (which no browser page sends) only when
    /// the application authenticates it, `or_missing`.
    pub(crate) fn allows(&self, headers: &HeaderMap, or_missing: bool) -> bool {
        if self.allowed == AllowedOrigins::Any {
            return true;
        }
        let Some(origin) = origin_of(headers) else {
            return or_missing && !headers.contains_key(ORIGIN) && !self.refuses_host(headers);
        };
        match &self.allowed {
            AllowedOrigins::Any => true,
            AllowedOrigins::List(list) => list.iter().any(|allowed| allowed == origin),
            AllowedOrigins::SameOrigin => self.is_same(origin, headers),
        }
    }

    /// Whether `Origin` is present and is this server's own origin, whatever the list says.
    pub(crate) fn is_own(&self, headers: &HeaderMap) -> bool {
        origin_of(headers).is_some_and(|origin| self.is_same(origin, headers))
    }

    /// The `Origin` to answer a cross-origin request with, when the policy names it.
    pub(crate) fn cross_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let origin = origin_of(headers)?;
        let named = match &self.allowed {
            AllowedOrigins::Any => !self.is_same(origin, headers),
            AllowedOrigins::List(list) => list.iter().any(|allowed| allowed == origin),
            AllowedOrigins::SameOrigin => false,
        };
        named.then_some(origin)
    }

    fn is_same(&self, origin: &str, headers: &HeaderMap) -> bool {
        if self.refuses_host(headers) {
            return false;
        }
        let Some(origin) = parse_origin(origin) else {
            return false;
        };
        let expected = match &self.fixed {
            Some(fixed) => Url::parse(fixed.as_str()).ok(),
            None => self.expected(headers),
        };
        expected.is_some_and(|expected| {
            origin.scheme() == expected.scheme()
                && origin.host() == expected.host()
                && origin.port_or_known_default() == expected.port_or_known_default()
        })
    }

    /// What the server's own origin is, judging by `Host` and the trusted proxy headers.
    fn expected(&self, headers: &HeaderMap) -> Option<Url> {
        let named = |name: &Option<HeaderName>| {
            name.as_ref()
                .and_then(|name| headers.get(name))
                .map(|value| value.to_str())
        };
        let host = match named(&self.host_header) {
            Some(host) => host.ok()?,
            None => headers.get(HOST)?.to_str().ok()?,
        };
        let scheme = match named(&self.protocol_header) {
            Some(scheme) => scheme.ok()?,
            None if self.tls => "https",
            None => "http",
        };
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        match named(&self.port_header) {
            Some(port) => {
                let port: u16 = port.ok()?.parse().ok()?;
                authority(scheme, &format!("{}:{port}", without_port(host)))
            }
            None => authority(scheme, host),
        }
    }

    fn refuses_host(&self, headers: &HeaderMap) -> bool {
        self.loopback_only && !is_loopback_host(headers)
    }
}

/// Whether `Host` is a name that only this machine can mean.
pub(crate) fn is_loopback_host(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let url = host.and_then(|host| authority("http", host));
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The `Origin` header when there is exactly one and it is not empty.
fn origin_of(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(ORIGIN).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    only.to_str().ok().filter(|origin| !origin.is_empty())
}

/// Parses an Origin. Anything but scheme, host and port is no origin.
fn parse_origin(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    matches!(scheme.as_str(), "http" | "https")
        .then(|| authority(&scheme, rest))
        .flatten()
}

/// `scheme://text`, provided that the text is a host and port and nothing else.
fn authority(scheme: &str, text: &str) -> Option<Url> {
    let strange = |c: char| matches!(c, '/' | '\\' | '?' | '#' | '@') || c.is_whitespace();
    if text.is_empty() || text.contains(strange) || text.ends_with(':') {
        return None;
    }
    Url::parse(&format!("{scheme}://{text}")).ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("header"));
        }
        headers
    }

    fn public() -> Config {
        Config {
            listen: ([192, 0, 2, 1], 3_000).into(),
            ..Config::default()
        }
    }

    fn policy(change: impl FnOnce(&mut Config)) -> OriginPolicy {
        let mut config = public();
        change(&mut config);
        OriginPolicy::new(&config, true).expect("pinned by the hook")
    }

    fn same(host: &str, origin: &str) -> bool {
        policy(|_| ()).allows(&headers(&[("host", host), ("origin", origin)]), true)
    }

    #[test]
    fn same_origin_compares_scheme_host_and_port_number() {
        for (host, origin) in [
            ("app.example", "http://app.example"),
            ("app.example:80", "http://app.example"),
            ("app.example", "http://app.example:80"),
            ("app.example:9191", "http://app.example:9191"),
            ("app.example:8080", "http://app.example:8080"),
            ("app.example:4430", "http://app.example:4430"),
            ("APP.example", "http://app.example"),
            ("app.example", "HTTP://APP.example"),
            ("[2001:db8::1]:3000", "http://[2001:DB8:0::1]:3000"),
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ] {
            assert!(same(host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("app.example", "http://evil.example"),
            ("app.example", "null"),
            ("app.example", "not a url"),
            ("app.example", "https://app.example"),
            ("app.example", "http://app.example:81"),
            ("app.example", "http://app.example@evil.example"),
            ("app.example", "http://evil.example/app.example"),
            ("app.example", "http://app.example."),
            ("app.example", "http://app.example:"),
            ("app.example", "file://app.example"),
            ("app.example/x", "http://app.example"),
            ("app.example:80,evil.example", "http://app.example"),
            ("app.example8080", "http://app.example:8080"),
            ("", "http://app.example"),
        ] {
            assert!(!same(host, origin), "{host} {origin}");
        }
        let no_host = headers(&[("origin", "http://app.example")]);
        assert!(!policy(|_| ()).allows(&no_host, true));
    }

    #[test]
    fn a_missing_origin_needs_an_upgrade_hook() {
        let none = headers(&[("host", "app.example")]);
        assert!(policy(|_| ()).allows(&none, true));
        assert!(!policy(|_| ()).allows(&none, false));
        assert!(policy(|c| c.allowed_origins = AllowedOrigins::Any).allows(&none, false));
    }

    #[test]
    fn two_origins_are_none() {
        let two = headers(&[
            ("host", "app.example"),
            ("origin", "http://app.example"),
            ("origin", "http://evil.example"),
        ]);
        assert!(!policy(|_| ()).allows(&two, true));
    }

    #[test]
    fn a_fixed_origin_is_compared_and_nothing_else() {
        let fixed = policy(|c| c.origin = FixedOrigin::parse("https://x.example").ok());
        let real = headers(&[("host", "10.0.0.7:3000"), ("origin", "https://x.example")]);
        assert!(fixed.allows(&real, true));
        let forged = headers(&[("host", "evil.example"), ("origin", "http://evil.example")]);
        assert!(!fixed.allows(&forged, true));
    }

    #[test]
    fn a_list_is_exact_text() {
        let list = policy(|c| {
            c.allowed_origins = AllowedOrigins::List(vec!["http://a.example".into(), "*".into()]);
        });
        let with = |origin| headers(&[("host", "b.example"), ("origin", origin)]);
        assert!(list.allows(&with("http://a.example"), true));
        for origin in [
            "http://A.example",
            "http://a.example/",
            "http://b.example",
            "null",
        ] {
            assert!(!list.allows(&with(origin), true), "{origin}");
        }
        assert!(
            list.allows(&with("*"), true),
            "a star in a list matches itself only"
        );
        assert_eq!(
            list.cross_origin(&with("http://a.example")),
            Some("http://a.example")
        );
    }

    #[test]
    fn proxy_headers_count_only_when_named() {
        let forwarded = headers(&[
            ("host", "internal:8080"),
            ("x-host", "app.example:8080"),
            ("x-proto", "https"),
            ("x-port", "8443"),
            ("origin", "https://app.example:8443"),
        ]);
        assert!(!policy(|_| ()).allows(&forwarded, true));
        let trusting = policy(|c| {
            c.host_header = Some(HeaderName::from_static("x-host"));
            c.protocol_header = Some(HeaderName::from_static("x-proto"));
            c.port_header = Some(HeaderName::from_static("x-port"));
        });
        assert!(trusting.allows(&forwarded, true));
        let absent = headers(&[("host", "app.example"), ("origin", "http://app.example")]);
        assert!(trusting.allows(&absent, true), "absent headers fall back");
    }

    #[test]
    fn a_meaningless_same_origin_does_not_start() {
        assert_eq!(
            OriginPolicy::new(&public(), false).map(|_| ()),
            Err(NoHostPin)
        );
        let saved: [fn(&mut Config); 5] = [
            |c| c.origin = FixedOrigin::parse("https://x.example").ok(),
            |c| c.host_header = Some(HeaderName::from_static("x-host")),
            |c| c.allowed_origins = AllowedOrigins::List(vec!["http://a.example".into()]),
            |c| c.unsafe_same_origin_without_host_pin = true,
            |c| (c.tls_cert, c.tls_key) = (Some("c".into()), Some("k".into())),
        ];
        for save in saved {
            let mut config = public();
            save(&mut config);
            assert!(OriginPolicy::new(&config, false).is_ok(), "{config}");
        }
        assert!(OriginPolicy::new(&public(), true).is_ok());
    }

    #[test]
    fn on_loopback_the_host_is_pinned_against_rebinding() {
        let policy = OriginPolicy::new(&Config::default(), false).expect("starts");
        for host in [
            "localhost:3000",
            "127.0.0.1:3000",
            "[::1]:3000",
            "LOCALHOST:3000",
        ] {
            let own = headers(&[("host", host), ("origin", &format!("http://{host}"))]);
            assert!(policy.allows(&own, false), "{host}");
        }
        for host in [
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ] {
            let rebound = headers(&[("host", host), ("origin", &format!("http://{host}"))]);
            assert!(!policy.allows(&rebound, false), "{host}");
        }
    }
}
