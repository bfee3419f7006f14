//! One call in flight: the core's `Call` together with the lock, the trail of attempts, and the
//! guarantee that a dropped call gives back what it holds. Both loops, async and blocking, are
//! written on this.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use origin_core::call::{AttemptId, Choice, Ticket, Why};
use origin_core::error::{Failure, Skipped};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::policy::remaining;
use origin_core::request::{AttemptReport, Ids};
use origin_core::told::Told;
use origin_core::{Action, Call, EndpointId, Error, Event, Report, Request, Time, Verdict};

use crate::hub::{Hub, Slot, lock};
use crate::moves::Moves;
use crate::observe::context::{self, Numbers};
use crate::observe::{Going, Sight};
use crate::runtime::Runtime;

/// What the driver has to do next.
pub(crate) enum Next {
    /// Send the request there and report with [`Flight::finished`]. The place and not the request:
    /// an async loop keeps this over its awaits, and every byte of it is copied per call.
    Send(Shot),
    /// Drop this attempt; then [`Flight::wake`].
    #[cfg_attr(not(feature = "hyper"), allow(dead_code))] // only an async loop can
    Cancel(AttemptId),
    /// Wait for the epoch to move, until then at most; then [`Flight::wake`].
    Park { until: Time, epoch: u64 },
    /// Wait; then [`Flight::wake`]. Attempts that are out stay out.
    WaitUntil(Time),
    /// The last response is the answer.
    Answered(Ticket),
    /// There is none.
    Failed(Error),
}

/// An attempt to be made.
pub(crate) struct Shot {
    pub(crate) attempt: AttemptId,
    /// Where it goes.
    to: Uri,
    /// What the endpoint is told of it.
    told: HeaderMap,
    /// To be given up then.
    pub(crate) until: Time,
    /// If it is still out then, [`Flight::wake`].
    #[cfg_attr(not(feature = "hyper"), allow(dead_code))] // only an async loop can
    pub(crate) wake: Time,
}

/// What an exchange came to: the response (its body in `B`), or why there is none.
pub(crate) type Exchanged<B> = Result<http::Response<B>, (Fault, Sent)>;

pub(crate) struct Flight<R: Runtime> {
    pub(crate) hub: Arc<Hub<R>>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) request: Request,
    call: Call,
    number: u64,
    /// Under which ids it goes, once something was sent.
    ids: Option<Ids>,
    began: Time,
    /// The last reading of the clock: a report made right after a step needs none of its own.
    seen: Time,
    trail: Vec<AttemptReport>,
    current: Option<Current>,
    /// Attempts out beside the current one; hardly ever any.
    others: Vec<Current>,
    over: bool,
    /// What is seen of it from outside.
    sight: Sight,
}

struct Current {
    attempt: AttemptId,
    to: EndpointId,
    why: Choice,
    sent: Time,
    place: Option<(Arc<str>, Arc<str>)>,
}

impl<R: Runtime> Flight<R> {
    pub(crate) fn new(hub: Arc<Hub<R>>, slot: Arc<Slot>, mut request: Request) -> Flight<R> {
        if let Some(name) = request.operation.filter(|_| request.spec.profile == 0) {
            let number = lock(&slot.service).profile_number(name);
            request.spec.profile = number.unwrap_or_default();
        }
        request.spec = request.spec.sending(request.body.len());
        if let Some(carried) = R::carried() {
            carried.apply(&hub, &slot, &mut request);
        }
        let number = hub.call_number();
        let call = Call::new(request.spec, hub.seed, number).abreast(R::ABREAST);
        let (ids, began, seen) = (None, Time::ZERO, Time::ZERO);
        let (trail, current, others, over) = (Vec::new(), None, Vec::new(), false);
        let sight = Sight::default();
        Flight {
            hub,
            slot,
            request,
            call,
            number,
            ids,
            began,
            seen,
            trail,
            current,
            others,
            over,
            sight,
        }
    }

