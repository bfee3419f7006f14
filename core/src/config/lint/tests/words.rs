//! Texts of `origin.toml` and what is said of them, word for word; beside each, the next text of
//! which nothing is said.

use crate::config::{Config, Rules, Warning};

/// The warnings of one policy, without its path.
fn of(text: &str, endpoints: Option<u32>) -> Vec<String> {
    let policy = Config::from_toml(&format!("[policy]\n{text}")).unwrap().policy;
    if let Err(refused) = Rules::of(&policy, "policy") {
        return vec![format!("refused: {}: {}", refused.field, refused.reason)];
    }
    let said = |w: Warning| w.to_string().replace("warning: policy.", "");
    policy.warnings("policy", endpoints).into_iter().map(said).collect()
}

fn table(rows: &[(&str, &[&str])]) {
    for (text, words) in rows {
        assert_eq!(of(text, None), *words, "{text}");
    }
}

#[test]
fn attempts_that_can_never_start() {
    table(&[
        // The defaults leave the timeout of an attempt open, and so does one as long as the call.
        ("deadline.total = '2s'", &[]),
        ("deadline.total = '2s'\ndeadline.attempt = '2s'", &[]),
        (
            "deadline.total = '500ms'\ndeadline.attempt = '250ms'\nretry.max_attempts = 3",
            &[
                "retry.max_attempts: attempt 3 can never start once 2 have taken the whole timeout: after \
               2 × 250ms, 0s of the total of 500ms is left",
            ],
        ),
        (
            "deadline.total = '500ms'\ndeadline.attempt = '249ms'\ndeadline.floor = '2ms'\n\
             retry.max_attempts = 3",
            &[],
        ),
        (
            "deadline.total = '500ms'\ndeadline.attempt = '249ms'\ndeadline.floor = '3ms'\n\
             retry.max_attempts = 5",
            &[
                "retry.max_attempts: attempts 3 to 5 can never start once 2 have taken the whole timeout: after \
               2 × 249ms, 2ms of the total of 500ms is left, less than deadline.floor of 3ms",
            ],
        ),
        // Full jitter may be no wait at all; equal jitter is half of the step at least.
        (
            "deadline.total = '700ms'\ndeadline.attempt = '300ms'\nretry.max_attempts = 3\n\
             retry.backoff.base = '80ms'",
            &[],
        ),
        (
            "deadline.total = '700ms'\ndeadline.attempt = '300ms'\nretry.max_attempts = 3\n\
             retry.backoff = { base = '80ms', jitter = 'equal' }",
            &[
                "retry.max_attempts: attempt 3 can never start once 2 have taken the whole timeout: after \
               2 × 300ms and at least 120ms of backoff, 0s of the total of 700ms is left; only a move to another cluster does not wait",
            ],
        ),
        (
            "deadline.total = '10s'\nretry.max_attempts = 6\n\
             retry.backoff = { base = '1s', max = '8s', jitter = 'none' }",
            &[
                "retry.max_attempts: attempts 5 to 6 can never start where each one waits: after at \
               least 15s of backoff, 0s of the total of 10s is left; only a move to another cluster does not wait",
            ],
        ),
        // The peer may ask for less.
        (
            "deadline.total = '10s'\nretry.max_attempts = 6\n\
             retry.backoff = { base = '1s', max = '8s', jitter = 'none', pushback = 'exact' }",
            &[],
        ),
        // An adaptive timeout may be as short as its own least; hedges overlap.
        (
            "deadline.total = '500ms'\ndeadline.attempt = '250ms'\nretry.max_attempts = 3\n\
             adaptive_timeout = { enabled = true, min = '200ms' }",
            &[],
        ),
        (
            "deadline.total = '500ms'\ndeadline.attempt = '250ms'\nretry.max_attempts = 3\n\
             hedge.enabled = true",
            &[],
        ),
    ]);
}

