//! Calls on one service under random scripts of outcomes, time, new calls, abandoned calls and
//! changing endpoints. The bench judges every decision; see `common`.
#![allow(clippy::unwrap_used)] // test code

mod common;

use std::time::Duration;

use common::{At, Bench, outcome, rules};
use origin_core::call::{Choice, Why};
use origin_core::config::{Jitter, Mode, Rules};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Action, CallSpec, Verdict};
use proptest::prelude::*;

const REFUSED: Outcome = Outcome::Failed { fault: Fault::Connect, sent: Sent::Never };
const RESET: Outcome = Outcome::Failed { fault: Fault::Reset, sent: Sent::Maybe };

fn spec(idempotent: bool, total_ms: Option<u64>) -> CallSpec {
    let total = total_ms.map(Duration::from_millis);
    CallSpec { idempotent: Some(idempotent), total, ..CallSpec::default() }
}

prop_compose! {
    fn any_rules()(
        attempts in 1_u32..9, per_cluster in 1_u32..4, failures in 1_u32..6, permits in 1_u32..4,
        successes in 1_u32..4, ratio in 0_u32..12, floor in 0_u32..4, exact: bool, stall: bool,
        breaker in prop::bool::weighted(0.9), budget in prop::bool::weighted(0.9),
    ) -> Rules {
        rules(|p| {
            p.deadline.total = Duration::from_secs(4);
            p.deadline.attempt = Some(Duration::from_millis(700));
            p.retry.max_attempts = attempts;
            p.retry.attempts_per_cluster = per_cluster;
            p.retry.backoff.jitter = if exact { Jitter::None } else { Jitter::Full };
            p.breaker.mode = if breaker { Mode::Enforce } else { Mode::Disabled };
            p.breaker.failures = Some(failures);
            p.breaker.half_open_permits = permits;
            p.breaker.half_open_successes = successes;
            p.breaker.half_open_max = Duration::from_secs(3);
            p.budget.enabled = budget;
            p.budget.ratio = f64::from(ratio) / 10.0;
            p.budget.min_per_second = floor;
            p.stall.enabled = stall;
        })
    }
}

prop_compose! {
    fn sizes()(sizes in prop::collection::vec(0_usize..4, 1..5)) -> Vec<usize> {
        // At most eight endpoints: a call remembers as many.
        let mut left = 8;
        sizes.into_iter().map(|n| { let n = n.min(left); left -= n; n }).collect()
    }
}

type Script = Vec<(u8, prop::sample::Index, u8, u64)>;

fn script(most: usize) -> impl Strategy<Value = Script> {
    let step = (0_u8..10, any::<prop::sample::Index>(), 0_u8..12, 0_u64..900);
    prop::collection::vec(step, 1..most)
}

