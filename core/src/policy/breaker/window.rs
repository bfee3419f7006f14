//! The windows that rates are taken over: the last results, and the results of the last span.
//! Both keep running totals, so asking costs nothing, and both add in constant time: the time
//! window compares with the end of its present bucket and divides only when that has passed.

use serde::{Deserialize, Serialize};

use super::settings::{Settings, TimeShape};
use super::state::Trip;
use crate::time::Time;

/// Counted results. Saturating: four thousand million results in one window are "very many".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    /// Results.
    pub calls: u32,
    /// Failures among them.
    pub failures: u32,
    /// Slow ones among them, failed or not.
    pub slow: u32,
}

impl Tally {
    #[inline]
    pub(super) fn add(&mut self, failed: bool, slow: bool) {
        self.calls = self.calls.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(failed));
        self.slow = self.slow.saturating_add(u32::from(slow));
    }

    fn plus(self, other: Tally) -> Tally {
        Tally {
            calls: self.calls.saturating_add(other.calls),
            failures: self.failures.saturating_add(other.failures),
            slow: self.slow.saturating_add(other.slow),
        }
    }

    fn minus(self, other: Tally) -> Tally {
        Tally {
            calls: self.calls.saturating_sub(other.calls),
            failures: self.failures.saturating_sub(other.failures),
            slow: self.slow.saturating_sub(other.slow),
        }
    }

    /// Whether a rate is reached or exceeded; never below `minimum` results, where rates are
    /// unknown.
    #[inline]
    pub(super) fn reached(self, minimum: u32, settings: &Settings) -> bool {
        self.calls >= minimum
            && (self.reaches(self.failures, settings.failure_ppm)
                || self.reaches(self.slow, settings.slow_ppm))
    }

    /// Which one it is.
    pub(super) fn trip(self, minimum: u32, settings: &Settings) -> Option<Trip> {
        if !self.reached(minimum, settings) {
            None
        } else if self.reaches(self.failures, settings.failure_ppm) {
            Some(Trip::FailureRate { failures: self.failures, of: self.calls })
        } else {
            Some(Trip::SlowRate { slow: self.slow, of: self.calls })
        }
    }

    /// Whether `part` of all is `ppm` millionths or more, exactly.
    #[inline]
    fn reaches(self, part: u32, ppm: Option<u32>) -> bool {
        let whole = |ppm: u32| u64::from(ppm) * u64::from(self.calls);
        part > 0 && ppm.is_some_and(|ppm| u64::from(part) * 1_000_000 >= whole(ppm))
    }
}

/// The results of the last `buckets` × `span`, one bucket at a time.
///
/// Boundaries lie at multiples of `span` since the epoch. So two windows agree on them, and a
/// window whose span becomes a multiple of the old one can take its buckets over exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct TimeWindow {
    /// End of the present bucket; `u64::MAX` for the last one there is, which never ends.
    end: u64,
    span: u64,
    /// All that is in the window.
    total: Tally,
    /// What was in it when the present bucket began. The present bucket is the difference.
    before: Tally,
    /// The full buckets; `oldest` is the next to leave.
    full: Box<[Tally]>,
    oldest: u32,
}

impl TimeWindow {
    fn new(now: u64, shape: TimeShape) -> TimeWindow {
        let span = shape.bucket_nanos.max(1);
        // The bound is for settings that were made by hand.
        let full = shape.buckets.clamp(1, 1_000) as usize - 1;
        TimeWindow {
            end: (now / span).saturating_add(1).saturating_mul(span),
            span,
            total: Tally::default(),
            before: Tally::default(),
            full: vec![Tally::default(); full].into(),
            oldest: 0,
        }
    }

    fn shape(&self) -> TimeShape {
        let buckets = u32::try_from(self.full.len() + 1).unwrap_or(u32::MAX);
        TimeShape { bucket_nanos: self.span, buckets }
    }

