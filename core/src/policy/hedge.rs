//! Hedging: a second copy of a call that is slower than nearly all others.
//!
//! It protects the tail: one slow endpoint, a pause, a lost packet. A copy sent when the 95th
//! percentile has passed removes most of the tail for about 5 % more load (Dean and Barroso, "The
//! Tail at Scale"). What it must not do is add load to a service that is slow because it has too
//! much: when everything slows down, every call passes the old percentile. Therefore, as in
//! Finagle's BackupRequestFilter, copies are also limited to a share of the calls, here counted
//! exactly over ten seconds; the percentile needs a minimum of samples; and whoever composes the
//! policies draws each copy from the retry budget too.
//!
//! When copies go out follows gRPC A6: copy k at (k − 1) × delay; an answer that may be repeated
//! sends the next one at once; pushback delays the next one; a pushback that forbids repeating
//! ends it. Cancelling the losers is the caller's part, and so is hedging only idempotent calls and
//! preferring an endpoint that was not used: this machine knows neither calls nor endpoints.
//!
//! Off by default; `enabled = false` switches it off.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Advice;
use super::latency::{Histogram, Quantile};
use crate::config::field::{At, permille, scaled};
use crate::config::{ConfigError, HedgeConfig};
use crate::time::{DurationText, Time, nanos};

const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);
const ONE: u64 = 1_000_000;

/// The compiled [`HedgeConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    enabled: bool,
    fixed: Option<Duration>,
    permille: u16,
    min_delay: Duration,
    max_delay: Duration,
    min_samples: u32,
    max_extra: u8,
    ratio_ppm: u32,
    min_copies: u32,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &HedgeConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        if let Some(delay) = config.delay {
            at.span_up_to("delay", delay, Duration::from_secs(3600))?;
        }
        at.percentile(config.percentile, config.min_samples)?;
        at.span("min_delay", config.min_delay)?;
        at.span("max_delay", config.max_delay)?;
        at.ordered(("min_delay", config.min_delay), ("max_delay", config.max_delay))?;
        at.within("max_extra", config.max_extra, 1..=2)?;
        at.within("max_ratio", config.max_ratio, 0.0..=2.0)?;
        at.within("min_copies", config.min_copies, 0..=1_000_000)?;
        let settings = Settings::compile(config);
        if config.enabled && settings.ratio_ppm == 0 && settings.min_copies == 0 {
            let reason = "with 0 of the calls and min_copies 0 no copy is ever sent; \
                          write enabled = false instead";
            return Err(at.refuse("max_ratio", reason));
        }
        Ok(settings)
    }

    /// The delay, where it is fixed.
    #[must_use]
    pub const fn fixed(&self) -> Option<Duration> {
        self.fixed
    }

    /// Whether there is any hedging.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// Whether a [`Histogram`] must be kept for it.
    #[must_use]
    pub const fn reads_latency(&self) -> bool {
        self.enabled && self.fixed.is_none()
    }

    #[allow(clippy::cast_possible_truncation)] // clamped first
    fn compile(config: &HedgeConfig) -> Settings {
        Settings {
            enabled: config.enabled,
            fixed: config.delay,
            permille: permille(config.percentile),
            min_delay: config.min_delay.min(config.max_delay),
            max_delay: config.max_delay,
            min_samples: config.min_samples.max(1),
            max_extra: config.max_extra.clamp(1, 2) as u8,
            ratio_ppm: scaled(config.max_ratio, 1_000_000).min(2 * ONE) as u32,
            min_copies: config.min_copies,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&HedgeConfig::default())
    }
}

/// Why no copy goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoHedge {
    /// Hedging is off.
    Off,
    /// Too few calls were seen to know what is slow.
    WarmingUp {
        /// Calls in the window.
        have: u32,
        /// Calls needed.
        need: u32,
    },
    /// The call has all its copies.
    AllOut {
        /// Copies sent.
        most: u8,
    },
    /// It is not time yet.
    NotYet {
        /// When it is.
        at: Time,
    },
    /// The peer asked not to be asked again.
    Forbidden,
    /// Copies have reached their share of the calls of the last ten seconds.
    Capped {
        /// Copies sent.
        copies: u64,
        /// Calls made.
        calls: u64,
    },
}

