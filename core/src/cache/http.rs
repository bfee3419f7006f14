//! What HTTP says about storing and reusing answers, for a private cache (RFC 9111). Asked for
//! by `respect_headers`; otherwise the status decides and the settings say the rest.
//!
//! Stricter than the RFC in places where that costs little: only successes, permanent redirects
//! and "there is none" are stored; an answer that arrives stale is kept to be revalidated and
//! never served; one of a key's variants (`Vary`) is kept at a time, the others having their own
//! keys only for headers that `vary` in the settings names.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AGE, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE,
    CONTENT_TYPE, DATE, ETAG, EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    VARY,
};
use http::{HeaderMap, HeaderName, Method, Uri};

use super::answer::{Answer, hop_by_hop};
use super::control::Control;
use super::entry::Put;
use super::{Fill, Key, Settings, Wants};
use crate::config::field::WEEK;
use crate::time::Wall;

/// Most headers that a response may vary by.
pub const MOST_VARY: usize = 16;

/// What a request says about cached answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it wants of one.
    pub wants: Wants,
    /// It wants none: skip the lookup.
    pub no_cache: bool,
    /// Its answer must not be stored.
    pub no_store: bool,
    /// It must not be sent: without an answer in the cache the caller gets a 504.
    pub only_if_cached: bool,
}

/// Reads the headers of a request; without `respect_headers` they say nothing.
#[must_use]
pub fn asked(request: &HeaderMap, settings: &Settings) -> Asked {
    let control = if settings.respect { Control::of(request) } else { Control::default() };
    let span = |seconds: Option<u64>| seconds.map(Duration::from_secs);
    Asked {
        wants: Wants {
            max_age: span(control.max_age),
            min_fresh: span(control.min_fresh).unwrap_or(Duration::ZERO),
            max_stale: span(control.max_stale),
        },
        no_cache: control.no_cache,
        no_store: control.no_store,
        only_if_cached: control.only_if_cached,
    }
}

/// One exchange, as far as caching is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// Method of the request.
    pub method: &'a Method,
    /// Headers of the request.
    pub request: &'a HeaderMap,
    /// When the response arrived.
    pub at: Wall,
    /// How long it took.
    pub took: Duration,
}

/// What is to become of a response: to be handed to [`super::Store::fill`]. The second part says
/// whether the second level may have it as well.
#[must_use]
pub fn judge(exchange: &Exchange<'_>, answer: Answer, settings: &Settings) -> (Fill<Answer>, bool) {
    let negative = matches!(answer.status, 404 | 410);
    let storable = matches!(answer.status, 200..=205 | 207..=299) || negative;
    if !settings.respect {
        if !storable {
            return (Fill::Failed, false);
        }
        let weight = answer.weight();
        let put = Put::new(answer, weight);
        return (if negative { Fill::Absent(put) } else { Fill::Found(put) }, true);
    }
    if !(storable || matches!(answer.status, 301 | 308)) {
        return (Fill::Failed, false);
    }
    respectful(exchange, answer, negative, settings)
}

fn respectful(
    exchange: &Exchange<'_>,
    mut answer: Answer,
    negative: bool,
    settings: &Settings,
) -> (Fill<Answer>, bool) {
    let control = Control::of(&answer.headers);
    let method = matches!(*exchange.method, Method::GET | Method::HEAD);
    let no_store = control.no_store || Control::of(exchange.request).no_store;
    let Some(vary) = vary(exchange.request, &answer.headers).filter(|_| method && !no_store) else {
        return (Fill::Unstorable, false);
    };
    answer.vary = vary;
    let age = age(exchange, &answer.headers);
    let lifetime = lifetime(&control, &answer.headers);
    // Without a word from the peer, the configured time; "there is none" never longer than that.
    let set = Duration::from_nanos(if negative { settings.negative_ttl } else { settings.ttl });
    let lifetime = match lifetime {
        Some(lifetime) if negative => lifetime.min(set),
        Some(lifetime) => lifetime.min(WEEK),
        None => set,
    };
    let left = if control.no_cache { Duration::ZERO } else { lifetime.saturating_sub(age) };
    let validators =
        answer.headers.contains_key(ETAG) || answer.headers.contains_key(LAST_MODIFIED);
    let span = |seconds: Option<u64>| seconds.map(|s| Duration::from_secs(s).min(WEEK));
    let put = Put {
        ttl: Some(left),
        age,
        revalidate: span(control.stale_while_revalidate),
        on_error: span(control.stale_if_error),
        keep: Duration::from_nanos(if validators { settings.keep } else { 0 }),
        // One that arrives stale has been so for longer than is known here.
        strict: control.must_revalidate || left.is_zero(),
        ..Put::new((), answer.weight())
    };
    let anybody = control.public || control.must_revalidate;
    let shared = !control.private && (anybody || !exchange.request.contains_key(AUTHORIZATION));
    let put = put.with(answer);
    (if negative { Fill::Absent(put) } else { Fill::Found(put) }, shared)
}

