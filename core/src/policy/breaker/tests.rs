//! The breaker by cases: contracts, what other crates get wrong, people at the controls, bad input.
//! Profiles of other systems are in `profiles`, windows in `window`; the proof against a model
//! that keeps every event is in `core/tests/breaker_model.rs`.

use proptest::prelude::*;

use super::*;
use crate::config::{BreakerConfig, HalfOpenBy};

pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) fn s(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

/// A breaker with its surroundings. Only consecutive failures trip it unless a test says more.
pub(super) struct Bench {
    pub(super) breaker: Breaker,
    pub(super) settings: Settings,
    pub(super) rng: Pcg32,
}

impl Bench {
    pub(super) fn new(change: impl FnOnce(&mut BreakerConfig)) -> Bench {
        let plain = BreakerConfig::default();
        let mut config = BreakerConfig { jitter: 0.0, failure_rate: None, ..plain };
        change(&mut config);
        let settings = Settings::of(&config, "p").unwrap();
        Bench { breaker: Breaker::new(s(0), &settings), settings, rng: Pcg32::new(7, 0) }
    }
    pub(super) fn ask(&mut self, now: Time) -> Result<Permit, Refusal> {
        self.breaker.ask(now, &self.settings, &mut self.rng, |_| ())
    }
    pub(super) fn permit(&mut self, now: Time) -> Option<Permit> {
        self.ask(now).ok()
    }
    pub(super) fn took(
        &mut self,
        now: Time,
        permit: Permit,
        class: Class,
        took: Duration,
    ) -> Option<Transition> {
        self.breaker.record(now, permit, class, took, &self.settings, &mut self.rng)
    }
    pub(super) fn record(&mut self, now: Time, permit: Permit, class: Class) -> Option<Transition> {
        self.took(now, permit, class, MS)
    }
    /// A whole call that must be admitted.
    pub(super) fn result(&mut self, now: Time, class: Class) -> Option<Transition> {
        let permit = self.permit(now).unwrap();
        self.record(now, permit, class)
    }
    pub(super) fn results(&mut self, now: Time, classes: &[(Class, u32)]) -> Option<Transition> {
        let all = classes.iter().flat_map(|(class, times)| (0..*times).map(|_| *class));
        all.fold(None, |before, class| {
            assert_eq!(before, None, "before the last result");
            self.result(now, class)
        })
    }
    pub(super) fn trip(&mut self, now: Time) {
        while !matches!(self.breaker.state(), State::Open { .. }) {
            let _ = self.result(now, Class::Failure);
        }
    }
    pub(super) fn word(&self) -> &'static str {
        self.breaker.state().word()
    }
    pub(super) fn numbers(&self, now: Time) -> Numbers {
        self.breaker.numbers(now, &self.settings)
    }
}

fn opened_by(change: Option<Transition>) -> Option<Trip> {
    match change? {
        Transition::Opened { trip, .. } => Some(trip),
        _ => None,
    }
}

const CLOSED: Option<Transition> = Some(Transition::Closed { shadow: false });

#[test]
fn straggler_from_before_the_trip_cannot_close_or_reopen() {
    // tower-resilience and throttle-net close on it; by source resilience4j, Polly, Finagle too.
    for class in [Class::Success, Class::Failure] {
        let mut b = Bench::new(|_| ());
        let straggler = b.permit(s(0)).unwrap();
        b.trip(s(0));
        let probe = b.permit(s(2)).unwrap();
        let before = b.breaker.clone();
        assert_eq!(b.record(s(2), straggler, class), None);
        assert_eq!(b.breaker, before, "it leaves no trace");
        assert_eq!(b.record(s(2), probe, Class::Success), CLOSED);
    }
}

#[test]
fn ten_calls_at_once_in_half_open_get_the_configured_permits() {
    // recloser, failsafe and reliakit-circuit let all ten through.
    for permits in [1, 2, 3] {
        let mut b = Bench::new(|p| p.half_open_permits = permits);
        b.trip(s(0));
        let admitted = (0..10).filter_map(|_| b.permit(s(1))).count();
        assert_eq!(admitted, permits as usize);
        let until = s(31);
        assert_eq!(b.ask(s(2)), Err(Refusal::HalfOpen { out: permits, until }));
        assert_eq!(b.numbers(s(2)).not_permitted, 10 - u64::from(permits) + 1);
    }
}

