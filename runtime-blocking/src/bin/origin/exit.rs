//! What the tool tells a script: one number. All of them are here, with the text that `--help`, the
//! manual page and docs/TOOL.md have of them; and how a refusal is told on stderr.

use std::io::{self, Write};

use origin_blocking::{ConfigError, Error, Response};

use crate::text;

pub(crate) const OK: u8 = 0;
pub(crate) const USAGE: u8 = 1;
pub(crate) const MISSED: u8 = 1;
pub(crate) const UNKNOWN_SERVICE: u8 = 2;
pub(crate) const NO_ANSWER: u8 = 3;
pub(crate) const DEADLINE: u8 = 4;
pub(crate) const CLIENT_ERROR: u8 = 5;
pub(crate) const SERVER_ERROR: u8 = 6;
pub(crate) const DISCOVERY: u8 = 7;
pub(crate) const UNUSABLE: u8 = 8;
pub(crate) const DEGRADED: u8 = 9;
pub(crate) const UNHEALTHY: u8 = 10;

/// For `--help` and the manual, in which a plain terminal has room for 73 columns.
pub(crate) const CODES: &str = "\
Exit codes:
  0   done; a call was answered with a status below 400; all services are
      well
  1   the command line or the configuration is wrong, and nothing was
      sent; or an expectation did not hold (demo, check-config --strict,
      stamp --validate)
  2   discovery does not know the service
  3   no answer: refused, unreachable, broken or every candidate failed
  4   no answer in time
  5   answered with a 4xx status: also an object or a secret that is not
      there
  6   answered with a 5xx status, also by the last endpoint of several
      that failed
  7   discovery failed, so nobody knows where the service is
  8   there was an answer, but it broke off, was too large, cannot be
      read or written
  9   status: a service is degraded, or has not said in time how it is
  10  status: a service is unhealthy

Errors go to stderr: one line on what happened, one on what to do about
it. The end of the pipe that reads the output is no error.";

/// What keeps a command from doing what it is for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The command line, or a file it names.
    Usage(String, &'static str),
    /// The library says why.
    Error(Error),
    /// There was something to tell, and it could not be read or written.
    Unusable(String, &'static str),
    /// Discovery knows nothing, and why.
    Blind(String),
    /// A service that discovery does not know.
    Unknown(String),
    /// Whoever reads the output has gone away, and is content with what it got.
    Gone,
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal::Error(error.into())
    }
}

impl Refusal {
    /// A file that cannot be used.
    pub(crate) fn file(path: &str, error: &io::Error) -> Refusal {
        Refusal::Usage(format!("{path}: {error}"), "name a file that can be read, or written")
    }

    /// Output that cannot be written.
    pub(crate) fn output(error: &io::Error) -> Refusal {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Refusal::Gone,
            _ => Refusal::Unusable(format!("stdout: {error}"), "give the output a place to go"),
        }
    }

    /// A mistake in the configuration.
    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Refusal {
        Refusal::Error(Error::Config(ConfigError::new(field, reason)))
    }

    /// Says on stderr what it is, and returns the exit code.
    pub(crate) fn told(&self) -> u8 {
        match self {
            Refusal::Usage(what, advice) => {
                say(what, advice);
                USAGE
            }
            Refusal::Unusable(what, advice) => {
                say(what, advice);
                UNUSABLE
            }
            Refusal::Error(error) => {
                explain(error);
                of_error(error)
            }
            Refusal::Blind(why) => {
                say(&format!("discovery failed: {why}"), "see whether the registry can be reached");
                DISCOVERY
            }
            Refusal::Unknown(name) => {
                let advice = "see `origin services` for all of them";
                say(&format!("unknown service {name:?}"), advice);
                UNKNOWN_SERVICE
            }
            Refusal::Gone => OK,
        }
    }
}

/// The number for an answer.
pub(crate) fn of_answer(reply: &Response) -> u8 {
    of_status(reply.status().as_u16())
}

fn of_status(status: u16) -> u8 {
    match status {
        500.. => SERVER_ERROR,
        400.. => CLIENT_ERROR,
        _ => OK,
    }
}

/// The number for a call without answer.
pub(crate) fn of_error(error: &Error) -> u8 {
    match error {
        Error::Config(_) | Error::Request { .. } | Error::Credential { .. } => USAGE,
        Error::UnknownService { .. } => UNKNOWN_SERVICE,
        Error::Discovery { .. } => DISCOVERY,
        Error::Deadline(_) => DEADLINE,
        Error::Status { status, .. } => of_status(*status),
        Error::Body { .. } | Error::TooLarge { .. } | Error::Decode { .. } => UNUSABLE,
        // It was an answer, whatever its status says.
        Error::Rejected { .. } => UNUSABLE,
        // Every candidate was tried, and the last one may have answered. With a body or without, a
        // script should see the same number for the same trouble.
        _ => match error.status().map(of_status) {
            Some(code) if code != OK => code,
            _ => NO_ANSWER,
        },
    }
}

/// Says on stderr what happened and what to do about it.
pub(crate) fn explain(error: &Error) {
    say(&error.to_string(), advice(error));
}

/// What a person can do about it who has a shell, and not the library at hand.
pub(crate) fn advice(error: &Error) -> &'static str {
    match error {
        Error::Status { status, .. } | Error::Rejected { status, .. } => match status {
            401 | 403 => "give a token or credentials that may do this",
            404 | 410 => "see whether the name is right, and whether it is there",
            429 => "ask again later",
            500.. => "see what the log of the service says",
            _ => "see what the service expects of such a request",
        },
        error => error.advice(),
    }
}

/// The same for what is not an error of the library.
pub(crate) fn say(what: &str, advice: &str) {
    // One line each, whatever a peer has put into its names.
    warn(&format!("origin: {}\n  advice: {advice}", text::clean(what)));
}

/// Writes lines to stderr. Should nobody be there to read them, the exit code still tells.
pub(crate) fn warn(lines: &str) {
    let _ = writeln!(io::stderr(), "{}", text::clean_lines(lines));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_text_once() {
        for code in [
            OK,
            USAGE,
            UNKNOWN_SERVICE,
            NO_ANSWER,
            DEADLINE,
            CLIENT_ERROR,
            SERVER_ERROR,
            DISCOVERY,
            UNUSABLE,
            DEGRADED,
            UNHEALTHY,
        ] {
            let line = format!("  {code:<2}  ");
            let lines = CODES.lines().filter(|text| text.starts_with(&line));
            assert_eq!(lines.count(), 1, "{code}");
        }
    }
}
