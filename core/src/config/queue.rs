//! The queue of waiting callers as a person writes it. The machine is [`crate::policy::queue`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounded queue of callers that wait for a slot or a permit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// `false`: nobody waits, a caller without a slot is refused. Default `false`.
    pub enabled: bool,
    /// Callers waiting at the same time. 1–4 096, default 128.
    pub capacity: u32,
    /// Longest wait while the queue comes and goes. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_wait: Duration,
    /// Longest wait once the queue stands. Default 50 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub target: Duration,
    /// A queue that was not empty for this long stands for the lowest priority, for twice as
    /// long for the next one, and so on. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub interval: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            enabled: false,
            capacity: 128,
            max_wait: Duration::from_secs(1),
            target: Duration::from_millis(50),
            interval: Duration::from_secs(1),
        }
    }
}
