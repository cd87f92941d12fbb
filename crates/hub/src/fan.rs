//! Collecting output: events into their topic's lanes, frames for one connection into the arena.

use core::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use millstream_core::{Key, RawJsonRef, TopicId};
use millstream_wire as wire;

use crate::Hub;
use crate::backlog::Audience;
use crate::coalesce::{Entry, Slot};
use crate::hub::{Conn, Source};
use crate::publish::{Delivery, Member};
use crate::turn::{ChunkKey, Direct, Shared};

/// What became of a frame for one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// The connection is behind; the newest value of this key waits.
    Coalesced,
    /// The connection's backlog is full; the frame was dropped and counted.
    Dropped,
    /// There is no such connection, or it is closing.
    Gone,
    /// It leaves with the next flush.
    Queued,
}

/// Where a frame for one connection lies in the arena.
struct Placed {
    /// What else the connection gets in this turn, or `NO_TURN`.
    turn: u32,
    start: u32,
    end: u32,
}

impl Conn {
    #[inline]
    fn count_sent(&mut self, frame: Range<usize>) -> Placed {
        self.messages_out += 1;
        self.bytes_out += frame.len() as u64;
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Placed {
            turn: self.turn,
            start: offset(frame.start),
            end: offset(frame.end),
        }
    }
}

