//! The server without sockets: hubs, the application, and turns like those of a real worker.

use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_core::{ConnId, Key, Millis, Random, SeededRandom, TopicName};
use millstream_hub::{Backlogged, Event, Hub, HubConfig, PolicyTable, Receipt, Topics, Verdict};
use millstream_wire::{DecodeLimits, Decoder, Event as Frame, Input, Role};

use super::exec::{Executor, Promise};
use super::identity::{Connected, Identity};
use super::pipe::{Pipe, Pipes};
use super::platform::{Bench, Task};
use super::record::Record;
use super::running::Running;
use super::settings::Settings;
use crate::app::App;
use crate::handler::BoxFuture;
use crate::pipeline::{Handled, Live};
use crate::platform::Caller;
use crate::user::User;

/// A running server.
pub(super) struct Host<S, U> {
    pub(super) live: Live<S, U>,
    pub(super) bench: Arc<Bench>,
    pub(super) exec: Executor,
    pub(super) workers: Vec<Worker>,
    /// World time at which it started.
    pub(super) booted_at: Millis,
    peers: BTreeMap<ConnId, Peer<U>>,
    decisions: BTreeMap<u64, Promise<Result<(), String>>>,
    next_token: u64,
    deny: Vec<(String, String)>,
    message_bytes_max: usize,
    shuffle: bool,
}

/// Polls of one call on its worker; a call that needs more becomes a task.
const ROUNDS_MAX: u64 = 16;

struct Peer<U> {
    client: Arc<Connected<U>>,
    /// Messages whose calls are not finished.
    waiting: Arc<AtomicUsize>,
    running: Running,
}

/// One worker: its hub and the connections it owns.
pub(super) struct Worker {
    pub(super) hub: Hub,
    pub(super) pipes: Pipes,
    /// Tasks found while output was produced that would call the application.
    postponed: VecDeque<Task>,
    ending: Vec<(Key, u16, String)>,
    /// It does nothing before that time.
    pub(super) stalled_until: Millis,
}

/// How a connection ended, for the client.
pub(super) struct Ended {
    pub(super) conn: ConnId,
    pub(super) pipe: Pipe,
}

