//! The share against the published formulas and the plain sums; what a peer sees of it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn settings(change: impl FnOnce(&mut ThrottleConfig)) -> Settings {
    let mut config =
        ThrottleConfig { enabled: true, min_requests: 1, max: 1.0, ..ThrottleConfig::default() };
    change(&mut config);
    Settings::of(&config, "t").unwrap()
}

fn counted(requests: u32, accepts: u32, settings: &Settings) -> Throttle {
    let mut throttle = Throttle::default();
    (0..requests).for_each(|n| throttle.record(Time::ZERO, n < accepts, settings));
    throttle
}

#[test]
fn published_formulas_as_a_table() {
    // (k, free, max), (requests, accepts), permille.
    let rows = [
        // SRE book, K = 2: nothing until half is refused, then (n − 2a)/(n + 1).
        ((2.0, 0, 1.0), (100, 100), 0),
        ((2.0, 0, 1.0), (100, 50), 0),
        ((2.0, 0, 1.0), (99, 49), 10),
        ((2.0, 0, 1.0), (99, 25), 490),
        ((2.0, 0, 1.0), (99, 0), 990),
        ((2.0, 0, 0.9), (99, 0), 900),
        // K = 1.1: the share at 90 % accepted is the 10 % that are refused.
        ((1.1, 0, 1.0), (999, 900), 9),
        // Envoy admission control: (n − a/0.95)/(n + 1), at most 80 %.
        ((1.0 / 0.95, 0, 0.8), (99, 95), 0),
        ((1.0 / 0.95, 0, 0.8), (99, 57), 390),
        ((1.0 / 0.95, 0, 0.8), (99, 0), 800),
        // failsafe-go: (n − a/0.9)/(n + 1), at most 90 %.
        ((1.0 / 0.9, 0, 0.9), (99, 45), 490),
        // go-zero: (n − 5 − 1.5a)/(n + 1).
        ((1.5, 5, 1.0), (99, 62), 10),
        ((1.5, 5, 1.0), (99, 63), 0),
        ((1.5, 5, 1.0), (5, 0), 0),
    ];
    for ((k, free, max), (requests, accepts), permille) in rows {
        let settings = settings(|c| (c.k, c.free_requests, c.max) = (k, free, max));
        let throttle = counted(requests, accepts, &settings);
        assert_eq!(throttle.permille(&settings), permille, "{k} {requests} {accepts}");
    }
}

#[test]
fn the_share_refused_is_the_share_computed() {
    let settings = settings(|_| ());
    let mut rng = Pcg32::new(7, 7);
    let mut throttle = counted(9_999, 2_500, &settings);
    let refused = (0..10_000)
        .filter(|_| {
            let mut one = throttle.clone();
            one.passed = Time::ZERO;
            one.admit(Time::ZERO, &settings, &mut rng).is_err()
        })
        .count();
    assert!((4_800..5_200).contains(&refused), "{refused} of 10 000 at 49.99 %");
    let error = loop {
        if let Err(error) = throttle.admit(Time::ZERO, &settings, &mut rng) {
            break error;
        }
    };
    assert_eq!(error.to_string(), "throttled: 2500 of 9999 requests accepted, 50.0 % refused here");
    assert_eq!(throttle.counts(), (10_000, 2_500), "the refusal counts");
}

#[test]
fn a_peer_sees_twice_what_it_accepts() {
    // A peer that takes 10 a second of the 100 it is offered: at K = 2 it is sent about 20.
    let settings = settings(|c| c.window = Duration::from_secs(10));
    let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(3, 0));
    let (mut sent, mut second) = (0_u32, 0);
    for ms in (0..120_000_u64).step_by(10) {
        let now = Time::from_millis(ms);
        if ms % 1_000 == 0 {
            second = 0;
        }
        if throttle.admit(now, &settings, &mut rng).is_ok() {
            second += 1;
            throttle.record(now, second <= 10, &settings);
            sent += u32::from(ms >= 60_000);
        }
    }
    assert!((18 * 60..24 * 60).contains(&sent), "{} a second", f64::from(sent) / 60.0);
}

