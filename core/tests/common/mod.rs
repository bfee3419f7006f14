//! A bench for services and their calls: drives many calls by hand and judges every decision.
//! What it asserts holds whatever the script: permits are conserved, attempts are bounded,
//! nothing is sent outside of a deadline, nothing unsafe is repeated, the budget is kept.
#![allow(dead_code, unreachable_pub)] // each test file uses its part of it
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::sync::Arc;
use std::time::Duration;

use origin_core::call::{AttemptId, Choice};
use origin_core::config::{Policy, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Candidate, Place};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::policy::breaker::State;
use origin_core::policy::health::Status;
use origin_core::snapshot::EndpointSnapshot;
use origin_core::{Action, Address, Call, CallSpec, EndpointId, Event, Service, Time, Verdict};

/// Endpoints in clusters `c0`, `c1`, … of these sizes; `c0` is the local one.
pub fn candidates(sizes: &[usize]) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (tier, size) in sizes.iter().enumerate() {
        let place = [Place::Local, Place::Primary, Place::Backup][tier.min(2)];
        for n in 0..*size {
            let address = Address::parse(&format!("http://c{tier}-{n}:80")).unwrap();
            found.push(Candidate::new(format!("c{tier}").into(), place, address));
        }
    }
    found
}

/// The compiled rules of a policy.
pub fn rules(change: impl FnOnce(&mut Policy)) -> Rules {
    let mut policy = Policy::default();
    change(&mut policy);
    Rules::of(&policy, "policy").unwrap()
}

/// One of the outcomes a script can name.
pub fn outcome(n: u8) -> Outcome {
    let failed = |fault, sent| Outcome::Failed { fault, sent };
    match n % 12 {
        0..=2 => Outcome::status(200),
        3 => Outcome::status(503),
        4 => Outcome::status(500),
        5 => Outcome::status(404),
        6 => Outcome::status(429),
        7 => failed(Fault::Connect, Sent::Never),
        8 => failed(Fault::ConnectTimeout, Sent::Never),
        9 => failed(Fault::Reset, Sent::Maybe),
        10 => failed(Fault::Timeout, Sent::Maybe),
        _ => failed(Fault::Protocol, Sent::Maybe),
    }
}

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Parked(Time, u64),
    Waiting(Time),
    Live(AttemptId, EndpointId),
    Over(Verdict),
}

/// One call and what has become of it.
#[derive(Clone, Debug)]
pub struct Track {
    pub call: Call,
    pub spec: CallSpec,
    pub at: At,
    pub deadline: Time,
    pub path: Vec<(Arc<str>, Arc<str>)>,
    pub choices: Vec<Choice>,
    pub outcomes: Vec<Outcome>,
    steps: u32,
    /// How often the endpoints had changed when it began.
    changes: u32,
    /// When the repeat that it waits for was paid.
    paid: Option<u64>,
}

/// A service, its calls, and a plain model of its budget.
#[derive(Clone, Debug)]
pub struct Bench {
    pub service: Service,
    pub calls: Vec<Track>,
    pub now: Time,
    pub log: Vec<(usize, Action)>,
    changes: u32,
    begun: Vec<u64>,
    repeats: Vec<u64>,
}

impl Bench {
    pub fn new(sizes: &[usize], rules: Rules) -> Bench {
        let mut service = Service::new("billing".into(), rules, 11);
        service.resolve(Time::ZERO, Resolution::Found(candidates(sizes)));
        Bench {
            service,
            calls: Vec::new(),
            now: Time::ZERO,
            log: Vec::new(),
            changes: 0,
            begun: Vec::new(),
            repeats: Vec::new(),
        }
    }

    /// Discovery knows other endpoints now.
    pub fn change(&mut self, sizes: &[usize]) {
        self.changes += 1;
        self.service.resolve(self.now, Resolution::Found(candidates(sizes)));
    }

    pub fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    fn tick(&self) -> u64 {
        self.now.as_millis() / 1_000
    }

