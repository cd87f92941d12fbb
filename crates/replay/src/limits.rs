//! Every bound of the engine, with its default and what happens when it is reached.

/// What a kept frame is charged besides its own length: its slot in the ring, with the room a
/// growing ring keeps free.
pub const ENTRY_COST: usize = 64;

/// What a known topic is charged besides its frames and its name.
pub const TOPIC_COST: usize = 256;

/// How much history one topic keeps.
///
/// ```
/// let limits = millstream_replay::RingLimits::default();
/// assert_eq!((limits.entries_max, limits.bytes_max), (1_000, 1024 * 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingLimits {
    /// Frames. Default 1,000. At the limit the oldest goes. 0 keeps none and only numbers.
    /// Counter: `evicted_by_entries`.
    pub entries_max: u32,
    /// Bytes of frames, each charged [`ENTRY_COST`] more than its length. Default 1 MiB. At the
    /// limit the oldest go; a frame that is larger by itself is numbered but not kept.
    /// Counters: `evicted_by_bytes`, `oversized`.
    pub bytes_max: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self {
            entries_max: 1_000,
            bytes_max: 1024 * 1024,
        }
    }
}

/// What becomes of the number of a topic that is evicted or cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Numbers {
    /// It is remembered: a topic that comes back goes on counting, and who asks for it is told
    /// the truth.
    #[default]
    Keep,
    /// It is forgotten: a topic that comes back counts from [`Limits::first_number`] again, as in
    /// the JavaScript original. A reader from before may be told that it missed nothing.
    Restart,
}

/// Bounds and policies of one [`Replay`](crate::Replay).
///
/// ```
/// let limits = millstream_replay::Limits { topics_max: 100, ..Default::default() };
/// assert_eq!(limits.bytes_max, 256 * 1024 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Topics with a ring. Default 10,000, at least 1. At the limit the least recently used one
    /// is evicted. Counter: `evicted_topics`.
    pub topics_max: usize,
    /// What a topic keeps that is opened without saying.
    pub ring: RingLimits,
    /// Frames of all topics. Default 4,000,000. At the limit the least recently used topic loses
    /// its oldest. Counter: `evicted_by_total`.
    pub entries_max: usize,
    /// Bytes of everything, frames charged [`ENTRY_COST`] and topics [`TOPIC_COST`] plus name.
    /// Default 256 MiB. At the limit the least recently used topic loses its oldest frames, and
    /// its ring with the last of them. Counters: `evicted_by_total`, `evicted_topics`.
    pub bytes_max: usize,
    /// Evicted topics whose numbers are remembered one by one, at 40 bytes each. Default 100,000.
    /// At the limit the one evicted first joins a common floor: it continues above every number
    /// that was ever forgotten, and its readers are told to reload. Counter: `numbers_merged`.
    pub remembered_max: usize,
    /// Longest topic name. Default 1,024 bytes; a longer one is refused.
    pub name_bytes_max: usize,
    /// The number before the first of a topic nobody knows. Default 0. A host without a durable
    /// store passes its start time in milliseconds x 1,024, so that numbers from before a
    /// restart lie below it.
    pub first_number: u64,
    /// What becomes of numbers of evicted topics. Default [`Numbers::Keep`].
    pub numbers: Numbers,
    /// Whether asking for a topic makes it recently used. Default true, as in the original;
    /// false keeps readers from pushing out topics that are written to.
    pub reads_count_as_use: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            topics_max: 10_000,
            ring: RingLimits::default(),
            entries_max: 4_000_000,
            bytes_max: 256 * 1024 * 1024,
            remembered_max: 100_000,
            name_bytes_max: 1_024,
            first_number: 0,
            numbers: Numbers::Keep,
            reads_count_as_use: true,
        }
    }
}
