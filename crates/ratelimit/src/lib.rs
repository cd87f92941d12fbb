#![doc = include_str!("../README.md")]

mod admission;
mod compat;
mod error;
mod fixed;
mod gcra;
mod keys;
mod limiter;
mod policy;
mod table;
mod two_window;

pub use admission::{
    Admission, AdmissionError, CLASSES_MAX, Class, Pressure, Reason, Rule, Signal, Verdict,
};
pub use compat::{OldestFirst, SWEEP_KEYS};
pub use error::{BanError, ConfigError, ConsumeError};
pub use fixed::FixedWindow;
pub use gcra::Gcra;
pub use keys::{Keys, LimitKey};
pub use limiter::{EVICT_SLOTS_MAX, Limiter, Limits, SWEEP_SLOTS, Stats};
pub use policy::{Decision, NEVER, Policy, State};
pub use two_window::TwoWindow;
