//! Balancing within a tier as a person writes it: which endpoint of a cluster a call goes to.
//! The machines are in [`crate::policy::balance`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How calls are spread over the endpoints of a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct BalanceConfig {
    /// Which endpoint is taken. Default `p2c`; `random` is balancing switched off.
    pub kind: BalanceKind,
    /// Time constant of the latency estimate: a peak counts 37 % after it. 1 ms – 7 d, default
    /// 10 s (Linkerd).
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub decay: Duration,
    /// A failure counts as an answer this many times slower than usual. 1–100, default 4.
    pub failure_factor: u32,
    /// ... and not faster than this. Up to 1 h, default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub failure_penalty: Duration,
    /// The growing share of endpoints that are new or have come back.
    pub slow_start: SlowStartConfig,
    /// With `rendezvous` and `ring`: an endpoint carries at most this many times the mean of
    /// the outstanding attempts; further keys go to the next one. Above 1 up to 100, default
    /// 1.25 (Mirrokni et al.); 0: no bound.
    pub load_bound: f64,
    /// Endpoints of a tier that one client uses. Up to 1 000 000, default 0: all.
    pub subset: u32,
    /// Which endpoints a call may go to, by their metadata. A call names its route; the route
    /// `default` is for calls that name none. At most 16, `default` included.
    pub routes: BTreeMap<String, RouteConfig>,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        BalanceConfig {
            kind: BalanceKind::P2c,
            decay: Duration::from_secs(10),
            failure_factor: 4,
            failure_penalty: Duration::from_secs(1),
            slow_start: SlowStartConfig::default(),
            load_bound: 1.25,
            subset: 0,
            routes: BTreeMap::new(),
        }
    }
}

/// Which endpoint of a tier is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BalanceKind {
    /// The better of two random ones by latency × outstanding attempts (peak EWMA).
    #[default]
    P2c,
    /// The one of two random ones with fewer attempts outstanding per weight.
    LeastOutstanding,
    /// One after the other, whatever the weights.
    RoundRobin,
    /// At random, in proportion to the weights.
    Weighted,
    /// At random, whatever the weights.
    Random,
    /// The same endpoint for the same key: exact, for tiers of at most 64 endpoints; larger
    /// ones use the ring. Calls without a key are balanced as with `p2c`.
    Rendezvous,
    /// The same endpoint for the same key, for tiers of any size. Calls without a key are
    /// balanced as with `p2c`.
    Ring,
}

impl BalanceKind {
    /// The word in `origin.toml`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            BalanceKind::P2c => "p2c",
            BalanceKind::LeastOutstanding => "least_outstanding",
            BalanceKind::RoundRobin => "round_robin",
            BalanceKind::Weighted => "weighted",
            BalanceKind::Random => "random",
            BalanceKind::Rendezvous => "rendezvous",
            BalanceKind::Ring => "ring",
        }
    }

    /// Whether weights, and with them slow start, make a difference to calls.
    #[must_use]
    pub const fn heeds_weights(self) -> bool {
        matches!(self, BalanceKind::P2c | BalanceKind::LeastOutstanding | BalanceKind::Weighted)
    }
}

/// Slow start of an endpoint: share = max(`min_weight`, (age / `window`)^(1 / `aggression`)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SlowStartConfig {
    /// How long until it has its full share. Up to 7 d, default 0 s: off.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub window: Duration,
    /// 1: linear. Larger: fast first. Smaller: slow first. 0.1–10, default 1.
    pub aggression: f64,
    /// The least share, 0.001–1, default 0.1.
    pub min_weight: f64,
}

impl Default for SlowStartConfig {
    fn default() -> Self {
        SlowStartConfig { window: Duration::ZERO, aggression: 1.0, min_weight: 0.1 }
    }
}

/// Which endpoints a route uses, by their metadata.
///
/// ```toml
/// [policy.balance.routes.canary]
/// require = { version = ["2", "3"], gpu = true }
/// exclude = { state = "draining" }
/// prefer = { zone = "a" }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// All of these must hold.
    pub require: BTreeMap<String, Match>,
    /// None of these may hold.
    pub exclude: BTreeMap<String, Match>,
    /// Endpoints for which all of these hold are used while one of them is acceptable.
    pub prefer: BTreeMap<String, Match>,
}

/// What a metadata value must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "a text, a list of texts, true (present) or false (absent)")]
pub enum Match {
    /// `true`: the key is there, whatever its value. `false`: it is not.
    Present(bool),
    /// Exactly this.
    Equals(String),
    /// One of these.
    OneOf(Vec<String>),
}
