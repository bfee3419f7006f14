//! One upstream service: what its calls share. Endpoints in tiers, retry budget, counters,
//! notices, and what discovery knows. Calls act on it through [`crate::call::Call::step`];
//! drivers keep it behind one lock.

mod checks;
mod control;
mod gate;
mod health;

pub use control::Order;
pub use gate::Overload;
pub(crate) use gate::{Entry, Gate, Pass};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::call::{AttemptId, DeadlineKind, Live, Ticket};
use crate::config::Rules;
use crate::discovery::directory::Resolution;
use crate::discovery::{Candidate, DiscoveryError, Place};
use crate::error::{Skip, Skipped};
use crate::headers;
use crate::notice::{Event, Notices, Suppressed};
use crate::outcome::{Class, Fault, Outcome};
use crate::policy::breaker::{Permit, State, Transition};
use crate::policy::budget::Budget;
use crate::policy::health::{Schedule, Status};
use crate::policy::hedge::Hedge;
use crate::policy::latency::Histogram;
use crate::policy::outlier::Detector;
use crate::policy::remaining::Text;
use crate::policy::stall::Watch;
use crate::policy::tiers::Tiers;
use crate::policy::timeout::Adaptive;
use crate::policy::tokens::Tokens;
use crate::pool::{Endpoint, EndpointId, Pool, Tier};
use crate::rng::Pcg32;
use crate::snapshot::{EndpointSnapshot, Health, ServiceSnapshot};
use crate::time::{Time, Wall};

/// Counters since construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls begun.
    pub calls: u64,
    /// Calls that got an answer.
    pub answered: u64,
    /// Calls that ended in an error.
    pub failed: u64,
    /// Calls dropped by their caller.
    pub abandoned: u64,
    /// Attempts sent.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Attempts that failed since the last success.
    pub failed_since_success: u64,
    /// Calls that were not let in: by a limit, a queue, throttling.
    pub shed: u64,
    /// Mistakes of the driver.
    pub misuse: u64,
}

/// The shared state of one upstream service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    name: Arc<str>,
    pub(crate) rules: Rules,
    /// Named variants of the rules, for calls that ask for them.
    profiles: Vec<(Arc<str>, Rules)>,
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    pub(crate) tokens: Tokens,
    pub(crate) hedge: Hedge,
    adaptive: Adaptive,
    /// Kept only where a policy reads it.
    latency: Option<Box<Histogram>>,
    pub(crate) tiers: Tiers,
    /// The clusters that `tiers` knows by position.
    tier_names: Vec<Arc<str>>,
    detector: Detector,
    gate: Gate,
    /// Calls refused since the last one ended.
    shed_since_in: u32,
    checks: Schedule,
    /// The generation of each endpoint that is checked.
    checked: BTreeMap<u32, u32>,
    pub(crate) counts: Counts,
    #[serde(skip, default = "pending")]
    pub(crate) resolution: Resolution,
    epoch: u64,
    rng: Pcg32,
    /// Tells clients apart, for the part of a large fleet that each uses.
    client: u64,
    notices: Notices,
    /// The tier that answered last, and since when.
    active: Option<u32>,
    active_since: Time,
    last_success: Option<Time>,
}

fn pending() -> Resolution {
    Resolution::Pending
}

impl Service {
    /// A service whose endpoints are not known yet: calls park until [`Service::resolve`].
    #[must_use]
    pub fn new(name: Arc<str>, rules: Rules, seed: u64) -> Service {
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Service {
            notices: Notices::new(Some(name.clone())),
            tiers: Tiers::new(Time::ZERO, 0, &rules.failover),
            detector: Detector::new(Time::ZERO, &rules.outlier),
            tier_names: Vec::new(),
            client: seed,
            gate: Gate::new(&rules),
            shed_since_in: 0,
            tokens: Tokens::new(&rules.tokens),
            hedge: Hedge::new(Time::ZERO),
            adaptive: Adaptive::default(),
            latency: reads_latency(&rules)
                .then(|| Box::new(Histogram::new(Time::ZERO, &rules.latency))),
            name,
            rules,
            profiles: Vec::new(),
            pool: Pool::default(),
            budget: Budget::default(),
            checks: Schedule::new(),
            checked: BTreeMap::new(),
            counts: Counts::default(),
            resolution: Resolution::Pending,
            epoch: 0,
            // The high bit keeps it apart from the streams of calls.
            rng: Pcg32::new(seed, stream | 1 << 62),
            active: None,
            active_since: Time::ZERO,
            last_success: None,
        }
    }

