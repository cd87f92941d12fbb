//! What an application supplies: one object with a method per moment in a connection's life.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use millstream_core::{RawJson, RawJsonRef, TopicName};
use millstream_hub::{Pattern, Snapshot, Verdict};
use millstream_live::{LiveError, Publisher};

use crate::conn::Handle;
use crate::context::Context;
use crate::cookies::CookieJar;
use crate::peer::{Address, RequestId};

/// The application. Every method has a default, so an empty `impl` is a working server whose
/// clients may use only what the configuration opens.
///
/// `upgrade` and `authenticate` run on the async runtime, everything else on the worker thread
/// that owns the connection: keep those short, and return [`Answer::later`] for what must wait.
/// A hook that panics or fails hurts its own request or connection, never the server.
///
/// ```
/// use millstream_server::{Admission, Answer, HookError, Hooks, UpgradeRequest};
///
/// struct App;
///
/// impl Hooks for App {
///     fn has_upgrade(&self) -> bool {
///         true
///     }
///
///     fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
///         Answer::later(async move {
///             Ok(match request.query("user") {
///                 Some(user) => Admission::user(user.into_owned()),
///                 None => Admission::Reject,
///             })
///         })
///     }
/// }
/// ```
#[allow(
    unused_variables,
    reason = "default methods name their arguments for the reader"
)]
pub trait Hooks: Send + Sync + 'static {
    /// Decides about an upgrade. Only called when [`has_upgrade`](Self::has_upgrade) says so;
    /// bounded by `upgrade_timeout` (then 504; a late answer is dropped).
    fn upgrade(&self, request: UpgradeRequest) -> Answer<Result<Admission, HookError>> {
        Ok(Admission::anonymous()).into()
    }

    /// Whether [`upgrade`](Self::upgrade) authenticates clients. If so, requests without `Origin`
    /// reach it; if not, they are refused (they cannot come from a browser page).
    fn has_upgrade(&self) -> bool {
        false
    }

    /// Whether clients get their topics through streams. If so, none is open to control frames by
    /// itself, not even for development.
    fn has_streams(&self) -> bool {
        false
    }

    /// Topics whose newest events are kept for those who come back, and how many of them. Asked
    /// once, at the start. All together stay within `retained_bytes_max`.
    fn retention(&self) -> Vec<(Pattern, u32)> {
        Vec::new()
    }

    /// What became of uploads so far, for the metrics; nothing when there can be none.
    fn upload_stats(&self) -> Option<millstream_live::UploadStats> {
        None
    }

    /// Whether the auth path is served at all.
    fn authenticates(&self) -> bool {
        false
    }

    /// Answers the auth preflight, the place to set cookies. Only called when
    /// [`authenticates`](Self::authenticates) says so.
    fn authenticate(&self, request: AuthRequest) -> Answer<Result<AuthOutcome, HookError>> {
        Ok(AuthOutcome::Accept {
            cookies: request.cookies,
        })
        .into()
    }

    /// The connection is open and `welcome` is on its way.
    fn open(&self, cx: &mut Context<'_>) {}

    /// The client sent something that is no control frame.
    fn message(&self, cx: &mut Context<'_>, message: Message<'_>) {}

    /// May this connection subscribe to this topic? Asked for control frames that name a topic
    /// of `open_topics` or one that is held already (everything else is denied without asking),
    /// and for [`Conn::subscribe`](crate::Conn::subscribe).
    fn subscribe(
        &self,
        cx: &mut Context<'_>,
        topic: &TopicName,
    ) -> Answer<Result<Verdict, HookError>> {
        Ok(Verdict::Allow).into()
    }

    /// The same for all topics of one batch; `None` asks [`subscribe`](Self::subscribe) for each.
    /// One verdict per topic, in their order; missing ones count as an error.
    fn subscribe_batch(
        &self,
        cx: &mut Context<'_>,
        topics: &[TopicName],
    ) -> Option<Answer<Result<Vec<Verdict>, HookError>>> {
        None
    }

    /// The client gave a topic up.
    fn unsubscribe(&self, cx: &mut Context<'_>, topic: &str) {}

    /// The client came back and says what it saw last. `resumed` follows whatever this answers.
    fn resume(&self, cx: &mut Context<'_>, resume: &Resume<'_>) -> Answer<Result<(), HookError>> {
        Ok(()).into()
    }

    /// The connection is over.
    fn close(&self, cx: &mut Context<'_>, info: &CloseInfo<'_>) {}

    /// The load has changed: [`Snapshot::reason`](crate::Snapshot) is another one, or topics are
    /// louder than a threshold (then once per sample). Called on the runtime.
    fn pressure(&self, handle: &Handle, snapshot: &Snapshot) {}

    /// The server is bound, and nobody has connected yet. Runs once, in [`bind`]: a panic here
    /// is one of the start.
    ///
    /// [`bind`]: crate::server::Builder::bind
    fn start(&self, handle: &Handle) {}

    /// How this application publishes. What comes by `POST /api/publish` goes through it; without
    /// one it goes to the topic as it is.
    fn publisher(&self) -> Option<Publisher> {
        None
    }

    /// Loads what a stream holds at first, without a connection, for `POST /api/load`. `None` says
    /// that there are no streams.
    fn load(&self, request: LoadRequest) -> Option<Answer<Result<Option<RawJson>, LiveError>>> {
        None
    }

    /// The connection was behind and has caught up: its socket took everything that waited.
    fn drain(&self, cx: &mut Context<'_>) {}

    /// Numbers of the application's own that belong among the server's metrics. Asked at every
    /// scrape, on the runtime.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }
}

/// A request to load a stream, from whoever renders a page on a server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LoadRequest {
    /// The stream.
    pub path: String,
    /// Its arguments, a list.
    pub args: RawJson,
    /// Where the page begins, for streams of pages.
    pub cursor: Option<RawJson>,
    /// Whose page it is, as the back end describes users; null for nobody.
    pub user: RawJson,
}

/// A number for the page of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name, without the server's prefix.
    pub name: &'static str,
    /// What it counts or measures, for people.
    pub help: &'static str,
    /// The number now.
    pub value: u64,
    /// Whether it only grows.
    pub counter: bool,
}

