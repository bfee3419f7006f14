//! Random worlds: topology, policies, faults of endpoints and of discovery, everything drawn from
//! one seed. All faults end at one moment; what a client must have come back to some time later is
//! judged here, what must hold all the time in `audit`.

use std::time::Duration;

use origin_core::config::breaker::Mode as BreakerMode;
use origin_core::config::{BalanceKind, ConcurrencyMode, DiscoveryConfig, Policy};
use origin_core::rng::Pcg32;
use origin_core::{CallSpec, Config, ConfigError, Time};
use origin_lab::Mode;

use super::net::{Latency, Network, REGISTRY, Server};
use super::world::{Load, Turn, World};
use crate::scenario::{Attempted, Cluster, Scenario, Source};

const SERVICE: &str = crate::scenario::SERVICE;
/// When the last fault ends.
const HEALED: Time = Time::from_millis(5_000);
/// Calls after everything has come back.
const AFTER: Duration = Duration::from_secs(1);

struct Dice(Pcg32);

impl Dice {
    fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.0.below(high - low + 1)
    }

    fn millis(&mut self, low: u32, high: u32) -> Duration {
        Duration::from_millis(u64::from(self.between(low, high)))
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.0.below(n) == 0
    }
}

fn address(cluster: &str, endpoint: usize) -> String {
    format!("http://{cluster}-{endpoint}.sim:80")
}

/// Runs the world of `seed` to its end. What is wrong with it is in [`World::violations`].
///
/// # Errors
/// A configuration that is refused, which would be a mistake of this generator.
pub fn random_run(seed: u64) -> Result<World, ConfigError> {
    let mut dice = Dice(Pcg32::new(seed, 0xd1ce));
    let scenario = topology(&mut dice);
    let mut network = Network::new(seed);
    let latency = Latency::millis(dice.between(1, 20).into(), dice.between(0, 10).into());
    for cluster in &scenario.clusters {
        for endpoint in 0..cluster.endpoints.len() {
            network.add(&address(&cluster.name, endpoint), Server::new(latency));
        }
    }
    let document = scenario.document(&Default::default(), &address);
    network.publish(document.clone());
    let config = Config { seed: Some(seed), ..scenario.config(REGISTRY, &address) };
    let background = dice.one_in(2);
    let recovered = HEALED.plus(recovery_of(&config));
    let mut world = World::new(config, seed, network, background)?;
    plan(&mut world, &mut dice, &scenario, document);
    if background && dice.one_in(3) {
        world.plan(Time::ZERO.plus(dice.millis(0, 5_000)), Turn::BackgroundDies);
    }
    let end = recovered.plus(AFTER);
    for idempotent in [true, false] {
        world.load(Load {
            service: SERVICE.into(),
            per_second: dice.between(4, 20),
            from: Time::from_millis(u64::from(dice.between(0, 100))),
            until: end,
            spec: CallSpec { idempotent: Some(idempotent), ..CallSpec::default() },
            dropped_permille: if dice.one_in(2) { 50 } else { 0 },
        });
    }
    world.run_until(end);
    world.settle(end.plus(Duration::from_secs(20)));
    judge(&mut world, recovered);
    Ok(world)
}

/// Everybody is well again: calls succeed, and nearly all of them at the preferred cluster.
fn judge(world: &mut World, recovered: Time) {
    let preferred = world.preferred_cluster();
    let late: Vec<_> = world.done().iter().filter(|done| done.began >= recovered).collect();
    let (mut wrong, mut away) = (Vec::new(), 0);
    for done in &late {
        if !done.is_ok() {
            wrong.push(format!("all is well since {HEALED:?}, but {done:?}"));
        }
        // A hedge may well be answered elsewhere; where the call went first is what counts.
        let first = |a: &&Attempted| Some(a.cluster.to_string()) == preferred;
        away += usize::from(!done.attempts.iter().any(|a| first(&a)));
    }
    if late.is_empty() || away * 20 > late.len() {
        wrong.push(format!("{away} of {} calls did not come back to {preferred:?}", late.len()));
    }
    wrong.into_iter().for_each(|line| world.audit.note(line));
}

