//! A naive model: keeps every event and works each state out from scratch.

use std::collections::BTreeMap;

use millstream_core::{JsonKind, RawJsonRef};

/// JSON by value; numbers by their bits, except that all zeros are one and all NaNs are null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Other(String),
    Number(f64),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

impl Json {
    pub(crate) fn parse(json: RawJsonRef<'_>) -> Self {
        match json.kind() {
            JsonKind::Null => Self::Null,
            JsonKind::Number => Self::Number(json.as_str().parse().expect("a number")),
            JsonKind::String | JsonKind::Bool => Self::Other(json.as_str().to_owned()),
            JsonKind::Array => Self::List(json.elements().map(Self::parse).collect()),
            JsonKind::Object => {
                let mut map = BTreeMap::new();
                for (key, value) in json.fields() {
                    let twice = map.insert(key.to_cow().into_owned(), Self::parse(value));
                    assert_eq!(twice, None, "a key is written twice");
                }
                Self::Map(map)
            }
        }
    }

    fn number(number: f64) -> Self {
        if number.is_finite() {
            Self::Number(number + 0.0)
        } else {
            Self::Null
        }
    }
}

/// An event, as far as the reducers of the model look at it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) counts: bool,
    pub(crate) v: Input,
    pub(crate) id: String,
    pub(crate) data: BTreeMap<String, Json>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Input {
    Missing,
    Null,
    Number(f64),
}

/// What a window is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Lifetime,
    /// Duration and anchor; calendar minutes and hours of UTC are such windows too.
    Tumbling(i64, i64),
    /// Number of hops and their length.
    Sliding(u64, u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) kind: Kind,
    pub(crate) debounce: u64,
    pub(crate) wait_max: u64,
    origin: u64,
    end: i64,
    /// Slides so far.
    slides: u64,
    /// Events with the slide they belong to.
    events: Vec<(u64, Event)>,
    /// What `count` starts from.
    base: f64,
    pub(crate) held: Option<Vec<Event>>,
    touched: bool,
    waiting: Option<(u64, u64)>,
    pub(crate) outputs: Vec<(&'static str, Json)>,
}

impl Window {
    pub(crate) fn new(kind: Kind, debounce: u64, wait_max: u64, mono: u64, wall: i64) -> Self {
        let mut window = Self {
            kind,
            debounce,
            wait_max,
            origin: mono,
            end: i64::MAX,
            slides: 0,
            events: Vec::new(),
            base: 0.0,
            held: None,
            touched: false,
            waiting: None,
            outputs: Vec::new(),
        };
        window.find_end(wall);
        window
    }

    fn find_end(&mut self, wall: i64) {
        if let Kind::Tumbling(duration, anchor) = self.kind {
            self.end = anchor + ((wall - anchor).div_euclid(duration) + 1) * duration;
        }
    }

    pub(crate) fn event(&mut self, mono: u64, event: Event) {
        if let Some(held) = &mut self.held {
            return held.push(event);
        }
        self.events.push((self.slides, event));
        self.touched = true;
        self.show(mono);
    }

    fn show(&mut self, mono: u64) {
        if self.debounce == 0 {
            let state = self.state();
            return self.outputs.push(("Update", state));
        }
        let since = self.waiting.map_or(mono, |(since, _)| since);
        let until = (mono + self.debounce).min(since.saturating_add(self.wait_max));
        self.waiting = Some((since, until));
    }

    /// Both clocks have moved on.
    pub(crate) fn advance(&mut self, mono: u64, wall: i64) {
        let passed = |due: u64| (due <= mono).then(|| mono - due);
        let moved = match self.kind {
            Kind::Lifetime => None,
            Kind::Tumbling(duration, _) => {
                // Put back by more than a window: end where the grid says now.
                if wall < self.end - 2 * duration {
                    self.find_end(wall);
                }
                (wall >= self.end).then(|| (wall - self.end) as u64)
            }
            Kind::Sliding(_, slide) => passed(self.origin + (self.slides + 1) * slide),
        };
        if let Some(late) = self.waiting.and_then(|(_, until)| passed(until))
            && moved.is_none_or(|moved| late > moved)
        {
            let state = self.state();
            self.outputs.push(("Update", state));
            self.waiting = None;
        }
        if moved.is_none() {
            return;
        }
        self.waiting = None;
        if let Kind::Sliding(_, slide) = self.kind {
            self.slides = (mono - self.origin) / slide;
            let state = self.state();
            return self.outputs.push(("Slide", state));
        }
        self.release();
        let state = self.state();
        self.outputs.push(("Closing", state));
        self.events.clear();
        self.base = 0.0;
        self.touched = true;
        self.find_end(wall);
    }

    pub(crate) fn takes_snapshot(&self) -> bool {
        !self.touched && !matches!(self.kind, Kind::Sliding(..))
    }

    pub(crate) fn hydrate(&mut self, mono: u64, count: f64) {
        self.base = count;
        self.touched = true;
        if self.release() {
            self.show(mono);
        }
    }

    fn release(&mut self) -> bool {
        let held = self.held.take().unwrap_or_default();
        let any = !held.is_empty();
        self.touched |= any;
        self.events.extend(held.into_iter().map(|event| (0, event)));
        any
    }

