//! one breaker expresses every profile by configuration alone. Each test is one settings
//! value and the behaviour its source describes.

use super::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Contract 001: five in a row, 60 s, three probes, two successes.
fn contract_001(minimum_throughput: u32) -> Bench {
    Bench::new(|p| {
        (p.failures, p.minimum_throughput) = (Some(5), minimum_throughput);
        (p.open, p.open_max) = (secs(60), secs(60));
        (p.half_open_permits, p.half_open_successes) = (3, 2);
        p.half_open_max = secs(30);
    })
}

#[test]
fn case_x_01_contract_001() {
    let mut b = contract_001(5);
    assert_eq!(b.word(), "closed", "001-20");
    assert_eq!(b.results(s(0), &[(Class::Failure, 4), (Class::Success, 1)]), None);
    let opened = b.results(s(0), &[(Class::Failure, 5)]);
    assert_eq!(opened_by(opened), Some(Trip::Consecutive(5)), "001-21, 001-35");
    assert!(b.permit(Time::from_millis(59_900)).is_none(), "001-23");
    let probes: Vec<Permit> = (0..3).map(|_| b.permit(s(60)).unwrap()).collect();
    assert!(b.permit(s(60)).is_none(), "001-24: the fourth is refused");
    assert_eq!(b.record(s(61), probes[0], Class::Success), None, "001-25");
    assert_eq!(b.record(s(61), probes[1], Class::Success), CLOSED, "001-25");
    // The third probe ends after the closing: it belongs to an older generation.
    for _ in 0..10 {
        assert_eq!(b.record(s(62), probes[2], Class::Failure), None);
    }
    assert_eq!(b.breaker.consecutive_failures(), 0);
    // 001-26: the recovery clock starts again.
    b.trip(s(100));
    let probe = b.permit(s(160)).unwrap();
    assert_eq!(opened_by(b.record(s(170), probe, Class::Failure)), Some(Trip::ProbeFailed));
    assert!(b.permit(Time::from_millis(229_900)).is_none());
    assert!(b.permit(s(230)).is_some());
}

#[test]
fn case_001_29_minimum_throughput() {
    let mut b = contract_001(10);
    assert_eq!(b.results(s(0), &[(Class::Failure, 9)]), None, "five straight failures, then nine");
    assert_eq!(opened_by(b.result(s(0), Class::Failure)), Some(Trip::Consecutive(10)));
    // The tenth call opens it only if the condition still holds.
    let mut b = contract_001(10);
    assert_eq!(b.results(s(0), &[(Class::Failure, 9), (Class::Success, 1)]), None);
    assert_eq!(b.results(s(0), &[(Class::Failure, 4)]), None);
    assert_eq!(opened_by(b.result(s(0), Class::Failure)), Some(Trip::Consecutive(5)));
    // Totals are kept by closing: the next five are enough.
    assert_eq!(b.results(s(60), &[(Class::Success, 2)]), CLOSED);
    assert!(b.results(s(60), &[(Class::Failure, 5)]).is_some());
    // Not by reset.
    let _ = b.breaker.reset(s(60));
    assert_eq!(b.results(s(60), &[(Class::Failure, 9)]), None);
}

#[test]
fn case_x_01_contract_002() {
    let mut b = Bench::new(|p| (p.open, p.open_max) = (secs(60), secs(60)));
    assert!(b.results(s(0), &[(Class::Failure, 5)]).is_some(), "002-11");
    assert!(b.permit(Time::from_millis(59_999)).is_none());
    let probe = b.permit(s(60)).unwrap();
    assert!(b.permit(s(60)).is_none(), "002-14: only one probe at a time");
    assert_eq!(opened_by(b.record(s(61), probe, Class::Failure)), Some(Trip::ProbeFailed));
    assert!(b.permit(s(120)).is_none(), "again for 60 s");
    assert_eq!(b.result(s(121), Class::Success), CLOSED);
}

#[test]
fn case_x_01_contract_000_is_the_default() {
    // 000-34: usual behaviour, per candidate; the pool keeps one breaker for each.
    let settings = Settings::default();
    assert_eq!((settings.failures, settings.half_open_permits), (Some(5), 1));
    let mut breakers = [Breaker::new(s(0), &settings), Breaker::new(s(0), &settings)];
    let mut rng = Pcg32::new(1, 1);
    for _ in 0..5 {
        let permit = breakers[0].admit(s(0), &settings).unwrap();
        let _ = breakers[0].record(s(0), permit, Class::Failure, MS, &settings, &mut rng);
    }
    assert!(!breakers[0].would_admit(&settings) && breakers[1].would_admit(&settings));
}

