//! The rate limit: a burst, then a steady rate.
//!
//! It protects a peer from more calls than it agreed to serve, and the program from learning of
//! that agreement by its 429s. The bucket is kept in the form of the generic cell rate algorithm
//! (ITU-T I.371, as in governor): one point in time, at which everything granted so far is paid
//! off. No timer refills it, and a decision is a comparison and an addition.
//!
//! Two things are done differently. The interval between permits is kept as an exact fraction of
//! a nanosecond, so that seven a second are seven a second after a year; rounding each interval is
//! where token buckets drift. And a refusal says when the *next* permit is due, burst included,
//! not when the bucket is full again.
//!
//! The adaptive rate is in `adapt`: it falls when the peer says that it is too much and climbs
//! while it is used. Off, `RateMode::Off`, everything passes and nothing is counted.

mod adapt;
mod pace;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::field::{At, scaled};
use crate::config::{ConfigError, RateConfig, RateMode};
use crate::time::{DurationText, Rounded, Time, nanos};
use adapt::Adapt;
use pace::Pace;

/// Rates are kept in millionths of a permit per `per`.
const MICRO: u64 = 1_000_000;

/// A checked [`RateConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    mode: RateMode,
    per: u64,
    /// Rates in millionths of a permit per `per`; all three are the same when fixed.
    start: u64,
    floor: u64,
    ceiling: u64,
    burst: u64,
    max_wait: u64,
    keep_ppm: u64,
    recover: u64,
    /// How long permits are counted to know the rate that is really used.
    window: u64,
}

impl Settings {
    /// Whether there is no limit.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self.mode, RateMode::Off)
    }

    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &RateConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.span("per", config.per)?;
        at.span("max_wait", config.max_wait)?;
        at.span("recover", config.recover)?;
        at.within("permits", config.permits, 1..=1_000_000_000)?;
        at.within("burst", config.burst, 1..=1_000_000)?;
        at.within("floor", config.floor, 1..=1_000_000_000)?;
        at.within("ceiling", config.ceiling, 1..=1_000_000_000)?;
        at.within("keep", config.keep, 0.1..=0.95)?;
        let adaptive = config.mode == RateMode::Adaptive;
        if adaptive {
            at.ordered(("floor", config.floor), ("permits", config.permits))?;
            at.ordered(("permits", config.permits), ("ceiling", config.ceiling))?;
        }
        let (fast, field) =
            if adaptive { (config.ceiling, "ceiling") } else { (config.permits, "permits") };
        let interval = nanos(config.per) / u64::from(fast);
        if interval < 1_000 {
            let per = DurationText(config.per);
            let reason = format!("{fast} per {per} is more than a million a second");
            return Err(at.refuse(field, reason));
        }
        let slow = if adaptive { config.floor } else { config.permits };
        let refill = config.per.as_nanos() * u128::from(config.burst) / u128::from(slow);
        if refill > YEAR {
            let reason = format!(
                "a burst of {} at {slow} per {} takes {} days to come back",
                config.burst,
                DurationText(config.per),
                refill / (YEAR / 365)
            );
            return Err(at.refuse("burst", reason));
        }
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &RateConfig) -> Settings {
        let adaptive = config.mode == RateMode::Adaptive;
        let rate = |permits: u32| u64::from(permits.clamp(1, 1_000_000_000)) * MICRO;
        let or = |permits| rate(if adaptive { permits } else { config.permits });
        let (floor, ceiling) = (or(config.floor), or(config.ceiling));
        let per = nanos(config.per).max(1);
        Settings {
            mode: config.mode,
            per,
            start: rate(config.permits).clamp(floor.min(ceiling), ceiling),
            floor: floor.min(ceiling),
            ceiling,
            burst: u64::from(config.burst.max(1)),
            max_wait: nanos(config.max_wait),
            keep_ppm: scaled(config.keep, 1_000_000).clamp(MICRO / 10, MICRO / 20 * 19),
            recover: nanos(config.recover).max(1),
            // Half a second as the AWS mode has it, or ten permits if they take longer.
            window: (per / (ceiling / MICRO).max(1)).saturating_mul(10).max(500_000_000),
        }
    }
}

