//! The engine: events and time in, states out.

use core::time::Duration;
use std::collections::VecDeque;

use millstream_core::{Millis, RawJsonRef};
use smallvec::SmallVec;

use crate::column::Shape;
use crate::compute::View;
use crate::spec::{Computed, Field, Paths, assemble};
use crate::window::{Kind, Window, WindowSpec};
use crate::{Event, Limits, ReduceError, Spec, Stats, Value};

/// Both clocks of the host.
///
/// Slides and debounces follow the monotonic clock, so nothing happens to them when the wall clock
/// is set. The boundaries of tumbling windows follow the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock. Should it run backwards, it is taken to stand still.
    pub mono: Millis,
    /// Milliseconds since 1970. May be set at any time, forwards and backwards.
    pub wall_ms: i64,
}

/// Why a state is put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Events changed it.
    Update,
    /// A tumbling window ends: its last state, put out even when it is empty.
    Closing,
    /// The starting values after a [`Closing`](Self::Closing), if asked for.
    Reset,
    /// A sliding window moved on.
    Slide,
}

/// A state to publish as the event `set`.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The window; empty for the single state of an aggregate without windows. The original
    /// publishes on `topic:window`, or on the topic itself.
    pub window: &'a str,
    /// Why.
    pub reason: Reason,
    /// The state, in a buffer that the next call overwrites.
    pub state: RawJsonRef<'a>,
}

/// Reducers that did not take an event, or a field that could not be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The first field that failed.
    pub field: Box<str>,
    /// What it said.
    pub error: ReduceError,
    /// How many more failed on the same event.
    pub others: u32,
}

/// Why a state cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no window of that name. An aggregate with windows has no single state.
    #[error("no such window")]
    NoWindow,
    /// Its snapshot has not come yet; read again after [`Aggregate::hydrate`].
    #[error("waiting for the snapshot")]
    Hydrating,
}

/// Fields times windows, kept up to date event by event. Made by [`Spec::build`].
///
/// # Calling contract
/// 1. Hand in what happens: [`handle_event`](Self::handle_event) for every event of the source, in
///    order, and [`handle_timeout`](Self::handle_timeout) at [`next_deadline`](Self::next_deadline)
///    or whenever the wall clock was set.
/// 2. Then poll: [`poll_output`](Self::poll_output) until `None`, and
///    [`poll_failure`](Self::poll_failure). States are rendered when they are polled; what was not
///    polled before the next event is rendered then, so nothing mixes, it only costs more.
/// 3. Ask for the next deadline again.
///
/// # Cost
/// An event costs one scan of its data, whatever the number of windows, plus O(1) per field and
/// window. An output costs O(size of the state); one of a sliding window with usual combinations no
/// more than that. A slide costs O(1) per field, amortised; sums that are not whole numbers cost
/// one addition per hop. Nothing is allocated for events and outputs once buffers have grown,
/// except by sketches, `top` and new keys.
#[derive(Debug)]
pub struct Aggregate {
    fields: Vec<Field>,
    computed: Vec<Computed>,
    paths: Paths,
    pub(crate) windows: Vec<Window>,
    /// Windows that take events: all but those that wait for a snapshot.
    live: Vec<u32>,
    held: VecDeque<Held>,
    held_bytes: usize,
    outputs: VecDeque<Pending>,
    failures: VecDeque<Failure>,
    /// What `poll_output` and `read` hand out.
    text: String,
    spare: Vec<String>,
    publish_reset: bool,
    clock_check_ms: Option<u64>,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    pub(crate) now: Now,
    /// Nothing is due before these.
    wake_mono: Millis,
    wake_wall_ms: i64,
    /// The wall clock was put back if it shows less.
    floor_ms: i64,
}

#[derive(Debug)]
struct Held {
    name: Box<str>,
    data: Box<str>,
}

#[derive(Debug)]
struct Pending {
    window: u32,
    reason: Reason,
    /// Rendered already, because the state has changed since.
    text: Option<String>,
}

