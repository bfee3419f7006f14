//! The picture: valid for any report, and (with `LAB_SVG` set to a path)
//! written out so that a person can look at it.

use super::*;
use crate::{Mark, Outage, State, Timeline};

/// A run as a good client would make it: deterministic, no sockets.
fn plausible() -> Report {
    let timeline = Outage::default().timeline();
    let mut seed = 11_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f64 / (1_u64 << 24) as f64
    };
    let samples = (0..6000)
        .map(|number| {
            let at = number as f64 / 300.0;
            let (cluster, mut latency) = match at {
                at if at < 6.02 => ("beta", 1.2),
                at if at < 10.25 => ("alpha", 9.0),
                at if at < 15.1 => ("gamma", 16.0),
                at if at < 16.0 && random() > (at - 15.1) => ("gamma", 16.0),
                _ => ("beta", 1.2),
            };
            latency *= 0.7 + random() * random() * 2.0;
            let mut attempts = 1;
            if (3.0..3.3).contains(&at) && random() < 0.4 {
                attempts = 2;
                latency += 12.0;
            }
            if (10.0..10.25).contains(&at) {
                attempts = 2;
                latency += 250.0 * random();
            }
            let ok = !((6.0..6.02).contains(&at) && random() < 0.3
                || (10.0..10.2).contains(&at) && random() < 0.2);
            Sample {
                at: Duration::from_secs_f64(at),
                latency: Duration::from_secs_f64(latency / 1e3),
                ok,
                attempts,
                cluster: ok.then(|| cluster.to_owned()),
                error: (!ok).then(|| "deadline".to_owned()),
            }
        })
        .collect();
    let state = |at: f64, cluster: &str, breaker: &str| State {
        at: Duration::from_secs_f64(at),
        cluster: cluster.into(),
        breaker: breaker.into(),
    };
    let mut states = vec![
        state(0.0, "alpha", "closed"),
        state(0.0, "beta", "closed"),
        state(0.0, "gamma", "closed"),
        state(6.02, "beta", "open"),
        state(10.25, "alpha", "open"),
        state(14.25, "alpha", "half_open"),
        state(14.4, "alpha", "closed"),
    ];
    for probe in 0..4 {
        let at = 8.0 + 2.0 * f64::from(probe);
        states.push(state(at, "beta", "half_open"));
        states.push(state(at + 0.08, "beta", "open"));
    }
    states.push(state(15.0, "beta", "half_open"));
    states.push(state(16.0, "beta", "closed"));
    Report::from_parts(samples, states, timeline)
}

fn check(svg: &str) {
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    // Every tag closed: the documents are flat, so counting is enough.
    let opened = svg.matches('<').count();
    let ended = svg.matches("</").count() + svg.matches("/>").count();
    assert_eq!(opened - svg.matches("</").count(), ended);
}

#[test]
fn a_plausible_run_has_everything_in_it() {
    let report = plausible();
    let svg = report.svg("Origin: one outage, one client, default settings");
    check(&svg);
    for text in ["local refuses", "half-open", "beta (local)", "failed call", "failback"] {
        assert!(svg.contains(text), "{text}");
    }
    if let Some(path) = std::env::var_os("LAB_SVG") {
        std::fs::write(path, svg).unwrap();
        println!("{}", report.text());
    }
}

#[test]
fn strange_reports_still_draw() {
    check(&Report::from_parts(Vec::new(), Vec::new(), Timeline::default()).svg(""));
    let hostile = "<script>&\"\u{0}".repeat(9);
    let sample = |at, latency, number: usize| Sample {
        at,
        latency,
        ok: true,
        attempts: 0,
        cluster: Some(format!("{hostile}{number}")),
        error: None,
    };
    let samples = (0..40)
        .map(|number| sample(Duration::from_millis(number), Duration::MAX, number as usize))
        .chain([sample(Duration::MAX, Duration::ZERO, 1)])
        .collect();
    let timeline = Timeline {
        local: hostile.clone(),
        phases: (0..50)
            .map(|number| Mark { name: hostile.clone(), at: Duration::from_micros(number) })
            .collect(),
        end: Duration::from_millis(20),
        ..Timeline::default()
    };
    let eternal = Timeline {
        end: Duration::MAX,
        recovered_ms: Some(0),
        refused_ms: Some(0),
        ..timeline.clone()
    };
    check(
        &Report::from_parts(vec![sample(Duration::MAX, Duration::MAX, 0)], Vec::new(), eternal)
            .svg(""),
    );
    let svg = Report::from_parts(samples, Vec::new(), timeline).svg(&hostile);
    check(&svg);
    assert!(!svg.contains("<script"));
}
