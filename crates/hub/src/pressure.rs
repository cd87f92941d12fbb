//! Whether the server is under pressure, and who causes it.

use core::time::Duration;

use millstream_core::{Millis, TopicName};

use crate::topics::TopicRate;

/// Thresholds. `None` switches a signal off.
#[derive(Debug, Clone, PartialEq)]
pub struct PressureConfig {
    /// Part of the memory limit in use. Default 0.85. Without a memory limit there is no signal.
    pub memory_ratio: Option<f64>,
    /// Publishes per second. Default 10,000.
    pub publishes_per_sec: Option<f64>,
    /// Subscriptions per connection. Default 50.
    pub subscriber_ratio: Option<f64>,
    /// Publishes per second of one topic. Default 5,000.
    pub topic_messages_per_sec: Option<f64>,
    /// Bytes per second of one topic. Default 10 MiB.
    pub topic_bytes_per_sec: Option<f64>,
    /// How far a value has to fall below its threshold before the signal ends, as a part of
    /// the threshold. Default 0.1. Keeps a value near the threshold from flickering.
    pub hysteresis: f64,
    /// Time between samples. Default 1 s; the host keeps to it.
    pub interval: Duration,
}

impl Default for PressureConfig {
    fn default() -> Self {
        Self {
            memory_ratio: Some(0.85),
            publishes_per_sec: Some(10_000.0),
            subscriber_ratio: Some(50.0),
            topic_messages_per_sec: Some(5_000.0),
            topic_bytes_per_sec: Some(10.0 * 1024.0 * 1024.0),
            hysteresis: 0.1,
            interval: Duration::from_secs(1),
        }
    }
}

/// What presses most. In order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reason {
    /// Memory is running out.
    Memory,
    /// Too many publishes.
    PublishRate,
    /// Too many subscriptions per connection.
    Subscribers,
    /// Nothing.
    #[default]
    None,
}

impl Reason {
    /// The name used in metrics and by applications.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "MEMORY",
            Self::PublishRate => "PUBLISH_RATE",
            Self::Subscribers => "SUBSCRIBERS",
            Self::None => "NONE",
        }
    }
}

/// What the host measured.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// The limit it is held against: configured, or the control group's.
    pub memory_limit_bytes: Option<u64>,
    /// Publishes since the process started.
    pub published: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Connections now.
    pub connections: u64,
    /// What each topic did since the last sample.
    pub topics: Vec<TopicRate>,
}

/// The state after a sample.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Whether any signal is on.
    pub active: bool,
    /// Why, by precedence.
    pub reason: Reason,
    /// Subscriptions per connection.
    pub subscriber_ratio: f64,
    /// Publishes per second in the last window.
    pub publish_rate: f64,
    /// Resident memory in MiB.
    pub memory_mib: f64,
    /// The five topics with the most publishes per second.
    pub top_publishers: Vec<TopPublisher>,
    /// All topics over one of the per-topic thresholds.
    pub loud_topics: Vec<TopPublisher>,
}

/// A topic and its rates.
#[derive(Debug, Clone, PartialEq)]
pub struct TopPublisher {
    /// The topic.
    pub topic: TopicName,
    /// Publishes per second.
    pub messages_per_sec: f64,
    /// Bytes of frames per second.
    pub bytes_per_sec: f64,
}

/// The sampler. Give it a [`Load`] every [`interval`](PressureConfig::interval).
///
/// ```
/// # use millstream_core::Millis;
/// # use millstream_hub::{Load, Pressure, PressureConfig, Reason};
/// let mut pressure = Pressure::new(PressureConfig::default(), Millis::ZERO);
/// let load = Load { published: 20_000, ..Load::default() };
/// let (changed, snapshot) = pressure.sample(Millis::from_millis(1_000), load);
/// assert!(changed);
/// assert_eq!(snapshot.reason, Reason::PublishRate);
/// ```
#[derive(Debug)]
pub struct Pressure {
    config: PressureConfig,
    at: Millis,
    published: u64,
    /// Signals that are on, in the order of `Reason`.
    on: [bool; 3],
    reason: Reason,
}

const TOP_PUBLISHERS: usize = 5;

impl Pressure {
    /// A sampler whose first window begins at `now`.
    #[must_use]
    pub fn new(config: PressureConfig, now: Millis) -> Self {
        Self {
            config,
            at: now,
            published: 0,
            on: [false; 3],
            reason: Reason::None,
        }
    }

