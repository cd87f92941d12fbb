//! Subscribes that default deny would refuse, while the application may be about to open the
//! topic for the connection.
//!
//! A client that comes back asks for all its topics in one frame, and only then for the streams
//! that give it these topics. Refusing at once would be right and show an error for a moment; so
//! the answer waits for a short time. Nothing else waits: a parked subscribe never makes a
//! subscription and stands in nobody's way. It is a question whether the connection holds the
//! topic, answered when it does, or when the time is over.

use core::time::Duration;
use std::collections::VecDeque;

use millstream_core::{Key, Millis, TimerId, TopicName};
use smallvec::SmallVec;

use crate::Hub;
use crate::gate::{quoted, reason};
use crate::hub::Timer;

/// The subscribes of one connection whose answer waits.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    /// In the order in which their time is over.
    waits: VecDeque<Wait>,
    /// When the first one's time is over. Set while there are any.
    pub(crate) timer: Option<TimerId>,
}

#[derive(Debug)]
struct Wait {
    topic: TopicName,
    /// The `ref` as it stood in the frame.
    reference: SmallVec<[u8; 16]>,
    until: Millis,
}

impl Parked {
    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Takes out whatever waits for a topic, oldest first.
    fn take(&mut self, topic: &str) -> SmallVec<[Wait; 1]> {
        let mut taken = SmallVec::new();
        if self.waits.iter().any(|wait| &*wait.topic == topic) {
            for wait in core::mem::take(&mut self.waits) {
                if &*wait.topic == topic {
                    taken.push(wait);
                } else {
                    self.waits.push_back(wait);
                }
            }
        }
        taken
    }
}

impl Hub {
    /// Keeps a subscribe that would be refused. False when it has to be answered now: nobody
    /// waits for the answer, there is no room, or nothing is ever parked.
    pub(crate) fn park(&mut self, conn: Key, topic: &TopicName, reference: Option<&[u8]>) -> bool {
        let limits = &self.config.limits;
        let (hold, room) = (limits.parked_hold, limits.parked_topics_max as usize);
        let Some(reference) = reference.filter(|to| to.len() <= REFERENCE_BYTES_MAX) else {
            return false;
        };
        if !self.config.park || hold == Duration::ZERO {
            return false;
        }
        let until = self.now.saturating_add(hold);
        let Some(extra) = self.extra_or_new(conn) else {
            return false;
        };
        if extra.parked.waits.len() >= room {
            self.tally.parked_refused += 1;
            return false;
        }
        extra.parked.waits.push_back(Wait {
            topic: topic.clone(),
            reference: reference.into(),
            until,
        });
        self.tally.parked += 1;
        self.time_parked(conn);
        true
    }

    /// The connection has just got a topic: whoever asked for it is told.
    pub(crate) fn grant_parked(&mut self, conn: Key, topic: &TopicName) {
        let waits = self.take_parked(conn, topic);
        if waits.is_empty() {
            return;
        }
        let json = quoted(topic);
        for wait in waits {
            self.tally.parked_granted += 1;
            self.control(conn, |out| {
                millstream_wire::encode_subscribed(out, &json, &wait.reference);
            });
        }
    }

    /// The application has refused the topic: there is nothing more to wait for.
    pub(crate) fn refuse_parked(&mut self, conn: Key, topic: &TopicName, reason: &str) {
        for wait in self.take_parked(conn, topic) {
            self.deny(conn, &quoted(topic), Some(&wait.reference), reason);
        }
    }

    fn take_parked(&mut self, conn: Key, topic: &str) -> SmallVec<[Wait; 1]> {
        let extra = self.extra(conn).filter(|extra| !extra.parked.is_empty());
        let waits = extra.map_or_else(SmallVec::new, |extra| extra.parked.take(topic));
        if !waits.is_empty() {
            self.tidy(conn);
        }
        waits
    }

    /// Refuses what has waited long enough. Where the application has been asked about the topic
    /// and has not answered, the wait begins again.
    pub(crate) fn expire_parked(&mut self, conn: Key) {
        let now = self.now;
        let again = now.saturating_add(self.config.limits.parked_hold);
        let Some(extra) = self.extra(conn) else {
            return;
        };
        extra.parked.timer = None;
        let waits = extra.parked.waits.iter();
        let due = waits.take_while(|wait| wait.until <= now).count();
        for _ in 0..due {
            let Some(extra) = self.extra(conn) else {
                return;
            };
            let Some(mut wait) = extra.parked.waits.pop_front() else {
                break;
            };
            if extra.gates.is_about(&wait.topic) {
                wait.until = again;
                extra.parked.waits.push_back(wait);
            } else {
                let json = quoted(&wait.topic);
                self.deny(conn, &json, Some(&wait.reference), reason::FORBIDDEN);
            }
        }
        self.time_parked(conn);
        self.tidy(conn);
    }

    /// Sets the timer for the first of those that wait, unless it is set.
    fn time_parked(&mut self, conn: Key) {
        let parked = self.extra(conn).map(|extra| &extra.parked);
        let Some(first) = parked
            .filter(|parked| parked.timer.is_none())
            .and_then(|parked| parked.waits.front())
        else {
            return;
        };
        let until = first.until;
        let timer = self.timers.insert(until, Timer::Parked(conn));
        if let Some(extra) = self.extra(conn) {
            extra.parked.timer = Some(timer);
        }
    }
}

/// A longer `ref` is not kept: clients count their requests.
const REFERENCE_BYTES_MAX: usize = 64;
