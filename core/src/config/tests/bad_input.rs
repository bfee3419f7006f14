//! Bad input: every field at its worst, alone and together with others. Each policy is either
//! refused by a field's name, or it compiles and everything that runs on it survives whatever
//! the clock and the peers do.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::anything::random;
use crate::address::Address;
use crate::call::{Action, AttemptId, Call, CallSpec, Event};
use crate::config::balance::SlowStartConfig;
use crate::config::{
    CheckKind, ConcurrencyMode, Config, Mode, PRESETS, Policy, RateMode, Rules, TokensMode,
};
use crate::discovery::directory::Resolution;
use crate::discovery::{Role, plan};
use crate::job::{CheckOutcome, Poll};
use crate::outcome::{Fault, Outcome, Sent};
use crate::policy::balance::{Balancer, Endpoint};
use crate::policy::outlier::{Detector, Outlier};
use crate::policy::tiers::{TierHealth, Tiers};
use crate::request::Ids;
use crate::rng::Pcg32;
use crate::service::Service;
use crate::time::{Time, Wall};
use crate::told::Told;

/// Everything on that can be on.
fn all_on() -> Policy {
    let mut p = Policy::default();
    p.deadline.attempt = Some(Duration::from_secs(5));
    p.deadline.connect = Some(Duration::from_secs(1));
    p.retry.tokens.mode = TokensMode::Quota;
    p.retry.backoff.throttled_base = Some(Duration::from_secs(1));
    p.hedge.enabled = true;
    p.adaptive_timeout.enabled = true;
    (p.breaker.slow_rate, p.breaker.window_calls) = (Some(1.0), Some(100));
    p.service_breaker.mode = Mode::Enforce;
    p.throttle.enabled = true;
    p.concurrency.mode = ConcurrencyMode::Gradient;
    p.queue.enabled = true;
    p.rate.mode = RateMode::Adaptive;
    p.checks.kind = CheckKind::Http;
    p.checks.timeout = Some(Duration::from_secs(2));
    p.checks.fast_interval = Some(Duration::from_secs(1));
    p.checks.no_traffic_interval = Some(Duration::from_secs(60));
    p.balance.slow_start = SlowStartConfig { window: Duration::from_secs(9), ..Default::default() };
    p.expected_rate = Some(100.0);
    p
}

/// Runs everything there is on these rules, with a clock that stands still, jumps and goes back.
fn survive(policy: &Policy, rules: Rules, rng: &mut Pcg32) {
    let mut clock = Clock { rng: Pcg32::new(rng.up_to(u64::MAX), 9), now: Time::ZERO };
    let mut service = Service::new("s".into(), rules.clone(), 1)
        .with_profiles(vec![("other".into(), Rules::default())]);
    let endpoints = [("beta", 1), ("beta", 2), ("alpha", 3)].map(|(cluster, n)| {
        let address = Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
        (cluster.into(), Role::Backup, address)
    });
    service.resolve(Time::ZERO, Resolution::Found(plan::injected(&endpoints, Some("beta"))));
    let mut calls: Vec<(Call, Vec<AttemptId>)> = Vec::new();
    for number in 0..80 {
        let now = clock.tick();
        match clock.rng.up_to(5) {
            0 | 1 if calls.len() < 8 => {
                let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
                let mut call = Call::new(spec, 1, number).abreast(3);
                let action = call.step(&mut service, now, Event::Begin);
                follow(&mut service, &mut calls, (call, Vec::new()), now, action);
            }
            2 | 3 => {
                let Some((mut call, mut out)) = calls.pop() else { continue };
                let event = match out.pop() {
                    Some(attempt) => Event::Finished(attempt, outcome(&mut clock.rng)),
                    None => Event::Wake,
                };
                let action = call.step(&mut service, now, event);
                follow(&mut service, &mut calls, (call, out), now, action);
            }
            4 => {
                if calls.is_empty() {
                    continue;
                }
                let (mut call, out) = calls.remove(0);
                let action = call.step(&mut service, now, Event::Wake);
                follow(&mut service, &mut calls, (call, out), now, action);
            }
            _ => match service.poll_check(now) {
                Poll::Run(check) => drop(service.check_done(now, check.id, &CheckOutcome::Dropped)),
                Poll::Wait(_) => {}
            },
        }
    }
    for (mut call, _) in calls {
        let _ = call.step(&mut service, Time::NEVER, Event::Abandoned);
    }
    let mut hostile = http::HeaderMap::new();
    for value in ["99999999", "-1", "garbage"] {
        hostile.append("retry-after", http::HeaderValue::from_static(value));
    }
    let _ = service.outcome(503, &hostile, Wall(u64::MAX));
    let told = Told {
        attempt: AttemptId(u8::MAX),
        left: Duration::MAX,
        ids: &Ids::default(),
        trace: None,
        host: None,
    };
    let _ = told.headers(service.propagation(0));
    alone(&rules, &mut clock);
    let _ =
        (policy.warnings("p", None), policy.warnings("p", Some(0)), policy.warnings("p", Some(3)));
}