    /// Takes a sample; the flag says whether the reason changed.
    pub fn sample(&mut self, now: Millis, load: Load) -> (bool, Snapshot) {
        let seconds = now.saturating_since(self.at).as_secs_f64().max(0.001);
        let publish_rate = ratio(load.published.saturating_sub(self.published), seconds);
        self.at = now;
        self.published = load.published;
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let subscriber_ratio = match load.connections {
            0 => 0.0,
            connections => load.subscriptions as f64 / connections as f64,
        };
        let memory = load.memory_limit_bytes.filter(|limit| *limit > 0);
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let memory = memory.map_or(0.0, |limit| load.memory_bytes as f64 / limit as f64);
        let signals = [
            (memory, self.config.memory_ratio),
            (publish_rate, self.config.publishes_per_sec),
            (subscriber_ratio, self.config.subscriber_ratio),
        ];
        for (on, (value, threshold)) in self.on.iter_mut().zip(signals) {
            *on = threshold.is_some_and(|threshold| {
                let floor = if *on {
                    threshold * (1.0 - self.config.hysteresis)
                } else {
                    threshold
                };
                value >= floor
            });
        }
        let reason = match self.on {
            [true, ..] => Reason::Memory,
            [_, true, _] => Reason::PublishRate,
            [_, _, true] => Reason::Subscribers,
            [false, false, false] => Reason::None,
        };
        let changed = reason != self.reason;
        self.reason = reason;
        let (top_publishers, loud_topics) = self.publishers(load.topics, seconds);
        #[allow(clippy::cast_precision_loss, reason = "mebibytes for people")]
        let memory_mib = load.memory_bytes as f64 / (1024.0 * 1024.0);
        let snapshot = Snapshot {
            active: reason != Reason::None,
            reason,
            subscriber_ratio,
            publish_rate,
            memory_mib,
            top_publishers,
            loud_topics,
        };
        (changed, snapshot)
    }

    fn publishers(
        &self,
        topics: Vec<TopicRate>,
        seconds: f64,
    ) -> (Vec<TopPublisher>, Vec<TopPublisher>) {
        let mut all: Vec<TopPublisher> = topics
            .into_iter()
            .map(|rate| TopPublisher {
                topic: rate.topic,
                messages_per_sec: ratio(u64::from(rate.messages), seconds),
                bytes_per_sec: ratio(rate.bytes, seconds),
            })
            .collect();
        all.sort_by(|a, b| b.messages_per_sec.total_cmp(&a.messages_per_sec));
        let over = |value: f64, threshold: Option<f64>| threshold.is_some_and(|t| value >= t);
        let loud = all
            .iter()
            .filter(|topic| {
                over(topic.messages_per_sec, self.config.topic_messages_per_sec)
                    || over(topic.bytes_per_sec, self.config.topic_bytes_per_sec)
            })
            .cloned()
            .collect();
        all.truncate(TOP_PUBLISHERS);
        (all, loud)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn ratio(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(pressure: &mut Pressure, at: u64, published: u64) -> (bool, Reason) {
        let load = Load {
            published,
            ..Load::default()
        };
        let (changed, snapshot) = pressure.sample(Millis::from_millis(at), load);
        (changed, snapshot.reason)
    }

    #[test]
    fn a_signal_ends_only_clearly_below_its_threshold() {
        let mut pressure = Pressure::new(PressureConfig::default(), Millis::ZERO);
        assert_eq!(rate(&mut pressure, 1_000, 9_999), (false, Reason::None));
        assert_eq!(
            rate(&mut pressure, 2_000, 19_999),
            (true, Reason::PublishRate)
        );
        assert_eq!(
            rate(&mut pressure, 3_000, 29_499),
            (false, Reason::PublishRate)
        );
        assert_eq!(rate(&mut pressure, 4_000, 38_400), (true, Reason::None));
    }

    #[test]
    fn memory_comes_before_the_rest() {
        let mut pressure = Pressure::new(PressureConfig::default(), Millis::ZERO);
        let load = Load {
            memory_bytes: 90,
            memory_limit_bytes: Some(100),
            published: 1_000_000,
            subscriptions: 100,
            connections: 1,
            ..Load::default()
        };
        let (_, snapshot) = pressure.sample(Millis::from_millis(1_000), load);
        assert_eq!(snapshot.reason, Reason::Memory);
        assert!(snapshot.active);
    }
}
