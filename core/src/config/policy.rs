//! The policies of a service as plain values with their defaults. The machines that carry them
//! out are in [`crate::policy`]; a reader looking for numbers finds all of them here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AdaptiveTimeoutConfig, BalanceConfig, BreakerConfig, ChecksConfig, ConcurrencyConfig,
    FailoverConfig, HedgeConfig, LatencyConfig, Mode, OutlierConfig, PropagateConfig, QueueConfig,
    RateConfig, RetryConfig, ThrottleConfig,
};

/// All policies of one service.
///
/// In `origin.toml` a policy may name one of the [`PRESETS`](super::PRESETS) as `preset`; what is
/// written beside it is laid on that instead of on the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How long things may take.
    pub deadline: DeadlineConfig,
    /// What is tried again, where and when.
    pub retry: RetryConfig,
    /// A second attempt beside a slow one.
    pub hedge: HedgeConfig,
    /// An attempt timeout learnt from what calls usually take.
    pub adaptive_timeout: AdaptiveTimeoutConfig,
    /// What latency statistics remember, for hedging and adaptive timeouts.
    pub latency: LatencyConfig,
    /// What endpoints are told of the remaining time.
    pub propagate: PropagateConfig,
    /// How many repeats all calls of the service may make together.
    pub budget: BudgetConfig,
    /// When an endpoint is left alone.
    pub breaker: BreakerConfig,
    /// When the service as a whole is left alone: one sample is a whole call, whatever it
    /// repeated. Default disabled: with endpoints to choose from, theirs are enough.
    pub service_breaker: BreakerConfig,
    /// Refusing a share of calls here while the service accepts too few. Default off.
    pub throttle: ThrottleConfig,
    /// Calls in flight at the same time. Default off.
    pub concurrency: ConcurrencyConfig,
    /// Waiting for a place among them. Default off.
    pub queue: QueueConfig,
    /// Calls per time. Default off.
    pub rate: RateConfig,
    /// Which endpoint of a cluster is taken.
    pub balance: BalanceConfig,
    /// When load leaves a cluster, when it comes back, and how much may leave.
    pub failover: FailoverConfig,
    /// When an endpoint is left out because it is worse than its peers.
    pub outlier: OutlierConfig,
    /// When an endpoint that answers nothing is avoided before its attempts time out.
    pub stall: StallConfig,
    /// How endpoints are asked whether they are healthy, besides by calls.
    pub checks: ChecksConfig,
    /// Calls per second that are expected, above 0 up to 10⁹. No machine reads it: it is what
    /// [`Policy::warnings`] holds windows and minimum counts against. Default `None`: unknown.
    pub expected_rate: Option<f64>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            deadline: DeadlineConfig::default(),
            retry: RetryConfig::default(),
            hedge: HedgeConfig::default(),
            adaptive_timeout: AdaptiveTimeoutConfig::default(),
            latency: LatencyConfig::default(),
            propagate: PropagateConfig::default(),
            budget: BudgetConfig::default(),
            breaker: BreakerConfig::default(),
            service_breaker: BreakerConfig { mode: Mode::Disabled, ..BreakerConfig::default() },
            throttle: ThrottleConfig::default(),
            concurrency: ConcurrencyConfig::default(),
            queue: QueueConfig::default(),
            rate: RateConfig::default(),
            balance: BalanceConfig::default(),
            failover: FailoverConfig::default(),
            outlier: OutlierConfig::default(),
            stall: StallConfig::default(),
            checks: ChecksConfig::default(),
            expected_rate: None,
        }
    }
}

/// Deadlines of a call and of its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeadlineConfig {
    /// The whole call: waiting for discovery, all attempts, all waits. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub total: Duration,
    /// One attempt, head and collected body; never more than what remains of `total`.
    /// `None`: 10 s, or `total` if that is shorter.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub attempt: Option<Duration>,
    /// Name resolution, TCP and TLS handshake of a new connection, for all services of a
    /// client: set it in [`crate::Config::policy`]. `None`: 1 s, or `attempt` if shorter.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub connect: Option<Duration>,
    /// An attempt is not started when less than this remains of `total`. Default 1 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub floor: Duration,
}

impl Default for DeadlineConfig {
    fn default() -> Self {
        DeadlineConfig {
            total: Duration::from_secs(30),
            attempt: None,
            connect: None,
            floor: Duration::from_millis(1),
        }
    }
}

/// The retry budget of a service: over the last ten seconds, repeats may be at most
/// `ratio` × calls + `min_per_second` × 10.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// `false` allows every repeat. Default `true`.
    pub enabled: bool,
    /// Repeats earned by one call, 0–1000, kept exactly to 10⁻⁶. Default 0.2.
    pub ratio: f64,
    /// Repeats per second that need not be earned. Default 10.
    pub min_per_second: u32,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        BudgetConfig { enabled: true, ratio: 0.2, min_per_second: 10 }
    }
}

/// Stall suspicion: an endpoint whose attempts are out and which has answered nothing for
/// longer than `max(floor, 2 × (smoothed latency + 4 × deviation))` is used last, and what waits
/// there is rescued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct StallConfig {
    /// `false`: only timeouts and errors count. Default `true`.
    pub enabled: bool,
    /// Never suspicious before this. Default 15 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub floor: Duration,
    /// With fewer attempts out at the same time, four times the silence is needed. Default 2.
    pub min_outstanding: u32,
    /// How long an endpoint that cost an attempt by its silence is left alone before one attempt
    /// asks again; later, an eighth of the time the trouble lasts. Default 460 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub probe_interval: Duration,
    /// Whether an idempotent call that waits at a suspect is moved elsewhere; the retry budget
    /// pays. Needs a driver that can be woken while it waits (not the blocking one). Default
    /// `true`.
    pub rescue: bool,
}

impl Default for StallConfig {
    fn default() -> Self {
        StallConfig {
            enabled: true,
            floor: Duration::from_millis(15),
            min_outstanding: 2,
            probe_interval: Duration::from_millis(460),
            rescue: true,
        }
    }
}

pub(crate) mod optional {
    //! `Option<Duration>` as text.
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::ref_option)] // the signature serde asks for
    pub(crate) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => to.collect_str(&crate::time::DurationText(*span)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| crate::time::parse_duration(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}
