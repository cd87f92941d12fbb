//! Aggregates of several shapes, warmed up.

use core::time::Duration;

use millstream_aggregate::{Aggregate, FieldSpec, Limits, Now, Spec, WindowSpec};
use millstream_core::{Millis, RawJsonRef};
use millstream_schedule::{Period, Zone};

/// An event with a number and a key.
pub(crate) const DATA: &str = r#"{"id":"room-17","v":12.5}"#;

/// The clocks after so many milliseconds.
#[must_use]
pub(crate) fn at(millis: u64) -> Now {
    Now {
        mono: Millis::from_millis(millis),
        wall_ms: 1_718_452_800_000 + millis as i64,
    }
}

/// What is measured: one event, and its outputs if there are any.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) aggregate: Aggregate,
    pub(crate) millis: u64,
}

impl Bench {
    /// Reduces one event; the state is put out, but not rendered.
    pub(crate) fn reduce(&mut self) {
        let data = RawJsonRef::trust(DATA);
        self.aggregate
            .handle_event(at(self.millis), "created", data);
        while self.aggregate.discard_output() {}
    }

    /// Reduces one event and renders the state, if it is put out. Gives its length.
    pub(crate) fn event(&mut self) -> usize {
        let data = RawJsonRef::trust(DATA);
        self.aggregate
            .handle_event(at(self.millis), "created", data);
        let mut bytes = 0;
        while let Some(output) = self.aggregate.poll_output() {
            bytes += output.state.as_str().len();
        }
        bytes
    }

    /// One event and one slide of a second.
    pub(crate) fn slide(&mut self) -> usize {
        self.millis += 1_000;
        self.event()
    }

    fn warm(mut self) -> Self {
        for _ in 0..1_000 {
            self.event();
        }
        self
    }
}

/// Count, sum and mean, as in the measurements of the JavaScript original.
fn three() -> Spec {
    Spec::new()
        .field(FieldSpec::count("count"))
        .field(FieldSpec::sum("total", "v"))
        .field(FieldSpec::ratio("mean", "total", "count"))
}

fn start(spec: Spec) -> Bench {
    let aggregate = spec.build(at(0)).expect("sound");
    Bench {
        aggregate,
        millis: 1,
    }
    .warm()
}

/// A window of `hops` seconds.
#[must_use]
pub(crate) fn sliding(hops: u64) -> WindowSpec {
    WindowSpec::sliding("w", Duration::from_secs(hops), Duration::from_secs(1))
}

/// Three reducers in one window.
#[must_use]
pub(crate) fn window(kind: &str) -> Bench {
    let spec = three();
    start(match kind {
        "single" => spec,
        "lifetime" => spec.window(WindowSpec::lifetime("w")),
        "tumbling" => spec.window(WindowSpec::calendar("w", Period::Minute, Zone::utc())),
        "sliding" => spec.window(sliding(60)),
        "debounced" => spec.window(sliding(60).debounce(Duration::from_millis(100))),
        _ => Spec::new().field(FieldSpec::count("count")),
    })
}

/// Three reducers in a sliding window of so many hops.
#[must_use]
pub(crate) fn hops(hops: u64) -> Bench {
    start(three().window(sliding(hops)))
}

/// Counts per key with so many keys, in a lifetime window.
#[must_use]
pub(crate) fn keys(keys: u32) -> Bench {
    let limits = Limits {
        keys_max: 2_000_000,
        field_bytes_max: 1 << 30,
        ..Limits::default()
    };
    let spec = Spec::new()
        .field(FieldSpec::counts("byId", "id"))
        .limits(limits);
    let mut bench = Bench {
        aggregate: spec.build(at(0)).expect("sound"),
        millis: 1,
    };
    for key in 0..keys {
        let data = format!(r#"{{"id":"room-{key}","v":1}}"#);
        bench
            .aggregate
            .handle_event(at(1), "created", RawJsonRef::trust(&data));
        while bench.aggregate.discard_output() {}
    }
    bench
}
