//! Adaptive attempt timeout: how long an attempt may take, from how long calls do take.
//!
//! A timeout that is guessed is either so long that a dead endpoint costs its caller most of the
//! deadline, or so short that a good answer is thrown away and asked for again. The AWS Builders'
//! Library chooses it from the dependency's latency at the share of false timeouts that is
//! acceptable, typically 0.1 %: the 99.9th percentile, here times a factor for safety.
//!
//! The danger is a spiral: a service slows down, attempts time out, only the fast ones are
//! measured, the timeout shrinks. It cannot happen as long as attempts that timed out are recorded
//! with the time they were given ([`Histogram::record`]): as soon as more than the accepted share
//! time out, the percentile is the timeout itself, and the next one is `factor` times longer.
//! The result is never longer than the configured attempt timeout, so switching this on can only
//! shorten attempts. Off by default; without enough samples it changes nothing.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::{Histogram, Quantile};
use crate::config::field::{At, permille, scaled};
use crate::config::{AdaptiveTimeoutConfig, ConfigError};
use crate::time::{Rounded, nanos};

/// The compiled [`AdaptiveTimeoutConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    enabled: bool,
    permille: u16,
    factor_permille: u32,
    min: Duration,
    max: Duration,
    min_samples: u32,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &AdaptiveTimeoutConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.percentile(config.percentile, config.min_samples)?;
        at.within("factor", config.factor, 1.0..=100.0)?;
        at.span("min", config.min)?;
        at.span("max", config.max)?;
        at.ordered(("min", config.min), ("max", config.max))?;
        Ok(Settings::compile(config))
    }

    /// Whether a [`Histogram`] must be kept for it.
    #[must_use]
    pub const fn reads_latency(&self) -> bool {
        self.enabled
    }

    #[allow(clippy::cast_possible_truncation)] // clamped first
    fn compile(config: &AdaptiveTimeoutConfig) -> Settings {
        Settings {
            enabled: config.enabled,
            permille: permille(config.percentile),
            factor_permille: scaled(config.factor, 1_000).clamp(1_000, 100_000) as u32,
            min: config.min.min(config.max),
            max: config.max,
            min_samples: config.min_samples.max(1),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&AdaptiveTimeoutConfig::default())
    }
}

/// Where a timeout comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The configured attempt timeout: adaptive timeouts are off.
    Configured,
    /// The configured attempt timeout: too few calls were seen.
    WarmingUp {
        /// Calls in the window.
        have: u32,
        /// Calls needed.
        need: u32,
    },
    /// The configured attempt timeout, because latency suggests no shorter one.
    Capped {
        /// The percentile observed.
        percentile: Duration,
    },
    /// The observed percentile times the factor, within `min` and `max`.
    Observed {
        /// The percentile observed.
        percentile: Duration,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Configured => f.write_str("as configured"),
            Source::WarmingUp { have, need } => {
                write!(f, "as configured; {have} of the {need} calls needed to know better")
            }
            Source::Capped { percentile } => {
                write!(f, "as configured; calls take up to {}", Rounded(*percentile))
            }
            Source::Observed { percentile } => {
                write!(f, "calls take up to {}", Rounded(*percentile))
            }
        }
    }
}

/// The adaptive timeout of one service: the percentile it last saw.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::AdaptiveTimeoutConfig;
/// use origin_core::policy::latency::{self, Histogram};
/// use origin_core::policy::timeout::{Adaptive, Settings};
///
/// let config = AdaptiveTimeoutConfig { enabled: true, ..AdaptiveTimeoutConfig::default() };
/// let settings = Settings::of(&config, "policy.adaptive_timeout")?;
/// let window = latency::Settings::default();
/// let mut seen = Histogram::new(Time::ZERO, &window);
/// for _ in 0..1_000 {
///     seen.record(Time::ZERO, Duration::from_millis(100), &window);
/// }
/// let configured = Duration::from_secs(10);
/// let (timeout, _) = Adaptive::default().timeout(&seen, configured, &settings);
/// assert!(timeout >= Duration::from_millis(150) && timeout < Duration::from_millis(170));
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adaptive {
    percentile: Quantile,
}

