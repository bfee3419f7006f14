//! Mistakes that were made once. Each test failed before its correction.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::time::Duration;

use origin_core::call::{Action, CallSpec};
use origin_core::config::{Mode, Policy, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Candidate, Condition, Place};
use origin_core::outcome::{Outcome, Pushback};
use origin_core::policy::breaker::State;
use origin_core::service::Order;
use origin_core::{Address, Call, Event, Service, Time, Verdict};

fn candidate(port: u16, condition: Condition) -> Candidate {
    let address = Address::parse(&format!("http://10.0.0.1:{port}")).unwrap();
    Candidate { condition, ..Candidate::new("a".into(), Place::Primary, address) }
}

fn service(policy: &Policy, conditions: &[Condition]) -> Service {
    let rules = Rules::of(policy, "policy").unwrap();
    let mut service = Service::new("billing".into(), rules, 1);
    let candidates = (1..).zip(conditions).map(|(port, c)| candidate(port, *c)).collect();
    service.resolve(Time::ZERO, Resolution::Found(candidates));
    service
}

/// Begins a call; the address it is sent to, or how it ends.
fn send(service: &mut Service, number: u64, now: Time) -> Result<(Call, Action), Verdict> {
    let mut call =
        Call::new(CallSpec { idempotent: Some(true), ..CallSpec::DEFAULT }, 3, number).asked(now);
    match call.step(service, now, Event::Begin) {
        action @ Action::Send { .. } => Ok((call, action)),
        Action::Done(verdict) => Err(verdict),
        other => panic!("{other:?}"),
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, pushback: Pushback::NONE }
}

fn ports(service: &mut Service) -> Vec<String> {
    let mut seen: Vec<String> = (0..60)
        .map(|number| {
            let (mut call, action) = send(service, number, Time::ZERO).unwrap();
            let Action::Send { attempt, to, .. } = action else { unreachable!() };
            let address = service.address(to).unwrap().as_str().to_owned();
            let ended = Event::Finished(attempt, answered(200));
            let _ = call.step(service, Time::ZERO, ended);
            address
        })
        .collect();
    seen.sort();
    seen.dedup();
    seen
}

/// The order given to the breaker of the service was kept in the rules, and another configuration
/// dropped it: calls passed although an operator had forbidden them.
#[test]
fn an_order_to_the_service_breaker_survives_another_configuration() {
    let policy = Policy::default();
    let mut service = service(&policy, &[Condition::Unknown]);
    service.order_service(Time::ZERO, Order::KeepOpen);
    assert!(send(&mut service, 0, Time::ZERO).is_err());
    service.reconfigure(Time::ZERO, Rules::of(&policy, "policy").unwrap(), Vec::new());
    assert!(send(&mut service, 1, Time::ZERO).is_err());
    service.order_service(Time::ZERO, Order::Reset);
    assert!(send(&mut service, 2, Time::ZERO).is_ok());
}

/// The breaker of the service judged the duration of the last attempt: a call that was slow
/// because its first attempts were, was not.
#[test]
fn the_service_breaker_judges_the_duration_of_the_whole_call() {
    let mut policy = Policy::default();
    policy.service_breaker.mode = Mode::Enforce;
    policy.service_breaker.window = Some(Duration::from_secs(10));
    policy.service_breaker.minimum_calls = 1;
    policy.service_breaker.slow_call = Duration::from_millis(100);
    policy.service_breaker.slow_rate = Some(0.5);
    let mut service = service(&policy, &[Condition::Unknown; 2]);
    let (mut call, action) = send(&mut service, 0, Time::ZERO).unwrap();
    let Action::Send { attempt, .. } = action else { unreachable!() };
    let mut now = Time::from_millis(150);
    let mut action = call.step(&mut service, now, Event::Finished(attempt, answered(503)));
    while let Action::WaitUntil(at) = action {
        now = now.max(at);
        action = call.step(&mut service, now, Event::Wake);
    }
    let Action::Send { attempt, .. } = action else { panic!("{action:?}") };
    now = now.plus(Duration::from_millis(1));
    let _ = call.step(&mut service, now, Event::Finished(attempt, answered(200)));
    let breaker = service.snapshot(now).limits.breaker;
    assert!(matches!(breaker, State::Open { .. }), "{breaker:?}");
}

/// What a source says of its instances decides until active checks know better: warned ones are
/// used when the good ones do not suffice, critical ones when nobody else is left.
#[test]
fn the_condition_of_an_instance_decides_its_place() {
    use Condition::{Critical, Passing, Warning};
    let mut policy = Policy::default();
    policy.failover.over_provisioning = 100;
    let all = |conditions: &[Condition]| ports(&mut service(&policy, conditions));
    let none_at = |seen: Vec<String>, port| !seen.iter().any(|s| s.ends_with(&format!(":{port}")));
    assert!(none_at(all(&[Passing, Passing, Critical]), 3));
    assert_eq!(all(&[Passing, Warning]).len(), 2, "half of the good ones do not suffice");
    assert_eq!(all(&[Critical, Critical]).len(), 2, "nobody else is left");
    assert_eq!(all(&[Warning, Critical]), ["http://10.0.0.1:1"]);
}
