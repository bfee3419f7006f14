//! Telling what was learnt of the endpoints, and taking it over in another run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Service, transition};
use crate::learned::{LearnedEndpoint, LearnedService, MAX_AGE, MOST};
use crate::policy::breaker::State;
use crate::policy::health::Status;
use crate::time::Time;

/// What an earlier run learnt, waiting for its endpoints to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Earlier {
    what: LearnedService,
    /// At which time it was true, as far as this run's clock can say; ages count from here.
    since: Time,
    age: Duration,
}

impl Service {
    /// What is known of its endpoints that would be worth knowing in another run.
    #[must_use]
    pub fn learned(&mut self, now: Time) -> LearnedService {
        self.tick(now);
        let active = self.active.and_then(|tier| self.pool.tiers.get(tier as usize));
        let endpoints = self.pool.iter().filter_map(|(index, tier, e)| {
            let (breaker, open_ms) = match e.breaker.state() {
                // That was somebody's order, not a lesson.
                _ if e.breaker.is_forced() => (State::Closed, 0),
                state @ State::Open { until } => (state, now.until(until).as_millis()),
                state => (state, 0),
            };
            let latency = self.pool.loads.get(index as usize).and_then(|load| load.ewma.estimate());
            if breaker == State::Closed && latency.is_none() && e.health == Status::Unknown {
                return None;
            }
            Some(LearnedEndpoint {
                cluster: tier.cluster.clone(),
                address: e.label.clone(),
                breaker: breaker.into(),
                open_ms: u64::try_from(open_ms).unwrap_or(u64::MAX),
                trip: e.breaker.trip(),
                openings: e.breaker.openings(),
                latency_us: latency.and_then(|span| u64::try_from(span.as_micros()).ok()),
                health: e.health,
            })
        });
        LearnedService {
            active: active.map(|tier| tier.cluster.clone()),
            endpoints: endpoints.take(MOST).collect(),
        }
    }

    /// Takes over what an earlier run learnt `age` ago, as its endpoints become known. To be said
    /// before the first call. Endpoints that are not known within [`MAX_AGE`] are forgotten.
    pub fn relearn(&mut self, now: Time, mut what: LearnedService, age: Duration) {
        what.endpoints.truncate(MOST);
        if !what.is_empty() && age <= MAX_AGE {
            self.earlier = Some(Box::new(Earlier { what, since: now, age }));
            self.recall(now);
        }
    }

    /// The endpoints have changed: what was learnt of those that are there now is taken over, once.
    pub(super) fn recall(&mut self, now: Time) {
        let Some(mut earlier) = self.earlier.take() else { return };
        let age = earlier.age.saturating_add(now.since(earlier.since));
        if age > MAX_AGE {
            return;
        }
        let Earlier { what, .. } = &mut *earlier;
        what.endpoints.retain(|lesson| {
            let known = self
                .pool
                .iter()
                .find(|(_, tier, e)| tier.cluster == lesson.cluster && e.label == lesson.address);
            let Some((index, ..)) = known else { return true };
            self.take_lesson(now, index, lesson, age);
            false
        });
        let tiers = &self.pool.tiers;
        if let (None, Some(cluster)) = (self.active, &what.active)
            && let Some(tier) = tiers.iter().position(|tier| tier.cluster == *cluster)
        {
            self.active = u32::try_from(tier).ok();
            what.active = None;
        }
        if !earlier.what.is_empty() {
            self.earlier = Some(earlier);
        }
    }

