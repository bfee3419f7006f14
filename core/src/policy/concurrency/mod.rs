//! The limit on calls in flight.
//!
//! It protects a peer that became slow from the calls that pile up while it is, and the program
//! from holding all of them: by Little's law the calls in flight are rate × latency, so a peer
//! that takes ten times as long gets ten times as many unless somebody counts. A rate limit does
//! not see that; this does. Off, everything passes and is only counted.
//!
//! The limit is static, or found in one of two ways, both from Netflix's concurrency-limits:
//!
//! - AIMD, by drops (a timeout, a throttled answer, a success slower than `slow`). The
//!   documentation there calls it additive increase; the code adds one per *answer*, which
//!   doubles the limit each round trip, and cuts it per dropped call, so that one burst of
//!   timeouts takes it to the floor. Here both happen once per round trip, as in TCP: one more
//!   slot after a limit's worth of successes, one cut for all slots that were taken before it.
//! - Gradient, by latency, in `gradient`: `Gradient2` under its sampling window.
//!
//! In both, a limit that is not used (fewer than half of the slots) does not grow, or it would
//! be no limit on the day that it is needed. Every slot knows which limit it was taken under;
//! a slot that is released is counted once and one release too many is harmless.

mod gradient;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::{At, scaled};
use crate::config::{ConcurrencyConfig, ConcurrencyMode, ConfigError, Headroom};
use crate::time::{Time, nanos};
use gradient::Gradient;

const ONE: u64 = 1_000_000;
const MOST: u32 = 1_000_000;

/// A checked [`ConcurrencyConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    mode: ConcurrencyMode,
    limit: u32,
    min: u32,
    max: u32,
    backoff_ppm: u64,
    slow: Duration,
    tolerance_ppm: u64,
    smoothing_ppm: u64,
    long_window: u32,
    window: u64,
    window_samples: u32,
    headroom: Headroom,
}

impl Settings {
    /// Whether there is no limit.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self.mode, ConcurrencyMode::Off)
    }

    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &ConcurrencyConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("limit", config.limit, 1..=MOST)?;
        at.within("min", config.min, 1..=MOST)?;
        at.within("max", config.max, 1..=MOST)?;
        at.within("backoff", config.backoff, 0.5..=0.99)?;
        at.within("tolerance", config.tolerance, 1.0..=10.0)?;
        at.within("smoothing", config.smoothing, 0.01..=1.0)?;
        at.within("long_window", config.long_window, 10..=100_000)?;
        at.within("window_samples", config.window_samples, 1..=10_000)?;
        at.span("slow", config.slow)?;
        at.span("window", config.window)?;
        if let Headroom::Fixed(slots) = config.headroom {
            at.within("headroom", slots, 1..=MOST)?;
        }
        if matches!(config.mode, ConcurrencyMode::Aimd | ConcurrencyMode::Gradient) {
            at.ordered(("min", config.min), ("limit", config.limit))?;
            at.ordered(("limit", config.limit), ("max", config.max))?;
        }
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &ConcurrencyConfig) -> Settings {
        let max = config.max.clamp(1, MOST);
        let min = config.min.clamp(1, max);
        let limit = match config.mode {
            ConcurrencyMode::Off | ConcurrencyMode::Static => config.limit.clamp(1, MOST),
            ConcurrencyMode::Aimd | ConcurrencyMode::Gradient => config.limit.clamp(min, max),
        };
        Settings {
            mode: config.mode,
            limit,
            min,
            max,
            backoff_ppm: scaled(config.backoff, 1_000_000).min(ONE),
            slow: config.slow,
            tolerance_ppm: scaled(config.tolerance, 1_000_000).clamp(ONE, 10 * ONE),
            smoothing_ppm: scaled(config.smoothing, 1_000_000).min(ONE),
            long_window: config.long_window.max(1),
            window: nanos(config.window).max(1),
            window_samples: config.window_samples.max(1),
            headroom: match config.headroom {
                Headroom::Fixed(slots) => Headroom::Fixed(slots.clamp(1, MOST)),
                Headroom::Root => Headroom::Root,
            },
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&ConcurrencyConfig::default())
    }
}

/// The right to have one call in flight. Give it back with [`Concurrency::release`]; one that is
/// lost is lost, since nobody can tell it from a call that is still out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Slot {
    round: u32,
}

/// What came of the call that held a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// It was answered.
    Success {
        /// After this.
        took: Duration,
    },
    /// It timed out, or the peer said that it is too much (429, 503 with a pushback).
    Dropped,
    /// It says nothing about load: cancelled, refused elsewhere, the caller's mistake.
    Ignored,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limited {
    /// The present limit.
    pub limit: u32,
    /// Calls in flight.
    pub in_flight: u32,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "concurrency limit of {}: {} calls in flight", self.limit, self.in_flight)
    }
}

/// A change of the limit, reported exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The limit before.
    pub from: u32,
    /// The limit since.
    pub to: u32,
    /// What moved it.
    pub why: Why,
}

