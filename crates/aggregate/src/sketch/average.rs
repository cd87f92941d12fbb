//! The mean of a field.

use millstream_core::RawJsonRef;

use super::{Source, number};
use crate::{Combine, Event, ReduceError, Reducer, Value, js};

/// The mean of the numbers in a field; 0 of none. What is not a number does not count.
///
/// # Cost
/// 16 bytes per state, O(1) everything.
///
/// # Example
/// ```
/// use millstream_aggregate::{Average, FieldSpec};
/// let field = FieldSpec::combining("latency", Average::of("ms"));
/// ```
#[derive(Clone, Debug)]
pub struct Average {
    source: Source,
}

/// Sum and count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    count: f64,
}

impl Average {
    /// Of this field of the data.
    #[must_use]
    pub fn of(field: &str) -> Self {
        Self::from(Source::Field(field.into()))
    }

    pub(crate) const fn from(source: Source) -> Self {
        Self { source }
    }
}

impl Reducer for Average {
    type Input = f64;
    type State = Mean;

    fn init(&self) -> Mean {
        Mean::default()
    }

    fn read(&self, event: &Event<'_>) -> Result<Option<f64>, ReduceError> {
        self.source.number(event)
    }

    fn reduce(&self, state: &mut Mean, input: &f64) {
        state.sum += input;
        state.count += 1.0;
    }

    fn value(&self, state: &Mean) -> Value {
        Value::Number(if state.count > 0.0 {
            state.sum / state.count
        } else {
            0.0
        })
    }

    fn save(&self, state: &Mean) -> Value {
        let mut out = String::from("{\"sum\":");
        js::write_number(&mut out, state.sum);
        out.push_str(",\"count\":");
        js::write_number(&mut out, state.count);
        out.push('}');
        Value::Json(out.into())
    }

    fn restore(&self, saved: RawJsonRef<'_>) -> Option<Mean> {
        let (sum, count) = (number(saved, "sum")?, number(saved, "count")?);
        (count >= 0.0).then_some(Mean { sum, count })
    }
}

impl Combine for Average {
    const DISTRIBUTES: bool = true;

    fn combine(&self, older: &mut Mean, newer: &Mean) {
        older.sum += newer.sum;
        older.count += newer.count;
    }
}