impl fmt::Display for NoHedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoHedge::Off => f.write_str("hedging is off"),
            NoHedge::WarmingUp { have, need } => {
                write!(f, "{have} of the {need} calls needed to know what is slow")
            }
            NoHedge::AllOut { most } => write!(f, "all {most} copies are out"),
            NoHedge::NotYet { at } => {
                let at = Duration::from_nanos(at.as_nanos());
                write!(f, "the next copy is due at {}", DurationText(at))
            }
            NoHedge::Forbidden => f.write_str("the peer asked for no repeat"),
            NoHedge::Capped { copies, calls } => {
                write!(f, "{copies} copies for {calls} calls in ten seconds is all that is allowed")
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slot {
    calls: u32,
    copies: u32,
}

/// A copy that was paid for; [`Hedge::refund`] takes it back if it was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Paid {
    turn: u64,
}

/// What the calls of a service share: the delay in force and the share of copies.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::config::HedgeConfig;
/// use origin_core::policy::backoff::Advice;
/// use origin_core::policy::hedge::{Copies, Hedge, Settings};
/// use origin_core::policy::latency::{self, Histogram};
///
/// let config = HedgeConfig { enabled: true, ..HedgeConfig::default() };
/// let settings = Settings::of(&config, "policy.hedge")?;
/// let window = latency::Settings::default();
/// let mut seen = Histogram::new(Time::ZERO, &window);
/// let mut hedge = Hedge::new(Time::ZERO);
/// for _ in 0..100 {
///     hedge.call(Time::ZERO);
///     seen.record(Time::ZERO, Duration::from_millis(20), &window);
/// }
/// // A call is sent at 1 s; its copy is due a little after the usual 20 ms.
/// let sent = Time::from_millis(1_000);
/// let mut copies = Copies::new(sent, hedge.delay(&seen, &settings).unwrap());
/// assert!(copies.due(&settings).unwrap() < Time::from_millis(1_023));
/// let now = Time::from_millis(1_023);
/// assert!(hedge.send(now, &mut copies, &settings).is_ok());
/// assert!(hedge.send(now, &mut copies, &settings).is_err(), "one copy is enough");
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hedge {
    slots: [Slot; SLOTS],
    /// Seconds turned so far; the present slot is `turn % SLOTS`.
    turn: u64,
    /// When the present slot ends.
    until: Time,
    calls: u64,
    copies: u64,
    delay: Quantile,
}

impl Hedge {
    /// Nothing called, nothing sent.
    #[must_use]
    pub fn new(now: Time) -> Hedge {
        Hedge {
            slots: [Slot::default(); SLOTS],
            turn: 0,
            until: now.plus(SLOT),
            calls: 0,
            copies: 0,
            delay: Quantile::default(),
        }
    }

    /// Counts a call, which earns its share of a copy.
    pub fn call(&mut self, now: Time) {
        self.advance(now);
        let slot = &mut self.slots[(self.turn % SLOTS as u64) as usize];
        if slot.calls < u32::MAX {
            slot.calls += 1;
            self.calls += 1;
        }
    }

    /// How long after an attempt its copy should follow.
    ///
    /// # Errors
    /// Why this service is not hedged now.
    pub fn delay(&mut self, seen: &Histogram, settings: &Settings) -> Result<Duration, NoHedge> {
        if !settings.enabled {
            return Err(NoHedge::Off);
        }
        if let Some(fixed) = settings.fixed {
            return Ok(fixed);
        }
        let (have, need) = (seen.count(), settings.min_samples);
        let warming = NoHedge::WarmingUp { have, need };
        if have < need {
            return Err(warming);
        }
        let percentile = self.delay.read(seen, settings.permille).ok_or(warming)?;
        Ok(percentile.max(settings.min_delay).min(settings.max_delay))
    }

