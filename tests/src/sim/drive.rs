//! Driving calls: the twin of `origin-driver`'s flight and its two loops. What is a future or a
//! blocked thread there is a state and an event in the queue here.

use std::collections::BTreeSet;
use std::sync::Arc;

use origin_core::call::{AttemptId, Choice, DeadlineKind, Why};
use origin_core::discovery::Directory;
use origin_core::job::JobId;
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::snapshot::ServiceSnapshot;
use origin_core::{Action, Call, CallSpec, EndpointId, Event as Input, Service, Time, Verdict};

use super::record::{Done, What};
use super::world::{Event, World};
use crate::scenario::{Attempted, ErrorKind};

/// One call under way.
pub(super) struct Flight {
    pub(super) service: Arc<str>,
    pub(super) spec: CallSpec,
    pub(super) began: Time,
    pub(super) deadline: Time,
    pub(super) at: At,
    /// Moves with every state, so that timers of an earlier one are known as such.
    pub(super) turn: u32,
    pub(super) steps: u32,
    pub(super) attempts: Vec<Attempted>,
    /// The attempts that are out, and where.
    pub(super) out: Vec<(AttemptId, EndpointId)>,
    pub(super) tried: BTreeSet<EndpointId>,
    /// Whether a request of this call may have reached a server.
    pub(super) left: bool,
    pub(super) last_status: Option<u16>,
    call: Call,
}

/// Where a call is.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    /// Looking after discovery before it begins.
    Tending(JobId),
    /// Waiting for the epoch to move; perhaps carrying the fetch itself.
    Parked { until: Time, epoch: u64, carrying: Option<JobId> },
    /// Waiting for a time, or about to begin.
    Waiting,
    /// At least one attempt is out.
    Live,
}

impl Flight {
    /// The discovery job it carries.
    pub(super) fn job(&self) -> Option<JobId> {
        match self.at {
            At::Tending(id) | At::Parked { carrying: Some(id), .. } => Some(id),
            _ => None,
        }
    }
}

impl World {
    /// Makes a call; its number. It may be over at once.
    pub fn call(&mut self, service: &str, spec: CallSpec) -> u64 {
        let number = self.next_call;
        self.next_call += 1;
        let Some(name) = self.slot(service) else {
            self.done.push(Done {
                call: number,
                service: service.into(),
                began: self.now,
                ended: self.now,
                result: Err(ErrorKind::UnknownService),
                why: Some(Why::UnknownService),
                attempts: Vec::new(),
                skipped: Vec::new(),
            });
            return number;
        };
        let slot = &self.slots[&name];
        let total = spec.total.unwrap_or(slot.service.rules().total);
        let call_due = |directory: &Directory| directory.call_due(self.now, &name);
        let due = slot.discovered
            && self.directory.as_ref().is_some_and(|directory| self.now >= call_due(directory));
        let flight = Flight {
            service: name,
            spec,
            began: self.now,
            deadline: self.now.plus(total),
            at: At::Waiting,
            turn: 0,
            steps: 0,
            attempts: Vec::new(),
            out: Vec::new(),
            tried: BTreeSet::new(),
            left: false,
            last_status: None,
            call: Call::new(spec, self.seed, number).abreast(self.abreast),
        };
        self.flights.insert(number, flight);
        if due {
            self.attend();
            self.tend(number);
        } else {
            self.begin(number);
        }
        number
    }

    /// Begins the call proper. What it spent on discovery before counts: the deadline was set
    /// when the caller asked.
    pub(super) fn begin(&mut self, number: u64) {
        if let Some(flight) = self.flights.get_mut(&number) {
            let total = Some(self.now.until(flight.deadline));
            flight.call = Call::new(CallSpec { total, ..flight.spec }, self.seed, number)
                .abreast(self.abreast);
            flight.at = At::Waiting;
        }
        self.step(number, Input::Begin);
    }

