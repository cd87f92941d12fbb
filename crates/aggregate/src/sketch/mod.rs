//! Bounded answers to questions that would need all the data: how many different ones, which
//! quantile, which are the most frequent. All can be combined, so they work in sliding windows and
//! across instances.

mod average;
mod distinct;
mod quantiles;
mod topk;

pub use average::{Average, Mean};
pub use distinct::{Distinct, Registers};
pub use quantiles::{Bins, Quantiles};
pub use topk::{Counters, TopK};

use millstream_core::RawJsonRef;

use crate::reducer::Path;
use crate::{Event, ReduceError, js};

/// Where a built-in reducer finds its input.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Found by the scan that all fields share.
    Path(Path),
    /// A field of the data.
    Field(Box<str>),
}

impl Source {
    fn read<'a>(&self, event: &Event<'a>) -> Result<Option<RawJsonRef<'a>>, ReduceError> {
        match self {
            Self::Path(path) => event.at(*path),
            Self::Field(_) if event.data.is_null() => Err(ReduceError::DataNull),
            Self::Field(name) => Ok(event.field(name)),
        }
    }

    /// A finite number; `None` for anything else.
    fn number(&self, event: &Event<'_>) -> Result<Option<f64>, ReduceError> {
        let found = self.read(event)?.filter(RawJsonRef::is_number);
        let number = found.map(|json| js::parse_number(json.as_str()));
        Ok(number.filter(|number| number.is_finite()))
    }
}

/// Members of a saved state.
fn number(saved: RawJsonRef<'_>, name: &str) -> Option<f64> {
    let number = saved.field(name)?.as_f64()?;
    number.is_finite().then_some(number)
}
