//! The gradient limit: Netflix's `Gradient2`, under the sampling window that it is meant to run
//! in (`WindowedLimit`: a second and ten samples, their mean and the most in flight). Counting
//! slots is not here.
//!
//! Per window: `gradient = clamp(tolerance × usual / present, ½, 1)`, then
//! `limit += smoothing × (limit × gradient + headroom − limit)`. The usual latency is averaged
//! over hundreds of windows (the plain mean of the first ten), and pulled down by a tenth when it
//! is more than twice the present one, so that a long overload is not remembered for ever.
//!
//! One thing is added. `Gradient2` does not look at drops, so a peer that answers nothing at all
//! would be one without samples. A drop counts here as an answer at the latency that makes the
//! steepest gradient: some are within the tolerance, more lower the limit, and a window of
//! nothing else takes it to 0.9 (with the default smoothing: ½ × 0.2), the factor of AIMD.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ONE, Sample, Settings, Why};
use crate::config::Headroom;
use crate::time::{Time, nanos};

/// The limit is kept in millionths, the usual latency in 256ths of a nanosecond.
const USUAL: u32 = 8;
/// Windows of which the plain mean is taken before smoothing begins.
const WARM_UP: u32 = 10;
/// No latency counts as longer (13 days).
const LONGEST: u64 = 1 << 50;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Gradient {
    pub(super) limit: u64,
    usual: u64,
    /// Windows averaged so far, up to `WARM_UP`.
    windows: u32,
    window_start: Time,
    sum: u64,
    answers: u32,
    drops: u32,
    most: u32,
}

impl Gradient {
    pub(super) fn new(settings: &Settings) -> Gradient {
        Gradient {
            limit: u64::from(settings.limit) * ONE,
            usual: 0,
            windows: 0,
            window_start: Time::ZERO,
            sum: 0,
            answers: 0,
            drops: 0,
            most: 0,
        }
    }

    pub(super) fn retune(&mut self, settings: &Settings) {
        self.limit = clamped(self.limit, settings);
    }

    /// Counts a result; at the end of a window, the new limit and why.
    #[inline]
    pub(super) fn sample(
        &mut self,
        now: Time,
        in_flight: u32,
        sample: Sample,
        settings: &Settings,
    ) -> Option<(u32, Why)> {
        match sample {
            Sample::Success { took } => {
                self.sum = self.sum.saturating_add(nanos(took).min(LONGEST));
                self.answers = self.answers.saturating_add(1);
            }
            _ => self.drops = self.drops.saturating_add(1),
        }
        self.most = self.most.max(in_flight);
        if self.answers.saturating_add(self.drops) == 1 {
            self.window_start = now;
        }
        // The difference wraps when the clock went back, which ends the window as well.
        let open = now.as_nanos().wrapping_sub(self.window_start.as_nanos()) < settings.window;
        if open || self.answers.saturating_add(self.drops) < settings.window_samples {
            return None;
        }
        self.close(settings)
    }

    #[cold]
    fn close(&mut self, settings: &Settings) -> Option<(u32, Why)> {
        let (drops, most) = (self.drops, self.most);
        let mean = self.sum.checked_div(u64::from(self.answers));
        let samples = u128::from(self.answers) + u128::from(drops);
        if let Some(mean) = mean {
            self.learn(mean, settings);
        }
        let usual = u128::from(self.usual >> USUAL).max(1);
        let line = usual * u128::from(settings.tolerance_ppm) / u128::from(ONE);
        let slowest = (line * 2).min(u128::from(LONGEST) * 2);
        let present = (u128::from(self.sum) + u128::from(drops) * slowest) / samples.max(1);
        let gradient = if self.windows == 0 {
            ONE / 2 // nothing was ever answered
        } else if present <= line {
            ONE
        } else {
            u64::try_from(line * u128::from(ONE) / present).unwrap_or(ONE).clamp(ONE / 2, ONE)
        };
        (self.sum, self.answers, self.drops, self.most) = (0, 0, 0, 0);
        // Not used, so nothing was learned about the limit.
        if u64::from(most) * 2 < self.limit / ONE {
            return None;
        }
        let limit = self.limit;
        let headroom = match settings.headroom {
            Headroom::Root => (limit / ONE).isqrt(),
            Headroom::Fixed(slots) => u64::from(slots),
        };
        let estimate = limit * gradient / ONE + headroom * ONE;
        let smoothed =
            (limit * (ONE - settings.smoothing_ppm) + estimate * settings.smoothing_ppm) / ONE;
        self.limit = clamped(smoothed, settings);
        let span = |nanos: u128| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let why = Why::Latency { present: span(present), usual: span(usual), drops };
        Some((u32::try_from(self.limit / ONE).unwrap_or(u32::MAX), why))
    }

    /// Averages the mean latency of a window into the usual one.
    fn learn(&mut self, mean: u64, settings: &Settings) {
        let mean = mean.min(LONGEST) << USUAL;
        if self.windows < WARM_UP {
            let sum = self.usual * u64::from(self.windows) + mean;
            self.windows += 1;
            self.usual = sum / u64::from(self.windows);
        } else {
            let weight = u64::from(settings.long_window).saturating_add(1);
            let gap = self.usual.abs_diff(mean) / weight * 2;
            self.usual = if mean > self.usual { self.usual + gap } else { self.usual - gap };
        }
        if self.usual / 2 > mean {
            self.usual = self.usual / 10 * 9;
        }
    }
}

fn clamped(limit: u64, settings: &Settings) -> u64 {
    limit.clamp(u64::from(settings.min) * ONE, u64::from(settings.max) * ONE)
}
