//! An aggregate next to the model, driven by bytes. Also used by the fuzz target.

use core::time::Duration;
use std::collections::BTreeMap;

use millstream_aggregate::{
    Aggregate, Combine, Event as Seen, FieldSpec, Now, ReduceError, Reducer, Spec, Value,
    WindowSpec,
};
use millstream_core::{Millis, RawJsonRef};
use millstream_schedule::{Period, Zone};

use super::model::{Event, Input, Json, Kind, Window};

/// A reducer with a state of its own, so that the general way through sliding windows is taken too:
/// what `count` counts.
#[derive(Debug)]
struct Exact;

impl Reducer for Exact {
    type Input = ();
    type State = u64;

    fn init(&self) -> u64 {
        0
    }

    fn read(&self, event: &Seen<'_>) -> Result<Option<()>, ReduceError> {
        Ok((event.name == "created").then_some(()))
    }

    fn reduce(&self, state: &mut u64, (): &()) {
        *state += 1;
    }

    fn value(&self, state: &u64) -> Value {
        Value::Number(*state as f64)
    }

    fn save(&self, state: &u64) -> Value {
        self.value(state)
    }

    fn restore(&self, saved: RawJsonRef<'_>) -> Option<u64> {
        saved.as_u64()
    }
}

impl Combine for Exact {
    fn combine(&self, older: &mut u64, newer: &u64) {
        *older += newer;
    }
}

pub(crate) struct Rig {
    aggregate: Aggregate,
    names: Vec<String>,
    windows: Vec<Window>,
    mono: u64,
    wall: i64,
    shape: u8,
}

/// 2024-06-15T12:00:00Z, a boundary of everything.
const START: i64 = 1_718_452_800_000;

impl Rig {
    /// `shape` chooses windows and debounces.
    pub(crate) fn new(shape: u8) -> Self {
        let mut rig = Self {
            aggregate: Spec::new()
                .build(Now::default())
                .expect("an empty specification"),
            names: Vec::new(),
            windows: Vec::new(),
            mono: 1_000,
            wall: START + i64::from(shape % 7) * 333,
            shape,
        };
        rig.windows = rig.start_windows();
        rig.aggregate = rig.start();
        rig.names = rig.aggregate.window_names().map(str::to_owned).collect();
        rig
    }

