//! Remembered answers in a real Redis: they survive the program, are shared, keep their expiry,
//! and a Redis that is gone, hangs or holds garbage changes nothing but how long one call takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use origin_core::cache::{Invalidated, Level, Purged, Reason, Target};
use origin_core::config::{CacheConfig, RedisConfig};
use origin_core::{Config, Response, Secret};
use origin_driver::{Client, Upstream};
use origin_lab::{Answer, FaultServer, Mode};
use origin_servers::redis::{self, Redis, Setup};
use origin_servers::resp::Value;

use crate::subject::{Subject, Tokio, eventually};

on_every_runtime! {
    case_001_121_answers_survive_a_restart_and_are_shared
    case_001_122_invalidation_is_over_both_levels
    a_redis_that_is_gone_or_hangs_costs_one_call_its_timeout
    what_is_invalidated_while_redis_is_away_is_deleted_when_it_is_back
}

/// A server that counts: each answer says how many came before it.
fn counting() -> FaultServer {
    let count = AtomicU64::new(0);
    let handler = move |_: &origin_lab::Request| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Answer::bytes(200, "text/plain", number.to_string())
    };
    FaultServer::with_handler(Arc::new(handler)).unwrap()
}

fn client<S: Subject>(
    server: &FaultServer,
    redis: &Redis,
    change: impl FnOnce(&mut Config, &mut CacheConfig),
) -> Client<S> {
    let mut cache = CacheConfig::default();
    cache.shared.enabled = true;
    Client::<S>::builder()
        .endpoint("books", server.url())
        .timeout(Duration::from_secs(5))
        .configure(|config| {
            config.policy.retry.max_attempts = 1;
            config.redis = Some(RedisConfig::at(&redis.url()));
            change(config, &mut cache);
            config.cache = Some(cache);
        })
        .build()
        .unwrap()
}

fn books<S: Subject>(server: &FaultServer, redis: &Redis) -> Upstream<S> {
    client(server, redis, |_, _| ()).service("books").unwrap()
}

fn get<S: Subject>(books: &Upstream<S>, path: &str) -> Response {
    S::wait(books.get(path).cached().send()).unwrap()
}

/// The body, and from which level it came; `None` for a call.
fn told<S: Subject>(books: &Upstream<S>, path: &str) -> (String, Option<Level>) {
    let response = get(books, path);
    (response.text(), response.report.cache.map(|label| label.level))
}

/// The keys of answers, without indexes.
fn entries(redis: &Redis) -> Vec<String> {
    let Value::List(keys) = redis.call(&["KEYS", "origin:*"]).unwrap() else { panic!() };
    let text = |key: Value| match key {
        Value::Text(key) => key,
        other => panic!("{other:?}"),
    };
    keys.into_iter().map(text).filter(|key| key.len() == "origin:".len() + 64).collect()
}

fn written(redis: &Redis, count: usize) {
    eventually("it is written", || entries(redis).len() == count);
}

fn case_001_121_answers_survive_a_restart_and_are_shared<S: Subject>() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    let server = counting();
    let first = books::<S>(&server, &redis);
    assert_eq!(told(&first, "/x"), ("0".to_owned(), None));
    written(&redis, 1);
    let other = books::<S>(&server, &redis);
    drop(first);
    // A new program, with nothing in it.
    let again = get(&other, "/x");
    let label = again.report.cache.unwrap();
    assert_eq!(
        (again.text(), label.level, label.reason),
        ("0".into(), Level::Shared, Reason::Fresh)
    );
    assert_eq!(again.headers["content-type"], "text/plain");
    assert!(again.report.attempts.is_empty());
    assert_eq!(server.request_count(), 1);
    // Kept here since: Redis is not asked again.
    assert_eq!(told(&other, "/x"), ("0".to_owned(), Some(Level::Shared)));
    let counts = other.shared_cache_stats().unwrap();
    assert_eq!((counts.hits, counts.misses, counts.garbage), (1, 0, 0));
    // A refresh by one is what others find.
    let fresh = S::wait(other.get("/x").cached().use_cache(false).send()).unwrap();
    assert_eq!(fresh.text(), "1");
    eventually("it is replaced", || other.shared_cache_stats().unwrap().stored == 1);
    assert_eq!(told(&books::<S>(&server, &redis), "/x"), ("1".to_owned(), Some(Level::Shared)));
    assert_eq!(server.request_count(), 2);
}

