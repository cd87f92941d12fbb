//! Positional arguments: owned JSON, made into typed parameters.

use core::any::Any;
use core::fmt;

use millstream_core::{JsonList, RawJson, RawJsonRef};
use serde::de::DeserializeOwned;

use crate::error::{Issue, LiveError};

/// Bytes from which on sharing is cheaper than a copy: it takes an allocation, too.
const SHARED_BYTES_MIN: usize = 1_024;

/// The arguments of one call, as the client wrote them.
///
/// # Cost
/// One copy of their bytes out of the frame, made because a handler may have to wait.
#[derive(Clone)]
pub struct Args(RawJson);

impl Args {
    /// No arguments.
    pub const NONE: Self = Self(RawJson::EMPTY_LIST);

    /// Copies a list out of a frame; anything else counts as no arguments.
    #[must_use]
    pub fn from_list(list: RawJsonRef<'_>) -> Self {
        if list.is_array() && list.as_str() != "[]" {
            Self(list.to_owned())
        } else {
            Self::NONE
        }
    }

    /// The whole list.
    #[must_use]
    pub fn as_json(&self) -> RawJsonRef<'_> {
        self.0.get()
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = RawJsonRef<'_>> {
        self.0.get().elements()
    }

    /// One argument by position.
    #[must_use]
    pub fn get(&self, position: usize) -> Option<RawJsonRef<'_>> {
        self.iter().nth(position)
    }

    /// A walk over the arguments, one parameter after the other.
    #[must_use]
    pub fn cursor(&self) -> ArgCursor<'_> {
        ArgCursor {
            list: Some(&self.0),
            rest: self.0.get().elements(),
            position: 0,
        }
    }
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().fmt(f)
    }
}

/// Takes arguments off a list from the front.
#[derive(Debug, Clone)]
pub struct ArgCursor<'a> {
    /// The list, if it can be shared.
    list: Option<&'a RawJson>,
    rest: millstream_core::Elements<'a>,
    position: usize,
}

impl<'a> ArgCursor<'a> {
    /// A walk over arguments that still stand in their frame.
    pub(crate) fn over(list: &JsonList<'a>) -> Self {
        Self {
            list: None,
            rest: list.elements(),
            position: 0,
        }
    }

    /// The next argument and its position; `None` when the client sent no more.
    pub fn take(&mut self) -> (usize, Option<RawJsonRef<'a>>) {
        let position = self.position;
        self.position += 1;
        (position, self.rest.next())
    }

    /// The next argument as it is; `null` when there is none. A long one shares the bytes of the
    /// list if it can.
    #[inline]
    fn take_raw(&mut self) -> RawJson {
        let Some(json) = self.take().1 else {
            return RawJson::NULL;
        };
        let long = json.as_bytes().len() >= SHARED_BYTES_MIN;
        let shared = self.list.filter(|_| long);
        let shared = shared.and_then(|list| list.share(json));
        shared.unwrap_or_else(|| json.to_owned())
    }
}

/// A parameter of a handler.
///
/// Implemented for everything that serde can read (an absent argument is read like `null`, so
/// `Option` parameters may be left out; [`RawJson`] is passed on as it came), for [`Rest`] and for
/// [`Valid`].
pub trait Arg: Sized {
    /// Takes what it needs off the arguments.
    ///
    /// # Errors
    /// `VALIDATION` with the place of what does not fit.
    fn from_args(args: &mut ArgCursor<'_>) -> Result<Self, LiveError>;
}

impl<T: DeserializeOwned + 'static> Arg for T {
    #[inline]
    fn from_args(args: &mut ArgCursor<'_>) -> Result<Self, LiveError> {
        let mut raw: Option<T> = None;
        let any: &mut dyn Any = &mut raw;
        if let Some(raw) = any.downcast_mut::<Option<RawJson>>() {
            *raw = Some(args.take_raw());
        }
        if let Some(raw) = raw {
            return Ok(raw);
        }
        let (position, json) = args.take();
        read(position, json)
    }
}

fn read<T: DeserializeOwned>(
    position: usize,
    json: Option<RawJsonRef<'_>>,
) -> Result<T, LiveError> {
    let text = json.map_or("null", |json| json.as_str());
    serde_json::from_str(text).map_err(|error| {
        let message = match json {
            Some(_) => format!("argument {}: {}", position + 1, describe(&error)),
            None => format!("argument {} is missing", position + 1),
        };
        LiveError::validation(vec![Issue::new([position.to_string()], message)])
    })
}

/// The error without its line and column, which mean nothing to a client.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// All remaining arguments, as they are. Only useful as the last parameter.
#[derive(Debug, Clone)]
pub struct Rest(pub Vec<RawJson>);

impl Arg for Rest {
    fn from_args(args: &mut ArgCursor<'_>) -> Result<Self, LiveError> {
        let mut rest = Vec::new();
        while let (_, Some(json)) = args.take() {
            rest.push(json.to_owned());
        }
        Ok(Self(rest))
    }
}

