//! The machine of one call. The order of things, in one place:
//!
//! 1. endpoints are known, or the call parks until discovery has an answer;
//! 2. the total deadline leaves room for an attempt;
//! 3. an endpoint is picked (`pick.rs`);
//! 4. the attempt is sent under `min(attempt, remaining)`, or under a short leash if its endpoint
//!    went silent before and others could answer;
//! 5. its outcome is counted by the endpoint's breaker and watch, once; the breaker of a closed
//!    endpoint counts a call that fails there again and again as one failure;
//! 6. it is repeated only if that is safe, attempts are left, somewhere is ready to take it, and
//!    (for a request that may have left) the service's retry budget pays for it;
//! 7. it waits only where waiting helps: before using the same cluster again after it answered
//!    with trouble, never before moving to another cluster;
//! 8. while an attempt is out, the call may wake: to hedge it (a second attempt beside it) or, if
//!    its endpoint has gone silent, to rescue it (the next attempt instead of it). Both repeat a
//!    request that may have left, so both are subject to 6.
//!
//! The first usable answer ends the call; what is still out then is given back uncounted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::repeat::Next;
use super::{
    Action, AttemptId, CallSpec, Choice, Deadline, DeadlineKind, Event, Ticket, Verdict, Why,
};
use crate::config::Rules;
use crate::discovery::directory::Resolution;
use crate::outcome::{Class, Fault, Outcome, Sent};
use crate::policy::backoff::{Advice, Backoff};
use crate::policy::breaker::Permit;
use crate::policy::budget::Held;
use crate::policy::concurrency::Sample;
use crate::policy::hedge::Copies;
use crate::policy::queue;
use crate::policy::tokens::Taken;
use crate::pool::{EndpointId, Tried};
use crate::rng::Pcg32;
use crate::service::{Entry, Overload, Pass, Service};
use crate::time::Time;

/// Attempts of one call that can be out at the same time.
const MOST_LIVE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Phase {
    New,
    Parked,
    /// In the queue before the concurrency limit.
    Queued(queue::Ticket),
    Waiting(Time),
    /// At least one attempt is out; the time is when the call wants to look after it.
    Live(Time),
    Done,
}

/// An attempt that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) endpoint: EndpointId,
    pub(crate) permit: Permit,
    pub(crate) sent_at: Time,
    pub(crate) kind: DeadlineKind,
    pub(crate) number: AttemptId,
    why: Choice,
    /// Whether this call has been at the endpoint before.
    pub(crate) again: bool,
    /// Whether success is only known when the body has been read.
    pub(crate) streamed: bool,
    /// Whether its time says nothing of its endpoint.
    #[serde(default)]
    pub(crate) patient: bool,
}

impl Live {
    fn ticket(&self) -> Ticket {
        let Live { endpoint, permit, number, why, .. } = *self;
        Ticket { endpoint, permit, number, why }
    }
}

/// The state of one call. Owned by whoever drives it; allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    pub(super) spec: CallSpec,
    pub(super) rng: Pcg32,
    /// When the caller asked; [`Time::NEVER`] until the call begins.
    asked: Time,
    pub(super) deadline: Time,
    pub(super) phase: Phase,
    pub(super) lives: [Option<Live>; MOST_LIVE],
    /// Attempts the driver can have out at the same time.
    pub(super) abreast: u8,
    /// A repeat that is paid for and not sent yet.
    pub(super) held: Option<Held>,
    /// What it holds while it is inside the service's limits.
    pass: Option<Pass>,
    /// What the last repeat took from the retry tokens.
    pub(super) taken: Option<Taken>,
    /// When the next hedge is due, if the call is hedged.
    pub(super) copies: Option<Copies>,
    pub(super) backoff: Backoff,
    pub(super) idempotent: bool,
    pub(super) tried: Tried,
    pub(super) attempts: u8,
    /// Cluster of the last attempt, and attempts there in a row.
    pub(super) tier: u32,
    pub(super) in_tier: u8,
    /// Attempts at endpoints that had been tried before.
    pub(super) repeats: u8,
    /// Discovery failures seen while parked.
    unresolved: u8,
    pub(super) last: Option<Outcome>,
}

