//! Every bound of the hub, with its default and what happens when it is reached.

use core::time::Duration;

/// Bounds of one hub and of the topic table its workers share.
///
/// Each field says what happens at the limit and which counter of [`Stats`](crate::Stats) shows it.
/// The worst case of a connection is `backlog_bytes_max + control_bytes_max + coalesce_bytes_max +
/// hold_bytes_max` plus one turn's output.
///
/// ```
/// let limits = millstream_hub::Limits { subscriptions_max: 100, ..Default::default() };
/// assert_eq!(limits.backlog_bytes_max, 1024 * 1024);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one worker. Default 1,000,000. At the limit [`Hub::open`](crate::Hub::open)
    /// refuses and the host closes with 1013.
    pub connections_max: u32,
    /// Topics one connection may hold. Default 1,000,000. At the limit a subscribe is denied with
    /// `RATE_LIMITED`. Counter: `denied`.
    pub subscriptions_max: u32,
    /// Topics remembered by the process, subscribed or not. Default 1,000,000. At the limit the
    /// oldest topic without subscribers is forgotten (its numbers never come back lower); when
    /// all have subscribers the publish or subscribe is refused. Counters: `topics_evicted`,
    /// `topics_refused`.
    pub topics_max: u32,
    /// Entries of one `subscribe-batch` that are looked at. Default 256, the rest is ignored.
    pub batch_topics_max: u32,
    /// Topics of one connection whose subscribe or unsubscribe waits for a verdict.
    /// Default 1,024. At the limit a subscribe is denied with `RATE_LIMITED`; an unsubscribe is
    /// still taken, because it only replaces what waits. Counter: `denied`.
    pub pending_topics_max: u32,
    /// Subscribes of one connection that wait because default deny would refuse them
    /// ([`HubConfig::park`](crate::HubConfig::park)), one for each topic of a batch. Default 256.
    /// At the limit they are denied at once. Counters: `parked`, `parked_granted`,
    /// `parked_refused`. As many requests for topics outlive an unsubscribe that comes before their
    /// reply; others end with it.
    pub parked_topics_max: u32,
    /// How long they wait for the application to give the connection the topic before they are
    /// denied. Default 2 s; zero denies at once. Begins again while the application has not
    /// answered about that topic. The same time, from a reply on, has a client to ask for a topic
    /// that it has left while its request was under way; then the subscription ends. Counters:
    /// `left_under_way`, `doubts_ended`.
    pub parked_hold: Duration,
    /// Unsent bytes of one connection before its topics' overflow policies apply.
    /// Default 1 MiB. Counters: `dropped_*`.
    pub backlog_bytes_max: usize,
    /// Unsent pieces of one connection before the policies apply. Default 16,384.
    pub backlog_pieces_max: usize,
    /// Unsent bytes of control frames and replies past `backlog_bytes_max` before the connection
    /// is closed with 1013. Default 256 KiB. Counter: `slow_closed`.
    pub control_bytes_max: usize,
    /// Output collected in one turn before the host has to flush. Default 1 MiB.
    pub turn_bytes_max: usize,
    /// Coalesced sends waiting for one connection. Default 1,000,000 keys; a new key evicts the
    /// oldest. Counter: `dropped_coalesced`.
    pub coalesce_keys_max: u32,
    /// Bytes of coalesced sends waiting for one connection. Default 1 MiB; evicts the oldest.
    pub coalesce_bytes_max: usize,
    /// Bytes held back for one connection and topic between subscribe and first value.
    /// Default 256 KiB. At the limit the rest is dropped and release reports a gap.
    /// Counter: `dropped_held`.
    pub hold_bytes_max: usize,
    /// Server-to-client requests waiting on one connection. Default 1,000,000; one more fails at
    /// once. Counter: `requests_refused`.
    pub requests_max: u32,
    /// How long a request waits for its reply when the caller does not say. Default 5 s.
    pub request_timeout: Duration,
    /// Topics of a `resume` whose positions are remembered. Default 10,000; the rest is treated
    /// as never seen.
    pub resume_topics_max: u32,
    /// How long those positions wait for the client to subscribe. Default 30 s.
    pub resume_hold: Duration,
    /// Bytes of the events that all topics together keep for those who come back, each charged
    /// with 64 bytes more. Default 64 MiB; one topic keeps at most an eighth of it, and may be
    /// over it for the instant of a publish. At the limit the topic that was written to least
    /// recently loses its oldest events. An event that is larger than a topic's part is not kept;
    /// who needs it is told to reload. Counter: `retained_evicted`.
    pub retained_bytes_max: usize,
    /// Members of one `publish_batched`. Default 4,096; more are refused.
    pub batch_members_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            subscriptions_max: 1_000_000,
            topics_max: 1_000_000,
            batch_topics_max: 256,
            pending_topics_max: 1_024,
            parked_topics_max: 256,
            parked_hold: Duration::from_secs(2),
            backlog_bytes_max: 1024 * 1024,
            backlog_pieces_max: 16_384,
            control_bytes_max: 256 * 1024,
            turn_bytes_max: 1024 * 1024,
            coalesce_keys_max: 1_000_000,
            coalesce_bytes_max: 1024 * 1024,
            hold_bytes_max: 256 * 1024,
            requests_max: 1_000_000,
            request_timeout: Duration::from_secs(5),
            resume_topics_max: 10_000,
            resume_hold: Duration::from_secs(30),
            retained_bytes_max: 64 * 1024 * 1024,
            batch_members_max: 4_096,
        }
    }
}
