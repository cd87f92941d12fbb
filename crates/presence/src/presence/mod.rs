//! Rosters: one entry per person and topic, however many connections.

mod config;
mod heartbeat;
mod roster;
mod turn;

use millstream_core::{ConnId, JsonKind, JsonStr, Millis, RawJsonRef, is_system_topic};

pub use self::config::{JoinError, Joined, PresenceConfig, PresenceStats};
use self::heartbeat::Heartbeat;
use self::roster::Rosters;
use self::turn::Turn;
use crate::digest::{Digest, Fingerprint};
use crate::select::key_text;
use crate::{Data, Effects, Snapshot};

/// What the tap topic of a roster begins with.
const TAP: &str = "__presence:";

/// Who is on which topic.
///
/// # Calling contract
/// Call methods for what happens, with a time that does not run backwards. At the end of every
/// turn (after each inbound message, or after a batch of them; but before any timer) call
/// [`end_of_turn`](Self::end_of_turn): it publishes at most one diff per topic. When
/// [`next_deadline`](Self::next_deadline) has come, call [`handle_timeout`](Self::handle_timeout).
/// Call [`handle_close`](Self::handle_close) for every connection that ended, else its person
/// stays.
///
/// # Frames
/// All on `__presence:<topic>`:
///
/// | event | to | data |
/// |---|---|---|
/// | `presence_state` | who joined or observes | `{key: record, ...}` in order of arrival |
/// | `presence_diff` | all taps, when a turn ends | `{joins: {key: record}, leaves: {...}}` |
/// | `heartbeat` | all taps | `[key, ...]` in order of arrival |
///
/// # Cost
/// Join, leave and update O(record), independent of the size of the roster; a snapshot is some
/// reference counts. While a snapshot is held elsewhere, the next change copies some 5 KB (see
/// [`Snapshot`]). Memory per person of one connection on one topic: the record and its key in
/// JSON, and 140 bytes at most. Per topic some 550 bytes. Ropes of rosters that shrink are packed
/// anew a few people at a time, with every join and leave.
///
/// # Example
/// ```
/// use millstream_core::{ConnId, Millis, RawJsonRef};
/// use millstream_presence::{Effect, Joined, Presence, PresenceConfig};
///
/// let mut presence = Presence::new(PresenceConfig::default());
/// let (now, mut out) = (Millis::ZERO, Vec::<Effect>::new());
/// let ann = RawJsonRef::parse(br#"{"id":"ann","name":"Ann"}"#)?;
/// let (tab, other_tab) = (ConnId::from_u64(1), ConnId::from_u64(2));
/// assert_eq!(presence.join(now, tab, "room", ann, &mut out)?, Joined::New);
/// presence.join(now, other_tab, "room", ann, &mut out)?;
/// presence.end_of_turn(&mut out);
/// assert_eq!(presence.count("room"), 1);
///
/// // Two taps, two snapshots, and one diff.
/// let Some(Effect::Publish { topic, event, data }) = out.last() else { panic!() };
/// assert_eq!((&**topic, &**event), ("__presence:room", "presence_diff"));
/// assert_eq!(data.to_vec(), br#"{"joins":{"ann":{"id":"ann","name":"Ann"}},"leaves":{}}"#);
/// assert_eq!(out.len(), 5);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Presence {
    config: PresenceConfig,
    fingerprint: Fingerprint,
    rosters: Rosters,
    turn: Turn,
    heartbeat: Heartbeat,
    /// Number of the last generated key.
    generated: u64,
    stats: PresenceStats,
    scratch: Vec<u8>,
    record: Vec<u8>,
}

impl Presence {
    /// Nobody anywhere.
    #[must_use]
    pub fn new(config: PresenceConfig) -> Self {
        Self {
            fingerprint: Fingerprint::new(config.seed),
            rosters: Rosters::new(),
            turn: Turn::default(),
            heartbeat: Heartbeat::default(),
            generated: 0,
            stats: PresenceStats::default(),
            scratch: Vec::new(),
            record: Vec::new(),
            config,
        }
    }

