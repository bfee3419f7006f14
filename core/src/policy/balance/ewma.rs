//! Peak EWMA: what one more attempt at an endpoint is expected to cost, from its latency and the
//! attempts that are out. The argument: an endpoint that has just been slow is probably still
//! slow, so the estimate jumps to a peak at once and forgets it exponentially; times the attempts
//! outstanding it orders endpoints by the work that waits there.
//!
//! Follows Finagle's `PeakEwma` (cost = estimate × (outstanding + 1), time constant 10 s in
//! Linkerd), with four differences:
//!
//! * *Integers.* Nanoseconds with 20 bits of fraction and a table for the exponential, so the
//!   same inputs give the same choice on every machine.
//! * *While attempts are out, the estimate fades 8 times slower.* Finagle lets an endpoint that
//!   answers nothing look better and better until its timeouts arrive. Here time alone makes an
//!   endpoint attractive only while it is idle: one attempt finds out, and raises the cost back
//!   to what was last known. It still fades, so that one endless request starves nobody.
//! * *Nothing known* costs 0 while idle and a penalty of 39 hours while attempts are out (as in
//!   Finagle): a new endpoint gets one attempt at once and not a flood before the first answer.
//!   Taking the tier's typical latency instead would send it its full share unseen.
//! * *A failure is no fast answer.* A refused connection takes microseconds and would make a dead
//!   host the best one. A failure counts as an answer that took `failure_penalty`, or
//!   `failure_factor` × the estimate if that is longer, and is averaged in like one: it does not
//!   jump like a peak, and it never lowers the estimate. Averaging over time makes the effect
//!   independent of the rate of calls: an endpoint that fails for 50 ms has gained 5 ms (of the
//!   1 s that count, over 10 s), at ten calls a second as at ten thousand, and one that fails one
//!   call in a hundred reads 10 ms more. A jump per failure would drown latency in the noise of
//!   rare failures wherever calls are frequent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fixed;
use crate::config::BalanceConfig;
use crate::time::{Time, nanos};

/// Bits of fraction of the estimate, so that decay over short spans is not rounded away.
const FRACTION: u32 = 20;
/// The longest latency told apart: 2⁴⁴ ns, 4.9 hours.
const LONGEST: u64 = (1 << 44) - 1;
/// What a failure counts at most, unless it took longer: 2³⁶ ns, 69 s. So an endpoint that always
/// fails is tried about every 100 s at the default decay.
const CEILING: u64 = 1 << 36;
/// Cost of an endpoint that has attempts out and has never answered: 2⁴⁷ ns, as in Finagle.
const UNKNOWN: u64 = 1 << 47;
/// The shortest decay applied, as an exponent in Q32: time shorter than this (100 ns at a constant
/// of 10 s) stays on the clock, so that rounding costs frequent answers at most 1 part in 64.
const SHORTEST: u64 = 64;
/// While attempts are out, time counts by 2⁻³.
const BUSY_SHIFT: u32 = 3;

/// How estimates forget, and what a failure counts: [`super::Settings::ewma`], or the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Exponent of two per nanosecond, in Q64.
    pub(super) rate: u64,
    /// Spans below this many nanoseconds (a 1024th of the time constant) read as no decay.
    pub(super) fresh: u64,
    pub(super) failure_factor: u32,
    pub(super) failure_penalty: u64,
}

impl Settings {
    /// Total: the values are checked where the whole configuration is.
    pub(super) fn compile(config: &BalanceConfig) -> Settings {
        let tau = nanos(config.decay);
        Settings {
            rate: fixed::rate(tau),
            fresh: tau / 1024,
            failure_factor: config.failure_factor.max(1),
            failure_penalty: nanos(config.failure_penalty).clamp(1, LONGEST),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&BalanceConfig::default())
    }
}

