//! Requests of the user's own: a handle on a service, and a builder for one request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use origin_core::cache::second::Counts;
use origin_core::cache::{Invalidated, Key, MoreStats, Stats, Target, Wish};
use origin_core::policy::balance::hash;
use origin_core::policy::queue::Priority;
use origin_core::rng::Pcg32;
use origin_core::service::Order;
use origin_core::trace::TraceContext;
use origin_core::{Correlation, Error, Request, Response};
use serde::Serialize;

use crate::cache::Second;
use crate::hub::{Hub, Slot};
use crate::observe::carried::Carried;
use crate::response::Streaming;
use crate::runtime::{Runtime, Warmed};

/// A handle on one service.
pub struct Upstream<R: Runtime> {
    hub: Arc<Hub<R>>,
    slot: Arc<Slot>,
}

impl<R: Runtime> Clone for Upstream<R> {
    fn clone(&self) -> Self {
        Upstream { hub: self.hub.clone(), slot: self.slot.clone() }
    }
}

impl<R: Runtime> fmt::Debug for Upstream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.slot.name)
    }
}

impl<R: Runtime> Upstream<R> {
    pub(crate) fn new(hub: Arc<Hub<R>>, slot: Arc<Slot>) -> Upstream<R> {
        Upstream { hub, slot }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.slot.name
    }

    /// A request. `path` begins with `/` and is put below the endpoint's base path; a query may
    /// follow, already encoded.
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder<R> {
        let parsed = match path.as_bytes().first() {
            Some(b'/') => path
                .parse::<PathAndQuery>()
                .map_err(|_| "the path is not valid; percent-encode it".to_owned()),
            _ => Err("the path must begin with '/'".to_owned()),
        };
        let (path, mistake) = match parsed {
            Ok(path) => (path, None),
            Err(mistake) => (PathAndQuery::from_static("/"), Some(mistake)),
        };
        let upstream = self.clone();
        RequestBuilder { upstream, request: Request::new(method, path), mistake, carried: None }
    }

    /// Gives an order to the breakers of the endpoints at `address`; returns how many there are.
    pub fn order(&self, address: &str, order: Order) -> usize {
        let now = self.hub.runtime.now();
        let mut service = crate::hub::lock(&self.slot.service);
        let endpoints: Vec<_> = service.endpoints_at(address).collect();
        let given = endpoints.into_iter().filter(|id| service.order(now, *id, order)).count();
        self.slot.told(&mut service, &self.hub.news);
        drop(service);
        self.hub.speak();
        given
    }

    /// Gives an order to the breaker of the service as a whole (`service_breaker`).
    pub fn order_service(&self, order: Order) {
        let now = self.hub.runtime.now();
        crate::hub::lock(&self.slot.service).order_service(now, order);
        self.hub.speak();
    }

    /// Forgets where the service runs, in memory, in Redis and in the snapshot, in every datacenter
    /// and with every tag, and asks its sources anew. Calls wait for their answer; sources that are
    /// about all services (a document, a file) are asked anew as well, and what they have said is
    /// used meanwhile. Redis is told by the background or by the next call; until then nothing of
    /// it is believed. Does nothing to configured endpoints.
    pub fn rediscover(&self) {
        self.hub.rediscover(&self.slot.name);
    }

    /// What its cache counts, by the names that clients of OnexTree know.
    #[must_use]
    pub fn cache_stats(&self) -> Stats {
        self.slot.memory.stats()
    }

    /// Everything else that its cache counts.
    #[must_use]
    pub fn cache_more_stats(&self) -> MoreStats {
        self.slot.memory.more_stats()
    }

    /// What the second level in Redis counts, for all services of the client; `None` without one.
    #[must_use]
    pub fn shared_cache_stats(&self) -> Option<Counts> {
        self.hub.second.as_ref().map(Second::counts)
    }

    /// Empties its cache and counts from zero. Answers on their way are not stored. In this
    /// program that is done at once; the reply is there when it is done in Redis, too, or Redis
    /// turned out to be away ([`Purged::Later`]). An async client need not await it.
    ///
    /// [`Purged::Later`]: origin_core::cache::Purged::Later
    #[must_use = "a blocking client has an answer, an async one may wait for it"]
    pub fn clear_cache(&self) -> R::Reply<Invalidated> {
        self.hub.forgotten(&self.slot, self.hub.forget_all(&self.slot))
    }

