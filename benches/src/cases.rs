//! The cases of the core: one call each, from its begin to its verdict, with the service in the
//! state that the case is about. Time is virtual, so a case does the same work in every run.

use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use origin_core::call::{AttemptId, Why};
use origin_core::config::{Policy, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Role, plan};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Action, Address, Call, CallSpec, ConfigError, Event, Service, Time, Verdict};

/// Seed of every case.
const SEED: u64 = 42;
/// How long an attempt takes in virtual time.
const LATENCY: Duration = Duration::from_micros(100);
/// How long breakers stay open where a case needs them open: longer than any measurement.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);
/// After so many calls a case whose endpoint only ever fails starts anew, before the breaker,
/// told to bear this many failures and a few more, would open.
const FRESH_AFTER: u32 = 900_000;

/// One measured operation: `true` when the call went the way the case says.
pub type Operation = Box<dyn FnMut() -> bool>;

/// A case and what it may cost.
pub struct Case {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// Instructions one operation may take.
    pub instructions: u64,
    /// Heap allocations one operation may make.
    pub allocations: u64,
    make: fn() -> Result<Operation, Unfit>,
}

impl Case {
    /// Sets the case up.
    ///
    /// # Errors
    /// A configuration that the core refuses: the case itself is wrong.
    pub fn operation(&self) -> Result<Operation, Unfit> {
        (self.make)()
    }
}

