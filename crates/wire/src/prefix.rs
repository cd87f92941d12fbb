//! The beginning of a topic's envelopes, encoded once.

use millstream_core::TopicName;

/// The beginning of every envelope of one topic, encoded once: `{"topic":"…","event":"`.
///
/// # Cost
/// 64 bytes. Names of up to 41 bytes need no allocation: whoever has the prefix at hand has its
/// bytes, too.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicPrefix(Text);

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Inline { len: u8, bytes: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

const HEAD: &[u8] = br#"{"topic":""#;
const TAIL: &[u8] = br#"","event":""#;
const INLINE_MAX: usize = 62;

impl TopicPrefix {
    /// Encodes the beginning for a topic.
    #[must_use]
    pub fn new(topic: &TopicName) -> Self {
        // A topic name holds nothing that would need an escape.
        let text = [HEAD, topic.as_bytes(), TAIL].concat();
        let mut bytes = [0; INLINE_MAX];
        let text = match bytes.get_mut(..text.len()) {
            Some(start) => {
                start.copy_from_slice(&text);
                let len = text.len() as u8;
                Text::Inline { len, bytes }
            }
            None => Text::Heap(text.into()),
        };
        Self(text)
    }

    /// The bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Text::Heap(bytes) => bytes,
        }
    }

    /// Whether this is the prefix of the topic of that name.
    #[must_use]
    #[inline]
    pub fn is_of(&self, topic: &str) -> bool {
        let bytes = self.as_bytes();
        bytes.len() == HEAD.len() + topic.len() + TAIL.len()
            && bytes.get(HEAD.len()..HEAD.len() + topic.len()) == Some(topic.as_bytes())
    }

    /// Length in UTF-16 code units.
    pub(crate) fn code_units(&self) -> usize {
        self.as_str().encode_utf16().count()
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl core::fmt::Debug for TopicPrefix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::TopicRules;

    use super::*;

    #[test]
    fn inside_and_on_the_heap() {
        assert_eq!(size_of::<TopicPrefix>(), 64);
        for len in [1, 20, 21, 41, 42, 256] {
            for letter in ["a", "é"] {
                let name = letter.repeat(len);
                let parsed = TopicName::parse(&name, &TopicRules::SERVER).unwrap();
                let prefix = TopicPrefix::new(&parsed);
                let text = format!(r#"{{"topic":"{name}","event":""#);
                assert_eq!(prefix.as_bytes(), text.as_bytes());
                assert_eq!(format!("{prefix:?}"), text);
                assert_eq!(prefix.code_units(), len + 21);
                assert_eq!(matches!(prefix.0, Text::Inline { .. }), name.len() <= 41);
                assert_eq!(prefix.clone(), TopicPrefix::new(&parsed));
            }
        }
    }

    #[test]
    fn tells_its_topic_from_others() {
        let name = TopicName::parse("room:1", &TopicRules::SERVER).unwrap();
        let prefix = TopicPrefix::new(&name);
        assert!(prefix.is_of("room:1"));
        for other in ["room:2", "room:11", "room:", "", "room:1\",\"event\":\""] {
            assert!(!prefix.is_of(other), "{other}");
        }
    }
}
