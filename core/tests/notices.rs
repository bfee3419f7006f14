//! Notices of a service against its machines: after every step of a random history each change of
//! state has been told, once, in the order in which it happened, and nothing has been told that
//! did not happen. What is compared with is the snapshot, which reads the machines themselves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // test code

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{Bench, outcome, rules};
use origin_core::CallSpec;
use origin_core::config::{CheckKind, ConcurrencyMode, Jitter, Mode, Rules};
use origin_core::job::{CheckOutcome, Poll};
use origin_core::notice::{Event, Notice};
use origin_core::outcome::{Class, Fault, Outcome, Sent};
use origin_core::policy::breaker::{State, Transition};
use origin_core::policy::health::Status;
use origin_core::policy::{outlier, tiers};
use origin_core::service::Order;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

type Place = (String, String);

/// What the notices have said so far of where everything stands.
#[derive(Default)]
struct Told {
    read: u64,
    breakers: BTreeMap<Place, &'static str>,
    ejected: BTreeMap<Place, bool>,
    health: BTreeMap<Place, Status>,
    stalled: BTreeMap<Place, bool>,
    stalled_clusters: BTreeMap<String, bool>,
    no_tls: BTreeMap<Place, bool>,
    service_breaker: Option<&'static str>,
    first_choice: Option<u8>,
    panic: BTreeMap<u8, bool>,
    spilling: BTreeMap<u8, bool>,
    capped: bool,
    switched_to: Option<String>,
    kinds: BTreeMap<&'static str, u64>,
}

const fn word(state: &State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open { .. } => "open",
        State::HalfOpen { .. } => "half-open",
    }
}