/// Does what a call asks for, as far as that does not take time.
fn follow(
    service: &mut Service,
    calls: &mut Vec<(Call, Vec<AttemptId>)>,
    (mut call, mut out): (Call, Vec<AttemptId>),
    now: Time,
    action: Action,
) {
    let mut action = action;
    while let Action::Cancel(attempt) = action {
        out.retain(|live| *live != attempt);
        action = call.step(service, now, Event::Wake);
    }
    match action {
        Action::Send { attempt, deadline, .. } => {
            let late = deadline.at > call.deadline();
            assert!(!late, "{deadline:?} after {:?}", call.deadline());
            out.push(attempt);
        }
        Action::Done(_) => return,
        _ => {}
    }
    calls.insert(0, (call, out));
}

/// The policies that no service runs yet.
fn alone(rules: &Rules, clock: &mut Clock) {
    let weights = [0, 1, 7, u32::MAX];
    let endpoints = weights.map(|weight| Endpoint { weight, hash: u64::from(weight) * 77 });
    let mut balancer = Balancer::new(Time::ZERO, &endpoints, &rules.balance);
    let mut nobody = Balancer::new(Time::ZERO, &[], &rules.balance);
    let mut tiers = Tiers::new(Time::ZERO, 3, &rules.failover);
    let mut detector = Detector::new(Time::ZERO, &rules.outlier);
    let mut group = [Outlier::default(); 6];
    for _ in 0..40 {
        let now = clock.tick();
        let rng = &mut clock.rng;
        let key = Some(rng.up_to(u64::MAX)).filter(|key| key % 2 == 0);
        if let Ok(choice) = balancer.pick_where(now, key, |_| true, &rules.balance, rng) {
            let took = Duration::from_nanos(rng.up_to(u64::MAX));
            balancer.done(choice.position, now, took, rng.up_to(1) == 0, &rules.balance);
        }
        assert!(nobody.pick(now, &rules.balance, rng).is_err());
        let total = u32::try_from(rng.up_to(10)).unwrap();
        let healthy = u32::try_from(rng.up_to(10)).unwrap().min(total);
        let health = TierHealth { healthy, total, ..TierHealth::default() };
        let tier = usize::try_from(rng.up_to(3)).unwrap();
        tiers.update(now, tier, health, &rules.failover, |_| {});
        tiers.tick(now, &rules.failover, |_| {});
        let _ = (tiers.pick(u32::MAX), tiers.explain(7, &rules.failover));
        for endpoint in &mut group {
            let failed = rng.up_to(2) == 0;
            let _ = detector.record(now, endpoint, failed, 6, &rules.outlier, rng);
        }
        detector.sweep(now, &mut group[..], &rules.outlier, rng, |_, _| {});
    }
}

struct Clock {
    rng: Pcg32,
    now: Time,
}

impl Clock {
    /// Stands still, walks, leaps, goes back or is at its end.
    fn tick(&mut self) -> Time {
        let step = match self.rng.up_to(9) {
            0..=2 => 0,
            3..=5 => self.rng.up_to(2_000_000_000),
            6 | 7 => self.rng.up_to(100_000_000_000),
            8 => self.rng.up_to(u64::MAX),
            _ => return [Time::ZERO, Time::NEVER][self.rng.up_to(1) as usize],
        };
        self.now = self.now.plus(Duration::from_nanos(step));
        if self.now == Time::NEVER {
            self.now = Time::ZERO;
        }
        self.now
    }
}

