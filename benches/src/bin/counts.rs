//! Instructions and allocations of each core case and each policy, exactly, beside what it may
//! cost; with the feature `peers`, those of other crates, which are not judged.
//!
//! `counts` prints tables, `counts --json` the same for programs, `counts --check` exits with 1
//! when a budget is exceeded. Policies without a budget are counted with `--all`. Words restrict
//! it to cases whose names begin so. Needs valgrind, and says so when it is not there.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program prints

use std::process::ExitCode;
use std::time::Duration;

use origin_benches::callgrind::{self, Cost, Problem};
use origin_benches::cases::{self, CASES};
use origin_benches::policies;

/// Operations of the shorter run of a core case. Enough that a rare event weighs nothing.
const OPERATIONS: u32 = 2_000;
/// ... and of a policy: as many as turn the bucket of a window once, or a multiple of it.
const DECISIONS: u32 = 10_000;
/// Operations before anything counts: the first calls find empty smoothed latencies.
const WARM_UP: u32 = 64;
/// The largest case sets 100 000 endpoints up, which takes a few seconds under valgrind.
const PATIENCE: Duration = Duration::from_secs(60);

const USAGE: &str = "counts [--json] [--check] [--all] [NAME…]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--run", case, operations] = words[..] {
        return run(case, operations);
    }
    let (mut json, mut check, mut all, mut names) = (false, false, false, Vec::new());
    for word in words {
        match word {
            "--json" => json = true,
            "--check" => check = true,
            "--all" => all = true,
            name if !name.starts_with('-') => names.push(name),
            _ => {
                eprintln!("usage: {USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let chosen: Vec<Subject> = subjects(all)
        .filter(|subject| names.is_empty() || names.iter().any(|n| subject.name.starts_with(n)))
        .collect();
    match measured(&chosen) {
        Ok(rows) => {
            print(&rows, json);
            let over = rows.iter().filter(|row| !row.within()).count();
            if over > 0 {
                eprintln!("{over} case(s) exceed their budget");
            }
            ExitCode::from(u8::from(check && over > 0))
        }
        Err(problem) => {
            eprintln!("counts: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What runs under callgrind: one case, so many times.
fn run(name: &str, operations: &str) -> ExitCode {
    let Ok(operations) = operations.parse::<u32>() else {
        eprintln!("no such number");
        return ExitCode::from(2);
    };
    let right = if let Some(case) = cases::find(name) {
        case.operation()
            .map(|mut operation| (0..WARM_UP + operations).all(|_| operation()))
            .map_err(|unfit| unfit.to_string())
    } else if let Some(case) = policies::find(name) {
        let all = u64::from(WARM_UP + operations);
        case.batch().map(|mut batch| batch(all) == all).map_err(|unfit| unfit.to_string())
    } else {
        Err("no such case".to_owned())
    };
    match right {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{name}: it did not go the way the case says");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{name}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What is counted: a core case, a policy or a peer.
struct Subject {
    kind: &'static str,
    name: &'static str,
    about: &'static str,
    operations: u32,
    /// Instructions and allocations; `None`: not judged.
    budget: Option<(u64, u64)>,
}

/// Everything in the order of the tables; policies without a budget only if `all`.
fn subjects(all: bool) -> impl Iterator<Item = Subject> {
    let core = CASES.iter().map(|case| Subject {
        kind: "core",
        name: case.name,
        about: case.about,
        operations: OPERATIONS,
        budget: Some((case.instructions, case.allocations)),
    });
    let of = |kind: &'static str| {
        move |case: &'static policies::Case| Subject {
            kind,
            name: case.name,
            about: case.about,
            operations: DECISIONS * case.times,
            budget: case.instructions.map(|most| (most, 0)),
        }
    };
    let policies = policies::cases().map(of("policy"));
    let policies = policies.filter(move |subject| all || subject.budget.is_some());
    core.chain(policies).chain(policies::peers().map(of("peer")))
}

struct Row<'a> {
    subject: &'a Subject,
    cost: Cost,
}

impl Row<'_> {
    #[allow(clippy::cast_precision_loss)] // budgets are small
    fn within(&self) -> bool {
        self.subject.budget.is_none_or(|(instructions, allocations)| {
            self.cost.instructions <= instructions as f64
                && self.cost.allocations <= allocations as f64
        })
    }

    fn verdict(&self) -> &'static str {
        match (self.subject.budget, self.within()) {
            (None, _) => "",
            (_, true) => "within",
            (_, false) => "EXCEEDED",
        }
    }
}

fn measured(subjects: &[Subject]) -> Result<Vec<Row<'_>>, Problem> {
    callgrind::version()?;
    subjects
        .iter()
        .map(|subject| {
            let name = subject.name;
            let arguments = |n: u32| vec!["--run".to_owned(), name.to_owned(), n.to_string()];
            let cost = callgrind::cost(subject.operations, PATIENCE, &[], arguments);
            let cost = cost.map_err(|problem| match problem {
                Problem::Program(why) => Problem::Program(format!("{name}: {why}")),
                other => other,
            })?;
            Ok(Row { subject, cost })
        })
        .collect()
}

fn print(rows: &[Row<'_>], json: bool) {
    if json {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "kind": row.subject.kind,
                    "case": row.subject.name,
                    "instructions": row.cost.instructions,
                    "instructions_budget": row.subject.budget.map(|budget| budget.0),
                    "allocations": row.cost.allocations,
                    "allocations_budget": row.subject.budget.map(|budget| budget.1),
                    "within": row.within(),
                })
            })
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return;
    }
    let mut kind = "";
    for row in rows {
        if row.subject.kind != kind {
            if !kind.is_empty() {
                println!();
            }
            kind = row.subject.kind;
            println!(
                "{kind:<29} {:>15} {:>7} {:>15} {:>7}  {:<9} one operation",
                "instructions/op", "budget", "allocations/op", "budget", "verdict"
            );
        }
        let budget = |of: fn((u64, u64)) -> u64| {
            row.subject.budget.map_or_else(String::new, |budget| of(budget).to_string())
        };
        println!(
            "{:<29} {:>15.1} {:>7} {:>15.3} {:>7}  {:<9} {}",
            row.subject.name,
            row.cost.instructions,
            budget(|budget| budget.0),
            row.cost.allocations,
            budget(|budget| budget.1),
            row.verdict(),
            row.subject.about
        );
    }
}