/// A change of a breaker, from what was told before it. `ordered`: by a person, who may also open
/// what is open.
fn moved(before: &'static str, change: &str, ordered: bool) -> &'static str {
    let (right, after) = match change {
        "open" => (before != "open" || ordered, "open"),
        "half-open" => (before == "open" || ordered, "half-open"),
        _ => (before != "closed", "closed"),
    };
    assert!(right, "{before} became {after}: told twice, or not told before");
    after
}

/// Something that is on or off.
fn flip<K: Ord + std::fmt::Debug>(of: &mut BTreeMap<K, bool>, key: K, on: bool) {
    let before = of.get(&key).copied().unwrap_or_default();
    assert_ne!(before, on, "{key:?} told twice");
    of.insert(key, on);
}

impl Told {
    /// Takes one notice.
    fn take(&mut self, notice: &Notice, ordered: bool) {
        assert_eq!(notice.seq, self.read, "one after the other");
        self.read += 1;
        *self.kinds.entry(notice.event.name()).or_default() += 1;
        let at = |cluster: &str, endpoint: &str| (cluster.to_owned(), endpoint.to_owned());
        match &notice.event {
            Event::BreakerOpened { cluster, endpoint, interval, .. } => {
                assert!(*interval > Duration::ZERO);
                self.breaker(at(cluster, endpoint), "open", ordered);
            }
            Event::BreakerHalfOpened { cluster, endpoint } => {
                self.breaker(at(cluster, endpoint), "half-open", ordered);
            }
            Event::BreakerClosed { cluster, endpoint } => {
                self.breaker(at(cluster, endpoint), "closed", ordered);
            }
            Event::ServiceBreaker { change } => {
                let change = match change {
                    Transition::Opened { .. } => "open",
                    Transition::HalfOpened { .. } => "half-open",
                    Transition::Closed { .. } => "closed",
                };
                let before = self.service_breaker.unwrap_or("closed");
                self.service_breaker = Some(moved(before, change, ordered));
            }
            Event::Outlier { cluster, endpoint, change } => match change {
                outlier::Change::Ejected { .. } => {
                    flip(&mut self.ejected, at(cluster, endpoint), true);
                }
                outlier::Change::Returned { .. } => {
                    flip(&mut self.ejected, at(cluster, endpoint), false);
                }
                outlier::Change::Spared { .. } => (),
            },
            Event::HealthChanged { cluster, endpoint, change } => {
                let known = self.health.entry(at(cluster, endpoint)).or_insert(Status::Unknown);
                assert_eq!(*known, change.from, "{notice}");
                assert_ne!(change.from, change.to, "{notice}");
                *known = change.to;
            }
            Event::Stalled { cluster, endpoint: Some(endpoint), .. } => {
                flip(&mut self.stalled, at(cluster, endpoint), true);
            }
            Event::StallEnded { cluster, endpoint: Some(endpoint), .. } => {
                flip(&mut self.stalled, at(cluster, endpoint), false);
            }
            Event::Stalled { cluster, .. } => {
                flip(&mut self.stalled_clusters, cluster.to_string(), true);
            }
            Event::StallEnded { cluster, .. } => {
                flip(&mut self.stalled_clusters, cluster.to_string(), false);
            }
            Event::HandshakeFailed { cluster, endpoint, .. } => {
                flip(&mut self.no_tls, at(cluster, endpoint), true);
            }
            Event::HandshakeRecovered { cluster, endpoint, failures, .. } => {
                assert!(*failures > 0);
                flip(&mut self.no_tls, at(cluster, endpoint), false);
            }
            Event::Tier { change, .. } => self.tier(change),
            Event::Switched { from, to, .. } => {
                assert_ne!(from, to);
                if let Some(known) = &self.switched_to {
                    assert_eq!(**known, **from, "{notice}");
                }
                self.switched_to = Some(to.to_string());
            }
            _ => (),
        }
    }

    fn breaker(&mut self, place: Place, change: &'static str, ordered: bool) {
        let before = self.breakers.get(&place).copied().unwrap_or("closed");
        self.breakers.insert(place, moved(before, change, ordered));
    }

    fn tier(&mut self, change: &tiers::Change) {
        match *change {
            tiers::Change::Failover { from, to, .. } | tiers::Change::Failback { from, to, .. } => {
                assert_eq!(self.first_choice.unwrap_or(from), from, "{change}");
                assert_ne!(from, to);
                self.first_choice = Some(to);
                // What the first choice carries is no spill.
                self.spilling.insert(to, false);
            }
            tiers::Change::Spilling { tier, .. } => flip(&mut self.spilling, tier, true),
            tiers::Change::SpillEnded { tier } => flip(&mut self.spilling, tier, false),
            tiers::Change::Panic { tier, on, .. } => flip(&mut self.panic, tier, on),
            tiers::Change::Capped { percent, .. } => {
                assert_ne!(self.capped, percent > 0, "{change}");
                self.capped = percent > 0;
            }
            tiers::Change::Held { .. } => (),
        }
    }

    /// Endpoints that are gone begin anew when they come back.
    fn forget(&mut self, bench: &mut Bench) {
        let known: Vec<Place> = bench
            .service
            .snapshot(bench.now)
            .endpoints
            .iter()
            .map(|e| (e.cluster.to_string(), e.address.to_string()))
            .collect();
        self.breakers.retain(|place, _| known.contains(place));
        self.health.retain(|place, _| known.contains(place));
        for of in [&mut self.ejected, &mut self.stalled, &mut self.no_tls] {
            of.retain(|place, _| known.contains(place));
        }
    }

    /// Where the machines stand is where the notices have said.
    fn agree(&self, bench: &mut Bench) {
        let snapshot = bench.service.snapshot(bench.now);
        for endpoint in &snapshot.endpoints {
            let place = (endpoint.cluster.to_string(), endpoint.address.to_string());
            let told = self.breakers.get(&place).copied().unwrap_or("closed");
            assert_eq!(told, word(&endpoint.breaker), "breaker of {place:?}");
            let on = |of: &BTreeMap<Place, bool>| of.get(&place).copied().unwrap_or_default();
            assert_eq!(on(&self.ejected), endpoint.ejected_for.is_some(), "ejection of {place:?}");
            assert_eq!(on(&self.stalled), endpoint.stalled_for.is_some(), "silence of {place:?}");
            let health = self.health.get(&place).copied().unwrap_or(Status::Unknown);
            assert_eq!(health, endpoint.health, "health of {place:?}");
        }
        let told = self.service_breaker.unwrap_or("closed");
        assert_eq!(told, word(&snapshot.limits.breaker), "breaker of the service");
        for (number, cluster) in (0_u8..).zip(&snapshot.split) {
            let on = |of: &BTreeMap<u8, bool>| of.get(&number).copied().unwrap_or_default();
            assert_eq!(on(&self.panic), cluster.panic, "panic of {}", cluster.cluster);
            if let Some(first) = self.first_choice {
                assert_eq!(first == number, cluster.first_choice, "{:?}", snapshot.split);
            }
            let stalled = self.stalled_clusters.get(&*cluster.cluster).copied().unwrap_or_default();
            assert_eq!(stalled, cluster.stalled_for.is_some(), "silence of {}", cluster.cluster);
        }
        if let (Some(told), Some(active)) = (&self.switched_to, &snapshot.active_cluster) {
            assert_eq!(**told, **active);
        }
        // What fell out of no ring: the counts are those of what was read.
        for count in bench.service.notices().counts() {
            assert_eq!(Some(&count.count), self.kinds.get(&*count.event), "{}", count.event);
        }
    }
}

/// What the history itself can count.
#[derive(Default)]
struct Counted {
    issues: u64,
    changes: u64,
}

fn issue(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed { .. }) && outcome.class() == Class::Failure
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (1_u32..4, 1_u32..3, any::<bool>(), any::<bool>(), 0_u8..3, 0_u32..6, 1_u32..4).prop_map(
        |(failures, successes, outlier, checks, limit, floor, threshold)| {
            rules(|p| {
                p.deadline.total = Duration::from_secs(4);
                p.deadline.attempt = Some(Duration::from_millis(700));
                p.retry.max_attempts = 4;
                p.retry.backoff.jitter = Jitter::None;
                p.breaker.failures = Some(failures);
                p.breaker.half_open_successes = successes;
                p.breaker.half_open_max = Duration::from_secs(3);
                p.budget.ratio = 0.1;
                p.budget.min_per_second = floor;
                p.outlier.enabled = outlier;
                p.outlier.consecutive_failures = threshold;
                p.service_breaker.mode = if limit == 1 { Mode::Enforce } else { Mode::Disabled };
                p.service_breaker.failures = Some(3);
                if checks {
                    p.checks.kind = CheckKind::Tcp;
                }
                if limit == 2 {
                    p.concurrency.mode = ConcurrencyMode::Static;
                    p.concurrency.limit = 2;
                }
            })
        },
    )
}