/// A parked call waits for a next discovery try that is at most this far away.
const SOON: Duration = Duration::from_secs(1);
/// Discovery failures a parked call sits through.
const PATIENCE: u8 = 2;

impl Call {
    /// A call that has not begun. `stream` should differ from call to call (a counter will do):
    /// its jitter is drawn from `(seed, stream)`.
    #[must_use]
    pub fn new(spec: CallSpec, seed: u64, stream: u64) -> Call {
        Call {
            spec,
            rng: Pcg32::new(seed, stream),
            asked: Time::NEVER,
            deadline: Time::NEVER,
            phase: Phase::New,
            lives: [None; MOST_LIVE],
            abreast: 1,
            held: None,
            pass: None,
            taken: None,
            copies: None,
            backoff: Backoff::default(),
            idempotent: false,
            tried: Tried::default(),
            attempts: 0,
            tier: 0,
            in_tier: 0,
            repeats: 0,
            unresolved: 0,
            last: None,
        }
    }

    /// The caller asked at `time`, before [`Event::Begin`]: the total deadline counts from there.
    #[must_use]
    pub fn asked(self, time: Time) -> Call {
        Call { asked: time, ..self }
    }

    /// The driver can wake while an attempt is out, and have `attempts` of them out at the same
    /// time. Without this a call neither hedges nor rescues. 1–3.
    #[must_use]
    pub fn abreast(self, attempts: u8) -> Call {
        Call { abreast: attempts.clamp(1, 3), ..self }
    }

