//! Telling handlers of changes as a person writes it. The machine is
//! [`crate::discovery::delivery`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How changes are gathered before a handler is called, and what follows when it fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// A state is delivered once nothing has changed for this long. Zero: no gathering.
    /// Default 50 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub settle: Duration,
    /// Shortest time from one call of a handler to the next, at most `max_delay`. Zero: none.
    /// Default 500 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub at_most_every: Duration,
    /// A change waits no longer than this for others, however they go on. Not shorter than
    /// `settle`; default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_delay: Duration,
    /// The wait after a handler failed; doubles with each failure in a row. 1 ms – 1 h,
    /// default 100 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff: Duration,
    /// The longest of these waits. Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff_max: Duration,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        DeliveryConfig {
            settle: Duration::from_millis(50),
            at_most_every: Duration::from_millis(500),
            max_delay: Duration::from_secs(1),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(60),
        }
    }
}

impl DeliveryConfig {
    /// No gathering: every state as soon as the handler is free, the newest one only.
    #[must_use]
    pub fn immediate() -> DeliveryConfig {
        DeliveryConfig {
            settle: Duration::ZERO,
            at_most_every: Duration::ZERO,
            max_delay: Duration::ZERO,
            ..DeliveryConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes_and_refuses_typing_errors() {
        let config: DeliveryConfig =
            serde_json::from_str(r#"{"settle": "0s", "backoff": "1s"}"#).unwrap();
        assert_eq!(
            config,
            DeliveryConfig {
                settle: Duration::ZERO,
                backoff: Duration::from_secs(1),
                ..DeliveryConfig::default()
            }
        );
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<DeliveryConfig>(&back).unwrap(), config);
        for wrong in [r#"{"settle": 0}"#, r#"{"setle": "1s"}"#, r#"{"backoff": "-1s"}"#] {
            assert!(serde_json::from_str::<DeliveryConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
