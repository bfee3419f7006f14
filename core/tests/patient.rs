//! A call that takes long by its nature is left alone where another would be looked after.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::sync::Arc;
use std::time::Duration;

use origin_core::config::{Policy, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Role, plan};
use origin_core::outcome::{Fault, Outcome, Sent};
use origin_core::{Action, Address, Call, CallSpec, EndpointId, Event, Service, Time, Verdict};

fn begin(service: &mut Service, now: Time, number: u64, patient: bool) -> (Call, Action) {
    let spec = CallSpec { idempotent: Some(true), patient, ..CallSpec::default() };
    let mut call = Call::new(spec, 7, number).abreast(3);
    let action = call.step(service, now, Event::Begin);
    (call, action)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two endpoints whose answers take 10 ms, as is known by now.
fn known(now: &mut Time) -> Service {
    let rules = Rules::of(&Policy::default(), "policy").unwrap();
    let mut service = Service::new("storage".into(), rules, 7);
    let cluster: Arc<str> = "here".into();
    let places: Vec<_> = ["http://10.0.0.1:9000", "http://10.0.0.2:9000"]
        .map(|text| (cluster.clone(), Role::Primary, Address::parse(text).unwrap()))
        .into();
    service.resolve(Time::ZERO, Resolution::Found(plan::injected(&places, None)));
    for number in 0..50 {
        answer(&mut service, now, number, false, ms(10));
    }
    service
}

/// One call that is answered after `took`.
fn answer(service: &mut Service, now: &mut Time, number: u64, patient: bool, took: Duration) {
    let (mut call, action) = begin(service, *now, number, patient);
    let Action::Send { attempt, .. } = action else { panic!("{action:?}") };
    *now = now.plus(took);
    let done = call.step(service, *now, Event::Finished(attempt, Outcome::status(200)));
    assert!(matches!(done, Action::Done(Verdict::Answered(_))));
}

/// Whether an endpoint is last in line.
fn suspect(service: &mut Service, now: Time, id: EndpointId) -> bool {
    let label = service.label(id).unwrap().1;
    let endpoints = service.snapshot(now).endpoints;
    endpoints.iter().find(|endpoint| endpoint.address == label).unwrap().suspect
}

#[test]
fn silence_says_nothing_where_much_is_sent() {
    let mut now = Time::ZERO;
    let mut service = known(&mut now);
    for (number, patient) in [(100, false), (101, true)] {
        let (mut call, action) = begin(&mut service, now, number, patient);
        let Action::Send { wake, deadline, .. } = action else { panic!("{action:?}") };
        assert_eq!(wake == Time::NEVER, patient, "{wake:?} of {:?}", deadline.at);
        let _ = call.step(&mut service, now, Event::Abandoned);
    }
}

#[test]
fn much_is_more_than_a_socket_takes_at_once() {
    let spec = |bytes| CallSpec::DEFAULT.sending(bytes).patient;
    assert!(!spec(0) && !spec(64 << 10) && spec((64 << 10) + 1));
    assert!(CallSpec { patient: true, ..CallSpec::DEFAULT }.sending(0).patient);
}

#[test]
fn an_endpoint_that_takes_a_large_body_is_not_silent_and_one_that_has_stopped_is() {
    let mut now = Time::ZERO;
    let mut service = known(&mut now);
    let (mut upload, action) = begin(&mut service, now, 100, true);
    let Action::Send { to, attempt, .. } = action else { panic!("{action:?}") };
    // Two seconds, with a piece each 20 ms: others go there as before.
    for _ in 0..100 {
        now = now.plus(ms(20));
        service.moved(now, to);
    }
    assert!(!suspect(&mut service, now.plus(ms(10)), to));
    // Nothing for as long: it is last in line, and the upload stays where it is all the same.
    now = now.plus(ms(2_000));
    assert!(suspect(&mut service, now, to));
    let action = upload.step(&mut service, now, Event::Wake);
    assert!(matches!(action, Action::WaitUntil(_)), "{action:?}");
    // One piece more, and it is as good as the other one.
    service.moved(now, to);
    assert!(!suspect(&mut service, now, to));
    let done = upload.step(&mut service, now, Event::Finished(attempt, Outcome::status(200)));
    assert!(matches!(done, Action::Done(Verdict::Answered(_))));
    // What is moved when nothing is out is the past.
    service.moved(now.plus(ms(5)), to);
}

#[test]
fn how_long_much_takes_is_not_taken_for_usual() {
    let mut now = Time::ZERO;
    let mut service = known(&mut now);
    for number in 100..110 {
        answer(&mut service, &mut now, number, true, ms(5_000));
    }
    // As long as before the line stays where it is: far below the five seconds of these.
    let (mut call, action) = begin(&mut service, now, 200, false);
    let Action::Send { to, wake, .. } = action else { panic!("{action:?}") };
    assert!(wake < now.plus(ms(200)), "{:?}", now.until(wake));
    let _ = call.step(&mut service, now, Event::Abandoned);
    assert!(!suspect(&mut service, now, to));
}

#[test]
fn time_that_is_up_while_bytes_move_is_no_trouble() {
    for (moves, trouble) in [(true, false), (false, true)] {
        let mut now = Time::ZERO;
        let mut service = known(&mut now);
        let (mut upload, action) = begin(&mut service, now, 100, true);
        let Action::Send { to, attempt, deadline, .. } = action else { panic!("{action:?}") };
        while moves && now < deadline.at {
            now = now.plus(ms(20));
            service.moved(now, to);
        }
        now = deadline.at;
        let late = Outcome::Failed { fault: Fault::Timeout, sent: Sent::Maybe };
        let _ = upload.step(&mut service, now, Event::Finished(attempt, late));
        let _ = upload.step(&mut service, now, Event::Abandoned);
        assert_eq!(suspect(&mut service, now, to), trouble);
    }
}
