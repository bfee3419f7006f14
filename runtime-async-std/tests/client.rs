//! What is special to async-io, on async-std and on smol: the ways of connections, dropped futures
//! and clients. What all runtimes share is proved by the conformance suite in `tests`.
#![cfg(any(feature = "async-std", feature = "smol"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[macro_use]
mod common;

use std::future::Future;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_io::Timer;
use common::Client;
use futures_lite::future::or;
use origin_async_std::core::outcome::{Fault, Outcome, Sent};
use origin_async_std::{Error, Executor, Task};
use origin_lab::{FaultServer, Mode, World, WorldSpec};

on_both!(
    a_get_goes_through_discovery_to_the_local_cluster,
    calls_move_to_the_primary_when_the_local_cluster_refuses,
    a_503_is_repeated,
    a_post_that_never_left_is_repeated_elsewhere,
    names_are_resolved_and_every_address_is_tried,
    ipv6_literals_are_connected_to,
    names_and_ports_that_lead_nowhere_are_told_apart,
    bodies_stream,
    x_14_dropping_a_call_leaks_nothing,
    x_15_dropping_the_client_ends_its_task,
);

fn world() -> World {
    World::start(WorldSpec::default()).unwrap()
}

fn client<E: Executor>(world: &World) -> Client<E> {
    Client::<E>::builder()
        .discovery(world.discovery_url())
        .local_cluster(world.local())
        .attempt_timeout(Duration::from_millis(500))
        .seed(7)
        .build()
        .unwrap()
}

/// A client of one address, of which it makes one attempt.
fn direct<E: Executor>(address: impl Into<String>) -> Client<E> {
    Client::<E>::builder()
        .endpoint("direct", address)
        .configure(|c| c.policy.retry.max_attempts = 1)
        .connect_timeout(Duration::from_secs(2))
        .build()
        .unwrap()
}

async fn cut(span: Duration, work: impl Future) {
    let limit = async {
        Timer::after(span).await;
    };
    let work = async {
        work.await;
        panic!("it ended before it was dropped");
    };
    or(work, limit).await;
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        Timer::after(Duration::from_millis(10)).await;
    }
}

async fn a_get_goes_through_discovery_to_the_local_cluster<E: Executor>() {
    let world = world();
    let client = client::<E>(&world);
    let billing = client.service("billing").unwrap();
    let reply = billing.get("/x").query(&[("q", "a b&c")]).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(&*reply.report().attempts[0].cluster, world.local());
    assert!(reply.text().contains("/x?q=a%20b%26c"), "{}", reply.text());
    let object = client.storage().get_object("bucket", "a key/ü").await.unwrap();
    assert!(!object.bytes.is_empty());
    let missing = client.secrets().get_secret("app/db").await.unwrap_err();
    assert!(matches!(missing, Error::Credential { .. }), "{missing}");
    assert_eq!(world.registry().server().stats().path("/api/v1/services"), 1);
}

async fn calls_move_to_the_primary_when_the_local_cluster_refuses<E: Executor>() {
    let world = world();
    let client = client::<E>(&world);
    let billing = client.service("billing").unwrap();
    world.cluster(world.local()).set(Mode::Refuse);
    let reply = billing.get("/").send().await.unwrap();
    let attempts = &reply.report().attempts;
    assert_eq!(&*attempts.last().unwrap().cluster, "alpha");
    assert_eq!(attempts[0].outcome, never_sent(Fault::Connect));
}

async fn a_503_is_repeated<E: Executor>() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::Sequence(vec![Mode::status(503), Mode::Ok]));
    let client = Client::<E>::builder().endpoint("one", server.url()).build().unwrap();
    let reply = client.service("one").unwrap().get("/").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.report().attempts.len(), 2);
    assert_eq!(reply.report().attempts[0].outcome, Outcome::status(503));
}

fn never_sent(fault: Fault) -> Outcome {
    Outcome::Failed { fault, sent: Sent::Never }
}

async fn a_post_that_never_left_is_repeated_elsewhere<E: Executor>() {
    let (refuses, works) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    refuses.set(Mode::Refuse);
    for _ in 0..8 {
        let client = Client::<E>::builder()
            .endpoint("two", refuses.url())
            .endpoint("two", works.url())
            .build()
            .unwrap();
        let reply = client.service("two").unwrap().post("/").body("once").send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    assert_eq!(works.request_count(), 8);
    // One that may have left is not.
    works.set(Mode::ResetBeforeHead);
    let client = direct::<E>(works.url());
    let post = client.service("direct").unwrap().post("/").send().await;
    assert_eq!(post.unwrap_err().attempts(), 1);
    assert_eq!(works.request_count(), 9);
}

async fn names_are_resolved_and_every_address_is_tried<E: Executor>() {
    // `localhost` is ::1 and 127.0.0.1 on most systems; the server has the latter only.
    let server = FaultServer::start().unwrap();
    let client = direct::<E>(format!("http://localhost:{}", server.addr().port()));
    let reply = client.service("direct").unwrap().get("/").send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.report().attempts.len(), 1);
}

