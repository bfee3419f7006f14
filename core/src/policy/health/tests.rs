//! The schedule in virtual time: bounds, fairness, pace, and odd clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{CheckKind, ChecksConfig};
use crate::rng::Pcg32;
use crate::time::Time;

const FAIL: ProbeOutcome = ProbeOutcome::Fail(Fail::Status(503));

fn settings(change: impl FnOnce(&mut ChecksConfig)) -> Settings {
    let mut config = ChecksConfig { kind: CheckKind::Http, ..ChecksConfig::default() };
    change(&mut config);
    Settings::of(&config, "c").unwrap()
}

fn ms(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// A schedule with what it always needs.
struct Bench {
    checks: Schedule,
    settings: Settings,
    rng: Pcg32,
}

impl Bench {
    fn new(settings: Settings, endpoints: u32) -> Bench {
        let mut bench = Bench { checks: Schedule::new(), settings, rng: Pcg32::new(7, 0) };
        (0..endpoints).for_each(|endpoint| assert!(bench.add(endpoint, Time::ZERO)));
        bench
    }
    fn add(&mut self, endpoint: u32, now: Time) -> bool {
        self.checks.add(endpoint, now, &self.settings, &mut self.rng)
    }
    fn poll(&mut self, now: Time) -> Option<Probe> {
        self.checks.poll(now, &self.settings, &mut self.rng)
    }
    fn done(&mut self, now: Time, id: ProbeId, outcome: ProbeOutcome) -> Option<Heard> {
        self.checks.done(now, id, outcome, &self.settings, &mut self.rng)
    }
    fn due(&self) -> Time {
        self.checks.due(&self.settings)
    }
    /// Goes to the next probe and answers it at once: when it was, and what it led to.
    fn next(&mut self, outcome: ProbeOutcome) -> (Time, Heard) {
        let now = self.due();
        let probe = self.poll(now).unwrap();
        (now, self.done(now, probe.id, outcome).unwrap())
    }
    /// The milliseconds between the probes of a single endpoint that is answered like this.
    fn waits(&mut self, outcomes: &[ProbeOutcome]) -> Vec<u64> {
        let mut last = None;
        let mut waits = Vec::new();
        for outcome in outcomes {
            let (now, _) = self.next(*outcome);
            waits.extend(last.replace(now).map(|last: Time| last.until(now).as_millis() as u64));
        }
        waits
    }
}

#[test]
fn case_000_27_the_pace_is_fast_until_it_is_settled_then_the_interval() {
    use ProbeOutcome::Pass;
    let mut b = Bench::new(settings(|c| c.jitter = 0.0), 1);
    b.checks.traffic(ms(3_600_000_000)); // never quiet
    assert!(b.due() <= ms(1_000), "the first probe comes soon");
    // First pass, second, third: settled. The first slow wait is spread over the interval.
    let waits = b.waits(&[Pass, Pass, Pass, Pass, Pass, Pass]);
    assert_eq!((waits[0], waits[1]), (1_000, 1_000));
    assert!((1_000..=30_000).contains(&waits[2]), "{waits:?}");
    assert_eq!((waits[3], waits[4]), (30_000, 30_000));
    // A failure brings the fast pace back, and a single good answer does not end it.
    let waits = b.waits(&[FAIL, FAIL, Pass, Pass, Pass, Pass]);
    assert_eq!(waits[..4], [1_000; 4]);
    // Down, confirmed once more, then slow.
    let waits = b.waits(&[FAIL, FAIL, FAIL, FAIL, FAIL, FAIL]);
    assert_eq!((&waits[..3], waits[4]), (&[1_000; 3][..], 30_000));
    assert_eq!(b.checks.status(0), Status::Unhealthy);
}

#[test]
fn an_endpoint_that_fails_is_found_within_one_interval_and_two_fast_ones() {
    let mut b = Bench::new(settings(|_| ()), 1);
    b.checks.traffic(Time::NEVER);
    b.waits(&[ProbeOutcome::Pass; 20]);
    let begin = b.next(ProbeOutcome::Pass).0;
    let reports: Vec<(Time, Heard)> = (0..3).map(|_| b.next(FAIL)).collect();
    assert!(begin.until(reports[2].0) <= Duration::from_millis(33_000 + 2 * 1_100));
    let changes: Vec<_> = reports.iter().map(|(_, heard)| heard.change).collect();
    let reason = Reason::Fails { count: 3, last: Fail::Status(503) };
    let change = Change { from: Status::Healthy, to: Status::Unhealthy, reason };
    assert_eq!(changes, [None, None, Some(change)]);
}

#[test]
fn a_service_that_nobody_calls_is_checked_more_rarely() {
    let mut b = Bench::new(settings(|c| c.jitter = 0.0), 1);
    b.waits(&[ProbeOutcome::Pass; 5]);
    assert_eq!(b.waits(&[ProbeOutcome::Pass; 3]), [60_000, 60_000]);
    // Called again: one wait was drawn before the call.
    let now = b.due();
    b.checks.traffic(now);
    assert_eq!(b.waits(&[ProbeOutcome::Pass; 4]), [30_000, 30_000, 60_000]);
}

#[test]
fn vouching_needs_a_real_success_and_a_good_verdict() {
    let mut b = Bench::new(settings(|_| ()), 1);
    let vouched = |b: &mut Bench, outcome| b.next(outcome).1.vouched;
    assert!(vouched(&mut b, ProbeOutcome::Pass));
    assert!(vouched(&mut b, ProbeOutcome::Degraded));
    assert!(!vouched(&mut b, ProbeOutcome::Assumed), "it did not say so");
    assert!(!vouched(&mut b, FAIL));
    assert!(vouched(&mut b, ProbeOutcome::Pass), "one failure changes no verdict");
    (0..3).for_each(|_| assert!(!vouched(&mut b, FAIL)));
    assert!(!vouched(&mut b, ProbeOutcome::Pass), "the first of two");
    assert!(vouched(&mut b, ProbeOutcome::Pass));
}

#[test]
fn lost_probes_count_neither_way_and_are_made_up_for() {
    let mut b = Bench::new(settings(|c| c.jitter = 0.0), 1);
    b.waits(&[ProbeOutcome::Pass; 5]);
    let begin = b.due();
    let lost = b.poll(begin).unwrap();
    assert_eq!(lost.deadline, begin.plus(Duration::from_secs(5)));
    assert_eq!(b.due(), begin.plus(Duration::from_secs(10)), "the lease");
    assert!(b.poll(begin.plus(Duration::from_millis(9_999))).is_none());
    // The fast wait was over long ago: issued again at once.
    let again = b.poll(b.due()).unwrap();
    assert_ne!(again.id, lost.id);
    assert_eq!(b.done(b.due(), lost.id, FAIL), None, "too late");
    assert_eq!(b.checks.health(0).unwrap().run(), (true, 5));
    // A second loss in a row waits for the interval.
    let lost = begin.plus(Duration::from_secs(20));
    assert!(b.poll(lost).is_none());
    assert!(b.due() > lost && b.due() <= begin.plus(Duration::from_secs(10 + 60)));
    assert_eq!(b.checks.status(0), Status::Healthy);
}

#[test]
fn results_of_removed_endpoints_are_ignored_and_keep_their_place_until_then() {
    let mut b = Bench::new(settings(|c| c.max_concurrent = 1), 2);
    let now = ms(1_000);
    let probe = b.poll(now).unwrap();
    assert!(b.checks.remove(probe.endpoint));
    assert!(!b.checks.remove(probe.endpoint));
    assert!(b.add(probe.endpoint, now), "another endpoint under the same number");
    assert!(b.poll(ms(3_000)).is_none(), "the old probe is still under way");
    assert_eq!(b.done(ms(3_000), probe.id, FAIL), None);
    assert_eq!(b.checks.health(probe.endpoint).unwrap().checked(), None);
    assert!(b.poll(ms(3_000)).is_some());
    assert!(!b.add(0, now), "it is there");
}

#[test]
fn each_result_counts_once() {
    let mut b = Bench::new(settings(|_| ()), 1);
    let probe = b.poll(ms(1_000)).unwrap();
    assert!(b.done(ms(1_000), probe.id, FAIL).is_some());
    assert_eq!(b.done(ms(1_000), probe.id, FAIL), None);
    assert_eq!(b.checks.health(0).unwrap().run(), (false, 1));
}

#[test]
fn switched_off_means_no_probe_and_no_verdict() {
    let mut b = Bench::new(settings(|c| c.unhealthy_threshold = 1), 3);
    let out = b.poll(ms(1_000)).unwrap();
    let other = b.poll(ms(1_000)).unwrap();
    let _ = b.done(ms(1_000), other.id, FAIL);
    let on = b.settings.clone();
    b.settings.kind = Kind::Off;
    b.checks.retune(ms(2_000), &b.settings, &mut b.rng);
    assert!(b.checks.iter().all(|(_, health)| health.status() == Status::Unknown));
    assert_eq!(b.done(ms(2_000), out.id, FAIL).unwrap().change, None, "too late to count");
    assert!(b.poll(ms(9_000_000)).is_none());
    assert_eq!(b.due(), Time::NEVER);
    // On again: the first probes are spread, not all due at once.
    b.settings = on;
    b.checks.retune(ms(9_000_000), &b.settings, &mut b.rng);
    assert!(b.due() > ms(9_000_000) && b.due() <= ms(9_001_000));
    assert_eq!(b.checks.health(other.endpoint).unwrap().history().len(), 2);
}

#[test]
fn new_settings_keep_the_state_and_bound_the_waits() {
    let mut b = Bench::new(settings(|c| c.interval = Duration::from_secs(3_600)), 50);
    b.waits(&[ProbeOutcome::Pass; 50 * 4]);
    let now = b.next(FAIL).0;
    assert!(b.checks.iter().any(|(_, health)| health.history().len() == 2));
    b.settings = settings(|c| (c.interval, c.history) = (Duration::from_secs(10), 1));
    b.checks.retune(now, &b.settings, &mut b.rng);
    assert!(b.checks.iter().all(|(_, health)| health.history().len() == 1));
    let before = b.checks.clone();
    let mut asked = BTreeSet::new();
    while asked.len() < 50 {
        let (at, heard) = b.next(ProbeOutcome::Pass);
        assert!(now.until(at) <= Duration::from_secs(66), "one quiet interval");
        assert_eq!((heard.change, heard.status), (None, Status::Healthy));
        asked.insert(heard.endpoint);
    }
    // The same settings once more change nothing.
    let mut same = before.clone();
    same.retune(now, &b.settings, &mut b.rng);
    assert_eq!(same, before);
}

#[test]
fn odd_clocks_are_survived() {
    for jump in [Time::ZERO, Time::NEVER, Time::from_nanos(u64::MAX - 1)] {
        let mut b = Bench::new(settings(|c| c.max_concurrent = 2), 3);
        for now in [ms(5_000), jump, ms(1), jump, Time::NEVER, ms(70_000)] {
            // A clock that stands still: the loop of an adapter must end.
            let mut rounds = 0;
            while let Some(probe) = b.poll(now) {
                rounds += 1;
                assert!(rounds < 50, "endless at {now:?}");
                assert!(b.done(now, probe.id, FAIL).is_some());
            }
            b.checks.traffic(now);
            b.checks.retune(now, &b.settings, &mut b.rng);
        }
    }
}

#[test]
fn at_the_end_of_time_a_probe_still_has_its_answer() {
    let mut b = Bench::new(settings(|_| ()), 2);
    let first = b.poll(Time::NEVER).unwrap();
    let second = b.poll(Time::NEVER).unwrap();
    assert!(b.poll(Time::NEVER).is_none());
    assert!(b.done(Time::NEVER, first.id, FAIL).is_some());
    assert!(b.done(Time::NEVER, second.id, FAIL).is_some());
    assert!(b.poll(Time::NEVER).is_none(), "what is due never is not due now");
}

#[test]
fn a_slow_endpoint_does_not_go_ahead_of_one_that_waits() {
    let mut b = Bench::new(settings(|c| (c.max_concurrent, c.jitter) = (1, 0.0)), 1);
    let slow = b.poll(ms(1_000)).unwrap();
    assert!(b.add(1, ms(2_500)));
    let _ = b.done(ms(5_000), slow.id, FAIL);
    // Both are due; by its own fast interval the slow one was since 2 s.
    assert_eq!(b.poll(ms(5_000)).unwrap().endpoint, 1);
}

#[test]
fn the_end_of_an_old_lease_does_not_touch_the_successor() {
    let mut b = Bench::new(settings(|_| ()), 1);
    let old = b.poll(ms(1_000)).unwrap();
    assert!(b.checks.remove(0) && b.add(0, ms(8_000)));
    let new = b.poll(ms(9_000)).unwrap();
    assert_eq!(b.checks.under_way(), 2);
    assert!(b.poll(ms(11_000)).is_none(), "asked once at a time");
    assert_eq!(b.checks.under_way(), 1);
    assert_eq!(b.done(ms(11_000), old.id, FAIL), None);
    assert!(b.done(ms(11_000), new.id, FAIL).is_some());
}

#[test]
fn settings_that_were_never_checked_are_survived() {
    let zero = Settings {
        interval: Duration::ZERO,
        jitter_permille: u32::MAX,
        timeout: Duration::ZERO,
        healthy_threshold: 0,
        unhealthy_threshold: 0,
        fast_interval: Duration::ZERO,
        no_traffic_interval: Duration::ZERO,
        history: 0,
        ..settings(|_| ())
    };
    let most = Settings {
        interval: Duration::MAX,
        timeout: Duration::MAX,
        fast_interval: Duration::MAX,
        no_traffic_interval: Duration::MAX,
        max_concurrent: u32::MAX,
        history: u32::MAX,
        ..zero.clone()
    };
    let none = Settings { max_concurrent: 0, ..zero.clone() };
    for settings in [zero, most, none] {
        let _ = settings.longest_gap(u32::MAX);
        let mut b = Bench::new(settings, 2);
        for step in 0..100_u64 {
            let now = ms(step * 7);
            if let Some(probe) = b.poll(now) {
                let _ =
                    b.done(now, probe.id, if step % 3 == 0 { FAIL } else { ProbeOutcome::Pass });
            }
            b.checks.retune(now, &b.settings, &mut b.rng);
        }
    }
}

#[test]
fn first_and_later_probes_of_many_endpoints_are_spread() {
    let mut b = Bench::new(settings(|c| c.max_concurrent = 256), 200);
    b.checks.traffic(Time::NEVER);
    let mut per_second = BTreeMap::new();
    loop {
        let (now, _) = b.next(ProbeOutcome::Pass);
        if now > ms(300_000) {
            break;
        }
        *per_second.entry(now.as_millis() / 1_000).or_insert(0_u32) += 1;
    }
    // 200 in 30 s (31.5 s with jitter) are 6.3 a second; three fast rounds come before.
    let busiest = per_second.range(10..).map(|(_, count)| *count).max().unwrap();
    assert!(busiest <= 20, "{busiest}");
    assert!(per_second.range(0..3).all(|(_, count)| *count <= 300));
}

/// What the simulated adapter does with a probe.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered(ProbeOutcome, u32),
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    let outcome = prop_oneof![
        6 => Just(ProbeOutcome::Pass), 3 => Just(FAIL), 1 => Just(ProbeOutcome::Degraded),
        1 => Just(ProbeOutcome::Dropped)
    ];
    prop_oneof![
        12 => (outcome, 0_u32..=1000).prop_map(|(outcome, permille)| Fate::Answered(outcome, permille)),
        1 => Just(Fate::Lost),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Nobody is forgotten, nobody is asked twice at once, never too many are out, nothing is due
    /// before `due` says so, and whatever is due leads to something.
    #[test]
    fn case_004_73_every_endpoint_is_asked_in_time_within_the_bound(
        endpoints in 1_u32..=200, max in 1_u32..=16, interval in 100_u64..5_000, timeout in 1_u64..=100,
        jitter in 0.0_f64..=1.0, seed: u64, fates in proptest::collection::vec(fate(), 1..40),
        churn in proptest::collection::vec((0_u64..20_000, 0_u32..220), 0..12),
    ) {
        let settings = settings(|c| {
            (c.interval, c.timeout) = (Duration::from_millis(interval), Some(Duration::from_millis(timeout)));
            (c.no_traffic_interval, c.jitter) = (Some(c.interval * 2), jitter);
            c.fast_interval = Some(Duration::from_millis(interval.min(50)));
            c.max_concurrent = max;
        });
        let mut b = Bench::new(settings.clone(), 0);
        b.rng = Pcg32::new(seed, 1);
        let mut asked: BTreeMap<u32, Time> = (0..endpoints).map(|e| (e, Time::ZERO)).collect();
        asked.keys().for_each(|e| assert!(b.checks.add(*e, Time::ZERO, &settings, &mut b.rng)));
        // The end of each probe under way, and which of them the adapter reports.
        let mut out: BTreeMap<(Time, ProbeId), (u32, Option<ProbeOutcome>)> = BTreeMap::new();
        let mut churn: BTreeSet<(Time, u32)> = churn.into_iter().map(|(at, e)| (ms(at), e)).collect();
        // Churn can leave the places of up to `max` removed endpoints occupied.
        let gap = settings.longest_gap(220 + max);
        let (mut probes, mut rounds) = (0_usize, 0_usize);
        loop {
            rounds += 1;
            let thorough = rounds % 13 == 0; // the dear looks
            let ends = out.keys().next().map_or(Time::NEVER, |(at, _)| *at);
            let turn = churn.first().map_or(Time::NEVER, |(at, _)| *at);
            let now = b.due().min(ends).min(turn);
            if now > ms(20_000) || probes > 3_000 { break; }
            if let Some((_, endpoint)) = churn.pop_first_if(now) {
                if asked.remove(&endpoint).is_some() {
                    prop_assert!(b.checks.remove(endpoint));
                } else {
                    asked.insert(endpoint, now);
                    prop_assert!(b.add(endpoint, now));
                }
            } else if ends <= now {
                let ((_, id), (endpoint, outcome)) = out.pop_first().unwrap();
                let heard = outcome.map(|outcome| b.done(now, id, outcome));
                if let Some(Some(heard)) = heard {
                    prop_assert_eq!(heard.endpoint, endpoint);
                    prop_assert_eq!(heard.status, b.checks.status(endpoint));
                }
            } else {
                prop_assert!(!thorough || b.checks.clone().poll(Time::from_nanos(now.as_nanos().saturating_sub(1)),
                    &settings, &mut b.rng.clone()).is_none(), "nothing is due before `due`");
                let before = b.checks.under_way();
                let mut progress = false;
                while let Some(probe) = b.poll(now) {
                    progress = true;
                    probes += 1;
                    let Some(last) = asked.insert(probe.endpoint, now) else {
                        return Err(TestCaseError::fail("a removed endpoint was asked"));
                    };
                    prop_assert!(last.until(now) <= gap, "{:?} after {:?}", probe, last.until(now));
                    prop_assert_eq!(probe.deadline, now.plus(settings.timeout));
                    let (took, outcome) = match fates[probes % fates.len()] {
                        Fate::Answered(outcome, permille) => (settings.timeout * permille / 1000, Some(outcome)),
                        Fate::Lost => (settings.lease(), None),
                    };
                    out.insert((now.plus(took), probe.id), (probe.endpoint, outcome));
                    prop_assert!(out.len() <= max as usize, "{} out", out.len());
                    prop_assert!(b.checks.under_way() <= max as usize);
                }
                prop_assert!(progress || b.checks.under_way() < before, "due, but nothing came of it");
            }
            prop_assert!(!thorough || asked.iter().all(|(_, last)| last.until(now) <= gap), "somebody is starving");
            prop_assert!(!thorough || b.checks.iter().map(|(e, _)| e).eq(asked.keys().copied()));
        }
        prop_assert!(probes >= asked.len().min(3_000), "{probes}");
        let text = serde_json::to_string(&b.checks).unwrap();
        prop_assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), b.checks);
    }
}

/// `pop_first` where the first is due.
trait PopFirstIf {
    fn pop_first_if(&mut self, now: Time) -> Option<(Time, u32)>;
}

impl PopFirstIf for BTreeSet<(Time, u32)> {
    fn pop_first_if(&mut self, now: Time) -> Option<(Time, u32)> {
        self.first().is_some_and(|(at, _)| *at <= now).then(|| self.pop_first()).flatten()
    }
}
