//! Each preset's numbers against its source; `off` at work.

use super::*;
use crate::address::Address;
use crate::call::{Action, Call, CallSpec, Event, Verdict, Why};
use crate::config::{BreakerConfig, Rules};
use crate::discovery::directory::Resolution;
use crate::discovery::{Role, plan};
use crate::outcome::{Fault, Outcome, Sent};
use crate::policy::backoff::{Advice, Backoff, Cause};
use crate::policy::breaker::{Breaker, Permit};
use crate::policy::health;
use crate::rng::Pcg32;
use crate::time::Time;
use crate::{Service, outcome::Class};

fn preset(name: &str) -> (Policy, Rules) {
    let policy = Policy::preset(name).unwrap();
    let rules = Rules::of(&policy, "policy").unwrap();
    (policy, rules)
}

/// The waits that failures of a call would meet, one after the other.
fn waits(rules: &Rules, count: usize) -> Vec<u64> {
    let (mut backoff, mut rng) = (Backoff::default(), Pcg32::new(1, 1));
    let mut next = || {
        let (wait, _) =
            backoff.next(Cause::Failed, Advice::Silent, &rules.backoff, &mut rng).unwrap();
        wait.as_secs()
    };
    (0..count).map(|_| next()).collect()
}

/// Feeds failures until the breaker opens; how many it took.
fn failures_to_open(config: &BreakerConfig) -> u32 {
    let settings = crate::policy::breaker::Settings::of(config, "b").unwrap();
    let (mut breaker, mut rng) = (Breaker::new(Time::ZERO, &settings), Pcg32::new(1, 1));
    for count in 1..=100 {
        let permit = breaker.admit(Time::ZERO, &settings).unwrap();
        let took = Duration::from_millis(1);
        let _ = breaker.record(Time::ZERO, permit, Class::Failure, took, &settings, &mut rng);
        if !breaker.would_admit(&settings) {
            return count;
        }
    }
    unreachable!("never opened")
}

/// What a breaker that was opened at 0 admits: when for the first time, in seconds, and how many
/// at once; and how many successes close it.
fn half_open(config: &BreakerConfig) -> (u64, usize, u32) {
    let settings = crate::policy::breaker::Settings::of(config, "b").unwrap();
    let (mut breaker, mut rng) = (Breaker::new(Time::ZERO, &settings), Pcg32::new(1, 1));
    let took = Duration::from_millis(1);
    while breaker.would_admit(&settings) {
        let permit = breaker.admit(Time::ZERO, &settings).unwrap();
        let _ = breaker.record(Time::ZERO, permit, Class::Failure, took, &settings, &mut rng);
    }
    let due = breaker.due();
    assert!(breaker.admit(Time::from_millis(due.as_millis() - 1), &settings).is_err());
    let _ = breaker.tick(due, &settings, &mut rng);
    let mut permits: Vec<Permit> = Vec::new();
    while let Ok(permit) = breaker.admit(due, &settings) {
        permits.push(permit);
    }
    let at_once = permits.len();
    let mut successes = 0;
    loop {
        let permit = permits.pop().or_else(|| breaker.admit(due, &settings).ok()).unwrap();
        successes += 1;
        if breaker.record(due, permit, Class::Success, took, &settings, &mut rng).is_some() {
            return (due.as_millis() / 1_000, at_once, successes);
        }
    }
}

#[test]
fn every_preset_is_listed_compiles_and_warns_of_nothing() {
    let mut seen: Vec<Policy> = Vec::new();
    for (name, what) in PRESETS {
        let (policy, _) = preset(name);
        assert!(!what.is_empty() && !seen.contains(&policy), "{name}");
        assert_eq!(policy.warnings("policy", None), [], "{name}");
        seen.push(policy);
    }
    assert_eq!(Policy::preset("origin"), Some(Policy::default()));
    for unknown in ["", "Origin", "envoy", "off "] {
        assert_eq!(Policy::preset(unknown), None);
    }
}

/// Contract §3.2: five in a row of at least five calls, 60 s, three probes, two successes.
#[test]
fn case_x_01_omninode_breaker() {
    let (policy, rules) = preset("omninode");
    for breaker in [&policy.breaker, &policy.service_breaker] {
        assert_eq!(failures_to_open(breaker), 5, "001-21");
        assert_eq!(half_open(breaker), (60, 3, 2), "001-23, 001-24, 001-25");
        assert_eq!(breaker.minimum_throughput, 5);
        assert_eq!(breaker.slow_call, secs(5));
        assert_eq!(breaker.slow_rate, None, "slow calls are counted, and do not open it");
    }
    // 001-27: a protected call may take 30 s.
    assert_eq!((rules.total, rules.attempt), (secs(30), secs(30)));
    // 001-29, as an overlay.
    let breaker = BreakerConfig { minimum_throughput: 10, ..policy.breaker };
    assert_eq!(failures_to_open(&breaker), 10);
}