async fn ipv6_literals_are_connected_to<E: Executor>() {
    use std::io::{Read, Write};
    // A system without IPv6 has nothing to show here.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let length = peer.read(&mut head).unwrap();
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    let client = direct::<E>(address);
    let reply = client.service("direct").unwrap().get("/").send().await.unwrap();
    assert_eq!(reply.status(), 204);
    let head = server.join().unwrap();
    assert!(head.to_lowercase().contains("host: [::1]:"), "{head}");
}

async fn names_and_ports_that_lead_nowhere_are_told_apart<E: Executor>() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let unused = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for (address, fault) in
        [("http://no-such-host.invalid", Fault::Resolve), (&unused, Fault::Connect)]
    {
        let client = direct::<E>(address);
        let error = client.service("direct").unwrap().get("/").send().await.unwrap_err();
        let outcome = error.failure().unwrap().report.attempts[0].outcome;
        assert_eq!(outcome, never_sent(fault), "{error}");
    }
}

async fn bodies_stream<E: Executor>() {
    let server = FaultServer::start().unwrap();
    let client = direct::<E>(server.url());
    let direct = client.service("direct").unwrap();
    server.set(Mode::HugeBody { bytes: 3_000_000 });
    let mut reply = direct.get("/").send_streaming().await.unwrap();
    let mut read = 0;
    while let Some(chunk) = reply.body.chunk().await.unwrap() {
        read += chunk.len();
    }
    assert_eq!(read, 3_000_000);
    server.set(Mode::CloseMidBody { after: 100 });
    let mut reply = direct.get("/").send_streaming().await.unwrap();
    let error = loop {
        match reply.body.chunk().await {
            Ok(chunk) => assert!(chunk.is_some(), "a cut body is not a short one"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Body { fault: Fault::Reset, .. }), "{error:?}");
}

/// a dropped call leaves no slot behind and closes its connection.
async fn x_14_dropping_a_call_leaks_nothing<E: Executor>() {
    let world = world();
    let client = client::<E>(&world);
    let billing = client.service("billing").unwrap();
    billing.get("/").send().await.unwrap();
    world.all().set(Mode::HangBeforeHead);
    for _ in 0..20 {
        let call = billing.get("/").attempt_timeout(Duration::from_secs(9)).send();
        cut(Duration::from_millis(20), call).await;
    }
    let snapshot = client.snapshot();
    let service = snapshot.service("billing").unwrap();
    assert_eq!(service.abandoned, 20);
    assert!(service.endpoints.iter().all(|e| e.outstanding == 0 && e.consecutive_failures == 0));
    let open = || -> u64 { world.all().servers().iter().map(|s| s.stats().connections_open).sum() };
    // What stays is the idle connection of the first call at most: the endpoint that answered it
    // is known, and the balancer is curious about the other one.
    eventually("connections of dropped calls stay open", || open() <= 1).await;
}

/// Counts the tasks that are alive, per runtime.
#[derive(Clone, Debug, Default)]
struct Counted<E>(E);

struct Alive(&'static AtomicUsize);

impl Alive {
    fn on<E: Executor>() -> &'static AtomicUsize {
        static ASYNC_STD: AtomicUsize = AtomicUsize::new(0);
        static SMOL: AtomicUsize = AtomicUsize::new(0);
        if std::any::type_name::<E>().contains("Smol") { &SMOL } else { &ASYNC_STD }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<E: Executor> Executor for Counted<E> {
    fn spawn(&self, task: Task) {
        let alive = Alive(Alive::on::<E>());
        alive.0.fetch_add(1, Ordering::SeqCst);
        self.0.spawn(Box::pin(async move {
            let _alive = alive;
            task.await;
        }));
    }
}

/// the background task ends with the client, and so does every connection.
async fn x_15_dropping_the_client_ends_its_task<E: Executor>() {
    let world = world();
    let alive = Alive::on::<E>();
    let client = client::<Counted<E>>(&world);
    let upstream = client.service("billing").unwrap();
    upstream.get("/").send().await.unwrap();
    assert!(alive.load(Ordering::SeqCst) > 0);
    assert_eq!(world.registry().server().stats().connections_open, 1);
    drop(client);
    // A handle is a part of the client.
    upstream.get("/").send().await.unwrap();
    drop(upstream);
    eventually("tasks outlive the client", || alive.load(Ordering::SeqCst) == 0).await;
    let registry = world.registry().server();
    eventually("the registry's connection stays", || registry.stats().connections_open == 0).await;
}
