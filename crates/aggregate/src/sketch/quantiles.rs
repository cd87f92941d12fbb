//! Quantiles of a field.

use std::collections::BTreeMap;

use millstream_core::RawJsonRef;

use super::{Source, number};
use crate::{Combine, Event, ReduceError, Reducer, Value, js};

/// Quantiles of the numbers in a field with a bounded relative error, by DDSketch.
///
/// Shows an object: `count`, `min`, `max` and, per quantile, `p50` and so on. Each is within
/// `accuracy` (1 % by default) of the true value of that rank, as long as the sketch did not have
/// to collapse: at more than `bins` different magnitudes (2,048 by default, 80 decades at 1 %) the
/// smallest ones are lumped together and only the lower quantiles suffer.
///
/// Source: Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
/// relative-error guarantees", VLDB 2019; logarithmic mapping, lowest bins collapse first.
///
/// # Cost
/// 100 to 200 bytes plus some 16 per bin in use; O(log bins) per event, O(bins in use) to show.
#[derive(Clone, Debug)]
pub struct Quantiles {
    source: Source,
    quantiles: Box<[f64]>,
    /// `ln((1 + accuracy) / (1 - accuracy))`
    ln_gamma: f64,
    bins_max: usize,
}

/// Bins of equal ratio for each sign, and zeros.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bins {
    positive: BTreeMap<i32, f64>,
    negative: BTreeMap<i32, f64>,
    zeros: f64,
    count: f64,
    min: f64,
    max: f64,
}

impl Quantiles {
    /// Of this field of the data: median, 95th and 99th percentile.
    #[must_use]
    pub fn of(field: &str) -> Self {
        Self::from(Source::Field(field.into()))
    }

    pub(crate) fn from(source: Source) -> Self {
        Self {
            source,
            quantiles: [0.5, 0.95, 0.99].into(),
            ln_gamma: ln_gamma(0.01),
            bins_max: 2_048,
        }
    }

    /// Shows these quantiles, each between 0 and 1; what is not is left out.
    #[must_use]
    pub fn quantiles(mut self, quantiles: &[f64]) -> Self {
        let sound = |quantile: &&f64| (0.0..=1.0).contains(*quantile);
        self.quantiles = quantiles.iter().filter(sound).copied().collect();
        self
    }

    /// The largest relative error; kept between 0.0001 and 0.5.
    #[must_use]
    pub fn accuracy(mut self, accuracy: f64) -> Self {
        self.ln_gamma = ln_gamma(accuracy);
        self
    }

    /// Bins per state; kept between 16 and 65,536.
    #[must_use]
    pub fn bins(mut self, bins: usize) -> Self {
        self.bins_max = bins.clamp(16, 65_536);
        self
    }

    /// The bin `size` falls into: the one whose upper end is the next power of gamma.
    fn bin(&self, size: f64) -> i32 {
        (size.ln() / self.ln_gamma).ceil() as i32
    }

    /// The value that is at most `accuracy` away from everything in the bin.
    fn middle(&self, bin: i32) -> f64 {
        let gamma = self.ln_gamma.exp();
        2.0 * (f64::from(bin) * self.ln_gamma).exp() / (gamma + 1.0)
    }

    /// Lumps the smallest sizes together until there are no more bins than allowed.
    fn collapse(&self, state: &mut Bins) {
        while state.positive.len() + state.negative.len() > self.bins_max {
            let bins = match state.positive.len() >= state.negative.len() {
                true => &mut state.positive,
                false => &mut state.negative,
            };
            let Some((_, count)) = bins.pop_first() else {
                return;
            };
            match bins.first_entry() {
                Some(mut next) => *next.get_mut() += count,
                None => return,
            }
        }
    }

    fn quantile(&self, state: &Bins, quantile: f64) -> f64 {
        let rank = quantile * (state.count - 1.0);
        let negative = state.negative.iter().rev();
        let negative = negative.map(|(bin, count)| (-self.middle(*bin), *count));
        let positive = state.positive.iter();
        let positive = positive.map(|(bin, count)| (self.middle(*bin), *count));
        let mut below = 0.0;
        for (value, count) in negative.chain([(0.0, state.zeros)]).chain(positive) {
            below += count;
            if below > rank {
                return value.clamp(state.min, state.max);
            }
        }
        state.max
    }
}

