use std::fmt;

use thiserror::Error;

/// Why an expression is no schedule. The text says what is allowed; show it to whoever wrote the
/// expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CronError {
    /// Neither five nor six fields.
    #[error(
        "cron expression of {got} fields: it takes 5 (minute hour day month weekday) or 6 \
         (second first)"
    )]
    FieldCount {
        /// Fields, separated by white space.
        got: usize,
    },
    /// One part of one field cannot be read.
    #[error("{field} {text:?} at byte {at}: {problem}; allowed are {}", field.allowed())]
    Field {
        /// In which field.
        field: Field,
        /// The byte of the expression at which the part begins.
        at: usize,
        /// The part, cut after 40 characters.
        text: Box<str>,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl CronError {
    pub(crate) fn field(field: Field, at: usize, text: &str, problem: Problem) -> Self {
        const TEXT_CHARS_MAX: usize = 40;
        let text = text.chars().take(TEXT_CHARS_MAX).collect();
        Self::Field {
            field,
            at,
            text,
            problem,
        }
    }
}

/// The place of a field in an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// 0-59, only in expressions of six fields.
    Second,
    /// 0-59.
    Minute,
    /// 0-23.
    Hour,
    /// Day of the month, 1-31.
    Day,
    /// 1-12.
    Month,
    /// 0-7, where both 0 and 7 are Sunday.
    Weekday,
}

impl Field {
    /// The smallest and the largest value.
    #[must_use]
    pub const fn range(self) -> (u64, u64) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
        }
    }

    fn allowed(self) -> String {
        let (min, max) = self.range();
        format!("{min}-{max}")
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Weekday => "weekday",
        })
    }
}

/// What is wrong with a part of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The first number of a range is above its second.
    #[error("the range runs backwards")]
    Backwards,
    /// Nothing between two commas, or next to one.
    #[error("nothing there")]
    Empty,
    /// Something that is not decimal digits: a name, a sign, a fraction, `?`, `L`, `#`.
    #[error("not a number, a range or a step")]
    NotANumber,
    /// A number outside of the field's range.
    #[error("out of range")]
    OutOfRange,
    /// `*` next to other parts.
    #[error("a star stands alone")]
    StarInList,
    /// `5/15`, which programs read in different ways. Write `5-59/15`, or `5`.
    #[error("a step needs a range or a star before it")]
    StepOfOne,
    /// `*/0`.
    #[error("a step of zero")]
    ZeroStep,
}
