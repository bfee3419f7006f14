//! Which level answers a lookup of discovery (003-72): the client's own, Redis, or the source, in a
//! fleet under a Zipf load with bounded room, beside what the best could do. In virtual time, the
//! same in every run. Prints tables; nothing is judged.
#![allow(clippy::print_stdout)] // a benchmark prints

use std::time::Duration;

use origin_benches::levels::{Load, Setting, Shares, fleet, ideal, requests};

const SERVICES: usize = 1_000;
/// Each client looks up 20 services a second; counted are ten minutes after the first five, in
/// which the longest life is over once.
const LOAD: Load = Load {
    services: SERVICES,
    exponent: 1.0,
    every: Duration::from_millis(50),
    warm_up: 6_000,
    counted: 12_000,
};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn main() {
    println!(
        "{SERVICES} services under Zipf, s = {}; each client looks one up every {:?}, {} lookups \
         after {}\n",
        LOAD.exponent, LOAD.every, LOAD.counted, LOAD.warm_up
    );
    println!(
        "{:>7} {:>6} {:>6} {:>6} | {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>9}",
        "clients",
        "room",
        "ttl",
        "redis",
        "local",
        "Redis",
        "source",
        "local",
        "Redis",
        "source",
        "asked/s"
    );
    println!("{:>28} | {:^26} | {:^26} |", "", "Origin", "ideal");
    for (clients, shared) in [(1, false), (10, false), (10, true), (30, true)] {
        for ttl in [secs(30), secs(300)] {
            for room in [50, 200, 1_000] {
                row(&Setting { clients, room, ttl, shared: shared.then_some(ttl) });
            }
        }
        println!();
    }
    println!("a short life in Redis under a long one in clients (30 s and 5 min)");
    for clients in [10, 30] {
        row(&Setting { clients, room: 1_000, ttl: secs(300), shared: Some(secs(30)) });
    }
}

fn row(setting: &Setting) {
    let requests = requests(&LOAD, setting.clients);
    let (origin, best) = (fleet(setting, &LOAD, &requests), ideal(setting, &requests));
    let of = |shares: &Shares| {
        [shares.local, shares.redis, shares.source].map(|part| shares.percent(part))
    };
    let ([local, redis, source], [best_local, best_redis, best_source]) = (of(&origin), of(&best));
    let counted = LOAD.every * LOAD.counted;
    println!(
        "{:>7} {:>6} {:>6} {:>6} | {local:>7.2}% {redis:>7.2}% {source:>7.2}% | \
         {best_local:>7.2}% {best_redis:>7.2}% {best_source:>7.2}% | {:>9.2}",
        setting.clients,
        setting.room,
        format!("{:?}", setting.ttl),
        setting.shared.map_or("none".into(), |life| format!("{life:?}")),
        f64::from(origin.source) / counted.as_secs_f64()
    );
}
