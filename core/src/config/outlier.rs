//! Outlier ejection as a person writes it. What the numbers mean is argued in
//! [`crate::policy::outlier`]; the integer form is [`crate::policy::outlier::Settings`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When an endpoint that does worse than its peers is taken out, for how long, and how many may
/// be out together. Names and defaults are Envoy's unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct OutlierConfig {
    /// `false`: nothing is counted and nobody ejected; those who are, return. Default `true`.
    pub enabled: bool,
    /// Time between two sweeps, and the span over which rates are taken. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub interval: Duration,
    /// First ejection; multiplied by the endpoint's recent ejections. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub base_ejection: Duration,
    /// Longest ejection, before jitter. Default 300 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_ejection: Duration,
    /// An ejection is stretched by a random span up to this. Default 0.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub jitter: Duration,
    /// No further endpoint is ejected while this share, in percent, is. It is compared before
    /// each ejection, so a group too small for the share still gives up one. 0–100, default 10;
    /// 0 never ejects and only reports.
    pub max_ejected_percent: u32,
    /// Failures in a row that eject at once; 0 switches it off. Default 0, unlike Envoy's 5: the
    /// breaker already does this, per endpoint and with a probe instead of a sentence.
    pub consecutive_failures: u32,
    /// Chance in percent that a detected run of failures ejects. Default 100.
    pub consecutive_enforcing: u32,
    /// How many standard deviations below the mean success rate an endpoint may be. Above 0, at
    /// most 100, kept to 1/1000. Default 1.9.
    pub success_rate_factor: f64,
    /// Chance in percent that a detected outlier of success rate is ejected; 0 only reports.
    /// Default 100.
    pub success_rate_enforcing: u32,
    /// Endpoints with enough requests that it takes. Default 5.
    pub success_rate_min_hosts: u32,
    /// Requests in an interval that an endpoint needs to be judged. Default 100.
    pub success_rate_min_requests: u32,
    /// Failures in percent of the requests that eject, whatever the others do. 1–100, default 85.
    pub failure_percentage: u32,
    /// Chance in percent that this ejects; 0 only reports. Default 0.
    pub failure_percentage_enforcing: u32,
    /// Endpoints with enough requests that it takes. Default 5.
    pub failure_percentage_min_hosts: u32,
    /// Requests in an interval that an endpoint needs to be judged. Default 50.
    pub failure_percentage_min_requests: u32,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        OutlierConfig {
            enabled: true,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            jitter: Duration::ZERO,
            max_ejected_percent: 10,
            consecutive_failures: 0,
            consecutive_enforcing: 100,
            success_rate_factor: 1.9,
            success_rate_enforcing: 100,
            success_rate_min_hosts: 5,
            success_rate_min_requests: 100,
            failure_percentage: 85,
            failure_percentage_enforcing: 0,
            failure_percentage_min_hosts: 5,
            failure_percentage_min_requests: 50,
        }
    }
}
