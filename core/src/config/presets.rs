//! Presets: whole policies under a name, as plain values. They express what others do, and what
//! the contracts ask for, by configuration alone; nothing in the machines knows them.
//!
//! In code: [`Policy::preset`]. In `origin.toml`, at the top of any policy or profile:
//!
//! ```toml
//! [services.stamping.policy]
//! preset = "omninode"
//! [services.stamping.policy.breaker]
//! minimum_throughput = 10     # the rest stays as in the preset
//! ```
//!
//! A preset sets what its source gives a number for and leaves everything else as in `origin`.
//! What the source promises and a caller cannot see (stall suspicion, the retry budget's floor of
//! ten repeats a second) is kept: it protects the peer and changes no promise. Where a source
//! repeats requests that may have arrived and are not idempotent, the preset does not.

use std::time::Duration;

use super::backoff::{Jitter, PushbackRule};
use super::field::WEEK;
use super::{
    BackoffConfig, BalanceConfig, BalanceKind, BreakerConfig, BudgetConfig, CheckKind,
    ChecksConfig, ClassesConfig, ConcurrencyConfig, ConcurrencyMode, DeadlineConfig,
    DeadlineHeader, FailoverConfig, FaultClass, Mode, OutlierConfig, Policy, PropagateConfig,
    QueueConfig, RetryConfig, StallConfig, TokensConfig,
};

/// The presets: name, and what it is.
pub const PRESETS: &[(&str, &str)] = &[
    ("origin", "the defaults"),
    ("omninode", "OmniNode's bridge clients: 3 attempts after 1 s and 2 s within 30 s, 503 too"),
    ("designsynapse", "DesignSynapse's clients: 3 attempts of 30 s after 1 s and 2 s, no status"),
    ("datapunk", "Datapunk's mesh: 3 attempts after 100 ms and 200 ms, checks every 10 s"),
    ("envoy-like", "Envoy's router: one retry, outlier ejection, spill at 140 %, no breaker"),
    ("aws-like", "the AWS SDKs' retries (2.1): 3 attempts out of a bucket of 500 tokens"),
    ("off", "one attempt at a random endpoint; everything that can be switched off is"),
];

