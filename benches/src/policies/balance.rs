//! Pick and release, by kind of balancer and number of endpoints. Every endpoint has answered
//! before; each pick is answered after about a millisecond, and its latency is learnt.

use std::hint::black_box;
use std::time::Duration;

use origin_core::Time;
use origin_core::config::{BalanceConfig, BalanceKind};
use origin_core::policy::balance::{Balancer, Endpoint, Settings, hash};
use origin_core::rng::Pcg32;

use super::{Case, Clock, Made, batch, judged, unjudged};

macro_rules! case {
    ($name:literal, $kind:ident, $endpoints:literal $(, $most:literal)?) => {
        case!(@ concat!("pick and release, ", $endpoints, " endpoints"),
            $name, || pick(BalanceKind::$kind, $endpoints) $(, $most)?)
    };
    (@ $about:expr, $name:literal, $make:expr) => { unjudged($name, $about, $make) };
    (@ $about:expr, $name:literal, $make:expr, $most:literal) => {
        judged($name, $about, $most, $make)
    };
}

pub(super) const CASES: &[Case] = &[
    case!("p2c_3", P2c, 3, 345),
    case!("p2c_100", P2c, 100, 287),
    case!("p2c_10000", P2c, 10_000),
    case!("p2c_100000", P2c, 100_000, 307),
    case!("least_outstanding_3", LeastOutstanding, 3),
    case!("least_outstanding_100", LeastOutstanding, 100),
    case!("least_outstanding_10000", LeastOutstanding, 10_000),
    case!("least_outstanding_100000", LeastOutstanding, 100_000),
    case!("round_robin_3", RoundRobin, 3),
    case!("round_robin_100", RoundRobin, 100),
    case!("round_robin_10000", RoundRobin, 10_000),
    case!("round_robin_100000", RoundRobin, 100_000),
    case!("random_3", Random, 3),
    case!("random_100", Random, 100),
    case!("random_10000", Random, 10_000),
    case!("random_100000", Random, 100_000),
    case!("weighted_3", Weighted, 3),
    case!("weighted_100", Weighted, 100),
    case!("weighted_10000", Weighted, 10_000),
    case!("weighted_100000", Weighted, 100_000),
    case!("ring_3", Ring, 3),
    case!("ring_100", Ring, 100),
    case!("ring_10000", Ring, 10_000),
    case!("ring_100000", Ring, 100_000),
    // Exact up to 64 endpoints; larger tiers take the ring in its place.
    case!("rendezvous_3", Rendezvous, 3),
    case!("rendezvous_64", Rendezvous, 64),
    case!("rendezvous_10000", Rendezvous, 10_000),
    case!("rendezvous_100000", Rendezvous, 100_000),
];

fn pick(kind: BalanceKind, endpoints: u32) -> Made {
    let config = BalanceConfig { kind, ..BalanceConfig::default() };
    let settings = black_box(Settings::of(&config, "balance")?);
    let weighted = kind == BalanceKind::Weighted;
    let list: Vec<Endpoint> = (0..endpoints)
        .map(|n| Endpoint {
            hash: hash::mix(u64::from(n)),
            weight: if weighted { 1 + n % 5 } else { 1 },
        })
        .collect();
    let mut balancer = Balancer::new(Time::ZERO, &list, &settings);
    let (mut clock, mut rng) = (Clock::default(), Pcg32::new(42, 0));
    for n in 0..endpoints {
        let took = Duration::from_micros(900 + u64::from(n % 200));
        balancer.done(n, Time::ZERO, took, false, &settings);
    }
    let (mut key, mut micros) = (0_u64, 0);
    let affine = matches!(kind, BalanceKind::Ring | BalanceKind::Rendezvous);
    Ok(batch(move || {
        let (now, settings) = (clock.next(), black_box(&settings));
        let balancer = black_box(&mut balancer);
        // Keys are hashes; steps of the golden ratio reach all of the ring.
        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let key = affine.then_some(key);
        let Ok(choice) = balancer.pick_where(now, key, |_| true, settings, &mut rng) else {
            return false;
        };
        micros = (micros + 37) & 0x7f;
        let took = Duration::from_micros(900 + micros);
        balancer.done(black_box(choice).position, now, took, false, settings);
        true
    }))
}
