//! Active health checks as a person writes them. The machine, and what the numbers do, is in
//! [`crate::policy::health`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::optional;

/// What a health check asks an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Nothing: no checks. Health stays unknown and decides nothing.
    #[default]
    Off,
    /// `GET` of a path; judged by status, header and, if wanted, body.
    Http,
    /// A connection that is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
    /// A check of the program's own, known to the adapter by its name.
    Custom,
}

impl CheckKind {
    /// `off`, `http`, `tcp`, `grpc` or `custom`, as in `origin.toml`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            CheckKind::Off => "off",
            CheckKind::Http => "http",
            CheckKind::Tcp => "tcp",
            CheckKind::Grpc => "grpc",
            CheckKind::Custom => "custom",
        }
    }
}

/// Active health checks of the endpoints of a service. Off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ChecksConfig {
    /// What is asked. Default off.
    pub kind: CheckKind,
    /// Path of an HTTP check, appended to the endpoint's own address, so that a check cannot be
    /// sent to another host. `None`: the path that discovery names, else `/health`.
    pub path: Option<String>,
    /// From one check of an endpoint to the next, 10 ms – 7 days. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub interval: Duration,
    /// Every wait is stretched by a random share of itself up to this, 0–1. Default 0.1.
    pub jitter: f64,
    /// How long one check may take; not longer than `interval`.
    /// `None`: 5 s, or `interval` if that is shorter.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub timeout: Option<Duration>,
    /// Successes in a row that make an unhealthy endpoint healthy, 1–1000. Default 2. The very
    /// first answer of an endpoint suffices alone.
    pub healthy_threshold: u32,
    /// Failures in a row that make an endpoint unhealthy, 1–1000. Default 3.
    pub unhealthy_threshold: u32,
    /// The interval for an endpoint whose health is unknown or about to change, and right after a
    /// change. 10 ms – `interval`. `None`: 1 s, or `interval` if that is shorter.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub fast_interval: Option<Duration>,
    /// The interval while the service is not called: once it has not been for this long. Not
    /// shorter than `interval`. `None`: 60 s, or `interval` if that is longer.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub no_traffic_interval: Option<Duration>,
    /// Checks of the service under way at the same time, 1–256. Default 8.
    pub max_concurrent: u32,
    /// Statuses of an HTTP check that count as success: `"204"` or `"200-299"`, at most 16
    /// entries. Default `["200-299"]`.
    pub expect: Vec<String>,
    /// A response with this header means degraded, whatever its value. Default
    /// `x-envoy-degraded`; empty for none.
    pub degraded_header: String,
    /// Read the health word from the body of an HTTP check (`{"status": "degraded"}`). A body
    /// without a known word then counts as failure. Default `false`.
    pub read_body: bool,
    /// Entries of the history kept per endpoint, 1–64. Default 16.
    pub history: u32,
    /// Service name of a gRPC check. Default empty: the server as a whole.
    pub grpc_service: String,
    /// Name of the custom check.
    pub custom: String,
}

impl Default for ChecksConfig {
    fn default() -> Self {
        ChecksConfig {
            kind: CheckKind::Off,
            path: None,
            interval: Duration::from_secs(30),
            jitter: 0.1,
            timeout: None,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            fast_interval: None,
            no_traffic_interval: None,
            max_concurrent: 8,
            expect: vec!["200-299".to_owned()],
            degraded_header: "x-envoy-degraded".to_owned(),
            read_body: false,
            history: 16,
            grpc_service: String::new(),
            custom: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_person_writes_and_refuses_typing_errors() {
        let text = r#"{"kind": "http", "interval": "10s", "timeout": "500ms", "path": "/ready"}"#;
        let config: ChecksConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.kind, config.interval.as_secs()), (CheckKind::Http, 10));
        assert_eq!(config.timeout, Some(Duration::from_millis(500)));
        assert_eq!((config.fast_interval, config.history), (None, 16));
        let back = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<ChecksConfig>(&back).unwrap(), config);
        for wrong in [r#"{"intervall": "10s"}"#, r#"{"kind": "HTTP"}"#, r#"{"timeout": 5}"#] {
            assert!(serde_json::from_str::<ChecksConfig>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_are_those_of_the_file() {
        use CheckKind::{Custom, Grpc, Http, Off, Tcp};
        for kind in [Off, Http, Tcp, Grpc, Custom] {
            let written = serde_json::to_string(&kind).unwrap();
            assert_eq!(written, format!("\"{}\"", kind.word()));
        }
    }
}
