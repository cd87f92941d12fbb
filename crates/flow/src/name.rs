//! Keys as callers give them: checked, and in two parts where one publisher must not hide another.

use core::hash::{Hash, Hasher};

use hashbrown::Equivalent;

/// A key, token or id was refused; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It was empty where that means nothing.
    #[error("key is empty")]
    Empty,
    /// It was longer than the engine's limit. Lengths are UTF-16 code units.
    #[error("key has {units} UTF-16 units, more than {units_max}")]
    TooLong {
        /// Its length.
        units: usize,
        /// The limit.
        units_max: usize,
    },
}

/// Text that is not empty and not too long.
pub(crate) fn check(key: &str, units_max: usize) -> Result<(), KeyError> {
    if key.is_empty() {
        return Err(KeyError::Empty);
    }
    check_length(key, units_max)
}

pub(crate) fn check_length(key: &str, units_max: usize) -> Result<(), KeyError> {
    // No text has more units than bytes, so short ones need no counting.
    if key.len() <= units_max {
        return Ok(());
    }
    let units = key.encode_utf16().count();
    if units <= units_max {
        return Ok(());
    }
    Err(KeyError::TooLong { units, units_max })
}

/// Where a throttled or debounced value waits: a topic, or one publisher's share of it.
///
/// Values of one slot replace each other. With one slot per topic a fast publisher hides slow ones;
/// [`Slot::of`] gives each of them a place of its own.
///
/// ```
/// use millstream_flow::Slot;
///
/// let whole: Slot<'_> = "board".into();
/// assert_ne!(whole, Slot::of("board", "alice"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    topic: &'a str,
    key: &'a str,
}

impl<'a> Slot<'a> {
    /// The share of `key` in `topic`. With an empty key it is the topic's common slot.
    #[must_use]
    pub const fn of(topic: &'a str, key: &'a str) -> Self {
        Self { topic, key }
    }

    pub(crate) const fn bytes(self) -> usize {
        self.topic.len() + self.key.len()
    }

    pub(crate) fn check(self, units_max: usize) -> Result<(), KeyError> {
        check(self.topic, units_max)?;
        check_length(self.key, units_max)
    }

    pub(crate) fn to_name(self) -> SlotName {
        let mut text = String::with_capacity(self.bytes());
        text.push_str(self.topic);
        text.push_str(self.key);
        SlotName {
            text: text.into_boxed_str(),
            split: self.topic.len() as u32,
        }
    }
}

impl PartialEq for Slot<'_> {
    fn eq(&self, other: &Self) -> bool {
        // Comparing nothing with nothing is not free: the vectorised `memcmp` of glibc takes some
        // 90 ns when the pointer of an empty text leads nowhere, as that of "" does.
        self.topic == other.topic
            && self.key.len() == other.key.len()
            && (self.key.is_empty() || self.key == other.key)
    }
}

impl Eq for Slot<'_> {}

impl Hash for Slot<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.topic.hash(state);
        // Most slots are whole topics, whose hash is that of the topic.
        if !self.key.is_empty() {
            self.key.hash(state);
        }
    }
}

impl<'a> From<&'a str> for Slot<'a> {
    fn from(topic: &'a str) -> Self {
        Self { topic, key: "" }
    }
}

/// A slot's own copy of its name, topic and key in one allocation.
#[derive(Clone, Debug)]
pub(crate) struct SlotName {
    text: Box<str>,
    split: u32,
}

impl SlotName {
    pub(crate) const fn bytes(&self) -> usize {
        self.text.len()
    }

    fn slot(&self) -> Slot<'_> {
        let (topic, key) = self.text.split_at(self.split as usize);
        Slot { topic, key }
    }
}

impl PartialEq for SlotName {
    fn eq(&self, other: &Self) -> bool {
        self.slot() == other.slot()
    }
}

impl Eq for SlotName {}

impl Hash for SlotName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slot().hash(state);
    }
}

impl Equivalent<SlotName> for Slot<'_> {
    fn equivalent(&self, name: &SlotName) -> bool {
        *self == name.slot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_utf16_units() {
        assert_eq!(check("", 4), Err(KeyError::Empty));
        assert_eq!(check("\u{1f600}\u{1f600}", 4), Ok(()));
        let long = check("\u{1f600}\u{1f600}x", 4);
        assert_eq!(
            long,
            Err(KeyError::TooLong {
                units: 5,
                units_max: 4
            })
        );
        assert_eq!(
            check("x", 0),
            Err(KeyError::TooLong {
                units: 1,
                units_max: 0
            })
        );
    }

    #[test]
    fn the_border_between_topic_and_key_counts() {
        assert_ne!(Slot::of("ab", "c").to_name(), Slot::of("a", "bc").to_name());
        assert!(Slot::of("ab", "c").equivalent(&Slot::of("ab", "c").to_name()));
    }
}
