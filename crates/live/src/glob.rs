//! Patterns over topics in which `*` stands for one or more characters.

/// A pattern that a whole topic has to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Box<str>>);

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        Self(pattern.split('*').map(Into::into).collect())
    }

    /// Whether the topic matches. O(topic x parts).
    pub(crate) fn matches(&self, topic: &str) -> bool {
        let Some((first, parts)) = self.0.split_first() else {
            return false;
        };
        let Some(mut rest) = topic.strip_prefix(&**first) else {
            return false;
        };
        let Some((last, middle)) = parts.split_last() else {
            return rest.is_empty();
        };
        // Taking each part where it is found first leaves most room for those behind it.
        for part in middle {
            let Some(at) = skip_one(rest).and_then(|rest| Some((rest, rest.find(&**part)?))) else {
                return false;
            };
            rest = at.0.get(at.1 + part.len()..).unwrap_or_default();
        }
        skip_one(rest).is_some_and(|rest| rest.ends_with(&**last))
    }
}

/// The text behind its first character.
fn skip_one(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    chars.next().map(|_| chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_or_more_characters_anywhere() {
        for (pattern, topic, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a:*", "a:b:c", true),
            ("a:*", "a:", false),
            ("a:*", "xa:b", false),
            ("*", "x", true),
            ("*", "", false),
            ("**", "x", false),
            ("**", "äö", true),
            ("*:end", "a:end", true),
            ("*:end", ":end", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abbbc", true),
            ("a*b*c", "abc", false),
            ("a*b*c", "a1bc", false),
            ("a*bb", "abb", false),
            ("a*bb", "abbb", true),
            ("a.c*", "abcd", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(topic),
                matches,
                "{pattern} {topic}"
            );
        }
    }
}
