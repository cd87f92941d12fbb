//! Reducers with types of their own.

use core::fmt::Debug;

use millstream_core::RawJsonRef;

use crate::{ReduceError, Value};

/// An event as a reducer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The event's name.
    pub name: &'a str,
    /// Its data.
    pub data: RawJsonRef<'a>,
    /// The fields of the data that declared paths name, found in one scan.
    pub(crate) found: &'a [Option<RawJsonRef<'a>>],
}

impl<'a> Event<'a> {
    /// A field of the data.
    ///
    /// # Cost
    /// Scans the data. Reducers with a declared path share one scan instead.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<RawJsonRef<'a>> {
        self.data.field(name)
    }

    /// What the scan found for a path.
    #[inline]
    pub(crate) fn at(&self, path: Path) -> Result<Option<RawJsonRef<'a>>, ReduceError> {
        match self.found.get(path.0 as usize) {
            Some(Some(found)) => Ok(Some(*found)),
            _ if self.data.is_null() => Err(ReduceError::DataNull),
            _ => Ok(None),
        }
    }
}

/// Which of the declared paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) u32);

/// A field that is kept up to date event by event.
///
/// Failing and changing are two steps, so that a reducer that fails cannot leave a half-changed
/// state behind: [`read`](Self::read) looks at the event and may fail, [`reduce`](Self::reduce)
/// changes the state and may not. `read` runs once per event, `reduce` once per window.
///
/// The state is the reducer's own business; keep it bounded.
///
/// # Example
/// ```
/// use millstream_aggregate::{Event, ReduceError, Reducer, Value};
///
/// /// Longest text so far, in bytes.
/// #[derive(Debug)]
/// struct Longest;
///
/// impl Reducer for Longest {
///     type Input = usize;
///     type State = usize;
///     fn init(&self) -> usize { 0 }
///     fn read(&self, event: &Event<'_>) -> Result<Option<usize>, ReduceError> {
///         match event.field("text") {
///             Some(text) if text.is_string() => Ok(Some(text.as_str().len() - 2)),
///             _ => Err(ReduceError::Custom("no text".into())),
///         }
///     }
///     fn reduce(&self, state: &mut usize, input: &usize) { *state = (*state).max(*input); }
///     fn value(&self, state: &usize) -> Value { Value::Number(*state as f64) }
/// }
/// ```
pub trait Reducer: Debug + Send + Sync + 'static {
    /// What an event contributes.
    type Input: Debug + Send;
    /// What is kept per window.
    type State: Clone + Debug + Send;

    /// The starting value; made anew for every window and after every reset.
    fn init(&self) -> Self::State;

    /// Looks at an event. `Ok(None)` when it does not count.
    ///
    /// # Errors
    /// The event should have counted, but cannot. It is reported and the field keeps its value.
    fn read(&self, event: &Event<'_>) -> Result<Option<Self::Input>, ReduceError>;

    /// Adds to the state.
    fn reduce(&self, state: &mut Self::State, input: &Self::Input);

    /// What is shown; [`Value::Absent`] leaves the field out.
    fn value(&self, state: &Self::State) -> Value;

    /// What goes into a snapshot; by default the field is left out of snapshots.
    fn save(&self, state: &Self::State) -> Value {
        let _ = state;
        Value::Absent
    }

    /// Reads it back; `None` refuses it.
    fn restore(&self, saved: RawJsonRef<'_>) -> Option<Self::State> {
        let _ = saved;
        None
    }
}

/// A reducer whose states can be put together: of the hops of a sliding window, or of several
/// instances.
///
/// Has to be associative, and `init()` has to be neutral: combined with it nothing changes. It need
/// not be commutative; the older state always comes first.
pub trait Combine: Reducer {
    /// Whether reducing and combining can be swapped: `combine(a, reduce(b, x))` shows the same as
    /// `reduce(combine(a, b), x)`, as it does for sums, extremes, sets and sketches. Then a sliding
    /// window keeps its shown state up to date event by event instead of combining on each output.
    const DISTRIBUTES: bool = false;

    /// Adds a newer state to an older one.
    fn combine(&self, older: &mut Self::State, newer: &Self::State);
}