impl Metric {
    /// A number that only grows.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            value,
            counter: true,
        }
    }

    /// A number that comes and goes.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str, value: u64) -> Self {
        Self {
            name,
            help,
            value,
            counter: false,
        }
    }
}

/// The application that supplies nothing.
impl Hooks for () {}

/// A result now, or a future that gives it.
pub enum Answer<T> {
    /// Ready; costs nothing.
    Now(T),
    /// Not yet.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Answer<T> {
    /// An answer that has to wait for something.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T> From<T> for Answer<T> {
    fn from(value: T) -> Self {
        Self::Now(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(value) => f.debug_tuple("Now").field(value).finish(),
            Self::Later(_) => f.write_str("Later(..)"),
        }
    }
}

/// A hook could not do its work. The client sees 500 or `INTERNAL_ERROR`; the text is only logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HookError(Cow<'static, str>);

impl HookError {
    /// An error with a text for the log.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

/// An upgrade request as the [`upgrade`](Hooks::upgrade) hook sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// All request headers.
    pub headers: HeaderMap,
    /// Cookies: unquoted, percent-decoded, the last of duplicates.
    pub cookies: HashMap<String, String>,
    /// Path and query as the client wrote them.
    pub url: String,
    /// Where the client is.
    pub remote_address: Address,
    /// The id of this request.
    pub request_id: RequestId,
}

impl UpgradeRequest {
    /// The first query parameter of that name, percent-decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query_of(&self.url, name)
    }
}

