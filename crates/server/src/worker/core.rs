//! What one worker knows: its hub, its sockets, and the application's answers it waits for.

use std::any::Any;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;
use millstream_core::{Key, Millis, PagedVec, RawJson};
use millstream_hub::{
    Backlogged, DrainPlan, Hub, PublishError, Published, Publisher, RequestError, Sink, Wrote,
};
use millstream_wire::{Decoder, Role};
use mio::{Interest, Registry, Token};
use tokio::sync::oneshot;

use crate::context::Context;
use crate::handover::Accepted;
use crate::hooks::{CloseInfo, Hooks};
use crate::peer::Peer;
use crate::worker::inbox::{AllInboxes, Inbox, Task};
use crate::worker::pause::Pause;
use crate::worker::pool::Shared;
use crate::worker::socket::Io;

/// A worker's state, without its thread.
pub(crate) struct Core {
    pub(crate) hub: Box<Hub>,
    /// A hub without connections, in the place of the other one while that is lent.
    pub(crate) stand_in: Option<Box<Hub>>,
    pub(crate) links: Links,
    pub(crate) shared: Arc<Shared>,
    /// The application, between hooks.
    hooks: Option<Arc<dyn Hooks>>,
    /// What the application keeps from one message of a connection for its next.
    pub(crate) kept: Option<(Key, Box<dyn Any>)>,
    pub(crate) registry: Registry,
    pub(crate) now: Millis,
    pub(crate) replies: HashMap<u64, oneshot::Sender<Result<RawJson, RequestError>>>,
    pub(crate) decisions: HashMap<u64, oneshot::Sender<Result<(), String>>>,
    /// Tasks taken from the inbox while a hook was running, to be done first.
    pub(crate) postponed: VecDeque<Task>,
    pub(crate) drain: Option<DrainPlan>,
    pub(crate) stopping: bool,
    /// Connections that did not read to the end of what was there.
    pub(crate) unfinished: Vec<Key>,
    /// Bytes kept aside for connections whose reading is paused.
    pub(crate) kept_bytes: usize,
    /// Connections whose socket failed while it was written.
    pub(crate) ending: Vec<(Key, Ending)>,
    /// Where the sweep over quiet connections stands.
    pub(crate) sweep_at: u32,
    pub(crate) sweep_due: Millis,
}

/// A connection's socket and what the worker has to remember of it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) key: Key,
    pub(crate) io: Io,
    pub(crate) decoder: Decoder,
    pub(crate) peer: Arc<Peer>,
    /// Seconds since the start of the process.
    pub(crate) heard_at: u32,
    /// The last time something was written that a browser's script can see.
    pub(crate) spoken_at: u32,
    pub(crate) pinged: bool,
    /// The peer broke the protocol or said that it ends: what it sends is read and ignored.
    pub(crate) deaf: bool,
    pub(crate) pause: Pause,
    pub(crate) state: State,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// A close frame is queued or sent; the peer's answer or `until` ends it.
    Closing {
        ending: Ending,
        until: u32,
    },
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: u16,
    pub(crate) reason: Box<str>,
}

impl Ending {
    pub(crate) fn new(code: u16, reason: &str) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// The sockets by slab index; the sink a hub writes to.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: PagedVec<Option<Link>>,
    pub(crate) second: u32,
    /// Connections whose socket failed during this flush.
    failed: Vec<Key>,
}

/// How long a peer may take to answer a close frame.
const CLOSE_GRACE_SECS: u32 = 5;

impl Links {
    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Link> {
        self.links.get_mut(index).and_then(Option::as_mut)
    }

    pub(crate) fn of(&mut self, key: Key) -> Option<&mut Link> {
        self.get(key.index as usize).filter(|link| link.key == key)
    }

    pub(crate) fn peek(&self, key: Key) -> Option<&Link> {
        let link = self.links.get(key.index as usize)?.as_ref()?;
        (link.key == key).then_some(link)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    fn put(&mut self, link: Link) {
        let index = link.key.index as usize;
        while self.links.len() <= index {
            self.links.push(None);
        }
        if let Some(place) = self.links.get_mut(index) {
            *place = Some(link);
        }
    }

    fn take(&mut self, key: Key) -> Option<Link> {
        self.of(key)?;
        self.links
            .get_mut(key.index as usize)
            .and_then(Option::take)
    }

    fn note(&mut self, key: Key, visible: bool, result: std::io::Result<usize>) -> Wrote {
        match result {
            Ok(count) => {
                let second = self.second;
                if visible && let Some(link) = self.of(key) {
                    link.spoken_at = second;
                }
                Wrote::Bytes(count)
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Wrote::Bytes(0),
            Err(_) => {
                self.failed.push(key);
                Wrote::Failed
            }
        }
    }
}

/// Whether a browser's script sees any of these bytes: not when they start with a control frame.
fn visible(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x08 == 0)
}

impl Sink for Links {
    fn send(&mut self, conn: Key, bytes: &[u8]) -> Wrote {
        let Some(link) = self.of(conn) else {
            return Wrote::Failed;
        };
        let result = link.io.write(bytes);
        self.note(conn, visible(bytes), result)
    }

