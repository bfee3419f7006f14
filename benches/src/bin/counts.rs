//! Instructions and allocations of each core case, exactly, beside what it may cost.
//!
//! `counts` prints a table, `counts --json` the same for programs, `counts --check` exits with 1
//! when a budget is exceeded. Needs valgrind, and says so when it is not there.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program prints

use std::process::ExitCode;
use std::time::Duration;

use origin_benches::callgrind::{self, Cost, Problem};
use origin_benches::cases::{self, CASES, Case};

/// Operations of the shorter run. Enough that a rare event weighs nothing.
const OPERATIONS: u32 = 2_000;
/// Operations before anything counts: the first calls find empty smoothed latencies.
const WARM_UP: u32 = 64;
/// The largest case sets 10 000 endpoints up, which takes a few seconds under valgrind.
const PATIENCE: Duration = Duration::from_secs(60);

const USAGE: &str = "counts [--json] [--check]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--run", case, operations] = words[..] {
        return run(case, operations);
    }
    let (mut json, mut check) = (false, false);
    for word in words {
        match word {
            "--json" => json = true,
            "--check" => check = true,
            _ => {
                eprintln!("usage: {USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match measured() {
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
fn run(case: &str, operations: &str) -> ExitCode {
    let (Some(case), Ok(operations)) = (cases::find(case), operations.parse::<u32>()) else {
        eprintln!("no such case");
        return ExitCode::from(2);
    };
    let mut operation = match case.operation() {
        Ok(operation) => operation,
        Err(unfit) => {
            eprintln!("{}: {unfit}", case.name);
            return ExitCode::FAILURE;
        }
    };
    for _ in 0..WARM_UP + operations {
        if !operation() {
            eprintln!("{}: the call did not go the way the case says", case.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

struct Row {
    case: &'static Case,
    cost: Cost,
}

impl Row {
    #[allow(clippy::cast_precision_loss)] // budgets are small
    fn within(&self) -> bool {
        self.cost.instructions <= self.case.instructions as f64
            && self.cost.allocations <= self.case.allocations as f64
    }

    fn verdict(&self) -> &'static str {
        if self.within() { "within" } else { "EXCEEDED" }
    }
}

fn measured() -> Result<Vec<Row>, Problem> {
    callgrind::version()?;
    CASES
        .iter()
        .map(|case| {
            let arguments = |n: u32| vec!["--run".to_owned(), case.name.to_owned(), n.to_string()];
            Ok(Row { case, cost: callgrind::cost(OPERATIONS, PATIENCE, &[], arguments)? })
        })
        .collect()
}

fn print(rows: &[Row], json: bool) {
    if json {
        let rows: Vec<serde_json::Value> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "case": row.case.name,
                    "instructions": row.cost.instructions,
                    "instructions_budget": row.case.instructions,
                    "allocations": row.cost.allocations,
                    "allocations_budget": row.case.allocations,
                    "within": row.within(),
                })
            })
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return;
    }
    println!(
        "{:<21} {:>15} {:>7} {:>15} {:>7}  {:<9} one operation",
        "case", "instructions/op", "budget", "allocations/op", "budget", "verdict"
    );
    for row in rows {
        println!(
            "{:<21} {:>15.1} {:>7} {:>15.3} {:>7}  {:<9} {}",
            row.case.name,
            row.cost.instructions,
            row.case.instructions,
            row.cost.allocations,
            row.case.allocations,
            row.verdict(),
            row.case.about
        );
    }
}
