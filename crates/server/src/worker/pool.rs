//! All workers together: starting, handing connections over, stopping.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use millstream_core::{Millis, RawJson};
use millstream_hub::{
    Hub, HubConfig, Load, PolicyTable, Pressure, PressureConfig, PublishOptions, Snapshot, Stats,
    Topics,
};
use millstream_live::LiveError;
use mio::{Poll, Waker};
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::conn::Handle;
use crate::handover::{self, Accepted, Gateway, Published};
use crate::hooks::Hooks;
use crate::worker::core::Core;
use crate::worker::inbox::{AllInboxes, Inbox, Task};
use crate::worker::metrics;
use crate::worker::turn::{self, WAKE};

/// What the workers have to know of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) workers: u16,
    pub(crate) hub: HubConfig,
    pub(crate) policies: PolicyTable,
    pub(crate) pressure: PressureConfig,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) message_bytes_max: usize,
    /// Seconds of silence after which a connection is dropped; 0: never.
    pub(crate) idle_secs: u32,
    /// Seconds without output after which a connection gets a text heartbeat; 0: never.
    pub(crate) keepalive_secs: u32,
    pub(crate) drain_spread: Duration,
    /// Bytes to keep aside for connections whose reading is paused.
    pub(crate) paused_bytes_max: usize,
    /// The application has a protocol of its own: no welcome, no control frames.
    pub(crate) raw: bool,
}

/// What all threads of a server share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) topics: Arc<Topics>,
    pub(crate) inboxes: AllInboxes,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) pressure: ArcSwap<Snapshot>,
    pub(crate) turns: Histogram,
    pub(crate) hook_panics: AtomicU64,
    pub(crate) violations: AtomicU64,
    pub(crate) idle_closed: AtomicU64,
    pub(crate) slow_turns: AtomicU64,
    pub(crate) sends_busy: AtomicU64,
    pub(crate) read_pauses: AtomicU64,
    /// Gauges of each worker, written by it once per turn.
    pub(crate) gauges: Box<[Gauges]>,
    started: Instant,
    tokens: AtomicU64,
    running: AtomicUsize,
    draining: AtomicBool,
}

/// What one worker has now.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) subscriptions: AtomicUsize,
    pub(crate) backlog_bytes: AtomicUsize,
    pub(crate) kept_bytes: AtomicUsize,
}

impl Shared {
    /// Time since the server started.
    pub(crate) fn clock(&self) -> Millis {
        self.clock_at(Instant::now())
    }