#[test]
fn what_the_expected_rate_cannot_fill() {
    let outlier_off = "outlier.enabled = false\n";
    table(&[
        (
            "expected_rate = 2\nbreaker.minimum_calls = 100",
            &[
                "breaker.minimum_calls: 100 calls minimum in 10s can never be reached at 2 calls/s, \
             which makes 20: no rate ever opens it",
                "outlier.success_rate_min_requests: 100 requests at each of 5 endpoints in 10s can \
             never be reached at 2 calls/s, which makes 20 in all: nobody is ever judged",
            ],
        ),
        ("expected_rate = 50", &[]),
        (
            "expected_rate = 49.99",
            &["outlier.success_rate_min_requests: 100 requests at each of 5 endpoints in 10s can \
             never be reached at 49.99 calls/s, which makes 499.9 in all: nobody is ever judged"],
        ),
        ("expected_rate = 0.5\noutlier.enabled = false\nbreaker.window_calls = 50", &[]),
        ("expected_rate = 0.5\noutlier.enabled = false\nbreaker.failure_rate = 'off'", &[]),
        ("expected_rate = 0.5\noutlier.enabled = false\nbreaker.mode = 'disabled'", &[]),
        (
            "expected_rate = 0.5\noutlier.enabled = false\nbreaker.mode = 'disabled'\n\
             service_breaker = { mode = 'enforce' }",
            &[
                "service_breaker.minimum_calls: 20 calls minimum in 10s can never be reached at 0.5 \
               calls/s, which makes 5: no rate ever opens it",
            ],
        ),
        (
            "expected_rate = 2\noutlier.enabled = false\nbreaker.minimum_calls = 1\n\
             throttle = { enabled = true, min_requests = 300 }",
            &["throttle.min_requests: nothing is refused before 300 calls in 2m, which can never \
               be reached at 2 calls/s: that makes 240"],
        ),
        (
            "expected_rate = 2\noutlier.enabled = false\nbreaker.minimum_calls = 1\n\
             throttle = { enabled = true, free_requests = 240 }",
            &[
                "throttle.free_requests: nothing is refused before 241 calls in 2m, which can never \
               be reached at 2 calls/s: that makes 240",
            ],
        ),
        (
            "expected_rate = 1\noutlier.enabled = false\nbreaker.minimum_calls = 1\n\
             hedge.enabled = true\nadaptive_timeout.enabled = true",
            &[
                "hedge.min_samples: 100 samples in latency.window of 1m can never be reached at 1 \
                 calls/s, which makes 60: no call is ever hedged",
                "adaptive_timeout.min_samples: 1000 samples in latency.window of 1m can never be \
                 reached at 1 calls/s, which makes 60: no timeout is ever learnt",
            ],
        ),
        (
            "expected_rate = 1\noutlier.enabled = false\nbreaker.minimum_calls = 1\n\
             hedge = { enabled = true, delay = '20ms' }",
            &[],
        ),
        (
            "expected_rate = 200\nrate.mode = 'fixed'",
            &[
                "rate.permits: 100 permits per 1s are fewer than the 200 calls that 200 calls/s make: \
             50 % of them would be refused",
            ],
        ),
        ("expected_rate = 200\nrate.mode = 'adaptive'", &[]),
        (
            "rate.mode = 'fixed'\nconcurrency = { mode = 'static', limit = 4000 }",
            &[
                "concurrency.limit: 4000 calls can never be in flight: a burst of 50 and 100 per 1s \
               let in 3051 during the total of 30s",
            ],
        ),
        ("rate.mode = 'fixed'\nconcurrency = { mode = 'static', limit = 3051 }", &[]),
        ("rate.mode = 'fixed'\nconcurrency = { mode = 'gradient', max = 4000 }", &[]),
    ]);
    let failure = "expected_rate = 5\nbreaker.minimum_calls = 1\noutlier.success_rate_enforcing = 0\n\
                   outlier.failure_percentage_enforcing = 50";
    let words = "outlier.failure_percentage_min_requests: 50 requests at each of 5 endpoints in \
                 10s can never be reached at 5 calls/s, which makes 50 in all: nobody is ever \
                 judged";
    assert_eq!(of(failure, None), [words]);
    assert_eq!(of(&format!("{outlier_off}expected_rate = 2"), None), [""; 0]);
}

