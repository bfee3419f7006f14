//! More than one agent, more than one datacenter, and every kind of check that an agent makes.

use std::time::Duration;

use origin_core::config::{ConsulCheckConfig, ConsulCheckKind, RegistrationConfig};
use origin_core::consul::ConsulError;
use origin_lab::{FaultServer, GrpcHealth, Mode, Serving};
use origin_servers::consul::{self, Agent, ClusterSetup, Setup};
use serde_json::{Value, json};

use crate::catalogue::{client, known, register};
use crate::subject::{Subject, Tokio, eventually, get, within};

on_every_runtime! {
    case_003_06_every_kind_of_check_is_made_by_the_agent
}

const LONG: Duration = Duration::from_secs(20);

/// The nodes on which an instance passes.
fn nodes(agent: &Agent, service: &str) -> Vec<String> {
    let path = format!("/v1/health/service/{service}?passing=true");
    let Ok(answer) = agent.http().get(&path) else { return vec![] };
    let json = answer.json();
    let list = json.as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|one: &Value| Some(one["Node"]["Node"].as_str()?.to_owned())).collect()
}

fn passes(agent: &Agent, service: &str) -> bool {
    !nodes(agent, service).is_empty()
}

/// `enable_local_script_checks` is for services in the agent's own files: to what is registered
/// over HTTP it says no, which is not tried again.
#[test]
fn case_003_06_a_script_that_the_agent_will_not_run_is_refused() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let client = client::<Tokio>(&agent.url(), |_| ()).build().unwrap();
    let check = ConsulCheckConfig {
        args: vec!["/bin/true".to_owned()],
        ..ConsulCheckConfig::of(ConsulCheckKind::Script)
    };
    let config = RegistrationConfig {
        checks: vec![check],
        allow_scripts: true,
        ..RegistrationConfig::module("by-script", "127.0.0.1", 80)
    };
    let own = Tokio::there(|| client.consul().unwrap().register(&config)).unwrap();
    let error = Tokio::wait(own.wait(LONG)).unwrap_err();
    let Some(ConsulError::Refused { field: Some(field), .. }) = error.consul() else {
        panic!("{error}")
    };
    assert_eq!(&**field, "Args");
}

fn case_003_06_every_kind_of_check_is_made_by_the_agent<S: Subject>() {
    let setup = Setup { extra: Some(json!({ "enable_script_checks": true })), ..Setup::default() };
    let Some(agent) = consul::start(&setup) else { return };
    let (server, grpc) = (FaultServer::start().unwrap(), GrpcHealth::start().unwrap());
    let client = client::<S>(&agent.url(), |_| ()).build().unwrap();
    let _background = S::background(&client);
    let port_of = |url: &str| url.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let flag = std::env::temp_dir().join(format!("origin-flag-{}-{}", S::NAME, std::process::id()));
    std::fs::write(&flag, "").unwrap();
    let kinds = [
        ("by-http", ConsulCheckKind::Http, server.addr().port()),
        ("by-tcp", ConsulCheckKind::Tcp, server.addr().port()),
        ("by-grpc", ConsulCheckKind::Grpc, port_of(&grpc.url())),
        ("by-script", ConsulCheckKind::Script, server.addr().port()),
        ("by-ttl", ConsulCheckKind::Ttl, server.addr().port()),
    ];
    let registered = S::there(|| {
        kinds.map(|(name, kind, port)| {
            let args = match kind {
                ConsulCheckKind::Script => {
                    vec!["/usr/bin/test".to_owned(), "-e".into(), flag.to_str().unwrap().into()]
                }
                _ => vec![],
            };
            let second = Duration::from_secs(1);
            let check = ConsulCheckConfig {
                args,
                interval: second,
                timeout: second,
                ttl: second * 3,
                ..ConsulCheckConfig::of(kind)
            };
            let config = RegistrationConfig {
                checks: vec![check],
                allow_scripts: true,
                ..RegistrationConfig::module(name, "127.0.0.1", port)
            };
            client.consul().unwrap().register(&config).unwrap()
        })
    });
    for one in &registered {
        assert!(S::wait(one.wait(LONG)).unwrap());
    }
    for (name, ..) in kinds {
        within(LONG, name, || passes(&agent, name));
    }
    // Each of them is a check of its own kind: what it looks at turns ill, and only it.
    std::fs::remove_file(&flag).unwrap();
    grpc.set(Serving::NotServing);
    server.set(Mode::Status { code: 503, headers: vec![], body: String::new() });
    for name in ["by-script", "by-grpc", "by-http"] {
        within(LONG, name, || !passes(&agent, name));
    }
    assert!(passes(&agent, "by-tcp") && passes(&agent, "by-ttl"));
    server.set(Mode::Refuse);
    within(LONG, "by-tcp", || !passes(&agent, "by-tcp"));
    assert!(passes(&agent, "by-ttl"));
    assert!(S::wait(client.consul().unwrap().leave_all(LONG)).unwrap());
    assert!(!passes(&agent, "by-ttl"));
}

