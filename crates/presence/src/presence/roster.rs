//! Topics, the people on them, and the connections these have.

use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::ConnId;

use core::hash::BuildHasher;

use super::heartbeat::key_token;
use super::turn::Changes;
use crate::digest::Digest;
use crate::pool::{Ends, Links, NIL, Pool};
use crate::rope::{Place, Rope};

/// A slot of a hash table that holds numbers, at its usual load.
const TABLE_BYTES: usize = 8;

/// One topic. Without people it lives until its last diff was published.
#[derive(Debug)]
pub(super) struct Topic {
    /// The tap topic; the name is what follows the prefix.
    pub(super) tap: Box<str>,
    pub(super) rope: Rope,
    /// People in order of arrival: the same as in the rope.
    people: Ends,
    /// The first one that has not been moved, while the rope moves its texts.
    moving: u32,
    is_moving: bool,
    pub(super) changes: Changes,
    /// Neighbours among the topics that have people.
    pub(super) order: Links,
    /// The keys as sent with the last heartbeat, if nobody came or went since.
    pub(super) keys: Option<bytes::Bytes>,
}

/// One person on one topic.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Digest,
    pub(super) topic: u32,
    /// Connections.
    pub(super) count: u32,
    links: Links,
    pub(super) place: Place,
    pub(super) generated: bool,
}

/// One connection on one topic.
#[derive(Debug)]
pub(super) struct Member {
    conn: u32,
    pub(super) entry: u32,
    links: Links,
}

/// A connection that is on any topic.
#[derive(Debug)]
pub(super) struct Conn {
    id: ConnId,
    members: Ends,
}

const fn entry_links(entry: &mut Entry) -> &mut Links {
    &mut entry.links
}

const fn member_links(member: &mut Member) -> &mut Links {
    &mut member.links
}

const fn order_links(topic: &mut Topic) -> &mut Links {
    &mut topic.order
}

#[derive(Debug)]
pub(super) struct Rosters {
    pub(super) topics: Pool<Topic>,
    pub(super) entries: Pool<Entry>,
    pub(super) members: Pool<Member>,
    pub(super) conns: Pool<Conn>,
    /// Topics that have people, in the order in which they got their first.
    pub(super) order: Ends,
    /// How many these are.
    pub(super) occupied: usize,
    pub(super) bytes: usize,
    by_name: HashTable<u32>,
    by_key: HashTable<u32>,
    by_pair: HashTable<u32>,
    by_conn: HashTable<u32>,
    hasher: DefaultHashBuilder,
    prefix: usize,
}

impl Rosters {
    const ENTRY_BYTES: usize = Pool::<Entry>::PLACE_BYTES + TABLE_BYTES + 4;
    const MEMBER_BYTES: usize = Pool::<Member>::PLACE_BYTES + TABLE_BYTES;
    const CONN_BYTES: usize = Pool::<Conn>::PLACE_BYTES + TABLE_BYTES;
    /// With the three nodes and the leaf of the smallest rope.
    const TOPIC_BYTES: usize = Pool::<Topic>::PLACE_BYTES + TABLE_BYTES + 250;

    /// The most a join adds besides its texts.
    pub(super) const JOIN_BYTES: usize =
        Self::ENTRY_BYTES + Self::MEMBER_BYTES + Self::CONN_BYTES + Self::TOPIC_BYTES;

    pub(super) fn new() -> Self {
        Self {
            topics: Pool::new(),
            entries: Pool::new(),
            members: Pool::new(),
            conns: Pool::new(),
            order: Ends::EMPTY,
            occupied: 0,
            bytes: 0,
            by_name: HashTable::new(),
            by_key: HashTable::new(),
            by_pair: HashTable::new(),
            by_conn: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            prefix: 0,
        }
    }

    pub(super) fn find_topic(&self, name: &str) -> Option<u32> {
        let is_it = |at: &u32| self.topics[*at].tap.get(self.prefix..) == Some(name);
        self.by_name
            .find(self.hasher.hash_one(name), is_it)
            .copied()
    }

    pub(super) fn find_conn(&self, id: ConnId) -> Option<u32> {
        let is_it = |at: &u32| self.conns[*at].id == id;
        self.by_conn.find(self.hasher.hash_one(id), is_it).copied()
    }

