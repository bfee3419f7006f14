//! Client-side throttling as a person writes it. The machine is [`crate::policy::throttle`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Client-side throttling by success ratio: of `n` requests in the window of which `a` were
/// accepted, a share of `(n − free_requests − k·a) / (n + 1)` is refused here.
///
/// Other systems in these terms: Envoy's admission control `k = 1.0526` (1/0.95), `max = 0.8`,
/// `window = "30s"`; failsafe-go `k = 1.1111` (1/0.9), `window = "1m"`; go-zero `k = 1.5`,
/// `free_requests = 5`, `min_requests = 1`, `max = 1.0`, `window = "10s"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ThrottleConfig {
    /// `false`: nothing is refused. Default `false`.
    pub enabled: bool,
    /// What is looked back on. Default 2 minutes.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub window: Duration,
    /// Requests let through for each accepted one, 1–100, kept to 10⁻⁶. Default 2.
    pub k: f64,
    /// Requests in the window that need no acceptance. Default 0.
    pub free_requests: u32,
    /// Nothing is refused before the window holds this many requests. 1–1 000 000, default 20.
    pub min_requests: u32,
    /// Largest share refused, 0.01–1. Default 0.9.
    pub max: f64,
    /// One request passes when none has for this long. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub pass_after: Duration,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        ThrottleConfig {
            enabled: false,
            window: Duration::from_secs(120),
            k: 2.0,
            free_requests: 0,
            min_requests: 20,
            max: 0.9,
            pass_after: Duration::from_secs(1),
        }
    }
}