type Step = (u8, prop::sample::Index, u8, u64);

fn history() -> impl Strategy<Value = Vec<Step>> {
    let step = (0_u8..14, any::<prop::sample::Index>(), 0_u8..14, 0_u64..1_500);
    prop::collection::vec(step, 1..90)
}

/// A failed handshake is an outcome of its own here: the service hears why beside it.
fn finish(bench: &mut Bench, number: usize, what: u8, counted: &mut Counted) -> bool {
    let common::At::Live(_, endpoint) = bench.calls[number].at else { return false };
    let outcome = match what {
        12 | 13 => Outcome::Failed { fault: Fault::Tls, sent: Sent::Never },
        what => outcome(what),
    };
    if matches!(outcome, Outcome::Failed { fault: Fault::Tls, .. }) {
        bench.service.handshake_failed(bench.now, endpoint, "the certificate has expired");
    }
    let known = bench.service.address(endpoint).is_some();
    counted.issues += u64::from(issue(outcome) && known);
    bench.finish(number, outcome)
}

fn check(bench: &mut Bench, passes: bool) {
    if let Poll::Run(check) = bench.service.poll_check(bench.now) {
        let outcome =
            if passes { CheckOutcome::Connected } else { CheckOutcome::Failed(Fault::Connect) };
        bench.service.check_done(bench.now, check.id, &outcome);
    }
}

