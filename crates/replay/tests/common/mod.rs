//! The engine next to a naive model of it and to the whole history of every topic, driven by
//! bytes. Used by the property test and, by path, by the fuzz target.

mod model;

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_replay::{
    Cursor, ENTRY_COST, Limits, Numbers, Outcome, PushError, Read, Replay, RingLimits,
};
use model::Model;

const TOPICS: [&str; 6] = ["a", "b", "c", "topic:4", "topic:5", ""];

/// Limits out of a byte: each bit makes one of them small.
pub(crate) fn limits(choice: u8) -> Limits {
    let pick = |bit: u8, small: usize, large: usize| {
        if choice & (1 << bit) == 0 {
            large
        } else {
            small
        }
    };
    Limits {
        topics_max: pick(0, 2, 5),
        ring: RingLimits {
            entries_max: u32::try_from(pick(1, 3, 40)).expect("small"),
            bytes_max: pick(2, 4 * ENTRY_COST, 100_000),
        },
        entries_max: pick(3, 7, 1_000),
        bytes_max: pick(4, 2_200, 1_000_000),
        remembered_max: pick(5, 2, 100),
        numbers: if choice & 64 == 0 {
            Numbers::Keep
        } else {
            Numbers::Restart
        },
        reads_count_as_use: choice & 128 == 0,
        ..Limits::default()
    }
}

/// Engine, model and history.
pub(crate) struct Rig {
    engine: Replay,
    model: Model,
    /// Every frame ever pushed in this epoch, by topic and number.
    history: BTreeMap<usize, BTreeMap<u64, Bytes>>,
    cursors: Vec<(Cursor, model::Place)>,
    pushed: u32,
}

impl Rig {
    pub(crate) fn new(choice: u8) -> Self {
        let limits = limits(choice);
        Self {
            engine: Replay::new(limits.clone(), 0),
            model: Model::new(limits),
            history: BTreeMap::new(),
            cursors: Vec::new(),
            pushed: 0,
        }
    }

    /// Runs operations of three bytes: what, which topic, how much.
    pub(crate) fn run(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(3) {
            let (topic, amount) = (usize::from(chunk[1]) % TOPICS.len(), chunk[2]);
            match chunk[0] % 16 {
                0..=6 => self.push(topic, amount),
                7 => self.push_at(topic, amount),
                8 | 9 => self.since(topic, amount),
                10 => self.read(usize::from(chunk[1]), amount),
                11 => self.read_while(usize::from(chunk[1]), amount),
                12 => self.head(topic),
                13 => self.clear_topic(topic),
                14 => self.push_larger(topic, amount),
                _ => self.rare(amount),
            }
            self.compare();
        }
    }

    fn frame(&mut self, bytes: usize) -> Bytes {
        self.pushed += 1;
        let mut frame = self.pushed.to_le_bytes().to_vec();
        frame.resize(bytes.max(4), 0);
        Bytes::from(frame)
    }

    fn push(&mut self, topic: usize, amount: u8) {
        let frame = self.frame(usize::from(amount % 32));
        self.push_frame(topic, frame);
    }

    fn push_larger(&mut self, topic: usize, amount: u8) {
        let frame = self.frame(usize::from(amount) * 9);
        self.push_frame(topic, frame);
    }

    fn push_frame(&mut self, topic: usize, frame: Bytes) {
        let pushed = self
            .engine
            .push(TOPICS[topic], frame.clone())
            .expect("numbers are left");
        let number = self.model.push(topic, TOPICS[topic], None, frame.clone());
        assert_eq!(pushed.number, number);
        self.remember(topic, number, frame);
    }

    fn push_at(&mut self, topic: usize, amount: u8) {
        let frame = self.frame(5);
        let key = self.engine.open(TOPICS[topic]).expect("a short name");
        self.model.open(topic, TOPICS[topic]);
        let head = self.model.head_of(topic);
        let number = (head + u64::from(amount % 4)).saturating_sub(1);
        let done = self.engine.push_to_at(key, number, frame.clone());
        if number <= head {
            let refused = PushError::NumberNotAbove {
                given: number,
                head,
            };
            assert_eq!(done, Err(refused));
            return;
        }
        assert_eq!(done.expect("above the head").number, number);
        self.model
            .push(topic, TOPICS[topic], Some(number), frame.clone());
        self.remember(topic, number, frame);
    }

    /// Numbers only rise, unless the engine was told to forget them.
    fn remember(&mut self, topic: usize, number: u64, frame: Bytes) {
        let history = self.history.entry(topic).or_default();
        if self.engine.limits().numbers == Numbers::Restart {
            history.retain(|kept, _| *kept < number);
        }
        if let Some((last, _)) = history.last_key_value() {
            assert!(number > *last, "{number} after {last}");
        }
        history.insert(number, frame);
    }

