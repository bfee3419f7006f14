//! Discovery by several sources, as its users meet it: what is asked of whom and when, what comes
//! of the answers, and what is used while they do not come. The answers are those of real servers
//! in form; the machines of each source have their own proofs.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use origin_core::config::{
    Combine, Config, ConsulConfig, DiscoveryConfig, DnsConfig, RedisConfig, ServiceConfig,
};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Condition, Directory, DiscoveryError, Place, Surroundings};
use origin_core::job::{Asker, Job, JobOutcome, Poll, Work};
use origin_core::outcome::Fault;
use origin_core::redis::Reply;
use origin_core::snapshot::Level;
use origin_core::{Time, Wall};

#[path = "sources/kept.rs"]
mod kept;
#[path = "sources/many.rs"]
mod many;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

fn call(service: &str) -> Asker<'_> {
    Asker::Call { service, until: at(1_000_000_000) }
}

/// A client with these sources; the calendar says 2023 at time zero.
fn directory(change: impl FnOnce(&mut Config)) -> Directory {
    let discovery = DiscoveryConfig { ttl: Duration::from_secs(30), ..DiscoveryConfig::default() };
    let mut config = Config { discovery: Some(discovery), ..Config::default() };
    change(&mut config);
    let variables = [("USER_SERVICE_HOST", "10.9.9.9"), ("CONSUL_TOKEN", "planted-secret")];
    let around = Surroundings {
        variables: variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
        ..Surroundings::default()
    };
    let mut directory = Directory::new(&config, 5, &around).unwrap().unwrap();
    directory.calendar(Time::ZERO, Wall(1_700_000_000));
    directory
}

fn consul(config: &mut Config) {
    let discovery = config.discovery.as_mut().unwrap();
    discovery.consul = Some(ConsulConfig::at("http://agent:8500"));
}

fn run(directory: &mut Directory, now: u64, asker: Asker<'_>) -> Job {
    match directory.poll_job(at(now), asker) {
        Poll::Run(job) => *job,
        Poll::Wait(until) => panic!("{asker:?} at {now} ms is told to wait until {until:?}"),
    }
}

fn waits(directory: &mut Directory, now: u64, asker: Asker<'_>) -> u64 {
    match directory.poll_job(at(now), asker) {
        Poll::Wait(until) => until.as_millis(),
        Poll::Run(job) => panic!("{asker:?} at {now} ms is told to run {job:?}"),
    }
}

fn uri(job: &Job) -> String {
    job.http().unwrap_or_else(|| panic!("{job:?}")).uri().to_string()
}

