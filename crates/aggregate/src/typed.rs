//! Fields kept by a [`Reducer`].

use core::fmt::Debug;

use millstream_core::RawJsonRef;

use crate::column::{Column, Shape};
use crate::stack::TwoStacks;
use crate::{Combine, Event, ReduceError, Reducer, Value};

/// How to combine, for reducers that can.
pub(crate) struct Combiner<R: Reducer> {
    combine: fn(&R, &mut R::State, &R::State),
    distributes: bool,
}

impl<R: Combine> Combiner<R> {
    pub(crate) const fn new() -> Self {
        Self {
            combine: R::combine,
            distributes: R::DISTRIBUTES,
        }
    }
}

impl<R: Reducer> Clone for Combiner<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Reducer> Copy for Combiner<R> {}

impl<R: Reducer> Debug for Combiner<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Combiner").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Typed<R: Reducer> {
    reducer: R,
    combiner: Option<Combiner<R>>,
    windows: Vec<State<R::State>>,
}

#[derive(Debug)]
enum State<S> {
    Whole(S),
    Hops(Box<Hops<S>>),
}

/// `None` stands for the starting value, which is neutral: empty hops cost nothing.
#[derive(Debug)]
struct Hops<S> {
    older: TwoStacks<Option<S>>,
    /// All of the above.
    total: S,
    newest: Option<S>,
    /// Both of the above, kept up to date if the reducer distributes over combining.
    shown: S,
    buckets: u32,
}

impl<R: Reducer> Typed<R> {
    pub(crate) fn new(reducer: R, combiner: Option<Combiner<R>>, shapes: &[Shape]) -> Self {
        let windows = shapes
            .iter()
            .map(|shape| match (shape, combiner) {
                (Shape::Hops(buckets), Some(_)) => {
                    let mut older = TwoStacks::new();
                    (1..*buckets).for_each(|_| older.push(None, |_, _| ()));
                    State::Hops(Box::new(Hops {
                        older,
                        total: reducer.init(),
                        newest: None,
                        shown: reducer.init(),
                        buckets: *buckets,
                    }))
                }
                _ => State::Whole(reducer.init()),
            })
            .collect();
        Self {
            reducer,
            combiner,
            windows,
        }
    }
}

impl<R: Reducer> Column for Typed<R> {
    fn add(&mut self, event: &Event<'_>, windows: &[u32]) -> Result<(), ReduceError> {
        let Some(input) = self.reducer.read(event)? else {
            return Ok(());
        };
        for window in windows {
            match self.windows.get_mut(*window as usize) {
                Some(State::Whole(state)) => self.reducer.reduce(state, &input),
                Some(State::Hops(hops)) => {
                    let newest = hops.newest.get_or_insert_with(|| self.reducer.init());
                    self.reducer.reduce(newest, &input);
                    if self.combiner.is_some_and(|combiner| combiner.distributes) {
                        self.reducer.reduce(&mut hops.shown, &input);
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    fn reset(&mut self, window: usize) {
        if let Some(State::Whole(state)) = self.windows.get_mut(window) {
            *state = self.reducer.init();
        }
    }

    fn slide(&mut self, window: usize, steps: u32) {
        let (Some(State::Hops(hops)), Some(combiner)) =
            (self.windows.get_mut(window), self.combiner)
        else {
            return;
        };
        let reducer = &self.reducer;
        let combine = |older: &mut Option<R::State>, newer: &Option<R::State>| match (older, newer)
        {
            (Some(older), Some(newer)) => (combiner.combine)(reducer, older, newer),
            (older @ None, Some(newer)) => *older = Some(newer.clone()),
            (_, None) => {}
        };
        for _ in 0..steps.min(hops.buckets) {
            hops.older.push(hops.newest.take(), combine);
            hops.older.pop(combine);
        }
        let mut total = None;
        hops.older.fold(&mut total, combine);
        hops.total = total.unwrap_or_else(|| reducer.init());
        hops.shown = hops.total.clone();
    }

    fn write(&mut self, window: usize, out: &mut String) -> bool {
        self.value(window).write(out)
    }

    fn value(&self, window: usize) -> Value {
        match self.windows.get(window) {
            None => Value::Absent,
            Some(State::Whole(state)) => self.reducer.value(state),
            Some(State::Hops(hops)) => match (self.combiner, &hops.newest) {
                (Some(combiner), Some(newest)) if !combiner.distributes => {
                    let mut total = hops.total.clone();
                    (combiner.combine)(&self.reducer, &mut total, newest);
                    self.reducer.value(&total)
                }
                _ => self.reducer.value(&hops.shown),
            },
        }
    }

    fn save(&self, window: usize, out: &mut String) -> bool {
        match self.windows.get(window) {
            Some(State::Whole(state)) => self.reducer.save(state).write(out),
            _ => false,
        }
    }

    fn restore(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        match (self.windows.get_mut(window), self.reducer.restore(saved)) {
            (Some(State::Whole(state)), Some(restored)) => {
                *state = restored;
                true
            }
            _ => false,
        }
    }

    fn absorb(&mut self, window: usize, saved: RawJsonRef<'_>) -> bool {
        let (Some(combiner), Some(other)) = (self.combiner, self.reducer.restore(saved)) else {
            return false;
        };
        let Some(State::Whole(state)) = self.windows.get_mut(window) else {
            return false;
        };
        (combiner.combine)(&self.reducer, state, &other);
        true
    }

    fn bytes(&self, window: usize) -> usize {
        let states = match self.windows.get(window) {
            None => 0,
            Some(State::Whole(_)) => 1,
            Some(State::Hops(hops)) => 3 + hops.older.iter().flatten().count(),
        };
        states * size_of::<R::State>()
    }
}
