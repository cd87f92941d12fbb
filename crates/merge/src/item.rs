//! What the engine has to know about the things in a list.

use core::fmt;
use core::hash::{BuildHasher, Hasher};

use millstream_core::JsonStr;
use smallvec::SmallVec;

/// What identifies an item among others of its list.
///
/// Keys are equal by type and value: the number 1 is not the string "1", 1 and 1.0 and 1e0 are one
/// number, and so are 0 and -0. [`Opaque`](Self::Opaque) equals nothing, not even itself.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Key<'a> {
    /// The key field is missing. All items without it are one to the rules of a stream.
    Missing,
    /// The key is an array or an object: no later event can name it.
    Opaque,
    /// The key is `null`.
    Null,
    /// The key is a boolean.
    Bool(bool),
    /// The key is a JSON number.
    Number(f64),
    /// The key is a string.
    Text(&'a str),
    /// The key is a string written with escapes. Equal to its plain form.
    Escaped(JsonStr<'a>),
    /// A number of an item type that is no JSON: all 64 bits count. Equals no other kind.
    Id(u64),
}

impl Key<'_> {
    /// Whether both name the same item.
    #[must_use]
    pub fn same(&self, other: &Key<'_>) -> bool {
        match (self, other) {
            (Key::Missing, Key::Missing) | (Key::Null, Key::Null) => true,
            (Key::Bool(a), Key::Bool(b)) => a == b,
            (Key::Number(a), Key::Number(b)) => a == b,
            (Key::Text(a), Key::Text(b)) => a == b,
            (Key::Text(text), Key::Escaped(token)) | (Key::Escaped(token), Key::Text(text)) => {
                token.eq_str(text)
            }
            (Key::Escaped(a), Key::Escaped(b)) => a.eq_json(b),
            (Key::Id(a), Key::Id(b)) => a == b,
            _ => false,
        }
    }

    /// Whether the key can be looked up in an index.
    pub(crate) const fn is_indexed(&self) -> bool {
        !matches!(self, Key::Missing | Key::Opaque)
    }

    /// Equal keys have equal hashes.
    #[inline]
    pub(crate) fn hash(&self, builder: &impl BuildHasher) -> u64 {
        let mut hasher = builder.build_hasher();
        match self {
            Key::Missing | Key::Opaque | Key::Null => hasher.write_u8(0),
            Key::Bool(value) => hasher.write_u8(1 + u8::from(*value)),
            // Adding 0 turns -0 into 0.
            Key::Number(value) => hasher.write_u64((value + 0.0).to_bits()),
            Key::Text(text) => hasher.write(text.as_bytes()),
            Key::Escaped(token) => hasher.write(&plain_bytes(*token)),
            Key::Id(id) => hasher.write_u64(*id),
        }
        hasher.finish()
    }
}

/// The key of a stored item in 16 bytes: small keys as they are, strings as a place in the item.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum KeySpot {
    /// See [`Key::Missing`].
    Missing,
    /// See [`Key::Opaque`].
    Opaque,
    /// See [`Key::Null`].
    Null,
    /// See [`Key::Bool`].
    Bool(bool),
    /// See [`Key::Number`].
    Number(f64),
    /// A string inside the item; only [`Item::key`] has to understand the place.
    Text {
        /// Where it begins.
        at: u32,
        /// How long it is.
        len: u32,
        /// Whether it holds escapes.
        escaped: bool,
    },
    /// See [`Key::Id`].
    Id(u64),
}

impl KeySpot {
    /// The key, unless it is a string.
    #[must_use]
    pub const fn plain(self) -> Option<Key<'static>> {
        Some(match self {
            Self::Missing => Key::Missing,
            Self::Opaque => Key::Opaque,
            Self::Null => Key::Null,
            Self::Bool(value) => Key::Bool(value),
            Self::Number(value) => Key::Number(value),
            Self::Id(id) => Key::Id(id),
            Self::Text { .. } => return None,
        })
    }
}

