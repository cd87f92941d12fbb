use std::ops::{Deref, DerefMut, Range};

use crate::LimitKey;

/// A slot: two words of key, two of what is kept for it. The first word is [`EMPTY`], [`MOVED`], or
/// has its top bit set.
type Slot = [u64; 4];

const EMPTY: u64 = 0;
/// In a table that is being left: was here, is no more.
const MOVED: u64 = 1;
/// The bit of the second word that says: used since the hand last came by.
const USED: u64 = 1;

const SLOTS_MIN: usize = 16;
/// Slots of the old table that move on with each insertion. The new table has room for three
/// quarters of the old table's slots more, so two would do.
const MOVES: usize = 8;

/// An open-addressing hash table with linear probing, a clock hand, and growth in small steps: no
/// call does more than a constant amount of work, whatever the table holds.
///
/// Removal closes the gap instead of leaving a mark, so that a table that lives long stays as fast
/// as a new one.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    slots: Slots,
    /// The table before it grew, until all of it has moved.
    old: Slots,
    /// Slots of `old` before this one have moved.
    moved: usize,
    len: usize,
    hand: usize,
}

/// A place in the table, valid until the next insertion or removal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

impl Table {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.slots.bytes() + self.old.bytes()
    }

    /// Finds a key and marks it as used.
    #[inline(always)]
    pub(crate) fn find(&mut self, key: LimitKey) -> Option<(Place, &mut [u64; 2])> {
        let place = match probe(&self.slots, key) {
            Some(place) => place,
            None => self.fetch(key)?,
        };
        let [_, mark, value @ ..] = &mut self.slots[place];
        *mark |= USED;
        Some((Place(place), value))
    }

    /// Finds a key and changes nothing.
    pub(crate) fn peek(&self, key: LimitKey) -> Option<[u64; 2]> {
        let slot = match probe(&self.slots, key) {
            Some(place) => &self.slots[place],
            None => &self.old[probe(&self.old, key)?],
        };
        Some([slot[2], slot[3]])
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: LimitKey, value: [u64; 2]) {
        debug_assert!(self.peek(key).is_none());
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.move_on(MOVES);
        self.len += 1;
        self.put([key.0[0], key.0[1], value[0], value[1]]);
    }

    pub(crate) fn remove(&mut self, place: Place) {
        self.len -= 1;
        let mask = self.slots.len() - 1;
        let (mut hole, mut next) = (place.0, place.0);
        loop {
            next = (next + 1) & mask;
            let slot = self.slots[next];
            if slot[0] == EMPTY {
                break;
            }
            // What has probed over the hole may close it.
            let home = slot[0] as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = next;
            }
        }
        self.slots[hole] = [EMPTY; 4];
    }

    /// Moves the hand over `steps` slots and removes what `spent` says of. Gives how many.
    pub(crate) fn sweep(&mut self, steps: usize, spent: impl Fn([u64; 2]) -> bool) -> usize {
        let before = self.len;
        for _ in 0..steps.min(self.slots.len()) {
            let slot = self.slots[self.hand];
            if slot[0] != EMPTY && spent([slot[2], slot[3]]) {
                // Another may have taken the place: look again.
                self.remove(Place(self.hand));
            } else {
                self.hand = (self.hand + 1) & (self.slots.len() - 1);
            }
        }
        before - self.len
    }

    /// Makes room for one: removes the first that is spent or was not used since the hand last
    /// passed. After `steps` slots the next one goes, used or not. `true` when what went was spent.
    ///
    /// The table must not be empty.
    pub(crate) fn evict(&mut self, steps: usize, spent: impl Fn([u64; 2]) -> bool) -> bool {
        assert!(self.len > 0, "nothing to evict");
        let mut step = 0;
        // While the table moves, the hand stands: what has not moved goes first.
        while self.moved < self.old.len() {
            let slot = self.old[self.moved];
            if slot[0] > MOVED && (slot[1] & USED == 0 || step >= steps) {
                self.old[self.moved][0] = MOVED;
                self.len -= 1;
                return spent([slot[2], slot[3]]);
            }
            self.move_on(1);
            step += 1;
        }
        let mask = self.slots.len() - 1;
        loop {
            let slot = self.slots[self.hand];
            if slot[0] != EMPTY {
                let gone = spent([slot[2], slot[3]]);
                if gone || slot[1] & USED == 0 || step >= steps {
                    self.remove(Place(self.hand));
                    return gone;
                }
                self.slots[self.hand][1] &= !USED;
            }
            self.hand = (self.hand + 1) & mask;
            step += 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a key out of the table that is being left.
    #[cold]
    #[inline(never)]
    fn fetch(&mut self, key: LimitKey) -> Option<usize> {
        let place = probe(&self.old, key)?;
        let slot = self.old[place];
        self.old[place][0] = MOVED;
        Some(self.put(slot))
    }

    fn put(&mut self, slot: Slot) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = slot[0] as usize & mask;
        while self.slots[place][0] != EMPTY {
            place = (place + 1) & mask;
        }
        self.slots[place] = slot;
        place
    }

    #[cold]
    fn grow(&mut self) {
        // Has come to its end long ago.
        self.move_on(self.old.len());
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        self.old = std::mem::replace(&mut self.slots, Slots::new(slots));
        self.moved = 0;
        self.hand = 0;
    }

    fn move_on(&mut self, steps: usize) {
        if self.old.is_empty() {
            return;
        }
        let until = (self.moved + steps).min(self.old.len());
        for place in self.moved..until {
            let slot = self.old[place];
            if slot[0] > MOVED {
                self.old[place][0] = MOVED;
                self.put(slot);
            }
        }
        self.moved = until;
        if until == self.old.len() {
            self.old = Slots::default();
            self.moved = 0;
        }
    }
}

