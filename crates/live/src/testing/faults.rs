//! What a test does to the server, and what the server did below the application.

use core::time::Duration;

use super::record::PublishedEvent;
use super::testbed::{CallId, ClientId, StreamId, Testbed};
use super::uploads::UploadId;
use crate::user::User;

/// What a client has asked: a call, an upload, the value of a stream, or with
/// [`send_text`](Testbed::send_text) under an id of the test's own. For [`Testbed::drop_call`].
#[derive(Debug, Clone)]
pub struct Request {
    client: usize,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Call(usize),
    Stream(usize),
    Id(String),
}

impl From<(ClientId, &str)> for Request {
    fn from((client, id): (ClientId, &str)) -> Self {
        Self {
            client: client.0,
            kind: Kind::Id(id.to_owned()),
        }
    }
}

impl From<CallId> for Request {
    fn from(call: CallId) -> Self {
        Self {
            client: call.client,
            kind: Kind::Call(call.call),
        }
    }
}

impl From<UploadId> for Request {
    fn from(upload: UploadId) -> Self {
        CallId::from(upload).into()
    }
}

impl From<StreamId> for Request {
    fn from(stream: StreamId) -> Self {
        Self {
            client: stream.client,
            kind: Kind::Stream(stream.stream),
        }
    }
}

impl<S: Send + Sync + 'static, U: User> Testbed<S, U> {
    /// What was published since the last time, by the application and by the framework (streams
    /// that are loaded again), whether or not somebody listens; at most the last 10,000 events.
    ///
    /// ```
    /// use millstream_live::testing::{Behind, Testbed};
    /// use millstream_live::{App, Ctx, Module, Stream};
    /// use serde_json::{Value, json};
    ///
    /// let prices = Module::new("prices")
    ///     .call("set", async |ctx: Ctx<(), ()>, id: u32| {
    ///         ctx.publish("prices", "updated", &json!({"id": id, "secret": 1})).map(drop)
    ///     })
    ///     .stream("all", Stream::fixed("prices").volatile().transform(|mut row: Value| {
    ///         row["secret"].take();
    ///         Ok(row)
    ///     }));
    /// let mut t = Testbed::new(App::new(()).module(prices).build()?);
    /// let ada = t.connect(());
    /// t.call(ada, "prices/set", [7])?;
    /// let published = t.published();
    /// assert_eq!((&*published[0].topic, &*published[0].event), ("prices", "updated"));
    /// assert_eq!(published[0].value(), json!({"id": 7, "secret": null}));
    /// assert_eq!(published[0].behind, Behind::Nothing);
    /// assert!(t.published().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn published(&mut self) -> Vec<PublishedEvent> {
        self.record.take()
    }

    /// Begins or ends to refuse publishes, as a server does whose workers are too far behind:
    /// with `OVERLOADED`, before anything is numbered or delivered.
    pub fn refuse_publishes(&mut self, refuse: bool) {
        self.note(format_args!("publishes are refused: {refuse}"));
        self.record.refuse(refuse);
    }

    /// Stops the worker that serves a client for a while. What clients send to it and what is
    /// published to its connections waits, and is then done in one turn. Nothing without a
    /// connection.
    pub fn stall(&mut self, client: ClientId, duration: Duration) {
        self.note(format_args!("the worker of client {} stalls", client.0));
        if let Some(conn) = self.clients[client.0].conn {
            let worker = usize::from(conn.worker());
            self.host.stall(worker, self.now, duration);
        }
    }

    /// Drops the future of a call, an upload or a subscription where it waits, with the others of
    /// its batch, as the end of the server does. Its function runs no further, only the destructors
    /// of what it holds. There is no reply: the client waits until its time is over.
    ///
    /// ```
    /// use millstream_live::testing::Testbed;
    /// use millstream_live::{App, Call, Ctx, Lock, Module};
    /// use std::time::Duration;
    ///
    /// let call = Call::new(async |ctx: Ctx<(), ()>, millis: u64| {
    ///     ctx.platform().sleep(Duration::from_millis(millis)).await;
    ///     Ok(millis)
    /// });
    /// let one = Module::new("one").call_with("at-a-time", call.lock(Lock::fixed("one")));
    /// let mut t = Testbed::new(App::new(()).module(one).build()?);
    /// let ada = t.connect(());
    /// let first = t.start(ada, "one/at-a-time", [10_000]);
    /// let second = t.start(ada, "one/at-a-time", [0]);
    /// t.settle();
    /// assert_eq!(t.outcome(second), None, "it waits for the lock");
    /// t.drop_call(first);
    /// assert!(t.outcome(second).is_some());
    /// # Ok::<(), millstream_live::RegistrationErrors>(())
    /// ```
    ///
    /// # Panics
    /// When it does not wait for anything: it is finished, or has not arrived. And when its client
    /// has no connection any more.
    pub fn drop_call(&mut self, call: impl Into<Request>) {
        let Request { client, kind } = call.into();
        self.note(format_args!("a call of client {client} is dropped"));
        let client = &self.clients[client];
        let id = match &kind {
            Kind::Call(call) => client.id_of(*call),
            Kind::Stream(stream) => client.streams[*stream].asking.as_deref(),
            Kind::Id(id) => Some(id.as_str()),
        };
        let dropped = client.conn.zip(id);
        let dropped = dropped.is_some_and(|(conn, id)| self.host.drop_call(conn, id));
        assert!(dropped, "the call is not running");
        self.after();
    }

    /// How often background work was begun with
    /// [`Platform::spawn`](crate::Platform::spawn), by the application and by the framework, also
    /// before restarts. Calls that wait are not counted; [`tasks`](Self::tasks) says what is not
    /// finished.
    #[must_use]
    pub fn spawned(&self) -> u64 {
        self.record.spawned()
    }
}
