//! What replies say of an upload beside their bodies: who answered, and what may have happened
//! before. Nothing is decided here.

use std::sync::Arc;

use http::Method;

use super::super::ask;
use super::super::error::{Code, StorageError};
use crate::error::Error;
use crate::outcome::{Outcome, Sent};
use crate::request::{AttemptReport, Report, Response};

/// What the answer to [`Upload::abort`](super::Upload::abort) means. An upload that is not there any more is what was
/// wanted.
///
/// # Errors
/// [`Error::Storage`]: the parts may still be there.
pub fn aborted(reply: Response) -> Result<(), Error> {
    let Response { status, headers, body, report, .. } = reply;
    if status.is_success() {
        return Ok(());
    }
    let error = StorageError::of(&Method::DELETE, status.as_u16(), &headers, &body);
    if error.code == Code::NoSuchUpload { Ok(()) } else { Err(said(error, report)) }
}

/// The cluster that answered.
pub(super) fn cluster(report: &Report) -> Option<&Arc<str>> {
    report.attempts.last().map(|attempt| &attempt.cluster)
}

pub(super) fn may_have_arrived(attempt: &AttemptReport) -> bool {
    match attempt.outcome {
        Outcome::Answered { status, .. } => status >= 500,
        Outcome::Failed { sent, .. } => sent == Sent::Maybe,
    }
}

/// Whether an attempt before the one that was answered can have had an effect.
pub(super) fn earlier_may_have_arrived(report: &Report) -> bool {
    report.attempts.iter().rev().skip(1).any(may_have_arrived)
}

pub(super) fn said(error: StorageError, report: Report) -> Error {
    Error::Storage { error: Box::new(error), report: Some(Box::new(report)) }
}

pub(super) fn unreadable(what: &'static str, reason: String) -> Error {
    Error::Decode { service: ask::SERVICE.into(), what, reason }
}
