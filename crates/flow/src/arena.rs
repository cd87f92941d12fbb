//! Places for entries that are threaded on lists: the memory of every engine of this crate.

use millstream_core::PagedVec;

/// No place.
pub(crate) const NIL: u32 = u32::MAX;

/// Neighbours of an entry on one list.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

const UNLINKED: Link = Link {
    previous: NIL,
    next: NIL,
};

/// First and last entry of a list. The list itself runs through the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    pub(crate) const EMPTY: Self = Self {
        first: NIL,
        last: NIL,
    };

    pub(crate) const fn is_empty(self) -> bool {
        self.first == NIL
    }

    pub(crate) fn first(self) -> Option<u32> {
        (self.first != NIL).then_some(self.first)
    }
}

/// A slab whose entries can stand in `L` doubly linked lists at once.
///
/// Appending, taking out and moving to the back are O(1), which makes a list of entries that all
/// wait equally long an exact priority queue. An index is only good until its entry is removed;
/// whoever hands out names across that moment stores a number in the entry and compares it.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T, const L: usize> {
    places: PagedVec<Place<T, L>>,
    /// Head of the list of free places, which runs through the first link.
    free: u32,
    len: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Place<T, const L: usize> {
    links: [Link; L],
    value: Option<T>,
}

impl<T, const L: usize> Arena<T, L> {
    /// More than this many entries cannot be addressed.
    pub(crate) const LIMIT: usize = NIL as usize;

    pub(crate) const fn new() -> Self {
        Self {
            places: PagedVec::new(),
            free: NIL,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Stores an entry that stands in no list yet. The caller keeps below [`Self::LIMIT`].
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(place) = self.places.get_mut(self.free as usize) {
            let index = core::mem::replace(&mut self.free, place.links[0].next);
            *place = Place {
                links: [UNLINKED; L],
                value: Some(value),
            };
            return index;
        }
        assert!(
            self.places.len() < Self::LIMIT,
            "more than 2^32 - 1 entries"
        );
        self.places.push(Place {
            links: [UNLINKED; L],
            value: Some(value),
        });
        (self.places.len() - 1) as u32
    }

    /// Takes an entry out that has been unlinked from all lists.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let place = self.places.get_mut(index as usize)?;
        let value = place.value.take()?;
        place.links[0].next = core::mem::replace(&mut self.free, index);
        self.len -= 1;
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.value.as_mut()
    }

    /// The entry behind `index` on list `lane`.
    pub(crate) fn next(&self, lane: usize, index: u32) -> Option<u32> {
        let next = self.places.get(index as usize)?.links[lane].next;
        (next != NIL).then_some(next)
    }

    /// Appends an entry that does not stand on `lane`.
    pub(crate) fn link(&mut self, lane: usize, ends: &mut Ends, index: u32) {
        let previous = core::mem::replace(&mut ends.last, index);
        match self.places.get_mut(previous as usize) {
            Some(place) => place.links[lane].next = index,
            None => ends.first = index,
        }
        if let Some(place) = self.places.get_mut(index as usize) {
            place.links[lane] = Link {
                previous,
                next: NIL,
            };
        }
    }

    /// Takes an entry that stands on `lane` off it.
    pub(crate) fn unlink(&mut self, lane: usize, ends: &mut Ends, index: u32) {
        let Some(place) = self.places.get_mut(index as usize) else {
            return;
        };
        let Link { previous, next } = core::mem::replace(&mut place.links[lane], UNLINKED);
        match self.places.get_mut(next as usize) {
            Some(place) => place.links[lane].previous = previous,
            None => ends.last = previous,
        }
        match self.places.get_mut(previous as usize) {
            Some(place) => place.links[lane].next = next,
            None => ends.first = next,
        }
    }

    /// Makes an entry of `lane` its last.
    pub(crate) fn move_back(&mut self, lane: usize, ends: &mut Ends, index: u32) {
        if ends.last != index {
            self.unlink(lane, ends, index);
            self.link(lane, ends, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(arena: &Arena<char, 2>, lane: usize, ends: Ends) -> String {
        core::iter::successors(ends.first(), |index| arena.next(lane, *index))
            .filter_map(|index| arena.get(index))
            .collect()
    }

    #[test]
    fn an_entry_stands_on_two_lists() {
        let mut arena = Arena::<char, 2>::new();
        let (mut one, mut two) = (Ends::EMPTY, Ends::EMPTY);
        let places = ['a', 'b', 'c'].map(|letter| {
            let index = arena.insert(letter);
            arena.link(0, &mut one, index);
            arena.link(1, &mut two, index);
            index
        });
        arena.move_back(1, &mut two, places[0]);
        arena.move_back(1, &mut two, places[0]);
        assert_eq!(order(&arena, 0, one), "abc");
        assert_eq!(order(&arena, 1, two), "bca");
        arena.unlink(0, &mut one, places[1]);
        arena.unlink(1, &mut two, places[1]);
        assert_eq!(arena.remove(places[1]), Some('b'));
        assert_eq!(arena.remove(places[1]), None);
        assert_eq!(
            (order(&arena, 0, one), order(&arena, 1, two)),
            ("ac".into(), "ca".into())
        );
        assert_eq!(arena.insert('d'), places[1]);
        assert_eq!(arena.len(), 3);
    }
}
