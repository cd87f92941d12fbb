//! What happens to a topic's frames when a reader is slow, chosen by topic pattern.

/// What to do with a topic's frames for a connection whose backlog is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// Keep only the newest frames of the topic: what waits of it is replaced.
    /// Right for values where only the latest state counts.
    Coalesce,
    /// Close the connection with 1013, so that the client reconnects and resumes.
    Disconnect,
    /// Drop what has waited longest of this topic.
    DropOldest,
    /// Skip the new frame, as the original does. The default.
    #[default]
    DropNewest,
}

/// Properties of a topic that do not change while it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicPolicy {
    /// What a slow reader loses.
    pub overflow: Overflow,
    /// Publishes carry no number, are never replayed, and skip every connection that has a
    /// backlog, without a gap mark.
    pub volatile: bool,
}

/// A pattern over topic names: exact text, a prefix (`room:*`) or everything (`*`).
///
/// ```
/// use millstream_hub::Pattern;
/// assert!(Pattern::new("room:*").matches("room:7"));
/// assert!(!Pattern::new("room").matches("room:7"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    prefix: bool,
}

impl Pattern {
    /// Reads a pattern. A `*` counts only at the end.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        match pattern.strip_suffix('*') {
            Some(prefix) => Self {
                text: prefix.into(),
                prefix: true,
            },
            None => Self {
                text: pattern.into(),
                prefix: false,
            },
        }
    }

    /// Whether the topic is one of those meant.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if self.prefix {
            topic.starts_with(&*self.text)
        } else {
            topic == &*self.text
        }
    }
}

/// Patterns with their policies. The first match wins; without one the default policy holds.
#[derive(Debug, Clone, Default)]
pub struct PolicyTable {
    rules: Vec<(Pattern, TopicPolicy)>,
}

impl PolicyTable {
    /// Adds a rule behind the existing ones.
    #[must_use]
    pub fn with(mut self, pattern: Pattern, policy: TopicPolicy) -> Self {
        self.rules.push((pattern, policy));
        self
    }

    /// The policy of a topic. O(rules); asked once per topic when it is first seen.
    #[must_use]
    pub fn policy(&self, topic: &str) -> TopicPolicy {
        self.rules
            .iter()
            .find(|(pattern, _)| pattern.matches(topic))
            .map_or_else(TopicPolicy::default, |(_, policy)| *policy)
    }
}
