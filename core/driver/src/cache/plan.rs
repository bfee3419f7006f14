//! Before a call: whether the cache has anything to do with a request, and what is there for it.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, COOKIE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, PROXY_AUTHORIZATION, RANGE,
};
use http::{HeaderMap, Method, StatusCode};
use origin_core::cache::answer::Record;
use origin_core::cache::http::{asked, fits};
use origin_core::cache::{Answer, Key, Label, Lookup, Progress, Reason, Settings, Turn, Wants};
use origin_core::{Report, Request, Response, Time};

use super::lease::{Lease, Place};
use super::second::Errand;
use super::settle::plain;
use crate::flight::Flight;
use crate::hub::lock;
use crate::runtime::Runtime;

/// Headers that are about this one answer: the caller deals with it, not the cache.
const CONDITIONS: [http::HeaderName; 6] =
    [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
/// Headers that say who asks: what one is answered is not for another.
const WHO: [http::HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// A request that may be answered from the cache, and whose answer may be stored.
pub(crate) struct Plan {
    pub(super) key: Key,
    wants: Wants,
    /// No lookup, and nothing remembered if the call fails.
    pub(super) skip: bool,
    only_if_cached: bool,
    pub(super) settings: Arc<Settings>,
}

impl Plan {
    /// `None`: the cache has nothing to do with this request.
    pub(crate) fn of<R: Runtime>(flight: &Flight<R>) -> Option<Plan> {
        let (slot, request) = (&flight.slot, &flight.request);
        let settings = slot.memory.settings();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let wish = request.wish.as_deref();
        let asked_for = wish.is_some_and(|wish| wish.cached);
        let by_headers = settings.respects_headers() && reads;
        let own_conditions = CONDITIONS.iter().any(|name| request.headers.contains_key(name));
        if settings.is_off() || !(asked_for || by_headers) || own_conditions {
            return None;
        }
        let key = match wish.and_then(|wish| wish.key) {
            Some(key) => key,
            None => key(&slot.name, request, &settings),
        };
        let asked = asked(&request.headers, &settings);
        Some(Plan {
            key,
            wants: asked.wants,
            skip: asked.no_cache || wish.is_some_and(|wish| wish.skip),
            only_if_cached: asked.only_if_cached,
            settings,
        })
    }
}

/// The key of a plain request. Whoever asks, by a token or a cookie, is part of it.
fn key(service: &str, request: &Request, settings: &Settings) -> Key {
    let (method, headers, body) = (&request.method, &request.headers, &*request.body);
    let path = request.path.as_str();
    if headers.is_empty() {
        return Key::http(service, method, path, headers, settings.vary(), body);
    }
    let sensitive = headers.iter().filter(|(_, value)| value.is_sensitive());
    let who = WHO.iter().filter(|name| headers.contains_key(*name));
    let mut vary: Vec<&str> = settings.vary().iter().map(|name| &**name).collect();
    vary.extend(sensitive.map(|(name, _)| name.as_str()).chain(who.map(|name| name.as_str())));
    vary.sort_unstable();
    vary.dedup();
    Key::http(service, method, path, headers, &vary, body)
}

/// What is to be done for a request.
#[allow(clippy::large_enum_variant)] // taken apart at once
pub(crate) enum Look<R: Runtime> {
    /// This is the answer.
    Answer(Response),
    /// So is this, and a new one is to be fetched besides.
    Renew(Response, Lease<R>),
    /// Fetch it.
    Fetch(Lease<R>),
    /// Somebody fetches it: wait, then [`Plan::waited`].
    Wait(Place),
}

impl Plan {
    pub(crate) fn look<R: Runtime>(&self, flight: &mut Flight<R>) -> Look<R> {
        let until = flight.deadline();
        let slot = flight.slot.clone();
        let now = flight.hub.runtime.now();
        let mut store = lock(&slot.memory.store);
        if self.skip {
            return Look::Fetch(Lease::new(flight, self.key, store.skip()));
        }
        let fit = |answer: &Answer| fits(answer, &flight.request.headers);
        let found = match store.lookup_if(now, &self.key, until, &self.wants, fit, &self.settings) {
            Lookup::Fresh(answer, label) => Ok((answer.clone(), label, None)),
            Lookup::Stale(answer, label, ticket) => Ok((answer.clone(), label, ticket)),
            Lookup::Miss(turn) => Err(turn),
        };
        drop(store);
        match found {
            Ok((answer, label, ticket)) => {
                let response = flight.remembered(now, answer, label);
                match ticket {
                    Some(ticket) => Look::Renew(response, Lease::new(flight, self.key, ticket)),
                    None => Look::Answer(response),
                }
            }
            Err(turn) => {
                let look = match turn {
                    Turn::Lead(ticket) => Look::Fetch(Lease::new(flight, self.key, ticket)),
                    Turn::Join(join) => Look::Wait(Place::new(slot, join)),
                };
                // Of the second level the leader hears, see `heard`.
                let hopeless = !matches!(look, Look::Fetch(_)) || !self.is_shared(flight);
                if self.only_if_cached && hopeless {
                    return Look::Answer(flight.not_cached(now));
                }
                look
            }
        }
    }

    /// After waiting; `None`: look again. `Waiting` means that this caller's time is over.
    pub(crate) fn waited<R: Runtime>(
        &self,
        flight: &mut Flight<R>,
        progress: Progress,
    ) -> Option<Look<R>> {
        let slot = flight.slot.clone();
        let now = flight.hub.runtime.now();
        let mut store = lock(&slot.memory.store);
        let headers = &flight.request.headers;
        let found = match progress {
            Progress::Gone => return None,
            Progress::Failed => None,
            Progress::Stored => store
                .peek(now, &self.key, &self.settings)
                .filter(|(answer, _)| fits(answer, headers)),
            Progress::Waiting(_) => {
                let fit = |answer: &Answer| fits(answer, headers);
                let reason = Reason::DeadlineDying;
                store.on_failure_if(now, &self.key, reason, fit, &self.settings)
            }
        };
        if let Some((answer, label)) = found.map(|(answer, label)| (answer.clone(), label)) {
            drop(store);
            return Some(Look::Answer(flight.remembered(now, answer, label)));
        }
        // Waiting for the next one is no use: this caller asks for itself.
        Some(Look::Fetch(Lease::new(flight, self.key, store.skip())))
    }

    fn is_shared<R: Runtime>(&self, flight: &Flight<R>) -> bool {
        !self.skip && self.settings.is_shared() && flight.hub.second.is_some()
    }

    /// What is to be asked of the second level, if it is.
    pub(crate) fn errand<R: Runtime>(&self, flight: &Flight<R>) -> Option<Errand<R>> {
        if !self.is_shared(flight) {
            return None;
        }
        Errand::new(&flight.hub, &self.key, flight.deadline(), &self.settings)
    }

    /// Takes what the second level has. What is fresh is the answer, and is kept here from now
    /// on; what is not may serve if the call fails.
    pub(crate) fn heard<R: Runtime>(
        &self,
        flight: &mut Flight<R>,
        lease: &mut Lease<R>,
        found: Option<Record>,
    ) -> Option<Response> {
        let (now, wall) = (flight.hub.runtime.now(), flight.hub.runtime.wall());
        if let Some(record) = found.filter(|found| fits(&found.answer, &flight.request.headers)) {
            if let Some((fill, label)) = record.fresh(wall, &self.wants) {
                lease.fill(fill);
                return Some(flight.remembered(now, record.answer, label));
            }
            lease.spare = Some(record);
        }
        (self.only_if_cached && !self.skip).then(|| flight.not_cached(now))
    }
}

impl<R: Runtime> Flight<R> {
    /// An answer without a call.
    pub(super) fn remembered(&mut self, now: Time, answer: Answer, label: Label) -> Response {
        let report = Report { cache: Some(label), ..self.unmade(now) };
        Response { report, ..plain(answer) }
    }

    /// The answer to `only-if-cached` (RFC 9111 §5.2.1.7).
    fn not_cached(&mut self, now: Time) -> Response {
        let (headers, body) = (HeaderMap::new(), bytes::Bytes::new());
        Response {
            status: StatusCode::GATEWAY_TIMEOUT,
            headers,
            body,
            trailers: None,
            report: self.unmade(now),
        }
    }
}