/// Contract §3.1: three attempts, waits of 1, 2, 4, 8, 10, 10 s, timeouts and network errors, and
/// 503 as the seed promises.
#[test]
fn case_x_02_omninode_retry() {
    let (policy, rules) = preset("omninode");
    assert_eq!(rules.max_attempts, 3, "001-43");
    assert_eq!(waits(&rules, 6), [1, 2, 4, 8, 10, 10], "001-44");
    let retried = |outcome| {
        let method = crate::config::MethodClass::Get;
        rules.retryable.allows(method, None, outcome, None).is_ok()
    };
    let failed = |fault| Outcome::Failed { fault, sent: Sent::Maybe };
    for fault in [Fault::Timeout, Fault::Connect, Fault::ConnectTimeout, Fault::Reset] {
        assert!(retried(failed(fault)), "001-40, 001-41: {fault:?}");
    }
    assert!(!retried(failed(Fault::Protocol)));
    let statuses: Vec<u16> = (100..600).filter(|s| retried(Outcome::status(*s))).collect();
    assert_eq!(statuses, [503], "001-42, 001-45");
    assert_eq!(policy.deadline.total, secs(30), "001-46: attempts and waits share it");
}

/// Contract §4.2, recommended reading: five in a row, 60 s, one probe, one success.
#[test]
fn case_x_01_designsynapse_breaker() {
    let (policy, _) = preset("designsynapse");
    for breaker in [&policy.breaker, &policy.service_breaker] {
        assert_eq!(failures_to_open(breaker), 5, "002-11");
        assert_eq!(half_open(breaker), (60, 1, 1), "002-13, 002-14");
    }
}

/// Contract §4.1: three attempts of 30 s, waits double without cap or jitter, no status at all.
#[test]
fn case_x_02_designsynapse_retry() {
    let (_, rules) = preset("designsynapse");
    assert_eq!((rules.max_attempts, rules.attempt), (3, secs(30)), "002-08, 002-10");
    assert_eq!(waits(&rules, 8), [1, 2, 4, 8, 16, 32, 64, 128], "002-02");
    assert_eq!(rules.total, secs(93), "3 × 30 s + 1 s + 2 s");
    let retried = |outcome| {
        let method = crate::config::MethodClass::Get;
        rules.retryable.allows(method, None, outcome, None).is_ok()
    };
    let failed = |fault| Outcome::Failed { fault, sent: Sent::Maybe };
    assert!(retried(failed(Fault::Timeout)), "002-03");
    assert!(retried(failed(Fault::Connect)), "002-04");
    assert!(!retried(failed(Fault::Reset)), "an answer that breaks off is not repeated");
    assert!(!(100..600).any(|status| retried(Outcome::status(status))), "002-05, 002-06");
}

/// Contract §6.1, column 004, and §5.8: `routing/circuit.py`, `retry.py`, `health/*`.
#[test]
fn case_x_01_datapunk_breaker_and_checks() {
    let (policy, rules) = preset("datapunk");
    assert_eq!(failures_to_open(&policy.breaker), 5);
    assert_eq!(half_open(&policy.breaker), (60, 3, 2));
    assert_eq!((policy.breaker.failure_rate, policy.breaker.minimum_calls), (Some(0.5), 5));
    let checks = &rules.checks;
    assert_eq!((checks.interval, checks.timeout), (secs(10), secs(5)), "004-06");
    assert_eq!((checks.healthy_threshold, checks.unhealthy_threshold), (2, 3));
    assert_eq!((&checks.kind, checks.path(None)), (&health::Kind::Http(None), "/health"), "004-96");
}

#[test]
fn case_x_02_datapunk_retry() {
    let (policy, rules) = preset("datapunk");
    let backoff = &policy.retry.backoff;
    assert_eq!((rules.max_attempts, backoff.base, backoff.max), (3, ms(100), secs(10)));
    assert_eq!((rules.attempt, rules.total), (secs(10), secs(60)));
}

