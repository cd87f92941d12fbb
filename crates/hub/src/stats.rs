//! Counters of a hub: plain atomics, written once per turn, read by whoever exports metrics.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counters shared by all hubs of a process. Reading is one relaxed load.
        #[derive(Debug, Default)]
        pub struct Stats { $($(#[doc = $doc])* pub $name: AtomicU64,)* }

        /// What a hub counted since it last added to the shared [`Stats`].
        #[derive(Debug, Default)]
        pub(crate) struct Tally { $(pub(crate) $name: u64,)* }

        impl Stats {
            /// Adds a turn's counts and empties them.
            pub(crate) fn add(&self, tally: &mut Tally) {
                $(if tally.$name != 0 {
                    self.$name.fetch_add(tally.$name, Ordering::Relaxed);
                    tally.$name = 0;
                })*
            }

            /// Every counter by name with its help text, in the order of the struct.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((
                    stringify!($name),
                    concat!($($doc,)*),
                    self.$name.load(Ordering::Relaxed),
                ),)*]
            }
        }
    };
}

counters! {
    /// Publishes numbered or not, before fan-out.
    published,
    /// Bytes of those publishes as frames.
    published_bytes,
    /// Topic frames given to a socket or to a backlog, one per receiver.
    delivered,
    /// Write calls made to sockets.
    writes,
    /// Bytes the sockets took.
    written_bytes,
    /// Writes the socket took only in part, so that a backlog began.
    stalls,
    /// Topic frames dropped because the reader was slow and the policy is drop-newest.
    dropped_newest,
    /// Topic frames dropped because the reader was slow and the policy is drop-oldest.
    dropped_oldest,
    /// Frames replaced by a newer one of the same topic or key for a slow reader.
    dropped_coalesced,
    /// Volatile frames not given to a slow reader.
    dropped_volatile,
    /// Direct sends not given to a slow reader.
    dropped_direct,
    /// Frames dropped because a hold-back buffer was full.
    dropped_held,
    /// Gap marks written: the receiver is told to reload that topic.
    gap_marks,
    /// Events kept for those who come back.
    retained,
    /// Kept events dropped because `retained_bytes_max` or a topic's part of it was reached.
    retained_evicted,
    /// Missed events sent to clients that came back.
    replayed,
    /// Connections closed because they read too slowly.
    slow_closed,
    /// Subscriptions made.
    subscribed,
    /// Subscriptions ended, by the client, the server or a close.
    unsubscribed,
    /// Subscribe requests refused, for whatever reason.
    denied,
    /// Subscribes whose denial was put off because the application may open the topic.
    parked,
    /// Of those the ones that were accepted, because it did.
    parked_granted,
    /// Subscribes that were denied at once because too many of the connection waited already.
    parked_refused,
    /// Unsubscribes that came while a request for their topic was under way: it stays subscribed.
    left_under_way,
    /// Subscriptions that ended because the client did not come back to them after such a one.
    doubts_ended,
    /// Verdicts that arrived after their connection had closed.
    verdicts_late,
    /// Server-to-client requests sent.
    requests,
    /// Requests refused because too many were waiting.
    requests_refused,
    /// Requests that ended without a reply in time.
    requests_timed_out,
    /// Topics forgotten to make room for new ones.
    topics_evicted,
    /// Publishes or subscribes refused because the topic table was full of subscribed topics.
    topics_refused,
    /// Publishes refused because another worker's inbox was full.
    publishes_busy,
}

impl Stats {
    /// Adds what was published in a turn: before its first byte can be seen anywhere.
    pub(crate) fn add_published(&self, tally: &mut Tally) {
        if tally.published > 0 {
            let (events, bytes) = (&mut tally.published, &mut tally.published_bytes);
            self.published
                .fetch_add(core::mem::take(events), Ordering::Relaxed);
            self.published_bytes
                .fetch_add(core::mem::take(bytes), Ordering::Relaxed);
        }
    }

    /// Adds one to a counter outside of a turn.
    pub(crate) fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All frames that were dropped for slow readers, whatever the policy.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        [
            &self.dropped_newest,
            &self.dropped_oldest,
            &self.dropped_coalesced,
            &self.dropped_volatile,
            &self.dropped_direct,
            &self.dropped_held,
        ]
        .iter()
        .map(|counter| counter.load(Ordering::Relaxed))
        .sum()
    }
}
