//! The newest events of a topic, kept for those who come back.
//!
//! A topic's frames go into a ring under the topic's lock, at the topic's own numbers, so that
//! "everything after n" has one truthful answer. All rings share a budget of bytes; when it is
//! used up, the topic that was written to least recently loses its oldest events.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{Millis, RawJson, RawJsonRef};
use millstream_replay::{ENTRY_COST, Outcome, Ring, RingLimits};
use parking_lot::Mutex;

use crate::publish::header_len;
use crate::topics::{Topic, TopicState, Topics};
use crate::{Limits, Stats};

/// What a topic has kept of the time after a number.
#[derive(Debug, Clone)]
pub struct History {
    /// The number of the topic's newest event.
    pub position: u64,
    /// Whether `events` is all that was missed.
    pub outcome: Outcome,
    /// Events after the number as far as they are kept, oldest first.
    pub events: Vec<Retained>,
}

/// One event that a topic has kept.
#[derive(Debug, Clone)]
pub struct Retained {
    number: u64,
    frame: Bytes,
    /// Where the event's name begins in the frame.
    name_at: usize,
}

impl Retained {
    fn new(topic: &Topic, number: u64, frame: &Bytes) -> Self {
        Self {
            number,
            frame: frame.clone(),
            name_at: header_len(frame.len()) + topic.prefix().as_bytes().len(),
        }
    }

    /// The event's number on its topic.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The event's name.
    #[must_use]
    pub fn event(&self) -> &str {
        // Names hold neither quotes nor escapes.
        self.rest().split('"').next().unwrap_or_default()
    }

    /// The event's payload.
    #[must_use]
    pub fn data(&self) -> RawJsonRef<'_> {
        let rest = self.rest();
        let start = self.event().len() + DATA.len();
        let end = rest.rfind(SEQ).unwrap_or_default();
        rest.get(start..end)
            .map_or(RawJsonRef::NULL, RawJsonRef::trust)
    }

    /// From the name on to the end of the envelope.
    fn rest(&self) -> &str {
        let rest = self.frame.get(self.name_at..).unwrap_or_default();
        core::str::from_utf8(rest).unwrap_or_default()
    }
}

impl History {
    /// Whether everything after the number is here, which may be nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcome == Outcome::Complete
    }

    /// Bytes that [`to_list`](Self::to_list) gives, at most a few too many.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let events = self.events.iter();
        let bytes = |event: &Retained| event.frame.len() - event.name_at + EVENT.len() + 1;
        events.map(bytes).sum::<usize>() + 2
    }

    /// The events as a list of `{event, data, seq}`. The kept bytes are copied, not parsed.
    #[must_use]
    pub fn to_list(&self) -> RawJson {
        let mut text = String::with_capacity(self.bytes());
        text.push('[');
        for event in &self.events {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(EVENT);
            text.push_str(event.rest());
        }
        text.push(']');
        RawJsonRef::trust(&text).to_owned()
    }
}

/// What stands in an envelope before its event's name, behind the topic.
const EVENT: &str = r#"{"event":""#;
const DATA: &str = r#"","data":"#;
const SEQ: &str = r#","seq":"#;

/// The number in the frame of an event, if it has one. Only envelopes end in `,"seq":N}`: without
/// a number the payload stands before the last brace, and no payload ends like that.
pub(crate) fn frame_number(frame: &[u8]) -> Option<u64> {
    let inside = frame.strip_suffix(b"}")?;
    let digits = inside.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (before, digits) = inside.split_at(inside.len() - digits.count());
    before.ends_with(SEQ.as_bytes()).then_some(())?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// What a client that comes back to a topic has to be given.
#[derive(Debug)]
pub(crate) enum Missed {
    /// It has everything.
    Nothing,
    /// These events, and then it has everything.
    Events(Vec<Bytes>),
    /// More than is kept: it has to load again.
    Unknown,
}

/// The kept events of all topics.
#[derive(Debug)]
pub(crate) struct Retention {
    bytes_max: usize,
    /// Bytes charged by all rings.
    bytes: AtomicUsize,
    /// Topics with a ring. Goes around: who was written to since its last turn is passed over.
    /// Never locked by who waits for a topic's lock.
    queue: Mutex<VecDeque<Arc<Topic>>>,
    /// Topics in the queue that the table has forgotten.
    stale: AtomicUsize,
}

/// Forgotten topics in the queue before anybody looks for them.
const STALE_KEPT: usize = 1_024;
/// One topic's part of the budget.
const TOPIC_SHARE: usize = 8;

/// One topic's kept events.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    ring: Option<Box<Ring>>,
}

