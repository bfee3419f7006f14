//! Open-loop pacing: when each call of a load is meant to start, no matter
//! how the calls before it fare. Who makes the calls is not decided here.
//!
//! A closed loop (call, wait, call) slows down exactly when the server does
//! and so hides the waiting from the report; measuring latency from the
//! intended start instead keeps it visible.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A schedule of evenly spaced starts, to be shared among threads: each start
/// is given out once.
#[derive(Debug)]
pub struct Pace {
    rate: f64,
    total: u64,
    next: AtomicU64,
}

impl Pace {
    /// Starts at this rate for this long, the first at zero. A rate that is
    /// not a positive number gives an empty schedule.
    #[must_use]
    pub fn new(rate_per_s: f64, duration: Duration) -> Pace {
        let usable = rate_per_s.is_finite() && rate_per_s > 0.0;
        let total = if usable {
            // A float to integer cast saturates; the ceiling makes the last
            // start the last one before the end. The tolerance keeps
            // 10/s for 2 s at 20 starts whatever the rounding.
            (rate_per_s * duration.as_secs_f64() - 1e-9).ceil() as u64
        } else {
            0
        };
        Pace { rate: rate_per_s, total, next: AtomicU64::new(0) }
    }

    /// How many starts the whole schedule has.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next start as an offset from the beginning; `None` when all are
    /// given out.
    pub fn next(&self) -> Option<Duration> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= self.total {
            // Step back, so that asking for ever cannot wrap the counter.
            self.next.store(self.total, Ordering::Relaxed);
            return None;
        }
        Some(Duration::from_secs_f64(index as f64 / self.rate))
    }

    /// Works through the schedule on this thread: sleeps until each start is
    /// due and calls `work` with the intended offset. Several threads may run
    /// the same pace; a start that comes late is made at once, not skipped.
    pub fn run(&self, start: Instant, mut work: impl FnMut(Duration)) {
        for offset in self {
            let wait = offset.saturating_sub(start.elapsed());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            work(offset);
        }
    }
}

impl Iterator for &Pace {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Pace::next(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_even_and_end_before_the_end() {
        let pace = Pace::new(10.0, Duration::from_secs(2));
        let starts: Vec<Duration> = (&pace).collect();
        assert_eq!(starts.len(), 20);
        assert_eq!(starts[0], Duration::ZERO);
        assert_eq!(starts[19], Duration::from_millis(1900));
        assert_eq!(pace.next(), None);
        assert_eq!(pace.next(), None);
        let uneven = Pace::new(3.0, Duration::from_millis(1100));
        assert_eq!((&uneven).count(), 4);
    }

    #[test]
    fn useless_rates_give_nothing() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!((&Pace::new(rate, Duration::from_secs(1))).count(), 0);
        }
        assert_eq!((&Pace::new(5.0, Duration::ZERO)).count(), 0);
    }

    #[test]
    fn threads_share_each_start_once() {
        let pace = Pace::new(100_000.0, Duration::from_millis(100));
        let mut all: Vec<Duration> = thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (&pace).collect::<Vec<_>>())).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len() as u64, pace.total());
    }

    #[test]
    fn running_never_starts_early() {
        let start = Instant::now();
        let mut late = Vec::new();
        Pace::new(200.0, Duration::from_millis(50)).run(start, |offset| {
            late.push(start.elapsed().checked_sub(offset));
        });
        assert_eq!(late.len(), 10);
        assert!(late.iter().all(Option::is_some));
    }
}