/// The latency estimate of one endpoint. 16 bytes. A change of the settings keeps it: the new
/// time constant applies from the last answer on.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::policy::balance::ewma::{PeakEwma, Settings};
///
/// let settings = Settings::default();
/// let at = Time::from_millis;
/// let mut endpoint = PeakEwma::new(at(0));
/// assert_eq!(endpoint.cost(at(0), 0, &settings), 0); // unknown and idle: worth one attempt
/// endpoint.answered(at(5), Duration::from_millis(5), &settings);
/// assert_eq!(endpoint.cost(at(5), 1, &settings), 10_000_000); // 5 ms × (1 out + 1)
/// endpoint.answered(at(6), Duration::from_millis(90), &settings);
/// assert_eq!(endpoint.cost(at(6), 0, &settings), 90_000_000); // a peak counts at once
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeakEwma {
    /// Nanoseconds with [`FRACTION`] bits of fraction; 0: nothing known.
    level: u64,
    /// When the level was last brought up to date.
    at: Time,
}

impl PeakEwma {
    /// An endpoint nothing is known about.
    #[must_use]
    pub const fn new(now: Time) -> PeakEwma {
        PeakEwma { level: 0, at: now }
    }

    /// Whether nothing is known: no attempt has ended yet.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.level == 0
    }

    /// The estimate as of its last update, without decay; `None` when nothing is known.
    #[must_use]
    pub fn estimate(&self) -> Option<Duration> {
        (self.level != 0).then(|| Duration::from_nanos(self.level >> FRACTION))
    }

    /// An attempt was answered after `took`.
    #[inline]
    pub fn answered(&mut self, now: Time, took: Duration, settings: &Settings) {
        let sample = (nanos(took).min(LONGEST) << FRACTION).max(1);
        if sample >= self.level {
            self.level = sample;
            self.at = self.at.max(now);
            return;
        }
        let span = now.as_nanos().saturating_sub(self.at.as_nanos());
        let exponent = fixed::exponent(settings.rate, span);
        if exponent >= SHORTEST {
            self.level = sample + fixed::shrink(self.level - sample, exponent);
            self.at = now;
        }
    }

    /// An attempt failed after `took`. Call this for what speaks against the endpoint; an
    /// attempt that was abandoned says nothing.
    pub fn failed(&mut self, now: Time, took: Duration, settings: &Settings) {
        let span = now.as_nanos().saturating_sub(self.at.as_nanos());
        let took = nanos(took).min(LONGEST);
        if self.level == 0 {
            self.level = took.max(settings.failure_penalty) << FRACTION;
            self.at = self.at.max(now);
            return;
        }
        let known = self.level >> FRACTION;
        let raised = known.saturating_mul(u64::from(settings.failure_factor)).min(CEILING);
        let counts = raised.max(settings.failure_penalty).min(LONGEST) << FRACTION;
        let peak = took << FRACTION > self.level;
        self.level = self.level.max(took << FRACTION);
        let exponent = fixed::exponent(settings.rate, span);
        if counts > self.level && exponent >= SHORTEST {
            self.level = counts - fixed::shrink(counts - self.level, exponent);
        }
        if peak || exponent >= SHORTEST {
            self.at = self.at.max(now);
        }
    }

    /// What one more attempt costs, in nanoseconds, while `outstanding` are out: comparable
    /// between endpoints. Never less with more outstanding, never more as time passes.
    #[must_use]
    #[inline]
    pub fn cost(&self, now: Time, outstanding: u32, settings: &Settings) -> u64 {
        let out = u64::from(outstanding);
        if self.level == 0 {
            return if out == 0 { 0 } else { UNKNOWN + out };
        }
        let span = now.as_nanos().saturating_sub(self.at.as_nanos());
        let span = if out == 0 { span } else { span >> BUSY_SHIFT };
        let level = if span < settings.fresh {
            self.level
        } else {
            fixed::fade(self.level, settings.rate, span)
        };
        (level >> FRACTION).max(1).saturating_mul(out + 1)
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn span(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn known(at: u64, took: u64) -> PeakEwma {
        let mut ewma = PeakEwma::new(Time::ZERO);
        ewma.answered(ms(at), span(took), &Settings::default());
        ewma
    }

    #[test]
    fn sixteen_bytes() {
        assert_eq!(size_of::<PeakEwma>(), 16);
    }

    #[test]
    fn first_use_as_in_finagle() {
        let settings = Settings::default();
        let fresh = PeakEwma::new(ms(0));
        assert_eq!(fresh.cost(ms(9), 0, &settings), 0);
        // One attempt out: dearer than the slowest known endpoint, and more out dearer still.
        let slow = known(0, 60_000);
        assert!(fresh.cost(ms(9), 1, &settings) > slow.cost(ms(9), 1, &settings));
        assert!(fresh.cost(ms(9), 2, &settings) > fresh.cost(ms(9), 1, &settings));
    }

    #[test]
    fn a_peak_is_forgotten_by_e_in_one_time_constant() {
        let settings = Settings::default();
        let ewma = known(0, 1_000);
        let cost = |at| ewma.cost(ms(at), 0, &settings) / MS;
        assert_eq!(cost(0), 1_000);
        assert_eq!(cost(10_000), 367); // 1/e
        assert_eq!(cost(20_000), 135);
        let mut answered = ewma;
        answered.answered(ms(10_000), span(100), &settings);
        // 100 + 900 / e
        assert_eq!(answered.estimate().unwrap().as_millis(), 431);
    }

    #[test]
    fn an_endpoint_that_answers_nothing_does_not_grow_attractive() {
        // Finagle: 1 s of latency reads as 50 ms after 30 s of silence, and five attempts out
        // cost no more than one at an endpoint with 300 ms.
        let settings = Settings::default();
        let hung = known(0, 1_000);
        assert!(hung.cost(ms(30_000), 0, &settings) < 51 * MS, "idle: worth one attempt");
        assert!(hung.cost(ms(30_000), 1, &settings) > 2 * 680 * MS, "then not a second one");
    }

    #[test]
    fn a_fast_failure_is_not_attractive() {
        let settings = Settings::default();
        let good = known(0, 20);
        // Unknown, refuses in 100 µs.
        let mut dead = PeakEwma::new(ms(0));
        dead.failed(ms(0), Duration::from_micros(100), &settings);
        assert_eq!(dead.cost(ms(0), 0, &settings), 1_000 * MS);
        assert!(dead.cost(ms(30_000), 0, &settings) > good.cost(ms(0), 1, &settings));
        // Known and good until now, then refusing in 100 µs: whatever the rate, after 50 ms it
        // costs 5 ms more, after a second 94.
        for step in [1, 10, 50] {
            let mut dying = good;
            let mut costs = Vec::new();
            for at in (1..=1_000).filter(|at| at % step == 0) {
                dying.failed(ms(at), Duration::from_micros(100), &settings);
                if at == 50 || at == 1_000 {
                    costs.push(dying.cost(ms(at), 0, &settings) / MS);
                }
            }
            assert_eq!(costs, [24, 113]);
        }
        // One failure in a hundred, 100 or 10 000 calls a second: 10 ms more.
        for step in [100_000, 10_000_000] {
            let mut flaky = good;
            for n in 1..=60_000 * MS / step {
                let at = Time::from_nanos(n * step);
                match n % 100 {
                    0 => flaky.failed(at, span(1), &settings),
                    _ => flaky.answered(at, span(20), &settings),
                }
            }
            let cost = flaky.cost(ms(60_000), 0, &settings) / MS;
            assert!((28..=32).contains(&cost), "{cost}");
        }
        // A slow service: the factor keeps a failure worse than an answer.
        let mut slow = known(0, 5_000);
        slow.failed(ms(10_000), span(1), &settings);
        assert_eq!(slow.cost(ms(10_000), 0, &settings) / MS, 14_481); // 5 + 15 (1 - 1/e) s
        // A long idle pause does not turn a failure into a recommendation.
        let mut late = good;
        late.failed(ms(600_000), Duration::from_micros(100), &settings);
        assert_eq!(late.cost(ms(600_000), 0, &settings), 1_000 * MS);
        // Nor does a failure lower what was known.
        let mut slow = known(0, 5_000);
        slow.failed(ms(0), span(1), &settings);
        assert_eq!(slow.cost(ms(0), 0, &settings), 5_000 * MS);
    }

    #[test]
    fn frequent_answers_decay_as_much_as_rare_ones() {
        // 1 s after a peak of 1 s: once per 100 ns or once per ms, the estimate is the same.
        let settings = Settings::default();
        let fade = |step: u64| {
            let mut ewma = known(0, 1_000);
            for n in 1..=1_000 * MS / step {
                ewma.answered(Time::from_nanos(n * step), span(10), &settings);
            }
            ewma.estimate().unwrap().as_micros()
        };
        let (often, seldom) = (fade(100), fade(MS));
        // 10 + 990 × e^-0.1 ms.
        assert!(seldom.abs_diff(905_789) < 3, "{seldom}");
        assert!(often.abs_diff(905_789) < 2_000, "{often}");
        // A constant of a minute: 9 ns are far too short to show, a million of them are not.
        let config = BalanceConfig { decay: span(60_000), ..BalanceConfig::default() };
        let settings = Settings::compile(&config);
        let mut ewma = known(0, 1_000);
        for n in 1..=1_000_000 {
            ewma.answered(Time::from_nanos(n * 9), span(10), &settings);
        }
        let lost = 1_000_000_000 - ewma.estimate().unwrap().as_nanos();
        assert!(lost.abs_diff(148_489) < 3_000, "{lost}"); // 990 ms × (1 - e^-0.00015)
    }

    #[test]
    fn bad_input_is_survived() {
        for nanos in [0, 1, u64::MAX] {
            let settings = Settings {
                rate: nanos,
                fresh: nanos,
                failure_factor: u32::try_from(nanos).unwrap_or(u32::MAX),
                failure_penalty: nanos,
            };
            let mut ewma = PeakEwma::new(Time::NEVER);
            for now in [Time::NEVER, Time::ZERO, Time::from_nanos(1), Time::NEVER] {
                for took in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                    ewma.answered(now, took, &settings);
                    assert!(!ewma.is_unknown());
                    ewma.failed(now, took, &settings);
                    for out in [0, 1, u32::MAX] {
                        assert!(ewma.cost(now, out, &settings) > 0);
                        assert!(ewma.cost(Time::ZERO, out, &settings) > 0);
                    }
                }
            }
        }
    }

    proptest! {
        /// Against Finagle's formula in floating point.
        #[test]
        fn the_estimate_is_the_published_formula(
            tau_ms in 1_u64..600_000,
            script in proptest::collection::vec((1_u64..20_000_000_000, 1_000_u64..1 << 36), 1..60),
        ) {
            let config = BalanceConfig { decay: span(tau_ms), ..BalanceConfig::default() };
            let settings = Settings::compile(&config);
            let (tau, mut now) = ((tau_ms * MS) as f64, 0_u64);
            let mut ewma = PeakEwma::new(Time::ZERO);
            let mut model = 0.0_f64;
            for (gap, took) in script {
                now += gap;
                let rtt = took as f64;
                let w = (-(gap as f64) / tau).exp();
                model = if rtt > model { rtt } else { model * w + rtt * (1.0 - w) };
                ewma.answered(Time::from_nanos(now), Duration::from_nanos(took), &settings);
                let got = ewma.cost(Time::from_nanos(now), 0, &settings) as f64;
                prop_assert!((got - model).abs() <= model * 3e-6 + 2.0, "{} {}", got, model);
            }
        }

        #[test]
        fn cost_orders_by_work_and_fades(
            took: u64, a: u64, b: u64, out in 0_u32..1_000_000, more in 0_u32..1_000_000,
        ) {
            let settings = Settings::default();
            let mut ewma = PeakEwma::new(Time::ZERO);
            ewma.answered(Time::ZERO, Duration::from_nanos(took), &settings);
            let (a, b) = (Time::from_nanos(a.min(b)), Time::from_nanos(a.max(b)));
            prop_assert!(ewma.cost(a, out, &settings) <= ewma.cost(a, out + more, &settings));
            prop_assert!(ewma.cost(a, out, &settings) >= ewma.cost(b, out, &settings));
            prop_assert!(ewma.cost(b, out, &settings) > 0);
        }

        #[test]
        fn a_failure_never_lowers_the_cost(
            took in 0_u64..1 << 50, failed in 0_u64..1 << 50, gap: u64, out in 0_u32..1_000_000,
        ) {
            let settings = Settings::default();
            let mut ewma = PeakEwma::new(Time::ZERO);
            ewma.answered(Time::ZERO, Duration::from_nanos(took), &settings);
            let now = Time::from_nanos(gap);
            let before = ewma;
            ewma.failed(now, Duration::from_nanos(failed), &settings);
            prop_assert!(ewma.cost(now, out, &settings) >= before.cost(Time::ZERO, out, &settings));
        }
    }
}