    /// Adds named variants of the rules. What calls share (breakers, budgets, statistics) stays
    /// shared; deadlines, retries and hedging of a call follow its profile. At most 254.
    #[must_use]
    pub fn with_profiles(mut self, mut profiles: Vec<(Arc<str>, Rules)>) -> Service {
        profiles.truncate(254);
        if profiles.iter().any(|(_, rules)| reads_latency(rules)) && self.latency.is_none() {
            self.latency = Some(Box::new(Histogram::new(Time::ZERO, &self.rules.latency)));
        }
        self.profiles = profiles;
        self
    }

    /// The number of the profile called `name`, for [`CallSpec::profile`](crate::CallSpec).
    #[must_use]
    pub fn profile_number(&self, name: &str) -> Option<u8> {
        let place = self.profiles.iter().position(|(known, _)| &**known == name)?;
        u8::try_from(place + 1).ok()
    }

    /// The rules of a profile; those of the service for 0 and for one that is not there.
    pub(crate) fn profile(&self, number: u8) -> &Rules {
        let chosen = usize::from(number).checked_sub(1).and_then(|at| self.profiles.get(at));
        chosen.map_or(&self.rules, |(_, rules)| rules)
    }

    /// The facts of an answer: its status, and what its headers say about trying again.
    #[must_use]
    pub fn outcome(&self, status: u16, headers: &HeaderMap, wall: Wall) -> Outcome {
        let pushback = headers::advice(headers, wall, &self.rules.retryable, &self.rules.backoff);
        Outcome::Answered { status, pushback }
    }

    /// The headers that tell an endpoint how much time an attempt has and which attempt it is.
    /// `None` where nothing is to be told.
    #[must_use]
    pub fn told(&self, profile: u8, attempt: AttemptId, left: Duration) -> Option<Box<HeaderMap>> {
        let settings = &self.profile(profile).propagate;
        let (deadline, number) = (settings.deadline_header(), settings.attempt_header());
        if deadline.is_none() && number.is_none() {
            return None;
        }
        let mut headers = Box::new(HeaderMap::with_capacity(2));
        let mut tell = |name: &str, text: Text| {
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(text.as_bytes())) {
                headers.insert(name, value);
            }
        };
        if let Some((form, name)) = deadline
            && let Some(text) = form.text(left)
        {
            tell(name, text);
        }
        if let Some(name) = number {
            tell(name, Text::attempt(u32::from(attempt.0)));
        }
        Some(headers)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its compiled policies.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Moves whenever parked calls should look again.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What discovery knows. Endpoints that stay keep their state. Parked calls wake.
    pub fn resolve(&mut self, now: Time, resolution: Resolution) {
        if let Resolution::Found(candidates) = &resolution
            && resolution != self.resolution
        {
            self.take(now, candidates);
        }
        self.epoch += 1;
        self.resolution = resolution;
    }

    fn take(&mut self, now: Time, candidates: &[Candidate]) {
        let active = self
            .active
            .and_then(|tier| self.pool.tiers.get(tier as usize))
            .map(|t| t.cluster.clone());
        let (added, removed) = self.pool.replace(now, candidates, &self.rules, self.client);
        self.retier_all(now);
        self.reschedule(now);
        let tier = self.pool.tiers.iter().position(|tier| Some(&tier.cluster) == active.as_ref());
        self.active = tier.and_then(|tier| u32::try_from(tier).ok());
        let total = self.pool.endpoints.iter().flatten().count();
        self.notices.push(now, Event::EndpointsChanged { added, removed, total });
    }

