//! Runs scenarios of the rate-limit vectors, shared by the tests and the driver.
//!
//! What is recorded is what [`OldestFirst`] answers, which keeps the original's books. The same
//! calls go to [`Limiter`]: as long as nothing has happened that the two treat differently, they
//! must agree, and a scenario in which they do not ends with the error `engines-disagree`.

use std::collections::HashMap;

use millstream_core::Millis;
use millstream_ratelimit::{
    ConsumeError, Decision, FixedWindow, Keys, LimitKey, Limiter, Limits, OldestFirst,
};
use millstream_vectors::{Engine, is_undefined, number, positive_integer, rule};
use serde_json::{Value, json};

/// Virtual time zero.
const START_MS: u64 = 1_700_000_000_000;

pub(crate) struct RateLimit {
    oldest_first: OldestFirst,
    limiter: Limiter<FixedWindow>,
    buckets_max: usize,
    /// Nothing has happened yet that the two treat differently.
    alike: bool,
    names: Names,
    keys: Keys,
}

impl Engine for RateLimit {
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value> {
        if !options.is_object() || is_undefined(options) || options.get("$missing").is_some() {
            return Err(json!({"rule": "options-required"}));
        }
        let points = positive_integer(options, "points")?;
        let points = points.ok_or_else(|| rule("positive-integer", "points"))?;
        let interval_ms = given(options, "interval")
            .and_then(number)
            .unwrap_or(f64::NAN);
        let window = FixedWindow::new(points, interval_ms)
            .map_err(|_| rule("positive-finite", "interval"))?;
        let block_ms = match given(options, "blockDuration") {
            Some(value) => number(value).unwrap_or(f64::NAN),
            None => 0.0,
        };
        let window = window
            .with_block(block_ms)
            .map_err(|_| rule("non-negative-finite", "blockDuration"))?;
        let names = Names::new(given(options, "keyBy"), &scenario["conns"])?;
        let buckets_max = positive_integer(options, "maxBuckets")?.unwrap_or(1_000_000);
        let buckets_max = usize::try_from(buckets_max).unwrap_or(usize::MAX);
        Ok(Self {
            oldest_first: OldestFirst::new(window, buckets_max),
            limiter: Limiter::new(window, Limits::default()),
            buckets_max,
            alike: true,
            names,
            keys: Keys::new([0x6d69_6c6c, 0x7374_7265]),
        })
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        _out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let now = Millis::from_millis(START_MS + at);
        match (op, args) {
            ("consume", [conn, rest @ ..]) => {
                let cost = cost_of(rest.first())?;
                let name = self.names.of(text(conn)?)?;
                self.consume(&name, now, cost)
                    .map(|decision| Some(told(decision)))
            }
            ("consumeMany", [prefix, from, to, rest @ ..]) => {
                let cost = cost_of(rest.first())?;
                let (prefix, mut allowed, mut denied) = (text(prefix)?, 0, 0);
                for n in whole(from)?..whole(to)? {
                    let name = self.names.of_address(&format!("{prefix}{n}"))?;
                    match self.consume(&name, now, cost)?.allowed {
                        true => allowed += 1,
                        false => denied += 1,
                    }
                }
                Ok(Some(json!({"allowed": allowed, "denied": denied})))
            }
            ("reset", [key, ..]) => {
                let key = self.keys.text(text(key)?);
                self.oldest_first.reset(key);
                self.limiter.reset(key);
                Ok(None)
            }
            ("ban", [key, rest @ ..]) => {
                self.ban(text(key)?, now, rest.first().and_then(number));
                Ok(None)
            }
            ("unban", [key, ..]) => {
                let key = self.keys.text(text(key)?);
                self.oldest_first.unban(key);
                self.limiter.unban(key);
                Ok(None)
            }
            ("clear", _) => {
                self.oldest_first.clear();
                self.limiter.clear();
                self.names.clear();
                self.alike = true;
                Ok(None)
            }
            ("setUserData", [conn, data, ..]) => {
                self.names.set_user_data(text(conn)?, data);
                Ok(None)
            }
            ("wsSubscribe" | "failNextPublish", _) => Ok(None),
            _ => Err(rule("unknown-operation", op)),
        }
    }
}

impl RateLimit {
    fn consume(&mut self, name: &str, now: Millis, cost: f64) -> Result<Decision, Value> {
        let key = self.keys.text(name);
        let refused = |_: ConsumeError| rule("non-negative-finite", "cost");
        let before = self.oldest_first.len();
        let decision = self.oldest_first.consume(key, now, cost).map_err(refused)?;
        let after = self.oldest_first.len();
        // Full, and full again: somebody may have been dropped.
        self.alike &= after < self.buckets_max || after > before;
        let ours = self.limiter.consume(key, now, cost).map_err(refused)?;
        let stats = self.limiter.stats();
        self.alike &= stats.evicted == 0 && stats.bans_refused == 0;
        if self.alike && ours != decision {
            let detail = format!("{name}: {decision:?}, {ours:?}");
            return Err(json!({"rule": "engines-disagree", "subject": detail}));
        }
        Ok(decision)
    }

