//! The rules of the registrar one by one. All of them together, against an agent: `model.rs`.

use std::time::Duration;

use super::super::event::By;
use super::*;
use crate::config::RegistrarConfig;
use crate::outcome::Fault;

pub(super) fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

pub(super) fn wanted(id: &str, ttl: u64) -> Wanted {
    let checks = if ttl == 0 {
        vec![]
    } else {
        vec![Ttl { check: format!("service:{id}").into(), ttl: s(ttl) }]
    };
    Wanted { id: id.into(), service: "api".into(), checks, digest: 1 }
}

/// A registrar, its settings and its dice.
pub(super) struct Rig {
    pub(super) registrar: Registrar,
    pub(super) settings: Settings,
    pub(super) rng: Pcg32,
}

impl Rig {
    pub(super) fn new(config: &RegistrarConfig) -> Rig {
        let settings = Settings::of(config, "r").unwrap();
        Rig { registrar: Registrar::new(), settings, rng: Pcg32::new(7, 7) }
    }
    /// Without jitter and looks.
    pub(super) fn plain() -> Rig {
        let config =
            RegistrarConfig { jitter: 0.0, presence: Duration::ZERO, ..RegistrarConfig::default() };
        Rig::new(&config)
    }
    pub(super) fn poll(&mut self, now: Time) -> Poll<Asked> {
        self.registrar.poll(now, &self.settings, &mut self.rng)
    }
    pub(super) fn run(&mut self, now: Time) -> Asked {
        match self.poll(now) {
            Poll::Run(asked) => *asked,
            Poll::Wait(until) => panic!("wait until {until:?}"),
        }
    }
    pub(super) fn wait(&mut self, now: Time) -> Time {
        match self.poll(now) {
            Poll::Wait(until) => until,
            Poll::Run(asked) => panic!("{asked:?}"),
        }
    }
    pub(super) fn done(&mut self, now: Time, asked: &Asked, answer: Answer) -> bool {
        self.registrar.done(now, asked.id, &answer, &self.settings, &mut self.rng)
    }
    pub(super) fn ok(&mut self, now: Time) -> Ask {
        let asked = self.run(now);
        assert!(self.done(now, &asked, Answer::Done));
        asked.ask
    }
    pub(super) fn fail(&mut self, now: Time, trouble: Trouble) -> Ask {
        let asked = self.run(now);
        assert!(self.done(now, &asked, Answer::Failed(trouble)));
        asked.ask
    }
    pub(super) fn events(&mut self) -> Vec<Event> {
        self.registrar.events().take().into_iter().map(|(_, event)| event).collect()
    }
    pub(super) fn names(&mut self) -> Vec<&'static str> {
        self.events().iter().map(Event::name).collect()
    }
}

const API: &str = "api-1";

fn register() -> Ask {
    Ask::Register(API.into())
}

fn deregister() -> Ask {
    Ask::Deregister(API.into())
}

fn beat(beat: Beat, note: &str) -> Ask {
    Ask::Beat { check: "service:api-1".into(), beat, note: note.into() }
}

/// Registered at 0, with its first heartbeat.
fn registered() -> Rig {
    let mut rig = Rig::plain();
    rig.registrar.want(at(0), &wanted(API, 15)).unwrap();
    assert_eq!(rig.ok(at(0)), register());
    assert_eq!(rig.ok(at(0)), beat(Beat::Pass, ""));
    assert_eq!(rig.names(), ["service_registered"]);
    rig
}

#[test]
fn case_004_18_a_registration_is_counted_and_renewed_three_times_per_ttl() {
    let mut rig = registered();
    assert_eq!(rig.registrar.registrations(), 1);
    for n in 1..20 {
        assert_eq!(rig.wait(at(n * 5_000 - 5_000)), at(n * 5_000));
        assert_eq!(rig.ok(at(n * 5_000)), beat(Beat::Pass, ""));
    }
    // The same again changes nothing.
    rig.registrar.want(at(95_000), &wanted(API, 15)).unwrap();
    assert_eq!(rig.wait(at(95_000)), at(100_000));
    // Something else registers anew.
    rig.registrar.want(at(95_000), &Wanted { digest: 2, ..wanted(API, 15) }).unwrap();
    assert_eq!(rig.ok(at(95_000)), register());
    assert!(matches!(rig.events()[..], [Event::ServiceRegistered { again: true, .. }]));
}

