use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{ConsulCheckConfig, ConsulCheckKind};
use crate::outcome::Fault;

fn rules(change: impl FnOnce(&mut ConsulConfig)) -> Rules {
    let mut config = ConsulConfig::at("http://one:8500");
    config.urls.push("http://two:8500/consul".into());
    change(&mut config);
    Rules::of(&config, "discovery.consul", |_| None).unwrap()
}

fn service(name: &str) -> RegistrationConfig {
    let ttl = ConsulCheckConfig::of(ConsulCheckKind::Ttl);
    RegistrationConfig { checks: vec![ttl], ..RegistrationConfig::module(name, "here", 80) }
}

fn answered(status: u16, body: &str) -> JobOutcome {
    let body = body.to_owned().into();
    JobOutcome::Answered { status, headers: http::HeaderMap::new(), body }
}

#[track_caller]
fn job(registry: &mut Registry, now: Time) -> (JobId, String) {
    let Poll::Run(job) = registry.poll(now) else { panic!("nothing is due") };
    let request = job.http().unwrap();
    (job.id, format!("{} {}", request.method(), request.uri()))
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

/// The requests of a whole life, in their order.
#[test]
fn case_003_01_registered_renewed_forgotten_and_taken_back() {
    let mut r = Registry::new(rules(|_| {}), 1);
    assert!(matches!(r.poll(at(0)), Poll::Wait(Time::NEVER)), "nothing wanted, nothing asked");
    let id = r.register(at(0), &service("api")).unwrap();
    let (register, line) = job(&mut r, at(0));
    assert_eq!(line, "PUT http://one:8500/v1/agent/service/register?replace-existing-checks=true");
    assert!(Registry::owns(register));
    assert_eq!(r.done(at(0), register, &answered(200, "")), Some(Told::default()));
    assert_eq!(r.stage(&id), Some(Stage::Registered));
    let (beat, line) = job(&mut r, at(0));
    assert_eq!(line, "PUT http://one:8500/v1/agent/check/pass/service%3Aapi-here-80");
    // The agent was restarted without its memory; 1.8.7 says so with 500.
    let _ = r.done(at(0), beat, &answered(500, "Unknown check \"service:api-here-80\""));
    assert!(job(&mut r, at(0)).1.contains("/register?"));
    assert!(r.done(at(0), register, &answered(200, "")).is_none(), "an old number");

    let mut r = Registry::new(rules(|_| {}), 1);
    r.register(at(0), &service("api")).unwrap();
    let (register, _) = job(&mut r, at(0));
    let _ = r.done(at(0), register, &answered(200, ""));
    r.leave_all(at(1));
    let (leave, line) = job(&mut r, at(1));
    assert_eq!(line, "PUT http://one:8500/v1/agent/service/deregister/api-here-80");
    let _ = r.done(at(1), leave, &answered(404, "Unknown service ID"));
    assert!(r.is_empty() && r.own.is_empty(), "that it is gone already is as good");
    assert_eq!(r.take_events().len(), 2);
}

/// Failures of a registration in a row, the protection of foreign ones and a recovery: events say
/// each try, notices each turn, whoever takes the events.
#[test]
fn each_turn_of_a_registration_is_noticed_once() {
    let mut r = Registry::new(rules(|_| {}), 1);
    r.register(at(0), &service("api")).unwrap();
    let mut now = at(0);
    for status in [500, 500, 500, 200] {
        let register = loop {
            match r.poll(now) {
                Poll::Wait(until) => now = until,
                Poll::Run(job) => break job,
            }
        };
        assert!(register.http().unwrap().uri().path().ends_with("/register"));
        let _ = r.done(now, register.id, &answered(status, "no"));
    }
    assert!(r.deregister(now, "web-1").is_err());
    let names = |notices: &Notices| -> Vec<&str> {
        notices.since(0).map(|notice| notice.event.name()).collect()
    };
    let told = ["service_registration_failed", "service_registered", "deregistration_refused"];
    assert_eq!(names(r.notices()), told);
    let about: Vec<_> = r.notices().since(0).map(|n| n.service.as_deref()).collect();
    assert_eq!(about, [Some("api"), Some("api"), None]);
    let events = r.take_events().len();
    assert!(events >= 5, "{events}");
    assert_eq!(names(r.notices()), told);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let mut r = Registry::new(rules(|_| {}), 1);
    let bad = RegistrationConfig { port: 0, ..service("api") };
    let error = r.register(at(0), &bad).unwrap_err();
    assert!(error.to_string().contains("registration.port"), "{error}");
    assert_eq!(r.deregister(at(0), "web-1"), Err(Refused::Foreign { id: "web-1".into() }));
    assert!(r.remove_foreign(at(0), "../x").is_err());
    assert!(matches!(r.poll(at(0)), Poll::Wait(Time::NEVER)));
    r.remove_foreign(at(0), "web-1").unwrap();
    assert!(job(&mut r, at(0)).1.ends_with("/v1/agent/service/deregister/web-1"));
}

#[test]
fn case_003_43_a_denial_is_kept_and_not_hurried() {
    let mut r = Registry::new(rules(|_| {}), 1);
    let id = r.register(at(0), &service("api")).unwrap();
    let (register, _) = job(&mut r, at(0));
    let _ = r.done(at(0), register, &answered(403, "Permission denied"));
    assert!(r.trouble(&id).unwrap().is_permission());
    assert!(matches!(r.poll(at(29)), Poll::Wait(_)), "`forbidden` is a minute");
    let (again, line) = job(&mut r, at(61));
    assert!(line.starts_with("PUT http://one:8500/"), "an answer does not change the agent");
    let _ = r.done(at(61), again, &answered(200, ""));
    assert_eq!(r.trouble(&id), None);
}

#[test]
fn a_silent_agent_is_left_once() {
    let mut r = Registry::new(rules(|_| {}), 1);
    r.register(at(0), &service("a")).unwrap();
    r.register(at(0), &service("b")).unwrap();
    let (a, b) = (job(&mut r, at(0)).0, job(&mut r, at(0)).0);
    let _ = r.done(at(0), a, &JobOutcome::Failed(Fault::Connect));
    let _ = r.done(at(0), b, &JobOutcome::Failed(Fault::Connect));
    let (next, line) = job(&mut r, at(5));
    assert!(line.starts_with("PUT http://two:8500/consul/v1/agent/service/register"), "{line}");
    // Given up by the driver: says nothing about the agent.
    let _ = r.done(at(5), next, &JobOutcome::Dropped);
    assert!(job(&mut r, at(5)).1.starts_with("PUT http://two:8500/"));
}

#[test]
fn case_003_55_registrations_wait_for_a_whole_cluster() {
    let mut r = Registry::new(
        rules(|config| (config.verify.split_brain, config.verify.minimum) = (true, 2)),
        1,
    );
    r.register(at(0), &service("api")).unwrap();
    assert!(r.holds());
    let (members, line) = job(&mut r, at(0));
    assert_eq!(line, "GET http://one:8500/v1/agent/members");
    let half = r#"[{"Name":"a","Status":1},{"Name":"b","Status":4}]"#;
    let told = r.done(at(0), members, &answered(200, half)).unwrap();
    assert_eq!(told.verdict.map(|v| (v.whole, v.alive)), Some((false, 1)));
    assert!(matches!(r.poll(at(1)), Poll::Wait(_)), "held");
    let (members, _) = job(&mut r, at(3_600));
    let whole = r#"[{"Name":"a","Status":1},{"Name":"b","Status":1}]"#;
    let _ = r.done(at(3_600), members, &answered(200, whole));
    assert!(job(&mut r, at(3_600)).1.contains("/register?"));
}

#[test]
fn case_003_58_indexes_are_compared() {
    let mut r = Registry::new(rules(|config| config.verify.index = true), 1);
    r.used(at(0), "api");
    let (index, line) = job(&mut r, at(0));
    assert_eq!(line, "GET http://one:8500/v1/kv/services/api/index");
    let told = r.done(at(0), index, &answered(404, "")).unwrap();
    assert!(!told.agreement.unwrap().consistent(), "the first one");
    r.used(at(0), "no_dns_label");
    let _ = r.poll(at(0));
}

#[test]
fn settings_name_their_field() {
    let refused = |change: fn(&mut ConsulConfig)| {
        let mut config = ConsulConfig::default();
        change(&mut config);
        Rules::of(&config, "discovery.consul", |_| None).unwrap_err().field.to_string()
    };
    assert_eq!(refused(|c| c.urls.clear()), "discovery.consul.urls");
    assert_eq!(refused(|c| c.registrar.beats = 0), "discovery.consul.registrar.beats");
    assert_eq!(refused(|c| c.registrar.jitter = f64::NAN), "discovery.consul.registrar.jitter");
    assert_eq!(refused(|c| c.verify.minimum = 0), "discovery.consul.verify.minimum");
}

proptest! {
    /// Whatever comes back whenever, leases are bounded, and everything that was taken back is
    /// gone in the end.
    #[test]
    fn any_answers_are_survived(
        steps in proptest::collection::vec((0_u8..8, 0_u16..600, 0_u64..90), 0..60),
        seed: u64,
    ) {
        let mut r = Registry::new(
            rules(|c| (c.verify.split_brain, c.verify.minimum) = (true, 1)), seed);
        let mut now = Time::ZERO;
        let mut out = Vec::new();
        for (what, status, wait) in steps {
            now = if wait == 89 { Time::NEVER } else { now.plus(Duration::from_secs(wait)) };
            match what {
                0 => drop(r.register(now, &service("a"))),
                1 => drop(r.register(now, &service("b"))),
                2 => drop(r.deregister(now, "a-here-80")),
                3 => drop(r.remove_foreign(now, "x")),
                4 => r.leave_all(now),
                5 if !out.is_empty() => {
                    let _ = r.done(now, out.remove(0), &JobOutcome::Failed(Fault::Timeout));
                }
                6 if !out.is_empty() => {
                    let _ = r.done(now, out.remove(0), &answered(status, "[]"));
                }
                _ => {
                    for _ in 0..16 {
                        match r.poll(now) {
                            Poll::Run(job) => out.push(job.id),
                            Poll::Wait(at) => {
                                prop_assert!(at > now || now == Time::NEVER);
                                break;
                            }
                        }
                    }
                    prop_assert!(r.out.len() <= 6);
                }
            }
        }
        // At the end of time nothing gets on.
        prop_assume!(now != Time::NEVER);
        r.leave_all(now);
        for _ in 0..200 {
            match r.poll(now) {
                Poll::Run(job) => drop(r.done(now, job.id, &answered(200, "[]"))),
                Poll::Wait(_) => now = now.plus(Duration::from_secs(1)),
            }
        }
        prop_assert!(r.is_empty());
    }
}
