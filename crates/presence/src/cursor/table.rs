//! Connections, topics and their cursors.

use core::hash::BuildHasher;

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use millstream_core::{ConnId, Millis};

use super::TAP;
use crate::pool::{Ends, Links, NIL, Pool};

const TABLE_BYTES: usize = 8;

/// A connection that has moved anywhere.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    /// `{"key":"1","user":...`: what stands before the value in every frame.
    pub(super) prefix: Box<[u8]>,
    /// Length of the key in it, quotes included.
    key_len: u8,
    pub(super) cursors: Ends,
}

impl Conn {
    /// The key as a JSON string.
    pub(super) fn key(&self) -> &[u8] {
        const BEFORE: usize = br#"{"key":"#.len();
        &self.prefix[BEFORE..BEFORE + usize::from(self.key_len)]
    }
}

/// A topic with cursors.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) tap: Box<str>,
    pub(super) cursors: Ends,
    /// All cursors as a JSON array, if none has moved since.
    pub(super) snapshot: Option<Bytes>,
    /// With a tick: the window in which changes are collected, if one is open.
    pub(super) window: Option<Millis>,
    /// Cursors that moved in the window.
    pub(super) moved: Ends,
    pub(super) window_links: Links,
}

/// One connection on one topic.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) conn: u32,
    pub(super) topic: u32,
    in_topic: Links,
    in_conn: Links,
    /// Neighbours among the cursors whose window is open, or that moved in the topic's window.
    pub(super) queue: Links,
    /// When its window ends.
    pub(super) due: Millis,
    pub(super) is_queued: bool,
    pub(super) is_waiting: bool,
    /// The value; without bytes when there is none.
    pub(super) data: Vec<u8>,
}

pub(super) const fn queue_links(cursor: &mut Cursor) -> &mut Links {
    &mut cursor.queue
}

pub(super) const fn window_links(topic: &mut Topic) -> &mut Links {
    &mut topic.window_links
}

const fn topic_links(cursor: &mut Cursor) -> &mut Links {
    &mut cursor.in_topic
}