#[test]
fn a_change_of_health_is_sent_at_once_and_not_in_a_storm() {
    let mut rig = registered();
    assert!(!rig.registrar.say(at(10), API, "service:else", Beat::Fail, ""));
    assert!(rig.registrar.say(at(1_000), API, "service:api-1", Beat::Warn, "slow"));
    let out = rig.run(at(1_000));
    assert_eq!(out.ask, beat(Beat::Warn, "slow"));
    // Said while a heartbeat is out, it follows.
    assert!(rig.registrar.say(at(1_001), API, "service:api-1", Beat::Fail, "down"));
    assert!(rig.done(at(1_002), &out, Answer::Done));
    assert_eq!(rig.wait(at(1_002)), at(1_100));
    assert_eq!(rig.ok(at(1_100)), beat(Beat::Fail, "down"));
    // A note alone waits for the next heartbeat, and is cut.
    assert!(rig.registrar.say(at(1_101), API, "service:api-1", Beat::Fail, &"ö".repeat(3_000)));
    assert_eq!(rig.wait(at(1_101)), at(6_100));
    let Ask::Beat { note, .. } = rig.ok(at(6_100)) else { panic!() };
    assert_eq!(note.len(), super::super::ask::MOST_NOTE);
    // A thousand changes a second are ten heartbeats.
    let mut sent = 0;
    for ms in 0..1_000 {
        let now = at(10_000 + ms);
        let state = if ms % 2 == 0 { Beat::Pass } else { Beat::Fail };
        rig.registrar.say(now, API, "service:api-1", state, "");
        while let Poll::Run(asked) = rig.poll(now) {
            sent += 1;
            rig.done(now, &asked, Answer::Done);
        }
    }
    assert!(sent <= 11, "{sent}");
}

#[test]
fn failed_registrations_back_off_and_permission_denied_is_not_hammered() {
    let mut rig = Rig::plain();
    rig.registrar.want(at(0), &wanted(API, 0)).unwrap();
    let mut now = at(0);
    for (n, step) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        assert_eq!(rig.fail(now, Trouble::Status(500)), register());
        let next = rig.wait(now);
        let wait = now.until(next);
        assert!(wait <= s(step) && wait >= s(step) / 2, "{n}: {wait:?}");
        now = next;
    }
    let [.., Event::ServiceRegistrationFailed { error, failures, .. }] = &rig.events()[..] else {
        panic!()
    };
    assert_eq!((*error, *failures), (Trouble::Status(500), 8));
    rig.ok(now);
    // 400 and 403 need a person, so they are tried once a minute.
    for trouble in [Trouble::Forbidden, Trouble::Status(400)] {
        let mut rig = Rig::plain();
        rig.registrar.want(at(0), &wanted(API, 0)).unwrap();
        let mut now = at(0);
        for _ in 0..5 {
            rig.fail(now, trouble);
            assert_eq!(rig.wait(now), now.plus(s(60)));
            now = now.plus(s(60));
        }
        assert_eq!(rig.registrar.views().next().unwrap().error, Some(trouble));
    }
}

#[test]
fn a_forgotten_registration_is_made_again() {
    let config = RegistrarConfig { jitter: 0.0, ..RegistrarConfig::default() };
    let mut rig = Rig::new(&config);
    rig.registrar.want(at(0), &wanted(API, 0)).unwrap();
    rig.registrar.want(at(0), &wanted("api-2", 0)).unwrap();
    assert_eq!((rig.ok(at(0)), rig.ok(at(0))), (register(), Ask::Register("api-2".into())));
    rig.events();
    let now = rig.wait(at(0));
    assert_eq!(now, at(30_000));
    let look = rig.run(now);
    assert_eq!(look.ask, Ask::Present);
    let there = vec!["other".into(), "api-2".into()];
    assert!(rig.done(now, &look, Answer::Present(there)));
    assert_eq!(rig.ok(now), register());
    let expected = [
        Event::ServiceForgotten { service: "api".into(), id: API.into(), by: By::Presence },
        Event::ServiceRegistered { service: "api".into(), id: API.into(), again: true },
    ];
    assert_eq!(rig.events(), expected);
    // A list that was asked for before a registration says nothing about it.
    let now = rig.wait(now);
    let look = rig.run(now);
    rig.registrar.want(now, &wanted("api-3", 0)).unwrap();
    rig.ok(now);
    let there = vec![API.into(), "api-2".into()];
    assert!(rig.done(now, &look, Answer::Present(there)));
    assert_eq!(rig.registrar.stage("api-3"), Some(Stage::Registered));
    // A look that fails changes nothing.
    let now = rig.wait(now);
    assert_eq!(rig.fail(now, Trouble::Malformed), Ask::Present);
    assert!(rig.registrar.views().all(|view| view.stage == Stage::Registered));
    assert_eq!(rig.names(), ["service_registered", "presence_check_failed"]);
}

