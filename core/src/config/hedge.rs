//! Hedging as a person writes it. The machine is [`crate::policy::hedge`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A second copy of a slow idempotent call. Off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct HedgeConfig {
    /// `false`: no copies. Default `false`.
    pub enabled: bool,
    /// A fixed delay before each copy, up to 1 h. `None` (default): the observed `percentile`.
    #[serde(with = "crate::config::policy::optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub delay: Option<Duration>,
    /// A copy goes out when the call takes longer than this share of calls do, 0.5–0.999.
    /// Default 0.95: about one call in twenty is hedged.
    pub percentile: f64,
    /// A percentile below this counts as this: a copy that saves less costs more than it
    /// brings. Default 10 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub min_delay: Duration,
    /// A percentile above this counts as this. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_delay: Duration,
    /// Calls that must be in the latency window before the percentile is believed. Default 100;
    /// at most 60 000. A fixed delay needs none.
    pub min_samples: u32,
    /// Copies of one call in addition to the first attempt, 1 or 2. Default 1.
    pub max_extra: u32,
    /// Copies per call, over all calls of the last ten seconds, 0–2, kept exactly to 10⁻⁶.
    /// Default 0.1. This holds in addition to the retry budget.
    pub max_ratio: f64,
    /// Copies in any ten seconds that need not be earned by calls. Default 3.
    pub min_copies: u32,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        HedgeConfig {
            enabled: false,
            delay: None,
            percentile: 0.95,
            min_delay: Duration::from_millis(10),
            max_delay: Duration::from_secs(10),
            min_samples: 100,
            max_extra: 1,
            max_ratio: 0.1,
            min_copies: 3,
        }
    }
}
