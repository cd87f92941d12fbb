//! Handles that work from any thread: one to a connection, one to the server.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_core::{ConnId, Millis, RawJson, RawJsonRef, TopicName, TopicRules};
use millstream_hub::{
    BatchMember, History, Hub, Inboxes, PublishError, PublishOptions, Published, Publisher,
    RequestError, Snapshot, Stats, Verdict, reason,
};
use tokio::sync::oneshot;

use crate::peer::Peer;
use crate::worker::ask;
use crate::worker::core::{Core, Ending};
use crate::worker::inbox::{AllInboxes, Task};
use crate::worker::lend::with_lent;
use crate::worker::pool::Shared;

/// A connection, from any thread. Cheap to clone; outlives the connection harmlessly.
#[derive(Clone)]
pub struct Conn {
    id: ConnId,
    peer: Arc<Peer>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Conn {
    pub(crate) fn new(id: ConnId, peer: Arc<Peer>, shared: Arc<Shared>) -> Self {
        Self { id, peer, shared }
    }

    /// The connection's id, unique while the process runs.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// The session id the client was given in `welcome`.
    #[must_use]
    pub fn session_id(&self) -> String {
        uuid::Uuid::from_bytes(self.peer.session).to_string()
    }

    /// Facts of the upgrade request.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the upgrade hook attached, if it is a `T`.
    #[must_use]
    pub fn user<T: Any>(&self) -> Option<&T> {
        self.peer.user.get()
    }

    /// A handle to the server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Sends an event to this connection alone, without a number.
    ///
    /// # Errors
    /// [`Busy`] when the worker is so far behind that nothing more is taken.
    pub fn send(&self, topic: &str, event: &str, data: RawJson) -> Result<(), Busy> {
        let (topic, event) = (topic.to_owned(), event.to_owned());
        let key = self.id.key();
        self.output_if_room(move |core| {
            core.hub.send(key, &topic, &event, data.get());
        })
    }

    /// Sends an event of which only the newest per key matters to a slow reader.
    ///
    /// # Errors
    /// [`Busy`], as for [`send`](Self::send).
    pub fn send_coalesced(
        &self,
        by: &str,
        topic: &str,
        event: &str,
        data: RawJson,
    ) -> Result<(), Busy> {
        let (by, topic, event) = (by.to_owned(), topic.to_owned(), event.to_owned());
        let key = self.id.key();
        self.output_if_room(move |core| {
            core.hub
                .send_coalesced(key, &by, &topic, &event, data.get());
        })
    }

    /// Sends a text message as it is.
    ///
    /// # Errors
    /// [`Busy`], as for [`send`](Self::send).
    pub fn send_text(&self, text: impl Into<String>) -> Result<(), Busy> {
        let (key, text) = (self.id.key(), text.into());
        self.output_if_room(move |core| {
            core.hub.send_text(key, &text);
        })
    }

    /// Closes with a close frame.
    pub fn close(&self, code: u16, reason: &str) {
        let (key, reason) = (self.id.key(), reason.to_owned());
        self.output(move |core| core.say_close(key, code, &reason));
    }

    /// Cuts the TCP connection without a close frame; the peer sees 1006.
    pub fn terminate(&self) {
        let key = self.id.key();
        self.output(move |core| core.ending.push((key, Ending::new(1006, "terminated"))));
    }

    /// Subscribes this connection: any valid topic, `__` included. The subscribe hook is asked
    /// unless the topic is held already. No frame is sent to the client.
    ///
    /// # Errors
    /// The reason of the denial.
    pub async fn subscribe(&self, topic: &str) -> Result<(), String> {
        let (key, topic) = (self.id.key(), topic.to_owned());
        self.run(move |core, answer| {
            let token = core.shared.next_token();
            core.decisions.insert(token, answer);
            core.hub.subscribe(key, &topic, token, None);
            core.pump();
        })
        .await
        .unwrap_or_else(|| Err("CONNECTION_CLOSED".to_owned()))
    }

    /// Asks the subscribe hook without subscribing.
    ///
    /// # Errors
    /// The reason of the denial.
    pub async fn check_subscribe(&self, topic: &str) -> Result<(), String> {
        let Ok(topic) = TopicName::parse(topic, &TopicRules::SERVER) else {
            return Err(reason::INVALID_TOPIC.to_owned());
        };
        let key = self.id.key();
        let asked = self.run(move |core, answer| {
            let decision = core.with_hook(key, "subscribe", |hooks, cx| {
                let whole = hooks.subscribe_batch(cx, std::slice::from_ref(&topic));
                match whole {
                    Some(answer) => Asked::Batch(answer),
                    None => Asked::One(hooks.subscribe(cx, &topic)),
                }
            });
            let runtime = core.shared.runtime.clone();
            runtime.spawn(async move {
                let verdict = match decision {
                    Some(Asked::One(one)) => ask::verdict(Some(settled(one).await)),
                    Some(Asked::Batch(all)) => match settled(all).await {
                        Ok(all) => all.into_iter().next().unwrap_or(Verdict::FAILED),
                        Err(_) => Verdict::FAILED,
                    },
                    None => Verdict::FAILED,
                };
                let _ = answer.send(verdict);
            });
        });
        match asked.await {
            Some(Verdict::Allow) => Ok(()),
            Some(Verdict::Deny(reason)) => Err(reason.into_owned()),
            None => Err("CONNECTION_CLOSED".to_owned()),
        }
    }

    /// Ends a subscription. False when it was not held.
    pub async fn unsubscribe(&self, topic: &str) -> bool {
        let (key, topic) = (self.id.key(), topic.to_owned());
        self.run(move |core, answer| {
            let left = core.hub.unsubscribe(key, &topic);
            core.pump();
            let _ = answer.send(left);
        })
        .await
        .unwrap_or(false)
    }

    /// Whether this connection holds a topic.
    pub async fn holds(&self, topic: &str) -> bool {
        let (key, topic) = (self.id.key(), topic.to_owned());
        self.run(move |core, answer| {
            let _ = answer.send(core.hub.holds(key, &topic));
        })
        .await
        .unwrap_or(false)
    }

    /// Asks the client and waits for its answer; as long as `request_timeout` when no time is
    /// given.
    ///
    /// # Errors
    /// [`RequestError`]: the client's own error, no answer in time, or no connection.
    pub async fn request(
        &self,
        event: &str,
        data: RawJson,
        timeout: Option<Duration>,
    ) -> Result<RawJson, RequestError> {
        let (key, event) = (self.id.key(), event.to_owned());
        self.run(move |core, answer| {
            let token = core.shared.next_token();
            core.replies.insert(token, answer);
            let (now, timeout) = (core.now, timeout.unwrap_or_default());
            core.hub
                .request(key, token, &event, data.get(), timeout, now);
            core.pump();
        })
        .await
        .unwrap_or(Err(RequestError::Closed))
    }

    /// Output that a flood of could fill the inbox with.
    fn output_if_room(&self, work: impl FnOnce(&mut Core) + Send + 'static) -> Result<(), Busy> {
        if self.shared.inboxes.is_full(self.id.worker()) {
            self.shared.sends_busy.fetch_add(1, Ordering::Relaxed);
            return Err(Busy);
        }
        self.output(work);
        Ok(())
    }

    fn output(&self, work: impl FnOnce(&mut Core) + Send + 'static) {
        if let Some(inbox) = self.shared.inboxes.get(self.id.worker()) {
            inbox.push(Task::Output(Box::new(work)));
        }
    }

    /// Runs `work` on the worker and waits for what it answers; `None` when it never does.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core, oneshot::Sender<T>) + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let inbox = self.shared.inboxes.get(self.id.worker())?;
        inbox.push(Task::Run(Box::new(move |core| work(core, sender))));
        receiver.await.ok()
    }
}

