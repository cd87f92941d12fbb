//! Lists that are taken apart after they were validated.

use super::validate::{DEPTH_LIMIT, known_value_end, to_next, value_end};
use super::{Members, RawJsonRef};

/// Elements whose places are noted. Most lists that are taken apart are arguments, and few.
const NOTED: usize = 4;

/// An array whose validation has noted where its first elements end: walking over these costs no
/// second look at them.
///
/// ```
/// use millstream_core::JsonList;
///
/// let (list, rest) = JsonList::scan(r#"[1,{"a":[2]}],"#, 64).unwrap();
/// let elements: Vec<&str> = list.elements().map(|json| json.as_str()).collect();
/// assert_eq!((elements, rest), (vec!["1", r#"{"a":[2]}"#], ","));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct JsonList<'a> {
    json: RawJsonRef<'a>,
    ends: [u32; NOTED],
}

impl<'a> JsonList<'a> {
    /// The empty list.
    pub const EMPTY: Self = Self {
        json: RawJsonRef::trusted("[]"),
        ends: [0; NOTED],
    };

    /// An array of which nothing was noted; `None` for other values.
    #[must_use]
    pub fn new(json: RawJsonRef<'a>) -> Option<Self> {
        let ends = [0; NOTED];
        json.is_array().then_some(Self { json, ends })
    }

    /// Takes an array off the front of `text`, nested at most `depth_max` deep, itself included;
    /// `None` if no valid one begins there.
    #[must_use]
    #[inline]
    pub fn scan(text: &'a str, depth_max: u32) -> Option<(Self, &'a str)> {
        let bytes = text.as_bytes();
        if bytes.first() != Some(&b'[') {
            return None;
        }
        let inner = depth_max.min(DEPTH_LIMIT).checked_sub(1)?;
        let mut ends = [0; NOTED];
        let mut places = ends.iter_mut();
        let mut at = to_next(bytes, 1);
        if bytes.get(at) != Some(&b']') {
            loop {
                at = value_end(bytes, at, inner).ok()?;
                if let Some(place) = places.next() {
                    *place = u32::try_from(at).unwrap_or(0);
                }
                at = to_next(bytes, at);
                match bytes.get(at)? {
                    b',' => at = to_next(bytes, at + 1),
                    b']' => break,
                    _ => return None,
                }
            }
        }
        let (list, rest) = text.split_at_checked(at + 1)?;
        let json = RawJsonRef::trusted(list);
        Some((Self { json, ends }, rest))
    }

    /// The list as it stands.
    #[must_use]
    pub const fn json(&self) -> RawJsonRef<'a> {
        self.json
    }

    /// All elements in order.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        Elements {
            members: Members::new(self.json.as_str(), b'['),
            ends: self.ends,
        }
    }
}

/// The elements of an array, see [`RawJsonRef::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    members: Members<'a>,
    /// Where the next ones end; 0 where that was not noted.
    ends: [u32; NOTED],
}

impl<'a> Elements<'a> {
    pub(super) fn of(json: RawJsonRef<'a>) -> Self {
        Self {
            members: Members::new(json.as_str(), b'['),
            ends: [0; NOTED],
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = RawJsonRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.members.begin()?;
        let [end, second, third, fourth] = self.ends;
        self.ends = [second, third, fourth, 0];
        let end = match end {
            0 => known_value_end(self.members.text.as_bytes(), start)?,
            end => end as usize,
        };
        self.members.take(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noted_elements_are_those_that_a_walk_finds() {
        for text in [
            "[]",
            "[ ]",
            "[1]",
            r#"[ "a]" , {"b":[1,2]} ,null]"#,
            "[1,2,3,4]",
            "[1,2,3,4,[5],\"6\",7]",
            "[[[]]]",
        ] {
            let json = RawJsonRef::parse_str(text).unwrap();
            let behind = format!("{text},[");
            let (list, rest) = JsonList::scan(&behind, 64).unwrap();
            assert_eq!((list.json(), rest), (json, ",["));
            let walked: Vec<RawJsonRef<'_>> = json.elements().collect();
            assert_eq!(list.elements().collect::<Vec<_>>(), walked, "{text}");
            let unknown = JsonList::new(json).unwrap();
            assert_eq!(unknown.elements().collect::<Vec<_>>(), walked, "{text}");
        }
        assert_eq!(JsonList::EMPTY.elements().count(), 0);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "", "[", "[1", "[1,]", "[,1]", "[1 2]", "{}", "1", "[1}", "[nul]", " []", "[\"a]",
        ] {
            assert!(JsonList::scan(text, 64).is_none(), "{text}");
        }
        assert!(JsonList::new(RawJsonRef::NULL).is_none());
        assert!(JsonList::scan("[[]]", 2).is_some());
        assert!(JsonList::scan("[[]]", 1).is_none());
        assert!(JsonList::scan("[]", 0).is_none());
    }
}
