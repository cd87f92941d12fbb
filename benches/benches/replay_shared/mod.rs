//! What the replay benchmarks share.

use bytes::Bytes;
use millstream_core::{Random, RawJsonRef, SeededRandom};
use millstream_replay::{Limits, Replay, RingLimits, TopicKey, encode_record, write_msg};

/// Names the eviction benchmark goes through.
pub(crate) const NAMES: u32 = 100_000;

/// `topics` topics with full rings of `entries` frames.
///
/// # Panics
/// Never.
#[must_use]
pub(crate) fn room(topics: usize, entries: u32) -> Replay {
    let limits = Limits {
        topics_max: topics,
        ring: RingLimits {
            entries_max: entries,
            bytes_max: usize::MAX,
        },
        entries_max: usize::MAX,
        bytes_max: usize::MAX,
        ..Limits::default()
    };
    let mut replay = Replay::new(limits, 0);
    for topic in 0..topics {
        let name = format!("topic:{topic}");
        for _ in 0..entries {
            replay
                .push(&name, Bytes::from_static(b"x"))
                .expect("in the limits");
        }
    }
    replay
}

/// Many topics with two frames each, or one with a thousand encoded records.
#[derive(Debug)]
pub(crate) struct History {
    replay: Replay,
    names: Vec<String>,
    keys: Vec<TopicKey>,
    random: SeededRandom,
    out: Vec<u8>,
}

impl History {
    /// `topics` topics; a single one gets a thousand records.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub(crate) fn new(topics: usize) -> Self {
        let mut replay = room(topics, 2);
        let names: Vec<String> = (0..topics).map(|n| format!("topic:{n}")).collect();
        if topics == 1 {
            replay = room(1, 1_000);
            let data = RawJsonRef::parse_str(r#"{"id":1,"text":"hello there"}"#).expect("JSON");
            for number in 1_001..=2_000 {
                let record = encode_record(number, "created", data);
                replay.push("topic:0", record).expect("in the limits");
            }
        }
        let keys = names.iter().map(|name| replay.open(name));
        Self {
            keys: keys.map(|key| key.expect("in the limits")).collect(),
            replay,
            names,
            random: SeededRandom::new(1),
            out: Vec::new(),
        }
    }

    fn any(&mut self) -> usize {
        self.random.below(self.names.len() as u64) as usize
    }

    /// One push to any topic.
    ///
    /// # Panics
    /// Never.
    pub(crate) fn push_by_name(&mut self, frame: &Bytes) -> u64 {
        let topic = self.any();
        let pushed = self.replay.push(&self.names[topic], frame.clone());
        pushed.expect("in the limits").number
    }

    /// One push to any topic by its key.
    ///
    /// # Panics
    /// Never.
    pub(crate) fn push_by_key(&mut self, frame: &Bytes) -> u64 {
        let topic = self.any();
        let pushed = self.replay.push_to(self.keys[topic], frame.clone());
        pushed.expect("in the limits").number
    }

    /// Goes through the last `missed` frames.
    pub(crate) fn read(&mut self, missed: u64) -> usize {
        let head = self.replay.head("topic:0");
        let mut bytes = 0;
        if let Some(mut cursor) = self.replay.since("topic:0", head - missed).cursor {
            let _ = self.replay.read_while(&mut cursor, |_, frame| {
                bytes += frame.len();
                true
            });
        }
        bytes
    }

    /// Writes the last `missed` records as frames of the original's protocol.
    pub(crate) fn write(&mut self, missed: u64) -> usize {
        let head = self.replay.head("topic:0");
        self.out.clear();
        if let Some(mut cursor) = self.replay.since("topic:0", head - missed).cursor {
            let _ = self.replay.read_while(&mut cursor, |_, frame| {
                write_msg(&mut self.out, "topic:0", None, frame);
                true
            });
        }
        self.out.len()
    }
}
