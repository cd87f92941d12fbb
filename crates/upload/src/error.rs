//! How an upload fails.

use core::time::Duration;
use std::borrow::Cow;

/// What the engine itself finds wrong. [`code`](Self::code) goes into the reply, and the text too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// A second opening under a number that is in use; the first upload goes on.
    #[error("streamId already active")]
    NumberInUse,
    /// The header is no object or has no `rpc` text.
    #[error("missing rpc path")]
    MissingPath,
    /// A chunk is missing, repeated or early.
    #[error("out-of-order chunk: expected {expected}, got {got}")]
    OutOfOrder {
        /// The number that would have been next.
        expected: u64,
        /// The number that came.
        got: u32,
    },
    /// More bytes than the function takes.
    #[error("upload exceeds maxSize")]
    TooLarge,
    /// More bytes than are kept before the upload is accepted.
    #[error("upload exceeds the start buffer")]
    TooLargeForStart,
    /// More chunks than are kept before the upload is accepted.
    #[error("too many chunks queued during upload start")]
    StartQueueFull,
    /// The handler does not take what comes, and reading was not paused in time.
    #[error("upload buffer overflow - handler not draining fast enough")]
    Backpressure,
    /// The process holds as many unread bytes as it may.
    #[error("upload buffers are full")]
    Overloaded,
    /// As many uploads on this connection as the function or the table allows.
    #[error("too many concurrent uploads on this session")]
    TooManyOnConnection,
    /// As many uploads in all as the function or the table allows.
    #[error("too many concurrent uploads")]
    TooMany,
    /// The client gave up.
    #[error("upload cancelled by client")]
    Cancelled,
    /// Nothing came for as long as an upload may be silent.
    #[error("upload idle for {} ms", .after.as_millis())]
    Idle {
        /// How long that is.
        after: Duration,
    },
    /// The client's offset is not where this upload goes on.
    #[error("upload continues at {at}, not at {offset}")]
    WrongOffset {
        /// What the host has.
        at: u64,
        /// What the client said.
        offset: u64,
    },
    /// The connection is gone; nobody is there to be told.
    #[error("connection closed")]
    Disconnected,
    /// The upload has ended before. Nothing was changed and nothing is replied.
    #[error("upload is over")]
    Over,
}

impl UploadError {
    /// The code of the protocol.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NumberInUse
            | Self::MissingPath
            | Self::OutOfOrder { .. }
            | Self::WrongOffset { .. } => "INVALID_REQUEST",
            Self::TooLarge | Self::TooLargeForStart => "PAYLOAD_TOO_LARGE",
            Self::StartQueueFull | Self::Backpressure => "FLOW_BACKPRESSURE",
            Self::Overloaded => "OVERLOADED",
            Self::TooManyOnConnection | Self::TooMany => "TOO_MANY_UPLOADS",
            Self::Cancelled | Self::Over => "CANCELLED",
            Self::Idle { .. } => "TIMEOUT",
            Self::Disconnected => "DISCONNECTED",
        }
    }
}

/// A failure as it goes into a reply: the engine's, or one of the application.
///
/// ```
/// use millstream_upload::{Failure, UploadError};
///
/// let failure = Failure::from(UploadError::TooLarge);
/// assert_eq!((&*failure.code, &*failure.error), ("PAYLOAD_TOO_LARGE", "upload exceeds maxSize"));
/// let own = Failure::new("VIRUS", "this file is infected");
/// assert_eq!(own.code, "VIRUS");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code, for programs.
    pub code: Cow<'static, str>,
    /// The text, for people.
    pub error: Cow<'static, str>,
}

impl Failure {
    /// A failure of the application.
    pub fn new(code: impl Into<Cow<'static, str>>, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.into(),
            error: error.into(),
        }
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
