//! Events of one animation frame, applied together.

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::list::Slot;
use crate::merge::Verb;
use crate::{Change, Item, Merge, MergeError};

/// One event.
#[derive(Clone, Debug)]
pub struct Event<'a, T> {
    /// Its name.
    pub name: &'a str,
    /// Its data.
    pub data: T,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Events that were applied or ignored by the rules.
    pub applied: usize,
    /// Updates left out for a later one of the same key.
    pub superseded: usize,
    /// Events refused: `null` on a keyed list, or over a limit.
    pub refused: usize,
    /// Whether readers should hear of it, which is once per frame. True if any event asks for it;
    /// the JavaScript client asks the last event only, and so hides changes of a `set` stream
    /// whose frame ends with an equal primitive.
    pub notifies: bool,
}

/// Memory that one frame leaves to the next.
#[derive(Debug)]
pub(crate) struct Scratch<T> {
    /// What will be applied, last first.
    kept: Vec<(Verb, Slot<T>)>,
    /// Places therein of the last updates per key.
    seen: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            seen: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T: Item> Merge<T> {
    /// Applies the events of one animation frame, in order, and takes them out of `events`.
    ///
    /// With two or more events on a keyed list, an event named `updated`, `update` or `join` is
    /// left out if a later event with one of these names has the same key. That can change the
    /// order of new entries; it is what the JavaScript client does in browsers.
    ///
    /// `seen` hears what each applied event did. A refused event does not stop the others.
    ///
    /// # Cost
    /// O(1) per event; allocates nothing once frames of this size have been seen.
    pub fn apply_frame(
        &mut self,
        events: &mut Vec<Event<'_, T>>,
        mut seen: impl FnMut(Result<Change<T>, MergeError>),
    ) -> Frame {
        let mut frame = Frame::default();
        let coalesce = events.len() > 1 && self.options().strategy.is_keyed();
        let mut scratch = core::mem::take(&mut self.scratch);
        // Last first, since the later ones decide.
        for event in events.drain(..).rev() {
            let verb = self.verb(event.name);
            let replaces = matches!(event.name, "updated" | "update" | "join");
            let mut slot = self.receive(verb, event.data);
            if coalesce && replaces {
                if verb == Verb::Nothing {
                    slot.spot = slot.item.spot(self.reader());
                }
                if scratch.supersedes(&slot) {
                    frame.superseded += 1;
                    continue;
                }
            }
            scratch.kept.push((verb, slot));
        }
        self.stats_mut().superseded += frame.superseded as u64;
        for (verb, slot) in scratch.kept.drain(..).rev() {
            let result = self.apply_slot(verb, slot);
            match &result {
                Ok(change) => {
                    frame.applied += 1;
                    frame.notifies |= change.notifies();
                }
                Err(_) => frame.refused += 1,
            }
            seen(result);
        }
        scratch.seen.clear();
        self.scratch = scratch;
        frame
    }
}

impl<T: Item> Scratch<T> {
    /// Whether a kept event has the same key; if not, the slot about to be kept is remembered.
    fn supersedes(&mut self, slot: &Slot<T>) -> bool {
        let key = slot.key();
        if !key.is_indexed() {
            return false;
        }
        let (kept, hasher) = (&self.kept, &self.hasher);
        let hash = key.hash(hasher);
        let same = |place: &u32| kept[*place as usize].1.key().same(&key);
        if self.seen.find(hash, same).is_some() {
            return true;
        }
        let rehash = |place: &u32| kept[*place as usize].1.key().hash(hasher);
        self.seen.insert_unique(hash, kept.len() as u32, rehash);
        false
    }
}
