//! One call: from what the caller asked to what the caller gets. The order of things, in one
//! place:
//!
//! 1. endpoints are known, or the call parks until discovery has an answer;
//! 2. the total deadline leaves room for an attempt;
//! 3. an endpoint is picked: clusters in failover order, within a cluster the less loaded of the
//!    ready ones; suspects after everything sound; at most `attempts_per_cluster` in a cluster
//!    while another is untried; endpoints that were tried only when nothing else is left, and not
//!    more than `attempts_per_endpoint` times;
//! 4. the attempt is sent under `min(attempt, remaining)`;
//! 5. its outcome is counted by the endpoint's breaker and watch, once; the breaker of a closed
//!    endpoint counts a call that fails there again and again as one failure;
//! 6. it is repeated only if that is safe, attempts are left, somewhere is ready to take it, and
//!    (for a request that may have left) the service's retry budget pays for it;
//! 7. it waits only where waiting helps: before using the same cluster again after it answered
//!    with trouble, never before moving to another cluster.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::discovery::directory::Resolution;
use crate::outcome::{Fault, Outcome, Pushback, Sent};
use crate::policy::backoff;
use crate::policy::breaker::Permit;
use crate::policy::budget::Held;
use crate::pool::{EndpointId, Tried, Want};
use crate::rng::Pcg32;
use crate::service::Service;
use crate::time::Time;

/// What the caller asks for, as far as decisions depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSpec {
    /// Whether repeating the request has no further effect. A request that may have left is
    /// repeated only then.
    pub idempotent: bool,
    /// Deadline of the whole call, instead of the policy's.
    pub total: Option<Duration>,
    /// Limit of one attempt, instead of the policy's.
    pub attempt: Option<Duration>,
    /// Whether the body is left to the caller: an answer is then a success of its endpoint's
    /// breaker only when [`Service::body_done`] says so.
    pub streamed: bool,
    /// Statuses that mean "try elsewhere" for this operation, besides the policy's. 0 is none.
    pub also_retry: [u16; 4],
}

/// Which attempt of a call, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u8);

/// Which deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadlineKind {
    /// `deadline.total` of the call.
    Total,
    /// `deadline.attempt`.
    Attempt,
}

/// A point in time, and what it is the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// When.
    pub at: Time,
    /// Of what.
    pub kind: DeadlineKind,
}

/// Why an attempt goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The most preferred cluster.
    Preferred,
    /// The clusters before it have no sound endpoint ready.
    Spill,
    /// Another endpoint of the same cluster.
    OtherEndpoint,
    /// Another cluster, after a failure in the one before.
    Failover,
    /// An endpoint that was tried before: nothing else is left.
    Again,
}

/// What happened, told by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The call starts.
    Begin,
    /// The time of [`Action::WaitUntil`] or [`Action::Park`] came, or the epoch moved.
    Wake,
    /// The attempt ended.
    Finished(AttemptId, Outcome),
    /// The caller dropped the call.
    Abandoned,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send the request to this endpoint and report [`Event::Finished`].
    Send {
        /// Its number.
        attempt: AttemptId,
        /// Where to.
        to: EndpointId,
        /// To be given up then, reported as [`Fault::Timeout`].
        deadline: Deadline,
        /// Why there.
        why: Choice,
    },
    /// Nothing to do before `until` unless the service's epoch is no longer `epoch`.
    Park {
        /// Wake then at the latest.
        until: Time,
        /// The present epoch.
        epoch: u64,
    },
    /// Wake then.
    WaitUntil(Time),
    /// Over.
    Done(Verdict),
}

/// What the call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The response of the last attempt is the answer, whatever its status.
    Answered(Ticket),
    /// There is no answer.
    Failed {
        /// Why.
        why: Why,
        /// When it may be worth trying again; [`Time::NEVER`] when that is unknown.
        until: Time,
    },
}

/// Names the attempt whose response the caller holds, in case its body fails later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub(crate) endpoint: EndpointId,
    pub(crate) permit: Permit,
}

/// Why a call ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The discovery document does not name the service.
    UnknownService,
    /// There is no discovery document.
    Discovery,
    /// The service has no endpoints.
    NoEndpoints,
    /// Every endpoint's breaker is open, or its half-open permits are out.
    Refused,
    /// This deadline passed, or leaves no room for what would have to come.
    Deadline(DeadlineKind),
    /// All attempts are used, or nobody is left to take another.
    Exhausted,
    /// The retry budget is spent.
    Budget,
    /// The request may have left, and repeating it is not safe.
    NotRepeatable,
    /// The response body exceeds its limit.
    BodyTooLarge,
    /// The request cannot be sent as it is, to nobody.
    Request,
    /// The caller dropped the call.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    New,
    Parked,
    Waiting(Time),
    Live(Live),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) endpoint: EndpointId,
    pub(crate) permit: Permit,
    pub(crate) sent_at: Time,
    kind: DeadlineKind,
    /// Whether this call has been at the endpoint before.
    pub(crate) again: bool,
    /// Whether success is only known when the body has been read.
    pub(crate) streamed: bool,
}

