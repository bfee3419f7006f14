//! When a remembered answer may stand in for a call that failed: what the end of a call is to the
//! cache. Whether the answer is still within its bounds is the store's to say.

use super::Reason;
use crate::call::Why;
use crate::error::{Error, Failure, Skip};
use crate::service::Overload;

impl Reason {
    /// The reasons for which a stale answer may be used where a call ended so, the most telling
    /// one first; none where it would hide a mistake of the caller.
    #[must_use]
    pub fn instead_of(error: &Error) -> &'static [Reason] {
        match error {
            Error::Discovery { .. } | Error::Body { .. } => &[Reason::Error],
            Error::Refused(failure) | Error::Deadline(failure) | Error::Exhausted(failure) => {
                Reason::of_failure(failure)
            }
            _ => &[],
        }
    }

    fn of_failure(failure: &Failure) -> &'static [Reason] {
        match failure.why {
            Why::Overload(Overload::Breaker) => &[Reason::BreakerOpen],
            Why::Overload(_) => &[Reason::BudgetEmpty],
            Why::Refused if failure.skipped.iter().any(|s| s.why == Skip::Breaker) => {
                &[Reason::BreakerOpen]
            }
            Why::Budget => &[Reason::BudgetEmpty, Reason::Error],
            Why::Deadline(_) if failure.report.attempts.is_empty() => &[Reason::DeadlineDying],
            Why::Deadline(_) => &[Reason::DeadlineDying, Reason::Error],
            _ => &[Reason::Error],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::DeadlineKind;
    use crate::request::Report;

    fn failure(why: Why) -> Box<Failure> {
        Box::new(Failure { why, retry_in: None, report: Report::default(), skipped: Vec::new() })
    }

    #[test]
    fn what_ended_a_call_is_the_reason_for_an_answer_instead() {
        use Reason::{BreakerOpen, BudgetEmpty, DeadlineDying, Error as Failed};
        let of = |why| Reason::instead_of(&Error::Exhausted(failure(why))).to_vec();
        assert_eq!(of(Why::Overload(Overload::Breaker)), [BreakerOpen]);
        assert_eq!(of(Why::Budget), [BudgetEmpty, Failed]);
        assert_eq!(of(Why::Deadline(DeadlineKind::Total)), [DeadlineDying]);
        assert_eq!(of(Why::Refused), [Failed], "no breaker is among those skipped");
        let unknown = Error::UnknownService { service: "s".into(), known: Vec::new() };
        assert!(Reason::instead_of(&unknown).is_empty());
    }
}
