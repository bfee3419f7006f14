//! Remembered answers over real sockets: what makes a request and what does not, what is served
//! when the peer fails, and that equal requests in flight are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use origin_core::cache::{Invalidated, Label, Level, Reason, Target};
use origin_core::config::CacheConfig;
use origin_core::{Error, Response};
use origin_driver::{Client, Upstream};
use origin_lab::{Answer, FaultServer, Mode};
use serde_json::json;

use crate::subject::{Subject, eventually};

on_every_runtime! {
    case_001_70_and_71_a_second_identical_call_makes_no_request
    case_001_72_and_73_without_the_cache_the_fresh_answer_replaces_the_remembered_one
    case_001_74_and_75_clearing_and_the_statistics_by_their_names
    case_001_76_and_81_expired_answers_are_not_served
    case_001_78_equal_calls_at_once_are_one_request
    case_001_80_other_parameters_are_another_question
    case_001_83_errors_are_not_remembered
    case_001_84_off_it_counts_nothing
    a_peer_that_fails_is_answered_for_by_a_labelled_stale_answer
    an_open_breaker_is_the_reason_that_is_told
    a_stale_answer_is_served_at_once_and_renewed_besides
    an_unsafe_request_outdates_its_path
    an_entity_tag_is_asked_about_and_a_304_makes_it_fresh
    who_asks_is_part_of_the_question
    tags_and_prefixes_are_invalidated
    a_leader_that_fails_hands_over
    warming_fetches_what_will_be_asked_for
    what_cannot_be_meant_is_refused
    another_configuration_switches_it_on_and_off
}

const SOON: Duration = Duration::from_millis(40);

/// A server that counts: each answer says how many came before it.
fn counting() -> FaultServer {
    let count = AtomicU64::new(0);
    let handler = move |_: &origin_lab::Request| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        Answer::bytes(200, "text/plain", number.to_string())
    };
    FaultServer::with_handler(Arc::new(handler)).unwrap()
}

fn client<S: Subject>(server: &FaultServer, change: impl FnOnce(&mut CacheConfig)) -> Client<S> {
    let mut cache = CacheConfig::default();
    change(&mut cache);
    Client::<S>::builder()
        .endpoint("books", server.url())
        .timeout(Duration::from_secs(5))
        .configure(|config| {
            config.policy.retry.max_attempts = 1;
            config.cache = Some(cache);
        })
        .seed(70)
        .build()
        .unwrap()
}

fn books<S: Subject>(server: &FaultServer, change: impl FnOnce(&mut CacheConfig)) -> Upstream<S> {
    client(server, change).service("books").unwrap()
}

fn get<S: Subject>(books: &Upstream<S>, path: &str) -> Response {
    S::wait(books.get(path).cached().send()).unwrap()
}

fn label(response: &Response) -> Label {
    response.report.cache.expect("it comes from the cache")
}

fn case_001_70_and_71_a_second_identical_call_makes_no_request<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    assert_eq!(books.cache_stats().ttl_seconds, 300);
    let first = get(&books, "/x");
    assert_eq!((first.text(), first.report.cache), ("0".to_owned(), None));
    let second = get(&books, "/x");
    assert_eq!((second.text(), server.request_count()), ("0".to_owned(), 1));
    assert_eq!(
        (second.status(), second.headers["content-type"].as_bytes()),
        (first.status(), &b"text/plain"[..])
    );
    let label = label(&second);
    assert_eq!(
        (label.reason, label.level, label.stale),
        (Reason::Fresh, Level::Local, Duration::ZERO)
    );
    assert!(second.report.attempts.is_empty());
    let text = second.report.explain();
    assert!(
        text.starts_with("books: answered from the cache, ") && text.contains("fresh"),
        "{text}"
    );
    // Who does not ask for it gets none of it.
    assert_eq!(S::wait(books.get("/x").send()).unwrap().text(), "1");
    assert_eq!(get(&books, "/x").text(), "0");
}

fn case_001_72_and_73_without_the_cache_the_fresh_answer_replaces_the_remembered_one<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    assert_eq!(get(&books, "/x").text(), "0");
    let fresh = S::wait(books.get("/x").cached().use_cache(false).send()).unwrap();
    assert_eq!((fresh.text(), fresh.report.cache), ("1".to_owned(), None));
    assert_eq!(get(&books, "/x").text(), "1");
    assert_eq!(server.request_count(), 2);
}