#[test]
fn a_dropped_probe_counts_for_nothing_and_a_lost_one_times_out() {
    // throttle-net counts the drop as a failure; resilience4j#544 stuck on an ignored one.
    let mut b = Bench::new(|p| p.half_open_max = Duration::from_secs(5));
    b.trip(s(0));
    let dropped = b.permit(s(1)).unwrap();
    b.breaker.release(dropped);
    let ignored = b.permit(s(1)).unwrap();
    assert_eq!(b.record(s(1), ignored, Class::Ignored), None);
    let _lost = b.permit(s(2)).unwrap();
    assert!(b.permit(s(3)).is_none());
    assert_eq!(b.breaker.tick(s(6), &b.settings, &mut b.rng), None);
    let reopened = b.breaker.tick(s(7), &b.settings, &mut b.rng);
    assert_eq!(opened_by(reopened), Some(Trip::ProbeLost));
}

#[test]
fn case_001_36_an_idle_half_open_breaker_stays_half_open() {
    let mut b = Bench::new(|_| ());
    b.trip(s(0));
    let probe = b.permit(s(1)).unwrap();
    b.breaker.release(probe);
    assert_eq!(b.breaker.due(), Time::NEVER);
    assert_eq!(b.breaker.tick(Time::NEVER, &b.settings, &mut b.rng), None);
    assert!(b.permit(s(1_000_000)).is_some());
}

#[test]
fn a_late_result_counts_once_and_frees_nothing_twice() {
    let mut b = Bench::new(|p| p.half_open_permits = 2);
    b.trip(s(0));
    let (first, second) = (b.permit(s(1)).unwrap(), b.permit(s(1)).unwrap());
    b.breaker.release(first);
    assert!(matches!(b.breaker.state(), State::HalfOpen { out: 1, .. }));
    let late = |b: &mut Bench, now, permit, class| {
        b.breaker.late(now, permit, class, MS, &b.settings, &mut b.rng)
    };
    assert_eq!(late(&mut b, s(2), first, Class::Success), CLOSED);
    assert_eq!(late(&mut b, s(3), second, Class::Failure), None);
    assert_eq!(b.numbers(s(3)).total_calls, 6);
}

#[test]
fn interval_grows_and_decays() {
    let mut b = Bench::new(|_| ());
    let mut now = s(0);
    let mut intervals = Vec::new();
    b.trip(now);
    for _ in 0..8 {
        intervals.push(now.until(b.breaker.due()).as_secs());
        now = b.breaker.due();
        let probe = b.permit(now).unwrap();
        let _ = b.record(now, probe, Class::Failure);
    }
    assert_eq!(intervals, [1, 2, 4, 8, 16, 32, 60, 60]);
    now = b.breaker.due();
    assert_eq!(b.result(now, Class::Success), CLOSED);
    let later = now.plus(Duration::from_secs(30 * 20));
    b.trip(later);
    assert_eq!(later.until(b.breaker.due()).as_secs(), 1, "long health pays everything back");
}

#[test]
fn throttled_counts_in_rates_and_probes_but_not_in_a_row() {
    // linkerd2-proxy: 429 and RESOURCE_EXHAUSTED.
    let mut b = Bench::new(|p| p.failures = Some(3));
    let throttled = [(Class::Failure, 2), (Class::Throttled, 50), (Class::Failure, 1)];
    assert_eq!(opened_by(b.results(s(0), &throttled)), Some(Trip::Consecutive(3)));
    let probe = b.permit(s(1)).unwrap();
    assert_eq!(opened_by(b.record(s(1), probe, Class::Throttled)), Some(Trip::ProbeFailed));

    let mut b = Bench::new(|p| (p.failure_rate, p.minimum_calls) = (Some(0.5), 10));
    let half = [(Class::Success, 5), (Class::Throttled, 5)];
    let trip = Trip::FailureRate { failures: 5, of: 10 };
    assert_eq!(opened_by(b.results(s(0), &half)), Some(trip));
    assert_eq!(trip.to_string(), "5 of 10 calls failed");
}

