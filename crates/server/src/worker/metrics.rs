//! What workers and hubs report, in Prometheus' terms.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_live::UploadStats;
use prometheus_client::collector::Collector as Collect;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::worker::pool::Shared;

/// Upper bounds of the buckets for the length of a turn, in seconds.
const TURN_SECONDS: [f64; 8] = [0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0];

/// A histogram of how long turns take.
pub(crate) fn turns() -> Histogram {
    Histogram::new(TURN_SECONDS)
}

/// Registers what the workers report.
pub(crate) fn register(shared: &Arc<Shared>, registry: &mut Registry) {
    let help = "Length of a worker's turn, from waking up to having written everything";
    registry.register("turn_seconds", help, shared.turns.clone());
    registry.register_collector(Box::new(Collector(Arc::clone(shared))));
}

/// Reads everything at scrape time.
struct Collector(Arc<Shared>);

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
        for (name, value) in shared
            .hooks
            .upload_stats()
            .iter()
            .flat_map(UploadStats::list)
        {
            let help = "See the counters of millstream_upload::Stats";
            counter(&mut encoder, &format!("upload_{name}"), help, value)?;
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
            (
                "sends_busy",
                "Sends refused because a worker's inbox was full",
                &shared.sends_busy,
            ),
            (
                "read_pauses",
                "Times reading from a connection paused for an upload",
                &shared.read_pauses,
            ),
        ];
        for (name, help, value) in counters {
            counter(&mut encoder, name, help, value.load(Ordering::Relaxed))?;
        }
        for metric in shared.hooks.metrics() {
            let write = if metric.counter { counter } else { gauge };
            write(&mut encoder, metric.name, metric.help, metric.value)?;
        }
        self.gauges(&mut encoder)
    }
}

impl Collector {
    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shared = &self.0;
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
            (
                "retained_bytes",
                "Events kept for clients that come back",
                shared.topics.retained_bytes(),
            ),
            (
                "kept_bytes",
                "Bytes read from connections that are paused",
                shared.sum(|gauges| &gauges.kept_bytes),
            ),
            ("inbox_tasks", "Tasks waiting for the workers", inbox),
        ];
        for (name, help, value) in gauges {
            gauge(encoder, name, help, value as u64)?;
        }
        let active = u64::from(shared.pressure.load().active);
        gauge(
            encoder,
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
