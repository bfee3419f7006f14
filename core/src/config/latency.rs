//! How far back observed latency reaches. The histogram is [`crate::policy::latency`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The memory of the latency histogram that hedging and adaptive timeouts read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LatencyConfig {
    /// Percentiles are over the last half to whole of this. 1 s–1 h, default 1 minute.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub window: Duration,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        LatencyConfig { window: Duration::from_secs(60) }
    }
}