#[test]
fn slow_calls_trip_and_fail_probes_where_they_are_judged() {
    let mut b = Bench::new(|p| {
        (p.slow_rate, p.minimum_calls) = (Some(0.4), 5);
        p.slow_call = Duration::from_secs(2);
    });
    let mut call = |now: Time, took: Duration| {
        let permit = b.permit(now).unwrap();
        b.took(now, permit, Class::Success, took)
    };
    let (fast, slow) = (Duration::from_nanos(1_999_999_999), Duration::from_secs(2));
    assert!([slow, fast, fast, fast].iter().all(|took| call(s(0), *took).is_none()));
    assert_eq!(opened_by(call(s(0), slow)), Some(Trip::SlowRate { slow: 2, of: 5 }));
    assert_eq!(opened_by(call(s(1), slow)), Some(Trip::SlowRate { slow: 1, of: 1 }));
    assert_eq!(call(s(3), fast), CLOSED);
    assert_eq!(b.numbers(s(3)).slow_calls, 3);
    // Without a slow rate they are only counted (contract 001).
    let mut b = Bench::new(|_| ());
    for n in 0..100 {
        let permit = b.permit(s(n)).unwrap();
        assert_eq!(b.took(s(n), permit, Class::Success, Duration::MAX), None);
    }
    assert_eq!((b.word(), b.numbers(s(100)).slow_calls), ("closed", 100));
}

#[test]
fn several_failures_may_be_allowed_in_half_open() {
    let mut b = Bench::new(|p| {
        (p.half_open_permits, p.half_open_successes, p.half_open_failures) = (1, 2, 3);
    });
    b.trip(s(0));
    for class in [Class::Failure, Class::Success, Class::Throttled] {
        assert_eq!(b.result(s(1), class), None);
    }
    assert_eq!(opened_by(b.result(s(1), Class::Failure)), Some(Trip::ProbeFailed));
}

#[test]
fn case_x_10_shadow_reports_what_it_would_do_and_refuses_nothing() {
    let mut b = Bench::new(|p| p.mode = Mode::Shadow);
    let opened = b.results(s(0), &[(Class::Failure, 5)]).unwrap();
    assert!(opened.shadow() && opened.to_string().starts_with("would have opened for 1s: 5"));
    let passed = b.permit(s(0)).unwrap();
    assert!(!passed.counted());
    assert_eq!(b.record(s(0), passed, Class::Success), None, "an open breaker sees no results");
    assert_eq!(b.numbers(s(0)).not_permitted, 1);
    // The one call that would be the probe is; the others pass beside it.
    let (probe, beside) = (b.permit(s(1)).unwrap(), b.permit(s(1)).unwrap());
    assert!(probe.counted() && !beside.counted());
    assert_eq!(b.record(s(1), beside, Class::Failure), None);
    assert_eq!(b.record(s(1), probe, Class::Success), Some(Transition::Closed { shadow: true }));
}

#[test]
fn disabled_decides_and_counts_nothing() {
    let mut b = Bench::new(|p| p.mode = Mode::Disabled);
    assert_eq!(b.results(s(0), &[(Class::Failure, 100)]), None);
    assert_eq!((b.word(), b.numbers(s(0)).total_calls), ("closed", 0));
    // By hand it opens all the same, and closes again without probes.
    let _ = b.breaker.force_open(s(1), None, &b.settings);
    assert_eq!(b.ask(s(1)), Err(Refusal::Forced { until: s(2) }));
    assert_eq!(b.breaker.tick(s(2), &b.settings, &mut b.rng), CLOSED);
}

