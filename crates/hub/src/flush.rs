//! Writing a turn's output: one write per connection that gets anything.
//!
//! A connection that gets only one topic's events is given the topic's bytes as they are. One
//! that gets more is given the pieces in the order in which they were produced, joined when
//! they are short, gathered when they are long.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::Key;
use smallvec::SmallVec;

use crate::Hub;
use crate::backlog::{Admitted, Bounds};
use crate::coalesce::{Entry, Slot};
use crate::event::Event;
use crate::hub::{Conn, NO_TURN};
use crate::local::{LocalTopic, NO_OUTPUT};
use crate::stats::Tally;
use crate::subs::Place;
use crate::topics::Topic;
use crate::turn::{ChunkKey, Lane, Output, Shared, Span, Turn};

/// The sockets, as a hub sees them.
pub trait Sink {
    /// Writes as much as the socket takes without waiting.
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote;

    /// Says that this connection, among others, will be sent something in this flush. Whoever has
    /// to look up what belongs to it can begin to fetch that now, for all of them at once. The
    /// default does nothing.
    fn expect(&mut self, conn: Key) {
        let _ = conn;
    }

    /// The same as [`send`](Self::send) for several pieces in one call. The default writes only
    /// the first.
    fn send_vectored(&mut self, conn: Key, parts: &[IoSlice<'_>]) -> Wrote {
        self.send(conn, parts.first().map_or(&[][..], |part| part))
    }
}

/// What a socket took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "complete by definition")]
pub enum Wrote {
    /// So many bytes. Fewer than given means: call [`Hub::write_more`] when it can take more.
    Bytes(usize),
    /// The socket is broken; the host will close the connection.
    Failed,
}

/// What is left after [`Hub::write_more`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "complete by definition")]
pub enum Backlogged {
    /// Nothing: the connection has caught up.
    Drained,
    /// The socket is broken.
    Failed,
    /// Some; wait until the socket can take more.
    Waiting,
}

/// Memory of one flush, kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    joined: Vec<u8>,
    parts: Vec<Part>,
    /// Connections that get several topics and nothing of their own.
    mixed: Vec<u32>,
}

/// One piece of a connection's output.
#[derive(Debug, Clone, Copy)]
struct Part {
    stamp: u32,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Arena { start: u32, end: u32 },
    Lane { output: u32, lane: u8, chunk: u32 },
    Shared(u32),
}

/// Parts up to this sum are copied into one buffer: cheaper than gathering them.
const JOIN_BYTES_MAX: usize = 16 * 1024;
/// More pieces than this are joined whatever their length; below the system's limit of 1,024.
const GATHER_PARTS_MAX: usize = 256;
const WRITE_MORE_PARTS: usize = 64;
const MIXED_KEPT: usize = 1024;

impl Hub {
    /// Writes everything that was collected since the last flush.
    ///
    /// # Cost
    /// O(receivers), one write each; nothing is allocated for a receiver whose socket takes all.
    pub fn flush(&mut self, sink: &mut impl Sink) {
        if !self.has_output() {
            // What was written meanwhile counts, even if nothing follows for long.
            self.topics.stats().add(&mut self.tally);
            return;
        }
        self.topics.stats().add_published(&mut self.tally);
        let mut dirty = core::mem::take(&mut self.dirty);
        if dirty.len() > 1 {
            self.find_mixed(&dirty, sink);
        }
        for (index, at) in dirty.iter().zip(0..) {
            for lane in 0..2 {
                if !self.outputs[at].lanes[lane].chunks.is_empty() {
                    self.flush_lane(*index, at, lane, sink);
                }
            }
        }
        for at in 0..self.turns_used {
            let conn = self.turns[at].conn;
            self.flush_mixed(conn, Some(at), &dirty, sink);
        }
        let mut mixed = core::mem::take(&mut self.scratch.mixed);
        for conn in mixed.drain(..) {
            self.flush_mixed(conn, None, &dirty, sink);
        }
        mixed.shrink_to(MIXED_KEPT);
        self.scratch.mixed = mixed;
        let used = dirty.len();
        for (index, output) in dirty.drain(..).zip(&mut self.outputs) {
            self.local[index as usize].output = NO_OUTPUT;
            for lane in &mut output.lanes {
                lane.finish(&mut self.pool);
            }
        }
        self.dirty = dirty;
        self.shrink_outputs(used);
        self.end_turn();
    }

