//! Undo and redo.

use std::collections::VecDeque;

use crate::Item;
use crate::stream::Content;

/// Bounds of a history.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | `entries_max` | 50 | the oldest entry goes |
/// | `rows_max` | 200 | a longer list is not recorded |
/// | `bytes_max` | 16 MiB | the oldest entries go; a larger value is not recorded |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Most values remembered, the current one included; at least 1.
    pub entries_max: usize,
    /// Most rows of a list that is remembered.
    pub rows_max: usize,
    /// Most bytes of all remembered values together. Rows that are equal in several values count
    /// in each, although they share their bytes.
    pub bytes_max: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            entries_max: 50,
            rows_max: 200,
            bytes_max: 16 << 20,
        }
    }
}

/// Values that were shown, and which of them is shown now.
#[derive(Clone, Debug)]
pub(crate) struct History<T> {
    pub(crate) limits: HistoryLimits,
    entries: VecDeque<(Content<T>, usize)>,
    /// The entry that is shown.
    at: usize,
    bytes: usize,
    pub(crate) paused: bool,
}

impl<T: Item> History<T> {
    pub(crate) fn new(limits: HistoryLimits, current: Content<T>) -> Self {
        let mut history = Self {
            limits,
            entries: VecDeque::new(),
            at: 0,
            bytes: 0,
            paused: false,
        };
        history.record(current);
        history
    }

    /// Whether a list of that many rows is worth copying.
    pub(crate) const fn takes(&self, rows: usize) -> bool {
        !self.paused && rows <= self.limits.rows_max
    }

    /// Adds a value and drops what was undone.
    pub(crate) fn record(&mut self, value: Content<T>) {
        let bytes = value.byte_len();
        if value.rows() > self.limits.rows_max || bytes > self.limits.bytes_max {
            return;
        }
        while self.entries.len() > self.at + 1 {
            let dropped = self.entries.pop_back();
            self.bytes -= dropped.map_or(0, |(_, bytes)| bytes);
        }
        self.entries.push_back((value, bytes));
        self.bytes += bytes;
        let entries_max = self.limits.entries_max.max(1);
        while self.entries.len() > entries_max || self.bytes > self.limits.bytes_max {
            let dropped = self.entries.pop_front();
            self.bytes -= dropped.map_or(0, |(_, bytes)| bytes);
        }
        self.at = self.entries.len().saturating_sub(1);
    }

    pub(crate) fn can_undo(&self) -> bool {
        self.at > 0
    }

    pub(crate) fn can_redo(&self) -> bool {
        self.at + 1 < self.entries.len()
    }

    /// The value before the shown one.
    pub(crate) fn undo(&mut self) -> Option<Content<T>> {
        self.at = self.at.checked_sub(1)?;
        self.current()
    }

    /// The value after the shown one.
    pub(crate) fn redo(&mut self) -> Option<Content<T>> {
        if !self.can_redo() {
            return None;
        }
        self.at += 1;
        self.current()
    }

    fn current(&self) -> Option<Content<T>> {
        self.entries.get(self.at).map(|(value, _)| value.clone())
    }
}
