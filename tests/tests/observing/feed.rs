//! The subscription to notices: everything once, in order, and no call that waits for it.

use std::time::Duration;

use futures_lite::future::block_on;
use origin_core::notice::{Event, KEPT};
use origin_core::service::Order;
use origin_driver::{Client, Heard};
use origin_lab::{FaultServer, Mode};

use crate::subject::{Subject, get};

on_every_runtime! {
    each_notice_is_heard_once_and_in_order
    who_sleeps_is_told_what_was_missed
    a_feed_wakes_waits_and_ends
}

fn client<S: Subject>(server: &FaultServer) -> Client<S> {
    Client::<S>::builder()
        .endpoint("billing", server.url())
        .endpoint("shop", server.url())
        .configure(|config| config.policy.retry.max_attempts = 1)
        .build()
        .unwrap()
}

fn each_notice_is_heard_once_and_in_order<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server);
    let (before, mut late) = (client.notices().len(), client.notice_feed());
    let mut whole = client.notice_feed().from_the_start();
    assert_eq!(late.try_next(), None, "it begins now");
    server.set(Mode::Refuse);
    let mut heard = Vec::new();
    for _ in 0..5 {
        get(&client, "billing", "/x").unwrap_err();
        get(&client, "shop", "/x").unwrap_err();
        heard.extend(std::iter::from_fn(|| late.try_next()));
    }
    let notices = client.notices();
    let all: Vec<_> = std::iter::from_fn(|| whole.try_next()).collect();
    assert_eq!(all, notices.iter().cloned().map(Heard::Notice).collect::<Vec<_>>());
    assert_eq!(heard, all[before..]);
    assert_eq!((late.try_next(), whole.try_next()), (None, None));
}

fn who_sleeps_is_told_what_was_missed<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server);
    let mut feed = client.notice_feed();
    let billing = client.service("billing").unwrap();
    let rounds = KEPT;
    for _ in 0..rounds {
        billing.order(&server.url(), Order::KeepOpen);
        billing.order(&server.url(), Order::Reset);
    }
    // Calls go on as if nobody listened.
    get(&client, "shop", "/x").unwrap();
    let mut heard = std::iter::from_fn(|| feed.try_next());
    let Some(Heard::Missed { service, count }) = heard.next() else { panic!("nothing is missed") };
    assert_eq!(service.as_deref(), Some("billing"));
    let kept = heard.filter(|heard| matches!(heard, Heard::Notice(_))).count();
    assert_eq!(kept, KEPT);
    assert_eq!(client.notices().iter().filter(|n| n.service == service).count(), kept);
    let last = client.notices().into_iter().rfind(|n| n.service == service).unwrap();
    assert!(count > 0 && last.seq + 1 >= count + KEPT as u64);
}

fn a_feed_wakes_waits_and_ends<S: Subject>() {
    let server = FaultServer::start().unwrap();
    let client = client::<S>(&server);
    let mut feed = client.notice_feed();
    assert_eq!(feed.next_within(Duration::from_millis(5)), None);
    let mut waiting = client.notice_feed();
    let (tell, told) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        tell.send(block_on(waiting.next())).unwrap();
        waiting.into_iter().count()
    });
    server.set(Mode::Refuse);
    get(&client, "billing", "/x").unwrap_err();
    let issue = |heard: &Heard| matches!(heard, Heard::Notice(n) if matches!(n.event, Event::ConnectionIssue { .. }));
    assert!(issue(&feed.next_within(Duration::from_secs(10)).unwrap()));
    let more = std::iter::from_fn(|| feed.try_next()).count();
    // The client ends: so do those who wait.
    let mut ended = client.notice_feed();
    let first = told.recv().unwrap();
    drop(client);
    let rest = waiter.join().unwrap();
    assert!(first.as_ref().is_some_and(issue), "{first:?}");
    assert!(rest <= more);
    assert_eq!(block_on(ended.next()), None);
    assert_eq!(feed.next_within(Duration::from_secs(10)), None);
}