    /// Where `endpoint` is; `None` when discovery has removed it meanwhile.
    #[must_use]
    pub fn address(&self, endpoint: EndpointId) -> Option<&Address> {
        self.pool.get(endpoint).map(|endpoint| &endpoint.address)
    }

    /// Cluster and address of `endpoint`, for reports.
    #[must_use]
    pub fn label(&self, endpoint: EndpointId) -> Option<(Arc<str>, Arc<str>)> {
        let endpoint = self.pool.get(endpoint)?;
        Some((self.pool.tiers.get(endpoint.tier as usize)?.cluster.clone(), endpoint.label.clone()))
    }

    /// The names of known services, when this one is not among them.
    #[must_use]
    pub fn known(&self) -> &[Arc<str>] {
        match &self.resolution {
            Resolution::Absent(known) => known,
            _ => &[],
        }
    }

    /// Why discovery has no endpoints, if that is so. A call whose time ran out while a fetch was
    /// still under way waited for discovery all the same: that is a timeout of it.
    #[must_use]
    pub fn discovery_error(&self) -> Option<DiscoveryError> {
        match &self.resolution {
            Resolution::Failed { error, .. } => Some(error.clone()),
            Resolution::Pending => Some(DiscoveryError::Fault(Fault::Timeout)),
            Resolution::Found(_) | Resolution::Absent(_) => None,
        }
    }