/// Fallback datacenters: used while the first has no instance, left when it has one again.
#[test]
fn case_003_12_another_datacenter_stands_in_and_steps_back() {
    let setup = ClusterSetup { acl: false, second: true };
    let Some(cluster) = consul::cluster(&setup) else { return };
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    let far = cluster.second.as_ref().unwrap();
    register(far, "web", "far", &servers[1]);
    let client = client::<Tokio>(&cluster.client.url(), |consul| {
        consul.fallback_datacenters = vec!["dc2".to_owned()];
        consul.watch.wait = Duration::from_secs(2);
    });
    let client = client.build().unwrap();
    let by = |n: usize| {
        let before = servers[n].request_count();
        get(&client, "web", "/x").is_ok_and(|r| r.status == 200)
            && servers[n].request_count() > before
    };
    within(LONG, "the far one answers", || by(1));
    assert_eq!(known(&client, "web"), [servers[1].url()]);
    register(&cluster.client, "web", "near", &servers[0]);
    within(LONG, "the near one answers", || by(0));
    let far_count = servers[1].request_count();
    for _ in 0..20 {
        assert!(by(0));
    }
    assert_eq!(servers[1].request_count(), far_count, "the far one is a backup");
    let shown = client.snapshot();
    let clusters: Vec<&str> =
        shown.service("web").unwrap().endpoints.iter().map(|e| &*e.cluster).collect();
    assert!(clusters.contains(&"dc1") && clusters.contains(&"dc2"), "{clusters:?}");
    cluster.client.done("/v1/agent/service/deregister/near", "").unwrap();
    within(LONG, "the far one again", || known(&client, "web") == [servers[1].url()] && by(1));
}

/// The agent dies: lookups, registrations and typed calls go on at the next one.
#[test]
fn case_003_10_71_the_next_agent_takes_over() {
    let setup = ClusterSetup { acl: false, second: false };
    let Some(mut cluster) = consul::cluster(&setup) else { return };
    let server = FaultServer::start().unwrap();
    let second = cluster.servers[0].url();
    register(&cluster.servers[1], "web", "web1", &server);
    let client = client::<Tokio>(&cluster.client.url(), |consul| {
        consul.urls.push(second);
        consul.watch.wait = Duration::from_secs(2);
        consul.registrar.backoff = Duration::from_millis(200);
        consul.registrar.presence = Duration::from_secs(1);
    });
    let client = client.build().unwrap();
    within(LONG, "it is known", || get(&client, "web", "/x").is_ok());
    let ttl = ConsulCheckConfig {
        ttl: Duration::from_secs(3),
        ..ConsulCheckConfig::of(ConsulCheckKind::Ttl)
    };
    let api = RegistrationConfig {
        checks: vec![ttl],
        ..RegistrationConfig::module("api", "127.0.0.1", server.addr().port())
    };
    let consul = client.consul().unwrap();
    let api = Tokio::there(|| consul.register(&api)).unwrap();
    assert!(Tokio::wait(api.wait(LONG)).unwrap());
    within(LONG, "it passes at the first", || nodes(&cluster.servers[0], "api") == ["c1"]);

    let dying = std::time::Instant::now();
    cluster.client.process.kill9();
    // Typed calls, from the first moment on.
    assert!(Tokio::wait(consul.kv().put("a/b", b"1")).unwrap());
    within(LONG, "it passes at the next", || nodes(&cluster.servers[0], "api") == ["s1"]);
    eprintln!("registered at the next agent, healthy, after {:?}", dying.elapsed());
    // Lookups: what changes now is seen.
    let another = FaultServer::start().unwrap();
    register(&cluster.servers[1], "web", "web2", &another);
    within(LONG, "the change is seen", || known(&client, "web").len() == 2);
    eventually("the feed has recovered", || {
        client.snapshot().discovery.iter().all(|feed| feed.failures == 0)
    });
    let feeds = client.snapshot().discovery;
    assert!(feeds.iter().any(|feed| feed.source.contains("127.0.0.2")), "{feeds:?}");
}
