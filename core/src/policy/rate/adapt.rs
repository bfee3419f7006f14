//! The adaptive rate (001-126): where the rate goes after a throttled answer, and how it comes
//! back. What a permit costs is the business of the bucket.
//!
//! The ancestor is the adaptive retry mode of the AWS SDKs, which is CUBIC (RFC 8312) on a rate:
//! after a cut the rate returns quickly to where it was throttled, stays near it, and then probes
//! ever faster. Three things differ.
//!
//! - The time to return is a setting and the curve is scaled to it. With CUBIC's constant, in
//!   permits per cubed second, the return from 10 000 a second takes twenty times as long as
//!   the return from one a second.
//! - One cut per round trip: an answer to a call sent before the last cut says nothing about the
//!   rate since. A hundred 429s of one burst would otherwise cost 0.7¹⁰⁰.
//! - The rate climbs only while it is used, and idle time does not count as climbing; but it is
//!   never tied to the measured rate once it climbs, which is how a client of the AWS mode that
//!   slowed down could stay slow.
//!
//! A cut begins at the rate that was really sent, since the limit may be far above it.

use serde::{Deserialize, Serialize};

use super::{MICRO, Settings};
use crate::config::RateMode;
use crate::time::Time;

/// The curve counts time in 1024ths of `recover`.
const ONE: i128 = 1 << 10;

/// The rate and where it is on its curve. Rates are in millionths of a permit per `per`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Adapt {
    rate: u64,
    per: u64,
    ceiling: u64,
    /// `false` while the rate is fixed: there is nothing to keep when it becomes adaptive.
    learns: bool,
    /// The rate at which it was last throttled; where it began, if never.
    peak: u64,
    /// Nanoseconds of use since the last cut.
    climbed: u64,
    cut_at: Time,
    /// When the rate was last computed.
    seen: Time,
    /// Somebody was refused or had to wait since then.
    pressed: bool,
    /// Permits in the present and in the previous window.
    window_start: Time,
    taken: u32,
    taken_before: u32,
}

impl Adapt {
    pub(super) fn new(settings: &Settings) -> Adapt {
        Adapt {
            rate: settings.start,
            per: settings.per,
            ceiling: settings.ceiling,
            learns: settings.mode == RateMode::Adaptive,
            peak: settings.start,
            // As if it had just come back: the first thing it does is probe.
            climbed: settings.recover,
            cut_at: Time::ZERO,
            seen: Time::ZERO,
            pressed: false,
            window_start: Time::ZERO,
            taken: 0,
            taken_before: 0,
        }
    }

    #[inline]
    pub(super) fn took(&mut self, now: Time, settings: &Settings) {
        // One comparison also finds a clock that went back: the difference wraps.
        if now.as_nanos().wrapping_sub(self.window_start.as_nanos()) >= settings.window {
            self.next_window(now, settings);
        }
        self.taken = self.taken.saturating_add(1);
    }

    pub(super) fn untook(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    pub(super) fn pressed(&mut self) {
        self.pressed = true;
    }

    pub(super) fn lowered(&self) -> bool {
        self.cut_at > Time::ZERO && self.rate < self.ceiling
    }

    pub(super) fn rate_milli(&self) -> u64 {
        // rate / 10⁶ permits per `per` ns, in 10⁻³ per 10⁹ ns.
        let milli = u128::from(self.rate) * 1_000_000 / u128::from(self.per.max(1));
        u64::try_from(milli).unwrap_or(u64::MAX)
    }

    /// The new rate, if it changes. `interval`: the present one in nanoseconds.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        sent: Time,
        throttled: bool,
        interval: u64,
        settings: &Settings,
    ) -> Option<u64> {
        let before = self.rate;
        if self.cut_at > now || self.seen > now {
            // The clock went back; what it said before is forgotten.
            self.cut_at = self.cut_at.min(now);
            self.seen = self.seen.min(now);
        }
        if throttled {
            if sent < self.cut_at {
                return None;
            }
            self.cut(now, settings);
        } else {
            let passed = now.as_nanos() - self.seen.as_nanos();
            if passed < settings.recover / 64 {
                return None;
            }
            // Idle time is not use: at most a window counts, or two permits if these are rarer.
            let counted = passed.min(settings.window.max(interval.saturating_mul(2)));
            if self.pressed || self.measured(now, settings).saturating_mul(2) >= self.rate {
                self.climbed = self.climbed.saturating_add(counted);
                // The curve of a later start may lie below: climbing never lowers the rate.
                self.rate = self.curve(settings).max(self.rate);
            }
            self.seen = now;
            self.pressed = false;
        }
        (self.rate != before).then_some(self.rate)
    }

    /// Within new bounds; what it learned is kept, unless `per` changed its meaning.
    pub(super) fn retune(&mut self, settings: &Settings) -> u64 {
        if self.per == settings.per && self.learns && settings.mode == RateMode::Adaptive {
            self.rate = self.rate.clamp(settings.floor, settings.ceiling);
            self.peak = self.peak.clamp(settings.floor, settings.ceiling);
            self.ceiling = settings.ceiling;
        } else {
            *self = Adapt::new(settings);
        }
        self.rate
    }

    fn cut(&mut self, now: Time, settings: &Settings) {
        let used = match self.measured(now, settings) {
            0 => self.rate,
            measured => measured.min(self.rate),
        };
        self.peak = used.max(settings.floor);
        self.rate = (self.peak / MICRO * settings.keep_ppm
            + self.peak % MICRO * settings.keep_ppm / MICRO)
            .max(settings.floor);
        self.climbed = 0;
        self.cut_at = now;
        self.seen = now;
        self.pressed = false;
    }

    /// `peak + depth × (x − 1)³`, where x is the time of use since the cut over `recover` and
    /// `depth` is what a cut at `peak` takes away (also where the floor kept it from doing so).
    fn curve(&self, settings: &Settings) -> u64 {
        let climbed = u128::from(self.climbed) << 10;
        let x = i128::try_from(climbed / u128::from(settings.recover.max(1))).unwrap_or(i128::MAX);
        // Beyond a thousand times `recover` the cube is above every ceiling.
        let x = x.min(ONE * ONE) - ONE;
        let depth = i128::from(self.peak / MICRO * (MICRO - settings.keep_ppm).max(1)).max(1);
        let rate = i128::from(self.peak) + (depth * x * x * x) / (ONE * ONE * ONE);
        let (floor, ceiling) = (i128::from(settings.floor), i128::from(settings.ceiling));
        u64::try_from(rate.clamp(floor, ceiling)).unwrap_or(settings.floor)
    }

    /// The rate of permits really taken: the busier of this window and the last.
    fn measured(&mut self, now: Time, settings: &Settings) -> u64 {
        if now.as_nanos().wrapping_sub(self.window_start.as_nanos()) >= settings.window {
            self.next_window(now, settings);
        }
        let count = u128::from(self.taken.max(self.taken_before)) * u128::from(MICRO);
        let rate = count * u128::from(settings.per) / u128::from(settings.window.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn next_window(&mut self, now: Time, settings: &Settings) {
        let passed = now.as_nanos().wrapping_sub(self.window_start.as_nanos());
        // After a whole empty window nothing is known about the rate.
        self.taken_before = if passed < settings.window.saturating_mul(2) { self.taken } else { 0 };
        self.taken = 0;
        self.window_start = now;
    }
}
