//! What the model believes of one connection, and how it is held against what arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_core::RawJsonRef;
use millstream_hub::{Overflow, Ticket, Verdict};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};

/// Topics with what a slow reader loses of them; a closed one no client may ask for before it has
/// got it from the application.
pub(crate) const TOPICS: [(&str, Overflow); 7] = [
    ("a", Overflow::DropNewest),
    ("b", Overflow::DropOldest),
    ("room:1", Overflow::Coalesce),
    ("room:2", Overflow::DropNewest),
    ("strict", Overflow::Disconnect),
    ("v", Overflow::DropNewest),
    ("shut", Overflow::DropNewest),
];
pub(crate) const CLOSED: &str = "shut";
pub(crate) const VOLATILE: &str = "v";
pub(crate) const SUBSCRIPTIONS_MAX: usize = 5;
pub(crate) const HOLD_BYTES_MAX: usize = 400;
pub(crate) const KEYS_MAX: usize = 2;
pub(crate) const PARKED_MAX: usize = 2;
pub(crate) const PARKED_HOLD_MS: u64 = 5_000;
/// Topics that keep events, and how many.
pub(crate) const RETAINED: [&str; 4] = ["a", "b", "room:1", "strict"];
pub(crate) const RETAIN: usize = 3;

/// All numbered events there ever were, by topic.
#[derive(Default)]
pub(crate) struct Past(BTreeMap<&'static str, Vec<(u64, String)>>);

impl Past {
    pub(crate) fn note(&mut self, topic: &'static str, seq: u64, text: &str) {
        self.0
            .entry(topic)
            .or_default()
            .push((seq, text.to_owned()));
    }

    /// What came after a number, if a topic keeps that much.
    fn after(&self, topic: &str, position: u64) -> Option<Vec<&str>> {
        let events = self.0.get(topic).filter(|_| RETAINED.contains(&topic))?;
        let kept = &events[events.len().saturating_sub(RETAIN)..];
        let (oldest, newest) = (kept.first()?.0, kept.last()?.0);
        let after = kept.iter().filter(|(seq, _)| *seq > position);
        (oldest <= position + 1 && position <= newest)
            .then(|| after.map(|(_, text)| &**text).collect())
    }
}

pub(crate) fn overflow(topic: &str) -> Overflow {
    TOPICS
        .iter()
        .find(|(name, _)| *name == topic)
        .expect("one of ours")
        .1
}

/// Where an expected frame comes from, and so whether a slow reader may miss it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Control frames, replies, direct sends that were queued: never lost.
    Kept,
    Event(&'static str),
    /// An event for which a slow reader gets no gap mark.
    Volatile(&'static str),
}

#[derive(Default)]
pub(crate) struct Belief {
    pub(crate) topics: BTreeSet<&'static str>,
    /// The number of each of them when it was subscribed to.
    pub(crate) since: BTreeMap<&'static str, u64>,
    /// Bytes for it alone that were there before the present step, and those that this adds.
    pub(crate) waiting: usize,
    /// Bytes that may wait for it.
    pub(crate) room: usize,
    /// Events held back, per topic.
    pub(crate) held: BTreeMap<&'static str, Hold>,
    /// A close frame was queued.
    pub(crate) closing: bool,
    /// The hub asked for this connection's end.
    pub(crate) slow: bool,
    /// What it has to receive, in order.
    pub(crate) expected: Vec<(Kind, String)>,
    /// Unfinished subscribes and unsubscribes, oldest first.
    pub(crate) pending: Vec<Pending>,
    /// Subscribes to the closed topic that wait: their references, and until when.
    pub(crate) parked: VecDeque<(u32, u64)>,
    /// Coalesced sends that wait until the connection has caught up, in the order of their keys.
    pub(crate) keyed: VecDeque<(u8, String)>,
    /// Positions of a resume, until some time.
    pub(crate) positions: BTreeMap<&'static str, u64>,
    pub(crate) positions_until: u64,
    /// Requests without an answer, with their deadlines.
    pub(crate) requests: BTreeMap<u64, u64>,
}

#[derive(Default)]
pub(crate) struct Hold {
    /// Never empty between two steps.
    holders: BTreeSet<u64>,
    events: Vec<(Kind, String)>,
    bytes: usize,
    pub(crate) dropped: u32,
}

impl Hold {
    fn push(&mut self, event: (Kind, String)) {
        let bytes = frame_len(&event.1);
        if self.dropped > 0 || self.bytes + bytes > HOLD_BYTES_MAX {
            self.dropped += 1;
        } else {
            self.bytes += bytes;
            self.events.push(event);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

/// A subscribe or unsubscribe on its way.
pub(crate) struct Pending {
    pub(crate) leave: bool,
    pub(crate) batch: bool,
    /// Per topic, whether the hub asked.
    pub(crate) asked: Vec<bool>,
    pub(crate) topics: Vec<&'static str>,
    pub(crate) reference: u32,
    pub(crate) ticket: Option<Ticket>,
}

impl Pending {
    pub(crate) fn new(topics: Vec<&'static str>, reference: u32, batch: bool) -> Self {
        let asked = vec![false; topics.len()];
        Self {
            leave: false,
            batch,
            asked,
            topics,
            reference,
            ticket: None,
        }
    }
}

impl Belief {
    pub(crate) fn expect(&mut self, kind: Kind, text: String) {
        if !self.closing {
            self.waiting += frame_len(&text);
            self.expected.push((kind, text));
        }
    }

    pub(crate) fn expect_event(&mut self, topic: &'static str, volatile: bool, text: &str) {
        if !self.topics.contains(topic) {
            return;
        }
        let kind = if volatile {
            Kind::Volatile(topic)
        } else {
            Kind::Event(topic)
        };
        match self.held.get_mut(topic) {
            // Once held back, an event is like all others of its topic.
            Some(held) if topic != VOLATILE => held.push((Kind::Event(topic), text.to_owned())),
            Some(held) => held.push((kind, text.to_owned())),
            None => self.expect(kind, text.to_owned()),
        }
    }

    pub(crate) fn hold(&mut self, topic: &'static str, holder: u64) -> bool {
        let can = self.topics.contains(topic);
        can && self.held.entry(topic).or_default().holders.insert(holder)
    }

    pub(crate) fn release(&mut self, topic: &'static str, holder: u64) -> Option<Hold> {
        let holders = &mut self.held.get_mut(topic)?.holders;
        if !holders.remove(&holder) || !holders.is_empty() {
            return None;
        }
        let mut held = self.held.remove(topic)?;
        for (kind, text) in held.events.clone() {
            self.expect(kind, text);
        }
        if held.dropped > 0 {
            self.expect(Kind::Kept, gap_mark(topic));
        }
        held.bytes = 0;
        Some(held)
    }

    /// Keeps the newest value per key in the key's place; gives how many values were lost.
    pub(crate) fn keep_keyed(&mut self, key: u8, text: String) -> u64 {
        if let Some(old) = self.keyed.iter_mut().find(|(other, _)| *other == key) {
            old.1 = text;
            return 1;
        }
        self.keyed.push_back((key, text));
        if self.keyed.len() <= KEYS_MAX {
            return 0;
        }
        self.keyed.pop_front();
        1
    }

    pub(crate) fn caught_up(&mut self) {
        for (_, text) in std::mem::take(&mut self.keyed) {
            self.expect(Kind::Kept, text);
        }
    }

    /// Puts the closed topic of a request that begins aside, as far as there is room.
    pub(crate) fn park(&mut self, at: usize, now: u64) {
        if self.topics.contains(CLOSED) || self.pending[at].leave {
            return;
        }
        let (request, parked) = (&mut self.pending[at], &mut self.parked);
        let reference = request.reference;
        request.topics.retain(|topic| {
            let parks = *topic == CLOSED && parked.len() < PARKED_MAX;
            if parks {
                parked.push_back((reference, now + PARKED_HOLD_MS));
            }
            !parks
        });
    }

    /// Denies what was put aside and has waited long enough, unless a request about it waits.
    pub(crate) fn expire_parked(&mut self, now: u64) {
        let due = self
            .parked
            .iter()
            .filter(|(_, until)| *until <= now)
            .count();
        for _ in 0..due {
            let (reference, _) = self.parked.pop_front().expect("it is due");
            if self.pending.iter().any(|one| one.topics.contains(&CLOSED)) {
                self.parked.push_back((reference, now + PARKED_HOLD_MS));
            } else {
                self.expect(Kind::Kept, denied(CLOSED, reference, "FORBIDDEN"));
            }
        }
    }

    /// The application subscribes the connection to the closed topic, if there is room.
    pub(crate) fn grant(&mut self, past: &Past, head: u64) -> bool {
        if self.topics.contains(CLOSED) {
            return true;
        }
        if self.topics.len() >= SUBSCRIPTIONS_MAX {
            return false;
        }
        for (reference, _) in core::mem::take(&mut self.parked) {
            self.expect(Kind::Kept, acked(CLOSED, reference));
        }
        self.topics.insert(CLOSED);
        self.since.insert(CLOSED, head);
        self.catch_up(CLOSED, past, head);
        true
    }

    /// Whether the hub asks about a topic: it is open or held, and there is room.
    pub(crate) fn hub_asks(&self, topic: &str) -> bool {
        let held = self.topics.contains(topic);
        held || (topic != CLOSED && self.topics.len() < SUBSCRIPTIONS_MAX)
    }

    pub(crate) fn leave(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.since.remove(topic);
        self.held.remove(topic);
    }

    /// Answers a subscribe; `head` gives a topic's last number.
    pub(crate) fn conclude(
        &mut self,
        request: &Pending,
        verdicts: &[Verdict],
        past: &Past,
        head: impl Fn(&str) -> u64,
    ) {
        let mut verdicts = verdicts.iter();
        for (topic, asked) in request.topics.iter().zip(&request.asked) {
            let verdict = if *asked {
                verdicts.next().cloned()
            } else {
                None
            };
            let full = self.topics.len() >= SUBSCRIPTIONS_MAX;
            let refused = match verdict {
                Some(Verdict::Allow) if self.topics.contains(topic) => None,
                Some(Verdict::Allow) if full => Some("RATE_LIMITED".to_owned()),
                Some(Verdict::Allow) => None,
                Some(Verdict::Deny(reason)) => {
                    self.leave(topic);
                    Some(reason.into_owned())
                }
                None if *topic == CLOSED => Some("FORBIDDEN".to_owned()),
                None => Some("RATE_LIMITED".to_owned()),
            };
            let reference = request.reference;
            let Some(reason) = refused else {
                self.expect(Kind::Kept, acked(topic, reference));
                if self.topics.insert(topic) {
                    let head = head(topic);
                    self.since.insert(topic, head);
                    self.catch_up(topic, past, head);
                }
                continue;
            };
            self.expect(Kind::Kept, denied(topic, reference, &reason));
        }
    }

    /// What a client that has said where it was is told: nothing when it was there or has had
    /// everything since, what it missed if that is kept and fits, or else to reload.
    pub(crate) fn catch_up(&mut self, topic: &'static str, past: &Past, head: u64) {
        let Some(position) = self.positions.remove(topic) else {
            return;
        };
        let since = *self.since.get(topic).expect("it holds the topic");
        let keeps = RETAINED.contains(&topic);
        if position == head || (keeps && (since..=head).contains(&position)) {
            return;
        }
        let missed = past.after(topic, position).filter(|_| since == head);
        let bytes = |texts: &[&str]| texts.iter().map(|text| frame_len(text)).sum::<usize>();
        match missed {
            Some(texts) if self.waiting + bytes(&texts) <= self.room => {
                for text in texts {
                    self.expect(Kind::Event(topic), text.to_owned());
                }
            }
            _ => self.expect(Kind::Kept, gap_mark(topic)),
        }
    }
}

fn frame_len(text: &str) -> usize {
    text.len() + if text.len() < 126 { 2 } else { 4 }
}

fn acked(topic: &str, reference: u32) -> String {
    format!(r#"{{"type":"subscribed","topic":"{topic}","ref":{reference}}}"#)
}

fn denied(topic: &str, reference: u32, reason: &str) -> String {
    let about = format!(r#""topic":"{topic}","ref":{reference},"reason":"{reason}""#);
    format!(r#"{{"type":"subscribe-denied",{about}}}"#)
}

pub(crate) fn gap_mark(topic: &str) -> String {
    format!(r#"{{"topic":"{topic}","event":"end","data":{{"reqId":0,"truncated":true}}}}"#)
}

pub(crate) fn envelope(topic: &str, event: &str, data: &str, seq: Option<u64>) -> String {
    let seq = seq.map_or_else(String::new, |seq| format!(",\"seq\":{seq}"));
    format!(r#"{{"topic":"{topic}","event":"{event}","data":{data}{seq}}}"#)
}

/// Frames missed by whole, slow readers, as the model sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) newest: u64,
    pub(crate) oldest: u64,
    pub(crate) coalesced: u64,
    pub(crate) volatile: u64,
    /// Whether topics may ask for an end instead of a loss; otherwise they lose the newest.
    pub(crate) ends: bool,
}

impl Missed {
    /// Holds a slow but whole reader's frames against what it should have got: all in order,
    /// and behind every loss a gap mark before anything newer of the same topic.
    pub(crate) fn check(&mut self, frames: &[String], belief: &Belief) {
        let expected = &belief.expected;
        let mut rest = expected.iter().filter(|(_, text)| mark_of(text).is_none());
        let mut lost: BTreeSet<&str> = BTreeSet::new();
        let mut marked: BTreeSet<&str> = BTreeSet::new();
        for frame in frames {
            if let Some(topic) = mark_of(frame) {
                marked.insert(topic);
                continue;
            }
            let kind = loop {
                match rest.next() {
                    Some((kind, text)) if text == frame => break *kind,
                    Some((kind, _)) => self.count(*kind, &mut lost),
                    None => panic!("{frame} was not due here\n{expected:#?}\n{frames:#?}"),
                }
            };
            if let Kind::Event(topic) | Kind::Volatile(topic) = kind {
                let told = marked.remove(topic);
                assert!(
                    told || !lost.remove(topic),
                    "{frame} hides a gap\n{frames:#?}\n{expected:#?}"
                );
                lost.remove(topic);
            }
        }
        rest.for_each(|(kind, _)| self.count(*kind, &mut lost));
        // Who is being closed is not told to reload as well.
        let told = belief.closing || lost.is_subset(&marked);
        assert!(told, "{lost:?} lost, told of {marked:?}\n{frames:#?}");
        for (topic, _) in TOPICS {
            let mark = gap_mark(topic);
            let due = expected.iter().filter(|(_, text)| *text == mark).count();
            let came = frames.iter().filter(|text| **text == mark).count();
            assert!(came >= due, "a gap mark itself was lost");
        }
    }

    fn count(&mut self, kind: Kind, lost: &mut BTreeSet<&'static str>) {
        let topic = match kind {
            Kind::Kept => panic!("control frames and direct sends are never lost"),
            Kind::Volatile(_) => {
                self.volatile += 1;
                return;
            }
            Kind::Event(topic) => topic,
        };
        lost.insert(topic);
        match overflow(topic) {
            Overflow::Coalesce => self.coalesced += 1,
            Overflow::DropOldest => self.oldest += 1,
            Overflow::DropNewest => self.newest += 1,
            Overflow::Disconnect if !self.ends => self.newest += 1,
            other => panic!("{other:?} loses nothing: the connection ends"),
        }
    }
}

/// The topic a gap mark is about.
fn mark_of(text: &str) -> Option<&str> {
    let topic = text.strip_prefix(r#"{"topic":""#)?;
    topic.strip_suffix(r#"","event":"end","data":{"reqId":0,"truncated":true}}"#)
}

/// The text messages in a stream of server frames, batch frames taken apart. The close frame
/// has to be the last.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Vec<String> {
    let mut decoder = Decoder::new(Role::Client);
    let limits = DecodeLimits {
        message_bytes_max: 1 << 24,
        ..DecodeLimits::default()
    };
    let mut input = Input::new(&mut bytes);
    let mut frames = Vec::new();
    let mut closed = false;
    while let Some(frame) = decoder
        .next(&mut input, &limits)
        .expect("well-formed frames")
    {
        assert!(!closed, "nothing follows a close frame");
        match frame {
            Frame::Text(text) => match text.strip_prefix(r#"{"type":"batch","events":"#) {
                Some(events) => {
                    let events = events.strip_suffix('}').expect("a batch");
                    let events = RawJsonRef::parse(events.as_bytes()).expect("json");
                    frames.extend(events.elements().map(|event| event.as_str().to_owned()));
                }
                None => frames.push(text.to_owned()),
            },
            Frame::Close { .. } => closed = true,
            other => panic!("unexpected {other:?}"),
        }
    }
    frames
}