/// Where a key is. The slots are not all in use, so the search ends.
#[inline]
fn probe(slots: &Slots, key: LimitKey) -> Option<usize> {
    let slots: &[Slot] = slots;
    let mask = slots.len().checked_sub(1)?;
    let mut place = key.0[0] as usize & mask;
    loop {
        let slot = slots.get(place)?;
        if slot[0] == key.0[0] && slot[1] & !USED == key.0[1] {
            return Some(place);
        }
        if slot[0] == EMPTY {
            return None;
        }
        place = (place + 1) & mask;
    }
}

const LINE_WORDS: usize = 8;

/// Slots of which no one lies across two cache lines.
#[derive(Debug, Default, Clone)]
struct Slots {
    words: Vec<u64>,
    /// Words before the first slot.
    before: usize,
}

impl Slots {
    /// So many empty ones.
    fn new(count: usize) -> Self {
        // Zeroed memory comes from the system as it is first touched, not all at once.
        let words = vec![EMPTY; count * 4 + LINE_WORDS];
        let before = (words.as_ptr().addr() / size_of::<u64>()).wrapping_neg() % LINE_WORDS;
        Self { words, before }
    }

    const fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    fn range(&self) -> Range<usize> {
        let words = self.words.len().saturating_sub(LINE_WORDS);
        self.before..self.before + words
    }
}

impl Deref for Slots {
    type Target = [Slot];

    #[inline]
    fn deref(&self) -> &[Slot] {
        self.words[self.range()].as_chunks().0
    }
}

impl DerefMut for Slots {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Slot] {
        let range = self.range();
        self.words[range].as_chunks_mut().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;
    use millstream_core::{Random, SeededRandom};
    use std::collections::HashMap;

    #[test]
    fn it_is_a_map_while_it_grows_and_shrinks() {
        let keys = Keys::new([3, 4]);
        let mut random = SeededRandom::new(9);
        let mut table = Table::default();
        let mut map: HashMap<LimitKey, [u64; 2]> = HashMap::new();
        for round in 0..200_000_u64 {
            // First mostly insertions, then mostly removals, and so on.
            let growing = round / 20_000 % 2 == 0;
            let key = keys.text(&random.below(8_000).to_string());
            let there = table.find(key);
            assert_eq!(there.is_some(), map.contains_key(&key));
            match there {
                Some((place, value)) if !growing || random.below(4) == 0 => {
                    assert_eq!(*value, map.remove(&key).unwrap());
                    table.remove(place);
                }
                Some((_, value)) => {
                    value[1] += 1;
                    map.get_mut(&key).unwrap()[1] += 1;
                }
                None if growing || random.below(4) == 0 => {
                    table.insert(key, [round, 0]);
                    map.insert(key, [round, 0]);
                }
                None => {}
            }
            assert_eq!(table.len(), map.len());
        }
        for (key, value) in &map {
            assert_eq!(table.peek(*key), Some(*value));
        }
    }

    #[test]
    fn the_hand_finds_what_is_spent() {
        let keys = Keys::new([3, 4]);
        let mut table = Table::default();
        for n in 0..1_000 {
            table.insert(keys.text(&n.to_string()), [n, 0]);
        }
        while !table.old.is_empty() {
            table.move_on(1);
        }
        let steps = table.slots.len() + 500;
        assert!(table.slots.len() >= 1_334);
        let swept: usize = (0..steps / 4)
            .map(|_| table.sweep(4, |v| v[0] % 2 == 0))
            .sum();
        assert_eq!((swept, table.len()), (500, 500));
        assert!(
            (0..1_000).all(|n| { table.peek(keys.text(&n.to_string())).is_some() == (n % 2 == 1) })
        );
    }

    #[test]
    fn what_is_used_is_evicted_last() {
        let keys = Keys::new([3, 4]);
        let mut table = Table::default();
        for n in 0..900 {
            table.insert(keys.text(&n.to_string()), [n, 0]);
        }
        for n in 0..450 {
            table.find(keys.text(&n.to_string())).unwrap();
        }
        for _ in 0..450 {
            assert!(!table.evict(usize::MAX, |_| false));
        }
        let left = (0..900).filter(|n| table.peek(keys.text(&n.to_string())).is_some());
        assert!(left.eq(0..450));
        // With a bound on the search, something goes all the same.
        for n in 0..450 {
            table.find(keys.text(&n.to_string()));
            table.evict(4, |_| false);
        }
        assert_eq!(table.len(), 0);
    }
}