const fn conn_links(cursor: &mut Cursor) -> &mut Links {
    &mut cursor.in_conn
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) conns: Pool<Conn>,
    pub(super) topics: Pool<Topic>,
    pub(super) cursors: Pool<Cursor>,
    pub(super) bytes: usize,
    by_conn: HashTable<u32>,
    by_name: HashTable<u32>,
    by_pair: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Table {
    const CONN_BYTES: usize = Pool::<Conn>::PLACE_BYTES + TABLE_BYTES;
    const TOPIC_BYTES: usize = Pool::<Topic>::PLACE_BYTES + TABLE_BYTES;
    const CURSOR_BYTES: usize = Pool::<Cursor>::PLACE_BYTES + TABLE_BYTES;
    /// The most a new cursor adds besides its texts.
    pub(super) const NEW_BYTES: usize = Self::CONN_BYTES + Self::TOPIC_BYTES + Self::CURSOR_BYTES;

    pub(super) fn new() -> Self {
        Self {
            conns: Pool::new(),
            topics: Pool::new(),
            cursors: Pool::new(),
            bytes: 0,
            by_conn: HashTable::new(),
            by_name: HashTable::new(),
            by_pair: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(super) fn find_conn(&self, id: ConnId) -> Option<u32> {
        let is_it = |at: &u32| self.conns[*at].id == id;
        self.by_conn.find(self.hasher.hash_one(id), is_it).copied()
    }

    pub(super) fn find_topic(&self, name: &str) -> Option<u32> {
        let is_it = |at: &u32| &self.topics[*at].tap[TAP.len()..] == name;
        self.by_name
            .find(self.hasher.hash_one(name), is_it)
            .copied()
    }

    /// The connection's cursor, if the topic is the one it used first: most use only one.
    pub(super) fn find_first(&self, conn: ConnId, topic: &str) -> Option<u32> {
        let first = self.conns[self.find_conn(conn)?].cursors.head;
        let tap = &self.topics[self.cursors.get(first)?.topic].tap;
        (&tap[TAP.len()..] == topic).then_some(first)
    }

    pub(super) fn find_cursor(&self, conn: u32, topic: u32) -> Option<u32> {
        // Most connections are on one topic.
        let first = self.conns[conn].cursors.head;
        if self
            .cursors
            .get(first)
            .is_some_and(|cursor| cursor.topic == topic)
        {
            return Some(first);
        }
        let is_it = |at: &u32| {
            let cursor = &self.cursors[*at];
            cursor.conn == conn && cursor.topic == topic
        };
        let hash = self.hasher.hash_one((conn, topic));
        self.by_pair.find(hash, is_it).copied()
    }

    pub(super) fn add_conn(&mut self, id: ConnId, number: u64, user: &[u8]) -> u32 {
        let key = format!("\"{number}\"");
        let parts = [br#"{"key":"#, key.as_bytes(), br#","user":"#, user];
        let prefix: Box<[u8]> = parts.concat().into();
        self.bytes += Self::CONN_BYTES + prefix.len();
        let at = self.conns.insert(Conn {
            id,
            prefix,
            // A number has twenty digits at most.
            key_len: key.len() as u8,
            cursors: Ends::EMPTY,
        });
        let (conns, hasher) = (&self.conns, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(conns[*at].id);
        self.by_conn.insert_unique(hasher.hash_one(id), at, rehash);
        at
    }

    pub(super) fn add_topic(&mut self, name: &str) -> u32 {
        let at = self.topics.insert(Topic {
            tap: [TAP, name].concat().into(),
            cursors: Ends::EMPTY,
            snapshot: None,
            window: None,
            moved: Ends::EMPTY,
            window_links: Links::NONE,
        });
        self.bytes += Self::TOPIC_BYTES + TAP.len() + name.len();
        let (topics, hasher) = (&self.topics, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one(&topics[*at].tap[TAP.len()..]);
        self.by_name
            .insert_unique(hasher.hash_one(name), at, rehash);
        at
    }

    pub(super) fn add_cursor(&mut self, conn: u32, topic: u32) -> u32 {
        let at = self.cursors.insert(Cursor {
            conn,
            topic,
            in_topic: Links::NONE,
            in_conn: Links::NONE,
            queue: Links::NONE,
            due: Millis::ZERO,
            is_queued: false,
            is_waiting: false,
            data: Vec::new(),
        });
        self.bytes += Self::CURSOR_BYTES;
        let list = &mut self.topics[topic].cursors;
        list.push(&mut self.cursors, at, topic_links);
        let list = &mut self.conns[conn].cursors;
        list.push(&mut self.cursors, at, conn_links);
        let (cursors, hasher) = (&self.cursors, &self.hasher);
        let rehash = |at: &u32| hasher.hash_one((cursors[*at].conn, cursors[*at].topic));
        let hash = hasher.hash_one((conn, topic));
        self.by_pair.insert_unique(hash, at, rehash);
        at
    }

    pub(super) fn store(&mut self, at: u32, data: &[u8]) {
        let cursor = &mut self.cursors[at];
        self.bytes = self.bytes - cursor.data.len() + data.len();
        // Memory of a value that was much larger is given back.
        if cursor.data.capacity() > 256 && cursor.data.capacity() / 4 > data.len() {
            cursor.data = Vec::new();
        }
        cursor.data.clear();
        cursor.data.extend_from_slice(data);
        self.topics[cursor.topic].snapshot = None;
    }

    /// Takes out a cursor that is in no queue. Its topic stays, even if it was the last one.
    pub(super) fn remove_cursor(&mut self, at: u32) {
        let Cursor { conn, topic, .. } = self.cursors[at];
        remove(&mut self.by_pair, self.hasher.hash_one((conn, topic)), at);
        let list = &mut self.conns[conn].cursors;
        list.unlink(&mut self.cursors, at, conn_links);
        let list = &mut self.topics[topic].cursors;
        list.unlink(&mut self.cursors, at, topic_links);
        self.topics[topic].snapshot = None;
        self.bytes -= Self::CURSOR_BYTES + self.cursors[at].data.len();
        self.cursors.remove(at);
    }

    /// Forgets a topic without cursors and without window.
    pub(super) fn remove_topic(&mut self, at: u32) {
        let topic = &self.topics[at];
        let hash = self.hasher.hash_one(&topic.tap[TAP.len()..]);
        self.bytes -= Self::TOPIC_BYTES + topic.tap.len();
        remove(&mut self.by_name, hash, at);
        self.topics.remove(at);
    }

    /// Forgets a connection without cursors.
    pub(super) fn remove_conn(&mut self, at: u32) {
        let conn = &self.conns[at];
        self.bytes -= Self::CONN_BYTES + conn.prefix.len();
        remove(&mut self.by_conn, self.hasher.hash_one(conn.id), at);
        self.conns.remove(at);
    }

    /// The cursors of a topic in the order in which they came.
    pub(super) fn of_topic(&self, topic: Option<u32>) -> impl Iterator<Item = &Cursor> {
        let mut at = topic.map_or(NIL, |topic| self.topics[topic].cursors.head);
        core::iter::from_fn(move || {
            let cursor = self.cursors.get(at)?;
            at = cursor.in_topic.next;
            Some(cursor)
        })
    }
}

fn remove(table: &mut HashTable<u32>, hash: u64, at: u32) {
    if let Ok(found) = table.find_entry(hash, |other| *other == at) {
        found.remove();
    }
}

// What the documentation promises.
const _: () = assert!(Table::CURSOR_BYTES <= 96);
const _: () = assert!(Table::CONN_BYTES <= 64);
const _: () = assert!(Table::TOPIC_BYTES <= 120);
