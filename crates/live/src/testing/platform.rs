//! The platform below an application under test.

use core::any::Any;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::{ConnId, Key, Millis, RawJson, RawJsonRef};
use millstream_hub::{
    BatchMember, Delivery, History, Inboxes, PublishError, PublishOptions, Published, Publisher,
    Snapshot, Topics,
};
use parking_lot::Mutex;

use super::exec::{Promise, Shared, promise};
use super::record::{Behind, PublishedEvent, Record};
use crate::handler::BoxFuture;
use crate::platform::Platform;
use crate::reply::Reply;

/// What tasks ask of the worker that owns a connection.
pub(super) enum Task {
    Deliver(Delivery),
    Reply(Key, Reply),
    Send {
        conn: Key,
        topic: String,
        event: String,
        data: RawJson,
    },
    Read {
        conn: Key,
        on: bool,
    },
    Subscribe {
        conn: Key,
        topic: String,
        holder: u64,
        answer: Promise<Result<(), String>>,
    },
    Release {
        conn: Key,
        topic: String,
        holder: u64,
    },
    Unsubscribe {
        conn: Key,
        topic: String,
        holder: u64,
        done: Promise<()>,
    },
}

impl Task {
    /// Whether somebody waits for it, and the application may be called.
    pub(super) fn is_question(&self) -> bool {
        matches!(self, Self::Subscribe { .. } | Self::Unsubscribe { .. })
    }
}

/// One queue per worker.
pub(super) struct Queues(Mutex<Vec<VecDeque<Task>>>);

/// Tasks of one worker beyond which publishes are refused.
const TASKS_MAX: usize = 65_536;

impl Queues {
    pub(super) fn push(&self, worker: u16, task: Task) {
        if let Some(queue) = self.0.lock().get_mut(usize::from(worker)) {
            queue.push_back(task);
        }
    }

    pub(super) fn pop(&self, worker: u16) -> Option<Task> {
        self.0.lock().get_mut(usize::from(worker))?.pop_front()
    }

    pub(super) fn is_idle(&self, worker: u16) -> bool {
        self.len(worker) == 0
    }

    fn len(&self, worker: u16) -> usize {
        let queues = self.0.lock();
        queues.get(usize::from(worker)).map_or(0, VecDeque::len)
    }
}

impl Inboxes for Queues {
    fn push(&self, worker: u16, delivery: Delivery) {
        Self::push(self, worker, Task::Deliver(delivery));
    }

    fn is_empty(&self, worker: u16) -> bool {
        self.len(worker) == 0
    }

    fn is_full(&self, worker: u16) -> bool {
        self.len(worker) >= TASKS_MAX
    }
}

/// Hubs without sockets, time without a clock.
pub(super) struct Bench {
    pub(super) topics: Arc<Topics>,
    pub(super) queues: Queues,
    pub(super) pressure: Mutex<Arc<Snapshot>>,
    record: Arc<Record>,
    shared: Arc<Shared>,
    members_max: u32,
    message_bytes_max: u32,
}

impl Bench {
    pub(super) fn new(
        topics: Arc<Topics>,
        shared: Arc<Shared>,
        record: Arc<Record>,
        members_max: u32,
    ) -> Self {
        let queues = (0..topics.workers()).map(|_| VecDeque::new()).collect();
        Self {
            topics,
            queues: Queues(Mutex::new(queues)),
            pressure: Mutex::default(),
            record,
            shared,
            members_max,
            message_bytes_max: u32::MAX,
        }
    }

    /// Says how long messages of clients may be.
    pub(super) fn receiving(mut self, bytes: usize) -> Self {
        self.message_bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        self
    }

    fn publisher(&self) -> Publisher<'_, Queues> {
        Publisher {
            topics: &self.topics,
            inboxes: &self.queues,
            now: self.shared.now(),
        }
    }
}

impl Platform for Bench {
    fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        self.record.admit()?;
        let published = self
            .publisher()
            .publish(None, topic, event, data, options)?;
        let behind = if options.volatile {
            Behind::Nothing
        } else {
            Behind::Everything
        };
        self.record
            .keep(|| PublishedEvent::new(topic, event, data, published, behind));
        Ok(published)
    }

    fn publish_batched(&self, members: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError> {
        self.record.admit()?;
        let all = self
            .publisher()
            .publish_batched(None, members, self.members_max)?;
        for (one, published) in members.iter().zip(&all) {
            self.record.keep(|| PublishedEvent {
                together: members.len(),
                ..PublishedEvent::new(
                    one.topic,
                    one.event,
                    one.data,
                    *published,
                    Behind::Everything,
                )
            });
        }
        Ok(all)
    }

    fn publish_coalesced(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        self.record.admit()?;
        let published = self
            .publisher()
            .publish_coalesced(None, topic, event, data, key)?;
        let behind = || key.map_or(Behind::Newest, |key| Behind::NewestOf(key.to_owned()));
        self.record
            .keep(|| PublishedEvent::new(topic, event, data, published, behind()));
        Ok(published)
    }

    fn send(&self, conn: ConnId, topic: &str, event: &str, data: RawJson) {
        let task = Task::Send {
            conn: conn.key(),
            topic: topic.to_owned(),
            event: event.to_owned(),
            data,
        };
        self.queues.push(conn.worker(), task);
    }

    fn reply(&self, conn: ConnId, reply: Reply) {
        self.queues
            .push(conn.worker(), Task::Reply(conn.key(), reply));
    }

    fn set_reading(&self, conn: ConnId, on: bool) {
        let task = Task::Read {
            conn: conn.key(),
            on,
        };
        self.queues.push(conn.worker(), task);
    }

    fn frame_bytes_max(&self) -> Option<u32> {
        Some(self.message_bytes_max)
    }

    fn release(&self, conn: ConnId, topic: &str, holder: u64) {
        let task = Task::Release {
            conn: conn.key(),
            topic: topic.to_owned(),
            holder,
        };
        self.queues.push(conn.worker(), task);
    }

    fn subscribe(&self, conn: ConnId, topic: &str, holder: u64) -> BoxFuture<Result<(), String>> {
        let (answer, answered) = promise();
        let task = Task::Subscribe {
            conn: conn.key(),
            topic: topic.to_owned(),
            holder,
            answer,
        };
        self.queues.push(conn.worker(), task);
        Box::pin(async move {
            let answer = answered.await;
            answer.unwrap_or_else(|| Err(crate::code::CONNECTION_CLOSED.to_owned()))
        })
    }

    fn unsubscribe(&self, conn: ConnId, topic: &str, holder: u64) -> BoxFuture<()> {
        let (done, ended) = promise();
        let task = Task::Unsubscribe {
            conn: conn.key(),
            topic: topic.to_owned(),
            holder,
            done,
        };
        self.queues.push(conn.worker(), task);
        Box::pin(async move {
            // None when the server has stopped, which has ended all of them.
            let _ = ended.await;
        })
    }

    fn subscribers(&self, topic: &str) -> u64 {
        self.topics.subscribers(topic)
    }

    fn position(&self, topic: &str) -> Option<u64> {
        self.topics.position(topic, self.shared.now())
    }

    fn since(&self, topic: &str, number: u64) -> Option<History> {
        self.topics.since(topic, number, self.shared.now())
    }

    fn now(&self) -> Millis {
        self.shared.now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(self.shared.sleep(duration))
    }

    fn spawn(&self, work: BoxFuture<()>) {
        self.record.count_spawned();
        self.shared.spawn(work);
    }

    fn pressure(&self) -> Arc<Snapshot> {
        Arc::clone(&self.pressure.lock())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
