//! Consul for applications against a real agent: own registrations, typed calls, denials. The same
//! on every adapter; what takes long is tested on one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::time::{Duration, Instant};

use origin_core::config::{
    ConsulCheckConfig, ConsulCheckKind, ConsulConfig, DiscoveryConfig, RegistrationConfig,
    TokenSource,
};
use origin_core::consul::ask::Beat;
use origin_core::consul::entries::Entry;
use origin_core::consul::intention::{Intention, Verdict};
use origin_core::consul::registrar::Stage;
use origin_core::consul::{ConsulError, ServiceName};
use origin_core::{Config, Error, Secret};
use origin_servers::consul::{self, Agent, Setup};

const LONG: Duration = Duration::from_secs(20);

fn config(agents: &[&str], token: Option<&str>) -> Config {
    let mut consul = ConsulConfig::at(agents[0]);
    consul.urls = agents.iter().map(|&url| url.to_owned()).collect();
    consul.service_token = token.and_then(Secret::new).map(TokenSource::Text);
    consul.registrar.backoff = Duration::from_millis(200);
    consul.registrar.presence = Duration::from_secs(1);
    let discovery =
        DiscoveryConfig { consul: Some(consul), ..DiscoveryConfig::at("http://127.0.0.1:9/") };
    Config { discovery: Some(discovery), ..Config::default() }
}

/// A service with a TTL check of three seconds.
fn service(name: &str) -> RegistrationConfig {
    let ttl = ConsulCheckConfig {
        ttl: Duration::from_secs(3),
        ..ConsulCheckConfig::of(ConsulCheckKind::Ttl)
    };
    RegistrationConfig { checks: vec![ttl], ..RegistrationConfig::module(name, "127.0.0.1", 8080) }
}

/// How many instances the agent lists with all checks passing.
fn passing(agent: &Agent, service: &str) -> usize {
    let path = format!("/v1/health/service/{service}?passing=true");
    agent.http().get(&path).map_or(0, |answer| answer.json().as_array().map_or(0, Vec::len))
}