    /// Lets time act. Nothing to do in nearly every case: one compare.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.gate.breaker.due() <= now {
            let settings = &self.rules.service_breaker;
            if let Some(change) = self.gate.breaker.tick(now, settings, &mut self.rng) {
                self.notices.push(now, Event::ServiceBreaker { change });
            }
        }
        self.tick_health(now);
        if self.pool.due() > now {
            return;
        }
        let (pool, notices) = (&mut self.pool, &mut self.notices);
        pool.tick(now, &self.rules, &mut self.rng, |endpoint, tier, change| {
            notices.push(now, transition(endpoint, tier, change));
        });
        self.retier(now);
    }

    /// Takes a permit of the endpoint at `index` and counts the attempt.
    pub(crate) fn admit(&mut self, now: Time, index: u32) -> Option<(EndpointId, Permit, u32)> {
        let id = self.pool.id(index)?;
        let endpoint = self.pool.get_mut(id)?;
        let permit = endpoint.breaker.admit(now, &self.rules.breaker).ok()?;
        endpoint.watch.sent(now);
        endpoint.attempts += 1;
        let tier = endpoint.tier;
        self.pool.loads[index as usize].out += 1;
        self.pool.tiers[tier as usize].watch.sent(now);
        self.counts.attempts += 1;
        self.sync(now, index);
        Some((id, permit, tier))
    }

    /// Gives back what an abandoned attempt holds.
    pub(crate) fn release(&mut self, now: Time, id: EndpointId, permit: Permit) {
        if let Some(endpoint) = self.pool.get_mut(id) {
            endpoint.breaker.release(permit);
            endpoint.watch.abandoned(now);
            let tier = endpoint.tier;
            self.pool.done(id.index);
            self.pool.tiers[tier as usize].watch.abandoned(now);
            self.sync(now, id.index);
        }
    }

    /// Another attempt of the call answered first. That its endpoint did not is remembered.
    pub(crate) fn outrun(&mut self, now: Time, live: &Live) {
        if let Some((endpoint, tier)) = self.pool.with_tier(live.endpoint) {
            endpoint.breaker.release(live.permit);
            endpoint.watch.silent_among(now, &self.rules.stall);
            tier.watch.silent_among(now, &self.rules.stall);
            self.pool.done(live.endpoint.index);
            self.sync(now, live.endpoint.index);
        }
    }

    /// The call gave an attempt up because its endpoint has gone silent.
    pub(crate) fn gave_up(&mut self, now: Time, live: &Live) {
        if let Some(endpoint) = self.pool.get_mut(live.endpoint) {
            endpoint.breaker.release(live.permit);
            let _ = endpoint.watch.silent(now, &self.rules.stall);
            let tier = endpoint.tier;
            self.pool.done(live.endpoint.index);
            self.pool.tiers[tier as usize].watch.silent_among(now, &self.rules.stall);
            self.sync(now, live.endpoint.index);
        }
    }

    /// How long an attempt may take: as configured, or as learnt.
    pub(crate) fn attempt_limit(&mut self, profile: u8) -> Duration {
        let Service { adaptive, latency, .. } = self;
        let chosen = usize::from(profile).checked_sub(1).and_then(|at| self.profiles.get(at));
        let rules = chosen.map_or(&self.rules, |(_, rules)| rules);
        match latency {
            Some(seen) => adaptive.timeout(seen, rules.attempt, &rules.adaptive_timeout).0,
            None => rules.attempt,
        }
    }

    /// How long after an attempt its copy should follow.
    pub(crate) fn hedge_delay(&mut self, profile: u8) -> Option<Duration> {
        let Service { hedge, latency, .. } = self;
        let chosen = usize::from(profile).checked_sub(1).and_then(|at| self.profiles.get(at));
        let settings = &chosen.map_or(&self.rules, |(_, rules)| rules).hedge;
        if !settings.enabled() {
            return None;
        }
        match (settings.fixed(), latency) {
            (Some(fixed), _) => Some(fixed),
            (None, seen) => hedge.delay(seen.as_ref()?, settings).ok(),
        }
    }

    /// Whether the endpoint of an attempt, or its whole cluster, has gone silent.
    pub(crate) fn is_silent(&self, now: Time, live: &Live) -> bool {
        let rules = &self.rules.stall;
        self.watches(live).is_some_and(|(endpoint, tier)| {
            endpoint.is_silent(now, rules) || tier.is_silent(now, rules)
        })
    }

    /// When it is next worth looking whether the endpoint of an attempt has gone silent.
    pub(crate) fn look(&self, now: Time, live: &Live) -> Time {
        let rules = &self.rules.stall;
        let Some((endpoint, tier)) = self.watches(live) else { return Time::NEVER };
        let looks =
            [endpoint.look(rules), endpoint.alarm(rules), tier.look(rules), tier.alarm(rules)];
        looks.into_iter().filter(|at| *at > now).min().unwrap_or(Time::NEVER)
    }

    /// The watches over an attempt, if it can be rescued at all.
    fn watches(&self, live: &Live) -> Option<(&Watch, &Watch)> {
        let endpoint = self.pool.get(live.endpoint).filter(|_| self.rules.stall.rescue)?;
        Some((&endpoint.watch, &self.pool.tiers.get(endpoint.tier as usize)?.watch))
    }

    /// The short time an attempt gets at a troubled endpoint while others could answer.
    pub(crate) fn leash(&self, now: Time, index: u32) -> Option<Duration> {
        let endpoint = self.pool.endpoints.get(index as usize)?.as_ref()?;
        let tier = self.pool.tiers.get(endpoint.tier as usize)?;
        let watch = if tier.watch.troubled() { &tier.watch } else { &endpoint.watch };
        // Only while somebody else could answer: a leash is not the endpoint's failure, and if
        // every attempt were on one, no breaker would ever open.
        if !watch.troubled() || !self.pool.has_sound(now, index, &self.rules.stall) {
            return None;
        }
        watch.leash(now, &self.rules.stall)
    }

    /// Counts the outcome of an attempt, once, everywhere it counts.
    pub(crate) fn settle(&mut self, now: Time, live: &Live, outcome: Outcome) {
        let Live { endpoint: id, permit, sent_at, again, streamed, kind, .. } = *live;
        let class = outcome.class();
        if class == Class::Failure {
            self.counts.failed_attempts += 1;
            self.counts.failed_since_success += 1;
        }
        if matches!(outcome, Outcome::Answered { .. }) {
            let throttled = class == Class::Throttled;
            self.gate.rate.on_answer(now, sent_at, throttled, &self.rules.rate);
        }
        let took = now.since(sent_at);
        let ewma = &self.rules.balance.ewma;
        if self.pool.get(id).is_some() {
            let load = &mut self.pool.loads[id.index as usize];
            load.out = load.out.saturating_sub(1);
            match class {
                Class::Success => load.ewma.answered(now, took, ewma),
                Class::Failure | Class::Throttled => load.ewma.failed(now, took, ewma),
                Class::Ignored => (),
            }
        }
        let Some((endpoint, tier)) = self.pool.with_tier(id) else { return };
        let probe = kind == DeadlineKind::Probe
            && matches!(outcome, Outcome::Failed { fault: Fault::Timeout, .. });
        match outcome {
            Outcome::Answered { .. } => {
                let _ = endpoint.watch.answered(now, now.since(sent_at));
                let _ = tier.watch.answered(now, now.since(sent_at));
            }
            Outcome::Failed { fault: Fault::Timeout | Fault::ConnectTimeout, .. } => {
                let _ = endpoint.watch.silent(now, &self.rules.stall);
                tier.watch.silent_among(now, &self.rules.stall);
            }
            Outcome::Failed { .. } => {
                endpoint.watch.failed(now);
                tier.watch.failed(now);
            }
        }
        if let Some(latency) = &mut self.latency
            && (matches!(outcome, Outcome::Answered { .. })
                || (!probe && matches!(outcome, Outcome::Failed { fault: Fault::Timeout, .. })))
        {
            // A timeout took at least that long: without it the statistics would shrink.
            latency.record(now, now.since(sent_at), &self.rules.latency);
        }
        match class {
            Class::Success => {
                endpoint.last_success = Some(now);
                self.last_success = Some(now);
                self.counts.failed_since_success = 0;
            }
            Class::Failure => endpoint.failed += 1,
            Class::Throttled | Class::Ignored => (),
        }
        // One call is one sample: failing at the same endpoint again says nothing new, unless
        // it is the attempt a half-open breaker waits for.
        let repeated =
            again && class != Class::Success && endpoint.breaker.state() == State::Closed;
        // And of a streamed answer only the end of its body tells.
        let open = streamed && class == Class::Success;
        // A probe on a short leash that found nothing has not failed: it was not given its time.
        let counted = if repeated || open || probe { Class::Ignored } else { class };
        if counted != Class::Ignored && self.rules.outlier.enabled {
            let failed = counted != Class::Success;
            let endpoints = self.tiers.health().iter().map(|tier| tier.total).sum();
            let (settings, rng) = (&self.rules.outlier, &mut self.rng);
            let outlier = &mut endpoint.outlier;
            let change = self.detector.record(now, outlier, failed, endpoints, settings, rng);
            if let Some(change) = change {
                let (cluster, label) = (tier.cluster.clone(), endpoint.label.clone());
                self.notices.push(now, Event::Outlier { cluster, endpoint: label, change });
            }
        }
        let rules = &self.rules.breaker;
        let change = endpoint.breaker.record(now, permit, counted, took, rules, &mut self.rng);
        let number = endpoint.tier;
        let tier = &self.pool.tiers[number as usize];
        if let Outcome::Failed { fault, .. } = outcome
            && class == Class::Failure
        {
            let (cluster, label) = (tier.cluster.clone(), endpoint_label(&self.pool, id));
            self.notices.push(now, Event::ConnectionIssue { cluster, endpoint: label, fault });
        }
        if let Some(change) = change
            && let Some(endpoint) = self.pool.get(id)
        {
            let tier = &self.pool.tiers[number as usize];
            self.notices.push(now, transition(endpoint, tier, change));
        }
        if class == Class::Success && self.active != Some(number) {
            self.switch(now, number, sent_at);
        }
        self.sync(now, id.index);
    }

    /// The service is answered by another cluster than before. An answer to an attempt from
    /// before the last switch says nothing about now.
    fn switch(&mut self, now: Time, to: u32, sent_at: Time) {
        let cluster =
            |tier: u32| self.pool.tiers.get(tier as usize).map(|tier| tier.cluster.clone());
        match self.active {
            Some(from) if sent_at >= self.active_since => {
                if let (Some(from_name), Some(to_name)) = (cluster(from), cluster(to)) {
                    let event =
                        Event::Switched { from: from_name, to: to_name, failback: to < from };
                    self.notices.push(now, event);
                }
            }
            Some(_) => return,
            None => (),
        }
        self.active = Some(to);
        self.active_since = now;
    }

    /// The body of a streamed answer was read to its end, or broke off on the way. A body that
    /// is dropped half-way is not reported: it says nothing.
    pub fn body_done(&mut self, now: Time, ticket: Ticket, result: Result<(), Fault>) {
        let Some(endpoint) = self.pool.get_mut(ticket.endpoint) else { return };
        let class = match result {
            Ok(()) => Class::Success,
            Err(_) => Class::Failure,
        };
        // When it was sent is not known here; a body may be read as slowly as its reader likes.
        let (took, rules) = (Duration::ZERO, &self.rules.breaker);
        let change = endpoint.breaker.late(now, ticket.permit, class, took, rules, &mut self.rng);
        if let Err(fault) = result {
            self.counts.failed_attempts += 1;
            self.counts.failed_since_success += 1;
            endpoint.failed += 1;
            let (tier, endpoint) = (endpoint.tier, endpoint.label.clone());
            let cluster = self.pool.tiers[tier as usize].cluster.clone();
            self.notices.push(now, Event::ConnectionIssue { cluster, endpoint, fault });
        }
        if let Some(change) = change
            && let Some(endpoint) = self.pool.get(ticket.endpoint)
        {
            let tier = &self.pool.tiers[endpoint.tier as usize];
            self.notices.push(now, transition(endpoint, tier, change));
        }
        self.sync(now, ticket.endpoint.index);
    }

    pub(crate) fn tier_of(&self, index: u32) -> Option<u32> {
        self.pool.endpoints.get(index as usize)?.as_ref().map(|endpoint| endpoint.tier)
    }

    pub(crate) fn notice_failover(&mut self, now: Time, from: u32, to: u32, reason: Outcome) {
        let cluster =
            |tier: u32| self.pool.tiers.get(tier as usize).map(|tier| tier.cluster.clone());
        if let (Some(from), Some(to)) = (cluster(from), cluster(to)) {
            self.notices.push(now, Event::Failover { from, to, reason });
        }
    }

    pub(crate) fn notice_suppressed(
        &mut self,
        now: Time,
        tier: u32,
        reason: Outcome,
        by: Suppressed,
    ) {
        if let Some(tier) = self.pool.tiers.get(tier as usize) {
            self.notices
                .push(now, Event::RetrySuppressed { cluster: tier.cluster.clone(), reason, by });
        }
    }

    /// Its notices.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Its counters.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The endpoints that may not be called now, and why, for errors that list every candidate.
    pub fn refusals(&self, now: Time) -> impl Iterator<Item = Skipped> {
        self.pool.iter().filter_map(move |(_, tier, e)| {
            let (why, open_for) = if !e.breaker.would_admit(&self.rules.breaker) {
                (Skip::Breaker, now.until(e.breaker.due()))
            } else if let Some(until) = e.outlier.ejected_until() {
                (Skip::Ejected, now.until(until))
            } else if e.health == Status::Unhealthy {
                (Skip::Unhealthy, Duration::ZERO)
            } else {
                return None;
            };
            let (cluster, endpoint) = (tier.cluster.clone(), e.label.clone());
            Some(Skipped { cluster, endpoint, why, open_for })
        })
    }

    /// Its state, for people.
    #[must_use]
    pub fn snapshot(&mut self, now: Time) -> ServiceSnapshot {
        self.tick(now);
        let of = |place: Place| -> Vec<Arc<str>> {
            self.pool
                .iter()
                .filter(|(_, tier, _)| tier.place == place)
                .map(|(_, _, e)| e.label.clone())
                .collect()
        };
        let mut primary = of(Place::Primary);
        if primary.is_empty() {
            primary = of(Place::Local);
        }
        let active = self.active.and_then(|tier| self.pool.tiers.get(tier as usize));
        ServiceSnapshot {
            name: self.name.clone(),
            health: self.health(now),
            active_cluster: active.map(|tier| tier.cluster.clone()),
            primary,
            backups: of(Place::Backup),
            last_success: self.last_success,
            failed_attempts: self.counts.failed_attempts,
            failed_since_success: self.counts.failed_since_success,
            attempts: self.counts.attempts,
            calls: self.counts.calls,
            answered: self.counts.answered,
            failed: self.counts.failed,
            abandoned: self.counts.abandoned,
            endpoints: self
                .pool
                .iter()
                .map(|(index, tier, e)| {
                    let checked = self.checks.health(index);
                    endpoint_snapshot(now, tier, e, checked, &self.rules)
                })
                .collect(),
            budget: self.budget.available(now, &self.rules.budget),
            split: self.split(now),
            limits: self.limits(),
        }
    }

    fn health(&self, now: Time) -> Health {
        if self.counts.attempts == 0 {
            return Health::Unknown;
        }
        if (0..self.pool.tiers.len()).all(|tier| self.pool.ready(tier) == 0) {
            return Health::Unhealthy;
        }
        let troubled = |e: &Endpoint| {
            (e.breaker.state() != State::Closed && self.rules.breaker.enforces())
                || e.outlier.is_ejected()
                || matches!(e.health, Status::Unhealthy | Status::Degraded)
                || e.breaker.consecutive_failures() > 0
                || e.watch.suspect(now, &self.rules.stall)
        };
        // A backup that nobody needs does not make a service degraded.
        let serving = self.active.unwrap_or(0);
        let mut endpoints = self.pool.endpoints.iter().flatten().filter(|e| e.tier <= serving);
        if self.active.is_none_or(|tier| tier > 0) || endpoints.any(troubled) {
            return Health::Degraded;
        }
        Health::Healthy
    }
}