fn case_001_74_and_75_clearing_and_the_statistics_by_their_names<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    for _ in 0..4 {
        get(&books, "/x");
    }
    let stats = serde_json::to_value(books.cache_stats()).unwrap();
    let expected = json!({"enabled": true, "cache_size": 1, "cache_hits": 3, "cache_misses": 1,
        "hit_rate": 0.75, "ttl_seconds": 300});
    assert_eq!(stats, expected);
    assert_eq!((books.cache_more_stats().stored, books.cache_more_stats().in_flight), (1, 0));
    let cleared = S::wait(books.clear_cache()).unwrap();
    assert_eq!(cleared, Invalidated { local: 1, shared: None });
    let stats = books.cache_stats();
    assert_eq!((stats.cache_size, stats.cache_hits, stats.cache_misses), (0, 0, 0));
    assert_eq!(get(&books, "/x").text(), "1");
}

fn case_001_76_and_81_expired_answers_are_not_served<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |cache| cache.ttl = SOON);
    get(&books, "/x");
    let long = |path| S::wait(books.get(path).cached().cache_ttl(SOON * 1000).send()).unwrap();
    long("/long");
    std::thread::sleep(SOON * 2);
    assert_eq!(get(&books, "/x").text(), "2");
    assert_eq!(long("/long").text(), "1");
}

fn case_001_78_equal_calls_at_once_are_one_request<S: Subject>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::slow(300));
    let books = books::<S>(&server, |_| ());
    let results = S::together(16, |_| books.get("/x").cached().send());
    let bodies: Vec<String> = results.into_iter().map(|(r, _)| r.unwrap().text()).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(server.request_count(), 1);
    assert_eq!(books.cache_more_stats().coalesced, 15);
    assert_eq!(books.cache_more_stats().in_flight, 0);
}

fn case_001_80_other_parameters_are_another_question<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    assert_eq!(get(&books, "/x?a=1&b=2").text(), "0");
    assert_eq!(get(&books, "/x?b=2&a=1").text(), "0");
    assert_eq!(get(&books, "/x?a=2&b=1").text(), "1");
    let query = |operation: &str, parameters| {
        let post = books.post("/query").json(&parameters).cache_key(operation, &parameters);
        S::wait(post.send()).unwrap().text()
    };
    assert_eq!(query("find", json!({"a": 1, "b": [1, 2], "correlation_id": "1"})), "2");
    assert_eq!(query("find", json!({"b": [1, 2], "correlation_id": "2", "a": 1})), "2");
    assert_eq!(query("find", json!({"a": 1, "b": [2, 1]})), "3");
    assert_eq!(query("count", json!({"a": 1, "b": [1, 2]})), "4");
}

fn case_001_83_errors_are_not_remembered<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    for code in [501, 404, 403] {
        server.set(Mode::status(code));
        assert_eq!(get(&books, "/x").status, code);
    }
    server.set(Mode::ResetBeforeHead);
    assert!(S::wait(books.get("/x").cached().send()).is_err());
    server.set(Mode::Ok);
    assert_eq!(get(&books, "/x").text(), "0");
    assert_eq!(books.cache_stats().cache_size, 1);
}

fn case_001_84_off_it_counts_nothing<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |cache| cache.enabled = false);
    get(&books, "/x");
    assert_eq!(get(&books, "/x").text(), "1");
    let stats = books.cache_stats();
    assert_eq!((stats.enabled, stats.cache_size), (false, 0));
    assert_eq!((stats.cache_hits, stats.cache_misses), (0, 0));
}

fn a_peer_that_fails_is_answered_for_by_a_labelled_stale_answer<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |cache| {
        cache.ttl = SOON;
        cache.stale_if_error = Duration::from_secs(60);
    });
    get(&books, "/x");
    std::thread::sleep(SOON * 2);
    for mode in [Mode::Refuse, Mode::status(501)] {
        server.set(mode.clone());
        let stale = get(&books, "/x");
        assert_eq!((stale.status.as_u16(), stale.text()), (200, "0".to_owned()), "{mode:?}");
        let label = label(&stale);
        assert_eq!(label.reason, Reason::Error);
        assert!(label.stale >= SOON / 2 && label.age > label.stale, "{label:?}");
        // What was tried is told all the same.
        assert_eq!(stale.report.attempts.len(), 1, "{}", stale.report.explain());
    }
    assert_eq!(books.cache_more_stats().stale.error, 2);
    // Who wants no cached answer gets the error, and what was never asked is not made up.
    server.set(Mode::Refuse);
    assert!(S::wait(books.get("/x").cached().use_cache(false).send()).is_err());
    assert!(S::wait(books.get("/y").cached().send()).is_err());
}

