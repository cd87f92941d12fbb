//! Fast-changing values of connections: pointers, selections.

mod config;
mod measure;
mod message;
mod table;

use core::time::Duration;

use bytes::Bytes;
use millstream_core::{ConnId, Millis, RawJsonRef};

pub use self::config::{CursorConfig, CursorError, CursorStats, Update};
pub use self::message::CursorMessage;
use self::table::{Cursor, Table, queue_links, window_links};
use crate::pool::Ends;
use crate::{Data, Effects};

/// What the tap topic of cursors begins with.
const TAP: &str = "__cursor:";
/// What stands between a connection's prefix and its value.
const DATA: &[u8] = br#","data":"#;

/// The newest value of every connection on every topic, published at a bounded rate.
///
/// The first value goes out at once and opens a window of `throttle`. In it newer values replace
/// each other; at its end the last one goes out and opens the next window. So nobody is told more
/// often than once per window and cursor, and the last value always arrives.
///
/// # Calling contract
/// Times must not run backwards (if they do, they stand still). When
/// [`next_deadline`](Self::next_deadline) has come, call [`handle_timeout`](Self::handle_timeout)
/// before anything else of that instant. Call [`handle_close`](Self::handle_close) for every
/// connection that ended. Viewers need a tap: give it with [`watch`](Self::watch).
///
/// # Frames
/// All on `__cursor:<topic>`:
///
/// | event | to | data |
/// |---|---|---|
/// | `update` | all taps | `{key, user, data}`; without `data` when there is none |
/// | `bulk` | all taps, with a `tick` | `[{key, user, data}, ...]`, to be merged |
/// | `remove` | all taps | `{key}` |
/// | `snapshot` | who asked | `[{key, user, data}, ...]` of all |
///
/// `key` is a number as text, counted from 1, given to a connection with its first update.
///
/// # Cost
/// Update O(value): it is copied once and stands in frames as it came. No allocation while values
/// do not grow. Memory per cursor 96 bytes and the value, per connection 64 and its user data, per
/// topic 120 and its name; a snapshot that is asked for again is kept.
///
/// # Example
/// ```
/// use millstream_core::{ConnId, Millis, RawJsonRef};
/// use millstream_presence::{CursorConfig, Cursors, Effect, Update};
///
/// let mut cursors = Cursors::new(CursorConfig::default());
/// let mut out = Vec::<Effect>::new();
/// let (conn, user) = (ConnId::from_u64(1), RawJsonRef::parse(br#"{"name":"Ann"}"#)?);
/// let mut moves = |at, x: &'static [u8]| {
///     let data = RawJsonRef::parse(x).ok();
///     cursors.update(Millis::from_millis(at), conn, "canvas", data, user, &mut out)
/// };
/// assert_eq!(moves(0, b"1")?, Update::Published);
/// assert_eq!(moves(10, b"2")?, Update::Waiting);
/// assert_eq!(moves(20, b"3")?, Update::Waiting);
///
/// assert_eq!(cursors.next_deadline(), Some(Millis::from_millis(50)));
/// cursors.handle_timeout(Millis::from_millis(50), &mut out);
/// let Some(Effect::Publish { data, .. }) = out.last() else { panic!() };
/// assert_eq!(data.to_vec(), br#"{"key":"1","user":{"name":"Ann"},"data":3}"#);
/// assert_eq!(out.len(), 2);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cursors {
    config: CursorConfig,
    table: Table,
    /// Cursors with an open window, by its end: all windows are equally long.
    cooling: Ends,
    /// Topics with an open window, by its end.
    windows: Ends,
    /// Key of the newest connection.
    number: u64,
    now: Millis,
    stats: CursorStats,
    scratch: Vec<u8>,
}

impl Cursors {
    /// Nobody anywhere.
    #[must_use]
    pub fn new(config: CursorConfig) -> Self {
        Self {
            config,
            table: Table::new(),
            cooling: Ends::EMPTY,
            windows: Ends::EMPTY,
            number: 0,
            now: Millis::ZERO,
            stats: CursorStats::default(),
            scratch: Vec::new(),
        }
    }

