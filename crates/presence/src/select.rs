//! From what the application knows about a user to what others may see.

use std::borrow::Cow;

use millstream_core::{JsonKind, JsonStr, RawJsonRef};
use smallvec::SmallVec;

use crate::number::write_number;

/// Which part of a connection's user data is shown to others.
///
/// # Example
/// ```
/// use millstream_core::RawJsonRef;
/// use millstream_presence::Select;
///
/// let user = RawJsonRef::parse(br#"{"id": 7, "name": "Ann", "sessionToken": "x"}"#)?;
/// let mut record = Vec::new();
/// Select::Public.apply(user, &mut record);
/// assert_eq!(record, br#"{"id":7,"name":"Ann"}"#);
/// # Ok::<(), millstream_core::JsonError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Select {
    /// Everything that does not look private, at every depth.
    ///
    /// Members are dropped whose name begins with `__`, is `constructor` or `prototype`, or
    /// contains, in any case, `token`, `secret`, `password`, `auth`, `session`, `cookie`, `jwt` or
    /// `credential` (so `author` goes too). What is not an object or array becomes `{}`.
    #[default]
    Public,
    /// Everything.
    Identity,
    /// These members, as far as there are any.
    Pick(Vec<String>),
}

impl Select {
    /// Appends the selected record to `out`.
    ///
    /// # Cost
    /// Linear in the user data, times its depth for [`Public`](Self::Public); times the number of
    /// names for [`Pick`](Self::Pick).
    pub fn apply(&self, user: RawJsonRef<'_>, out: &mut Vec<u8>) {
        self.apply_and_find(user, "", out);
    }

    /// Appends the selected record and gives its member called `name`, in one pass.
    pub(crate) fn apply_and_find<'a>(
        &self,
        user: RawJsonRef<'a>,
        name: &str,
        out: &mut Vec<u8>,
    ) -> Option<RawJsonRef<'a>> {
        match self {
            Self::Public => public(user, name, out),
            Self::Identity => {
                out.extend_from_slice(user.as_bytes());
                user.field(name)
            }
            Self::Pick(names) => pick(names, user, name, out),
        }
    }
}

fn public<'a>(user: RawJsonRef<'a>, wanted: &str, out: &mut Vec<u8>) -> Option<RawJsonRef<'a>> {
    if user.kind() == JsonKind::Array {
        filter(user, out);
        return None;
    }
    let mut found = None;
    out.push(b'{');
    let start = out.len();
    for (name, member) in user.fields() {
        if token_looks_private(name) {
            continue;
        }
        if name.eq_str(wanted) {
            found = Some(member);
        }
        comma(out, start);
        out.extend_from_slice(name.raw().as_bytes());
        out.push(b':');
        filter(member, out);
    }
    out.push(b'}');
    found
}

fn pick<'a>(
    names: &[String],
    user: RawJsonRef<'a>,
    wanted: &str,
    out: &mut Vec<u8>,
) -> Option<RawJsonRef<'a>> {
    let mut picked: SmallVec<[Option<(JsonStr<'a>, RawJsonRef<'a>)>; 8]> =
        smallvec::smallvec![None; names.len()];
    for (token, member) in user.fields() {
        for (name, place) in names.iter().zip(&mut picked) {
            if token.eq_str(name) {
                *place = Some((token, member));
            }
        }
    }
    out.push(b'{');
    let start = out.len();
    for (token, member) in picked.iter().flatten() {
        comma(out, start);
        out.extend_from_slice(token.raw().as_bytes());
        out.push(b':');
        out.extend_from_slice(member.as_bytes());
    }
    out.push(b'}');
    let at = names.iter().position(|name| name == wanted)?;
    picked[at].map(|(_, member)| member)
}