/// How long after the last fault everything must have come back: the document is fetched again,
/// attempts out then have timed out, breakers have run their longest interval, probes are through.
fn recovery_of(config: &Config) -> Duration {
    let policy = &config.policy;
    let attempt = policy.deadline.attempt.unwrap_or_default();
    let breaker = policy.breaker.open_max.mul_f64(1.0 + policy.breaker.jitter) * 2;
    let discovery = config.discovery.clone().unwrap_or_default();
    // A background that died is relied on for two more seconds.
    let document = discovery.ttl + discovery.timeout * 2 + discovery.backoff_max * 2;
    let slow = Duration::from_millis(2_500);
    let hold = policy.failover.hold_down * 2;
    document + breaker * 2 + attempt * 4 + slow + hold
}

fn topology(dice: &mut Dice) -> Scenario {
    let count = dice.between(1, 4);
    let names = ["alpha", "beta", "gamma", "delta"];
    let clusters: Vec<Cluster> = (0..count as usize)
        .map(|n| Cluster {
            name: names[n].to_owned(),
            role: if dice.one_in(2) {
                origin_core::discovery::Role::Primary
            } else {
                origin_core::discovery::Role::Backup
            },
            endpoints: vec![Mode::Ok; dice.between(1, 3) as usize],
        })
        .collect();
    let local = dice.0.below(count + 1) as usize;
    Scenario {
        name: "random".to_owned(),
        proves: Vec::new(),
        source: if dice.one_in(4) { Source::Injected } else { Source::Discovered },
        local: names.get(local).filter(|_| local < count as usize).map(|n| (*n).to_owned()),
        policy: policy(dice),
        discovery: Some(discovery(dice)),
        limits: Default::default(),
        registry: Mode::Ok,
        clusters,
        steps: Vec::new(),
    }
}

fn policy(dice: &mut Dice) -> Policy {
    let mut policy = Policy::default();
    let attempt = dice.millis(60, 700);
    policy.deadline.attempt = Some(attempt);
    policy.deadline.total = attempt + dice.millis(0, 3_000);
    policy.deadline.connect = Some(attempt.min(dice.millis(20, 400)));
    policy.retry.max_attempts = dice.between(1, 8);
    policy.retry.attempts_per_cluster = dice.between(1, 3);
    policy.retry.backoff.base = dice.millis(1, 80);
    policy.retry.backoff.max = dice.millis(80, 800);
    policy.budget.ratio = f64::from(dice.between(0, 10)) / 10.0;
    policy.budget.min_per_second = dice.between(0, 20);
    policy.breaker.failures = Some(dice.between(1, 6));
    policy.breaker.open = dice.millis(50, 600);
    policy.breaker.open_max = dice.millis(600, 1_500);
    policy.breaker.half_open_permits = dice.between(1, 3);
    policy.breaker.half_open_successes = dice.between(1, 3);
    policy.breaker.half_open_max = dice.millis(300, 3_000);
    policy.stall.enabled = !dice.one_in(4);
    policy.failover.over_provisioning = dice.between(100, 300);
    policy.failover.panic_threshold = dice.between(0, 1) * 50;
    policy.failover.hold_down = dice.millis(0, 600);
    policy.failover.free_failbacks = dice.between(0, 2);
    policy.hedge.enabled = dice.one_in(3) && policy.retry.max_attempts > 1;
    policy.hedge.delay = dice.one_in(2).then(|| dice.millis(1, 60));
    policy.hedge.max_extra = dice.between(1, 2);
    policy.balance.kind = match dice.between(0, 6) {
        0 => BalanceKind::LeastOutstanding,
        1 => BalanceKind::RoundRobin,
        2 => BalanceKind::Weighted,
        3 => BalanceKind::Random,
        4 => BalanceKind::Ring,
        5 => BalanceKind::Rendezvous,
        _ => BalanceKind::P2c,
    };
    if dice.one_in(4) {
        policy.concurrency.mode = ConcurrencyMode::Static;
        policy.concurrency.limit = dice.between(2, 12);
        policy.queue.enabled = dice.one_in(2);
        policy.queue.capacity = dice.between(1, 20);
    }
    if dice.one_in(6) {
        policy.service_breaker.mode = BreakerMode::Enforce;
        policy.service_breaker.open = dice.millis(50, 300);
        policy.service_breaker.open_max = dice.millis(300, 600);
    }
    policy
}

