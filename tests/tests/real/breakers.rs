//! Breaker knowledge shared through a real Redis, between clients that share nothing else.

use std::time::Duration;

use origin_core::Config;
use origin_core::config::{KnowledgeMode, RedisConfig};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use origin_servers::redis;

use crate::subject::{Subject, eventually, get};

on_every_runtime! {
    case_001_120_the_second_instance_rejects_after_the_first_opened
}

fn strict<S: Subject>(redis: &redis::Redis, server: &FaultServer) -> Client<S> {
    let mut shared = RedisConfig::at(&redis.url());
    let breakers = &mut shared.breakers;
    (breakers.mode, breakers.quorum, breakers.share) = (KnowledgeMode::Strict, 1, 0.0);
    breakers.every = Duration::from_millis(200);
    breakers.gap = Duration::from_millis(50);
    let mut config = Config { redis: Some(shared), ..Config::default() };
    config.policy.breaker.open = Duration::from_secs(30);
    Client::builder().configure(|c| *c = config).endpoint("web", server.url()).build().unwrap()
}

fn case_001_120_the_second_instance_rejects_after_the_first_opened<S: Subject>() {
    let Some(redis) = redis::start(&redis::Setup::default()) else { return };
    let server = FaultServer::start().unwrap();
    let (first, second) = (strict::<S>(&redis, &server), strict::<S>(&redis, &server));
    let _backgrounds = (S::background(&first), S::background(&second));
    assert_eq!(get(&second, "web", "/x").unwrap().status, 200);
    server.set(Mode::Status { code: 503, headers: vec![], body: String::new() });
    eventually("the breaker of the first one opens", || {
        let _ = get(&first, "web", "/x");
        first.snapshot().services[0].endpoints[0].breaker.word() == "open"
    });
    // The server is well again, and the second one never saw it otherwise.
    server.set(Mode::Ok);
    eventually("the second one hears of it", || {
        second.snapshot().services[0].endpoints[0].advised_against.is_some()
    });
    let seen = &second.snapshot().services[0].endpoints[0];
    assert_eq!((seen.breaker.word(), seen.failed_attempts), ("closed", 0));
    let before = server.request_count();
    let refused = get(&second, "web", "/x").unwrap_err();
    assert!(refused.to_string().contains("found bad by other nodes"), "{refused}");
    assert_eq!(server.request_count(), before);
}
