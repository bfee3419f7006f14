//! What is special to tokio: dropped futures and clients, the paused clock, TLS with HTTP/2.
//! What all runtimes share is proved by the conformance suite in `tests`.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use origin_lab::{FaultServer, Mode, World, WorldSpec};
use origin_tokio::core::config::{CheckKind, ChecksConfig};
use origin_tokio::{Client, Error};

fn world() -> World {
    World::start(WorldSpec::default()).unwrap()
}

fn client(world: &World) -> Client {
    Client::builder()
        .discovery(world.discovery_url())
        .local_cluster(world.local())
        .attempt_timeout(Duration::from_millis(500))
        .seed(7)
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_whole_way_through_discovery_failover_and_typed_clients() {
    let world = world();
    let client = client(&world);
    let reply =
        client.service("billing").unwrap().get("/x").query(&[("q", "a b&c")]).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(&*reply.report().attempts[0].cluster, world.local());
    world.cluster(world.local()).set(Mode::Refuse);
    let reply = client.service("billing").unwrap().get("/x").send().await.unwrap();
    assert_eq!(&*reply.report().attempts.last().unwrap().cluster, "alpha");
    let object = client.storage().get_object("bucket", "a key/ü").await.unwrap();
    assert!(!object.bytes.is_empty());
    let missing = client.secrets().get_secret("app/db").await.unwrap_err();
    assert!(matches!(missing, Error::Credential { .. }), "{missing}");
    let unknown = client.service("biling").unwrap_err();
    assert!(unknown.to_string().contains("billing"), "{unknown}");
    assert_eq!(world.registry().server().stats().path("/api/v1/services"), 1);
}

/// a dropped call leaves no slot behind and closes its connection.
#[tokio::test]
async fn x_14_dropping_a_call_leaks_nothing() {
    let world = world();
    let client = client(&world);
    let billing = client.service("billing").unwrap();
    billing.get("/").send().await.unwrap();
    world.all().set(Mode::HangBeforeHead);
    for _ in 0..20 {
        let call = billing.get("/").attempt_timeout(Duration::from_secs(9)).send();
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    }
    let snapshot = client.snapshot();
    let service = snapshot.service("billing").unwrap();
    assert_eq!(service.abandoned, 20);
    assert!(service.endpoints.iter().all(|e| e.outstanding == 0 && e.consecutive_failures == 0));
    let open = || -> u64 { world.all().servers().iter().map(|s| s.stats().connections_open).sum() };
    for _ in 0..100 {
        if open() <= 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What stays is the idle connection to the registry at most.
    assert!(open() <= 1, "{} connections left", open());
}

/// the background task ends with the client.
#[tokio::test]
async fn x_15_dropping_the_client_ends_its_task() {
    let world = world();
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let client = client(&world);
    client.service("billing").unwrap().get("/").send().await.unwrap();
    assert!(metrics.num_alive_tasks() > before);
    drop(client);
    for _ in 0..100 {
        if metrics.num_alive_tasks() <= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(metrics.num_alive_tasks() <= before, "{} tasks left", metrics.num_alive_tasks());
}

/// A client with health checks of `server` that may take so long.
fn hanging_checks(server: &FaultServer, timeout: Duration) -> Client {
    let checks = ChecksConfig {
        kind: CheckKind::Http,
        interval: timeout,
        timeout: Some(timeout),
        fast_interval: Some(Duration::from_millis(10)),
        no_traffic_interval: Some(timeout),
        ..ChecksConfig::default()
    };
    Client::builder()
        .endpoint("lab", server.url())
        .configure(|config| config.policy.checks = checks)
        .build()
        .unwrap()
}

/// so do health checks under way.
#[tokio::test]
async fn x_15_dropping_the_client_ends_its_checks() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::HangBeforeHead);
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let client = hanging_checks(&server, Duration::from_secs(3600));
    client.start();
    client.start();
    for _ in 0..200 {
        if server.request_count() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.request_count(), 1);
    assert!(metrics.num_alive_tasks() >= before + 2);
    drop(client);
    for _ in 0..100 {
        if metrics.num_alive_tasks() <= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(metrics.num_alive_tasks() <= before, "{} tasks left", metrics.num_alive_tasks());
}

/// A client outlives the runtime its background ran on: the next call brings a new one, and what
/// was under way is not waited for.
#[test]
fn the_background_comes_back_on_another_runtime() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::HangBeforeHead);
    let client = hanging_checks(&server, Duration::from_secs(3600));
    // Outside of a runtime there is nothing to start on, and no harm in it.
    client.start();
    for round in 0..2 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let call = client.service("lab").unwrap().get("/").timeout(Duration::from_millis(30));
            assert!(call.send().await.is_err());
            for _ in 0..200 {
                let checks = server.stats().path("/health");
                if checks > round {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("no check in round {round}");
        });
    }
}

/// Time is tokio's: with its clock paused, a day of deadlines passes in no time.
#[tokio::test(start_paused = true)]
async fn a_paused_clock_works() {
    // A bound socket that never accepts: connecting succeeds, nothing is ever answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::builder()
        .endpoint("slow", format!("http://{}", listener.local_addr().unwrap()))
        .timeout(Duration::from_secs(24 * 3600))
        .attempt_timeout(Duration::from_secs(6 * 3600))
        .build()
        .unwrap();
    let error = client.service("slow").unwrap().get("/").send().await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(error.failure().unwrap().report.elapsed >= Duration::from_secs(12 * 3600), "{error}");
}