    /// Another process goes on with a snapshot of this window.
    pub(crate) fn restart(&mut self, mono: u64) {
        self.waiting = None;
        self.touched = true;
        if let Kind::Sliding(..) = self.kind {
            (self.origin, self.slides) = (mono, 0);
            self.events.clear();
        }
        self.held = None;
    }

    /// Everything another instance has, added to this one.
    pub(crate) fn absorb(&mut self, other: &Self) {
        if !matches!(self.kind, Kind::Sliding(..)) && self.end == other.end {
            self.base += other.base;
            self.touched = true;
            self.events.extend(other.events.iter().cloned());
        }
    }

    pub(crate) fn state(&self) -> Json {
        let hops: Vec<Vec<&Event>> = match self.kind {
            Kind::Sliding(hops, _) => {
                let first = (self.slides + 1).saturating_sub(hops);
                let hop = |at| self.events.iter().filter(move |(slide, _)| *slide == at);
                let visible = first..=self.slides;
                visible
                    .map(|at| hop(at).map(|(_, event)| event).collect())
                    .collect()
            }
            _ => vec![self.events.iter().map(|(_, event)| event).collect()],
        };
        let slides = matches!(self.kind, Kind::Sliding(..));
        let hops: Vec<Hop> = hops.into_iter().map(|events| Hop::of(&events)).collect();
        let total =
            |of: &dyn Fn(&Hop) -> f64, base| hops.iter().fold(base, |sum, hop| sum + of(hop));
        let count = total(&|hop| hop.count, self.base);
        let sum = total(&|hop| hop.sum, 0.0);
        let extreme = |of: &dyn Fn(&Hop) -> Option<f64>, wins: &dyn Fn(f64, f64) -> bool| {
            let present = hops.iter().filter_map(of);
            let best = present.reduce(|best, value| if wins(value, best) { value } else { best });
            match best {
                Some(best) => Json::number(best),
                None if slides => Json::Number(0.0),
                None => Json::Null,
            }
        };
        let mut ids = BTreeMap::new();
        let mut kv = BTreeMap::new();
        for hop in &hops {
            for (id, count) in &hop.ids {
                *ids.entry(id.clone()).or_insert(0.0) += count;
            }
            kv.extend(hop.kv.clone());
        }
        let ratio = if count > 0.0 { sum / count } else { 0.0 };
        Json::Map(BTreeMap::from([
            ("count".into(), Json::number(count)),
            ("sum".into(), Json::number(sum)),
            ("max".into(), extreme(&|hop| hop.max, &|a, b| a > b)),
            ("min".into(), extreme(&|hop| hop.min, &|a, b| a < b)),
            ("top".into(), top(&ids)),
            (
                "ids".into(),
                Json::Map(
                    ids.into_iter()
                        .map(|(id, n)| (id, Json::number(n)))
                        .collect(),
                ),
            ),
            ("kv".into(), Json::Map(kv)),
            ("ratio".into(), Json::number(ratio)),
            ("twice".into(), Json::number(2.0 * ratio)),
            ("exact".into(), Json::number(count - self.base)),
        ]))
    }
}

/// The two most frequent.
fn top(ids: &BTreeMap<String, f64>) -> Json {
    let mut entries: Vec<(&String, &f64)> = ids.iter().collect();
    entries.sort_by(|(id_a, a), (id_b, b)| b.total_cmp(a).then_with(|| id_a.cmp(id_b)));
    let pair = |(id, n): (&String, &f64)| {
        Json::List(vec![Json::Other(format!("\"{id}\"")), Json::number(*n)])
    };
    Json::List(entries.into_iter().take(2).map(pair).collect())
}

#[derive(Debug, Default)]
struct Hop {
    count: f64,
    sum: f64,
    max: Option<f64>,
    min: Option<f64>,
    ids: BTreeMap<String, f64>,
    kv: BTreeMap<String, Json>,
}

impl Hop {
    fn of(events: &[&Event]) -> Self {
        let mut hop = Self::default();
        for event in events {
            if event.counts {
                hop.count += 1.0;
            }
            hop.sum += match event.v {
                Input::Missing => f64::NAN,
                Input::Null => 0.0,
                Input::Number(number) => number,
            };
            if let Input::Number(number) = event.v {
                hop.max = Some(hop.max.map_or(number, |max| max.max(number)));
                hop.min = Some(hop.min.map_or(number, |min| min.min(number)));
            }
            *hop.ids.entry(event.id.clone()).or_insert(0.0) += 1.0;
            hop.kv.extend(event.data.clone());
        }
        hop
    }
}

impl Window {
    /// A process that has just started knows only the present window.
    pub(crate) fn adopt(&mut self, fresh: Self) {
        if self.end != fresh.end {
            self.events.clear();
            self.base = 0.0;
            self.touched = false;
        }
        self.end = fresh.end;
    }

    pub(crate) fn is_nan(&self) -> bool {
        self.events
            .iter()
            .any(|(_, event)| event.v == Input::Missing)
    }

    /// Doubling again and again would take for ever.
    pub(crate) fn is_large(&self) -> bool {
        self.events.len() > 200
    }

    /// Adding two sums differs from adding all events one by one when numbers are not whole.
    pub(crate) fn adds_inexactly(&self) -> bool {
        self.events.iter().any(|(_, event)| {
            !matches!(event.v, Input::Null)
                && !matches!(event.v, Input::Number(n) if n.abs() < 1e6 && n.fract() == 0.0)
        })
    }
}