    fn take_lesson(&mut self, now: Time, index: u32, lesson: &LearnedEndpoint, age: Duration) {
        let rules = &self.rules;
        let Some(Some(endpoint)) = self.pool.endpoints.get_mut(index as usize) else { return };
        // What this run has found out itself is better.
        if endpoint.attempts > 0 {
            return;
        }
        let left = Duration::from_millis(lesson.open_ms).saturating_sub(age);
        let change = match lesson.breaker {
            crate::metrics::Phase::Closed => None,
            // Open for the rest of its time; half-open at once where there is none.
            crate::metrics::Phase::Open | crate::metrics::Phase::HalfOpen => {
                endpoint.breaker.restore(now, left, lesson.trip, lesson.openings, &rules.breaker)
            }
        };
        if rules.checks.on() && endpoint.health == Status::Unknown {
            endpoint.health = lesson.health;
        }
        if let (Some(us), Some(load)) = (lesson.latency_us, self.pool.loads.get_mut(index as usize))
        {
            let latency = Duration::from_micros(us).min(rules.attempt);
            load.ewma.answered(now, latency, &rules.balance.ewma);
        }
        if let Some(change) = change
            && let Some(Some(endpoint)) = self.pool.endpoints.get(index as usize)
        {
            let tier = &self.pool.tiers[endpoint.tier as usize];
            self.notices.push(now, transition(endpoint, tier, change));
        }
        self.sync(now, index);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::Address;
    use crate::call::{Action, Call, CallSpec, Event};
    use crate::config::Rules;
    use crate::discovery::directory::Resolution;
    use crate::discovery::{Role, plan};
    use crate::learned::{Learned, NotUsed};
    use crate::metrics::Phase;
    use crate::outcome::{Fault, Outcome, Sent};
    use crate::time::Wall;

    const BAD: &str = "http://10.0.0.1:80";

    fn service() -> Service {
        let mut service = Service::new("billing".into(), Rules::default(), 3);
        service.resolve(Time::ZERO, found());
        service
    }

    fn found() -> Resolution {
        let at = |n: usize| Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
        let endpoints: Vec<_> = (1..=3).map(|n| ("near".into(), Role::Backup, at(n))).collect();
        Resolution::Found(plan::injected(&endpoints, Some("near")))
    }

    /// Makes a call; how often it was at the bad endpoint, which refuses.
    fn call(service: &mut Service, now: &mut Time, number: u64) -> u32 {
        let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
        let (mut call, mut at_bad) = (Call::new(spec, 5, number), 0);
        let mut action = call.step(service, *now, Event::Begin);
        loop {
            action = match action {
                Action::Send { attempt, to, .. } => {
                    let bad = service.address(to).unwrap().as_str() == BAD;
                    at_bad += u32::from(bad);
                    *now = now.plus(Duration::from_millis(2));
                    let refused = Outcome::Failed { fault: Fault::Connect, sent: Sent::Never };
                    let outcome = if bad { refused } else { Outcome::status(200) };
                    call.step(service, *now, Event::Finished(attempt, outcome))
                }
                Action::WaitUntil(until) | Action::Park { until, .. } => {
                    *now = until;
                    call.step(service, *now, Event::Wake)
                }
                Action::Cancel(_) => call.step(service, *now, Event::Wake),
                Action::Done(_) => return at_bad,
            };
        }
    }

    /// A service whose first endpoint has just tripped its breaker.
    fn troubled() -> (Service, Time) {
        let (mut service, mut now) = (service(), Time::from_millis(1));
        let open = |service: &mut Service, now| {
            service.snapshot(now).endpoints.iter().any(|e| e.breaker.word() == "open")
        };
        for number in 0..500 {
            call(&mut service, &mut now, number);
            if open(&mut service, now) {
                return (service, now);
            }
            // So that the balancer forgets how it failed and sends somebody there again.
            now = now.plus(Duration::from_secs(10));
        }
        panic!("the breaker of the bad endpoint does not open");
    }

    #[test]
    fn a_restored_client_avoids_a_broken_endpoint_from_the_first_call_on() {
        let (mut before, then) = troubled();
        let learned = before.learned(then);
        let json = serde_json::to_string(&learned).unwrap();
        // Another process, another clock; its endpoints come from discovery only later.
        let mut now = Time::from_millis(700);
        let mut after = Service::new("billing".into(), Rules::default(), 99);
        after.relearn(now, serde_json::from_str(&json).unwrap(), Duration::ZERO);
        now = now.plus(Duration::from_millis(5));
        after.resolve(now, found());
        let first: u32 = (0..50).map(|number| call(&mut after, &mut now, number)).sum();
        assert_eq!(first, 0, "nobody should have been sent to the broken endpoint");
        // One that knows nothing finds out the hard way: the test can fail.
        let (mut naive, mut now) = (service(), Time::from_millis(700));
        let first: u32 = (0..50).map(|number| call(&mut naive, &mut now, number)).sum();
        assert!(first > 0);
        let told = after.notices().since(0).filter(|n| n.event.name() == "breaker_opened").count();
        assert_eq!(told, 1, "that it is open is told once");
    }

    #[test]
    fn what_was_learnt_ends_when_it_would_have_ended() {
        let (mut before, then) = troubled();
        let learned = before.learned(then);
        let open = learned.endpoints.iter().find(|e| e.breaker == Phase::Open).unwrap();
        assert_eq!(&*open.address, BAD);
        // So long after that the breaker would be half-open by now.
        let mut after = service();
        after.relearn(
            Time::from_millis(1),
            learned.clone(),
            Duration::from_millis(open.open_ms + 1),
        );
        let snapshot = after.snapshot(Time::from_millis(2));
        assert_eq!(snapshot.endpoints[0].breaker.word(), "half_open");
        // So old that nothing of it counts.
        let mut after = service();
        after.relearn(Time::from_millis(1), learned, MAX_AGE + Duration::from_secs(1));
        assert_eq!(after.snapshot(Time::from_millis(2)).endpoints[0].breaker.word(), "closed");
    }

    #[test]
    fn an_operators_order_is_no_lesson() {
        let (mut service, now) = (service(), Time::from_millis(1));
        let id = service.endpoints_at(BAD).next().unwrap();
        assert!(service.order(now, id, crate::service::Order::KeepOpen));
        assert!(service.learned(now).endpoints.iter().all(|e| e.breaker == Phase::Closed));
    }

    #[test]
    fn too_old_or_from_the_future_is_not_used() {
        let learned = Learned { at: 1_000, services: BTreeMap::new() };
        assert_eq!(learned.age(Wall(1_010)), Ok(Duration::from_secs(10)));
        assert_eq!(learned.age(Wall(990)), Ok(Duration::ZERO));
        assert_eq!(learned.age(Wall(1_601)), Err(NotUsed::Old(601)));
        assert_eq!(learned.age(Wall(0)), Err(NotUsed::Future(1_000)));
    }

    fn lesson() -> impl Strategy<Value = LearnedEndpoint> {
        let phase = prop_oneof![Just(Phase::Closed), Just(Phase::Open), Just(Phase::HalfOpen)];
        let number = prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
        let health = prop_oneof![Just(Status::Unhealthy), Just(Status::Healthy)];
        let address = prop_oneof![Just(BAD.to_owned()), any::<String>()];
        (phase, number.clone(), any::<u8>(), proptest::option::of(number), health, address)
            .prop_map(|(breaker, open_ms, openings, latency_us, health, address)| LearnedEndpoint {
                cluster: "near".into(),
                address: address.into(),
                breaker,
                open_ms,
                trip: None,
                openings,
                latency_us,
                health,
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn hostile_values_delay_an_endpoint_by_its_longest_open_time_at_most(
            endpoints in proptest::collection::vec(lesson(), 0..4),
            age in 0_u64..1_000,
        ) {
            let mut service = service();
            let what = LearnedService { active: Some("nowhere".into()), endpoints };
            service.relearn(Time::from_millis(1), what, Duration::from_secs(age));
            let longest = Duration::from_secs(2 * 3_600);
            let mut now = Time::from_millis(1).plus(longest);
            let _ = service.snapshot(now);
            for e in service.snapshot(now).endpoints {
                prop_assert_ne!(e.breaker.word(), "open");
            }
            for number in 0..20 {
                call(&mut service, &mut now, number);
            }
            prop_assert_eq!(service.counts().answered, 20);
            prop_assert_eq!(service.counts().misuse, 0);
        }
    }
}
