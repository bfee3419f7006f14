//! Every scenario file, played by the simulator: with and without a background, under several
//! seeds, each twice with the same decisions.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::collections::BTreeSet;

use origin_tests::scenario::{Scenario, load_all, play};
use origin_tests::sim::{Entry, SimStage, seed};

fn run(scenario: &Scenario, seed: u64, background: bool) -> (Result<(), String>, Vec<Entry>) {
    let mut stage = SimStage::new(scenario, seed, background).unwrap();
    let mut result = play(scenario, &mut stage);
    let world = stage.world();
    if let (Ok(()), Some(violation)) = (&result, world.violations().first()) {
        result = Err(format!("{}: {violation}", scenario.name));
    }
    (result, world.log().to_vec())
}

#[test]
fn every_scenario_holds_in_virtual_time() {
    let base = seed(1);
    let mut failures = BTreeSet::new();
    for (path, scenario) in load_all().unwrap() {
        for seed in base..base + 10 {
            for background in [false, true] {
                let (result, log) = run(&scenario, seed, background);
                if let Err(e) = result {
                    let file = path.file_name().unwrap_or_default().to_string_lossy();
                    failures.insert(format!("{file} background {background}: {e}"));
                }
                assert_eq!(run(&scenario, seed, background).1, log, "{} {seed}", scenario.name);
            }
        }
    }
    let text: Vec<&str> = failures.iter().map(String::as_str).collect();
    assert!(failures.is_empty(), "{}\n{}", failures.len(), text.join("\n"));
}

#[test]
fn the_files_prove_what_they_say_once_each() {
    let files = load_all().unwrap();
    assert!(files.len() >= 20, "{}", files.len());
    let names: BTreeSet<&str> = files.iter().map(|(_, s)| s.name.as_str()).collect();
    assert_eq!(names.len(), files.len(), "names are unique");
    let proved: BTreeSet<&str> =
        files.iter().flat_map(|(_, s)| &s.proves).map(String::as_str).collect();
    for id in [
        "000-06", "000-07", "000-08", "000-09", "000-10", "000-11", "000-12", "000-16", "000-17",
        "000-18", "000-28", "000-30", "000-31", "000-35", "000-37", "000-38", "000-39", "000-40",
        "000-44", "000-46", "X-12", "X-13",
    ] {
        assert!(proved.contains(id), "{id}");
    }
}

#[test]
fn mistakes_in_a_file_are_named() {
    let text = |steps: &str| {
        format!(
            "name = \"x\"\nproves = [\"000-07\"]\n[[clusters]]\nname = \"a\"\nendpoints = [\"ok\"]\n[[steps]]\n{steps}\n"
        )
    };
    assert!(Scenario::parse(&text("call = { expect = { status = 200 } }")).is_ok());
    for (steps, complaint) in [
        ("call = {}", "expect a status or an error"),
        ("call = { count = 0, expect = { status = 200 } }", "not a call"),
        ("call = { expect = { status = 200, path = [\"b\"] } }", "no cluster \"b\""),
        ("set = { cluster = \"a\", endpoint = 1, mode = \"ok\" }", "no endpoint 1"),
        ("advance = \"1h\"", "too long"),
        ("call = { expect = { stats = 200 } }", "unknown field"),
        ("jump = 3", "unknown variant"),
    ] {
        let error = Scenario::parse(&text(steps)).unwrap_err();
        assert!(error.contains(complaint), "{steps}: {error}");
    }
}
