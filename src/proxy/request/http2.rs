//! An HTTP/2 request's head, made what the same request's would be in HTTP/1.1 (RFC 9113 §8).
//!
//! What identifies a request must not depend on the protocol that it came by: a retry may come by the other. h2 has refused
//! connection fields, upper case, line ends and NUL in values, pseudo-fields that are missing, doubled or late, and lengths
//! that differ.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderValue};
use http::request::Parts;

use crate::proxy::problem::BadRequest;

/// Makes the head one of HTTP/1.1: a `Host`, one line of cookies, one length.
///
/// # Errors
///
/// [`BadRequest`] if a value begins or ends with white space, which HTTP/1.1 would take away (RFC 9113 §8.2.1).
pub(super) fn downgrade(parts: &mut Parts) -> Result<(), BadRequest> {
    if let Some((name, _)) = parts.headers.iter().find(|(_, value)| is_padded(value)) {
        return Err(BadRequest::PaddedValue(name.to_string()));
    }
    if let Some(authority) = parts.uri.authority()
        && !parts.headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    // Doubled by equal ones at most.
    if let Some(length) = parts.headers.get(CONTENT_LENGTH).cloned() {
        parts.headers.insert(CONTENT_LENGTH, length);
    }
    join_cookies(parts);
    Ok(())
}

fn is_padded(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// RFC 9113 §8.2.3: cookies may come in several lines, and in HTTP/1.1 stand in one.
fn join_cookies(parts: &mut Parts) {
    let lines: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if lines.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..]))
    {
        parts.headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn downgraded(uri: &str, lines: &[(&str, &str)]) -> Result<Parts, BadRequest> {
        let request =
            lines.iter().fold(Request::post(uri), |request, (name, value)| request.header(*name, *value));
        let mut parts = request.body(()).unwrap().into_parts().0;
        downgrade(&mut parts).map(|()| parts)
    }

    #[test]
    fn the_authority_is_the_host_unless_there_is_one() {
        let parts = downgraded("https://api.example.com:8443/v1", &[]).unwrap();
        assert_eq!(parts.headers[HOST], "api.example.com:8443");
        let parts = downgraded("https://api.example.com/v1", &[("host", "other.example.com")]).unwrap();
        assert_eq!(parts.headers[HOST], "other.example.com");
        assert!(!downgraded("/v1", &[]).unwrap().headers.contains_key(HOST));
    }

    #[test]
    fn cookies_become_one_line_in_their_order_and_equal_lengths_one() {
        let lines =
            [("cookie", "a=1"), ("content-length", "3"), ("cookie", "b=2; c=3"), ("content-length", "3")];
        let parts = downgraded("/v1", &lines).unwrap();
        let values = |name| parts.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values(COOKIE), ["a=1; b=2; c=3"]);
        assert_eq!(values(CONTENT_LENGTH), ["3"]);
    }

    #[test]
    fn a_value_that_http1_would_change_is_refused() {
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let refused = downgraded("/v1", &[("x-a", value)]).unwrap_err();
            assert!(matches!(refused, BadRequest::PaddedValue(name) if name == "x-a"), "{value:?}");
        }
        downgraded("/v1", &[("x-a", "a b"), ("x-b", "")]).unwrap();
    }
}
