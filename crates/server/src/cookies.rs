//! Cookies in both directions: parsing what a browser sent, and building `Set-Cookie` lines.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The cookies of a request, and those to set with the response.
///
/// ```
/// use millstream_server::{CookieJar, CookieOptions, SameSite};
/// use std::time::Duration;
///
/// let mut jar = CookieJar::default();
/// let options = CookieOptions::new()
///     .path("/")
///     .max_age(Duration::from_secs(60))
///     .http_only()
///     .same_site(SameSite::Strict);
/// jar.set("session", "a b", &options)?;
/// assert_eq!(jar.lines().next(), Some("session=a%20b; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"));
/// # Ok::<(), millstream_server::CookieError>(())
/// ```
#[derive(Debug, Default)]
pub struct CookieJar {
    received: HashMap<String, String>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    name: String,
    path: Option<String>,
    domain: Option<String>,
    line: String,
}

impl CookieJar {
    /// The jar of a request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        Self {
            received: parse(headers),
            changes: Vec::new(),
        }
    }

    /// The value of a cookie that came with the request.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.received.get(name).map(String::as_str)
    }

    /// All cookies that came with the request.
    #[must_use]
    pub fn all(&self) -> &HashMap<String, String> {
        &self.received
    }

    /// Sets a cookie. A later call for the same name, path and domain replaces an earlier one.
    ///
    /// # Errors
    /// [`CookieError`] when name, value, path or domain hold characters that would break the line.
    pub fn set(
        &mut self,
        name: &str,
        value: &str,
        options: &CookieOptions,
    ) -> Result<(), CookieError> {
        let line = serialise(name, value, options)?;
        self.changes.retain(|old| {
            old.name != name || old.path != options.path || old.domain != options.domain
        });
        self.changes.push(Change {
            name: name.into(),
            path: options.path.clone(),
            domain: options.domain.clone(),
            line,
        });
        Ok(())
    }

    /// Tells the browser to forget a cookie; path and domain must be those it was set with.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn delete(&mut self, name: &str, options: &CookieOptions) -> Result<(), CookieError> {
        let gone = CookieOptions {
            expires: Some(UNIX_EPOCH),
            max_age: Some(Duration::ZERO),
            ..options.clone()
        };
        self.set(name, "", &gone)
    }

    /// The `Set-Cookie` values, in the order of the calls.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().map(|change| change.line.as_str())
    }

    pub(crate) fn header_values(&self) -> impl Iterator<Item = HeaderValue> {
        self.lines()
            .filter_map(|line| HeaderValue::from_str(line).ok())
    }
}

/// Attributes of a cookie. Nothing is set by default, not even the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CookieOptions {
    domain: Option<String>,
    path: Option<String>,
    expires: Option<SystemTime>,
    max_age: Option<Duration>,
    http_only: bool,
    secure: bool,
    partitioned: bool,
    same_site: Option<SameSite>,
    raw: bool,
}

impl CookieOptions {
    /// No attributes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `Domain`.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// `Path`.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// `Expires`. Prefer [`max_age`](Self::max_age), which does not depend on clocks agreeing.
    #[must_use]
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// `Max-Age`, in whole seconds, rounded down.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// `HttpOnly`: scripts cannot read it.
    #[must_use]
    pub fn http_only(mut self) -> Self {
        self.http_only = true;
        self
    }

    /// `Secure`: only over TLS.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// `Partitioned`.
    #[must_use]
    pub fn partitioned(mut self) -> Self {
        self.partitioned = true;
        self
    }

    /// `SameSite`.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self
    }

    /// Writes the value as it is instead of percent-encoding it.
    #[must_use]
    pub fn raw_value(mut self) -> Self {
        self.raw = true;
        self
    }
}

/// The `SameSite` attribute. Complete by definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Sent with top-level navigations from other sites too.
    Lax,
    /// Always sent; browsers want `Secure` with it.
    None,
    /// Only sent by pages of the same site.
    Strict,
}

/// Why a cookie cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The domain holds `,`, `;`, white space or a control character.
    #[error("the cookie domain holds a comma, semicolon, space or control character")]
    BadDomain,
    /// The name is empty, or holds white space, a control character or one of `"(),/:;<=>?@[\]{}`.
    #[error("the cookie name is empty or holds a character that is not allowed")]
    BadName,
    /// The path holds `,`, `;`, white space or a control character.
    #[error("the cookie path holds a comma, semicolon, space or control character")]
    BadPath,
    /// The unencoded value holds `,`, `;`, white space or a control character.
    #[error("the cookie value holds a comma, semicolon, space or control character")]
    BadValue,
}

/// Cookies of a request: unquoted, percent-decoded, the last of duplicates.
pub(crate) fn parse(headers: &HeaderMap) -> HashMap<String, String> {
    let mut cookies = HashMap::new();
    for header in headers.get_all(COOKIE) {
        let text = String::from_utf8_lossy(header.as_bytes());
        for pair in text.split(';') {
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let value = value.trim();
            let value = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(value);
            cookies.insert(name.trim().to_owned(), decode(value));
        }
    }
    cookies
}

/// Percent-decodes the way `decodeURIComponent` does: a malformed text stays as it is.
fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let well_formed = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| {
            bytes
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        });
    if !well_formed {
        return value.to_owned();
    }
    percent_decode_str(value)
        .decode_utf8()
        .map_or_else(|_| value.to_owned(), std::borrow::Cow::into_owned)
}

/// What `encodeURIComponent` leaves alone.
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

