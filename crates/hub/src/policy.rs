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
    /// Newest events that are kept for those who come back. Default none; a volatile topic keeps
    /// none whatever this says.
    pub retain: u32,
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

    /// Means one topic, whatever its name.
    #[must_use]
    pub fn exact(topic: &str) -> Self {
        Self {
            text: topic.into(),
            prefix: false,
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
    retained: Vec<(Pattern, u32)>,
}

impl PolicyTable {
    /// Adds a rule behind the existing ones.
    #[must_use]
    pub fn with(mut self, pattern: Pattern, policy: TopicPolicy) -> Self {
        self.rules.push((pattern, policy));
        self
    }

    /// Lets matching topics keep their newest events, whatever else holds for them. Where several
    /// patterns match, the largest number counts.
    ///
    /// ```
    /// use millstream_hub::{Pattern, PolicyTable};
    /// let table = PolicyTable::default().retaining(Pattern::new("room:*"), 100);
    /// assert_eq!(table.policy("room:7").retain, 100);
    /// assert_eq!(table.policy("lobby").retain, 0);
    /// ```
    #[must_use]
    pub fn retaining(mut self, pattern: Pattern, events: u32) -> Self {
        self.retained.push((pattern, events));
        self
    }

    /// The policy of a topic. O(rules); asked once per topic when it is first seen.
    #[must_use]
    pub fn policy(&self, topic: &str) -> TopicPolicy {
        let rule = self
            .rules
            .iter()
            .find(|(pattern, _)| pattern.matches(topic));
        let mut policy = rule.map_or_else(TopicPolicy::default, |(_, policy)| *policy);
        let retained = self
            .retained
            .iter()
            .filter(|(pattern, _)| pattern.matches(topic));
        policy.retain = match policy.volatile {
            true => 0,
            false => retained.fold(policy.retain, |most, (_, events)| most.max(*events)),
        };
        policy
    }
}
