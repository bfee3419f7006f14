//! What the tests of jobs share: how long something took, and outcomes in a form that compares.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::{Duration, Instant};

use origin_driver::carry::{Carrier, Limit};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;

/// Slack for a machine that does other things, too.
pub(crate) const SLACK: Duration = Duration::from_millis(1500);

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Carries out and returns how long it took.
pub(crate) fn timed(carrier: &Carrier, work: Work, limit: Duration) -> (JobOutcome, Duration) {
    let begun = Instant::now();
    let outcome = carrier.carry(work, &Limit::within(limit));
    (outcome, begun.elapsed())
}

/// The fault of a job that failed.
pub(crate) fn fault(outcome: &JobOutcome) -> Fault {
    match outcome {
        JobOutcome::Failed(fault) => *fault,
        other => panic!("not failed: {other:?}"),
    }
}

/// The reason of a job that is impossible.
pub(crate) fn reason(outcome: &JobOutcome) -> String {
    match outcome {
        JobOutcome::Impossible(reason) => reason.to_string(),
        other => panic!("not impossible: {other:?}"),
    }
}

/// Asserts that the limit was used up, and little more.
pub(crate) fn assert_took(took: Duration, limit: Duration) {
    assert!(took + ms(1) >= limit && took < limit + SLACK, "{took:?} for a limit of {limit:?}");
}