    /// Removes remembered answers by key, tag, path or beginning of a path, the paths as requests
    /// have them; answers on their way that are meant are not stored. In Redis, where tags are not
    /// of one service, those of the others go as well. What is done when, and what the reply says,
    /// is as with [`Upstream::clear_cache`].
    #[must_use = "a blocking client has an answer, an async one may wait for it"]
    pub fn invalidate(&self, target: Target<Key>) -> R::Reply<Invalidated> {
        self.hub.forgotten(&self.slot, self.hub.forget(&self.slot, target))
    }

    /// Fetches what will be asked for anyway, `at_once` requests at a time, and remembers the
    /// answers, as if each said [`RequestBuilder::cached`]. What is remembered already is not
    /// asked for again. Failures are counted and not repeated; without a cache nothing is sent.
    pub fn warm(&self, requests: Vec<RequestBuilder<R>>, at_once: u32) -> R::Reply<Warmed> {
        let requests = requests.into_iter().map(|request| {
            let mut request = request.cached();
            let ours = Arc::ptr_eq(&request.upstream.slot, &self.slot);
            let sound = ours && self.slot.memory.is_on() && request.checked().is_ok();
            sound.then_some(request.request)
        });
        R::warm(self.hub.clone(), self.slot.clone(), requests.collect(), at_once)
    }

    /// A `GET`.
    #[must_use]
    pub fn get(&self, path: &str) -> RequestBuilder<R> {
        self.request(Method::GET, path)
    }

    /// A `HEAD`.
    #[must_use]
    pub fn head(&self, path: &str) -> RequestBuilder<R> {
        self.request(Method::HEAD, path)
    }

    /// A `POST`. Not repeated once it may have left, unless marked idempotent.
    #[must_use]
    pub fn post(&self, path: &str) -> RequestBuilder<R> {
        self.request(Method::POST, path)
    }

    /// A `PUT`.
    #[must_use]
    pub fn put(&self, path: &str) -> RequestBuilder<R> {
        self.request(Method::PUT, path)
    }

    /// A `PATCH`. Not repeated once it may have left, unless marked idempotent.
    #[must_use]
    pub fn patch(&self, path: &str) -> RequestBuilder<R> {
        self.request(Method::PATCH, path)
    }

    /// A `DELETE`.
    #[must_use]
    pub fn delete(&self, path: &str) -> RequestBuilder<R> {
        self.request(Method::DELETE, path)
    }
}

/// One request being put together. A mistake on the way shows when it is sent, as
/// [`Error::Request`].
pub struct RequestBuilder<R: Runtime> {
    upstream: Upstream<R>,
    request: Request,
    mistake: Option<String>,
    pub(crate) carried: Option<Carried<R>>,
}

impl<R: Runtime> fmt::Debug for RequestBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.upstream, self.request)
    }
}