fn outcome(rng: &mut Pcg32) -> Outcome {
    let failed = |fault, sent| Outcome::Failed { fault, sent };
    match rng.up_to(6) {
        0..=2 => Outcome::status(200),
        3 => Outcome::status(503),
        4 => Outcome::status(429),
        5 => failed(Fault::Timeout, Sent::Maybe),
        _ => failed(Fault::Connect, Sent::Never),
    }
}

/// Refused by a field of `section` or because of one, or compiled to something that survives.
fn refused_or_safe(policy: &Policy, section: Option<&str>, rng: &mut Pcg32) -> Option<String> {
    match Rules::of(policy, "p") {
        Err(error) => {
            let field = error.field.strip_prefix("p.").unwrap().to_owned();
            assert!(error.reason.len() >= 10, "{error}");
            if let Some(section) = section {
                let own = field.split('.').next() == Some(section);
                // Or it is the other side of a contradiction, and says so.
                assert!(own || error.reason.contains(&format!("{section}.")), "{error}");
            }
            Some(field)
        }
        Ok(rules) => {
            survive(policy, rules, rng);
            None
        }
    }
}

/// Every leaf of the tree: its path.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value.as_object() {
        Some(table) => {
            for (key, value) in table {
                leaves(value, &format!("{path}/{key}"), found);
            }
        }
        None => found.push(path.to_owned()),
    }
}

/// Every numeric field and every span of the defaults, of everything on and of each preset, at
/// 0, 1, the largest value and some beside.
#[test]
fn every_field_at_its_worst_is_refused_by_name_or_safe() {
    let rng = &mut Pcg32::new(1, 2);
    let (mut refused, mut safe) = (0, 0);
    let mut bases = vec![all_on()];
    bases.extend(PRESETS.iter().map(|(name, _)| Policy::preset(name).unwrap()));
    for base in &bases {
        assert_eq!(Rules::of(base, "p").err(), None);
        let tree = serde_json::to_value(base).unwrap();
        let mut paths = Vec::new();
        leaves(&tree, "", &mut paths);
        assert!(paths.len() > 150, "{}", paths.len());
        for path in paths {
            let section = path[1..].split('/').next().unwrap();
            let worst = match tree.pointer(&path).unwrap() {
                Value::Number(n) if n.is_f64() => {
                    json!([0, 1, -1.0, 0.5, 1e-300, f64::MAX, f64::MIN_POSITIVE])
                }
                Value::Number(_) => json!([0, 1, 2, 65_535, u32::MAX]),
                Value::String(s) if crate::time::parse_duration(s).is_ok() => {
                    json!(["0s", "1ns", "7d", "7d1ns", format!("{}ns", u64::MAX)])
                }
                _ => continue,
            };
            for value in worst.as_array().unwrap() {
                let mut tree = tree.clone();
                *tree.pointer_mut(&path).unwrap() = value.clone();
                let policy: Policy = serde_json::from_value(tree).unwrap();
                // A call that is over at once leaves no room for what others need.
                let section = Some(section).filter(|section| *section != "deadline");
                match refused_or_safe(&policy, section, rng) {
                    Some(_) => refused += 1,
                    None => safe += 1,
                }
            }
        }
    }
    assert!(refused > 1_500 && safe > 1_500, "{refused} refused, {safe} safe");
}

