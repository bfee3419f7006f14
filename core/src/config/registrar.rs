//! Keeping own services registered as a person writes it. The machine is
//! [`crate::consul::registrar`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Registrations on a Consul agent: making, renewing, watching over and ending them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RegistrarConfig {
    /// How long one exchange with the agent may take, 10 ms – 5 min. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// How long a deregistration is tried before it is given up, which only costs that the agent
    /// has to notice by itself. 10 ms – 1 h, default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub leave_within: Duration,
    /// The wait after the first failure; doubles, with half of it at random. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff: Duration,
    /// The longest wait after failures. Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff_max: Duration,
    /// The wait after an answer that only a person can change: permission denied (403), or a
    /// registration that the agent does not take (400). Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub forbidden: Duration,
    /// From one look whether the agent still knows what was registered to the next; an agent
    /// that was restarted may have forgotten. Zero: never. At least 1 s, default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub presence: Duration,
    /// Heartbeats within the time to live of a TTL check, 2–20. Default 3.
    pub beats: u32,
    /// Waits between heartbeats and looks are shortened by a random share of themselves up to
    /// this. 0–0.9, default 0.1.
    pub jitter: f64,
    /// Exchanges under way at the same time, 1–64. Default 4.
    pub concurrent: u32,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        RegistrarConfig {
            timeout: Duration::from_secs(10),
            leave_within: Duration::from_secs(30),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            forbidden: Duration::from_secs(60),
            presence: Duration::from_secs(30),
            beats: 3,
            jitter: 0.1,
            concurrent: 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes_and_refuses_typing_errors() {
        let config: RegistrarConfig =
            serde_json::from_str(r#"{"presence": "0s", "beats": 4}"#).unwrap();
        assert_eq!(
            config,
            RegistrarConfig { presence: Duration::ZERO, beats: 4, ..RegistrarConfig::default() }
        );
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<RegistrarConfig>(&back).unwrap(), config);
        for wrong in [r#"{"beats": -1}"#, r#"{"beat": 3}"#, r#"{"timeout": ""}"#] {
            assert!(serde_json::from_str::<RegistrarConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
