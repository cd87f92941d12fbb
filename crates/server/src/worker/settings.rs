//! The part of the configuration that concerns workers and hubs, in their terms.

use std::thread;
use std::time::Duration;

use millstream_core::TopicRules;
use millstream_hub::{
    HubConfig, Limits, Overflow, Pattern, PolicyTable, PressureConfig, TopicPolicy,
};

use crate::config::Config;
use crate::worker::pool::Settings;

pub(crate) fn from_config(config: &Config, decides: bool, raw: bool) -> Settings {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    let workers = match config.workers {
        0 => u16::try_from(cores).unwrap_or(u16::MAX),
        workers => u16::try_from(workers).unwrap_or(u16::MAX),
    };
    let open_topics = config.open_patterns(decides);
    Settings {
        workers,
        hub: HubConfig {
            limits: limits(config),
            open_topics: open_topics
                .iter()
                .map(|pattern| Pattern::new(pattern))
                .collect(),
            park: false,
            wire_rules: TopicRules {
                non_ascii: config.non_ascii_topics,
                system: config.system_topics,
            },
        },
        policies: policies(config),
        pressure: pressure(config),
        memory_limit_bytes: memory_limit_bytes(),
        message_bytes_max: config.message_bytes_max,
        idle_secs: seconds(config.idle_timeout),
        keepalive_secs: if config.heartbeat && !raw {
            seconds(config.keepalive_after)
        } else {
            0
        },
        drain_spread: config.drain_spread,
        paused_bytes_max: config.paused_bytes_max,
        raw,
    }
}

fn limits(config: &Config) -> Limits {
    let from = &config.limits;
    Limits {
        connections_max: config.connections_max,
        subscriptions_max: from.subscriptions_max,
        topics_max: from.topics_max,
        batch_topics_max: from.batch_topics_max,
        pending_topics_max: from.pending_topics_max,
        parked_topics_max: from.parked_topics_max,
        parked_hold: from.parked_hold,
        backlog_bytes_max: config.backpressure_bytes_max,
        backlog_pieces_max: from.backlog_pieces_max,
        control_bytes_max: from.control_bytes_max,
        turn_bytes_max: from.turn_bytes_max,
        coalesce_keys_max: from.coalesce_keys_max,
        coalesce_bytes_max: from.coalesce_bytes_max,
        hold_bytes_max: from.hold_bytes_max,
        requests_max: from.requests_max,
        request_timeout: from.request_timeout,
        resume_topics_max: from.resume_topics_max,
        resume_hold: from.resume_hold,
        retained_bytes_max: from.retained_bytes_max,
        batch_members_max: from.batch_members_max,
    }
}

fn policies(config: &Config) -> PolicyTable {
    let volatile = TopicPolicy {
        volatile: true,
        ..TopicPolicy::default()
    };
    let overflow = |overflow| TopicPolicy {
        overflow,
        ..TopicPolicy::default()
    };
    let rules = [
        (&config.volatile_topics, volatile),
        (&config.disconnect_topics, overflow(Overflow::Disconnect)),
        (&config.coalesce_topics, overflow(Overflow::Coalesce)),
        (&config.drop_oldest_topics, overflow(Overflow::DropOldest)),
    ];
    let mut table = PolicyTable::default();
    for (patterns, policy) in rules {
        for pattern in patterns.iter().flatten() {
            table = table.with(Pattern::new(pattern), policy);
        }
    }
    table
}

#[allow(clippy::cast_precision_loss, reason = "thresholds far below 2^53")]
fn pressure(config: &Config) -> PressureConfig {
    let from = &config.pressure;
    PressureConfig {
        memory_ratio: from.memory_ratio,
        publishes_per_sec: from.publish_rate.map(|rate| rate as f64),
        subscriber_ratio: from.subscriber_ratio.map(|ratio| ratio as f64),
        topic_messages_per_sec: from.topic_publish_rate.map(|rate| rate as f64),
        topic_bytes_per_sec: from.topic_publish_bytes_rate.map(|rate| rate as f64),
        interval: from.sample_interval,
        ..PressureConfig::default()
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// The limit of the control group, or else the machine's memory.
fn memory_limit_bytes() -> Option<u64> {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    group.or_else(|| {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    })
}
