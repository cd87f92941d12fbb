//! Whether something was done a moment ago.

use core::time::Duration;
use std::collections::BTreeSet;

use hashbrown::HashMap;
use millstream_core::{KeyedHash, Millis};

/// Keys whose windows are open. Not the keys are kept but 128 bits of their hashes.
///
/// # Cost
/// O(log n); about 80 bytes for each window.
pub(crate) struct Windows {
    seed: [u64; 2],
    max: usize,
    ends: HashMap<[u64; 2], Millis>,
    order: BTreeSet<(Millis, [u64; 2])>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// It has opened now.
    Opened,
    /// It is open.
    Open,
    /// It was not open, and there are too many others.
    Full,
}

impl Windows {
    pub(crate) fn new(seed: [u64; 2], max: usize) -> Self {
        Self {
            seed,
            max,
            ends: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Opens a window unless it is open. An open one is not made longer.
    pub(crate) fn open(
        &mut self,
        now: Millis,
        path: &str,
        key: &str,
        duration: Duration,
    ) -> Window {
        while let Some((end, hash)) = self.order.first().copied()
            && end <= now
        {
            self.order.pop_first();
            self.ends.remove(&hash);
        }
        // No path contains a zero.
        let name = [path.as_bytes(), &[0], key.as_bytes()].concat();
        let hash = KeyedHash::of(self.seed, &name);
        if self.ends.contains_key(&hash) {
            return Window::Open;
        }
        if self.ends.len() >= self.max {
            return Window::Full;
        }
        let end = now + duration;
        self.ends.insert(hash, end);
        self.order.insert((end, hash));
        Window::Opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_open_once_and_close_on_time() {
        let at = Millis::from_millis;
        let mut windows = Windows::new([1, 2], 2);
        let ms = Duration::from_millis;
        assert_eq!(windows.open(at(0), "a/b", "k", ms(10)), Window::Opened);
        assert_eq!(windows.open(at(9), "a/b", "k", ms(99)), Window::Open);
        assert_eq!(windows.open(at(9), "a/c", "k", ms(10)), Window::Opened);
        assert_eq!(windows.open(at(9), "a/b", "l", ms(10)), Window::Full);
        assert_eq!(
            windows.open(at(10), "a/b", "k", Duration::MAX),
            Window::Opened
        );
        assert_eq!(windows.open(at(19), "a/b", "l", ms(1)), Window::Opened);
        assert_eq!(
            windows.open(at(u64::MAX - 1), "a/b", "k", ms(1)),
            Window::Open
        );
        assert_eq!(windows.ends.len(), windows.order.len());
    }
}