#[test]
fn what_a_timeout_or_a_deadline_hides() {
    table(&[
        (
            "breaker = { slow_rate = 0.5, slow_call = '11s' }",
            &[
                "breaker.slow_call: no attempt is ever slow: it ends after 10s, before the 11s that \
             make it slow",
            ],
        ),
        ("breaker = { slow_rate = 0.5, slow_call = '10s' }", &[]),
        ("breaker = { slow_call = '11s' }", &[]),
        (
            "service_breaker = { mode = 'enforce', slow_rate = 1, slow_call = '31s' }",
            &[
                "service_breaker.slow_call: no call is ever slow: it ends after 30s, before the 31s \
             that make it slow",
            ],
        ),
        (
            "breaker.half_open_max = '9s'",
            &[
                "breaker.half_open_max: half-open ends after 9s, but an attempt that probes may take \
             10s",
            ],
        ),
        (
            "deadline.total = '60s'\nservice_breaker.mode = 'enforce'",
            &[
                "service_breaker.half_open_max: half-open ends after 30s, but a call that probes may \
               take 1m",
            ],
        ),
        (
            "deadline.total = '30s'\ndeadline.attempt = '15ms'\nretry.max_attempts = 2",
            &[
                "stall.floor: nobody is ever suspected: attempts end after 15ms, before the floor of \
             15ms",
            ],
        ),
        ("deadline.attempt = '15ms'\nretry.max_attempts = 2\nstall.enabled = false", &[]),
        (
            "deadline.attempt = '20ms'\nhedge = { enabled = true, delay = '20ms' }",
            &[
                "hedge.delay: no copy ever goes out beside an attempt: that ends after 20ms, before \
             the delay of 20ms",
            ],
        ),
        (
            "deadline.attempt = '2s'\nhedge = { enabled = true, min_delay = '3s' }",
            &[
                "hedge.min_delay: no copy ever goes out beside an attempt: that ends after 2s, before \
             the delay of 3s",
            ],
        ),
        (
            "deadline.total = '1s'\nqueue.enabled = true\nconcurrency.mode = 'aimd'",
            &["queue.max_wait: who waits 1s has nothing left of the total of 1s for an attempt"],
        ),
        (
            "deadline.total = '900ms'\nrate.mode = 'fixed'",
            &["rate.max_wait: who waits 1s has nothing left of the total of 900ms for an attempt"],
        ),
        ("deadline.total = '3s'", &[]),
        (
            "deadline.total = '3s'\nretry.backoff.slack = '4s'",
            &[
                "retry.backoff.slack: a Retry-After of 4s is heeded, and ends the call: the total is \
             3s",
            ],
        ),
        (
            "checks = { kind = 'http', interval = '5m' }",
            &["checks.interval: a call asks sooner than any check: the breaker tries an endpoint \
             again after 1m at most, checks come every 5m"],
        ),
        ("checks = { kind = 'http' }", &[]),
    ]);
}

#[test]
fn what_makes_something_else_idle_or_harmful() {
    let blind = "breaker.mode = 'disabled'\nstall.enabled = false\n";
    table(&[
        (
            "budget.enabled = false",
            &["budget.enabled: an outage is multiplied by up to 6: retry.max_attempts is 6, and \
             neither the budget nor retry.tokens bounds repeats"],
        ),
        ("budget.enabled = false\nretry.max_attempts = 1", &[]),
        ("budget.enabled = false\nretry.tokens.mode = 'quota'", &[]),
        (
            "retry.max_attempts = 1\nretry.on.statuses = [503]",
            &["retry.on.statuses: [503] are never retried: retry.max_attempts is 1"],
        ),
        (
            "retry.max_attempts = 1\nretry.on.faults = ['reset', 'tls']",
            &["retry.on.faults: reset, tls are never retried: retry.max_attempts is 1"],
        ),
        (
            "retry.max_attempts = 1\nretry.tokens.mode = 'throttle'",
            &["retry.tokens.mode: nothing is ever paid for: retry.max_attempts is 1"],
        ),
        ("retry.max_attempts = 1", &[]),
        (
            "retry.on = { faults = [], statuses = [] }",
            &[
                "retry.max_attempts: 6 attempts are never made: retry.on.faults and retry.on.statuses \
             are empty",
            ],
        ),
        (
            "hedge = { enabled = true, percentile = 0.9, max_ratio = 0.05 }",
            &["hedge.max_ratio: p90 asks for 10 % copies, max_ratio allows 5 %"],
        ),
        (
            "hedge = { enabled = true, percentile = 0.995, min_samples = 200, max_ratio = 0.004 }",
            &["hedge.max_ratio: p99.5 asks for 0.5 % copies, max_ratio allows 0.4 %"],
        ),
        ("hedge = { enabled = true, percentile = 0.9, max_ratio = 0.1 }", &[]),
        (
            "hedge = { enabled = true, max_extra = 2 }\nretry.max_attempts = 2",
            &["hedge.max_extra: copy 2 is never sent: with the first attempt that makes 3, and \
             retry.max_attempts is 2"],
        ),
        (
            "breaker.mode = 'disabled'\nstall.enabled = false\noutlier.enabled = false",
            &["breaker.mode: a dead endpoint is never left alone: the breaker is disabled, stall \
               and checks are off, and outlier ejects nobody"],
        ),
        (
            "breaker.mode = 'shadow'\nstall.enabled = false",
            &["breaker.mode: a dead endpoint among fewer than 5 is never left alone: the breaker \
               is in shadow, stall and checks are off, and outlier ejection takes 5 endpoints \
               with 100 requests in 10s"],
        ),
        ("breaker.mode = 'disabled'", &[]),
        ("breaker.mode = 'disabled'\nstall.enabled = false\nchecks.kind = 'tcp'", &[]),
        (
            "service_breaker = { mode = 'enforce', half_open_permits = 9 }\n\
             concurrency = { mode = 'static', limit = 5 }",
            &["service_breaker.half_open_permits: 9 calls are never out at once: \
               concurrency.limit is 5"],
        ),
    ]);
    let consecutive = format!("{blind}outlier.consecutive_failures = 5");
    assert_eq!(of(&consecutive, None), [""; 0]);
    assert_eq!(of(blind, Some(1)), [""; 0], "there is nobody else");
}

