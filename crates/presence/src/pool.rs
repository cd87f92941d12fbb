//! Places that are reused, named by 32-bit numbers.

use core::ops::{Index, IndexMut};

use millstream_core::PagedVec;

/// No place.
pub(crate) const NIL: u32 = u32::MAX;

/// Like [`millstream_core::Slab`], with half its key and without generations: everything that
/// holds a number of a place is in the same engine and is updated when the place is freed.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    places: PagedVec<Place<T>>,
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Place<T> {
    Free { next: u32 },
    Taken(T),
}

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: PagedVec::new(),
            free: NIL,
            len: 0,
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let free = self.free;
        if let Some(place) = self.places.get_mut(free as usize)
            && let Place::Free { next } = *place
        {
            *place = Place::Taken(value);
            self.free = next;
            return free;
        }
        // Limits of the engines keep this far below 2^32.
        let at = self.places.len() as u32;
        self.places.push(Place::Taken(value));
        at
    }

    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let place = self.places.get_mut(at as usize)?;
        if matches!(place, Place::Free { .. }) {
            return None;
        }
        self.len -= 1;
        let freed = Place::Free { next: self.free };
        self.free = at;
        match core::mem::replace(place, freed) {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self.places.get(at as usize) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.places.get_mut(at as usize) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes one place takes.
    pub(crate) const PLACE_BYTES: usize = size_of::<Place<T>>();
}

/// For numbers that come out of the engine's own lists and tables.
impl<T> Index<u32> for Pool<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        match self.get(at) {
            Some(value) => value,
            None => panic!("a link to the free place {at}"),
        }
    }
}

impl<T> IndexMut<u32> for Pool<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        match self.get_mut(at) {
            Some(value) => value,
            None => panic!("a link to the free place {at}"),
        }
    }
}

/// Neighbours in an intrusive list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

impl Links {
    pub(crate) const NONE: Self = Self {
        prev: NIL,
        next: NIL,
    };
}

/// Both ends of an intrusive list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl Ends {
    pub(crate) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
    };

    pub(crate) const fn is_empty(self) -> bool {
        self.head == NIL
    }

    /// Appends `at`. `links` gives the links of this list inside a node.
    pub(crate) fn push<T>(
        &mut self,
        pool: &mut Pool<T>,
        at: u32,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let last = core::mem::replace(&mut self.tail, at);
        match pool.get_mut(last) {
            Some(node) => links(node).next = at,
            None => self.head = at,
        }
        *links(&mut pool[at]) = Links {
            prev: last,
            next: NIL,
        };
    }

    /// Takes `at`, which is in this list, out of it.
    pub(crate) fn unlink<T>(
        &mut self,
        pool: &mut Pool<T>,
        at: u32,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let Links { prev, next } = core::mem::replace(links(&mut pool[at]), Links::NONE);
        match pool.get_mut(prev) {
            Some(node) => links(node).next = next,
            None => self.head = next,
        }
        match pool.get_mut(next) {
            Some(node) => links(node).prev = prev,
            None => self.tail = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_and_lists_stay_whole() {
        let mut pool: Pool<(u8, Links)> = Pool::new();
        let mut list = Ends::EMPTY;
        let mut at = Vec::new();
        for n in 0..3 {
            at.push(pool.insert((n, Links::NONE)));
            list.push(&mut pool, at[n as usize], |node| &mut node.1);
        }
        list.unlink(&mut pool, at[1], |node| &mut node.1);
        assert_eq!(pool.remove(at[1]).map(|node| node.0), Some(1));
        assert_eq!((pool.len(), pool.remove(at[1]).is_none()), (2, true));
        assert_eq!((list.head, pool[at[0]].1.next), (at[0], at[2]));
        assert_eq!((list.tail, pool[at[2]].1.prev), (at[2], at[0]));
        assert_eq!(pool.insert((9, Links::NONE)), at[1]);
        list.unlink(&mut pool, at[0], |node| &mut node.1);
        list.unlink(&mut pool, at[2], |node| &mut node.1);
        assert!(list.is_empty());
        assert_eq!(list.tail, NIL);
    }
}