impl<R: Runtime> RequestBuilder<R> {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                self.request.headers.append(name, value);
            }
            (Err(_), _) => self.fault(format!("{:?} is not a header name", short(name))),
            // Not the value: it may be a secret.
            (_, Err(_)) => {
                self.fault(format!("the value of header {:?} is not valid", short(name)))
            }
        }
        self
    }

    /// Adds query parameters, percent-encoded.
    #[must_use]
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        let mut text = self.request.path.as_str().to_owned();
        for (name, value) in pairs {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(&origin_core::ops::encode_query(name));
            text.push('=');
            text.push_str(&origin_core::ops::encode_query(value));
        }
        match text.parse() {
            Ok(path) => self.request.path = path,
            Err(_) => self.fault("the query is too long".to_owned()),
        }
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.request.body = body.into();
        self
    }

    /// Sets the body to `value` as JSON, with its content type.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => {
                self.request.body = body.into();
                self.request
                    .headers
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            Err(_) => self.fault("the body cannot be written as JSON".to_owned()),
        }
        self
    }

    /// Deadline of this call, instead of the policy's.
    #[must_use]
    pub fn timeout(mut self, total: Duration) -> Self {
        self.request.spec.total = Some(total);
        self
    }

    /// Limit of each attempt of this call, instead of the policy's.
    #[must_use]
    pub fn attempt_timeout(mut self, attempt: Duration) -> Self {
        self.request.spec.attempt = Some(attempt);
        self
    }

    /// Says whether repeating this request is safe, where the method does not tell.
    #[must_use]
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.request.spec.idempotent = Some(idempotent);
        self
    }

    /// Attempts of this call in all, instead of the policy's: 1 means no retry. 1–16.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        match u8::try_from(attempts) {
            Ok(attempts @ 1..=16) => self.request.spec.max_attempts = attempts,
            _ => self.fault(format!("max_attempts of {attempts} is outside 1–16")),
        }
        self
    }

    /// No second attempt beside a slow first one, whatever the policy says.
    #[must_use]
    pub fn no_hedge(mut self) -> Self {
        self.request.spec.no_hedge = true;
        self
    }

    /// How much this call matters when not all can be let in. Default normal.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.request.spec.priority = priority;
        self
    }

    /// Calls with the same key go to the same endpoint, while it is well and not overloaded, if
    /// the balancer of the service is `ring` or `rendezvous`.
    #[must_use]
    pub fn affinity(mut self, key: &str) -> Self {
        self.request.spec.affinity = hash::of(key.as_bytes()).max(1);
        self
    }

    /// Only endpoints of this route (`balance.routes`).
    #[must_use]
    pub fn route(mut self, name: &str) -> Self {
        let route = crate::hub::lock(&self.upstream.slot.service).rules().routes.find(name);
        match route {
            Some(route) => self.request.spec.route = route,
            None => self.fault(format!("there is no route {:?}", short(name))),
        }
        self
    }

    /// Puts this call under a named profile of the service's policies (`profiles` in the
    /// configuration).
    #[must_use]
    pub fn profile(mut self, name: &str) -> Self {
        let number = crate::hub::lock(&self.upstream.slot.service).profile_number(name);
        match number {
            Some(number) => self.request.spec.profile = number,
            None => self.fault(format!("there is no profile {:?}", short(name))),
        }
        self
    }

    /// Sends an `Idempotency-Key`, the same with every attempt, and so makes repeating the request
    /// safe for a server that honours it. `None`: a key is made, 128 random bits.
    #[must_use]
    pub fn idempotency_key(mut self, key: Option<&str>) -> Self {
        let made;
        let key = match key {
            Some(key) => key,
            None => {
                let hub = &self.upstream.hub;
                // A stream of its own: the call's jitter must not tell its key.
                let mut rng = Pcg32::new(!hub.seed, hub.call_number());
                let mut bits = || u64::from(rng.bits()) << 32 | u64::from(rng.bits());
                made = format!("{:016x}{:016x}", bits(), bits());
                &made
            }
        };
        self.request.spec.idempotent = Some(true);
        self.header("idempotency-key", key)
    }

    /// The id of what this call belongs to: sent with every attempt and told in the report. Without
    /// one an id is made. 1 to 128 visible ASCII characters.
    #[must_use]
    pub fn correlation(mut self, id: &str) -> Self {
        match Correlation::new(id) {
            Ok(id) => self.request.correlation = Some(id),
            Err(error) => self.fault(error.to_string()),
        }
        self
    }

    /// In which trace this call stands, as an incoming request said it: attempts say that they
    /// belong there, each as a span of its own, unless `propagate.trace` is off. Without one the
    /// source of the client is asked ([`Builder::trace_source`](crate::Builder::trace_source)).
    #[must_use]
    pub fn trace(mut self, context: TraceContext) -> Self {
        self.request.trace = Some(Box::new(context));
        self
    }

    /// Largest response body of this call in bytes, instead of `limits.body`.
    #[must_use]
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.request.max_body = Some(bytes);
        self
    }

    fn wish(&mut self) -> &mut Wish {
        self.request.wish.get_or_insert_default()
    }

    /// The answer may be remembered, and a remembered one is as good: for `GET` and `HEAD`; other
    /// methods need a [`RequestBuilder::cache_key`]. Does nothing where the service has no cache
    /// (`cache` in the configuration). Requests with conditions or a `Range` are never answered
    /// from it, and streamed answers are not remembered.
    #[must_use]
    pub fn cached(mut self) -> Self {
        self.wish().cached = true;
        self
    }

    /// The same for a request that only reads, whatever its method: its key is the operation and
    /// its parameters, in whatever order they are written. Nothing else of the request is part
    /// of the key: if who asks matters, it has to be a parameter.
    #[must_use]
    pub fn cache_key(mut self, operation: &str, parameters: &serde_json::Value) -> Self {
        let operation = format!("{}/{operation}", self.upstream.slot.name);
        let fields = match parameters {
            serde_json::Value::Object(fields) => Some(fields),
            serde_json::Value::Null => None,
            _ => {
                self.fault("the parameters of a cache key must be a JSON object".to_owned());
                return self;
            }
        };
        let fields = fields.into_iter().flatten().map(|(name, value)| (name.as_str(), value));
        match Key::operation(&operation, fields) {
            Ok(key) => {
                let wish = self.wish();
                (wish.cached, wish.key) = (true, Some(key));
            }
            Err(error) => self.fault(error.to_string()),
        }
        self
    }

    /// `false`: asks the service, whatever is remembered; a fresh answer is remembered all the
    /// same.
    #[must_use]
    pub fn use_cache(mut self, yes: bool) -> Self {
        self.wish().skip = !yes;
        self
    }

    /// Tags of the answer, by which it can be invalidated: [`Target::Tag`]. At most 16; an
    /// answer with more is not remembered.
    #[must_use]
    pub fn cache_tags<'a>(mut self, tags: impl IntoIterator<Item = &'a str>) -> Self {
        self.wish().tags = tags.into_iter().map(Arc::from).collect();
        self
    }

    /// How long the answer is fresh, instead of `cache.ttl`. Where the cache respects headers it
    /// only shortens what the answer says.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        if ttl.is_zero() {
            self.fault("cache_ttl must be longer than zero".to_owned());
        }
        self.wish().ttl = Some(ttl);
        self
    }

    fn fault(&mut self, mistake: String) {
        self.mistake.get_or_insert(mistake);
    }

    fn checked(&mut self) -> Result<(), Error> {
        let service = || self.upstream.slot.name.clone();
        if let Some(reason) = self.mistake.take() {
            return Err(Error::Request { service: service(), reason });
        }
        let reads = matches!(self.request.method, Method::GET | Method::HEAD);
        if !reads
            && self.request.wish.as_ref().is_some_and(|wish| wish.cached && wish.key.is_none())
        {
            let reason = format!("a {} is cached only with a cache_key", self.request.method);
            return Err(Error::Request { service: service(), reason });
        }
        let spec = &self.request.spec;
        for (name, span) in [("timeout", spec.total), ("attempt_timeout", spec.attempt)] {
            if span.is_some_and(|span| span.is_zero()) {
                return Err(Error::Request {
                    service: service(),
                    reason: format!("{name} must be longer than zero"),
                });
            }
        }
        Ok(())
    }

    /// Sends it and collects the response. A body that breaks off half-way is a failed attempt
    /// like any other. Any status that is not repeated is a response, not an error; see
    /// [`Response::ok`].
    pub fn send(mut self) -> R::Reply<Response> {
        if let Err(error) = self.checked() {
            return R::ready(Err(error));
        }
        let Upstream { hub, slot } = self.upstream;
        if let Some(carried) = self.carried {
            carried.apply(&hub, &slot, &mut self.request);
        }
        R::call(hub, slot, self.request)
    }

    /// Sends it and yields the response at its head, the body still to be read. What is read is
    /// not repeated: a body that breaks off is the reader's to handle.
    pub fn send_streaming(mut self) -> R::Reply<Streaming<R::Body>> {
        if let Err(error) = self.checked() {
            return R::ready(Err(error));
        }
        self.request.spec.streamed = true;
        let Upstream { hub, slot } = self.upstream;
        if let Some(carried) = self.carried {
            carried.apply(&hub, &slot, &mut self.request);
        }
        R::stream(hub, slot, self.request)
    }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
