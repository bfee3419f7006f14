//! The guard against mass removal as a person writes it. The machine is
//! [`crate::discovery::removal`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When instances that vanish from a source are kept for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RemovalConfig {
    /// `false`: the source is always believed at once. Default `true`.
    pub enabled: bool,
    /// Instances vanish en masse when more than this share of them is gone, 0–1; at 1 only an
    /// empty list is. Default 0.5.
    pub share: f64,
    /// Lists that were shorter than this are guarded against being empty only. 1–1 000 000,
    /// default 4.
    pub min_instances: u32,
    /// How long what vanished en masse is kept, and over what time removals are added up.
    /// 100 ms – 7 d, default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub hold: Duration,
    /// So many further answers without them, and they are given up before `hold` is over.
    /// Zero: only time decides. At most 1 000, default 3.
    pub confirmations: u32,
    /// Answers that follow each other faster than this count as one confirmation. At most
    /// `hold`, default 2 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub confirm_every: Duration,
}

impl Default for RemovalConfig {
    fn default() -> Self {
        RemovalConfig {
            enabled: true,
            share: 0.5,
            min_instances: 4,
            hold: Duration::from_secs(30),
            confirmations: 3,
            confirm_every: Duration::from_secs(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes_and_refuses_typing_errors() {
        let config: RemovalConfig =
            serde_json::from_str(r#"{"share": 0.25, "hold": "1m"}"#).unwrap();
        assert_eq!(
            config,
            RemovalConfig {
                share: 0.25,
                hold: Duration::from_secs(60),
                ..RemovalConfig::default()
            }
        );
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RemovalConfig>(&back).unwrap(), config);
        for wrong in [r#"{"share": "half"}"#, r#"{"holds": "1m"}"#, r#"{"hold": 60}"#] {
            assert!(serde_json::from_str::<RemovalConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