    fn now(&self) -> Now {
        Now {
            mono: Millis::from_millis(self.mono),
            wall_ms: self.wall,
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        match self.shape % 4 {
            0 => vec![Kind::Lifetime],
            1 => vec![Kind::Tumbling(1_000, 250), Kind::Sliding(5, 200)],
            2 => vec![
                Kind::Sliding(1, 300),
                Kind::Sliding(4, 333),
                Kind::Sliding(40, 25),
            ],
            _ => vec![
                Kind::Lifetime,
                Kind::Tumbling(60_000, 0),
                Kind::Tumbling(3_600_000, 0),
                Kind::Sliding(3, 1_000),
            ],
        }
    }

    fn debounce(&self) -> (u64, u64) {
        match (self.shape >> 2) % 4 {
            0 | 1 => (0, 0),
            2 => (70, 700),
            _ => (150, 200),
        }
    }

    fn start_windows(&self) -> Vec<Window> {
        let (debounce, wait_max) = self.debounce();
        let window = |kind| Window::new(kind, debounce, wait_max, self.mono, self.wall);
        self.kinds().into_iter().map(window).collect()
    }

    fn start(&self) -> Aggregate {
        let (debounce, wait_max) = self.debounce();
        let mut spec = Spec::new()
            .field(FieldSpec::count("count").on(&["created"]))
            .field(FieldSpec::combining("exact", Exact))
            .field(FieldSpec::sum("sum", "v"))
            .field(FieldSpec::max("max", "v"))
            .field(FieldSpec::ratio("ratio", "sum", "count"))
            .field(FieldSpec::min("min", "v"))
            .field(FieldSpec::counts("ids", "id"))
            .field(FieldSpec::double("twice", "ratio"))
            .field(FieldSpec::merge("kv"))
            .field(FieldSpec::top("top", "ids", 2))
            .debounce(Duration::from_millis(debounce));
        if wait_max != 10 * debounce {
            spec = spec.wait_max(Duration::from_millis(wait_max));
        }
        if !self.shape.is_multiple_of(4) {
            for (at, kind) in self.kinds().into_iter().enumerate() {
                let name = format!("w{at}");
                spec = spec.window(match kind {
                    Kind::Lifetime => WindowSpec::lifetime(&name),
                    Kind::Tumbling(60_000, 0) => {
                        WindowSpec::calendar(&name, Period::Minute, Zone::utc())
                    }
                    Kind::Tumbling(3_600_000, 0) => {
                        WindowSpec::calendar(&name, Period::Hour, Zone::utc())
                    }
                    Kind::Tumbling(duration, anchor) => {
                        WindowSpec::fixed(&name, Duration::from_millis(duration as u64))
                            .anchor(anchor)
                    }
                    Kind::Sliding(hops, slide) => {
                        // A little less than all hops: still rounded up to that many.
                        let duration = Duration::from_millis(hops * slide - u64::from(hops > 1));
                        WindowSpec::sliding(&name, duration, Duration::from_millis(slide))
                    }
                });
            }
        }
        spec.build(self.now()).expect("a sound specification")
    }

    /// Two bytes per operation.
    pub(crate) fn run(&mut self, operations: &[u8]) {
        for operation in operations.chunks_exact(2) {
            self.step(operation[0], operation[1]);
            self.compare();
        }
    }

    fn step(&mut self, kind: u8, argument: u8) {
        match kind % 16 {
            0..=7 => self.event(argument),
            8 => self.until_deadline(),
            9 => self.pass(u64::from(argument)),
            10 => self.pass(u64::from(argument) * 37),
            11 => self.event_after(u64::from(argument % 64), argument),
            // The wall clock is put forwards or backwards.
            12 => self.wall += i64::from(argument as i8) * 41,
            13 => self.await_or_hydrate(usize::from(argument)),
            14 => self.restart(),
            _ => self.absorb_self(),
        }
    }

    fn pass(&mut self, millis: u64) {
        self.mono += millis;
        self.wall += millis as i64;
        self.aggregate.handle_timeout(self.now());
        self.advance_model();
    }

    fn until_deadline(&mut self) {
        let due = self.aggregate.next_deadline();
        if let Some(due) = due {
            assert!(due.as_millis() >= self.mono, "a deadline in the past");
            let wait = due.as_millis() - self.mono;
            self.pass(wait.min(4_000));
        }
    }

    fn advance_model(&mut self) {
        for window in &mut self.windows {
            window.advance(self.mono, self.wall);
        }
    }

    fn event_after(&mut self, millis: u64, argument: u8) {
        self.mono += millis;
        self.wall += millis as i64;
        self.event(argument);
    }

    fn event(&mut self, argument: u8) {
        let (text, event) = event(argument);
        let name = if event.counts { "created" } else { "touched" };
        let data = RawJsonRef::parse_str(&text).expect("valid");
        self.aggregate.handle_event(self.now(), name, data);
        self.advance_model();
        for window in &mut self.windows {
            window.event(self.mono, event.clone());
        }
    }

    fn await_or_hydrate(&mut self, argument: usize) {
        self.pass(0);
        let at = argument % self.windows.len();
        let (mono, now, name) = (self.mono, self.now(), self.names[at].clone());
        let window = &mut self.windows[at];
        let takes = window.takes_snapshot();
        if window.held.is_none() {
            assert_eq!(self.aggregate.await_snapshot(&name).is_ok(), takes);
            if takes {
                window.held = Some(Vec::new());
            }
            return;
        }
        let json = RawJsonRef::parse_str(r#"{"count":40,"__proto__":1}"#).expect("valid");
        assert_eq!(self.aggregate.hydrate(now, &name, json), Ok(()));
        window.hydrate(mono, 40.0);
    }

    /// Another process goes on with the snapshot. Nothing is held back then.
    fn restart(&mut self) {
        self.pass(0);
        self.compare();
        // JSON has no word for a sum that is not a number.
        if self
            .windows
            .iter()
            .any(|window| window.held.is_some() || window.is_nan())
        {
            return;
        }
        let snapshot = self.aggregate.snapshot();
        self.aggregate = self.start();
        assert_eq!(self.aggregate.restore(self.now(), snapshot.get()), Ok(()));
        for window in &mut self.windows {
            window.restart(self.mono);
        }
        // Only the end of the present window is known to a new process.
        let fresh = self.start_windows();
        for (window, fresh) in self.windows.iter_mut().zip(fresh) {
            window.adopt(fresh);
        }
    }

    fn absorb_self(&mut self) {
        self.pass(0);
        self.compare();
        if self
            .windows
            .iter()
            .any(|window| window.held.is_some() || window.is_large())
        {
            return;
        }
        let snapshot = self.aggregate.snapshot();
        if self.windows.iter().any(Window::adds_inexactly) {
            return;
        }
        assert_eq!(self.aggregate.absorb(self.now(), snapshot.get()), Ok(()));
        for window in &mut self.windows {
            let same = window.clone();
            window.absorb(&same);
        }
    }

    /// Outputs since the last time, window by window, and what every window shows now.
    fn compare(&mut self) {
        let mut seen: BTreeMap<String, Vec<(String, Json)>> = BTreeMap::new();
        while let Some(output) = self.aggregate.poll_output() {
            let entry = (format!("{:?}", output.reason), Json::parse(output.state));
            seen.entry(output.window.to_owned())
                .or_default()
                .push(entry);
        }
        assert_eq!(self.aggregate.poll_failure(), None);
        for (name, window) in self.names.iter().zip(&mut self.windows) {
            let expected: Vec<(String, Json)> = window
                .outputs
                .drain(..)
                .map(|(reason, state)| (reason.to_owned(), state))
                .collect();
            let seen = seen.remove(name).unwrap_or_default();
            assert_eq!(seen, expected, "outputs of {name:?}, {:?}", window.kind);
        }
        assert!(seen.is_empty(), "a window nobody knows");
        // A wall clock that was set is noticed with the next call; the model waits for it too.
        for (name, window) in self.names.iter().zip(&self.windows) {
            match self.aggregate.read(name) {
                Ok(state) => assert_eq!(Json::parse(state), window.state(), "{name:?}"),
                Err(_) => assert!(window.held.is_some()),
            }
        }
    }
}

/// An event from a byte: its text, and what the model sees in it.
fn event(argument: u8) -> (String, Event) {
    let number = f64::from(argument % 11) - 5.0;
    let (v, v_text) = match argument % 8 {
        0 => (Input::Missing, None),
        1 => (Input::Null, Some("null".to_owned())),
        2 => (
            Input::Number(number / 10.0),
            Some(format!("{}", number / 10.0)),
        ),
        3 => (Input::Number(number * 1e15), Some(format!("{number}e15"))),
        _ => (Input::Number(number), Some(format!("{number}"))),
    };
    // Missing makes a sum NaN for good, so it is rare.
    let (v, v_text) = match v {
        Input::Missing if argument < 200 => (Input::Number(1.0), Some("1".to_owned())),
        other => (other, v_text),
    };
    let id = match argument / 16 {
        0 => "1".to_owned(),
        other => format!("k{}", other % 5),
    };
    let id_text = if id == "1" {
        "1.0".to_owned()
    } else {
        format!("\"{id}\"")
    };
    let mut members = vec![
        format!("\"id\":{id_text}"),
        format!("\"m{}\" : [1]", argument % 3),
    ];
    let parse = |text: &str| Json::parse(RawJsonRef::parse_str(text).expect("valid"));
    let mut data = BTreeMap::from([
        ("id".to_owned(), parse(&id_text)),
        (format!("m{}", argument % 3), parse("[1]")),
    ]);
    if let Some(text) = v_text {
        members.insert(0, format!("\"v\":{text}"));
        data.insert("v".to_owned(), parse(&text));
    }
    let counts = !argument.is_multiple_of(5);
    (
        format!("{{{}}}", members.join(",")),
        Event {
            counts,
            v,
            id,
            data,
        },
    )
}