/// What moved the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// AIMD: a limit's worth of successes.
    Successes,
    /// AIMD: a drop.
    Dropped,
    /// Gradient: the latency of a window.
    Latency {
        /// Mean of the window, drops included as slow answers.
        present: Duration,
        /// Smoothed over many windows.
        usual: Duration,
        /// Drops in the window.
        drops: u32,
    },
}

/// The limit on calls in flight.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::{ConcurrencyConfig, ConcurrencyMode};
/// use origin_core::policy::concurrency::{Concurrency, Sample, Settings};
///
/// let config = ConcurrencyConfig {
///     mode: ConcurrencyMode::Aimd, limit: 2, min: 1, ..ConcurrencyConfig::default()
/// };
/// let settings = Settings::of(&config, "concurrency").unwrap();
/// let now = Time::from_millis(5_000);
/// let mut limit = Concurrency::new(&settings);
/// let (first, second) = (limit.try_acquire(&settings).unwrap(), limit.try_acquire(&settings).unwrap());
/// assert_eq!(limit.try_acquire(&settings).unwrap_err().to_string(),
///     "concurrency limit of 2: 2 calls in flight");
/// // A timeout: one slot less. What the other call came to was decided under the old limit.
/// let change = limit.release(now, first, Sample::Dropped, &settings).unwrap();
/// assert_eq!((change.from, change.to), (2, 1));
/// assert_eq!(limit.release(now, second, Sample::Dropped, &settings), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Concurrency {
    mode: ConcurrencyMode,
    limit: u32,
    in_flight: u32,
    /// Counts the cuts; results of slots from before the last one do not move an AIMD limit.
    round: u32,
    /// Successes since the limit last moved.
    credit: u32,
    gradient: Gradient,
}

impl Concurrency {
    /// Nothing in flight, the limit where it begins.
    #[must_use]
    pub fn new(settings: &Settings) -> Concurrency {
        Concurrency {
            mode: settings.mode,
            limit: settings.limit,
            in_flight: 0,
            round: 0,
            credit: 0,
            gradient: Gradient::new(settings),
        }
    }

    /// The present limit.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Calls in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Slots that could be taken now; `u32::MAX` when off.
    #[must_use]
    pub fn free(&self, settings: &Settings) -> u32 {
        match settings.mode {
            ConcurrencyMode::Off => u32::MAX,
            _ => self.limit.saturating_sub(self.in_flight),
        }
    }

    /// Takes a slot.
    ///
    /// # Errors
    /// All are taken.
    #[inline]
    pub fn try_acquire(&mut self, settings: &Settings) -> Result<Slot, Limited> {
        if self.in_flight >= self.limit && settings.mode != ConcurrencyMode::Off {
            return Err(Limited { limit: self.limit, in_flight: self.in_flight });
        }
        self.in_flight = self.in_flight.saturating_add(1);
        Ok(Slot { round: self.round })
    }

    /// Gives a slot back with what came of the call.
    #[inline]
    pub fn release(
        &mut self,
        now: Time,
        slot: Slot,
        sample: Sample,
        settings: &Settings,
    ) -> Option<Change> {
        let in_flight = self.in_flight;
        self.in_flight = in_flight.saturating_sub(1);
        match settings.mode {
            ConcurrencyMode::Off | ConcurrencyMode::Static => None,
            _ if sample == Sample::Ignored => None,
            ConcurrencyMode::Aimd => self.aimd(slot, in_flight, sample, settings),
            ConcurrencyMode::Gradient => {
                let (to, why) = self.gradient.sample(now, in_flight, sample, settings)?;
                self.moved(to, why)
            }
        }
    }

    /// Applies other settings. What is in flight stays so; an adaptive limit keeps what it
    /// learned, within its new bounds, unless it is found in another way from now on.
    pub fn retune(&mut self, settings: &Settings) {
        let adaptive = matches!(settings.mode, ConcurrencyMode::Aimd | ConcurrencyMode::Gradient);
        if adaptive && settings.mode == self.mode {
            self.limit = self.limit.clamp(settings.min, settings.max);
            self.gradient.retune(settings);
        } else {
            let in_flight = self.in_flight;
            let round = self.round.wrapping_add(1);
            *self = Concurrency { in_flight, round, ..Concurrency::new(settings) };
        }
    }

    fn aimd(
        &mut self,
        slot: Slot,
        in_flight: u32,
        sample: Sample,
        settings: &Settings,
    ) -> Option<Change> {
        if slot.round != self.round {
            return None;
        }
        if !matches!(sample, Sample::Success { took } if took <= settings.slow) {
            self.round = self.round.wrapping_add(1);
            let share = u64::from(self.limit) * settings.backoff_ppm / ONE;
            let less = u32::try_from(share).unwrap_or(u32::MAX).max(settings.min);
            return self.moved(less, Why::Dropped);
        }
        if u64::from(in_flight) * 2 < u64::from(self.limit) {
            return None;
        }
        self.credit = self.credit.saturating_add(1);
        if self.credit < self.limit {
            return None;
        }
        self.moved(self.limit.saturating_add(1).min(settings.max), Why::Successes)
    }

    fn moved(&mut self, to: u32, why: Why) -> Option<Change> {
        self.credit = 0;
        let from = std::mem::replace(&mut self.limit, to);
        (from != to).then_some(Change { from, to, why })
    }
}
