//! What a watch is told, checked and compiled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ask::Trouble;
use crate::config::field::{At, WEEK, at_least_one, scaled};
use crate::config::{ConfigError, RateConfig, RateMode, WatchBackoff, WatchConfig};
use crate::policy::rate;
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

const MILLION: u64 = 1_000_000;

/// A checked [`WatchConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    pub(super) blocking: bool,
    pub(super) wait: Duration,
    pub(super) timeout: Duration,
    pub(super) poll: Duration,
    pub(super) resume: bool,
    pub(super) rate: rate::Settings,
    growth: WatchBackoff,
    backoff: u64,
    backoff_max: u64,
    forbidden: u64,
    jitter_ppm: u64,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range, or that contradicts another.
    pub fn of(config: &WatchConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        at.within("wait", config.wait, s(1)..=s(600))?;
        at.within("timeout", config.timeout, ms(100)..=s(60))?;
        at.within("poll", config.poll, ms(100)..=WEEK)?;
        at.within("burst", config.burst, 1..=100)?;
        at.within("every", config.every, ms(10)..=s(60))?;
        at.within("backoff", config.backoff, ms(10)..=WEEK)?;
        at.within("backoff_max", config.backoff_max, ms(10)..=WEEK)?;
        at.ordered(("backoff", config.backoff), ("backoff_max", config.backoff_max))?;
        at.span("forbidden", config.forbidden)?;
        at.ordered(("backoff", config.backoff), ("forbidden", config.forbidden))?;
        at.within("jitter", config.jitter, 0.0..=1.0)?;
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    pub(super) fn compile(config: &WatchConfig) -> Settings {
        let rate = RateConfig {
            mode: RateMode::Fixed,
            permits: 1,
            per: config.every,
            burst: config.burst,
            ..RateConfig::default()
        };
        Settings {
            blocking: config.blocking,
            wait: config.wait,
            timeout: config.timeout,
            poll: config.poll,
            resume: config.resume,
            // Within its bounds by the checks above; unchecked, its defaults do.
            rate: rate::Settings::of(&rate, "rate").unwrap_or_default(),
            growth: config.growth,
            backoff: at_least_one(config.backoff),
            backoff_max: at_least_one(config.backoff_max),
            forbidden: at_least_one(config.forbidden),
            jitter_ppm: scaled(config.jitter, 1_000_000).min(MILLION),
        }
    }

    /// The same without holding queries back.
    #[must_use]
    pub fn polling(self) -> Settings {
        Settings { blocking: false, ..self }
    }

    /// How long an answer may take at the most, by what was asked. A server that was told to wait
    /// adds up to a sixteenth of that, so that its watchers do not all come back together.
    pub(super) fn patience(&self, blocking: bool) -> Duration {
        if !blocking {
            return self.timeout;
        }
        self.wait.saturating_add(self.wait / 16).saturating_add(self.timeout)
    }

    /// The longest wait that any answer or failure can lead to.
    pub(super) fn longest(&self) -> Duration {
        self.poll.max(Duration::from_nanos(self.backoff_max.max(self.forbidden).max(self.backoff)))
    }

    /// The wait after the `n`-th failure in a row, counted from 1, before jitter.
    #[must_use]
    pub fn step(&self, n: u32, trouble: Trouble) -> Duration {
        let square = match self.growth {
            WatchBackoff::Fixed => 1,
            WatchBackoff::Square => u64::from(n).saturating_mul(u64::from(n)).max(1),
        };
        let step = self.backoff.saturating_mul(square).min(self.backoff_max);
        let step = if trouble.is_lasting() { step.max(self.forbidden) } else { step };
        Duration::from_nanos(step)
    }

    /// When to try again after the `n`-th failure in a row.
    pub(super) fn retry(&self, now: Time, n: u32, trouble: Trouble, rng: &mut Pcg32) -> Time {
        let step = nanos(self.step(n, trouble));
        let most = u128::from(step) * u128::from(self.jitter_ppm) / u128::from(MILLION);
        let off = rng.up_to(u64::try_from(most).unwrap_or(step));
        now.plus(Duration::from_nanos(step.saturating_sub(off)))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&WatchConfig::default())
    }
}