    pub(super) fn find_entry(&self, topic: u32, key: Digest) -> Option<u32> {
        let is_it = |at: &u32| {
            let entry = &self.entries[*at];
            entry.key == key && entry.topic == topic
        };
        self.by_key.find(key_hash(topic, key), is_it).copied()
    }

    pub(super) fn find_member(&self, conn: ConnId, topic: &str) -> Option<u32> {
        let conn = self.find_conn(conn)?;
        let topic = self.find_topic(topic)?;
        // Most connections are on one topic.
        let first = self.conns[conn].members.head;
        if self.entries[self.members[first].entry].topic == topic {
            return Some(first);
        }
        let is_it = |at: &u32| {
            let member = &self.members[*at];
            member.conn == conn && self.entries[member.entry].topic == topic
        };
        let hash = self.hasher.hash_one((conn, topic));
        self.by_pair.find(hash, is_it).copied()
    }

    /// The topic a connection joined first.
    pub(super) fn first_member(&self, conn: ConnId) -> Option<u32> {
        self.find_conn(conn)
            .map(|conn| self.conns[conn].members.head)
    }

    /// The topic the same connection joined next.
    pub(super) fn next_member(&self, member: u32) -> Option<u32> {
        let next = self.members[member].links.next;
        (next != NIL).then_some(next)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (ConnId, &str)> {
        self.by_pair.iter().map(|at| {
            let member = &self.members[*at];
            let topic = &self.topics[self.entries[member.entry].topic];
            (self.conns[member.conn].id, &topic.tap[self.prefix..])
        })
    }

    pub(super) fn text(&self, topic: u32, entry: u32) -> &[u8] {
        self.topics[topic].rope.text(self.entries[entry].place)
    }

    pub(super) fn key_token(&self, topic: u32, entry: u32) -> &[u8] {
        key_token(self.text(topic, entry))
    }

    pub(super) fn add_topic(&mut self, prefix: &str, name: &str) -> u32 {
        self.prefix = prefix.len();
        let at = self.topics.insert(Topic {
            tap: [prefix, name].concat().into(),
            rope: Rope::new(*b"{}"),
            people: Ends::EMPTY,
            moving: NIL,
            is_moving: false,
            changes: Changes::NONE,
            order: Links::NONE,
            keys: None,
        });
        self.bytes += Self::TOPIC_BYTES + prefix.len() + name.len();
        let (topics, hasher) = (&self.topics, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(&topics[*at].tap[prefix.len()..]);
        self.by_name
            .insert_unique(hasher.hash_one(name), at, rehash);
        at
    }

    /// Forgets a topic that has neither people nor changes to publish.
    pub(super) fn drop_if_idle(&mut self, at: u32) {
        let topic = &self.topics[at];
        if topic.rope.len() > 0 || !topic.changes.is_empty() {
            return;
        }
        let hash = self.hasher.hash_one(&topic.tap[self.prefix..]);
        self.bytes -= Self::TOPIC_BYTES + topic.tap.len();
        remove(&mut self.by_name, hash, at);
        self.topics.remove(at);
    }

    pub(super) fn add_entry(&mut self, at: u32, key: Digest, generated: bool, text: &[u8]) -> u32 {
        let topic = &mut self.topics[at];
        topic.keys = None;
        let is_first = topic.rope.len() == 0;
        let place = topic.rope.push(text);
        let entry = self.entries.insert(Entry {
            key,
            topic: at,
            count: 0,
            links: Links::NONE,
            place,
            generated,
        });
        topic.people.push(&mut self.entries, entry, entry_links);
        if topic.is_moving && topic.moving == NIL {
            topic.moving = entry;
        }
        if is_first {
            self.order.push(&mut self.topics, at, order_links);
            self.occupied += 1;
        }
        self.bytes += Self::ENTRY_BYTES + text.len();
        let entries = &self.entries;
        let rehash = |at: &u32| key_hash(entries[*at].topic, entries[*at].key);
        self.by_key.insert_unique(key_hash(at, key), entry, rehash);
        entry
    }

    /// Takes out a person without connections.
    pub(super) fn remove_entry(&mut self, at: u32) {
        let entry = &self.entries[at];
        let (key, topic_at, next, place) = (entry.key, entry.topic, entry.links.next, entry.place);
        let topic = &mut self.topics[topic_at];
        topic.keys = None;
        self.bytes -= Self::ENTRY_BYTES + topic.rope.text(place).len();
        topic.rope.remove(place);
        if topic.moving == at {
            topic.moving = next;
        }
        topic.people.unlink(&mut self.entries, at, entry_links);
        if topic.rope.len() == 0 {
            self.order.unlink(&mut self.topics, topic_at, order_links);
            self.occupied -= 1;
        }
        remove(&mut self.by_key, key_hash(topic_at, key), at);
        self.entries.remove(at);
    }

    pub(super) fn replace_text(&mut self, topic: u32, entry: u32, text: &[u8]) {
        let rope = &mut self.topics[topic].rope;
        let place = self.entries[entry].place;
        self.bytes = self.bytes - rope.text(place).len() + text.len();
        rope.replace(place, text);
    }

    pub(super) fn add_member(&mut self, id: ConnId, entry: u32) {
        let conn = self.find_conn(id).unwrap_or_else(|| self.add_conn(id));
        self.entries[entry].count += 1;
        let member = self.members.insert(Member {
            conn,
            entry,
            links: Links::NONE,
        });
        let list = &mut self.conns[conn].members;
        list.push(&mut self.members, member, member_links);
        self.bytes += Self::MEMBER_BYTES;
        let (members, entries, hasher) = (&self.members, &self.entries, &self.hasher);
        let rehash = |at: &u32| {
            let member = &members[*at];
            hasher.hash_one((member.conn, entries[member.entry].topic))
        };
        let hash = hasher.hash_one((conn, entries[entry].topic));
        self.by_pair.insert_unique(hash, member, rehash);
    }

    /// Ends a membership. Gives its connection and person; the person's entry stays.
    pub(super) fn remove_member(&mut self, at: u32) -> (ConnId, u32) {
        let Member { conn, entry, .. } = self.members[at];
        let hash = self.hasher.hash_one((conn, self.entries[entry].topic));
        remove(&mut self.by_pair, hash, at);
        self.entries[entry].count -= 1;
        let list = &mut self.conns[conn].members;
        list.unlink(&mut self.members, at, member_links);
        let is_last = list.is_empty();
        self.members.remove(at);
        self.bytes -= Self::MEMBER_BYTES;
        let id = self.conns[conn].id;
        if is_last {
            remove(&mut self.by_conn, self.hasher.hash_one(id), conn);
            self.conns.remove(conn);
            self.bytes -= Self::CONN_BYTES;
        }
        (id, entry)
    }

    /// Does a little of what keeps a rope free of holes.
    pub(super) fn tidy(&mut self, at: u32) {
        const STEPS: usize = 4;
        let topic = &mut self.topics[at];
        if !topic.is_moving {
            if !topic.rope.is_wasteful() {
                return;
            }
            topic.is_moving = true;
            topic.moving = topic.people.head;
        }
        for _ in 0..STEPS {
            let Some(entry) = self.entries.get_mut(topic.moving) else {
                topic.rope.finish();
                topic.is_moving = false;
                return;
            };
            entry.place = topic.rope.shift(entry.place);
            topic.moving = entry.links.next;
        }
    }

    fn add_conn(&mut self, id: ConnId) -> u32 {
        let conn = self.conns.insert(Conn {
            id,
            members: Ends::EMPTY,
        });
        self.bytes += Self::CONN_BYTES;
        let (conns, hasher) = (&self.conns, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(conns[*at].id);
        self.by_conn
            .insert_unique(hasher.hash_one(id), conn, rehash);
        conn
    }
}

fn remove(table: &mut HashTable<u32>, hash: u64, at: u32) {
    if let Ok(found) = table.find_entry(hash, |other| *other == at) {
        found.remove();
    }
}

const fn key_hash(topic: u32, key: Digest) -> u64 {
    // The key is a keyed fingerprint already.
    key[0] ^ (topic as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

// What the documentation promises.
const _: () = assert!(Rosters::MEMBER_BYTES <= 32);
const _: () = assert!(Rosters::ENTRY_BYTES <= 64);
const _: () = assert!(Rosters::CONN_BYTES <= 40);
const _: () = assert!(Rosters::TOPIC_BYTES <= 560);