/// No number that is none gets through, wherever a fraction may be written.
#[test]
fn nan_and_infinity_are_refused_by_name() {
    type Set = fn(&mut Policy, f64);
    let fields: [(&str, Set); 24] = [
        ("retry.tokens.gain", |p, v| p.retry.tokens.gain = v),
        ("hedge.percentile", |p, v| p.hedge.percentile = v),
        ("hedge.max_ratio", |p, v| p.hedge.max_ratio = v),
        ("adaptive_timeout.percentile", |p, v| p.adaptive_timeout.percentile = v),
        ("adaptive_timeout.factor", |p, v| p.adaptive_timeout.factor = v),
        ("budget.ratio", |p, v| p.budget.ratio = v),
        ("breaker.failure_rate", |p, v| p.breaker.failure_rate = Some(v)),
        ("breaker.slow_rate", |p, v| p.breaker.slow_rate = Some(v)),
        ("breaker.jitter", |p, v| p.breaker.jitter = v),
        ("service_breaker.failure_rate", |p, v| p.service_breaker.failure_rate = Some(v)),
        ("service_breaker.slow_rate", |p, v| p.service_breaker.slow_rate = Some(v)),
        ("service_breaker.jitter", |p, v| p.service_breaker.jitter = v),
        ("throttle.k", |p, v| p.throttle.k = v),
        ("throttle.max", |p, v| p.throttle.max = v),
        ("concurrency.backoff", |p, v| p.concurrency.backoff = v),
        ("concurrency.tolerance", |p, v| p.concurrency.tolerance = v),
        ("concurrency.smoothing", |p, v| p.concurrency.smoothing = v),
        ("rate.keep", |p, v| p.rate.keep = v),
        ("checks.jitter", |p, v| p.checks.jitter = v),
        ("balance.load_bound", |p, v| p.balance.load_bound = v),
        ("balance.slow_start.aggression", |p, v| p.balance.slow_start.aggression = v),
        ("balance.slow_start.min_weight", |p, v| p.balance.slow_start.min_weight = v),
        ("outlier.success_rate_factor", |p, v| p.outlier.success_rate_factor = v),
        ("expected_rate", |p, v| p.expected_rate = Some(v)),
    ];
    // All fields that hold a fraction are in the table.
    let mut paths = Vec::new();
    let tree = serde_json::to_value(all_on()).unwrap();
    leaves(&tree, "", &mut paths);
    let fractions = paths.iter().filter(|path| tree.pointer(path).is_some_and(Value::is_f64));
    // One of them is "off" where everything is on: the slow rate of the service's breaker.
    assert_eq!(fractions.count(), fields.len() - 1);
    for (field, set) in fields {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            for base in [Policy::default(), all_on()] {
                let mut policy = base;
                set(&mut policy, value);
                let refused = Rules::of(&policy, "p").unwrap_err();
                assert_eq!(refused.field, format!("p.{field}"), "{value}");
            }
        }
    }
}

/// Spans that no text can express.
#[test]
fn the_longest_span_is_refused_by_name() {
    type Set = fn(&mut Policy, Duration);
    let fields: [(&str, Set); 6] = [
        ("deadline.total", |p, v| p.deadline.total = v),
        ("retry.backoff.slack", |p, v| p.retry.backoff.slack = v),
        ("stall.floor", |p, v| p.stall.floor = v),
        ("throttle.window", |p, v| p.throttle.window = v),
        ("failover.hold_down", |p, v| p.failover.hold_down = v),
        ("balance.decay", |p, v| p.balance.decay = v),
    ];
    for (field, set) in fields {
        let mut policy = Policy::default();
        set(&mut policy, Duration::MAX);
        assert_eq!(Rules::of(&policy, "p").unwrap_err().field, format!("p.{field}"));
    }
}

proptest! {
    /// Any configuration at all: checked, warned about and compiled without a panic.
    #[test]
    fn any_configuration_is_refused_by_name_or_compiles(seed: u64, percent in 0_u64..30) {
        if let Some(config) = random::<Config>(&mut Pcg32::new(seed, 4), percent) {
            let _ = config.warnings();
            match config.check() {
                Err(error) => prop_assert!(!error.field.is_empty() && error.reason.len() >= 10),
                Ok(()) => for name in config.services.keys() {
                    prop_assert!(config.rules_for(name).is_ok());
                },
            }
        }
    }

    /// Any policy at all.
    #[test]
    fn any_policy_is_refused_by_name_or_safe(seed: u64, percent in 0_u64..30) {
        let mut rng = Pcg32::new(seed, 3);
        if let Some(policy) = random::<Policy>(&mut rng, percent) {
            refused_or_safe(&policy, None, &mut rng);
        }
    }
}

/// The generator reaches what it is for: most fields, on both sides of their limits.
#[test]
fn random_policies_are_refused_by_many_fields_and_accepted_too() {
    let mut refused = std::collections::BTreeSet::new();
    let (mut unreadable, mut accepted) = (0, 0);
    for seed in 0..6_000 {
        match random::<Policy>(&mut Pcg32::new(seed, 3), seed % 6) {
            None => unreadable += 1,
            Some(policy) => match Rules::of(&policy, "p") {
                Err(error) => drop(refused.insert(error.field)),
                Ok(_) => accepted += 1,
            },
        }
    }
    assert!(accepted > 1_200 && unreadable < 1_500, "{accepted} accepted, {unreadable} unreadable");
    assert!(refused.len() > 110, "{}: {refused:?}", refused.len());
}
