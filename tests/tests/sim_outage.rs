//! The outage of the demonstration in virtual time, with its bounds, and its figures in print
//! (`cargo test -p origin-tests --test sim_outage -- --nocapture`).
#![allow(clippy::unwrap_used, clippy::print_stdout)] // test code

use std::time::Duration;

use origin_core::Time;
use origin_core::notice::Event;
use origin_tests::sim::outage::Demo;
use origin_tests::sim::{Figures, Latency, World, seed};

/// The whole outage: from the first fault until the calm after recovery.
fn outage(demo: &Demo, world: &World) -> Figures {
    world.figures(demo.begin_of("one local 503"), demo.begin_of("calm again"))
}

/// From the healing until the local cluster answers again.
fn failback(demo: &Demo, world: &World) -> Duration {
    let healed = demo.begin_of("recovery");
    let back = world.notices().iter().filter(|n| n.at >= healed).find(|n| {
        matches!(&n.event, Event::Switched { to, failback: true, .. } if **to == *demo.script.local)
    });
    back.map_or(Duration::MAX, |notice| notice.at.since(healed))
}

#[test]
fn the_outage_of_the_demonstration_is_hardly_felt() {
    let demo = Demo::new(seed(7));
    let world = demo.run().unwrap();
    for (name, from, until) in world.phases() {
        if from < until {
            println!("{name:>16}  {}", world.figures(from, until));
        }
    }
    let outage = outage(&demo, &world);
    let slow = outage.slower_than(Duration::from_millis(250));
    println!("{:>16}  {outage}", "outage");
    println!(
        "{} switches, {slow} calls over 250 ms, local again {:.1?} after healing",
        world.switches(),
        failback(&demo, &world)
    );
    for notice in world.notices() {
        println!("{:>9.3?} {notice}", notice.at.since(Time::ZERO));
    }
    assert_eq!(world.violations(), [""; 0]);
    assert!(outage.success() >= 0.999, "seed {}", demo.seed);
    assert!(outage.amplification() <= 1.2, "seed {}", demo.seed);
    assert!(outage.latency(990) <= Duration::from_millis(250), "seed {}", demo.seed);
}

/// The bounds are not the luck of one seed, one rate or one distance.
#[test]
fn the_bounds_hold_at_other_rates_and_distances() {
    let base = seed(100);
    println!("  rate  latency  over the outage; then in the phase in which the primary hangs");
    for (per_second, base_ms) in [(100, 1), (200, 1), (200, 20), (1_000, 1), (1_000, 20)] {
        let mut worst: Option<(f64, String)> = None;
        for seed in base..base + 6 {
            let latency = Latency::millis(base_ms, 2);
            let demo = Demo { per_second, latency, ..Demo::new(seed) };
            let world = demo.run().unwrap();
            let all = outage(&demo, &world);
            let hang = world.figures(demo.begin_of("primary hangs"), demo.begin_of("recovery"));
            assert_eq!(world.violations(), [""; 0], "seed {seed}");
            assert!(all.success() >= 0.999, "seed {seed}: {all}");
            assert!(all.amplification() <= 1.2, "seed {seed}: {all}");
            assert!(all.latency(990) <= Duration::from_millis(250), "seed {seed}: {all}");
            assert!(failback(&demo, &world) <= Duration::from_millis(2_600), "seed {seed}");
            let stuck = hang.slower_than(Duration::from_millis(250));
            // What a call can be caught in: the silence before suspicion, then single probes.
            assert!(stuck <= per_second as usize / 10 + 12, "seed {seed}: {stuck} stuck: {hang}");
            let share = 1.0 - all.success() + all.latency(999).as_secs_f64();
            let line = format!("{all}\n{:17}{hang}  {stuck} stuck", "");
            if worst.as_ref().is_none_or(|(least, _)| share > *least) {
                worst = Some((share, line));
            }
        }
        println!("{per_second:6} {base_ms:5} ms  {}", worst.unwrap().1);
    }
}