    /// A connection has another value on a topic, or none. `user` is its user data, which is
    /// looked at only with its first update.
    ///
    /// # Errors
    /// [`CursorError`] at a limit; nothing was changed.
    pub fn update(
        &mut self,
        now: Millis,
        conn: ConnId,
        topic: &str,
        data: Option<RawJsonRef<'_>>,
        user: RawJsonRef<'_>,
        out: &mut impl Effects,
    ) -> Result<Update, CursorError> {
        self.now = self.now.max(now);
        // A topic that is known by its name has a good one.
        let known = self.table.find_first(conn, topic);
        let is_ignored = match known {
            Some(_) => !self.is_short(data),
            None => !self.would_take(topic, data),
        };
        if is_ignored {
            self.stats.ignored += 1;
            return Ok(Update::Ignored);
        }
        let data = data.map_or(&b""[..], |data| data.as_bytes());
        let admitted = match known {
            Some(cursor) => self.admit_more(cursor, data.len()),
            None => self.admit(conn, topic, data.len(), user),
        };
        let cursor = match admitted {
            Ok(cursor) => cursor,
            Err(error) => {
                self.stats.refused += 1;
                return Err(error);
            }
        };
        self.stats.updates += 1;
        self.table.store(cursor, data);
        match self.config.tick.filter(|tick| !tick.is_zero()) {
            Some(tick) => Ok(self.update_in_window(cursor, tick, out)),
            None => Ok(self.update_throttled(cursor, out)),
        }
    }

    /// Whether an update would be looked at, rather than ignored.
    #[must_use]
    pub fn would_take(&self, topic: &str, data: Option<RawJsonRef<'_>>) -> bool {
        let units_max = self.config.topic_units_max;
        let is_long = topic.len() > units_max
            && (topic.len() > units_max.saturating_mul(3)
                || topic.encode_utf16().count() > units_max);
        !topic.is_empty()
            && !is_long
            && millstream_core::check_event(topic).is_ok()
            && self.is_short(data)
    }

    /// Takes a connection's cursor off one topic; what waits is dropped. Gives whether there was
    /// one. The connection keeps its key.
    pub fn leave(&mut self, conn: ConnId, topic: &str, out: &mut impl Effects) -> bool {
        let found = self.table.find_conn(conn).and_then(|conn| {
            let topic = self.table.find_topic(topic)?;
            self.table.find_cursor(conn, topic)
        });
        if let Some(cursor) = found {
            self.remove(cursor, out);
        }
        found.is_some()
    }

    /// A connection ended: takes its cursors off, in the order in which it used the topics first.
    /// Gives how many. Should it come back it gets a new key.
    ///
    /// # Cost
    /// Linear in its topics.
    pub fn handle_close(&mut self, conn: ConnId, out: &mut impl Effects) -> usize {
        let Some(conn) = self.table.find_conn(conn) else {
            return 0;
        };
        let mut removed = 0;
        while !self.table.conns[conn].cursors.is_empty() {
            self.remove(self.table.conns[conn].cursors.head, out);
            removed += 1;
        }
        self.table.remove_conn(conn);
        removed
    }

    /// Taps a topic for a viewer and sends it all cursors. Topics that no frame can name are
    /// ignored.
    pub fn watch(&mut self, conn: ConnId, topic: &str, out: &mut impl Effects) {
        if millstream_core::check_event(topic).is_ok() {
            out.tap(conn, &[TAP, topic].concat());
            self.snapshot(conn, topic, out);
        }
    }

    /// Ends a viewer's tap.
    pub fn unwatch(&mut self, conn: ConnId, topic: &str, out: &mut impl Effects) {
        if millstream_core::check_event(topic).is_ok() {
            out.untap(conn, &[TAP, topic].concat());
        }
    }

    /// Sends all cursors of a topic to one connection, with their newest values, published or not.
    /// Topics that no frame can name are ignored.
    ///
    /// # Cost
    /// O(1) unless a cursor has moved since the last snapshot; O(cursors of the topic) then.
    pub fn snapshot(&mut self, conn: ConnId, topic: &str, out: &mut impl Effects) {
        const EMPTY: [&[u8]; 1] = [b"[]"];
        let Some(at) = self.table.find_topic(topic) else {
            if millstream_core::check_event(topic).is_ok() {
                let tap = [TAP, topic].concat();
                out.send(conn, &tap, "snapshot", &Data::pieces(&EMPTY));
            }
            return;
        };
        if self.table.topics[at].snapshot.is_none() {
            let mut all = vec![b'['];
            for cursor in self.table.of_topic(Some(at)) {
                if all.len() > 1 {
                    all.push(b',');
                }
                write(&self.table, cursor, &mut all);
            }
            all.push(b']');
            self.table.topics[at].snapshot = Some(all.into());
        }
        let topic = &self.table.topics[at];
        let empty = Bytes::new();
        let all = topic.snapshot.as_ref().unwrap_or(&empty);
        out.send(conn, &topic.tap, "snapshot", &Data::shared(all));
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let cursor = self.table.cursors.get(self.cooling.head);
        let topic = self.table.topics.get(self.windows.head);
        cursor
            .map(|cursor| cursor.due)
            .or_else(|| topic.and_then(|topic| topic.window))
    }