    /// Begins a call; its place in `calls`.
    pub fn begin(&mut self, spec: CallSpec) -> usize {
        let total = spec.total.unwrap_or(self.service.rules().total);
        let number = self.calls.len();
        self.calls.push(Track {
            call: Call::new(spec, 5, number as u64),
            spec,
            at: At::Waiting(self.now),
            deadline: self.now.plus(total),
            path: Vec::new(),
            choices: Vec::new(),
            outcomes: Vec::new(),
            steps: 0,
            changes: self.changes,
            paid: None,
        });
        self.begun.push(self.tick());
        self.step(number, Event::Begin);
        number
    }

    /// Ends the live attempt of a call; `false` when it has none.
    pub fn finish(&mut self, number: usize, outcome: Outcome) -> bool {
        let At::Live(attempt, _) = self.calls[number].at else { return false };
        self.calls[number].outcomes.push(outcome);
        self.step(number, Event::Finished(attempt, outcome));
        true
    }

    /// Wakes a call that waits, if its time has come or its epoch moved.
    pub fn wake(&mut self, number: usize) -> bool {
        let due = match self.calls[number].at {
            At::Waiting(until) => until <= self.now,
            At::Parked(until, epoch) => until <= self.now || self.service.epoch() != epoch,
            At::Live(..) | At::Over(_) => false,
        };
        if due {
            self.step(number, Event::Wake);
        }
        due
    }

    pub fn abandon(&mut self, number: usize) {
        if !matches!(self.calls[number].at, At::Over(_)) {
            self.step(number, Event::Abandoned);
        }
    }

