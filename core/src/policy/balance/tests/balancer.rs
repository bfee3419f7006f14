//! The whole: simulated fleets with fixed seeds.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::{BalanceConfig, BalanceKind};
use crate::policy::balance::choose::{Nobody, Why};
use crate::policy::balance::{Balancer, Endpoint, Settings, hash};
use crate::rng::Pcg32;
use crate::time::Time;

pub(super) const KINDS: [BalanceKind; 7] = [
    BalanceKind::P2c,
    BalanceKind::LeastOutstanding,
    BalanceKind::RoundRobin,
    BalanceKind::Weighted,
    BalanceKind::Random,
    BalanceKind::Rendezvous,
    BalanceKind::Ring,
];

fn fleet(weights: &[u32]) -> Vec<Endpoint> {
    let endpoint = |(n, weight): (u64, &u32)| Endpoint { hash: hash::mix(n), weight: *weight };
    (0..).zip(weights).map(endpoint).collect()
}

fn settings(kind: BalanceKind, window_s: u64) -> Settings {
    let mut config = BalanceConfig { kind, ..BalanceConfig::default() };
    config.slow_start.window = Duration::from_secs(window_s);
    Settings::of(&config, "b").unwrap()
}

/// A fleet under a steady stream of calls in virtual time.
struct Bench {
    balancer: Balancer,
    settings: Settings,
    rng: Pcg32,
    now: u64,
    /// End in microseconds, endpoint, took, failed; unsorted.
    flying: Vec<(u64, u32, u64, bool)>,
    calls: Vec<u32>,
    most_out: Vec<u32>,
    /// An endpoint that no call accepts.
    hidden: Option<u32>,
}

impl Bench {
    fn new(settings: Settings, weights: &[u32]) -> Bench {
        Bench {
            balancer: Balancer::new(Time::ZERO, &fleet(weights), &settings),
            settings,
            rng: Pcg32::new(17, 0),
            now: 0,
            flying: Vec::new(),
            calls: vec![0; weights.len()],
            most_out: vec![0; weights.len()],
            hidden: None,
        }
    }

    /// `count` calls, one each `gap` µs; `answer` says how long an endpoint takes now, in µs, and
    /// whether it fails.
    fn run(&mut self, count: u32, gap: u64, answer: impl Fn(u32, u64) -> (u64, bool)) {
        self.calls.fill(0);
        for _ in 0..count {
            self.now += gap;
            let now = self.now;
            let (ended, flying) = self.flying.drain(..).partition(|(end, ..)| *end <= now);
            self.flying = flying;
            let mut ended: Vec<(u64, u32, u64, bool)> = ended;
            ended.sort_unstable();
            for (end, index, took, failed) in ended {
                let (end, took) = (Time::from_nanos(end * 1_000), Duration::from_micros(took));
                self.balancer.done(index, end, took, failed, &self.settings);
            }
            let at = Time::from_nanos(now * 1_000);
            let hidden = self.hidden;
            let accept = |index| Some(index) != hidden;
            let choice = self.balancer.pick_where(at, None, accept, &self.settings, &mut self.rng);
            let index = choice.unwrap().position;
            let (took, failed) = answer(index, now);
            self.flying.push((now + took, index, took, failed));
            self.calls[index as usize] += 1;
            let out = self.balancer.outstanding(index);
            self.most_out[index as usize] = self.most_out[index as usize].max(out);
        }
    }
}

#[test]
fn a_slow_endpoint_gets_little() {
    for count in [3, 20] {
        let mut bench = Bench::new(settings(BalanceKind::P2c, 0), &vec![1; count]);
        bench.run(20_000, 500, |index, _| (if index == 0 { 100_000 } else { 5_000 }, false));
        // An even share would be 6 666 and 1 000.
        assert!(bench.calls[0] < 30, "{:?}", bench.calls);
        // It is tried again about each τ × ln 20 = 30 s, and used again when it is well.
        assert!(bench.calls[0] > 0);
        bench.run(100_000, 500, |_, _| (5_000, false));
        bench.run(20_000, 500, |_, _| (5_000, false));
        let share = 20_000 / u32::try_from(count).unwrap();
        assert!(bench.calls[0].abs_diff(share) < share / 2, "{:?}", bench.calls);
    }
}

#[test]
fn a_dead_endpoint_that_refuses_fast_does_not_attract() {
    // Of 10 endpoints one refuses in 100 µs, the others answer in 5 ms; no breaker. By latency
    // alone it would be the best by far.
    let mut bench = Bench::new(settings(BalanceKind::P2c, 0), &[1; 10]);
    let answer = |index, _| if index == 3 { (100, true) } else { (5_000, false) };
    bench.run(60_000, 1_000, answer);
    assert!(bench.calls[3] < 20, "{:?}", bench.calls);
    // One that fails one call in a thousand keeps most of its share (it reads 1 ms slower), and
    // when all fail one call in fifty they share as if none did.
    let fails = |per: u64, at: u64| hash::mix(at) < u64::MAX / per;
    let mut bench = Bench::new(settings(BalanceKind::P2c, 0), &[1; 10]);
    bench.run(100_000, 1_000, |index, at| (5_000, index == 3 && fails(1_000, at)));
    assert!(bench.calls[3] > 4_000, "{:?}", bench.calls);
    bench.run(100_000, 1_000, |_, at| (5_000, fails(50, at)));
    assert!(bench.calls.iter().all(|n| n.abs_diff(10_000) < 4_000), "{:?}", bench.calls);
}

