//! Control frames in, and what a returning client is told about the past.

use std::sync::Arc;

use millstream_core::{Key, RawJsonRef};
use millstream_wire::{self as wire, ClientFrame};

use crate::Hub;
use crate::event::Event;
use crate::hub::Timer;
use crate::retain::Missed;
use crate::subs::Place;
use crate::topics::Topic;

/// Whose a text message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "messages of the application have to be handed to it"]
#[allow(
    clippy::exhaustive_enums,
    reason = "complete: a message is one or the other"
)]
pub enum Receipt {
    /// The application's.
    App,
    /// A control frame; it has been handled.
    Control,
}

impl Hub {
    /// Takes a text message: handles it when it is a control frame, and says whose it is.
    ///
    /// # Cost
    /// An application message is told apart by its fourth byte, without parsing.
    pub fn receive(&mut self, conn: Key, text: &str) -> Receipt {
        let Some(frame) = wire::recognise(text) else {
            return Receipt::App;
        };
        match frame {
            ClientFrame::Hello { caps } => self.set_caps(conn, caps),
            ClientFrame::Reply { reference, outcome } => {
                self.handle_reply(conn, reference, outcome);
            }
            ClientFrame::Resume {
                session_id,
                last_seen,
            } => {
                self.remember_positions(conn, last_seen);
                let session = session_id.to_cow().into_owned();
                let last_seen = last_seen.to_owned();
                self.events.push_back(Event::Resume {
                    conn,
                    session,
                    last_seen,
                });
            }
            ClientFrame::Subscribe { topic, reference } => {
                self.handle_subscribe(conn, topic, reference);
            }
            ClientFrame::SubscribeBatch { topics, reference } => {
                self.handle_subscribe_batch(conn, topics, reference);
            }
            ClientFrame::Unsubscribe { topic } => self.handle_unsubscribe(conn, topic),
        }
        Receipt::Control
    }

    /// Answers an [`Event::Resume`] once the application has sent what it wanted to send.
    pub fn resumed(&mut self, conn: Key) {
        self.control(conn, wire::encode_resumed);
    }

    /// Takes a topic out of the positions a client resumed with: the application itself has
    /// brought it up to date, so that no gap mark is due when it subscribes.
    pub fn cover(&mut self, conn: Key, topic: &str) {
        if let Some(extra) = self.extra(conn) {
            extra.positions.remove(topic);
        }
        self.tidy(conn);
    }

    /// Notes how far the client was on each topic. Nothing is told about a topic before the
    /// client has been allowed to subscribe to it.
    fn remember_positions(&mut self, conn: Key, last_seen: RawJsonRef<'_>) {
        let topics_max = self.config.limits.resume_topics_max as usize;
        let hold = self.config.limits.resume_hold;
        let mut held = Vec::new();
        let now = self.now;
        let Some(extra) = self.extra_or_new(conn) else {
            return;
        };
        // A newer resume replaces the older: what one message can hold is the bound in bytes.
        extra.positions.clear();
        if last_seen.is_object() {
            for (topic, position) in last_seen.fields() {
                if extra.positions.len() >= topics_max {
                    break;
                }
                let Some(position) = position.as_f64() else {
                    continue;
                };
                let topic = topic.to_cow();
                if topic.len() <= POSITION_TOPIC_BYTES_MAX {
                    extra.positions.insert(topic.as_ref().into(), position);
                    held.push(topic.into_owned());
                }
            }
        }
        if held.is_empty() {
            self.tidy(conn);
            return;
        }
        // One timer however often a client resumes.
        if let Some(before) = extra.positions_timer.take() {
            self.timers.cancel(before);
        }
        let timer = self
            .timers
            .insert(now.saturating_add(hold), Timer::Positions(conn));
        if let Some(extra) = self.extra(conn) {
            extra.positions_timer = Some(timer);
        }
        for topic in held {
            if self.holds(conn, &topic)
                && let Some(index) = self.local_index(&topic)
            {
                let topic = Arc::clone(&self.local[index as usize].topic);
                self.catch_up_held(conn, index, &topic);
            }
        }
    }

    /// How far the client was on a topic, if it has said so.
    pub(crate) fn position_of(&self, conn: Key, topic: &str) -> Option<f64> {
        let extra = self.conns.get(conn)?.extra.as_deref()?;
        extra.positions.get(topic).copied()
    }

    /// Gives a client that holds a topic already what it missed before it did.
    fn catch_up_held(&mut self, conn: Key, index: u32, topic: &Arc<Topic>) {
        let Some(position) = self.position_of(conn, topic.name()) else {
            return;
        };
        let since = self.subscribed_at(conn, index);
        #[allow(clippy::cast_precision_loss, reason = "numbers stay below 2^53")]
        let missed = topic.locked(|state| match since {
            // Everything since then comes as it is published.
            Some(since) if (since as f64..=state.head as f64).contains(&position) => {
                Missed::Nothing
            }
            // It has got events already: older ones behind them would be taken for newer.
            Some(since) if since != state.head => Missed::Unknown,
            _ => state.missed(position),
        });
        self.catch_up(conn, topic, missed.unwrap_or(Missed::Unknown));
    }

    /// The topic's number when the connection subscribed; known for topics that keep events.
    fn subscribed_at(&mut self, conn: Key, index: u32) -> Option<u64> {
        let state = self.conns.get(conn)?;
        let (lane, slot) = (u8::from(state.batch), state.subs.slot(index)?);
        let local = &self.local[index as usize];
        if local.topic.policy().retain == 0 {
            return None;
        }
        if slot == Place::HELD {
            return self.held_mut(conn, index).map(|held| held.since);
        }
        local.since(lane, slot)
    }

    /// Sends what a client has missed on a topic, or tells it to load the topic again: when more
    /// is gone than is kept, and when it would be more than a slow reader may have waiting.
    pub(crate) fn catch_up(&mut self, conn: Key, topic: &Arc<Topic>, missed: Missed) {
        let Some(extra) = self.extra(conn) else {
            return;
        };
        extra.positions.remove(&**topic.name());
        self.tidy(conn);
        let Some(index) = self.index_of(topic.id()) else {
            return;
        };
        match missed {
            Missed::Nothing => {}
            Missed::Unknown => self.send_gap_mark(conn, index),
            Missed::Events(frames) => {
                let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
                if self.pending(conn) + bytes > self.config.limits.backlog_bytes_max {
                    self.send_gap_mark(conn, index);
                } else {
                    self.tally.replayed += frames.len() as u64;
                    self.send_kept(conn, index, frames);
                }
            }
        }
    }

    pub(crate) fn send_gap_mark(&mut self, conn: Key, index: u32) {
        let topic = Arc::clone(&self.local[index as usize].topic);
        self.tally.gap_marks += 1;
        self.control(conn, |out| wire::encode_gap_mark(out, topic.prefix()));
    }
}

/// Longer names cannot be subscribed to: 256 UTF-16 units of up to three bytes.
const POSITION_TOPIC_BYTES_MAX: usize = 768;
