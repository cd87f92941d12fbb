//! What a hook can do while it runs on its connection's worker.

use std::any::Any;
use std::sync::Arc;

use millstream_core::{ConnId, Key, RawJsonRef};
use millstream_hub::{BatchMember, PublishError, PublishOptions, Published, RawPayload, Sent};
use millstream_live::{Answer, Release};

use crate::conn::{Conn, Handle};
use crate::peer::Peer;
use crate::worker::core::{Core, Link};

/// The connection a hook is called for, with everything the hook may do at once.
///
/// Output is collected and leaves with the worker's next flush, in the order in which it was
/// produced. Nothing here waits. For work that has to wait take [`conn`](Self::conn) along into
/// a future.
pub struct Context<'a> {
    core: &'a mut Core,
    key: Key,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(core: &'a mut Core, key: Key) -> Self {
        Self { core, key }
    }

    /// The connection's id, unique while the process runs.
    #[must_use]
    pub fn id(&self) -> ConnId {
        ConnId::new(self.core.hub.worker(), self.key)
    }

    /// Facts of the upgrade request.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.link().peer
    }

    /// What the upgrade hook attached, if it is a `T`.
    #[must_use]
    pub fn user<T: Any>(&self) -> Option<&T> {
        self.peer().user.get()
    }

    /// A handle to this connection for other threads and for later.
    #[must_use]
    pub fn conn(&self) -> Conn {
        let link = self.link();
        Conn::new(self.id(), link.peer.clone(), self.core.shared.clone())
    }

    fn link(&self) -> &Link {
        // `Core::with_hook` makes a context only for a connection that has a socket, and sockets
        // are dropped only between hooks.
        self.core
            .links
            .peek(self.key)
            .expect("hooks run for connections that have a socket")
    }

    /// The facts of the upgrade request, shared.
    pub(crate) fn peer_shared(&self) -> Arc<Peer> {
        Arc::clone(&self.link().peer)
    }

    /// Takes what the application has kept from the last message that it kept something from, if it
    /// is a `T`, and whether that message was this connection's.
    #[inline]
    pub(crate) fn take_kept<T: Any>(&mut self) -> Option<(bool, Box<T>)> {
        let (key, kept) = self.core.kept.take()?;
        Some((key == self.key, kept.downcast().ok()?))
    }

    /// Keeps something for the next message, at most until this connection ends.
    #[inline]
    pub(crate) fn keep<T: Any>(&mut self, kept: Box<T>) {
        self.core.kept = Some((self.key, kept));
    }

    /// Puts what was published through handles while this hook ran in front of what it sends next.
    #[inline]
    pub(crate) fn catch_up(&mut self) {
        self.core.take_deliveries();
    }

    /// Runs part of a call, which has no other way to this worker than handles.
    pub(crate) fn lending<R>(&mut self, work: impl FnOnce() -> R) -> R {
        self.core.lending(work)
    }

    /// Does what was asked of this worker through handles, and says whether there was anything.
    pub(crate) fn serve(&mut self) -> bool {
        self.core.serve()
    }

    /// Sends the reply to a call.
    pub(crate) fn reply(&mut self, topic: &str, event: &str, data: RawJsonRef<'_>) {
        self.core.hub.reply(self.key, topic, event, data);
        self.core.after_publish(false);
    }

    /// Sends the reply to a call that has succeeded. The last that is done for a message: whether
    /// the turn is full is looked at behind it.
    #[inline]
    pub(crate) fn reply_success(&mut self, answer: &Answer<'_>) {
        let (id, data) = (answer.id(), answer.data());
        self.core.hub.reply_success(self.key, id, data);
    }

    /// Delivers what was held back of a topic until a reply was sent.
    pub(crate) fn release(&mut self, one: &Release) {
        let hub = &mut self.core.hub;
        hub.release_after(self.key, &one.topic, one.holder, one.covered);
        self.core.after_publish(false);
    }

    /// The requests for a topic that have no reply yet.
    pub(crate) fn under_way(&self, topic: &str) -> Vec<u64> {
        self.core.hub.under_way(self.key, topic)
    }

    /// The runtime for work that has to wait.
    pub(crate) fn runtime(&self) -> tokio::runtime::Handle {
        self.core.shared.runtime.clone()
    }

    /// A handle to the server for other threads and for later.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.core.shared.clone())
    }

    /// Publishes an event to all subscribers of a topic, this connection included.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was numbered or delivered then.
    pub fn publish(
        &mut self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError> {
        self.core.publish_with(|publisher, hub| {
            publisher.publish(Some(hub), topic, event, data, options)
        })
    }

    /// Publishes a message of the application's own protocol as it is.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was delivered then.
    pub fn publish_raw(
        &mut self,
        topic: &str,
        payload: RawPayload<'_>,
    ) -> Result<Published, PublishError> {
        self.core
            .publish_with(|publisher, hub| publisher.publish_raw(Some(hub), topic, payload))
    }

    /// Publishes several events as one unit; see [`millstream_hub::Publisher::publish_batched`].
    ///
    /// # Errors
    /// [`PublishError`]; nothing was numbered or delivered then.
    pub fn publish_batched(
        &mut self,
        members: &[BatchMember<'_>],
    ) -> Result<Vec<Published>, PublishError> {
        let members_max = self.core.hub.config().limits.batch_members_max;
        let mut all = Vec::new();
        let queued = &mut all;
        self.core.publish_with(|publisher, hub| {
            *queued = publisher.publish_batched(Some(hub), members, members_max)?;
            Ok(Published {
                delivered: queued.iter().any(|one| one.delivered),
                seq: None,
                queued: queued.iter().any(|one| one.queued),
            })
        })?;
        Ok(all)
    }

    /// Sends an event to this connection alone, without a number.
    pub fn send(&mut self, topic: &str, event: &str, data: RawJsonRef<'_>) -> Sent {
        let sent = self.core.hub.send(self.key, topic, event, data);
        self.core.after_publish(false);
        sent
    }

    /// Sends an event of which only the newest per key matters to a slow reader.
    pub fn send_coalesced(
        &mut self,
        key: &str,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
    ) -> Sent {
        let sent = self
            .core
            .hub
            .send_coalesced(self.key, key, topic, event, data);
        self.core.after_publish(false);
        sent
    }

    /// Sends a text message as it is.
    pub fn send_text(&mut self, text: &str) -> Sent {
        let sent = self.core.hub.send_text(self.key, text);
        self.core.after_publish(false);
        sent
    }

    /// Sends a binary message as it is. The original's browser client ignores those.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Sent {
        let sent = self.core.hub.send_binary(self.key, bytes);
        self.core.after_publish(false);
        sent
    }

    /// Subscribes this connection without asking anybody: the application has decided.
    /// False when a limit or the topic's name stands in the way.
    pub fn subscribe_unchecked(&mut self, topic: &str) -> bool {
        self.core.hub.subscribe_unchecked(self.key, topic)
    }

    /// Ends a subscription; the unsubscribe hook runs after this one. False if it was not held.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.core.hub.unsubscribe(self.key, topic)
    }

    /// Whether this connection holds a topic.
    #[must_use]
    pub fn holds(&self, topic: &str) -> bool {
        self.core.hub.holds(self.key, topic)
    }

    /// Says in a resume hook that the application has brought this topic up to date itself.
    pub fn cover(&mut self, topic: &str) {
        self.core.hub.cover(self.key, topic);
    }

    /// Unsent bytes of this connection.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.core.hub.pending(self.key)
    }

    /// Closes this connection with a close frame. What the codes do to a client is described at
    /// [`CloseCode`](millstream_wire::CloseCode).
    pub fn close(&mut self, code: u16, reason: &str) {
        self.core.say_close(self.key, code, reason);
    }
}