fn answer(status: u16, index: u64, body: &str) -> JobOutcome {
    let mut headers = HeaderMap::new();
    let name = HeaderName::from_static("x-consul-index");
    headers.insert(name, HeaderValue::from(index));
    JobOutcome::Answered { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// A health reply with instances at these ports.
fn instances(ports: &[u16]) -> String {
    let one = |port: &u16| {
        format!(
            r#"{{"Node":{{"Node":"n1","Address":"10.0.0.1","Datacenter":"dc1"}},"Service":{{"ID":"web-{port}","Service":"web","Address":"","Port":{port},"Tags":null,"Meta":{{"zone":"a"}},"Weights":{{"Passing":3,"Warning":1}}}},"Checks":[{{"Status":"passing"}}]}}"#
        )
    };
    format!("[{}]", ports.iter().map(one).collect::<Vec<_>>().join(","))
}

fn found(directory: &mut Directory, now: u64, service: &str) -> Vec<String> {
    match directory.resolve(at(now), service) {
        Resolution::Found(list) => list.iter().map(|c| c.address.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

/// An agent gives one address 200 connections and closes what is beyond: found with a thousand
/// services on a busy machine, where calls failed that had nothing wrong with them.
#[test]
fn consul_is_asked_plainly_first_and_then_watched() {
    let mut d = directory(consul);
    assert_eq!(d.resolve(at(0), "web"), Resolution::Pending);
    let job = run(&mut d, 0, call("web"));
    assert_eq!(uri(&job), "http://agent:8500/v1/health/service/web?passing=true");
    // One question at a time (single flight).
    assert!(waits(&mut d, 1, call("web")) > 1);
    let moved = d.job_done(at(5), job.id, answer(200, 7, &instances(&[80, 81])));
    assert_eq!(moved.services, ["web".into()]);
    assert_eq!(found(&mut d, 5, "web"), ["http://10.0.0.1:80", "http://10.0.0.1:81"]);
    let Resolution::Found(list) = d.resolve(at(5), "web") else { panic!() };
    assert_eq!((list[0].weight, list[0].condition), (3, Condition::Passing));
    assert_eq!(list[0].metadata.get("zone").map(|z| &**z), Some("a"));
    // Calls ask again after the time to live; a background watches from now on.
    assert_eq!(d.call_due(at(6), "web"), at(30_005));
    let first = run(&mut d, 6, Asker::Background);
    assert!(!uri(&first).contains("index="), "{}", uri(&first));
    let _ = d.job_done(at(7), first.id, answer(200, 7, &instances(&[80, 81])));
    let watch = run(&mut d, 7, Asker::Background);
    assert!(uri(&watch).contains("index=7") && uri(&watch).contains("wait=5m"), "{watch:?}");
    // It may take as long as the wait and a sixteenth of it (rule 2).
    assert!(watch.deadline > at(7 + 318_750));
    assert!(d.snapshot(at(8))[0].watching);
    let before = d.version("web").unwrap().0;
    let moved = d.job_done(at(9_000), watch.id, answer(200, 8, &instances(&[81])));
    assert_eq!(moved.services, ["web".into()]);
    assert_eq!(found(&mut d, 9_000, "web"), ["http://10.0.0.1:81"]);
    assert_eq!(d.version("web").unwrap(), (before + 1, at(9_000)));
}

#[test]
fn case_003_28_a_reply_without_change_changes_nothing_and_a_lower_index_begins_anew() {
    let mut d = directory(consul);
    let _ = d.resolve(at(0), "web");
    for (now, index) in [(0, 7), (1, 7), (2, 9)] {
        let job = run(&mut d, now, Asker::Background);
        let _ = d.job_done(at(now), job.id, answer(200, index, &instances(&[80])));
        assert_eq!(found(&mut d, now, "web"), ["http://10.0.0.1:80"]);
    }
    assert_eq!(d.version("web").unwrap().0, 1);
    let job = run(&mut d, 3, Asker::Background);
    assert!(uri(&job).contains("index=9"), "{}", uri(&job));
    let _ = d.job_done(at(4), job.id, answer(200, 3, &instances(&[99])));
    assert_eq!(found(&mut d, 4, "web"), ["http://10.0.0.1:80"], "set aside");
    // The bucket of the watch is empty after a burst, however quick the answers (rule 5).
    let again = waits(&mut d, 5, Asker::Background);
    assert!(again > 100);
    let job = run(&mut d, again, Asker::Background);
    assert!(!uri(&job).contains("index="), "{}", uri(&job));
    let _ = d.job_done(at(again), job.id, answer(200, 3, &instances(&[99])));
    assert_eq!(found(&mut d, again, "web"), ["http://10.0.0.1:99"]);
}

#[test]
fn case_003_44_denied_is_typed_and_not_tried_again_soon() {
    let mut d = directory(|c| {
        consul(c);
        let consul = c.discovery.as_mut().unwrap().consul.as_mut().unwrap();
        consul.service_token = Some(origin_core::config::TokenSource::Env("CONSUL_TOKEN".into()));
    });
    let _ = d.resolve(at(0), "web");
    let job = run(&mut d, 0, call("web"));
    let token = job.http().unwrap().headers().get("x-consul-token").unwrap();
    assert!(token == "planted-secret" && token.is_sensitive());
    let _ = d.job_done(at(1), job.id, answer(403, 1, "Permission denied"));
    let Resolution::Failed { error, .. } = d.resolve(at(1), "web") else { panic!() };
    assert!(matches!(&error, DiscoveryError::Denied(_)), "{error}");
    // The longest wait from the first time.
    assert!(waits(&mut d, 2, call("web")) >= 15_000);
    let shown = format!("{d:?} {:?} {}", d.snapshot(at(2)), serde_json::to_string(&d).unwrap());
    assert!(!shown.contains("planted-secret"));
}

#[test]
fn case_003_41_what_is_known_outlives_its_source_within_bounds() {
    let mut d = directory(|c| {
        consul(c);
        c.discovery.as_mut().unwrap().max_stale = Duration::from_secs(60);
    });
    let _ = d.resolve(at(0), "web");
    let job = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(0), job.id, answer(200, 7, &instances(&[80])));
    let job = run(&mut d, 40_000, call("web"));
    let _ = d.job_done(at(40_000), job.id, JobOutcome::Failed(Fault::Connect));
    assert_eq!(found(&mut d, 40_000, "web").len(), 1);
    let seen = &d.snapshot(at(40_000))[0];
    assert!(seen.stale && seen.age == Some(Duration::from_secs(40)));
    // Never cached: an error.
    let _ = d.resolve(at(40_000), "other");
    let job = run(&mut d, 40_000, call("other"));
    let _ = d.job_done(at(40_000), job.id, JobOutcome::Failed(Fault::Connect));
    assert!(matches!(d.resolve(at(40_000), "other"), Resolution::Failed { .. }));
    // 30 s fresh and 60 s stale.
    let job = run(&mut d, 89_000, call("web"));
    let _ = d.job_done(at(91_000), job.id, JobOutcome::Failed(Fault::Connect));
    assert!(matches!(d.resolve(at(91_000), "web"), Resolution::Failed { .. }));
}

#[test]
fn case_004_30_nothing_is_an_answer_for_a_shorter_time() {
    let mut d = directory(consul);
    let _ = d.resolve(at(0), "web");
    let job = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(0), job.id, answer(200, 7, "[]"));
    assert!(found(&mut d, 0, "web").is_empty());
    assert_eq!(d.call_due(at(1), "web"), at(5_000));
}

#[test]
fn an_empty_answer_of_a_server_that_was_left_behind_is_not_believed() {
    let mut d = directory(consul);
    let _ = d.resolve(at(0), "web");
    let job = run(&mut d, 0, call("web"));
    let JobOutcome::Answered { status, mut headers, body } = answer(200, 7, "[]") else { panic!() };
    headers.insert("x-consul-knownleader", HeaderValue::from_static("false"));
    let _ = d.job_done(at(0), job.id, JobOutcome::Answered { status, headers, body });
    assert!(matches!(d.resolve(at(0), "web"), Resolution::Failed { .. }));
}

#[test]
fn datacenters_to_fall_back_to_are_backups_and_not_waited_for() {
    let mut d = directory(|c| {
        consul(c);
        c.local_cluster = Some("dc1".into());
        let consul = c.discovery.as_mut().unwrap().consul.as_mut().unwrap();
        consul.fallback_datacenters = vec!["dc2".into()];
    });
    let _ = d.resolve(at(0), "web");
    let first = run(&mut d, 0, call("web"));
    let second = run(&mut d, 0, call("web"));
    assert!(!uri(&first).contains("dc=") && uri(&second).contains("dc=dc2"));
    let _ = d.job_done(at(1), first.id, answer(200, 7, &instances(&[80])));
    assert_eq!(found(&mut d, 1, "web").len(), 1);
    let there = instances(&[90]).replace("dc1", "dc2");
    let _ = d.job_done(at(2), second.id, answer(200, 7, &there));
    let Resolution::Found(list) = d.resolve(at(2), "web") else { panic!() };
    let places: Vec<_> = list.iter().map(|c| (&*c.cluster, c.place)).collect();
    assert_eq!(places, [("dc1", Place::Local), ("dc2", Place::Backup)]);
}

#[test]
fn x_06_the_first_source_that_knows_it_answers_and_a_failing_one_is_passed_over() {
    let both = |c: &mut Config| {
        consul(c);
        c.discovery.as_mut().unwrap().environment.enabled = true;
    };
    let mut d = directory(both);
    assert_eq!(d.resolve(at(0), "user-service"), Resolution::Pending, "consul may know better");
    let job = run(&mut d, 0, call("user-service"));
    let _ = d.job_done(at(0), job.id, JobOutcome::Failed(Fault::Connect));
    assert_eq!(found(&mut d, 0, "user-service"), ["http://10.9.9.9:8001/api/v1"]);
    let job = run(&mut d, 60_000, call("user-service"));
    let _ = d.job_done(at(60_000), job.id, answer(200, 1, &instances(&[80])));
    assert_eq!(found(&mut d, 60_000, "user-service"), ["http://10.0.0.1:80"]);
    // A name no source lists is looked up in Consul all the same; one that cannot be, is not.
    assert_eq!(d.resolve(at(0), "unheard-of"), Resolution::Pending);
    assert!(matches!(d.resolve(at(0), "../etc"), Resolution::Absent(known) if known.len() == 6));
}

#[test]
fn merged_sources_add_up_and_a_service_can_name_its_own() {
    let mut d = directory(|c| {
        consul(c);
        let discovery = c.discovery.as_mut().unwrap();
        discovery.environment.enabled = true;
        discovery.combine = Combine::Merged;
        let mut only = ServiceConfig::default();
        only.lookup.order = vec![origin_core::discovery::SourceKind::Environment];
        only.lookup.name = Some("user-service".into());
        c.services.insert("people".into(), only);
    });
    let _ = d.resolve(at(0), "user-service");
    let job = run(&mut d, 0, call("user-service"));
    let _ = d.job_done(at(0), job.id, answer(200, 1, &instances(&[80])));
    let all = found(&mut d, 0, "user-service");
    assert_eq!(all, ["http://10.0.0.1:80", "http://10.9.9.9:8001/api/v1"]);
    assert_eq!(found(&mut d, 0, "people"), ["http://10.9.9.9:8001/api/v1"]);
    assert_eq!(waits(&mut d, 0, call("people")), Time::NEVER.as_millis());
}

#[test]
fn a_registry_that_forgets_nearly_everything_is_doubted_for_a_while() {
    let mut d = directory(consul);
    let _ = d.resolve(at(0), "web");
    let ports: Vec<u16> = (1..=10).collect();
    let job = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(0), job.id, answer(200, 7, &instances(&ports)));
    assert_eq!(found(&mut d, 0, "web").len(), 10);
    let job = run(&mut d, 30_000, call("web"));
    let _ = d.job_done(at(30_000), job.id, answer(200, 8, &instances(&[3])));
    let Resolution::Found(list) = d.resolve(at(30_000), "web") else { panic!() };
    assert_eq!(list.len(), 10);
    let good = list.iter().filter(|c| c.condition == Condition::Passing);
    assert_eq!(good.map(|c| c.address.to_string()).collect::<Vec<_>>(), ["http://10.0.0.1:3"]);
    // Time alone makes the source right.
    assert!(d.elapsed(at(59_999)).is_empty());
    assert_eq!(d.call_due(at(59_000), "web"), at(60_000));
    assert_eq!(d.elapsed(at(60_000)), ["web".into()]);
    assert_eq!(found(&mut d, 60_000, "web"), ["http://10.0.0.1:3"]);
}

#[test]
fn dns_is_asked_until_the_lookup_is_over() {
    let mut d = directory(|c| {
        let dns = DnsConfig {
            servers: vec!["127.0.0.1:5353".into()],
            form: origin_core::config::DnsForm::Plain,
            port: Some(8_080),
            domain: Some("test".into()),
            records: origin_core::config::DnsRecords::Address,
            edns: 0,
            ..DnsConfig::default()
        };
        c.discovery.as_mut().unwrap().dns = Some(dns);
    });
    let _ = d.resolve(at(0), "web");
    let job = run(&mut d, 0, call("web"));
    let Work::Dns { server, query, tcp: false } = &job.work else { panic!("{job:?}") };
    assert_eq!(server.port(), 5353);
    let mut reply = query.to_vec();
    (reply[2], reply[7]) = (0x84, 1);
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 20, 0, 4, 10, 0, 0, 9]);
    let moved = d.job_done(at(1), job.id, JobOutcome::Datagram(reply.into()));
    assert!(!moved.more);
    assert_eq!(found(&mut d, 1, "web"), ["http://10.0.0.9:8080"]);
    // The time to live of the record, being shorter than that of the configuration.
    assert_eq!(d.call_due(at(2), "web"), at(20_001));
}

