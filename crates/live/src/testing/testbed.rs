//! The testbed itself: clients, a server, and time.

use core::fmt;
use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::{ConnId, Millis, Random, RawJson, SeededRandom, uuid_v4};
use millstream_hub::{Snapshot, Stats};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use super::client::Client;
use super::exec::promise;
use super::host::{Ended, Host};
use super::identity::Identity;
use super::outcome::CallError;
use super::record::Record;
use super::settings::Settings;
use super::stream::{Status, Stream};
use super::trace::Trace;
use crate::app::App;
use crate::ctx::{Ctx, CtxPath};
use crate::origin::Origin;
use crate::pipeline::Live;
use crate::platform::Caller;
use crate::user::User;

/// A client of a [`Testbed`]; the same one before and after a reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(super) usize);

/// A stream of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub(super) client: usize,
    pub(super) stream: usize,
}

/// A call of a client that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId {
    pub(super) client: usize,
    pub(super) call: usize,
}

/// An error that the application's error hook was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reported {
    /// The path that was called.
    pub path: String,
    /// The error with its cause.
    pub message: String,
}

/// An application under test, its clients, and time. See the [module](super).
///
/// # Panics
/// Handles of another testbed, and a server that does not come to rest, panic: this is for tests.
pub struct Testbed<S, U> {
    app: Arc<App<S, U>>,
    pub(super) settings: Settings,
    pub(super) host: Host<S, U>,
    pub(super) clients: Vec<Client<U>>,
    by_conn: BTreeMap<ConnId, usize>,
    pub(super) now: Millis,
    random: SeededRandom,
    trace: Trace,
    pub(super) record: Arc<Record>,
    errors: Arc<Mutex<Vec<Reported>>>,
    panics: Vec<String>,
}

/// Steps without time passing after which something goes round in circles.
const STEPS_MAX: usize = 1_000_000;
/// Longest time between a reconnect and the requests of the streams.
const RESUBSCRIBE: Duration = Duration::from_millis(100);

impl<S, U> fmt::Debug for Testbed<S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Testbed")
            .field("now", &self.now)
            .field("clients", &self.clients.len())
            .finish_non_exhaustive()
    }
}

/// What is left to do at this moment.
enum Step {
    Worker(usize),
    Task(usize),
    Client(usize),
}