/// Anything that can be an entry of a merged list.
///
/// [`RawJson`](millstream_core::RawJson) is one. A type of your own has to say what its key is and
/// how large it is; everything else has a default for values that are neither `null` nor a list.
///
/// # Example
/// ```
/// use millstream_merge::{Item, Key, KeySpot, Limits, Merge, Options, Strategy};
///
/// #[derive(Clone)]
/// struct Task { id: u64, title: String }
///
/// impl Item for Task {
///     type Reader = ();
///     fn reader(_field: &str) {}
///     fn spot(&self, _: &()) -> KeySpot { KeySpot::Id(self.id) }
///     fn key(&self, spot: KeySpot) -> Key<'_> { spot.plain().unwrap_or(Key::Missing) }
///     fn byte_len(&self) -> usize { size_of::<Self>() + self.title.len() }
/// }
///
/// let mut tasks = Merge::new(Options::new(Strategy::Crud), Limits::default());
/// tasks.load_rows(Vec::new()).unwrap();
/// tasks.apply("created", Task { id: 7, title: "write".into() }).unwrap();
/// assert_eq!(tasks.find(Key::Id(7)).unwrap().title, "write");
/// ```
pub trait Item: Clone {
    /// What is prepared once per stream so that keys are found quickly.
    type Reader: fmt::Debug;

    /// Prepares to read keys from the field `field`.
    fn reader(field: &str) -> Self::Reader;

    /// Finds the key. Called once per event and loaded item.
    fn spot(&self, reader: &Self::Reader) -> KeySpot;

    /// The key that [`spot`](Self::spot) found in this item.
    fn key(&self, spot: KeySpot) -> Key<'_>;

    /// What the item counts towards a byte budget.
    fn byte_len(&self) -> usize;

    /// Whether it is `null`: keyed events refuse such data.
    fn is_null(&self) -> bool {
        false
    }

    /// Whether both are the same number, string, boolean or `null`.
    fn same_primitive(&self, _other: &Self) -> bool {
        false
    }

    /// Whether it marks a removed item in a list of changes.
    fn is_tombstone(&self) -> bool {
        false
    }

    /// Drops the members that could be mistaken for a JavaScript object's own machinery.
    #[must_use]
    fn sanitised(self, _reader: &Self::Reader) -> Self {
        self
    }

    /// What [`sanitised`](Self::sanitised) and then [`spot`](Self::spot) give: for types that can
    /// do both in one pass.
    fn received(self, reader: &Self::Reader) -> (Self, KeySpot) {
        let item = self.sanitised(reader);
        let spot = item.spot(reader);
        (item, spot)
    }

    /// The elements, if it is a list.
    ///
    /// # Errors
    /// Gives the item back if it is not a list.
    fn into_rows(self) -> Result<Vec<Self>, Self> {
        Err(self)
    }
}

/// The string in UTF-8; lone surrogates as three bytes of their own, so that no two strings that
/// differ come out the same.
fn plain_bytes(token: JsonStr<'_>) -> SmallVec<[u8; 64]> {
    let mut bytes = SmallVec::new();
    for unit in char::decode_utf16(token.code_units()) {
        match unit {
            Ok(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(lone) => {
                let unit = lone.unpaired_surrogate();
                bytes.extend_from_slice(&[
                    0xe0 | (unit >> 12) as u8,
                    0x80 | (unit >> 6 & 0x3f) as u8,
                    0x80 | (unit & 0x3f) as u8,
                ]);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::DefaultHashBuilder;

    fn token(raw: &str) -> JsonStr<'_> {
        JsonStr::scan(raw).unwrap().0
    }

    #[test]
    fn a_spot_is_two_words() {
        assert_eq!(size_of::<KeySpot>(), 16);
    }

    #[test]
    fn equal_keys_hash_alike_and_others_do_not() {
        let builder = DefaultHashBuilder::default();
        let hash = |key: Key<'_>| key.hash(&builder);
        let escaped = Key::Escaped(token(r#""\u0061\ud83d\ude00""#));
        assert!(escaped.same(&Key::Text("a😀")));
        assert_eq!(hash(escaped), hash(Key::Text("a😀")));
        assert!(Key::Number(0.0).same(&Key::Number(-0.0)));
        assert_eq!(hash(Key::Number(0.0)), hash(Key::Number(-0.0)));
        let lone = [r#""\ud800\ud801""#, r#""\ud801\ud800""#].map(|raw| Key::Escaped(token(raw)));
        assert!(!lone[0].same(&lone[1]));
        assert_ne!(hash(lone[0]), hash(lone[1]));
        assert!(!Key::Opaque.same(&Key::Opaque));
        assert!(!Key::Number(1.0).same(&Key::Text("1")));
        assert!(!Key::Id(1).same(&Key::Number(1.0)));
        assert!(!Key::Null.same(&Key::Missing));
    }
}
