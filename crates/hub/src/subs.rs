//! The topics one connection holds, small while they are few.

use hashbrown::HashMap;

/// Where a connection stands in a topic's audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the topic in its hub.
    pub(crate) topic: u32,
    /// Index of the connection in the lane's list, or [`Place::HELD`].
    pub(crate) slot: u32,
}

impl Place {
    /// The connection is not in a lane: its events are held back.
    pub(crate) const HELD: u32 = u32::MAX;
}

/// A set of [`Place`]s by topic: a list up to [`LIST_MAX`], a map beyond. 24 bytes when empty.
#[derive(Debug)]
pub(crate) enum Subs {
    List(Vec<Place>),
    Map(Box<HashMap<u32, u32>>),
}

/// Above this many topics, finding one by scanning costs more than hashing.
const LIST_MAX: usize = 16;

impl Default for Subs {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Subs {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
        }
    }

    pub(crate) fn slot(&self, topic: u32) -> Option<u32> {
        match self {
            Self::List(list) => list.iter().find(|p| p.topic == topic).map(|p| p.slot),
            Self::Map(map) => map.get(&topic).copied(),
        }
    }

    /// Adds a topic or moves its slot.
    pub(crate) fn set(&mut self, topic: u32, slot: u32) {
        match self {
            Self::List(list) => {
                if let Some(place) = list.iter_mut().find(|place| place.topic == topic) {
                    place.slot = slot;
                } else if list.len() < LIST_MAX {
                    // One topic is by far the most common number: no room to spare for it.
                    if list.is_empty() {
                        list.reserve_exact(1);
                    }
                    list.push(Place { topic, slot });
                } else {
                    let mut map: HashMap<u32, u32> =
                        list.iter().map(|place| (place.topic, place.slot)).collect();
                    map.insert(topic, slot);
                    *self = Self::Map(Box::new(map));
                }
            }
            Self::Map(map) => {
                map.insert(topic, slot);
            }
        }
    }

    pub(crate) fn remove(&mut self, topic: u32) -> Option<u32> {
        match self {
            Self::List(list) => {
                let at = list.iter().position(|place| place.topic == topic)?;
                let place = list.swap_remove(at);
                if list.is_empty() {
                    list.shrink_to_fit();
                }
                Some(place.slot)
            }
            Self::Map(map) => {
                let slot = map.remove(&topic);
                if map.is_empty() {
                    *self = Self::default();
                }
                slot
            }
        }
    }

    /// All places, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        let (list, map) = match self {
            Self::List(list) => (Some(list), None),
            Self::Map(map) => (None, Some(map)),
        };
        let list = list.into_iter().flatten().copied();
        let map = map.into_iter().flat_map(|map| map.iter());
        list.chain(map.map(|(topic, slot)| Place {
            topic: *topic,
            slot: *slot,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_into_a_map_and_back() {
        let mut subs = Subs::default();
        for topic in 0..40 {
            subs.set(topic, topic * 2);
        }
        assert!(matches!(subs, Subs::Map(_)));
        assert_eq!(subs.len(), 40);
        assert_eq!(subs.slot(39), Some(78));
        subs.set(39, 1);
        assert_eq!(subs.slot(39), Some(1));
        assert_eq!(subs.iter().count(), 40);
        for topic in 0..40 {
            assert!(subs.remove(topic).is_some());
            assert_eq!(subs.remove(topic), None);
        }
        assert!(matches!(subs, Subs::List(_)));
    }

    #[test]
    fn one_topic_takes_one_place() {
        let mut subs = Subs::default();
        subs.set(7, 9);
        let Subs::List(list) = &subs else {
            panic!("a list")
        };
        assert_eq!(list.capacity(), 1);
        assert_eq!(size_of::<Subs>(), 24);
    }
}