#[test]
fn a_fresh_endpoint_gets_one_call_and_not_a_flood() {
    // Nine known endpoints with 20 ms; the tenth is new and takes a second for its first answer.
    let mut bench = Bench::new(settings(BalanceKind::P2c, 0), &[1; 10]);
    bench.hidden = Some(9);
    bench.run(1_000, 1_000, |_, _| (20_000, false));
    assert_eq!(bench.calls[9], 0);
    bench.hidden = None;
    bench.run(900, 1_000, |index, _| (if index == 9 { 1_000_000 } else { 20_000 }, false));
    assert_eq!((bench.calls[9], bench.most_out[9]), (1, 1), "{:?}", bench.calls);
}

#[test]
fn a_hung_endpoint_is_not_flooded_while_its_calls_are_out() {
    let mut bench = Bench::new(settings(BalanceKind::P2c, 0), &[1; 4]);
    bench.run(4_000, 1_000, |_, _| (10_000, false));
    // Endpoint 2 answers nothing for 60 s, and nobody times out.
    bench.run(60_000, 1_000, |index, _| (if index == 2 { 3_600_000_000 } else { 10_000 }, false));
    // As many as make its 10 ms × (out + 1), fading 8 times slower, dearer than the others'.
    assert!(bench.most_out[2] <= 12, "{:?}", bench.most_out);
}

#[test]
fn slow_start_shares_as_configured() {
    for kind in [BalanceKind::P2c, BalanceKind::LeastOutstanding, BalanceKind::Weighted] {
        let mut bench = Bench::new(settings(kind, 100), &[1; 20]);
        bench.run(100_000, 1_000, |_, _| (2_000, false)); // all are warm after 100 s
        bench.run(20_000, 1_000, |_, _| (2_000, false));
        assert!(bench.calls[7].abs_diff(1_000) < 300, "{kind:?} {:?}", bench.calls);
        let now = Time::from_nanos(bench.now * 1_000);
        bench.balancer.returned(7, now, &bench.settings);
        bench.run(10_000, 1_000, |_, _| (2_000, false));
        // 10 % of an even 500.
        assert!((25..=110).contains(&bench.calls[7]), "{kind:?} {:?}", bench.calls);
        bench.run(40_000, 1_000, |_, _| (2_000, false));
        bench.run(10_000, 1_000, |_, _| (2_000, false));
        // 50 to 60 %.
        assert!((180..=480).contains(&bench.calls[7]), "{kind:?} {:?}", bench.calls);
    }
}

#[test]
fn weights_are_shares_where_they_are_heeded() {
    for (kind, heeded) in [
        (BalanceKind::P2c, true),
        (BalanceKind::LeastOutstanding, true),
        (BalanceKind::Weighted, true),
        (BalanceKind::RoundRobin, false),
        (BalanceKind::Random, false),
    ] {
        let mut bench = Bench::new(settings(kind, 0), &[1, 2, 3, 4]);
        // Calls so rare that never two are out at once; warm first.
        bench.run(1_000, 10_000, |_, _| (1_000, false));
        bench.run(40_000, 10_000, |_, _| (1_000, false));
        for (n, calls) in (1_u32..).zip(&bench.calls) {
            let expected = if heeded { 4_000 * n } else { 10_000 };
            // By p2c the weights are shares of draws; of two drawn the one idle for longer costs
            // less, which draws the shares together, but not beyond w² and 2w - w².
            let most = if kind == BalanceKind::P2c { expected } else { 900 };
            assert!(calls.abs_diff(expected) < most, "{kind:?} {:?}", bench.calls);
        }
    }
}

#[test]
fn a_weight_bounds_what_a_cheap_or_dear_endpoint_gets() {
    // Two endpoints, weights 1 and 9: the light one gets at most 2w - w² = 19 % when it is ten
    // times faster, at least w² = 1 % when it is ten times slower.
    for (fast, percent) in [(true, 19), (false, 1)] {
        let mut bench = Bench::new(settings(BalanceKind::P2c, 0), &[1, 9]);
        let answer = |index, _| (if (index == 0) == fast { 100 } else { 1_000 }, false);
        bench.run(1_000, 10_000, answer);
        bench.run(40_000, 10_000, answer);
        assert!(bench.calls[0].abs_diff(400 * percent) < 400, "{:?}", bench.calls);
    }
}

