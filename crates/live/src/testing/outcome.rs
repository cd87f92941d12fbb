//! What clients are told.

use core::fmt;

use millstream_core::RawJson;
use serde_json::Value;

use crate::error::{Issue, code};

/// A failure as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallError {
    /// What programs look at. `DISCONNECTED` and `TIMEOUT` are the client's own.
    pub code: String,
    /// What people read.
    pub message: String,
    /// What is wrong with the arguments.
    pub issues: Vec<Issue>,
    /// After how many milliseconds the same call may succeed.
    pub retry_after_ms: Option<u64>,
    /// Facts for programs.
    pub details: Option<Value>,
}

impl CallError {
    pub(super) fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_owned(),
            issues: Vec::new(),
            retry_after_ms: None,
            details: None,
        }
    }

    pub(super) fn disconnected() -> Self {
        Self::new("DISCONNECTED", "connection lost")
    }

    pub(super) fn cancelled() -> Self {
        Self::new(code::CANCELLED, "upload cancelled")
    }

    pub(super) fn timeout() -> Self {
        Self::new(code::TIMEOUT, "no reply in time")
    }

    /// Reads the payload of a failed reply.
    fn read(payload: &Value) -> Self {
        let text = |name: &str| payload[name].as_str().map(str::to_owned);
        let issue = |issue: &Value| {
            let path = issue["path"].as_array().into_iter().flatten();
            let path: Vec<&str> = path.filter_map(Value::as_str).collect();
            Issue::new(path, issue["message"].as_str().unwrap_or_default())
        };
        let issues = payload["issues"].as_array().into_iter().flatten();
        Self {
            code: text("code").unwrap_or_else(|| "UNKNOWN".to_owned()),
            message: text("error").unwrap_or_else(|| "Unknown error".to_owned()),
            issues: issues.map(issue).collect(),
            retry_after_ms: payload["retryAfter"].as_u64(),
            details: payload.get("details").cloned(),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl core::error::Error for CallError {}

/// What a call gives: `null` also when the function gave nothing.
pub type Outcome = Result<Value, CallError>;

/// The payload of a reply.
pub(super) fn read_reply(payload: &RawJson) -> Outcome {
    let payload = value(payload);
    if payload["ok"] == true {
        Ok(payload.get("data").cloned().unwrap_or(Value::Null))
    } else {
        Err(CallError::read(&payload))
    }
}

/// The same value, decoded.
pub(super) fn value(json: &RawJson) -> Value {
    serde_json::from_str(json.as_str()).unwrap_or(Value::Null)
}

/// Asserts that a call was refused with a code, and gives the refusal.
///
/// ```
/// use millstream_live::testing::{Testbed, assert_denied};
/// use millstream_live::{App, Ctx, Module};
/// use serde_json::json;
///
/// let desk = Module::new("desk").authenticated().call("in", async |_: Ctx<(), String>| Ok("in"));
/// let app = App::new(()).module(desk).build()?;
/// let mut t = Testbed::new(app);
/// let nobody = t.connect_unknown();
/// assert_denied(t.call(nobody, "desk/in", ()), "UNAUTHENTICATED");
/// let ada = t.connect("ada".to_owned());
/// assert_eq!(t.call(ada, "desk/in", ()), Ok(json!("in")));
/// # Ok::<(), millstream_live::RegistrationErrors>(())
/// ```
///
/// # Panics
/// When the call succeeded or was refused with another code.
#[track_caller]
pub fn assert_denied<T: fmt::Debug>(outcome: Result<T, CallError>, code: &str) -> CallError {
    match outcome {
        Err(error) if error.code == code => error,
        Err(error) => panic!("refused with {error}, not with {code}"),
        Ok(value) => panic!("not refused: {value:?}"),
    }
}