impl Policy {
    /// The policy of the preset called `name`; `None` if there is none (see [`PRESETS`]).
    ///
    /// ```
    /// use origin_core::config::{PRESETS, Policy, Rules};
    ///
    /// let mut policy = Policy::preset("omninode").unwrap();
    /// policy.breaker.minimum_throughput = 10;
    /// assert!(Rules::of(&policy, "policy").is_ok());
    /// assert!(PRESETS.iter().all(|(name, _)| Policy::preset(name).is_some()));
    /// assert!(Policy::preset("Omninode").is_none());
    /// ```
    #[must_use]
    pub fn preset(name: &str) -> Option<Policy> {
        Some(match name {
            "origin" => Policy::default(),
            "omninode" => omninode(),
            "designsynapse" => designsynapse(),
            "datapunk" => datapunk(),
            "envoy-like" => envoy_like(),
            "aws-like" => aws_like(),
            "off" => off(),
            _ => return None,
        })
    }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Seed 001. All attempts and waits share one budget of 30 s, which is also the timeout of an
/// attempt. The breaker of the contract surrounds the whole call; the one of each endpoint has the
/// same numbers, so that with several endpoints a dead one is left alone.
fn omninode() -> Policy {
    use FaultClass::{Connect, Reset, Timeout, Tls};
    let breaker = BreakerConfig {
        failures: Some(5),
        minimum_throughput: 5,
        failure_rate: None,
        slow_call: secs(5),
        open: secs(60),
        open_max: secs(60),
        jitter: 0.0,
        half_open_permits: 3,
        half_open_successes: 2,
        // As long as a probe can take.
        half_open_max: secs(30),
        ..BreakerConfig::default()
    };
    Policy {
        deadline: DeadlineConfig {
            total: secs(30),
            attempt: Some(secs(30)),
            ..DeadlineConfig::default()
        },
        retry: RetryConfig {
            max_attempts: 3,
            // The contract has one endpoint and one number: raised, it is what is seen there.
            attempts_per_endpoint: 16,
            on: ClassesConfig {
                faults: vec![Connect, Tls, Timeout, Reset],
                statuses: vec![503],
                ..ClassesConfig::default()
            },
            backoff: BackoffConfig {
                base: secs(1),
                max: secs(10),
                jitter: Jitter::None,
                ..BackoffConfig::default()
            },
            ..RetryConfig::default()
        },
        service_breaker: breaker.clone(),
        breaker,
        // The pool of the contract: 100 connections, and whoever finds none waits for one.
        concurrency: ConcurrencyConfig {
            mode: ConcurrencyMode::Static,
            limit: 100,
            ..ConcurrencyConfig::default()
        },
        queue: QueueConfig {
            enabled: true,
            capacity: 4_096,
            // A third of the call is left for the attempt.
            max_wait: secs(20),
            target: secs(20),
            interval: secs(30),
        },
        ..Policy::default()
    }
}

/// Seed 002. The timeout is that of an attempt, and nothing bounds the call: three attempts of
/// 30 s and waits of 1 s and 2 s are 93 s. Waits double without end.
fn designsynapse() -> Policy {
    let total = secs(3 * 30 + 1 + 2);
    let breaker = BreakerConfig {
        failures: Some(5),
        failure_rate: None,
        open: secs(60),
        open_max: secs(60),
        jitter: 0.0,
        half_open_permits: 1,
        half_open_successes: 1,
        half_open_max: total,
        ..BreakerConfig::default()
    };
    Policy {
        deadline: DeadlineConfig { total, attempt: Some(secs(30)), ..DeadlineConfig::default() },
        retry: RetryConfig {
            max_attempts: 3,
            // The contract has one endpoint and one number: raised, it is what is seen there.
            attempts_per_endpoint: 16,
            on: ClassesConfig {
                faults: vec![FaultClass::Connect, FaultClass::Tls, FaultClass::Timeout],
                statuses: vec![],
                ..ClassesConfig::default()
            },
            backoff: BackoffConfig {
                base: secs(1),
                max: WEEK,
                jitter: Jitter::None,
                ..BackoffConfig::default()
            },
            ..RetryConfig::default()
        },
        service_breaker: breaker.clone(),
        breaker,
        ..Policy::default()
    }
}

/// Seeds 003 and 004, and the modules beside them: `retry.py` (its ± 10 % become equal jitter),
/// `routing/circuit.py`, `health/*`. Checks as in 004; 003 has 30 s and 10 s.
fn datapunk() -> Policy {
    Policy {
        deadline: DeadlineConfig {
            total: secs(60),
            attempt: Some(secs(10)),
            ..DeadlineConfig::default()
        },
        retry: RetryConfig {
            max_attempts: 3,
            backoff: BackoffConfig {
                base: ms(100),
                max: secs(10),
                jitter: Jitter::Equal,
                ..BackoffConfig::default()
            },
            ..RetryConfig::default()
        },
        breaker: BreakerConfig {
            failures: Some(5),
            failure_rate: Some(0.5),
            window: Some(secs(10)),
            minimum_calls: 5,
            open: secs(60),
            // The source doubles without end.
            open_max: secs(3_600),
            jitter: 0.0,
            half_open_permits: 3,
            half_open_successes: 2,
            ..BreakerConfig::default()
        },
        checks: ChecksConfig {
            kind: CheckKind::Http,
            interval: secs(10),
            timeout: Some(secs(5)),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            ..ChecksConfig::default()
        },
        ..Policy::default()
    }
}

/// Envoy's defaults, with the retry policy `5xx` and the retry budget, which it has not by
/// default. An attempt has the timeout of the call unless a timeout per try is configured.
fn envoy_like() -> Policy {
    Policy {
        deadline: DeadlineConfig {
            total: secs(15),
            attempt: Some(secs(15)),
            ..DeadlineConfig::default()
        },
        retry: RetryConfig {
            max_attempts: 2,
            on: ClassesConfig {
                statuses: (500..600).collect(),
                overloaded_header: "x-envoy-overloaded".to_owned(),
                ..ClassesConfig::default()
            },
            backoff: BackoffConfig {
                base: ms(25),
                max: ms(250),
                jitter: Jitter::Full,
                pushback: PushbackRule::Ignore,
                ..BackoffConfig::default()
            },
            ..RetryConfig::default()
        },
        propagate: PropagateConfig { header: DeadlineHeader::Envoy, ..PropagateConfig::default() },
        budget: BudgetConfig { enabled: true, ratio: 0.2, min_per_second: 3 },
        breaker: disabled(),
        concurrency: ConcurrencyConfig {
            mode: ConcurrencyMode::Static,
            limit: 1_024,
            ..ConcurrencyConfig::default()
        },
        stall: StallConfig { enabled: false, rescue: false, ..StallConfig::default() },
        balance: BalanceConfig { kind: BalanceKind::RoundRobin, ..BalanceConfig::default() },
        failover: FailoverConfig {
            over_provisioning: 140,
            panic_threshold: 50,
            hold_down: Duration::ZERO,
            free_failbacks: 0,
            ..FailoverConfig::default()
        },
        outlier: OutlierConfig { consecutive_failures: 5, ..OutlierConfig::default() },
        ..Policy::default()
    }
}

/// Retries as the AWS SDKs make them by their rule 2.1; an SDK has no breaker, no balancing and
/// one address, so everything else is as in `origin`.
fn aws_like() -> Policy {
    let mut faults = ClassesConfig::default().faults;
    faults.push(FaultClass::Throttled);
    Policy {
        retry: RetryConfig {
            max_attempts: 3,
            on: ClassesConfig { faults, ..ClassesConfig::default() },
            backoff: BackoffConfig {
                base: ms(50),
                max: secs(20),
                throttled_base: Some(secs(1)),
                jitter: Jitter::Full,
                pushback: PushbackRule::Clamp,
                slack: secs(5),
            },
            tokens: TokensConfig::aws(),
            ..RetryConfig::default()
        },
        budget: BudgetConfig { enabled: false, ..BudgetConfig::default() },
        ..Policy::default()
    }
}

/// What would be retried, and how, is left as it is: there are no retries, and who allows some
/// again should find the usual ones.
fn off() -> Policy {
    let deadline = DeadlineConfig::default();
    Policy {
        // A call needs an end; an attempt has none of its own.
        deadline: DeadlineConfig { attempt: Some(deadline.total), ..deadline },
        retry: RetryConfig { max_attempts: 1, ..RetryConfig::default() },
        budget: BudgetConfig { enabled: false, ..BudgetConfig::default() },
        breaker: disabled(),
        service_breaker: disabled(),
        stall: StallConfig { enabled: false, rescue: false, ..StallConfig::default() },
        balance: BalanceConfig {
            kind: BalanceKind::Random,
            load_bound: 0.0,
            ..BalanceConfig::default()
        },
        failover: FailoverConfig { enabled: false, ..FailoverConfig::default() },
        outlier: OutlierConfig { enabled: false, ..OutlierConfig::default() },
        // Hedging, adaptive timeouts, headers, throttling, limits, queue, rate, checks are off in
        // `origin` already; a test holds this against a change of the defaults.
        ..Policy::default()
    }
}

fn disabled() -> BreakerConfig {
    BreakerConfig { mode: Mode::Disabled, ..BreakerConfig::default() }
}

#[cfg(test)]
mod tests;
