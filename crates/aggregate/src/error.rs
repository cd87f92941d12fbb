//! Everything that can be wrong.

use std::borrow::Cow;

/// Why an aggregate cannot be built. Always a mistake of whoever declares it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The declaration is not the JSON object it should be.
    #[error("{what} must be {wanted}")]
    Shape {
        /// Which member.
        what: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The list of windows is there, but empty.
    #[error("windows must not be empty; leave it out for a single state")]
    WindowsEmpty,
    /// More of something than [`Limits`](crate::Limits) allows.
    #[error("too many {what}: {count}, the limit is {max}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A field or window name is empty, too long or used twice.
    #[error("{what} name {name:?} {problem}")]
    Name {
        /// `field` or `window`.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something is wrong with a window.
    #[error("window {name:?}: {problem}")]
    Window {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: WindowProblem,
    },
    /// Something is wrong with a field.
    #[error("field {name:?}: {problem}")]
    Field {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: Cow<'static, str>,
    },
    /// A snapshot is named for a window that does not exist.
    #[error("snapshot for {name:?}, but there is no such window")]
    SnapshotName {
        /// The name.
        name: String,
    },
}

/// What is wrong with a window.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowProblem {
    /// The type is missing or unknown.
    #[error("type {got} is none of lifetime, tumbling, sliding")]
    Type {
        /// What was given.
        got: String,
    },
    /// A tumbling window needs a period or a duration, and not both.
    #[error("tumbling needs exactly one of period and durationMs")]
    PeriodOrDuration,
    /// The period is unknown.
    #[error("period {got} is none of minute, hour, daily, monthly")]
    Period {
        /// What was given.
        got: String,
    },
    /// The zone is unknown.
    #[error("unknown time zone {zone:?}")]
    Zone {
        /// What was given.
        zone: String,
    },
    /// A time is not a whole number of milliseconds in its range.
    #[error("{member} must be a whole number of milliseconds {range}, not {got}")]
    Millis {
        /// Which time.
        member: &'static str,
        /// What is allowed.
        range: &'static str,
        /// What was given.
        got: String,
    },
    /// The slide is longer than the window.
    #[error("slideMs {slide_ms} is above durationMs {duration_ms}")]
    SlideAboveDuration {
        /// The slide.
        slide_ms: u64,
        /// The window.
        duration_ms: u64,
    },
    /// Too many hops.
    #[error("{buckets} buckets, the limit is {max}")]
    Buckets {
        /// How many there would be.
        buckets: u64,
        /// The limit.
        max: u32,
    },
    /// A field is reduced, but cannot be combined.
    #[error("field {field:?} needs a combine to be shown in a sliding window")]
    Combine {
        /// The field.
        field: String,
    },
}

/// Why one reducer did not take one event. Its field keeps the value it had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReduceError {
    /// The data is `null`, so that it has no fields.
    #[error("the data is null and has no fields")]
    DataNull,
    /// A map, list or text is at its limit.
    #[error("{what} is full: the limit is {max}")]
    Full {
        /// What is full.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A computed field needs another one of a different kind.
    #[error("the field it is computed of is no {wanted}")]
    Operand {
        /// What it should be.
        wanted: &'static str,
    },
    /// What a typed reducer says.
    #[error("{0}")]
    Custom(Cow<'static, str>),
}

/// Why a snapshot was not taken in, or not completely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No window of that name takes snapshots: unknown, or sliding.
    #[error("no window takes this snapshot")]
    NoWindow,
    /// Events or a boundary came first: it would wipe what they did.
    #[error("the snapshot comes too late, events were counted already")]
    Late,
    /// Not an object.
    #[error("the snapshot is not an object")]
    NotAnObject,
    /// Larger than allowed.
    #[error("the snapshot has {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Written by a version this one does not know.
    #[error("snapshot version {got} is unknown, this is version 1")]
    Version {
        /// What it says.
        got: String,
    },
    /// Everything else was taken in, but these fields do not fit their reducers.
    #[error("the snapshot does not fit the fields {fields:?}, they keep their starting values")]
    Fields {
        /// Their names.
        fields: Vec<String>,
    },
}
