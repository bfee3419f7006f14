//! The client-side rate limit as a person writes it. The machine is [`crate::policy::rate`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the rate limit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RateMode {
    /// Everything passes.
    #[default]
    Off,
    /// `permits` per `per`, always.
    Fixed,
    /// Begins at `permits`; falls when the peer says that it is too much, climbs afterwards.
    Adaptive,
}

/// Client-side rate limit: a burst, then a steady rate. The rate is a count and a span, so that
/// one hundred a minute is exactly that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// `off`, `fixed` or `adaptive`. Default off.
    pub mode: RateMode,
    /// Permits per `per`; where the adaptive rate begins. Default 100.
    pub permits: u32,
    /// The span that `permits`, `floor` and `ceiling` are counted over; `permits` per `per` may
    /// be up to a million a second. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub per: Duration,
    /// Permits that may be taken at once after a pause. 1–1 000 000, default 50.
    pub burst: u32,
    /// Longest wait that a reservation may book ahead. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub max_wait: Duration,
    /// Adaptive: permits per `per` that remain whatever the peer says. Default 10.
    pub floor: u32,
    /// Adaptive: permits per `per` that are never exceeded. Default 1 000.
    pub ceiling: u32,
    /// Adaptive: share of the rate that remains after a throttled answer, 0.1–0.95.
    /// Default 0.7 (that of CUBIC and of the AWS adaptive retry mode).
    pub keep: f64,
    /// Adaptive: time of use after which the rate is back where it was throttled. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub recover: Duration,
}

impl Default for RateConfig {
    fn default() -> Self {
        RateConfig {
            mode: RateMode::Off,
            permits: 100,
            per: Duration::from_secs(1),
            burst: 50,
            max_wait: Duration::from_secs(1),
            floor: 10,
            ceiling: 1_000,
            keep: 0.7,
            recover: Duration::from_secs(10),
        }
    }
}