    /// Writes what a connection's socket did not take before.
    pub fn write_more(&mut self, conn: Key, sink: &mut impl Sink) -> Backlogged {
        let Some(state) = self.conns.get_mut(conn) else {
            return Backlogged::Failed;
        };
        let Some(mut backlog) = state.backlog.take() else {
            return Backlogged::Drained;
        };
        let before = backlog.bytes();
        let outcome = loop {
            if backlog.is_empty() {
                // Events of this turn may still come before a close frame: not after a silent gap.
                if !state.closed {
                    backlog.push_gap_marks(&mut self.tally);
                }
                if backlog.is_empty() {
                    break Backlogged::Drained;
                }
            }
            let parts: SmallVec<[IoSlice<'_>; WRITE_MORE_PARTS]> = backlog
                .pieces()
                .take(WRITE_MORE_PARTS)
                .map(|piece| IoSlice::new(&piece.bytes))
                .collect();
            let offered: usize = parts.iter().map(|part| part.len()).sum();
            self.tally.writes += 1;
            match sink.send_vectored(conn, &parts) {
                Wrote::Bytes(count) => {
                    drop(parts);
                    backlog.sent(count);
                    self.tally.written_bytes += count as u64;
                    if count < offered {
                        break Backlogged::Waiting;
                    }
                }
                Wrote::Failed => break Backlogged::Failed,
            }
        };
        let after = backlog.bytes();
        match outcome {
            Backlogged::Drained => {}
            Backlogged::Waiting => state.backlog = Some(backlog),
            Backlogged::Failed => {
                state.dead = true;
                state.backlog = Some(backlog);
            }
        }
        self.note_backlog(before, after);
        if outcome == Backlogged::Drained {
            self.release_coalesced(conn);
        }
        outcome
    }

    /// Finds the connections that hold more than one of the topics, and says to whom something will
    /// be sent.
    fn find_mixed(&mut self, dirty: &[u32], sink: &mut impl Sink) {
        let turn = self.turn_number;
        for (topic, output) in dirty.iter().zip(&self.outputs) {
            let subs = &self.local[*topic as usize].subs;
            for (lane, subs) in output.lanes.iter().zip(subs) {
                if lane.chunks.is_empty() {
                    continue;
                }
                for index in subs.as_slice() {
                    let Some((key, conn)) = self.conns.get_at_mut(*index) else {
                        continue;
                    };
                    if conn.mark != turn {
                        conn.mark = turn;
                        sink.expect(key);
                    } else if !conn.mixed {
                        conn.mixed = true;
                        if conn.turn == NO_TURN {
                            self.scratch.mixed.push(*index);
                        }
                    }
                }
            }
        }
    }

    /// Gives a topic's bytes to those who get nothing else.
    fn flush_lane(&mut self, index: u32, at: usize, lane: usize, sink: &mut impl Sink) {
        let mut from = 0;
        while let Some((slot, key, wrote)) = self.send_lane(index, at, lane, from, sink) {
            self.stall(index, at, lane, key, wrote);
            from = slot + 1;
        }
    }

    /// The same from one of them on, up to the first who did not take everything: gives its slot,
    /// its name, and what it took unless it is behind already.
    fn send_lane(
        &mut self,
        index: u32,
        at: usize,
        lane: usize,
        from: usize,
        sink: &mut impl Sink,
    ) -> Option<(usize, Key, Option<Wrote>)> {
        let subs = self.local[index as usize].subs[lane].as_slice();
        let lane = &self.outputs[at].lanes[lane];
        let (bytes, frames) = (lane.bytes(), lane.frames());
        for (slot, conn) in subs.iter().enumerate().skip(from) {
            let Some((key, conn)) = self.conns.get_at(*conn) else {
                continue;
            };
            if conn.turn != NO_TURN || conn.mixed || conn.closing || conn.dead {
                continue;
            }
            if conn.backlog.is_some() {
                return Some((slot, key, None));
            }
            self.tally.writes += 1;
            let wrote = sink.send(key, bytes);
            if wrote != Wrote::Bytes(bytes.len()) {
                return Some((slot, key, Some(wrote)));
            }
            self.tally.written_bytes += bytes.len() as u64;
            self.tally.delivered += frames;
        }
        None
    }

    /// Queues what a connection has not taken of a lane.
    fn stall(&mut self, index: u32, at: usize, lane: usize, key: Key, wrote: Option<Wrote>) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let before = conn.backlog.as_ref().map_or(0, |backlog| backlog.bytes());
        let mut writer = Writer {
            bounds: self.config.bounds(),
            tally: &mut self.tally,
            too_slow: false,
        };
        let topic = &self.local[index as usize].topic;
        let lane = &mut self.outputs[at].lanes[lane];
        match wrote {
            Some(Wrote::Bytes(count)) => writer.stall_on_lane(conn, lane, topic, count),
            Some(Wrote::Failed) => conn.dead = true,
            None => {
                for chunk in 0..lane.chunks.len() {
                    writer.queue_chunk(conn, lane, topic, chunk);
                }
            }
        }
        let too_slow = writer.too_slow;
        self.after_stall(key, before, too_slow);
    }

