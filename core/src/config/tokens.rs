//! Retry token buckets as a person writes them. The machine is [`crate::policy::tokens`].

use serde::{Deserialize, Serialize};

/// Which bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TokensMode {
    /// None: every retry is free here.
    #[default]
    Off,
    /// A retry takes tokens and a success brings them back, as in the AWS SDKs.
    Quota,
    /// A failure takes one token, a success brings some, and retries are allowed while more than
    /// half are left, as in gRPC.
    Throttle,
}

/// A token bucket for retries, an alternative to the ratio budget. Off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TokensConfig {
    /// Which bucket. Default off.
    pub mode: TokensMode,
    /// Tokens of a full bucket, with which it begins. 1–1 000 000 (throttle: 1–1 000).
    /// Default 500.
    pub capacity: u32,
    /// Quota: what a retry costs. Default 14.
    pub cost: u32,
    /// Quota: what a retry costs after a timeout. Default 14.
    pub cost_timeout: u32,
    /// Quota: what a retry costs after the peer said that it is asked too often. Default 5.
    pub cost_throttled: u32,
    /// Quota: what a call brings back that succeeded without a retry (one that needed retries
    /// brings back what its last retry took). Throttle: what a success brings.
    /// 0.001–1000 in steps of 0.001, default 1.
    pub gain: f64,
}

impl Default for TokensConfig {
    fn default() -> Self {
        TokensConfig {
            mode: TokensMode::Off,
            capacity: 500,
            cost: 14,
            cost_timeout: 14,
            cost_throttled: 5,
            gain: 1.0,
        }
    }
}

impl TokensConfig {
    /// The bucket of the AWS SDKs by their retry rule 2.1: 500 tokens, 14 for a retry, 5 after
    /// throttling.
    #[must_use]
    pub fn aws() -> TokensConfig {
        TokensConfig { mode: TokensMode::Quota, ..TokensConfig::default() }
    }

    /// The bucket of the AWS SDKs before rule 2.1: 5 for a retry, 10 after a timeout.
    #[must_use]
    pub fn aws_2_0() -> TokensConfig {
        TokensConfig { cost: 5, cost_timeout: 10, ..TokensConfig::aws() }
    }

    /// gRPC's `retryThrottling` with its `maxTokens` and `tokenRatio`.
    #[must_use]
    pub fn grpc(max_tokens: u32, token_ratio: f64) -> TokensConfig {
        TokensConfig {
            mode: TokensMode::Throttle,
            capacity: max_tokens,
            gain: token_ratio,
            ..TokensConfig::default()
        }
    }
}