fn filter(value: RawJsonRef<'_>, out: &mut Vec<u8>) {
    match value.kind() {
        JsonKind::Object => {
            out.push(b'{');
            let start = out.len();
            for (name, member) in value.fields() {
                if token_looks_private(name) {
                    continue;
                }
                comma(out, start);
                out.extend_from_slice(name.raw().as_bytes());
                out.push(b':');
                filter(member, out);
            }
            out.push(b'}');
        }
        JsonKind::Array => {
            out.push(b'[');
            let start = out.len();
            for element in value.elements() {
                comma(out, start);
                filter(element, out);
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(value.as_bytes()),
    }
}

fn comma(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
    }
}

fn token_looks_private(name: JsonStr<'_>) -> bool {
    match name.plain() {
        Some(plain) => looks_private(plain),
        None => looks_private(&name.to_cow()),
    }
}

fn looks_private(name: &str) -> bool {
    const MARKS: [&str; 8] = [
        "token",
        "secret",
        "password",
        "auth",
        "session",
        "cookie",
        "jwt",
        "credential",
    ];
    if name.starts_with("__") || name == "constructor" || name == "prototype" {
        return true;
    }
    if name.is_ascii() {
        let contains = |mark: &str| {
            let mut windows = name.as_bytes().windows(mark.len());
            windows.any(|window| window.eq_ignore_ascii_case(mark.as_bytes()))
        };
        // The shortest mark has three letters.
        return name.len() >= 3 && MARKS.iter().any(|mark| contains(mark));
    }
    let lower = name.to_lowercase();
    MARKS.iter().any(|mark| lower.contains(mark))
}

/// The text by which a value identifies a person: `7` and `"7"` are the same one. `None` for
/// `null`, which identifies nobody.
pub(crate) fn key_text(value: RawJsonRef<'_>) -> Option<Cow<'_, str>> {
    match value.kind() {
        JsonKind::Null => None,
        JsonKind::String => value.as_json_str().map(|token| token.to_cow()),
        JsonKind::Bool => Some(Cow::Borrowed(value.as_str())),
        JsonKind::Number if is_plain_integer(value.as_str()) => Some(Cow::Borrowed(value.as_str())),
        _ => {
            let mut text = String::new();
            write_text(value, &mut text);
            Some(Cow::Owned(text))
        }
    }
}

/// Whether JavaScript would write the number just so.
pub(crate) fn is_plain_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    digits.len() <= 15 && text != "-0" && digits.iter().all(u8::is_ascii_digit)
}

/// JavaScript's `String(value)`.
fn write_text(value: RawJsonRef<'_>, out: &mut String) {
    match value.kind() {
        JsonKind::Object => out.push_str("[object Object]"),
        JsonKind::Array => {
            for (at, element) in value.elements().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                if !element.is_null() {
                    write_text(element, out);
                }
            }
        }
        JsonKind::String => {
            let text = value.as_json_str().map(|token| token.to_cow());
            out.push_str(text.as_deref().unwrap_or_default());
        }
        JsonKind::Number => write_number(out, value.as_f64().unwrap_or_default()),
        _ => out.push_str(value.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(select: &Select, user: &str) -> String {
        let mut out = Vec::new();
        select.apply(RawJsonRef::parse_str(user).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn private_names() {
        for name in [
            "__x",
            "constructor",
            "prototype",
            "author",
            "sessionId",
            "CsrfToken",
            "JWT",
            "myCredentials",
            "\u{e9}PASSWORD",
            "to\u{212a}en",
        ] {
            assert!(looks_private(name), "{name}");
        }
        for name in [
            "",
            "_x",
            "apiKey",
            "constructors",
            "tok",
            "jw",
            "Prototype",
            "é",
        ] {
            assert!(!looks_private(name), "{name}");
        }
    }

    #[test]
    fn the_filter_goes_deep_and_keeps_arrays_long() {
        assert_eq!(
            select(
                &Select::Public,
                r#"{ "a" : [1, {"tok\u0065n": 1}, null, [{"jwt":1, "b":2}]], "secret": 1 }"#
            ),
            r#"{"a":[1,{},null,[{"b":2}]]}"#
        );
        assert_eq!(select(&Select::Public, "null"), "{}");
        assert_eq!(select(&Select::Public, "\"token\""), "{}");
        assert_eq!(select(&Select::Public, "[{\"token\":1}]"), "[{}]");
    }

    #[test]
    fn picking_and_identity() {
        let pick = Select::Pick(vec!["b".into(), "missing".into(), "a\"".into()]);
        assert_eq!(
            select(&pick, r#"{"a\"": 1, "b": 2, "c": 3, "b": 4}"#),
            r#"{"b":4,"a\"":1}"#
        );
        assert_eq!(select(&pick, "[1]"), "{}");
        assert_eq!(select(&Select::Identity, " [1] "), "[1]");
    }

    #[test]
    fn the_key_is_found_where_it_is_shown() {
        let find = |select: &Select, user, name| {
            let user = RawJsonRef::parse_str(user).unwrap();
            let found = select.apply_and_find(user, name, &mut Vec::new());
            found.map(|value| value.as_str().to_owned())
        };
        let user = r#"{"id":1,"session":2,"id":3}"#;
        assert_eq!(find(&Select::Public, user, "id").as_deref(), Some("3"));
        assert_eq!(find(&Select::Public, user, "session"), None);
        assert_eq!(find(&Select::Public, "[1]", "0"), None);
        assert_eq!(
            find(&Select::Identity, user, "session").as_deref(),
            Some("2")
        );
        let pick = Select::Pick(vec!["session".into()]);
        assert_eq!(find(&pick, user, "session").as_deref(), Some("2"));
        assert_eq!(find(&pick, user, "id"), None);
    }

    #[test]
    fn keys_are_texts() {
        let key = |text| key_text(RawJsonRef::parse_str(text).unwrap()).map(Cow::into_owned);
        for (value, text) in [
            ("7", "7"),
            ("-7", "-7"),
            ("-0", "0"),
            ("7.0", "7"),
            ("1e21", "1e+21"),
            ("12345678901234567890", "12345678901234567000"),
            ("\"\"", ""),
            ("\"\\u0037\"", "7"),
            ("false", "false"),
            ("{\"a\":1}", "[object Object]"),
            ("[1,[2,null],\"x\",{}]", "1,2,,x,[object Object]"),
        ] {
            assert_eq!(key(value).as_deref(), Some(text), "{value}");
        }
        assert_eq!(key("null"), None);
    }
}
