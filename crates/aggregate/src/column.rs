//! One field in all windows.

use core::fmt::Debug;

use millstream_core::RawJsonRef;

use crate::{Event, ReduceError, Value};

/// What a window asks of the fields in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One state that may be reset.
    Whole,
    /// So many hops, of which the oldest is dropped again and again.
    Hops(u32),
}

/// One field in all windows of an aggregate. Windows are known by their index.
pub(crate) trait Column: Debug + Send {
    /// Adds an event to some windows. Goes on with the other windows after a failure.
    fn add(&mut self, event: &Event<'_>, windows: &[u32]) -> Result<(), ReduceError>;

    /// Back to the starting value.
    fn reset(&mut self, window: usize);

    /// Drops the oldest hops of a sliding window, never more than it has, and adds as many.
    fn slide(&mut self, window: usize, steps: u32);

    /// Appends what is shown; false if the field is absent.
    fn write(&mut self, window: usize, out: &mut String) -> bool;

    /// What is shown.
    fn value(&self, window: usize) -> Value;

    /// What is shown, if it is a number that is at hand. `None` says nothing.
    fn number(&self, window: usize) -> Option<f64> {
        let _ = window;
        None
    }

    /// The entries of a map that is shown: string tokens and numbers.
    fn entries(&self, window: usize) -> Option<Vec<(&str, f64)>> {
        let _ = window;
        None
    }

    /// Appends what a snapshot keeps; false if there is nothing.
    fn save(&self, window: usize, out: &mut String) -> bool {
        self.value(window).write(out)
    }

    /// Replaces the state by what a snapshot kept; false refuses it and changes nothing.
    fn restore(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool;

    /// Combines the state with what another instance's snapshot kept, taking the other one as
    /// newer; false refuses it and changes nothing.
    fn absorb(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool;

    /// Bytes on the heap, roughly, for observation.
    fn bytes(&self, window: usize) -> usize;
}