    /// Hands an input to the core and does what it says.
    pub(super) fn step(&mut self, number: u64, mut input: Input) {
        loop {
            let now = self.now;
            let Some(flight) = self.flights.get_mut(&number) else { return };
            let Some(slot) = self.slots.get_mut(&flight.service) else { return };
            let service = &mut slot.service;
            flight.turn += 1;
            flight.steps += u32::from(!matches!(flight.at, At::Parked { .. }));
            let epoch = service.epoch();
            let action = flight.call.step(service, now, input);
            let roused = (service.epoch() != epoch).then(|| flight.service.clone());
            self.audit.action(now, number, flight, service, action);
            if let Some(name) = roused {
                self.rouse(&name);
            }
            let Some(flight) = self.flights.get_mut(&number) else { return };
            let Some(slot) = self.slots.get_mut(&flight.service) else { return };
            let service = &mut slot.service;
            match action {
                Action::Send { attempt, to, deadline, why, wake } => {
                    flight.at = At::Live;
                    flight.out.push((attempt, to));
                    flight.tried.insert(to);
                    let (turn, name) = (flight.turn, flight.service.clone());
                    let address = service.address(to).filter(|address| address.is_http());
                    let address = address.map(|address| address.as_str().to_owned());
                    self.write(Some(number), What::Decided(action));
                    if why == Choice::Again {
                        self.audit_again(number);
                    }
                    let Some(address) = address else {
                        let outcome = Outcome::Failed { fault: Fault::NotHttp, sent: Sent::Never };
                        self.met(number, attempt, outcome);
                        input = Input::Finished(attempt, outcome);
                        continue;
                    };
                    let timeout = Outcome::Failed { fault: Fault::Timeout, sent: Sent::Maybe };
                    let Some(slot) = self.slots.get(&name) else { return };
                    let (at, outcome) = self
                        .network
                        .attempt(now, &address, &slot.service)
                        .filter(|(at, _)| *at <= deadline.at)
                        .unwrap_or((deadline.at, timeout));
                    self.queue.push(at, Event::End { call: number, attempt, outcome });
                    if wake != Time::NEVER {
                        self.queue.push(wake, Event::Wake { call: number, turn });
                    }
                    return;
                }
                Action::Park { until, epoch } => {
                    flight.at = At::Parked { until, epoch, carrying: None };
                    self.write(Some(number), What::Decided(action));
                    if self.park(number) {
                        return;
                    }
                    input = Input::Wake;
                }
                Action::WaitUntil(until) => {
                    flight.at = if flight.out.is_empty() { At::Waiting } else { At::Live };
                    let turn = flight.turn;
                    self.write(Some(number), What::Decided(action));
                    if until != Time::NEVER {
                        self.queue.push(until, Event::Wake { call: number, turn });
                    }
                    return;
                }
                Action::Cancel(attempt) => {
                    self.write(Some(number), What::Decided(action));
                    self.met(number, attempt, given_up(Fault::Stalled));
                    input = Input::Wake;
                }
                Action::Done(verdict) => {
                    self.write(Some(number), What::Decided(action));
                    self.over(number, verdict);
                    return;
                }
            }
        }
    }

    /// The epoch of a service moved: its parked calls look.
    fn rouse(&mut self, service: &Arc<str>) {
        for (number, flight) in self.flights.iter().filter(|(_, f)| f.service == *service) {
            if let At::Parked { carrying: None, .. } = flight.at {
                self.queue.push(self.now, Event::Wake { call: *number, turn: flight.turn });
            }
        }
    }

    /// The timer of a call came, or its epoch moved.
    pub(super) fn woken(&mut self, number: u64, turn: u32) {
        let Some(flight) = self.flights.get(&number) else { return };
        if flight.turn != turn {
            return;
        }
        if !matches!(flight.at, At::Parked { .. }) || !self.park(number) {
            self.step(number, Input::Wake);
        }
    }

    /// An attempt ended.
    pub(super) fn ended(&mut self, number: u64, attempt: AttemptId, outcome: Outcome) {
        let Some(flight) = self.flights.get(&number) else { return };
        if flight.out.iter().any(|(id, _)| *id == attempt) {
            self.met(number, attempt, outcome);
            self.step(number, Input::Finished(attempt, outcome));
        }
    }