#[test]
fn case_001_31_forced_open_rejects_at_once_and_heals_or_lasts() {
    for mode in [Mode::Enforce, Mode::Shadow] {
        let mut b = Bench::new(|p| p.mode = mode);
        let out = b.permit(s(0)).unwrap();
        let change = b.breaker.force_open(s(0), None, &b.settings);
        let interval = Duration::from_secs(1);
        let trip = Trip::Forced;
        assert_eq!(change, Transition::Opened { trip, interval, shadow: false });
        assert_eq!(b.ask(s(0)), Err(Refusal::Forced { until: s(1) }), "also in shadow");
        assert_eq!(b.record(s(0), out, Class::Failure), None, "what was out does no harm");
        assert_eq!(b.numbers(s(0)).forced, Some(Force::Open));
        assert!(b.permit(s(1)).unwrap().counted(), "it heals itself after the open interval");
        assert_eq!((b.word(), b.numbers(s(1)).forced), ("half_open", None));

        let lasting = b.breaker.force_open(s(1), Some(Time::NEVER), &b.settings);
        assert_eq!(lasting.to_string(), "opened until further notice: forced open");
        let refusal = b.ask(Time::NEVER).unwrap_err();
        assert_eq!(
            (refusal.to_string().as_str(), refusal.left(s(1))),
            ("breaker forced open", None)
        );
        let shadow = mode == Mode::Shadow;
        let lifted = b.breaker.unforce(s(9), &b.settings);
        assert_eq!(lifted, Some(Transition::HalfOpened { shadow }));
        assert_eq!(b.breaker.unforce(s(9), &b.settings), None, "once");
        assert_eq!(b.result(s(9), Class::Success), Some(Transition::Closed { shadow }));
    }
}

#[test]
fn forced_closed_counts_on_and_judges_again_when_lifted() {
    let mut b = Bench::new(|_| ());
    b.trip(s(0));
    assert_eq!(b.breaker.force_closed(s(0)), CLOSED);
    assert_eq!(b.breaker.force_closed(s(0)), None, "reported once");
    assert_eq!(b.results(s(0), &[(Class::Failure, 100)]), None);
    assert_eq!((b.word(), b.breaker.consecutive_failures()), ("closed", 100));
    assert_eq!(b.breaker.unforce(s(0), &b.settings), None);
    assert_eq!(opened_by(b.result(s(0), Class::Failure)), Some(Trip::Consecutive(101)));
}

#[test]
fn case_001_30_reset_closes_and_clears_everything() {
    let mut b = Bench::new(|_| ());
    let out = b.permit(s(0)).unwrap();
    b.trip(s(0));
    assert_eq!(b.breaker.reset(s(5)), CLOSED);
    assert_eq!(b.record(s(5), out, Class::Failure), None);
    assert_eq!(b.numbers(s(5)), Bench::new(|_| ()).numbers(s(5)), "brand-new metrics");
    let out = b.permit(s(5)).unwrap();
    assert_eq!(b.breaker.reset(s(5)), None, "it was closed");
    assert_eq!(b.record(s(5), out, Class::Failure), None, "not of this life");
    assert_eq!(b.breaker.consecutive_failures(), 0);
}

#[test]
fn case_001_32_a_call_as_a_scope_counts_like_one() {
    let mut b = Bench::new(|p| p.failures = Some(2));
    let mut changes = Vec::new();
    let mut runs = 0;
    let mut call = |b: &mut Bench, now: Time, class: Class| {
        let report = |change: Transition| changes.push(change.to_string());
        b.breaker.call(now, &b.settings, &mut b.rng, report, || {
            runs += 1;
            (runs, class, MS)
        })
    };
    assert_eq!(call(&mut b, s(0), Class::Failure), Ok(1));
    assert_eq!(call(&mut b, s(0), Class::Failure), Ok(2));
    // The interval begins when the call ends.
    let until = s(1).plus(MS);
    assert_eq!(call(&mut b, s(1), Class::Success), Err(Refusal::Open { until }), "001-22: not run");
    assert_eq!(call(&mut b, s(2), Class::Success), Ok(3));
    assert_eq!(changes, ["opened for 1s: 2 failures in a row", "half-opened", "closed"]);
}

