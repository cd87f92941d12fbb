//! Throttle and debounce.

use core::time::Duration;

use millstream_core::Millis;
use millstream_flow::{AtLimit, Debounce, Pushed, ShapeError, ShapeLimits, Throttle, Weigh};
use millstream_vectors::{Batch, Engine, is_undefined, positive_integer, rule};
use serde_json::{Value, json};

use super::{absent, finite, key_error, limit, text, timer_delay};

pub(crate) struct Shapes {
    shape: Shape,
    interval: Value,
    /// Publishes the platform will still refuse.
    failing: u64,
}

enum Shape {
    Throttle(Throttle<Frame>),
    Debounce(Debounce<Frame>),
}

struct Frame(Value);

impl Weigh for Frame {
    fn weight(&self) -> usize {
        0
    }
}

impl Engine for Shapes {
    fn new(options: &Value, scenario: &Value) -> Result<Self, Value> {
        let interval = finite(options, "interval", 0.0, "non-negative-finite")?;
        let slots_max = limit(positive_integer(options, "maxTopics")?, 1_000_000);
        let name_units_max = limit(positive_integer(options, "maxTopicLength")?, 256);
        let limits = ShapeLimits {
            slots_max,
            name_units_max,
            bytes_max: usize::MAX,
            at_limit: AtLimit::FlushOldest,
        };
        let debounces = options["mode"] == "debounce" || scenario["plugin"] == "debounce";
        let delay = Duration::from_millis(timer_delay(interval));
        let shape = if debounces {
            Shape::Debounce(Debounce::new(delay, None, limits))
        } else {
            Shape::Throttle(Throttle::new(delay, limits))
        };
        Ok(Self {
            shape,
            interval: options["interval"].clone(),
            failing: 0,
        })
    }

    fn call(
        &mut self,
        at: u64,
        op: &str,
        args: &[Value],
        out: &mut Vec<Value>,
    ) -> Result<Option<Value>, Value> {
        let slot = args.first().and_then(Value::as_str).unwrap_or_default();
        let all = absent(args.first());
        let mut frames = Vec::new();
        match (op, &mut self.shape) {
            ("publish", _) => self.publish(at, args, out)?,
            ("flush", Shape::Throttle(shape)) if all => shape.flush_all(&mut frames),
            ("flush", Shape::Debounce(shape)) if all => shape.flush_all(&mut frames),
            ("flush", Shape::Throttle(shape)) => drop(shape.flush(slot, &mut frames)),
            ("flush", Shape::Debounce(shape)) => drop(shape.flush(slot, &mut frames)),
            ("cancel", Shape::Throttle(shape)) if all => shape.cancel_all(),
            ("cancel", Shape::Debounce(shape)) if all => shape.cancel_all(),
            ("cancel", Shape::Throttle(shape)) => drop(shape.cancel(slot)),
            ("cancel", Shape::Debounce(shape)) => drop(shape.cancel(slot)),
            ("interval", _) => return Ok(Some(self.interval.clone())),
            ("failNextPublish", _) => {
                self.failing = args.first().and_then(Value::as_u64).unwrap_or(1);
            }
            (other, _) => panic!("throttles have no {other}"),
        }
        let failed: Vec<_> = frames
            .into_iter()
            .map(|frame| self.send(frame, out))
            .collect();
        failed.into_iter().collect::<Result<(), _>>()?;
        Ok(None)
    }

    fn next_deadline(&self) -> Option<u64> {
        let deadline = match &self.shape {
            Shape::Throttle(throttle) => throttle.next_deadline(),
            Shape::Debounce(debounce) => debounce.next_deadline(),
        };
        deadline.map(Millis::as_millis)
    }

    fn on_deadline(&mut self, at: u64) -> Vec<Batch> {
        let now = Millis::from_millis(at);
        let mut frames = Vec::new();
        match &mut self.shape {
            Shape::Throttle(throttle) => throttle.handle_timeout(now, &mut frames),
            Shape::Debounce(debounce) => debounce.handle_timeout(now, &mut frames),
        }
        let batch = |frame| {
            let mut batch = Batch::default();
            batch.error = self.send(frame, &mut batch.frames).err();
            batch
        };
        frames.into_iter().map(batch).collect()
    }
}

impl Shapes {
    fn publish(&mut self, at: u64, args: &[Value], out: &mut Vec<Value>) -> Result<(), Value> {
        let topic = text(args, 0, "topic")?;
        let data = args.get(2).filter(|data| !is_undefined(data));
        let frame = Frame(json!({
            "via": "publish", "topic": topic,
            "event": args.get(1).unwrap_or(&Value::Null), "data": data.unwrap_or(&Value::Null),
        }));
        let now = Millis::from_millis(at);
        let mut frames = Vec::new();
        let pushed = match &mut self.shape {
            Shape::Throttle(throttle) => throttle.push(now, topic, frame, &mut frames),
            Shape::Debounce(debounce) => debounce.push(now, topic, frame, &mut frames),
        };
        let pushed = pushed.map_err(|error| match error {
            ShapeError::Key(error) => key_error(error, "topic", "maxTopicLength"),
            other => panic!("no such limit is set: {other}"),
        })?;
        let own = (pushed == Pushed::Sent).then(|| frames.pop()).flatten();
        for evicted in frames {
            // Nobody hears that an early send has failed.
            let _ = self.send(evicted, out);
        }
        let sent = own.map_or(Ok(()), |own| self.send(own, out));
        if let (Err(_), Shape::Throttle(throttle)) = (&sent, &mut self.shape) {
            throttle.cancel(topic);
        }
        sent
    }

    fn send(&mut self, frame: Frame, out: &mut Vec<Value>) -> Result<(), Value> {
        if self.failing > 0 {
            self.failing -= 1;
            return Err(rule("injected", "publish"));
        }
        out.push(frame.0);
        Ok(())
    }
}
