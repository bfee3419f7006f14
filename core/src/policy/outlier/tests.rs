//! Envoy's and gRPC's numbers, a naive reference in floating point, and what must hold for any
//! traffic, clock and settings.

use proptest::prelude::*;

use super::*;
use crate::config::OutlierConfig;

fn s(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

struct Bench {
    detector: Detector,
    endpoints: Vec<Outlier>,
    settings: Settings,
    rng: Pcg32,
}

impl Bench {
    fn new(endpoints: usize, change: impl FnOnce(&mut OutlierConfig)) -> Bench {
        let mut config = OutlierConfig::default();
        change(&mut config);
        let settings = Settings::of(&config, "o").unwrap();
        Bench {
            detector: Detector::new(s(0), &settings),
            endpoints: vec![Outlier::default(); endpoints],
            settings,
            rng: Pcg32::new(42, 0),
        }
    }

    fn record(&mut self, now: u64, index: usize, failed: bool) -> Option<Change> {
        let count = u32::try_from(self.endpoints.len()).unwrap();
        let endpoint = &mut self.endpoints[index];
        self.detector.record(s(now), endpoint, failed, count, &self.settings, &mut self.rng)
    }

    /// `requests` at every endpoint, of which so many fail.
    fn traffic(&mut self, now: u64, requests: u32, failed: &[u32]) {
        for (index, failed) in failed.iter().enumerate() {
            for n in 0..requests {
                let _ = self.record(now, index, n < *failed);
            }
        }
    }

    fn sweep(&mut self, now: u64) -> Vec<(usize, Change)> {
        let mut changes = vec![];
        let group = self.endpoints.as_mut_slice();
        let report = |index, change| changes.push((index, change));
        self.detector.sweep(s(now), group, &self.settings, &mut self.rng, report);
        changes
    }

    fn out(&self) -> Vec<usize> {
        (0..self.endpoints.len()).filter(|i| self.endpoints[*i].is_ejected()).collect()
    }
}

/// `BasicFlowSuccessRate` of Envoy's `outlier_detection_impl_test`: 5 hosts, 200 requests each,
/// one with 50 %; out at 10 s, still out at 19 999 ms, back at 50 001 ms.
#[test]
fn envoy_success_rate_flow() {
    let mut b = Bench::new(5, |_| ());
    b.traffic(0, 200, &[0, 0, 0, 0, 100]);
    assert_eq!(b.sweep(9), []);
    let numbers = RateNumbers {
        rate_ppm: 500_000,
        threshold_ppm: 520_000,
        mean_ppm: 900_000,
        deviation_ppm: 200_000,
    };
    let (reason, interval) = (Reason::SuccessRate(numbers), Duration::from_secs(30));
    let changes = b.sweep(10);
    assert_eq!(changes, [(4, Change::Ejected { reason, interval })]);
    assert_eq!(
        changes[0].1.to_string(),
        "ejected for 30s: success rate 50.0 % below 52.0 % (mean 90.0 %, deviation 20.0 %)"
    );
    assert_eq!((b.detector.ejected(), b.endpoints[4].ejected_until()), (1, Some(s(40))));
    assert_eq!((b.sweep(20), b.sweep(30)), (vec![], vec![]));
    assert_eq!(b.sweep(40), [(4, Change::Returned { ended: Ended::Served })]);
    assert_eq!(b.detector.ejected(), 0);
}

#[test]
fn too_few_requests_or_endpoints_say_nothing() {
    let mut b = Bench::new(5, |_| ());
    b.traffic(0, 99, &[0, 0, 0, 0, 50]);
    assert_eq!(b.sweep(10), []);
    let mut b = Bench::new(4, |_| ());
    b.traffic(0, 200, &[0, 0, 0, 100]);
    assert_eq!(b.sweep(10), []);
    // An interval is judged once, and only whole: 60 + 60 requests in two of them are not 120.
    let mut b = Bench::new(5, |_| ());
    b.traffic(0, 60, &[0, 0, 0, 0, 50]);
    let _ = b.sweep(10);
    b.traffic(10, 60, &[0, 0, 0, 0, 50]);
    assert_eq!(b.sweep(20), []);
}

/// §b.4: the share is compared before each ejection.
#[test]
fn thirty_percent_of_five_are_two_and_ten_of_three_are_one() {
    for (endpoints, most, out) in
        [(5, 30, 2), (3, 10, 1), (10, 10, 1), (11, 10, 2), (5, 0, 0), (5, 100, 5)]
    {
        let mut b = Bench::new(endpoints, |c| {
            (c.max_ejected_percent, c.consecutive_failures) = (most, 5);
        });
        let spared = (0..endpoints)
            .filter_map(|index| (0..5).filter_map(|_| b.record(1, index, true)).next())
            .filter(|change| matches!(change, Change::Spared { .. }))
            .count();
        assert_eq!((b.out().len(), spared), (out, endpoints - out), "{most} % of {endpoints}");
    }
}

#[test]
fn consecutive_failures_are_off_by_default_and_a_success_interrupts_them() {
    let mut b = Bench::new(5, |_| ());
    assert!((0..1_000).all(|_| b.record(0, 0, true).is_none()));
    let mut b = Bench::new(5, |c| c.consecutive_failures = 5);
    let run = [true, true, true, true, false, true, true, true, true, true];
    let changes: Vec<_> = run.iter().map(|failed| b.record(3, 0, *failed)).collect();
    assert!(changes[..9].iter().all(Option::is_none));
    let (reason, interval) = (Reason::Consecutive(5), Duration::from_secs(30));
    assert_eq!(changes[9], Some(Change::Ejected { reason, interval }));
    // Attempts that were on the way say nothing more.
    assert!((0..20).all(|_| b.record(3, 0, true).is_none()));
}

#[test]
fn failure_percentage_reports_by_default_and_ejects_when_enforced() {
    let mut b = Bench::new(5, |_| ());
    b.traffic(0, 60, &[51, 51, 51, 51, 50]); // 85 %, and 83 %
    let changes = b.sweep(10);
    let reason = Reason::FailurePercentage { failed: 51, requests: 60, threshold: 85 };
    let mercy = Mercy::NotEnforced { enforcing: 0 };
    let spared = Change::Spared { reason, mercy };
    assert_eq!(changes, (0..4).map(|index| (index, spared)).collect::<Vec<_>>());
    b.traffic(10, 60, &[51, 51, 51, 51, 50]);
    assert_eq!(b.sweep(20), [], "said once");
    b.traffic(20, 60, &[0, 51, 51, 51, 50]);
    assert_eq!(b.sweep(30), []);
    b.traffic(30, 60, &[51, 51, 51, 51, 50]);
    assert_eq!(b.sweep(40), [(0, spared)], "it was in order in between");
    let mut b = Bench::new(5, |c| {
        (c.failure_percentage_enforcing, c.max_ejected_percent) = (100, 50);
    });
    b.traffic(0, 60, &[51, 51, 51, 51, 50]);
    assert_eq!((b.sweep(10).len(), b.out()), (4, vec![0, 1, 2]));
}

/// 30, 60, 90 s … up to 300 s; one step back per sweep without an ejection.
#[test]
fn ejections_grow_with_repetition_and_shrink_with_health() {
    let mut b = Bench::new(5, |c| c.consecutive_failures = 1);
    let mut intervals = vec![];
    let mut now = 0;
    let mut eject = |b: &mut Bench, now: u64| match b.record(now, 0, true) {
        Some(Change::Ejected { interval, .. }) => intervals.push(interval.as_secs()),
        other => panic!("{other:?}"),
    };
    for _ in 0..12 {
        eject(&mut b, now);
        while b.endpoints[0].is_ejected() {
            now += 10;
            let _ = b.sweep(now);
        }
    }
    // Eleven is the most (Envoy); four healthy sweeps leave seven, and the next is the eighth.
    for _ in 0..4 {
        now += 10;
        let _ = b.sweep(now);
    }
    eject(&mut b, now);
    assert_eq!(intervals, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 240]);
}