#[track_caller]
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what} took too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `$wait` turns a reply into its result; `$alive` keeps the background of a client.
macro_rules! suite {
    ($name:ident, $client:ty, $wait:path, $alive:expr) => {
        mod $name {
            use super::*;

            /// Also 003-02, 003-05: healthy by its own heartbeats, and gone when it leaves.
            #[test]
            fn case_003_01_registered_healthy_and_taken_back() {
                let Some(agent) = consul::start(&Setup::default()) else { return };
                let url = agent.url();
                let client = <$client>::builder().config(config(&[&url], None)).build().unwrap();
                let _alive = $alive(&client);
                let consul = client.consul().unwrap();
                let api = consul.register(&service("api")).unwrap();
                assert_eq!(api.id(), "api-127.0.0.1-8080");
                assert!($wait(api.wait(LONG)).unwrap());
                soon("the first heartbeat", || passing(&agent, "api") == 1);
                assert!(api.say(Beat::Fail, "out of order"));
                soon("bad news", || passing(&agent, "api") == 0);
                assert!(api.say(Beat::Pass, ""));
                soon("good news", || passing(&agent, "api") == 1);
                // Longer than the time to live.
                std::thread::sleep(Duration::from_millis(3_500));
                assert_eq!(passing(&agent, "api"), 1);
                assert!($wait(consul.leave_all(LONG)).unwrap());
                assert_eq!((api.stage(), passing(&agent, "api")), (None, 0));
            }

            #[test]
            fn case_003_17_only_own_services_are_deregistered() {
                let Some(agent) = consul::start(&Setup::default()) else { return };
                agent.register(&serde_json::json!({ "ID": "web-1", "Name": "web" })).unwrap();
                let url = agent.url();
                let client = <$client>::builder().config(config(&[&url], None)).build().unwrap();
                let _alive = $alive(&client);
                let consul = client.consul().unwrap();
                let refused = $wait(consul.deregister("web-1", LONG)).unwrap_err();
                assert!(matches!(refused, Error::Registration(_)), "{refused}");
                assert!($wait(consul.agent().services()).unwrap().contains_key("web-1"));
                assert!($wait(consul.remove_foreign("web-1", LONG)).unwrap());
                assert!($wait(consul.agent().services()).unwrap().is_empty());
                let bad = RegistrationConfig { port: 0, ..service("api") };
                let error = consul.register(&bad).unwrap_err();
                assert!(error.to_string().contains("registration.port"), "{error}");
                assert!(consul.registrations().is_empty());
            }

            #[test]
            fn typed_calls() {
                let Some(agent) = consul::start(&Setup::default()) else { return };
                let url = agent.url();
                // Nobody listens at the first one.
                let urls = ["http://127.0.0.1:9", &url];
                let client = <$client>::builder().config(config(&urls, None)).build().unwrap();
                let consul = client.consul().unwrap();
                let kv = consul.kv();
                assert!($wait(kv.get("a/b")).unwrap().is_none());
                assert!($wait(kv.put("a/b", b"\x00one\xff")).unwrap());
                let entry = $wait(kv.get("a/b")).unwrap().unwrap();
                assert_eq!(&entry.value[..], b"\x00one\xff");
                assert!(!$wait(kv.put_if("a/b", b"two", entry.modify_index + 1)).unwrap());
                assert!($wait(kv.put_if("a/b", b"two", entry.modify_index)).unwrap());
                assert_eq!($wait(kv.list("a/")).unwrap().len(), 1);
                assert_eq!($wait(kv.keys("a/")).unwrap(), ["a/b".into()]);
                assert!($wait(kv.delete("a/b")).unwrap());
                assert!($wait(kv.list("a/")).unwrap().is_empty());
                // Refused here: nobody is asked.
                let error = $wait(kv.get("a/../b")).unwrap_err();
                assert!(matches!(error.consul(), Some(ConsulError::Field { .. })), "{error}");
                assert_eq!(error.attempts(), 0);

                let me = $wait(consul.agent().myself()).unwrap();
                assert_eq!(&*me.datacenter, agent.datacenter());
                assert_eq!($wait(consul.agent().members()).unwrap().len(), 1);
                let catalogue = consul.catalogue();
                assert!($wait(catalogue.services()).unwrap().contains_key("consul"));
                assert_eq!($wait(catalogue.nodes()).unwrap().len(), 1);
                assert_eq!($wait(catalogue.datacenters()).unwrap(), [agent.datacenter().into()]);

                let intention = Intention::new("web", "api", Verdict::Deny).unwrap();
                let id = $wait(consul.intentions().create(&intention)).unwrap();
                assert_eq!($wait(consul.intentions().list()).unwrap().len(), 1);
                let again = $wait(consul.intentions().create(&intention)).unwrap_err();
                assert!(matches!(again.consul(), Some(ConsulError::Exists(_))), "{again}");
                $wait(consul.intentions().delete(&id)).unwrap();
                assert!($wait(consul.intentions().list()).unwrap().is_empty());

                let name = ServiceName::new("api").unwrap();
                assert!($wait(consul.entries().service("api")).unwrap().is_none());
                for entry in Entry::standard_service(&name) {
                    assert!($wait(consul.entries().put(&entry)).unwrap());
                }
                assert!($wait(consul.entries().service("api")).unwrap().is_some());
            }

            #[test]
            fn case_003_43_a_denial_is_typed_and_not_repeated() {
                let Some(agent) = consul::start(&Setup { acl: true, ..Setup::default() }) else {
                    return;
                };
                let token = agent.token(r#"key_prefix "mine/" { policy = "write" }"#).unwrap();
                let (url, secret) = (agent.url(), token.secret);
                let config = config(&[&url], Some(&secret));
                let client = <$client>::builder().config(config).build().unwrap();
                let _alive = $alive(&client);
                let consul = client.consul().unwrap();
                assert!($wait(consul.kv().put("mine/a", b"1")).unwrap());
                let error = $wait(consul.kv().put("others/a", b"1")).unwrap_err();
                assert!(error.consul().is_some_and(ConsulError::is_permission), "{error}");
                assert_eq!((error.attempts(), error.is_retryable()), (1, false));
                let api = consul.register(&service("api")).unwrap();
                let error = $wait(api.wait(LONG)).unwrap_err();
                assert!(error.consul().is_some_and(ConsulError::is_permission), "{error}");
                assert_eq!(api.stage(), Some(Stage::Wanted), "somebody may mend the token");
                assert!(!format!("{error:?} {client:?} {consul:?} {api:?}").contains(&secret));
                agent.revoke(&origin_servers::consul::Token {
                    secret: String::new(),
                    accessor: token.accessor,
                })
                .unwrap();
                let error = $wait(consul.kv().put("mine/a", b"1")).unwrap_err();
                assert_eq!(error.consul(), Some(&ConsulError::UnknownToken), "{error}");
            }
        }
    };
}

fn on_tokio<T>(reply: impl Future<Output = T>) -> T {
    runtime().block_on(reply)
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap())
}

suite!(tokio_, origin_tokio::Client, on_tokio, |_: &_| runtime().enter());
suite!(smol_, origin_async_std::smol::Client, smol::block_on, |_: &_| ());
suite!(async_std_, origin_async_std::Client, async_std::task::block_on, |_: &_| ());
suite!(
    blocking_,
    origin_blocking::Client,
    std::convert::identity,
    |client: &origin_blocking::Client| { client.background().unwrap() }
);

#[test]
fn without_consul_the_error_names_the_field() {
    let client = origin_blocking::Client::builder().endpoint("a", "http://b").build().unwrap();
    let error = client.consul().unwrap_err();
    assert!(error.to_string().contains("discovery.consul"), "{error}");
}

/// An agent that was killed and comes back without its memory is told again.
#[test]
fn case_003_10_a_forgetful_agent_is_told_again() {
    let Some(mut agent) = consul::start(&Setup::default()) else { return };
    let url = agent.url();
    let client = origin_tokio::Client::builder().config(config(&[&url], None)).build().unwrap();
    let _runtime = runtime().enter();
    let consul = client.consul().unwrap();
    let api = consul.register(&service("api")).unwrap();
    assert!(on_tokio(api.wait(LONG)).unwrap());
    soon("the first heartbeat", || passing(&agent, "api") == 1);
    agent.process.kill9();
    std::thread::sleep(Duration::from_secs(1));
    agent.process.restart().unwrap();
    soon("registering again", || passing(&agent, "api") == 1);
    let again = consul.events().into_iter().any(|(_, event)| {
        matches!(event, origin_core::consul::event::Event::ServiceRegistered { again: true, .. })
    });
    assert!(again);
    // An agent that accepts and never answers does not hold up the end.
    agent.process.pause();
    let start = Instant::now();
    assert!(!on_tokio(consul.leave_all(Duration::from_secs(1))).unwrap());
    assert!(start.elapsed() < Duration::from_secs(5));
    agent.process.resume();
}