fn reads_latency(rules: &Rules) -> bool {
    rules.hedge.reads_latency() || rules.adaptive_timeout.reads_latency()
}

fn endpoint_label(pool: &Pool, id: EndpointId) -> Arc<str> {
    pool.get(id).map_or_else(|| "".into(), |endpoint| endpoint.label.clone())
}

fn transition(endpoint: &Endpoint, tier: &Tier, change: Transition) -> Event {
    let (cluster, endpoint) = (tier.cluster.clone(), endpoint.label.clone());
    match change {
        _ if change.shadow() => Event::BreakerShadow { cluster, endpoint, change },
        Transition::Opened { trip, interval, .. } => {
            Event::BreakerOpened { cluster, endpoint, trip, interval }
        }
        Transition::HalfOpened { .. } => Event::BreakerHalfOpened { cluster, endpoint },
        Transition::Closed { .. } => Event::BreakerClosed { cluster, endpoint },
    }
}

fn endpoint_snapshot(
    now: Time,
    tier: &Tier,
    e: &Endpoint,
    checked: Option<&crate::policy::health::Health>,
    rules: &Rules,
) -> EndpointSnapshot {
    EndpointSnapshot {
        cluster: tier.cluster.clone(),
        place: e.place,
        address: e.label.clone(),
        breaker: e.breaker.state(),
        consecutive_failures: e.breaker.consecutive_failures(),
        numbers: e.breaker.numbers(now, &rules.breaker),
        ejected_for: e.outlier.ejected_until().map(|until| now.until(until)),
        health: e.health,
        checks: checked.map(|health| health.history().copied().collect()).unwrap_or_default(),
        suspect: e.watch.suspect(now, &rules.stall) || tier.watch.suspect(now, &rules.stall),
        outstanding: e.watch.outstanding(),
        latency: e.watch.latency(),
        attempts: e.attempts,
        failed_attempts: e.failed,
        last_success: e.last_success,
    }
}