#[test]
fn case_x_01_datapunk_windowed() {
    // `routing/circuit.py`: 5 failures, 2 successes, 60 s doubling with each opening, window 10,
    // error rate 0.5, minimum 5.
    let mut b = Bench::new(|p| {
        (p.failures, p.failure_rate, p.minimum_calls) = (Some(5), Some(0.5), 5);
        (p.window, p.open, p.open_max) = (Some(secs(10)), secs(60), secs(3_600));
        (p.half_open_permits, p.half_open_successes) = (3, 2);
    });
    let mixed = [(Class::Failure, 2), (Class::Success, 2), (Class::Failure, 1)];
    let trip = Some(Trip::FailureRate { failures: 3, of: 5 });
    assert_eq!(opened_by(b.results(s(0), &mixed)), trip);
    assert!(b.result(s(60), Class::Failure).is_some());
    assert_eq!(b.breaker.due(), s(60 + 120), "the cool-down doubles");
    // Failures that have left the window count no more.
    let _ = b.results(s(180), &[(Class::Success, 2)]);
    assert_eq!(b.results(s(190), &[(Class::Failure, 4)]), None);
    assert_eq!(b.results(s(201), &[(Class::Success, 6), (Class::Failure, 4)]), None);
}

fn resilience4j(window: u32, minimum: u32) -> Bench {
    Bench::new(|p| {
        (p.failures, p.failure_rate, p.slow_rate) = (None, Some(0.5), Some(1.0));
        (p.window, p.window_calls, p.minimum_calls) = (None, Some(window), minimum);
        (p.slow_call, p.open, p.open_max) = (secs(60), secs(60), secs(60));
        (p.half_open_permits, p.half_open_by) = (10, HalfOpenBy::Rates);
        // Unlimited by default there, which is how it gets stuck (resilience4j#935, #2028).
        p.half_open_max = secs(3_600);
    })
}

#[test]
fn case_x_01_resilience4j_defaults() {
    let mut b = resilience4j(100, 100);
    assert_eq!(b.results(s(0), &[(Class::Failure, 99)]), None, "unknown below the minimum");
    assert_eq!(b.numbers(s(0)).window_calls.unwrap().failure_ppm, None, "-1 there");
    let trip = Trip::FailureRate { failures: 99, of: 100 };
    assert_eq!(opened_by(b.result(s(0), Class::Success)), Some(trip), "a success may open it");
    // Half-open: ten calls, decided on those only, when all are in.
    for (failures, closes) in [(4, true), (5, false)] {
        let mut b = b.breaker.clone();
        let settings = resilience4j(100, 100).settings;
        let mut rng = Pcg32::new(1, 1);
        let mut ask = |b: &mut Breaker| b.ask(s(60), &settings, &mut rng, |_| ()).ok();
        let probes: Vec<Permit> = (0..20).filter_map(|_| ask(&mut b)).collect();
        assert_eq!(probes.len(), 10);
        let mut last = None;
        for (n, probe) in probes.into_iter().enumerate() {
            assert_eq!(last, None, "not before the tenth");
            let class = if n < failures { Class::Failure } else { Class::Success };
            last = b.record(s(61), probe, class, MS, &settings, &mut rng);
        }
        assert_eq!(last == CLOSED, closes);
        let trip = Trip::FailureRate { failures: 5, of: 10 };
        assert_eq!(opened_by(last), (!closes).then_some(trip));
    }
}

