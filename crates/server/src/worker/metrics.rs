//! What workers and hubs report, in Prometheus' terms.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector as Collect;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::worker::pool::Shared;

/// How long turns took: a histogram in atomics, because workers write it every turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// Upper bounds of the buckets, in microseconds.
const BOUNDS_US: [u64; 8] = [50, 200, 1_000, 5_000, 20_000, 100_000, 500_000, 2_000_000];

impl Turns {
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(BOUNDS_US.len());
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Reads everything at scrape time.
pub(crate) struct Collector(pub(crate) Arc<Shared>);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Collect for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shared = &self.0;
        for (name, help, value) in shared.topics.stats().list() {
            counter(&mut encoder, &format!("hub_{name}"), help.trim(), value)?;
        }
        let counters = [
            ("hook_panics", "Hooks that panicked", &shared.hook_panics),
            (
                "violations",
                "Connections closed for breaking the protocol",
                &shared.violations,
            ),
            (
                "idle_closed",
                "Connections dropped without a sign of life",
                &shared.idle_closed,
            ),
            (
                "slow_turns",
                "Turns over 200 ms, mostly a hook that blocks",
                &shared.slow_turns,
            ),
        ];
        for (name, help, value) in counters {
            counter(&mut encoder, name, help, value.load(Ordering::Relaxed))?;
        }
        let turns: u64 = shared
            .turns
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum();
        counter(&mut encoder, "turns", "Turns of all workers", turns)?;
        let mut below = 0;
        for (bound, bucket) in BOUNDS_US.iter().zip(&shared.turns.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let name = format!("turns_within_{bound}_us");
            counter(
                &mut encoder,
                &name,
                "Turns that took at most so long",
                below,
            )?;
        }
        let micros = shared.turns.sum_us.load(Ordering::Relaxed);
        counter(
            &mut encoder,
            "turn_microseconds",
            "Time spent in turns",
            micros,
        )?;
        let inbox: usize = shared.inboxes.0.iter().map(|inbox| inbox.len()).sum();
        let gauges = [
            ("workers", "Worker threads", shared.gauges.len()),
            (
                "connections",
                "Open WebSocket connections",
                shared.connections(),
            ),
            (
                "subscriptions",
                "Subscriptions",
                shared.sum(|gauges| &gauges.subscriptions),
            ),
            ("topics", "Topics known", shared.topics.len()),
            (
                "backlog_bytes",
                "Unsent bytes",
                shared.sum(|gauges| &gauges.backlog_bytes),
            ),
            ("inbox_tasks", "Tasks waiting for the workers", inbox),
        ];
        for (name, help, value) in gauges {
            gauge(&mut encoder, name, help, value as u64)?;
        }
        let active = u64::from(shared.pressure.load().active);
        gauge(
            &mut encoder,
            "pressure",
            "1 while any pressure signal is on",
            active,
        )
    }
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