impl Hub {
    /// Takes what another thread published into this hub's batches.
    pub fn deliver(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Event {
                topic,
                ordinal,
                frame,
                volatile,
            } => {
                if let Some(index) = self.index_of(*topic) {
                    self.append(index, *ordinal, *volatile, &|out: &mut Vec<u8>| {
                        out.extend_from_slice(frame)
                    });
                }
            }
            Delivery::Batch(members) => self.deliver_batch(members),
            Delivery::Keyed {
                topic,
                ordinal,
                frame,
                key,
            } => {
                if let Some(index) = self.index_of(*topic) {
                    self.append_keyed(index, *ordinal, key.clone(), &|out: &mut Vec<u8>| {
                        out.extend_from_slice(frame)
                    });
                }
            }
        }
        self.taken += 1;
        if !self.newcomers.is_empty() {
            self.let_newcomers_in();
        }
    }

    /// Sends an event to one connection. No subscription is needed, no number is taken.
    pub fn send(&mut self, conn: Key, topic: &str, event: &str, data: RawJsonRef<'_>) -> Sent {
        self.guarded(conn, |out| wire::encode_send(out, topic, event, data))
    }

    /// Sends an event that the client waits for, like the reply to a call: a slow reader gets it,
    /// too. A connection with more than `control_bytes_max` unsent bytes beyond
    /// `backlog_bytes_max` is closed instead.
    pub fn reply(&mut self, conn: Key, topic: &str, event: &str, data: RawJsonRef<'_>) -> Sent {
        self.control(conn, |out| wire::encode_send(out, topic, event, data))
    }

    /// The same for the success of a call, see [`wire::encode_success`].
    pub fn reply_success(
        &mut self,
        conn: Key,
        id: RawJsonRef<'_>,
        data: Option<RawJsonRef<'_>>,
    ) -> Sent {
        self.control(conn, |out| wire::encode_success(out, id, data))
    }

    /// Sends a text message of the application's own making.
    pub fn send_text(&mut self, conn: Key, text: &str) -> Sent {
        self.guarded(conn, |out| wire::encode_text(out, text.as_bytes()))
    }

    /// Sends a binary message. Browsers with the original client ignore those.
    pub fn send_binary(&mut self, conn: Key, bytes: &[u8]) -> Sent {
        self.guarded(conn, |out| wire::encode_binary(out, bytes))
    }

    /// Sends an event of which only the newest per `key` matters. With nothing in the way it
    /// goes out like [`send`](Self::send); behind a backlog it waits, and a newer value takes
    /// its place.
    pub fn send_coalesced(
        &mut self,
        conn: Key,
        key: &str,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
    ) -> Sent {
        let behind = match self.conns.get(conn) {
            None => return Sent::Gone,
            Some(state) if state.closing => return Sent::Gone,
            Some(state) => {
                let waiting = state
                    .extra
                    .as_ref()
                    .is_some_and(|extra| !extra.coalesced.is_empty());
                state.backlog.is_some() || waiting
            }
        };
        if !behind {
            return self.send(conn, topic, event, data);
        }
        let mut frame = Vec::new();
        wire::encode_send(&mut frame, topic, event, data);
        let slot = Slot {
            topic: None,
            key: key.into(),
        };
        let frame = Bytes::from(frame);
        let bounds = self.config.bounds();
        if let Some(extra) = self.extra_or_new(conn) {
            let lost = extra.keep_coalesced(Entry { slot, frame }, bounds);
            self.tally.dropped_coalesced += lost;
        }
        Sent::Coalesced
    }

    /// Sends a protocol ping.
    pub fn ping(&mut self, conn: Key) {
        self.control(conn, wire::encode_ping);
    }

    /// Answers a ping.
    pub fn pong(&mut self, conn: Key, payload: &[u8]) {
        self.control(conn, |out| wire::encode_pong(out, payload));
    }

    /// Sends the text message that keeps browsers from taking a quiet connection for dead.
    pub fn keepalive(&mut self, conn: Key) {
        self.control(conn, wire::encode_keepalive);
    }

    /// Adds one event to its topic's batch. Gives the bytes added.
    pub(crate) fn append(
        &mut self,
        index: u32,
        ordinal: u64,
        volatile: bool,
        encode: &impl Fn(&mut Vec<u8>),
    ) -> usize {
        self.admit_before(index, ordinal);
        let stamp = self.stamp(Source::Topic { index, volatile });
        let at = self.output_of(index);
        let local = &mut self.local[index as usize];
        let mut bytes = 0;
        for (lane, subs) in self.outputs[at].lanes.iter_mut().zip(&local.subs) {
            if !subs.is_empty() {
                lane.lend(&mut self.pool);
                bytes = lane.append(stamp, volatile, 1, encode);
                self.turn_bytes += bytes;
            }
        }
        if !local.held().is_empty() {
            let bytes_max = self.config.limits.hold_bytes_max;
            bytes = local.hold_back(ordinal, encode, bytes_max, &mut self.tally);
        }
        bytes
    }

    /// The same for an event that replaces others for connections that are behind.
    pub(crate) fn append_keyed(
        &mut self,
        index: u32,
        ordinal: u64,
        key: Option<Arc<str>>,
        encode: &impl Fn(&mut Vec<u8>),
    ) -> usize {
        let volatile = false;
        let stamp = self.stamp(Source::Topic { index, volatile });
        let hold_bytes_max = self.config.limits.hold_bytes_max;
        let key = key.map_or(ChunkKey::All, ChunkKey::Same);
        let at = self.output_of(index);
        let local = &mut self.local[index as usize];
        let mut bytes = 0;
        for (lane, subs) in self.outputs[at].lanes.iter_mut().zip(&local.subs) {
            if !subs.is_empty() {
                lane.lend(&mut self.pool);
                bytes = lane.append_keyed(stamp, key.clone(), encode);
                self.turn_bytes += bytes;
            }
        }
        bytes.max(local.hold_back(ordinal, encode, hold_bytes_max, &mut self.tally))
    }

    /// Adds a frame that must not be lost: control frames, replies, gap marks.
    #[inline]
    pub(crate) fn control(&mut self, conn: Key, encode: impl FnOnce(&mut Vec<u8>)) -> Sent {
        match self.conns.get_mut(conn).filter(|state| !state.closing) {
            None => Sent::Gone,
            Some(state) => {
                let start = self.arena.len();
                encode(&mut self.arena);
                let placed = state.count_sent(start..self.arena.len());
                self.place(conn.index, &placed);
                Sent::Queued
            }
        }
    }

    /// Adds a frame of the application, unless the connection is too far behind.
    fn guarded(&mut self, conn: Key, encode: impl FnOnce(&mut Vec<u8>)) -> Sent {
        let behind = match self.conns.get(conn) {
            None => return Sent::Gone,
            Some(state) if state.closing => return Sent::Gone,
            Some(state) => state.backlog.is_some(),
        };
        let waiting = if behind { self.pending(conn) } else { 0 };
        let start = self.arena.len();
        encode(&mut self.arena);
        let bytes = self.arena.len() - start;
        if behind && waiting + bytes > self.config.limits.backlog_bytes_max {
            self.arena.truncate(start);
            self.tally.dropped_direct += 1;
            return Sent::Dropped;
        }
        let end = self.arena.len();
        if let Some(state) = self.conns.get_mut(conn) {
            let placed = state.count_sent(start..end);
            self.place(conn.index, &placed);
        }
        Sent::Queued
    }

    /// Gives what was just written to the arena to a connection.
    #[inline]
    fn place(&mut self, conn: u32, placed: &Placed) {
        let Placed { turn, start, end } = *placed;
        self.turn_bytes += (end - start) as usize;
        let stamp = self.stamp(Source::Conn(conn));
        let turn = self.turns.get_mut(turn as usize);
        match turn.and_then(|turn| turn.direct.last_mut()) {
            // With the stamp of the connection's last frame, nothing came between: one piece.
            Some(last) if last.stamp == stamp && last.end == start => last.end = end,
            _ => self.turn_of(conn).direct.push(Direct { stamp, start, end }),
        }
    }

    /// One batched publish: single frames for connections without the capability, batch
    /// frames with exactly the members a connection holds for the others.
    pub(crate) fn deliver_batch(&mut self, members: &[Member]) {
        let mut involved: Vec<u32> = Vec::new();
        let mut seen = hashbrown::HashSet::new();
        for member in members {
            let Some(index) = self.index_of(member.topic) else {
                continue;
            };
            self.admit_before(index, member.ordinal);
            self.append_single(index, member);
            if self.local[index as usize].topic.policy().volatile {
                // It has to be possible to skip it alone.
                self.append_lane(index, 1, 1, |out| out.extend_from_slice(&member.frame));
            } else if seen.insert(index) {
                involved.push(index);
            }
        }
        let several = involved.len() > 1 && self.some_hold_several(&involved);
        if several && involved.len() <= GROUP_TOPICS_MAX {
            self.append_groups(members, &involved);
        } else if several {
            for member in members {
                let index = self
                    .index_of(member.topic)
                    .filter(|index| seen.contains(index));
                if let Some(index) = index {
                    self.append_lane(index, 1, 1, |out| out.extend_from_slice(&member.frame));
                }
            }
        } else {
            for index in involved {
                let id = self.local[index as usize].topic.id();
                let own: Vec<&[u8]> = members
                    .iter()
                    .filter(|m| m.topic == id)
                    .map(Member::json)
                    .collect();
                for part in split(&own) {
                    let frames = u32::try_from(part.len()).unwrap_or(u32::MAX);
                    let encode = |out: &mut Vec<u8>| wire::encode_batch(out, part.iter().copied());
                    self.append_lane(index, 1, frames, encode);
                }
            }
        }
    }

    /// A member for connections without the capability and for those that are held back.
    fn append_single(&mut self, index: u32, member: &Member) {
        self.append_lane(index, 0, 1, |out| out.extend_from_slice(&member.frame));
        let limit = self.config.limits.hold_bytes_max;
        for held in self.local[index as usize].held_mut() {
            held.push(member.ordinal, member.frame.clone(), limit, &mut self.tally);
        }
    }

    fn append_lane(
        &mut self,
        index: u32,
        lane: usize,
        frames: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let volatile = self.local[index as usize].topic.policy().volatile;
        let stamp = self.stamp(Source::Topic { index, volatile });
        if self.local[index as usize].subs[lane].is_empty() {
            return;
        }
        let at = self.output_of(index);
        let lane = &mut self.outputs[at].lanes[lane];
        lane.lend(&mut self.pool);
        self.turn_bytes += lane.append(stamp, volatile, frames, encode);
    }

    fn some_hold_several(&self, involved: &[u32]) -> bool {
        let lanes = || {
            involved
                .iter()
                .map(|i| self.local[*i as usize].subs[1].as_slice())
        };
        let Some(largest) = lanes().map(<[u32]>::len).max() else {
            return false;
        };
        if lanes().filter(|subs| !subs.is_empty()).count() < 2 || largest == 0 {
            return false;
        }
        let mut seen = hashbrown::HashSet::new();
        lanes().flatten().any(|conn| !seen.insert(*conn))
    }

    /// Builds one frame per set of topics that some connection holds.
    fn append_groups(&mut self, members: &[Member], involved: &[u32]) {
        let mut masks: HashMap<u32, u64> = HashMap::new();
        for (bit, index) in involved.iter().enumerate() {
            for conn in self.local[*index as usize].subs[1].as_slice() {
                *masks.entry(*conn).or_default() |= 1 << bit;
            }
        }
        let mut groups: HashMap<u64, Vec<u32>> = HashMap::new();
        for (conn, mask) in masks {
            groups.entry(mask).or_default().push(conn);
        }
        let places: HashMap<TopicId, usize> = involved
            .iter()
            .enumerate()
            .map(|(bit, index)| (self.local[*index as usize].topic.id(), bit))
            .collect();
        for (mask, conns) in groups {
            let wanted: Vec<(&[u8], usize)> = members
                .iter()
                .filter_map(|member| Some((member.json(), *places.get(&member.topic)?)))
                .filter(|(_, bit)| mask & (1 << bit) != 0)
                .collect();
            let jsons: Vec<&[u8]> = wanted.iter().map(|(json, _)| *json).collect();
            let mut from = 0;
            for part in split(&jsons) {
                let mut frame = Vec::new();
                wire::encode_batch(&mut frame, part.iter().copied());
                let bits = wanted
                    .iter()
                    .skip(from)
                    .take(part.len())
                    .map(|(_, bit)| *bit);
                let topics = self.audience(involved, bits);
                from += part.len();
                let bytes = Bytes::from(frame);
                self.turn_bytes += bytes.len();
                let stamp = self.stamp(Source::Group);
                self.stamp(Source::None);
                for conn in &conns {
                    let topics = Arc::clone(&topics);
                    let shared = Shared {
                        stamp,
                        bytes: bytes.clone(),
                        topics,
                    };
                    self.turn_of(*conn).shared.push(shared);
                }
            }
        }
    }

    /// The topics of a frame and how many of its members are whose.
    fn audience(&self, involved: &[u32], bits: impl Iterator<Item = usize>) -> Audience {
        let mut counts = vec![0; involved.len()];
        for bit in bits {
            counts[bit] += 1;
        }
        involved
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(index, count)| (Arc::clone(&self.local[*index as usize].topic), count))
            .collect()
    }

    /// Sends what waited for a connection that has caught up.
    pub(crate) fn release_coalesced(&mut self, conn: Key) {
        while let Some(entry) = self.extra(conn).and_then(|extra| extra.coalesced.pop()) {
            self.control(conn, |out| out.extend_from_slice(&entry.frame));
        }
        self.tidy(conn);
    }
}

/// Cuts a list of members so that no batch frame gets longer than clients read.
fn split<'a, 'b>(members: &'b [&'a [u8]]) -> Vec<&'b [&'a [u8]]> {
    let mut parts = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, member) in members.iter().enumerate() {
        if at > from && bytes + member.len() + 1 > wire::FRAME_CODE_UNITS_MAX - 64 {
            parts.push(&members[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += member.len() + 1;
    }
    if from < members.len() {
        parts.push(&members[from..]);
    }
    parts
}

/// Topics of one batched publish that fit the bit set of a group.
const GROUP_TOPICS_MAX: usize = 64;