    /// Keeps the sum of backlogs and ends connections that are too slow.
    fn after_stall(&mut self, key: Key, before: usize, too_slow: bool) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let after = conn.backlog.as_ref().map_or(0, |backlog| backlog.bytes());
        conn.dead |= too_slow;
        let tell = too_slow && !conn.closing;
        conn.closing |= too_slow;
        self.note_backlog(before, after);
        if tell {
            self.tally.slow_closed += 1;
            let reason = "slow reader";
            self.events.push_back(Event::Close {
                conn: key,
                code: 1013,
                reason,
            });
        }
    }

    /// Gives one connection everything it gets in this turn, in the order of production.
    fn flush_mixed(&mut self, index: u32, at: Option<usize>, dirty: &[u32], sink: &mut impl Sink) {
        let mut parts = core::mem::take(&mut self.scratch.parts);
        parts.clear();
        let turn = at.map(|at| &self.turns[at]);
        let Some((key, conn)) = self.conns.get_at_mut(index) else {
            self.scratch.parts = parts;
            return;
        };
        conn.turn = NO_TURN;
        conn.mixed = false;
        conn.closed = conn.closing;
        gather(conn, turn, dirty, &self.local, &self.outputs, &mut parts);
        if !conn.dead && !parts.is_empty() {
            let mut output = Sources {
                arena: &self.arena,
                turn,
                dirty,
                local: &self.local,
                outputs: &mut self.outputs,
                joined: &mut self.scratch.joined,
            };
            let mut writer = Writer {
                bounds: self.config.bounds(),
                tally: &mut self.tally,
                too_slow: false,
            };
            let before = conn.backlog.as_ref().map_or(0, |backlog| backlog.bytes());
            writer.write_parts(key, conn, &parts, &mut output, sink);
            let too_slow = writer.too_slow;
            self.after_stall(key, before, too_slow);
        }
        self.scratch.parts = parts;
    }
}

/// Collects the pieces for one connection, oldest first.
fn gather(
    conn: &Conn,
    turn: Option<&Turn>,
    dirty: &[u32],
    local: &[LocalTopic],
    outputs: &[Output],
    parts: &mut Vec<Part>,
) {
    let mut add_lane = |output: u32, lane: u8, from: u32, to: u32| {
        let Some(of_topic) = outputs.get(output as usize) else {
            return;
        };
        let chunks = &of_topic.lanes[usize::from(lane)].chunks;
        for (chunk, at) in chunks.iter().zip(0_u32..).skip(from as usize) {
            if at >= to {
                break;
            }
            parts.push(Part {
                stamp: chunk.stamp,
                from: From::Lane {
                    output,
                    lane,
                    chunk: at,
                },
            });
        }
    };
    let spans = turn.map_or(&[][..], |turn| &turn.spans);
    for span in spans {
        let output = local[span.topic as usize].output;
        add_lane(output, span.lane, span.from, span.to);
    }
    let lane = u8::from(conn.batch);
    for (topic, output) in dirty.iter().zip(0..) {
        let held = conn
            .subs
            .slot(*topic)
            .is_none_or(|slot| slot == Place::HELD);
        let spanned = spans
            .iter()
            .any(|span| span.topic == *topic && span.to == Span::OPEN);
        if !held && !spanned {
            add_lane(output, lane, 0, Span::OPEN);
        }
    }
    if let Some(turn) = turn {
        for direct in &turn.direct {
            let from = From::Arena {
                start: direct.start,
                end: direct.end,
            };
            parts.push(Part {
                stamp: direct.stamp,
                from,
            });
        }
        for (shared, at) in turn.shared.iter().zip(0_u32..) {
            parts.push(Part {
                stamp: shared.stamp,
                from: From::Shared(at),
            });
        }
    }
    parts.sort_by_key(|part| part.stamp);
    if conn.closing {
        // A close frame is the last thing a connection gets.
        let last = turn
            .and_then(|turn| turn.direct.last())
            .map_or(0, |direct| direct.stamp);
        parts.retain(|part| part.stamp <= last);
    }
}

