//! Plays a scenario of `vectors/aggregate`: a declaration, events, reads, and a clock.

use core::time::Duration;

use millstream_aggregate::{Aggregate, Now, ReadError, Spec};
use millstream_core::{Millis, RawJsonRef};
use serde_json::{Value, json};

/// Replaces `expected` (and sets `expect`) by what this implementation does. The entry is an object
/// with a `case`, or the case itself.
///
/// # Errors
/// When the entry is not of that form.
pub(crate) fn observe(entry: &mut Value) -> Result<(), String> {
    let case = entry.get("case").unwrap_or(entry);
    if !case.get("reducers").is_some_and(Value::is_array) {
        return Err("a case has reducers".into());
    }
    let observed = play(case)?;
    entry["expected"] = observed.clone();
    entry["expect"] = observed;
    Ok(())
}

fn play(case: &Value) -> Result<Value, String> {
    let start = case.get("registerAtMs").and_then(instant).unwrap_or(0);
    let declared = match declare(case) {
        // The original has no longest wait, and a virtual clock is never set.
        Ok(spec) => spec.wait_max(Duration::MAX).clock_check(None),
        Err(rejected) => return Ok(json!({"rejected": rejected})),
    };
    let aggregate = match declared.build(Now {
        mono: Millis::ZERO,
        wall_ms: start,
    }) {
        Ok(aggregate) => aggregate,
        Err(error) => return Ok(json!({"rejected": error.to_string()})),
    };
    if case.get("registerAtMs").is_none() {
        return Ok(json!({"rejected": null}));
    }
    let mut player = Player::new(aggregate, case, start);
    player.hydrate_at_start(case)?;
    player.run(case)?;
    Ok(json!({"outputs": player.outputs, "reads": player.reads}))
}

fn declare(case: &Value) -> Result<Spec, String> {
    let text = case.to_string();
    let json = RawJsonRef::parse_str(&text).map_err(|error| error.to_string())?;
    Spec::from_json(json).map_err(|error| error.to_string())
}

fn instant(value: &Value) -> Option<i64> {
    let exact = value.as_i64();
    exact.or_else(|| value.as_f64().map(|number| number as i64))
}

struct Player<'a> {
    aggregate: Aggregate,
    topic: &'a str,
    start: i64,
    /// Snapshots that come later, and when.
    snapshots: Vec<(String, String)>,
    hydrate_at: i64,
    /// Reads that wait for them: places in `reads`, and windows.
    waiting: Vec<(usize, String)>,
    outputs: Vec<Value>,
    reads: Vec<Value>,
}