fn an_open_breaker_is_the_reason_that_is_told<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |cache| {
        cache.ttl = SOON;
        cache.stale_if_breaker_open = Duration::from_secs(60);
    });
    get(&books, "/x");
    std::thread::sleep(SOON * 2);
    server.set(Mode::Refuse);
    // Its failures are told, until the breaker opens.
    let mut stale = None;
    for _ in 0..100 {
        match S::wait(books.get("/x").cached().send()) {
            Ok(response) => {
                stale = Some(response);
                break;
            }
            Err(error) => assert!(!error.is_circuit_open(), "{error}"),
        }
    }
    let stale = stale.expect("the breaker opens");
    assert_eq!((stale.text(), label(&stale).reason), ("0".to_owned(), Reason::BreakerOpen));
    assert!(stale.report.explain().contains("because the breaker is open"));
}

fn a_stale_answer_is_served_at_once_and_renewed_besides<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |cache| {
        cache.ttl = SOON * 5;
        cache.stale_while_revalidate = Duration::from_secs(60);
    });
    get(&books, "/x");
    std::thread::sleep(SOON * 6);
    let stale = get(&books, "/x");
    assert_eq!((stale.text(), label(&stale).reason), ("0".to_owned(), Reason::Revalidating));
    eventually("it is renewed", || books.cache_more_stats().stored == 2);
    let renewed = get(&books, "/x");
    assert_eq!(renewed.text(), "1");
    assert!(label(&renewed).age < SOON * 5);
}

fn an_unsafe_request_outdates_its_path<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    for path in ["/x", "/x?page=2", "/y"] {
        get(&books, path);
    }
    server.set(Mode::status(501));
    S::wait(books.put("/x").body("1").send()).unwrap();
    assert_eq!(books.cache_stats().cache_size, 3, "it failed, so nothing has changed");
    server.set(Mode::status(204));
    S::wait(books.put("/x").body("1").send()).unwrap();
    assert_eq!(books.cache_stats().cache_size, 1);
    let mut deleted = S::wait(books.delete("/y").send_streaming()).unwrap();
    while S::chunk(&mut deleted.body).unwrap().is_some() {}
    assert_eq!(books.cache_stats().cache_size, 0);
}

fn an_entity_tag_is_asked_about_and_a_304_makes_it_fresh<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let body = |etag: &str, body: &str| Mode::Body {
        content_type: "text/plain".into(),
        etag: Some(format!("\"{etag}\"")),
        cache_control: Some("max-age=1".into()),
        body: body.into(),
    };
    server.set(body("1", "one"));
    let books = books::<S>(&server, |cache| cache.respect_headers = true);
    // With the headers of the peer every GET is cached.
    let get = || S::wait(books.get("/x").send()).unwrap();
    assert_eq!((get().text(), get().text()), ("one".to_owned(), "one".to_owned()));
    assert_eq!(server.request_count(), 1);
    std::thread::sleep(Duration::from_millis(1_100));
    let again = get();
    assert_eq!((again.status.as_u16(), again.text()), (200, "one".to_owned()));
    assert_eq!(server.requests().last().unwrap().header("if-none-match"), Some("\"1\""));
    assert_eq!(get().report.cache.map(|label| label.reason), Some(Reason::Fresh));
    assert_eq!(server.request_count(), 2);
    server.set(body("2", "two"));
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!((get().text(), get().text()), ("two".to_owned(), "two".to_owned()));
    assert_eq!(server.request_count(), 3);
    // A caller with conditions of its own gets what the peer says.
    let own = S::wait(books.get("/x").header("if-none-match", "\"2\"").send()).unwrap();
    assert_eq!(own.status, 304);
    // And one that wants nothing else than a remembered answer makes no request.
    let only = |path| {
        let request = books.get(path).header("cache-control", "only-if-cached");
        S::wait(request.send()).unwrap().status.as_u16()
    };
    assert_eq!((only("/x"), only("/y"), server.request_count()), (200, 504, 4));
}

fn who_asks_is_part_of_the_question<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    let get = |who: &str| {
        let request = books.get("/x").header("authorization", who).header("x-trace", who);
        S::wait(request.cached().send()).unwrap().text()
    };
    assert_eq!((get("a"), get("b"), get("a")), ("0".to_owned(), "1".to_owned(), "0".to_owned()));
}

