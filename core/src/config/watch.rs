//! Watching Consul as a person writes it. The machine is [`crate::consul::watch`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the waits after failures grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WatchBackoff {
    /// `backoff × n²` after the `n`-th failure in a row, at most `backoff_max`: 5, 20, 45, 80,
    /// 125, 180 s, as in Consul's own watch library.
    #[default]
    Square,
    /// Always `backoff`.
    Fixed,
}

/// One watch of something in Consul by blocking queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// `false`: no blocking queries; asks plainly once per `poll`. Default `true`.
    pub blocking: bool,
    /// How long the server may hold a query back while nothing changes, 1 s – 10 min.
    /// Default 5 min.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub wait: Duration,
    /// How long an answer may take besides the wait and the sixteenth of it that a server adds:
    /// connecting, sending, the answer to a query that does not block. 100 ms – 60 s,
    /// default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// From one query to the next when a server does not hold queries back (no index in its
    /// answers, always the same one at once) or `blocking` is off. 100 ms – 7 d, default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub poll: Duration,
    /// Queries that may follow each other at once, 1–100. Default 3.
    pub burst: u32,
    /// Beyond the burst, one query per this time, 10 ms – 60 s. Default 500 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub every: Duration,
    /// How the waits after failures grow. Default `square`.
    pub growth: WatchBackoff,
    /// The wait after the first failure. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff: Duration,
    /// The longest wait after failures. Default 3 min.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff_max: Duration,
    /// The wait after an answer that permission is denied, unless the wait for other failures is
    /// longer by now. Default 60 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub forbidden: Duration,
    /// Every wait after a failure is shortened by a random share of itself up to this, so that
    /// watches do not come back in step. 0–1, default 0.2.
    pub jitter: f64,
    /// After a failure, go on with the old index, as the seeds do. A server that has lost its
    /// index answers such a query only after the whole wait, so changes made while the watch was
    /// disconnected can come that late. Default `false`: read everything anew.
    pub resume: bool,
}

impl Default for WatchConfig {
    fn default() -> Self {
        WatchConfig {
            blocking: true,
            wait: Duration::from_secs(300),
            timeout: Duration::from_secs(10),
            poll: Duration::from_secs(10),
            burst: 3,
            every: Duration::from_millis(500),
            growth: WatchBackoff::Square,
            backoff: Duration::from_secs(5),
            backoff_max: Duration::from_secs(180),
            forbidden: Duration::from_secs(60),
            jitter: 0.2,
            resume: false,
        }
    }
}

impl WatchConfig {
    /// The Datapunk standard (003-25, 003-26): waits of 300 s, exactly 5 s after every failure,
    /// then on with the old index.
    #[must_use]
    pub fn standard() -> WatchConfig {
        WatchConfig { resume: true, ..WatchConfig::module(Duration::from_secs(300)) }
    }

    /// The Datapunk module (004): waits of `wait`, exactly 5 s after every failure; a new read
    /// after it, for the module promises what its source does not do (004-64).
    #[must_use]
    pub fn module(wait: Duration) -> WatchConfig {
        WatchConfig {
            wait,
            growth: WatchBackoff::Fixed,
            forbidden: Duration::from_secs(5),
            jitter: 0.0,
            ..WatchConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes_and_refuses_typing_errors() {
        let config: WatchConfig =
            serde_json::from_str(r#"{"wait": "30s", "growth": "fixed"}"#).unwrap();
        assert_eq!(
            config,
            WatchConfig {
                wait: Duration::from_secs(30),
                growth: WatchBackoff::Fixed,
                ..WatchConfig::default()
            }
        );
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<WatchConfig>(&back).unwrap(), config);
        for wrong in [r#"{"wait": 30}"#, r#"{"waits": "30s"}"#, r#"{"growth": "cubic"}"#] {
            assert!(serde_json::from_str::<WatchConfig>(wrong).is_err(), "{wrong}");
        }
    }
}
