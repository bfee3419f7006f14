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
    /// The page of this command, as it is called: `object get`. Default: that of `origin` itself.
    command: Vec<String>,
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
    let mut title = "origin".to_owned();
    for name in &args.command {
        let found = command.get_subcommands().find(|one| one.get_name() == name).cloned();
        command = found.ok_or_else(|| {
            Refusal::Usage(format!("{title:?} has no command {name:?}"), "see `origin --help`")
        })?;
        title = format!("{title}-{name}");
    }
    let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command = command.display_name(&title).after_help("");
    let mut out = Vec::new();
    let page = clap_mangen::Man::new(command).title(&title);
    let page = page.source(concat!("origin ", env!("CARGO_PKG_VERSION")));
    page.render(&mut out).map_err(|error| Refusal::output(&error))?;
    out.extend_from_slice(as_it_is(&below).as_bytes());
    text::print(&out)?;
    Ok(exit::OK)
}

/// What stands below the options, line by line: the tables in it are not to be filled and justified.
fn as_it_is(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let line = |line: &str| {
        let plain = line.replace('\\', "\\e").replace('-', "\\-");
        // A line that begins so would be a request.
        let guard = if plain.starts_with(['.', '\'']) { "\\&" } else { "" };
        format!("{guard}{plain}\n")
    };
    format!(".SH NOTES\n.nf\n{}.fi\n", text.lines().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_manual_stay_lines() {
        let page = as_it_is("a -b\n.c \\d\n\n'e");
        assert_eq!(page, ".SH NOTES\n.nf\na \\-b\n\\&.c \\ed\n\n\\&'e\n.fi\n");
        // As wide as the manual has room for on a plain terminal.
        for line in [crate::settings::ORDER, exit::CODES, crate::demo::HELP].join("\n").lines() {
            assert!(line.chars().count() <= 73, "{line}");
        }
    }
}