    pub(crate) fn clock_at(&self, now: Instant) -> Millis {
        let elapsed = now.saturating_duration_since(self.started);
        Millis::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// A number no other request or question of this process has.
    pub(crate) fn next_token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn fresh_session(&self) -> [u8; 16] {
        uuid::Uuid::new_v4().into_bytes()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn connections(&self) -> usize {
        self.inboxes
            .0
            .iter()
            .map(|inbox| inbox.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// Samples the load and tells the application when it matters.
    fn sample(self: &Arc<Self>, sampler: &mut Pressure) {
        let load = Load {
            memory_bytes: resident_bytes(),
            memory_limit_bytes: self.settings.memory_limit_bytes,
            published: self.topics.stats().published.load(Ordering::Relaxed),
            subscriptions: self.sum(|gauges| &gauges.subscriptions) as u64,
            connections: self.connections() as u64,
            topics: self.topics.take_rates(),
        };
        let (changed, snapshot) = sampler.sample(self.clock(), load);
        if changed {
            tracing::info!(reason = snapshot.reason.as_str(), "pressure changed");
        }
        let snapshot = Arc::new(snapshot);
        self.pressure.store(Arc::clone(&snapshot));
        if changed || !snapshot.loud_topics.is_empty() {
            let handle = Handle::new(Arc::clone(self));
            let hook = AssertUnwindSafe(|| self.hooks.pressure(&handle, &snapshot));
            if catch_unwind(hook).is_err() {
                self.hook_panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(hook = "pressure", "a hook panicked");
            }
        }
    }

    pub(crate) fn sum(&self, which: impl Fn(&Gauges) -> &AtomicUsize) -> usize {
        self.gauges
            .iter()
            .map(|gauges| which(gauges).load(Ordering::Relaxed))
            .sum()
    }
}

/// The running workers.
pub(crate) struct Pool {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Starts the workers. `runtime` is where hooks that have to wait go.
pub(crate) fn start(
    settings: Settings,
    hooks: Arc<dyn Hooks>,
    runtime: tokio::runtime::Handle,
) -> io::Result<Arc<Pool>> {
    let workers = settings.workers.max(1);
    let stats = Arc::new(Stats::default());
    let boot = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let topics = Topics::new(
        workers,
        u64::try_from(boot.as_millis()).unwrap_or(u64::MAX),
        settings.hub.limits.topics_max,
        settings.policies.clone(),
        stats,
    );
    let topics = Arc::new(topics.retaining(settings.hub.limits.retained_bytes_max));
    let mut polls = Vec::new();
    let mut inboxes = Vec::new();
    for _ in 0..workers {
        let poll = Poll::new()?;
        inboxes.push(Inbox::new(Waker::new(poll.registry(), WAKE)?));
        polls.push(poll);
    }
    let shared = Arc::new(Shared {
        topics,
        inboxes: AllInboxes(inboxes.into()),
        hooks,
        runtime,
        pressure: ArcSwap::from_pointee(Snapshot::default()),
        turns: metrics::turns(),
        hook_panics: AtomicU64::new(0),
        violations: AtomicU64::new(0),
        idle_closed: AtomicU64::new(0),
        slow_turns: AtomicU64::new(0),
        sends_busy: AtomicU64::new(0),
        read_pauses: AtomicU64::new(0),
        gauges: (0..workers).map(|_| Gauges::default()).collect(),
        started: Instant::now(),
        tokens: AtomicU64::new(1),
        running: AtomicUsize::new(usize::from(workers)),
        draining: AtomicBool::new(false),
        settings,
    });
    let hub_config = Arc::new(shared.settings.hub.clone());
    let mut threads = Vec::new();
    for (worker, poll) in (0_u16..).zip(polls) {
        let registry = poll.registry().try_clone()?;
        let shared = Arc::clone(&shared);
        let hub_config = Arc::clone(&hub_config);
        let thread = thread::Builder::new()
            .name(format!("worker-{worker}"))
            .spawn(move || {
                let topics = Arc::clone(&shared.topics);
                let hub = || Hub::new(worker, Arc::clone(&hub_config), Arc::clone(&topics));
                let core = Core::new(hub, Arc::clone(&shared), registry);
                // Dropped by a panic as well: the server is not ready without all its workers.
                let _running = Running(shared);
                turn::run(core, poll);
            })?;
        threads.push(thread);
    }
    watch_pressure(&shared);
    Ok(Arc::new(Pool {
        shared,
        threads: Mutex::new(threads),
    }))
}

/// Says that a worker has ended, however it did.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Samples the pressure for as long as the server lives.
fn watch_pressure(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    let config = shared.settings.pressure.clone();
    let interval = config.interval.max(Duration::from_millis(100));
    let mut sampler = Pressure::new(config, shared.clock());
    shared.runtime.spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(shared) = weak.upgrade() else { return };
            shared.sample(&mut sampler);
        }
    });
}

impl Gateway for Pool {
    fn hand_over(&self, accepted: Accepted) {
        let least = self
            .shared
            .inboxes
            .0
            .iter()
            .min_by_key(|inbox| inbox.connections.load(Ordering::Relaxed));
        if let Some(inbox) = least {
            inbox.connections.fetch_add(1, Ordering::Relaxed);
            inbox.push(Task::Accept(Box::new(accepted)));
        }
    }

    fn connections(&self) -> usize {
        self.shared.connections()
    }

    fn publish(
        &self,
        topic: &str,
        event: &str,
        data: RawJson,
    ) -> Result<Published, handover::PublishError> {
        let options = PublishOptions::default();
        let published = match self.shared.hooks.publisher() {
            Some(publisher) => publisher
                .publish_raw(topic, event, data.get(), options)
                .map_err(|error| handover::PublishError::of(&error))?,
            None => Handle::new(Arc::clone(&self.shared))
                .publish(topic, event, data.get(), options)
                .map_err(|error| handover::PublishError::of(&LiveError::publish(error)))?,
        };
        Ok(Published {
            delivered: published.delivered,
            seq: published.seq,
        })
    }

    fn is_ready(&self) -> bool {
        self.shared.running.load(Ordering::Acquire) == self.shared.gauges.len()
    }

    fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        for inbox in self.shared.inboxes.0.iter() {
            inbox.push(Task::Drain);
        }
    }

    fn stop(&self) {
        for inbox in self.shared.inboxes.0.iter() {
            inbox.push(Task::Stop);
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }

    fn handle(&self) -> Option<Handle> {
        Some(Handle::new(Arc::clone(&self.shared)))
    }

    fn metrics(&self, registry: &mut Registry) {
        metrics::register(&self.shared, registry);
    }
}

/// Resident memory of this process; 0 where the system does not say.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4_096;
    std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * PAGE)
}
