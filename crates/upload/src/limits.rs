//! Every bound, with its default and what happens when it is reached.

use core::num::NonZeroU64;
use core::time::Duration;

/// What a chunk that waits is charged besides its own length: its slot, with room to grow.
pub const CHUNK_COST: usize = 64;

/// Bounds of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Uploads of the table. Default 10,000 (at most 2^24). One more fails with
    /// `TOO_MANY_UPLOADS`. Counter: `failed_too_many`.
    pub uploads_max: usize,
    /// Uploads of one connection, accepted or not. Default 64. One more fails with
    /// `TOO_MANY_UPLOADS`. Counter: `failed_too_many`.
    pub per_connection_max: usize,
    /// Chunks of an upload that is not accepted yet, the first included. Default 64. One more fails
    /// with `FLOW_BACKPRESSURE`. Counter: `failed_backpressure`.
    pub starting_chunks_max: u32,
    /// Payload bytes of an upload that is not accepted yet. Default 16 MiB. More fail with
    /// `PAYLOAD_TOO_LARGE`. Counter: `failed_too_large`.
    pub starting_bytes_max: usize,
    /// Chunks that may come after reading should have been paused: what was already read. Default
    /// 1,024. One more fails with `FLOW_BACKPRESSURE`; so does every one with 0, for a host that
    /// cannot pause. Counter: `failed_backpressure`.
    pub overrun_chunks_max: usize,
    /// Bytes of one upload that wait for its handler, each chunk charged
    /// [`CHUNK_COST`](crate::CHUNK_COST) more. Default 16 MiB. At half of it reading should
    /// pause; above it the upload fails with `FLOW_BACKPRESSURE`. Counter: `failed_backpressure`.
    pub waiting_bytes_max: usize,
    /// How long a client may send nothing while its handler waits. Default 5 minutes. Then the
    /// upload fails with `TIMEOUT`. Counter: `failed_idle`.
    pub idle_after: Duration,
    /// Announced with the first reply of a connection: the largest frame the server takes, so that
    /// the client can make its next uploads' chunks that large. Default none.
    pub frame_bytes_max: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            uploads_max: 10_000,
            per_connection_max: 64,
            starting_chunks_max: 64,
            starting_bytes_max: 16 * 1024 * 1024,
            overrun_chunks_max: 1_024,
            waiting_bytes_max: 16 * 1024 * 1024,
            idle_after: Duration::from_secs(300),
            frame_bytes_max: None,
        }
    }
}

/// What a function allows one upload, said when it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Payload bytes. Default 100 MiB. More fail with `PAYLOAD_TOO_LARGE`. Counter:
    /// `failed_too_large`.
    pub size_max: u64,
    /// Chunks that wait for the handler. Default 64. At the limit reading should pause. Counter:
    /// `pauses`.
    pub waiting_chunks_max: usize,
    /// Uploads of the connection at once, counted in the order in which they were opened.
    /// Default 4. One more fails with `TOO_MANY_UPLOADS`. Counter: `failed_too_many`.
    pub per_connection_max: usize,
    /// Accepted uploads in the process. Default 2^32 - 1. One more fails with `TOO_MANY_UPLOADS`.
    /// Counter: `failed_too_many`.
    pub total_max: u32,
    /// Ask again whether this is allowed whenever so many bytes have come. Default never.
    pub reauthorize_every: Option<NonZeroU64>,
    /// How much of the whole the host has from an earlier try. Default 0. A client that wants to
    /// go on says the same as `offset` in its header and is told the right one otherwise;
    /// clients of the original say nothing, which is 0.
    pub continue_from: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            size_max: 104_857_600,
            waiting_chunks_max: 64,
            per_connection_max: 4,
            total_max: u32::MAX,
            reauthorize_every: None,
            continue_from: 0,
        }
    }
}