#[test]
fn keys_stick_and_calls_without_are_balanced() {
    for (kind, count) in
        [(BalanceKind::Ring, 30), (BalanceKind::Rendezvous, 30), (BalanceKind::Rendezvous, 100)]
    {
        let settings = settings(kind, 0);
        let mut balancer = Balancer::new(Time::ZERO, &fleet(&vec![1; count]), &settings);
        let mut rng = Pcg32::new(4, 0);
        for n in 0..200_u32 {
            let key = Some(hash::of(&n.to_le_bytes()));
            let mut pick = |balancer: &mut Balancer, avoid: Option<u32>| {
                let accept = |index| Some(index) != avoid;
                balancer.pick_where(Time::ZERO, key, accept, &settings, &mut rng).unwrap()
            };
            let owner = pick(&mut balancer, None);
            assert_eq!(owner.why, Why::Owner);
            balancer.abandoned(owner.position);
            assert_eq!(pick(&mut balancer, None), owner);
            balancer.abandoned(owner.position);
            let other = pick(&mut balancer, Some(owner.position));
            assert_ne!(other.position, owner.position);
            balancer.abandoned(other.position);
        }
        let plain = balancer.pick(Time::ZERO, &settings, &mut rng).unwrap();
        assert!(matches!(plain.why, Why::Cheapest { .. }));
    }
}

#[test]
fn retuning_keeps_what_is_known() {
    let p2c = settings(BalanceKind::P2c, 0);
    let mut bench = Bench::new(p2c, &[1; 5]);
    bench.run(2_000, 1_000, |index, _| (if index == 1 { 50_000 } else { 5_000 }, false));
    let before = bench.balancer.clone();
    for kind in KINDS {
        let other = settings(kind, 0);
        bench.balancer.retune(&other);
        bench.balancer.retune(&p2c);
        assert_eq!(bench.balancer, before, "{kind:?}");
    }
}

#[test]
fn nobody_home() {
    for kind in KINDS {
        let settings = settings(kind, 0);
        let mut rng = Pcg32::new(1, 0);
        let mut none = Balancer::new(Time::ZERO, &[], &settings);
        assert_eq!(none.pick(Time::ZERO, &settings, &mut rng), Err(Nobody::Empty));
        none.done(7, Time::ZERO, Duration::ZERO, true, &settings);
        none.abandoned(u32::MAX);
        none.returned(3, Time::NEVER, &settings);
        assert!(none.is_empty() && none.outstanding(0) == 0);
        let mut three = Balancer::new(Time::ZERO, &fleet(&[0; 3]), &settings);
        let refused = three.pick_where(Time::ZERO, Some(1), |_| false, &settings, &mut rng);
        assert!(matches!(refused, Err(Nobody::Unacceptable { ready: 3, .. })), "{refused:?}");
        assert_eq!(three.len(), 3);
        let only = three.pick_where(Time::ZERO, Some(1), |i| i == 2, &settings, &mut rng);
        assert_eq!(only.unwrap().position, 2);
    }
}

proptest! {
    /// Whatever happens: choices are acceptable, outstanding counts are those of the model, and
    /// the same inputs give the same choices.
    #[test]
    fn counts_are_conserved(
        seed: u64,
        kind in 0_usize..7,
        weights in proptest::collection::vec(0_u32..4, 1..80),
        script in proptest::collection::vec((0_u8..6, any::<u32>(), 0_u64..1 << 36), 0..150),
    ) {
        let window = if KINDS[kind].heeds_weights() { 5 } else { 0 };
        let settings = settings(KINDS[kind], window);
        let mut balancer = Balancer::new(Time::ZERO, &fleet(&weights), &settings);
        let mut twin = balancer.clone();
        let (mut rng, mut other) = (Pcg32::new(seed, 0), Pcg32::new(seed, 0));
        let mut out = vec![0_u32; weights.len()];
        let mut now = Time::ZERO;
        for (action, n, nanos) in script {
            now = now.plus(Duration::from_nanos(nanos));
            let index = n % u32::try_from(weights.len() + 1).unwrap();
            let took = Duration::from_nanos(nanos);
            match action {
                0..=2 => {
                    let key = (n % 2 == 0).then_some(u64::from(n));
                    let accept = |i: u32| i % 7 != n % 7;
                    let any = (0..u32::try_from(weights.len()).unwrap()).any(accept);
                    let choice = balancer.pick_where(now, key, accept, &settings, &mut rng);
                    prop_assert_eq!(choice, twin.pick_where(now, key, accept, &settings, &mut other));
                    match choice {
                        Ok(choice) => {
                            prop_assert!(accept(choice.position));
                            out[choice.position as usize] += 1;
                        }
                        Err(_) => prop_assert!(!any),
                    }
                }
                3 | 4 => {
                    balancer.done(index, now, took, action == 4, &settings);
                    twin.done(index, now, took, action == 4, &settings);
                    out.iter_mut().skip(index as usize).take(1).for_each(|n| *n = n.saturating_sub(1));
                }
                _ => {
                    balancer.returned(index, now, &settings);
                    twin.returned(index, now, &settings);
                }
            }
            for (index, out) in (0..).zip(&out) {
                prop_assert_eq!(balancer.outstanding(index), *out);
            }
        }
        prop_assert_eq!(balancer, twin);
    }
}
