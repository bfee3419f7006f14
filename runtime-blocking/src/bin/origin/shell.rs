//! `origin completions` and `origin man`: both made of the command line itself.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Cli;
use crate::exit::{self, Refusal};
use crate::text;

/// The command line of `origin completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// The command line of `origin man`.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The page of this command; default: that of `origin` itself.
    command: Option<String>,
}

pub(crate) fn completions(args: &Completions) -> Result<u8, Refusal> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "origin", &mut out);
    text::print(&out)?;
    Ok(exit::OK)
}

pub(crate) fn man(args: &Man) -> Result<u8, Refusal> {
    let mut command = Cli::command();
    command.build();
    if let Some(name) = &args.command {
        let found = command.get_subcommands().find(|one| one.get_name() == name).cloned();
        command = found.ok_or_else(|| {
            Refusal::Usage(format!("there is no command {name:?}"), "see `origin --help`")
        })?;
        command = command.display_name(format!("origin-{name}"));
    }
    let mut out = Vec::new();
    clap_mangen::Man::new(command).render(&mut out).map_err(|error| Refusal::output(&error))?;
    text::print(&out)?;
    Ok(exit::OK)
}
