//! What time rules out: attempts after the deadline, suspicions and delays beyond a timeout.

use std::time::Duration;

use super::Lint;
use crate::config::backoff::{Jitter, PushbackRule};
use crate::config::{BackoffConfig, CheckKind, Mode, RateMode};
use crate::policy::backoff::Cause;
use crate::time::DurationText;

pub(super) fn look(lint: &mut Lint<'_>) {
    attempts(lint);
    slow_calls(lint);
    probes(lint);
    stall(lint);
    hedge(lint);
    waits(lint);
    pushback(lint);
    checks(lint);
}

/// The first attempt that cannot start in time after others that use up theirs.
///
/// Exact: an attempt takes its whole timeout at most, and a wait is at least what its jitter
/// leaves of the step. Attempts may end earlier, and a move to another cluster does not wait, so
/// what depends on either says so. With hedging attempts overlap, and nothing is said. An attempt
/// timeout as long as the call means that there is none.
fn attempts(lint: &mut Lint<'_>) {
    let policy = lint.policy;
    if policy.hedge.enabled {
        return;
    }
    let (total, floor) = (lint.rules.total, lint.rules.floor);
    let most = policy.retry.max_attempts;
    let mut waited = Duration::ZERO;
    for next in 2..=most {
        let done = next - 1;
        waited = waited.saturating_add(least_wait(lint, done - 1));
        let worked = timeout(lint).saturating_mul(done);
        let too_late = |spent: Duration| spent.saturating_add(floor) > total;
        let have = if done == 1 { "has" } else { "have" };
        let when = format!("once {done} {have} taken the whole timeout");
        let timeouts = format!("{done} × {}", DurationText(timeout(lint)));
        let backoff = format!("at least {} of backoff", DurationText(waited));
        let (spent, when, what, elsewhere) = if too_late(worked) {
            (worked, when, timeouts, "")
        } else if too_late(waited) {
            (waited, "where each one waits".to_owned(), backoff, ELSEWHERE)
        } else if too_late(worked.saturating_add(waited)) {
            let what = format!("{timeouts} and {backoff}");
            (worked.saturating_add(waited), when, what, ELSEWHERE)
        } else {
            continue;
        };
        let which = match next == most {
            true => format!("attempt {next}"),
            false => format!("attempts {next} to {most}"),
        };
        let left = total.saturating_sub(spent);
        let floor = match left.is_zero() {
            true => String::new(),
            false => format!(", less than deadline.floor of {}", DurationText(floor)),
        };
        let reason = format!(
            "{which} can never start {when}: after {what}, {} of the total of {} is left{floor}\
             {elsewhere}",
            DurationText(left),
            DurationText(total)
        );
        lint.warn("retry.max_attempts", reason);
        return;
    }
}

const ELSEWHERE: &str = "; only a move to another cluster does not wait";

/// The shortest that the whole timeout of an attempt can be; zero where that is not known.
fn timeout(lint: &Lint<'_>) -> Duration {
    let adaptive = &lint.policy.adaptive_timeout;
    match lint.policy.deadline.attempt {
        Some(attempt) if attempt >= lint.rules.total => Duration::ZERO,
        Some(attempt) if adaptive.enabled => attempt.min(adaptive.min),
        attempt => attempt.unwrap_or_default(),
    }
}

/// The shortest wait that jitter and the peer can make of the `n`-th step.
fn least_wait(lint: &Lint<'_>, n: u32) -> Duration {
    let (backoff, rules) = (&lint.policy.retry.backoff, &lint.rules.backoff);
    let step = |n| rules.step(n, Cause::Failed).min(rules.step(n, Cause::Throttled));
    match (backoff.pushback, backoff.jitter) {
        // A peer may ask for less.
        (PushbackRule::Exact, _) | (_, Jitter::Full) => Duration::ZERO,
        (_, Jitter::None) => step(n),
        (_, Jitter::Equal) => step(n) / 2,
        (_, Jitter::Decorrelated) => step(0),
    }
}

