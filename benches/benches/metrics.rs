//! What looking costs: a snapshot, a page of metrics in each format, StatsD lines, health, for
//! 1 000 endpoints of one service and for 1 000 services with one. Prints a table; nothing is
//! judged here. The best of several runs each.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // a benchmark prints, and may fail

use std::hint::black_box;
use std::time::{Duration, Instant};

use origin_core::call::{Action, Call, CallSpec, Event};
use origin_core::config::{MetricsConfig, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Role, plan};
use origin_core::metrics::{Format, page, render, statsd};
use origin_core::outcome::Outcome;
use origin_core::snapshot::Snapshot;
use origin_core::{Address, Service, Time};

const MANY: usize = 1_000;

fn main() {
    println!("{:<44} {:>10} {:>10} {:>9}", "", "best", "series", "bytes");
    measure("1 service, 1 000 endpoints", &mut [service("billing", MANY)]);
    let mut services: Vec<Service> = (0..MANY).map(|n| service(&format!("s{n:04}"), 1)).collect();
    measure("1 000 services, 1 endpoint", &mut services);
}

fn measure(what: &str, services: &mut [Service]) {
    let mut now = Time::from_millis(1);
    for (number, service) in services.iter_mut().enumerate() {
        for n in 0..10 {
            call(service, &mut now, (number * 10 + n) as u64);
        }
    }
    let settings =
        MetricsConfig { max_endpoints: MANY, max_services: MANY, ..MetricsConfig::default() };
    let before = snapshot(services, now);
    for service in services.iter_mut() {
        call(service, &mut now, 77);
    }
    let after = snapshot(services, now);
    let series = page(&after, &settings).len();
    println!("{what}");
    row("snapshot", series, || black_box(snapshot(services, now)).services.len());
    row("Prometheus", series, || render(&after, &settings, Format::Prometheus).len());
    row("OpenMetrics", series, || render(&after, &settings, Format::OpenMetrics).len());
    row("StatsD, what has changed", series, || {
        statsd(Some(&before), &after, &settings).iter().map(String::len).sum()
    });
    row("health", series, || black_box(after.health()).reasons.len());
}

fn row(what: &str, series: usize, mut once: impl FnMut() -> usize) {
    let mut best = Duration::MAX;
    let mut size = 0;
    for _ in 0..20 {
        let begun = Instant::now();
        size = black_box(once());
        best = best.min(begun.elapsed());
    }
    println!("  {what:<42} {:>7} µs {series:>10} {size:>9}", best.as_micros());
}

fn snapshot(services: &mut [Service], now: Time) -> Snapshot {
    let services = services.iter_mut().map(|service| service.snapshot(now)).collect();
    Snapshot { at: now, services, ..Snapshot::default() }
}

fn service(name: &str, endpoints: usize) -> Service {
    let mut service = Service::new(name.into(), Rules::default(), 1);
    let at = |n: usize| Address::parse(&format!("http://10.0.{}.{}:80", n / 250, n % 250)).unwrap();
    let endpoints: Vec<_> = (0..endpoints).map(|n| ("near".into(), Role::Backup, at(n))).collect();
    service.resolve(Time::ZERO, Resolution::Found(plan::injected(&endpoints, Some("near"))));
    service
}

fn call(service: &mut Service, now: &mut Time, number: u64) {
    let mut call = Call::new(CallSpec::default(), 7, number);
    let Action::Send { attempt, .. } = call.step(service, *now, Event::Begin) else {
        panic!("not sent")
    };
    *now = now.plus(Duration::from_millis(3));
    let done = call.step(service, *now, Event::Finished(attempt, Outcome::status(200)));
    assert!(matches!(done, Action::Done(_)));
}
