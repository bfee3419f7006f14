//! The second level in a real Redis: shared, stopped, paused, filled with garbage.

use std::time::{Duration, Instant};

use origin_core::Error;
use origin_core::config::RedisConfig;
use origin_core::snapshot::Level;
use origin_driver::Client;
use origin_lab::FaultServer;
use origin_servers::consul::{self, Agent, Setup};
use origin_servers::redis;

use crate::catalogue::{client, known, register};
use crate::subject::{Subject, Tokio, eventually, get};

on_every_runtime! {
    case_004_41_another_process_is_served_from_redis_while_consul_is_down
    case_004_61_looking_up_anew_deletes_the_list_in_redis_as_well
}

fn with_redis<S: Subject>(agent: &str, redis: &redis::Redis, password: &str) -> Client<S> {
    let mut config = RedisConfig::at(&redis.url());
    config.password = origin_core::Secret::exact(password);
    client::<S>(agent, |_| ()).configure(|c| c.redis = Some(config)).build().unwrap()
}

fn start() -> Option<(Agent, redis::Redis, FaultServer)> {
    let agent = consul::start(&Setup::default())?;
    let setup = redis::Setup { password: Some("planted-password".into()), ..Default::default() };
    let redis = redis::start(&setup)?;
    let server = FaultServer::start().unwrap();
    register(&agent, "web", "web1", &server);
    Some((agent, redis, server))
}

const PASSWORD: &str = "planted-password";

fn case_004_41_another_process_is_served_from_redis_while_consul_is_down<S: Subject>() {
    let Some((mut agent, redis, server)) = start() else { return };
    let first = with_redis::<S>(&agent.url(), &redis, PASSWORD);
    let _background = S::background(&first);
    get(&first, "web", "/x").unwrap();
    let key = "origin:service:discovery:web";
    eventually("it is written", || {
        redis.call(&["EXISTS", key]).unwrap() == origin_servers::resp::Value::Number(1)
    });
    agent.process.kill9();
    let second = with_redis::<S>(&agent.url(), &redis, PASSWORD);
    assert_eq!(get(&second, "web", "/x").unwrap().status, 200);
    assert_eq!(known(&second, "web"), [server.url()]);
    assert_eq!(second.snapshot().discovery[0].level, Some(Level::Shared));
    let shown = format!("{:?} {:?} {second:?}", second.snapshot(), second.notices());
    assert!(!shown.contains(PASSWORD));
}

fn case_004_61_looking_up_anew_deletes_the_list_in_redis_as_well<S: Subject>() {
    let Some((mut agent, redis, _server)) = start() else { return };
    let client = with_redis::<S>(&agent.url(), &redis, PASSWORD);
    let _background = S::background(&client);
    get(&client, "web", "/x").unwrap();
    let key = "origin:service:discovery:web";
    let there = || redis.call(&["EXISTS", key]).unwrap() == origin_servers::resp::Value::Number(1);
    eventually("it is written", there);
    // So that nobody writes it again.
    agent.process.kill9();
    client.service("web").unwrap().rediscover();
    // Nothing is believed that is from before, whether Redis has heard of it or not.
    let error = get(&client, "web", "/y").unwrap_err();
    assert!(matches!(error, Error::Discovery { .. }), "{error:?}");
    eventually("it is deleted", || !there());
}

#[test]
fn case_004_45_a_redis_that_is_stopped_or_hangs_costs_nothing_but_a_warning() {
    let Some((agent, mut redis, _server)) = start() else { return };
    for hang in [false, true] {
        if hang {
            redis.process.restart().unwrap();
            redis.process.pause();
        } else {
            redis.process.kill9();
        }
        let client = with_redis::<Tokio>(&agent.url(), &redis, PASSWORD);
        let begun = Instant::now();
        assert_eq!(get(&client, "web", "/x").unwrap().status, 200);
        let first = begun.elapsed();
        // A lookup waits for Redis 250 ms at most, once.
        assert!(first < Duration::from_secs(2), "{first:?}");
        assert_eq!(get(&client, "web", "/y").unwrap().status, 200);
        eventually("it is said", || {
            client.notices().iter().any(|notice| notice.to_string().contains("redis"))
        });
        eprintln!("redis {}: first call {first:?}", if hang { "hangs" } else { "is gone" });
        if hang {
            redis.process.resume();
        }
    }
}

#[test]
fn case_004_46_84_86_garbage_in_redis_is_asked_over_and_overwritten() {
    let Some((agent, redis, server)) = start() else { return };
    let key = "origin:service:discovery:web";
    let foreign = r#"[{"id":"x","address":"10.0.0.1","port":99999,"healthy":true,"last_check":null,"metadata":{}}]"#;
    for (garbage, life) in [
        ("\u{1}not json", Some("30000")),
        (foreign, Some("30000")),
        ("[]", None),
        (r#"{"version":9}"#, Some("99999999")),
    ] {
        match life {
            Some(life) => redis.call(&["SET", key, garbage, "PX", life]).unwrap(),
            None => redis.call(&["SET", key, garbage]).unwrap(),
        };
        let client = with_redis::<Tokio>(&agent.url(), &redis, PASSWORD);
        assert_eq!(get(&client, "web", "/x").unwrap().status, 200, "{garbage}");
        assert_eq!(known(&client, "web"), [server.url()]);
        eventually("it is overwritten", || {
            let value = redis.call(&["GET", key]).unwrap();
            format!("{value:?}").contains("x-origin")
        });
    }
}
