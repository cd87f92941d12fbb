//! The session store.

use core::time::Duration;

use millstream_core::Millis;
use millstream_flow::{Retention, SessionError, SessionLimits, SessionStore, Weigh};
use millstream_vectors::{Engine, positive_integer};
use serde_json::{Value, json};

use super::{finite, key_error, limit, text};

pub(crate) struct Sessions(SessionStore<Data>);

struct Data(Value);

impl Weigh for Data {
    fn weight(&self) -> usize {
        0
    }
}

impl Engine for Sessions {
    fn new(options: &Value, _: &Value) -> Result<Self, Value> {
        let (ttl, entries_max) = lifetime(options)?;
        let limits = SessionLimits {
            entries_max,
            token_units_max: usize::MAX,
            bytes_max: usize::MAX,
            retention: Retention::Slack,
        };
        Ok(Self(SessionStore::new(ttl, limits)))
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        _: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let now = Millis::from_millis(at);
        let token = || text(args, 0, "token");
        let refused = |error| key_error(error, "token", "maxTokenLength");
        let ret = match op {
            "size" => self.0.len().into(),
            "get" => {
                let value = self.0.get(now, token()?).map_err(refused)?;
                value.map_or(Value::Null, |data| data.0.clone())
            }
            "touch" => self.0.touch(now, token()?).map_err(refused)?.into(),
            "delete" => self
                .0
                .remove(now, token()?)
                .map_err(refused)?
                .is_some()
                .into(),
            "set" => {
                self.set(now, token()?, args.get(1).cloned().unwrap_or_default())?;
                return Ok(None);
            }
            "setMany" => {
                for (token, n) in many(args) {
                    self.set(now, &token, json!(n))?;
                }
                self.0.len().into()
            }
            "clear" => {
                self.0.clear();
                return Ok(None);
            }
            other => panic!("sessions have no {other}"),
        };
        Ok(Some(ret))
    }
}

impl Sessions {
    fn set(&mut self, now: Millis, token: &str, value: Value) -> Result<(), Value> {
        self.0
            .set(now, token, Data(value))
            .map_err(|error| match error {
                SessionError::Key(error) => key_error(error, "token", "maxTokenLength"),
                other => panic!("no such limit is set: {other}"),
            })
    }
}

/// `ttl` and `maxEntries` of options that have to be there.
pub(super) fn lifetime(options: &Value) -> Result<(Duration, usize), Value> {
    if !options.is_object()
        || ["$missing", "$undef"]
            .iter()
            .any(|mark| options.get(mark).is_some())
    {
        return Err(json!({"rule": "options-required"}));
    }
    let ttl = finite(options, "ttl", f64::MIN_POSITIVE, "positive-finite")?;
    // Times of steps are whole: what ends between two of them is over at the second.
    let ttl = Duration::from_millis(ttl.ceil() as u64);
    Ok((ttl, limit(positive_integer(options, "maxEntries")?, 10_000)))
}

/// Names and numbers of a bulk operation `[prefix, from, to]`.
pub(super) fn many(args: &[Value]) -> impl Iterator<Item = (String, u64)> {
    let prefix = args
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let bound = |at: usize| args.get(at).and_then(Value::as_u64).unwrap_or_default();
    (bound(1)..bound(2)).map(move |n| (format!("{prefix}{n}"), n))
}
