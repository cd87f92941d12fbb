//! The door between the HTTP side and the I/O workers.

use std::fmt;
use std::net::TcpStream;

use bytes::Bytes;
use millstream_core::RawJson;
use millstream_live::{LiveError, code};
use prometheus_client::registry::Registry;

use crate::conn::Handle;
use crate::peer::Peer;

/// A socket that finished its WebSocket handshake. Non-blocking, `TCP_NODELAY` set.
pub(crate) enum Socket {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS: the session may still hold plaintext that was decrypted but not read; drain
    /// `reader()` before waiting for the socket.
    Tls(TcpStream, Box<rustls::ServerConnection>),
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(stream) => f.debug_tuple("Plain").field(stream).finish(),
            Self::Tls(stream, _) => f.debug_tuple("Tls").field(stream).finish_non_exhaustive(),
        }
    }
}

/// One connection on its way from HTTP to a worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: Socket,
    /// WebSocket bytes (plaintext) that arrived behind the upgrade request. Feed them first.
    pub(crate) early: Bytes,
    pub(crate) peer: Peer,
}

/// What a publish from outside did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// Whether there was a subscriber.
    pub(crate) delivered: bool,
    /// The number the topic gave to the event, unless the topic is not numbered.
    pub(crate) seq: Option<u64>,
}

/// Why a publish from outside was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PublishError {
    /// The topic name breaks the rules; the HTTP side checks first, so this is rare.
    #[error("the topic name is not acceptable")]
    BadTopic,
    /// A limit is reached (topics, queue to a worker). Worth a retry.
    #[error("the server is at a limit, please retry")]
    Busy,
    /// The finished frame would be longer than clients accept, or the topic's value too large.
    #[error("the event is too large")]
    TooLarge,
    /// The application says no: a code of its own and a sentence.
    #[error("{code}: {message}")]
    Refused {
        /// What programs look at.
        code: String,
        /// What people read.
        message: String,
    },
    /// The application failed; what happened is told to nobody outside.
    #[error("the application failed")]
    Failed,
}

impl PublishError {
    /// What the application's error means for somebody outside.
    pub(crate) fn of(error: &LiveError) -> Self {
        match error.code() {
            code::INVALID_TOPIC => Self::BadTopic,
            code::OVERLOADED => Self::Busy,
            code::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ if !error.is_typed() => {
                tracing::warn!(%error, "a publish failed");
                Self::Failed
            }
            code => Self::Refused {
                code: code.to_owned(),
                message: error.message().to_owned(),
            },
        }
    }
}

/// The worker pool as the HTTP side sees it. No method blocks, except [`stop`](Self::stop).
pub(crate) trait Gateway: Send + Sync + 'static {
    /// Gives a connection to the least loaded worker.
    fn hand_over(&self, accepted: Accepted);

    /// Open connections, those just handed over included.
    fn connections(&self) -> usize;

    /// Publishes to all workers.
    fn publish(&self, topic: &str, event: &str, data: RawJson) -> Result<Published, PublishError>;

    /// Whether every worker runs.
    fn is_ready(&self) -> bool;

    /// Whether [`drain`](Self::drain) was called.
    fn is_draining(&self) -> bool;

    /// Starts the staggered close (1001) of every connection, spread over the configured time.
    fn drain(&self);

    /// Ends the workers and waits for their threads. Called once, after the drain or instead.
    fn stop(&self);

    /// The handle for applications; only pools of workers have one.
    fn handle(&self) -> Option<Handle> {
        None
    }

    /// Registers the collectors of hub and workers.
    fn metrics(&self, registry: &mut Registry);
}
