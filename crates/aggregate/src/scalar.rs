//! Fields that hold a single value: count, sum, max, min, last, const.

use core::cmp::Ordering;

use millstream_core::RawJsonRef;

use crate::column::{Column, Shape};
use crate::helper::{Folded, Helper, or_zero};
use crate::reducer::Path;
use crate::stack::TwoStacks;
use crate::{Event, ReduceError, Value, js};

/// What an event does to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Adds 1.
    Count,
    /// Adds the input.
    Sum(Path),
    /// Keeps the larger.
    Max(Path),
    /// Keeps the smaller.
    Min(Path),
    /// Takes the input.
    Last(Path),
    /// Nothing.
    Const,
}

#[derive(Debug)]
pub(crate) struct Scalar {
    operation: Operation,
    init: Value,
    bytes_max: usize,
    windows: Vec<State>,
}

#[derive(Debug)]
enum State {
    Whole(Value),
    Hops(Box<Hops>),
}

#[derive(Debug)]
struct Hops {
    newest: Value,
    older: Older,
}

/// All hops but the newest.
#[derive(Debug)]
enum Older {
    /// Not combined: the starting value is shown.
    Ignored,
    Sum(SumRing),
    Extreme {
        helper: Helper,
        stacks: TwoStacks<Value>,
        total: Value,
    },
    /// The newest is in here too.
    Folded(Folded<Value>),
}

impl Scalar {
    pub(crate) fn new(
        operation: Operation,
        init: Value,
        helper: Option<Helper>,
        shapes: &[Shape],
        bytes_max: usize,
    ) -> Self {
        let windows = shapes
            .iter()
            .map(|shape| match shape {
                Shape::Whole => State::Whole(init.clone()),
                Shape::Hops(buckets) => State::Hops(Box::new(Hops {
                    newest: init.clone(),
                    older: Older::new(helper, *buckets, &init),
                })),
            })
            .collect();
        Self {
            operation,
            init,
            bytes_max,
            windows,
        }
    }

    /// The value an event goes to.
    fn target<'a>(state: &'a mut State, init: &Value) -> &'a mut Value {
        match state {
            State::Whole(value) => value,
            State::Hops(hops) => match &mut hops.older {
                Older::Folded(folded) => folded.newest(init),
                _ => &mut hops.newest,
            },
        }
    }

    /// Adds a number to each window.
    #[inline]
    fn add_number(&mut self, number: f64, windows: &[u32]) -> Result<(), ReduceError> {
        let mut result = Ok(());
        for window in windows {
            let Some(state) = self.windows.get_mut(*window as usize) else {
                continue;
            };
            match Self::target(state, &self.init) {
                Value::Number(sum) => *sum += number,
                _ => {
                    let added = self.add_each(&Value::Number(number), &[*window]);
                    result = result.and(added);
                }
            }
        }
        result
    }

    /// Adds anything to each window, as JavaScript does.
    #[cold]
    fn add_each(&mut self, value: &Value, windows: &[u32]) -> Result<(), ReduceError> {
        let mut result = Ok(());
        for window in windows {
            let Some(state) = self.windows.get_mut(*window as usize) else {
                continue;
            };
            let target = Self::target(state, &self.init);
            let joined = target.heap_bytes() + value.heap_bytes();
            if joined > self.bytes_max {
                result = full(self.bytes_max);
                continue;
            }
            *target = js::add(target, value);
        }
        result
    }

    fn set_each(
        &mut self,
        value: &Value,
        windows: &[u32],
        wins: impl Fn(&Value, &Value) -> bool,
    ) -> Result<(), ReduceError> {
        if value.heap_bytes() > self.bytes_max {
            return full(self.bytes_max);
        }
        for window in windows {
            if let Some(state) = self.windows.get_mut(*window as usize) {
                let target = Self::target(state, &self.init);
                if wins(value, target) {
                    target.clone_from(value);
                }
            }
        }
        Ok(())
    }
}

fn full(max: usize) -> Result<(), ReduceError> {
    Err(ReduceError::Full {
        what: "text of the field",
        max,
    })
}

/// A number with more digits than a float holds stays text, so that ids pass through unharmed.
fn exact(json: RawJsonRef<'_>) -> Value {
    if json.is_number() && json.as_str().len() > 15 {
        return Value::Json(json.as_str().into());
    }
    Value::from_json(json)
}

impl Column for Scalar {
    #[inline]
    fn add(&mut self, event: &Event<'_>, windows: &[u32]) -> Result<(), ReduceError> {
        let extreme = |order: Ordering| {
            move |value: &Value, best: &Value| {
                best.is_missing() || js::compare(value, best) == Some(order)
            }
        };
        match self.operation {
            Operation::Count => self.add_number(1.0, windows),
            Operation::Sum(path) => match event.at(path)? {
                Some(json) if json.is_number() => {
                    self.add_number(js::parse_number(json.as_str()), windows)
                }
                Some(json) => self.add_each(&Value::from_json(json), windows),
                None => self.add_each(&Value::Absent, windows),
            },
            Operation::Max(path) | Operation::Min(path) => {
                let value = event.at(path)?.map_or(Value::Absent, Value::from_json);
                if value.is_missing() {
                    return Ok(());
                }
                let order = match self.operation {
                    Operation::Min(_) => Ordering::Less,
                    _ => Ordering::Greater,
                };
                self.set_each(&value, windows, extreme(order))
            }
            Operation::Last(path) => {
                let value = event.at(path)?.map_or(Value::Absent, exact);
                self.set_each(&value, windows, |_, _| true)
            }
            Operation::Const => Ok(()),
        }
    }

