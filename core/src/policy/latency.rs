//! Observed latency of a service: a histogram that forgets.
//!
//! Hedging and adaptive timeouts ask one question, "how long do all but a few calls take?", and a
//! mean cannot answer it. The histogram is log-linear as in HdrHistogram: eight buckets per power
//! of two between 1 µs and 68.7 s, so an answer is at most 12.5 % (or 1 µs) too long and never too
//! short. Too long is the safe side: a hedge goes out for at most the share of calls it was
//! configured for, and a timeout cuts off at most the share it may.
//!
//! It forgets by halves as gRPC's outlier detection (A50) swaps buckets: one half of the window
//! is filled while the one before is still read. A half that has seen 65 535 calls is full and
//! ends early, so 16-bit counters cannot overflow and no count is ever scaled; under such load the
//! window is shorter than configured and still holds more calls than a percentile needs.
//!
//! Differs from what others do: no thread, no timer, no decay factor to tune, 800 bytes. It is
//! switched off by not making one; who reads it is off by default.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::field::{At, at_least_one};
use crate::config::{ConfigError, LatencyConfig};
use crate::time::{Time, nanos};

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 3;
/// The smallest bucket is 2¹⁰ ns wide.
const UNIT_BITS: u32 = 10;
/// What takes 2³⁶ ns (68.7 s) or longer counts as just that.
const TOP_BITS: u32 = 36;
const BUCKETS: usize = ((TOP_BITS - UNIT_BITS - SUB_BITS + 1) as usize) << SUB_BITS;
/// A reader looks again after this many samples at the latest.
const REFRESH: u64 = 64;

/// The compiled [`LatencyConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Half of the window.
    half: Duration,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// A window outside 1 s–1 h.
    pub fn of(config: &LatencyConfig, path: &str) -> Result<Settings, ConfigError> {
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        At(path).within("window", config.window, second..=hour)?;
        Ok(Settings::compile(config))
    }

    fn compile(config: &LatencyConfig) -> Settings {
        Settings { half: Duration::from_nanos(at_least_one(config.window / 2)) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&LatencyConfig::default())
    }
}

/// The bucket of a span of `nanos`.
#[allow(clippy::cast_possible_truncation)] // below BUCKETS
fn bucket(nanos: u64) -> usize {
    let units = nanos.min((1 << TOP_BITS) - 1) >> UNIT_BITS;
    // The first two groups are one unit wide; from there the width doubles with each group.
    let shift = (units | 1 << SUB_BITS).ilog2() - SUB_BITS;
    ((shift << SUB_BITS) as usize) + (units >> shift) as usize
}

