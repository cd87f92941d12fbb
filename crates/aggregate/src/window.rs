//! Windows: what is declared, and where they are in time.

use core::time::Duration;

use millstream_core::Millis;
use millstream_schedule::{Period, Zone};

use crate::Value;

/// A window as declared.
///
/// ```
/// use core::time::Duration;
/// use millstream_aggregate::WindowSpec;
/// use millstream_schedule::{Period, Zone};
///
/// let today = WindowSpec::calendar("today", Period::Day, Zone::get("Europe/Berlin").unwrap());
/// let recent = WindowSpec::sliding("recent", Duration::from_secs(60), Duration::from_secs(1))
///     .debounce(Duration::from_millis(250));
/// ```
#[derive(Clone, Debug)]
pub struct WindowSpec {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) debounce_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Lifetime,
    Calendar { period: Period, zone: Zone },
    Fixed { duration_ms: u64, anchor_ms: i64 },
    Sliding { duration_ms: u64, slide_ms: u64 },
}

impl WindowSpec {
    /// Everything since the start; never reset.
    #[must_use]
    pub fn lifetime(name: &str) -> Self {
        Self::new(name, Kind::Lifetime)
    }

    /// Reset whenever the local calendar of `zone` enters a new `period`.
    #[must_use]
    pub fn calendar(name: &str, period: Period, zone: Zone) -> Self {
        Self::new(name, Kind::Calendar { period, zone })
    }

    /// Reset every `duration` (rounded up to milliseconds), counted from the start of 1970.
    #[must_use]
    pub fn fixed(name: &str, duration: Duration) -> Self {
        let duration_ms = millis(duration);
        Self::new(
            name,
            Kind::Fixed {
                duration_ms,
                anchor_ms: 0,
            },
        )
    }

    /// Shifts the grid of a [`fixed`](Self::fixed) window so that one boundary is at `anchor_ms`.
    #[must_use]
    pub fn anchor(mut self, anchor_ms: i64) -> Self {
        if let Kind::Fixed {
            anchor_ms: anchor, ..
        } = &mut self.kind
        {
            *anchor = anchor_ms;
        }
        self
    }

    /// The last `duration`, in hops of `slide` counted from the start of the aggregate. Covers
    /// between `(n - 1) * slide` and `n * slide`, where `n` is `duration / slide` rounded up.
    #[must_use]
    pub fn sliding(name: &str, duration: Duration, slide: Duration) -> Self {
        let (duration_ms, slide_ms) = (millis(duration), millis(slide));
        Self::new(
            name,
            Kind::Sliding {
                duration_ms,
                slide_ms,
            },
        )
    }

    /// Overrides the debounce of the aggregate; zero outputs on every event.
    #[must_use]
    pub fn debounce(mut self, debounce: Duration) -> Self {
        self.debounce_ms = Some(millis(debounce));
        self
    }

    pub(crate) fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            debounce_ms: None,
        }
    }
}

impl Kind {
    /// The window that contains `wall_ms`: start and end. None for windows without boundaries.
    pub(crate) fn around(&self, wall_ms: i64) -> Option<(i64, i64)> {
        match self {
            Self::Calendar { period, zone } => {
                let end = zone.next_boundary(*period, wall_ms);
                // Beyond the years the calendar knows there are no boundaries any more.
                let end = if end > wall_ms { end } else { i64::MAX };
                Some((zone.start_of(*period, wall_ms), end))
            }
            Self::Fixed {
                duration_ms,
                anchor_ms,
            } => {
                let (wall, anchor) = (i128::from(wall_ms), i128::from(*anchor_ms));
                let duration = i128::from((*duration_ms).max(1));
                let start = anchor + (wall - anchor).div_euclid(duration) * duration;
                Some((clamp(start), clamp(start + duration)))
            }
            Self::Lifetime | Self::Sliding { .. } => None,
        }
    }

    pub(crate) const fn buckets(&self) -> Option<u64> {
        match self {
            Self::Sliding {
                duration_ms,
                slide_ms,
            } if *slide_ms > 0 => Some(duration_ms.div_ceil(*slide_ms)),
            _ => None,
        }
    }
}

fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time > 0 { i64::MAX } else { i64::MIN })
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A window at work.
#[derive(Debug)]
pub(crate) struct Window {
    /// Empty for the single state of an aggregate without windows.
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) debounce_ms: u64,
    pub(crate) wait_max_ms: u64,
    /// Since when a debounced output waits, and until when.
    pub(crate) waiting: Option<(Millis, Millis)>,
    /// Tumbling: when this window began and ends.
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    /// Sliding: when the aggregate began, and how many slides there were since.
    pub(crate) origin: Millis,
    pub(crate) slides: u64,
    /// Waits for its snapshot; events are held back.
    pub(crate) hydrating: bool,
    /// Holds something that a snapshot would wipe.
    pub(crate) touched: bool,
    /// What snapshots brought along that no reducer knows: tokens and JSON.
    pub(crate) extras: Vec<(Box<str>, Box<str>)>,
    /// Computed fields as last shown.
    pub(crate) computed: Vec<Value>,
}

impl Window {
    /// When the next slide is due.
    pub(crate) fn slide_due(&self) -> Option<Millis> {
        let Kind::Sliding { slide_ms, .. } = self.kind else {
            return None;
        };
        let ahead = slide_ms.saturating_mul(self.slides.saturating_add(1));
        Some(self.origin + Duration::from_millis(ahead))
    }

    /// When the debounced output is due.
    pub(crate) fn wait_due(&self) -> Option<Millis> {
        self.waiting.map(|(_, until)| until)
    }

    pub(crate) const fn is_tumbling(&self) -> bool {
        matches!(self.kind, Kind::Calendar { .. } | Kind::Fixed { .. })
    }

    /// An event came in; true if it is to be shown at once.
    pub(crate) fn wait(&mut self, now: Millis) -> bool {
        if self.debounce_ms == 0 {
            return true;
        }
        let since = self.waiting.map_or(now, |(since, _)| since);
        let latest = since + Duration::from_millis(self.wait_max_ms);
        let until = now + Duration::from_millis(self.debounce_ms);
        self.waiting = Some((since, until.min(latest)));
        false
    }

    /// Below this wall time the clock was put back by more than a whole window.
    pub(crate) const fn floor_ms(&self) -> i64 {
        let span = self.end_ms.saturating_sub(self.start_ms);
        self.start_ms.saturating_sub(span)
    }
}