#[test]
fn what_the_number_of_endpoints_makes_of_it() {
    for (text, endpoints, words) in [
        (
            "retry.max_attempts = 5",
            1,
            Some(
                "retry.max_attempts: 5 attempts are never made: 1 endpoint with \
             retry.attempts_per_endpoint of 3 make 3",
            ),
        ),
        ("retry.max_attempts = 5", 3, None),
        (
            "retry.max_attempts = 5",
            2,
            Some(
                "retry.max_attempts: 5 attempts are never made: 2 endpoints with \
             retry.attempts_per_endpoint of 3 make 4",
            ),
        ),
        ("retry.max_attempts = 3", 1, None),
        (
            "hedge.enabled = true",
            1,
            Some(
                "hedge.enabled: no copy is ever sent: it goes to another endpoint, and there is 1",
            ),
        ),
        ("hedge.enabled = true", 2, None),
        (
            "outlier.consecutive_failures = 5",
            3,
            Some("outlier.max_ejected_percent: 10 % of 3 endpoints still allows one: 33 %"),
        ),
        ("outlier.consecutive_failures = 5", 5, None),
        // One of 25 is twice the share, one of 20 more than that.
        ("outlier = { consecutive_failures = 5, max_ejected_percent = 2 }", 25, None),
        (
            "outlier = { consecutive_failures = 5, max_ejected_percent = 2 }",
            20,
            Some("outlier.max_ejected_percent: 2 % of 20 endpoints still allows one: 5 %"),
        ),
        ("outlier = { consecutive_failures = 5, max_ejected_percent = 50 }", 3, None),
        (
            "outlier.success_rate_factor = 1.5",
            4,
            Some(
                "outlier.enabled: nobody is ever ejected: 4 endpoints are too few for \
             success_rate_min_hosts of 5 and failure_percentage_min_hosts of 5",
            ),
        ),
        ("outlier.success_rate_factor = 1.5", 5, None),
    ] {
        let want: Vec<&str> = words.into_iter().collect();
        assert_eq!(of(text, Some(endpoints)), want, "{text} with {endpoints}");
    }
}

#[test]
fn contradictions_are_refused_and_not_only_warned_about() {
    table(&[
        (
            "queue.enabled = true",
            &["refused: policy.queue.enabled: nobody would ever wait: policy.concurrency.mode is \
             off, and only a call without a slot queues"],
        ),
        (
            "hedge.enabled = true\nretry.max_attempts = 1",
            &["refused: policy.hedge.enabled: no copy can ever be sent: it is an attempt, and \
             policy.retry.max_attempts is 1"],
        ),
        (
            "hedge.enabled = true\nhedge.delay = '1m'",
            &["refused: policy.hedge.delay: no copy can ever be sent: after 1m the \
             policy.deadline.total of 30s is over"],
        ),
        (
            "adaptive_timeout.enabled = true\ndeadline.attempt = '20ms'",
            &[
                "refused: policy.adaptive_timeout.min: nothing would ever be shortened: 50ms is not \
             below the attempt timeout of 20ms",
            ],
        ),
        (
            "deadline.total = '1s'\ndeadline.attempt = '2s'",
            &["refused: policy.deadline.attempt: 2s exceeds policy.deadline.total of 1s"],
        ),
        ("deadline.total = '8d'", &["refused: policy.deadline.total: 8d is longer than 7d"]),
        ("retry.max_attempts = 17", &["refused: policy.retry.max_attempts: 17 is outside 1–16"]),
        (
            "breaker.open = '2m'",
            &["refused: policy.breaker.open: 2m exceeds policy.breaker.open_max of 1m"],
        ),
        ("expected_rate = 0", &["refused: policy.expected_rate: 0 is outside 0.000001–1000000000"]),
    ]);
}