/// What the [`upgrade`](Hooks::upgrade) hook decided.
pub enum Admission {
    /// 101.
    Accept {
        /// Travels with the connection.
        user: Option<Box<dyn Any + Send + Sync>>,
        /// Additional headers of the 101. Those that belong to the handshake are ignored.
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    /// 401 `Unauthorized`. To a browser every refusal of an upgrade looks the same and is retried;
    /// to turn a client away for good accept and close with 4401, or use the auth preflight.
    Reject,
    /// Another response. Its status must not be 1xx.
    Respond(Response<Bytes>),
}

impl Admission {
    /// Accepts with user data.
    pub fn user<T: Any + Send + Sync>(user: T) -> Self {
        Self::Accept {
            user: Some(Box::new(user)),
            headers: Vec::new(),
        }
    }

    /// Accepts without user data.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self::Accept {
            user: None,
            headers: Vec::new(),
        }
    }

    /// Adds a header to the 101; does nothing to a refusal.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Self::Accept { headers, .. } = &mut self {
            headers.push((name, value));
        }
        self
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept { .. } => "Accept",
            Self::Reject => "Reject",
            Self::Respond(_) => "Respond",
        })
    }
}

/// An auth preflight as the [`authenticate`](Hooks::authenticate) hook sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthRequest {
    /// Always `POST` today.
    pub method: Method,
    /// All request headers.
    pub headers: HeaderMap,
    /// The request's cookies, and the place to set new ones. Give it back in the outcome.
    pub cookies: CookieJar,
    /// Path and query as the client wrote them.
    pub url: String,
    /// The body, at most 64 KiB. The browser client sends none.
    pub body: Bytes,
    /// Where the client is.
    pub remote_address: Address,
    /// The id of this request.
    pub request_id: RequestId,
}

impl AuthRequest {
    /// The first query parameter of that name, percent-decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query_of(&self.url, name)
    }
}

/// What the [`authenticate`](Hooks::authenticate) hook decided.
#[derive(Debug)]
pub enum AuthOutcome {
    /// 204 with the cookies that were set; the client goes on to open the WebSocket.
    Accept {
        /// The jar of the request.
        cookies: CookieJar,
    },
    /// 401: the client gives up for good. Cookies are not sent.
    Reject,
    /// Another response. Its own cookies come first, then those of the jar. Any 4xx makes the
    /// client give up for good, so use 503 for what will pass.
    Respond {
        /// Sent as it is.
        response: Response<Bytes>,
        /// The jar of the request.
        cookies: CookieJar,
    },
}

/// One message of the application's own protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, checked to be UTF-8.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// A client that came back says where it was.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Resume<'a> {
    /// The session id of its former connection.
    pub session_id: &'a str,
    /// Its object of topic -> last number, as received.
    pub last_seen: RawJsonRef<'a>,
}

impl<'a> Resume<'a> {
    pub(crate) const fn new(session_id: &'a str, last_seen: RawJsonRef<'a>) -> Self {
        Self {
            session_id,
            last_seen,
        }
    }
}

/// How a connection ended, and what it did.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct CloseInfo<'a> {
    /// The close code; 1006 when there was no close frame, 1005 when it was empty.
    pub code: u16,
    /// The client's reason, or an internal text for abnormal ends.
    pub reason: &'a str,
    /// Topics held by the client at the end.
    pub subscriptions: &'a [TopicName],
    /// How long it was open.
    pub duration: Duration,
    /// Messages received, control frames of the transport included.
    pub messages_in: u64,
    /// Messages sent to this connection alone; publishes do not count.
    pub messages_out: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes sent to this connection alone.
    pub bytes_out: u64,
}

impl<'a> CloseInfo<'a> {
    pub(crate) const fn new(code: u16, reason: &'a str) -> Self {
        Self {
            code,
            reason,
            subscriptions: &[],
            duration: Duration::ZERO,
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

fn query_of<'a>(url: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let (_, query) = url.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find_map(|(key, value)| (key == name).then_some(value))
}