/// An unknown check registers at once; that not helping, later each time.
#[test]
fn an_unknown_check_registers_again_without_a_loop() {
    let mut rig = registered();
    let mut now = at(5_000);
    assert_eq!(rig.fail(now, Trouble::Unknown), beat(Beat::Pass, ""));
    assert_eq!(rig.ok(now), register());
    let mut waits = vec![];
    for _ in 0..8 {
        now = now.plus(SHORTEST_BEAT);
        assert_eq!(rig.fail(now, Trouble::Unknown), beat(Beat::Pass, ""));
        let next = rig.wait(now);
        waits.push(now.until(next).as_secs_f64());
        now = next;
        assert_eq!(rig.ok(now), register());
    }
    for (wait, step) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        assert!(*wait <= step && *wait >= step / 2.0, "{waits:?}");
    }
    // A good heartbeat ends it.
    rig.ok(now);
    now = rig.wait(now);
    rig.fail(now, Trouble::Unknown);
    assert_eq!(rig.ok(now), register());
}

#[test]
fn failed_heartbeats_are_repeated_in_time_and_said_once() {
    let mut rig = registered();
    let mut now = at(5_000);
    rig.events();
    for _ in 0..10 {
        rig.fail(now, Trouble::Fault(Fault::Connect));
        let next = rig.wait(now);
        assert!(now.until(next) <= s(5) && next > now);
        now = next;
    }
    rig.ok(now);
    let events = rig.events();
    assert!(matches!(
        events[..],
        [Event::HeartbeatFailed { .. }, Event::HeartbeatRecovered { failures: 10, .. }]
    ));
    let now = rig.wait(now);
    rig.fail(now, Trouble::Forbidden);
    assert_eq!(rig.wait(now), now.plus(s(60)));
}

#[test]
fn case_004_17_leaving_deregisters_and_its_failure_ends_nothing() {
    let mut rig = registered();
    rig.registrar.leave_all(at(100), &rig.settings);
    assert_eq!(rig.ok(at(100)), deregister());
    assert!(rig.registrar.is_empty());
    assert_eq!(rig.names(), ["service_deregistered"]);
    // 404: gone already.
    let mut rig = registered();
    rig.registrar.leave(at(100), API, &rig.settings).unwrap();
    rig.fail(at(100), Trouble::Unknown);
    assert!(matches!(rig.events()[..], [Event::ServiceDeregistered { already: true, .. }]));
    // 403: no use in waiting.
    let mut rig = registered();
    rig.registrar.leave(at(100), API, &rig.settings).unwrap();
    rig.fail(at(100), Trouble::Forbidden);
    let failed = Event::ServiceDeregistrationFailed {
        service: "api".into(),
        id: API.into(),
        error: Some(Trouble::Forbidden),
        tries: 1,
    };
    assert_eq!((rig.events(), rig.registrar.is_empty()), (vec![failed], true));
    // Also when there would be time for another try.
    let hour = Duration::from_secs(3_600);
    let mut rig = Rig::new(&RegistrarConfig { leave_within: hour, ..RegistrarConfig::default() });
    rig.registrar.want(at(0), &wanted(API, 0)).unwrap();
    rig.ok(at(0));
    rig.registrar.leave(at(0), API, &rig.settings).unwrap();
    rig.fail(at(0), Trouble::Forbidden);
    assert!(rig.registrar.is_empty());
    // The agent is gone: given up within the time, and said.
    let mut rig = registered();
    let mut now = at(100);
    rig.registrar.leave(now, API, &rig.settings).unwrap();
    let mut tries = 0;
    while !rig.registrar.is_empty() {
        match rig.poll(now) {
            Poll::Run(asked) => {
                assert!(asked.deadline <= at(30_100));
                tries += 1;
                rig.done(now, &asked, Answer::Failed(Trouble::Fault(Fault::Connect)));
            }
            Poll::Wait(until) => now = until,
        }
    }
    assert!(now <= at(30_100) && tries >= 4);
    assert_eq!(rig.names(), ["service_deregistration_failed"]);
    // It hangs: the lease ends, and with it everything.
    let mut rig = registered();
    rig.registrar.leave(at(0), API, &rig.settings).unwrap();
    let mut now = at(0);
    while !rig.registrar.is_empty() {
        match rig.poll(now) {
            Poll::Run(_) => {}
            Poll::Wait(Time::NEVER) => break,
            Poll::Wait(until) => now = until,
        }
    }
    assert!(rig.registrar.is_empty() && now <= at(31_000), "{now:?}");
}