    #[inline]
    fn expect(&mut self, conn: Key) {
        // Looked at, nothing more: with a thousand connections it is not in the near caches, and
        // one after the other, behind a system call each, the sends would wait for it.
        std::hint::black_box(self.peek(conn).map(|link| link.spoken_at));
    }

    fn send_vectored(&mut self, conn: Key, parts: &[IoSlice<'_>]) -> Wrote {
        let Some(link) = self.of(conn) else {
            return Wrote::Failed;
        };
        let result = link.io.write_vectored(parts);
        self.note(
            conn,
            parts.first().is_some_and(|part| visible(part)),
            result,
        )
    }
}

impl Core {
    /// A worker without connections. `hub` makes its hub.
    pub(crate) fn new(hub: impl Fn() -> Hub, shared: Arc<Shared>, registry: Registry) -> Self {
        Self {
            hub: Box::new(hub()),
            stand_in: Some(Box::new(hub())),
            links: Links::default(),
            shared,
            hooks: None,
            kept: None,
            registry,
            now: Millis::ZERO,
            replies: HashMap::new(),
            decisions: HashMap::new(),
            postponed: VecDeque::new(),
            drain: None,
            stopping: false,
            unfinished: Vec::new(),
            kept_bytes: 0,
            ending: Vec::new(),
            sweep_at: 0,
            sweep_due: Millis::ZERO,
        }
    }

