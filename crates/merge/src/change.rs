//! What an event did.

use smallvec::SmallVec;

/// What an event did to the value: enough to update a view of it, or to tell somebody else.
///
/// Positions count from the front and hold after the event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<T> {
    /// Nothing, and there is nothing to tell: the value is the same number, string, boolean or
    /// `null` as before.
    Same,
    /// Nothing: an unknown event, or one for a key that is not there. The JavaScript client calls
    /// its readers all the same.
    Ignored,
    /// An item is new at `at`.
    Inserted {
        /// Its position.
        at: usize,
        /// What went to make room.
        evicted: Evicted<T>,
    },
    /// The item at `at` took the place of another with the same key.
    Replaced {
        /// Its position.
        at: usize,
        /// What was there.
        old: T,
    },
    /// An item is gone from `at`.
    Removed {
        /// Where it was.
        at: usize,
        /// What was there.
        old: T,
        /// The item that was last moved from here to `at`, so that the list has no hole.
        moved_from: Option<usize>,
    },
    /// The value is another one altogether.
    Reset,
}

impl<T> Change<T> {
    /// Whether readers should hear of it, as the JavaScript client has it.
    #[must_use]
    pub const fn notifies(&self) -> bool {
        !matches!(self, Self::Same)
    }

    /// Whether the value is another one than before.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        !matches!(self, Self::Same | Self::Ignored)
    }
}

/// Items dropped because the list was longer than `max`, the first to go first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evicted<T> {
    /// None.
    None,
    /// From the front: an item was appended.
    Front(SmallVec<[T; 1]>),
    /// From the back: an item was put in front.
    Back(SmallVec<[T; 1]>),
}

impl<T> Evicted<T> {
    /// The items.
    #[must_use]
    pub fn items(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::Front(items) | Self::Back(items) => items,
        }
    }
}