fn serialise(name: &str, value: &str, options: &CookieOptions) -> Result<String, CookieError> {
    let forbidden =
        |c: char| c.is_whitespace() || c.is_control() || "\"(),/:;<=>?@[\\]{}".contains(c);
    if name.is_empty() || !name.is_ascii() || name.contains(forbidden) {
        return Err(CookieError::BadName);
    }
    let mut line = format!("{name}=");
    if options.raw {
        line.push_str(attribute(value, CookieError::BadValue)?);
    } else {
        line.extend(utf8_percent_encode(value, ENCODE));
    }
    if let Some(domain) = &options.domain {
        line.push_str("; Domain=");
        line.push_str(attribute(domain, CookieError::BadDomain)?);
    }
    if let Some(path) = &options.path {
        line.push_str("; Path=");
        line.push_str(attribute(path, CookieError::BadPath)?);
    }
    if let Some(at) = options.expires {
        line.push_str("; Expires=");
        line.push_str(&http_date(at));
    }
    if let Some(age) = options.max_age {
        line.push_str(&format!("; Max-Age={}", age.as_secs()));
    }
    for (on, text) in [
        (options.http_only, "; HttpOnly"),
        (options.secure, "; Secure"),
        (options.partitioned, "; Partitioned"),
    ] {
        line.push_str(if on { text } else { "" });
    }
    line.push_str(match options.same_site {
        Some(SameSite::Strict) => "; SameSite=Strict",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::None) => "; SameSite=None",
        None => "",
    });
    Ok(line)
}

fn attribute(text: &str, error: CookieError) -> Result<&str, CookieError> {
    let bad = |c: char| c == ',' || c == ';' || c.is_whitespace() || c.is_control();
    if text.contains(bad) {
        Err(error)
    } else {
        Ok(text)
    }
}

/// The date format of HTTP, such as `Thu, 01 Jan 1970 00:00:00 GMT`. Years 1970 to 9999.
fn http_date(at: SystemTime) -> String {
    const LAST: u64 = 253_402_300_799; // end of the year 9999
    let seconds = at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
        .min(LAST);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count: years begin in March so that the leap day is the last one.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let month = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ][(month - 1) as usize];
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(
            COOKIE,
            HeaderValue::from_bytes(text.as_bytes()).expect("header"),
        );
        let mut pairs: Vec<_> = parse(&headers).into_iter().collect();
        pairs.sort();
        pairs
    }

    #[test]
    fn request_cookies_are_read_as_specified() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("a=1; b=2", &[("a", "1"), ("b", "2")]),
            ("a= 1 ;b =2", &[("a", "1"), ("b", "2")]),
            ("q=\"x y\"", &[("q", "x y")]),
            ("q=\"half", &[("q", "\"half")]),
            (
                "pct=%20z; bad=%zz; cut=%2",
                &[("bad", "%zz"), ("cut", "%2"), ("pct", " z")],
            ),
            ("utf=%ff", &[("utf", "%ff")]),
            ("dup=1; dup=2", &[("dup", "2")]),
            ("nope; a=b=c", &[("a", "b=c")]),
            ("__proto__=x", &[("__proto__", "x")]),
            ("", &[]),
        ];
        for (text, want) in cases {
            let want: Vec<_> = want
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            assert_eq!(parsed(text), want, "{text}");
        }
    }

    #[test]
    fn attributes_come_in_the_specified_order() {
        let mut jar = CookieJar::default();
        let options = CookieOptions::new()
            .same_site(SameSite::None)
            .partitioned()
            .secure()
            .http_only()
            .max_age(Duration::from_millis(1_999))
            .expires(UNIX_EPOCH + Duration::from_secs(951_782_400))
            .path("/p")
            .domain("a.example");
        jar.set("n", "v;é", &options).expect("cookie");
        assert_eq!(
            jar.lines().collect::<Vec<_>>(),
            [
                "n=v%3B%C3%A9; Domain=a.example; Path=/p; Expires=Tue, 29 Feb 2000 00:00:00 GMT; \
              Max-Age=1; HttpOnly; Secure; Partitioned; SameSite=None"
            ]
        );
    }

    #[test]
    fn delete_empties_and_expires() {
        let mut jar = CookieJar::default();
        jar.delete("n", &CookieOptions::new().path("/"))
            .expect("cookie");
        assert_eq!(
            jar.lines().collect::<Vec<_>>(),
            ["n=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0"]
        );
    }

    #[test]
    fn the_same_name_path_and_domain_replaces() {
        let mut jar = CookieJar::default();
        let root = CookieOptions::new().path("/");
        jar.set("n", "1", &root).expect("cookie");
        jar.set("n", "2", &CookieOptions::new().path("/x"))
            .expect("cookie");
        jar.set("n", "3", &root).expect("cookie");
        assert_eq!(
            jar.lines().collect::<Vec<_>>(),
            ["n=2; Path=/x", "n=3; Path=/"]
        );
    }

    #[test]
    fn what_would_break_the_line_is_refused() {
        let mut jar = CookieJar::default();
        let plain = CookieOptions::new();
        for name in ["", "a b", "a;b", "a=b", "a\n", "[x]", "ä"] {
            assert_eq!(
                jar.set(name, "v", &plain),
                Err(CookieError::BadName),
                "{name:?}"
            );
        }
        let raw = CookieOptions::new().raw_value();
        for value in ["a;b", "a,b", "a b", "a\r\nx: y"] {
            assert_eq!(jar.set("n", value, &raw), Err(CookieError::BadValue));
        }
        assert_eq!(
            jar.set("n", "v", &plain.clone().path("/;x")),
            Err(CookieError::BadPath)
        );
        assert_eq!(
            jar.set("n", "v", &plain.domain("a b")),
            Err(CookieError::BadDomain)
        );
        assert_eq!(jar.lines().count(), 0);
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        let at = |s| http_date(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(68_169_599), "Mon, 28 Feb 1972 23:59:59 GMT");
        assert_eq!(at(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(at(u64::MAX / 4), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