fn discovery(dice: &mut Dice) -> DiscoveryConfig {
    let ttl = dice.millis(400, 2_000);
    DiscoveryConfig {
        ttl,
        refresh_ahead: ttl / dice.between(2, 8),
        timeout: dice.millis(50, 800),
        backoff: dice.millis(10, 200),
        backoff_max: dice.millis(200, 800),
        max_stale: if dice.one_in(3) { dice.millis(0, 2_000) } else { Duration::from_secs(3600) },
        cache: !dice.one_in(8),
        ..DiscoveryConfig::default()
    }
}

/// Plans faults until [`HEALED`], and their end.
fn plan(world: &mut World, dice: &mut Dice, scenario: &Scenario, document: String) {
    let addresses: Vec<String> = world.network().addresses().cloned().collect();
    let moment = |dice: &mut Dice| Time::ZERO.plus(dice.millis(0, 4_999));
    for _ in 0..dice.between(0, 14) {
        let at = moment(dice);
        let to =
            addresses[dice.0.below(u32::try_from(addresses.len()).unwrap_or(1)) as usize].clone();
        match dice.0.below(10) {
            0 => world.plan(at, Turn::Dark(to, true)),
            _ => world.plan(at, Turn::Server(to, server_mode(dice))),
        }
    }
    for _ in 0..dice.between(0, 5) {
        world.plan(moment(dice), Turn::Registry(registry_mode(dice)));
    }
    if dice.one_in(2) {
        let publish = crate::scenario::PublishStep {
            without: scenario.clusters.iter().take(1).map(|c| c.name.clone()).collect(),
            ..Default::default()
        };
        world.plan(moment(dice), Turn::Publish(scenario.document(&publish, &address)));
    }
    for to in addresses {
        world.plan(HEALED, Turn::Dark(to.clone(), false));
        world.plan(HEALED, Turn::Server(to, Mode::Ok));
    }
    world.plan(HEALED, Turn::Publish(document));
    world.plan(HEALED, Turn::Registry(Mode::Ok));
}

fn server_mode(dice: &mut Dice) -> Mode {
    let every = u64::from(dice.between(1, 4));
    match dice.0.below(14) {
        0 => Mode::Ok,
        1 => Mode::status(503),
        2 => Mode::status_with(503, "Retry-After", "1"),
        3 => Mode::status(500),
        4 => Mode::status([404, 429, 401][dice.0.below(3) as usize]),
        5 => Mode::Refuse,
        6 => Mode::HangBeforeHead,
        7 => Mode::HangOnAccept,
        8 => Mode::ResetBeforeHead,
        9 => Mode::ResetMidBody { after: 3 },
        10 => Mode::slow(dice.between(10, 900).into()),
        11 => Mode::Drip { bytes: 100, every_ms: dice.between(1, 10).into() },
        12 => Mode::flaky(every, Mode::HangBeforeHead),
        _ => Mode::flaky(every, Mode::status(502)),
    }
}

fn registry_mode(dice: &mut Dice) -> Mode {
    let body = |text: &str| Mode::Body {
        content_type: "application/json".to_owned(),
        etag: None,
        cache_control: None,
        body: text.to_owned(),
    };
    match dice.0.below(10) {
        0 => Mode::Ok,
        1 => Mode::status(500),
        2 => Mode::status(404),
        3 | 4 => Mode::HangBeforeHead,
        5 => Mode::Refuse,
        6 => body("{\"services\":{\"bil"),
        7 => body("<html>moved</html>"),
        8 => Mode::Redirect { to: "/elsewhere".to_owned(), code: 302 },
        _ => Mode::slow(dice.between(10, 900).into()),
    }
}