fn slow_calls(lint: &mut Lint<'_>) {
    let policy = lint.policy;
    for (name, breaker, longest, what) in [
        ("breaker", &policy.breaker, lint.rules.attempt, "attempt"),
        ("service_breaker", &policy.service_breaker, lint.rules.total, "call"),
    ] {
        let counts = breaker.mode != Mode::Disabled && breaker.slow_rate.is_some();
        if counts && breaker.slow_call > longest {
            let reason = format!(
                "no {what} is ever slow: it ends after {}, before the {} that make it slow",
                DurationText(longest),
                DurationText(breaker.slow_call)
            );
            lint.warn(&format!("{name}.slow_call"), reason);
        }
    }
}

/// A probe that is still out when half-open ends counts as none.
fn probes(lint: &mut Lint<'_>) {
    let policy = lint.policy;
    for (name, breaker, longest, what) in [
        ("breaker", &policy.breaker, lint.rules.attempt, "an attempt"),
        ("service_breaker", &policy.service_breaker, lint.rules.total, "a call"),
    ] {
        if breaker.mode != Mode::Disabled && breaker.half_open_max < longest {
            let reason = format!(
                "half-open ends after {}, but {what} that probes may take {}",
                DurationText(breaker.half_open_max),
                DurationText(longest)
            );
            lint.warn(&format!("{name}.half_open_max"), reason);
        }
    }
}

fn stall(lint: &mut Lint<'_>) {
    let (stall, attempt) = (&lint.policy.stall, lint.rules.attempt);
    if stall.enabled && stall.floor >= attempt {
        let reason = format!(
            "nobody is ever suspected: attempts end after {}, before the floor of {}",
            DurationText(attempt),
            DurationText(stall.floor)
        );
        lint.warn("stall.floor", reason);
    }
}

fn hedge(lint: &mut Lint<'_>) {
    let (hedge, attempt) = (&lint.policy.hedge, lint.rules.attempt);
    let (field, delay) = match hedge.delay {
        Some(delay) => ("hedge.delay", delay),
        None => ("hedge.min_delay", hedge.min_delay),
    };
    if hedge.enabled && delay >= attempt {
        let reason = format!(
            "no copy ever goes out beside an attempt: that ends after {}, before the delay of {}",
            DurationText(attempt),
            DurationText(delay)
        );
        lint.warn(field, reason);
    }
}

/// Waiting that can use up the whole call.
fn waits(lint: &mut Lint<'_>) {
    let (policy, total) = (lint.policy, lint.rules.total);
    for (field, on, wait) in [
        ("queue.max_wait", policy.queue.enabled, policy.queue.max_wait),
        ("rate.max_wait", policy.rate.mode != RateMode::Off, policy.rate.max_wait),
    ] {
        if on && wait >= total {
            let reason = format!(
                "who waits {} has nothing left of the total of {} for an attempt",
                DurationText(wait),
                DurationText(total)
            );
            lint.warn(field, reason);
        }
    }
}

/// The default slack is no statement about this service's deadline; one that was written is.
fn pushback(lint: &mut Lint<'_>) {
    let (retry, total) = (&lint.policy.retry, lint.rules.total);
    let written = retry.backoff.slack != BackoffConfig::default().slack;
    let heard = retry.backoff.pushback == PushbackRule::Clamp && retry.max_attempts > 1;
    if written && heard && retry.backoff.slack >= total {
        let reason = format!(
            "a Retry-After of {} is heeded, and ends the call: the total is {}",
            DurationText(retry.backoff.slack),
            DurationText(total)
        );
        lint.warn("retry.backoff.slack", reason);
    }
}

fn checks(lint: &mut Lint<'_>) {
    let (checks, breaker) = (&lint.policy.checks, &lint.policy.breaker);
    let on = checks.kind != CheckKind::Off && breaker.mode != Mode::Disabled;
    if on && checks.interval > breaker.open_max {
        let reason = format!(
            "a call asks sooner than any check: the breaker tries an endpoint again after {} at \
             most, checks come every {}",
            DurationText(breaker.open_max),
            DurationText(checks.interval)
        );
        lint.warn("checks.interval", reason);
    }
}
