//! `origin`: the resilient HTTP client as a command. This room holds the command line; each command
//! is a room of its own, and what they share is in `settings` (configuration), `look` (states),
//! `text` (words), `exit` (exit codes) and `signal`.

mod bar;
mod call;
mod check;
mod content;
mod demo;
mod exit;
mod follow;
mod frame;
mod history;
mod input;
mod live;
mod load;
mod look;
mod object;
mod register;
mod secret;
mod serve;
mod services;
mod settings;
mod shell;
mod signal;
mod span;
mod stamp;
mod status;
mod text;
mod top;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Calls services that are found by discovery, and keeps calling while parts of them are down.
#[derive(Debug, Parser)]
#[command(name = "origin", bin_name = "origin", version, after_help = after_help())]
struct Cli {
    /// When there are colours: always, never, or auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto", global = true)]
    #[arg(hide_possible_values = true, hide_default_value = true, display_order = 900)]
    color: text::Colour,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call a service once and print its answer.
    #[command(after_help = after_help())]
    Call(call::Args),
    /// List the services that discovery knows.
    Services(services::Args),
    /// Tell how services are, as a table, as JSON and as an exit code.
    #[command(after_help = exit::CODES)]
    Status(status::Args),
    /// Watch services, endpoints, breakers and notices on the whole screen.
    Top(top::Args),
    /// Print a line whenever the endpoints of a service change.
    Watch(follow::Args),
    /// Register a service at Consul.
    Register(register::Register),
    /// Take a registration at Consul back.
    Deregister(register::Deregister),
    /// Read, write, list and delete objects of storage.
    Object(object::Args),
    /// Read secrets of Vault.
    Secret(secret::Args),
    /// Stamp files with metadata, or validate their stamps.
    Stamp(stamp::Args),
    /// Check a configuration, show what it comes to, or print its schema.
    #[command(after_help = settings::ORDER)]
    CheckConfig(check::Args),
    /// Run a scripted outage on this machine and watch the client live through it.
    #[command(after_help = demo::HELP)]
    Demo(Box<demo::Args>),
    /// Print completions for a shell.
    Completions(shell::Completions),
    /// Print the manual page.
    Man(shell::Man),
}

fn after_help() -> String {
    format!("{}\n\n{}", settings::ORDER, exit::CODES)
}

fn main() -> ExitCode {
    ExitCode::from(run().unwrap_or_else(|refusal| refusal.told()))
}

/// What --color says for help and for mistakes, which are printed before the command line was read.
fn help_colour(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let words: Vec<OsString> = arguments.take_while(|word| word != "--").collect();
    let said = words.iter().enumerate().rev().find_map(|(at, word)| match word.to_str()? {
        "--color" => words.get(at + 1)?.to_str(),
        word => word.strip_prefix("--color="),
    });
    said.and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn run() -> Result<u8, exit::Refusal> {
    let matched = Cli::command().color(help_colour(std::env::args_os())).try_get_matches();
    let cli = match matched.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if even this cannot be printed.
            let _ = error.print();
            return Ok(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    text::choose(cli.color);
    match &cli.command {
        Command::Call(args) => call::run(args),
        Command::Services(args) => services::run(args),
        Command::Status(args) => status::run(args),
        Command::Top(args) => top::run(args),
        Command::Watch(args) => follow::run(args),
        Command::Register(args) => register::register(args),
        Command::Deregister(args) => register::deregister(args),
        Command::Object(args) => object::run(args),
        Command::Secret(args) => secret::run(args),
        Command::Stamp(args) => stamp::run(args),
        Command::CheckConfig(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_has_the_colours_that_are_asked_for() {
        let of = |words: &[&str]| help_colour(words.iter().map(OsString::from));
        assert_eq!(of(&["origin", "call", "--help"]), ColorChoice::Auto);
        assert_eq!(of(&["origin", "--color", "never"]), ColorChoice::Never);
        assert_eq!(of(&["origin", "--color=always", "call"]), ColorChoice::Always);
        assert_eq!(of(&["origin", "--color", "blue"]), ColorChoice::Auto);
        assert_eq!(of(&["origin", "--", "--color=never"]), ColorChoice::Auto);
    }
}
