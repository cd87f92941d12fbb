//! Changes of one turn, the newest per person.

use hashbrown::HashTable;

use crate::digest::Digest;
use crate::pool::NIL;

/// What is said about a person at the end of the turn.
#[derive(Debug)]
struct Op {
    topic: u32,
    /// The next of the same topic.
    next: u32,
    key: Digest,
    /// Where in `texts` the person's `,"key":record` lies.
    at: usize,
    len: usize,
    is_leave: bool,
}

/// First and last change of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes {
    head: u32,
    tail: u32,
}

impl Changes {
    pub(crate) const NONE: Self = Self {
        head: NIL,
        tail: NIL,
    };

    pub(crate) const fn is_empty(self) -> bool {
        self.head == NIL
    }
}

/// The changes that wait for the end of the turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    ops: Vec<Op>,
    texts: Vec<u8>,
    /// Into `ops`, by topic and key.
    index: HashTable<u32>,
    /// Topics in the order in which they were touched first.
    topics: Vec<u32>,
}

impl Turn {
    /// Notes a change, in the place of an earlier one of the same person.
    pub(crate) fn note(
        &mut self,
        topic: u32,
        changes: &mut Changes,
        key: Digest,
        is_leave: bool,
        text: &[u8],
    ) {
        let is_same = |at: &u32| {
            let op = &self.ops[*at as usize];
            op.key == key && op.topic == topic
        };
        let hash = hash(topic, key);
        if let Some(at) = self.index.find(hash, is_same) {
            let op = &mut self.ops[*at as usize];
            op.is_leave = is_leave;
            if text.len() <= op.len {
                self.texts[op.at..op.at + text.len()].copy_from_slice(text);
            } else {
                op.at = self.texts.len();
                self.texts.extend_from_slice(text);
            }
            op.len = text.len();
            return;
        }
        let at = self.ops.len() as u32;
        self.ops.push(Op {
            topic,
            next: NIL,
            key,
            at: self.texts.len(),
            len: text.len(),
            is_leave,
        });
        self.texts.extend_from_slice(text);
        let ops = &self.ops;
        let rehash = |at: &u32| self::hash(ops[*at as usize].topic, ops[*at as usize].key);
        self.index.insert_unique(hash, at, rehash);
        match self.ops.get_mut(changes.tail as usize) {
            Some(last) => last.next = at,
            None => {
                changes.head = at;
                self.topics.push(topic);
            }
        }
        changes.tail = at;
    }

    /// Writes the data of a topic's diff.
    pub(crate) fn write(&self, changes: Changes, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"joins":{"#);
        self.write_part(changes, false, out);
        out.extend_from_slice(br#"},"leaves":{"#);
        self.write_part(changes, true, out);
        out.extend_from_slice(b"}}");
    }

    fn write_part(&self, changes: Changes, leaves: bool, out: &mut Vec<u8>) {
        let mut at = changes.head;
        let mut first = 1;
        while let Some(op) = self.ops.get(at as usize) {
            if op.is_leave == leaves {
                // The first one goes without its comma.
                out.extend_from_slice(&self.texts[op.at + first..op.at + op.len]);
                first = 0;
            }
            at = op.next;
        }
    }

    /// Bytes that are kept.
    pub(crate) const fn bytes(&self) -> usize {
        self.texts.len() + self.ops.len() * (size_of::<Op>() + 8)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topic that was touched as number `at`.
    pub(crate) fn topic(&self, at: usize) -> Option<u32> {
        self.topics.get(at).copied()
    }

    /// Forgets everything; memory of an unusually busy turn is given back.
    pub(crate) fn clear(&mut self) {
        const KEPT: usize = 4096;
        if self.ops.len() > KEPT || self.texts.len() > KEPT * 64 {
            *self = Self::default();
            return;
        }
        self.ops.clear();
        self.texts.clear();
        self.index.clear();
        self.topics.clear();
    }
}

const fn hash(topic: u32, key: Digest) -> u64 {
    // The key is a keyed fingerprint already.
    key[0] ^ (topic as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
