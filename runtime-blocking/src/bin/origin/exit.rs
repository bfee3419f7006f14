//! What the tool tells a script: one number. The list is in `--help`.

use std::io::{self, Write};

use origin_blocking::{Error, Response};

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
        // Every candidate was tried, and the last one did answer. With a body or without, a
        // script should see the same number for the same trouble.
        Error::Exhausted(_) => error.status().map_or(NO_ANSWER, of_status),
        _ => NO_ANSWER,
    }
}

/// Says on stderr what happened and what to do about it.
pub(crate) fn explain(error: &Error) {
    say(&error.to_string(), error.advice());
}

/// The same for what is not an error of the library.
pub(crate) fn say(what: &str, advice: &str) {
    // One line each, whatever a peer has put into its names.
    let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    warn(&format!("origin: {what}\n  advice: {advice}"));
}

/// Writes to stderr. Should nobody be there to read it, the exit code still tells.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
