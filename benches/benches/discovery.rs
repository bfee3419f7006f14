//! What discovery costs (003-72): a lookup in what the client knows, a refresh of a service with
//! 10 000 instances, memory of 1 000 services with 10 instances each. Prints a table; nothing is
//! judged here. Parts on the way are timed apart, the best of several runs each.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)] // a benchmark prints, and may fail

use std::alloc::System;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use origin_core::config::{Config, ConsulConfig, DiscoveryConfig, Rules};
use origin_core::consul::{self, health};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Directory, Surroundings};
use origin_core::job::{Asker, JobOutcome, Poll};
use origin_core::{Service, Time, Wall};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A health reply of Consul, as 1.8 writes it, with `count` instances.
fn reply(service: &str, count: usize) -> Bytes {
    let mut text = String::from("[");
    for n in 0..count {
        let (a, b) = (n / 250, n % 250 + 1);
        let comma = if n == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{"Node":{{"ID":"00000000-0000-0000-0000-{n:012}","Node":"node-{n}","Address":"10.0.{a}.{b}","Datacenter":"dc1","TaggedAddresses":{{"lan":"10.0.{a}.{b}","wan":"10.0.{a}.{b}"}},"Meta":{{"consul-network-segment":""}},"CreateIndex":9,"ModifyIndex":9}},"Service":{{"ID":"{service}-{n}","Service":"{service}","Tags":["v1","production"],"Address":"","Meta":{{"version":"1.0.0","zone":"a"}},"Port":8080,"Weights":{{"Passing":1,"Warning":1}},"EnableTagOverride":false,"CreateIndex":12,"ModifyIndex":12}},"Checks":[{{"Node":"node-{n}","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing","Notes":"","Output":"Agent alive and reachable","ServiceID":"","ServiceName":"","ServiceTags":[],"Type":"","Definition":{{}},"CreateIndex":9,"ModifyIndex":9}},{{"Node":"node-{n}","CheckID":"service:{service}-{n}","Name":"Service check","Status":"passing","Notes":"","Output":"HTTP GET http://10.0.{a}.{b}:8080/health: 200 OK Output: ok","ServiceID":"{service}-{n}","ServiceName":"{service}","ServiceTags":["v1","production"],"Type":"http","Definition":{{}},"CreateIndex":12,"ModifyIndex":12}}]}}"#
        )
        .unwrap();
    }
    text.push(']');
    text.into()
}

fn directory() -> Directory {
    let consul = Some(ConsulConfig::at("http://127.0.0.1:8500"));
    let discovery = DiscoveryConfig { consul, ..DiscoveryConfig::default() };
    let config = Config { discovery: Some(discovery), ..Config::default() };
    let mut directory = Directory::new(&config, 1, &Surroundings::default()).unwrap().unwrap();
    directory.calendar(Time::ZERO, Wall(1_700_000_000));
    directory
}

/// Asks for `service` and answers with `body`.
fn answer(directory: &mut Directory, now: Time, service: &str, body: &Bytes) {
    let asker = Asker::Call { service, until: Time::NEVER };
    let Poll::Run(job) = directory.poll_job(now, asker) else { panic!("nothing is due") };
    let outcome =
        JobOutcome::Answered { status: 200, headers: HeaderMap::new(), body: body.clone() };
    let _ = directory.job_done(now, job.id, outcome);
}

fn best(runs: usize, mut once: impl FnMut() -> Duration) -> Duration {
    (0..runs).map(|_| once()).min().unwrap_or_default()
}

fn timed<T>(what: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let made = black_box(what());
    (begun.elapsed(), made)
}

fn main() {
    lookup();
    refresh(10_000);
    memory(1_000, 10);
}

fn lookup() {
    let mut directory = directory();
    for n in 0..1_000 {
        let name = format!("service-{n}");
        let _ = directory.resolve(Time::ZERO, &name);
        answer(&mut directory, Time::ZERO, &name, &reply(&name, 10));
        let _ = directory.resolve(Time::ZERO, &name);
    }
    let now = Time::from_millis(5);
    let region = Region::new(ALLOCATOR);
    const TIMES: u32 = 200_000;
    let took = best(5, || {
        timed(|| {
            for _ in 0..TIMES {
                black_box(directory.call_due(now, black_box("service-500")));
            }
        })
        .0
    });
    let allocations = region.change().allocations;
    println!(
        "lookup among 1 000 services: is what is known fresh?  {:>8.1} ns, {allocations} allocations",
        took.as_nanos() as f64 / f64::from(TIMES)
    );
    println!(
        "(a call reads the answer of this from one atomic; its endpoints are in its service)\n"
    );
}

fn refresh(count: usize) {
    let settings = consul::Settings::of(&ConsulConfig::default(), "consul").unwrap();
    let body = reply("web", count);
    println!(
        "refresh of a service with {count} instances, {:.1} MB of JSON",
        body.len() as f64 / 1e6
    );
    let parse = best(5, || timed(|| health::parse(&settings, 200, &body).unwrap()).0);
    println!("  read the reply                         {parse:>10.1?}");
    let mut directory = directory();
    let _ = directory.resolve(Time::ZERO, "web");
    let mut now = Time::ZERO;
    let mut service = Service::new("web".into(), Rules::default(), 1);
    let (mut whole, mut same) = (Duration::MAX, Duration::MAX);
    for round in 0..6 {
        let body = reply("web", count - round % 2);
        let took = timed(|| {
            answer(&mut directory, now, "web", &body);
            let resolution = directory.resolve(now, "web");
            assert!(
                matches!(&resolution, Resolution::Found(list) if list.len() == count - round % 2)
            );
            service.resolve(now, resolution);
        });
        whole = whole.min(took.0);
        now = now.plus(Duration::from_secs(400));
        let took = timed(|| {
            answer(&mut directory, now, "web", &body);
            let resolution = directory.resolve(now, "web");
            service.resolve(now, resolution);
        });
        same = same.min(took.0);
        now = now.plus(Duration::from_secs(400));
    }
    println!("  one instance more or fewer, to the pool {whole:>10.1?}");
    println!("  nothing changed                         {same:>10.1?}\n");
}

fn memory(services: usize, instances: usize) {
    let region = Region::new(ALLOCATOR);
    let mut directory = directory();
    let mut pools = Vec::new();
    for n in 0..services {
        let name = format!("service-{n}");
        let _ = directory.resolve(Time::ZERO, &name);
        answer(&mut directory, Time::ZERO, &name, &reply(&name, instances));
        let mut service = Service::new(name.as_str().into(), Rules::default(), 1);
        service.resolve(Time::ZERO, directory.resolve(Time::ZERO, &name));
        pools.push(service);
    }
    let change = region.change();
    let all = change.bytes_allocated - change.bytes_deallocated;
    drop(pools);
    let change = region.change();
    let known = change.bytes_allocated - change.bytes_deallocated;
    let each = |bytes: usize| bytes as f64 / (services * instances) as f64;
    println!("memory of {services} services with {instances} instances each");
    println!(
        "  what discovery knows {:>8.1} MB, {:>6.0} bytes an instance",
        known as f64 / 1e6,
        each(known)
    );
    println!(
        "  with their pools     {:>8.1} MB, {:>6.0} bytes an instance",
        all as f64 / 1e6,
        each(all)
    );
    black_box(&directory);
}