fn case_001_122_invalidation_is_over_both_levels<S: Subject>() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    let server = counting();
    let one = books::<S>(&server, &redis);
    let (a, b) = (one.get("/a").cached().cache_tags(["red"]), one.get("/b").cached());
    S::wait(a.send()).unwrap();
    S::wait(b.send()).unwrap();
    written(&redis, 2);
    let done = S::wait(one.invalidate(Target::Tag("red".into()))).unwrap();
    assert_eq!(done, Invalidated { local: 1, shared: Some(Purged::Removed(1)) });
    // At once, for everybody who asks from now on.
    let other = books::<S>(&server, &redis);
    assert_eq!(told(&other, "/b"), ("1".to_owned(), Some(Level::Shared)));
    assert_eq!(told(&other, "/a"), ("2".to_owned(), None));
    written(&redis, 2);
    // An unsafe request outdates its path in both levels.
    S::wait(one.put("/b").body("1").send()).unwrap();
    written(&redis, 1);
    assert_eq!(told(&books::<S>(&server, &redis), "/b").1, None);
    written(&redis, 2);
    // What is somebody else's stays.
    redis.call(&["SET", "origin:other", "x"]).unwrap();
    let done = S::wait(one.clear_cache()).unwrap();
    assert_eq!(done.shared, Some(Purged::Removed(2)));
    assert_eq!((entries(&redis).len(), one.cache_stats().cache_size), (0, 0));
    assert_eq!(redis.call(&["EXISTS", "origin:other"]).unwrap(), Value::Number(1));
}

fn a_redis_that_is_gone_or_hangs_costs_one_call_its_timeout<S: Subject>() {
    let Some(mut redis) = redis::start(&Setup::default()) else { return };
    for hang in [false, true] {
        let server = counting();
        let client = client::<S>(&server, &redis, |_, _| ());
        let books = client.service("books").unwrap();
        get(&books, "/warm");
        if hang {
            redis.process.pause();
        } else {
            redis.process.kill9();
        }
        let timed = |path: &str| {
            let begun = Instant::now();
            assert_eq!(get(&books, path).report.cache, None);
            begun.elapsed()
        };
        let first = timed("/x");
        let rest: Duration = (0..20).map(|n| timed(&format!("/y{n}"))).sum();
        eprintln!("{}, hangs {hang}: first call {first:?}, 20 more {rest:?}", S::NAME);
        assert!(first < Duration::from_secs(2), "{first:?}");
        // 250 ms each would be 5 s.
        assert!(rest < Duration::from_secs(2), "{rest:?}");
        assert!(get(&books, "/x").report.cache.is_some(), "here it is remembered");
        let said: Vec<String> = client.notices().iter().map(ToString::to_string).collect();
        assert_eq!(said.iter().filter(|text| text.contains("left alone")).count(), 1, "{said:?}");
        assert!(books.shared_cache_stats().unwrap().skipped >= 15);
        if hang {
            redis.process.resume();
        } else {
            redis.process.restart().unwrap();
        }
    }
}

fn what_is_invalidated_while_redis_is_away_is_deleted_when_it_is_back<S: Subject>() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    let server = counting();
    let client = client::<S>(&server, &redis, |config, _| {
        let redis = config.redis.as_mut().unwrap();
        (redis.backoff, redis.backoff_max) =
            (Duration::from_millis(200), Duration::from_millis(400));
    });
    let _background = S::background(&client);
    let books = client.service("books").unwrap();
    get(&books, "/a");
    written(&redis, 1);
    redis.process.pause();
    let begun = Instant::now();
    let done = S::wait(books.clear_cache()).unwrap();
    assert_eq!(done, Invalidated { local: 1, shared: Some(Purged::Later) });
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    redis.process.resume();
    assert_eq!(told(&books, "/a"), ("1".to_owned(), None), "not the old one");
    let deleted = || books.shared_cache_stats().unwrap().purging == 0;
    eventually("it is deleted", deleted);
    assert!(books.shared_cache_stats().unwrap().purged >= 1);
    let other = self::books::<S>(&server, &redis);
    assert_ne!(told(&other, "/a").0, "0");
}

/// Never longer than the original expiry, whoever keeps it and since when.
#[test]
fn the_original_expiry_is_kept() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    let server = counting();
    let short = |_: &mut Config, cache: &mut CacheConfig| cache.ttl = Duration::from_secs(4);
    let first = client::<Tokio>(&server, &redis, short).service("books").unwrap();
    let begun = Instant::now();
    get(&first, "/x");
    written(&redis, 1);
    std::thread::sleep(Duration::from_millis(2_000));
    // Its own settings would keep it for five minutes.
    let second = books::<Tokio>(&server, &redis);
    assert_eq!(told(&second, "/x"), ("0".to_owned(), Some(Level::Shared)));
    let mut last = Instant::now();
    while told(&second, "/x").0 == "0" {
        last = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
    }
    let lived = last - begun;
    assert!(
        lived > Duration::from_millis(2_000) && lived < Duration::from_millis(4_100),
        "{lived:?}"
    );
}