/// The state of one call. Owned by whoever drives it; allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    spec: CallSpec,
    rng: Pcg32,
    /// When the caller asked; [`Time::NEVER`] until the call begins.
    asked: Time,
    deadline: Time,
    phase: Phase,
    held: Option<Held>,
    tried: Tried,
    attempts: u8,
    /// Waits so far: the exponent of the next one.
    waits: u8,
    /// Cluster of the last attempt, and attempts there in a row.
    tier: u32,
    in_tier: u8,
    /// Attempts at endpoints that had been tried before.
    repeats: u8,
    /// Discovery failures seen while parked.
    unresolved: u8,
    last: Option<Outcome>,
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
            held: None,
            tried: Tried::default(),
            attempts: 0,
            waits: 0,
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
                self.deadline = asked.plus(self.spec.total.unwrap_or(service.rules.total));
                service.budget.deposit(now);
                service.counts.calls += 1;
                self.begin(service, now)
            }
            (Event::Wake, Phase::Parked) => self.begin(service, now),
            (Event::Wake, Phase::Waiting(until)) if now < until => Action::WaitUntil(until),
            (Event::Wake, Phase::Waiting(_)) => self.launch(service, now),
            (Event::Finished(id, outcome), Phase::Live(live)) if id.0 == self.attempts => {
                self.finished(service, now, live, outcome)
            }
            (Event::Abandoned, phase) => {
                if let Phase::Live(live) = phase {
                    service.release(live.endpoint, live.permit);
                }
                if let Some(held) = self.held.take() {
                    service.budget.refund(now, held);
                }
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
                    Phase::Waiting(until) => Action::WaitUntil(until),
                    Phase::Live(live) => Action::WaitUntil(live.sent_at),
                    Phase::Parked => Action::Park { until: self.deadline, epoch: service.epoch() },
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
            self.phase = Phase::Parked;
            return Action::Park { until: self.deadline, epoch: service.epoch() };
        }
        match &service.resolution {
            Resolution::Found(_) | Resolution::Pending => self.launch(service, now),
            Resolution::Absent(_) => self.fail(service, now, Why::UnknownService, Time::NEVER),
            Resolution::Failed { next_try, .. } => {
                let next_try = *next_try;
                self.fail(service, now, Why::Discovery, next_try)
            }
        }
    }

    /// Whether discovery failed but will be tried again soon enough to wait for it.
    fn should_sit_out(&mut self, service: &Service, now: Time) -> bool {
        let Resolution::Failed { next_try, .. } = service.resolution else { return false };
        self.unresolved = self.unresolved.saturating_add(u8::from(self.phase == Phase::Parked));
        let soon = next_try <= now.plus(SOON) && next_try.plus(service.rules.floor) < self.deadline;
        soon && self.unresolved < PATIENCE
    }

    /// Picks an endpoint and sends, or ends the call.
    fn launch(&mut self, service: &mut Service, now: Time) -> Action {
        let rules = &service.rules;
        let remaining = now.until(self.deadline);
        if remaining < rules.floor || remaining.is_zero() {
            return self.fail(service, now, Why::Deadline(DeadlineKind::Total), Time::NEVER);
        }
        let Some((index, why)) = self.pick(service, now) else {
            if service.pool.tiers.is_empty() {
                return self.fail(service, now, Why::NoEndpoints, Time::NEVER);
            }
            let why = if self.attempts == 0 { Why::Refused } else { Why::Exhausted };
            let until = service.pool.due();
            return self.fail(service, now, why, until);
        };
        let limit = self.spec.attempt.unwrap_or(rules.attempt);
        let kind = if remaining <= limit { DeadlineKind::Total } else { DeadlineKind::Attempt };
        let at = now.plus(limit.min(remaining));
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
        self.held = None; // what was held is spent now
        let again = why == Choice::Again;
        self.repeats += u8::from(again);
        self.phase = Phase::Live(Live {
            endpoint,
            permit,
            sent_at: now,
            kind,
            again,
            streamed: self.spec.streamed,
        });
        let deadline = Deadline { at, kind };
        Action::Send { attempt: AttemptId(self.attempts), to: endpoint, deadline, why }
    }

    fn finished(
        &mut self,
        service: &mut Service,
        now: Time,
        live: Live,
        outcome: Outcome,
    ) -> Action {
        self.last = Some(outcome);
        service.settle(now, &live, outcome);
        let rules = &service.rules;
        let never_sent = matches!(outcome, Outcome::Failed { sent: Sent::Never, .. });
        let pushback = match outcome {
            Outcome::Answered { status, pushback } => {
                let elsewhere =
                    rules.statuses.has(status) || self.spec.also_retry.contains(&status);
                // A status of 0 cannot come from the wire; it would match an empty place.
                if !elsewhere || status == 0 || !self.spec.idempotent {
                    return self.answered(service, live);
                }
                pushback
            }
            Outcome::Failed { fault: Fault::Request, .. } => {
                return self.fail(service, now, Why::Request, Time::NEVER);
            }
            Outcome::Failed { fault: Fault::BodyTooLarge, .. } => {
                return self.fail(service, now, Why::BodyTooLarge, Time::NEVER);
            }
            Outcome::Failed { fault, .. } => {
                if fault == Fault::Timeout && live.kind == DeadlineKind::Total {
                    return self.fail(
                        service,
                        now,
                        Why::Deadline(DeadlineKind::Total),
                        Time::NEVER,
                    );
                }
                if !never_sent && !self.spec.idempotent {
                    let why = match fault {
                        Fault::Timeout => Why::Deadline(DeadlineKind::Attempt),
                        _ => Why::NotRepeatable,
                    };
                    return self.fail(service, now, why, Time::NEVER);
                }
                Pushback::NONE
            }
        };
        if self.attempts >= rules.max_attempts {
            return self.fail(service, now, Why::Exhausted, Time::NEVER);
        }
        let Some((index, why)) = self.pick(service, now) else {
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
            let wait =
                backoff::wait(u32::from(self.waits), pushback, &service.rules, &mut self.rng);
            self.waits = self.waits.saturating_add(1);
            wait
        } else {
            Duration::ZERO
        };
        if now.plus(wait).plus(service.rules.floor) > self.deadline {
            return self.fail(service, now, Why::Deadline(DeadlineKind::Total), Time::NEVER);
        }
        if !never_sent {
            let Some(held) = service.budget.withdraw(now, &service.rules.budget) else {
                service.notice_suppressed(now, self.tier, outcome);
                return self.fail(service, now, Why::Budget, Time::NEVER);
            };
            self.held = Some(held);
        }
        if wait.is_zero() {
            return self.launch(service, now);
        }
        let until = now.plus(wait);
        self.phase = Phase::Waiting(until);
        Action::WaitUntil(until)
    }

    /// Where the next attempt should go. See the order at the top of this file.
    fn pick(&mut self, service: &Service, now: Time) -> Option<(u32, Choice)> {
        let Service { pool, rules, .. } = service;
        let tiers = pool.tiers.len();
        let first = self.attempts == 0;
        // The last attempts are kept for clusters that have not been tried.
        let current = self.tier as usize;
        let ahead = || (current + 1..tiers).filter(|tier| pool.ready(*tier) > 0).count();
        let left = usize::from(rules.max_attempts.saturating_sub(self.attempts));
        let stay = first || (self.in_tier < rules.per_cluster && left > ahead());
        let start = if first { 0 } else { current + usize::from(!stay) };
        for want in [Want::Fresh, Want::Untried] {
            for tier in (start..tiers).chain(0..start.min(tiers)) {
                if let Some(index) = pool.choose(tier, now, rules, &self.tried, want, &mut self.rng)
                {
                    let choice = match (first, tier == current) {
                        (true, _) if tier == 0 => Choice::Preferred,
                        (true, _) => Choice::Spill,
                        (false, true) => Choice::OtherEndpoint,
                        (false, false) => Choice::Failover,
                    };
                    return Some((index, choice));
                }
            }
        }
        if self.repeats + 1 >= rules.per_endpoint {
            return None;
        }
        for want in [Want::Sound, Want::Any] {
            for tier in 0..tiers {
                if let Some(index) = pool.choose(tier, now, rules, &self.tried, want, &mut self.rng)
                {
                    return Some((index, Choice::Again));
                }
            }
        }
        None
    }

    fn answered(&mut self, service: &mut Service, live: Live) -> Action {
        self.phase = Phase::Done;
        service.counts.answered += 1;
        Action::Done(Verdict::Answered(Ticket { endpoint: live.endpoint, permit: live.permit }))
    }

    fn fail(&mut self, service: &mut Service, now: Time, why: Why, until: Time) -> Action {
        // A repeat that was paid for and is not made.
        if let Some(held) = self.held.take() {
            service.budget.refund(now, held);
        }
        self.phase = Phase::Done;
        service.counts.failed += 1;
        Action::Done(Verdict::Failed { why, until })
    }
}
