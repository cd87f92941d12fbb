//! What a hub tells its host.

use millstream_core::{Key, Millis, RawJson, TopicName};

use crate::Ticket;
use crate::requests::RequestError;

/// What the host has to do next.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Decide on topics, then call [`Hub::settle`](crate::Hub::settle) with one verdict per topic.
    Ask {
        /// Identifies the question.
        ticket: Ticket,
        /// The topics, in the order of the frame.
        topics: Vec<TopicName>,
        /// Whether they came in one `subscribe-batch`.
        batch: bool,
    },
    /// A connection has to be closed.
    Close {
        /// The connection.
        conn: Key,
        /// The close code.
        code: u16,
        /// The close reason.
        reason: &'static str,
    },
    /// A request ended.
    Replied {
        /// What the caller of [`Hub::request`](crate::Hub::request) gave.
        token: u64,
        /// The client's answer.
        result: Result<RawJson, RequestError>,
    },
    /// A client wants to resume; call [`Hub::resumed`](crate::Hub::resumed) when the application
    /// is done.
    Resume {
        /// The connection.
        conn: Key,
        /// The session id the client had before. Not verified by anybody.
        session: String,
        /// Topic to number, as the client sent it. Untrusted.
        last_seen: RawJson,
    },
    /// A server-made subscription was decided.
    Subscribed {
        /// What the caller of [`Hub::subscribe`](crate::Hub::subscribe) gave.
        token: u64,
        /// `Err` with the reason when it was refused.
        result: Result<(), String>,
    },
    /// A connection left a topic, or asked to leave one it did not hold. Requests that are
    /// [`under_way`](crate::Hub::under_way) keep the topic.
    Unsubscribed {
        /// The connection.
        conn: Key,
        /// The topic.
        topic: TopicName,
    },
}

/// What [`Hub::close`](crate::Hub::close) tells about the connection that ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloseSummary {
    /// Topics it held.
    pub subscriptions: Vec<TopicName>,
    /// When it was opened.
    pub opened_at: Millis,
    /// Messages received, control frames included.
    pub messages_in: u64,
    /// Bytes of their payloads.
    pub bytes_in: u64,
    /// Frames sent to this connection alone.
    pub messages_out: u64,
    /// Bytes of those frames.
    pub bytes_out: u64,
}