#[test]
fn a_panic_in_a_scope_gives_the_permit_back() {
    let mut b = Bench::new(|_| ());
    b.trip(s(0));
    let panics = std::panic::AssertUnwindSafe(|| {
        let attempt = || -> ((), Class, Duration) { panic!("by the caller") };
        b.breaker.call(s(1), &b.settings, &mut b.rng, |_| (), attempt)
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    assert!(matches!(b.breaker.state(), State::HalfOpen { out: 0, .. }));
    assert_eq!(b.result(s(1), Class::Success), CLOSED);
}

#[test]
fn case_001_33_numbers_have_the_names_of_the_contract() {
    let mut b = Bench::new(|p| (p.failure_rate, p.minimum_calls) = (Some(1.0), 3));
    b.results(s(1), &[(Class::Success, 1), (Class::Failure, 2)]);
    let json = serde_json::to_value(b.numbers(s(2))).unwrap();
    for (key, expect) in [
        ("state", "\"closed\""),
        ("failure_count", "2"),
        ("success_count", "1"),
        ("total_calls", "3"),
        ("consecutive_failures", "2"),
        ("consecutive_successes", "0"),
        ("error_rate", "666666"),
        ("slow_calls", "0"),
        ("not_permitted", "0"),
        ("last_failure_time", "1000000000"),
    ] {
        assert_eq!(json[key].to_string(), expect, "{key}");
    }
    assert_eq!(json["window"]["failure_ppm"], 666_666);
    b.results(s(2), &[(Class::Failure, 3)]);
    let text = serde_json::to_string(&b.numbers(s(2))).unwrap();
    assert!(text.contains(r#""state":"open""#) && text.contains(r#""trip":{"consecutive":5}"#));
    let back: Numbers = serde_json::from_str(&text).unwrap();
    assert_eq!(back, b.numbers(s(2)));
    let state = serde_json::to_string(&b.breaker).unwrap();
    assert_eq!(serde_json::from_str::<Breaker>(&state).unwrap(), b.breaker);
}

#[test]
fn totals_outlive_closing_and_counts_do_not() {
    // Contract 001, section 3.2: closing resets the failure count and what is consecutive.
    let mut b = Bench::new(|_| ());
    b.trip(s(0));
    assert_eq!(b.numbers(s(0)).consecutive_failures, 5, "as it was when it opened");
    let _ = b.result(s(1), Class::Success);
    let n = b.numbers(s(1));
    assert_eq!((n.failure_count, n.consecutive_failures, n.consecutive_successes), (0, 0, 0));
    assert_eq!((n.total_calls, n.success_count, n.error_rate), (6, 1, Some(833_333)));
    assert_eq!(n.trip, Some(Trip::Consecutive(5)), "why it opened last");
}

#[test]
fn retune_moves_what_it_says() {
    let mut b = Bench::new(|_| ());
    let retuned = |b: &mut Bench, now, change: &dyn Fn(&mut BreakerConfig)| {
        b.settings = Bench::new(change).settings;
        b.breaker.retune(now, &b.settings)
    };
    b.results(s(0), &[(Class::Failure, 4)]);
    assert_eq!(retuned(&mut b, s(0), &|p| p.failures = Some(2)), None, "nothing trips by itself");
    assert_eq!(opened_by(b.result(s(0), Class::Failure)), Some(Trip::Consecutive(5)));
    // Open: never longer than the new settings allow, and not longer than before.
    let long = |p: &mut BreakerConfig| (p.open, p.open_max) = (60 * 1_000 * MS, 60 * 1_000 * MS);
    assert_eq!((retuned(&mut b, s(0), &long), b.breaker.due()), (None, s(1)));
    let short = |p: &mut BreakerConfig| (p.open, p.open_max) = (10 * MS, 100 * MS);
    assert_eq!(retuned(&mut b, s(0), &short), None);
    assert_eq!(b.breaker.due(), Time::from_millis(100));
    // Half-open: fewer permits than are out, fewer successes than there were.
    let wide = |p: &mut BreakerConfig| (p.half_open_permits, p.half_open_successes) = (3, 4);
    let _ = retuned(&mut b, s(0), &wide);
    let probes: Vec<Permit> = (0..3).map(|_| b.permit(s(1)).unwrap()).collect();
    assert!(probes[..2].iter().all(|probe| b.record(s(1), *probe, Class::Success).is_none()));
    let _ = retuned(&mut b, s(1), &|p| p.half_open_max = 2 * 1_000 * MS);
    assert_eq!(b.breaker.due(), s(3), "those out have the new time from now on");
    assert!(b.permit(s(1)).is_none());
    b.breaker.release(probes[2]);
    assert_eq!(b.result(s(1), Class::Success), CLOSED, "not stuck; the next result decides");
    // Disabled closes; forced open stays.
    b.trip(s(2));
    assert_eq!(retuned(&mut b, s(2), &|p| p.mode = Mode::Disabled), CLOSED);
    let _ = b.breaker.force_open(s(2), Some(Time::NEVER), &b.settings);
    assert_eq!(retuned(&mut b, s(2), &|p| p.mode = Mode::Disabled), None);
    assert_eq!(b.word(), "open");
}

#[test]
fn it_stays_small() {
    assert!(size_of::<Breaker>() <= 96);
    assert_eq!(size_of::<Permit>(), 4);
    let plain = Bench::new(|_| ());
    assert!(plain.breaker.windows.is_none());
    let timed = Settings::default();
    assert!(size_of::<Breaker>() + Windows::bytes(&timed) <= 300);
}

/// Settings as nobody would check them, to be survived all the same.
fn wild(n: u32, span: Duration) -> Settings {
    Settings {
        mode: Mode::Enforce,
        failures: Some(n),
        minimum_throughput: n,
        failure_ppm: Some(n),
        slow_ppm: Some(n),
        slow_call: span,
        window: Some(TimeShape { bucket_nanos: nanos(span), buckets: n }),
        window_calls: Some(n),
        minimum_calls: n,
        open: span,
        open_max: span,
        jitter_permille: n,
        decay: span,
        half_open_permits: n,
        half_open_successes: n,
        half_open_failures: n,
        half_open_by: HalfOpenBy::Rates,
        half_open_max: span,
    }
}

proptest! {
    /// No settings, not even unchecked ones, no clock and no order of calls make it panic.
    #[test]
    fn bad_input_is_survived(
        n in prop_oneof![Just(0), Just(1), Just(u32::MAX), 0_u32..200],
        span in prop_oneof![Just(0), Just(1), Just(u64::MAX), 0_u64..1 << 40],
        by_counts: bool,
        script in prop::collection::vec(
            (0_u8..13, prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()], any::<prop::sample::Index>()),
            1..60,
        ),
    ) {
        let mut settings = wild(n, Duration::from_nanos(span));
        if by_counts { settings.half_open_by = HalfOpenBy::Counts; }
        let mut rng = Pcg32::new(u64::from(n), span);
        let mut breaker = Breaker::new(Time::from_nanos(span), &settings);
        let mut held = vec![Permit::UNCOUNTED, Permit { generation: u32::MAX }];
        for (action, at, index) in script {
            let now = Time::from_nanos(at);
            let permit = held[index.index(held.len())];
            let mut result = |b: &mut Breaker, class| {
                let took = Duration::from_nanos(at);
                let _ = b.record(now, permit, class, took, &settings, &mut rng);
            };
            match action {
                0..=2 => held.extend(breaker.admit(now, &settings)),
                3 => result(&mut breaker, Class::Success),
                4 => result(&mut breaker, Class::Throttled),
                5 | 6 => result(&mut breaker, Class::Failure),
                7 => breaker.release(permit),
                8 => drop(breaker.tick(now, &settings, &mut rng)),
                9 => drop(breaker.force_open(now, Some(Time::from_nanos(at.wrapping_mul(3))), &settings)),
                10 => drop(breaker.force_closed(now)),
                11 => drop(breaker.retune(now, &wild(n / 2, Duration::from_nanos(at)))),
                _ => {
                    let _ = breaker.unforce(now, &settings);
                    // As after 2³² changes: zero is skipped.
                    breaker.generation = u32::MAX;
                }
            }
            prop_assert!(breaker.generation != 0);
            let _ = (breaker.numbers(now, &settings), breaker.would_admit(&settings));
        }
    }
}

mod profiles;
