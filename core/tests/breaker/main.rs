//! The breaker against a small model that keeps every result and every permit: at random over all
//! settings, and exhaustively over all short sequences of inputs for a few.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_types)] // test code

mod model;
mod world;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use origin_core::Time;
use origin_core::config::{BreakerConfig, HalfOpenBy, Mode};
use origin_core::outcome::Class;
use origin_core::policy::breaker::{Breaker, Permit, Settings, Transition};
use origin_core::rng::Pcg32;
use proptest::prelude::*;
use world::{FAST, Op, SLOW, Which, World};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(change: impl FnOnce(&mut BreakerConfig)) -> Settings {
    let mut config = BreakerConfig {
        jitter: 0.0,
        failure_rate: None,
        minimum_calls: 2,
        slow_call: SLOW,
        open: ms(1_000),
        open_max: ms(2_000),
        decay: ms(3_000),
        half_open_max: ms(1_500),
        ..BreakerConfig::default()
    };
    change(&mut config);
    Settings::of(&config, "p").unwrap()
}

/// Walks through every sequence of `length` inputs. Worlds that are equal in every respect behave
/// equally, so each is walked on from once; `sequences` counts how many lead to it.
fn walk(name: &str, s: &Settings, ops: &[Op], length: u32) -> u64 {
    let mut layer: HashMap<World, (u64, Vec<Op>)> = HashMap::new();
    layer.insert(World::new(s), (1, Vec::new()));
    let (mut worlds, mut sequences) = (0, 0_u64);
    for _ in 0..length {
        let mut next: HashMap<World, (u64, Vec<Op>)> = HashMap::with_capacity(layer.len() * 3);
        for (world, (ways, path)) in &layer {
            worlds += 1;
            for op in ops.iter().filter(|op| world.enabled(**op)) {
                let mut after = world.clone();
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    after.step(*op, s, false);
                    after.judge_progress(s);
                }));
                if outcome.is_err() {
                    panic!("{name}: after {path:?} then {op:?}");
                }
                let (sum, _) = next
                    .entry(after)
                    .or_insert_with(|| (0, path.iter().copied().chain([*op]).collect()));
                *sum += ways;
            }
        }
        sequences += next.values().map(|(ways, _)| ways).sum::<u64>();
        layer = next;
    }
    println!("{name}: {sequences} sequences of up to {length} inputs through {worlds} worlds");
    sequences
}

fn alphabet(more: &[Op]) -> Vec<Op> {
    use Which::{Newest, Oldest};
    let mut ops = vec![
        Op::Ask,
        Op::Result(Oldest, Class::Success, FAST),
        Op::Result(Newest, Class::Success, FAST),
        Op::Result(Oldest, Class::Failure, FAST),
        Op::Result(Newest, Class::Failure, FAST),
        Op::Release(Newest),
        Op::Pass(400),
        Op::Pass(1_600),
    ];
    ops.extend_from_slice(more);
    ops
}

#[test]
fn every_short_sequence_consecutive() {
    let s = settings(|p| {
        p.failures = Some(2);
        (p.half_open_permits, p.half_open_successes) = (2, 2);
    });
    let ops = alphabet(&[
        Op::Result(Which::Oldest, Class::Throttled, FAST),
        Op::Result(Which::Oldest, Class::Ignored, FAST),
        Op::ForceOpen(None),
        Op::Reset,
    ]);
    assert!(walk("consecutive", &s, &ops, 8) > 1_000_000);
}

#[test]
fn every_short_sequence_count_window() {
    let s = settings(|p| {
        (p.failures, p.failure_rate, p.slow_rate) = (None, Some(0.5), Some(1.0));
        (p.window, p.window_calls, p.minimum_calls) = (None, Some(3), 2);
        (p.half_open_permits, p.half_open_by) = (2, HalfOpenBy::Rates);
    });
    let ops = alphabet(&[
        Op::Result(Which::Oldest, Class::Throttled, FAST),
        Op::Result(Which::Oldest, Class::Success, SLOW),
        Op::ForceOpen(None),
        Op::Reset,
    ]);
    assert!(walk("count window", &s, &ops, 8) > 1_000_000);
}

#[test]
fn every_short_sequence_time_window() {
    let s = settings(|p| {
        (p.failures, p.failure_rate, p.minimum_calls) = (Some(3), Some(0.6), 2);
        (p.window, p.window_buckets) = (Some(ms(1_000)), 2);
        p.half_open_failures = 2;
    });
    let ops = alphabet(&[Op::Result(Which::Oldest, Class::Throttled, FAST), Op::ForceClosed]);
    assert!(walk("time window", &s, &ops, 9) > 1_000_000);
}

#[test]
fn every_short_sequence_shadow() {
    let s = settings(|p| (p.mode, p.failures) = (Mode::Shadow, Some(1)));
    let ops = alphabet(&[Op::Tick, Op::ForceOpen(Some(500)), Op::ForceForever, Op::Unforce]);
    assert!(walk("shadow", &s, &ops, 8) > 1_000_000);
}

