//! A vector that never moves what it holds.

/// Entries of one page.
const PAGE: usize = 256;

/// A growing array in pages of 256 entries.
///
/// A `Vec` that grows to a million entries copies itself twenty times, stalls its thread while it
/// does, and leaves as much freed memory behind as it uses. This one allocates one page at a time
/// and gives pages back only when it is dropped.
///
/// # Cost
/// O(1) access with one indirection more than a `Vec`; at most one page is unused.
///
/// # Example
/// ```
/// use millstream_core::PagedVec;
///
/// let mut numbers = PagedVec::new();
/// for number in 0..1_000 {
///     numbers.push(number);
/// }
/// assert_eq!(numbers.get(999), Some(&999));
/// assert_eq!(numbers.iter().count(), 1_000);
/// ```
#[derive(Clone, Debug)]
pub struct PagedVec<T> {
    pages: Vec<Vec<T>>,
}

impl<T> PagedVec<T> {
    /// Without entries, and without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: Vec::new() }
    }

    /// Appends an entry.
    pub fn push(&mut self, value: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(value),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(value);
                self.pages.push(page);
            }
        }
    }

    /// The entry at `index`.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    /// The entry at `index`, to change it.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE + last
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    /// All entries in order, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }
}

impl<T> Default for PagedVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_seamlessly() {
        let mut paged = PagedVec::new();
        assert!(paged.is_empty());
        for n in 0..PAGE * 3 + 5 {
            assert_eq!(paged.len(), n);
            paged.push(n);
        }
        assert!(paged.iter().copied().eq(0..PAGE * 3 + 5));
        for n in paged.iter_mut() {
            *n += 1;
        }
        assert_eq!(paged.get(PAGE), Some(&(PAGE + 1)));
        assert_eq!(paged.get_mut(PAGE * 3 + 5), None);
        assert_eq!(paged.get(PAGE * 9), None);
    }
}