/// Plays a script on a bench.
fn play(bench: &mut Bench, script: &Script) {
    for (action, which, what, ms) in script {
        let number = which.index(bench.calls.len().max(1));
        let there = number < bench.calls.len();
        match action {
            0..=2 => {
                bench.begin(spec(what % 3 != 0, (*what > 8).then_some(ms + 1)));
            }
            3..=6 if there => {
                if !bench.finish(number, outcome(*what)) {
                    bench.wake(number);
                }
            }
            7 if there && *what < 6 => bench.abandon(number),
            8 if *what < 3 => bench.change(&[number % 3, usize::from(*what), 2]),
            _ => {
                bench.pass(*ms);
                for number in 0..bench.calls.len() {
                    bench.wake(number);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_decision_holds(sizes in sizes(), rules in any_rules(), script in script(120)) {
        let mut bench = Bench::new(&sizes, rules);
        play(&mut bench, &script);
        bench.settle();
        prop_assert_eq!(bench.outstanding(), 0);
        let snapshot = bench.service.snapshot(bench.now);
        prop_assert_eq!(snapshot.calls, snapshot.answered + snapshot.failed + snapshot.abandoned);
        let sent: usize = bench.calls.iter().map(|call| call.path.len()).sum();
        prop_assert_eq!(snapshot.attempts, sent as u64);
    }

    /// Same inputs, same decisions.
    #[test]
    fn decisions_repeat(sizes in sizes(), rules in any_rules(), script in script(60)) {
        let mut first = Bench::new(&sizes, rules.clone());
        let mut second = Bench::new(&sizes, rules);
        play(&mut first, &script);
        play(&mut second, &script);
        prop_assert_eq!(first.log, second.log);
        prop_assert_eq!(first.service, second.service);
    }

    /// Clusters are asked in their order, each endpoint once, all of them before any again.
    #[test]
    fn case_000_08_to_11_order_of_clusters(sizes in sizes(), per_cluster in 1_u32..4, refused: bool) {
        let rules = rules(|p| {
            p.retry.max_attempts = 16;
            p.retry.attempts_per_cluster = per_cluster;
            p.breaker.failures = Some(100);
            p.budget.enabled = false;
        });
        let mut bench = Bench::new(&sizes, rules);
        let call = bench.begin(spec(true, None));
        let total: usize = sizes.iter().sum();
        while bench.calls[call].path.len() <= total {
            if let At::Waiting(until) = bench.calls[call].at {
                bench.now = bench.now.max(until);
            }
            if !bench.wake(call) && !bench.finish(call, if refused { REFUSED } else { RESET }) {
                break;
            }
        }
        let track = &bench.calls[call];
        let mut clusters: Vec<String> =
            track.path.iter().take(total).map(|(cluster, _)| cluster.to_string()).collect();
        let mut firsts: Vec<String> = Vec::new();
        for cluster in &clusters {
            if !firsts.contains(cluster) {
                firsts.push(cluster.clone());
            }
        }
        let expected: Vec<String> =
            (0..sizes.len()).filter(|n| sizes[*n] > 0).map(|n| format!("c{n}")).collect();
        prop_assert_eq!(&firsts, &expected);
        clusters.dedup();
        // A cluster is left after its share, and returned to once all others have had theirs.
        if sizes.iter().all(|size| *size <= per_cluster as usize) {
            prop_assert_eq!(clusters, expected);
        }
        if total > 0 {
            prop_assert_eq!(track.choices[0], Choice::Preferred);
            prop_assert_eq!(track.choices.get(total), Some(&Choice::Again));
        }
    }
}

#[test]
fn a_repeat_that_is_not_made_is_given_back_to_the_budget() {
    // One call has paid and waits; meanwhile others trip the only breaker; nothing is sent.
    let rules = rules(|p| {
        p.retry.backoff.jitter = Jitter::None;
        p.breaker.failures = Some(3);
        p.budget.ratio = 0.0;
        p.budget.min_per_second = 1;
    });
    let mut bench = Bench::new(&[1], rules);
    let waiting = bench.begin(spec(true, None));
    bench.finish(waiting, RESET);
    assert_eq!(bench.service.snapshot(bench.now).budget, 9);
    for _ in 0..2 {
        let other = bench.begin(spec(false, None));
        bench.finish(other, RESET);
    }
    bench.pass(50);
    bench.wake(waiting);
    let over = Action::Done(Verdict::Failed { why: Why::Exhausted, until: bench.due() });
    assert_eq!(bench.log.last(), Some(&(waiting, over)));
    assert_eq!(bench.service.snapshot(bench.now).budget, 10);
}

#[test]
fn x_14_an_abandoned_call_leaves_nothing() {
    for outcomes in [&[][..], &[RESET][..], &[RESET, RESET][..], &[REFUSED][..]] {
        let mut bench = Bench::new(&[1, 1], rules(|p| p.breaker.failures = Some(1)));
        let before = bench.service.snapshot(bench.now).budget;
        let call = bench.begin(spec(true, None));
        for outcome in outcomes {
            bench.finish(call, *outcome);
        }
        let made = bench.calls[call].path.len() as u64;
        bench.abandon(call);
        assert_eq!(bench.outstanding(), 0);
        let budget = bench.service.snapshot(bench.now).budget;
        assert!(budget + made >= before, "{outcomes:?}");
    }
}