impl<'a> Player<'a> {
    fn new(aggregate: Aggregate, case: &'a Value, start: i64) -> Self {
        Self {
            aggregate,
            topic: case["outputTopic"].as_str().unwrap_or("out"),
            start,
            snapshots: Vec::new(),
            hydrate_at: i64::MAX,
            waiting: Vec::new(),
            outputs: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Finds the snapshot of each window. The one of the single form also fits a window that is
    /// named `lifetime`.
    fn hydrate_at_start(&mut self, case: &Value) -> Result<(), String> {
        let Some(given) = case.get("snapshots").filter(|given| given.is_object()) else {
            return Ok(());
        };
        let names: Vec<String> = self.aggregate.window_names().map(str::to_owned).collect();
        for name in names {
            let named = given["windows"].get(&name).filter(|_| !name.is_empty());
            let single = given
                .get("single")
                .filter(|_| name.is_empty() || name == "lifetime");
            let Some(snapshot) = named.or(single) else {
                continue;
            };
            // Sliding windows take none.
            if self.aggregate.await_snapshot(&name).is_ok() {
                self.snapshots.push((name, snapshot.to_string()));
            }
        }
        match given.get("delayMs").and_then(instant) {
            Some(delay) => self.hydrate_at = self.start.saturating_add(delay),
            None => self.hydrate(self.start)?,
        }
        Ok(())
    }

    fn hydrate(&mut self, at: i64) -> Result<(), String> {
        self.hydrate_at = i64::MAX;
        for (name, snapshot) in core::mem::take(&mut self.snapshots) {
            if self.aggregate.is_hydrating(&name) {
                let json = RawJsonRef::parse_str(&snapshot).map_err(|error| error.to_string())?;
                // What does not fit is refused and reported; the rest counts.
                let _ = self.aggregate.hydrate(self.now(at), &name, json);
            }
        }
        self.collect(at);
        for (place, window) in core::mem::take(&mut self.waiting) {
            self.read(place, &window);
        }
        Ok(())
    }

    fn now(&self, at: i64) -> Now {
        let mono = u64::try_from(at - self.start).unwrap_or(0);
        Now {
            mono: Millis::from_millis(mono),
            wall_ms: at,
        }
    }

    fn run(&mut self, case: &Value) -> Result<(), String> {
        let list = |name: &str| {
            case.get(name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        };
        let events = list("events").map(|step| (false, step));
        let reads = list("reads").map(|step| (true, step));
        let mut steps = Vec::new();
        for (read, step) in events.chain(reads) {
            let at = step
                .get("atMs")
                .and_then(instant)
                .ok_or("a step has atMs")?;
            steps.push((at, read, step));
        }
        steps.sort_by_key(|(at, read, _)| (*at, *read));
        for (at, read, step) in steps {
            self.advance(at)?;
            if read {
                let window = step["window"].as_str().unwrap_or_default();
                let place = self.reads.len();
                self.reads
                    .push(json!({"atMs": step["atMs"], "window": step["window"]}));
                self.read(place, window);
            } else {
                let data = step
                    .get("data")
                    .map_or_else(|| "null".into(), Value::to_string);
                let data = RawJsonRef::parse_str(&data).map_err(|error| error.to_string())?;
                let name = step["event"].as_str().unwrap_or_default();
                self.aggregate.handle_event(self.now(at), name, data);
                self.collect(at);
            }
        }
        self.advance(case.get("endAtMs").and_then(instant).unwrap_or(self.start))
    }

    /// Fires everything that is due up to and including `until`, each at its own time.
    fn advance(&mut self, until: i64) -> Result<(), String> {
        const ROUNDS_MAX: usize = 10_000_000;
        for _ in 0..ROUNDS_MAX {
            let due = self.aggregate.next_deadline();
            let due = due.and_then(|due| i64::try_from(due.as_millis()).ok());
            let due = due.map_or(i64::MAX, |due| self.start.saturating_add(due));
            if due.min(self.hydrate_at) > until {
                return Ok(());
            }
            if self.hydrate_at < due {
                self.hydrate(self.hydrate_at)?;
            } else {
                self.aggregate.handle_timeout(self.now(due));
                self.collect(due);
            }
        }
        Err("the deadline does not move".into())
    }

    fn collect(&mut self, at: i64) {
        while let Some(output) = self.aggregate.poll_output() {
            let topic = match output.window {
                "" => self.topic.to_owned(),
                window => format!("{}:{window}", self.topic),
            };
            let state = parse(output.state);
            self.outputs
                .push(json!({"atMs": at, "topic": topic, "state": state}));
        }
        while self.aggregate.poll_failure().is_some() {}
    }

    fn read(&mut self, place: usize, window: &str) {
        match self.aggregate.read(window) {
            Ok(state) => self.reads[place]["state"] = parse(state),
            Err(ReadError::Hydrating) => self.waiting.push((place, window.to_owned())),
            Err(error) => self.reads[place]["error"] = error.to_string().into(),
        }
    }
}

/// A lone surrogate, which no Rust string can hold, makes the state a string.
fn parse(state: RawJsonRef<'_>) -> Value {
    serde_json::from_str(state.as_str()).unwrap_or_else(|_| state.as_str().into())
}