fn redis(config: &mut Config) {
    consul(config);
    config.redis = Some(RedisConfig::at("redis://127.0.0.1"));
}

fn commands(job: &Job) -> Vec<Vec<String>> {
    let Work::Redis(commands) = &job.work else { panic!("{job:?}") };
    let word = |word: &Bytes| String::from_utf8_lossy(word).into_owned();
    commands.iter().map(|command| command.0.iter().map(word).collect()).collect()
}

#[test]
fn case_004_40_to_43_the_shared_level_is_asked_before_the_source_and_told_what_it_said() {
    let mut first = directory(redis);
    let _ = first.resolve(at(0), "web");
    let job = run(&mut first, 0, call("web"));
    assert_eq!(commands(&job)[0], ["PTTL", "origin:service:discovery:web"]);
    let missing = JobOutcome::Replies(vec![Reply::Number(-2), Reply::Text(Bytes::new())]);
    assert!(first.job_done(at(1), job.id, missing).more);
    let job = run(&mut first, 1, call("web"));
    let moved = first.job_done(at(10), job.id, answer(200, 7, &instances(&[80])));
    assert!(moved.more, "nobody else would write it down");
    assert_eq!(found(&mut first, 10, "web").len(), 1, "before anything is written");
    let job = run(&mut first, 10, call("web"));
    let set = commands(&job).remove(0);
    assert_eq!(
        (&*set[0], &*set[1], &*set[3], &*set[4]),
        ("SET", "origin:service:discovery:web", "PX", "30000")
    );
    let stored = JobOutcome::Replies(vec![Reply::Text(Bytes::from_static(b"OK"))]);
    let _ = first.job_done(at(11), job.id, stored);

    // Another process, ten seconds later: no question to Consul, and no longer a life.
    let mut second = directory(redis);
    second.calendar(at(0), Wall(1_700_000_010));
    let _ = second.resolve(at(0), "web");
    let job = run(&mut second, 0, call("web"));
    let value = Reply::Text(set[2].clone().into_bytes().into());
    let hit = JobOutcome::Replies(vec![Reply::Number(20_000), value.clone()]);
    assert!(!second.job_done(at(1), job.id, hit).more);
    assert_eq!(found(&mut second, 1, "web"), ["http://10.0.0.1:80"]);
    assert_eq!(second.snapshot(at(1))[0].level, Some(Level::Shared));
    let due = second.call_due(at(2), "web").as_millis();
    assert!((19_000..=20_000).contains(&due), "{due}");
    assert_eq!(second.shared_counts().unwrap().hits, 1);
}