/// Where a topic stands in the queue of those that keep events.
#[derive(Debug, Default)]
pub(crate) struct KeptTurn {
    /// The topic is in the queue.
    listed: bool,
    /// An event was kept since the queue went around.
    written: bool,
}

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_none()
    }

    /// Bytes charged.
    fn bytes(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| ring.bytes())
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            bytes_max: Limits::default().retained_bytes_max,
            bytes: AtomicUsize::new(0),
            queue: Mutex::default(),
            stale: AtomicUsize::new(0),
        }
    }
}

impl Retention {
    fn ring_limits(&self, events: u32) -> RingLimits {
        RingLimits {
            entries_max: events,
            bytes_max: self.bytes_max / TOPIC_SHARE,
        }
    }
}

impl Topics {
    /// Replaces the budget of bytes for kept events; see
    /// [`Limits::retained_bytes_max`](crate::Limits::retained_bytes_max).
    #[must_use]
    pub fn retaining(mut self, bytes_max: usize) -> Self {
        self.retention_mut().bytes_max = bytes_max;
        self
    }

    /// The number of the newest event of a topic that keeps events; where it will begin if it has
    /// none yet. `None` for topics that keep nothing and for names that are none. From any thread.
    #[must_use]
    pub fn position(&self, topic: &str, now: Millis) -> Option<u64> {
        self.retained_topic(topic, now)?.locked(|state| state.head)
    }

    /// What a topic has kept of the time after a number. `None` as for
    /// [`position`](Self::position). From any thread.
    ///
    /// # Cost
    /// One lookup, one lock, and a reference for each event that is given.
    #[must_use]
    pub fn since(&self, topic: &str, number: u64, now: Millis) -> Option<History> {
        let topic = self.retained_topic(topic, now)?;
        topic.locked(|state| {
            let after = state.kept.ring.as_ref().map(|ring| ring.after(number));
            let events = after.into_iter().flatten();
            History {
                position: state.head,
                outcome: state.outcome(number),
                events: events
                    .map(|(number, frame)| Retained::new(&topic, number, frame))
                    .collect(),
            }
        })
    }

    /// Bytes charged for the kept events of all topics.
    #[must_use]
    pub fn retained_bytes(&self) -> usize {
        self.retention().bytes.load(Ordering::Relaxed)
    }

    fn retained_topic(&self, name: &str, now: Millis) -> Option<Arc<Topic>> {
        let topic = match self.find(name) {
            Some(topic) => topic,
            // Only what keeps events is worth a place in the table.
            None if self.policy(name).retain == 0 => return None,
            None => self.open(name, now).ok()?,
        };
        (topic.policy().retain > 0).then_some(topic)
    }