/// What is due first, in which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Boundaries and slides come before debounced outputs of the same instant.
    Boundary,
    Slide,
    Wait,
}

impl Aggregate {
    /// Starts with a specification that was checked.
    pub(crate) fn start(spec: Spec, now: Now) -> Self {
        let windows = spec
            .windows
            .unwrap_or_else(|| vec![WindowSpec::lifetime("")]);
        let shapes: Vec<Shape> = windows
            .iter()
            .map(|window| match window.kind.buckets() {
                Some(buckets) => Shape::Hops(u32::try_from(buckets).unwrap_or(u32::MAX)),
                None => Shape::Whole,
            })
            .collect();
        let (fields, computed, paths) = assemble(spec.fields, &shapes, &spec.limits);
        let windows: Vec<Window> = windows
            .into_iter()
            .map(|window| {
                let debounce_ms = window.debounce_ms.unwrap_or(spec.debounce_ms);
                let (start_ms, end_ms) = window.kind.around(now.wall_ms).unwrap_or_default();
                let wait_max_ms = spec.wait_max_ms;
                let wait_max_ms = wait_max_ms.unwrap_or_else(|| debounce_ms.saturating_mul(10));
                Window {
                    name: window.name.into(),
                    kind: window.kind,
                    debounce_ms,
                    wait_max_ms,
                    waiting: None,
                    start_ms,
                    end_ms,
                    origin: now.mono,
                    slides: 0,
                    hydrating: false,
                    touched: false,
                    extras: Vec::new(),
                    computed: vec![Value::Absent; computed.len()],
                }
            })
            .collect();
        let mut aggregate = Self {
            fields,
            computed,
            paths,
            live: Vec::new(),
            windows,
            held: VecDeque::new(),
            held_bytes: 0,
            outputs: VecDeque::new(),
            failures: VecDeque::new(),
            text: String::new(),
            spare: Vec::new(),
            publish_reset: spec.publish_reset,
            clock_check_ms: spec.clock_check_ms,
            limits: spec.limits,
            stats: Stats::default(),
            now,
            wake_mono: Millis::MAX,
            wake_wall_ms: i64::MAX,
            floor_ms: i64::MIN,
        };
        aggregate.find_live();
        aggregate.schedule();
        aggregate
    }

    /// An event of the source: counted once in every window, after whatever is due by now.
    ///
    /// Never fails: a reducer that cannot take the event is reported by
    /// [`poll_failure`](Self::poll_failure) and the others go on.
    pub fn handle_event(&mut self, now: Now, name: &str, data: RawJsonRef<'_>) {
        self.advance(now);
        self.stats.events += 1;
        if !self.outputs.is_empty() {
            self.settle();
        }
        if self.live.len() < self.windows.len() {
            self.hold(name, data);
        }
        let live = core::mem::take(&mut self.live);
        self.apply(name, data, &live);
        let mut waits = false;
        for window in &live {
            let Some(state) = self.windows.get_mut(*window as usize) else {
                continue;
            };
            state.touched = true;
            if state.wait(self.now.mono) {
                self.put_out(*window, Reason::Update);
            } else {
                waits = true;
            }
        }
        self.live = live;
        if waits {
            self.schedule();
        }
    }

