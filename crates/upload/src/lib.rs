#![doc = include_str!("../README.md")]

mod budget;
mod connections;
mod entry;
mod error;
mod event;
mod header;
mod idle;
mod limits;
mod stats;
mod uploads;

pub use budget::{Budget, BudgetLimits};
pub use error::{Failure, UploadError};
pub use event::{Event, Reply, Take};
pub use header::Header;
pub use limits::{CHUNK_COST, Limits, Terms};
pub use stats::Stats;
pub use uploads::{Chunk, UploadKey, Uploads};