/// Longest time that a burst may take to come back, in nanoseconds.
const YEAR: u128 = 365 * 24 * 3_600 * 1_000_000_000;

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&RateConfig::default())
    }
}

/// A permit: the right to one call at [`Permit::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Permit {
    at: Time,
    /// The bucket after this permit, by which a refund recognises the newest one.
    due: u64,
    rest: u64,
}

impl Permit {
    /// When the call may begin.
    #[must_use]
    pub const fn at(&self) -> Time {
        self.at
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct RateLimited {
    /// When the next permit is due, unless somebody else takes it.
    pub until: Time,
    /// How far away that is.
    pub wait: Duration,
    /// The present interval between permits, rounded down.
    pub interval: Duration,
    /// The rate is below its ceiling because the peer throttled.
    pub lowered: bool,
}

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RateLimited { wait, interval, lowered, .. } = self;
        let why = if *lowered { ", lowered because the peer throttled" } else { "" };
        let (interval, wait) = (Rounded(*interval), Rounded(*wait));
        write!(f, "rate limit of one per {interval}{why}: next permit in {wait}")
    }
}

/// The rate limit.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::{RateConfig, RateMode};
/// use origin_core::policy::rate::{RateLimit, Settings};
///
/// let config = RateConfig { mode: RateMode::Fixed, permits: 3, burst: 2, ..RateConfig::default() };
/// let settings = Settings::of(&config, "rate").unwrap();
/// let now = Time::from_millis(5_000);
/// let mut limit = RateLimit::new(&settings);
/// // The burst of two, then one every third of a second.
/// assert!(limit.try_take(now, &settings).is_ok());
/// assert!(limit.try_take(now, &settings).is_ok());
/// let refused = limit.try_take(now, &settings).unwrap_err();
/// assert_eq!(refused.wait, Duration::from_nanos(333_333_334));
/// assert!(limit.try_take(refused.until, &settings).is_ok());
/// // Who can wait books a permit and sleeps until then.
/// let permit = limit.reserve(now, now.plus(Duration::from_secs(1)), &settings).unwrap();
/// assert_eq!(permit.at(), now.plus(Duration::from_nanos(666_666_667)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// When everything granted is paid off: `due + rest / pace.of` nanoseconds.
    due: u64,
    rest: u64,
    pace: Pace,
    adapt: Adapt,
}

impl RateLimit {
    /// A full bucket.
    #[must_use]
    pub fn new(settings: &Settings) -> RateLimit {
        RateLimit {
            due: 0,
            rest: 0,
            pace: Pace::of(settings.per, settings.start, settings.burst),
            adapt: Adapt::new(settings),
        }
    }

    /// Takes a permit for a call that begins now.
    ///
    /// # Errors
    /// There is none; when the next one is due.
    #[inline]
    pub fn try_take(&mut self, now: Time, settings: &Settings) -> Result<Permit, RateLimited> {
        self.reserve(now, now, settings)
    }

    /// Books a permit for a call that can wait until `latest` (and no longer than `max_wait`).
    ///
    /// # Errors
    /// There is none in time; when the next one is due. Nothing is booked.
    #[inline]
    pub fn reserve(
        &mut self,
        now: Time,
        latest: Time,
        settings: &Settings,
    ) -> Result<Permit, RateLimited> {
        if settings.mode == RateMode::Off {
            return Ok(Permit { at: now, due: 0, rest: u64::MAX });
        }
        if !self.open_at(now.as_nanos()) {
            return self.later(now, latest, settings);
        }
        Ok(self.charge(now, now.as_nanos(), settings))
    }

    /// Takes back a permit that was not used. Only the newest one can be taken back: those who
    /// booked after it hold times that were computed with it (Go's `x/time/rate` counts those
    /// off in the same way). An older one is forfeited.
    pub fn refund(&mut self, permit: Permit) {
        if (permit.due, permit.rest) == (self.due, self.rest) {
            (self.due, self.rest) = self.pace.before(self.due, self.rest);
            self.adapt.untook();
        }
    }