    #[inline]
    fn add(&mut self, now: u64, failed: bool, slow: bool) {
        if now >= self.end {
            self.rotate(now);
        }
        self.total.add(failed, slow);
    }

    #[cold]
    #[inline(never)]
    fn rotate(&mut self, now: u64) {
        if self.end == u64::MAX || now < self.end {
            return;
        }
        let steps = (now - self.end) / self.span + 1;
        if steps > self.full.len() as u64 {
            self.clear();
        } else {
            for _ in 0..steps {
                let present = self.total.minus(self.before);
                let slot = &mut self.full[self.oldest as usize];
                self.total = self.total.minus(*slot);
                *slot = present;
                self.before = self.total;
                self.oldest += 1;
                if self.oldest as usize == self.full.len() {
                    self.oldest = 0;
                }
            }
        }
        self.end = self.end.saturating_add(steps.saturating_mul(self.span));
    }

    fn clear(&mut self) {
        (self.total, self.before) = (Tally::default(), Tally::default());
        self.full.fill(Tally::default());
        self.oldest = 0;
    }

    /// When the present bucket began.
    fn start(&self) -> u64 {
        if self.end == u64::MAX { u64::MAX / self.span * self.span } else { self.end - self.span }
    }

    /// The same results in another shape. A bucket goes over as a whole, to where it began: no
    /// result stays longer than the new window says, and where the new span is a multiple of the
    /// old one, all is exact.
    fn reshaped(&self, now: u64, shape: TimeShape) -> TimeWindow {
        let mut old = self.clone();
        old.rotate(now);
        let start = old.start();
        let mut new = TimeWindow::new(now.max(start), shape);
        let present = new.start() / new.span;
        let count = old.full.len();
        // Oldest first; the last one is the present bucket.
        for age in (0..=count as u64).rev() {
            let tally = match usize::try_from(age) {
                Ok(back @ 1..) => old.full[(old.oldest as usize + count - back) % count],
                _ => old.total.minus(old.before),
            };
            let Some(began) = start.checked_sub(age.saturating_mul(old.span)) else { continue };
            let Ok(back) = usize::try_from(present - began / new.span) else { continue };
            let size = new.full.len();
            if back > size {
                continue;
            }
            new.total = new.total.plus(tally);
            if back > 0 {
                new.before = new.before.plus(tally);
                let slot = &mut new.full[(new.oldest as usize + size - back) % size];
                *slot = slot.plus(tally);
            }
        }
        new
    }
}

/// The last `size` results, two bits each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct CountWindow {
    cells: Box<[u64]>,
    size: u32,
    /// Where the next result goes; once full, that is where the oldest stands.
    next: u32,
    total: Tally,
}

const PER_WORD: u32 = 32;

impl CountWindow {
    fn new(size: u32) -> CountWindow {
        // The upper bound is for settings that were made by hand.
        let size = size.clamp(1, 1_000_000);
        let cells = vec![0; size.div_ceil(PER_WORD) as usize].into();
        CountWindow { cells, size, next: 0, total: Tally::default() }
    }

    #[inline(never)] // keeps the common path, which has no count window, short
    fn judge(&mut self, failed: bool, slow: bool, settings: &Settings) -> bool {
        self.add(failed, slow);
        self.total.reached(settings.minimum_calls, settings)
    }

    fn add(&mut self, failed: bool, slow: bool) {
        let cell = &mut self.cells[(self.next / PER_WORD) as usize];
        let shift = self.next % PER_WORD * 2;
        if self.total.calls == self.size {
            let old = *cell >> shift;
            self.total.failures -= u32::from(old & 1 == 1);
            self.total.slow -= u32::from(old & 2 == 2);
            self.total.calls -= 1;
        }
        *cell = *cell & !(3 << shift) | u64::from(failed) << shift | u64::from(slow) << (shift + 1);
        self.total.add(failed, slow);
        self.next += 1;
        if self.next == self.size {
            self.next = 0;
        }
    }