/// Where `bucket` ends, in nanoseconds: just above everything in it.
fn end_of(bucket: usize) -> u64 {
    let group = (bucket >> SUB_BITS).saturating_sub(1);
    let within = (bucket - (group << SUB_BITS)) as u64;
    (within + 1) << group << UNIT_BITS
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Half {
    #[serde(serialize_with = "write_sparse", deserialize_with = "read_sparse")]
    counts: [u16; BUCKETS],
    total: u16,
}

const EMPTY: Half = Half { counts: [0; BUCKETS], total: 0 };

/// How long the calls of a service took, over the last half to whole window. 800 bytes.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::policy::latency::{Histogram, Settings};
///
/// let settings = Settings::default();
/// let mut seen = Histogram::new(Time::ZERO, &settings);
/// for ms in 1..=100 {
///     seen.record(Time::from_millis(ms), Duration::from_millis(ms), &settings);
/// }
/// let p95 = seen.percentile(950).unwrap();
/// assert!(p95 >= Duration::from_millis(95) && p95 <= Duration::from_millis(107));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Histogram {
    present: Half,
    before: Half,
    /// When `present` becomes `before`.
    until: Time,
    /// Moves with every sample, and by [`REFRESH`] with every turn.
    stamp: u64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(now: Time, settings: &Settings) -> Histogram {
        Histogram { present: EMPTY, before: EMPTY, until: now.plus(settings.half), stamp: 0 }
    }

    /// Counts a call that took `took`. One that was given up counts with the time it was given:
    /// leaving it out would make a service that slows down look fast.
    pub fn record(&mut self, now: Time, took: Duration, settings: &Settings) {
        self.advance(now, settings);
        if self.present.total == u16::MAX {
            self.turn(now, settings);
        }
        let count = &mut self.present.counts[bucket(nanos(took))];
        *count = count.saturating_add(1);
        self.present.total = self.present.total.saturating_add(1);
        self.stamp = self.stamp.wrapping_add(1);
    }

    /// Forgets what is older than the window. [`Histogram::record`] does this too; call it before
    /// reading if calls may have stopped.
    pub fn advance(&mut self, now: Time, settings: &Settings) {
        if now < self.until || self.until == Time::NEVER {
            return;
        }
        if now >= self.until.plus(settings.half) {
            self.present = EMPTY; // it ended half a window ago and more
        }
        self.turn(now, settings);
    }

    fn turn(&mut self, now: Time, settings: &Settings) {
        self.before = std::mem::replace(&mut self.present, EMPTY);
        self.until = now.plus(settings.half);
        self.stamp = self.stamp.wrapping_add(REFRESH);
    }

    /// Samples in the window, at most 131 070.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::from(self.present.total) + u32::from(self.before.total)
    }

    /// What at least `permille` thousandths of the samples did not exceed; `None` without samples.
    /// At most 12.5 % or 1.024 µs above the exact value, never below; 68.7 s for anything longer.
    ///
    /// Scans 192 buckets; a reader that asks for every call uses a [`Quantile`].
    #[must_use]
    pub fn percentile(&self, permille: u16) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (count * u32::from(permille.min(1_000))).div_ceil(1_000).max(1);
        // From the top, because the percentiles that are asked for are there.
        let mut longer = count - rank;
        for index in (0..BUCKETS).rev() {
            let here = u32::from(self.present.counts[index]) + u32::from(self.before.counts[index]);
            if here > longer {
                return Some(Duration::from_nanos(end_of(index)));
            }
            longer -= here;
        }
        None
    }

    /// Takes over a new window length. Everything counted survives; a half that should have
    /// ended by the new length ends at the next sample.
    pub fn retune(&mut self, now: Time, settings: &Settings) {
        self.until = self.until.min(now.plus(settings.half));
    }

    /// Samples after which a reader should look again: 1/16 of the window, 1–64.
    fn patience(&self) -> u64 {
        (u64::from(self.count()) >> 4).clamp(1, REFRESH)
    }
}

/// One percentile of a [`Histogram`], remembered: it is computed again after 64 samples (fewer
/// while there are fewer than 1 024 in the window) and when the window turns, not for every call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quantile {
    seen: u64,
    permille: u16,
    value: Option<Duration>,
}

impl Quantile {
    /// The percentile, at most 64 samples old.
    #[must_use]
    pub fn read(&mut self, histogram: &Histogram, permille: u16) -> Option<Duration> {
        let fresh = histogram.stamp.wrapping_sub(self.seen) < histogram.patience();
        if !fresh || self.value.is_none() || self.permille != permille {
            let value = histogram.percentile(permille);
            *self = Quantile { seen: histogram.stamp, permille, value };
        }
        self.value
    }
}

/// Only the buckets in use, as pairs: a snapshot of a quiet service stays small.
fn write_sparse<S: Serializer>(counts: &[u16; BUCKETS], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(counts.iter().enumerate().filter(|(_, count)| **count > 0))
}

