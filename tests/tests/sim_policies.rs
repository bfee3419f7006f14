//! Policies at work together, each in a small world of its own in virtual time: what a caller
//! and a server notice of them, and not what the machine says of itself. That each machine is
//! right alone is proved beside it in `core`.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use origin_core::call::{Choice, Why};
use origin_core::config::breaker::Mode as BreakerMode;
use origin_core::config::{
    BalanceKind, ConcurrencyMode, EndpointConfig, Policy, RateMode, ServiceConfig, TokensConfig,
    TokensMode,
};
use origin_core::discovery::Role;
use origin_core::notice::{Event, Suppressed};
use origin_core::policy::queue::Priority;
use origin_core::policy::{outlier, tiers};
use origin_core::service::Overload;
use origin_core::{Action, CallSpec, Config, Time};
use origin_lab::Mode;
use origin_tests::sim::{Done, Latency, Load, Network, Server, Turn, What, World, seed};

#[path = "sim_policies/limits.rs"]
mod limits;

const SERVICE: &str = "billing";
const GET: CallSpec = CallSpec { idempotent: Some(true), ..CallSpec::DEFAULT };

fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn span(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn address(cluster: &str, endpoint: usize) -> String {
    format!("http://{cluster}-{endpoint}.sim:80")
}

/// A client in `beta`, if there is one, with so many endpoints in each cluster; `alpha` is the
/// primary. Answers take 1–3 ms.
fn world(seed: u64, policy: &Policy, clusters: &[(&str, usize)]) -> World {
    world_of(seed, policy, clusters, Latency::millis(1, 2), BTreeMap::new())
}

fn world_of(
    seed: u64,
    policy: &Policy,
    clusters: &[(&str, usize)],
    latency: Latency,
    profiles: BTreeMap<String, Policy>,
) -> World {
    let mut network = Network::new(seed);
    let mut endpoints = Vec::new();
    for (cluster, count) in clusters {
        for endpoint in 0..*count {
            network.add(&address(cluster, endpoint), Server::new(latency));
            let role = if *cluster == "alpha" { Role::Primary } else { Role::Backup };
            let cluster_name = (*cluster).to_owned();
            let at = EndpointConfig::at(address(cluster, endpoint));
            endpoints.push(EndpointConfig { cluster: cluster_name, role, ..at });
        }
    }
    let service = ServiceConfig { endpoints, ..ServiceConfig::default() };
    let config = Config {
        seed: Some(seed),
        local_cluster: Some("beta".to_owned()),
        policy: policy.clone(),
        profiles,
        services: [(SERVICE.to_owned(), service)].into(),
        ..Config::default()
    };
    World::new(config, seed, network, true).unwrap()
}

/// Deadlines of a quick service, and nothing else changed.
fn quick() -> Policy {
    let mut policy = Policy::default();
    policy.deadline.total = span(5_000);
    policy.deadline.attempt = Some(span(1_000));
    policy
}

fn load(world: &mut World, per_second: u32, from: u64, until: u64) {
    let (from, until) = (ms(from), ms(until));
    world.load(Load {
        service: SERVICE.into(),
        per_second,
        from,
        until,
        spec: GET,
        dropped_permille: 0,
    });
}

/// Lets it run to its end; every invariant must have held.
fn finish(world: &mut World, end: u64) {
    world.run_until(ms(end));
    world.settle(ms(end + 30_000));
    assert_eq!(world.violations(), [""; 0], "seed {}", world.config().seed.unwrap_or(0));
}

/// The calls begun between two moments.
fn begun(world: &World, from: u64, until: u64) -> Vec<&Done> {
    world.done().iter().filter(|d| d.began >= ms(from) && d.began < ms(until)).collect()
}

/// How many in a thousand of `all` are as asked.
fn permille<T>(all: &[T], is: impl Fn(&T) -> bool) -> usize {
    assert!(all.len() >= 100, "{} are too few to judge", all.len());
    all.iter().filter(|one| is(one)).count() * 1_000 / all.len()
}

/// When attempts were sent.
fn sends(world: &World) -> Vec<(Time, Action)> {
    let sent = |what: &What| match what {
        What::Decided(action @ Action::Send { .. }) => Some(*action),
        _ => None,
    };
    world.log().iter().filter_map(|entry| Some((entry.at, sent(&entry.what)?))).collect()
}

/// An open breaker stays open for the rest of the test.
fn stay_open(policy: &mut Policy) {
    policy.breaker.open = span(60_000);
    policy.breaker.open_max = span(60_000);
}

/// Envoy's table of over-provisioning 140: with half of the local endpoints left, 70 % of the
/// load stay and 30 % go to the next tier.
#[test]
fn load_spills_gradually() {
    for seed in seed(1)..seed(1) + 5 {
        let mut policy = quick();
        policy.failover.over_provisioning = 140;
        stay_open(&mut policy);
        // The default balancer calls an endpoint that failed so rarely that its breaker takes
        // long to open, and until then it counts as healthy.
        policy.breaker.failures = Some(1);
        let mut world = world(seed, &policy, &[("alpha", 2), ("beta", 2)]);
        world.plan(ms(1_000), Turn::Server(address("beta", 0), Mode::Refuse));
        load(&mut world, 300, 0, 11_000);
        finish(&mut world, 11_000);
        let first = |cluster: &'static str| move |d: &&Done| &*d.attempts[0].cluster == cluster;
        assert_eq!(permille(&begun(&world, 0, 1_000), first("beta")), 1_000);
        let spilled = permille(&begun(&world, 2_000, 11_000), first("alpha"));
        // 2 700 draws of 30 %: a standard deviation of 0.9 %.
        assert!((265..=335).contains(&spilled), "seed {seed}: {spilled} permille");
        let shared = tiers::Why::Spilled { percent: 30, first: 70 };
        let told = |(_, action): &(Time, Action)| matches!(action, Action::Send { why: Choice::Share(why), .. } if *why == shared);
        assert!(sends(&world).iter().any(told), "the reason names the numbers");
        assert!(world.done().iter().all(Done::is_ok), "seed {seed}");
    }
}

/// Three of four endpoints are ejected: below the panic threshold all four are used again, and
/// with the threshold switched off only the one that is left.
#[test]
fn panic_uses_who_was_left_out() {
    for (threshold, least, most) in [(50, 650, 850), (0, 0, 0)] {
        let mut policy = quick();
        policy.failover.panic_threshold = threshold;
        policy.breaker.mode = BreakerMode::Disabled;
        policy.outlier.consecutive_failures = 5;
        policy.outlier.max_ejected_percent = 100;
        policy.balance.kind = BalanceKind::Random;
        let mut world = world(seed(3), &policy, &[("alpha", 4)]);
        for endpoint in 0..3 {
            let to = address("alpha", endpoint);
            world.plan(ms(500), Turn::Server(to.clone(), Mode::status(500)));
            world.plan(ms(2_500), Turn::Server(to, Mode::Ok));
        }
        load(&mut world, 200, 0, 10_000);
        finish(&mut world, 10_000);
        let ejected: BTreeSet<&str> = world
            .notices()
            .iter()
            .filter_map(|n| match &n.event {
                Event::Outlier { endpoint, change: outlier::Change::Ejected { .. }, .. } => {
                    Some(&**endpoint)
                }
                _ => None,
            })
            .collect();
        assert_eq!(ejected.len(), 3, "{ejected:?}");
        let at_ejected = |d: &&Done| ejected.contains(&*d.attempts[0].endpoint);
        let share = permille(&begun(&world, 3_000, 10_000), at_ejected);
        assert!((least..=most).contains(&share), "threshold {threshold}: {share} permille");
        let panics = world.notices().iter().any(|n| {
            matches!(n.event, Event::Tier { change: tiers::Change::Panic { on: true, .. }, .. })
        });
        assert_eq!(panics, threshold > 0);
    }
}

/// When the first choice among the clusters changed, from the second second on.
fn switches_of(seed: u64, hold: u64, free: u32, pattern: &[(u64, u64)]) -> Vec<Time> {
    let mut policy = quick();
    policy.failover.hold_down = span(hold);
    policy.failover.free_failbacks = free;
    policy.breaker.failures = Some(1);
    policy.breaker.open = span(20);
    policy.breaker.open_max = span(20);
    let mut world = world(seed, &policy, &[("alpha", 1), ("beta", 1)]);
    let mut at = 1_000;
    for (up, down) in pattern.iter().cycle() {
        at += up;
        world.plan(ms(at), Turn::Server(address("beta", 0), Mode::Refuse));
        at += down;
        world.plan(ms(at), Turn::Server(address("beta", 0), Mode::Ok));
        if at > 30_000 {
            break;
        }
    }
    load(&mut world, 200, 0, 30_000);
    finish(&mut world, 30_000);
    assert!(world.done().iter().all(Done::is_ok), "seed {seed}");
    let switch = |event: &Event| {
        matches!(
            event,
            Event::Tier {
                change: tiers::Change::Failover { .. } | tiers::Change::Failback { .. },
                ..
            }
        )
    };
    world.notices().iter().filter(|n| switch(&n.event)).map(|n| n.at).collect()
}

/// The bound that `policy/tiers/holddown.rs` proves for two tiers, the lower of which does not
/// fail: 2 × (free + ⌈T / hold⌉) + 1 switches in any window of length T.
#[test]
fn a_flapping_cluster_switches_within_the_bound() {
    let patterns: [&[(u64, u64)]; 4] =
        [&[(300, 300)], &[(60, 60)], &[(2_200, 100)], &[(100, 50), (2_100, 40), (500, 900)]];
    for pattern in patterns {
        for (free, seed) in [(0, seed(1)), (1, seed(2)), (2, seed(3))] {
            let hold = 2_000;
            let at = switches_of(seed, hold, free, pattern);
            for (n, from) in at.iter().enumerate() {
                for (m, to) in at.iter().enumerate().skip(n) {
                    // A window that ends just after `to`.
                    let holds = to.since(*from).as_nanos() / span(hold).as_nanos() + 1;
                    let bound = 2 * (u128::from(free) + holds) + 1;
                    let count = (m - n + 1) as u128;
                    assert!(count <= bound, "{count} of {bound}: {pattern:?} free {free} {at:?}");
                }
            }
            let unheld = switches_of(seed, 0, free, pattern).len();
            assert!(unheld > 4, "{pattern:?} does not flap: {unheld} switches without hold-down");
            if pattern.iter().all(|(up, _)| *up < hold) {
                let most = 2 * (free as usize + 15) + 1;
                assert!(at.len() <= most.min(unheld), "{} of {unheld}: {pattern:?}", at.len());
                assert!(at.len() * 3 < unheld, "{} of {unheld}: {pattern:?}", at.len());
            }
        }
    }
}

/// The local cluster is gone and at most 20 % may go elsewhere: the rest is refused at once, and
/// told why.
#[test]
fn the_cap_on_spill_sheds_with_its_numbers() {
    let mut policy = quick();
    policy.failover.max_spill = 20;
    stay_open(&mut policy);
    let mut world = world(seed(5), &policy, &[("alpha", 2), ("beta", 2)]);
    for endpoint in 0..2 {
        world.plan(ms(1_000), Turn::Server(address("beta", endpoint), Mode::Refuse));
    }
    load(&mut world, 300, 0, 11_000);
    finish(&mut world, 11_000);
    let late = begun(&world, 2_000, 11_000);
    let answered = permille(&late, |d| d.is_ok());
    assert!((170..=230).contains(&answered), "{answered} permille");
    let capped = tiers::Refusal::SpillCapped { percent: 80, max_spill: 20 };
    for done in late.iter().filter(|d| !d.is_ok()) {
        assert_eq!(done.why, Some(Why::Overload(Overload::Tiers(capped))));
        assert_eq!((done.attempts.len(), done.elapsed()), (0, Duration::ZERO));
    }
    let told = |n: &&origin_core::notice::Notice| {
        let change = tiers::Change::Capped { percent: 80, max_spill: 20 };
        matches!(n.event, Event::Tier { change: c, .. } if c == change)
    };
    assert_eq!(world.notices().iter().filter(told).count(), 1);
}

/// One of six endpoints fails every fifth call: too rarely for a breaker, found within one sweep
/// by comparison with the others.
#[test]
fn one_bad_endpoint_of_six_is_ejected() {
    let mut policy = quick();
    policy.balance.kind = BalanceKind::RoundRobin;
    let mut world = world(seed(9), &policy, &[("alpha", 6)]);
    world.plan(ms(0), Turn::Server(address("alpha", 4), Mode::flaky(5, Mode::status(500))));
    load(&mut world, 150, 0, 28_000);
    finish(&mut world, 28_000);
    let ejected: Vec<(Time, &str)> = world
        .notices()
        .iter()
        .filter_map(|n| match &n.event {
            Event::Outlier { endpoint, change: outlier::Change::Ejected { .. }, .. } => {
                Some((n.at, &**endpoint))
            }
            _ => None,
        })
        .collect();
    assert_eq!(ejected.len(), 1, "{ejected:?}");
    let (at, who) = ejected[0];
    assert!(who.contains("alpha-4") && at <= ms(11_000), "{who} at {at:?}");
    let there = |d: &&Done| d.attempts.iter().any(|a| a.endpoint.contains("alpha-4"));
    assert!((130..=200).contains(&permille(&begun(&world, 0, 9_000), there)));
    assert_eq!(permille(&begun(&world, 11_500, 28_000), there), 0);
    assert!(world.done().iter().all(Done::is_ok));
}

/// With a ring the same key goes to the same endpoint while that is healthy. When it fails only
/// its keys move, and they come back.
#[test]
fn a_key_stays_at_its_endpoint_and_returns_to_it() {
    let mut policy = quick();
    policy.balance.kind = BalanceKind::Ring;
    policy.breaker.failures = Some(1);
    policy.breaker.open = span(6_000);
    policy.breaker.open_max = span(6_000);
    let mut world = world(seed(10), &policy, &[("alpha", 5)]);
    let keys = 1..=40_u64;
    // One call after the other: each key once per round, 10 ms apart.
    let places = |world: &mut World, begin: u64| -> BTreeMap<u64, String> {
        let ask = |key: u64| {
            world.run_until(ms(begin + key * 10));
            // The ring wants a hash.
            let affinity = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let number = world.call(SERVICE, CallSpec { affinity, ..GET });
            world.run_until(ms(begin + key * 10 + 9));
            let done = world.done().iter().find(|d| d.call == number).unwrap();
            assert!(done.is_ok(), "{done:?}");
            (key, done.attempts.last().unwrap().endpoint.to_string())
        };
        keys.clone().map(ask).collect()
    };
    let home = places(&mut world, 0);
    let used: BTreeSet<&String> = home.values().collect();
    assert_eq!(used.len(), 5, "40 keys reach all endpoints: {home:?}");
    assert_eq!(places(&mut world, 1_000), home);
    let victim = home[&1].clone();
    world.network().server(&victim).unwrap().set(Mode::Refuse);
    let moved = places(&mut world, 2_000);
    for (key, place) in &home {
        assert_eq!(moved[key] == *place, *place != victim, "key {key} of {place}");
    }
    assert_eq!(places(&mut world, 3_000), moved, "and they stay where they went");
    world.network().server(&victim).unwrap().set(Mode::Ok);
    // The probe that closes the breaker may belong to any key.
    let _ = places(&mut world, 12_000);
    assert_eq!(places(&mut world, 13_000), home);
    finish(&mut world, 14_000);
}

/// Calls take 5–10 ms: a timeout of a second becomes one of 50 ms, the least allowed.
#[test]
fn the_attempt_timeout_follows_latency() {
    let mut policy = quick();
    policy.adaptive_timeout.enabled = true;
    policy.stall.enabled = false;
    let latency = Latency::millis(5, 5);
    let mut world = world_of(seed(11), &policy, &[("alpha", 3)], latency, BTreeMap::new());
    load(&mut world, 400, 0, 6_000);
    for endpoint in 0..3 {
        world.plan(ms(5_000), Turn::Server(address("alpha", endpoint), Mode::HangBeforeHead));
        world.plan(ms(5_020), Turn::Server(address("alpha", endpoint), Mode::Ok));
    }
    finish(&mut world, 6_000);
    let given = |from: u64, until: u64| -> Vec<Duration> {
        let within = |at: Time| at >= ms(from) && at < ms(until);
        let time = |(at, action): &(Time, Action)| match action {
            Action::Send { deadline, .. } if within(*at) => Some(deadline.at.since(*at)),
            _ => None,
        };
        sends(&world).iter().filter_map(time).collect()
    };
    assert!(given(0, 1_500).iter().all(|time| *time == span(1_000)), "nothing is known yet");
    let learnt = given(3_500, 5_000);
    assert!(!learnt.is_empty() && learnt.iter().all(|time| *time == span(50)), "{learnt:?}");
    // Whoever was caught in the short silence lost 50 ms, not a second.
    let caught = begun(&world, 5_000, 5_020);
    assert!(caught.iter().all(|d| d.is_ok() && d.elapsed() <= span(250)), "{caught:?}");
    assert!(caught.iter().any(|d| d.elapsed() >= span(50)));
}

/// Calls under a profile follow its retries and deadlines; what they share stays shared.
#[test]
fn a_call_under_a_profile_follows_it() {
    let policy = quick();
    let mut once = quick();
    once.retry.max_attempts = 1;
    let mut hasty = quick();
    hasty.deadline.attempt = Some(span(100));
    let profiles = [("hasty".to_owned(), hasty), ("once".to_owned(), once)].into();
    let latency = Latency::millis(1, 2);
    let mut world = world_of(seed(14), &policy, &[("alpha", 3)], latency, profiles);
    let call = |world: &mut World, at: u64, profile: u8| -> Done {
        world.run_until(ms(at));
        let number = world.call(SERVICE, CallSpec { profile, ..GET });
        world.run_until(ms(at + 6_000));
        world.done().iter().find(|d| d.call == number).unwrap().clone()
    };
    for endpoint in 0..3 {
        world.network().server(&address("alpha", endpoint)).unwrap().set(Mode::status(503));
    }
    assert!(call(&mut world, 0, 0).attempts.len() >= 2, "the service's own policy retries");
    let done = call(&mut world, 10_000, 2);
    assert_eq!((done.attempts.len(), done.why), (1, Some(Why::Exhausted)), "{done:?}");
    for endpoint in 0..3 {
        world.network().server(&address("alpha", endpoint)).unwrap().set(Mode::slow(200));
    }
    assert!(call(&mut world, 20_000, 0).is_ok(), "slow, but within a second");
    let done = call(&mut world, 40_000, 1);
    assert!(!done.is_ok() && done.attempts.len() >= 2, "100 ms are too short: {done:?}");
    finish(&mut world, 60_000);
}