impl<S: Send + Sync + 'static, U: User> Host<S, U> {
    pub(super) fn boot(
        app: &Arc<App<S, U>>,
        settings: &Settings,
        record: Arc<Record>,
        now: Millis,
        random: &mut SeededRandom,
    ) -> Self {
        let exec = Executor::new();
        let workers = settings.workers.max(1);
        let boot_unix_ms = settings.boot_unix_ms + now.as_millis();
        let config = Arc::new(HubConfig {
            limits: settings.hub.clone(),
            open_topics: settings.open_topics.clone(),
            park: app.has_streams(),
            ..HubConfig::default()
        });
        let limits = &config.limits;
        let retention = app.retention().into_iter();
        let policies: PolicyTable = retention
            .fold(settings.policies.clone(), |policies, (pattern, events)| {
                policies.retaining(pattern, events)
            });
        let topics = Topics::new(
            workers,
            boot_unix_ms,
            limits.topics_max,
            policies,
            Arc::default(),
        );
        let topics = Arc::new(topics.retaining(limits.retained_bytes_max));
        let members_max = limits.batch_members_max;
        let shared = Arc::clone(&exec.shared);
        let bench = Bench::new(Arc::clone(&topics), shared, record, members_max);
        let bench = Arc::new(bench.receiving(settings.message_bytes_max));
        let workers = (0..workers).map(|number| Worker {
            hub: Hub::new(number, Arc::clone(&config), Arc::clone(&topics)),
            pipes: Pipes::new(settings.chaos.latency, SeededRandom::new(random.next_u64())),
            postponed: VecDeque::new(),
            ending: Vec::new(),
            stalled_until: Millis::ZERO,
        });
        Self {
            live: Live::new(Arc::clone(app), Arc::<Bench>::clone(&bench)),
            bench,
            exec,
            workers: workers.collect(),
            booted_at: now,
            peers: BTreeMap::new(),
            decisions: BTreeMap::new(),
            next_token: 0,
            deny: settings.deny.clone(),
            message_bytes_max: settings.message_bytes_max,
            shuffle: settings.chaos.shuffle,
        }
    }

    /// Sets the time of everything, given in world time.
    pub(super) fn set_now(&mut self, world: Millis) {
        let now = Millis::ZERO + world.saturating_since(self.booted_at);
        self.exec.shared.set_now(now);
        for worker in &mut self.workers {
            worker.pipes.now = world;
            worker.hub.set_now(now);
        }
    }

    /// When something next happens by itself, in world time.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let since = self.booted_at.saturating_since(Millis::ZERO);
        let timers = self.exec.shared.next_timer().map(|at| at + since);
        let hubs = self.workers.iter().filter_map(|worker| {
            if worker.stalled_until > worker.pipes.now {
                return Some(worker.stalled_until);
            }
            let hub = worker.hub.next_deadline().map(|at| at + since);
            hub.into_iter().chain(worker.pipes.next_deadline()).min()
        });
        hubs.chain(timers).min()
    }

    fn now(&self) -> Millis {
        self.exec.shared.now()
    }

    /// Takes in a connection on the worker with the fewest.
    pub(super) fn accept(
        &mut self,
        identity: &Arc<Identity<U>>,
        session: &str,
        room: usize,
    ) -> Option<ConnId> {
        let now = self.now();
        let worker = self
            .workers
            .iter_mut()
            .min_by_key(|worker| worker.hub.connections())?;
        let key = worker.hub.open(Some(session), now).ok()?;
        worker.pipes.open(key, room);
        let conn = ConnId::new(worker.hub.worker(), key);
        let peer = Peer {
            client: Arc::new(Connected::new(Arc::clone(identity))),
            waiting: Arc::default(),
            running: Running::default(),
        };
        self.peers.insert(conn, peer);
        Some(conn)
    }

    pub(super) fn worker(&mut self, conn: ConnId) -> Option<&mut Worker> {
        self.workers.get_mut(usize::from(conn.worker()))
    }

    /// Whether nothing is read from a connection.
    pub(super) fn is_reading_paused(&self, conn: ConnId) -> bool {
        let worker = self.workers.get(usize::from(conn.worker()));
        worker.is_some_and(|worker| worker.pipes.is_paused(conn.key()))
    }

    /// Whether a worker has anything to do at this moment.
    pub(super) fn has_work(&self, number: usize) -> bool {
        let Some(worker) = self.workers.get(number) else {
            return false;
        };
        let world = worker.pipes.now;
        if worker.stalled_until > world {
            return false;
        }
        worker.hub.has_output()
            || !worker.ending.is_empty()
            || !worker.postponed.is_empty()
            || !self.bench.queues.is_idle(worker.hub.worker())
            || worker
                .hub
                .next_deadline()
                .is_some_and(|at| at <= self.now())
            || worker.pipes.iter().any(|pipe| pipe.has_arrived(world))
    }

    /// One turn: what clients wrote, what tasks asked for, what is due, then the output. Gives
    /// the connections that ended.
    pub(super) fn turn(&mut self, number: usize) -> Vec<Ended> {
        let Some(worker) = self.workers.get(number) else {
            return Vec::new();
        };
        let keys = worker.pipes.keys();
        let mut ended = Vec::new();
        for key in keys {
            self.read(number, key);
        }
        while let Some(task) = self.next_task(number) {
            self.run_task(number, task);
        }
        let now = self.now();
        if let Some(worker) = self.workers.get_mut(number)
            && worker.hub.next_deadline().is_some_and(|at| at <= now)
        {
            worker.hub.handle_timeout(now);
            self.pump(number);
        }
        loop {
            self.flush(number);
            self.pump(number);
            let Some(worker) = self.workers.get_mut(number) else {
                return ended;
            };
            if worker.ending.is_empty() && !worker.hub.has_output() {
                return ended;
            }
            for (key, _, _) in core::mem::take(&mut worker.ending) {
                ended.extend(self.end(number, key));
            }
        }
    }

    fn next_task(&mut self, number: usize) -> Option<Task> {
        let worker = self.workers.get_mut(number)?;
        let queued = || self.bench.queues.pop(worker.hub.worker());
        worker.postponed.pop_front().or_else(queued)
    }

    fn run_task(&mut self, number: usize, task: Task) {
        let Some(worker) = self.workers.get_mut(number) else {
            return;
        };
        let hub = &mut worker.hub;
        match task {
            Task::Deliver(delivery) => hub.deliver(&delivery),
            Task::Reply(conn, reply) => {
                hub.reply(conn, reply.topic, &reply.event, reply.data.get());
                for one in &reply.release {
                    hub.release_after(conn, &one.topic, one.holder, one.covered);
                }
            }
            Task::Send {
                conn,
                topic,
                event,
                data,
            } => drop(hub.send(conn, &topic, &event, data.get())),
            Task::Subscribe {
                conn,
                topic,
                holder,
                answer,
            } => {
                self.next_token += 1;
                self.decisions.insert(self.next_token, answer);
                hub.subscribe(conn, &topic, self.next_token, Some(holder));
                self.pump(number);
            }
            Task::Release {
                conn,
                topic,
                holder,
            } => drop(hub.release(conn, &topic, holder)),
            Task::Read { conn, on } => {
                if let Some(pipe) = worker.pipes.get(conn) {
                    pipe.paused = !on;
                }
            }
            Task::Unsubscribe {
                conn,
                topic,
                holder,
                done,
            } => {
                hub.give_up(conn, &topic, holder);
                self.pump(number);
                done.keep(());
            }
        }
        if self
            .workers
            .get(number)
            .is_some_and(|worker| worker.hub.wants_flush())
        {
            self.flush(number);
        }
    }

    /// Takes output that waits in the queue, before more is produced; the rest is for later.
    fn catch_up(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number) else {
            return;
        };
        let mut output = Vec::new();
        while let Some(task) = self.bench.queues.pop(worker.hub.worker()) {
            match task {
                task if task.is_question() => worker.postponed.push_back(task),
                task => output.push(task),
            }
        }
        for task in output {
            self.run_task(number, task);
        }
    }

    fn flush(&mut self, number: usize) {
        if let Some(Worker { hub, pipes, .. }) = self.workers.get_mut(number) {
            hub.flush(pipes);
        }
    }

    /// The client has read: there is room for more.
    pub(super) fn writable(&mut self, conn: ConnId) {
        if let Some(Worker { hub, pipes, .. }) = self.worker(conn)
            && hub.has_backlog(conn.key())
        {
            let _: Backlogged = hub.write_more(conn.key(), pipes);
        }
    }

    /// Reads what has arrived of one connection, and its end. While reading is paused only the
    /// end counts, with what came before it.
    fn read(&mut self, number: usize, key: Key) {
        loop {
            let Some(worker) = self.workers.get_mut(number) else {
                return;
            };
            let now = worker.pipes.now;
            let Some(pipe) = worker.pipes.get(key) else {
                return;
            };
            if let Some(mut bytes) = pipe.read(now) {
                if !pipe.deaf {
                    self.feed(number, key, &mut bytes);
                }
                continue;
            }
            if pipe.has_ended(now) {
                worker
                    .ending
                    .push((key, 1006, "connection lost".to_owned()));
            }
            return;
        }
    }

    fn feed(&mut self, number: usize, key: Key, bytes: &mut [u8]) {
        let limits = DecodeLimits {
            message_bytes_max: self.message_bytes_max,
            ..DecodeLimits::default()
        };
        let Some(pipe) = self.workers.get_mut(number).and_then(|w| w.pipes.get(key)) else {
            return;
        };
        let mut decoder = core::mem::replace(&mut pipe.decoder, Decoder::new(Role::Server));
        let mut input = Input::new(bytes);
        let rest = loop {
            match decoder.next(&mut input, &limits) {
                Ok(None) => break 0,
                Ok(Some(frame)) => {
                    if !self.handle(number, key, &frame) {
                        return;
                    }
                    if self.is_paused(number, key) {
                        break input.remaining();
                    }
                }
                Err(violation) => {
                    let Some(worker) = self.workers.get_mut(number) else {
                        return;
                    };
                    let code = violation.close_code();
                    worker.hub.say_close(key, code, &violation.to_string());
                    worker.ending.push((key, code, violation.to_string()));
                    if let Some(pipe) = worker.pipes.get(key) {
                        pipe.deaf = true;
                    }
                    return;
                }
            }
        };
        if let Some(pipe) = self.workers.get_mut(number).and_then(|w| w.pipes.get(key)) {
            pipe.decoder = decoder;
            let looked_at = bytes.len() - rest;
            pipe.kept = bytes.get(looked_at..).unwrap_or_default().to_vec();
        }
    }

    /// Whether nothing more of a connection is to be handled now.
    fn is_paused(&mut self, number: usize, key: Key) -> bool {
        let Some(Worker { pipes, .. }) = self.workers.get_mut(number) else {
            return false;
        };
        let now = pipes.now;
        pipes.get(key).is_some_and(|pipe| pipe.is_paused(now))
    }

    /// Handles one message; false when nothing more of the connection counts.
    fn handle(&mut self, number: usize, key: Key, frame: &Frame<'_>) -> bool {
        let Some(worker) = self.workers.get_mut(number) else {
            return false;
        };
        match frame {
            Frame::Close { code, .. } => {
                let code = code.unwrap_or(1005);
                worker.hub.say_close(key, code, "");
                worker.ending.push((key, code, String::new()));
                if let Some(pipe) = worker.pipes.get(key) {
                    pipe.deaf = true;
                }
                return false;
            }
            Frame::Text(text) => {
                worker.hub.count_received(key, 1, text.len() as u64);
                if worker.hub.receive(key, text) == Receipt::App {
                    self.message(number, key, frame);
                }
            }
            Frame::Binary(bytes) => {
                worker.hub.count_received(key, 1, bytes.len() as u64);
                self.message(number, key, frame);
            }
            Frame::Ping(payload) => worker.hub.pong(key, payload),
            Frame::Pong(_) => {}
        }
        self.pump(number);
        if self
            .workers
            .get(number)
            .is_some_and(|worker| worker.hub.wants_flush())
        {
            self.flush(number);
        }
        true
    }

    /// A message that is no control frame: a call, or nothing that anybody here understands.
    fn message(&mut self, number: usize, key: Key, frame: &Frame<'_>) {
        let conn = ConnId::new(u16::try_from(number).unwrap_or(u16::MAX), key);
        let Some(peer) = self.peers.get(&conn) else {
            return;
        };
        let bytes = match frame {
            Frame::Text(text) => text.as_bytes(),
            Frame::Binary(bytes) => bytes,
            _ => return,
        };
        let waiting = Arc::clone(&peer.waiting);
        let client: Arc<Connected<U>> = Arc::clone(&peer.client);
        let caller = Caller {
            conn: Some(conn),
            client,
        };
        let handled = match frame {
            _ if waiting.load(Ordering::Relaxed) >= self.live.app().message_limit() => {
                self.live.refuse_message(&caller, bytes)
            }
            Frame::Text(text) => self.live.handle_text(&caller, text),
            _ => self.live.handle_message(&caller, bytes),
        };
        let Handled::Claimed(running) = handled else {
            return;
        };
        match self.poll_here(number, running) {
            Ok(reply) => {
                self.catch_up(number);
                if let Some(reply) = reply {
                    self.run_task(number, Task::Reply(key, reply));
                }
            }
            Err(later) => {
                waiting.fetch_add(1, Ordering::Relaxed);
                let bench = Arc::clone(&self.bench);
                let later = match self.peers.get_mut(&conn) {
                    Some(peer) => peer.running.add(bytes, later),
                    // It has been closed meanwhile.
                    None => Running::default().add(bytes, later),
                };
                self.exec.shared.spawn(Box::pin(async move {
                    let reply = later.await;
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    if let Some(reply) = reply {
                        bench.queues.push(conn.worker(), Task::Reply(key, reply));
                    }
                }));
            }
        }
    }

    /// Polls a call for as long as what it waits for is work of this very worker, as the server
    /// does. With a random order of turns any number of rounds, so that what needs none is tried
    /// as a task, too.
    fn poll_here<T>(
        &mut self,
        number: usize,
        mut running: BoxFuture<T>,
    ) -> Result<T, BoxFuture<T>> {
        let rounds = match self.workers.get_mut(number) {
            Some(worker) if self.shuffle => 1 + worker.pipes.random.below(4),
            _ => ROUNDS_MAX,
        };
        for _ in 0..rounds {
            let mut cx = Context::from_waker(Waker::noop());
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(&mut cx))) {
                Ok(Poll::Ready(value)) => return Ok(value),
                Ok(Poll::Pending) => {}
                // Polled again as a task, it panics again and is reported there.
                Err(_) => break,
            }
            if !self.serve(number) {
                break;
            }
        }
        Err(running)
    }

    /// Does what a call asked of its own worker. False when it asked for nothing.
    fn serve(&mut self, number: usize) -> bool {
        let Some(worker) = self.workers.get(number).map(|worker| worker.hub.worker()) else {
            return false;
        };
        let mut served = false;
        while let Some(task) = self.bench.queues.pop(worker) {
            served |= task.is_question();
            self.run_task(number, task);
        }
        served
    }

    /// Does what the hub asks for until it asks for nothing.
    fn pump(&mut self, number: usize) {
        while let Some(event) = self
            .workers
            .get_mut(number)
            .and_then(|worker| worker.hub.poll_event())
        {
            let Some(worker) = self.workers.get_mut(number) else {
                return;
            };
            match event {
                Event::Ask { ticket, topics, .. } => {
                    let deny = &self.deny;
                    let verdicts = topics.iter().map(|topic| verdict(deny, topic));
                    worker.hub.settle(ticket, verdicts);
                }
                Event::Close { conn, code, reason } => {
                    worker.ending.push((conn, code, reason.to_owned()));
                }
                Event::Resume { conn, .. } => worker.hub.resumed(conn),
                Event::Subscribed { token, result } => {
                    if let Some(answer) = self.decisions.remove(&token) {
                        answer.keep(result);
                    }
                }
                Event::Unsubscribed { conn, topic } => {
                    let under_way = worker.hub.under_way(conn, &topic);
                    let conn = ConnId::new(worker.hub.worker(), conn);
                    let ended = self.live.handle_unsubscribed(conn, &topic, &under_way);
                    self.exec.drive(ended);
                }
                // Nobody here asks clients anything.
                _ => {}
            }
        }
    }

    /// Ends a connection for good.
    fn end(&mut self, number: usize, key: Key) -> Option<Ended> {
        let worker = self.workers.get_mut(number)?;
        worker.hub.close(key)?;
        let pipe = worker.pipes.close(key)?;
        let conn = ConnId::new(worker.hub.worker(), key);
        if let Some(peer) = self.peers.remove(&conn) {
            peer.client.close();
        }
        self.exec.drive(self.live.handle_closed(conn));
        self.pump(number);
        Some(Ended { conn, pipe })
    }

    /// Drops a call where it waits. False when none of that id does.
    pub(super) fn drop_call(&self, conn: ConnId, id: &str) -> bool {
        let peer = self.peers.get(&conn);
        peer.is_some_and(|peer| peer.running.drop_call(id))
    }

    /// Stops a worker for a while.
    pub(super) fn stall(&mut self, number: usize, world: Millis, duration: Duration) {
        if let Some(worker) = self.workers.get_mut(number) {
            worker.stalled_until = world + duration;
        }
    }
}

/// What the subscribe hook says.
fn verdict(deny: &[(String, String)], topic: &TopicName) -> Verdict {
    let refused = deny.iter().find(|(name, _)| name == topic.as_str());
    refused.map_or(Verdict::Allow, |(_, reason)| {
        Verdict::Deny(reason.clone().into())
    })
}
