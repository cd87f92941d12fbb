//! How a testbed is set up, and what goes wrong in it.

use core::time::Duration;

use millstream_hub::{Limits, Pattern, PolicyTable};

/// How a [`Testbed`](super::Testbed) is set up. The defaults are those of a server.
///
/// ```
/// use millstream_live::testing::{Chaos, Settings};
///
/// let settings = Settings { workers: 2, seed: 7, chaos: Chaos::ROUGH, ..Settings::default() };
/// assert_eq!(settings.chaos.latency.as_millis(), 80);
/// ```
#[derive(Debug, Clone)]
#[allow(
    clippy::exhaustive_structs,
    reason = "made by tests, with `..Settings::default()`"
)]
pub struct Settings {
    /// Decides every random choice. The same seed gives the same run.
    pub seed: u64,
    /// Workers that share the connections. Default 1.
    pub workers: u16,
    /// What goes wrong. Default nothing.
    pub chaos: Chaos,
    /// Bounds of the hubs.
    pub hub: Limits,
    /// What happens to slow readers, by topic.
    pub policies: PolicyTable,
    /// Topics that clients may subscribe to by control frame without holding them. Default none.
    pub open_topics: Vec<Pattern>,
    /// Topics that the server's subscribe hook refuses, each with the reason.
    pub deny: Vec<(String, String)>,
    /// Longest message of a client, in bytes. Default 64 KiB.
    pub message_bytes_max: usize,
    /// Bytes of the messages in which clients upload, header and all, and never more than the
    /// server has told them. Default: what it has told, or 12,288 before that.
    pub upload_frame_bytes: Option<usize>,
    /// Bytes that fit between the server and a client that does not read. Default 64 KiB.
    pub socket_bytes: usize,
    /// How long calls, page loads and subscribes wait for their reply. Default 30 s.
    pub timeout: Duration,
    /// How long a stream without readers keeps its value. Default 60 s.
    pub grace: Duration,
    /// Whether a stream that begins to listen to a topic that its client hears already is handed
    /// the newest event again, as svelte-realtime's transport client does. Default yes.
    pub hand_over: bool,
    /// Wall time at which the first server starts, in milliseconds since 1970.
    pub boot_unix_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            workers: 1,
            chaos: Chaos::NONE,
            hub: Limits::default(),
            policies: PolicyTable::default(),
            open_topics: Vec::new(),
            deny: Vec::new(),
            message_bytes_max: 64 * 1024,
            upload_frame_bytes: None,
            socket_bytes: 64 * 1024,
            timeout: Duration::from_secs(30),
            grace: Duration::from_secs(60),
            hand_over: true,
            boot_unix_ms: 1_700_000_000_000,
        }
    }
}

/// What goes wrong by itself. What a test does to its clients and to the server comes on top:
/// [`disconnect`](super::Testbed::disconnect), [`stop_reading`](super::Testbed::stop_reading),
/// [`restart`](super::Testbed::restart).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "made by tests")]
pub struct Chaos {
    /// Longest time that bytes are under way, in either direction. Bytes of one connection never
    /// overtake each other.
    pub latency: Duration,
    /// Longest time that a worker does nothing, now and then: what it would have sent comes late,
    /// and what other workers publish piles up.
    pub stalls: Duration,
    /// Whether workers, tasks and clients take turns in random order instead of a fixed one.
    pub shuffle: bool,
    /// Whether events of different topics that arrive at a client together are taken in random
    /// order. Events of one topic, and replies, keep their places.
    pub reorder: bool,
}

impl Chaos {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        latency: Duration::ZERO,
        stalls: Duration::ZERO,
        shuffle: false,
        reorder: false,
    };

    /// A bad network and busy workers.
    pub const ROUGH: Self = Self {
        latency: Duration::from_millis(80),
        stalls: Duration::from_millis(40),
        shuffle: true,
        reorder: true,
    };
}
