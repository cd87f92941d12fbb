#![doc = include_str!("../README.md")]

mod change;
mod delta;
mod frame;
mod history;
mod item;
mod limits;
mod list;
mod merge;
mod options;
mod raw;
mod reply;
mod stream;

pub use change::{Change, Evicted};
pub use frame::{Event, Frame};
pub use history::HistoryLimits;
pub use item::{Item, Key, KeySpot};
pub use limits::{Limits, MergeError, Stats};
pub use merge::{Growth, Merge, Shape};
pub use options::{Options, Settings, Strategy};
pub use raw::RawReader;
pub use reply::{Missed, Reply, ReplyError};
pub use stream::{ChangeId, Content, Edit, EditFunction, Stream, StreamLimits};