    /// Publishes what has waited until `now`, in the order in which it falls due.
    ///
    /// # Cost
    /// O(1) for each cursor whose window ends. At most `timeout_cursors_max` of them; when there
    /// are more, the deadline stays until a further call has done the rest.
    pub fn handle_timeout(&mut self, now: Millis, out: &mut impl Effects) {
        self.now = self.now.max(now);
        let mut budget = self.config.timeout_cursors_max.max(1);
        while let Some(cursor) = self.table.cursors.get(self.cooling.head)
            && cursor.due <= self.now
            && budget > 0
        {
            budget -= 1;
            let (at, is_waiting) = (self.cooling.head, cursor.is_waiting);
            self.unqueue(at);
            if is_waiting {
                self.publish(at, out);
            }
        }
        while let Some(topic) = self.table.topics.get(self.windows.head)
            && topic.window.is_some_and(|due| due <= self.now)
            && budget > 0
        {
            self.close_window(self.windows.head, &mut budget, out);
        }
    }

    /// Forgets everything; keys count from 1 again. Says nothing to anybody.
    pub fn clear(&mut self) {
        self.table = Table::new();
        self.cooling = Ends::EMPTY;
        self.windows = Ends::EMPTY;
        self.number = 0;
    }

    /// Key, user and newest value of the cursors of a topic, each as `{key, user, data}`, in the
    /// order in which they came.
    pub fn list(&self, topic: &str) -> impl Iterator<Item = Vec<u8>> {
        let cursors = self.table.of_topic(self.table.find_topic(topic));
        cursors.map(|cursor| {
            let mut one = Vec::new();
            write(&self.table, cursor, &mut one);
            one
        })
    }

    /// Whether the connection has a key.
    #[must_use]
    pub fn is_known(&self, conn: ConnId) -> bool {
        self.table.find_conn(conn).is_some()
    }