/// A case that cannot be set up.
#[derive(Debug)]
pub struct Unfit(String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl From<ConfigError> for Unfit {
    fn from(error: ConfigError) -> Unfit {
        Unfit(error.to_string())
    }
}

/// What a successful call may cost: about a tenth of a microsecond of work, and nothing that
/// could stall it.
const SUCCESS: u64 = 2_500;
/// A failover is two attempts and two notices.
const FAILOVER: u64 = 5_600;

/// All cases.
pub const CASES: [Case; 8] = [
    Case {
        name: "success_locked",
        about: "success, 3 endpoints, two lock/unlock pairs of a std mutex",
        instructions: SUCCESS,
        allocations: 0,
        make: || success_locked(3),
    },
    Case {
        name: "success_3",
        about: "success, 3 endpoints in one tier",
        instructions: SUCCESS,
        allocations: 0,
        make: || success(3),
    },
    Case {
        name: "success_100",
        about: "success, 100 endpoints in one tier",
        instructions: SUCCESS,
        allocations: 0,
        make: || success(100),
    },
    Case {
        name: "success_10000",
        about: "success, 10 000 endpoints in one tier",
        instructions: SUCCESS,
        allocations: 0,
        make: || success(10_000),
    },
    Case {
        name: "success_10000_open90",
        about: "success, 10 000 endpoints in one tier, 9 000 breakers open",
        instructions: SUCCESS,
        allocations: 0,
        make: || mostly_open(9_000, 10_000),
    },
    Case {
        name: "refused",
        about: "refusal, 3 endpoints, all breakers open",
        instructions: SUCCESS,
        allocations: 0,
        make: || refused(3),
    },
    Case {
        name: "refused_10000",
        about: "refusal, 10 000 endpoints, all breakers open",
        instructions: SUCCESS,
        allocations: 0,
        make: || refused(10_000),
    },
    Case {
        name: "failover",
        about: "connection refused in the first tier, success in the second",
        instructions: FAILOVER,
        allocations: 0,
        make: failover,
    },
];

/// The case called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

/// A service with its virtual clock and the numbers of its calls.
struct Lab {
    now: Time,
    calls: u64,
}

impl Lab {
    const fn new() -> Lab {
        Lab { now: Time::ZERO, calls: 0 }
    }

    fn call(&mut self) -> Call {
        self.calls += 1;
        let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
        Call::new(spec, SEED, self.calls)
    }

    fn attempt_passes(&mut self) {
        self.now = self.now.plus(LATENCY);
    }
}

const REFUSED: Outcome = Outcome::Failed { fault: Fault::Connect, sent: Sent::Never };

fn sent(action: Action) -> Option<AttemptId> {
    match action {
        Action::Send { attempt, .. } => Some(attempt),
        _ => None,
    }
}

fn answered(action: Action) -> bool {
    matches!(black_box(action), Action::Done(Verdict::Answered(_)))
}

fn success_locked(endpoints: usize) -> Result<Operation, Unfit> {
    let service = Mutex::new(service(&[endpoints], &Policy::default())?);
    let mut lab = Lab::new();
    Ok(Box::new(move || {
        let lock = || service.lock().unwrap_or_else(PoisonError::into_inner);
        let mut call = lab.call();
        let Some(attempt) = sent(call.step(&mut lock(), lab.now, Event::Begin)) else {
            return false;
        };
        lab.attempt_passes();
        let event = Event::Finished(attempt, Outcome::status(200));
        answered(call.step(&mut lock(), lab.now, event))
    }))
}

fn success(endpoints: usize) -> Result<Operation, Unfit> {
    Ok(succeeding(service(&[endpoints], &Policy::default())?))
}

fn mostly_open(open: usize, all: usize) -> Result<Operation, Unfit> {
    let policy = patient();
    let mut service = service(&[open], &policy)?;
    open_all(&mut service)?;
    // Endpoints that stay keep their breakers; the new ones are sound.
    service.resolve(Time::ZERO, endpoints(&[all])?);
    Ok(succeeding(service))
}

fn succeeding(mut service: Service) -> Operation {
    let mut lab = Lab::new();
    Box::new(move || {
        let mut call = lab.call();
        let Some(attempt) = sent(call.step(&mut service, lab.now, Event::Begin)) else {
            return false;
        };
        lab.attempt_passes();
        let event = Event::Finished(attempt, Outcome::status(200));
        answered(call.step(&mut service, lab.now, event))
    })
}

fn refused(endpoints: usize) -> Result<Operation, Unfit> {
    let mut service = service(&[endpoints], &patient())?;
    open_all(&mut service)?;
    let mut lab = Lab::new();
    Ok(Box::new(move || {
        let mut call = lab.call();
        lab.attempt_passes();
        let action = black_box(call.step(&mut service, lab.now, Event::Begin));
        matches!(action, Action::Done(Verdict::Failed { why: Why::Refused, .. }))
    }))
}

fn failover() -> Result<Operation, Unfit> {
    let mut policy = Policy::default();
    (policy.breaker.failures, policy.breaker.failure_rate) = (Some(FRESH_AFTER + 2), None);
    let (mut service, mut lab, mut calls) = (service(&[1, 1, 1], &policy)?, Lab::new(), 0);
    let fresh = service.clone();
    Ok(Box::new(move || {
        calls += 1;
        if calls == FRESH_AFTER {
            (service, calls) = (fresh.clone(), 0);
            lab.now = Time::ZERO;
        }
        let mut call = lab.call();
        let Some(first) = sent(call.step(&mut service, lab.now, Event::Begin)) else {
            return false;
        };
        lab.attempt_passes();
        let event = Event::Finished(first, REFUSED);
        let Some(second) = sent(call.step(&mut service, lab.now, event)) else { return false };
        lab.attempt_passes();
        let event = Event::Finished(second, Outcome::status(200));
        answered(call.step(&mut service, lab.now, event)) && call.attempts() == 2
    }))
}

/// Default policies, but breakers that stay open.
fn patient() -> Policy {
    let mut policy = Policy::default();
    (policy.breaker.open, policy.breaker.open_max) = (LONG, LONG);
    policy
}

/// Fails attempts until every breaker is open.
fn open_all(service: &mut Service) -> Result<(), Unfit> {
    let mut lab = Lab::new();
    loop {
        let mut call = lab.call();
        let mut action = call.step(service, lab.now, Event::Begin);
        if matches!(action, Action::Done(Verdict::Failed { why: Why::Refused, .. })) {
            return Ok(());
        }
        while let Some(attempt) = sent(action) {
            action = call.step(service, lab.now, Event::Finished(attempt, REFUSED));
        }
        if let Action::WaitUntil(_) = action {
            // Repeats in the same cluster would wait; the next call fails as well.
            action = call.step(service, lab.now, Event::Abandoned);
        }
        if !matches!(action, Action::Done(_)) {
            return Err(Unfit(format!("breakers cannot be opened: {action:?}")));
        }
    }
}

/// A service with so many endpoints in each tier.
fn service(tiers: &[usize], policy: &Policy) -> Result<Service, Unfit> {
    let mut service = Service::new("bench".into(), Rules::of(policy, "policy")?, SEED);
    service.resolve(Time::ZERO, endpoints(tiers)?);
    Ok(service)
}

fn endpoints(tiers: &[usize]) -> Result<Resolution, Unfit> {
    let mut list = Vec::new();
    for (tier, count) in tiers.iter().enumerate() {
        let cluster: Arc<str> = format!("cluster-{tier}").into();
        for n in 0..*count {
            let text = format!("http://10.{tier}.{}.{}:8080", n / 250, n % 250);
            let address = Address::parse(&text).map_err(|e| Unfit(e.to_string()))?;
            list.push((cluster.clone(), Role::Backup, address));
        }
    }
    Ok(Resolution::Found(plan::injected(&list, Some("cluster-0"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_goes_the_way_it_says() {
        for case in &CASES {
            let mut operation = case.operation().unwrap();
            assert!((0..100).all(|_| operation()), "{}", case.name);
        }
    }
}
