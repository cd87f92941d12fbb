//! The id of a request: the client's if it is harmless, else a fresh one.

use http::{HeaderMap, HeaderName};

use crate::peer::RequestId;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
const LENGTH_MAX: usize = 128;

/// Takes `X-Request-ID`, trimmed, when it is 1 to 128 characters of 0x21 to 0x7E.
pub(crate) fn request_id(headers: &HeaderMap) -> RequestId {
    let given = headers
        .get(HEADER)
        .map(|value| value.as_bytes().trim_ascii());
    given.and_then(acceptable).unwrap_or_else(RequestId::fresh)
}

fn acceptable(text: &[u8]) -> Option<RequestId> {
    let fits = (1..=LENGTH_MAX).contains(&text.len());
    if !fits || !text.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    std::str::from_utf8(text)
        .ok()
        .map(|text| RequestId::Given(text.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(value: &[u8]) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value).expect("header"));
        request_id(&headers)
    }

    #[test]
    fn acceptable_ids_are_kept_and_others_replaced() {
        assert_eq!(of(b" req-1 ").to_string(), "req-1");
        assert_eq!(of(&[b'x'; 128]).to_string().len(), 128);
        for bad in [&[b'x'; 129][..], b"a b", b"", b"   ", b"\xc3\xa9", b"a\tb"] {
            let text = of(bad).to_string();
            assert_eq!(text.len(), 36, "{bad:?} gave {text}");
        }
        assert!(matches!(request_id(&HeaderMap::new()), RequestId::Made(_)));
    }
}
