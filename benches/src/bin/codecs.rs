//! Instructions and allocations of writing the request of each operation of each typed client, and
//! of reading a good answer, exactly; nothing is judged. `codecs` prints a table, words restrict it
//! to operations whose names begin so. Needs valgrind, and says so when it is not there.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command-line program prints

use std::process::ExitCode;
use std::time::Duration;

use origin_benches::callgrind::{self, Cost, Problem};
use origin_benches::codecs::{Part, codecs};

/// Operations of the shorter run: they do the same work each time.
const OPERATIONS: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--run", name, part, operations] = words[..] {
        return run(name, part, operations);
    }
    if words.iter().any(|word| word.starts_with('-')) {
        eprintln!("usage: codecs [NAME…]");
        return ExitCode::from(2);
    }
    match table(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("codecs: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What runs under callgrind: one operation, so many times.
fn run(name: &str, part: &str, operations: &str) -> ExitCode {
    let part = if part == Part::Encode.word() { Part::Encode } else { Part::Both };
    let (Ok(operations), Some(codec)) =
        (operations.parse::<u32>(), codecs(part).into_iter().find(|codec| codec.name() == name))
    else {
        eprintln!("no such operation");
        return ExitCode::from(2);
    };
    let right = (0..operations).all(|_| codec.run());
    ExitCode::from(u8::from(!right))
}

fn table(words: &[&str]) -> Result<(), Problem> {
    callgrind::version()?;
    println!(
        "{:<36} {:>7} {:>9} {:>7} {:>9} {:>7}",
        "operation", "answer", "encode", "allocs", "decode", "allocs"
    );
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.starts_with(word));
    for codec in codecs(Part::Both).iter().filter(|codec| chosen(codec.name())) {
        let (encode, both) = (cost(codec.name(), Part::Encode)?, cost(codec.name(), Part::Both)?);
        println!(
            "{:<36} {:>7} {:>9.0} {:>7.1} {:>9.0} {:>7.1}",
            codec.name(),
            codec.answer(),
            encode.instructions,
            encode.allocations,
            both.instructions - encode.instructions,
            both.allocations - encode.allocations,
        );
    }
    Ok(())
}

fn cost(name: &str, part: Part) -> Result<Cost, Problem> {
    let arguments =
        |n: u32| ["--run", name, part.word(), &n.to_string()].map(str::to_owned).to_vec();
    callgrind::cost(OPERATIONS, PATIENCE, &[], arguments)
}
