#![doc = include_str!("../README.md")]

mod civil;
mod cron;
mod error;
mod job;
mod parse;
mod period;
mod schedule;
mod zone;

pub use cron::Cron;
pub use error::{CronError, Field, Problem};
pub use job::{Due, GRACE_MS_MAX, Job, MISSED_COUNT_MAX};
pub use period::Period;
pub use schedule::{SEARCH_YEARS_MAX, Schedule};
pub use zone::{Zone, ZoneError};
