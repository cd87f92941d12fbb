//! Runs scenarios with a virtual clock against an engine, and compares what it did with what the
//! scenario expects.
//!
//! A scenario is one JSON object: `options`, `conns`, `env`, a list of `steps` and, for every
//! step, an `expect`ation. [`run`] plays the steps against anything that implements [`Engine`] and
//! gives the observations in the same form; [`check`] does that for a whole file and fails with a
//! readable difference; [`drive`] does it for lines from standard input, so that any two
//! implementations can be compared with a pipe.

mod compare;
mod drive;

pub use compare::{check, same};
pub use drive::{drive, drive_text};

use serde_json::{Map, Value, json};

/// What timers of one kind did at one instant: the effects of one timer, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Effects, in order.
    pub frames: Vec<Value>,
    /// The error that ended it.
    pub error: Option<Value>,
}

/// The engine under test, behind the words of the scenarios.
///
/// Times are virtual milliseconds from the start of the scenario. An error is an object with a
/// `rule`.
pub trait Engine: Sized {
    /// Builds the engine for the scenario with these options. The whole scenario is passed too,
    /// for its `conns` and `env`.
    ///
    /// # Errors
    /// What is wrong with the options.
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value>;

    /// Performs one step. Effects go to `out`. `Ok(None)` when the operation gives nothing back.
    ///
    /// # Errors
    /// The refusal of the engine.
    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value>;

    /// The turn ends: effects that were put off to this point.
    ///
    /// # Errors
    /// What failed.
    fn end_of_turn(&mut self, _at: u64, _out: &mut Vec<Value>) -> Result<(), Value> {
        Ok(())
    }

    /// When the engine wants to be called again.
    fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// It is that time. One batch per timer; those without effects are left out of the record.
    fn on_deadline(&mut self, _at: u64) -> Vec<Batch> {
        Vec::new()
    }
}

/// Plays a scenario. Gives one observation per step.
///
/// # Panics
/// When the scenario is malformed or the engine's deadline does not move.
#[must_use]
pub fn run<E: Engine>(scenario: &Value) -> Vec<Value> {
    let options = &scenario["options"];
    let steps = scenario["steps"].as_array().expect("a list of steps");
    let mut engine = (!options.is_null())
        .then(|| E::new(&expand(options), scenario).expect("the options of a scenario are valid"));
    steps
        .iter()
        .map(|step| {
            let args: Vec<Value> = step["args"]
                .as_array()
                .map_or_else(Vec::new, |args| args.iter().map(expand).collect());
            let op = step["op"].as_str().expect("a step has an op");
            match engine.as_mut() {
                Some(engine) => play(engine, step, op, &args),
                None => construct::<E>(&args, scenario),
            }
        })
        .collect()
}

fn construct<E: Engine>(args: &[Value], scenario: &Value) -> Value {
    match E::new(args.first().unwrap_or(&Value::Null), scenario) {
        Ok(_) => json!({"ret": "ok"}),
        Err(error) => json!({ "error": error }),
    }
}

fn play<E: Engine>(engine: &mut E, step: &Value, op: &str, args: &[Value]) -> Value {
    let at = step["atMs"].as_u64().expect("a step has a time");
    let mut seen = Map::new();
    let timers = advance(engine, at);
    if !timers.is_empty() {
        seen.insert("timers".into(), Value::Array(timers));
    }
    let mut frames = Vec::new();
    if op != "tick" {
        match engine.call(at, op, args, &mut frames) {
            Ok(Some(value)) => drop(seen.insert("ret".into(), value)),
            Ok(None) => {}
            Err(error) => drop(seen.insert("error".into(), error)),
        }
    }
    if !frames.is_empty() {
        seen.insert("frames".into(), Value::Array(frames));
    }
    if step["hold"] != true {
        let mut tick = Vec::new();
        if let Err(error) = engine.end_of_turn(at, &mut tick) {
            seen.insert("tickError".into(), error);
        }
        if !tick.is_empty() {
            seen.insert("tick".into(), Value::Array(tick));
        }
    }
    Value::Object(seen)
}

/// Runs the timers that are due up to and including `at`.
fn advance<E: Engine>(engine: &mut E, at: u64) -> Vec<Value> {
    const ROUNDS_MAX: usize = 1_000_000;
    let mut seen = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let Some(due) = engine.next_deadline().filter(|due| *due <= at) else {
            return seen;
        };
        for batch in engine.on_deadline(due) {
            if batch.frames.is_empty() && batch.error.is_none() {
                continue;
            }
            let mut entry = json!({"atMs": due, "frames": batch.frames});
            if let Some(error) = batch.error {
                entry["error"] = error;
            }
            seen.push(entry);
        }
    }
    panic!("the deadline does not move: {:?}", engine.next_deadline());
}

/// Replaces `{"$str": [text, times]}` by the repeated text, at any depth.
#[must_use]
pub fn expand(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(expand).collect()),
        Value::Object(members) => {
            if let Some(Value::Array(parts)) = members.get("$str")
                && let [Value::String(text), times] = parts.as_slice()
            {
                let times = times.as_u64().and_then(|n| usize::try_from(n).ok());
                return Value::String(text.repeat(times.expect("a count")));
            }
            let members = members.iter().map(|(name, v)| (name.clone(), expand(v)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// Whether the scenario means JavaScript's `undefined`.
#[must_use]
pub fn is_undefined(value: &Value) -> bool {
    value.get("$undef").is_some()
        || value
            .get("$missing")
            .is_some_and(|kind| kind == "undefined")
}

/// A number, `{"$num": "NaN"}` and its like included.
#[must_use]
pub fn number(value: &Value) -> Option<f64> {
    match value.get("$num").and_then(Value::as_str) {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(other) => other.parse().ok(),
        None => value.as_f64(),
    }
}

/// Parses the value of an option that has to be a positive integer, as every engine words it.
/// `Ok(None)` when it is absent.
///
/// # Errors
/// `{"rule": "positive-integer", "subject": name}`.
pub fn positive_integer(options: &Value, name: &str) -> Result<Option<u64>, Value> {
    let Some(value) = options.get(name).filter(|value| !is_undefined(value)) else {
        return Ok(None);
    };
    let integer = value
        .as_u64()
        .or_else(|| number(value).and_then(whole))
        .filter(|n| *n > 0);
    match integer {
        Some(integer) => Ok(Some(integer)),
        None => Err(rule("positive-integer", name)),
    }
}

fn whole(number: f64) -> Option<u64> {
    // 2^53: above it a JavaScript number is not known to be the integer that was written.
    (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number))
        .then(|| format!("{number:.0}").parse().ok())?
}

/// `{"rule": rule, "subject": subject}`.
#[must_use]
pub fn rule(rule: &str, subject: &str) -> Value {
    json!({"rule": rule, "subject": subject})
}