/// The digests of what the response varies by; `None` when no later request can be known to fit.
fn vary(request: &HeaderMap, response: &HeaderMap) -> Option<Vec<(HeaderName, Key)>> {
    let mut found = Vec::new();
    for value in response.get_all(VARY) {
        for name in value.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| name != "*")?;
            if found.len() >= MOST_VARY {
                return None;
            }
            let values = Key::values(request, name.as_str());
            found.push((name, values));
        }
    }
    Some(found)
}

/// Whether `answer` is one to this request (RFC 9111 §4.1): hand it to
/// [`super::Store::lookup_if`].
#[must_use]
pub fn fits(answer: &Answer, request: &HeaderMap) -> bool {
    answer.vary.iter().all(|(name, values)| Key::values(request, name.as_str()) == *values)
}

/// A date in a header.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let date = httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// How long it is fresh, if it says so (RFC 9111 §4.2.1).
fn lifetime(control: &Control, headers: &HeaderMap) -> Option<Duration> {
    if let Some(seconds) = control.max_age {
        return Some(Duration::from_secs(seconds));
    }
    headers.contains_key(EXPIRES).then(|| {
        // A date that cannot be read, like the usual "0", has passed. Without a date of its own
        // to measure against, likewise: clocks differ.
        let expires = date(headers, &EXPIRES).unwrap_or(0);
        let made = date(headers, &DATE).unwrap_or(u64::MAX);
        Duration::from_secs(expires.saturating_sub(made))
    })
}

/// Its age on arrival (RFC 9111 §4.2.3).
fn age(exchange: &Exchange<'_>, headers: &HeaderMap) -> Duration {
    let made = date(headers, &DATE).unwrap_or(exchange.at.0);
    let apparent = Duration::from_secs(exchange.at.0.saturating_sub(made));
    let told = headers.get(AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let told = Duration::from_secs(u64::min(told.unwrap_or(0), 1 << 31));
    // It was as old when the peer began to answer, at worst when it was asked.
    let corrected = told.saturating_add(exchange.took);
    apparent.max(corrected)
}

/// Adds to a request what asks whether `kept` still holds. Leaves the conditions of the caller
/// alone.
pub fn ask(kept: &Answer, request: &mut HeaderMap) {
    if request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE) {
        return;
    }
    if let Some(etag) = kept.headers.get(ETAG) {
        request.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = kept.headers.get(LAST_MODIFIED) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// What `kept` has become by a 304 with these headers (RFC 9111 §3.2): they replace what is
/// kept, but for those that describe the body, which did not come. `None` when the 304 is about
/// another version: ask again without conditions.
#[must_use]
pub fn refreshed(kept: &Answer, with: &HeaderMap) -> Option<Answer> {
    if let (Some(own), Some(other)) = (kept.headers.get(ETAG), with.get(ETAG))
        && weak(own.as_bytes()) != weak(other.as_bytes())
    {
        return None;
    }
    let about_the_body = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE];
    let mut answer = kept.clone();
    // An age that is not told again is none.
    answer.headers.remove(AGE);
    for name in with.keys().filter(|name| !about_the_body.contains(name) && !hop_by_hop(name)) {
        answer.headers.remove(name);
        for value in with.get_all(name) {
            answer.headers.append(name.clone(), value.clone());
        }
    }
    Some(answer)
}

fn weak(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// What entries of a service are about: for [`Put::scope`] and [`super::Target::Path`].
#[must_use]
pub fn scope(service: &str, path: &str) -> Arc<str> {
    format!("{service}{path}").into()
}

/// The paths that an exchange outdates (RFC 9111 §4.4): that of an unsafe request that was not an
/// error, and those on the same host that its answer names.
#[must_use]
pub fn outdated(method: &Method, uri: &Uri, status: u16, response: &HeaderMap) -> Vec<String> {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if safe || !(200..400).contains(&status) {
        return Vec::new();
    }
    let mut paths = vec![uri.path().to_owned()];
    for name in [LOCATION, CONTENT_LOCATION] {
        let value = response.get(name).and_then(|value| value.to_str().ok());
        // Two slashes begin with a host, which a parser of request targets does not see.
        let value = value.filter(|value| !value.starts_with("//"));
        let Some(other) = value.and_then(|value| value.parse::<Uri>().ok()) else { continue };
        let here = other.authority().is_none() || other.authority() == uri.authority();
        if here && other.path().starts_with('/') && !paths.iter().any(|path| path == other.path()) {
            paths.push(other.path().to_owned());
        }
    }
    paths
}