#[test]
fn resilience4j_window_cases() {
    use Class::{Failure as F, Success as S};
    // CircuitBreakerMetrics.java: -1 below min(minimum, window); opens at >=, on any result.
    type Row = (u32, u32, &'static [(Class, u32)], Option<u32>, bool);
    let table: &[Row] = &[
        // window, minimum, results, failure rate in millionths (None: unknown), open
        (10, 10, &[(F, 5), (S, 4)], None, false),
        (10, 10, &[(F, 5), (S, 5)], None, true),
        (10, 10, &[(F, 4), (S, 6)], Some(400_000), false),
        (10, 10, &[(S, 5), (F, 5)], None, true),
        (10, 5, &[(F, 2), (S, 2)], None, false),
        (10, 5, &[(F, 2), (S, 3)], Some(400_000), false),
        (10, 5, &[(F, 2), (S, 2), (F, 1)], None, true),
        (5, 5, &[(S, 5), (F, 2)], Some(400_000), false),
        (5, 5, &[(S, 5), (F, 3)], None, true),
        (5, 5, &[(F, 2), (S, 5)], Some(0), false),
        (5, 5, &[(F, 2), (S, 4)], Some(200_000), false),
        (1, 1, &[(S, 1)], Some(0), false),
        (1, 1, &[(F, 1)], None, true),
        (100, 100, &[(S, 51), (F, 49)], Some(490_000), false),
        (100, 100, &[(S, 50), (F, 50)], None, true),
        (10_000, 10_000, &[(S, 5_001), (F, 4_999)], Some(499_900), false),
        (10_000, 10_000, &[(S, 5_000), (F, 5_000)], None, true),
    ];
    for (row, (window, minimum, results, rate, open)) in table.iter().enumerate() {
        let mut b = resilience4j(*window, *minimum);
        let change = b.results(s(0), results);
        assert_eq!(change.is_some(), *open, "row {row}");
        assert_eq!(b.numbers(s(0)).window_calls.unwrap().failure_ppm, *rate, "row {row}");
    }
}

#[test]
fn case_x_01_resilience4j_slow_rate() {
    // A slow error is both (SLOW_ERROR); 100 % slow opens, one fast call keeps it closed.
    for (fast, open) in [(0, true), (1, false)] {
        let mut b = resilience4j(10, 10);
        let mut last = None;
        for n in 0..10 {
            let permit = b.permit(s(0)).unwrap();
            let class = if n % 4 == 0 { Class::Failure } else { Class::Success };
            let took = if n < fast { MS } else { secs(61) };
            last = b.took(s(0), permit, class, took);
        }
        let trip = Trip::SlowRate { slow: 10, of: 10 };
        assert_eq!(opened_by(last), open.then_some(trip));
    }
}

#[test]
fn case_x_01_polly() {
    // CircuitBreakerStrategyOptions: ratio 0.1, minimum throughput 100, sampling 30 s, break 5 s;
    // one probe.
    let mut b = Bench::new(|p| {
        (p.failures, p.failure_rate, p.minimum_calls) = (None, Some(0.1), 100);
        (p.window, p.open, p.open_max) = (Some(secs(30)), secs(5), secs(5));
    });
    assert_eq!(b.results(s(0), &[(Class::Success, 89), (Class::Failure, 10)]), None);
    let trip = Trip::FailureRate { failures: 10, of: 100 };
    assert_eq!(opened_by(b.result(s(29), Class::Success)), Some(trip));
    assert_eq!(b.result(s(34), Class::Success), CLOSED);
}

#[test]
fn case_x_01_linkerd_unified() {
    // Success below 80 % over 10 s in 10 buckets, at least 5 requests; or 7 in a row; probation
    // 1 s to 60 s with jitter 0.5; a single probe. "Below 80 %" is "more than 20 % failed", which
    // `>=` says with the next millionth.
    let mut b = Bench::new(|p| {
        (p.failures, p.failure_rate, p.minimum_calls) = (Some(7), Some(0.200_001), 5);
        p.jitter = 0.5;
    });
    assert_eq!(b.results(s(0), &[(Class::Success, 4), (Class::Failure, 1)]), None, "exactly 80 %");
    let opened = b.result(s(0), Class::Throttled);
    assert_eq!(opened_by(opened), Some(Trip::FailureRate { failures: 2, of: 6 }));
    assert!((s(1)..=Time::from_millis(1_500)).contains(&b.breaker.due()));
}

#[test]
fn case_x_01_gobreaker() {
    // Settings{}: more than five in a row; 60 s; MaxRequests 1; counts never cleared by time.
    let mut b = Bench::new(|p| (p.failures, p.open, p.open_max) = (Some(6), secs(60), secs(60)));
    assert_eq!(b.results(s(0), &[(Class::Failure, 5)]), None);
    assert!(b.result(s(1_000_000), Class::Failure).is_some());
    assert_eq!(b.result(s(1_000_060), Class::Success), CLOSED);
}

#[test]
fn case_x_01_finagle_hybrid() {
    // 80 % over 30 s (at least 5), or five in a row; equal jitter 5 s to 300 s: half of the step
    // is fixed, half is random.
    let mut b = Bench::new(|p| {
        (p.failures, p.failure_rate, p.minimum_calls) = (Some(5), Some(0.200_001), 5);
        (p.window, p.jitter) = (Some(secs(30)), 1.0);
        (p.open, p.open_max) = (Duration::from_millis(2_500), secs(150));
    });
    let mut now = s(0);
    assert!(b.results(now, &[(Class::Success, 4), (Class::Failure, 2)]).is_some());
    for step in [5, 10, 20, 40, 80, 160, 300, 300] {
        let interval = now.until(b.breaker.due());
        assert!(interval >= secs(step) / 2 && interval <= secs(step), "{interval:?} of {step} s");
        now = b.breaker.due();
        assert!(b.result(now, Class::Failure).is_some());
    }
}
