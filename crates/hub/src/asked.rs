//! Requests for a topic that have no reply yet, and clients that leave the topic meanwhile.
//!
//! A client attaches to a topic when the reply to its request arrives, and says that it leaves the
//! topic when nothing of it is attached any more. So what it leaves is what it had before: when a
//! page gives way to another one of the same topic, its `unsubscribe` comes while the new page's
//! request is under way. Such a topic stays subscribed, with its events held back, for the reply is
//! still to come. Behind the reply the client asks for the topic, because nothing else of it is
//! attached; if it does not, within `parked_hold`, it has left that page, too, and the subscription
//! ends.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{Key, Millis, TimerId, TopicId, TopicName};
use smallvec::SmallVec;

use crate::Hub;
use crate::hub::Timer;

/// The requests of one connection that have no reply yet.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Nearly always one at a time.
    requests: SmallVec<[Request; 1]>,
    /// Topics that the client has left and was given since, in the order in which they end.
    doubts: VecDeque<Doubt>,
    /// When the first of them ends. Set while there are any.
    pub(crate) timer: Option<TimerId>,
}

#[derive(Debug)]
struct Request {
    topic: TopicId,
    holder: u64,
    /// The client has left the topic since, and has not asked for it again.
    left: bool,
}

#[derive(Debug)]
struct Doubt {
    topic: TopicName,
    until: Millis,
}

impl Asked {
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.doubts.is_empty()
    }

    pub(crate) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    fn of(&self, topic: TopicId) -> impl Iterator<Item = u64> {
        let requests = self.requests.iter();
        requests.filter_map(move |one| (one.topic == topic).then_some(one.holder))
    }
}

impl Hub {
    /// The requests for a topic by the connection that have no reply yet, by the numbers of their
    /// holders.
    #[must_use]
    pub fn under_way(&self, conn: Key, topic: &str) -> Vec<u64> {
        let index = self.local_index(topic);
        index.map_or_else(Vec::new, |index| self.asked_for(conn, index))
    }

    fn asked_for(&self, conn: Key, index: u32) -> Vec<u64> {
        let topic = self.local[index as usize].topic.id();
        let extra = self.conns.get(conn).and_then(|conn| conn.extra.as_deref());
        extra.map_or_else(Vec::new, |extra| extra.asked.of(topic).collect())
    }

    /// Ends the subscription that one request has made, as far as nothing else needs it: other
    /// requests for the topic may be under way. The host says whether anything else does.
    pub fn give_up(&mut self, conn: Key, topic: &str, holder: u64) {
        self.release(conn, topic, holder);
        if self.under_way(conn, topic).is_empty() {
            self.unsubscribe(conn, topic);
        }
    }

    /// A request has got its subscription; [`answered`](Self::answered) follows.
    pub(crate) fn note_asked(&mut self, conn: Key, topic: &str, holder: u64) {
        let Some(index) = self.local_index(topic) else {
            return;
        };
        let topic = self.local[index as usize].topic.id();
        let max = self.config.limits.parked_topics_max as usize;
        let Some(extra) = self.extra_or_new(conn) else {
            return;
        };
        // Those beyond the limit end with what the client had before: an unsubscribe looks at all.
        if extra.asked.requests.len() < max {
            extra.asked.requests.push(Request {
                topic,
                holder,
                left: false,
            });
        }
    }

    /// A request's reply has been sent, or there is none.
    pub(crate) fn answered(&mut self, conn: Key, topic: &str, holder: u64) {
        let Some(index) = self.local_index(topic) else {
            return;
        };
        let (id, now) = (self.local[index as usize].topic.id(), self.now);
        let until = now.saturating_add(self.config.limits.parked_hold);
        let Some(extra) = self.extra(conn) else {
            return;
        };
        let asked = &mut extra.asked;
        let own = |one: &Request| one.topic == id && one.holder == holder;
        let Some(at) = asked.requests.iter().position(own) else {
            return;
        };
        if asked.requests.swap_remove(at).left {
            asked.doubts.retain(|doubt| &*doubt.topic != topic);
            let topic = self.local[index as usize].topic.name().clone();
            if let Some(extra) = self.extra(conn) {
                extra.asked.doubts.push_back(Doubt { topic, until });
            }
            self.time_doubts(conn);
        }
        self.tidy(conn);
    }

    /// The client leaves a topic. False when nothing of it is under way; otherwise it stays
    /// subscribed, and nothing is delivered before the next reply.
    pub(crate) fn stays_for_replies(&mut self, conn: Key, index: u32) -> bool {
        let waiting = self.asked_for(conn, index);
        if waiting.is_empty() {
            return false;
        }
        self.hold_for(conn, index, &waiting);
        let id = self.local[index as usize].topic.id();
        if let Some(extra) = self.extra(conn) {
            let requests = extra.asked.requests.iter_mut();
            requests
                .filter(|one| one.topic == id)
                .for_each(|one| one.left = true);
        }
        self.tally.left_under_way += 1;
        true
    }

    /// The client asks for a topic that it holds: it is attached to it, or about to be.
    pub(crate) fn is_wanted(&mut self, conn: Key, topic: &str) {
        let extra = self.extra(conn).filter(|extra| !extra.asked.is_empty());
        if extra.is_none() {
            return;
        }
        let id = self
            .local_index(topic)
            .map(|index| self.local[index as usize].topic.id());
        if let Some(extra) = self.extra(conn) {
            extra.asked.doubts.retain(|doubt| &*doubt.topic != topic);
            let requests = extra.asked.requests.iter_mut();
            requests
                .filter(|one| Some(one.topic) == id)
                .for_each(|one| one.left = false);
        }
        self.tidy(conn);
    }

    /// The connection has left a topic for good.
    pub(crate) fn forget_asked(&mut self, conn: Key, index: u32) {
        let extra = self.extra(conn).filter(|extra| !extra.asked.is_empty());
        if extra.is_none() {
            return;
        }
        let topic = Arc::clone(&self.local[index as usize].topic);
        if let Some(extra) = self.extra(conn) {
            extra.asked.requests.retain(|one| one.topic != topic.id());
            extra.asked.doubts.retain(|one| one.topic != *topic.name());
        }
        self.tidy(conn);
    }

    /// Ends what the client did not come back to.
    pub(crate) fn expire_doubts(&mut self, conn: Key) {
        let now = self.now;
        let Some(extra) = self.extra(conn) else {
            return;
        };
        extra.asked.timer = None;
        let mut over = Vec::new();
        while let Some(doubt) = extra.asked.doubts.pop_front_if(|doubt| doubt.until <= now) {
            over.push(doubt.topic);
        }
        for topic in over {
            let left = self.leave_now(conn, topic);
            self.tally.doubts_ended += u64::from(left);
        }
        self.time_doubts(conn);
        self.tidy(conn);
    }

    /// Sets the timer for the first doubt, unless it is set.
    fn time_doubts(&mut self, conn: Key) {
        let asked = self.extra(conn).map(|extra| &extra.asked);
        let Some(first) = asked
            .filter(|asked| asked.timer.is_none())
            .and_then(|asked| asked.doubts.front())
        else {
            return;
        };
        let until = first.until;
        let timer = self.timers.insert(until, Timer::Doubts(conn));
        if let Some(extra) = self.extra(conn) {
            extra.asked.timer = Some(timer);
        }
    }
}
