//! Durations counted in fixed buckets: plain integers, no allocation, a few instructions to record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::nanos;

/// Most bounds; the bucket above the last one has none.
pub const MOST: usize = 15;

/// The upper bounds of the buckets in nanoseconds, rising. Fewer than [`MOST`] are filled up with
/// the largest number, which no duration exceeds: finding a bucket is then four comparisons,
/// however many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds([u64; MOST]);

impl Default for Bounds {
    /// Those that clients of Prometheus use: 5 ms to 10 s in 14 steps.
    fn default() -> Self {
        let ms = [5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000];
        Bounds::new(&ms.map(Duration::from_millis))
    }
}

impl Bounds {
    /// The bounds `spans`, which rise; beyond [`MOST`] they are left out.
    #[must_use]
    pub fn new(spans: &[Duration]) -> Bounds {
        let mut bounds = [u64::MAX; MOST];
        for (bound, span) in bounds.iter_mut().zip(spans) {
            *bound = nanos(*span);
        }
        Bounds(bounds)
    }

    /// The bounds that are there, in nanoseconds.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied().filter(|bound| *bound != u64::MAX)
    }

    /// The bucket of a duration: the first whose bound it does not exceed.
    #[inline]
    fn bucket(&self, took: u64) -> usize {
        let bounds = &self.0;
        let mut at = if bounds[7] < took { 8 } else { 0 };
        if bounds[at + 3] < took {
            at += 4;
        }
        if bounds[at + 1] < took {
            at += 2;
        }
        if bounds[at] < took {
            at += 1;
        }
        at
    }
}

/// How many durations fell into each bucket, and what they come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Histogram {
    counts: [u64; MOST + 1],
    sum: u64,
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub fn record(&mut self, took: Duration, bounds: &Bounds) {
        let took = nanos(took);
        self.counts[bounds.bucket(took)] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// All that were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |all, count| all.saturating_add(*count))
    }

    /// What they come to, in nanoseconds.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many fell into each bucket; the last has no bound. Where there are fewer bounds than
    /// [`MOST`], what exceeds them is after the last bound.
    #[must_use]
    pub fn counts(&self) -> &[u64; MOST + 1] {
        &self.counts
    }

    /// Adds what another one has counted in the same buckets.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// What was counted since `before`. A histogram that counted less than before began anew: all
    /// of it is since then.
    #[must_use]
    pub fn since(&self, before: &Histogram) -> Histogram {
        let fewer = |(now, then): (&u64, &u64)| now < then;
        if self.sum < before.sum || self.counts.iter().zip(&before.counts).any(fewer) {
            return *self;
        }
        let mut counts = self.counts;
        for (count, then) in counts.iter_mut().zip(&before.counts) {
            *count -= then;
        }
        Histogram { counts, sum: self.sum - before.sum }
    }

    /// `count` durations that came to `sum` nanoseconds, all in the first bucket.
    #[must_use]
    pub(crate) fn at_once(count: u64) -> Histogram {
        let mut counts = [0; MOST + 1];
        counts[0] = count;
        Histogram { counts, sum: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_at_a_bound_is_within_it() {
        let bounds = Bounds::default();
        let mut seen = Histogram::default();
        seen.record(Duration::from_millis(5), &bounds);
        seen.record(Duration::from_nanos(5_000_001), &bounds);
        seen.record(Duration::from_secs(10), &bounds);
        seen.record(Duration::from_secs(11), &bounds);
        assert_eq!(
            (seen.counts[0], seen.counts[1], seen.counts[13], seen.counts[14]),
            (1, 1, 1, 1)
        );
        assert_eq!((seen.count(), seen.sum()), (4, 21_010_000_001 - 1 + 1));
    }

    proptest! {
        #[test]
        fn the_bucket_is_that_of_a_plain_search(
            mut spans in proptest::collection::btree_set(1_u64..1_000, 0..=MOST),
            took in 0_u64..1_100,
        ) {
            let list: Vec<Duration> = spans.iter().map(|n| Duration::from_nanos(*n)).collect();
            let plain = list.iter().take_while(|bound| nanos(**bound) < took).count();
            prop_assert_eq!(Bounds::new(&list).bucket(took), plain);
            spans.clear();
        }

        #[test]
        fn what_came_since_added_to_before_is_now(a in 0_u64..u64::MAX, b in 0_u64..1 << 40) {
            let bounds = Bounds::default();
            let mut before = Histogram::default();
            before.record(Duration::from_nanos(a / 2), &bounds);
            let mut now = before;
            now.record(Duration::from_nanos(b), &bounds);
            let mut sum = now.since(&before);
            sum.add(&before);
            prop_assert_eq!(sum, now);
            // One that began anew is all new.
            prop_assert_eq!(before.since(&now), before);
        }
    }
}
