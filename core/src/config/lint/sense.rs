//! Policies whose absence or number makes another one idle, or an outage worse.

use super::Lint;
use crate::config::field::{permille, scaled};
use crate::config::{
    CheckKind, ClassesConfig, ConcurrencyMode, Mode, OutlierConfig, RetryConfig, TokensMode,
};
use crate::time::DurationText;

pub(super) fn look(lint: &mut Lint<'_>) {
    amplification(lint);
    retries(lint);
    hedging(lint);
    nobody_looks(lint);
    ejection(lint);
    half_open(lint);
}

/// Without a budget every caller multiplies what is already failing.
fn amplification(lint: &mut Lint<'_>) {
    let policy = lint.policy;
    let most = policy.retry.max_attempts;
    if most > 1 && !policy.budget.enabled && policy.retry.tokens.mode == TokensMode::Off {
        let reason = format!(
            "an outage is multiplied by up to {most}: retry.max_attempts is {most}, and neither \
             the budget nor retry.tokens bounds repeats"
        );
        lint.warn("budget.enabled", reason);
    }
}

/// Endpoints that a call remembers having been at.
const REMEMBERED: u32 = crate::pool::choose::MOST_TRIED as u32;

fn retries(lint: &mut Lint<'_>) {
    let (retry, usual) = (&lint.policy.retry, RetryConfig::default());
    if retry.max_attempts == 1 {
        // The usual lists stand in every policy; only what was written was meant.
        let ClassesConfig { faults, statuses, .. } = &usual.on;
        if retry.on.statuses != *statuses && !retry.on.statuses.is_empty() {
            let reason = format!(
                "{:?} are never retried: retry.max_attempts is 1",
                retry.on.statuses.as_slice()
            );
            lint.warn("retry.on.statuses", reason);
        }
        if retry.on.faults != *faults && !retry.on.faults.is_empty() {
            let names: Vec<String> = retry.on.faults.iter().map(ToString::to_string).collect();
            let reason = format!("{} are never retried: retry.max_attempts is 1", names.join(", "));
            lint.warn("retry.on.faults", reason);
        }
        if retry.tokens.mode != TokensMode::Off {
            let reason = "nothing is ever paid for: retry.max_attempts is 1".to_owned();
            lint.warn("retry.tokens.mode", reason);
        }
        return;
    }
    if retry.on.faults.is_empty() && retry.on.statuses.is_empty() {
        let reason = format!(
            "{} attempts are never made: retry.on.faults and retry.on.statuses are empty",
            retry.max_attempts
        );
        lint.warn("retry.max_attempts", reason);
    }
    // Each endpoint once, and of repeats no more than one endpoint may have. Exact as long as a
    // call remembers all of them.
    let reach = |endpoints: u32| endpoints.saturating_add(retry.attempts_per_endpoint - 1);
    let few = |count: &u32| *count > 0 && reach(*count) < retry.max_attempts.min(REMEMBERED + 1);
    if let Some(endpoints) = lint.endpoints.filter(few)
        && retry.max_attempts != usual.max_attempts
    {
        let reason = format!(
            "{} attempts are never made: {endpoints} {} with retry.attempts_per_endpoint of {} \
             make {}",
            retry.max_attempts,
            if endpoints == 1 { "endpoint" } else { "endpoints" },
            retry.attempts_per_endpoint,
            reach(endpoints)
        );
        lint.warn("retry.max_attempts", reason);
    }
}

fn hedging(lint: &mut Lint<'_>) {
    let (hedge, most) = (&lint.policy.hedge, lint.policy.retry.max_attempts);
    if !hedge.enabled {
        return;
    }
    if lint.endpoints == Some(1) {
        let reason = "no copy is ever sent: it goes to another endpoint, and there is 1".to_owned();
        lint.warn("hedge.enabled", reason);
        return;
    }
    if hedge.max_extra >= most {
        let reason = format!(
            "copy {} is never sent: with the first attempt that makes {}, and retry.max_attempts \
             is {most}",
            hedge.max_extra,
            hedge.max_extra + 1
        );
        lint.warn("hedge.max_extra", reason);
    }
    let slower = 1_000 - u32::from(permille(hedge.percentile));
    if hedge.delay.is_none() && u64::from(slower) > scaled(hedge.max_ratio, 1_000) {
        let reason = format!(
            "p{} asks for {} % copies, max_ratio allows {} %",
            percent(1_000 - slower),
            percent(slower),
            percent(u32::try_from(scaled(hedge.max_ratio, 1_000)).unwrap_or(u32::MAX))
        );
        lint.warn("hedge.max_ratio", reason);
    }
}

