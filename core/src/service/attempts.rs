//! What one attempt does to the service: what it takes when it goes out, and everywhere its end
//! counts, once.

use std::sync::Arc;
use std::time::Duration;

use super::troubles::Silences;
use super::{Service, transition};
use crate::call::{DeadlineKind, Live, Ticket};
use crate::metrics::ClusterTally;
use crate::notice::{Event, Suppressed};
use crate::outcome::{Class, Fault, Outcome};
use crate::policy::breaker::{Permit, State};
use crate::policy::stall::Watch;
use crate::pool::{EndpointId, Heed, Pool};
use crate::time::Time;

impl Service {
    /// Takes a permit of the endpoint at `index` and counts the attempt.
    pub(crate) fn admit(&mut self, now: Time, index: u32) -> Option<(EndpointId, Permit, u32)> {
        let id = self.pool.id(index)?;
        let endpoint = self.pool.get_mut(id)?;
        let permit = endpoint.breaker.admit(now, &self.rules.breaker).ok()?;
        endpoint.watch.sent(now);
        endpoint.attempts += 1;
        let (tier, heed) = (endpoint.tier, endpoint.hearsay.heed);
        self.pool.loads[index as usize].out += 1;
        self.pool.tiers[tier as usize].watch.sent(now);
        self.counts.attempts += 1;
        if heed == Heed::Probe {
            self.probed(now, index);
        }
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
            let endpoint_began = endpoint.watch.silent_among(now, &self.rules.stall);
            let tier_began = tier.watch.silent_among(now, &self.rules.stall);
            self.tally.fault(Fault::Outrun);
            self.pool.done(live.endpoint.index);
            let silences = Silences { endpoint_began, tier_began, ..Silences::default() };
            self.tell_silences(now, live.endpoint, silences);
            self.sync(now, live.endpoint.index);
        }
    }

    /// The call gave an attempt up because its endpoint has gone silent.
    pub(crate) fn gave_up(&mut self, now: Time, live: &Live) {
        if let Some((endpoint, tier)) = self.pool.with_tier(live.endpoint) {
            endpoint.breaker.release(live.permit);
            let endpoint_began = endpoint.watch.silent(now, &self.rules.stall);
            let tier_began = tier.watch.silent_among(now, &self.rules.stall);
            self.tally.fault(Fault::Stalled);
            self.pool.done(live.endpoint.index);
            let silences = Silences { endpoint_began, tier_began, ..Silences::default() };
            self.tell_silences(now, live.endpoint, silences);
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
        let Live { endpoint: id, permit, sent_at, again, streamed, kind, patient, .. } = *live;
        let class = outcome.class();
        self.tally.outcome(outcome);
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
                Class::Success if patient => (),
                Class::Success => load.ewma.answered(now, took, ewma),
                Class::Failure | Class::Throttled => load.ewma.failed(now, took, ewma),
                Class::Ignored => (),
            }
        }
        let Some((endpoint, tier)) = self.pool.with_tier(id) else { return };
        tier.tally.attempts[ClusterTally::row(class)].record(took, &self.bounds);
        let probe = kind == DeadlineKind::Probe
            && matches!(outcome, Outcome::Failed { fault: Fault::Timeout, .. });
        let mut silences = Silences::default();
        match outcome {
            Outcome::Answered { .. } if patient => {
                endpoint.watch.answered_at_last(now);
                tier.watch.answered_at_last(now);
            }
            Outcome::Answered { .. } => {
                silences.endpoint_ended = endpoint.watch.answered(now, took);
                silences.tier_ended = tier.watch.answered(now, took);
            }
            // Its time was up; that is no silence while what it sent was still being taken.
            Outcome::Failed { fault: Fault::Timeout, .. } if patient => {
                endpoint.watch.silent_among(now, &self.rules.stall);
                tier.watch.silent_among(now, &self.rules.stall);
            }
            Outcome::Failed { fault: Fault::Timeout | Fault::ConnectTimeout, .. } => {
                silences.endpoint_began = endpoint.watch.silent(now, &self.rules.stall);
                silences.tier_began = tier.watch.silent_among(now, &self.rules.stall);
            }
            Outcome::Failed { .. } => {
                endpoint.watch.failed(now);
                tier.watch.failed(now);
            }
        }
        if let Some(latency) = self.latency.as_mut().filter(|_| !patient)
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
        // Nor is it slow for what it sends.
        let took = if patient { Duration::ZERO } else { took };
        let change = endpoint.breaker.record(now, permit, counted, took, rules, &mut self.rng);
        let number = endpoint.tier;
        let tier = &self.pool.tiers[number as usize];
        if let Outcome::Failed { fault, .. } = outcome
            && class == Class::Failure
        {
            let (cluster, label) = (tier.cluster.clone(), endpoint_label(&self.pool, id));
            self.notices.push(now, Event::ConnectionIssue { cluster, endpoint: label, fault });
        }
        self.tell_silences(now, id, silences);
        if matches!(outcome, Outcome::Answered { .. }) {
            self.shaken(now, id);
        }
        if let Some(change) = change
            && let Some(endpoint) = self.pool.get(id)
        {
            let tier = &self.pool.tiers[number as usize];
            self.notices.push(now, transition(endpoint, tier, change));
            self.tell(now, id.index);
        }
        self.found(now, id.index, class);
        if class == Class::Success && self.active != Some(number) {
            self.switch(now, number, sent_at);
        }
        self.sync(now, id.index);
    }

    /// Part of what an attempt sends has been taken. A large body keeps its endpoint from answering
    /// anybody who waits for the end of it; this says that it is not silent. Not needed for each
    /// piece: some in the time of a usual answer will do.
    pub fn moved(&mut self, now: Time, id: EndpointId) {
        if let Some((endpoint, tier)) = self.pool.with_tier(id) {
            endpoint.watch.moved(now);
            tier.watch.moved(now);
            self.sync(now, id.index);
        }
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
                if let Some(tier) = self.pool.tiers.get_mut(to as usize) {
                    tier.tally.switched += 1;
                    tier.tally.failbacks += u64::from(to < from);
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
            self.tally.fault(fault);
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
            self.tell(now, ticket.endpoint.index);
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
        if let Some(tier) = self.pool.tiers.get_mut(from as usize) {
            tier.tally.left += 1;
        }
        if let Some(tier) = self.pool.tiers.get_mut(to as usize) {
            tier.tally.entered += 1;
        }
    }

    pub(crate) fn notice_suppressed(
        &mut self,
        now: Time,
        tier: u32,
        reason: Outcome,
        by: Suppressed,
    ) {
        self.tally.suppressed(by);
        if let Some(tier) = self.pool.tiers.get(tier as usize) {
            self.notices
                .push(now, Event::RetrySuppressed { cluster: tier.cluster.clone(), reason, by });
        }
    }
}

fn endpoint_label(pool: &Pool, id: EndpointId) -> Arc<str> {
    pool.get(id).map_or_else(|| "".into(), |endpoint| endpoint.label.clone())
}