fn ln_gamma(accuracy: f64) -> f64 {
    let accuracy = if accuracy.is_nan() {
        0.01
    } else {
        accuracy.clamp(0.0001, 0.5)
    };
    ((1.0 + accuracy) / (1.0 - accuracy)).ln()
}

impl Reducer for Quantiles {
    type Input = f64;
    type State = Bins;

    fn init(&self) -> Bins {
        Bins::default()
    }

    fn read(&self, event: &Event<'_>) -> Result<Option<f64>, ReduceError> {
        self.source.number(event)
    }

    fn reduce(&self, state: &mut Bins, input: &f64) {
        let number = *input;
        if state.count == 0.0 {
            (state.min, state.max) = (number, number);
        }
        (state.min, state.max) = (state.min.min(number), state.max.max(number));
        state.count += 1.0;
        if number == 0.0 {
            state.zeros += 1.0;
            return;
        }
        let bins = if number > 0.0 {
            &mut state.positive
        } else {
            &mut state.negative
        };
        *bins.entry(self.bin(number.abs())).or_insert(0.0) += 1.0;
        self.collapse(state);
    }

    fn value(&self, state: &Bins) -> Value {
        let mut out = String::from("{\"count\":");
        js::write_number(&mut out, state.count);
        let some = state.count > 0.0;
        let mut member = |name: &str, number: f64| {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            js::write_number(&mut out, if some { number } else { f64::NAN });
        };
        member("min", state.min);
        member("max", state.max);
        for quantile in &self.quantiles {
            let mut name = String::from("p");
            js::write_number(&mut name, (quantile * 1e6).round() / 1e4);
            member(&name, self.quantile(state, *quantile));
        }
        out.push('}');
        Value::Json(out.into())
    }

    fn save(&self, state: &Bins) -> Value {
        let mut out = String::from("{\"lnGamma\":");
        js::write_number(&mut out, self.ln_gamma);
        for (name, value) in [
            ("count", state.count),
            ("zeros", state.zeros),
            ("min", state.min),
            ("max", state.max),
        ] {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":");
            js::write_number(&mut out, value);
        }
        for (name, bins) in [("positive", &state.positive), ("negative", &state.negative)] {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":[");
            for (at, (bin, count)) in bins.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                out.push_str(itoa::Buffer::new().format(*bin));
                out.push(',');
                js::write_number(&mut out, *count);
            }
            out.push(']');
        }
        out.push('}');
        Value::Json(out.into())
    }

    fn restore(&self, saved: RawJsonRef<'_>) -> Option<Bins> {
        if (number(saved, "lnGamma")? - self.ln_gamma).abs() > 1e-12 {
            return None;
        }
        let bins = |name: &str| {
            let list = saved.field(name)?;
            let mut numbers = list.is_array().then(|| list.elements())?;
            let mut bins = BTreeMap::new();
            while let Some(bin) = numbers.next() {
                let bin: i32 = bin.as_str().parse().ok()?;
                let count = numbers
                    .next()?
                    .as_f64()
                    .filter(|count| count.is_finite() && *count > 0.0)?;
                bins.insert(bin, count);
            }
            Some(bins)
        };
        let mut state = Bins {
            positive: bins("positive")?,
            negative: bins("negative")?,
            zeros: number(saved, "zeros").filter(|zeros| *zeros >= 0.0)?,
            count: 0.0,
            min: number(saved, "min")?,
            max: number(saved, "max")?,
        };
        let counts = state.positive.values().chain(state.negative.values());
        state.count = counts.sum::<f64>() + state.zeros;
        if state.min > state.max || number(saved, "count")? != state.count {
            return None;
        }
        self.collapse(&mut state);
        Some(state)
    }
}

impl Combine for Quantiles {
    const DISTRIBUTES: bool = true;

    fn combine(&self, older: &mut Bins, newer: &Bins) {
        if newer.count == 0.0 {
            return;
        }
        if older.count == 0.0 {
            older.clone_from(newer);
            return;
        }
        older.count += newer.count;
        older.zeros += newer.zeros;
        (older.min, older.max) = (older.min.min(newer.min), older.max.max(newer.max));
        for (bin, count) in &newer.positive {
            *older.positive.entry(*bin).or_insert(0.0) += count;
        }
        for (bin, count) in &newer.negative {
            *older.negative.entry(*bin).or_insert(0.0) += count;
        }
        self.collapse(older);
    }
}
