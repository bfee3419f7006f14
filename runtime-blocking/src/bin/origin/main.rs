//! `origin`: the resilient HTTP client as a command. `call` makes one call from a script, `demo`
//! shows what the client makes of an outage. This room holds the command line and the exit codes.

mod call;
mod demo;
mod exit;
mod live;
mod load;
mod span;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes of `origin call`:
  0  answered with a status below 400
  1  the command line or the configuration is wrong; nothing was sent
  2  discovery does not know the service
  3  no answer: refused, unreachable, broken or every candidate failed
  4  no answer in time
  5  answered with a 4xx status
  6  answered with a 5xx status, also by the last endpoint of several that failed
  7  discovery failed, so nobody knows where the service is
  8  there was an answer, but it broke off, was too large or could not be written

Exit codes of `origin demo`:
  0  the expectations held (with --discovery: calls were answered)
  1  they did not, or the command line is wrong
  2, 3, 4, 7  as above, with --discovery when the first call fails

Errors go to stderr: one line on what happened, one on what to do about it.";

/// Calls services that are found by discovery, and keeps calling while parts of them are down.
#[derive(Debug, Parser)]
#[command(name = "origin", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scripted outage on this machine and watch the client live through it.
    #[command(after_help = demo::HELP)]
    Demo(demo::Args),
    /// Call a service once and print its answer.
    #[command(after_help = EXIT_CODES)]
    Call(call::Args),
}

fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(Cli { command: Command::Demo(args) }) => demo::run(&args),
        Ok(Cli { command: Command::Call(args) }) => call::run(&args),
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nobody is left to tell if even this cannot be printed.
            let _ = error.print();
            code
        }
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
