//! After an attempt has ended: what its outcome means, whether and where the call tries again,
//! after which wait, and who pays.

use std::time::Duration;

use super::machine::{Call, Live, Phase};
use super::{Action, Choice, DeadlineKind, Why};
use crate::notice::Suppressed;
use crate::outcome::{Fault, Outcome, Pushback, Sent};
use crate::policy::backoff::{Advice, Cause};
use crate::policy::retryable::{NoRetry, NotRetried};
use crate::policy::tokens::After;
use crate::service::Service;
use crate::time::Time;

/// What the end of an attempt means for its call.
pub(super) enum Next {
    /// It is the answer.
    Answer,
    /// There will be none.
    End(Why),
    /// Another attempt may do better.
    Repeat,
}

impl Call {
    /// Pays for a repeat of a request that may have left.
    pub(super) fn pay(
        &mut self,
        service: &mut Service,
        now: Time,
        after: After,
    ) -> Result<(), Suppressed> {
        let budget = self.rules(service).budget;
        let Some(held) = service.budget.withdraw(now, &budget) else {
            let available = service.budget.available(now, &budget);
            return Err(Suppressed::Budget { available });
        };
        match service.tokens.try_take(after, &service.rules.tokens) {
            Ok(taken) => {
                (self.held, self.taken) = (Some(held), Some(taken));
                Ok(())
            }
            Err(empty) => {
                service.budget.refund(now, held);
                Err(Suppressed::Tokens { have: empty.have, need: empty.need })
            }
        }
    }

    /// A repeat that was paid for is not made.
    pub(super) fn unpay(&mut self, service: &mut Service, now: Time) {
        if let Some(held) = self.held.take() {
            service.budget.refund(now, held);
            if let Some(taken) = self.taken.take() {
                service.tokens.refund(taken, &service.rules.tokens);
            }
        }
    }

    /// What an outcome means for the call.
    pub(super) fn judge(&self, service: &Service, live: &Live, outcome: Outcome) -> Next {
        let total = live.kind == DeadlineKind::Total;
        if total && matches!(outcome, Outcome::Failed { fault: Fault::Timeout, .. }) {
            return Next::End(Why::Deadline(DeadlineKind::Total));
        }
        let (answered, asked, status) = match outcome {
            Outcome::Answered { status, pushback } => {
                let asked = (pushback == Pushback::FORBIDDEN).then_some(NoRetry::Header);
                (true, asked, status)
            }
            Outcome::Failed { .. } => (false, None, 0),
        };
        let rules = self.rules(service);
        let idempotent = Some(self.idempotent);
        match rules.retryable.allows(self.spec.method, idempotent, outcome, asked) {
            Ok(()) => Next::Repeat,
            // A status of 0 cannot come from the wire; it would match an empty place.
            Err(NotRetried::Status(_))
                if status != 0 && self.idempotent && self.spec.also_retry.contains(&status) =>
            {
                Next::Repeat
            }
            Err(_) if answered => Next::Answer,
            Err(NotRetried::Final(Fault::BodyTooLarge)) => Next::End(Why::BodyTooLarge),
            Err(NotRetried::Final(_)) => Next::End(Why::Request),
            Err(NotRetried::NotRepeatable(_)) => Next::End(match outcome {
                Outcome::Failed { fault: Fault::Timeout, .. } => {
                    Why::Deadline(DeadlineKind::Attempt)
                }
                _ => Why::NotRepeatable,
            }),
            Err(_) => Next::End(Why::NotRetried),
        }
    }

    /// Nothing is out and the last attempt failed: goes on, or ends the call.
    pub(super) fn repeat(
        &mut self,
        service: &mut Service,
        now: Time,
        outcome: Outcome,
        advice: Advice,
    ) -> Action {
        let never_sent = matches!(outcome, Outcome::Failed { sent: Sent::Never, .. });
        if self.attempts >= self.most(service) {
            return self.fail(service, now, Why::Exhausted, Time::NEVER);
        }
        let Ok((index, why)) = self.pick(service, now) else {
            let until = service.pool.due();
            return self.fail(service, now, Why::Exhausted, until);
        };
        if why == Choice::Again && matches!(outcome, Outcome::Failed { fault: Fault::NotHttp, .. })
        {
            // It will not be an HTTP address next time either.
            return self.fail(service, now, Why::Exhausted, Time::NEVER);
        }
        let same_cluster = service.tier_of(index) == Some(self.tier);
        let wait = if why == Choice::Again || (same_cluster && !never_sent) {
            let rules = service.profile(self.spec.profile);
            let throttled = rules.retryable.throttles(outcome);
            let cause = if throttled { Cause::Throttled } else { Cause::Failed };
            match self.backoff.next(cause, advice, &rules.backoff, &mut self.rng) {
                Ok((wait, _)) => wait,
                Err(_) => return self.fail(service, now, Why::NotRetried, Time::NEVER),
            }
        } else {
            Duration::ZERO
        };
        if now.plus(wait).plus(self.rules(service).floor) > self.deadline {
            return self.fail(service, now, Why::Deadline(DeadlineKind::Total), Time::NEVER);
        }
        if !never_sent {
            let after = match outcome {
                Outcome::Failed { fault: Fault::Timeout, .. } => After::Timeout,
                _ if service.rules.retryable.throttles(outcome) => After::Throttling,
                _ => After::Failure,
            };
            if let Err(by) = self.pay(service, now, after) {
                service.notice_suppressed(now, self.tier, outcome, by);
                return self.fail(service, now, Why::Budget, Time::NEVER);
            }
        }
        if wait.is_zero() {
            return self.send(service, now, index, why);
        }
        let until = now.plus(wait);
        self.phase = Phase::Waiting(until);
        Action::WaitUntil(until)
    }
}
