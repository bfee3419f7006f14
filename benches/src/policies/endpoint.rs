//! What is remembered of endpoints, tiers and latencies: the work done when an attempt ends.

use std::hint::black_box;
use std::time::Duration;

use origin_core::Time;
use origin_core::config::{ChecksConfig, StallConfig};
use origin_core::policy::health::{self, Health, ProbeOutcome};
use origin_core::policy::latency::{self, Histogram, Quantile};
use origin_core::policy::outlier::{self, Detector, Outlier};
use origin_core::policy::stall::{self, Watch};
use origin_core::policy::tiers::{self, TierHealth, Tiers};
use origin_core::rng::Pcg32;

use super::{Case, Clock, LONG, Made, TOOK, batch, unjudged};

const SEED: u64 = 42;

pub(super) const CASES: &[Case] = &[
    unjudged(
        "tiers_pick",
        "tier of a call, 3 tiers that share the load: draw and pick",
        tiers_pick,
    ),
    unjudged("tiers_update", "the health of one of 3 tiers changed: the split anew", tiers_update),
    unjudged("outlier_success", "outlier ejection: a success", || outlier(false)),
    unjudged("outlier_failure", "outlier ejection: a failure that ejects nobody", || outlier(true)),
    unjudged("latency_record", "latency histogram: one answer", || latency(false)),
    unjudged(
        "latency_p95",
        "latency histogram: one answer, and the percentile as a policy reads it",
        || latency(true),
    ),
    unjudged("stall_watch", "stall suspicion: sent, suspect?, answered", stall_watch),
    unjudged("health_record", "active checks: one more good result", health_record),
];

fn tiers_of_three(settings: &tiers::Settings) -> Tiers {
    let mut tiers = Tiers::new(Time::ZERO, 3, settings);
    let health = [TierHealth::of(1, 8), TierHealth::of(2, 8), TierHealth::of(8, 8)];
    tiers.update_all(Time::ZERO, &health, settings, |_| ());
    tiers
}

fn tiers_pick() -> Made {
    let settings = tiers::Settings { over_provisioning: 140, ..tiers::Settings::default() };
    let (mut tiers, mut rng) = (tiers_of_three(&settings), Pcg32::new(SEED, 0));
    Ok(batch(move || black_box(&mut tiers).pick(rng.below(100)).is_ok()))
}

fn tiers_update() -> Made {
    let settings = tiers::Settings { over_provisioning: 140, ..tiers::Settings::default() };
    let (mut tiers, mut clock) = (tiers_of_three(&settings), Clock::default());
    let mut healthy = 1;
    Ok(batch(move || {
        healthy = 3 - healthy;
        let tiers = black_box(&mut tiers);
        tiers.update(clock.next(), 0, TierHealth::of(healthy, 8), &settings, |_| ());
        tiers.active() == Some(0)
    }))
}

fn outlier(failed: bool) -> Made {
    let settings = outlier::Settings { consecutive_failures: 0, ..outlier::Settings::default() };
    let settings = black_box(settings);
    let mut detector = Detector::new(Time::ZERO, &settings);
    let (mut endpoint, mut rng) = (Outlier::default(), Pcg32::new(SEED, 0));
    let mut clock = Clock::default();
    Ok(batch(move || {
        let (settings, endpoint) = (black_box(&settings), black_box(&mut endpoint));
        let failed = black_box(failed);
        detector.record(clock.next(), endpoint, failed, 5, settings, &mut rng).is_none()
    }))
}

fn latency(read: bool) -> Made {
    let settings = black_box(latency::Settings::default());
    let (mut seen, mut quantile) = (Histogram::new(Time::ZERO, &settings), Quantile::default());
    let (mut clock, mut micros) = (Clock::default(), 0);
    Ok(batch(move || {
        let (settings, seen) = (black_box(&settings), black_box(&mut seen));
        micros = (micros + 611) & 0x3fff;
        seen.record(clock.next(), Duration::from_micros(micros), settings);
        !read || black_box(&quantile.read(seen, 950)).is_some()
    }))
}

fn stall_watch() -> Made {
    let settings = black_box(stall::Settings::of(&StallConfig::default(), "stall")?);
    let (mut watch, mut clock) = (Watch::new(Time::ZERO), Clock::default());
    Ok(batch(move || {
        let (now, settings, watch) = (clock.next(), black_box(&settings), black_box(&mut watch));
        let suspect = watch.suspect(now, settings);
        watch.sent(now);
        let trouble = watch.answered(now, TOOK);
        !suspect && !trouble
    }))
}

fn health_record() -> Made {
    let config = ChecksConfig { interval: LONG, ..ChecksConfig::default() };
    let settings = black_box(health::Settings::of(&config, "checks")?);
    let (mut health, mut clock) = (Health::new(Time::ZERO), Clock::default());
    let _ = health.record(Time::ZERO, ProbeOutcome::Pass, &settings);
    Ok(batch(move || {
        let (now, settings, health) = (clock.next(), black_box(&settings), black_box(&mut health));
        health.record(now, ProbeOutcome::Pass, settings).is_none()
    }))
}
