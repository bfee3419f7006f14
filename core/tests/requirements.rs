//! `docs/REQUIREMENTS.md` says which test proves which requirement. Here it is held to that: every
//! requirement of the two contracts of typed clients has a line, and every test that is named is
//! in the sources.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, clippy::disallowed_types)] // test code

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The requirements of a contract: first and last of each run of numbers.
const CONTRACTS: [(&str, &[(u32, u32)]); 2] = [
    (
        "001",
        &[
            (1, 18),
            (20, 37),
            (40, 47),
            (50, 53),
            (55, 64),
            (70, 84),
            (90, 94),
            (100, 110),
            (120, 132),
        ],
    ),
    ("002", &[(1, 51)]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The functions of all sources below `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.extend(text.split("fn ").skip(1).map(|rest| {
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            }));
        }
    }
}

/// The cells of the lines of a table that begin with a requirement.
fn lines(text: &str) -> Vec<(String, String)> {
    let cells = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
    });
    cells.filter(|(id, _)| id.starts_with("001-") || id.starts_with("002-")).collect()
}

/// The numbers of `001-06`, or of `001-120…126`.
fn numbers(id: &str) -> Vec<(String, u32)> {
    let (contract, rest) = id.split_once('-').unwrap();
    let (first, last) = rest.split_once('…').unwrap_or((rest, rest));
    let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
    (first..=last).map(|number| (contract.to_owned(), number)).collect()
}

#[test]
fn every_requirement_has_a_line_and_every_test_that_is_named_is_there() {
    let text = std::fs::read_to_string(root().join("docs/REQUIREMENTS.md")).unwrap();
    let mut known = BTreeSet::new();
    for folder in ["core", "tests", "runtime-tokio", "runtime-async-std", "runtime-blocking"] {
        functions(&root().join(folder), &mut known);
    }
    let mut seen = BTreeSet::new();
    for (id, proofs) in lines(&text) {
        for number in numbers(&id) {
            assert!(seen.insert(number), "{id} has two lines");
        }
        // Names stand between backticks; what is left is for people.
        let named: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        assert!(!proofs.is_empty(), "{id} has an empty line");
        for name in named {
            assert!(known.contains(name), "{id}: there is no test {name}");
        }
    }
    let wanted: BTreeSet<(String, u32)> = CONTRACTS
        .iter()
        .flat_map(|(contract, runs)| {
            let all = runs.iter().flat_map(|(first, last)| *first..=*last);
            all.map(|number| ((*contract).to_owned(), number))
        })
        .collect();
    assert_eq!(seen, wanted);
}