/// Where the pieces of a turn are.
struct Sources<'a> {
    arena: &'a [u8],
    turn: Option<&'a Turn>,
    /// The topics of the outputs.
    dirty: &'a [u32],
    local: &'a [LocalTopic],
    outputs: &'a mut [Output],
    joined: &'a mut Vec<u8>,
}

impl Sources<'_> {
    fn bytes(&self, part: Part) -> &[u8] {
        match part.from {
            From::Arena { start, end } => self
                .arena
                .get(start as usize..end as usize)
                .unwrap_or_default(),
            From::Lane {
                output,
                lane,
                chunk,
            } => {
                let lane = &self.outputs[output as usize].lanes[usize::from(lane)];
                let range = lane.range(chunk as usize, chunk as usize + 1);
                lane.bytes().get(range).unwrap_or_default()
            }
            From::Shared(at) => self
                .turn
                .and_then(|turn| turn.shared.get(at as usize))
                .map_or(&[][..], |shared| &shared.bytes),
        }
    }

    fn frames(&self, part: Part) -> u32 {
        match part.from {
            From::Arena { .. } => 0,
            From::Lane {
                output,
                lane,
                chunk,
            } => {
                let lane = &self.outputs[output as usize].lanes[usize::from(lane)];
                let chunk = lane.chunks.get(chunk as usize);
                chunk.map_or(0, |chunk| chunk.frames)
            }
            From::Shared(at) => self
                .turn
                .and_then(|turn| turn.shared.get(at as usize))
                .map_or(0, Shared::frames),
        }
    }

    /// The bytes of a part from `skip` on, to be kept.
    fn keep(&mut self, part: Part, skip: usize) -> Bytes {
        match part.from {
            From::Lane {
                output,
                lane,
                chunk,
            } => {
                let lane = &mut self.outputs[output as usize].lanes[usize::from(lane)];
                let range = lane.range(chunk as usize, chunk as usize + 1);
                lane.keep(range.start + skip..range.end)
            }
            From::Shared(at) => self
                .turn
                .and_then(|turn| turn.shared.get(at as usize))
                .map_or_else(Bytes::new, |shared| shared.bytes.slice(skip..)),
            From::Arena { .. } => {
                Bytes::copy_from_slice(self.bytes(part).get(skip..).unwrap_or_default())
            }
        }
    }
}

/// Writes for one connection and applies the rules when it does not keep up.
struct Writer<'a> {
    bounds: Bounds,
    tally: &'a mut Tally,
    too_slow: bool,
}

