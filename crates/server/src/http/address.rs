//! Where a client is, seen through trusted proxies.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName};

use crate::peer::Address;

/// Longer `x-forwarded-for` headers are not looked at.
const FORWARDED_LENGTH_MAX: usize = 8_192;

/// The configured rule.
#[derive(Debug, Clone)]
pub(crate) struct AddressRule {
    header: Option<HeaderName>,
    depth: usize,
}

impl AddressRule {
    pub(crate) fn new(header: Option<HeaderName>, depth: u32) -> Self {
        Self {
            header,
            depth: depth.max(1) as usize,
        }
    }

    /// The client's address; whatever is missing or odd falls back to the socket's.
    pub(crate) fn address(&self, headers: &HeaderMap, socket: SocketAddr) -> Address {
        self.forwarded(headers)
            .unwrap_or_else(|| Address::from(socket))
    }

    fn forwarded(&self, headers: &HeaderMap) -> Option<Address> {
        let name = self.header.as_ref()?;
        if name != "x-forwarded-for" {
            let text = headers.get(name)?.to_str().ok()?.trim();
            return (!text.is_empty()).then(|| Address::parse(text));
        }
        // Several header lines mean the same as one with commas.
        let mut length = 0;
        for line in headers.get_all(name) {
            length += line.len();
        }
        if length > FORWARDED_LENGTH_MAX {
            return None;
        }
        let mut from_right = headers
            .get_all(name)
            .iter()
            .rev()
            .flat_map(|line| line.to_str().unwrap_or("").rsplit(','));
        let text = from_right.nth(self.depth - 1)?.trim();
        (!text.is_empty()).then(|| Address::parse(text))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn address(header: &'static str, depth: u32, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header, HeaderValue::from_str(line).expect("header"));
        }
        let rule = AddressRule::new(Some(HeaderName::from_static(header)), depth);
        rule.address(&headers, SocketAddr::from(([10, 0, 0, 1], 5_000)))
            .to_string()
    }

    #[test]
    fn forwarded_for_counts_from_the_right() {
        let xff = "x-forwarded-for";
        assert_eq!(address(xff, 1, &["192.0.2.1, 192.0.2.2"]), "192.0.2.2");
        assert_eq!(address(xff, 2, &["192.0.2.1, 192.0.2.2"]), "192.0.2.1");
        assert_eq!(address(xff, 2, &["192.0.2.1", "192.0.2.2"]), "192.0.2.1");
        assert_eq!(address(xff, 3, &["192.0.2.1, 192.0.2.2"]), "10.0.0.1");
        assert_eq!(address(xff, 1, &["192.0.2.1, "]), "10.0.0.1");
        assert_eq!(address(xff, 1, &[]), "10.0.0.1");
        assert_eq!(
            address(xff, 1, &[&format!("{}192.0.2.1", ",".repeat(8_192))]),
            "10.0.0.1"
        );
    }

    #[test]
    fn other_headers_count_whole() {
        assert_eq!(address("x-real-ip", 1, &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(address("x-real-ip", 9, &["unix socket"]), "unix socket");
        assert_eq!(address("x-real-ip", 1, &[""]), "10.0.0.1");
    }

    #[test]
    fn without_a_header_the_socket_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        let rule = AddressRule::new(None, 1);
        let socket = SocketAddr::from(([10, 0, 0, 1], 5_000));
        assert_eq!(rule.address(&headers, socket).to_string(), "10.0.0.1");
    }
}
