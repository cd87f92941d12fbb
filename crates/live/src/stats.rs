//! What an application's rules have refused, counted.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Engine;
use crate::policy::RateTable;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[doc = $text:literal])+ $name:ident,)*) => {
        /// The counters of a running application.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Count,)*
        }

        /// What calls and streams have refused, since the start. Counts may be a little apart from
        /// each other: they are not read at one instant.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct LiveStats {
            $($(#[doc = $text])+ pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> LiveStats {
                LiveStats {
                    $($name: self.$name.0.load(Ordering::Relaxed),)*
                }
            }
        }

        impl LiveStats {
            /// Every counter with its name and what it counts.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                let all = [$((
                    concat!("live_", stringify!($name)),
                    concat!($($text),+).trim_ascii(),
                    self.$name,
                )),*];
                all.into_iter()
            }
        }
    };
}

counters! {
    /// Calls and subscriptions refused by a rate limit.
    rate_limited,
    /// Calls that did not get their lock in time.
    lock_timeouts,
    /// Calls refused because too many wait for a lock.
    lock_overloads,
    /// Calls that were given the result of an earlier one.
    repeated,
    /// Calls refused because one with their idempotency key runs.
    conflicts,
    /// Calls refused because too many wait for a result, or too many run.
    idempotency_overloads,
    /// Results that were too large to be remembered.
    results_not_kept,
    /// Calls and loads that met an open breaker.
    breaker_refusals,
    /// Calls that took too long.
    deadlines,
    /// Subscriptions refused because their class is shed.
    shed,
    /// Windows of `skip` not opened because too many were open.
    skip_overflows,
    /// Topics loaded again because they were stale or invalidated, failures included.
    reloads,
    /// Warnings given.
    warnings,
}

/// What a running application keeps at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveGauges {
    /// Keys that are locked.
    pub locks_held: usize,
    /// Calls that wait for a lock.
    pub lock_waiters: usize,
    /// Results that are remembered, and idempotent calls that run.
    pub results: usize,
    /// Calls that wait for the result of another one.
    pub result_waiters: usize,
    /// Callers whose calls are counted, for each path that limits them.
    pub callers_counted: usize,
    /// Windows of `skip` that are open, or were when one was opened last.
    pub skip_windows: usize,
    /// Futures that wait for the end of a connection.
    pub closed_waiters: usize,
    /// Topics that are loaded again when they are stale or invalidated.
    pub watched_topics: usize,
    /// Topics whose value the server keeps.
    pub held_topics: usize,
    /// Bytes of these values, with what they need beside.
    pub held_bytes: usize,
}

impl LiveGauges {
    /// Every gauge with its name and what it measures.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, usize)> {
        let all = [
            ("live_locks_held", "Keys that are locked", self.locks_held),
            (
                "live_lock_waiters",
                "Calls that wait for a lock",
                self.lock_waiters,
            ),
            (
                "live_results",
                "Results remembered, and idempotent calls that run",
                self.results,
            ),
            (
                "live_result_waiters",
                "Calls that wait for another one's result",
                self.result_waiters,
            ),
            (
                "live_callers_counted",
                "Callers that rate limits know",
                self.callers_counted,
            ),
            ("live_skip_windows", "Windows of skip", self.skip_windows),
            (
                "live_closed_waiters",
                "Futures that wait for a connection's end",
                self.closed_waiters,
            ),
            (
                "live_watched_topics",
                "Topics that are loaded again when stale or invalidated",
                self.watched_topics,
            ),
            (
                "live_held_topics",
                "Topics whose value the server keeps",
                self.held_topics,
            ),
            (
                "live_held_bytes",
                "Bytes of the values the server keeps",
                self.held_bytes,
            ),
        ];
        all.into_iter()
    }
}

impl<S, U> Engine<S, U> {
    pub(crate) fn gauges(&self) -> LiveGauges {
        let (locks_held, lock_waiters) = self.locks.sizes();
        let (held_topics, held_bytes) = self.held.size();
        let mut gauges = LiveGauges {
            watched_topics: self.watches.len(),
            held_topics,
            held_bytes,
            locks_held,
            lock_waiters,
            callers_counted: self.tables.rates.iter().map(RateTable::len).sum(),
            skip_windows: self.windows.lock().len(),
            closed_waiters: self.closings.len(),
            ..LiveGauges::default()
        };
        for table in &self.tables.results {
            let (results, waiters) = table.sizes();
            gauges.results += results;
            gauges.result_waiters += waiters;
        }
        gauges
    }
}