    /// Cursors on all topics.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.cursors.len()
    }

    /// Whether there are no cursors.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Topics with cursors.
    #[must_use]
    pub const fn topics(&self) -> usize {
        self.table.topics.len()
    }

    /// Connections with a key.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.table.conns.len()
    }

    /// Bytes that count against `bytes_max`: texts as they are, everything else by the size of
    /// its places.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.table.bytes
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> CursorStats {
        self.stats
    }

    /// Finds or creates the cursor.
    fn admit(
        &mut self,
        id: ConnId,
        name: &str,
        data_len: usize,
        user: RawJsonRef<'_>,
    ) -> Result<u32, CursorError> {
        let (conn, topic) = (self.table.find_conn(id), self.table.find_topic(name));
        let pair = conn.zip(topic);
        if let Some(cursor) = pair.and_then(|(conn, topic)| self.table.find_cursor(conn, topic)) {
            return self.admit_more(cursor, data_len);
        }
        let (config, table) = (&self.config, &self.table);
        let limit = config.connections_max;
        if conn.is_none() && table.conns.len() >= limit {
            return Err(CursorError::Connections { limit });
        }
        let limit = config.topics_max;
        if topic.is_none() && table.topics.len() >= limit {
            return Err(CursorError::Topics { limit });
        }
        let limit = config.cursors_max;
        if table.cursors.len() >= limit {
            return Err(CursorError::Cursors { limit });
        }
        self.scratch.clear();
        if conn.is_none() {
            self.config.select.apply(user, &mut self.scratch);
            let (len, limit) = (self.scratch.len(), self.config.user_bytes_max);
            if len > limit {
                return Err(CursorError::User { len, limit });
            }
        }
        let texts = self.scratch.len() + name.len() + data_len;
        self.check_bytes(texts + Table::NEW_BYTES)?;
        let conn = conn.unwrap_or_else(|| {
            self.number += 1;
            self.table.add_conn(id, self.number, &self.scratch)
        });
        let topic = topic.unwrap_or_else(|| self.table.add_topic(name));
        Ok(self.table.add_cursor(conn, topic))
    }

    fn admit_more(&self, cursor: u32, data_len: usize) -> Result<u32, CursorError> {
        let old = self.table.cursors[cursor].data.len();
        self.check_bytes(data_len.saturating_sub(old))?;
        Ok(cursor)
    }

    fn is_short(&self, data: Option<RawJsonRef<'_>>) -> bool {
        data.is_none_or(|data| measure::is_within(data, self.config.data_bytes_max))
    }

    const fn check_bytes(&self, more: usize) -> Result<(), CursorError> {
        let limit = self.config.bytes_max;
        if self.table.bytes.saturating_add(more) > limit {
            return Err(CursorError::Bytes { limit });
        }
        Ok(())
    }

    fn update_throttled(&mut self, at: u32, out: &mut impl Effects) -> Update {
        let cursor = &mut self.table.cursors[at];
        if cursor.is_queued && self.now < cursor.due {
            self.stats.replaced += u64::from(cursor.is_waiting);
            cursor.is_waiting = true;
            return Update::Waiting;
        }
        self.unqueue(at);
        self.publish(at, out);
        Update::Published
    }

    /// Publishes a cursor that is not queued, and opens its window.
    fn publish(&mut self, at: u32, out: &mut impl Effects) {
        self.stats.published += 1;
        self.publish_one(at, out);
        if !self.config.throttle.is_zero() {
            let cursor = &mut self.table.cursors[at];
            cursor.due = self.now + self.config.throttle;
            cursor.is_queued = true;
            self.cooling.push(&mut self.table.cursors, at, queue_links);
        }
    }

    fn publish_one(&self, at: u32, out: &mut impl Effects) {
        let cursor = &self.table.cursors[at];
        let tap = &self.table.topics[cursor.topic].tap;
        let pieces = pieces(&self.table, cursor);
        out.publish(tap, "update", &Data::pieces(&pieces));
    }

    /// With a tick: the first value of an idle topic goes out at once, others are collected.
    fn update_in_window(&mut self, at: u32, tick: Duration, out: &mut impl Effects) -> Update {
        let cursor = &mut self.table.cursors[at];
        let topic_at = cursor.topic;
        let topic = &mut self.table.topics[topic_at];
        if topic.window.is_none() {
            topic.window = Some(self.now + tick);
            self.windows
                .push(&mut self.table.topics, topic_at, window_links);
            self.stats.published += 1;
            self.publish_one(at, out);
            return Update::Published;
        }
        if cursor.is_queued {
            self.stats.replaced += 1;
        } else {
            cursor.is_queued = true;
            topic.moved.push(&mut self.table.cursors, at, queue_links);
        }
        Update::Waiting
    }

    /// Publishes what moved in a topic's window; opens the next one if anything did.
    fn close_window(&mut self, at: u32, budget: &mut usize, out: &mut impl Effects) {
        let room = self.config.bulk_cursors_max.max(1).min(*budget);
        let mut bulk = core::mem::take(&mut self.scratch);
        bulk.clear();
        bulk.push(b'[');
        let mut count = 0;
        while count < room && !self.table.topics[at].moved.is_empty() {
            let cursor = self.table.topics[at].moved.head;
            self.unqueue(cursor);
            if count > 0 {
                bulk.push(b',');
            }
            write(&self.table, &self.table.cursors[cursor], &mut bulk);
            count += 1;
        }
        bulk.push(b']');
        if count > 0 {
            self.stats.published += count as u64;
            let data = [&bulk[..]];
            let tap = &self.table.topics[at].tap;
            out.publish(tap, "bulk", &Data::pieces(&data));
        }
        self.scratch = bulk;
        *budget -= count.max(1);
        if !self.table.topics[at].moved.is_empty() {
            return;
        }
        self.windows
            .unlink(&mut self.table.topics, at, window_links);
        let topic = &mut self.table.topics[at];
        topic.window = None;
        if topic.cursors.is_empty() {
            self.table.remove_topic(at);
        } else if let Some(tick) = self.config.tick.filter(|_| count > 0) {
            topic.window = Some(self.now + tick);
            self.windows.push(&mut self.table.topics, at, window_links);
        }
    }

    fn unqueue(&mut self, at: u32) {
        let cursor = &mut self.table.cursors[at];
        if !cursor.is_queued {
            return;
        }
        cursor.is_queued = false;
        cursor.is_waiting = false;
        let topic = &mut self.table.topics[cursor.topic];
        // With a window the cursor is queued in it, otherwise among those that cool.
        let queue = if topic.window.is_some() {
            &mut topic.moved
        } else {
            &mut self.cooling
        };
        queue.unlink(&mut self.table.cursors, at, queue_links);
    }

    fn remove(&mut self, at: u32, out: &mut impl Effects) {
        self.unqueue(at);
        let cursor = &self.table.cursors[at];
        let (conn, topic) = (cursor.conn, cursor.topic);
        let data = [br#"{"key":"#, self.table.conns[conn].key(), b"}"];
        let tap = &self.table.topics[topic].tap;
        out.publish(tap, "remove", &Data::pieces(&data));
        self.stats.removed += 1;
        self.table.remove_cursor(at);
        let topic_left = &self.table.topics[topic];
        // An open window holds the rate even if everybody left and somebody else comes.
        if topic_left.cursors.is_empty() && topic_left.window.is_none() {
            self.table.remove_topic(topic);
        }
    }
}

/// `{key, user, data}` of a cursor.
fn pieces<'a>(table: &'a Table, cursor: &'a Cursor) -> [&'a [u8]; 4] {
    let prefix = &table.conns[cursor.conn].prefix;
    let before: &[u8] = if cursor.data.is_empty() { b"" } else { DATA };
    [prefix, before, &cursor.data, b"}"]
}

fn write(table: &Table, cursor: &Cursor, out: &mut Vec<u8>) {
    for piece in pieces(table, cursor) {
        out.extend_from_slice(piece);
    }
}