#[test]
fn case_004_83_only_what_was_registered_here_is_deregistered() {
    let mut rig = registered();
    for foreign in ["web-7", "", "API-1", "api-1 "] {
        let refused = rig.registrar.leave(at(0), foreign, &rig.settings).unwrap_err();
        assert_eq!(refused, Refused::Foreign { id: foreign.into() });
    }
    assert_eq!(rig.wait(at(0)), at(5_000));
    // On explicit demand it is.
    rig.registrar.remove_foreign(at(0), "web-7", &rig.settings).unwrap();
    assert_eq!(rig.ok(at(0)), Ask::Deregister("web-7".into()));
    assert_eq!(rig.registrar.stage("web-7"), None);
    let empty = rig.registrar.remove_foreign(at(0), "", &rig.settings).unwrap_err();
    assert_eq!(empty.to_string(), "id is empty");
    // What was deregistered is not ours any more.
    rig.registrar.leave(at(0), API, &rig.settings).unwrap();
    rig.ok(at(0));
    assert!(rig.registrar.leave(at(0), API, &rig.settings).is_err());
    // What was never sent needs no deregistration.
    rig.registrar.want(at(0), &wanted(API, 0)).unwrap();
    rig.registrar.leave(at(0), API, &rig.settings).unwrap();
    assert!(rig.registrar.is_empty());
}

#[test]
fn case_003_57_a_failed_split_brain_check_holds_registrations_visibly() {
    let config = RegistrarConfig { jitter: 0.0, ..RegistrarConfig::default() };
    let mut rig = Rig::new(&config);
    rig.registrar.want(at(0), &wanted(API, 15)).unwrap();
    rig.ok(at(0));
    rig.ok(at(0));
    rig.events();
    rig.registrar.hold(at(1), true);
    rig.registrar.hold(at(1), true);
    rig.registrar.want(at(2), &wanted("api-2", 0)).unwrap();
    // Neither a registration nor a look, but heartbeats and deregistrations.
    let mut now = at(2);
    for _ in 0..20 {
        now = rig.wait(now);
        assert_eq!(rig.ok(now), beat(Beat::Pass, ""));
    }
    assert!(now >= at(100_000));
    assert_eq!(rig.registrar.held(), Some(at(1)));
    rig.registrar.leave(now, API, &rig.settings).unwrap();
    assert_eq!(rig.ok(now), deregister());
    assert_eq!(rig.wait(now), Time::NEVER);
    rig.registrar.hold(now, false);
    assert_eq!(rig.ok(now), Ask::Register("api-2".into()));
    let events = rig.events();
    assert!(
        matches!(
            events[..],
            [
                Event::RegistrationsHeld { waiting: 0 },
                Event::ServiceDeregistered { .. },
                Event::RegistrationsResumed { waiting: 1, .. },
                Event::ServiceRegistered { .. },
            ]
        ),
        "{events:?}"
    );
}

