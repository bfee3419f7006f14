//! The two checks of consistency as a person writes them. The machines are in
//! [`crate::consul::consistency`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether the cluster is whole, and whether what is cached is what the registry means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConsistencyConfig {
    /// Whether members are counted, and registrations and refreshes held back while too few are
    /// alive. Default `false`: a single agent is one member.
    pub split_brain: bool,
    /// Members that must be alive, 1–10 000. Default 3.
    pub minimum: u32,
    /// From one count to the next, 1 s – 7 d. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub interval: Duration,
    /// Whether `services/{service}/index` in the KV store is compared for services in use, and
    /// what is cached dropped when it moves. Default `false`: nobody writes these keys by himself.
    pub index: bool,
    /// From one comparison of a service to the next, 1 s – 7 d. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub index_interval: Duration,
    /// Services remembered; the one not used for longest is forgotten. 1–100 000, default 10 000.
    pub most: u32,
    /// Comparisons under way at the same time, 1–256. Default 8.
    pub concurrent: u32,
    /// How long one answer may take, 10 ms – 60 s. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// Every interval is shortened by a random share of itself up to this. 0–0.9, default 0.1.
    pub jitter: f64,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        ConsistencyConfig {
            split_brain: false,
            minimum: 3,
            interval: Duration::from_secs(30),
            index: false,
            index_interval: Duration::from_secs(30),
            most: 10_000,
            concurrent: 8,
            timeout: Duration::from_secs(5),
            jitter: 0.1,
        }
    }
}

impl ConsistencyConfig {
    /// The Datapunk standard (003-55 to 003-63): both checks, three members.
    #[must_use]
    pub fn standard() -> ConsistencyConfig {
        ConsistencyConfig { split_brain: true, index: true, ..ConsistencyConfig::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes_and_refuses_typing_errors() {
        let config: ConsistencyConfig =
            serde_json::from_str(r#"{"split_brain": true, "minimum": 5}"#).unwrap();
        assert_eq!(
            config,
            ConsistencyConfig { split_brain: true, minimum: 5, ..ConsistencyConfig::default() }
        );
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ConsistencyConfig>(&back).unwrap(), config);
        for wrong in [r#"{"minimum": "3"}"#, r#"{"splitbrain": true}"#, r#"{"interval": 1}"#] {
            assert!(serde_json::from_str::<ConsistencyConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