    /// Attempts sent so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32::from(self.attempts)
    }

    /// When the call ends at the latest; [`Time::NEVER`] before it begins.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// What the last finished attempt met.
    #[must_use]
    pub fn last(&self) -> Option<Outcome> {
        self.last
    }

    /// The one entry: an event in, the next thing to do out.
    ///
    /// An event that does not fit the phase is a mistake of the driver: an assertion in debug
    /// builds, a counted no-op otherwise.
    #[must_use]
    pub fn step(&mut self, service: &mut Service, now: Time, event: Event) -> Action {
        service.tick(now);
        match (event, self.phase) {
            (Event::Begin, Phase::New) => {
                let asked = self.asked.min(now);
                self.asked = asked;
                let rules = service.profile(self.spec.profile);
                self.deadline = asked.plus(self.spec.total.unwrap_or(rules.total));
                let by_method = rules.retryable.repeats(self.spec.method);
                self.idempotent = self.spec.idempotent.unwrap_or(by_method);
                if rules.hedge.enabled() {
                    service.hedge.call(now);
                }
                if service.rules.checks.on() {
                    service.traffic(now);
                }
                service.budget.deposit(now);
                service.counts.calls += 1;
                self.begin(service, now)
            }
            (Event::Wake, Phase::Parked) => self.begin(service, now),
            (Event::Wake, Phase::Queued(ticket)) => {
                let entry = service.wait(now, ticket, self.deadline);
                self.entered(service, now, entry)
            }
            (Event::Wake, Phase::Waiting(until)) if now < until => Action::WaitUntil(until),
            (Event::Wake, Phase::Waiting(_)) => self.launch(service, now),
            (Event::Wake, Phase::Live(wake)) if now < wake => Action::WaitUntil(wake),
            (Event::Wake, Phase::Live(_)) => self.look_after(service, now),
            (Event::Finished(id, outcome), Phase::Live(_)) if self.is_live(id) => {
                self.finished(service, now, id, outcome)
            }
            (Event::Abandoned, phase) => {
                self.release_all(service, now);
                self.unpay(service, now);
                if let Phase::Queued(ticket) = phase {
                    service.give_up_place(ticket);
                }
                self.leave(service, now, Class::Ignored, Sample::Ignored);
                if !matches!(phase, Phase::New | Phase::Done) {
                    service.counts.abandoned += 1;
                }
                self.phase = Phase::Done;
                Action::Done(Verdict::Failed { why: Why::Abandoned, until: Time::NEVER })
            }
            (event, phase) => {
                debug_assert!(false, "driver mistake: {event:?} while {phase:?}");
                service.counts.misuse += 1;
                match phase {
                    Phase::Waiting(until) | Phase::Live(until) => Action::WaitUntil(until),
                    Phase::Parked | Phase::Queued(_) => {
                        Action::Park { until: self.deadline, epoch: service.epoch() }
                    }
                    Phase::New | Phase::Done => {
                        Action::Done(Verdict::Failed { why: Why::Abandoned, until: Time::NEVER })
                    }
                }
            }
        }
    }

    /// From the start, and whenever a parked call wakes.
    fn begin(&mut self, service: &mut Service, now: Time) -> Action {
        if service.resolution == Resolution::Pending || self.should_sit_out(service, now) {
            if now >= self.deadline {
                return self.fail(service, now, Why::Deadline(DeadlineKind::Total), Time::NEVER);
            }
            service.tally.parked += u64::from(self.phase != Phase::Parked);
            self.phase = Phase::Parked;
            return Action::Park { until: self.deadline, epoch: service.epoch() };
        }
        match &service.resolution {
            // Nothing to ask and nothing to give back.
            Resolution::Found(_) | Resolution::Pending if !service.is_gated() => {
                self.launch(service, now)
            }
            Resolution::Found(_) | Resolution::Pending => {
                let entry = service.enter(now, self.spec.priority, self.deadline);
                self.entered(service, now, entry)
            }
            Resolution::Absent(_) => self.fail(service, now, Why::UnknownService, Time::NEVER),
            Resolution::Failed { next_try, .. } => {
                let next_try = *next_try;
                self.fail(service, now, Why::Discovery, next_try)
            }
        }
    }

    /// What the service's limits say.
    fn entered(&mut self, service: &mut Service, now: Time, entry: Entry) -> Action {
        match entry {
            Entry::In(pass, at) => {
                self.pass = Some(pass);
                if at <= now {
                    return self.launch(service, now);
                }
                self.phase = Phase::Waiting(at);
                Action::WaitUntil(at)
            }
            Entry::Wait(ticket, until) => {
                self.phase = Phase::Queued(ticket);
                Action::Park { until, epoch: service.epoch() }
            }
            Entry::Out(why, until) => self.fail(service, now, Why::Overload(why), until),
        }
    }

    /// Gives back what the call holds of the service's limits.
    fn leave(&mut self, service: &mut Service, now: Time, class: Class, sample: Sample) {
        if let Some(pass) = self.pass.take() {
            service.leave(now, pass, class, sample, now.since(self.asked));
        }
    }

    /// Whether discovery failed but will be tried again soon enough to wait for it.
    fn should_sit_out(&mut self, service: &Service, now: Time) -> bool {
        let Resolution::Failed { next_try, .. } = service.resolution else { return false };
        self.unresolved = self.unresolved.saturating_add(u8::from(self.phase == Phase::Parked));
        let soon =
            next_try <= now.plus(SOON) && next_try.plus(self.rules(service).floor) < self.deadline;
        soon && self.unresolved < PATIENCE
    }

    /// Picks an endpoint and sends, or ends the call. Nothing is out.
    pub(super) fn launch(&mut self, service: &mut Service, now: Time) -> Action {
        let remaining = now.until(self.deadline);
        if remaining < self.rules(service).floor || remaining.is_zero() {
            return self.fail(service, now, Why::Deadline(DeadlineKind::Total), Time::NEVER);
        }
        match self.pick(service, now) {
            Ok((index, why)) => {
                let stalled = Outcome::Failed { fault: Fault::Stalled, sent: Sent::Maybe };
                let rescued = self.last == Some(stalled) && why != Choice::Again;
                self.send(service, now, index, if rescued { Choice::Rescue } else { why })
            }
            Err(_) if service.pool.tiers.is_empty() => {
                self.fail(service, now, Why::NoEndpoints, Time::NEVER)
            }
            Err(Some(refusal)) => {
                let why = Why::Overload(Overload::Tiers(refusal));
                self.fail(service, now, why, Time::NEVER)
            }
            Err(None) => {
                let why = if self.attempts == 0 { Why::Refused } else { Why::Exhausted };
                let until = service.pool.due();
                self.fail(service, now, why, until)
            }
        }
    }

    /// Sends the next attempt to the endpoint at `index`.
    pub(super) fn send(
        &mut self,
        service: &mut Service,
        now: Time,
        index: u32,
        why: Choice,
    ) -> Action {
        let (limit, kind) = self.limit(service, now, index);
        let Some((endpoint, permit, tier)) = service.admit(now, index) else {
            // A ready endpoint admits; if it ever did not, ending the call is better than looping.
            debug_assert!(false, "a ready endpoint refused");
            return self.fail(service, now, Why::Refused, Time::NEVER);
        };
        if self.attempts > 0
            && tier != self.tier
            && let Some(reason) = self.last
        {
            service.notice_failover(now, self.tier, tier, reason);
        }
        self.in_tier = if self.attempts > 0 && tier == self.tier { self.in_tier + 1 } else { 1 };
        self.tier = tier;
        self.tried.add(index);
        self.attempts += 1;
        if self.attempts > 1 {
            self.count_repeat(service, why);
        }
        self.held = None; // what was held is spent now
        let again = why == Choice::Again;
        self.repeats += u8::from(again);
        let number = AttemptId(self.attempts);
        let CallSpec { streamed, patient, .. } = self.spec;
        let sent_at = now;
        let live = Live { endpoint, permit, sent_at, kind, number, why, again, streamed, patient };
        if let Some(place) = self.lives.iter_mut().find(|place| place.is_none()) {
            *place = Some(live);
        }
        let at = now.plus(limit);
        if self.attempts == 1 && self.abreast > 1 && self.idempotent && !self.spec.no_hedge {
            let delay = service.hedge_delay(self.spec.profile);
            self.copies = delay.map(|delay| Copies::new(now, delay));
        }
        let wake = self.next_look(service, now).min(at);
        let wake = if wake < at { wake } else { Time::NEVER };
        self.phase = Phase::Live(wake);
        Action::Send { attempt: number, to: endpoint, deadline: Deadline { at, kind }, why, wake }
    }

    #[cold]
    fn count_repeat(&self, service: &mut Service, why: Choice) {
        let tally = &mut service.tally;
        tally.repeat(self.attempts);
        match why {
            Choice::Hedge => tally.hedges += 1,
            Choice::Rescue => tally.rescues += 1,
            _ => tally.retries += 1,
        }
    }

    /// How long an attempt at `index` may take, and what ends it.
    fn limit(&self, service: &mut Service, now: Time, index: u32) -> (Duration, DeadlineKind) {
        let remaining = now.until(self.deadline);
        let limit = match self.spec.attempt {
            Some(own) => own,
            None => service.attempt_limit(self.spec.profile),
        };
        let (limit, kind) = if remaining <= limit {
            (remaining, DeadlineKind::Total)
        } else {
            (limit, DeadlineKind::Attempt)
        };
        match service.leash(now, index) {
            Some(leash) if leash < limit && !self.spec.patient && self.can_repeat(service) => {
                (leash, DeadlineKind::Probe)
            }
            _ => (limit, kind),
        }
    }

    /// The rules this call is under.
    pub(super) fn rules<'a>(&self, service: &'a Service) -> &'a Rules {
        service.profile(self.spec.profile)
    }

    /// Attempts it has in all, the first included.
    #[must_use]
    pub fn most(&self, service: &Service) -> u8 {
        match self.spec.max_attempts {
            0 => self.rules(service).max_attempts,
            own => own.min(16),
        }
    }

    pub(super) fn is_live(&self, id: AttemptId) -> bool {
        self.lives.iter().flatten().any(|live| live.number == id)
    }

    pub(super) fn drop_live(&mut self, id: AttemptId) -> Option<Live> {
        let place = self.lives.iter_mut().find(|l| l.is_some_and(|live| live.number == id))?;
        place.take()
    }

    /// Gives back what is still out.
    fn release_all(&mut self, service: &mut Service, now: Time) {
        for place in &mut self.lives {
            if let Some(live) = place.take() {
                service.release(now, live.endpoint, live.permit);
            }
        }
    }

    fn finished(
        &mut self,
        service: &mut Service,
        now: Time,
        id: AttemptId,
        outcome: Outcome,
    ) -> Action {
        let Some(live) = self.drop_live(id) else { return Action::WaitUntil(now) };
        self.last = Some(outcome);
        service.settle(now, &live, outcome);
        let advice = match outcome {
            Outcome::Answered { pushback, .. } => Advice::from(pushback),
            Outcome::Failed { .. } => Advice::Silent,
        };
        match self.judge(service, &live, outcome) {
            Next::Answer => return self.answered(service, now, live, outcome),
            Next::End(why) => return self.fail(service, now, why, Time::NEVER),
            Next::Repeat => (),
        }
        service.tokens.on_failure(&service.rules.tokens);
        if let Some(copies) = &mut self.copies {
            copies.failed(now, advice);
        }
        if self.lives.iter().any(Option::is_some) {
            // Another attempt is out and may still answer.
            return self.look_after(service, now);
        }
        self.repeat(service, now, outcome, advice)
    }

    fn answered(
        &mut self,
        service: &mut Service,
        now: Time,
        live: Live,
        outcome: Outcome,
    ) -> Action {
        for place in &mut self.lives {
            if let Some(outrun) = place.take() {
                service.outrun(now, &outrun);
            }
        }
        if outcome.class() == Class::Success {
            service.tokens.on_success(self.taken.take(), &service.rules.tokens);
        }
        if self.pass.is_some() {
            let class = outcome.class();
            let sample = match class {
                Class::Throttled => Sample::Dropped,
                Class::Failure | Class::Ignored => Sample::Ignored,
                Class::Success if live.patient => Sample::Ignored,
                Class::Success => Sample::Success { took: now.since(live.sent_at) },
            };
            self.leave(service, now, class, sample);
        }
        self.phase = Phase::Done;
        service.counts.answered += 1;
        service.tally.answered.record(now.since(self.asked), &service.bounds);
        if self.attempts > 1 {
            service.tally.answered_by(live.number.0);
            service.tally.repeated.record(now.since(self.asked), &service.bounds);
        }
        Action::Done(Verdict::Answered(live.ticket()))
    }

    pub(super) fn fail(
        &mut self,
        service: &mut Service,
        now: Time,
        why: Why,
        until: Time,
    ) -> Action {
        self.release_all(service, now);
        self.unpay(service, now);
        let (class, sample) = match (why, self.last) {
            _ if self.attempts == 0 => (Class::Ignored, Sample::Ignored),
            (Why::Request | Why::BodyTooLarge | Why::NotRetried, _) => {
                (Class::Ignored, Sample::Ignored)
            }
            (Why::Deadline(_), _)
            | (_, Some(Outcome::Failed { fault: Fault::Timeout | Fault::Stalled, .. })) => {
                (Class::Failure, Sample::Dropped)
            }
            (_, Some(last)) if last.class() == Class::Throttled => {
                (Class::Throttled, Sample::Dropped)
            }
            _ => (Class::Failure, Sample::Ignored),
        };
        self.leave(service, now, class, sample);
        self.phase = Phase::Done;
        service.counts.failed += 1;
        service.tally.failed.record(now.since(self.asked), &service.bounds);
        service.tally.why(why);
        if self.attempts > 1 {
            service.tally.failed_after_retry += 1;
            service.tally.repeated.record(now.since(self.asked), &service.bounds);
        }
        Action::Done(Verdict::Failed { why, until })
    }
}
