//! Questions the server asks a client, each with a time limit.

use core::time::Duration;

use hashbrown::HashMap;
use millstream_core::{JsonStr, Key, Millis, RawJson, RawJsonRef, TimerId};
use millstream_wire::{Ref, ReplyOutcome};

use crate::Hub;
use crate::event::Event;
use crate::hub::Timer;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The client answered with an error; the text is the client's.
    #[error("{0}")]
    Client(String),
    /// The connection closed first.
    #[error("connection closed")]
    Closed,
    /// No answer in time.
    #[error("request timed out")]
    TimedOut,
    /// Too many requests are waiting on the connection.
    #[error("pending requests exceeded {limit}")]
    TooMany {
        /// The limit.
        limit: u32,
    },
}

/// Requests of one connection that wait for their reply, by `ref`: the token is the `ref`.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// When each gives up.
    waiting: HashMap<u64, TimerId>,
}

impl Requests {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Ends a wait; gives its timer.
    pub(crate) fn take(&mut self, reference: u64) -> Option<TimerId> {
        let timer = self.waiting.remove(&reference);
        if self.waiting.is_empty() {
            self.waiting = HashMap::new();
        }
        timer
    }

    /// Ends all waits; gives each with its timer.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u64, TimerId)> + use<> {
        core::mem::take(&mut self.waiting).into_iter()
    }
}

impl Hub {
    /// Asks a client. The answer comes as [`Event::Replied`] with `token`, which the host
    /// chooses; it doubles as the `ref`, so it has to be unique in the process and below 2^53.
    /// A `timeout` of zero means the default.
    pub fn request(
        &mut self,
        conn: Key,
        token: u64,
        event: &str,
        data: RawJsonRef<'_>,
        timeout: Duration,
        now: Millis,
    ) {
        let limit = self.config.limits.requests_max;
        let default = self.config.limits.request_timeout;
        let waiting = self
            .extra_or_new(conn)
            .map(|extra| extra.requests.waiting.len());
        let refused = match waiting {
            None => Some(RequestError::Closed),
            Some(waiting) if waiting >= limit as usize => {
                self.tally.requests_refused += 1;
                Some(RequestError::TooMany { limit })
            }
            Some(_) => None,
        };
        if let Some(refused) = refused {
            self.tidy(conn);
            self.events.push_back(Event::Replied {
                token,
                result: Err(refused),
            });
            return;
        }
        let timeout = if timeout.is_zero() { default } else { timeout };
        let timer = Timer::Request {
            conn,
            reference: token,
        };
        let timer = self.timers.insert(now.saturating_add(timeout), timer);
        if let Some(extra) = self.extra(conn) {
            extra.requests.waiting.insert(token, timer);
        }
        self.tally.requests += 1;
        self.control(conn, |out| {
            millstream_wire::encode_request(out, token, event, data)
        });
    }

    pub(crate) fn handle_reply(&mut self, conn: Key, to: Ref<'_>, outcome: ReplyOutcome<'_>) {
        // A text never matches a number: our refs are numbers.
        let Some(reference) = to.as_u64_exact() else {
            return;
        };
        let waited = self
            .extra(conn)
            .and_then(|extra| extra.requests.take(reference));
        let Some(timer) = waited else { return };
        self.timers.cancel(timer);
        let result = match outcome {
            ReplyOutcome::Ok(data) => Ok(data.map_or(RawJson::NULL, |data| data.to_owned())),
            ReplyOutcome::Err(error) => Err(RequestError::Client(text(error))),
        };
        self.events.push_back(Event::Replied {
            token: reference,
            result,
        });
        self.tidy(conn);
    }
}

fn text(error: JsonStr<'_>) -> String {
    error.to_cow().into_owned()
}
