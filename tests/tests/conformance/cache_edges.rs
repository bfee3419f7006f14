//! Remembered answers where calls end otherwise than with an answer: no permit left, no time
//! left; the sweep that nobody calls for; and a 304 about something else than what is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use origin_core::cache::Reason;
use origin_core::config::{CacheConfig, RateMode};
use origin_core::{Config, Response};
use origin_driver::{Client, Upstream};
use origin_lab::{Answer, FaultServer, Mode};

use crate::subject::{Subject, eventually};

on_every_runtime! {
    an_empty_budget_is_the_reason_that_is_told
    a_dying_deadline_is_the_reason_that_is_told
    who_waits_for_another_call_has_its_own_deadline
    case_001_82_the_sweep_removes_what_nobody_asks_for
    a_304_about_another_version_is_asked_again
}

const SOON: Duration = Duration::from_millis(40);
const MINUTE: Duration = Duration::from_secs(60);

fn client<S: Subject>(
    server: &FaultServer,
    change: impl FnOnce(&mut Config, &mut CacheConfig),
) -> Client<S> {
    let mut cache = CacheConfig { ttl: SOON, ..CacheConfig::default() };
    Client::<S>::builder()
        .endpoint("books", server.url())
        .timeout(Duration::from_secs(5))
        .configure(|config| {
            config.policy.retry.max_attempts = 1;
            change(config, &mut cache);
            config.cache = Some(cache);
        })
        .seed(82)
        .build()
        .unwrap()
}

fn get<S: Subject>(books: &Upstream<S>) -> Response {
    S::wait(books.get("/x").cached().send()).unwrap()
}

fn reason(response: &Response) -> Option<Reason> {
    response.report.cache.map(|label| label.reason)
}

fn an_empty_budget_is_the_reason_that_is_told<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server, |config, cache| {
        let rate = &mut config.policy.rate;
        (rate.mode, rate.permits, rate.per, rate.burst) = (RateMode::Fixed, 1, MINUTE, 1);
        cache.stale_if_budget_empty = MINUTE;
    });
    let books = client.service("books").unwrap();
    assert_eq!(reason(&get(&books)), None);
    std::thread::sleep(SOON * 2);
    let stale = get(&books);
    assert_eq!(reason(&stale), Some(Reason::BudgetEmpty));
    assert!(stale.report.explain().contains("because the budget is empty"));
    assert_eq!((stale.report.attempts.len(), server.request_count()), (0, 1));
    assert_eq!(books.cache_more_stats().stale.budget_empty, 1);
}

fn a_dying_deadline_is_the_reason_that_is_told<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server, |_, cache| cache.stale_if_deadline = MINUTE);
    let books = client.service("books").unwrap();
    get(&books);
    std::thread::sleep(SOON * 2);
    server.set(Mode::slow(2_000));
    let request = books.get("/x").cached().timeout(SOON * 3);
    let stale = S::wait(request.send()).unwrap();
    assert_eq!(reason(&stale), Some(Reason::DeadlineDying));
    assert!(stale.report.explain().contains("because the deadline is about to pass"));
    assert_eq!(stale.report.attempts.len(), 1, "what was tried is told");
    // Without that bound it is an error.
    let never = books.get("/y").cached().timeout(SOON * 3);
    assert!(S::wait(never.send()).is_err());
}

/// The one that fetches has more time than the one that waits for it.
fn who_waits_for_another_call_has_its_own_deadline<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server, |_, cache| cache.stale_if_deadline = MINUTE);
    let books = client.service("books").unwrap();
    get(&books);
    std::thread::sleep(SOON * 2);
    server.set(Mode::slow(1_000));
    let results = S::together(2, |number| {
        if number == 1 {
            std::thread::sleep(SOON);
            return books.get("/x").cached().timeout(SOON * 5).send();
        }
        books.get("/x").cached().send()
    });
    let mut results = results.into_iter().map(|(result, took)| (result.unwrap(), took));
    let (leader, waited) = (results.next().unwrap(), results.next().unwrap());
    assert_eq!(reason(&leader.0), None);
    assert_eq!(reason(&waited.0), Some(Reason::DeadlineDying));
    assert!(waited.1 < Duration::from_millis(900), "{:?}", waited.1);
    assert!(waited.0.report.attempts.is_empty());
    assert_eq!(server.request_count(), 2);
}

fn case_001_82_the_sweep_removes_what_nobody_asks_for<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server, |_, cache| cache.cleanup = SOON);
    let _background = S::background(&client);
    let books = client.service("books").unwrap();
    for number in 0..600 {
        S::wait(books.get(&format!("/{number}")).cached().send()).unwrap();
    }
    eventually("they are swept", || books.cache_stats().cache_size == 0);
    assert_eq!(books.cache_more_stats().expired, 600);
    assert_eq!(books.cache_stats().cache_hits, 0, "nobody asked");
}

/// A peer that answers every question with "not modified", though something else is there.
fn a_304_about_another_version_is_asked_again<S: Subject>() {
    let count = AtomicU64::new(0);
    let handler = move |request: &origin_lab::Request| {
        let asks = request.header("if-none-match").is_some();
        let version = count.fetch_add(u64::from(!asks), Ordering::Relaxed);
        let mut answer = if asks {
            Answer::new(304)
        } else {
            Answer::bytes(200, "text/plain", format!("version {version}"))
        };
        answer.headers.push(("etag".into(), format!("\"{version}\"")));
        answer.headers.push(("cache-control".into(), "max-age=1".into()));
        answer
    };
    let server = FaultServer::with_handler(Arc::new(handler)).unwrap();
    let client = client::<S>(&server, |_, cache| cache.respect_headers = true);
    let books = client.service("books").unwrap();
    assert_eq!(get(&books).text(), "version 0");
    std::thread::sleep(Duration::from_millis(1_100));
    // Asked about version 0, it speaks of version 1: nothing can be made of that but another call.
    let response = get(&books);
    assert_eq!((response.status.as_u16(), response.text()), (200, "version 1".to_owned()));
    assert_eq!((reason(&response), response.report.attempts.len()), (None, 2));
    let asked: Vec<bool> =
        server.requests().iter().map(|seen| seen.header("if-none-match").is_some()).collect();
    assert_eq!(asked, [false, true, false]);
    assert_eq!((get(&books).text(), server.request_count()), ("version 1".to_owned(), 3));
}
