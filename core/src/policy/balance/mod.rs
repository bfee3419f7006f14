//! Balancing: which endpoint of a tier a call goes to.
//!
//! The argument: an endpoint that is slow or busy now should get less, without any endpoint
//! being asked about it and without clients that all know the same herding to the same best one.
//! The better of two random choices does that at constant cost (power of two choices,
//! Mitzenmacher 2001): with n calls over n endpoints the fullest has about log log n instead of
//! log n / log log n. "Better" is the peak EWMA of latency times the work outstanding, as in
//! Finagle and Linkerd, with the differences argued in [`ewma`]. It is switched off by choosing
//! [`BalanceKind::Random`]; everything else here is off unless configured.
//!
//! | file | what | follows |
//! |---|---|---|
//! | [`choose`] | the picks, over any list | P2C, Envoy least request |
//! | [`ewma`] | the cost of an endpoint | Finagle, Linkerd |
//! | [`weights`] | draws in proportion | Walker, Vose |
//! | [`slow_start`] | the growing share of new endpoints | Envoy |
//! | [`affinity`], [`hash`] | the same endpoint for the same key | ketama, rendezvous, bounded load |
//! | [`subset`] | few endpoints of a large fleet | gRPC A68 |
//! | [`route`] | endpoints by metadata | Envoy's subset balancer |
//! | [`Balancer`] | all of it over a fixed list, for use alone | |
//!
//! A pick allocates nothing, divides nothing and hashes no text.

pub mod affinity;
mod balancer;
pub mod choose;
pub mod ewma;
mod fixed;
pub mod hash;
pub mod route;
pub mod slow_start;
pub mod subset;
pub mod weights;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::config::BalanceKind;
pub use balancer::{Balancer, Endpoint};
pub use choose::{Choice, Nobody, Why};

use crate::config::field::{At, WEEK};
use crate::config::{BalanceConfig, ConfigError};
use crate::time::DurationText;

/// A checked [`BalanceConfig`] without its routes (see [`route::Routes`]): integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Which endpoint is taken.
    pub kind: BalanceKind,
    /// How latency is estimated.
    pub ewma: ewma::Settings,
    /// The growing share of new endpoints.
    pub slow_start: slow_start::Settings,
    /// Bounded load × 1000; 0: none.
    pub load_permille: u32,
    /// Endpoints a client uses; 0: all.
    pub subset: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&BalanceConfig::default())
    }
}

const SHORTEST_DECAY: Duration = Duration::from_millis(1);
const LONGEST_PENALTY: Duration = Duration::from_secs(3600);
const MOST_SUBSET: u32 = 1_000_000;

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error. The routes are
    /// checked too.
    ///
    /// # Errors
    /// The first field that is out of range, or slow start with a kind that heeds no weights.
    pub fn of(config: &BalanceConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let BalanceConfig { slow_start, load_bound, .. } = config;
        at.within("decay", config.decay, SHORTEST_DECAY..=WEEK)?;
        at.within("failure_factor", config.failure_factor, 1..=100)?;
        at.span_up_to("failure_penalty", config.failure_penalty, LONGEST_PENALTY)?;
        at.span_or_zero("slow_start.window", slow_start.window)?;
        at.within("slow_start.aggression", slow_start.aggression, 0.1..=10.0)?;
        at.within("slow_start.min_weight", slow_start.min_weight, 0.001..=1.0)?;
        if !slow_start.window.is_zero() && !config.kind.heeds_weights() {
            let reason = format!(
                "{} has no effect with kind {}, which heeds no weights; use p2c, \
                 least_outstanding or weighted",
                DurationText(slow_start.window),
                config.kind.word()
            );
            return Err(at.refuse("slow_start.window", reason));
        }
        // 1.001 is the least that differs from 1 after rounding; exactly 1 would be a bound
        // that a single call may exceed by nothing, so that keys move all the time.
        if *load_bound != 0.0 && !(1.001..=100.0).contains(load_bound) {
            let reason = format!("{load_bound} is neither 0 (no bound) nor within 1.001–100");
            return Err(at.refuse("load_bound", reason));
        }
        at.within("subset", config.subset, 0..=MOST_SUBSET)?;
        route::Routes::of(&config.routes, &format!("{path}.routes"))?;
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped first
    fn compile(config: &BalanceConfig) -> Settings {
        Settings {
            kind: config.kind,
            ewma: ewma::Settings::compile(config),
            slow_start: slow_start::Settings::compile(config),
            load_permille: (config.load_bound.clamp(0.0, 100.0) * 1e3).round() as u32,
            subset: config.subset,
        }
    }
}

#[cfg(test)]
mod tests;
