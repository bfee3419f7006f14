//! Breaker knowledge shared through a real Redis, between clients that share nothing else.

use std::time::{Duration, Instant};

use origin_core::Config;
use origin_core::config::{KnowledgeConfig, KnowledgeMode, RedisConfig};
use origin_driver::Client;
use origin_lab::{FaultServer, Mode};
use origin_servers::redis;

use crate::subject::{Subject, eventually, get, within};

on_every_runtime! {
    case_001_120_the_second_instance_rejects_after_the_first_opened
    case_001_120_an_opening_is_known_elsewhere_at_once_and_ends_with_its_node
}

fn strict<S: Subject>(
    redis: &redis::Redis,
    server: &FaultServer,
    change: impl FnOnce(&mut KnowledgeConfig),
) -> Client<S> {
    let mut shared = RedisConfig::at(&redis.url());
    let breakers = &mut shared.breakers;
    (breakers.mode, breakers.quorum, breakers.share) = (KnowledgeMode::Strict, 1, 0.0);
    change(breakers);
    let mut config = Config { redis: Some(shared), ..Config::default() };
    config.policy.breaker.open = Duration::from_secs(30);
    Client::builder().configure(|c| *c = config).endpoint("web", server.url()).build().unwrap()
}

fn case_001_120_the_second_instance_rejects_after_the_first_opened<S: Subject>() {
    let Some(redis) = redis::start(&redis::Setup::default()) else { return };
    let server = FaultServer::start().unwrap();
    let quick = |breakers: &mut KnowledgeConfig| {
        breakers.every = Duration::from_millis(200);
        breakers.gap = Duration::from_millis(50);
    };
    let first = strict::<S>(&redis, &server, quick);
    let second = strict::<S>(&redis, &server, quick);
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

/// Whether others found the only endpoint bad.
fn warned<S: Subject>(client: &Client<S>) -> bool {
    client.snapshot().services[0].endpoints[0].advised_against.is_some()
}

fn case_001_120_an_opening_is_known_elsewhere_at_once_and_ends_with_its_node<S: Subject>() {
    let Some(redis) = redis::start(&redis::Setup::default()) else { return };
    let server = FaultServer::start().unwrap();
    // Exchanges for their own sake are so rare that everything below is the work of news.
    let rare = |breakers: &mut KnowledgeConfig| {
        breakers.every = Duration::from_secs(300);
        breakers.ttl = Duration::from_secs(900);
    };
    let first = strict::<S>(&redis, &server, rare);
    let second = strict::<S>(&redis, &server, rare);
    let backgrounds = (S::background(&first), S::background(&second));
    assert_eq!(get(&second, "web", "/x").unwrap().status, 200);
    assert_eq!(get(&first, "web", "/x").unwrap().status, 200);
    let index = "origin:breakers:web";
    eventually("both are there", || {
        redis.call(&["SCARD", index]).unwrap() == origin_servers::resp::Value::Number(2)
    });
    server.set(Mode::Status { code: 503, headers: vec![], body: String::new() });
    eventually("the breaker of the first one opens", || {
        let _ = get(&first, "web", "/x");
        first.snapshot().services[0].endpoints[0].breaker.word() == "open"
    });
    let opened = Instant::now();
    within(Duration::from_secs(2), "the second one hears of it", || warned(&second));
    let heard = opened.elapsed();
    // The first one ends, in the middle of its word of thirty seconds.
    let closed = Instant::now();
    assert!(S::wait(S::there(|| first.close(Duration::from_secs(5)))).unwrap());
    let close = closed.elapsed();
    within(Duration::from_secs(2), "its voice is gone", || !warned(&second));
    eprintln!(
        "{}: heard after {heard:?}; closed in {close:?}, gone after {:?}",
        S::NAME,
        closed.elapsed()
    );
    assert_eq!(redis.call(&["SCARD", index]).unwrap(), origin_servers::resp::Value::Number(1));
    drop(backgrounds);
}
