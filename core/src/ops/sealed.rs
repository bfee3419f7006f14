//! Why secrets cannot be had: when every node that was tried answered 503, one of them is asked
//! whether it is sealed, so that the error says what somebody has to do. A 503 is repeated and
//! counted by the policies before anybody reads it, and a proxy says it, too.

use std::time::Duration;

use crate::error::Error;
use crate::outcome::Outcome;
use crate::request::{Request, Response};
use crate::vault::health::{self, Seal};
use crate::vault::{Api, Settings, VaultError};

/// Longest time for the question: the call has failed already.
const PATIENCE: Duration = Duration::from_secs(1);

/// A call that has failed, while the reason is asked for.
#[derive(Default)]
pub(super) struct Inquiry(Option<Box<Error>>);

impl Inquiry {
    /// The question, once.
    ///
    /// # Errors
    /// The failure, where there is nothing to ask or the question itself came to nothing.
    pub(super) fn ask(&mut self, settings: &Settings, error: Error) -> Result<Request, Error> {
        if let Some(first) = self.0.take() {
            return Err(*first);
        }
        let unavailable =
            |outcome: &Outcome| matches!(outcome, Outcome::Answered { status: 503, .. });
        let Error::Exhausted(failure) = &error else { return Err(error) };
        if !failure.report.attempts.iter().any(|attempt| unavailable(&attempt.outcome)) {
            return Err(error);
        }
        let Ok(question) = health::seal_status(&Api::anonymous(settings)) else {
            return Err(error);
        };
        let mut request = question.call(settings, false);
        request.spec.max_attempts = 1;
        request.spec.total = Some(PATIENCE);
        self.0 = Some(Box::new(error));
        Ok(request)
    }

    /// What the call failed for, if `reply` is the answer to the question.
    pub(super) fn answered(&mut self, settings: &Settings, reply: &Response) -> Option<Error> {
        let first = *self.0.take()?;
        let status = reply.status.as_u16();
        let seal = health::parse_seal(settings, status, &reply.body);
        Some(match (seal, first) {
            (Ok(Seal { sealed: true, .. }), Error::Exhausted(failure)) => {
                let report = Some(Box::new(failure.report));
                Error::Vault { error: Box::new(VaultError::Sealed), report }
            }
            (_, first) => first,
        })
    }
}