    /// Starts the call's clock, which goes on if it was started before. First of all.
    pub(crate) fn start(&mut self) -> Time {
        let now = self.hub.runtime.now();
        if self.began == Time::ZERO {
            self.began = now;
            self.call = self.call.asked(now);
            self.sight.open(&self.slot.name, &self.request);
        }
        now
    }

    /// Makes the call once more, within the same time. `so_far`: how it went until now.
    pub(crate) fn again(&mut self, so_far: Report) {
        let (spec, hub) = (self.request.spec, &self.hub);
        let call = Call::new(spec, hub.seed, hub.call_number()).abreast(R::ABREAST);
        (self.call, self.trail, self.over) = (call.asked(self.began), so_far.attempts, false);
    }

    /// The report of a call that was not made: it needs none any more.
    pub(crate) fn unmade(&mut self, now: Time) -> Report {
        (self.seen, self.over) = (now, true);
        self.report()
    }

    /// When the call ends at the latest, also before it has begun.
    pub(crate) fn deadline(&self) -> Time {
        match self.call.deadline() {
            Time::NEVER => {
                let total = self.request.spec.total;
                self.began.plus(total.unwrap_or_else(|| lock(&self.slot.service).rules().total))
            }
            at => at,
        }
    }

    /// Largest body to collect.
    pub(crate) fn max_body(&self) -> u64 {
        self.request.max_body.unwrap_or_else(|| self.hub.max_body())
    }

    /// Begins at `now`: the start, unless something was done in between.
    pub(crate) fn begin(&mut self, now: Time) -> Next {
        self.step_at(now, Event::Begin)
    }

    /// Whether attempts carry the service-account token: the service is named, and the caller has
    /// said nothing of who it is.
    pub(crate) fn takes_bearer(&self) -> bool {
        let Request { headers, signer, .. } = &self.request;
        self.slot.bearer && signer.is_none() && !headers.contains_key(AUTHORIZATION)
    }