#[test]
fn an_active_check_and_the_switch_end_an_ejection() {
    let mut b = Bench::new(5, |c| c.consecutive_failures = 2);
    assert_eq!(b.detector.uneject(&mut b.endpoints[0]), None);
    let _ = (b.record(0, 0, true), b.record(0, 0, true));
    assert_eq!(b.out(), [0]);
    let checked = Change::Returned { ended: Ended::Checked };
    assert_eq!(b.detector.uneject(&mut b.endpoints[0]), Some(checked));
    assert_eq!((b.out(), b.detector.ejected(), b.record(0, 0, true)), (vec![], 0, None));
    let _ = b.record(0, 0, true);
    assert_eq!(b.out(), [0]);
    b.settings.enabled = false;
    b.detector.retune(s(1), &b.settings);
    assert_eq!(b.detector.due(), s(1));
    assert_eq!(b.sweep(1), [(0, Change::Returned { ended: Ended::SwitchedOff })]);
    assert_eq!((b.detector.ejected(), b.record(1, 0, true), b.sweep(99)), (0, None, vec![]));
}

#[test]
fn endpoints_that_leave_free_their_place() {
    let mut b = Bench::new(5, |c| c.consecutive_failures = 1);
    let _ = b.record(0, 0, true);
    let mercy = Mercy::MaxEjected { ejected: 1, endpoints: 5, max_percent: 10 };
    let reason = Reason::Consecutive(1);
    assert_eq!(b.record(0, 1, true), Some(Change::Spared { reason, mercy }));
    let gone = b.endpoints.remove(0);
    b.detector.removed(&gone);
    assert!(matches!(b.record(0, 0, true), Some(Change::Ejected { .. })));
    // And without a word, the sweep finds out.
    b.endpoints.remove(0);
    let _ = b.sweep(10);
    assert_eq!(b.detector.ejected(), 0);
}

