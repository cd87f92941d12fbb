//! Fields that are computed of others when a state is shown, and never stored.

use core::fmt::Debug;
use std::sync::Arc;

use millstream_core::RawJsonRef;

use crate::column::Column;
use crate::{ReduceError, Value, js};

/// What a computed field is.
#[derive(Clone)]
pub(crate) enum Formula {
    /// `numerator / denominator`; 0 unless the denominator is positive.
    Ratio(Operand, Operand),
    /// Twice the operand.
    Double(Operand),
    /// The `n` largest entries of a map.
    Top(Operand, usize),
    /// A function of the state.
    Custom(Arc<Function>),
}

type Function = dyn Fn(&View<'_>) -> Result<Value, ReduceError> + Send + Sync;

impl Debug for Formula {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Ratio(..) => "Ratio",
            Self::Double(_) => "Double",
            Self::Top(..) => "Top",
            Self::Custom(_) => "Custom",
        })
    }
}

/// A field by name, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Operand {
    pub(crate) name: Box<str>,
    pub(crate) place: Place,
}

/// Where a field is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A reduced field.
    Column(usize),
    /// A computed field before this one.
    Computed(usize),
    /// Nowhere, unless a snapshot brought it along.
    Extra,
}

/// A window's state while it is being shown: reduced fields, and the computed ones before this one.
#[derive(Debug)]
pub struct View<'a> {
    pub(crate) window: usize,
    pub(crate) fields: &'a [crate::spec::Field],
    pub(crate) computed: &'a [crate::spec::Computed],
    pub(crate) values: &'a [Value],
    pub(crate) extras: &'a [(Box<str>, Box<str>)],
}

impl View<'_> {
    /// A field's value; [`Value::Absent`] if there is none of that name yet.
    #[must_use]
    pub fn value(&self, name: &str) -> Value {
        let computed = self.computed.iter().zip(self.values).rev();
        if let Some((_, value)) = computed.into_iter().find(|(field, _)| *field.name == *name) {
            return value.clone();
        }
        match self.fields.iter().find(|field| *field.name == *name) {
            Some(field) => field.column.value(self.window),
            None => self.extra(name),
        }
    }

    /// A field's value as a number, converted as JavaScript does; NaN if there is none.
    #[must_use]
    pub fn number(&self, name: &str) -> f64 {
        js::to_number(&self.value(name))
    }

    fn extra(&self, name: &str) -> Value {
        let token = js::quote(name);
        let extra = self.extras.iter().find(|(key, _)| **key == *token);
        extra.map_or(Value::Absent, |(_, json)| {
            Value::from_json(RawJsonRef::trust(json))
        })
    }

    fn column(&self, operand: &Operand) -> Option<&dyn Column> {
        match operand.place {
            Place::Column(at) => self.fields.get(at).map(|field| &*field.column),
            _ => None,
        }
    }

    fn operand(&self, operand: &Operand) -> Value {
        match operand.place {
            Place::Column(_) => self
                .column(operand)
                .map_or(Value::Absent, |column| column.value(self.window)),
            Place::Computed(at) => self.values.get(at).cloned().unwrap_or_default(),
            Place::Extra => self.extra(&operand.name),
        }
    }

    #[inline]
    fn operand_number(&self, operand: &Operand) -> f64 {
        let number = match operand.place {
            Place::Column(_) => self
                .column(operand)
                .and_then(|column| column.number(self.window)),
            Place::Computed(at) => self.values.get(at).and_then(Value::as_number),
            Place::Extra => None,
        };
        number.unwrap_or_else(|| js::to_number(&self.operand(operand)))
    }

    /// Computes a field.
    pub(crate) fn compute(&self, formula: &Formula) -> Result<Value, ReduceError> {
        match formula {
            Formula::Ratio(numerator, denominator) => {
                let below = self.operand_number(denominator);
                Ok(Value::Number(if below > 0.0 {
                    self.operand_number(numerator) / below
                } else {
                    0.0
                }))
            }
            Formula::Double(of) => Ok(Value::Number(2.0 * self.operand_number(of))),
            Formula::Top(of, n) => self.top(of, *n),
            Formula::Custom(function) => function(self),
        }
    }

    fn top(&self, of: &Operand, n: usize) -> Result<Value, ReduceError> {
        if let Some(entries) = self
            .column(of)
            .and_then(|column| column.entries(self.window))
        {
            return Ok(top(entries, n));
        }
        let Value::Json(json) = self.operand(of) else {
            return Err(ReduceError::Operand { wanted: "map" });
        };
        let json = RawJsonRef::trust(&json);
        let number = |value| js::to_number(&Value::from_json(value));
        let entries = json.fields().map(|(key, value)| (key.raw(), number(value)));
        Ok(top(entries.collect(), n))
    }
}

/// Count descending, then key ascending. O(keys + n log n).
fn top(mut entries: Vec<(&str, f64)>, n: usize) -> Value {
    let order = |(key_a, a): &(&str, f64), (key_b, b): &(&str, f64)| {
        // A total order: what is no number comes last, and both zeros are one.
        let counts = a.is_nan().cmp(&b.is_nan());
        let counts = counts.then_with(|| (b + 0.0).total_cmp(&(a + 0.0)));
        counts.then_with(|| js::compare_tokens(key_a, key_b))
    };
    if n < entries.len() && n > 0 {
        entries.select_nth_unstable_by(n - 1, order);
    }
    entries.truncate(n);
    entries.sort_unstable_by(order);
    let mut out = String::from("[");
    for (at, (token, count)) in entries.into_iter().enumerate() {
        out.push_str(if at > 0 { ",[" } else { "[" });
        out.push_str(token);
        out.push(',');
        js::write_number(&mut out, count);
        out.push(']');
    }
    out.push(']');
    Value::Json(out.into())
}
