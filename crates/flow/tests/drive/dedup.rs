//! Dedup.

use millstream_core::{Millis, SeededRandom};
use millstream_flow::{Dedup, DedupLimits, Retention};
use millstream_vectors::{Engine, positive_integer};
use serde_json::{Value, json};

use super::session::{lifetime, many};
use super::{key_error, limit, text};

pub(crate) struct Dedups(Dedup);

impl Engine for Dedups {
    fn new(options: &Value, _: &Value) -> Result<Self, Value> {
        let (ttl, entries_max) = lifetime(options)?;
        let limits = DedupLimits {
            entries_max,
            id_units_max: limit(positive_integer(options, "maxIdLength")?, 256),
            retention: Retention::Slack,
        };
        Ok(Self(Dedup::new(ttl, limits, &mut SeededRandom::new(1))))
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        _: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let now = Millis::from_millis(at);
        let id = || text(args, 0, "id");
        let refused = |error| key_error(error, "id", "maxIdLength");
        let ret = match op {
            "size" => self.0.len().into(),
            "claim" => self.0.claim(now, id()?).map_err(refused)?.into(),
            "has" => self.0.has(now, id()?).map_err(refused)?.into(),
            "delete" => self.0.remove(now, id()?).map_err(refused)?.into(),
            "claimMany" => {
                let mut claimed = 0;
                for (id, _) in many(args) {
                    claimed += u64::from(self.0.claim(now, &id).map_err(refused)?);
                }
                json!({"claimed": claimed, "size": self.0.len()})
            }
            "clear" => {
                self.0.clear();
                return Ok(None);
            }
            other => panic!("dedups have no {other}"),
        };
        Ok(Some(ret))
    }
}
