//! Remembered answers around one call, without the waiting, which each loop does in its own way:
//! look up, fetch on behalf of others or wait for them, store, and fall back on what is remembered
//! when the call fails. What may be served and when is decided in [`origin_core::cache`].
//!
//! Nothing of this is on the way of a call to a service without a cache but one flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use event_listener::Event;
use http::header::{
    AUTHORIZATION, COOKIE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, PROXY_AUTHORIZATION, RANGE,
};
use http::{HeaderMap, Method, StatusCode, Uri};
use origin_core::cache::http::{ask, asked, fits, judge, outdated, refreshed, scope};
use origin_core::cache::{
    Answer, Fill, Join, Key, Label, Lookup, MoreStats, Progress, Reason, Settings, Stats, Store,
    Target, Ticket, Turn, Wants,
};
use origin_core::{Config, ConfigError, Error, Report, Request, Response, Time};

use crate::flight::Flight;
use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;

/// Places that are swept with the lock held.
const SWEPT_AT_ONCE: u32 = 256;
/// Headers that are about this one answer: the caller deals with it, not the cache.
const CONDITIONS: [http::HeaderName; 6] =
    [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
/// Headers that say who asks: what one is answered is not for another.
const WHO: [http::HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// Refuses caches that cannot be built yet.
pub(crate) fn possible(config: &Config) -> Result<(), ConfigError> {
    let own = config.services.iter().map(|(name, service)| {
        (format!("services.{name}.cache.shared.enabled"), service.cache.as_ref())
    });
    for (field, cache) in own.chain([("cache.shared.enabled".to_owned(), config.cache.as_ref())]) {
        if cache.is_some_and(|cache| cache.enabled && cache.shared.enabled) {
            return Err(ConfigError::new(field, "the second level is not connected yet"));
        }
    }
    Ok(())
}

/// What is remembered of the answers of one service.
pub(crate) struct Memory {
    /// Whether anything is.
    on: AtomicBool,
    settings: RwLock<Arc<Settings>>,
    store: Mutex<Store<Key, Answer>>,
    /// Notified when one for whom others wait is back.
    filled: Event,
}

impl Memory {
    pub(crate) fn new(now: Time, seed: u64, settings: Settings) -> Memory {
        Memory {
            on: (!settings.is_off()).into(),
            store: Mutex::new(Store::new(now, seed, &settings)),
            settings: RwLock::new(Arc::new(settings)),
            filled: Event::new(),
        }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Applies other settings.
    pub(crate) fn retune(&self, now: Time, settings: Settings) {
        let mut present = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        lock(&self.store).retune(now, &settings);
        self.on.store(!settings.is_off(), Ordering::Relaxed);
        *present = Arc::new(settings);
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        let settings = self.settings();
        lock(&self.store).stats(&settings)
    }

    pub(crate) fn more_stats(&self) -> MoreStats {
        let settings = self.settings();
        lock(&self.store).more_stats(&settings)
    }

    pub(crate) fn clear(&self) {
        lock(&self.store).clear();
    }

    /// Forgets what is meant; paths are those of `service`.
    pub(crate) fn invalidate(&self, service: &str, target: Target<Key>) -> u32 {
        let target = match target {
            Target::Path(path) => Target::Path(scope(service, &path)),
            Target::Prefix(path) => Target::Prefix(scope(service, &path)),
            other => other,
        };
        lock(&self.store).invalidate(target)
    }

    /// Removes dead entries if that is due, in pieces. Returns when it is due again.
    fn sweep(&self, now: Time) -> Time {
        if !self.is_on() {
            return Time::NEVER;
        }
        let settings = self.settings();
        loop {
            let mut store = lock(&self.store);
            let next = store.next_cleanup();
            if next > now {
                return next;
            }
            if !store.sweep(now, SWEPT_AT_ONCE, &settings).more {
                return store.next_cleanup();
            }
        }
    }
}

impl<R: Runtime> Hub<R> {
    /// Removes dead entries of all services where that is due. Returns when to come again.
    pub(crate) fn sweep(&self, now: Time) -> Time {
        let mut next = Time::NEVER;
        self.each_slot(|slot| next = next.min(slot.memory.sweep(now)));
        next
    }
}

/// A request that may be answered from the cache, and whose answer may be stored.
pub(crate) struct Plan {
    key: Key,
    wants: Wants,
    /// No lookup, and nothing remembered if the call fails.
    skip: bool,
    only_if_cached: bool,
    settings: Arc<Settings>,
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

/// The right to fetch on behalf of others. Dropped, it says that nothing came of it.
pub(crate) struct Lease<R: Runtime> {
    runtime: Arc<R>,
    slot: Arc<Slot>,
    key: Key,
    ticket: Option<Ticket>,
}

impl<R: Runtime> Lease<R> {
    fn new(flight: &Flight<R>, key: Key, ticket: Ticket) -> Lease<R> {
        let (runtime, slot) = (flight.hub.runtime.clone(), flight.slot.clone());
        Lease { runtime, slot, key, ticket: Some(ticket) }
    }

    fn fill(&mut self, fill: Fill<Answer>) {
        let Some(ticket) = self.ticket.take() else { return };
        let memory = &self.slot.memory;
        // Those in force, should the cache have been switched off meanwhile.
        let settings = memory.settings();
        let now = self.runtime.now();
        let filled = lock(&memory.store).fill(now, &self.key, &ticket, fill, &settings);
        if filled.waiting > 0 {
            memory.filled.notify(usize::MAX);
        }
    }
}

impl<R: Runtime> Drop for Lease<R> {
    fn drop(&mut self) {
        self.fill(Fill::Failed);
    }
}

/// A place among those who wait for somebody else's answer, given up when dropped.
pub(crate) struct Place {
    slot: Arc<Slot>,
    join: Option<Join>,
}

impl Place {
    /// To listen to before asking for [`Place::progress`].
    pub(crate) fn filled(&self) -> &Event {
        &self.slot.memory.filled
    }

    pub(crate) fn progress(&mut self, now: Time) -> Progress {
        let Some(join) = &self.join else { return Progress::Gone };
        let progress = lock(&self.slot.memory.store).progress(now, join);
        if !matches!(progress, Progress::Waiting(_)) {
            self.join = None;
        }
        progress
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(join) = self.join.take() {
            lock(&self.slot.memory.store).leave(&join);
        }
    }
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

/// What came of a fetch.
#[allow(clippy::large_enum_variant)] // taken apart at once
pub(crate) enum Settled {
    Done(Result<Response, Error>),
    /// What was kept is of no use: [`Flight::again`], without conditions.
    Again,
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
                    Turn::Join(join) => Look::Wait(Place { slot, join: Some(join) }),
                };
                if self.only_if_cached {
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

    /// What is kept and can be asked about; the request then asks.
    pub(crate) fn conditions<R: Runtime>(&self, flight: &mut Flight<R>) -> Option<Answer> {
        if self.skip {
            return None;
        }
        let store = lock(&flight.slot.memory.store);
        let kept = store.kept(&self.key).filter(|kept| {
            let validators = [ETAG, LAST_MODIFIED];
            validators.iter().any(|name| kept.headers.contains_key(name))
                && fits(kept, &flight.request.headers)
        });
        let kept = kept.cloned()?;
        drop(store);
        ask(&kept, &mut flight.request.headers);
        Some(kept)
    }

    /// Stores what the call brought and says what the caller gets: that, or what is remembered.
    pub(crate) fn settle<R: Runtime>(
        &self,
        flight: &mut Flight<R>,
        lease: &mut Lease<R>,
        kept: Option<Answer>,
        result: Result<Response, Error>,
    ) -> Settled {
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                lease.fill(Fill::Failed);
                let instead = self.instead(flight, Reason::instead_of(&error));
                let Some((answer, label)) = instead else { return Settled::Done(Err(error)) };
                let mut response = flight.remembered(flight.hub.runtime.now(), answer, label);
                if let Some(failure) = error.failure() {
                    response.report.attempts.clone_from(&failure.report.attempts);
                }
                return Settled::Done(Ok(response));
            }
        };
        if let Some(kept) = kept {
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
                flight.request.headers.remove(name);
            }
            if response.status == StatusCode::NOT_MODIFIED {
                let Some(answer) = refreshed(&kept, &response.headers) else {
                    flight.again(response.report);
                    return Settled::Again;
                };
                response = Response { report: response.report, ..plain(answer) };
            }
        }
        let answer =
            Answer::new(response.status.as_u16(), &response.headers, response.body.clone());
        lease.fill(self.judge(flight, &response.report, answer));
        if response.status.is_server_error()
            && let Some((answer, label)) = self.instead(flight, &[Reason::Error])
        {
            let report = Report { cache: Some(label), ..response.report };
            response = Response { report, ..plain(answer) };
        }
        Settled::Done(Ok(response))
    }

    fn judge<R: Runtime>(
        &self,
        flight: &Flight<R>,
        report: &Report,
        answer: Answer,
    ) -> Fill<Answer> {
        let request = &flight.request;
        let wish = request.wish.as_deref();
        // A key of its own says that it only reads, whatever its method.
        let reads = wish.is_some_and(|wish| wish.key.is_some());
        let exchange = origin_core::cache::http::Exchange {
            method: if reads { &Method::GET } else { &request.method },
            request: &request.headers,
            at: flight.hub.runtime.wall(),
            took: report.attempts.last().map_or(report.elapsed, |attempt| attempt.took),
        };
        let (mut fill, _) = judge(&exchange, answer, &self.settings);
        let found = matches!(fill, Fill::Found(_));
        if let Fill::Found(put) | Fill::Absent(put) = &mut fill {
            put.scope = Some(scope(&flight.slot.name, request.path.path()));
            if let Some(wish) = wish {
                put.tags.clone_from(&wish.tags);
                if let Some(ttl) = wish.ttl.filter(|_| found) {
                    put.ttl = Some(put.ttl.map_or(ttl, |said| said.min(ttl)));
                }
            }
        }
        fill
    }

    /// What may be served for one of these reasons; the first that allows it counts.
    fn instead<R: Runtime>(
        &self,
        flight: &Flight<R>,
        reasons: &[Reason],
    ) -> Option<(Answer, Label)> {
        if self.skip {
            return None;
        }
        let now = flight.hub.runtime.now();
        let mut store = lock(&flight.slot.memory.store);
        reasons.iter().find_map(|reason| {
            let fit = |answer: &Answer| fits(answer, &flight.request.headers);
            let found = store.on_failure_if(now, &self.key, *reason, fit, &self.settings);
            found.map(|(answer, label)| (answer.clone(), label))
        })
    }
}

/// A response without a report.
fn plain(answer: Answer) -> Response {
    Response {
        status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK),
        headers: answer.headers,
        body: answer.body,
        report: Report::default(),
    }
}

impl<R: Runtime> Flight<R> {
    /// An answer without a call.
    fn remembered(&mut self, now: Time, answer: Answer, label: Label) -> Response {
        let report = Report { cache: Some(label), ..self.unmade(now) };
        Response { report, ..plain(answer) }
    }

    /// The answer to `only-if-cached` (RFC 9111 §5.2.1.7).
    fn not_cached(&mut self, now: Time) -> Response {
        let (headers, body) = (HeaderMap::new(), bytes::Bytes::new());
        Response { status: StatusCode::GATEWAY_TIMEOUT, headers, body, report: self.unmade(now) }
    }

    /// Forgets what this exchange has outdated: an unsafe request that succeeded.
    pub(crate) fn outdate(&self, status: StatusCode, headers: &HeaderMap) {
        let (memory, request) = (&self.slot.memory, &self.request);
        // One with a key of its own only reads.
        let reads = request.wish.as_deref().is_some_and(|wish| wish.key.is_some());
        if reads || !memory.is_on() {
            return;
        }
        let uri = Uri::from(request.path.clone());
        for path in outdated(&request.method, &uri, status.as_u16(), headers) {
            memory.invalidate(&self.slot.name, Target::Path(path.into()));
        }
    }
}
