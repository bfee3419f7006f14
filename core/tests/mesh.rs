//! Services looked up with `lookup.connect`: who is asked, and that TLS is never taken away.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use bytes::Bytes;
use http::HeaderMap;
use origin_core::Time;
use origin_core::config::{Config, ConsulConfig, DiscoveryConfig, EndpointConfig, RedisConfig};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Directory, SourceKind, Surroundings};
use origin_core::job::{Asker, JobOutcome, Poll, Work};
use origin_core::redis::Reply;

fn config() -> Config {
    let mut consul = ConsulConfig::at("http://agent:8500");
    consul.connect.enabled = true;
    consul.connect.service = "caller".into();
    let discovery = DiscoveryConfig { consul: Some(consul), ..DiscoveryConfig::at("http://r/d") };
    let mut config = Config { discovery: Some(discovery), ..Config::default() };
    let web = config.services.entry("web".into()).or_default();
    web.lookup.connect = true;
    web.lookup.name = Some("web-v2".into());
    config
}

fn found(directory: &mut Directory) -> Vec<String> {
    match directory.resolve(Time::ZERO, "web") {
        Resolution::Found(list) => list.iter().map(|c| c.address.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

const CALL: Asker<'_> = Asker::Call { service: "web", until: Time::from_millis(30_000) };
/// It says of itself that it speaks plain HTTP, which is what is behind its sidecar.
const REPLY: &str = r#"[{"Node":{"Node":"n1","Address":"10.0.0.1","Datacenter":"dc1"},
    "Service":{"ID":"web-1","Service":"web-v2-sidecar-proxy","Address":"","Port":21000,"Tags":null,
    "Meta":{"protocol":"http"},"Weights":{"Passing":1,"Warning":1}},"Checks":[]}]"#;

#[test]
fn case_003_35_only_consul_is_asked_and_all_of_it_is_tls() {
    let mut directory = Directory::new(&config(), 1, &Surroundings::default()).unwrap().unwrap();
    let _ = directory.resolve(Time::ZERO, "web");
    assert_eq!(directory.mesh_name("web").as_deref(), Some("web-v2"));
    assert_eq!(directory.mesh_name("other"), None);
    let Poll::Run(job) = directory.poll_job(Time::ZERO, CALL) else { panic!() };
    let uri = job.http().unwrap().uri().to_string();
    assert_eq!(uri, "http://agent:8500/v1/health/connect/web-v2?passing=true");
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(REPLY.as_bytes()));
    let answer = JobOutcome::Answered { status: 200, headers, body };
    let _ = directory.job_done(Time::ZERO, job.id, answer);
    assert_eq!(found(&mut directory), ["https://10.0.0.1:21000"]);
}

/// Somebody who can write to Redis must not make calls leave the mesh, neither by what is stored
/// there for plain lookups nor by an entry of the same key.
#[test]
fn case_004_84_a_shared_level_cannot_take_tls_away() {
    let mut config = config();
    config.redis = Some(RedisConfig::at("redis://127.0.0.1"));
    let make = |config: &Config| {
        let mut one = Directory::new(config, 1, &Surroundings::default()).unwrap().unwrap();
        one.calendar(Time::ZERO, origin_core::Wall(1_700_000_000));
        let _ = one.resolve(Time::ZERO, "web");
        let Poll::Run(job) = one.poll_job(Time::ZERO, CALL) else { panic!() };
        let Work::Redis(commands) = job.work else { panic!() };
        (one, job.id, String::from_utf8(commands[0].0[1].to_vec()).unwrap())
    };
    let (mut plain, mut meshed) = (config.clone(), config);
    let lookup = &mut plain.services.get_mut("web").unwrap().lookup;
    (lookup.connect, lookup.order) = (false, vec![SourceKind::Consul]);
    let (mut one, id, key) = make(&plain);
    let missing = JobOutcome::Replies(vec![Reply::Number(-2), Reply::Text(Bytes::new())]);
    let _ = one.job_done(Time::ZERO, id, missing);
    let Poll::Run(job) = one.poll_job(Time::ZERO, CALL) else { panic!() };
    let (headers, body) = (HeaderMap::new(), Bytes::from_static(REPLY.as_bytes()));
    let answer = JobOutcome::Answered { status: 200, headers, body };
    let _ = one.job_done(Time::ZERO, job.id, answer);
    assert_eq!(found(&mut one), ["http://10.0.0.1:21000"]);
    let Poll::Run(job) = one.poll_job(Time::ZERO, CALL) else { panic!() };
    let Work::Redis(commands) = job.work else { panic!() };
    let value = Bytes::copy_from_slice(&commands[0].0[2]);

    meshed.services.get_mut("web").unwrap().lookup.order = vec![SourceKind::Consul];
    let (mut other, id, own_key) = make(&meshed);
    assert_ne!(own_key, key);
    let planted = JobOutcome::Replies(vec![Reply::Number(20_000), Reply::Text(value)]);
    let _ = other.job_done(Time::ZERO, id, planted);
    assert!(
        !matches!(other.resolve(Time::ZERO, "web"), Resolution::Found(list) if !list.is_empty())
    );
}

#[test]
fn a_lookup_that_cannot_be_meant_is_refused_with_its_field() {
    let refused = |change: fn(&mut Config)| {
        let mut config = config();
        config.check().unwrap();
        change(&mut config);
        config.check().unwrap_err().field
    };
    assert_eq!(
        refused(|c| c.discovery.as_mut().unwrap().consul.as_mut().unwrap().connect.enabled = false),
        "services.web.lookup.connect"
    );
    assert_eq!(
        refused(|c| c.discovery.as_mut().unwrap().consul.as_mut().unwrap().connect.service.clear()),
        "discovery.consul.connect.service"
    );
    assert_eq!(
        refused(|c| {
            let web = c.services.get_mut("web").unwrap();
            web.endpoints = vec![EndpointConfig::at("http://here")];
        }),
        "services.web.lookup.connect"
    );
    assert_eq!(
        refused(|c| {
            let web = c.services.get_mut("web").unwrap();
            web.lookup.order = vec![SourceKind::Document];
        }),
        "services.web.lookup.order"
    );
}
