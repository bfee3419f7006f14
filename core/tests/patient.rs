//! A call that takes long by its nature is left alone where another would be looked after.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::sync::Arc;
use std::time::Duration;

use origin_core::config::{Policy, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Role, plan};
use origin_core::outcome::Outcome;
use origin_core::{Action, Address, Call, CallSpec, Event, Service, Time, Verdict};

fn begin(service: &mut Service, now: Time, number: u64, patient: bool) -> (Call, Action) {
    let spec = CallSpec { idempotent: Some(true), patient, ..CallSpec::default() };
    let mut call = Call::new(spec, 7, number).abreast(3);
    let action = call.step(service, now, Event::Begin);
    (call, action)
}

#[test]
fn silence_says_nothing_where_much_is_sent() {
    let rules = Rules::of(&Policy::default(), "policy").unwrap();
    let mut service = Service::new("storage".into(), rules, 7);
    let cluster: Arc<str> = "here".into();
    let places: Vec<_> = ["http://10.0.0.1:9000", "http://10.0.0.2:9000"]
        .map(|text| (cluster.clone(), Role::Primary, Address::parse(text).unwrap()))
        .into();
    service.resolve(Time::ZERO, Resolution::Found(plan::injected(&places, None)));
    let mut now = Time::ZERO;
    // Until it is known how long an answer takes there.
    for number in 0..50 {
        let (mut call, action) = begin(&mut service, now, number, false);
        let Action::Send { attempt, .. } = action else { panic!("{action:?}") };
        now = now.plus(Duration::from_millis(10));
        let done = call.step(&mut service, now, Event::Finished(attempt, Outcome::status(200)));
        assert!(matches!(done, Action::Done(Verdict::Answered(_))));
    }
    for (number, patient) in [(100, false), (101, true)] {
        let (mut call, action) = begin(&mut service, now, number, patient);
        let Action::Send { wake, deadline, .. } = action else { panic!("{action:?}") };
        assert_eq!(wake == Time::NEVER, patient, "{wake:?} of {:?}", deadline.at);
        let _ = call.step(&mut service, now, Event::Abandoned);
    }
}