#[test]
fn one_passes_each_second_and_recovery_is_seen() {
    let settings = settings(|c| (c.window, c.max) = (Duration::from_secs(10), 0.9));
    let starved = Settings { max_ppm: ONE, ..settings };
    let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(3, 0));
    let mut gap = 0;
    let mut last = 0;
    for ms in 0..60_000 {
        let now = Time::from_millis(ms);
        if throttle.admit(now, &starved, &mut rng).is_ok() {
            gap = gap.max(ms - last);
            last = ms;
            throttle.record(now, false, &settings);
        }
    }
    assert!(gap <= 1_000 && last >= 59_000, "{gap} {last}");
    let healthy = (60_000..100_000)
        .filter(|ms| {
            let now = Time::from_millis(*ms);
            let passed = throttle.admit(now, &settings, &mut rng).is_ok();
            if passed {
                throttle.record(now, true, &settings);
            }
            passed && *ms >= 80_000
        })
        .count();
    assert_eq!(healthy, 20_000, "everything passes two windows after recovery");
}

#[test]
fn unanswered_requests_are_not_failures_and_few_are_no_evidence() {
    let settings = settings(|c| c.min_requests = 20);
    let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(3, 0));
    assert!((0..1_000).all(|_| throttle.admit(Time::ZERO, &settings, &mut rng).is_ok()));
    (0..19).for_each(|_| throttle.record(Time::ZERO, false, &settings));
    assert!((0..1_000).all(|_| throttle.admit(Time::ZERO, &settings, &mut rng).is_ok()));
    throttle.record(Time::ZERO, false, &settings);
    assert!(!(0..1_000).all(|_| throttle.admit(Time::ZERO, &settings, &mut rng).is_ok()));
}

#[test]
fn off_means_off_and_a_clock_that_goes_back_recovers() {
    let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(3, 0));
    let off = Settings::default();
    (0..1_000).for_each(|_| throttle.record(Time::ZERO, false, &off));
    assert!((0..1_000).all(|_| throttle.admit(Time::ZERO, &off, &mut rng).is_ok()));
    assert_eq!(throttle, Throttle::default());

    let on = settings(|_| ());
    let far = Time::from_nanos(u64::MAX / 2);
    (0..1_000).for_each(|_| throttle.record(far, false, &on));
    (0..1_000).for_each(|_| throttle.record(Time::ZERO, false, &on));
    assert_eq!(throttle.counts(), (2_000, 0));
    throttle.record(Time::from_millis(119_999), true, &on);
    assert_eq!(throttle.counts(), (2_001, 1));
    throttle.record(Time::from_millis(120_000), true, &on);
    assert_eq!(throttle.counts(), (2, 2), "what is older than the window is gone");
}