/// Thousandths in percent.
fn percent(permille: u32) -> String {
    let (whole, tenth) = (permille / 10, permille % 10);
    if tenth == 0 { whole.to_string() } else { format!("{whole}.{tenth}") }
}

/// With retries a dead endpoint goes unnoticed, and each call that meets it pays an attempt.
/// Whoever allows one attempt and switches everything off wants to see every failure.
fn nobody_looks(lint: &mut Lint<'_>) {
    let policy = lint.policy;
    let blind = policy.breaker.mode != Mode::Enforce
        && !policy.stall.enabled
        && policy.checks.kind == CheckKind::Off;
    if !blind || policy.retry.max_attempts == 1 || lint.endpoints == Some(1) {
        return;
    }
    let o = &policy.outlier;
    let breaker = match policy.breaker.mode {
        Mode::Shadow => "in shadow",
        Mode::Enforce | Mode::Disabled => "disabled",
    };
    let reason = match Ejects::of(o, lint.endpoints) {
        Ejects::Runs => return,
        Ejects::Rates { hosts, requests } => format!(
            "a dead endpoint among fewer than {hosts} is never left alone: the breaker is \
             {breaker}, stall and checks are off, and outlier ejection takes {hosts} endpoints \
             with {requests} requests in {}",
            DurationText(o.interval)
        ),
        Ejects::Nobody => format!(
            "a dead endpoint is never left alone: the breaker is {breaker}, stall and checks are \
             off, and outlier ejects nobody"
        ),
    };
    lint.warn("breaker.mode", reason);
}

/// Whom outlier ejection can take out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ejects {
    /// Any endpoint, by its failures in a row.
    Runs,
    /// One of so many endpoints, by its rate over so many requests.
    Rates {
        hosts: u32,
        requests: u32,
    },
    Nobody,
}

impl Ejects {
    fn of(o: &OutlierConfig, endpoints: Option<u32>) -> Ejects {
        if !o.enabled || o.max_ejected_percent == 0 {
            return Ejects::Nobody;
        }
        if o.consecutive_failures > 0 && o.consecutive_enforcing > 0 {
            return Ejects::Runs;
        }
        let enough = |hosts: u32| endpoints.is_none_or(|count| count >= hosts);
        let rates = [
            (o.success_rate_enforcing, o.success_rate_min_hosts, o.success_rate_min_requests),
            (
                o.failure_percentage_enforcing,
                o.failure_percentage_min_hosts,
                o.failure_percentage_min_requests,
            ),
        ];
        let able = rates.iter().filter(|(enforcing, hosts, _)| *enforcing > 0 && enough(*hosts));
        able.min_by_key(|(_, hosts, _)| *hosts).map_or(Ejects::Nobody, |(_, hosts, requests)| {
            Ejects::Rates { hosts: *hosts, requests: *requests }
        })
    }
}

fn ejection(lint: &mut Lint<'_>) {
    let o = &lint.policy.outlier;
    let Some(endpoints) = lint.endpoints.filter(|count| *count > 0) else { return };
    let able = Ejects::of(o, Some(endpoints));
    if able == Ejects::Nobody {
        let wanted = *o != OutlierConfig::default() && o.max_ejected_percent > 0;
        if wanted && Ejects::of(o, None) != Ejects::Nobody {
            let reason = format!(
                "nobody is ever ejected: {endpoints} {} too few for success_rate_min_hosts of {} \
                 and failure_percentage_min_hosts of {}",
                if endpoints == 1 { "endpoint is" } else { "endpoints are" },
                o.success_rate_min_hosts,
                o.failure_percentage_min_hosts
            );
            lint.warn("outlier.enabled", reason);
        }
        return;
    }
    // The share is compared before each ejection, so the last one may exceed it.
    let (most, endpoints) = (u64::from(o.max_ejected_percent), u64::from(endpoints));
    let out = (most * endpoints).div_ceil(100);
    let really = out * 100 / endpoints;
    if really > most * 2 {
        let number = if out == 1 { "one".to_owned() } else { out.to_string() };
        let reason = format!("{most} % of {endpoints} endpoints still allows {number}: {really} %");
        lint.warn("outlier.max_ejected_percent", reason);
    }
}

/// Permits that can never be out together.
fn half_open(lint: &mut Lint<'_>) {
    let policy = lint.policy;
    if policy.concurrency.mode != ConcurrencyMode::Static {
        return;
    }
    let limit = policy.concurrency.limit;
    let breaker = &policy.service_breaker;
    if breaker.mode != Mode::Disabled && breaker.half_open_permits > limit {
        let reason = format!(
            "{} calls are never out at once: concurrency.limit is {limit}",
            breaker.half_open_permits
        );
        lint.warn("service_breaker.half_open_permits", reason);
    }
}
