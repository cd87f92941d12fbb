//! Lists that are taken apart after they were validated.

use super::validate::{DEPTH_LIMIT, known_value_end, next, value};
use super::{Members, RawJsonRef};

/// Bits of the place of an element that is noted.
const PLACE_BITS: u32 = 21;

/// Where the first elements of a list end, as many as one word holds: most lists that are taken
/// apart are arguments, and few. The lowest bits are those of the next element; 0 means unknown.
#[derive(Clone, Copy, Debug)]
struct Ends(u64);

impl Ends {
    const UNKNOWN: Self = Self(0);

    /// Notes the end of an element if there is room for it behind `bits` of others; gives the bits
    /// in use then. No end may take more than [`PLACE_BITS`].
    #[inline]
    const fn note(&mut self, bits: u32, end: usize) -> u32 {
        if bits > u64::BITS - PLACE_BITS {
            return bits;
        }
        self.0 |= (end as u64) << bits;
        bits + PLACE_BITS
    }

    /// The end of the next element, if known.
    #[inline]
    const fn take(&mut self) -> Option<usize> {
        let end = self.0 & ((1 << PLACE_BITS) - 1);
        self.0 >>= PLACE_BITS;
        if end == 0 { None } else { Some(end as usize) }
    }
}

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
    ends: Ends,
}

impl<'a> JsonList<'a> {
    /// The empty list.
    pub const EMPTY: Self = Self {
        json: RawJsonRef::trusted("[]"),
        ends: Ends::UNKNOWN,
    };

    /// An array of which nothing was noted; `None` for other values.
    #[must_use]
    pub fn new(json: RawJsonRef<'a>) -> Option<Self> {
        let ends = Ends::UNKNOWN;
        json.is_array().then_some(Self { json, ends })
    }

    /// Takes an array off the front of `text`, nested at most `depth_max` deep, itself included;
    /// `None` if no valid one begins there.
    #[must_use]
    #[inline(always)]
    pub fn scan(text: &'a str, depth_max: u32) -> Option<(Self, &'a str)> {
        let [b'[', rest @ ..] = text.as_bytes() else {
            return None;
        };
        let inner = depth_max.min(DEPTH_LIMIT).checked_sub(1)?;
        let mut ends = Ends::UNKNOWN;
        // In texts that are too long for it nothing is noted.
        let fits = text.len() < 1 << PLACE_BITS;
        let mut bits = if fits { 0 } else { u64::BITS };
        let mut rest = next(rest);
        let behind = if let [b']', behind @ ..] = rest {
            behind
        } else {
            loop {
                rest = value(rest, inner).ok()?;
                bits = ends.note(bits, text.len() - rest.len());
                match next(rest) {
                    [b',', behind @ ..] => rest = next(behind),
                    [b']', behind @ ..] => break behind,
                    _ => return None,
                }
            }
        };
        let (list, rest) = text.split_at_checked(text.len() - behind.len())?;
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
    ends: Ends,
}

impl<'a> Elements<'a> {
    pub(super) fn of(json: RawJsonRef<'a>) -> Self {
        Self {
            members: Members::new(json.as_str(), b'['),
            ends: Ends::UNKNOWN,
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = RawJsonRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.members.begin()?;
        let end = match self.ends.take() {
            Some(end) => end,
            None => known_value_end(self.members.text.as_bytes(), start)?,
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
    fn places_that_do_not_fit_are_found_again() {
        let long = format!("\"{}\"", "x".repeat(1 << PLACE_BITS));
        for text in [
            format!("[1,{long},[2]]"),
            format!("[{long},1,{long},\"]\"]"),
            format!("[[1],2,\"3\",4,{long}]"),
        ] {
            let (list, rest) = JsonList::scan(&text, 64).unwrap();
            let walked = RawJsonRef::parse_str(&text).unwrap().elements();
            assert!(list.elements().eq(walked) && rest.is_empty());
        }
        let (list, _) = JsonList::scan("[1,22,333,4444]", 64).unwrap();
        assert_eq!(list.ends.0, 2 | 5 << PLACE_BITS | 9 << (2 * PLACE_BITS));
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