/// Expired, but kept for this: the peer fails, and another program has nothing of its own.
#[test]
fn a_shared_answer_that_has_expired_serves_when_the_peer_fails() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    let server = counting();
    let stale = |_: &mut Config, cache: &mut CacheConfig| {
        cache.ttl = Duration::from_secs(1);
        cache.stale_if_error = Duration::from_secs(60);
    };
    let first = client::<Tokio>(&server, &redis, stale).service("books").unwrap();
    get(&first, "/x");
    written(&redis, 1);
    std::thread::sleep(Duration::from_millis(2_100));
    server.set(Mode::Refuse);
    let second = client::<Tokio>(&server, &redis, stale).service("books").unwrap();
    let response = get(&second, "/x");
    let label = response.report.cache.unwrap();
    assert_eq!(response.text(), "0");
    assert_eq!((label.level, label.reason), (Level::Shared, Reason::Error));
    assert!(label.stale >= Duration::from_secs(1) && label.age > label.stale, "{label:?}");
    // Without that bound it is an error.
    let strict = books::<Tokio>(&server, &redis);
    assert!(Tokio::wait(strict.get("/x").cached().send()).is_err());
}

#[test]
fn garbage_and_other_versions_are_asked_over_and_overwritten() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    let server = counting();
    get(&books::<Tokio>(&server, &redis), "/x");
    written(&redis, 1);
    let key = entries(&redis).remove(0);
    let huge = "x".repeat(2 << 20);
    for (number, garbage) in
        ["planted garbage", "OrgC\u{7}newer", "", &huge].into_iter().enumerate()
    {
        redis.call(&["SET", &key, garbage]).unwrap();
        let client = client::<Tokio>(&server, &redis, |_, _| ());
        let books = client.service("books").unwrap();
        let expected = (number + 1).to_string();
        assert_eq!(told(&books, "/x"), (expected.clone(), None), "{number}");
        let stored = || books.shared_cache_stats().unwrap().stored == 1;
        eventually("it is overwritten", stored);
        let other = self::books::<Tokio>(&server, &redis);
        assert_eq!(told(&other, "/x"), (expected, Some(Level::Shared)));
        let said = format!("{:?}", client.notices());
        assert!(!said.contains("planted"), "{said}");
    }
    // Another kind of value.
    redis.call(&["DEL", &key]).unwrap();
    redis.call(&["LPUSH", &key, "x"]).unwrap();
    assert_eq!(told(&books::<Tokio>(&server, &redis), "/x"), ("5".to_owned(), None));
}

#[test]
fn with_a_password_and_over_tls() {
    let setup = Setup { password: Some("planted-password".into()), tls: true, ..Setup::default() };
    let Some(redis) = redis::start(&setup) else { return };
    let server = counting();
    let secure = |config: &mut Config, _: &mut CacheConfig| {
        let papers = redis.papers.as_ref().unwrap();
        let path = |path: &std::path::Path| Some(path.to_str().unwrap().to_owned());
        let redis = config.redis.as_mut().unwrap();
        redis.password = Secret::exact("planted-password");
        redis.ca = path(&papers.authority);
        (redis.client_certificate, redis.client_key) =
            (path(&papers.client), path(&papers.client_key));
        // A handshake of a debug build on a busy machine.
        (redis.timeout, redis.connect_timeout) = (Duration::from_secs(5), Duration::from_secs(5));
    };
    let first = client::<Tokio>(&server, &redis, secure);
    get(&first.service("books").unwrap(), "/x");
    written(&redis, 1);
    let second = client::<Tokio>(&server, &redis, secure);
    let books = second.service("books").unwrap();
    assert_eq!(told(&books, "/x"), ("0".to_owned(), Some(Level::Shared)));
    let shown = format!("{second:?} {:?} {:?}", second.notices(), second.snapshot());
    assert!(!shown.contains("planted-password"));
}

/// Refused before anything is done, by the field.
#[test]
fn shared_answers_need_a_redis() {
    let mut cache = CacheConfig::default();
    cache.shared.enabled = true;
    let builder = || Client::<Tokio>::builder().endpoint("books", "http://127.0.0.1:9");
    let error = builder().configure(|c| c.cache = Some(cache.clone())).build().unwrap_err();
    assert_eq!(error.field, "cache.shared.enabled");
    let own = |config: &mut Config| {
        config.services.get_mut("books").unwrap().cache = Some(cache.clone());
    };
    let error = builder().configure(own).build().unwrap_err();
    assert_eq!(error.field, "services.books.cache.shared.enabled");
    // One that is switched off is a level that is switched off.
    let off = RedisConfig { enabled: false, ..RedisConfig::default() };
    let client = builder().configure(|c| (c.cache, c.redis) = (Some(cache.clone()), Some(off)));
    let books = client.build().unwrap().service("books").unwrap();
    assert_eq!(books.shared_cache_stats(), None);
}
