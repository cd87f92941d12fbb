#![doc = include_str!("../README.md")]

mod cursor;
mod digest;
mod effects;
mod group;
mod number;
mod pool;
mod presence;
mod rope;
mod select;

pub use cursor::{CursorConfig, CursorError, CursorMessage, CursorStats, Cursors, Update};
pub use effects::{Data, Effect, Effects, OwnedData};
pub use group::{Admission, Group, GroupConfig, GroupError, GroupStats, Role};
pub use presence::{JoinError, Joined, Presence, PresenceConfig, PresenceStats};
pub use rope::Snapshot;
pub use select::Select;
