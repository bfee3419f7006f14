//! What must hold at every moment of every run, whatever the seed. A breach is a line in
//! [`Audit::violations`], so that one run shows all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use origin_core::job::{Job, JobId, JobOutcome};
use origin_core::policy::breaker::State;
use origin_core::snapshot::ServiceSnapshot;
use origin_core::{Action, Service, Time};

use super::drive::Flight;

/// Steps no call needs: each attempt takes two, each discovery result one.
const MOST_STEPS: u32 = 200;
/// Violations kept; a broken run breaks often.
const KEPT: usize = 20;

/// The auditor of one run.
pub(super) struct Audit {
    pub(super) violations: Vec<String>,
    pub(super) turns: u64,
    /// First backoff of discovery.
    backoff: Duration,
    jobs: BTreeMap<JobId, Time>,
    last_failed_fetch: Option<Time>,
}

impl Audit {
    pub(super) fn new(backoff: Option<Duration>) -> Audit {
        Audit {
            violations: Vec::new(),
            turns: 0,
            backoff: backoff.unwrap_or_default(),
            jobs: BTreeMap::new(),
            last_failed_fetch: None,
        }
    }

    pub(super) fn note(&mut self, violation: String) {
        if self.violations.len() < KEPT {
            self.violations.push(violation);
        }
    }

    /// Judges one decision. `flight` is as it was before it.
    pub(super) fn action(
        &mut self,
        now: Time,
        number: u64,
        flight: &Flight,
        service: &Service,
        action: Action,
    ) {
        let rules = service.rules();
        let mut wrong =
            |what: &str| self.note(format!("call {number} at {now:?}: {what}: {action:?}"));
        // A call in a queue is woken whenever a place becomes free.
        if flight.steps > MOST_STEPS && !matches!(action, Action::Park { .. }) {
            wrong("does not come to an end");
        }
        match action {
            Action::Send { attempt, to, deadline, .. } => {
                if u32::from(attempt.0) > u32::from(rules.max_attempts) {
                    wrong("more attempts than allowed");
                }
                if now >= flight.deadline || deadline.at > flight.deadline || deadline.at <= now {
                    wrong("an attempt outside of the deadline");
                }
                if flight.left && flight.spec.idempotent != Some(true) {
                    wrong("repeats what may have had an effect");
                }
                if flight.last_status.is_some_and(|status| status < 500) {
                    wrong("repeats after an answer below 500");
                }
                if service.address(to).is_none() {
                    wrong("sends to an endpoint that is gone");
                }
            }
            Action::Park { until, .. } | Action::WaitUntil(until) if until <= now => {
                wrong("waits for the past");
            }
            // With an attempt out, there may be nothing else to wait for.
            Action::WaitUntil(Time::NEVER) if !flight.out.is_empty() => (),
            Action::Park { until, .. } | Action::WaitUntil(until) if until > flight.deadline => {
                wrong("waits beyond the deadline");
            }
            _ => (),
        }
    }

    /// Judges what endpoints hold against what is under way.
    pub(super) fn stock(&mut self, now: Time, s: &ServiceSnapshot, live: usize, permits: u32) {
        let outstanding: u64 = s.endpoints.iter().map(|e| u64::from(e.outstanding)).sum();
        if outstanding != live as u64 {
            self.note(format!("at {now:?} {outstanding} are counted, {live} are out: {s:?}"));
        }
        for e in &s.endpoints {
            if let State::HalfOpen { out, .. } = e.breaker
                && (out > permits || out > e.outstanding)
            {
                self.note(format!("at {now:?} {out} probes of {permits}: {e:?}"));
            }
        }
    }

    /// One fetch at a time; none sooner after a failed one than half of the first backoff.
    pub(super) fn job_sent(&mut self, now: Time, job: &Job) {
        self.jobs.retain(|_, deadline| *deadline > now);
        if let Some((id, deadline)) = self.jobs.first_key_value() {
            self.note(format!(
                "{:?} sent at {now:?} while {id:?} is out until {deadline:?}",
                job.id
            ));
        }
        let earliest = self.last_failed_fetch.map(|at| at.plus(self.backoff / 2));
        if earliest.is_some_and(|at| now < at) {
            self.note(format!("fetch at {now:?} without backoff after a failed one"));
        }
        if job.deadline <= now {
            self.note(format!("a job without time: {job:?}"));
        }
        self.jobs.insert(job.id, job.deadline);
    }

    pub(super) fn job_done(&mut self, now: Time, id: JobId, outcome: &JobOutcome) {
        self.jobs.remove(&id);
        match outcome {
            JobOutcome::Failed(_) => self.last_failed_fetch = Some(now),
            JobOutcome::Answered { status: 400.., .. } => self.last_failed_fetch = Some(now),
            JobOutcome::Answered { .. } => self.last_failed_fetch = None,
            _ => (),
        }
    }
}