fn play(bench: &mut Bench, history: &[Step]) -> BTreeMap<&'static str, u64> {
    let (mut told, mut counted) = (Told::default(), Counted { changes: 1, ..Counted::default() });
    let mut sizes = [2, 2];
    for (action, which, what, ms) in history {
        let number = which.index(bench.calls.len().max(1));
        let there = number < bench.calls.len();
        let mut ordered = false;
        match action {
            0..=3 => {
                bench.begin(CallSpec { idempotent: Some(what % 3 != 0), ..CallSpec::default() });
            }
            4..=8 if there => {
                if !finish(bench, number, *what, &mut counted) {
                    bench.wake(number);
                }
            }
            9 if there && *what < 6 => bench.abandon(number),
            10 => check(bench, what % 2 == 0),
            11 if *what < 4 => {
                ordered = true;
                let order = [Order::Open, Order::KeepClosed, Order::Resume, Order::Reset];
                let endpoints: Vec<_> = bench.service.snapshot(bench.now).endpoints;
                if let Some(endpoint) = endpoints.get(number % 3) {
                    let address = endpoint.address.clone();
                    let ids: Vec<_> = bench.service.endpoints_at(&address).collect();
                    for id in ids {
                        bench.service.order(bench.now, id, order[usize::from(*what)]);
                    }
                }
            }
            12 if *what < 3 => {
                let size = |n: u8| usize::from(1 + (*what >> n) % 2);
                bench.change(&[size(0), size(1), 1]);
                counted.changes += u64::from(sizes != [size(0), size(1)]);
                sizes = [size(0), size(1)];
                told.forget(bench);
            }
            _ => {
                bench.pass(*ms);
                for number in 0..bench.calls.len() {
                    bench.wake(number);
                }
            }
        }
        // The snapshot lets time act first: what it sees has been told.
        let _ = bench.service.snapshot(bench.now);
        let from = told.read;
        for notice in bench.service.notices().since(from) {
            told.take(notice, ordered);
        }
        told.agree(bench);
    }
    let kind = |name: &str| told.kinds.get(name).copied().unwrap_or_default();
    assert_eq!(kind("connection_issue"), counted.issues);
    assert_eq!(kind("endpoints_changed"), counted.changes);
    // What is said with every call is said as often as it was counted.
    let snapshot = bench.service.snapshot(bench.now);
    let numbers = &snapshot.counted;
    let suppressed: u64 = numbers.suppressed.values().sum();
    assert_eq!(kind("retry_suppressed"), suppressed);
    let entered: u64 = snapshot.clusters.values().map(|cluster| cluster.entered).sum();
    assert_eq!(kind("failover"), entered);
    let switched: u64 = snapshot.clusters.values().map(|cluster| cluster.switched).sum();
    assert_eq!(kind("switched"), switched);
    // The first of a run of refusals is told; there are at most as many runs as there are refusals.
    let shed = bench.service.counts().shed;
    assert_eq!(kind("shed") > 0, shed > 0);
    assert!(kind("shed") <= shed);
    told.kinds
}

/// The histories reach what they are about.
#[test]
fn no_kind_is_missed() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..400 {
        let (rules, history) = (any_rules(), history()).new_tree(&mut runner).unwrap().current();
        seen.extend(play(&mut Bench::new(&[2, 2, 1], rules), &history).into_keys());
    }
    for kind in [
        "breaker_opened",
        "breaker_half_opened",
        "breaker_closed",
        "service_breaker",
        "connection_issue",
        "endpoints_changed",
        "failover",
        "handshake_failed",
        "handshake_recovered",
        "health_changed",
        "outlier",
        "retry_suppressed",
        "shed",
        "stalled",
        "stall_ended",
        "switched",
        "tier",
    ] {
        assert!(seen.contains(kind), "{kind} was never told");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_transition_is_told_once(rules in any_rules(), history in history()) {
        let mut bench = Bench::new(&[2, 2, 1], rules);
        play(&mut bench, &history);
    }
}
