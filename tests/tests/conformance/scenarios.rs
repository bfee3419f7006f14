//! The scenario files over real sockets: every step compared with what the file expects, and
//! every decision with what the simulator decides for the same file. A runtime that agrees with
//! the simulator agrees with the other three.
//!
//! `ORIGIN_SCENARIO=part-of-a-file-name` plays only those.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use origin_core::Action;
use origin_tests::scenario::{ErrorKind, Scenario, Step, load_all, play};
use origin_tests::sim::{SimStage, What, seed};

use crate::stage::{Decision, Real};
use crate::subject::Subject;

on_every_runtime! {
    every_scenario_goes_as_its_file_says_and_as_the_simulator_decides
    a_scenario_that_goes_another_way_is_reported_with_its_step
}

/// Scenarios played at the same time by one runtime: they mostly wait.
const AT_ONCE: usize = 4;

fn every_scenario_goes_as_its_file_says_and_as_the_simulator_decides<S: Subject>() {
    let only = std::env::var("ORIGIN_SCENARIO").unwrap_or_default();
    let mut scenarios = load_all().unwrap();
    assert!(!scenarios.is_empty(), "there are no scenarios");
    scenarios.retain(|(path, _)| path.to_string_lossy().contains(&only));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((path, scenario)) =
                    scenarios.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    // A panic in one must not hide the others.
                    let played = catch_unwind(AssertUnwindSafe(|| one::<S>(scenario)));
                    let failure = match played {
                        Ok(Ok(())) => continue,
                        Ok(Err(failure)) => failure,
                        Err(_) => "it panicked; see above".to_owned(),
                    };
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    failures
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(format!("{name} on {}: {failure}", S::NAME));
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{} failed\n\n{}", failures.len(), failures.join("\n\n"));
}

fn one<S: Subject>(scenario: &Scenario) -> Result<(), String> {
    let mut real = Real::<S>::set_up(scenario)?;
    play(scenario, &mut real).map_err(|failure| format!("{failure}\n{}", real.story()))?;
    if !deterministic(scenario) {
        return Ok(());
    }
    let simulated = simulated(scenario, S::ASYNC)?;
    if real.trace == simulated {
        return Ok(());
    }
    let mut text = format!("{}: decided otherwise than the simulator\n", scenario.name);
    for (call, (real, simulated)) in real.trace.iter().zip(&simulated).enumerate() {
        if real != simulated {
            text.push_str(&format!(
                "  call {}: here {real:?}\n      simulated {simulated:?}\n",
                call + 1
            ));
        }
    }
    text.push_str(&real.story());
    Err(text)
}

/// Whether nothing but the file decides: with one endpoint per cluster there is no choice that
/// load or the seed could make otherwise, and calls one after the other do not race.
fn deterministic(scenario: &Scenario) -> bool {
    scenario.clusters.iter().all(|cluster| cluster.endpoints.len() <= 1)
        && !scenario
            .steps
            .iter()
            .any(|step| matches!(step, Step::Call(call) if call.together && call.count > 1))
}

/// The decision trace of the simulator for the same file.
fn simulated(scenario: &Scenario, background: bool) -> Result<Vec<Vec<Decision>>, String> {
    let mut stage = SimStage::new(scenario, seed(1), background)?;
    play(scenario, &mut stage).map_err(|failure| format!("in the simulator: {failure}"))?;
    let world = stage.world();
    let mut done: Vec<_> = world.done().iter().collect();
    done.sort_by_key(|done| done.call);
    let trace = done.iter().map(|done| {
        // Errors about discovery, names and sizes carry no attempts in a real client either.
        if matches!(
            done.result,
            Err(ErrorKind::Discovery | ErrorKind::UnknownService | ErrorKind::TooLarge)
        ) {
            return Vec::new();
        }
        let whys =
            world.log().iter().filter(|entry| entry.call == Some(done.call)).filter_map(|entry| {
                match entry.what {
                    What::Decided(Action::Send { why, .. }) => Some(why),
                    _ => None,
                }
            });
        let attempts = done.attempts.iter().zip(whys);
        attempts.map(|(attempt, why)| (attempt.cluster.clone(), why, attempt.outcome)).collect()
    });
    Ok(trace.collect())
}

/// The runner itself: what does not go as expected does not pass.
fn a_scenario_that_goes_another_way_is_reported_with_its_step<S: Subject>() {
    let text = |expect: &str| {
        format!(
            r#"
name = "self test"
proves = ["the runner"]
local = "beta"
[[clusters]]
name = "alpha"
role = "primary"
endpoints = ["ok"]
[[clusters]]
name = "beta"
endpoints = ["refuse"]
[[steps]]
call = {{ path = "/x", expect = {{ status = 200, path = ["beta", "alpha"] }} }}
[[steps]]
set = {{ cluster = "beta", mode = "ok" }}
[[steps]]
registry = "hang_before_head"
[[steps]]
advance = "50ms"
[[steps]]
call = {{ count = 3, {expect} }}
[[steps]]
state = {{ discovery_requests = 1, active = "beta", endpoints = [{{ cluster = "beta", requests = 3 }}] }}
"#
        )
    };
    let good = Scenario::parse(&text("expect = { status = 200, path = [\"beta\"] }")).unwrap();
    one::<S>(&good).unwrap();
    for (expect, told) in [
        ("expect = { status = 201 }", "201"),
        ("expect = { status = 200, cluster = \"alpha\" }", "alpha"),
        ("expect = { status = 200, attempts = 2 }", "attempts"),
        ("expect = { error = \"exhausted\" }", "exhausted"),
    ] {
        let failure = one::<S>(&Scenario::parse(&text(expect)).unwrap()).unwrap_err();
        let lower = failure.to_lowercase();
        assert!(lower.contains("step 5") && lower.contains(told), "{failure}");
        assert!(failure.contains("notices:"), "{failure}");
    }
}