#[test]
fn case_004_45_46_87_a_shared_level_that_fails_or_lies_costs_a_question_and_nothing_else() {
    let garbage = Reply::Text(Bytes::from_static(b"\x80{[not json"));
    for outcome in [
        JobOutcome::Failed(Fault::Timeout),
        JobOutcome::Impossible("built without redis".into()),
        JobOutcome::Replies(vec![Reply::Number(20_000), garbage]),
        // Without a time to live it is not trusted (004-84).
        JobOutcome::Replies(vec![Reply::Number(-1), Reply::Text(Bytes::from_static(b"[]"))]),
        JobOutcome::Replies(vec![]),
    ] {
        let mut d = directory(redis);
        let _ = d.resolve(at(0), "web");
        let job = run(&mut d, 0, call("web"));
        assert!(job.deadline <= at(250));
        assert!(d.job_done(at(100), job.id, outcome.clone()).more);
        let job = run(&mut d, 100, call("web"));
        let _ = d.job_done(at(101), job.id, answer(200, 7, &instances(&[80])));
        assert_eq!(found(&mut d, 101, "web").len(), 1, "{outcome:?}");
    }
}

#[test]
fn case_004_61_invalidation_is_one_call_over_both_levels() {
    let mut d = directory(redis);
    let _ = d.resolve(at(0), "web");
    let job = run(&mut d, 0, call("web"));
    let missing = JobOutcome::Replies(vec![Reply::Number(-2), Reply::Text(Bytes::new())]);
    let _ = d.job_done(at(0), job.id, missing);
    let job = run(&mut d, 0, call("web"));
    let _ = d.job_done(at(0), job.id, answer(200, 7, &instances(&[80])));
    assert_eq!(d.invalidate(at(1), "web").services, ["web".into()]);
    assert_eq!(d.resolve(at(1), "web"), Resolution::Pending);
    // The source itself is asked, not what may be from before.
    let job = run(&mut d, 1, call("web"));
    assert!(uri(&job).contains("/v1/health/service/web"));
    let _ = d.job_done(at(2), job.id, answer(200, 7, &instances(&[81])));
    let job = run(&mut d, 2, call("web"));
    assert_eq!(commands(&job)[0], ["DEL", "origin:service:discovery:web"]);
}

