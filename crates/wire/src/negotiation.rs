//! What a client offers in the upgrade request.

/// Most extensions in one header that are looked at.
pub const OFFERS_MAX: usize = 32;

/// The header is not a list of extensions; answer the upgrade with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed Sec-WebSocket-Extensions header")]
pub struct MalformedOffer;

/// What to answer to a `Sec-WebSocket-Extensions` header: always `None`, no extension is spoken.
///
/// Compression is declined by leaving the response header out, whatever parameters were offered;
/// the client then sends plain frames, and a frame with a reserved bit is a
/// [`Violation`](crate::Violation).
///
/// # Errors
/// [`MalformedOffer`] if the header does not follow RFC 6455, 9.1, or offers more than
/// [`OFFERS_MAX`] extensions.
///
/// # Example
/// ```
/// use millstream_wire::negotiation::accept_extensions;
///
/// assert_eq!(accept_extensions("permessage-deflate; client_max_window_bits"), Ok(None));
/// assert!(accept_extensions("permessage-deflate;;").is_err());
/// ```
pub fn accept_extensions(header: &str) -> Result<Option<&'static str>, MalformedOffer> {
    let mut rest = header;
    for _ in 0..OFFERS_MAX {
        rest = skip_offer(rest).ok_or(MalformedOffer)?;
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(None),
            None => return Err(MalformedOffer),
        }
    }
    Err(MalformedOffer)
}

/// The subprotocol to answer with: the first offered one that is in `supported`.
///
/// # Example
/// ```
/// use millstream_wire::negotiation::choose_subprotocol;
///
/// assert_eq!(choose_subprotocol("v2, v1", &["v1"]), Some("v1"));
/// assert_eq!(choose_subprotocol("v2", &["v1"]), None);
/// ```
#[must_use]
pub fn choose_subprotocol<'a>(header: &'a str, supported: &[&str]) -> Option<&'a str> {
    subprotocols(header).find(|offered| supported.contains(offered))
}

/// The first offered subprotocol: what the original server echoes, since browsers fail a
/// connection that does not take any of those they offered.
#[must_use]
pub fn first_subprotocol(header: &str) -> Option<&str> {
    subprotocols(header).next()
}

fn subprotocols(header: &str) -> impl Iterator<Item = &str> {
    header
        .split(',')
        .map(trim)
        .filter(|name| !name.is_empty() && name.bytes().all(is_token_byte))
}

/// `token *( ";" token [ "=" ( token / quoted-string ) ] )`, blanks allowed between.
fn skip_offer(text: &str) -> Option<&str> {
    let mut rest = skip_token(trim_start(text))?;
    while let Some(parameter) = rest.strip_prefix(';') {
        rest = skip_token(trim_start(parameter))?;
        if let Some(value) = rest.strip_prefix('=') {
            let value = trim_start(value);
            rest = match value.strip_prefix('"') {
                Some(quoted) => skip_token(quoted)?.strip_prefix('"').map(trim_start)?,
                None => skip_token(value)?,
            };
        }
    }
    Some(rest)
}

/// Takes a token and the blanks behind it off the front.
fn skip_token(text: &str) -> Option<&str> {
    let end = text
        .bytes()
        .position(|byte| !is_token_byte(byte))
        .unwrap_or(text.len());
    if end == 0 {
        None
    } else {
        text.get(end..).map(trim_start)
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers() {
        for header in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
            "permessage-deflate;server_max_window_bits=99999;client_max_window_bits=\"8\"",
            " a ; b = c , d ",
        ] {
            assert_eq!(accept_extensions(header), Ok(None), "{header}");
        }
        for header in [
            "",
            ",",
            "a,",
            "a;",
            "a=b",
            "a;b=",
            "a;b=\"",
            "a;b=\"\"",
            "a b",
            "a;b=\"c d\"",
        ] {
            assert_eq!(accept_extensions(header), Err(MalformedOffer), "{header}");
        }
        assert!(accept_extensions(&["a"; OFFERS_MAX].join(",")).is_ok());
        assert!(accept_extensions(&["a"; OFFERS_MAX + 1].join(",")).is_err());
    }

    #[test]
    fn protocols() {
        assert_eq!(first_subprotocol(" v2 ,v1"), Some("v2"));
        assert_eq!(first_subprotocol("a b, v1"), Some("v1"));
        assert_eq!(first_subprotocol(""), None);
    }
}
