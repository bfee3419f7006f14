//! Attempts side by side: when a call looks after those that are out, whether it hedges one or
//! takes it back from an endpoint that has gone silent.

use std::time::Duration;

use super::machine::{Call, Phase};
use super::{Action, Choice};
use crate::outcome::{Fault, Outcome, Sent};
use crate::policy::tokens::After;
use crate::service::Service;
use crate::time::Time;

/// When a call that could not be helped looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Call {
    /// Whether another attempt is possible at all after the next one.
    pub(super) fn can_repeat(&self, service: &Service) -> bool {
        self.idempotent && self.attempts + 1 < self.most(service)
    }

    /// When the call should look after its attempts: the earliest time at which it could hedge or
    /// rescue one.
    pub(super) fn next_look(&self, service: &Service, now: Time) -> Time {
        if self.abreast < 2
            || self.spec.patient
            || !self.idempotent
            || self.attempts >= self.most(service)
            || !service.pool.has_choice()
        {
            return Time::NEVER;
        }
        let settings = &self.rules(service).hedge;
        let mut look = match self.copies.map(|copies| copies.due(settings)) {
            Some(Ok(at)) if at > now => at,
            _ => Time::NEVER,
        };
        for live in self.lives.iter().flatten() {
            look = look.min(service.look(now, live));
        }
        look
    }

    /// Time to look after the attempts that are out.
    pub(super) fn look_after(&mut self, service: &mut Service, now: Time) -> Action {
        let remaining = now.until(self.deadline);
        if remaining < self.rules(service).floor || remaining.is_zero() {
            // Too late for another attempt (the driver may be late): what is out ends the call.
            self.phase = Phase::Live(Time::NEVER);
            return Action::WaitUntil(Time::NEVER);
        }
        let silent = self.lives.iter().flatten().find(|live| service.is_silent(now, live)).copied();
        if let Some(live) = silent
            && self.pick_beside(service, now).is_some()
            && self.pay(service, now, After::Timeout).is_ok()
        {
            self.drop_live(live.number);
            service.gave_up(now, &live);
            self.last = Some(Outcome::Failed { fault: Fault::Stalled, sent: Sent::Maybe });
            // The pick is made again when the driver has dropped it: time may pass between.
            self.phase = Phase::Waiting(now);
            return Action::Cancel(live.number);
        }
        if let Some(index) = self.hedge(service, now) {
            return self.send(service, now, index, Choice::Hedge);
        }
        let look = self.next_look(service, now);
        // What could not be helped now will not be looked at all the time.
        let look = if look > now { look } else { now.plus(LOOK_AGAIN) };
        // What is out ends with the call, if not before.
        let look = if look < self.deadline { look } else { Time::NEVER };
        self.phase = Phase::Live(look);
        Action::WaitUntil(look)
    }

    /// Where a second attempt beside the first goes, if one is due, allowed and paid for.
    pub(super) fn hedge(&mut self, service: &mut Service, now: Time) -> Option<u32> {
        let mut copies = self.copies?;
        let settings = self.rules(service).hedge;
        let room = self.lives.iter().flatten().count() < usize::from(self.abreast);
        if !room || copies.due(&settings).ok()? > now {
            return None;
        }
        let index = self.pick_beside(service, now)?;
        let paid = service.hedge.send(now, &mut copies, &settings);
        self.copies = Some(copies);
        let paid = paid.ok()?;
        if self.pay(service, now, After::Timeout).is_err() {
            service.hedge.refund(now, paid);
            return None;
        }
        Some(index)
    }
}
