//! Adaptive attempt timeouts as a person writes them. The machine is [`crate::policy::timeout`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An attempt timeout taken from observed latency. Off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveTimeoutConfig {
    /// `false`: the configured attempt timeout alone. Default `false`.
    pub enabled: bool,
    /// The share of calls that may take as long as they do, 0.5–0.999. Default 0.999: about one
    /// call in a thousand would be given up wrongly, were it not for `factor`.
    pub percentile: f64,
    /// The timeout is the percentile times this, 1–100, kept to 10⁻³. Default 1.5.
    pub factor: f64,
    /// Never shorter. Default 50 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub min: Duration,
    /// Never longer; nor longer than the configured attempt timeout. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max: Duration,
    /// Calls that must be in the latency window before the percentile is believed. Default 1 000,
    /// the fewest that can tell the 0.999 percentile; at most 60 000.
    pub min_samples: u32,
}

impl Default for AdaptiveTimeoutConfig {
    fn default() -> Self {
        AdaptiveTimeoutConfig {
            enabled: false,
            percentile: 0.999,
            factor: 1.5,
            min: Duration::from_millis(50),
            max: Duration::from_secs(10),
            min_samples: 1_000,
        }
    }
}