    /// Puts a connection into the roster of a topic, under the key and with the record selected
    /// from its user data.
    ///
    /// Effects: tap, then `presence_state` to the connection with everybody, itself included; at
    /// the end of the turn the diff, unless the person was there with an equal record. Joining
    /// again and reserved topics do nothing.
    ///
    /// # Errors
    /// [`JoinError`]; nothing was changed.
    pub fn join(
        &mut self,
        now: Millis,
        conn: ConnId,
        topic: &str,
        user: RawJsonRef<'_>,
        out: &mut impl Effects,
    ) -> Result<Joined, JoinError> {
        self.start_heartbeat(now);
        let done = match self.check(conn, topic) {
            Ok(Joined::New) => self.admit(conn, topic, user, out),
            other => other,
        };
        match &done {
            Ok(Joined::New) => self.stats.joins += 1,
            Ok(_) => {}
            Err(_) => self.stats.refused += 1,
        }
        done
    }

    /// What a join would do, as far as it does not depend on the record. For hosts that ask
    /// before they subscribe a connection and join it afterwards.
    ///
    /// # Errors
    /// Those of [`join`](Self::join) that concern topic and limits.
    pub fn check(&self, conn: ConnId, topic: &str) -> Result<Joined, JoinError> {
        let (config, rosters) = (&self.config, &self.rosters);
        if is_system_topic(topic) {
            return Ok(Joined::Reserved);
        }
        if self.is_joined(conn, topic) {
            return Ok(Joined::Already);
        }
        millstream_core::check_event(topic)?;
        if topic.len() > config.topic_bytes_max {
            let limit = config.topic_bytes_max;
            let len = topic.len();
            return Err(JoinError::TopicLength { len, limit });
        }
        let limit = config.connections_max;
        if rosters.conns.len() >= limit && rosters.find_conn(conn).is_none() {
            return Err(JoinError::Connections { limit });
        }
        let limit = config.topics_max;
        if rosters.occupied >= limit && self.count(topic) == 0 {
            return Err(JoinError::Topics { limit });
        }
        let limit = config.members_max;
        if rosters.members.len() >= limit {
            return Err(JoinError::Members { limit });
        }
        Ok(Joined::New)
    }

    /// The person of a joined connection has another record from now on; the diff tells, unless it
    /// is equal. Gives whether it is another one. A connection that has not joined: `false`.
    ///
    /// The key stays, whatever the record says.
    ///
    /// # Errors
    /// [`JoinError`] when the record is none or too long; nothing was changed.
    pub fn update(
        &mut self,
        conn: ConnId,
        topic: &str,
        user: RawJsonRef<'_>,
        out: &mut impl Effects,
    ) -> Result<bool, JoinError> {
        let Some((topic, entry)) = self.entry_of(conn, topic) else {
            return Ok(false);
        };
        let mut text = core::mem::take(&mut self.scratch);
        text.clear();
        let key = self.rosters.key_token(topic, entry).len();
        text.extend_from_slice(&self.rosters.text(topic, entry)[..=key]);
        text.push(b':');
        let record = text.len();
        self.config.select.apply(user, &mut text);
        let done = self.check_record(&text, record).map(|()| {
            let changed = self.renew(topic, entry, &text, record);
            self.flush_if_large(out);
            changed
        });
        self.stats.refused += u64::from(done.is_err());
        self.scratch = text;
        done
    }

    /// Takes a connection off a topic. The last connection of a person takes the person along.
    /// Gives whether it was there. Does not start the heartbeat.
    pub fn leave(&mut self, conn: ConnId, topic: &str, out: &mut impl Effects) -> bool {
        let member = self.rosters.find_member(conn, topic);
        if let Some(member) = member {
            self.leave_member(member, out);
            self.flush_if_large(out);
        }
        member.is_some()
    }

    /// A connection ended: takes it off all its topics, in the order in which it joined them.
    /// Gives how many.
    ///
    /// # Cost
    /// Linear in its topics.
    pub fn handle_close(&mut self, now: Millis, conn: ConnId, out: &mut impl Effects) -> usize {
        self.start_heartbeat(now);
        let mut topics = 0;
        let mut member = self.rosters.first_member(conn);
        while let Some(at) = member {
            member = self.rosters.next_member(at);
            self.leave_member(at, out);
            topics += 1;
        }
        self.flush_if_large(out);
        topics
    }

    /// Lets a connection watch a roster without being on it: tap and `presence_state`. Any topic
    /// will do, the engine does not remember the connection.
    pub fn sync(&mut self, now: Millis, conn: ConnId, topic: &str, out: &mut impl Effects) {
        self.start_heartbeat(now);
        if millstream_core::check_event(topic).is_err() {
            return;
        }
        match self.rosters.find_topic(topic) {
            Some(at) => send_state(
                conn,
                &self.rosters.topics[at].tap,
                &self.snapshot(topic),
                out,
            ),
            None => {
                let tap = format!("{TAP}{topic}");
                send_state(conn, &tap, &self.snapshot(topic), out);
            }
        }
    }

