//! The one error type of calls and streams, and the codes the framework itself uses.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use millstream_core::{ObjectWriter, RawJson};
use serde::Serialize;

/// Codes that clients see. An application may use any other text as well.
pub mod code {
    /// An idempotent call with this key is in progress elsewhere.
    pub const CONFLICT: &str = "CONFLICT";
    /// The connection is gone.
    pub const CONNECTION_CLOSED: &str = "CONNECTION_CLOSED";
    /// A guard or an access predicate said no to a known user.
    pub const FORBIDDEN: &str = "FORBIDDEN";
    /// Something unexpected failed; what it was is in the log only.
    pub const INTERNAL_ERROR: &str = "INTERNAL_ERROR";
    /// A function was given an argument that it cannot work with.
    pub const INVALID_ARG: &str = "INVALID_ARG";
    /// The client gave an upload up.
    pub const CANCELLED: &str = "CANCELLED";
    /// The connection of an upload is gone; its function sees this, and nobody else.
    pub const DISCONNECTED: &str = "DISCONNECTED";
    /// More chunks than are kept came before their function took any, from a client that could not
    /// be told to wait.
    pub const FLOW_BACKPRESSURE: &str = "FLOW_BACKPRESSURE";
    /// As many uploads are under way as are allowed.
    pub const TOO_MANY_UPLOADS: &str = "TOO_MANY_UPLOADS";
    /// The frame does not fit the function it names.
    pub const INVALID_REQUEST: &str = "INVALID_REQUEST";
    /// The topic is reserved or malformed.
    pub const INVALID_TOPIC: &str = "INVALID_TOPIC";
    /// The lock was not free in time.
    pub const LOCK_TIMEOUT: &str = "LOCK_TIMEOUT";
    /// There is no such path, or nobody to reach.
    pub const NOT_FOUND: &str = "NOT_FOUND";
    /// Too much is waiting already.
    pub const OVERLOADED: &str = "OVERLOADED";
    /// More bytes than are taken, or than a client would read.
    pub const PAYLOAD_TOO_LARGE: &str = "PAYLOAD_TOO_LARGE";
    /// A limit on calls or subscriptions is reached.
    pub const RATE_LIMITED: &str = "RATE_LIMITED";
    /// What the function depends on has failed too often.
    pub const SERVICE_UNAVAILABLE: &str = "SERVICE_UNAVAILABLE";
    /// No answer in time.
    pub const TIMEOUT: &str = "TIMEOUT";
    /// A guard or an access predicate said no to somebody who is not known.
    pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
    /// The arguments are not what the function takes; see the issues.
    pub const VALIDATION: &str = "VALIDATION";
}

/// One thing that is wrong with an argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Issue {
    /// Where: member names and list positions, all as text.
    pub path: Vec<String>,
    /// What, for people.
    pub message: String,
}

impl Issue {
    /// An issue at a place.
    pub fn new<P: Into<String>>(
        path: impl IntoIterator<Item = P>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into_iter().map(Into::into).collect(),
            message: message.into(),
        }
    }
}

/// Why a call or a subscription fails.
///
/// A *typed* error has a code and a message that the client sees. Any other error can be turned
/// into one with `?`: the client then sees [`code::INTERNAL_ERROR`] and a fixed text, and the
/// cause goes to the log and to the application's error hook.
///
/// ```
/// use millstream_live::{LiveError, code};
///
/// fn seats(text: &str) -> Result<u32, LiveError> {
///     let seats: u32 = text.parse()?;
///     if seats > 8 {
///         return Err(LiveError::new("TOO_MANY_SEATS", "a table has eight seats"));
///     }
///     Ok(seats)
/// }
/// assert_eq!(seats("9").unwrap_err().code(), "TOO_MANY_SEATS");
/// let internal = seats("x").unwrap_err();
/// assert_eq!(internal.code(), code::INTERNAL_ERROR);
/// assert!(internal.cause().is_some());
/// ```
pub struct LiveError(Box<Parts>);

struct Parts {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    issues: Vec<Issue>,
    retry_after_ms: Option<u64>,
    details: Option<RawJson>,
    cause: Option<Box<dyn Error + Send + Sync>>,
    typed: bool,
}

impl LiveError {
    /// A typed error. An empty message becomes the code.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let code = code.into();
        let mut message = message.into();
        if message.is_empty() {
            message = code.clone();
        }
        Self(Box::new(Parts {
            code,
            message,
            issues: Vec::new(),
            retry_after_ms: None,
            details: None,
            cause: None,
            typed: true,
        }))
    }

    /// An unexpected failure: the client learns nothing but that.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let mut error = Self::new(code::INTERNAL_ERROR, "Internal server error");
        error.0.typed = false;
        error.0.cause = Some(cause.into());
        error
    }

    /// Arguments that are not what the function takes.
    #[must_use]
    pub fn validation(issues: Vec<Issue>) -> Self {
        let mut error = Self::new(code::VALIDATION, "Validation failed");
        error.0.issues = issues;
        error
    }

    /// Adds what is wrong in detail.
    #[must_use]
    pub fn with_issues(mut self, issues: Vec<Issue>) -> Self {
        self.0.issues = issues;
        self
    }

    /// Says after how many milliseconds the same call may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, millis: u64) -> Self {
        self.0.retry_after_ms = Some(millis);
        self
    }

    /// Adds facts for programs.
    #[must_use]
    pub fn with_details(mut self, details: RawJson) -> Self {
        self.0.details = Some(details);
        self
    }

    /// Adds what led to it, for the log only.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// What programs look at.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// What people read.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What is wrong in detail; usually nothing.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.0.issues
    }

    /// Milliseconds after which the same call may succeed.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.0.retry_after_ms
    }

    /// Facts for programs.
    #[must_use]
    pub fn details(&self) -> Option<&RawJson> {
        self.0.details.as_ref()
    }

    /// What led to it; never sent.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.0.cause.as_deref()
    }

    /// Writes what clients see of it: `ok`, which is false, `code`, `error`, and as far as there
    /// are any `issues`, `retryAfter` and `details`.
    pub fn write(&self, object: &mut ObjectWriter) {
        crate::reply::write_failure(object, self);
    }

    /// Whether the application chose code and message, so that clients may see them.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.0.typed
    }
}

impl fmt::Debug for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveError")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        match &self.0.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

/// Any error becomes an unexpected one. `LiveError` itself is no [`Error`] for this reason.
impl<E: Error + Send + Sync + 'static> From<E> for LiveError {
    fn from(error: E) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_error_without_text_uses_its_code() {
        let error = LiveError::new("TEAPOT", "");
        assert_eq!(error.message(), "TEAPOT");
        assert!(error.is_typed());
    }

    #[test]
    fn an_unexpected_error_hides_its_cause_from_clients() {
        let error: LiveError = "x".parse::<u8>().unwrap_err().into();
        assert!(!error.is_typed());
        assert_eq!(error.message(), "Internal server error");
        assert!(error.to_string().contains("invalid digit"), "{error}");
    }

    #[test]
    fn results_stay_small() {
        assert_eq!(size_of::<Result<(), LiveError>>(), size_of::<usize>());
    }
}
