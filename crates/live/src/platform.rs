//! What calls and streams ask of the engine below them.

use core::any::Any;
use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use millstream_core::{ConnId, Millis, RawJson, RawJsonRef};
use millstream_hub::{BatchMember, History, PublishError, PublishOptions, Published, Snapshot};

use crate::handler::BoxFuture;
use crate::reply::Reply;
use crate::user::User;

/// The engine: topics and connections. The server implements it over its workers, the test
/// harness over one hub without sockets.
///
/// Methods do not wait. What they produce for one connection keeps its order. They may be called
/// while locks are held, so they do not call back into the application before they return; work
/// given to [`spawn`](Self::spawn) may.
pub trait Platform: Send + Sync + 'static {
    /// Publishes to all subscribers of a topic. System topics are allowed here.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was numbered or delivered then.
    fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        options: PublishOptions,
    ) -> Result<Published, PublishError>;

    /// Publishes several events as one unit.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was numbered or delivered then.
    fn publish_batched(&self, members: &[BatchMember<'_>]) -> Result<Vec<Published>, PublishError>;

    /// Publishes an event without a number, of which a connection that is behind gets only the
    /// newest per key, in the place of the first; without a key the event takes the place of all
    /// that waits of the topic. Others get every event. The default gives every event to all.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was delivered then.
    fn publish_coalesced(
        &self,
        topic: &str,
        event: &str,
        data: RawJsonRef<'_>,
        key: Option<&str>,
    ) -> Result<Published, PublishError> {
        let _ = key;
        let unnumbered = PublishOptions {
            numbered: false,
            ..PublishOptions::default()
        };
        self.publish(topic, event, data, unnumbered)
    }

    /// Sends an event to one connection. A connection that is gone is no error.
    fn send(&self, conn: ConnId, topic: &str, event: &str, data: RawJson);

    /// Sends a connection the reply to an upload. Unlike [`send`](Self::send) it is not refused
    /// when the connection's worker is far behind: there is at most one for an upload.
    fn reply(&self, conn: ConnId, reply: Reply) {
        self.send(conn, reply.topic, &reply.event, reply.data);
    }

    /// Stops reading from a connection, or goes on. What was read already is not handled either
    /// before reading goes on. Repeating it changes nothing; so does a connection that is gone.
    ///
    /// A platform that cannot do that ignores it: uploads to functions that are too slow then fail
    /// with `FLOW_BACKPRESSURE`.
    fn set_reading(&self, conn: ConnId, on: bool) {
        let _ = (conn, on);
    }

    /// The largest message a client may send, if there is a limit. Uploads are told.
    fn frame_bytes_max(&self) -> Option<u32> {
        None
    }

    /// Subscribes a connection on behalf of a stream. The application's subscribe hook is asked
    /// unless the connection holds the topic already. Unless it did, events are held back from
    /// the start until the host has sent the reply; see [`Reply::release`](crate::Reply). Where
    /// they are held back for another request they wait for both. `holder` is the number of this
    /// one.
    ///
    /// Resolves to the reason of a refusal; `CONNECTION_CLOSED` when there is no connection.
    fn subscribe(&self, conn: ConnId, topic: &str, holder: u64) -> BoxFuture<Result<(), String>>;

    /// Ends the holding back for a request that has no reply which does.
    fn release(&self, conn: ConnId, topic: &str, holder: u64);

    /// Ends the subscription that a stream's request has made, and the holding back for it, unless
    /// others for the topic are under way by then. `holder` is the number of the one that has
    /// failed. Resolves when it has ended.
    fn unsubscribe(&self, conn: ConnId, topic: &str, holder: u64) -> BoxFuture<()>;

    /// Subscriptions to a topic, of all connections.
    fn subscribers(&self, topic: &str) -> u64;

    /// The number of the newest event of a topic that keeps events. `None` when it keeps none.
    fn position(&self, topic: &str) -> Option<u64>;

    /// What a topic has kept of the time after a number. `None` as for
    /// [`position`](Self::position).
    fn since(&self, topic: &str, number: u64) -> Option<History>;

    /// Monotonic time since some moment before the first call.
    fn now(&self) -> Millis;

    /// Resolves after that time has passed. May be polled anywhere.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;

    /// Runs work that nobody waits for. A panic in it costs nobody else.
    fn spawn(&self, work: BoxFuture<()>);

    /// The load as it was sampled last.
    fn pressure(&self) -> Arc<Snapshot>;

    /// The platform itself, for hosts that offer more verbs than these.
    fn as_any(&self) -> &dyn Any;
}

/// Who is calling: facts of a connection that stay the same while it is open.
///
/// The host implements it for what it keeps of a connection anyway, so that a call costs no copy.
pub trait Client<U>: Send + Sync + 'static {
    /// What the upgrade hook attached.
    fn user(&self) -> Option<&U>;

    /// The address of the client, for people and logs.
    fn remote_address(&self) -> String;

    /// The id of the upgrade request.
    fn request_id(&self) -> String;

    /// Whether the connection is over. A host says so before it calls
    /// [`Live::handle_closed`](crate::Live::handle_closed); one that never does leaves calls that
    /// ask later in the belief that they have somebody to answer.
    fn is_closed(&self) -> bool {
        false
    }

    /// The facts themselves, for hosts that know more of a connection.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// Who is behind work that no client asked for.
struct Nobody;

impl<U> Client<U> for Nobody {
    fn user(&self) -> Option<&U> {
        None
    }

    fn remote_address(&self) -> String {
        String::new()
    }

    fn request_id(&self) -> String {
        String::new()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The origin of a call: a connection and who is behind it.
pub struct Caller<U> {
    /// The connection; absent for work that no client asked for.
    pub conn: Option<ConnId>,
    /// Who is behind it.
    pub client: Arc<dyn Client<U>>,
}

impl<U> Caller<U> {
    /// No connection and nobody behind it: the server itself.
    #[must_use]
    pub fn nobody() -> Self {
        Self {
            conn: None,
            client: Arc::new(Nobody),
        }
    }
}

impl<U> Clone for Caller<U> {
    fn clone(&self) -> Self {
        Self {
            conn: self.conn,
            client: Arc::clone(&self.client),
        }
    }
}

impl<U: User> fmt::Debug for Caller<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("conn", &self.conn)
            .field("known", &self.client.user().is_some_and(User::is_known))
            .finish_non_exhaustive()
    }
}