/// A worker is too far behind to be given more. Nothing was sent; try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker's inbox is full")]
pub struct Busy;

enum Asked {
    Batch(crate::hooks::Answer<Result<Vec<Verdict>, crate::hooks::HookError>>),
    One(crate::hooks::Answer<Result<Verdict, crate::hooks::HookError>>),
}

async fn settled<T>(answer: crate::hooks::Answer<T>) -> T {
    match answer {
        crate::hooks::Answer::Now(value) => value,
        crate::hooks::Answer::Later(future) => future.await,
    }
}

/// The server, from any thread or task. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// One event of [`Handle::publish_batched`], owning its parts.
#[derive(Debug, Clone)]
pub struct OwnedMember {
    /// Topic name.
    pub topic: String,
    /// Event name.
    pub event: String,
    /// Payload.
    pub data: RawJson,
    /// Of members with the same key only the last survives.
    pub coalesce_key: Option<String>,
    /// Whether it takes its topic's next number.
    pub numbered: bool,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Time since the server started.
    pub(crate) fn clock(&self) -> Millis {
        self.shared.clock()
    }

    /// Where work that has to wait runs.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.shared.runtime
    }

    /// Publishes as the application does: through everything that its streams declare. `None`
    /// for an application without streams, whose events need nothing but [`publish`].
    ///
    /// [`publish`]: Self::publish
    #[must_use]
    pub fn publisher(&self) -> Option<millstream_live::Publisher> {
        self.shared.hooks.publisher()
    }

    /// Publishes an event to all subscribers of a topic as it is: system topics are allowed, and
    /// nothing that streams declare happens. Applications of calls and streams take a
    /// [`publisher`](Self::publisher).
    ///
    /// # Errors
    /// [`PublishError`]; nothing was numbered or delivered then.
    pub fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        self.publish_with(|publisher, hub| publisher.publish(hub, topic, event, data, options))
    }

    /// Publishes an event of which a connection that is behind gets only the newest per key; see
    /// [`millstream_hub::Publisher::publish_coalesced`].
    ///
    /// # Errors
    /// [`PublishError`]; nothing was delivered then.
    pub fn publish_coalesced(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        self.publish_with(|publisher, hub| {
            publisher.publish_coalesced(hub, topic, event, data, key)
        })
    }

    /// Publishes several events as one unit.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was numbered or delivered then.
    pub fn publish_batched(&self, members: &[OwnedMember]) -> Result<Vec<Published>, PublishError> {
        let members: Vec<BatchMember<'_>> = members
            .iter()
            .map(|member| BatchMember {
                topic: &member.topic,
                event: &member.event,
                data: member.data.get(),
                coalesce_key: member.coalesce_key.as_deref(),
                numbered: member.numbered,
            })
            .collect();
        self.publish_members(&members)
    }

    /// Subscriptions to a topic on all workers.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> u64 {
        self.shared.topics.subscribers(topic)
    }

    /// The number of the newest event of a topic that keeps events, or where it will begin if it
    /// has none yet. `None` when it keeps none.
    #[must_use]
    pub fn position(&self, topic: &str) -> Option<u64> {
        self.shared.topics.position(topic, self.clock())
    }

    /// What a topic has kept of the time after a number. `None` as for
    /// [`position`](Self::position).
    #[must_use]
    pub fn since(&self, topic: &str, number: u64) -> Option<History> {
        self.shared.topics.since(topic, number, self.clock())
    }

    /// Open connections of all workers.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections()
    }

    /// The counters of all hubs.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.shared.topics.stats()
    }

    /// The pressure at the last sample.
    #[must_use]
    pub fn pressure(&self) -> Arc<Snapshot> {
        self.shared.pressure.load_full()
    }

    /// Sends an event to every connection whose peer the filter accepts; gives their number.
    /// The filter runs on the workers' threads: keep it short.
    pub async fn send_to(
        &self,
        filter: impl Fn(&Peer) -> bool + Send + Sync + 'static,
        topic: &str,
        event: &str,
        data: RawJson,
    ) -> usize {
        let (topic, event): (Arc<str>, Arc<str>) = (topic.into(), event.into());
        self.each(filter, move |core, key| {
            core.hub.send(key, &topic, &event, data.get());
        })
        .await
    }

    /// Closes every connection whose peer the filter accepts; gives their number.
    pub async fn close_where(
        &self,
        filter: impl Fn(&Peer) -> bool + Send + Sync + 'static,
        code: u16,
        reason: &str,
    ) -> usize {
        let reason: Arc<str> = reason.into();
        self.each(filter, move |core, key| core.say_close(key, code, &reason))
            .await
    }

    /// Cuts every connection whose peer the filter accepts; gives their number.
    pub async fn terminate_where(
        &self,
        filter: impl Fn(&Peer) -> bool + Send + Sync + 'static,
    ) -> usize {
        self.each(filter, |core, key| {
            core.ending.push((key, Ending::new(1006, "terminated")));
        })
        .await
    }

    async fn each(
        &self,
        filter: impl Fn(&Peer) -> bool + Send + Sync + 'static,
        work: impl Fn(&mut Core, millstream_core::Key) + Send + Sync + 'static,
    ) -> usize {
        let filter = Arc::new(filter);
        let work = Arc::new(work);
        let total = Arc::new(AtomicUsize::new(0));
        let mut waiting = Vec::new();
        for inbox in self.shared.inboxes.0.iter() {
            let (done, receiver) = oneshot::channel::<()>();
            let (filter, work, total) =
                (Arc::clone(&filter), Arc::clone(&work), Arc::clone(&total));
            inbox.push(Task::Run(Box::new(move |core| {
                let keys: Vec<_> = core
                    .links
                    .iter()
                    .filter(|link| filter(&link.peer))
                    .map(|link| link.key)
                    .collect();
                total.fetch_add(keys.len(), Ordering::Relaxed);
                for key in keys {
                    work(core, key);
                    core.after_publish(false);
                }
                let _ = done.send(());
            })));
            waiting.push(receiver);
        }
        for done in waiting {
            // A worker that stopped has nobody left to reach.
            let _ = done.await;
        }
        total.load(Ordering::Relaxed)
    }

    /// A handle to a connection with these facts.
    pub(crate) fn connection(&self, id: ConnId, peer: Arc<Peer>) -> Conn {
        Conn::new(id, peer, Arc::clone(&self.shared))
    }

    /// Sends to a connection by its id; counted when the worker is too far behind to take it.
    pub(crate) fn send_by_id(&self, id: ConnId, topic: &str, event: &str, data: RawJson) {
        let Some(inbox) = self.shared.inboxes.get(id.worker()) else {
            return;
        };
        if self.shared.inboxes.is_full(id.worker()) {
            self.shared.sends_busy.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (topic, event) = (topic.to_owned(), event.to_owned());
        inbox.push(Task::Output(Box::new(move |core| {
            core.hub.send(id.key(), &topic, &event, data.get());
        })));
    }

    /// Sends the reply to a call, and behind it the events that waited for it. Not refused when
    /// the worker is far behind: there is at most one per call that it has taken.
    pub(crate) fn reply(&self, id: ConnId, reply: millstream_live::Reply) {
        if let Some(inbox) = self.shared.inboxes.get(id.worker()) {
            inbox.push(Task::Output(Box::new(move |core| {
                core.hub
                    .reply(id.key(), reply.topic, &reply.event, reply.data.get());
                for one in &reply.release {
                    core.hub
                        .release_after(id.key(), &one.topic, one.holder, one.covered);
                }
            })));
        }
    }

    /// Ends the holding back of events for a request that was not answered.
    pub(crate) fn release_by_id(&self, id: ConnId, topic: &str, holder: u64) {
        if let Some(inbox) = self.shared.inboxes.get(id.worker()) {
            let topic = topic.to_owned();
            inbox.push(Task::Output(Box::new(move |core| {
                core.hub.release(id.key(), &topic, holder);
            })));
        }
    }

    /// Stops reading from a connection, or goes on.
    pub(crate) fn read_or_wait(&self, id: ConnId, on: bool) {
        if let Some(inbox) = self.shared.inboxes.get(id.worker()) {
            inbox.push(Task::Output(Box::new(move |core| {
                if on {
                    core.read_on(id.key());
                } else {
                    core.pause_reading(id.key());
                }
            })));
        }
    }

    /// The largest message a client may send.
    pub(crate) fn message_bytes_max(&self) -> u32 {
        u32::try_from(self.shared.settings.message_bytes_max).unwrap_or(u32::MAX)
    }

    /// Subscribes a connection and holds the topic's events back until they are released, unless
    /// it holds the topic already and receives them.
    pub(crate) async fn subscribe_held(
        &self,
        id: ConnId,
        topic: &str,
        holder: u64,
    ) -> Result<(), String> {
        let (sender, receiver) = oneshot::channel();
        let closed = || "CONNECTION_CLOSED".to_owned();
        let inbox = self.shared.inboxes.get(id.worker()).ok_or_else(closed)?;
        let topic = topic.to_owned();
        inbox.push(Task::Run(Box::new(move |core| {
            let token = core.shared.next_token();
            core.decisions.insert(token, sender);
            core.hub.subscribe(id.key(), &topic, token, Some(holder));
            core.pump();
        })));
        receiver.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Ends the subscription that a request has made, as [`Hub::give_up`] does.
    pub(crate) async fn give_up_by_id(&self, id: ConnId, topic: String, holder: u64) {
        let Some(inbox) = self.shared.inboxes.get(id.worker()) else {
            return;
        };
        let (sender, receiver) = oneshot::channel();
        inbox.push(Task::Run(Box::new(move |core| {
            core.hub.give_up(id.key(), &topic, holder);
            core.pump();
            let _ = sender.send(());
        })));
        // A worker that has stopped has ended all of them.
        let _ = receiver.await;
    }

    /// Publishes several events as one unit, from borrowed parts.
    pub(crate) fn publish_members(
        &self,
        members: &[BatchMember<'_>],
    ) -> Result<Vec<Published>, PublishError> {
        let members_max = self.shared.settings.hub.limits.batch_members_max;
        self.publish_with(|publisher, hub| publisher.publish_batched(hub, members, members_max))
    }

    /// Publishes straight into the batches of this thread's worker if it lends them, else through
    /// inboxes.
    fn publish_with<R>(
        &self,
        work: impl FnOnce(&Publisher<'_, AllInboxes>, Option<&mut Hub>) -> R,
    ) -> R {
        let shared = &self.shared;
        with_lent(&shared.topics, |hub| {
            let publisher = Publisher {
                topics: &shared.topics,
                inboxes: &shared.inboxes,
                now: hub.as_ref().map_or_else(|| shared.clock(), |hub| hub.now()),
            };
            work(&publisher, hub)
        })
    }
}