/// A registration that perhaps arrived is taken back; one that is out when its service leaves,
/// too.
#[test]
fn what_was_perhaps_registered_is_deregistered() {
    let mut rig = Rig::plain();
    rig.registrar.want(at(0), &wanted(API, 0)).unwrap();
    rig.fail(at(0), Trouble::Fault(Fault::Timeout));
    rig.registrar.leave(at(1), API, &rig.settings).unwrap();
    assert_eq!(rig.ok(at(1)), deregister());
    rig.registrar.want(at(2), &wanted(API, 0)).unwrap();
    let out = rig.run(at(2));
    rig.registrar.leave(at(3), API, &rig.settings).unwrap();
    assert!(rig.wait(at(3)) > at(3));
    assert!(rig.done(at(4), &out, Answer::Done));
    assert_eq!(rig.ok(at(4)), deregister());
    assert!(rig.registrar.is_empty());
    // And one that is wanted again while it leaves ends registered.
    rig.registrar.want(at(5), &wanted(API, 0)).unwrap();
    rig.ok(at(5));
    rig.registrar.leave(at(6), API, &rig.settings).unwrap();
    let out = rig.run(at(6));
    rig.registrar.want(at(7), &wanted(API, 0)).unwrap();
    assert!(rig.done(at(8), &out, Answer::Done));
    assert_eq!(rig.ok(at(8)), register());
    assert_eq!(rig.registrar.stage(API), Some(Stage::Registered));
}

#[test]
fn nonsense_is_refused_by_name_before_anything_is_sent() {
    let mut registrar = Registrar::new();
    let refused = |registrar: &mut Registrar, wanted: &Wanted| {
        registrar.want(at(0), wanted).unwrap_err().to_string()
    };
    assert_eq!(refused(&mut registrar, &wanted("", 0)), "id is empty");
    let nameless = Wanted { service: "".into(), ..wanted(API, 0) };
    assert_eq!(refused(&mut registrar, &nameless), "service is empty");
    let mut short = wanted(API, 15);
    short.checks[0].ttl = Duration::ZERO;
    assert_eq!(refused(&mut registrar, &short), "ttl of service:api-1: 0s is shorter than 300ms");
    let mut twice = wanted(API, 15);
    twice.checks.push(twice.checks[0].clone());
    assert_eq!(refused(&mut registrar, &twice), "checks: service:api-1 is named twice");
    let ttl = |n: usize| Ttl { check: n.to_string().into(), ttl: Duration::MAX };
    let many = Wanted { checks: (0..17).map(ttl).collect(), ..wanted(API, 0) };
    assert_eq!(refused(&mut registrar, &many), "checks of api-1: more than 16 are not renewed");
    assert!(registrar.is_empty());
    for n in 0..MOST {
        registrar.want(at(0), &wanted(&n.to_string(), 0)).unwrap();
    }
    assert_eq!(refused(&mut registrar, &wanted(API, 0)), "there are 1024 registrations already");
    // Those that are there may change.
    assert_eq!(registrar.want(at(0), &wanted("7", 15)), Ok(()));
}

#[test]
fn settings_refuse_what_cannot_work_by_name() {
    type Spoil = fn(&mut RegistrarConfig);
    let cases: [(&str, Spoil); 14] = [
        ("timeout", |c| c.timeout = Duration::ZERO),
        ("timeout", |c| c.timeout = Duration::MAX),
        ("leave_within", |c| c.leave_within = Duration::ZERO),
        ("backoff", |c| c.backoff = Duration::ZERO),
        ("backoff", |c| c.backoff = s(61)),
        ("backoff_max", |c| c.backoff_max = Duration::MAX),
        ("forbidden", |c| c.forbidden = Duration::ZERO),
        ("presence", |c| c.presence = Duration::from_nanos(1)),
        ("beats", |c| c.beats = 1),
        ("beats", |c| c.beats = u32::MAX),
        ("jitter", |c| c.jitter = f64::NAN),
        ("jitter", |c| c.jitter = 1.0),
        ("concurrent", |c| c.concurrent = 0),
        ("concurrent", |c| c.concurrent = u32::MAX),
    ];
    for (field, spoil) in cases {
        let mut config = RegistrarConfig::default();
        spoil(&mut config);
        assert_eq!(Settings::of(&config, "r").unwrap_err().field, format!("r.{field}"));
        super::model::survive(&Settings::compile(&config), 5);
    }
    let checked = Settings::of(&RegistrarConfig::default(), "r").unwrap();
    assert_eq!(checked, Settings::default());
}