#[test]
fn case_003_21_004_47_what_was_not_asked_for_the_longest_is_forgotten() {
    let mut d = directory(|c| {
        consul(c);
        c.discovery.as_mut().unwrap().max_services = 3;
    });
    for (now, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "d")] {
        let _ = d.resolve(at(now), name);
    }
    let known: Vec<_> = d.snapshot(at(6)).into_iter().filter_map(|feed| feed.service).collect();
    assert_eq!(known, ["a".into(), "c".into(), "d".into()]);
    // A call that still uses it begins anew.
    let job = run(&mut d, 7, call("b"));
    assert!(uri(&job).contains("/service/b"), "{}", uri(&job));
    let _ = d.job_done(at(8), job.id, answer(200, 7, &instances(&[80])));
    assert_eq!(found(&mut d, 8, "b").len(), 1);
    assert_eq!(d.call_due(at(8), "b"), at(30_008));
}

#[test]
fn bad_sources_are_refused_with_their_field() {
    let refused = |change: fn(&mut DiscoveryConfig)| {
        let mut discovery = DiscoveryConfig::default();
        change(&mut discovery);
        let config = Config { discovery: Some(discovery), ..Config::default() };
        Directory::new(&config, 1, &Surroundings::default()).unwrap_err().field
    };
    assert_eq!(refused(|_| ()), "discovery.url");
    assert_eq!(refused(|c| c.url = "nonsense".into()), "discovery.url");
    let consul = |c: &mut DiscoveryConfig| c.consul = Some(ConsulConfig::at("nonsense"));
    assert_eq!(refused(consul), "discovery.consul.urls[0]");
    assert_eq!(refused(|c| c.file.path = Some(String::new())), "discovery.file.path");
    assert_eq!(
        refused(|c| {
            c.url = "http://r".into();
            c.order = vec![origin_core::discovery::SourceKind::Dns];
        }),
        "discovery.order"
    );
}
