//! A queue that always knows the combination of everything in it.

/// Two stacks that make a queue with a running combination.
///
/// The back stack holds values and one combination of all of them; the front stack holds the
/// combinations of each element with all that are newer than it in that stack. A pop takes the top
/// of the front; when it is empty, the back is turned over. Each value is combined at most three
/// times in its life: amortised O(1), and only ever older with newer, so the operation need be
/// associative but neither commutative nor invertible.
///
/// Source: the "two-stacks" algorithm as described and measured by Tangwongsan, Hirzel and
/// Schneider, "In-order sliding-window aggregation in worst-case constant time", VLDB Journal 2021.
#[derive(Clone, Debug)]
pub(crate) struct TwoStacks<T> {
    /// Oldest on top.
    front: Vec<T>,
    /// Newest last.
    back: Vec<T>,
    back_all: Option<T>,
}

impl<T: Clone> TwoStacks<T> {
    pub(crate) const fn new() -> Self {
        Self {
            front: Vec::new(),
            back: Vec::new(),
            back_all: None,
        }
    }

    /// Adds the newest. `combine` adds a newer value to an older one.
    pub(crate) fn push(&mut self, value: T, combine: impl Fn(&mut T, &T)) {
        match &mut self.back_all {
            Some(all) => combine(all, &value),
            None => self.back_all = Some(value.clone()),
        }
        self.back.push(value);
    }

    /// Drops the oldest.
    pub(crate) fn pop(&mut self, combine: impl Fn(&mut T, &T)) {
        if self.front.is_empty() {
            self.back_all = None;
            while let Some(mut value) = self.back.pop() {
                if let Some(newer) = self.front.last() {
                    combine(&mut value, newer);
                }
                self.front.push(value);
            }
        }
        self.front.pop();
    }

    /// Adds everything, oldest first, to `total`.
    pub(crate) fn fold(&self, total: &mut T, combine: impl Fn(&mut T, &T)) {
        if let Some(front) = self.front.last() {
            combine(total, front);
        }
        if let Some(back) = &self.back_all {
            combine(total, back);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.front.iter().chain(&self.back).chain(&self.back_all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::VecDeque;

    proptest::proptest! {
        #[test]
        fn the_fold_is_that_of_a_queue(pushes in proptest::collection::vec(0_u8..4, 0..200)) {
            let mut stacks = TwoStacks::new();
            let mut queue = VecDeque::new();
            let combines = Cell::new(0);
            let combine = |older: &mut String, newer: &String| {
                combines.set(combines.get() + 1);
                older.push_str(newer);
            };
            for (at, kind) in pushes.iter().enumerate() {
                if *kind == 0 && !queue.is_empty() {
                    queue.pop_front();
                    stacks.pop(combine);
                } else {
                    let text = at.to_string();
                    queue.push_back(text.clone());
                    stacks.push(text, combine);
                }
                proptest::prop_assert!(combines.get() <= 3 * (at + 1));
                let mut total = String::new();
                stacks.fold(&mut total, |older, newer| older.push_str(newer));
                proptest::prop_assert_eq!(total, queue.iter().cloned().collect::<String>());
            }
        }
    }
}
