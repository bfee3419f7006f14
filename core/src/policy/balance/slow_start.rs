//! Slow start: an endpoint that is new or has come back gets a growing share of its weight, so
//! that cold caches and compilers are not hit with full load. Off by default (`window` of zero).
//!
//! Follows Envoy: share = max(`min_weight`, (t / window)^(1 / aggression)). Envoy counts at least
//! one second for `t`; here `min_weight` alone is the lower end. The share thins the draws of an
//! endpoint (see [`super::choose`]) instead of scaling its cost, because a cost that is ten times
//! higher means no traffic at all as long as another endpoint is idle, and then the window passes
//! without warming anything.
//!
//! As in Envoy it helps where a few endpoints are new among many; when all are, shares are equal
//! and so is the load.

use serde::{Deserialize, Serialize};

use super::fixed;
use crate::config::BalanceConfig;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// The whole share, in Q16.
pub const FULL: u32 = 1 << 16;

/// The ramp, compiled: [`super::Settings::slow_start`], or the default, which is off. The only
/// state is the time when an endpoint came; a change of the settings applies from that time on.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::{BalanceConfig, SlowStartConfig};
/// use origin_core::policy::balance::{Settings, slow_start::FULL};
///
/// let window = Duration::from_secs(60);
/// let slow_start = SlowStartConfig { window, ..SlowStartConfig::default() };
/// let config = BalanceConfig { slow_start, ..BalanceConfig::default() };
/// let ramp = Settings::of(&config, "policy.balance")?.slow_start;
/// assert_eq!(ramp.share(Time::ZERO, Time::from_millis(30_000)) * 2, FULL - 2); // rounded down
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Nanoseconds; 0: off.
    window: u64,
    /// 2⁶⁴ / window.
    inverse: u64,
    /// 1 / aggression in Q16.
    power: u32,
    /// Least share in Q16.
    floor: u32,
}

impl Settings {
    /// Total: the values are checked where the whole configuration is.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped first
    pub(super) fn compile(config: &BalanceConfig) -> Settings {
        let ramp = &config.slow_start;
        let window = nanos(ramp.window);
        Settings {
            window,
            inverse: u64::MAX / window.max(1),
            power: (65_536.0 / ramp.aggression.clamp(0.1, 10.0)).round() as u32,
            floor: (ramp.min_weight.clamp(0.0, 1.0) * 65_536.0).round() as u32,
        }
    }

    /// Whether there is a ramp at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.window != 0
    }

    /// When an endpoint that came at `since` has its whole share; `since` itself when off.
    #[must_use]
    pub fn over(&self, since: Time) -> Time {
        Time::from_nanos(since.as_nanos().saturating_add(self.window))
    }

    /// The share of its weight that an endpoint has at `now` when it came at `since`, in Q16:
    /// [`FULL`] when the window has passed. Before `since` it is the least share.
    #[must_use]
    pub fn share(&self, since: Time, now: Time) -> u32 {
        let age = now.as_nanos().saturating_sub(since.as_nanos());
        if age >= self.window {
            return FULL;
        }
        let part = ((u128::from(age) * u128::from(self.inverse)) >> 32).min(u128::from(fixed::ONE));
        let part = u64::try_from(part).unwrap_or(fixed::ONE);
        let grown = if self.power == FULL { part } else { fixed::power(part, self.power) };
        u32::try_from(grown >> 16).unwrap_or(FULL).clamp(self.floor.min(FULL), FULL)
    }

    /// One draw: whether an endpoint with this share is taken this time.
    #[must_use]
    pub fn passes(&self, since: Time, now: Time, rng: &mut Pcg32) -> bool {
        let share = self.share(since, now);
        share == FULL || rng.below(FULL) < share
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&BalanceConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::SlowStartConfig;

    fn ramp(window: u64, aggression: f64, min_weight: f64) -> Settings {
        let window = Duration::from_secs(window);
        let slow_start = SlowStartConfig { window, aggression, min_weight };
        Settings::compile(&BalanceConfig { slow_start, ..BalanceConfig::default() })
    }

    fn percent(settings: &Settings, seconds: u64) -> u32 {
        (settings.share(Time::ZERO, Time::from_millis(seconds * 1_000)) * 100 + FULL / 2) / FULL
    }

    #[test]
    fn off_by_default() {
        let settings = Settings::default();
        assert!(!settings.is_on());
        assert_eq!(settings.share(Time::ZERO, Time::ZERO), FULL);
    }

    #[test]
    fn linear_as_in_envoy() {
        let settings = ramp(100, 1.0, 0.1);
        let got = [0, 5, 10, 25, 50, 99, 100, 1_000].map(|s| percent(&settings, s));
        assert_eq!(got, [10, 10, 10, 25, 50, 99, 100, 100]);
    }

    #[test]
    fn aggression_bends_the_ramp_as_in_envoy() {
        // (t / window)^(1 / aggression): more than 1 starts fast, less than 1 starts slowly.
        let fast = ramp(100, 2.0, 0.1);
        assert_eq!([4, 25, 49, 81].map(|s| percent(&fast, s)), [20, 50, 70, 90]);
        let slow = ramp(100, 0.5, 0.1);
        assert_eq!([20, 50, 70, 90].map(|s| percent(&slow, s)), [10, 25, 49, 81]);
    }

    #[test]
    fn draws_are_thinned_to_the_share() {
        let settings = ramp(100, 1.0, 0.1);
        let mut rng = Pcg32::new(11, 0);
        let now = Time::from_millis(25_000);
        let taken = (0..40_000).filter(|_| settings.passes(Time::ZERO, now, &mut rng)).count();
        // 10 000 expected, standard deviation 87.
        assert!(taken.abs_diff(10_000) < 350, "{taken}");
    }

    #[test]
    fn bad_input_is_survived() {
        for aggression in [0.0, 1e-300, 1.0, 1e300, f64::NAN, f64::INFINITY, -1.0] {
            for min_weight in [0.0, 1.0, -1.0, 1e300, f64::NAN] {
                for window in [0, 1, u64::MAX / 1_000_000_000] {
                    let settings = ramp(window, aggression, min_weight);
                    for now in [Time::ZERO, Time::from_nanos(1), Time::NEVER] {
                        assert!(settings.share(Time::ZERO, now) <= FULL);
                        assert!(settings.share(Time::NEVER, now) <= FULL);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_ramp_is_what_f64_says(window in 1_u64..100_000, nanos: u64, tenths in 1_u32..=100,
                                     percent in 0_u32..=100) {
            let (aggression, floor) = (f64::from(tenths) / 10.0, f64::from(percent) / 100.0);
            let settings = ramp(window, aggression, floor);
            let age = nanos % (window * 1_000_000_000);
            #[allow(clippy::cast_precision_loss)]
            let part = age as f64 / (window as f64 * 1e9);
            let exact = part.powf(1.0 / aggression).max(floor);
            let got = f64::from(settings.share(Time::ZERO, Time::from_nanos(age))) / 65_536.0;
            // (1 / aggression is kept to 16 bits.)
            prop_assert!((got - exact).abs() < 2e-4, "{} {}", got, exact);
        }

        #[test]
        fn it_only_grows(since: u64, a: u64, b: u64, tenths in 1_u32..=100) {
            let settings = ramp(60, f64::from(tenths) / 10.0, 0.1);
            let since = Time::from_nanos(since);
            let at = |n| settings.share(since, Time::from_nanos(n));
            prop_assert!(at(a.min(b)) <= at(a.max(b)));
        }
    }
}