    fn reset(&mut self, window: usize) {
        if let Some(State::Whole(value)) = self.windows.get_mut(window) {
            value.clone_from(&self.init);
        }
    }

    fn slide(&mut self, window: usize, steps: u32) {
        if let Some(State::Hops(hops)) = self.windows.get_mut(window) {
            hops.slide(steps, &self.init);
        }
    }

    #[inline]
    fn write(&mut self, window: usize, out: &mut String) -> bool {
        match self.windows.get(window) {
            Some(State::Whole(value)) => value.write(out),
            Some(State::Hops(hops)) => match hops.number() {
                Some(number) => {
                    js::write_number(out, number);
                    true
                }
                None => hops.value(&self.init).write(out),
            },
            None => false,
        }
    }

    fn value(&self, window: usize) -> Value {
        match self.windows.get(window) {
            Some(State::Whole(value)) => value.clone(),
            Some(State::Hops(hops)) => hops.value(&self.init),
            None => Value::Absent,
        }
    }

    #[inline]
    fn number(&self, window: usize) -> Option<f64> {
        match self.windows.get(window)? {
            State::Whole(value) => value.as_number(),
            State::Hops(hops) => hops.number(),
        }
    }

    fn restore(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let (value, fits) = match self.operation {
            Operation::Last(_) | Operation::Const => (exact(saved), true),
            _ => (
                Value::from_json(saved),
                !saved.is_array() && !saved.is_object(),
            ),
        };
        match self.windows.get_mut(window) {
            Some(State::Whole(target)) if fits && value.heap_bytes() <= self.bytes_max => {
                *target = value;
                true
            }
            _ => false,
        }
    }

    fn absorb(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let Some(State::Whole(target)) = self.windows.get_mut(window) else {
            return false;
        };
        let value = Value::from_json(saved);
        match self.operation {
            Operation::Count | Operation::Sum(_) => {
                let (Value::Number(_), Value::Number(_)) = (&*target, &value) else {
                    return false;
                };
                *target = js::add(target, &value);
            }
            Operation::Max(_) => Helper::Max.extreme(target, &value),
            Operation::Min(_) => Helper::Min.extreme(target, &value),
            Operation::Last(_) if value.heap_bytes() <= self.bytes_max => *target = exact(saved),
            Operation::Last(_) => return false,
            Operation::Const => {}
        }
        true
    }

    fn bytes(&self, window: usize) -> usize {
        let size = |value: &Value| size_of::<Value>() + value.heap_bytes();
        match self.windows.get(window) {
            Some(State::Whole(value)) => value.heap_bytes(),
            Some(State::Hops(hops)) => {
                size_of::<Hops>()
                    + match &hops.older {
                        Older::Ignored => 0,
                        Older::Sum(ring) => ring.hops.iter().map(size).sum(),
                        Older::Extreme { stacks, .. } => stacks.iter().map(size).sum(),
                        Older::Folded(folded) => folded.iter().map(size).sum(),
                    }
            }
            None => 0,
        }
    }
}

impl Hops {
    fn slide(&mut self, steps: u32, init: &Value) {
        if let Older::Folded(folded) = &mut self.older {
            return folded.slide(steps, init);
        }
        for _ in 0..steps {
            let closed = core::mem::replace(&mut self.newest, init.clone());
            self.older.replace_oldest(closed);
        }
        self.older.settle();
    }

    /// Equal to combining all hops from the oldest to the newest.
    #[inline]
    fn value(&self, init: &Value) -> Value {
        match &self.older {
            Older::Ignored => init.clone(),
            Older::Sum(_) if self.newest.is_missing() => self.older_sum(),
            Older::Sum(ring) => js::add(&ring.total, &self.newest),
            Older::Extreme { helper, total, .. } => {
                let mut best = total.clone();
                helper.extreme(&mut best, &self.newest);
                or_zero(best)
            }
            Older::Folded(folded) => folded.value(Value::clone),
        }
    }

    /// The value, if it is a sum of numbers.
    #[inline]
    fn number(&self) -> Option<f64> {
        match &self.older {
            Older::Sum(ring) => Some(ring.total.as_number()? + self.newest.as_number()?),
            _ => None,
        }
    }

    fn older_sum(&self) -> Value {
        match &self.older {
            Older::Sum(ring) => ring.total.clone(),
            _ => Value::Number(0.0),
        }
    }
}