fn classes() -> impl Strategy<Value = Class> {
    prop_oneof![
        4 => Just(Class::Success), 4 => Just(Class::Failure),
        1 => Just(Class::Throttled), 1 => Just(Class::Ignored),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let which = || prop_oneof![Just(Which::Oldest), Just(Which::Newest)];
    let took = prop_oneof![4 => Just(FAST), 1 => Just(SLOW)];
    prop_oneof![
        24 => Just(Op::Ask),
        24 => (which(), classes(), took).prop_map(|(w, c, t)| Op::Result(w, c, t)),
        4 => which().prop_map(Op::Release),
        3 => classes().prop_map(Op::Late),
        12 => (0_u64..3_000).prop_map(Op::Pass),
        4 => Just(Op::Tick),
        1 => prop::option::of(0_u64..3_000).prop_map(Op::ForceOpen),
        1 => Just(Op::ForceForever),
        1 => Just(Op::ForceClosed),
        3 => Just(Op::Unforce),
        1 => Just(Op::Reset),
    ]
}

prop_compose! {
    fn any_settings()(
        mode in prop_oneof![8 => Just(Mode::Enforce), 2 => Just(Mode::Shadow), 1 => Just(Mode::Disabled)],
        failures in prop::option::of(1_u32..6), throughput in 1_u32..12,
        failure_rate in prop::option::weighted(0.7, 1_u32..=1_000_000),
        slow_rate in prop::option::weighted(0.3, 1_u32..=1_000_000),
        window in prop::option::weighted(0.7, 1_u64..4_000), buckets in 1_u32..12,
        window_calls in prop::option::weighted(0.5, 1_u32..20), minimum in 1_u32..10,
        permits in 1_u32..5, successes in 1_u32..5, half_failures in 1_u32..4, rates: bool,
        open in 1_u64..3_000, longer in 0_u64..10_000, half_open_max in 1_u64..5_000,
    ) -> Settings {
        let rate = |ppm: u32| f64::from(ppm) / 1e6;
        settings(|p| {
            let rated = failure_rate.is_some() || slow_rate.is_some();
            (p.mode, p.minimum_throughput) = (mode, throughput);
            p.failures = if rated { failures } else { Some(failures.unwrap_or(2)) };
            (p.failure_rate, p.slow_rate) = (failure_rate.map(rate), slow_rate.map(rate));
            p.window = window.map(ms).or(window_calls.is_none().then_some(ms(1_000)));
            p.window_buckets = buckets;
            p.window_calls = window_calls.map(|n| n.max(minimum));
            p.minimum_calls = minimum;
            (p.open, p.open_max, p.half_open_max) = (ms(open), ms(open + longer), ms(half_open_max));
            (p.half_open_permits, p.half_open_successes) = (permits, successes);
            p.half_open_failures = half_failures;
            p.half_open_by = if rated && rates { HalfOpenBy::Rates } else { HalfOpenBy::Counts };
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn equals_the_model(s in any_settings(), script in prop::collection::vec(ops(), 1..250)) {
        let mut world = World::new(&s);
        for op in script {
            if world.enabled(op) {
                world.step(op, &s, true);
                world.judge_progress(&s);
            }
        }
    }

    /// c.8: new settings at any time, of any kind; what survives is what the model says.
    #[test]
    fn c_8_equals_the_model_through_new_settings(
        lives in prop::collection::vec((any_settings(), prop::collection::vec(ops(), 0..60)), 1..6),
    ) {
        let mut s = lives[0].0;
        let mut world = World::new(&s);
        for (next, script) in lives {
            let before = world.breaker.generation();
            let expected = world.model.retune(world.now, &s, &next);
            prop_assert_eq!(world.breaker.retune(world.now, &next), expected);
            prop_assert_eq!(world.breaker.generation() != before, expected.is_some());
            s = next;
            world.compare(&s);
            world.judge_progress(&s);
            for op in script {
                if world.enabled(op) {
                    world.step(op, &s, true);
                    world.judge_progress(&s);
                }
            }
        }
    }

    /// A breaker in shadow, fed the same results, says what an enforcing one does: the calls that
    /// the one refuses, the other lets through uncounted.
    #[test]
    fn shadow_decides_what_enforce_decides(
        s in any_settings(), script in prop::collection::vec(ops(), 1..250),
    ) {
        let (real, show) = (Settings { mode: Mode::Enforce, ..s }, Settings { mode: Mode::Shadow, ..s });
        let mut rngs = (Pcg32::new(1, 1), Pcg32::new(1, 1));
        let mut now = Time::ZERO;
        let mut breakers = (Breaker::new(now, &real), Breaker::new(now, &show));
        let mut held: Vec<(Permit, Permit)> = Vec::new();
        let plain = |change: Option<Transition>| change.map(|change| {
            change.to_string().trim_start_matches("would have ").to_owned()
        });
        for op in script {
            let changes = match op {
                Op::Pass(ms) => { now = now.plus(Duration::from_millis(ms)); continue }
                Op::Ask => {
                    let changes = (
                        breakers.0.tick(now, &real, &mut rngs.0),
                        breakers.1.tick(now, &show, &mut rngs.1),
                    );
                    let permit = breakers.0.admit(now, &real);
                    let shown = breakers.1.admit(now, &show).unwrap();
                    prop_assert_eq!(permit.is_ok(), shown.counted());
                    held.extend(permit.ok().map(|permit| (permit, shown)));
                    changes
                }
                Op::Result(_, class, took) if !held.is_empty() => {
                    let (permit, shown) = held.remove(0);
                    (
                        breakers.0.record(now, permit, class, took, &real, &mut rngs.0),
                        breakers.1.record(now, shown, class, took, &show, &mut rngs.1),
                    )
                }
                _ => continue,
            };
            prop_assert!(changes.1.is_none_or(Transition::shadow));
            prop_assert_eq!(plain(changes.0), plain(changes.1));
            prop_assert_eq!(breakers.0.numbers(now, &real), breakers.1.numbers(now, &show));
        }
    }
}