/// An argument that is checked by its `garde::Validate` rules after it was read. Paths of issues
/// begin inside the argument.
///
/// ```
/// use millstream_live::{Arg, Args, Valid};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, garde::Validate)]
/// struct Item {
///     #[garde(length(min = 1, max = 10))]
///     name: String,
/// }
/// let list = millstream_core::RawJsonRef::parse_str(r#"[{"name":""}]"#).unwrap();
/// let args = Args::from_list(list);
/// let error = Valid::<Item>::from_args(&mut args.cursor()).err().unwrap();
/// assert_eq!(error.issues()[0].path, ["name"]);
/// ```
#[derive(Debug, Clone)]
pub struct Valid<T>(pub T);

impl<T: DeserializeOwned + garde::Validate<Context = ()>> Arg for Valid<T> {
    fn from_args(args: &mut ArgCursor<'_>) -> Result<Self, LiveError> {
        let (_, json) = args.take();
        let text = json.map_or("null", |json| json.as_str());
        let mut reader = serde_json::Deserializer::from_str(text);
        let value: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let place = split_path(&error.path().to_string());
            LiveError::validation(vec![Issue::new(place, describe(error.inner()))])
        })?;
        match value.validate() {
            Ok(()) => Ok(Self(value)),
            Err(report) => Err(LiveError::validation(
                report
                    .iter()
                    .map(|(path, error)| Issue::new(split_path(&path.to_string()), error.message()))
                    .collect(),
            )),
        }
    }
}

/// `tags[0].name` as `tags`, `0`, `name`; `.` stands for the whole value.
fn split_path(path: &str) -> Vec<String> {
    path.split(['.', '[', ']'])
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn args(json: &str) -> Args {
        Args::from_list(RawJsonRef::parse_str(json).unwrap())
    }

    #[derive(Debug, Deserialize, garde::Validate)]
    struct Item {
        #[garde(length(min = 1, max = 10))]
        name: String,
        #[garde(inner(length(max = 3)))]
        tags: Vec<String>,
    }

    fn issues<T: Arg>(json: &str) -> Vec<Issue> {
        let args = args(json);
        let error = T::from_args(&mut args.cursor()).err().expect("refused");
        assert_eq!(error.code(), crate::code::VALIDATION);
        error.issues().to_vec()
    }

    #[test]
    fn parameters_are_read_by_position() {
        let args = args(r#"[1, "two", null]"#);
        let mut cursor = args.cursor();
        assert_eq!(u8::from_args(&mut cursor).unwrap(), 1);
        assert_eq!(String::from_args(&mut cursor).unwrap(), "two");
        assert_eq!(Option::<u8>::from_args(&mut cursor).unwrap(), None);
        assert_eq!(
            Option::<u8>::from_args(&mut cursor).unwrap(),
            None,
            "absent"
        );
        let missing = u8::from_args(&mut cursor).unwrap_err();
        assert_eq!(missing.issues()[0].path, ["4"]);
        assert!(missing.issues()[0].message.contains("missing"), "{missing}");
    }

    #[test]
    fn what_does_not_fit_is_named_without_a_place_in_the_text() {
        let found = issues::<u8>(r#"["x"]"#);
        assert_eq!(found[0].path, ["0"]);
        assert!(found[0].message.starts_with("argument 1: "), "{found:?}");
        assert!(!found[0].message.contains("line"), "{found:?}");
    }

    #[test]
    fn rest_takes_what_is_left_as_it_is() {
        let args = args(r#"[1, 1e400, "\ud800"]"#);
        let mut cursor = args.cursor();
        u8::from_args(&mut cursor).unwrap();
        let Rest(rest) = Rest::from_args(&mut cursor).unwrap();
        let texts: Vec<&str> = rest.iter().map(RawJson::as_str).collect();
        assert_eq!(texts, ["1e400", r#""\ud800""#]);
    }

    #[test]
    fn validation_reports_every_field_and_where() {
        let found = issues::<Valid<Item>>(r#"[{"name":"", "tags":["ok","long"]}]"#);
        let paths: Vec<String> = found.iter().map(|issue| issue.path.join("/")).collect();
        assert_eq!(paths, ["name", "tags/1"]);
        let found = issues::<Valid<Item>>(r#"[{"name":"x", "tags":["ok",5]}]"#);
        assert_eq!(found[0].path, ["tags", "1"]);
        let found = issues::<Valid<Item>>("[7]");
        assert!(found[0].path.is_empty(), "{found:?}");
    }

    #[test]
    fn what_is_no_list_counts_as_no_arguments() {
        let object = RawJsonRef::parse_str("{}").unwrap();
        assert_eq!(Args::from_list(object).iter().count(), 0);
        assert_eq!(Args::NONE.get(0).map(|json| json.as_str()), None);
    }
}
