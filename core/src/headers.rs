//! The response headers that decide something: `Retry-After`, `Cache-Control`, `ETag`.
//! Anything unreadable counts as absent.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, ETAG, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use crate::outcome::Pushback;
use crate::policy::backoff::{self, Advice};
use crate::policy::retryable::Retryable;
use crate::time::Wall;

/// `Retry-After` in either form: seconds, or an HTTP date measured against `wall`.
/// Negative, unreadable or repeated with different values: as if absent.
#[must_use]
pub fn pushback(headers: &HeaderMap, wall: Wall) -> Pushback {
    let mut values = headers.get_all(RETRY_AFTER).iter();
    let Some(value) = values.next() else { return Pushback::NONE };
    if values.any(|other| other != value) {
        return Pushback::NONE;
    }
    let Ok(text) = value.to_str() else { return Pushback::NONE };
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Pushback::after(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok();
    match date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok()) {
        Some(at) => Pushback::after(Duration::from_secs(at.as_secs().saturating_sub(wall.0))),
        None => Pushback::NONE,
    }
}

/// What an answer says about trying again: `Retry-After`, `grpc-retry-pushback-ms`, or the header
/// that says "overloaded, do not retry". Meant for answers of 400 and above.
#[must_use]
pub fn advice(
    headers: &HeaderMap,
    wall: Wall,
    retryable: &Retryable,
    backoff: &backoff::Settings,
) -> Pushback {
    if retryable.no_retry(headers, Advice::Silent).is_some() {
        return Pushback::FORBIDDEN;
    }
    if headers.contains_key(GRPC_PUSHBACK) {
        let values = headers.get_all(GRPC_PUSHBACK).iter().map(HeaderValue::as_bytes);
        return match Advice::grpc(values) {
            Advice::Silent => Pushback::NONE,
            Advice::After(span) => Pushback::after(span),
            Advice::Forbidden(_) => Pushback::FORBIDDEN,
        };
    }
    match pushback(headers, wall) {
        // Taken at its word, what cannot be read forbids.
        Pushback::NONE if backoff.exact() && headers.contains_key(RETRY_AFTER) => {
            Pushback::FORBIDDEN
        }
        pushback => pushback,
    }
}

const GRPC_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How long a response is fresh by `Cache-Control`, less its `Age`. `no-store`, `no-cache` and
/// `max-age=0` are zero; `None` when the header says nothing.
#[must_use]
pub fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut fresh = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.to_str().unwrap_or("").split(',') {
            let directive = directive.trim();
            if directive.eq_ignore_ascii_case("no-store")
                || directive.eq_ignore_ascii_case("no-cache")
            {
                return Some(Duration::ZERO);
            }
            if let Some((name, seconds)) = directive.split_once('=')
                && name.eq_ignore_ascii_case("max-age")
            {
                fresh = fresh
                    .or_else(|| seconds.trim_matches('"').parse().ok().map(Duration::from_secs));
            }
        }
    }
    let age = headers.get(AGE).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    fresh.map(|fresh| fresh.saturating_sub(Duration::from_secs(age.unwrap_or(0))))
}

/// The validator to send back as `If-None-Match`; at most 1 KiB.
#[must_use]
pub fn etag(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(ETAG)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= 1024).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn after(values: &[&str], wall: u64) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
        }
        pushback(&headers, Wall(wall)).span().map(|s| s.as_secs())
    }

    #[test]
    fn retry_after_in_both_forms() {
        assert_eq!(after(&["3"], 0), Some(3));
        assert_eq!(after(&["Thu, 01 Jan 1970 00:00:10 GMT"], 4), Some(6));
        assert_eq!(after(&["Thu, 01 Jan 1970 00:00:10 GMT"], 40), Some(0));
        assert_eq!(after(&["3", "3"], 0), Some(3));
        for nonsense in [&["-3"][..], &["soon"], &[""], &["3", "4"], &[], &["1.5"]] {
            assert_eq!(after(nonsense, 0), None, "{nonsense:?}");
        }
        assert!(after(&["99999999999999999999"], 0).is_some_and(|s| s < 5_000_000));
    }

    #[test]
    fn cache_control() {
        let age = |control: &str, age: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_str(control).unwrap());
            headers.insert(AGE, HeaderValue::from_str(age).unwrap());
            max_age(&headers).map(|s| s.as_secs())
        };
        assert_eq!(age("public, max-age=300", "0"), Some(300));
        assert_eq!(age("Max-Age=\"300\"", "20"), Some(280));
        assert_eq!(age("no-cache, max-age=300", "0"), Some(0));
        assert_eq!(age("max-age=x", "0"), None);
        assert_eq!(age("private", "0"), None);
    }

    proptest! {
        #[test]
        fn any_value_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                for name in [RETRY_AFTER, CACHE_CONTROL, AGE, ETAG] {
                    headers.append(name, value.clone());
                }
                let _ = (pushback(&headers, Wall(1)), max_age(&headers), etag(&headers));
            }
        }
    }
}
