//! Waits between repeats as a person writes them. The machine is [`crate::policy::backoff`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How waits are spread around the exponential step `base × 2ⁿ`, at most `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Between nothing and the step.
    #[default]
    Full,
    /// Between half the step and the step.
    Equal,
    /// Between `base` and three times the wait before, at most `max`.
    Decorrelated,
    /// Exactly the step: a printed schedule such as 1 s, 2 s, 4 s.
    None,
}

/// What a peer's wish about the next try (`Retry-After`, `grpc-retry-pushback-ms`) is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PushbackRule {
    /// It may lengthen a wait by at most `slack`, and not shorten it, as in the AWS SDKs. An
    /// unreadable or negative one counts as absent.
    #[default]
    Clamp,
    /// The wait is what the peer asked for and the sequence begins anew; a negative, unreadable
    /// or repeated one forbids repeating, as in gRPC.
    Exact,
    /// It is ignored.
    Ignore,
}

/// Waits between repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BackoffConfig {
    /// The first step; each further one is twice as long. Default 50 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub base: Duration,
    /// The longest step. Default 2 s. Equal to `base`: a fixed wait.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max: Duration,
    /// The first step after the peer said that it is asked too often. `None` (default): 1 s, but
    /// not less than `base` nor more than `max`.
    #[serde(with = "crate::config::policy::optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub throttled_base: Option<Duration>,
    /// Spread of the waits. Default full.
    pub jitter: Jitter,
    /// What a peer's wish is worth. Default clamp.
    pub pushback: PushbackRule,
    /// With `pushback = "clamp"`: how much longer than the computed wait a peer may ask for.
    /// 0–7 d, default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub slack: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        BackoffConfig {
            base: Duration::from_millis(50),
            max: Duration::from_secs(2),
            throttled_base: None,
            jitter: Jitter::Full,
            pushback: PushbackRule::Clamp,
            slack: Duration::from_secs(5),
        }
    }
}