#[test]
fn enforcing_is_a_chance_and_jitter_a_span() {
    let mut out = 0;
    for seed in 0..1_000 {
        let mut b = Bench::new(5, |c| {
            (c.consecutive_failures, c.consecutive_enforcing) = (1, 30);
            c.jitter = Duration::from_secs(5);
        });
        b.rng = Pcg32::new(seed, 0);
        if let Some(Change::Ejected { interval, .. }) = b.record(0, 0, true) {
            out += 1;
            assert!((30..=35).contains(&interval.as_secs()));
        }
    }
    assert!((250..350).contains(&out), "{out}");
}

/// The endpoints a sweep ejects, once more in floating point and without counters: by rate, then
/// by percentage, as long as the share allows.
fn model(counts: &[(u32, u32)], settings: &Settings) -> Vec<usize> {
    let of = |min: u32| -> Vec<usize> {
        (0..counts.len()).filter(|i| counts[*i].0 + counts[*i].1 >= min).collect()
    };
    let x = |i: usize| f64::from(counts[i].0) / f64::from(counts[i].0 + counts[i].1) * 100.0;
    let mut out: Vec<usize> = vec![];
    let full = |out: &Vec<usize>| {
        out.len() as f64 * 100.0 / counts.len() as f64 >= f64::from(settings.max_ejected_percent)
    };
    let valid = of(settings.success_rate_min_requests);
    if valid.len() >= settings.success_rate_min_hosts as usize {
        let n = valid.len() as f64;
        let mean = valid.iter().map(|i| x(*i)).sum::<f64>() / n;
        let deviation = (valid.iter().map(|i| (x(*i) - mean).powi(2)).sum::<f64>() / n).sqrt();
        let factor = f64::from(settings.success_rate_factor_permille) / 1e3;
        for i in valid {
            if x(i) < mean - factor * deviation - 1e-6 && !full(&out) {
                out.push(i);
            }
        }
    }
    let valid = of(settings.failure_percentage_min_requests);
    if valid.len() >= settings.failure_percentage_min_hosts as usize
        && settings.failure_percentage_enforcing == 100
    {
        for i in valid {
            let failed = f64::from(counts[i].1) * 100.0 / f64::from(counts[i].0 + counts[i].1);
            if failed >= f64::from(settings.failure_percentage) && !out.contains(&i) && !full(&out)
            {
                out.push(i);
            }
        }
    }
    out.sort_unstable();
    out
}