    /// Time has passed, or the wall clock was set. Calls that come early do nothing; one that comes
    /// late does what was due in order, with one output per window for all boundaries or slides
    /// that it missed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), as far as can be told from the last
    /// call: boundaries lie on the wall clock, which may be set in the meantime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let mut due = self.wake_mono;
        if self.wake_wall_ms != i64::MAX {
            let ahead = i128::from(self.wake_wall_ms) - i128::from(self.now.wall_ms);
            let ahead = u64::try_from(ahead.max(0)).unwrap_or(u64::MAX);
            let ahead = ahead.min(self.clock_check_ms.unwrap_or(u64::MAX).max(1));
            due = due.min(self.now.mono + Duration::from_millis(ahead));
        }
        (due != Millis::MAX).then_some(due)
    }

    /// The next state to publish.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        let pending = self.outputs.pop_front()?;
        match pending.text {
            Some(text) => {
                let old = core::mem::replace(&mut self.text, text);
                self.recycle(old);
            }
            None => self.render_text(pending.window as usize),
        }
        let window = self.windows.get(pending.window as usize)?;
        Some(Output {
            window: &window.name,
            reason: pending.reason,
            state: RawJsonRef::trust(&self.text),
        })
    }

    /// Window and reason of the next output, without rendering it.
    #[must_use]
    pub fn peek_output(&self) -> Option<(&str, Reason)> {
        let pending = self.outputs.front()?;
        let window = self.windows.get(pending.window as usize)?;
        Some((&window.name, pending.reason))
    }

    /// Drops the next output without rendering it, because nobody would get it; false if there is
    /// none.
    pub fn discard_output(&mut self) -> bool {
        let Some(dropped) = self.outputs.pop_front() else {
            return false;
        };
        if let Some(text) = dropped.text {
            self.recycle(text);
        }
        true
    }

    /// The next report of a failure: at most one per event, and per output for computed fields.
    pub fn poll_failure(&mut self) -> Option<Failure> {
        self.failures.pop_front()
    }

    /// The state of a window now, for a subscriber that begins; `""` is the single state of an
    /// aggregate without windows. Call [`handle_timeout`](Self::handle_timeout) first.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&mut self, window: &str) -> Result<RawJsonRef<'_>, ReadError> {
        let index = self.index(window).ok_or(ReadError::NoWindow)?;
        if self
            .windows
            .get(index)
            .is_some_and(|window| window.hydrating)
        {
            return Err(ReadError::Hydrating);
        }
        self.render_text(index);
        Ok(RawJsonRef::trust(&self.text))
    }

    /// The names of all windows, in order of declaration; one empty name if there are none.
    pub fn window_names(&self) -> impl Iterator<Item = &str> {
        self.windows.iter().map(|window| &*window.name)
    }

    /// What happened so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes of state, roughly: fields in all windows, held-back events and buffers.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        let columns = self.fields.iter().map(|field| {
            let windows = 0..self.windows.len();
            windows
                .map(|window| field.column.bytes(window))
                .sum::<usize>()
        });
        columns.sum::<usize>() + self.held_bytes + self.text.capacity()
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        self.windows.iter().position(|window| *window.name == *name)
    }

    pub(crate) fn fields_mut(&mut self) -> &mut [Field] {
        &mut self.fields
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Takes the time and does everything that is due.
    pub(crate) fn advance(&mut self, now: Now) {
        self.now = Now {
            mono: now.mono.max(self.now.mono),
            wall_ms: now.wall_ms,
        };
        if now.wall_ms < self.floor_ms {
            self.realign();
        }
        if self.now.mono < self.wake_mono && now.wall_ms < self.wake_wall_ms {
            return;
        }
        self.settle();
        // Each window is handled at most twice: its debounced output, then all its boundaries.
        while let Some((due, window)) = self.earliest() {
            match due {
                Due::Boundary => self.close(window),
                Due::Slide => self.slide(window),
                Due::Wait => {
                    self.put_out(window as u32, Reason::Update);
                    self.settle();
                    if let Some(window) = self.windows.get_mut(window) {
                        window.waiting = None;
                    }
                }
            }
        }
        self.schedule();
    }

    /// The earliest thing that is due, and how long ago it was.
    fn earliest(&self) -> Option<(Due, usize)> {
        let Now { mono, wall_ms } = self.now;
        // The end of time is never: what is due then would be due again and again.
        let since = |due: Millis| {
            (due <= mono && due < Millis::MAX).then(|| mono.as_millis() - due.as_millis())
        };
        let mut best: Option<(u64, Due, usize)> = None;
        for (index, window) in self.windows.iter().enumerate() {
            let boundary =
                window.is_tumbling() && window.end_ms <= wall_ms && window.end_ms < i64::MAX;
            let late = boundary.then(|| wall_ms.abs_diff(window.end_ms));
            for (due, late) in [
                (Due::Boundary, late),
                (Due::Slide, window.slide_due().and_then(since)),
                (Due::Wait, window.wait_due().and_then(since)),
            ] {
                let Some(late) = late else { continue };
                if best.is_none_or(|(most, kind, _)| late > most || (late == most && due < kind)) {
                    best = Some((late, due, index));
                }
            }
        }
        best.map(|(_, due, index)| (due, index))
    }

    /// A tumbling window ends.
    fn close(&mut self, index: usize) {
        if self
            .windows
            .get(index)
            .is_some_and(|window| window.hydrating)
        {
            // Its snapshot is of the window that ends now; what was held back still counts.
            self.stats.snapshots_abandoned += 1;
            self.release(index);
        }
        self.put_out(index as u32, Reason::Closing);
        self.settle();
        for field in &mut self.fields {
            field.column.reset(index);
        }
        let wall_ms = self.now.wall_ms;
        let Some(window) = self.windows.get_mut(index) else {
            return;
        };
        let late = wall_ms.abs_diff(window.end_ms);
        self.stats.lag_ms_max = self.stats.lag_ms_max.max(late);
        self.stats.closings += 1;
        let (start_ms, end_ms) = window.kind.around(wall_ms).unwrap_or((wall_ms, i64::MAX));
        let skipped = match window.kind {
            Kind::Fixed { duration_ms, .. } => late / duration_ms.max(1),
            _ => u64::from(start_ms != window.end_ms),
        };
        self.stats.periods_skipped = self.stats.periods_skipped.saturating_add(skipped);
        (window.start_ms, window.end_ms) = (start_ms, end_ms);
        window.waiting = None;
        window.touched = true;
        window.extras.clear();
        window.computed.fill(Value::Absent);
        if self.publish_reset {
            self.put_out(index as u32, Reason::Reset);
            self.settle();
        }
    }

    /// A sliding window moves on by as many hops as are due.
    fn slide(&mut self, index: usize) {
        let mono = self.now.mono;
        let Some(window) = self.windows.get_mut(index) else {
            return;
        };
        let (Kind::Sliding { slide_ms, .. }, Some(due)) = (&window.kind, window.slide_due()) else {
            return;
        };
        let elapsed = mono.saturating_since(window.origin).as_millis();
        let slides = u64::try_from(elapsed / u128::from((*slide_ms).max(1))).unwrap_or(u64::MAX);
        let steps = slides.saturating_sub(window.slides);
        window.slides = slides;
        window.waiting = None;
        let buckets = window.kind.buckets().unwrap_or(1);
        let hops = u32::try_from(steps.min(buckets)).unwrap_or(u32::MAX);
        let late = mono.as_millis().saturating_sub(due.as_millis());
        self.stats.lag_ms_max = self.stats.lag_ms_max.max(late);
        self.stats.slides += 1;
        let skipped = self.stats.periods_skipped;
        self.stats.periods_skipped = skipped.saturating_add(steps.saturating_sub(1));
        for field in &mut self.fields {
            field.column.slide(index, hops);
        }
        self.put_out(index as u32, Reason::Slide);
        self.settle();
    }

    /// The wall clock was put back by more than a whole window: such windows go on with what they
    /// have and end where the calendar now says, instead of never.
    fn realign(&mut self) {
        let wall_ms = self.now.wall_ms;
        for window in self
            .windows
            .iter_mut()
            .filter(|window| window.is_tumbling())
        {
            if wall_ms < window.floor_ms()
                && let Some((start_ms, end_ms)) = window.kind.around(wall_ms)
            {
                (window.start_ms, window.end_ms) = (start_ms, end_ms);
                self.stats.clock_backs += 1;
            }
        }
        self.schedule();
    }

    /// Finds out when something is due next.
    pub(crate) fn schedule(&mut self) {
        let (mut mono, mut wall_ms, mut floor_ms) = (Millis::MAX, i64::MAX, i64::MIN);
        for window in &self.windows {
            let dues = window.slide_due().into_iter().chain(window.wait_due());
            mono = dues.fold(mono, Millis::min);
            if window.is_tumbling() {
                wall_ms = wall_ms.min(window.end_ms);
                floor_ms = floor_ms.max(window.floor_ms());
            }
        }
        (self.wake_mono, self.wake_wall_ms, self.floor_ms) = (mono, wall_ms, floor_ms);
    }

    pub(crate) fn find_live(&mut self) {
        let windows = self.windows.iter().enumerate();
        let live = windows.filter(|(_, window)| !window.hydrating);
        self.live = live.map(|(index, _)| index as u32).collect();
    }

    /// Keeps an event for windows that wait for a snapshot.
    fn hold(&mut self, name: &str, data: RawJsonRef<'_>) {
        let bytes = size_of::<Held>() + name.len() + data.as_str().len();
        if self.held.len() >= self.limits.held_events_max
            || self.held_bytes + bytes > self.limits.held_bytes_max
        {
            for index in 0..self.windows.len() {
                if self
                    .windows
                    .get(index)
                    .is_some_and(|window| window.hydrating)
                {
                    self.stats.snapshots_abandoned += 1;
                    self.release(index);
                }
            }
            return;
        }
        self.held_bytes += bytes;
        self.held.push_back(Held {
            name: name.into(),
            data: data.as_str().into(),
        });
    }

    /// A window stops waiting: what was held back is counted in it. True if there was anything.
    pub(crate) fn release(&mut self, index: usize) -> bool {
        let held = core::mem::take(&mut self.held);
        for event in &held {
            self.apply(&event.name, RawJsonRef::trust(&event.data), &[index as u32]);
        }
        if let Some(window) = self.windows.get_mut(index) {
            window.hydrating = false;
            window.touched |= !held.is_empty();
        }
        self.find_live();
        let any = !held.is_empty();
        if self.live.len() < self.windows.len() {
            self.held = held;
        } else {
            self.held_bytes = 0;
        }
        any
    }

    /// Shows what a window holds, now or after its debounce.
    pub(crate) fn show(&mut self, index: usize) {
        let mono = self.now.mono;
        if self
            .windows
            .get_mut(index)
            .is_some_and(|window| window.wait(mono))
        {
            self.put_out(index as u32, Reason::Update);
        }
        self.schedule();
    }

    /// Adds an event to the fields of some windows.
    #[inline]
    fn apply(&mut self, name: &str, data: RawJsonRef<'_>, windows: &[u32]) {
        if windows.is_empty() {
            return;
        }
        let mut found: SmallVec<[Option<RawJsonRef<'_>>; 8]> = SmallVec::new();
        scan(&self.paths, data, &mut found);
        let event = Event {
            name,
            data,
            found: &found,
        };
        let mut failed: Option<Failure> = None;
        for field in &mut self.fields {
            let counts = match &field.on {
                None => true,
                Some(names) => names.iter().any(|on| **on == *name),
            };
            if !counts {
                continue;
            }
            if let Err(error) = field.column.add(&event, windows) {
                self.stats.failed += 1;
                match &mut failed {
                    Some(failure) => failure.others += 1,
                    None => failed = Some(Failure::new(&field.name, error)),
                }
            }
        }
        if let Some(failure) = failed {
            self.report(failure);
        }
    }

    fn report(&mut self, failure: Failure) {
        if self.failures.len() >= self.limits.failures_max.max(1) {
            self.failures.pop_front();
            self.stats.failures_dropped += 1;
        }
        self.failures.push_back(failure);
    }

    fn put_out(&mut self, window: u32, reason: Reason) {
        self.stats.outputs += 1;
        if self.outputs.len() >= self.limits.outputs_max.max(1) {
            if let Some(text) = self.outputs.pop_front().and_then(|dropped| dropped.text) {
                self.recycle(text);
            }
            self.stats.outputs_dropped += 1;
        }
        self.outputs.push_back(Pending {
            window,
            reason,
            text: None,
        });
    }

    /// Renders what waits, because the state is about to change.
    pub(crate) fn settle(&mut self) {
        for at in 0..self.outputs.len() {
            let window = match self.outputs.get(at) {
                Some(pending) if pending.text.is_none() => pending.window as usize,
                _ => continue,
            };
            let mut text = self.spare.pop().unwrap_or_default();
            text.clear();
            self.render(window, &mut text);
            if let Some(pending) = self.outputs.get_mut(at) {
                pending.text = Some(text);
            }
        }
    }

    fn recycle(&mut self, text: String) {
        const SPARE_MAX: usize = 8;
        const SPARE_BYTES_MAX: usize = 64 * 1024;
        if self.spare.len() < SPARE_MAX && text.capacity() <= SPARE_BYTES_MAX {
            self.spare.push(text);
        }
    }

    fn render_text(&mut self, window: usize) {
        let mut text = core::mem::take(&mut self.text);
        text.clear();
        self.render(window, &mut text);
        self.text = text;
    }

    /// Writes a window's state: reduced fields, what a snapshot brought along, computed fields.
    fn render(&mut self, index: usize, out: &mut String) {
        let Some(window) = self.windows.get_mut(index) else {
            return out.push_str("{}");
        };
        out.push('{');
        for field in &mut self.fields {
            let mark = out.len();
            out.push_str(field.key.get(usize::from(mark == 1)..).unwrap_or_default());
            if !field.column.write(index, out) {
                out.truncate(mark);
            }
        }
        for (token, json) in &window.extras {
            let name = crate::js::plain(token);
            if self.computed.iter().any(|computed| *computed.name == *name) {
                continue;
            }
            member(out, token, json);
        }
        let mut failed = None;
        for (at, field) in self.computed.iter().enumerate() {
            let (before, rest) = window.computed.split_at_mut(at);
            let view = View {
                window: index,
                fields: &self.fields,
                computed: &self.computed,
                values: before,
                extras: &window.extras,
            };
            let Some(place) = rest.first_mut() else {
                break;
            };
            match view.compute(&field.formula) {
                Ok(value) => *place = value,
                Err(error) => {
                    self.stats.failed += 1;
                    failed
                        .get_or_insert_with(|| Failure::new(&field.name, error))
                        .others += 1;
                }
            }
            let mark = out.len();
            out.push_str(field.key.get(usize::from(mark == 1)..).unwrap_or_default());
            if !place.write(out) {
                out.truncate(mark);
            }
        }
        out.push('}');
        if let Some(mut failure) = failed {
            failure.others -= 1;
            self.report(failure);
        }
    }
}

impl Failure {
    fn new(field: &str, error: ReduceError) -> Self {
        Self {
            field: field.into(),
            error,
            others: 0,
        }
    }
}

fn member(out: &mut String, token: &str, json: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(token);
    out.push(':');
    out.push_str(json);
}

/// Finds all paths in one pass over the data; of duplicate keys the last counts, as in JavaScript.
#[inline]
fn scan<'a>(
    paths: &Paths,
    data: RawJsonRef<'a>,
    found: &mut SmallVec<[Option<RawJsonRef<'a>>; 8]>,
) {
    if paths.0.is_empty() {
        return;
    }
    found.resize(paths.0.len(), None);
    for (key, value) in data.fields() {
        for (path, place) in paths.0.iter().zip(found.iter_mut()) {
            // Spelled with other escapes it may still be the same name.
            let same =
                key.raw() == &*path.token || (key.plain().is_none() && key.eq_str(&path.names[0]));
            if same {
                let mut deeper = path.names[1..].iter();
                *place = deeper.try_fold(value, |at, name| at.field(name));
            }
        }
    }
}