    /// The answer to a call that was sent at `sent`. `throttled`: the peer said that it is too
    /// much, by a 429 or by being too slow. Does nothing unless adaptive.
    #[inline]
    pub fn on_answer(&mut self, now: Time, sent: Time, throttled: bool, settings: &Settings) {
        if settings.mode != RateMode::Adaptive {
            return;
        }
        if let Some(rate) = self.adapt.on_answer(now, sent, throttled, self.pace.whole, settings) {
            self.change(now, settings, rate);
        }
    }

    /// Applies other settings. What was taken stays taken, counted in permits; an adaptive rate
    /// keeps what it learned, within its new bounds.
    pub fn retune(&mut self, now: Time, settings: &Settings) {
        let rate = self.adapt.retune(settings);
        self.change(now, settings, rate);
    }

    /// The present interval between permits, rounded down.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_nanos(self.pace.whole)
    }

    /// The present rate in thousandths of a permit per second.
    #[must_use]
    pub fn rate_milli(&self) -> u64 {
        self.adapt.rate_milli()
    }

    /// `due − slack ≤ now`, exactly.
    #[inline]
    fn open_at(&self, now: u64) -> bool {
        let line = now.saturating_add(self.pace.slack);
        self.due < line || (self.due == line && self.rest <= self.pace.slack_rest)
    }

    #[inline]
    fn charge(&mut self, now: Time, at: u64, settings: &Settings) -> Permit {
        // Paid off: this permit is charged from now on. But one that was due within the last
        // nanosecond is charged from then, or a caller who comes exactly when told would lose
        // that fraction each time.
        if self.due.saturating_add(u64::from(self.rest > 0)) < at {
            (self.due, self.rest) = (at, 0);
        }
        (self.due, self.rest) = self.pace.after(self.due, self.rest);
        if settings.mode == RateMode::Adaptive {
            self.adapt.took(now, settings);
        }
        Permit { at: Time::from_nanos(at), due: self.due, rest: self.rest }
    }

    #[cold]
    fn later(
        &mut self,
        now: Time,
        latest: Time,
        settings: &Settings,
    ) -> Result<Permit, RateLimited> {
        let from = now.as_nanos();
        // More debt than can be booked: the clock went back, or the rate fell below what was
        // booked at the old one. Neither may close the limit for longer than a booking could.
        let ahead =
            self.pace.slack.saturating_add(self.pace.whole).saturating_add(settings.max_wait);
        if self.due > from.saturating_add(ahead) {
            (self.due, self.rest) = (from.saturating_add(ahead), 0);
        }
        let late = u64::from(self.rest > self.pace.slack_rest);
        let at = self.due.saturating_sub(self.pace.slack).saturating_add(late);
        self.adapt.pressed();
        if at <= latest.as_nanos() && at.saturating_sub(from) <= settings.max_wait {
            return Ok(self.charge(now, at.max(from), settings));
        }
        Err(RateLimited {
            until: Time::from_nanos(at),
            wait: Duration::from_nanos(at.saturating_sub(from)),
            interval: self.interval(),
            lowered: self.adapt.lowered(),
        })
    }

    /// Another rate: the debt stays the same number of permits, so that a lower rate does not
    /// come with a fresh burst and a higher one not with a penalty.
    fn change(&mut self, now: Time, settings: &Settings, rate: u64) {
        let pace = Pace::of(settings.per, rate, settings.burst);
        if pace == self.pace {
            return;
        }
        let debt = self.due.saturating_sub(now.as_nanos());
        if debt > 0 || (self.due == now.as_nanos() && self.rest > 0) {
            // The fraction counts as a whole nanosecond: never in favour of the caller.
            let debt = pace.scaled(debt.saturating_add(1), &self.pace);
            self.due = now.as_nanos().saturating_add(debt);
        }
        self.rest = 0;
        self.pace = pace;
    }
}
