#![doc = include_str!("../README.md")]

mod aggregate;
mod column;
mod compute;
mod config;
mod counts;
mod error;
mod helper;
mod js;
mod limits;
mod merge;
mod reducer;
mod scalar;
mod sketch;
mod snapshot;
mod spec;
mod stack;
mod stats;
mod tokens;
mod typed;
mod value;
mod window;

pub use aggregate::{Aggregate, Failure, Now, Output, ReadError, Reason};
pub use compute::View;
pub use error::{ReduceError, SnapshotError, SpecError, WindowProblem};
pub use helper::Helper;
pub use limits::Limits;
pub use reducer::{Combine, Event, Reducer};
pub use sketch::{Average, Distinct, Quantiles, TopK};
pub use spec::{FieldSpec, Spec};
pub use stats::Stats;
pub use value::Value;
pub use window::WindowSpec;

/// What the built-in sketches keep per window; opaque.
pub mod state {
    pub use crate::sketch::{Bins, Counters, Mean, Registers};
}