    /// Wakes, answers and times out until every call is over.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let open = |t: &Track| !matches!(t.at, At::Over(_));
            let Some(number) = self.calls.iter().position(open) else { return };
            match self.calls[number].at {
                At::Waiting(until) | At::Parked(until, _) => {
                    self.now = self.now.max(until);
                    self.wake(number);
                }
                At::Live(..) => {
                    self.finish(number, Outcome::status(200));
                }
                At::Over(_) => (),
            }
        }
        panic!("does not settle: {:?}", self.calls);
    }

    /// Endpoints that are counted as busy.
    pub fn outstanding(&mut self) -> u64 {
        let snapshot = self.service.snapshot(self.now);
        snapshot.endpoints.iter().map(|e| u64::from(e.outstanding)).sum()
    }

    fn step(&mut self, number: usize, event: Event) {
        let (now, tick) = (self.now, self.tick());
        let max = self.service.rules().max_attempts;
        let (ready, out) = self.ready_labels();
        let track = &mut self.calls[number];
        track.steps += 1;
        assert!(track.steps < 100, "endless: {track:?}");
        let action = track.call.step(&mut self.service, now, event);
        self.log.push((number, action));
        let last = track.outcomes.last().copied();
        let maybe = last.is_some_and(|o| !matches!(o, Outcome::Failed { sent: Sent::Never, .. }));
        // A repeat of what may have left is paid when it is decided, given back when it is not made.
        if maybe
            && matches!(event, Event::Finished(..))
            && matches!(action, Action::Send { .. } | Action::WaitUntil(_))
        {
            self.repeats.push(tick);
            track.paid = Some(tick);
            let rules = self.service.rules();
            let recent = |list: &[u64]| list.iter().filter(|at| **at + 10 > tick).count() as u64;
            let earned = recent(&self.begun) * rules.budget.ppm
                + u64::from(rules.budget.min_per_second) * 10_000_000;
            let spent = recent(&self.repeats) * 1_000_000;
            assert!(!rules.budget.enabled || spent <= earned, "the budget is overdrawn: {track:?}");
        }
        track.at = match action {
            Action::Send { attempt, to, deadline, why, .. } => {
                assert!(attempt.0 <= max, "too many attempts: {track:?}");
                assert!(now < deadline.at && deadline.at <= track.deadline, "{action:?} {track:?}");
                assert!(!maybe || track.spec.idempotent == Some(true), "unsafe repeat: {track:?}");
                if let Some(Outcome::Answered { status, .. }) = last {
                    assert!(status >= 500, "repeats after {status}");
                }
                let label = self.service.label(to).unwrap();
                assert!(ready.contains(&label), "{label:?} was not ready");
                // Endpoints that come and go may stand in for one another in what a call remembers.
                let same = track.changes == self.changes;
                let repeated = track.path.contains(&label);
                assert!(!same || repeated == (why == Choice::Again), "{why:?} {track:?}");
                if repeated && same {
                    let fresh = ready
                        .iter()
                        .find(|label| !track.path.contains(label) && !out.contains(label));
                    assert_eq!(fresh, None, "an untried one was ready: {track:?}");
                }
                track.path.push(label);
                track.choices.push(why);
                track.paid = None;
                At::Live(attempt, to)
            }
            Action::WaitUntil(until) => {
                assert!(until > now && until <= track.deadline, "{action:?} at {now:?}");
                At::Waiting(until)
            }
            Action::Cancel(_) => panic!("a driver that cannot wake is told to cancel: {track:?}"),
            Action::Park { until, epoch } => {
                assert!(until > now && until <= track.deadline, "{action:?} at {now:?}");
                At::Parked(until, epoch)
            }
            Action::Done(verdict) => {
                if let Some(paid) = track.paid.take()
                    && let Some(at) = self.repeats.iter().position(|tick| *tick == paid)
                {
                    self.repeats.remove(at);
                }
                At::Over(verdict)
            }
        };
        self.judge();
    }

    /// Those whose breakers let somebody through, and those that are ejected or found unhealthy,
    /// which is no breaker's matter.
    #[allow(clippy::type_complexity)]
    fn ready_labels(&mut self) -> (Vec<(Arc<str>, Arc<str>)>, Vec<(Arc<str>, Arc<str>)>) {
        let permits = self.service.rules().breaker.half_open_permits;
        let limit = permits.max(self.service.rules().breaker.half_open_successes);
        let ready = |state: State| match state {
            State::Closed => true,
            State::Open { .. } => false,
            State::HalfOpen { out, successes, .. } => out < permits && out + successes < limit,
        };
        let snapshot = self.service.snapshot(self.now);
        let label = |e: &EndpointSnapshot| (e.cluster.clone(), e.address.clone());
        let out = |e: &&EndpointSnapshot| {
            e.ejected_for.is_some() || matches!(e.health, Status::Unhealthy | Status::Degraded)
        };
        let known = &snapshot.endpoints;
        let ready = known.iter().filter(|e| ready(e.breaker)).map(label).collect();
        (ready, known.iter().filter(out).map(label).collect())
    }

    /// What holds between any two steps.
    fn judge(&mut self) {
        let known = |t: &&Track| match t.at {
            At::Live(_, to) => self.service.address(to).is_some(),
            _ => false,
        };
        let live = self.calls.iter().filter(known).count() as u64;
        let snapshot = self.service.snapshot(self.now);
        let outstanding: u64 = snapshot.endpoints.iter().map(|e| u64::from(e.outstanding)).sum();
        assert_eq!(outstanding, live, "permits: {snapshot:?}");
        for e in &snapshot.endpoints {
            if let State::HalfOpen { out, .. } = e.breaker {
                assert!(out <= e.outstanding, "{e:?}");
            }
        }
        let tick = self.tick();
        let recent = |list: &[u64]| list.iter().filter(|at| **at + 10 > tick).count() as u64;
        let rules = self.service.rules();
        let earned = recent(&self.begun) * rules.budget.ppm
            + u64::from(rules.budget.min_per_second) * 10_000_000;
        let spent = recent(&self.repeats) * 1_000_000;
        if rules.budget.enabled {
            let left = earned.saturating_sub(spent) / 1_000_000;
            assert_eq!(snapshot.budget, left, "budget, as {:?}", self.log.last());
        }
        assert_eq!(self.service.counts().misuse, 0);
    }

    /// When the first breaker that is not closed changes by itself.
    pub fn due(&mut self) -> Time {
        let due = |state: State| match state {
            State::Closed => Time::NEVER,
            State::Open { until } | State::HalfOpen { until, .. } => until,
        };
        let snapshot = self.service.snapshot(self.now);
        snapshot.endpoints.iter().map(|e| due(e.breaker)).min().unwrap_or(Time::NEVER)
    }
}
