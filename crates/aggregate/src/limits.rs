//! Every bound, with its default and what happens when it is reached.

/// Bounds of one aggregate.
///
/// A window holds at most `reducers_max x field_bytes_max` bytes of state; the whole aggregate that
/// times `windows_max`, plus `held_bytes_max` while a snapshot is awaited.
///
/// ```
/// let limits = millstream_aggregate::Limits { keys_max: 100, ..Default::default() };
/// assert_eq!(limits.buckets_max, 1_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fields of one aggregate, computed ones included. Default 64. More are refused when built.
    /// A snapshot may bring along as many that no reducer knows; more are refused and named.
    pub reducers_max: usize,
    /// Windows of one aggregate. Default 32. More are refused when built.
    pub windows_max: usize,
    /// Bytes of a field, window or path name. Default 256. Longer ones are refused when built.
    pub name_bytes_max: usize,
    /// Hops of one sliding window. Default 1,000. More are refused when built.
    pub buckets_max: u32,
    /// Keys of one map (`counts`, `merge`) per window; over all hops of a sliding one. Default
    /// 10,000. At the limit a new key is refused (old keys go on). Counter: `failed`.
    pub keys_max: usize,
    /// Bytes of keys and values one field keeps per window. Default 1 MiB. At the limit whatever
    /// would grow it is refused and the field keeps its value. Counter: `failed`.
    pub field_bytes_max: usize,
    /// Elements of an `append` list. Default 10,000. At the limit more are refused.
    /// Counter: `failed`.
    pub items_max: usize,
    /// Events held back while a snapshot is awaited. Default 10,000. At the limit the snapshot is
    /// given up and the events count without it. Counter: `snapshots_abandoned`.
    pub held_events_max: usize,
    /// Bytes of those events. Default 1 MiB. The same happens. Counter: `snapshots_abandoned`.
    pub held_bytes_max: usize,
    /// Bytes of one snapshot that is taken in. Default 4 MiB. A larger one is refused.
    pub snapshot_bytes_max: usize,
    /// Outputs that wait to be polled. Default 1,024. At the limit the oldest is dropped: the
    /// newer ones of its window replace it anyway. Counter: `outputs_dropped`.
    pub outputs_max: usize,
    /// Failure reports that wait to be polled. Default 64. At the limit the oldest is dropped.
    /// Counter: `failures_dropped`.
    pub failures_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reducers_max: 64,
            windows_max: 32,
            name_bytes_max: 256,
            buckets_max: 1_000,
            keys_max: 10_000,
            field_bytes_max: 1024 * 1024,
            items_max: 10_000,
            held_events_max: 10_000,
            held_bytes_max: 1024 * 1024,
            snapshot_bytes_max: 4 * 1024 * 1024,
            outputs_max: 1_024,
            failures_max: 64,
        }
    }
}