    fn ban(&mut self, name: &str, now: Millis, length_ms: Option<f64>) {
        let key: LimitKey = self.keys.text(name);
        let known = self.oldest_first.len();
        self.oldest_first.ban(key, now, length_ms);
        // A ban on a key that was never seen.
        self.alike &= self.oldest_first.len() == known;
        self.alike &= self.limiter.ban(key, now, length_ms).is_ok();
    }
}

/// From connections to the names under which they are counted.
struct Names {
    by: By,
    user_data: HashMap<String, Value>,
    numbers: HashMap<String, u64>,
    numbered: u64,
    objects: u64,
}

enum By {
    Address,
    Connection,
    Constant(Value),
    Field(String),
    /// The function gives a new object for each call, or the connection's own.
    Object {
        fresh: bool,
    },
    Throws,
}

impl Names {
    fn new(by: Option<&Value>, conns: &Value) -> Result<Self, Value> {
        let by = match by {
            None => By::Address,
            Some(Value::String(word)) => match word.as_str() {
                "ip" | "default" => By::Address,
                "connection" => By::Connection,
                "identity" => By::Object { fresh: false },
                "throw" => By::Throws,
                _ => return Err(rule("one-of", "keyBy")),
            },
            Some(Value::Object(members)) => match members.iter().next() {
                Some((kind, Value::String(field))) if kind == "field" => By::Field(field.clone()),
                Some((kind, value)) if kind == "const" => By::Constant(value.clone()),
                Some((kind, _)) if kind == "pick" => By::Object { fresh: true },
                Some((kind, _)) if kind == "$fn" => By::Address,
                _ => return Err(rule("one-of", "keyBy")),
            },
            Some(_) => return Err(rule("one-of", "keyBy")),
        };
        let mut user_data = HashMap::new();
        for (name, conn) in conns.as_object().into_iter().flatten() {
            let data = if conn["noGetUserData"] == true {
                &Value::Null
            } else {
                &conn["userData"]
            };
            user_data.insert(name.clone(), data.clone());
        }
        Ok(Self {
            by,
            user_data,
            numbers: HashMap::new(),
            numbered: 0,
            objects: 0,
        })
    }

    fn of(&mut self, conn: &str) -> Result<String, Value> {
        let data = self.user_data.get(conn).unwrap_or(&Value::Null);
        Ok(match &self.by {
            By::Address => address(data),
            By::Connection => {
                let number = self.numbers.entry(conn.to_owned()).or_insert_with(|| {
                    self.numbered += 1;
                    self.numbered
                });
                format!("__conn:{number}")
            }
            By::Constant(value) => untyped(value),
            By::Field(field) => data
                .get(field)
                .map_or_else(|| "\0undefined".to_owned(), untyped),
            By::Object { fresh } => {
                self.objects += u64::from(*fresh);
                format!("\0object {conn} {}", self.objects)
            }
            By::Throws => return Err(json!({"rule": "callback", "subject": "keyBy"})),
        })
    }

    /// Of a connection that was not listed, known by its address.
    fn of_address(&mut self, address: &str) -> Result<String, Value> {
        let conn = format!("\0many {address}");
        if !self.user_data.contains_key(&conn) {
            self.user_data.insert(
                conn.clone(),
                json!({"remoteAddress": address, "ip": address}),
            );
        }
        self.of(&conn)
    }

    fn set_user_data(&mut self, conn: &str, data: &Value) {
        self.user_data.insert(conn.to_owned(), data.clone());
    }

    /// Connections that have a number keep it, new ones start at 1 again.
    fn clear(&mut self) {
        self.numbered = 0;
    }
}

/// The first member that is there, as text.
fn address(data: &Value) -> String {
    let members = ["remoteAddress", "ip", "address"];
    let truthy = members
        .iter()
        .filter_map(|name| data.get(*name))
        .find(|value| match value {
            Value::Null => false,
            Value::Bool(is) => *is,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            _ => !is_undefined(value),
        });
    match truthy {
        None => "unknown".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A key that is used as it is: text is itself, everything else something that is no text.
fn untyped(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => format!("\0{other}"),
    }
}

fn given<'a>(options: &'a Value, name: &str) -> Option<&'a Value> {
    options.get(name).filter(|value| !is_undefined(value))
}

fn cost_of(cost: Option<&Value>) -> Result<f64, Value> {
    match cost.filter(|cost| !is_undefined(cost)) {
        None => Ok(1.0),
        Some(cost) => match number(cost) {
            Some(cost) if cost.is_finite() && cost >= 0.0 => Ok(cost),
            _ => Err(rule("non-negative-finite", "cost")),
        },
    }
}

fn told(decision: Decision) -> Value {
    json!({
        "allowed": decision.allowed,
        "remaining": shown(decision.remaining),
        "resetMs": shown(decision.reset_ms),
    })
}

/// Whole numbers without a fraction, and what JSON cannot say in words.
fn shown(number: f64) -> Value {
    if number.is_infinite() {
        json!({"$num": if number > 0.0 { "Infinity" } else { "-Infinity" }})
    } else if number.fract() == 0.0 && number.abs() < 9e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

fn text(value: &Value) -> Result<&str, Value> {
    value.as_str().ok_or_else(|| rule("string", "argument"))
}

fn whole(value: &Value) -> Result<u64, Value> {
    value
        .as_u64()
        .ok_or_else(|| rule("whole-number", "argument"))
}