    /// A client asks for a topic. Its tap topic (`__presence:...`) is [`sync`](Self::sync),
    /// everything else [`join`](Self::join).
    ///
    /// # Errors
    /// Those of `join`.
    pub fn handle_subscribe(
        &mut self,
        now: Millis,
        conn: ConnId,
        topic: &str,
        user: RawJsonRef<'_>,
        out: &mut impl Effects,
    ) -> Result<(), JoinError> {
        match topic.strip_prefix(TAP) {
            Some(topic) => self.sync(now, conn, topic, out),
            None => drop(self.join(now, conn, topic, user, out)?),
        }
        Ok(())
    }

    /// A client gave a topic back. Reserved topics are none of ours.
    pub fn handle_unsubscribe(&mut self, conn: ConnId, topic: &str, out: &mut impl Effects) {
        if !is_system_topic(topic) {
            self.leave(conn, topic, out);
        }
    }

    /// Publishes what changed since the last time: one `presence_diff` per topic, in the order in
    /// which topics were touched first, each person once with the newest fact.
    pub fn end_of_turn(&mut self, out: &mut impl Effects) {
        if self.turn.is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(topic) = self.turn.topic(at) {
            at += 1;
            let Some(roster) = self.rosters.topics.get_mut(topic) else {
                continue;
            };
            self.scratch.clear();
            self.turn.write(roster.changes, &mut self.scratch);
            roster.changes = turn::Changes::NONE;
            let data = [&self.scratch[..]];
            out.publish(&roster.tap, "presence_diff", &Data::pieces(&data));
            self.stats.diffs += 1;
            self.rosters.drop_if_idle(topic);
        }
        self.turn.clear();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Millis> {
        self.heartbeat.due
    }

    /// Sends due heartbeats: per topic with anybody on it, in the order in which they came to be.
    ///
    /// # Cost
    /// O(keys) for a topic that changed since its last heartbeat, O(1) otherwise. At most
    /// `heartbeat_topics_max` topics; when there are more, the deadline stays until a further call
    /// has done the rest.
    pub fn handle_timeout(&mut self, now: Millis, out: &mut impl Effects) {
        let Some(period) = self.config.heartbeat.filter(|period| !period.is_zero()) else {
            return;
        };
        let limit = self.config.heartbeat_topics_max.max(1);
        let sent = self
            .heartbeat
            .run(now, period, limit, &mut self.rosters, out);
        self.stats.heartbeats += sent;
    }

    /// Starts the clock of the heartbeats if it stands. The first join, close or sync does it.
    pub fn start_heartbeat(&mut self, now: Millis) {
        if let Some(period) = self.config.heartbeat {
            self.heartbeat.start(now, period);
        }
    }

    /// Forgets everybody, what was to be published, and the numbers of generated keys. Says
    /// nothing to anybody: to undo taps, go through [`members`](Self::members) before.
    pub fn clear(&mut self) {
        self.rosters = Rosters::new();
        self.turn = Turn::default();
        self.heartbeat = Heartbeat::default();
        self.generated = 0;
    }

    /// Whether the connection has joined the topic.
    #[must_use]
    pub fn is_joined(&self, conn: ConnId, topic: &str) -> bool {
        self.rosters.find_member(conn, topic).is_some()
    }

    /// People on a topic.
    #[must_use]
    pub fn count(&self, topic: &str) -> usize {
        let at = self.rosters.find_topic(topic);
        at.map_or(0, |at| self.rosters.topics[at].rope.len())
    }

    /// Keys and records of the people on a topic, in order of arrival.
    pub fn list(&self, topic: &str) -> impl Iterator<Item = (JsonStr<'_>, RawJsonRef<'_>)> {
        let at = self.rosters.find_topic(topic);
        let rope = at.map(|at| &self.rosters.topics[at].rope);
        let texts = rope.into_iter().flat_map(crate::rope::Rope::texts);
        texts.filter_map(|text| {
            let text = core::str::from_utf8(text.get(1..)?).ok()?;
            let (key, rest) = JsonStr::scan(text)?;
            let (record, _) = RawJsonRef::scan_with_depth(rest.get(1..)?, u32::MAX)?;
            Some((key, record))
        })
    }

    /// The roster of a topic as `{key: record, ...}`.
    #[must_use]
    pub fn snapshot(&self, topic: &str) -> Snapshot {
        match self.rosters.find_topic(topic) {
            Some(at) => self.rosters.topics[at].rope.snapshot(),
            None => Snapshot::empty(*b"{}"),
        }
    }

    /// All pairs of connection and topic, in no order.
    pub fn members(&self) -> impl Iterator<Item = (ConnId, &str)> {
        self.rosters.pairs()
    }

    /// Topics with anybody on them.
    #[must_use]
    pub const fn topics(&self) -> usize {
        self.rosters.occupied
    }

    /// Connections on any topic.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.rosters.conns.len()
    }

