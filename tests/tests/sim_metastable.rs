//! Metastability: a crowd of clients, a trigger, and whether the system returns to normal by
//! itself. With the default policy it does. With retries and nothing that holds them back it does
//! not, though load never exceeds 80 % of the capacity.
//!
//! `cargo test --release -p origin-tests --test sim_metastable -- --nocapture` prints the table;
//! with `ORIGIN_CROWD=1000` it is that of 1 000 clients and an outage of 30 s.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // test code

use std::time::Duration;

use origin_core::config::Policy;
use origin_core::config::breaker::Mode as BreakerMode;
use origin_tests::sim::crowd::{Crowd, Tale, Trigger, naive, policy};
use origin_tests::sim::seed;

const TRIGGERS: [Trigger; 3] = [Trigger::Freeze, Trigger::Restart, Trigger::Refuse];

/// The crowds looked at, with the seed still to be set.
fn crowds() -> Vec<Crowd> {
    if let Some(clients) = std::env::var("ORIGIN_CROWD").ok().and_then(|n| n.parse().ok()) {
        // Few calls per client, where breakers and budgets see little; and many.
        let rare = Crowd::new(0, clients, Duration::from_secs(1));
        let busy = Crowd { workers: 100, ..Crowd::new(0, clients, Duration::from_millis(100)) };
        return vec![rare, busy];
    }
    let second = Duration::from_secs;
    let small = Crowd::new(0, 40, Duration::from_millis(250));
    vec![Crowd { workers: 3, begin: second(6), outage: second(10), after: second(50), ..small }]
}

fn without(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = policy();
    change(&mut policy);
    policy
}

/// One row of the table.
fn told(name: &str, tale: &Tale) -> String {
    let (begin, healed) = tale.trigger;
    let end = tale.seconds.len();
    let back = match tale.recovery() {
        Some(seconds) => format!("{seconds:3} s"),
        None => "never".to_owned(),
    };
    format!(
        "{name:>28}  ×{:4.2} in outage  ×{:4.2} peak  ×{:4.2} after  {:7.1} → {:7.1}/s  back {back}",
        tale.amplification(begin, healed),
        tale.peak(begin, end - 6),
        tale.amplification(healed, end - 6),
        tale.goodput(2, begin),
        tale.goodput(end - 16, end - 6),
    )
}

fn run(crowd: &Crowd, seed: u64, trigger: Trigger, policy: Policy) -> Tale {
    Crowd { seed, trigger, policy, ..crowd.clone() }.run().unwrap()
}

#[test]
fn the_default_policy_returns_to_normal_by_itself() {
    for crowd in crowds() {
        // Breakers of clients that call once a second need some seconds to see anything, and
        // endpoints that stood still work through what was sent meanwhile.
        let most = crowd.outage.as_secs() as usize * 2 + 5;
        for trigger in TRIGGERS {
            for seed in seed(1)..seed(1) + 3 {
                let tale = run(&crowd, seed, trigger, policy());
                println!("{}", told(&format!("default, {trigger:?}, seed {seed}"), &tale));
                let (begin, healed) = tale.trigger;
                let end = tale.seconds.len();
                assert!(tale.success(2, begin - 2) >= 0.999, "{trigger:?} {seed}: all well before");
                let back = tale.recovery();
                assert!(back.is_some_and(|s| s <= most), "{trigger:?} seed {seed}: back {back:?}");
                let during = tale.amplification(begin, healed);
                assert!(during <= 2.0, "{trigger:?} seed {seed}: ×{during:.2} in the outage");
                assert!(tale.success(end - 16, end - 6) >= 0.99, "{trigger:?} seed {seed}: calm");
            }
        }
    }
}

#[test]
fn naive_retries_keep_the_system_down() {
    for crowd in crowds() {
        for (trigger, attempts) in [
            (Trigger::Freeze, 4),
            (Trigger::Freeze, 6),
            (Trigger::Restart, 4),
            (Trigger::Restart, 6),
        ] {
            for seed in seed(1)..seed(1) + 3 {
                let tale = run(&crowd, seed, trigger, naive(attempts));
                let name = format!("naive {attempts}, {trigger:?}, seed {seed}");
                println!("{}", told(&name, &tale));
                let (begin, healed) = tale.trigger;
                let end = tale.seconds.len();
                assert!(tale.success(2, begin - 2) >= 0.999, "{name}: all well before");
                assert_eq!(tale.recovery(), None, "{name}");
                assert!(tale.amplification(begin, healed) >= 3.0, "{name}");
                assert!(tale.goodput(end - 16, end - 6) <= tale.goodput(2, begin) / 5.0, "{name}");
            }
        }
    }
}

/// Which of them it is. Printed only: what one policy does not catch another one may.
#[test]
fn each_policy_alone_taken_away() {
    for crowd in crowds() {
        println!(
            "{} clients, a call each {:?}, {} % load, {:?} of outage, work {:?}",
            crowd.clients,
            crowd.gap,
            crowd.load,
            crowd.outage,
            crowd.work()
        );
        for trigger in TRIGGERS {
            println!("{trigger:?}");
            for (name, policy) in [
                ("default", policy()),
                ("default with its deadlines", Policy::default()),
                ("without budget", without(|p| p.budget.enabled = false)),
                ("budget without floor", without(|p| p.budget.min_per_second = 0)),
                ("without stall", without(|p| p.stall.enabled = false)),
                ("without breakers", without(|p| p.breaker.mode = BreakerMode::Disabled)),
                ("one attempt, nothing else", naive(1)),
                ("4 attempts, nothing else", naive(4)),
                ("6 attempts, nothing else", naive(6)),
            ] {
                println!("{}", told(name, &run(&crowd, seed(1), trigger, policy)));
            }
        }
    }
}
