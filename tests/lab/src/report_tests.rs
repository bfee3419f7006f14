//! The arithmetic of a report on hand-made samples, and the percentile
//! against its definition.

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn call(at: u64, latency: u64, cluster: &str) -> Sample {
    Sample {
        at: ms(at),
        latency: ms(latency),
        ok: true,
        attempts: 1,
        cluster: Some(cluster.into()),
        error: None,
    }
}

fn failure(at: u64, latency: u64, error: &str) -> Sample {
    Sample {
        ok: false,
        attempts: 3,
        cluster: None,
        error: Some(error.into()),
        ..call(at, latency, "")
    }
}

fn timeline() -> Timeline {
    crate::Outage::default_for(ms(10_000)).timeline()
}

fn report(samples: Vec<Sample>) -> Report {
    Report::from_parts(samples, Vec::new(), timeline())
}

#[test]
fn counts_rates_and_the_window_of_the_latencies() {
    // Disturbed at 1500, refused at 3000, recovered at 7000, calm at 9000.
    let report = report(vec![
        call(0, 900, "beta"), // before the window: not in the latencies
        call(1500, 10, "beta"),
        call(2000, 20, "beta"),
        failure(3100, 300, "timeout"),
        call(8999, 30, "beta"),
        call(9000, 800, "beta"), // after it
    ]);
    let summary = &report.summary;
    assert_eq!((summary.calls, summary.ok, summary.failed), (6, 5, 1));
    assert_eq!(summary.attempts, 8);
    assert!((summary.success_rate - 5.0 / 6.0).abs() < 1e-12);
    assert!((summary.amplification - 8.0 / 6.0).abs() < 1e-12);
    let latencies = (summary.p50_ms, summary.p99_ms, summary.max_ms);
    assert_eq!(latencies, (20.0, 300.0, 300.0));
    let json = serde_json::to_value(summary).unwrap();
    let mut keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(
        keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(),
        [
            "amplification",
            "attempts",
            "calls",
            "failback_ms",
            "failed",
            "failover_ms",
            "max_ms",
            "ok",
            "p50_ms",
            "p99_ms",
            "success_rate"
        ]
    );
}

#[test]
fn nothing_recorded_is_all_zero_and_valid_json() {
    let report = report(Vec::new());
    assert_eq!(report.summary.success_rate, 0.0);
    assert_eq!(report.summary.failover_ms, None);
    let text = serde_json::to_string(&report).unwrap();
    let again: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(again, report);
}

#[test]
fn failover_counts_only_calls_started_after_the_refusal() {
    let report = report(vec![
        call(2990, 15, "alpha"), // started before: does not count
        call(3000, 9, "beta"),   // local: does not count
        call(3001, 400, "alpha"),
        failure(3002, 1, "refused"),
        call(3050, 20, "gamma"), // started later, answered first
    ]);
    assert_eq!(report.summary.failover_ms, Some(70.0));
}

#[test]
fn failback_is_the_first_moment_of_a_local_quarter_second() {
    // One call each 10 ms: remote until 7100, then local.
    let mut samples: Vec<Sample> = (700..1000)
        .map(|step| call(step * 10, 1, if step < 710 { "alpha" } else { "beta" }))
        .collect();
    let found = report(samples.clone()).summary.failback_ms.unwrap();
    // 25 calls per window, so at most two remote ones: the window may begin
    // right after the third last remote call, at 7070 and a nanosecond.
    assert!((found - 70.0).abs() < 0.001, "{found}");
    // Already local at recovery: immediately.
    for sample in &mut samples {
        sample.cluster = Some("beta".into());
    }
    assert_eq!(report(samples.clone()).summary.failback_ms, Some(0.0));
    // Never local: never.
    for sample in &mut samples {
        sample.cluster = Some("alpha".into());
    }
    assert_eq!(report(samples).summary.failback_ms, None);
}

#[test]
fn failback_needs_the_whole_window_inside_the_run() {
    let late = report(vec![call(7000, 1, "alpha"), call(9990, 1, "beta")]);
    // The window that ends with the run holds the local call.
    assert_eq!(late.summary.failback_ms, Some(2740.0 + 0.0));
    let too_late = report(vec![call(7000, 1, "alpha"), call(10_000, 1, "beta")]);
    assert_eq!(too_late.summary.failback_ms, None);
}

#[test]
fn failback_agrees_with_a_slow_search() {
    // A small deterministic generator instead of a dependency.
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    for round in 0..60 {
        let samples: Vec<Sample> = (0..40)
            .map(|_| {
                let at = 7000 + random(1500);
                let local = at > 7000 + round * 20 || random(4) == 0;
                call(at, 1, if local { "beta" } else { "alpha" })
            })
            .collect();
        let fast = report(samples.clone()).summary.failback_ms;
        // All starts are whole milliseconds, so half-millisecond steps see
        // every different window.
        let slow =
            (0..5500).map(|step| ms(7000) + Duration::from_micros(step * 500)).find(|from| {
                let inside = |sample: &&Sample| (*from..*from + ms(250)).contains(&sample.at);
                let total = samples.iter().filter(inside).count();
                let local = samples
                    .iter()
                    .filter(inside)
                    .filter(|sample| sample.cluster.as_deref() == Some("beta"))
                    .count();
                total > 0 && local * 10 >= total * 9
            });
        match (fast, slow) {
            (Some(fast), Some(slow)) => {
                let slow = millis(slow - ms(7000));
                assert!((0.0..=0.5).contains(&(slow - fast)), "{fast} {slow}");
            }
            (fast, slow) => assert_eq!(fast.is_some(), slow.is_some()),
        }
    }
}

#[test]
fn breakdown_adds_up_to_the_summary() {
    let report = report(vec![
        call(0, 1, "beta"),
        call(1600, 2, "alpha"),
        failure(3100, 3, "timeout"),
        failure(3200, 3, "timeout"),
        call(5200, 4, "gamma"),
        call(9500, 5, "beta"),
    ]);
    let phases = &report.breakdown.phases;
    assert_eq!(phases.iter().map(|row| row.calls).sum::<u64>(), 6);
    assert_eq!(phases[2].failed, 2);
    assert_eq!(phases[3].clusters.get("gamma"), Some(&1));
    let shares: f64 = report.breakdown.clusters.iter().map(|row| row.share).sum();
    assert!((shares - 1.0).abs() < 1e-12);
    assert_eq!(report.breakdown.errors.get("timeout"), Some(&2));
}

#[test]
fn percentile_keeps_its_definition() {
    assert_eq!(percentile(&[], 50.0), Duration::ZERO);
    let mut seed = 1_u64;
    for length in 1..120_usize {
        let mut values: Vec<Duration> = (0..length)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ms((seed >> 40) % 50)
            })
            .collect();
        values.sort_unstable();
        let mut last = Duration::ZERO;
        for percent in [0.0, 1.0, 25.0, 50.0, 75.0, 90.0, 99.0, 100.0] {
            let found = percentile(&values, percent);
            assert!(values.contains(&found));
            assert!(found >= last, "grows with the percentage");
            last = found;
            let not_above = values.iter().filter(|value| **value <= found).count();
            assert!(not_above as f64 >= percent / 100.0 * length as f64);
            let below = values.iter().filter(|value| **value < found).count();
            assert!(below == 0 || (below as f64) < percent / 100.0 * length as f64);
        }
        assert_eq!(percentile(&values, 100.0), values[length - 1]);
        assert_eq!(percentile(&values, 0.0), values[0]);
    }
}