impl Older {
    fn new(helper: Option<Helper>, buckets: u32, init: &Value) -> Self {
        let older = (buckets.max(1) - 1) as usize;
        match helper {
            None => Self::Ignored,
            Some(Helper::Sum) => Self::Sum(SumRing::new(older, init)),
            Some(helper @ (Helper::Max | Helper::Min)) => {
                let combine = |best: &mut Value, value: &Value| helper.extreme(best, value);
                let mut stacks = TwoStacks::new();
                let mut total = Value::Absent;
                (0..older).for_each(|_| stacks.push(init.clone(), combine));
                stacks.fold(&mut total, combine);
                Self::Extreme {
                    helper,
                    stacks,
                    total,
                }
            }
            Some(helper) => Self::Folded(Folded::new(helper, buckets, init)),
        }
    }

    fn replace_oldest(&mut self, closed: Value) {
        match self {
            Self::Sum(ring) => ring.replace_oldest(closed),
            Self::Extreme { helper, stacks, .. } => {
                let combine = |best: &mut Value, value: &Value| helper.extreme(best, value);
                stacks.push(closed, combine);
                stacks.pop(combine);
            }
            Self::Ignored | Self::Folded(_) => {}
        }
    }

    /// Brings totals up to date after slides.
    fn settle(&mut self) {
        match self {
            Self::Sum(ring) => ring.settle(),
            Self::Extreme {
                helper,
                stacks,
                total,
            } => {
                *total = Value::Absent;
                stacks.fold(total, |best, value| helper.extreme(best, value));
            }
            Self::Ignored | Self::Folded(_) => {}
        }
    }
}

/// Sums of hops, with the total of adding them from the oldest to the newest.
///
/// Float addition is not associative, and the total has to be the very number that adding in order
/// gives. As long as all hops are whole numbers and everything stays below 2^53 every order gives
/// the same, so the oldest is subtracted: O(1) per slide. Otherwise all hops are added up again:
/// O(hops) per slide. Events cost O(1) either way.
#[derive(Debug)]
struct SumRing {
    hops: std::collections::VecDeque<Value>,
    total: Value,
    /// Sum of absolute values, while all of them are whole and this is below 2^53.
    exact: Option<f64>,
}

const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

impl SumRing {
    fn new(hops: usize, init: &Value) -> Self {
        let mut ring = Self {
            hops: (0..hops).map(|_| init.clone()).collect(),
            total: Value::Number(0.0),
            exact: None,
        };
        ring.settle();
        ring
    }

    fn replace_oldest(&mut self, closed: Value) {
        let Some(oldest) = self.hops.pop_front() else {
            return;
        };
        let (out, new) = (whole(&oldest), whole(&closed));
        self.hops.push_back(closed);
        let (Some(exact), Value::Number(total)) = (self.exact, &mut self.total) else {
            return;
        };
        self.exact = None;
        if let (Some(out), Some(new)) = (out, new) {
            let size = exact - out.abs() + new.abs();
            if size < EXACT_MAX {
                *total = *total - out + new;
                self.exact = Some(size);
            }
        }
    }

    fn settle(&mut self) {
        if self.exact.is_some() {
            return;
        }
        let (mut sum, mut size) = (0.0, Some(0.0));
        for hop in &self.hops {
            match hop {
                Value::Number(number) => sum += number,
                Value::Absent | Value::Null => {}
                _ => {
                    self.total = Helper::Sum.fold(self.hops.iter());
                    return;
                }
            }
            size = size.and_then(|size| Some(size + whole(hop)?.abs()));
        }
        self.total = Value::Number(sum);
        self.exact = size.filter(|size| *size < EXACT_MAX);
    }
}

/// The value of a hop as a whole number; a missing one is 0.
fn whole(hop: &Value) -> Option<f64> {
    match hop {
        Value::Number(number) if *number as i64 as f64 == *number => Some(*number),
        Value::Absent | Value::Null => Some(0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Bit for bit, also when whole and fractional hops take turns.
        #[test]
        fn a_sum_is_that_of_adding_in_order(
            hops in 1_usize..6,
            values in proptest::collection::vec(
                proptest::prop_oneof![
                    (-3_i32..4).prop_map(|n| Value::Number(f64::from(n))),
                    (-3_i32..4).prop_map(|n| Value::Number(f64::from(n) / 10.0)),
                    proptest::prelude::Just(Value::Number(9e15)),
                    proptest::prelude::Just(Value::Number(f64::INFINITY)),
                    proptest::prelude::Just(Value::Null),
                ],
                0..60,
            ),
        ) {
            let mut ring = SumRing::new(hops, &Value::Number(0.0));
            for value in values {
                ring.replace_oldest(value);
                ring.settle();
                let naive = Helper::Sum.fold(ring.hops.iter());
                let bits = |value: &Value| value.as_number().unwrap().to_bits();
                proptest::prop_assert_eq!(ring.hops.len(), hops);
                let (ours, naive) = (bits(&ring.total), bits(&naive));
                proptest::prop_assert!(ours == naive || f64::from_bits(naive).is_nan());
            }
        }
    }
    use proptest::strategy::Strategy as _;
}