    /// Bytes that count against `bytes_max`: texts as they are, everything else by the size of
    /// its places.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.rosters.bytes
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> PresenceStats {
        self.stats
    }

    /// The second half of a join: select, find the key, enter.
    fn admit(
        &mut self,
        conn: ConnId,
        topic: &str,
        user: RawJsonRef<'_>,
        out: &mut impl Effects,
    ) -> Result<Joined, JoinError> {
        let at = self.rosters.find_topic(topic);
        let name = match self.config.key.as_str() {
            "" => "id",
            name => name,
        };
        let mut record = core::mem::take(&mut self.record);
        record.clear();
        let id = self.config.select.apply_and_find(user, name, &mut record);
        let done = self.admit_record(conn, topic, at, id, &record, out);
        self.record = record;
        done.map(|()| Joined::New)
    }

    fn admit_record(
        &mut self,
        conn: ConnId,
        topic: &str,
        at: Option<u32>,
        id: Option<RawJsonRef<'_>>,
        record: &[u8],
        out: &mut impl Effects,
    ) -> Result<(), JoinError> {
        let id = id.and_then(|id| Some((id, key_text(id)?)));
        let identity = self.identity(at, id.as_ref().map(|(_, text)| &**text));
        let mut text = core::mem::take(&mut self.scratch);
        text.clear();
        text.push(b',');
        match (&identity, &id) {
            (Identity::Generated { number, .. }, _) => write_generated(&mut text, *number),
            (Identity::Given { .. }, Some((value, key))) => match value.as_json_str() {
                Some(token) if token.plain().is_some() => {
                    text.extend_from_slice(token.raw().as_bytes());
                }
                _ => millstream_core::write_json_str(&mut text, key),
            },
            (Identity::Given { .. }, None) => {}
        }
        text.push(b':');
        let start = text.len();
        text.extend_from_slice(record);
        let done = self.check_record(&text, start);
        if done.is_ok() {
            self.enter(conn, topic, at, &identity, &text, start, out);
        }
        self.scratch = text;
        done
    }

    fn check_record(&self, text: &[u8], record: usize) -> Result<(), JoinError> {
        match text.get(record) {
            // Arrays pass, as in the original.
            Some(b'{' | b'[') => {}
            first => return Err(not_an_object(first.copied())),
        }
        // A rope notes lengths in 32 bits.
        let limit = self.config.record_bytes_max.min(u32::MAX as usize);
        if text.len() > limit {
            let len = text.len();
            return Err(JoinError::Record { len, limit });
        }
        let limit = self.config.bytes_max;
        let needed = text.len() + Rosters::JOIN_BYTES;
        if self.rosters.bytes.saturating_add(needed) > limit {
            return Err(JoinError::Bytes { limit });
        }
        Ok(())
    }