    fn clear(&mut self) {
        self.cells.fill(0);
        (self.next, self.total) = (0, Tally::default());
    }

    /// The newest results, as many as fit.
    fn resized(&self, size: u32) -> CountWindow {
        let mut new = CountWindow::new(size);
        let held = self.total.calls;
        let first = if held == self.size { self.next } else { 0 };
        for n in held.saturating_sub(new.size)..held {
            let position = (first + n) % self.size;
            let cell = self.cells[(position / PER_WORD) as usize] >> (position % PER_WORD * 2);
            new.add(cell & 1 == 1, cell & 2 == 2);
        }
        new
    }
}

/// The windows of one breaker; none at all unless a rate needs one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Windows {
    time: Option<TimeWindow>,
    count: Option<Box<CountWindow>>,
}

impl Windows {
    pub(super) fn new(now: Time, settings: &Settings) -> Option<Box<Windows>> {
        Windows::reshaped(None, now, settings)
    }

    /// The windows that `settings` ask for, with what `old` knows.
    pub(super) fn reshaped(
        old: Option<&Windows>,
        now: Time,
        settings: &Settings,
    ) -> Option<Box<Windows>> {
        if settings.window.is_none() && settings.window_calls.is_none() {
            return None;
        }
        let now = now.as_nanos();
        let time = settings.window.map(|shape| match old.and_then(|old| old.time.as_ref()) {
            Some(old) => old.reshaped(now, shape),
            None => TimeWindow::new(now, shape),
        });
        let count =
            settings.window_calls.map(|size| match old.and_then(|old| old.count.as_ref()) {
                Some(old) => Box::new(old.resized(size)),
                None => Box::new(CountWindow::new(size)),
            });
        Some(Box::new(Windows { time, count }))
    }

    /// Whether these are the windows that `settings` ask for.
    pub(super) fn fit(windows: Option<&Windows>, settings: &Settings) -> bool {
        let time = windows.and_then(|windows| windows.time.as_ref()).map(TimeWindow::shape);
        let count = windows.and_then(|windows| windows.count.as_ref()).map(|count| count.size);
        (time, count) == (settings.window, settings.window_calls)
    }

    /// Counts a result and says whether a rate is reached.
    #[inline]
    pub(super) fn add(&mut self, now: Time, failed: bool, slow: bool, settings: &Settings) -> bool {
        let mut reached = false;
        if let Some(time) = &mut self.time {
            time.add(now.as_nanos(), failed, slow);
            reached = time.total.reached(settings.minimum_calls, settings);
        }
        if let Some(count) = &mut self.count {
            reached |= count.judge(failed, slow, settings);
        }
        reached
    }

    /// Which rate is reached, as of the last result.
    pub(super) fn trip(&self, settings: &Settings) -> Option<Trip> {
        let time = self.time.as_ref().map(|time| time.total);
        let tallies = time.into_iter().chain(self.by_count());
        tallies.filter_map(|tally| tally.trip(settings.minimum_calls, settings)).next()
    }

    pub(super) fn clear(&mut self) {
        if let Some(time) = &mut self.time {
            time.clear();
        }
        if let Some(count) = &mut self.count {
            count.clear();
        }
    }

    /// What is in the time window at `now`.
    pub(super) fn by_time(&self, now: Time) -> Option<Tally> {
        self.time.as_ref().map(|time| {
            let mut time = time.clone();
            time.rotate(now.as_nanos());
            time.total
        })
    }

    /// What is in the count window.
    pub(super) fn by_count(&self) -> Option<Tally> {
        self.count.as_ref().map(|count| count.total)
    }
}

#[cfg(test)]
impl Windows {
    /// What the windows of a breaker with `settings` take, beside the breaker.
    pub(super) fn bytes(settings: &Settings) -> usize {
        let full = settings.window.map_or(0, |shape| shape.buckets as usize - 1);
        size_of::<Windows>() + full * size_of::<Tally>()
    }
}

#[cfg(test)]
mod tests;