    /// Takes a connection in, or turns it away with 1013.
    pub(crate) fn accept(&mut self, accepted: Accepted) {
        let Accepted {
            socket,
            early,
            mut peer,
        } = accepted;
        let mut io = Io::new(socket);
        peer.session = self.shared.fresh_session();
        let text = uuid::Uuid::from_bytes(peer.session).hyphenated();
        let mut buffer = uuid::Uuid::encode_buffer();
        let text = text.encode_lower(&mut buffer);
        let welcome = (!self.shared.settings.raw).then_some(&*text);
        let Ok(key) = self.hub.open(welcome, self.now) else {
            let mut frame = Vec::new();
            millstream_wire::encode_close(&mut frame, 1013, "server full");
            let _ = io.write(&frame);
            self.uncount();
            return;
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(key.index as usize);
        if let Err(error) = self.registry.register(io.source(), token, interest) {
            tracing::warn!(%error, "a connection could not be registered");
            self.hub.close(key);
            self.uncount();
            return;
        }
        let second = self.links.second;
        self.links.put(Link {
            key,
            io,
            decoder: Decoder::new(Role::Server),
            peer: Arc::new(peer),
            heard_at: second,
            spoken_at: second,
            pinged: false,
            deaf: false,
            pause: Pause::default(),
            state: State::Open,
        });
        self.with_hook(key, "open", |hooks, cx| hooks.open(cx));
        if self.shared.is_draining() {
            // Too late for the plan.
            self.say_close(key, 1001, "server shutting down");
        }
        if !early.is_empty() {
            let mut early = Vec::from(early);
            self.feed_or_keep(key, &mut early);
        }
        // Whatever arrived before the registration raises no event of its own.
        self.unfinished.push(key);
    }

    /// Begins a close from our side.
    pub(crate) fn say_close(&mut self, key: Key, code: u16, reason: &str) {
        self.hub.say_close(key, code, reason);
        let until = self.links.second + CLOSE_GRACE_SECS;
        if let Some(link) = self.links.of(key)
            && link.state == State::Open
        {
            link.state = State::Closing {
                ending: Ending::new(code, reason),
                until,
            };
            // The peer's answer is somewhere behind what was not read.
            self.read_on(key);
        }
    }

    /// Ends a connection for good: bookkeeping, close hook, socket.
    pub(crate) fn end(&mut self, key: Key, ending: &Ending) {
        let Some(summary) = self.hub.close(key) else {
            return;
        };
        let mut info = CloseInfo::new(ending.code, &ending.reason);
        info.subscriptions = &summary.subscriptions;
        info.duration = self.now.saturating_since(summary.opened_at);
        info.messages_in = summary.messages_in;
        info.messages_out = summary.messages_out;
        info.bytes_in = summary.bytes_in;
        info.bytes_out = summary.bytes_out;
        self.with_hook(key, "close", |hooks, cx| hooks.close(cx, &info));
        if self.kept.as_ref().is_some_and(|(whose, _)| *whose == key) {
            self.kept = None;
        }
        if let Some(mut link) = self.links.take(key) {
            self.kept_bytes -= link.kept_bytes();
            let _ = self.registry.deregister(link.io.source());
            link.io.finish();
            self.uncount();
        }
        self.pump();
    }

    /// Writes this turn's output and ends connections whose sockets failed.
    pub(crate) fn flush(&mut self) {
        self.hub.flush(&mut self.links);
        for key in std::mem::take(&mut self.links.failed) {
            let ending = self.links.peek(key).map(|link| match &link.state {
                State::Closing { ending, .. } => ending.clone(),
                State::Open => Ending::new(1006, "write failed"),
            });
            if let Some(ending) = ending {
                self.ending.push((key, ending));
            }
        }
    }

    /// The socket can take more.
    pub(crate) fn writable(&mut self, key: Key) {
        let Some(link) = self.links.of(key) else {
            return;
        };
        if let Err(error) = link.io.flush() {
            tracing::debug!(%error, "a socket failed");
            self.ending.push((key, Ending::new(1006, "write failed")));
            return;
        }
        if !self.hub.has_backlog(key) {
            return;
        }
        if self.hub.write_more(key, &mut self.links) == Backlogged::Drained {
            self.with_hook(key, "drain", |hooks, cx| hooks.drain(cx));
        }
    }

    /// Publishes from this worker's thread.
    pub(crate) fn publish_with(
        &mut self,
        work: impl FnOnce(&Publisher<'_, AllInboxes>, &mut Hub) -> Result<Published, PublishError>,
    ) -> Result<Published, PublishError> {
        let shared = Arc::clone(&self.shared);
        let publisher = Publisher {
            topics: &shared.topics,
            inboxes: &shared.inboxes,
            now: self.now,
        };
        let published = work(&publisher, &mut self.hub)?;
        self.after_publish(published.queued);
        Ok(published)
    }

    /// Keeps the order between publishes and everything else this worker produces, and the
    /// bound on one turn's output.
    pub(crate) fn after_publish(&mut self, queued: bool) {
        if queued {
            self.take_deliveries();
        }
        if self.hub.wants_flush() {
            self.flush();
        }
    }

    /// Takes the output that waits in the inbox. What would call hooks is kept for later: one
    /// is running now.
    #[inline]
    pub(crate) fn take_deliveries(&mut self) {
        let worker = self.hub.worker();
        let waits = |core: &Self| {
            let inbox = core.shared.inboxes.get(worker);
            inbox.is_some_and(|inbox| !inbox.is_empty())
        };
        while waits(self) {
            if !self.take_delivery(worker) {
                return;
            }
        }
    }

    /// Takes one. False when there is nothing to be had yet.
    fn take_delivery(&mut self, worker: u16) -> bool {
        let Some(task) = self.shared.inboxes.get(worker).and_then(Inbox::pop) else {
            return false;
        };
        match task {
            Task::Deliver(delivery) => self.hub.deliver(&delivery),
            Task::Output(work) => self.run_task(work),
            other => self.postponed.push_back(other),
        }
        true
    }

    /// Does what a hook that has just returned asked of this worker through handles. False when it
    /// asked for nothing. Not for use while a hook of the application runs: this calls others.
    pub(crate) fn serve(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let Some(inbox) = shared.inboxes.get(self.hub.worker()) else {
            return false;
        };
        let mut served = false;
        while let Some(task) = inbox.pop() {
            match task {
                Task::Deliver(delivery) => self.hub.deliver(&delivery),
                Task::Output(work) => self.run_task(work),
                Task::Run(work) => {
                    self.run_task(work);
                    served = true;
                }
                other => self.postponed.push_back(other),
            }
        }
        served
    }

    /// Runs what another thread sent. Filters of the application are in there, so panics are, too.
    pub(crate) fn run_task(&mut self, work: Box<dyn FnOnce(&mut Self) + Send>) {
        let run = std::panic::AssertUnwindSafe(|| work(self));
        if std::panic::catch_unwind(run).is_err() {
            self.shared.hook_panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a task of the application panicked; the worker goes on");
        }
    }

    /// Runs a hook for a connection; a panic ends nothing but the hook.
    pub(crate) fn with_hook<R>(
        &mut self,
        key: Key,
        name: &'static str,
        work: impl FnOnce(&dyn Hooks, &mut Context<'_>) -> R,
    ) -> Option<R> {
        self.links.peek(key)?;
        // Counting references to what all workers share would make them wait for each other: each
        // has its own, and a hook that runs inside of another one takes a new one.
        let hooks = self.hooks.take();
        let hooks = hooks.unwrap_or_else(|| Arc::clone(&self.shared.hooks));
        let mut cx = Context::new(self, key);
        let run = std::panic::AssertUnwindSafe(|| work(&*hooks, &mut cx));
        let done = std::panic::catch_unwind(run);
        self.hooks = Some(hooks);
        match done {
            Ok(value) => Some(value),
            Err(_) => {
                self.shared.hook_panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(hook = name, "a hook panicked; its connection goes on");
                None
            }
        }
    }

    fn uncount(&self) {
        if let Some(inbox) = self.shared.inboxes.get(self.hub.worker()) {
            inbox.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Time until which [`sweep`](Self::sweep) has nothing to do.
    pub(crate) fn next_wait(&self) -> Option<Duration> {
        let hub = self.hub.next_deadline();
        let drain = self.drain.as_ref().and_then(DrainPlan::next_deadline);
        let sweep = (self.hub.connections() > 0).then_some(self.sweep_due);
        let first = [hub, drain, sweep].into_iter().flatten().min()?;
        Some(first.saturating_since(self.now))
    }
}
