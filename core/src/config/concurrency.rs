//! The limit on calls in flight as a person writes it. The machine is
//! [`crate::policy::concurrency`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the limit is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyMode {
    /// There is none.
    #[default]
    Off,
    /// It is `limit`.
    Static,
    /// One more per round trip that went well, `backoff` times as many after a drop.
    Aimd,
    /// By the ratio of the usual to the present latency (Netflix `Gradient2`).
    Gradient,
}

/// How far the gradient limit may grow per window while latency stays low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Headroom {
    /// The square root of the limit, as in Envoy.
    Root,
    /// A fixed number of slots; Netflix has 4.
    Fixed(u32),
}

/// Limit on the calls in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ConcurrencyConfig {
    /// `off`, `static`, `aimd` or `gradient`. Default off.
    pub mode: ConcurrencyMode,
    /// The static limit; where an adaptive one begins. 1–1 000 000, default 20.
    pub limit: u32,
    /// An adaptive limit never falls below this. Default 20; lower it for a peer that serves
    /// fewer calls at once.
    pub min: u32,
    /// An adaptive limit never exceeds this. Default 200.
    pub max: u32,
    /// AIMD: share of the limit that remains after a drop, 0.5–0.99. Default 0.9.
    pub backoff: f64,
    /// AIMD: a success that took longer counts as a drop. Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub slow: Duration,
    /// Gradient: latency may rise to this many times the usual before the limit falls, 1–10.
    /// Default 1.5.
    pub tolerance: f64,
    /// Gradient: weight of a new estimate, 0.01–1. Default 0.2.
    pub smoothing: f64,
    /// Gradient: windows that the usual latency is averaged over. 10–100 000, default 600.
    pub long_window: u32,
    /// Gradient: the limit is reconsidered this often, if there is traffic. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub window: Duration,
    /// Gradient: and only after this many results. 1–10 000, default 10.
    pub window_samples: u32,
    /// Gradient: `"root"` or `{ fixed = 4 }`, the growth per window. Default `{ fixed = 4 }`.
    pub headroom: Headroom,
}

impl Default for ConcurrencyConfig {
    fn default() -> Self {
        ConcurrencyConfig {
            mode: ConcurrencyMode::Off,
            limit: 20,
            min: 20,
            max: 200,
            backoff: 0.9,
            slow: Duration::from_secs(5),
            tolerance: 1.5,
            smoothing: 0.2,
            long_window: 600,
            window: Duration::from_secs(1),
            window_samples: 10,
            headroom: Headroom::Fixed(4),
        }
    }
}