fn read_sparse<'de, D: Deserializer<'de>>(from: D) -> Result<[u16; BUCKETS], D::Error> {
    let mut counts = [0; BUCKETS];
    for (index, count) in Vec::<(usize, u16)>::deserialize(from)? {
        let place = counts.get_mut(index);
        *place.ok_or_else(|| serde::de::Error::custom("no such latency bucket"))? = count;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::parse_duration;

    fn settings(window: &str) -> Settings {
        let window = parse_duration(window).unwrap();
        Settings::of(&LatencyConfig { window }, "latency").unwrap()
    }

    fn exact(sorted: &[u64], permille: u16) -> u64 {
        let rank = (sorted.len() * usize::from(permille)).div_ceil(1_000).max(1);
        sorted[rank - 1]
    }

    #[test]
    fn buckets_meet_without_gap_and_stay_within_their_error() {
        assert_eq!(BUCKETS, 192);
        assert_eq!((bucket(0), bucket(1_023), bucket(1_024), bucket(u64::MAX)), (0, 0, 1, 191));
        for index in 0..BUCKETS {
            let end = end_of(index);
            assert_eq!(bucket(end - 1), index);
            let start = if index == 0 { 0 } else { end_of(index - 1) };
            assert_eq!(bucket(start), index);
            assert!(end - start <= (start / 8).max(1_024), "bucket {index}: {start}–{end}");
        }
        assert_eq!(end_of(191), 1 << TOP_BITS);
        assert!(size_of::<Histogram>() <= 800, "{}", size_of::<Histogram>());
        assert!(size_of::<Quantile>() <= 40);
    }

    #[test]
    fn it_forgets_by_halves() {
        let settings = settings("20s");
        let ms = Duration::from_millis;
        let mut seen = Histogram::new(Time::ZERO, &settings);
        seen.record(Time::from_millis(9_999), ms(500), &settings);
        seen.record(Time::from_millis(10_000), ms(5), &settings);
        assert_eq!(seen.count(), 2);
        seen.advance(Time::from_millis(19_999), &settings);
        assert_eq!(seen.count(), 2);
        seen.advance(Time::from_millis(20_000), &settings);
        assert_eq!(seen.count(), 1, "the first half is gone");
        assert!(seen.percentile(999) < Some(ms(6)));
        // A pause of a window and more leaves nothing.
        seen.record(Time::from_millis(20_001), ms(5), &settings);
        seen.advance(Time::from_millis(60_000), &settings);
        assert_eq!((seen.count(), seen.percentile(500)), (0, None));
    }

    #[test]
    fn a_turn_of_the_window_is_seen_at_once() {
        let settings = settings("20s");
        let mut seen = Histogram::new(Time::ZERO, &settings);
        for (at, took) in [(0, 300), (10_000, 5)] {
            for _ in 0..2_000 {
                seen.record(Time::from_millis(at), Duration::from_millis(took), &settings);
            }
        }
        let mut quantile = Quantile::default();
        assert!(quantile.read(&seen, 950) >= Some(Duration::from_millis(300)));
        seen.advance(Time::from_millis(20_000), &settings);
        assert!(quantile.read(&seen, 950) < Some(Duration::from_millis(6)));
    }

    #[test]
    fn a_clock_at_its_end_still_counts() {
        let settings = Settings::default();
        let mut seen = Histogram::new(Time::ZERO, &settings);
        (0..9).for_each(|_| seen.record(Time::NEVER, Duration::MAX, &settings));
        assert_eq!(seen.count(), 9);
    }

    #[test]
    fn a_full_half_ends_early_and_nothing_saturates() {
        let settings = settings("1h");
        let mut seen = Histogram::new(Time::ZERO, &settings);
        for n in 0..200_000_u32 {
            let took = if n % 100 == 0 { 900 } else { 3 };
            seen.record(Time::ZERO, Duration::from_millis(took), &settings);
        }
        assert!(seen.count() >= 65_535 && seen.count() <= 131_070, "{}", seen.count());
        assert!(seen.percentile(980) < Some(Duration::from_millis(4)));
        assert!(seen.percentile(995) >= Some(Duration::from_millis(900)));
    }

    #[test]
    fn a_new_window_length_keeps_the_samples() {
        let (long, short) = (settings("1h"), settings("2s"));
        let mut seen = Histogram::new(Time::ZERO, &long);
        seen.record(Time::ZERO, Duration::from_millis(1), &long);
        seen.retune(Time::ZERO, &short);
        assert_eq!(seen.count(), 1);
        seen.advance(Time::from_millis(1_500), &short);
        assert_eq!(seen.count(), 1, "in the half before");
        seen.advance(Time::from_millis(2_500), &short);
        assert_eq!(seen.count(), 0);
    }

    #[test]
    fn case_x_09_windows_out_of_range_are_refused() {
        for window in [0, 1, 999_999_999, 3_600_000_000_001, u64::MAX] {
            let config = LatencyConfig { window: Duration::from_nanos(window) };
            assert!(Settings::of(&config, "latency").is_err(), "{window}");
            let _ = Settings::compile(&config);
        }
        assert_eq!(Settings::of(&LatencyConfig::default(), "x"), Ok(Settings::default()));
    }

    #[test]
    fn snapshots_are_small_and_checked() {
        let settings = Settings::default();
        let mut seen = Histogram::new(Time::ZERO, &settings);
        seen.record(Time::ZERO, Duration::from_millis(7), &settings);
        let text = serde_json::to_string(&seen).unwrap();
        assert!(text.len() < 150, "{text}");
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), seen);
        let strange = text.replacen("[[", "[[999,1],[", 1);
        assert!(serde_json::from_str::<Histogram>(&strange).is_err());
    }

    proptest! {
        /// The model sorts all samples.
        #[test]
        fn close_to_the_exact_percentile_and_never_below(
            samples in proptest::collection::vec(prop_oneof![0_u64..1 << 22, 0_u64..1 << 36], 1..400),
            permille in 0_u16..=1_000,
        ) {
            let settings = Settings::default();
            let mut seen = Histogram::new(Time::ZERO, &settings);
            samples.iter().for_each(|n| seen.record(Time::ZERO, Duration::from_nanos(*n), &settings));
            let mut sorted = samples;
            sorted.sort_unstable();
            let exact = exact(&sorted, permille);
            let got = nanos(seen.percentile(permille).unwrap());
            prop_assert!(got > exact, "{got} for {exact}");
            prop_assert!(got <= exact + (exact / 8).max(1_024), "{got} for {exact}");
        }

        /// The model keeps every sample with the number of its half.
        #[test]
        fn holds_what_the_last_two_halves_saw(
            script in proptest::collection::vec((0_u64..8_000, 0_u64..1 << 33), 1..200),
        ) {
            let settings = settings("10s");
            let mut seen = Histogram::new(Time::ZERO, &settings);
            let (mut now, mut half, mut ends) = (0_u64, 0_u64, 5_000_u64);
            let mut model: Vec<(u64, u64)> = vec![];
            for (ms, took) in script {
                now += ms;
                if now >= ends {
                    half += if now >= ends + 5_000 { 2 } else { 1 };
                    ends = now + 5_000;
                }
                seen.record(Time::from_millis(now), Duration::from_nanos(took), &settings);
                model.push((half, took));
                let mut live: Vec<u64> =
                    model.iter().filter(|(of, _)| of + 1 >= half).map(|(_, took)| *took).collect();
                live.sort_unstable();
                prop_assert_eq!(seen.count() as usize, live.len());
                let exact = exact(&live, 900);
                let got = nanos(seen.percentile(900).unwrap());
                prop_assert!(got > exact && got <= exact + (exact / 8).max(1_024));
            }
        }

        /// A remembered percentile is one that was true at most 64 samples ago.
        #[test]
        fn the_remembered_percentile_is_never_old(
            script in proptest::collection::vec((0_u64..200, 0_u64..1 << 30), 1..600), every in 1_usize..90,
        ) {
            let settings = settings("10s");
            let mut seen = Histogram::new(Time::ZERO, &settings);
            let mut quantile = Quantile::default();
            let (mut now, mut past) = (Time::ZERO, vec![]);
            for (n, (ms, took)) in script.into_iter().enumerate() {
                now = now.plus(Duration::from_millis(ms));
                seen.record(now, Duration::from_nanos(took), &settings);
                past.push(seen.percentile(950));
                if n % every == 0 {
                    let got = quantile.read(&seen, 950);
                    let allowed = seen.patience() as usize;
                    prop_assert!(past.iter().rev().take(allowed).any(|p| *p == got));
                }
            }
        }

        #[test]
        fn any_clock_and_any_span_is_survived(
            script in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..50), jump in any::<bool>(),
        ) {
            let settings = Settings::default();
            let mut seen = Histogram::new(Time::ZERO, &settings);
            for (at, took) in script {
                let at = if jump { Time::NEVER } else { Time::from_nanos(at) };
                seen.record(at, Duration::from_nanos(took), &settings);
                seen.record(Time::ZERO, Duration::MAX, &settings);
                prop_assert!(seen.count() > 0);
                let _ = seen.percentile(u16::MAX);
            }
        }
    }
}