/// Anchors b.1, b.2, b.4, b.8, b.11.
#[test]
fn envoy_like_has_envoys_numbers() {
    let (policy, rules) = preset("envoy-like");
    assert_eq!((rules.failover.over_provisioning, rules.failover.panic_threshold), (140, 50));
    assert_eq!(rules.failover.hold_down, Duration::ZERO, "no anchor holds a failback down");
    let o = &policy.outlier;
    assert_eq!((o.interval, o.base_ejection, o.max_ejection), (secs(10), secs(30), secs(300)));
    assert_eq!((o.max_ejected_percent, o.consecutive_failures), (10, 5));
    assert_eq!((o.success_rate_min_hosts, o.success_rate_min_requests), (5, 100));
    assert!((o.success_rate_factor - 1.9).abs() < 1e-9);
    assert_eq!((o.failure_percentage, o.failure_percentage_enforcing), (85, 0));
    assert_eq!((o.failure_percentage_min_hosts, o.failure_percentage_min_requests), (5, 50));
    let backoff = &policy.retry.backoff;
    assert_eq!((backoff.base, backoff.max, backoff.jitter), (ms(25), ms(250), Jitter::Full));
    assert_eq!((rules.budget.ppm, rules.budget.min_per_second), (200_000, 3));
    assert_eq!((rules.max_attempts, rules.total), (2, secs(15)));
}

/// Anchors b.9, b.10.
#[test]
fn aws_like_has_rule_2_1() {
    let (policy, rules) = preset("aws-like");
    let retry = &policy.retry;
    assert_eq!(rules.max_attempts, 3);
    assert_eq!(retry.tokens, TokensConfig::aws());
    let tokens = &retry.tokens;
    assert_eq!((tokens.capacity, tokens.cost, tokens.cost_throttled), (500, 14, 5));
    let b = &retry.backoff;
    assert_eq!((b.base, b.throttled_base, b.max), (ms(50), Some(secs(1)), secs(20)));
    assert_eq!((b.jitter, b.pushback, b.slack), (Jitter::Full, PushbackRule::Clamp, secs(5)));
    assert!(retry.on.faults.contains(&FaultClass::Throttled) && !policy.budget.enabled);
}

/// Every switch there is, by name, so that a default that is switched on later is noticed.
#[test]
fn off_switches_everything_off() {
    let (policy, _) = preset("off");
    let value = serde_json::to_value(&policy).unwrap();
    let mut switches = Vec::new();
    find_switches("", &value, &mut switches);
    let on: Vec<&str> =
        switches.iter().filter(|(_, off)| !off).map(|(path, _)| path.as_str()).collect();
    assert_eq!(on, [""; 0]);
    let count = |word: &str| switches.iter().filter(|(path, _)| path.ends_with(word)).count();
    assert_eq!((count("enabled"), count("mode")), (8, 5), "{switches:?}");
    assert_eq!((policy.retry.max_attempts, policy.balance.kind), (1, BalanceKind::Random));
    assert_eq!((policy.balance.subset, policy.balance.slow_start.window), (0, Duration::ZERO));
    assert_eq!(policy.propagate, PropagateConfig::default());
    assert_eq!(policy.checks.kind, CheckKind::Off);
}

fn find_switches(path: &str, value: &serde_json::Value, found: &mut Vec<(String, bool)>) {
    let Some(table) = value.as_object() else { return };
    for (key, value) in table {
        let path = format!("{path}.{key}");
        match (key.as_str(), value) {
            ("enabled" | "rescue" | "accept", value) => found.push((path, value == false)),
            ("mode", value) => found.push((path, value == "off" || value == "disabled")),
            _ => find_switches(&path, value, found),
        }
    }
}

/// A thousand calls to two dead endpoints, faster than any window and slower than any deadline:
/// each is one attempt, none is refused, none waits.
#[test]
fn off_lets_every_call_through_once() {
    let (_, rules) = preset("off");
    let mut service = Service::new("s".into(), rules, 7);
    let endpoints = [1, 2].map(|n| {
        let address = Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
        ("alpha".into(), Role::Primary, address)
    });
    service.resolve(Time::ZERO, Resolution::Found(plan::injected(&endpoints, None)));
    let outcomes = [
        Outcome::Failed { fault: Fault::Connect, sent: Sent::Never },
        Outcome::Failed { fault: Fault::Timeout, sent: Sent::Maybe },
        Outcome::status(503),
        Outcome::status(429),
    ];
    for n in 0..1_000_u64 {
        let now = Time::from_millis(n * 3);
        let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
        let mut call = Call::new(spec, 7, n).abreast(3);
        let Action::Send { attempt, deadline, wake, .. } =
            call.step(&mut service, now, Event::Begin)
        else {
            panic!("call {n} was not sent")
        };
        assert_eq!((deadline.at, wake), (now.plus(secs(30)), Time::NEVER));
        let outcome = outcomes[usize::try_from(n % 4).unwrap()];
        match call.step(&mut service, now, Event::Finished(attempt, outcome)) {
            Action::Done(Verdict::Answered(_)) => assert_eq!(outcome, Outcome::status(429)),
            Action::Done(Verdict::Failed { why, .. }) => {
                assert!(matches!(why, Why::Exhausted | Why::Deadline(_)), "{why:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((service.counts().attempts, service.counts().shed), (1_000, 0));
}
