//! How values of knobs are written: in TOML, in the environment and in flags alike.
//!
//! Each type here reads one text form and turns into the plain type of the
//! [`Config`](super::Config) field. TOML may use numbers, booleans and lists where that is natural.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// Which pages may open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AllowedOrigins {
    /// Any page, and requests without `Origin`.
    Any,
    /// Exactly these origins, compared as text.
    List(Vec<String>),
    /// Pages of this server itself.
    #[default]
    SameOrigin,
}

/// The fixed public origin of the server, such as `https://chat.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedOrigin(String);

impl FixedOrigin {
    /// Reads an absolute http or https URL and keeps its origin.
    ///
    /// # Errors
    /// A text for the operator when it is no such URL.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("not an http or https URL".into());
        }
        Ok(Self(url.origin().ascii_serialization()))
    }

    /// As a browser writes it in `Origin`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// A list of secrets. Neither `Debug` nor `Display` shows them.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<SecretString>);

impl ApiKeys {
    /// From texts.
    pub fn new<S: Into<String>>(keys: impl IntoIterator<Item = S>) -> Self {
        Self(
            keys.into_iter()
                .map(|key| SecretString::from(key.into()))
                .collect(),
        )
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ExposeSecret::expose_secret)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} redacted)", self.0.len())
    }
}

/// How a value reads back in a configuration file. Secrets give a placeholder.
pub(super) trait Show {
    fn show(&self) -> String;
}

macro_rules! show_plain {
    ($($type:ty),*) => { $(impl Show for $type {
        fn show(&self) -> String { self.to_string() }
    })* };
}
show_plain!(bool, u16, u32, u64, usize);

impl Show for f64 {
    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Show for str {
    fn show(&self) -> String {
        toml::Value::from(self).to_string()
    }
}

impl Show for String {
    fn show(&self) -> String {
        self.as_str().show()
    }
}

impl Show for Vec<String> {
    fn show(&self) -> String {
        format!(
            "[{}]",
            self.iter().map(Show::show).collect::<Self>().join(", ")
        )
    }
}

impl Show for std::net::SocketAddr {
    fn show(&self) -> String {
        self.to_string().show()
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        let ms = self.as_millis();
        match ms {
            0 => "0".into(),
            _ if ms.is_multiple_of(1_000) => format!("\"{}s\"", ms / 1_000),
            _ => format!("\"{ms}ms\""),
        }
    }
}

/// The spelling of `None`: `"off"` where a feature is switched off, `"auto"` where it is decided.
macro_rules! show_option {
    ($($type:ty => $none:literal, $show:expr;)*) => { $(impl Show for Option<$type> {
        fn show(&self) -> String {
            let show: fn(&$type) -> String = $show;
            self.as_ref().map_or_else(|| concat!("\"", $none, "\"").into(), show)
        }
    })* };
}
show_option! {
    String => "off", |path| path.show();
    PathBuf => "off", |path| path.display().to_string().show();
    HeaderName => "off", |name| name.as_str().show();
    FixedOrigin => "off", |origin| origin.as_str().show();
    f64 => "off", |ratio| ratio.show();
    u64 => "off", |count| count.show();
    bool => "auto", |on| on.show();
    Vec<String> => "auto", |list| list.show();
}

impl Show for AllowedOrigins {
    fn show(&self) -> String {
        match self {
            Self::Any => "\"*\"".into(),
            Self::SameOrigin => "\"same-origin\"".into(),
            Self::List(list) => list.show(),
        }
    }
}

impl Show for LogFormat {
    fn show(&self) -> String {
        match self {
            Self::Json => "\"json\"".into(),
            Self::Text => "\"text\"".into(),
        }
    }
}

impl Show for ApiKeys {
    fn show(&self) -> String {
        if self.is_empty() {
            "[]".into()
        } else {
            format!("[\"{} redacted\"]", self.0.len())
        }
    }
}

/// A scalar or a list of scalars of a TOML file, as text.
pub(super) enum Raw {
    One(String),
    Many(Vec<String>),
}

impl Raw {
    fn text(self) -> Result<String, String> {
        match self {
            Self::One(text) => Ok(text),
            Self::Many(_) => Err("a list is not allowed here".into()),
        }
    }

    fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => split_list(&text),
            Self::Many(list) => list,
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, number, boolean or list")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
                Ok(Raw::One(text.into()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::One(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::One(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::One(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::One(value.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<String>()? {
                    list.push(item);
                }
                Ok(Raw::Many(list))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A way to write values of type `Plain`: from a text (flag, environment) or from TOML.
macro_rules! written {
    ($(#[$doc:meta])* $name:ident($plain:ty), $shape:literal, text $text:expr, raw $raw:expr;) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(super) struct $name(pub(super) $plain);

        impl $name {
            pub(super) const SHAPE: &'static str = $shape;
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<$plain, String> = $text;
                read(text.trim()).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read: fn(Raw) -> Result<$plain, String> = $raw;
                read(Raw::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident($plain:ty), $shape:literal, text $text:expr;) => {
        written! {
            $(#[$doc])*
            $name($plain), $shape, text $text, raw |raw| {
                let read: fn(&str) -> Result<$plain, String> = $text;
                read(raw.text()?.trim())
            };
        }
    };
}

written! { Flag(bool), "BOOL", text |text| boolean(text); }
written! { Small(u32), "N", text |text| number(text); }
written! { Bytes(usize), "SIZE", text |text| size(text); }
written! { Span(Duration), "TIME", text |text| span(text); }
written! { Text(String), "TEXT", text |text| Ok(text.to_owned()); }
written! { Listen(std::net::SocketAddr), "ADDR:PORT", text |text| listen(text); }
written! { Route(Option<String>), "PATH", text |text| Ok(unless_off(text)); }
written! { File(Option<PathBuf>), "FILE", text |text| Ok(unless_off(text).map(PathBuf::from)); }
written! { Header(Option<HeaderName>), "NAME", text |text| {
    unless_off(text)
        .map(|name| name.parse().map_err(|_| format!("`{name}` is not a header name")))
        .transpose()
}; }
written! { Fixed(Option<FixedOrigin>), "URL", text |text| {
    unless_off(text).map(|url| FixedOrigin::parse(&url)).transpose()
}; }
written! { Switch(Option<bool>), "BOOL", text |text| {
    if text == "auto" { Ok(None) } else { boolean(text).map(Some) }
}; }
written! { Threshold(Option<u64>), "N", text |text| {
    if matches!(text, "off" | "false") { Ok(None) } else { number(text).map(Some) }
}; }
written! { Ratio(Option<f64>), "RATIO", text |text| {
    if matches!(text, "off" | "false") { return Ok(None) }
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio > 0.0 => Ok(Some(ratio)),
        _ => Err(format!("`{text}` is not a number above 0, nor `off`")),
    }
}; }
written! { Format(LogFormat), "FORMAT", text |text| match text {
    "text" => Ok(LogFormat::Text),
    "json" => Ok(LogFormat::Json),
    _ => Err(format!("`{text}` is neither `text` nor `json`")),
}; }
written! { Origins(AllowedOrigins), "ORIGINS",
text |text| Ok(origins(split_list(text))), raw |raw| Ok(origins(raw.list())); }
written! { Patterns(Option<Vec<String>>), "PATTERNS",
text |text| Ok(patterns(split_list(text))), raw |raw| Ok(patterns(raw.list())); }
written! { Keys(ApiKeys), "KEYS",
text |text| Ok(ApiKeys::new(split_list(text))), raw |raw| Ok(ApiKeys::new(raw.list())); }

fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

fn origins(list: Vec<String>) -> AllowedOrigins {
    match list.as_slice() {
        [only] if only == "*" => AllowedOrigins::Any,
        [only] if only == "same-origin" => AllowedOrigins::SameOrigin,
        _ => AllowedOrigins::List(list),
    }
}

fn patterns(list: Vec<String>) -> Option<Vec<String>> {
    (list != ["auto"]).then_some(list)
}

fn unless_off(text: &str) -> Option<String> {
    (!matches!(text, "" | "off" | "false")).then(|| text.to_owned())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let digits = text.replace('_', "");
    digits
        .parse()
        .map_err(|_| format!("`{text}` is not a whole number in range"))
}

fn listen(text: &str) -> Result<std::net::SocketAddr, String> {
    let numeric = text
        .strip_prefix("localhost:")
        .map(|port| format!("127.0.0.1:{port}"));
    numeric
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("`{text}` is not ADDRESS:PORT, such as 127.0.0.1:3000 or [::]:3000"))
}

/// `16384`, `16KiB`, `1MiB`: factors of 1,024.
fn size(text: &str) -> Result<usize, String> {
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of size (use KiB, MiB or GiB)"
            ));
        }
    };
    let count: usize = number(digits.trim())?;
    count
        .checked_mul(factor)
        .ok_or_else(|| format!("`{text}` is too large"))
}

/// `10` (seconds), `1.5`, `250ms`, `10s`, `2m`, `1h`; `0` and `off` are zero.
fn span(text: &str) -> Result<Duration, String> {
    if text == "off" {
        return Ok(Duration::ZERO);
    }
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit_ms = match unit {
        "ms" => 1.0,
        "" | "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of time (use ms, s, m or h)"
            ));
        }
    };
    let wrong = || format!("`{text}` is not a time such as 10, 1.5s, 250ms or 2m");
    let count: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let ms = (count * unit_ms).round();
    if !(0.0..=1e12).contains(&ms) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(ms / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let ms = |text| span(text).map(|time| time.as_millis());
        assert_eq!(ms("10"), Ok(10_000));
        assert_eq!(ms("1.5"), Ok(1_500));
        assert_eq!(ms("250ms"), Ok(250));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("off"), Ok(0));
        for bad in ["", "x", "-1", "1d", "nan", "inf", "1e300"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("16384"), Ok(16_384));
        assert_eq!(size("16KiB"), Ok(16_384));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        for bad in [
            "",
            "KiB",
            "-1",
            "1.5K",
            "1TB",
            "99999999999999999999",
            "99999999999999G",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_never_print() {
        let keys = ApiKeys::new(["hunter2hunter2"]);
        assert!(!format!("{keys:?} {}", keys.show()).contains("hunter2"));
    }

    #[test]
    fn a_fixed_origin_is_reduced_to_its_origin() {
        assert_eq!(
            FixedOrigin::parse("HTTPS://Chat.Example:443/x?y")
                .expect("url")
                .as_str(),
            "https://chat.example"
        );
        assert!(FixedOrigin::parse("ftp://a").is_err());
        assert!(FixedOrigin::parse("chat.example").is_err());
    }
}
