//! Cron expressions and calendar boundaries in any IANA time zone, right across clock changes.

mod civil;
mod period;
mod zone;

pub use period::Period;
pub use zone::{Zone, ZoneError};
