//! The I/O workers: threads that own their connections and share nothing on the hot path.
//!
//! [`run`](turn::run) is the loop, [`core`] the state it works on, [`ask`] how hooks are asked,
//! [`inbox`] how other threads reach a worker, [`pool`] all workers together.

pub(crate) mod ask;
pub(crate) mod core;
pub(crate) mod inbox;
pub(crate) mod io;
pub(crate) mod metrics;
pub(crate) mod pool;
pub(crate) mod turn;