#[test]
fn x_09_every_field_is_checked_by_name() {
    type Case = (&'static str, fn(&mut ThrottleConfig));
    let cases: [Case; 10] = [
        ("window", |c| c.window = Duration::ZERO),
        ("window", |c| c.window = Duration::MAX),
        ("pass_after", |c| c.pass_after = Duration::ZERO),
        ("k", |c| c.k = 0.9),
        ("k", |c| c.k = f64::NAN),
        ("free_requests", |c| c.free_requests = u32::MAX),
        ("min_requests", |c| c.min_requests = 0),
        ("min_requests", |c| c.min_requests = u32::MAX),
        ("max", |c| c.max = 0.0),
        ("max", |c| c.max = f64::INFINITY),
    ];
    for (field, change) in cases {
        let mut config = ThrottleConfig::default();
        change(&mut config);
        assert_eq!(Settings::of(&config, "p.t").unwrap_err().field, format!("p.t.{field}"));
    }
    let compiled = Settings::of(&ThrottleConfig::default(), "t").unwrap();
    assert_eq!(compiled, Settings::default());
}

proptest! {
    /// The model keeps every event with its bucket and computes the share from the sums.
    #[test]
    fn equals_the_plain_sums(
        seed: u64, k in 1_000_000_u32..4_000_000, free in 0_u32..10, min in 1_u32..30, max in 10_u32..1_000,
        script in proptest::collection::vec((0_u8..4, 0_u64..9_000), 1..300),
    ) {
        let max = f64::from(max) / 1e3;
        let settings = settings(|c| {
            (c.k, c.free_requests, c.min_requests) = (f64::from(k) / 1e6, free, min);
            (c.max, c.window) = (max, Duration::from_secs(60));
        });
        let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(seed, 0));
        let mut events: Vec<(u64, bool)> = vec![];
        let (mut now, mut passed, mut start) = (0_u64, 0_u64, 0_u64);
        for (action, ms) in script {
            // Long pauses now and then; after one of a window, buckets are laid from its end.
            now += if ms % 50 == 0 { ms * 10 } else { ms / 20 };
            if now - start >= 60_000 {
                events.clear();
                start = now;
            }
            start += (now - start) / 2_000 * 2_000;
            events.retain(|e| e.0 + 60_000 > start);
            let time = Time::from_millis(now);
            if action < 2 {
                throttle.record(time, action == 0, &settings);
                events.push((start, action == 0));
                continue;
            }
            let n = events.len() as u64;
            let a = events.iter().filter(|e| e.1).count() as u64;
            let draw = f64::from(rng.clone().bits()) / 4_294_967_296.0;
            let got = throttle.admit(time, &settings, &mut rng);
            prop_assert_eq!(throttle.counts(), (n + u64::from(got.is_err()), a));
            let needed = n as f64 - f64::from(free) - f64::from(k) / 1e6 * a as f64;
            let p = (needed / (n as f64 + 1.0)).clamp(0.0, max);
            let expect = n >= u64::from(min) && now - passed < 1_000 && draw < p;
            if (draw - p).abs() > 1e-9 {
                prop_assert_eq!(got.is_err(), expect, "{} {} {} {}", n, a, p, draw);
            }
            match got {
                Ok(()) => passed = now,
                Err(refused) => {
                    prop_assert_eq!((refused.requests, refused.accepts), (n, a));
                    prop_assert!((f64::from(refused.permille) - p * 1e3).abs() < 0.5 + 1e-6);
                    events.push((start, false));
                }
            }
        }
    }

    #[test]
    fn any_input_is_survived(
        seed: u64, spans: [u64; 2], floats: [f64; 2], counts: [u32; 2],
        script in proptest::collection::vec((any::<bool>(), prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]), 1..100),
    ) {
        let config = ThrottleConfig {
            enabled: true, k: floats[0], max: floats[1],
            window: Duration::from_nanos(spans[0]), pass_after: Duration::from_nanos(spans[1]),
            free_requests: counts[0], min_requests: counts[1],
        };
        let _ = Settings::of(&config, "t");
        let settings = Settings::compile(&config);
        let (mut throttle, mut rng) = (Throttle::default(), Pcg32::new(seed, 0));
        throttle.buckets[0] = Bucket { requests: u32::MAX - 1, accepts: u32::MAX - 1 };
        (throttle.requests, throttle.accepts) = (u64::from(u32::MAX) - 1, u64::from(u32::MAX) - 1);
        for (record, now) in script {
            let now = Time::from_nanos(now);
            if record { throttle.record(now, true, &settings); }
            let _ = throttle.admit(now, &settings, &mut rng);
            let sum: u64 = throttle.buckets.iter().map(|b| u64::from(b.requests)).sum();
            prop_assert_eq!(sum, throttle.requests);
            prop_assert!(throttle.accepts <= throttle.requests);
        }
    }
}
