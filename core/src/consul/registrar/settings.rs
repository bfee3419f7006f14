//! What a registrar is told, checked and compiled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ask::Trouble;
use crate::config::backoff::{BackoffConfig, Jitter};
use crate::config::field::{At, WEEK, scaled};
use crate::config::{ConfigError, RegistrarConfig};
use crate::policy::backoff::{self, Advice, Backoff, Cause};
use crate::rng::Pcg32;
use crate::time::{Time, nanos};

/// A checked [`RegistrarConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    pub(super) timeout: Duration,
    pub(super) leave_within: Duration,
    pub(super) forbidden: Duration,
    pub(super) presence: Duration,
    pub(super) beats: u32,
    pub(super) concurrent: usize,
    backoff: backoff::Settings,
    backoff_max: Duration,
    jitter_ppm: u64,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range, or that contradicts another.
    pub fn of(config: &RegistrarConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        at.within("timeout", config.timeout, ms(10)..=s(300))?;
        at.within("leave_within", config.leave_within, ms(10)..=s(3_600))?;
        at.within("backoff", config.backoff, ms(10)..=WEEK)?;
        at.within("backoff_max", config.backoff_max, ms(10)..=WEEK)?;
        at.ordered(("backoff", config.backoff), ("backoff_max", config.backoff_max))?;
        at.span("forbidden", config.forbidden)?;
        at.ordered(("backoff", config.backoff), ("forbidden", config.forbidden))?;
        if !config.presence.is_zero() {
            at.within("presence", config.presence, s(1)..=WEEK)?;
        }
        at.within("beats", config.beats, 2..=20)?;
        at.within("jitter", config.jitter, 0.0..=0.9)?;
        at.within("concurrent", config.concurrent, 1..=64)?;
        Ok(Settings::compile(config))
    }

    pub(super) fn compile(config: &RegistrarConfig) -> Settings {
        let steps = BackoffConfig {
            base: config.backoff,
            max: config.backoff_max,
            jitter: Jitter::Equal,
            ..BackoffConfig::default()
        };
        Settings {
            timeout: config.timeout,
            leave_within: config.leave_within,
            forbidden: config.forbidden,
            presence: config.presence,
            beats: config.beats.max(1),
            concurrent: usize::try_from(config.concurrent.max(1)).unwrap_or(1),
            // Within its bounds by the checks above; unchecked, its defaults do.
            backoff: backoff::Settings::of(&steps, "backoff").unwrap_or_default(),
            backoff_max: config.backoff_max,
            jitter_ppm: scaled(config.jitter, 1_000_000).min(900_000),
        }
    }

    /// The longest wait that any failure can lead to.
    pub(super) fn longest(&self) -> Duration {
        self.backoff_max.max(self.forbidden)
    }

    /// The wait after one more failure.
    pub(super) fn after(&self, steps: &mut Backoff, trouble: Trouble, rng: &mut Pcg32) -> Duration {
        let step = steps.next(Cause::Failed, Advice::Silent, &self.backoff, rng);
        let step = step.map_or(self.backoff_max, |(wait, _)| wait);
        if trouble.is_lasting() { self.less(self.forbidden, rng).max(step) } else { step }
    }

    /// `span`, less its share of jitter.
    pub(super) fn less(&self, span: Duration, rng: &mut Pcg32) -> Duration {
        let most = u128::from(nanos(span)) * u128::from(self.jitter_ppm) / 1_000_000;
        let off = rng.up_to(u64::try_from(most).unwrap_or(0));
        span.saturating_sub(Duration::from_nanos(off))
    }

    /// From one heartbeat of a check to the next.
    pub(super) fn beat(&self, issued: Time, ttl: Duration, rng: &mut Pcg32) -> Time {
        issued.plus(self.less(ttl / self.beats, rng))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&RegistrarConfig::default())
    }
}