impl Writer<'_> {
    fn write_parts(
        &mut self,
        key: Key,
        conn: &mut Conn,
        parts: &[Part],
        output: &mut Sources<'_>,
        sink: &mut impl Sink,
    ) {
        let mut rest = 0;
        let mut skip = 0;
        if conn.backlog.is_none() {
            let total: usize = parts.iter().map(|part| output.bytes(*part).len()).sum();
            self.tally.writes += 1;
            let wrote = match parts {
                [one] => sink.send(key, output.bytes(*one)),
                _ if total <= JOIN_BYTES_MAX || parts.len() > GATHER_PARTS_MAX => {
                    let mut joined = core::mem::take(output.joined);
                    joined.clear();
                    for part in parts {
                        joined.extend_from_slice(output.bytes(*part));
                    }
                    let wrote = sink.send(key, &joined);
                    joined.shrink_to(JOIN_BYTES_MAX);
                    *output.joined = joined;
                    wrote
                }
                _ => {
                    let slices: SmallVec<[IoSlice<'_>; 16]> = parts
                        .iter()
                        .map(|part| IoSlice::new(output.bytes(*part)))
                        .collect();
                    sink.send_vectored(key, &slices)
                }
            };
            let Wrote::Bytes(count) = wrote else {
                conn.dead = true;
                return;
            };
            self.tally.written_bytes += count as u64;
            // Find the first byte that was not taken.
            skip = count;
            while let Some(part) = parts.get(rest) {
                let len = output.bytes(*part).len();
                if skip < len || (skip == 0 && len == 0) {
                    break;
                }
                skip -= len;
                self.tally.delivered += u64::from(output.frames(*part));
                rest += 1;
            }
            if rest == parts.len() {
                return;
            }
            self.tally.stalls += 1;
        }
        for part in &parts[rest..] {
            if skip > 0 {
                self.tally.delivered += u64::from(output.frames(*part));
                let backlog = conn.backlog.get_or_insert_default();
                backlog.push_started(output.keep(*part, skip));
                skip = 0;
            } else {
                self.queue_part(conn, *part, output);
            }
        }
    }

    fn queue_part(&mut self, conn: &mut Conn, part: Part, output: &mut Sources<'_>) {
        match part.from {
            From::Lane {
                output: at,
                lane,
                chunk,
            } => {
                let topic = &output.local[output.dirty[at as usize] as usize].topic;
                let lane = &mut output.outputs[at as usize].lanes[usize::from(lane)];
                self.queue_chunk(conn, lane, topic, chunk as usize);
            }
            From::Arena { .. } => {
                let backlog = conn.backlog.get_or_insert_default();
                let admitted = backlog.push_kept(output.keep(part, 0), self.bounds);
                self.too_slow |= admitted == Admitted::TooSlow;
            }
            From::Shared(at) => {
                let shared = output.turn.and_then(|turn| turn.shared.get(at as usize));
                let Some(Shared { topics, bytes, .. }) = shared else {
                    return;
                };
                let (bounds, bytes) = (self.bounds, bytes.clone());
                let backlog = conn.backlog.get_or_insert_default();
                let admitted = backlog.push_group(topics, bytes, bounds, self.tally);
                self.too_slow |= admitted == Admitted::TooSlow;
            }
        }
    }

    /// Queues one run of a topic behind a backlog, by the rules of the topic.
    fn queue_chunk(&mut self, conn: &mut Conn, lane: &mut Lane, topic: &Arc<Topic>, chunk: usize) {
        let Some(run) = lane.chunks.get(chunk).copied() else {
            return;
        };
        if run.volatile {
            self.tally.dropped_volatile += u64::from(run.frames);
            return;
        }
        let bytes = lane.keep(lane.range(chunk, chunk + 1));
        // A connection without backlog would never be asked for what waits behind it.
        let backlog = conn.backlog.get_or_insert_default();
        let key = lane.keys.get(run.key as usize);
        if let (Some(key), false) = (key, backlog.is_empty()) {
            self.keep_newest(conn, topic, key, bytes);
            return;
        }
        let admitted = backlog.push_topic(topic, bytes, run.frames, self.bounds, self.tally);
        self.too_slow |= admitted == Admitted::TooSlow;
    }

    /// Keeps an event until the connection has caught up, in place of those that it replaces.
    fn keep_newest(&mut self, conn: &mut Conn, topic: &Topic, key: &ChunkKey, frame: Bytes) {
        let extra = conn.extra.get_or_insert_default();
        let key = match key {
            ChunkKey::Same(key) => Arc::clone(key),
            ChunkKey::All => {
                self.tally.dropped_coalesced += extra.coalesced.forget(topic.id());
                Arc::default()
            }
        };
        let slot = Slot {
            topic: Some(topic.id()),
            key,
        };
        let lost = extra.keep_coalesced(Entry { slot, frame }, self.bounds);
        self.tally.dropped_coalesced += lost;
    }

    /// The socket took only `count` bytes of a topic's lane.
    fn stall_on_lane(
        &mut self,
        conn: &mut Conn,
        lane: &mut Lane,
        topic: &Arc<Topic>,
        count: usize,
    ) {
        self.tally.stalls += 1;
        self.tally.written_bytes += count as u64;
        for chunk in 0..lane.chunks.len() {
            let range = lane.range(chunk, chunk + 1);
            if range.end <= count {
                self.tally.delivered += lane.chunks.get(chunk).map_or(0, |c| u64::from(c.frames));
            } else if range.start < count {
                self.tally.delivered += lane.chunks.get(chunk).map_or(0, |c| u64::from(c.frames));
                let backlog = conn.backlog.get_or_insert_default();
                backlog.push_started(lane.keep(count..range.end));
            } else {
                self.queue_chunk(conn, lane, topic, chunk);
            }
        }
    }
}
