//! Bytes that each policy takes: its own and those behind it, counted by an allocator while it is
//! made. With the feature `peers`, other crates beside it. Prints a table; nothing is judged here,
//! the aim is under 512 bytes for all that is kept of an endpoint.
#![allow(clippy::print_stdout)] // a benchmark prints

use std::alloc::System;
use std::hint::black_box;

use origin_core::Time;
use origin_core::config::{BalanceConfig, BalanceKind, BreakerConfig, QueueConfig};
use origin_core::policy::balance::ewma::PeakEwma;
use origin_core::policy::balance::{self, Balancer, Endpoint, hash};
use origin_core::policy::breaker::{self, Breaker};
use origin_core::policy::budget::Budget;
use origin_core::policy::concurrency::{self, Concurrency};
use origin_core::policy::health::{self, Health, ProbeOutcome};
use origin_core::policy::hedge::Hedge;
use origin_core::policy::latency::{self, Histogram};
use origin_core::policy::outlier::{self, Detector, Outlier};
use origin_core::policy::queue::{self, WaitQueue};
use origin_core::policy::rate::{self, RateLimit};
use origin_core::policy::stall::Watch;
use origin_core::policy::throttle::Throttle;
use origin_core::policy::tiers::{self, TierHealth, Tiers};
use origin_core::policy::tokens::{self, Tokens};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Endpoints over which a list is divided.
const MANY: u32 = 10_000;

fn main() {
    println!("{:<44} {:>7} {:>7} {:>7}", "of an endpoint, bytes", "itself", "behind", "sum");
    let of_endpoint = [
        row("breaker, failures in a row", || breaker(&consecutive())),
        row("breaker, default (10 s in 10 buckets)", || breaker(&BreakerConfig::default())),
        row("stall watch", || Watch::new(Time::ZERO)),
        row("outlier", Outlier::default),
        row("latency estimate (peak EWMA)", || PeakEwma::new(Time::ZERO)),
        row("health, with active checks", health),
    ];
    row("breaker, rate over 100 calls", || breaker(&counting()));
    // One breaker of the two.
    let all: usize = of_endpoint[1..].iter().sum();
    println!("{:<44} {:>23}", "all with the default breaker", all);
    println!("{:<44} {:>23}", "the same without active checks", all - of_endpoint[5]);

    println!("\n{:<44} {:>7}", "of an endpoint in a balancer alone, bytes", "each");
    for kind in [BalanceKind::P2c, BalanceKind::Weighted, BalanceKind::Ring] {
        println!("{:<44} {:>7.1}", kind.word(), balancer(kind));
    }

    println!("\n{:<44} {:>7} {:>7} {:>7}", "of a service, bytes", "itself", "behind", "sum");
    row("retry budget", Budget::default);
    row("retry tokens", || Tokens::new(&tokens::Settings::default()));
    row("rate limit", || RateLimit::new(&rate::Settings::default()));
    row("concurrency limit", || Concurrency::new(&concurrency::Settings::default()));
    row("client-side throttling", Throttle::default);
    row("wait queue, default", || {
        let config = QueueConfig { enabled: true, ..QueueConfig::default() };
        queue::Settings::of(&config, "queue").map(|settings| WaitQueue::new(&settings))
    });
    row("hedging", || Hedge::new(Time::ZERO));
    row("latency histogram", || Histogram::new(Time::ZERO, &latency::Settings::default()));
    row("outlier detector", || Detector::new(Time::ZERO, &outlier::Settings::default()));
    row("tiers, 3", tiers);

    #[cfg(feature = "peers")]
    peers();
}

/// What `make` makes: printed, and the sum of it.
fn row<T>(name: &str, make: impl Fn() -> T) -> usize {
    // Once before, for what is only made the first time.
    drop(black_box(make()));
    let region = Region::new(ALLOCATOR);
    let made = black_box(make());
    let change = region.change();
    let (own, behind) = (size_of_val(&made), change.bytes_allocated - change.bytes_deallocated);
    println!("{name:<44} {own:>7} {behind:>7} {:>7}", own + behind);
    own + behind
}

fn consecutive() -> BreakerConfig {
    BreakerConfig { failure_rate: None, ..BreakerConfig::default() }
}

fn counting() -> BreakerConfig {
    BreakerConfig { window: None, window_calls: Some(100), ..BreakerConfig::default() }
}

/// `None` cannot be: the configurations above are right.
fn breaker(config: &BreakerConfig) -> Option<Breaker> {
    let settings = breaker::Settings::of(config, "breaker").ok()?;
    Some(Breaker::new(Time::ZERO, &settings))
}

/// With all the history that it keeps by default.
fn health() -> Health {
    let settings = health::Settings::default();
    let mut health = Health::new(Time::ZERO);
    for n in 0..2 * u64::from(settings.history) {
        let outcome = if n % 2 == 0 { ProbeOutcome::Pass } else { ProbeOutcome::Degraded };
        let _ = health.record(Time::from_millis(n), outcome, &settings);
    }
    health
}

fn tiers() -> Tiers {
    let settings = tiers::Settings::default();
    let mut tiers = Tiers::new(Time::ZERO, 3, &settings);
    tiers.update_all(Time::ZERO, &[TierHealth::of(2, 4); 3], &settings, |_| ());
    tiers
}

/// Bytes of one of many.
fn balancer(kind: BalanceKind) -> f64 {
    let config = BalanceConfig { kind, ..BalanceConfig::default() };
    let Ok(settings) = balance::Settings::of(&config, "balance") else { return f64::NAN };
    let endpoint = |n| Endpoint { hash: hash::mix(u64::from(n)), weight: 1 + n % 5 };
    let list: Vec<Endpoint> = (0..MANY).map(endpoint).collect();
    let region = Region::new(ALLOCATOR);
    let made = black_box(Balancer::new(Time::ZERO, &list, &settings));
    let change = region.change();
    drop(made);
    #[allow(clippy::cast_precision_loss)] // some megabytes
    let bytes = (change.bytes_allocated - change.bytes_deallocated) as f64;
    bytes / f64::from(MANY)
}

#[cfg(feature = "peers")]
fn peers() {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::{Quota, RateLimiter};
    use tower::load::{CompleteOnResponse, PeakEwma};
    use tower::retry::budget::TpsBudget;
    use tower_resilience_circuitbreaker::CircuitBreakerLayer;

    println!("\n{:<44} {:>7} {:>7} {:>7}", "peers, bytes", "itself", "behind", "sum");
    row("recloser, 100 calls", || recloser::Recloser::custom().closed_len(100).build());
    row("failsafe, failures in a row", || {
        let backoff = failsafe::backoff::constant(Duration::from_secs(1));
        let policy = failsafe::failure_policy::consecutive_failures(5, backoff);
        failsafe::Config::new().failure_policy(policy).build()
    });
    row("failsafe, default", || failsafe::Config::new().build());
    row("tower-resilience breaker, 100 calls", || {
        let layer = CircuitBreakerLayer::builder().sliding_window_size(100).build();
        layer.map(|layer| layer.layer_fn(()))
    });
    row("tower TpsBudget", TpsBudget::default);
    row("tower PeakEwma around nothing", || {
        PeakEwma::new((), Duration::from_millis(1), 1e10, CompleteOnResponse::default())
    });
    row("governor, direct", || RateLimiter::direct(Quota::per_second(NonZeroU32::MIN)));
}
