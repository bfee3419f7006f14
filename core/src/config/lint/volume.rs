//! What the expected rate of calls can fill: minimum counts that are never reached, and rate
//! limits that it exceeds. Most of it says nothing without `expected_rate`.

use std::time::Duration;

use super::Lint;
use crate::config::field::scaled;
use crate::config::{ConcurrencyMode, Mode, RateMode};
use crate::time::{DurationText, nanos};

pub(super) fn look(lint: &mut Lint<'_>) {
    concurrency(lint);
    let Some(rate) = lint.policy.expected_rate else { return };
    let calls = Calls { rate, micros: scaled(rate, 1_000_000) };
    breakers(lint, calls);
    outliers(lint, calls);
    throttle(lint, calls);
    percentiles(lint, calls);
    rate_limit(lint, calls);
}

/// The expected rate.
#[derive(Clone, Copy)]
struct Calls {
    rate: f64,
    /// Millionths of a call per second.
    micros: u64,
}

impl Calls {
    /// Millionths of a call in a span.
    fn in_span(self, span: Duration) -> u128 {
        u128::from(self.micros) * u128::from(nanos(span)) / 1_000_000_000
    }

    /// Whether fewer than `least` calls come in `span`; then, how many do.
    fn too_few(self, span: Duration, least: u64) -> Option<String> {
        let come = self.in_span(span);
        (come < u128::from(least) * 1_000_000).then(|| decimal(come))
    }
}

/// Millionths with one decimal, where there is one.
fn decimal(micros: u128) -> String {
    let (whole, tenth) = (micros / 1_000_000, micros / 100_000 % 10);
    if tenth == 0 { whole.to_string() } else { format!("{whole}.{tenth}") }
}

/// A window of calls fills at any rate; one of time does not.
fn breakers(lint: &mut Lint<'_>, calls: Calls) {
    let policy = lint.policy;
    for (name, breaker) in
        [("breaker", &policy.breaker), ("service_breaker", &policy.service_breaker)]
    {
        let by_rate = breaker.failure_rate.is_some() || breaker.slow_rate.is_some();
        let by_time = breaker.window.filter(|_| breaker.window_calls.is_none() && by_rate);
        let Some(window) = by_time.filter(|_| breaker.mode != Mode::Disabled) else { continue };
        if let Some(come) = calls.too_few(window, breaker.minimum_calls.into()) {
            let reason = format!(
                "{} calls minimum in {} can never be reached at {} calls/s, which makes {come}: no \
                 rate ever opens it",
                breaker.minimum_calls,
                DurationText(window),
                calls.rate
            );
            lint.warn(&format!("{name}.minimum_calls"), reason);
        }
    }
}

/// Judging takes several endpoints with enough requests each, so it takes all of those together.
fn outliers(lint: &mut Lint<'_>, calls: Calls) {
    let o = &lint.policy.outlier;
    if !o.enabled || o.max_ejected_percent == 0 {
        return;
    }
    for (field, enforcing, hosts, requests) in [
        (
            "outlier.success_rate_min_requests",
            o.success_rate_enforcing,
            o.success_rate_min_hosts,
            o.success_rate_min_requests,
        ),
        (
            "outlier.failure_percentage_min_requests",
            o.failure_percentage_enforcing,
            o.failure_percentage_min_hosts,
            o.failure_percentage_min_requests,
        ),
    ] {
        let need = u64::from(hosts) * u64::from(requests);
        if let Some(come) = calls.too_few(o.interval, need).filter(|_| enforcing > 0) {
            let reason = format!(
                "{requests} requests at each of {hosts} endpoints in {} can never be reached at {} \
                 calls/s, which makes {come} in all: nobody is ever judged",
                DurationText(o.interval),
                calls.rate
            );
            lint.warn(field, reason);
        }
    }
}

fn throttle(lint: &mut Lint<'_>, calls: Calls) {
    let throttle = &lint.policy.throttle;
    let (field, need) = if throttle.free_requests >= throttle.min_requests {
        // As many as are free are never throttled.
        ("throttle.free_requests", throttle.free_requests.saturating_add(1))
    } else {
        ("throttle.min_requests", throttle.min_requests)
    };
    let come = calls.too_few(throttle.window, need.into());
    if let Some(come) = come.filter(|_| throttle.enabled) {
        let reason = format!(
            "nothing is refused before {need} calls in {}, which can never be reached at {} \
             calls/s: that makes {come}",
            DurationText(throttle.window),
            calls.rate
        );
        lint.warn(field, reason);
    }
}

/// Percentiles are over the last half to whole of the latency window.
fn percentiles(lint: &mut Lint<'_>, calls: Calls) {
    let policy = lint.policy;
    let (hedge, adaptive) = (&policy.hedge, &policy.adaptive_timeout);
    for (field, on, least, what) in [
        (
            "hedge.min_samples",
            hedge.enabled && hedge.delay.is_none(),
            hedge.min_samples,
            "no call is ever hedged",
        ),
        (
            "adaptive_timeout.min_samples",
            adaptive.enabled,
            adaptive.min_samples,
            "no timeout is ever learnt",
        ),
    ] {
        let window = policy.latency.window;
        if let Some(come) = calls.too_few(window, least.into()).filter(|_| on) {
            let reason = format!(
                "{least} samples in latency.window of {} can never be reached at {} calls/s, which \
                 makes {come}: {what}",
                DurationText(window),
                calls.rate
            );
            lint.warn(field, reason);
        }
    }
}

fn rate_limit(lint: &mut Lint<'_>, calls: Calls) {
    let rate = &lint.policy.rate;
    let (field, permits) = match rate.mode {
        RateMode::Off => return,
        RateMode::Fixed => ("rate.permits", rate.permits),
        RateMode::Adaptive => ("rate.ceiling", rate.ceiling),
    };
    let come = calls.in_span(rate.per);
    let permitted = u128::from(permits) * 1_000_000;
    if come > permitted {
        let reason = format!(
            "{permits} permits per {} are fewer than the {} calls that {} calls/s make: {} % of \
             them would be refused",
            DurationText(rate.per),
            decimal(come),
            calls.rate,
            decimal((come - permitted) * 100_000_000 / come)
        );
        lint.warn(field, reason);
    }
}

/// A call holds its slot for the total at most, so no more can be in flight than the rate limit
/// lets in during one total.
fn concurrency(lint: &mut Lint<'_>) {
    let (policy, total) = (lint.policy, lint.rules.total);
    let rate = &policy.rate;
    let permits = match rate.mode {
        RateMode::Off => return,
        RateMode::Fixed => rate.permits,
        RateMode::Adaptive => rate.ceiling,
    };
    if policy.concurrency.mode != ConcurrencyMode::Static {
        return;
    }
    let paced = u128::from(permits) * u128::from(nanos(total)) / u128::from(nanos(rate.per).max(1));
    let most = u128::from(rate.burst) + paced + 1;
    if u128::from(policy.concurrency.limit) > most {
        let reason = format!(
            "{} calls can never be in flight: a burst of {} and {permits} per {} let in {most} \
             during the total of {}",
            policy.concurrency.limit,
            rate.burst,
            DurationText(rate.per),
            DurationText(total)
        );
        lint.warn("concurrency.limit", reason);
    }
}
