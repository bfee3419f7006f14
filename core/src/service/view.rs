//! The service as people see it: its snapshot, its health, and who may not be called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Service;
use crate::config::Rules;
use crate::discovery::Place;
use crate::error::{Skip, Skipped};
use crate::metrics::ClusterTally;
use crate::policy::breaker::State;
use crate::policy::health::Status;
use crate::pool::{Endpoint, Heed, Tier};
use crate::snapshot::{Advised, EndpointSnapshot, Health, ServiceSnapshot};
use crate::time::Time;

impl Service {
    /// The endpoints that may not be called now, and why, for errors that list every candidate.
    pub fn refusals(&self, now: Time) -> impl Iterator<Item = Skipped> {
        self.pool.iter().filter_map(move |(_, tier, e)| {
            let (why, open_for) = if e.hearsay.heed == Heed::Refused {
                (Skip::Advised, now.until(e.hearsay.due))
            } else if !e.breaker.would_admit(&self.rules.breaker) {
                (Skip::Breaker, now.until(e.breaker.due()))
            } else if let Some(until) = e.outlier.ejected_until() {
                (Skip::Ejected, now.until(until))
            } else if e.standing() == Status::Unhealthy {
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
                    let advised = self.advised_against(now, e);
                    endpoint_snapshot(now, tier, e, checked, advised, &self.rules)
                })
                .collect(),
            budget: self.budget.available(now, &self.rules.budget),
            split: self.split(now),
            limits: self.limits(),
            critical: true,
            discovered: false,
            counted: self.tally.view(),
            clusters: self.clusters(),
            breaker_moves: self.notices.moves().0,
            own_breaker_moves: self.notices.moves().1,
            breaker_recoveries: self.notices.recoveries(),
            cache: None,
            watches: None,
        }
    }

    fn clusters(&self) -> BTreeMap<Arc<str>, ClusterTally> {
        let mut clusters = BTreeMap::new();
        for (cluster, tally) in self.pool.tallies() {
            clusters.entry(cluster.clone()).or_insert_with(ClusterTally::default).add(tally);
        }
        clusters
    }

    fn health(&self, now: Time) -> Health {
        // Before the first attempt only active checks can know anything.
        let asked = self.counts.attempts > 0;
        let known = || self.pool.iter().any(|(.., e)| e.standing() != Status::Unknown);
        if !asked && !known() {
            return Health::Unknown;
        }
        if (0..self.pool.tiers.len()).all(|tier| self.pool.ready(tier) == 0) {
            return Health::Unhealthy;
        }
        let troubled = |e: &Endpoint| {
            (e.breaker.state() != State::Closed && self.rules.breaker.enforces())
                || e.outlier.is_ejected()
                || e.hearsay.heed != Heed::Nothing
                || matches!(e.standing(), Status::Unhealthy | Status::Degraded)
                || e.breaker.consecutive_failures() > 0
                || e.watch.suspect(now, &self.rules.stall)
        };
        // A backup that nobody needs does not make a service degraded.
        let serving = self.active.unwrap_or(0);
        let mut endpoints = self.pool.endpoints.iter().flatten().filter(|e| e.tier <= serving);
        let elsewhere = self.active.map_or(asked, |tier| tier > 0);
        if elsewhere || endpoints.any(troubled) {
            return Health::Degraded;
        }
        Health::Healthy
    }
}

fn endpoint_snapshot(
    now: Time,
    tier: &Tier,
    e: &Endpoint,
    checked: Option<&crate::policy::health::Health>,
    advised_against: Option<Advised>,
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
        advised_against,
        health: e.standing(),
        checks: checked.map(|health| health.history().copied().collect()).unwrap_or_default(),
        suspect: e.watch.suspect(now, &rules.stall) || tier.watch.suspect(now, &rules.stall),
        stalled_for: e.watch.troubled_for(now),
        outstanding: e.watch.outstanding(),
        latency: e.watch.latency(),
        attempts: e.attempts,
        failed_attempts: e.failed,
        last_success: e.last_success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CheckKind, Policy};
    use crate::discovery::Candidate;
    use crate::discovery::directory::Resolution;
    use crate::job::{CheckOutcome, Poll};
    use crate::outcome::Fault;
    use crate::{Address, Time};

    #[test]
    fn checks_count_before_the_first_attempt() {
        let mut policy = Policy::default();
        policy.checks.kind = CheckKind::Tcp;
        let rules = Rules::of(&policy, "policy").unwrap();
        for (outcome, expected) in [
            (CheckOutcome::Connected, Health::Healthy),
            (CheckOutcome::Failed(Fault::Connect), Health::Unhealthy),
        ] {
            let mut service = Service::new("billing".into(), rules.clone(), 7);
            let address = Address::parse("http://10.0.0.1:80").unwrap();
            let candidate = Candidate::new("alpha".into(), Place::Local, address);
            service.resolve(Time::ZERO, Resolution::Found(vec![candidate]));
            let mut now = Time::ZERO;
            assert_eq!(service.snapshot(now).health, Health::Unknown, "nobody has asked");
            // As many as it takes to be sure.
            for _ in 0..10 {
                now = match service.poll_check(now) {
                    Poll::Run(check) => {
                        service.check_done(now, check.id, &outcome);
                        now
                    }
                    Poll::Wait(at) => at,
                };
            }
            let snapshot = service.snapshot(now);
            assert_eq!((snapshot.health, snapshot.attempts), (expected, 0));
        }
    }
}