    /// The request of an attempt.
    pub(crate) fn request(&self, shot: &mut Shot) -> http::Request<Bytes> {
        let (uri, told) = (mem::take(&mut shot.to), mem::take(&mut shot.told));
        let mut request = self.request.to(uri, told);
        if self.takes_bearer()
            && let Some(bearer) = self.hub.bearer()
        {
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        if let Some(signer) = &self.request.signer {
            signer.sign(&mut request, self.hub.runtime.wall());
        }
        if let Some(current) = &self.current
            && let Some(moves) = Moves::of(self, current.to)
        {
            request.extensions_mut().insert(moves);
        }
        request
    }

    pub(crate) fn wake(&mut self) -> Next {
        self.step(Event::Wake)
    }

    /// Reports the end of the attempt that [`Next::Send`] asked for.
    pub(crate) fn finished(&mut self, attempt: AttemptId, outcome: Outcome) -> Next {
        let now = self.hub.runtime.now();
        if let Outcome::Failed { fault: Fault::Tls, .. } = outcome {
            let out = self.current.iter().chain(&self.others);
            for found in out.filter(|current| current.attempt == attempt) {
                self.hub.no_tls(now, &self.slot, found.to);
            }
        }
        self.note(now, attempt, outcome);
        self.step_at(now, Event::Finished(attempt, outcome))
    }

    /// The facts of a response head.
    pub(crate) fn outcome_of(&self, status: StatusCode, headers: &HeaderMap) -> Outcome {
        // Only what went wrong can ask to be tried later; the rest need not know what day it is.
        if status.as_u16() < 400 {
            return Outcome::status(status.as_u16());
        }
        if status == StatusCode::UNAUTHORIZED && self.takes_bearer() {
            self.hub.doubt_bearer();
        }
        let wall = self.hub.runtime.wall();
        lock(&self.slot.service).outcome(status.as_u16(), headers, wall)
    }

    fn step(&mut self, event: Event) -> Next {
        let now = self.hub.runtime.now();
        self.step_at(now, event)
    }

    fn step_at(&mut self, now: Time, event: Event) -> Next {
        let next = self.stepped(now, event);
        self.hub.speak();
        next
    }

    fn stepped(&mut self, mut now: Time, mut event: Event) -> Next {
        loop {
            self.seen = now;
            let mut service = lock(&self.slot.service);
            let epoch = service.epoch();
            let action = self.call.step(&mut service, now, event);
            self.slot.told(&mut service, &self.hub.news);
            if service.epoch() != epoch {
                // A place has become free: who waits for one should look.
                self.slot.moved.notify(usize::MAX);
            }
            match action {
                Action::Send { attempt, to, deadline, why, wake } => {
                    let target = service.address(to).and_then(|address| {
                        let host = self.request.host_at(address).cloned();
                        Some((self.request.uri(address)?, host))
                    });
                    let place = service.label(to);
                    let settings = service.propagation(self.request.spec.profile).clone();
                    let of = self.call.most(&service);
                    drop(service);
                    if self.ids.is_none() {
                        let (seed, number) = (self.hub.seed, self.number);
                        self.ids = Some(self.request.identify(&settings, seed, number));
                    }
                    self.repeated(event, now, now);
                    let current = Current { attempt, to, why, sent: now, place };
                    self.others.extend(self.current.replace(current));
                    let until = deadline.at;
                    match target {
                        Some((to, host)) => {
                            let left = now.until(until);
                            let told = self.show((attempt, of), &to, &settings, left, host);
                            return Next::Send(Shot { attempt, to, told, until, wake });
                        }
                        None => {
                            // Nothing to send to: that attempt is over before it began.
                            let fault = Fault::NotHttp;
                            let outcome = Outcome::Failed { fault, sent: Sent::Never };
                            self.note(now, attempt, outcome);
                            now = self.hub.runtime.now();
                            event = Event::Finished(attempt, outcome);
                        }
                    }
                }
                Action::Park { until, epoch } => return Next::Park { until, epoch },
                Action::WaitUntil(until) => {
                    drop(service);
                    if self.current.is_none() && self.others.is_empty() {
                        self.repeated(event, now, until);
                    }
                    return Next::WaitUntil(until);
                }
                Action::Cancel(attempt) => {
                    drop(service);
                    self.note(now, attempt, given_up(Fault::Stalled));
                    return Next::Cancel(attempt);
                }
                Action::Done(Verdict::Answered(ticket)) => {
                    drop(service);
                    self.outrun(now);
                    self.over = true;
                    self.sight.answered(self.call.last(), self.trail.len());
                    return Next::Answered(ticket);
                }
                Action::Done(Verdict::Failed { why, until }) => {
                    self.over = true;
                    let skipped = service.refusals(now).collect();
                    let known = service.known().to_vec();
                    let discovery = service.discovery_error();
                    drop(service);
                    self.outrun(now);
                    let error = self.error(now, why, until, known, discovery, skipped);
                    self.sight.failed(&error);
                    return Next::Failed(error);
                }
            }
        }
    }

    /// Attempts that are still out when the call is over.
    fn outrun(&mut self, now: Time) {
        while let Some(left) = self.current.as_ref().or(self.others.first()) {
            self.note(now, left.attempt, given_up(Fault::Outrun));
        }
    }

    /// Whether any attempt is out.
    #[cfg(feature = "hyper")]
    pub(crate) fn is_out(&self) -> bool {
        self.current.is_some() || !self.others.is_empty()
    }

    /// An attempt is about to be sent: says so, and what it is told.
    fn show(
        &mut self,
        (attempt, of): (AttemptId, u8),
        uri: &Uri,
        settings: &remaining::Settings,
        left: Duration,
        host: Option<HeaderValue>,
    ) -> HeaderMap {
        let name = &*self.slot.name;
        let place = self.current.as_ref().and_then(|current| current.place.as_ref());
        let cluster = place.map_or("?", |(cluster, _)| cluster);
        let why = self.current.as_ref().map_or(Choice::Preferred, |current| current.why);
        let going = Going { attempt, of, uri, cluster, why };
        self.sight.attempt(name, &self.request, &going);
        let nth = (self.trail.len() as u64) << 8 | u64::from(attempt.0);
        let numbers = Numbers { seed: self.hub.seed, call: self.number, nth };
        let (sight, source) = (&self.sight, self.hub.trace_source.as_ref());
        let within = |ask: &dyn Fn() -> _| sight.within(attempt, ask);
        let (id, trace) = context::place(&self.request, settings.trace(), source, numbers, within);
        let ids = self.ids.get_or_insert_default();
        ids.trace = id;
        if self.sight.is_open() {
            self.sight.sent(name, &self.request, ids, &going);
        }
        let (trace, host) = (trace.as_ref(), host.as_ref());
        Told { attempt, left, ids, trace, host }.headers(settings)
    }

    /// Something is to follow: if it is the repeat of what has just ended, says so.
    #[inline]
    fn repeated(&self, event: Event, now: Time, until: Time) {
        if let (Event::Finished(attempt, outcome), Some(ids)) = (event, &self.ids) {
            self.sight.repeated(&self.slot.name, ids, (attempt, outcome), (now, until));
        }
    }

    fn note(&mut self, now: Time, attempt: AttemptId, outcome: Outcome) {
        let ids = self.ids.get_or_insert_default();
        self.sight.ended(&self.slot.name, &self.request, ids, attempt, outcome);
        let ended = match self.others.iter().position(|other| other.attempt == attempt) {
            Some(place) => Some(self.others.swap_remove(place)),
            None => self.current.take(),
        };
        if let Some(current) = ended {
            let (cluster, endpoint) = current.place.unwrap_or_else(|| ("?".into(), "?".into()));
            let sent_after = current.sent.since(self.began);
            let took = now.since(current.sent);
            self.trail.push(AttemptReport {
                cluster,
                endpoint,
                why: current.why,
                sent_after,
                took,
                outcome,
            });
        }
    }

    fn error(
        &mut self,
        now: Time,
        why: Why,
        until: Time,
        known: Vec<Arc<str>>,
        discovery: Option<origin_core::discovery::DiscoveryError>,
        mut skipped: Vec<Skipped>,
    ) -> Error {
        let service = self.slot.name.clone();
        let retry_in = (until != Time::NEVER).then(|| now.until(until));
        match why {
            Why::UnknownService => return Error::UnknownService { service, known },
            Why::Request => {
                let reason = origin_core::outcome::Fault::Request.text().to_owned();
                return Error::Request { service, reason };
            }
            Why::BodyTooLarge => return Error::TooLarge { service, limit: self.max_body() },
            _ => (),
        }
        // A call that ran out of time before any attempt, for want of a document, failed there.
        if let (true, Some(error)) = (self.trail.is_empty(), discovery) {
            let source_url = self.hub.source(&service);
            return Error::Discovery { service, source_url, error, retry_in };
        }
        skipped.retain(|s| {
            !self.trail.iter().any(|a| a.endpoint == s.endpoint && a.cluster == s.cluster)
        });
        let failure = Box::new(Failure { why, retry_in, report: self.report_at(now), skipped });
        match why {
            Why::Refused | Why::NoEndpoints | Why::Overload(_) => Error::Refused(failure),
            Why::Deadline(_) => Error::Deadline(failure),
            _ => Error::Exhausted(failure),
        }
    }

    /// How the call went, up to its last step.
    pub(crate) fn report(&mut self) -> Report {
        self.report_at(self.seen)
    }

    fn report_at(&mut self, now: Time) -> Report {
        Report {
            service: self.slot.name.clone(),
            elapsed: now.since(self.began),
            attempts: mem::take(&mut self.trail),
            cache: None,
            ids: self.ids.clone().unwrap_or_default(),
        }
    }
}

fn given_up(fault: Fault) -> Outcome {
    Outcome::Failed { fault, sent: Sent::Maybe }
}

impl<R: Runtime> Drop for Flight<R> {
    fn drop(&mut self) {
        if !self.over {
            let now = self.hub.runtime.now();
            let mut service = lock(&self.slot.service);
            let epoch = service.epoch();
            let _ = self.call.step(&mut service, now, Event::Abandoned);
            if service.epoch() != epoch {
                self.slot.moved.notify(usize::MAX);
            }
            drop(service);
            self.hub.speak();
        }
    }
}
