//! Tasks on virtual time: what a JavaScript host does around a queue or a lock.

use std::collections::{BTreeMap, VecDeque};

use millstream_flow::Weigh;
use millstream_vectors::{is_undefined, number};
use serde_json::{Value, json};

use super::timer_delay;

/// A task of a scenario: `{ms?, result?, fail?, throwNow?}`.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) id: Value,
    spec: Value,
}

impl Weigh for Task {
    fn weight(&self) -> usize {
        0
    }
}

/// What a task comes to, as its caller is told.
#[derive(Clone, Debug)]
pub(super) struct Told(Value);

impl Told {
    pub(super) fn rejected(id: &Value, error: Value) -> Self {
        Self(json!({"ev": "rejected", "id": id, "error": error}))
    }

    pub(super) fn drained(id: &Value) -> Self {
        Self(json!({"ev": "drained", "id": id, "undef": true}))
    }

    pub(super) fn is_failure(&self) -> bool {
        self.0["ev"] == "rejected"
    }
}

/// Work of the turn's end, `S` being what settles a task.
#[derive(Debug)]
pub(super) enum Job<S> {
    /// A queued task starts.
    Start(S, Task),
    /// A task has ended: release what it held, then tell its caller.
    Settle(S, Told),
    /// A caller hears, after so many other rounds.
    Tell(u8, Told),
}

/// Timers and deferred work of a host.
#[derive(Debug)]
pub(super) struct Host<S> {
    jobs: VecDeque<Job<S>>,
    /// By time, then by the order in which they were armed.
    timers: BTreeMap<(u64, u64), (S, Task)>,
    armed: u64,
}

impl<S> Host<S> {
    pub(super) const fn new() -> Self {
        Self {
            jobs: VecDeque::new(),
            timers: BTreeMap::new(),
            armed: 0,
        }
    }

    /// A place in the order of timers.
    pub(super) const fn arm(&mut self) -> u64 {
        self.armed += 1;
        self.armed
    }

    pub(super) fn defer(&mut self, job: Job<S>) {
        self.jobs.push_back(job);
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.defer(Job::Tell(0, told));
    }

    /// The next job; those that merely tell are done here.
    pub(super) fn next_job(&mut self, out: &mut Vec<Value>) -> Option<Job<S>> {
        loop {
            match self.jobs.pop_front()? {
                Job::Tell(0, Told(event)) => out.push(event),
                Job::Tell(rounds, told) => self.defer(Job::Tell(rounds - 1, told)),
                job => return Some(job),
            }
        }
    }

    /// Runs a task up to its end or its first wait.
    pub(super) fn start(&mut self, at: u64, by: S, task: Task, out: &mut Vec<Value>) {
        out.push(json!({"ev": "start", "id": task.id}));
        if let Some(reason) = task.given("throwNow") {
            let told = Told::rejected(&task.id, injected(reason));
            self.defer(Job::Settle(by, told));
            return;
        }
        match task.given("ms").and_then(number).filter(|ms| *ms != 0.0) {
            None => self.finish(by, &task, out),
            Some(ms) => {
                let place = (at.saturating_add(timer_delay(ms)), self.arm());
                self.timers.insert(place, (by, task));
            }
        }
    }

    fn finish(&mut self, by: S, task: &Task, out: &mut Vec<Value>) {
        out.push(json!({"ev": "end", "id": task.id}));
        let told = match task.given("fail") {
            Some(reason) => Told::rejected(&task.id, injected(reason)),
            None => {
                let value = task.given("result").unwrap_or(&task.id);
                Told(json!({"ev": "resolved", "id": task.id, "value": value}))
            }
        };
        self.defer(Job::Settle(by, told));
    }

    /// Time and order of the timer that fires next.
    pub(super) fn next_timer(&self) -> Option<(u64, u64)> {
        self.timers.first_key_value().map(|(place, _)| *place)
    }

    /// Fires it.
    pub(super) fn fire(&mut self, out: &mut Vec<Value>) {
        if let Some((_, (by, task))) = self.timers.pop_first() {
            self.finish(by, &task, out);
        }
    }
}

impl Task {
    /// `None` if the scenario gives something that is no task.
    pub(super) fn parse(id: &Value, spec: Option<&Value>) -> Option<Self> {
        let spec = spec
            .filter(|spec| spec.is_object() && !is_undefined(spec))?
            .clone();
        Some(Self {
            id: id.clone(),
            spec,
        })
    }

    /// Stands in where there is no task, so that the key can be judged.
    pub(super) fn nothing(id: &Value) -> Self {
        Self {
            id: id.clone(),
            spec: Value::Null,
        }
    }

    fn given(&self, name: &str) -> Option<&Value> {
        self.spec.get(name).filter(|value| !is_undefined(value))
    }
}

fn injected(reason: &Value) -> Value {
    json!({"rule": "injected", "subject": reason})
}
