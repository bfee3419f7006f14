//! Both windows against models that keep every result, through changes of shape.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Every result with its time. After a change of shape, a result stands at the beginning of the
/// bucket it was in: that is all a bucket remembers.
struct Model {
    shape: TimeShape,
    results: Vec<(u64, bool, bool)>,
    latest: u64,
}

impl Model {
    fn add(&mut self, now: u64, failed: bool, slow: bool) {
        self.latest = self.latest.max(now);
        self.results.push((self.latest, failed, slow));
    }
    fn reshape(&mut self, now: u64, shape: TimeShape) {
        self.latest = self.latest.max(now);
        self.drop_old();
        let span = self.shape.bucket_nanos;
        for at in self.results.iter_mut().map(|(at, ..)| at).chain([&mut self.latest]) {
            *at = *at / span * span;
        }
        self.latest = self.latest.max(now);
        self.shape = shape;
    }
    fn drop_old(&mut self) {
        let TimeShape { bucket_nanos: span, buckets } = self.shape;
        let present = self.latest / span;
        self.results.retain(|(at, ..)| at / span + u64::from(buckets) > present);
    }
    fn tally(&mut self, now: u64) -> Tally {
        self.latest = self.latest.max(now);
        self.drop_old();
        sum(self.results.iter().map(|(_, failed, slow)| (*failed, *slow)))
    }
}

fn sum(results: impl Iterator<Item = (bool, bool)>) -> Tally {
    results.fold(Tally::default(), |mut tally, (failed, slow)| {
        tally.add(failed, slow);
        tally
    })
}

fn shapes() -> impl Strategy<Value = TimeShape> {
    (1_u64..40, 1_u32..8).prop_map(|(bucket_nanos, buckets)| TimeShape { bucket_nanos, buckets })
}

proptest! {
    /// The clock stands, runs, jumps and goes back; shapes change.
    #[test]
    fn c_8_time_window_equals_every_event_kept(
        first in shapes(), start in 0_u64..1_000,
        script in prop::collection::vec(
            (0_u8..8, prop_oneof![0_u64..20, 0_u64..400], any::<bool>(), any::<bool>(), shapes()), 1..150,
        ),
    ) {
        let mut window = TimeWindow::new(start, first);
        let mut model = Model { shape: first, results: Vec::new(), latest: start };
        let mut now = start;
        for (action, step, failed, slow, shape) in script {
            now += step;
            let seen = if action == 0 { now.saturating_sub(2 * step) } else { now };
            if action == 1 {
                window = window.reshaped(seen, shape);
                model.reshape(seen, shape);
                prop_assert_eq!(window.shape(), shape);
            } else {
                window.add(seen, failed, slow);
                model.add(seen, failed, slow);
            }
            prop_assert_eq!(window.total, model.tally(0), "at {}", seen);
            let mut later = window.clone();
            later.rotate(seen + step);
            let mut model = Model { results: model.results.clone(), ..model };
            prop_assert_eq!(later.total, model.tally(seen + step));
        }
    }

    /// Where the new bucket is a multiple of the old one, nothing is rounded: the window is as if
    /// it had always had its new shape, as far back as the old one reached.
    #[test]
    fn c_8_coarser_buckets_take_over_exactly(
        span in 1_u64..20, times in 1_u64..5, buckets in 1_u32..6, more in 0_u32..20,
        steps in prop::collection::vec((0_u64..30, any::<bool>(), any::<bool>()), 1..80),
    ) {
        let new = TimeShape { bucket_nanos: span * times, buckets };
        // The old window reaches at least as far back as the new one.
        let old = TimeShape { bucket_nanos: span, buckets: buckets * u32::try_from(times).unwrap() + more };
        let (mut changed, mut always) = (TimeWindow::new(0, old), TimeWindow::new(0, new));
        let mut now = 0;
        for (step, failed, slow) in steps {
            now += step;
            changed.add(now, failed, slow);
            always.add(now, failed, slow);
        }
        let mut changed = changed.reshaped(now, new);
        for later in 0..=u64::from(buckets) * span * times {
            changed.rotate(now + later);
            always.rotate(now + later);
            prop_assert_eq!(changed.total, always.total);
        }
    }

    #[test]
    fn c_8_count_window_keeps_the_newest(
        first in 1_u32..100,
        script in prop::collection::vec((0_u8..12, any::<bool>(), any::<bool>(), 1_u32..100), 1..400),
    ) {
        let mut window = CountWindow::new(first);
        let (mut size, mut model) = (first, VecDeque::new());
        for (action, failed, slow, resize) in script {
            if action == 0 {
                window = window.resized(resize);
                size = resize;
            } else {
                window.add(failed, slow);
                model.push_back((failed, slow));
            }
            while model.len() > size as usize {
                model.pop_front();
            }
            prop_assert_eq!(window.total, sum(model.iter().copied()));
        }
    }

    /// `>=` on exact fractions, against 128-bit arithmetic.
    #[test]
    fn rates_are_exact(calls in 1_u32.., part: u32, ppm in 1_u32..=1_000_000) {
        let part = part % calls.saturating_add(1).max(1);
        let reached = u128::from(part) * 1_000_000 >= u128::from(ppm) * u128::from(calls);
        let tally = Tally { calls, failures: part, slow: 0 };
        prop_assert_eq!(tally.reaches(part, Some(ppm)), part > 0 && reached);
        prop_assert!(!tally.reaches(part, None));
    }
}

#[test]
fn the_last_bucket_there_is_never_ends() {
    let shape = TimeShape { bucket_nanos: 1_000, buckets: 10 };
    let mut window = TimeWindow::new(u64::MAX - 5, shape);
    for now in [u64::MAX - 5, u64::MAX, 0, u64::MAX] {
        window.add(now, true, false);
    }
    assert_eq!(window.total.failures, 4);
    assert_eq!(window.reshaped(u64::MAX, shape).total.failures, 4);
    let mut window = TimeWindow::new(0, shape);
    window.add(0, true, false);
    window.add(u64::MAX, false, false);
    assert_eq!((window.total.calls, window.total.failures), (1, 0));
}