impl<S: Send + Sync + 'static, U: User> Testbed<S, U> {
    /// Starts a server with one worker on which nothing goes wrong.
    #[must_use]
    pub fn new(app: App<S, U>) -> Self {
        Self::with(app, Settings::default())
    }

    /// Starts a server.
    #[must_use]
    pub fn with(mut app: App<S, U>, settings: Settings) -> Self {
        let errors: Arc<Mutex<Vec<Reported>>> = Arc::default();
        let (told, hook) = (Arc::clone(&errors), app.on_error.take());
        app.on_error = Some(Arc::new(move |ctx, error| {
            told.lock().push(Reported {
                path: ctx.path().to_owned(),
                message: error.to_string(),
            });
            if let Some(hook) = &hook {
                hook(ctx, error);
            }
        }));
        let app = Arc::new(app);
        let mut random = SeededRandom::new(settings.seed);
        let record = Arc::new(Record::default());
        let told = Arc::clone(&record);
        let host = Host::boot(&app, &settings, told, Millis::ZERO, &mut random);
        Self {
            record,
            trace: Trace::new(settings.seed),
            app,
            settings,
            host,
            clients: Vec::new(),
            by_conn: BTreeMap::new(),
            now: Millis::ZERO,
            random,
            errors,
            panics: Vec::new(),
        }
    }

    /// Connects a user.
    pub fn connect(&mut self, user: U) -> ClientId {
        self.add_client(Some(user))
    }

    /// Connects somebody of whom nothing is known.
    pub fn connect_unknown(&mut self) -> ClientId {
        self.add_client(None)
    }

    fn add_client(&mut self, user: Option<U>) -> ClientId {
        let number = self.clients.len();
        let random = SeededRandom::new(self.random.next_u64());
        let mut client = Client::new(Identity { user, number }, &self.settings, random);
        client.set_now(self.now);
        self.clients.push(client);
        self.open(number);
        self.after();
        ClientId(number)
    }

    fn open(&mut self, number: usize) {
        self.note(format_args!("client {number} connects"));
        let session = uuid_v4(&mut self.random);
        let client = &mut self.clients[number];
        let room = self.settings.socket_bytes;
        let conn = self.host.accept(&client.identity, &session, room);
        let conn = conn.expect("the server takes no more connections");
        self.by_conn.insert(conn, number);
        client.opened(conn, &session);
        self.write(number);
    }

    /// The client that was connected as the `nth`, from zero.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn client(&self, nth: usize) -> ClientId {
        assert!(
            nth < self.clients.len(),
            "there are {} clients",
            self.clients.len()
        );
        ClientId(nth)
    }

    /// Whether the client has a connection.
    #[must_use]
    pub fn is_connected(&self, client: ClientId) -> bool {
        self.clients[client.0].conn.is_some()
    }

    /// Close frame with which the server ended the client's last connection, if it did.
    #[must_use]
    pub fn closed(&self, client: ClientId) -> Option<(u16, &str)> {
        let closed = self.clients[client.0].closed.as_ref()?;
        Some((closed.0, &closed.1))
    }

    /// Cuts a client's connection. What is under way is lost: everything to the client, and to
    /// the server everything, or with latency a random part.
    pub fn disconnect(&mut self, client: ClientId) {
        self.note(format_args!("client {} loses its connection", client.0));
        if let Some(conn) = self.clients[client.0].conn
            && let Some(worker) = self.host.worker(conn)
        {
            let at = worker.pipes.arrival();
            let kept = worker.pipes.random.below(4);
            if let Some(pipe) = worker.pipes.get(conn.key()) {
                pipe.cut_at = Some(at);
                pipe.up.truncate(usize::try_from(kept).unwrap_or(0));
            }
            self.by_conn.remove(&conn);
        }
        self.clients[client.0].lost();
        self.after();
    }

    /// Connects a client again, with a new connection. Its streams keep their values and ask again
    /// with what they remember, after up to 100 ms: that time passes, unless there is chaos.
    pub fn reconnect(&mut self, client: ClientId) {
        if self.clients[client.0].conn.is_some() {
            self.disconnect(client);
        }
        self.open(client.0);
        self.after();
        if !self.settings.chaos.shuffle {
            self.advance(RESUBSCRIBE);
        }
    }

    /// Replaces the server by a new one, started now. All connections are lost, and everything the
    /// framework remembers; the application's state stays, as a database would.
    pub fn restart(&mut self) {
        self.note("the server restarts");
        let lost: Vec<usize> = self.by_conn.values().copied().collect();
        self.by_conn.clear();
        for number in lost {
            self.clients[number].lost();
        }
        self.panics.append(&mut self.host.exec.panics);
        // Another process has another time origin, later than everything before.
        let now = self.now + Duration::from_millis(1);
        let record = Arc::clone(&self.record);
        self.host = Host::boot(&self.app, &self.settings, record, now, &mut self.random);
        self.set_now(now);
    }

    /// Subscribes to a stream. Its value is there when the loader did not have to wait.
    pub fn subscribe(&mut self, client: ClientId, path: &str, args: impl Serialize) -> StreamId {
        let args = arguments(&args);
        self.note(format_args!(
            "client {} subscribes {path} {}",
            client.0,
            args.as_str()
        ));
        let added = self.clients[client.0].subscribe(vec![Stream::new(path, args)]);
        self.write(client.0);
        self.after();
        StreamId {
            client: client.0,
            stream: added[0],
        }
    }

    /// Subscribes to several streams in one frame.
    pub fn subscribe_all(&mut self, client: ClientId, streams: &[(&str, Value)]) -> Vec<StreamId> {
        self.note(format_args!(
            "client {} subscribes to {}",
            client.0,
            streams.len()
        ));
        let streams = streams
            .iter()
            .map(|(path, args)| Stream::new(path, arguments(args)))
            .collect();
        let added = self.clients[client.0].subscribe(streams);
        self.write(client.0);
        self.after();
        let id = |stream| StreamId {
            client: client.0,
            stream,
        };
        added.into_iter().map(id).collect()
    }

    /// The last reader of a stream leaves. Its value is kept for a while: [`Settings::grace`].
    pub fn unsubscribe(&mut self, stream: StreamId) {
        self.note(format_args!(
            "client {} leaves stream {}",
            stream.client, stream.stream
        ));
        self.clients[stream.client].release(stream.stream);
        self.write(stream.client);
        self.after();
    }

    /// A reader of a stream comes back.
    pub fn resubscribe(&mut self, stream: StreamId) {
        self.note(format_args!(
            "client {} is back on {}",
            stream.client, stream.stream
        ));
        self.clients[stream.client].retain(stream.stream);
        self.write(stream.client);
        self.after();
    }

    /// The user comes back to the tab: every stream is given up and asked for again, on the same
    /// connection.
    pub fn switch_tab(&mut self, client: ClientId) {
        self.note(format_args!("client {} comes back to its tab", client.0));
        for at in 0..self.clients[client.0].streams.len() {
            if self.clients[client.0].streams[at].status != Status::Idle {
                self.clients[client.0].ask_again(at);
            }
        }
        self.write(client.0);
        self.after();
    }

    /// Loads the next page of a stream and says whether there are more.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn load_more(&mut self, stream: StreamId) -> Result<bool, CallError> {
        self.note(format_args!(
            "client {} loads more of {}",
            stream.client, stream.stream
        ));
        self.clients[stream.client].load_more(stream.stream);
        self.write(stream.client);
        let until = self.now + self.settings.timeout;
        self.pass_until(until, |t| t.stream(stream).page.is_some());
        let page = self.clients[stream.client].streams[stream.stream]
            .page
            .take();
        page.unwrap_or_else(|| Err(CallError::timeout()))
    }

    /// Subscribes to a topic by control frame, without a stream.
    pub fn listen(&mut self, client: ClientId, topic: &str) {
        self.clients[client.0].listen(topic);
        self.write(client.0);
        self.after();
    }

    /// Sends a text message as it is.
    pub fn send_text(&mut self, client: ClientId, text: &str) {
        self.note(format_args!("client {} sends {text}", client.0));
        self.clients[client.0].send_text(text);
        self.write(client.0);
        self.after();
    }

    /// Sends a binary message as it is.
    pub fn send_binary(&mut self, client: ClientId, bytes: &[u8]) {
        self.note(format_args!(
            "client {} sends {} bytes",
            client.0,
            bytes.len()
        ));
        self.clients[client.0].send_binary(bytes);
        self.write(client.0);
        self.after();
    }

    /// What the client shows.
    ///
    /// # Panics
    /// When there is no value yet.
    #[track_caller]
    pub fn value(&mut self, stream: StreamId) -> Value {
        let value = self.try_value(stream);
        value.unwrap_or_else(|| panic!("no value; error: {:?}", self.error(stream)))
    }

    /// What the client shows, if it has anything.
    pub fn try_value(&mut self, stream: StreamId) -> Option<Value> {
        self.clients[stream.client].streams[stream.stream].value()
    }

    fn stream(&self, stream: StreamId) -> &Stream {
        &self.clients[stream.client].streams[stream.stream]
    }

    /// Where a stream stands.
    #[must_use]
    pub fn status(&self, stream: StreamId) -> Status {
        self.stream(stream).status
    }

    /// Whether a request of the stream waits for its reply, or is about to be sent.
    #[must_use]
    pub fn is_waiting(&self, stream: StreamId) -> bool {
        let stream = self.stream(stream);
        stream.asking.is_some() || stream.again_at.is_some()
    }

    /// Why a stream is refused. The value stays.
    #[must_use]
    pub fn error(&self, stream: StreamId) -> Option<&CallError> {
        self.stream(stream).error.as_ref()
    }

    /// The topic of a stream, once the server has said it.
    #[must_use]
    pub fn topic(&self, stream: StreamId) -> Option<&str> {
        self.stream(stream).topic.as_deref()
    }

    /// Whether there are more pages.
    #[must_use]
    pub fn has_more(&self, stream: StreamId) -> bool {
        self.stream(stream).has_more
    }

    /// The live events that a stream got, newest last; the last 10,000.
    #[must_use]
    pub fn events(&self, stream: StreamId) -> Vec<(String, Value)> {
        self.stream(stream).events.iter().cloned().collect()
    }

    /// Subscribe replies that a stream got.
    #[must_use]
    pub fn replies(&self, stream: StreamId) -> u64 {
        self.stream(stream).replies
    }

    /// The text messages that a client got, newest last; the last 10,000.
    pub fn frames(&self, client: ClientId) -> impl Iterator<Item = &str> {
        self.clients[client.0].frames.iter().map(String::as_str)
    }

    /// A context of the server itself: no connection and no user.
    #[must_use]
    pub fn context(&self) -> Ctx<S, U> {
        let engine = Arc::clone(self.host.live.engine());
        let path = CtxPath::Work("testing/context".into());
        Ctx::new(Origin::new(engine, Caller::nobody()), path, None)
    }

    /// Publishes as a function of the server would.
    ///
    /// # Panics
    /// When the publish is refused; use [`context`](Self::context) to look at the refusal.
    #[track_caller]
    pub fn publish<T: Serialize + ?Sized>(&mut self, topic: &str, event: &str, data: &T) {
        self.note(format_args!("the server publishes {event} on {topic}"));
        let published = self.context().publish(topic, event, data);
        published.unwrap_or_else(|error| panic!("{event} on {topic}: {error}"));
        self.after();
    }

    /// Runs work of the server and lets time pass until it is finished, at most an hour.
    ///
    /// # Panics
    /// When it is not finished then.
    pub fn run<T: Send + 'static>(&mut self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, _) = promise::<()>();
        let result = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&result);
        self.host.exec.shared.spawn(Box::pin(async move {
            *keep.lock() = Some(work.await);
            drop(done);
        }));
        let until = self.now + Duration::from_secs(3_600);
        self.pass_until(until, |_| result.lock().is_some());
        let result = result.lock().take();
        result.expect("the work has to end within an hour")
    }

    /// The application as the host sees it, for what needs no client: loads, publishers, counters.
    #[must_use]
    pub fn live(&self) -> Live<S, U> {
        self.host.live.clone()
    }

    /// The application's state.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.app.state
    }

    /// Subscriptions to a topic.
    #[must_use]
    pub fn subscribers(&self, topic: &str) -> u64 {
        self.host.bench.topics.subscribers(topic)
    }

    /// The counters of the hubs.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.host.bench.topics.stats()
    }

    /// Errors that the application's error hook was told of, in order.
    #[must_use]
    pub fn errors(&self) -> Vec<Reported> {
        self.errors.lock().clone()
    }

    /// What background work said when it panicked. Panics of calls are errors.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        let before = self.panics.iter();
        before.chain(&self.host.exec.panics).cloned().collect()
    }

    /// Background work and calls that are not finished.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.host.exec.len()
    }

    /// Says how high the load is from now on.
    pub fn set_pressure(&mut self, pressure: Snapshot) {
        *self.host.bench.pressure.lock() = Arc::new(pressure);
    }

    /// The client reads no more. Its machine takes up to [`Settings::socket_bytes`].
    pub fn stop_reading(&mut self, client: ClientId) {
        self.set_reading(client, false);
    }

    /// The client reads again.
    pub fn start_reading(&mut self, client: ClientId) {
        self.set_reading(client, true);
        self.after();
    }

    fn set_reading(&mut self, client: ClientId, reading: bool) {
        self.note(format_args!("client {} reads: {reading}", client.0));
        if let Some(conn) = self.clients[client.0].conn
            && let Some(worker) = self.host.worker(conn)
            && let Some(pipe) = worker.pipes.get(conn.key())
        {
            pipe.reading = reading;
        }
    }

    /// The time since the testbed was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_since(Millis::ZERO)
    }

    /// Random numbers from the seed, for the test's own choices.
    pub fn random(&mut self) -> &mut SeededRandom {
        &mut self.random
    }

    /// Does everything that can be done without time passing.
    ///
    /// # Panics
    /// After a million steps.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("not at rest after {STEPS_MAX} steps");
    }

    /// Lets time pass.
    pub fn advance(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.pass_until(until, |_| false);
        if self.now < until {
            self.set_now(until);
            self.settle();
        }
    }

    /// Lets time pass until everything that is under way has arrived and every stream has its
    /// reply; at most as long as a reply may take, and then some.
    pub fn quiesce(&mut self) {
        let until = self.now + self.settings.timeout + self.settings.timeout;
        self.pass_until(until, Self::is_quiet);
        self.settle();
    }

    fn is_quiet(&self) -> bool {
        let busy = |stream: &Stream| {
            stream.asking.is_some() || stream.paging.is_some() || stream.again_at.is_some()
        };
        let mut clients = self.clients.iter();
        let waits = clients.any(|client| {
            client.streams.iter().any(busy) || client.calls.iter().any(Option::is_none)
        });
        let workers = self.host.workers.iter();
        let under_way = workers.flat_map(|worker| worker.pipes.iter()).any(|pipe| {
            let unread = pipe.reading && pipe.down.bytes() > 0;
            unread || pipe.is_sending() || pipe.cut_at.is_some()
        });
        let stalled = |number: usize| self.host.workers[number].stalled_until > self.now;
        !waits && !under_way && !(0..self.host.workers.len()).any(stalled)
    }

    /// Goes from one event to the next until the condition or the time is reached.
    pub(super) fn pass_until(&mut self, until: Millis, done: impl Fn(&Self) -> bool) {
        loop {
            self.settle();
            if done(self) || self.now >= until {
                return;
            }
            let clients = self.clients.iter().filter_map(Client::next_deadline);
            let next = clients.chain(self.host.next_deadline()).min();
            // What is overdue was not possible now: it is tried again a little later.
            let soon = self.now + Duration::from_millis(1);
            let next = next.map_or(until, |next| next.max(soon).min(until));
            self.set_now(next);
        }
    }

    fn set_now(&mut self, now: Millis) {
        self.now = now;
        let stall = u64::try_from(self.settings.chaos.stalls.as_millis()).unwrap_or(0);
        for number in 0..self.host.workers.len() {
            if stall > 0 && self.random.below(STALL_ONE_IN) == 0 {
                let duration = Duration::from_millis(self.random.below(stall + 1));
                self.host.stall(number, now, duration);
            }
        }
        self.host.set_now(now);
        for number in 0..self.clients.len() {
            self.clients[number].set_now(now);
            self.write(number);
        }
    }

    /// After something that a test did: everything it leads to; with a random order of turns only
    /// the next few steps, so that what the test does next comes in between.
    pub(super) fn after(&mut self) {
        if self.settings.chaos.shuffle {
            for _ in 0..self.random.below(6) {
                self.step();
            }
        } else {
            self.settle();
        }
    }

    /// Does one thing; false when there is nothing to do.
    fn step(&mut self) -> bool {
        let Some(step) = self.choose() else {
            return false;
        };
        match step {
            Step::Worker(number) => {
                for ended in self.host.turn(number) {
                    self.ended(ended);
                }
            }
            Step::Task(nth) => self.host.exec.run(nth),
            Step::Client(number) => self.receive(number),
        }
        true
    }

    fn choose(&mut self) -> Option<Step> {
        let tasks = self.host.exec.ready();
        let mut workers = (0..self.host.workers.len()).filter(|at| self.host.has_work(*at));
        if !self.settings.chaos.shuffle {
            let worker = workers.next().map(Step::Worker);
            let task = || (tasks > 0).then_some(Step::Task(0));
            drop(workers);
            return worker.or_else(task).or_else(|| {
                let mut clients = 0..self.clients.len();
                clients.find(|at| self.can_read(*at)).map(Step::Client)
            });
        }
        let mut steps: Vec<Step> = workers.map(Step::Worker).collect();
        steps.extend((0..tasks).map(Step::Task));
        let readers: Vec<usize> = (0..self.clients.len()).collect();
        steps.extend(
            readers
                .into_iter()
                .filter(|at| self.can_read(*at))
                .map(Step::Client),
        );
        let nth = self.random.below(steps.len() as u64);
        let nth = usize::try_from(nth).unwrap_or(0);
        (nth < steps.len()).then(|| steps.swap_remove(nth))
    }

    fn can_read(&mut self, number: usize) -> bool {
        let (now, conn) = (self.now, self.clients[number].conn);
        let pipe = conn.and_then(|conn| {
            let worker = self.host.worker(conn)?;
            worker.pipes.get(conn.key())
        });
        pipe.is_some_and(|pipe| {
            pipe.reading && pipe.down.next_arrival().is_some_and(|at| at <= now)
        })
    }

    /// A client reads what has arrived.
    fn receive(&mut self, number: usize) {
        let (now, conn) = (self.now, self.clients[number].conn);
        let Some(conn) = conn else {
            return;
        };
        let pipe = self
            .host
            .worker(conn)
            .and_then(|worker| worker.pipes.get(conn.key()));
        let Some(mut bytes) = pipe.and_then(|pipe| pipe.down.pop(now)) else {
            return;
        };
        self.clients[number].feed(&mut bytes);
        self.host.writable(conn);
        self.write(number);
    }

    /// Hands what a client has to say to its connection.
    pub(super) fn write(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let bytes = core::mem::take(&mut client.out);
        if let Some(conn) = client.conn
            && let Some(worker) = self.host.worker(conn)
        {
            worker.pipes.send_up(conn.key(), &bytes);
        }
    }

    /// The server has ended a connection: what it sent before still arrives.
    fn ended(&mut self, ended: Ended) {
        let Some(number) = self.by_conn.remove(&ended.conn) else {
            return;
        };
        self.note(format_args!(
            "the server ends the connection of client {number}"
        ));
        let mut pipe = ended.pipe;
        if pipe.reading {
            while let Some(mut bytes) = pipe.down.pop(Millis::MAX) {
                self.clients[number].feed(&mut bytes);
            }
        }
        self.clients[number].lost();
    }

    pub(super) fn note(&mut self, step: impl fmt::Display) {
        self.trace.add(self.now, step);
    }
}

/// How often a worker is stopped when time goes on.
const STALL_ONE_IN: u64 = 8;

/// The list of arguments.
pub(super) fn arguments(args: &impl Serialize) -> RawJson {
    let json = RawJson::from_serialize(args).expect("arguments are JSON");
    if json.get().is_null() {
        return RawJson::EMPTY_LIST;
    }
    if json.get().is_array() {
        return json;
    }
    let mut list = millstream_core::ListWriter::new();
    list.push(json.get());
    list.finish()
}
