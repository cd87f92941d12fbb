//! Facts of the upgrade request that stay with a connection.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32};

use uuid::Uuid;

/// Facts of the upgrade request that stay with the connection for its whole life.
///
/// Deliberately small: an idle connection pays for it all the time. Cookies, headers and the URL
/// are only in the [`UpgradeRequest`](crate::UpgradeRequest); an application copies what it needs
/// into its user data.
///
/// # Cost
/// 88 bytes, plus heap only for an address that is not an IP address, a request id that the client
/// supplied, and the user data itself.
#[derive(Debug)]
pub struct Peer {
    /// Where the client is, after the forwarded-address rules.
    pub remote_address: Address,
    /// The id of the upgrade request; every later log line and hook of the connection names it.
    pub request_id: RequestId,
    /// What the upgrade hook attached.
    pub user: UserData,
    /// The session id as sent in `welcome`.
    pub(crate) session: [u8; 16],
    /// Messages with calls that have moved to the runtime and are not finished.
    pub(crate) in_flight: AtomicU32,
    /// Whether the connection is over.
    pub(crate) closed: AtomicBool,
}

/// Data of the application's own type that travels with a connection.
pub struct UserData(Option<Box<dyn Any + Send + Sync>>);

impl UserData {
    /// No user data.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Wraps a value; [`get`](Self::get) with the same type finds it again.
    ///
    /// ```
    /// use millstream_server::UserData;
    /// let user = UserData::new(String::from("ada"));
    /// assert_eq!(user.get::<String>().map(String::as_str), Some("ada"));
    /// assert!(user.get::<u64>().is_none());
    /// ```
    pub fn new<T: Any + Send + Sync>(value: T) -> Self {
        Self(Some(Box::new(value)))
    }

    /// Takes a value that is boxed already.
    #[must_use]
    pub fn from_box(value: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self(value)
    }

    /// The value, if it is of type `T`.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.as_ref()?.downcast_ref()
    }

    /// The value for changing, if it is of type `T`.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.0.as_mut()?.downcast_mut()
    }

    /// Whether there is no user data at all.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Default for UserData {
    fn default() -> Self {
        Self::none()
    }
}

/// Never prints the value: it may hold personal data.
impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() {
            "UserData(none)"
        } else {
            "UserData(..)"
        })
    }
}

/// A client address: an IP address, or the text a trusted proxy header gave when that is no IP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// The usual case, without heap.
    Ip(IpAddr),
    /// Whatever the configured header said.
    Text(Box<str>),
}

impl Address {
    /// Reads an address as text; what does not parse as an IP address is kept as it is.
    ///
    /// ```
    /// use millstream_server::Address;
    /// assert_eq!(Address::parse("192.0.2.1").to_string(), "192.0.2.1");
    /// assert_eq!(Address::parse("unknown").to_string(), "unknown");
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Text(text.into()), Self::Ip)
    }

    /// The IP address, if it is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Text(_) => None,
        }
    }
}

/// An IPv4 client of a dual-stack socket counts as IPv4.
impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Self::Ip(socket.ip().to_canonical())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The id of an HTTP request: the client's `X-Request-ID` when acceptable, else a fresh UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestId {
    /// Supplied by the client or a proxy: 1 to 128 characters of printable ASCII.
    Given(Box<str>),
    /// Made here.
    Made([u8; 16]),
}

impl RequestId {
    /// A fresh random id.
    #[must_use]
    pub fn fresh() -> Self {
        Self::Made(Uuid::new_v4().into_bytes())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(text) => f.write_str(text),
            Self::Made(bytes) => Uuid::from_bytes(*bytes).hyphenated().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_small() {
        assert!(size_of::<Peer>() <= 88, "{}", size_of::<Peer>());
    }

    #[test]
    fn a_mapped_address_reads_as_ipv4() {
        let socket: SocketAddr = "[::ffff:192.0.2.7]:80".parse().expect("address");
        assert_eq!(Address::from(socket).to_string(), "192.0.2.7");
    }

    #[test]
    fn a_fresh_id_is_a_uuid_text() {
        let text = RequestId::fresh().to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(text.matches('-').count(), 4);
    }
}
