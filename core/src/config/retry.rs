//! Retries as a person writes them: how often and where, what, after which wait, and a token
//! bucket besides the budget.

use serde::{Deserialize, Serialize};

use super::{BackoffConfig, ClassesConfig, TokensConfig};

/// Retries within one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Attempts in all, the first included: 1 means no retry. 1–16, default 6.
    pub max_attempts: u32,
    /// Attempts in one cluster while others are untried. Default 2.
    pub attempts_per_cluster: u32,
    /// Attempts at one endpoint, when nobody else is left: a service with a single endpoint is
    /// tried this often. 1–16, default 3.
    pub attempts_per_endpoint: u32,
    /// What is retried: classes of failure, statuses, methods.
    pub on: ClassesConfig,
    /// Waits between repeats. A move to another cluster, and a repeat elsewhere of a request that
    /// never left, do not wait.
    pub backoff: BackoffConfig,
    /// A token bucket for retries, besides the ratio budget. Default off.
    pub tokens: TokensConfig,
}

impl Default for RetryConfig {
    fn default() -> Self {
        RetryConfig {
            max_attempts: 6,
            attempts_per_cluster: 2,
            attempts_per_endpoint: 3,
            on: ClassesConfig::default(),
            backoff: BackoffConfig::default(),
            tokens: TokensConfig::default(),
        }
    }
}