proptest! {
    #[test]
    fn a_sweep_equals_the_naive_rules(
        counts in proptest::collection::vec((0_u32..150, 0_u32..60), 0..24),
        percent in 0_u32..=100, factor in 500_u32..1_900, enforced: bool, threshold in 1_u32..=100,
    ) {
        let mut b = Bench::new(counts.len(), |c| {
            c.max_ejected_percent = percent;
            c.success_rate_factor = f64::from(factor) / 1e3;
            c.failure_percentage = threshold;
            c.failure_percentage_enforcing = if enforced { 100 } else { 0 };
        });
        for (index, (good, bad)) in counts.iter().enumerate() {
            for n in 0..good + bad { let _ = b.record(0, index, n < *bad); }
        }
        let changes = b.sweep(10);
        prop_assert_eq!(b.out(), model(&counts, &b.settings));
        let told = changes.iter().filter(|(_, c)| matches!(c, Change::Ejected { .. })).count();
        prop_assert_eq!(told, b.out().len());
    }

    /// Any traffic, any order of events, any clock: the count of the ejected is exact, never more
    /// than the share and one, changes match states, nobody is out for longer than the most, and
    /// after that a sweep brings everybody back.
    #[test]
    fn invariants(
        size in 1_usize..14, percent in 0_u32..=100, consecutive in 0_u32..4,
        script in proptest::collection::vec((0_u8..12, 0_usize..14, any::<bool>(), 0_u64..40), 1..250),
        back: bool, seed: u64,
    ) {
        let mut b = Bench::new(size, |c| {
            (c.max_ejected_percent, c.consecutive_failures) = (percent, consecutive);
            (c.success_rate_min_requests, c.failure_percentage_min_requests) = (3, 3);
            c.failure_percentage_enforcing = 50;
            c.jitter = Duration::from_secs(1);
        });
        b.rng = Pcg32::new(seed, 1);
        let mut out = vec![false; size];
        let mut now = if back { 10_000 } else { 0 };
        for (action, index, failed, wait) in script {
            now = if back && wait % 9 == 0 { now - wait } else { now + wait };
            let index = index % size;
            let changes: Vec<(usize, Change)> = match action {
                0 | 1 => b.sweep(now),
                2 => {
                    let change = b.detector.uneject(&mut b.endpoints[index]);
                    change.map(|change| (index, change)).into_iter().collect()
                }
                _ => b.record(now, index, failed).map(|change| (index, change)).into_iter().collect(),
            };
            for (index, change) in changes {
                match change {
                    Change::Ejected { interval, .. } => {
                        prop_assert!(!out[index]);
                        prop_assert!(interval <= Duration::from_secs(301));
                        out[index] = true;
                    }
                    Change::Returned { .. } => {
                        prop_assert!(out[index]);
                        out[index] = false;
                    }
                    Change::Spared { .. } => prop_assert!(!out[index]),
                }
            }
            for (endpoint, out) in b.endpoints.iter().zip(&out) {
                prop_assert_eq!(endpoint.is_ejected(), *out);
                prop_assert!(endpoint.multiplier <= 11);
            }
            let ejected = out.iter().filter(|out| **out).count();
            prop_assert_eq!(b.detector.ejected() as usize, ejected);
            prop_assert!(ejected * 100 < percent as usize * size + 100);
        }
        b.endpoints.iter_mut().for_each(|endpoint| endpoint.filling = Bucket::default());
        let _ = b.sweep(now + 100_000);
        prop_assert_eq!(b.out(), Vec::<usize>::new());
    }

    #[test]
    fn any_clock_and_any_settings_are_survived(
        script in proptest::collection::vec(
            (0_u8..4, 0_usize..4, prop_oneof![Just(0_u64), Just(u64::MAX), any::<u64>()], any::<bool>()), 0..60),
        numbers in proptest::array::uniform10(prop_oneof![Just(0_u32), Just(1), Just(u32::MAX), any::<u32>()]),
        spans in proptest::array::uniform4(any::<u64>()), seed: u64,
    ) {
        let span = |n: usize| Duration::from_nanos(spans[n]);
        // Not checked on purpose: a settings value may come from anywhere.
        let settings = Settings {
            enabled: true, interval: span(0), base_ejection: span(1), max_ejection: span(2), jitter: span(3),
            max_ejected_percent: numbers[0], consecutive_failures: numbers[1], consecutive_enforcing: numbers[2],
            success_rate_factor_permille: numbers[3], success_rate_enforcing: numbers[4],
            success_rate_min_hosts: numbers[5], success_rate_min_requests: numbers[6],
            failure_percentage: numbers[7], failure_percentage_enforcing: numbers[8],
            failure_percentage_min_hosts: numbers[9], failure_percentage_min_requests: 0,
        };
        let mut rng = Pcg32::new(seed, 0);
        let mut detector = Detector::new(Time::NEVER, &settings);
        let full = Bucket { good: u32::MAX, bad: u32::MAX };
        let worn = Outlier { filling: full, consecutive: u32::MAX, multiplier: u32::MAX, ..Outlier::default() };
        let mut endpoints = [Outlier::default(), worn, Outlier::default(), worn];
        for (action, index, now, failed) in script {
            let now = Time::from_nanos(now);
            match action {
                0 => detector.retune(now, &settings),
                1 => detector.sweep(now, &mut endpoints[..], &settings, &mut rng, |_, _| ()),
                2 => { let _ = detector.uneject(&mut endpoints[index]); }
                _ => { let _ = detector.record(now, &mut endpoints[index], failed, 4, &settings, &mut rng); }
            }
        }
        detector.sweep(Time::NEVER, &mut [][..], &settings, &mut rng, |_, _| ());
    }
}