    /// Keeps an event that has just been numbered. Topic locked; call [`trim`](Self::trim) when
    /// no topic is locked any more.
    pub(crate) fn keep(
        &self,
        topic: &Arc<Topic>,
        state: &mut TopicState,
        number: u64,
        frame: Bytes,
    ) {
        let retention = self.retention();
        let before = state.kept.bytes();
        let limits = retention.ring_limits(topic.policy().retain);
        let ring = &mut state.kept.ring;
        let ring = ring.get_or_insert_with(|| Box::new(Ring::new(limits, number - 1)));
        match ring.push_at(number, frame) {
            Ok(pushed) => {
                Stats::bump(&self.stats().retained);
                let lost = u64::from(pushed.evicted_by_bytes) + u64::from(!pushed.kept);
                if lost > 0 {
                    let evicted = &self.stats().retained_evicted;
                    evicted.fetch_add(lost, Ordering::Relaxed);
                }
            }
            // No number left: nothing from before may pass for complete.
            Err(_) => ring.clear(),
        }
        let after = ring.bytes();
        state.turn.written = true;
        if after >= before {
            retention.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            retention.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
        if !state.turn.listed {
            state.turn.listed = true;
            retention.queue.lock().push_back(Arc::clone(topic));
        }
    }

    /// Brings the kept events back under their budget. No topic may be locked by the caller.
    pub(crate) fn trim(&self) {
        let retention = self.retention();
        if retention.bytes.load(Ordering::Relaxed) > retention.bytes_max {
            self.evict_kept();
        }
        if retention.stale.load(Ordering::Relaxed) > STALE_KEPT {
            self.drop_stale();
        }
    }

    #[cold]
    fn evict_kept(&self) {
        let retention = self.retention();
        // Once around to find all marks, once more to find somebody without.
        let most = retention.queue.lock().len() * 2 + 1;
        for _ in 0..most {
            let bytes = retention.bytes.load(Ordering::Relaxed);
            let Some(over) = bytes.checked_sub(retention.bytes_max).filter(|n| *n > 0) else {
                return;
            };
            let Some(topic) = retention.queue.lock().pop_front() else {
                return;
            };
            let mut state = topic.lock();
            if core::mem::take(&mut state.turn.written) && !state.is_retired() {
                drop(state);
                retention.queue.lock().push_back(topic);
                continue;
            }
            let (mut freed, mut events) = (0, 0);
            if let Some(ring) = &mut state.kept.ring {
                while freed < over
                    && let Some(frame) = ring.pop_oldest()
                {
                    freed += frame.len() + ENTRY_COST;
                    events += 1;
                }
            }
            retention.bytes.fetch_sub(freed, Ordering::Relaxed);
            let evicted = &self.stats().retained_evicted;
            evicted.fetch_add(events, Ordering::Relaxed);
            if state.kept.ring.as_ref().is_none_or(|ring| ring.is_empty()) {
                self.unlist(&mut state);
            } else {
                drop(state);
                retention.queue.lock().push_front(topic);
            }
        }
    }

    /// Takes forgotten topics out of the queue.
    #[cold]
    fn drop_stale(&self) {
        let retention = self.retention();
        if retention.stale.load(Ordering::Relaxed) < retention.queue.lock().len() / 2 {
            // Going through so many for so few would cost too much.
            return;
        }
        let mut queue = core::mem::take(&mut *retention.queue.lock());
        queue.retain(|topic| {
            let mut state = topic.lock();
            if state.is_retired() {
                self.unlist(&mut state);
            }
            state.turn.listed
        });
        retention.queue.lock().extend(queue);
    }

    /// Notes that a topic is not in the queue any more.
    fn unlist(&self, state: &mut TopicState) {
        state.kept.ring = None;
        state.turn.listed = false;
        if state.is_retired() {
            self.retention().stale.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives a topic's kept events up, because the table forgets it.
    pub(crate) fn drop_kept(&self, state: &mut TopicState) {
        let retention = self.retention();
        let freed = state.kept.bytes();
        retention.bytes.fetch_sub(freed, Ordering::Relaxed);
        if let Some(ring) = state.kept.ring.take() {
            let evicted = &self.stats().retained_evicted;
            evicted.fetch_add(ring.len() as u64, Ordering::Relaxed);
        }
        if state.turn.listed {
            retention.stale.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl TopicState {
    /// What the numbers say about a position.
    fn outcome(&self, number: u64) -> Outcome {
        match &self.kept.ring {
            Some(ring) => ring.since(number),
            None => Ring::new(RingLimits::default(), self.head).since(number),
        }
    }

    /// What a client that was at `position` has missed.
    pub(crate) fn missed(&self, position: f64) -> Missed {
        // Numbers stay below 2^53, so the comparison is exact.
        #[allow(clippy::cast_precision_loss, reason = "numbers stay below 2^53")]
        let head = self.head as f64;
        if position == head {
            return Missed::Nothing;
        }
        let Some(ring) = &self.kept.ring else {
            return Missed::Unknown;
        };
        if !(0.0..head).contains(&position) || position.fract() != 0.0 {
            return Missed::Unknown;
        }
        let number = position as u64;
        match ring.since(number) {
            Outcome::Complete => {
                let frames = ring.after(number).map(|(_, frame)| frame.clone());
                Missed::Events(frames.collect())
            }
            _ => Missed::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_frame_is_not_taken_from_its_payload() {
        for (frame, number) in [
            (r#"{"topic":"t","event":"e","data":1,"seq":7}"#, Some(7)),
            (r#"{"topic":"t","event":"e","data":{"a":1,"seq":8}}"#, None),
            (r#"{"topic":"t","event":"e","data":",\"seq\":8"}"#, None),
            (r#"{"topic":"t","event":"e","data":[{"seq":8},9]}"#, None),
            (r#"{"topic":"t","event":"e","data":8}"#, None),
            (r#"{"topic":"t","event":"e","data":1,"seq":}"#, None),
            ("}", None),
            ("", None),
        ] {
            assert_eq!(frame_number(frame.as_bytes()), number, "{frame}");
        }
    }
}
