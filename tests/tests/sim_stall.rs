//! What a stalled local cluster costs, counted; and that uneven latency is not taken for a stall.
//! `cargo test -p origin-tests --test sim_stall -- --nocapture` prints the figures.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // test code

use std::time::Duration;

use origin_tests::sim::stall::{Cost, Stall};
use origin_tests::sim::{Done, Latency, seed};

const SEEDS: u64 = 20;

/// The worst of several seeds, column by column.
fn worst(change: impl Fn(&mut Stall)) -> Cost {
    let mut worst = Cost { calls: 0, failed: 0, slow: 0, wasted: 0, back: Duration::ZERO };
    let base = seed(1);
    for seed in base..base + SEEDS {
        let mut stall = Stall::new(seed);
        change(&mut stall);
        let (world, cost) = stall.run().unwrap();
        assert_eq!(world.violations(), [""; 0], "seed {seed}");
        worst.calls = worst.calls.max(cost.calls);
        worst.failed = worst.failed.max(cost.failed);
        worst.slow = worst.slow.max(cost.slow);
        worst.wasted = worst.wasted.max(cost.wasted);
        worst.back = worst.back.max(cost.back);
    }
    worst
}

fn print(name: &str, cost: &Cost) {
    println!(
        "{name:>34}  slow {:3}  wasted {:3}  back {:7.1?}  failed {}",
        cost.slow, cost.wasted, cost.back, cost.failed
    );
}

#[test]
fn a_stalled_cluster_costs_few_attempts_and_is_found_again() {
    for endpoints in [1, 2, 3, 10] {
        for (name, wakes) in [("rescue", true), ("blocking", false)] {
            let cost = worst(|s| (s.endpoints, s.background) = (endpoints, wakes));
            print(&format!("{name}, {endpoints} endpoint(s)"), &cost);
            assert_eq!(cost.failed, 0);
            assert!(cost.slow <= 10 && cost.wasted <= 12, "{name} {endpoints}: {cost:?}");
            assert!(cost.back <= Duration::from_millis(500), "{name} {endpoints}: {cost:?}");
        }
    }
    let wasted = (seed(1)..seed(1) + SEEDS).map(|seed| Stall::new(seed).run().unwrap().1.wasted);
    assert!(wasted.sum::<usize>() <= 10 * SEEDS as usize, "ten on average");
}

/// With hedging, what waits at a silent endpoint is answered by a second attempt.
#[test]
fn hedging_leaves_no_call_slow() {
    for endpoints in [1, 2, 10] {
        let cost = worst(|s| {
            s.endpoints = endpoints;
            s.policy.hedge.enabled = true;
        });
        print(&format!("hedging, {endpoints} endpoint(s)"), &cost);
        assert_eq!((cost.failed, cost.slow), (0, 0), "{endpoints}: {cost:?}");
        assert!(
            cost.wasted <= 15 && cost.back <= Duration::from_millis(500),
            "{endpoints}: {cost:?}"
        );
    }
}

/// What is merely uneven is left alone: no attempt is given up, nothing goes elsewhere.
#[test]
fn uneven_latency_is_no_stall() {
    let ms = Duration::from_millis;
    for (name, latency) in [
        ("spread", Latency { base: ms(2), spread: ms(30), tail_permille: 0, tail: ms(0) }),
        (
            "every 20th slow",
            Latency { base: ms(3), spread: ms(4), tail_permille: 50, tail: ms(150) },
        ),
        ("far away", Latency { base: ms(120), spread: ms(60), tail_permille: 20, tail: ms(400) }),
    ] {
        let (mut calls, mut moved, mut attempts) = (0, 0, 0);
        for seed in seed(1)..seed(1) + SEEDS {
            let mut stall = Stall::new(seed);
            (stall.latency, stall.hang) = (latency, Duration::ZERO);
            stall.policy.deadline.attempt = Some(Duration::from_secs(2));
            let (world, _) = stall.run().unwrap();
            assert_eq!(world.violations(), [""; 0], "seed {seed}");
            calls += world.done().len();
            attempts += world.done().iter().map(|done| done.attempts.len()).sum::<usize>();
            let away = |d: &&Done| d.attempts.iter().any(|a| &*a.cluster != "beta");
            moved += world.done().iter().filter(away).count();
        }
        println!("{name:>34}  {moved} of {calls} calls moved, {} attempts more", attempts - calls);
        assert!(moved * 1000 <= calls, "{name}: {moved} of {calls} moved");
    }
}
