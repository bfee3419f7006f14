//! RFC 9111 by example.

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use bytes::Bytes;
use proptest::prelude::*;

use super::super::http::{Exchange, ask, asked, fits, judge, outdated, refreshed};
use super::*;
use crate::time::Wall;

/// 1994-11-15T08:12:31Z, the date of RFC 9110's examples.
const NOW: Wall = Wall(784_887_151);
const DATE: &str = "Tue, 15 Nov 1994 08:12:31 GMT";
const EARLIER: &str = "Tue, 15 Nov 1994 08:12:01 GMT";
const LATER: &str = "Tue, 15 Nov 1994 08:13:31 GMT";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn respectful() -> Settings {
    settings(|c| c.respect_headers = true)
}

/// Fresh for, age, strict, shared; or what else came of it.
fn judged(
    request: &[(&'static str, &str)],
    status: u16,
    response: &[(&'static str, &str)],
    settings: &Settings,
) -> Result<(Option<u64>, u64, bool, bool), &'static str> {
    let request = headers(request);
    let exchange =
        Exchange { method: &Method::GET, request: &request, at: NOW, took: Duration::ZERO };
    let answer = Answer::new(status, &headers(response), Bytes::from_static(b"body"));
    match judge(&exchange, answer, settings) {
        (Fill::Found(put), shared) => {
            Ok((put.ttl.map(|ttl| ttl.as_secs()), put.age.as_secs(), put.strict, shared))
        }
        (Fill::Absent(_), _) => Err("absent"),
        (Fill::Unstorable, _) => Err("unstorable"),
        (Fill::Failed, _) => Err("failed"),
    }
}

#[test]
fn freshness() {
    let settings = respectful();
    let fresh = |response: &[(&'static str, &str)]| {
        judged(&[], 200, response, &settings).map(|(ttl, age, ..)| (ttl.unwrap(), age))
    };
    assert_eq!(fresh(&[("cache-control", "max-age=60")]), Ok((60, 0)));
    assert_eq!(fresh(&[]), Ok((300, 0)), "nothing said: as set");
    // max-age before Expires; Expires by Date; an unreadable one has passed.
    let both = [("cache-control", "max-age=60"), ("expires", DATE), ("date", DATE)];
    assert_eq!(fresh(&both), Ok((60, 0)));
    assert_eq!(fresh(&[("expires", LATER), ("date", DATE)]), Ok((60, 0)));
    assert_eq!(fresh(&[("expires", "0"), ("date", DATE)]), Ok((0, 0)));
    assert_eq!(fresh(&[("expires", LATER)]), Ok((0, 0)), "no date to measure against");
    assert_eq!(fresh(&[("expires", LATER), ("expires", LATER), ("date", DATE)]), Ok((0, 0)));
    // Age, told or apparent, is part of it: the larger one.
    assert_eq!(fresh(&[("cache-control", "max-age=60"), ("age", "45")]), Ok((15, 45)));
    let old = [("cache-control", "max-age=60"), ("date", EARLIER), ("age", "10")];
    assert_eq!(fresh(&old), Ok((30, 30)));
    assert_eq!(
        fresh(&[("cache-control", "max-age=60"), ("age", "99999999999999999999999")]),
        Ok((60, 0))
    );
    assert_eq!(fresh(&[("cache-control", "max-age=60"), ("age", "soon")]), Ok((60, 0)));
    // A year is a week here.
    assert_eq!(fresh(&[("cache-control", "max-age=31536000")]), Ok((604_800, 0)));
}

#[test]
fn what_may_be_stored() {
    let settings = respectful();
    let store = |request: &[(&'static str, &str)], status, response: &[(&'static str, &str)]| {
        judged(request, status, response, &settings).map(|(.., strict, shared)| (strict, shared))
    };
    assert_eq!(store(&[], 200, &[]), Ok((false, true)));
    assert_eq!(store(&[], 200, &[("cache-control", "no-store")]), Err("unstorable"));
    assert_eq!(store(&[("cache-control", "no-store")], 200, &[]), Err("unstorable"));
    // A private cache stores what is private, but not where others can read it.
    assert_eq!(store(&[], 200, &[("cache-control", "private, max-age=9")]), Ok((false, false)));
    assert_eq!(store(&[("authorization", "x")], 200, &[]), Ok((false, false)));
    let public = [("cache-control", "public, max-age=9")];
    assert_eq!(store(&[("authorization", "x")], 200, &public), Ok((false, true)));
    let strict = [("cache-control", "must-revalidate, max-age=9")];
    assert_eq!(store(&[], 200, &strict), Ok((true, true)));
    // Not without asking: never fresh, never served stale, kept for its validator.
    assert_eq!(
        store(&[], 200, &[("cache-control", "no-cache"), ("etag", "\"a\"")]),
        Ok((true, true))
    );
    for status in [206, 302, 304, 401, 429, 500, 503] {
        assert_eq!(
            store(&[], status, &[("cache-control", "max-age=9")]),
            Err("failed"),
            "{status}"
        );
    }
    assert_eq!(store(&[], 404, &[]), Err("absent"));
    assert_eq!(store(&[], 200, &[("vary", "*")]), Err("unstorable"));
    assert_eq!(store(&[], 200, &[("vary", "accept, *")]), Err("unstorable"));
    assert_eq!(store(&[], 200, &[("vary", "a b")]), Err("unstorable"));
    let request = HeaderMap::new();
    let exchange =
        Exchange { method: &Method::POST, request: &request, at: NOW, took: Duration::ZERO };
    let answer = Answer::new(200, &HeaderMap::new(), Bytes::new());
    assert_eq!(judge(&exchange, answer.clone(), &settings).0, Fill::Unstorable);
    // Not asked to heed headers, none is heeded: the operation knows what it does.
    let plain = Settings::default();
    assert!(matches!(judge(&exchange, answer, &plain).0, Fill::Found(_)));
    assert_eq!(
        judged(&[], 200, &[("cache-control", "no-store")], &plain),
        Ok((None, 0, false, true))
    );
    assert_eq!(judged(&[], 206, &[], &plain), Err("failed"));
}

/// A fetch that took long is as old on arrival, at worst.
#[test]
fn travelling_counts() {
    let request = HeaderMap::new();
    let exchange = Exchange { method: &Method::GET, request: &request, at: NOW, took: secs(4) };
    let answer =
        Answer::new(200, &headers(&[("cache-control", "max-age=9"), ("age", "2")]), Bytes::new());
    let (Fill::Found(put), _) = judge(&exchange, answer, &respectful()) else { panic!() };
    assert_eq!((put.ttl, put.age), (Some(secs(3)), secs(6)));
}

/// "There is none" lives no longer than `negative_ttl`, whatever it says of itself.
#[test]
fn negative_answers_are_short() {
    let settings = settings(|c| (c.respect_headers, c.negative_ttl) = (true, secs(5)));
    let request = HeaderMap::new();
    let exchange =
        Exchange { method: &Method::GET, request: &request, at: NOW, took: Duration::ZERO };
    for (control, seconds) in [("max-age=60", 5), ("max-age=2", 2), ("public", 5)] {
        let answer = Answer::new(404, &headers(&[("cache-control", control)]), Bytes::new());
        let (Fill::Absent(put), _) = judge(&exchange, answer, &settings) else { panic!() };
        assert_eq!(put.ttl, Some(secs(seconds)));
    }
}

#[test]
fn windows_of_the_answer() {
    let request = HeaderMap::new();
    let exchange =
        Exchange { method: &Method::GET, request: &request, at: NOW, took: Duration::ZERO };
    let control = "max-age=600, stale-while-revalidate=30, stale-if-error=1200";
    let answer = Answer::new(200, &headers(&[("cache-control", control)]), Bytes::new());
    let (Fill::Found(put), _) = judge(&exchange, answer, &respectful()) else { panic!() };
    assert_eq!((put.revalidate, put.on_error), (Some(secs(30)), Some(secs(1_200))));
}

#[test]
fn vary() {
    let settings = respectful();
    let german = headers(&[("accept-language", "de")]);
    let exchange =
        Exchange { method: &Method::GET, request: &german, at: NOW, took: Duration::ZERO };
    let answer = Answer::new(200, &headers(&[("vary", "Accept-Language, accept")]), Bytes::new());
    let (Fill::Found(put), _) = judge(&exchange, answer, &settings) else { panic!() };
    let answer = put.value;
    assert!(fits(&answer, &german));
    assert!(!fits(&answer, &headers(&[("accept-language", "en")])));
    assert!(!fits(&answer, &headers(&[])));
    assert!(!fits(&answer, &headers(&[("accept-language", "de"), ("accept", "a/b")])));
    let more = headers(&[("accept-language", "de"), ("x-other", "1")]);
    assert!(fits(&answer, &more), "what it does not vary by does not matter");
}

#[test]
fn revalidation() {
    let kept = Answer::new(
        200,
        &headers(&[
            ("etag", "W/\"a\""),
            ("last-modified", DATE),
            ("age", "9"),
            ("content-length", "4"),
            ("x", "1"),
        ]),
        Bytes::from_static(b"body"),
    );
    let mut request = HeaderMap::new();
    ask(&kept, &mut request);
    assert_eq!(request["if-none-match"], "W/\"a\"");
    assert_eq!(request["if-modified-since"], DATE);
    let mut own = headers(&[("if-none-match", "\"mine\"")]);
    ask(&kept, &mut own);
    assert_eq!(own.len(), 1);
    let with = headers(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=5"),
        ("content-length", "0"),
        ("x", "2"),
        ("connection", "close"),
    ]);
    let answer = refreshed(&kept, &with).unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"body"[..]));
    assert_eq!(
        (&answer.headers["x"], &answer.headers["content-length"]),
        (&HeaderValue::from_static("2"), &HeaderValue::from_static("4"))
    );
    assert!(!answer.headers.contains_key("age") && !answer.headers.contains_key("connection"));
    assert_eq!(refreshed(&kept, &headers(&[("etag", "\"b\"")])), None, "another version");
}

#[test]
fn requests() {
    let of = |control: &str, settings: &Settings| {
        asked(&headers(&[("cache-control", control)]), settings)
    };
    let settings = respectful();
    let both = of("max-age=5, min-fresh=2, only-if-cached", &settings);
    assert_eq!((both.wants.max_age, both.wants.min_fresh), (Some(secs(5)), secs(2)));
    assert!(both.only_if_cached && !both.no_cache);
    assert!(of("no-cache", &settings).no_cache && of("no-store", &settings).no_store);
    assert_eq!(of("max-stale=7", &settings).wants.max_stale, Some(secs(7)));
    let deaf = of("no-cache, no-store, max-age=0", &Settings::default());
    assert_eq!((deaf.wants, deaf.no_cache, deaf.no_store), (Wants::ANY, false, false));
}

/// 001-122, RFC 9111 §4.4: a write outdates its path and what it names on the same host.
#[test]
fn case_001_122_writes_outdate() {
    let uri: Uri = "http://h:1/a/b?q=1".parse().unwrap();
    let named = headers(&[("location", "http://h:1/c"), ("content-location", "/d?x=1")]);
    assert_eq!(outdated(&Method::POST, &uri, 201, &named), ["/a/b", "/c", "/d"]);
    let abroad = headers(&[("location", "http://other/c"), ("content-location", "//other/d")]);
    assert_eq!(outdated(&Method::DELETE, &uri, 303, &abroad), ["/a/b"]);
    for status in [199, 400, 500] {
        assert!(outdated(&Method::PUT, &uri, status, &named).is_empty());
    }
    assert!(outdated(&Method::GET, &uri, 200, &named).is_empty());
}

proptest! {
    /// Any headers are survived, and nothing is fresh for longer than a week.
    #[test]
    fn anything_is_survived(values in proptest::collection::vec((0_usize..8, "[ -~]{0,40}"), 0..12), status in 100_u16..600) {
        let names = ["cache-control", "age", "expires", "date", "vary", "etag", "last-modified", "connection"];
        let mut response = HeaderMap::new();
        for (name, value) in &values {
            response.append(names[*name], HeaderValue::from_str(value).unwrap());
        }
        let exchange = Exchange { method: &Method::GET, request: &response, at: NOW, took: Duration::MAX };
        let answer = Answer::new(status, &response, Bytes::new());
        if let (Fill::Found(put) | Fill::Absent(put), _) = judge(&exchange, answer, &respectful()) {
            prop_assert!(put.ttl.unwrap() <= secs(604_800));
            prop_assert!(fits(&put.value, &response));
        }
    }
}
