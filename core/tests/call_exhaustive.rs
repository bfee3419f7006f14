//! Every sequence of at most six events of one call over two clusters with one endpoint each:
//! not a sample but all of them. The bench judges every decision; see `common`.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

mod common;

use std::time::Duration;

use common::{At, Bench, outcome, rules};
use origin_core::call::{Choice, DeadlineKind, Why};
use origin_core::config::{Mode, Policy};
use origin_core::outcome::Outcome;
use origin_core::{CallSpec, Verdict};

/// One of each kind of outcome; see `common::outcome`.
const OUTCOMES: [u8; 6] = [0, 3, 5, 7, 9, 10];
const DEPTH: u32 = 6;

#[derive(Default)]
struct Seen {
    sequences: u64,
    answered: u64,
    failed: u64,
}

/// Tries every event that is possible now, and everything that can follow.
fn explore(bench: &Bench, depth: u32, seen: &mut Seen) {
    let track = &bench.calls[0];
    if let At::Over(verdict) = track.at {
        seen.sequences += 1;
        match verdict {
            Verdict::Answered(_) => seen.answered += 1,
            Verdict::Failed { why, .. } => {
                seen.failed += 1;
                judge_failure(bench, why);
            }
        }
        return over(bench);
    }
    let mut dropped = bench.clone();
    dropped.abandon(0);
    over(&dropped);
    if depth == 0 {
        seen.sequences += 1;
        return;
    }
    match track.at {
        At::Live(..) => {
            for what in OUTCOMES {
                // At once, and so late that a breaker has time to turn half-open.
                for ms in [0, 60] {
                    let mut next = bench.clone();
                    next.pass(ms);
                    next.finish(0, outcome(what));
                    explore(&next, depth - 1, seen);
                }
            }
        }
        At::Waiting(until) | At::Parked(until, _) => {
            let mut next = bench.clone();
            next.now = until;
            assert!(next.wake(0));
            explore(&next, depth - 1, seen);
            // The wake-up comes late: after the deadline of the call.
            let mut late = bench.clone();
            late.now = track.deadline.plus(Duration::from_secs(1));
            assert!(late.wake(0));
            let end = Verdict::Failed {
                why: Why::Deadline(DeadlineKind::Total),
                until: origin_core::Time::NEVER,
            };
            assert_eq!(late.calls[0].at, At::Over(end));
        }
        At::Over(_) => (),
    }
}

/// A failure has a reason that what happened bears out.
fn judge_failure(bench: &Bench, why: Why) {
    let track = &bench.calls[0];
    let last = track.outcomes.last();
    match why {
        Why::NotRepeatable | Why::Deadline(DeadlineKind::Attempt) => {
            assert!(track.spec.idempotent != Some(true), "{track:?}");
        }
        Why::Exhausted => {
            let all = track.outcomes.len() == usize::from(bench.service.rules().max_attempts);
            let closed = bench.service.refusals(bench.now).count();
            let again = track.choices.iter().filter(|choice| **choice == Choice::Again).count();
            let repeated = again + 1 == usize::from(bench.service.rules().per_endpoint);
            assert!(all || closed == 2 || repeated, "gives up early: {track:?}");
        }
        Why::Deadline(DeadlineKind::Total) => {
            let left = bench.now.until(track.deadline);
            assert!(left <= Duration::from_millis(1_000), "{left:?} left: {track:?}");
        }
        Why::Budget => assert!(!bench.service.rules().budget.enabled || track.outcomes.len() > 1),
        other => panic!("{other:?} after {last:?}: {track:?}"),
    }
    assert!(!matches!(last, Some(Outcome::Answered { status: 200..=499, .. })), "{track:?}");
}

/// A call that is over holds nothing.
fn over(bench: &Bench) {
    let mut bench = bench.clone();
    assert_eq!(bench.outstanding(), 0);
    let counts = *bench.service.counts();
    assert_eq!(counts.calls, counts.answered + counts.failed + counts.abandoned);
}

fn all(change: fn(&mut Policy), idempotent: bool) -> Seen {
    let rules = rules(|p| {
        p.deadline.total = Duration::from_secs(1);
        p.deadline.attempt = Some(Duration::from_millis(300));
        p.breaker.open = Duration::from_millis(50);
        p.breaker.jitter = 0.0;
        change(p);
    });
    let mut bench = Bench::new(&[1, 1], rules);
    bench.begin(CallSpec { idempotent: Some(idempotent), ..CallSpec::default() });
    let mut seen = Seen::default();
    explore(&bench, DEPTH, &mut seen);
    assert!(seen.answered > 0 && seen.failed > 0, "{} sequences", seen.sequences);
    seen
}

#[test]
fn every_short_sequence_holds_when_repeating_is_safe() {
    let seen = all(|p| p.breaker.failures = Some(2), true);
    assert!(seen.sequences > 5_000, "{}", seen.sequences);
}

#[test]
fn every_short_sequence_holds_when_repeating_is_not_safe() {
    all(|p| p.breaker.failures = Some(2), false);
}

#[test]
fn every_short_sequence_holds_with_the_touchiest_breaker() {
    all(
        |p| {
            p.breaker.failures = Some(1);
            p.retry.max_attempts = 4;
        },
        true,
    );
}

#[test]
fn every_short_sequence_holds_without_a_breaker() {
    all(
        |p| {
            p.breaker.mode = Mode::Disabled;
            p.retry.max_attempts = 3;
        },
        true,
    );
}