    fn since(&mut self, topic: usize, amount: u8) {
        let head = self.model.peek_head(topic);
        let number = if amount == 255 {
            u64::MAX
        } else {
            (head + 2).saturating_sub(u64::from(amount % 16))
        };
        let answer = self.engine.since(TOPICS[topic], number);
        let (outcome, place) = self.model.since(topic, number);
        assert_eq!((answer.outcome, answer.head), (outcome, head));
        assert_eq!(answer.cursor.is_some(), place.is_some());
        let keeps = self.engine.limits().numbers == Numbers::Keep;
        if outcome == Outcome::Complete && keeps {
            self.is_all_of_it(topic, number);
        }
        if let (Some(cursor), Some(mut place)) = (answer.cursor, place) {
            let bounded = amount & 64 != 0;
            place.last = if bounded { head } else { u64::MAX };
            let cursor = if bounded { cursor.until(head) } else { cursor };
            self.cursors.truncate(3);
            self.cursors.insert(0, (cursor, place));
        }
    }

    /// "Complete" has to mean that nothing of the whole history after the position is missing.
    fn is_all_of_it(&self, topic: usize, number: u64) {
        let missed: Vec<(u64, Bytes)> = match self.history.get(&topic) {
            Some(history) => history
                .range(number + 1..)
                .map(|(number, frame)| (*number, frame.clone()))
                .collect(),
            None => Vec::new(),
        };
        let ring = self.engine.ring(TOPICS[topic]);
        let kept: Vec<(u64, Bytes)> = ring.map_or_else(Vec::new, |ring| {
            ring.after(number)
                .map(|(n, frame)| (n, frame.clone()))
                .collect()
        });
        assert_eq!(kept, missed);
    }

    fn read(&mut self, which: usize, amount: u8) {
        if self.cursors.is_empty() {
            return;
        }
        let which = which % self.cursors.len();
        let (cursor, place) = &mut self.cursors[which];
        for _ in 0..=amount % 8 {
            let read = self.engine.read(cursor);
            assert_eq!(read, self.model.read(place));
            if matches!(read, Read::End { .. } | Read::Gone) {
                break;
            }
        }
        assert_eq!(cursor.next_number(), place.next);
    }

    fn read_while(&mut self, which: usize, amount: u8) {
        if self.cursors.is_empty() {
            return;
        }
        let which = which % self.cursors.len();
        let (cursor, place) = &mut self.cursors[which];
        let mut wanted = 1 + amount % 8;
        let model = &self.model;
        let stopped = self.engine.read_while(cursor, |number, frame| {
            assert_eq!(model.read(place), Read::Frame { number, frame });
            wanted -= 1;
            wanted > 0
        });
        match stopped {
            Some(read) => assert_eq!(read, model.read(place)),
            None => assert_eq!(wanted, 0),
        }
        assert_eq!(cursor.next_number(), place.next);
    }

    fn head(&mut self, topic: usize) {
        let head = self.model.peek_head(topic);
        assert_eq!(self.engine.head(TOPICS[topic]), head);
        self.model.touch_by_reading(topic);
    }

    fn clear_topic(&mut self, topic: usize) {
        let known = self.engine.clear_topic(TOPICS[topic]);
        assert_eq!(known, self.model.clear_topic(topic));
    }

    fn rare(&mut self, amount: u8) {
        match amount % 16 {
            0 => {
                self.engine.clear();
                self.model.clear();
            }
            1 => {
                self.engine.reset(u64::from(amount));
                self.model.reset();
                self.history.clear();
                assert_eq!(self.engine.epoch(), u64::from(amount));
            }
            _ => {}
        }
    }

    fn compare(&self) {
        assert_eq!(self.engine.topics(), self.model.topics.len());
        assert_eq!(self.engine.entries(), self.model.entries());
        assert_eq!(self.engine.bytes(), self.model.bytes());
        assert_eq!(self.engine.remembered(), self.model.remembered.len());
        let limits = self.engine.limits();
        assert!(self.engine.bytes() <= limits.bytes_max, "the byte budget");
        assert!(
            self.engine.entries() <= limits.entries_max,
            "the entry budget"
        );
        for topic in &self.model.topics {
            let ring = self.engine.ring(TOPICS[topic.name]).expect("known");
            assert!(ring.bytes() <= ring.limits().bytes_max);
            assert!(ring.len() <= ring.limits().entries_max as usize);
            assert_eq!(ring.head(), topic.head);
            assert!(ring.after(0).map(|(_, frame)| frame).eq(&topic.frames));
        }
    }
}
