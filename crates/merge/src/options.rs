//! Which rules a stream follows.

use millstream_core::RawJsonRef;

/// How events change the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// `created`, `updated` and `deleted` on a keyed list.
    #[default]
    Crud,
    /// Every event is appended; the last `max` are kept.
    Latest,
    /// Every event replaces the value.
    Set,
    /// `join` and `leave` on a list keyed by `key`.
    Presence,
    /// `update` and `remove` on a list keyed by `key`.
    Cursor,
    /// A name nobody knows: every event but `refreshed` is ignored.
    Unknown,
}

impl Strategy {
    /// The strategy of that name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        match name {
            "crud" => Self::Crud,
            "latest" => Self::Latest,
            "set" => Self::Set,
            "presence" => Self::Presence,
            "cursor" => Self::Cursor,
            _ => Self::Unknown,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crud => "crud",
            Self::Latest => "latest",
            Self::Set => "set",
            Self::Presence => "presence",
            Self::Cursor => "cursor",
            Self::Unknown => "unknown",
        }
    }

    /// Whether items are found by their key.
    #[must_use]
    pub const fn is_keyed(self) -> bool {
        matches!(self, Self::Crud | Self::Presence | Self::Cursor)
    }

    /// Whether the value is a list.
    #[must_use]
    pub const fn is_list(self) -> bool {
        !matches!(self, Self::Set | Self::Unknown)
    }

    const fn default_max(self) -> usize {
        match self {
            Self::Latest => MAX_LATEST,
            _ => 0,
        }
    }
}

/// Entries kept by `latest` unless another number is given.
const MAX_LATEST: usize = 50;

/// The four parameters of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How events change the value.
    pub strategy: Strategy,
    /// The field that identifies an item; used by `crud` only.
    pub key: Box<str>,
    /// Whether new items go to the front: `crud`, and pages.
    pub prepend: bool,
    /// The most entries an insertion leaves, for `crud` and `latest`; 0 is no limit.
    pub max: usize,
}

impl Options {
    /// The defaults: key `id`, new items at the end, 50 entries for `latest`, else no limit.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            key: "id".into(),
            prepend: false,
            max: strategy.default_max(),
        }
    }

    /// What a stream is declared with: what is absent, empty or 0 takes its default.
    #[must_use]
    pub fn declared(settings: &Settings) -> Self {
        let mut options = Self::new(settings.strategy.unwrap_or_default());
        options.adopt(&Settings {
            max: settings.max.filter(|max| *max > 0),
            ..settings.clone()
        });
        options
    }

    /// Takes over what a subscribe reply says. Here a `max` of 0 lifts the limit, and a change of
    /// strategy leaves the limit as it was.
    pub fn adopt(&mut self, settings: &Settings) {
        if let Some(strategy) = settings.strategy {
            self.strategy = strategy;
        }
        if let Some(key) = settings.key.as_ref().filter(|key| !key.is_empty()) {
            self.key.clone_from(key);
        }
        if let Some(prepend) = settings.prepend {
            self.prepend = prepend;
        }
        if let Some(max) = settings.max {
            self.max = max;
        }
    }

    /// The field that identifies an item: always `key` for `presence` and `cursor`.
    #[must_use]
    pub fn key_field(&self) -> &str {
        match self.strategy {
            Strategy::Presence | Strategy::Cursor => "key",
            _ => &self.key,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(Strategy::default())
    }
}

/// The parameters somebody spoke about; the others stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `merge`
    pub strategy: Option<Strategy>,
    /// `key`
    pub key: Option<Box<str>>,
    /// `prepend`
    pub prepend: Option<bool>,
    /// `max`
    pub max: Option<usize>,
}

impl Settings {
    /// Reads `merge`, `key`, `prepend` and `max` from an object; members of other types count as
    /// absent.
    #[must_use]
    pub fn read(object: RawJsonRef<'_>) -> Self {
        let text = |name| {
            let token = object.field(name)?.as_json_str()?;
            let text = token.to_cow();
            (!text.is_empty()).then_some(text)
        };
        Self {
            strategy: text("merge").map(|name| Strategy::named(&name)),
            key: text("key").map(|name| name.into()),
            prepend: object.field("prepend").and_then(|value| value.as_bool()),
            max: object.field("max").and_then(count),
        }
    }
}

/// A whole number of entries. What JavaScript would not find larger than 0 is 0.
fn count(value: RawJsonRef<'_>) -> Option<usize> {
    let number = value.as_f64()?;
    Some(if number >= 1.0 { number as usize } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        Settings::read(RawJsonRef::parse_str(text).unwrap())
    }

    #[test]
    fn declarations_take_defaults_and_replies_do_not() {
        let settings = read(r#"{"merge":"latest","key":"","max":0,"prepend":true}"#);
        let mut options = Options::declared(&settings);
        assert_eq!(
            (&*options.key, options.max, options.prepend),
            ("id", 50, true)
        );
        options.adopt(&settings);
        assert_eq!((&*options.key, options.max), ("id", 0));
        options.adopt(&read(r#"{"merge":"presence","key":"sku","max":1e400}"#));
        assert_eq!((options.key_field(), options.max), ("key", usize::MAX));
        options.adopt(&read(r#"{"merge":"crud","max":-3}"#));
        assert_eq!((options.key_field(), options.max), ("sku", 0));
    }

    #[test]
    fn a_change_of_strategy_leaves_the_limit() {
        let mut options = Options::new(Strategy::Crud);
        options.adopt(&read(r#"{"merge":"latest"}"#));
        assert_eq!(options.max, 0);
        options.adopt(&read(r#"{"merge":"sorted"}"#));
        assert_eq!(options.strategy, Strategy::Unknown);
    }

    #[test]
    fn names_come_back() {
        for name in ["crud", "latest", "set", "presence", "cursor"] {
            assert_eq!(Strategy::named(name).name(), name);
        }
    }
}
