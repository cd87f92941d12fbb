//! The queue.

use std::collections::HashMap;

use millstream_flow::{KeyError, Outcome, Queue, QueueError, QueueLimits, Refused, Ticket, Watch};
use millstream_vectors::{Batch, Engine, is_undefined, number, positive_integer, rule};
use serde_json::{Value, json};

use super::tasks::{Host, Job, Task, Told};
use super::{absent, key_error, limit};

pub(crate) struct Queues {
    queue: Queue<Task>,
    host: Host<Ticket>,
    watches: HashMap<Watch, (Value, bool)>,
    records_drops: bool,
    drops_throw: bool,
}

impl Engine for Queues {
    fn new(options: &Value, _: &Value) -> Result<Self, Value> {
        let concurrency = limit(positive_integer(options, "concurrency")?, 1);
        let waiting_max = max_size(options)?;
        let key_units_max = limit(positive_integer(options, "maxKeyLength")?, 256);
        let on_drop = options.get("onDrop").filter(|value| !is_undefined(value));
        if on_drop.is_some_and(|value| value.get("$fn").is_none()) {
            return Err(rule("must-be-function", "onDrop"));
        }
        let limits = QueueLimits {
            concurrency,
            waiting_max,
            key_units_max,
            tasks_max: usize::MAX,
            keys_max: usize::MAX,
            bytes_max: usize::MAX,
            watches_max: usize::MAX,
        };
        Ok(Self {
            queue: Queue::new(limits),
            host: Host::new(),
            watches: HashMap::new(),
            records_drops: options["recordDrops"] == true,
            drops_throw: options["dropThrows"] == true,
        })
    }

    fn call(
        &mut self,
        _: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let first = args.first().unwrap_or(&Value::Null);
        let key = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
        match op {
            "push" => self.push(first, args, out)?,
            "size" if absent(args.first()) => return Ok(Some(self.queue.len().into())),
            "size" => return Ok(Some(self.queue.len_of(key(0)).into())),
            "clear" => {
                let mut cleared = Vec::new();
                if absent(args.first()) {
                    self.queue.clear_all(&mut cleared);
                } else {
                    self.queue.clear(key(0), &mut cleared);
                }
                for (_, task) in cleared {
                    let error = json!({"rule": "queue-cleared"});
                    self.host.tell(Told::rejected(&task.id, error));
                }
            }
            "drain" => {
                let all = absent(args.get(1));
                let watch = if all {
                    self.queue.watch_all()
                } else {
                    self.queue.watch(key(1))
                };
                match watch.expect("no limit of watches") {
                    Some(watch) => drop(self.watches.insert(watch, (first.clone(), all))),
                    None => self.host.tell(Told::drained(first)),
                }
            }
            other => panic!("queues have no {other}"),
        }
        Ok(None)
    }

    fn end_of_turn(&mut self, at: u64, out: &mut Vec<Value>) -> Result<(), Value> {
        while let Some(job) = self.host.next_job(out) {
            match job {
                Job::Start(ticket, task) => self.host.start(at, ticket, task, out),
                Job::Settle(ticket, told) => self.settle(ticket, told),
                Job::Tell(..) => {}
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<u64> {
        self.host.next_timer().map(|(at, _)| at)
    }

    fn on_deadline(&mut self, at: u64) -> Vec<Batch> {
        let mut batch = Batch::default();
        self.host.fire(&mut batch.frames);
        self.end_of_turn(at, &mut batch.frames)
            .expect("nothing fails");
        vec![batch]
    }
}

impl Queues {
    fn push(&mut self, id: &Value, args: &[Value], out: &mut Vec<Value>) -> Result<(), Value> {
        let Some(key) = args.get(1).and_then(Value::as_str) else {
            self.host.tell(Told::rejected(id, rule("string", "key")));
            return Ok(());
        };
        let task = Task::parse(id, args.get(2));
        let is_task = task.is_some();
        let pushed = self
            .queue
            .push(key, task.unwrap_or_else(|| Task::nothing(id)));
        let refused = match pushed {
            // The length of a key is looked at before the task is.
            Ok(ticket) if !is_task => {
                self.queue.cancel(ticket);
                rule("must-be-function", "task")
            }
            Err(Refused { error, .. }) if !is_task && !matches!(error, QueueError::Key(_)) => {
                rule("must-be-function", "task")
            }
            Ok(_) => {
                self.start_ready();
                return Ok(());
            }
            Err(Refused {
                error: QueueError::Key(error),
                ..
            }) => too_long(error),
            Err(Refused {
                error: QueueError::LaneFull { .. },
                ..
            }) => {
                if self.records_drops {
                    out.push(json!({"ev": "drop", "key": key, "id": id}));
                }
                if self.drops_throw {
                    return Err(rule("injected", "onDrop"));
                }
                rule("queue-full", key)
            }
            Err(Refused { error, .. }) => panic!("no such limit is set: {error}"),
        };
        self.host.tell(Told::rejected(id, refused));
        Ok(())
    }

    fn start_ready(&mut self) {
        while let Some((ticket, task)) = self.queue.poll_ready() {
            self.host.defer(Job::Start(ticket, task));
        }
    }

    fn settle(&mut self, ticket: Ticket, told: Told) {
        let outcome = if told.is_failure() {
            Outcome::Failed
        } else {
            Outcome::Done
        };
        self.host.tell(told);
        assert!(self.queue.complete(ticket, outcome), "it was running");
        self.start_ready();
        while let Some(watch) = self.queue.poll_drained() {
            let (id, all) = self.watches.remove(&watch).expect("a watch of this driver");
            // One that waits for several keys hears through one promise more.
            self.host
                .defer(Job::Tell(2 * u8::from(all), Told::drained(&id)));
        }
    }
}

fn too_long(error: KeyError) -> Value {
    key_error(error, "key", "maxKeyLength")
}

fn max_size(options: &Value) -> Result<usize, Value> {
    let Some(value) = options.get("maxSize").filter(|value| !is_undefined(value)) else {
        return Ok(1_000_000);
    };
    let size = number(value).filter(|size| *size >= 1.0);
    // So many wait at most, and what is too large for an integer becomes the largest.
    size.map(|size| size.ceil() as usize)
        .ok_or_else(|| rule("positive-or-infinity", "maxSize"))
}