    /// Pays for the next copy of a call, if one is due and the share of copies allows it. A
    /// refusal by the share counts as the copy: the call is not asked about again before the next
    /// delay has passed.
    ///
    /// # Errors
    /// Why the copy must not be sent.
    pub fn send(
        &mut self,
        now: Time,
        copies: &mut Copies,
        settings: &Settings,
    ) -> Result<Paid, NoHedge> {
        let at = copies.due(settings)?;
        if now < at {
            return Err(NoHedge::NotYet { at });
        }
        copies.extra = copies.extra.saturating_add(1);
        copies.next = now.plus(Duration::from_nanos(copies.delay_nanos));
        self.advance(now);
        let earned = u128::from(self.calls) * u128::from(settings.ratio_ppm);
        let allowed = earned + u128::from(settings.min_copies) * u128::from(ONE);
        if u128::from(self.copies + 1) * u128::from(ONE) > allowed {
            return Err(NoHedge::Capped { copies: self.copies, calls: self.calls });
        }
        let slot = &mut self.slots[(self.turn % SLOTS as u64) as usize];
        slot.copies = slot.copies.saturating_add(1);
        self.copies += 1;
        Ok(Paid { turn: self.turn })
    }

    /// Takes back a copy that was never sent, for example because the retry budget refused it or
    /// no endpoint was ready.
    pub fn refund(&mut self, now: Time, paid: Paid) {
        self.advance(now);
        if paid.turn <= self.turn && self.turn - paid.turn < SLOTS as u64 {
            let slot = &mut self.slots[(paid.turn % SLOTS as u64) as usize];
            if slot.copies > 0 {
                slot.copies -= 1;
                self.copies = self.copies.saturating_sub(1);
            }
        }
    }

    /// Copies and calls of the last ten seconds.
    #[must_use]
    pub fn load(&mut self, now: Time) -> (u64, u64) {
        self.advance(now);
        (self.copies, self.calls)
    }

    fn advance(&mut self, now: Time) {
        if now < self.until || self.until == Time::NEVER {
            return;
        }
        let passed = nanos(now.since(self.until)) / nanos(SLOT) + 1;
        for _ in 0..passed.min(SLOTS as u64) {
            self.turn = self.turn.wrapping_add(1);
            let slot = &mut self.slots[(self.turn % SLOTS as u64) as usize];
            self.calls -= u64::from(slot.calls).min(self.calls);
            self.copies -= u64::from(slot.copies).min(self.copies);
            *slot = Slot::default();
        }
        let ends = self.until.as_nanos().saturating_add(passed.saturating_mul(nanos(SLOT)));
        self.until = Time::from_nanos(ends);
    }
}

/// The copies of one call: when the next one is due. 24 bytes, owned by the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Copies {
    next: Time,
    delay_nanos: u64,
    extra: u8,
    forbidden: bool,
}

impl Copies {
    /// The first attempt goes out now; the copies follow at multiples of `delay`.
    #[must_use]
    pub fn new(now: Time, delay: Duration) -> Copies {
        Copies { next: now.plus(delay), delay_nanos: nanos(delay), extra: 0, forbidden: false }
    }

    /// When the next copy is due.
    ///
    /// # Errors
    /// Why there is no next one.
    pub const fn due(&self, settings: &Settings) -> Result<Time, NoHedge> {
        if !settings.enabled {
            return Err(NoHedge::Off);
        }
        if self.forbidden {
            return Err(NoHedge::Forbidden);
        }
        if self.extra >= settings.max_extra {
            return Err(NoHedge::AllOut { most: settings.max_extra });
        }
        Ok(self.next)
    }

    /// One of the attempts ended in a way that may be repeated. Without advice the next copy is
    /// due at once and the ones after it at multiples of the delay from there; advice to wait
    /// delays it; advice not to repeat ends it.
    pub fn failed(&mut self, now: Time, advice: Advice) {
        match advice {
            Advice::Silent => self.next = now,
            Advice::After(span) => self.next = now.plus(span),
            Advice::Forbidden(_) => self.forbidden = true,
        }
    }

    /// Copies asked for so far.
    #[must_use]
    pub const fn extra(&self) -> u8 {
        self.extra
    }
}

#[cfg(test)]
mod tests;