impl Adaptive {
    /// How long an attempt may take that may take `configured` at most, and why.
    #[must_use]
    pub fn timeout(
        &mut self,
        seen: &Histogram,
        configured: Duration,
        settings: &Settings,
    ) -> (Duration, Source) {
        if !settings.enabled {
            return (configured, Source::Configured);
        }
        let (have, need) = (seen.count(), settings.min_samples);
        let percentile = match self.percentile.read(seen, settings.permille) {
            Some(percentile) if have >= need => percentile,
            _ => return (configured, Source::WarmingUp { have, need }),
        };
        // 2³⁶ ns × 10⁵ at most: no overflow. Division by a constant is a multiplication.
        let wanted = nanos(percentile).saturating_mul(u64::from(settings.factor_permille)) / 1_000;
        let wanted = Duration::from_nanos(wanted).max(settings.min).min(settings.max);
        if wanted < configured {
            (wanted, Source::Observed { percentile })
        } else {
            (configured, Source::Capped { percentile })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::latency;
    use super::*;
    use crate::Time;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn on() -> AdaptiveTimeoutConfig {
        AdaptiveTimeoutConfig { enabled: true, ..AdaptiveTimeoutConfig::default() }
    }

    fn settings(config: &AdaptiveTimeoutConfig) -> Settings {
        Settings::of(config, "timeout").unwrap()
    }

    fn seen(calls: u32, took: Duration) -> Histogram {
        let settings = latency::Settings::default();
        let mut seen = Histogram::new(Time::ZERO, &settings);
        (0..calls).for_each(|_| seen.record(Time::ZERO, took, &settings));
        seen
    }

    #[test]
    fn each_bound_and_its_reason() {
        let ask = |config: &AdaptiveTimeoutConfig, calls, took, configured| {
            Adaptive::default().timeout(&seen(calls, took), configured, &settings(config))
        };
        let ten = Duration::from_secs(10);
        let off = AdaptiveTimeoutConfig::default();
        assert_eq!(ask(&off, 2_000, MS(1), ten), (ten, Source::Configured));
        assert!(!Settings::default().reads_latency() && settings(&on()).reads_latency());
        let warming = Source::WarmingUp { have: 999, need: 1_000 };
        assert_eq!(ask(&on(), 999, MS(1), ten), (ten, warming));
        let (timeout, why) = ask(&on(), 1_000, MS(200), ten);
        assert!(timeout >= MS(300) && timeout <= MS(338), "{timeout:?}");
        let Source::Observed { percentile } = why else { panic!("{why:?}") };
        assert_eq!(timeout, percentile * 3 / 2);
        assert_eq!(ask(&on(), 1_000, MS(1), ten).0, MS(50), "never below min");
        let max = AdaptiveTimeoutConfig { max: MS(90), ..on() };
        assert_eq!(ask(&max, 1_000, MS(200), ten).0, MS(90), "never above max");
        let (timeout, why) = ask(&on(), 1_000, MS(200), MS(250));
        assert_eq!(timeout, MS(250), "never above the configured one");
        assert!(matches!(why, Source::Capped { .. }));
        assert_eq!(ask(&on(), 1_000, MS(1), MS(20)).0, MS(20), "which wins over min");
    }

    /// A service of 100 ms becomes one of 600 ms. Attempts that time out are recorded as that.
    #[test]
    fn a_service_that_slows_down_is_not_locked_out() {
        let (settings, window) = (settings(&on()), latency::Settings::default());
        let mut seen = seen(5_000, MS(100));
        let mut adaptive = Adaptive::default();
        let (mut answered, mut calls) = (0, 0);
        for ms in (0..600_000).step_by(20) {
            let (timeout, _) = adaptive.timeout(&seen, Duration::from_secs(10), &settings);
            assert!(timeout >= MS(140), "{timeout:?}");
            let took = MS(600).min(timeout);
            seen.record(Time::from_millis(ms), took, &window);
            calls += 1;
            answered += u32::from(took == MS(600));
            if calls == 500 {
                // Four steps of factor 1.5, and the percentile is looked at every 64 calls.
                assert!(answered > 200, "{answered}");
            }
        }
        let (timeout, _) = adaptive.timeout(&seen, Duration::from_secs(10), &settings);
        assert!(timeout >= MS(900) && timeout < MS(1_020), "{timeout:?}");
    }

    #[test]
    fn case_x_09_every_number_at_its_ends() {
        let field = |change: &dyn Fn(&mut AdaptiveTimeoutConfig)| {
            let mut config = on();
            change(&mut config);
            let _ = Settings::compile(&config); // total
            Settings::of(&config, "t").err().map(|e| e.field)
        };
        let refused = |name: &str| Some(format!("t.{name}"));
        for nonsense in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX] {
            assert_eq!(field(&|c| c.percentile = nonsense), refused("percentile"));
            assert_eq!(field(&|c| c.factor = nonsense), refused("factor"));
        }
        for span in [Duration::ZERO, Duration::MAX] {
            assert_eq!(field(&|c| c.min = span), refused("min"));
            assert_eq!(field(&|c| c.max = span), refused("max"));
        }
        assert_eq!(field(&|c| c.min = MS(10_001)), refused("min"));
        for n in [0, 999, u32::MAX] {
            assert_eq!(field(&|c| c.min_samples = n), refused("min_samples"));
        }
        assert_eq!(settings(&AdaptiveTimeoutConfig::default()), Settings::default());
    }

    proptest! {
        #[test]
        fn stays_within_its_bounds(
            samples in proptest::collection::vec(any::<u64>(), 0..200), configured in any::<u64>(),
            factor in 1.0_f64..100.0, min in 1_u64..1 << 30, more in 0_u64..1 << 40,
        ) {
            let config = AdaptiveTimeoutConfig {
                enabled: true, percentile: 0.9, factor, min_samples: 10,
                min: Duration::from_nanos(min), max: Duration::from_nanos(min + more),
            };
            let (settings, window) = (settings(&config), latency::Settings::default());
            let mut seen = Histogram::new(Time::ZERO, &window);
            samples.iter().for_each(|n| seen.record(Time::ZERO, Duration::from_nanos(*n), &window));
            let configured = Duration::from_nanos(configured);
            let (timeout, why) = Adaptive::default().timeout(&seen, configured, &settings);
            prop_assert!(timeout <= configured);
            if let Source::Observed { percentile } = why {
                prop_assert!(timeout >= config.min && timeout <= config.max);
                prop_assert!(timeout >= percentile.min(config.max));
            } else {
                prop_assert_eq!(timeout, configured);
            }
        }
    }
}