    fn met(&mut self, number: u64, attempt: AttemptId, outcome: Outcome) {
        self.write(Some(number), What::Met(outcome));
        let Some(flight) = self.flights.get_mut(&number) else { return };
        let Some(place) = flight.out.iter().position(|(id, _)| *id == attempt) else { return };
        let (_, to) = flight.out.swap_remove(place);
        let Some(slot) = self.slots.get(&flight.service) else { return };
        let (cluster, endpoint) =
            slot.service.label(to).unwrap_or_else(|| ("?".into(), "?".into()));
        flight.attempts.push(Attempted { cluster, endpoint, outcome });
        flight.left |= !matches!(outcome, Outcome::Failed { sent: Sent::Never, .. });
        if let Outcome::Answered { status, .. } = outcome {
            flight.last_status = Some(status);
        }
    }

    /// The caller drops the call, wherever it is.
    pub(super) fn drop_call(&mut self, number: u64) {
        let Some(flight) = self.flights.get_mut(&number) else { return };
        let (job, name) = (flight.job(), flight.service.clone());
        if let Some(slot) = self.slots.get_mut(&name) {
            let _ = flight.call.step(&mut slot.service, self.now, Input::Abandoned);
        }
        self.rouse(&name);
        self.flights.remove(&number);
        self.write(Some(number), What::Dropped);
        if let Some(job) = job {
            self.finish_job(Some(number), job, origin_core::job::JobOutcome::Dropped);
        }
    }

    fn over(&mut self, number: u64, verdict: Verdict) {
        while let Some((left, _)) = self.flights.get(&number).and_then(|f| f.out.first().copied()) {
            self.met(number, left, given_up(Fault::Outrun));
        }
        let Some(flight) = self.flights.remove(&number) else { return };
        let Some(slot) = self.slots.get(&flight.service) else { return };
        let service = &slot.service;
        let status = flight.last_status.unwrap_or_default();
        let (result, why) = match verdict {
            Verdict::Answered(_) => (Ok(status), None),
            Verdict::Failed { why, .. } => {
                (Err(kind(why, flight.attempts.is_empty(), service)), Some(why))
            }
        };
        let tried = |endpoint: &Arc<str>| flight.attempts.iter().any(|a| a.endpoint == *endpoint);
        let skipped = service.refusals(self.now).filter(|s| !tried(&s.endpoint));
        let done = Done {
            call: number,
            service: flight.service.clone(),
            began: flight.began,
            ended: self.now,
            result,
            why,
            skipped: skipped.map(|skipped| skipped.cluster).collect(),
            attempts: flight.attempts,
        };
        if self.now > flight.deadline {
            self.audit.note(format!("call {number} ended after its deadline: {done:?}"));
        }
        self.done.push(done);
    }

    /// A repeat at a tried endpoint is right only when no other one could take it.
    fn audit_again(&mut self, number: u64) {
        let Some(flight) = self.flights.get(&number) else { return };
        let Some(slot) = self.slots.get_mut(&flight.service) else { return };
        let tried: BTreeSet<(Arc<str>, Arc<str>)> =
            flight.tried.iter().filter_map(|id| slot.service.label(*id)).collect();
        let snapshot: ServiceSnapshot = slot.service.snapshot(self.now);
        let better = snapshot.endpoints.iter().find(|e| {
            e.breaker.word() == "closed" && !tried.contains(&(e.cluster.clone(), e.address.clone()))
        });
        if let Some(better) = better {
            self.audit.note(format!("call {number} repeats although {better:?} is untried"));
        }
    }
}

fn given_up(fault: Fault) -> Outcome {
    Outcome::Failed { fault, sent: Sent::Maybe }
}

/// The error a driver makes of a failure.
fn kind(why: Why, nothing_sent: bool, service: &Service) -> ErrorKind {
    match why {
        Why::UnknownService => ErrorKind::UnknownService,
        Why::BodyTooLarge => ErrorKind::TooLarge,
        _ if nothing_sent && service.discovery_error().is_some() => ErrorKind::Discovery,
        Why::Refused | Why::NoEndpoints | Why::Overload(_) => ErrorKind::Refused,
        Why::Deadline(DeadlineKind::Total | DeadlineKind::Attempt) => ErrorKind::Deadline,
        _ => ErrorKind::Exhausted,
    }
}