    /// Whose key it is. An id that reads like the generated key of somebody present is not
    /// accepted, and a number is not given out while somebody's id reads like its key.
    fn identity(&mut self, topic: Option<u32>, id: Option<&str>) -> Identity {
        let find = |key| topic.and_then(|topic| self.rosters.find_entry(topic, key));
        if let Some(id) = id {
            let key = self.fingerprint.key(id);
            let entry = find(key);
            if !entry.is_some_and(|entry| self.rosters.entries[entry].generated) {
                return Identity::Given { key, entry };
            }
            self.stats.keys_contested += 1;
        }
        // The step doubles: whoever occupies keys in advance costs a few probes and no more.
        let mut step = 1;
        let mut number = self.generated + 1;
        loop {
            let key = self.fingerprint.key(&format!("__conn:{number}"));
            if find(key).is_none() {
                return Identity::Generated { key, number };
            }
            number += step;
            step *= 2;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one join")]
    fn enter(
        &mut self,
        conn: ConnId,
        topic: &str,
        at: Option<u32>,
        identity: &Identity,
        text: &[u8],
        record: usize,
        out: &mut impl Effects,
    ) {
        let topic = at.unwrap_or_else(|| self.rosters.add_topic(TAP, topic));
        let entry = match *identity {
            Identity::Given {
                entry: Some(entry), ..
            } => {
                self.renew(topic, entry, text, record);
                entry
            }
            Identity::Given { key, entry: None } => self.appear(topic, key, false, text),
            Identity::Generated { key, number } => {
                self.generated = number;
                self.appear(topic, key, true, text)
            }
        };
        self.rosters.add_member(conn, entry);
        let roster = &self.rosters.topics[topic];
        send_state(conn, &roster.tap, &roster.rope.snapshot(), out);
        self.rosters.tidy(topic);
        self.flush_if_large(out);
    }

    fn appear(&mut self, topic: u32, key: Digest, generated: bool, text: &[u8]) -> u32 {
        let entry = self.rosters.add_entry(topic, key, generated, text);
        let changes = &mut self.rosters.topics[topic].changes;
        self.turn.note(topic, changes, key, false, text);
        entry
    }

    /// Replaces the record of somebody present, if it is another one.
    fn renew(&mut self, topic: u32, entry: u32, text: &[u8], record: usize) -> bool {
        let old = self.rosters.text(topic, entry);
        if old == text || self.is_equal(old.get(record..), text.get(record..)) {
            return false;
        }
        let key = self.rosters.entries[entry].key;
        self.rosters.replace_text(topic, entry, text);
        let changes = &mut self.rosters.topics[topic].changes;
        self.turn.note(topic, changes, key, false, text);
        true
    }

    fn is_equal(&self, old: Option<&[u8]>, new: Option<&[u8]>) -> bool {
        let value = |bytes: Option<&[u8]>| {
            let text = core::str::from_utf8(bytes?).ok()?;
            let json = RawJsonRef::parse_str_with_depth(text, u32::MAX).ok()?;
            Some(self.fingerprint.value(json))
        };
        value(old).is_some_and(|old| Some(old) == value(new))
    }

    fn leave_member(&mut self, member: u32, out: &mut impl Effects) {
        let (conn, entry) = self.rosters.remove_member(member);
        let topic = self.rosters.entries[entry].topic;
        self.stats.leaves += 1;
        if self.rosters.entries[entry].count == 0 {
            let key = self.rosters.entries[entry].key;
            let roster = &mut self.rosters.topics[topic];
            let text = roster.rope.text(self.rosters.entries[entry].place);
            self.turn.note(topic, &mut roster.changes, key, true, text);
            if roster.rope.len() == 1 {
                self.heartbeat.step_over(topic, roster.order.next);
            }
            self.rosters.remove_entry(entry);
            self.rosters.tidy(topic);
        }
        out.untap(conn, &self.rosters.topics[topic].tap);
    }

    fn entry_of(&self, conn: ConnId, topic: &str) -> Option<(u32, u32)> {
        let entry = self.rosters.members[self.rosters.find_member(conn, topic)?].entry;
        Some((self.rosters.entries[entry].topic, entry))
    }

    fn flush_if_large(&mut self, out: &mut impl Effects) {
        if self.turn.bytes() > self.config.turn_bytes_max {
            self.stats.early_flushes += 1;
            self.end_of_turn(out);
        }
    }
}

/// Under which key somebody joins.
enum Identity {
    /// An id of the application, and who has it already.
    Given { key: Digest, entry: Option<u32> },
    /// `__conn:<number>`.
    Generated { key: Digest, number: u64 },
}

fn write_generated(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(format!("\"__conn:{number}\"").as_bytes());
}

fn not_an_object(first: Option<u8>) -> JoinError {
    let got = match first {
        Some(b'"') => JsonKind::String,
        Some(b't' | b'f') => JsonKind::Bool,
        Some(b'n') | None => JsonKind::Null,
        Some(_) => JsonKind::Number,
    };
    JoinError::NotAnObject { got }
}

fn send_state(conn: ConnId, tap: &str, snapshot: &Snapshot, out: &mut impl Effects) {
    out.tap(conn, tap);
    out.send(conn, tap, "presence_state", &Data::of_snapshot(snapshot));
}