fn tags_and_prefixes_are_invalidated<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    for (path, tags) in [("/a/1", &["red", "new"][..]), ("/a/2", &["red"]), ("/b", &[])] {
        let request = books.get(path).cached().cache_tags(tags.iter().copied());
        S::wait(request.send()).unwrap();
    }
    assert_eq!(S::wait(books.invalidate(Target::Tag("new".into()))).unwrap().local, 1);
    assert_eq!(S::wait(books.invalidate(Target::Prefix("/a/".into()))).unwrap().local, 1);
    assert_eq!(S::wait(books.invalidate(Target::Path("/a/2".into()))).unwrap().local, 0);
    assert_eq!(S::wait(books.invalidate(Target::Path("/b".into()))).unwrap().local, 1);
}

fn a_leader_that_fails_hands_over<S: Subject>() {
    let server = counting();
    server.set(Mode::Sequence(vec![Mode::status(501), Mode::Ok]));
    let books = books::<S>(&server, |_| ());
    let results = S::together(4, |_| books.get("/x").cached().send());
    // Whoever led is told so; nobody waits for ever, and nobody is told of another's failure.
    let failed = results.iter().filter(|(r, _)| r.as_ref().unwrap().status == 501).count();
    assert_eq!(failed, 1);
    if S::ASYNC {
        server.set(Mode::HangBeforeHead);
        assert!(S::wait_at_most(books.get("/y").cached().send(), SOON).is_none());
        server.set(Mode::Ok);
        // The dropped one gave its place up at once.
        assert_eq!(S::wait(books.get("/y").cached().send()).unwrap().status, 200);
    }
    assert_eq!(books.cache_more_stats().in_flight, 0);
}

fn warming_fetches_what_will_be_asked_for<S: Subject>() {
    let server = counting();
    let books = books::<S>(&server, |_| ());
    get(&books, "/0");
    let mut requests: Vec<_> = (0..6).map(|n| books.get(&format!("/{n}"))).collect();
    requests.push(books.post("/order"));
    let warmed = S::wait(books.warm(requests, 2)).unwrap();
    assert_eq!((warmed.warmed, warmed.failed, server.request_count()), (6, 1, 6));
    assert!((0..6).all(|n| get(&books, &format!("/{n}")).report.cache.is_some()));
    assert_eq!(server.stats().path("/order"), 0);
}

fn what_cannot_be_meant_is_refused<S: Subject>() {
    let server = counting();
    let service = books::<S>(&server, |_| ());
    let error = S::wait(service.post("/x").cached().send()).unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error:?}");
    let zero = service.get("/x").cached().cache_ttl(Duration::ZERO);
    assert!(matches!(S::wait(zero.send()).unwrap_err(), Error::Request { .. }));
    assert_eq!(server.request_count(), 0);
    let refused = |service: &str, change: &dyn Fn(&mut CacheConfig)| {
        let mut cache = CacheConfig::default();
        change(&mut cache);
        let builder = Client::<S>::builder().endpoint(service, server.url()).configure(|config| {
            config.services.get_mut(service).unwrap().cache = Some(cache);
        });
        builder.build().unwrap_err().field
    };
    assert_eq!(refused("books", &|cache| cache.ttl = Duration::ZERO), "services.books.cache.ttl");
    assert_eq!(refused("secrets", &|_| ()), "services.secrets.cache");
    let shared = refused("books", &|cache| cache.shared.enabled = true);
    assert_eq!(shared, "services.books.cache.shared.enabled");
    // What holds for all does not hold for secrets.
    let client = client::<S>(&server, |_| ());
    let mut config = client.config();
    let endpoints = config.services["books"].clone();
    config.services.insert("secrets".into(), endpoints);
    let client = Client::<S>::builder().config(config).build().unwrap();
    assert!(!client.service("secrets").unwrap().cache_stats().enabled);
    assert!(client.service("books").unwrap().cache_stats().enabled);
}

fn another_configuration_switches_it_on_and_off<S: Subject>() {
    let server = counting();
    let client = client::<S>(&server, |_| ());
    let books = client.service("books").unwrap();
    get(&books, "/x");
    let with = |cache| {
        let config = origin_core::Config { cache, ..client.config() };
        client.reconfigure(config).unwrap();
    };
    with(None);
    assert_eq!((get(&books, "/x").text(), books.cache_stats().enabled), ("1".to_owned(), false));
    with(Some(CacheConfig { ttl: SOON, ..CacheConfig::default() }));
    assert_eq!((get(&books, "/x").text(), get(&books, "/x").text()), ("2".into(), "2".into()));
    std::thread::sleep(SOON * 2);
    assert_eq!(get(&books, "/x").text(), "3");
}
