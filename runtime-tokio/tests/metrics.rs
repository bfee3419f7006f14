//! What a client shows of itself, read by those it is for: a Prometheus that scrapes the example,
//! `promtool` over its pages and over the rules in `docs/observing`, an answer to `/health`.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use origin_lab::{FaultServer, Mode};
use origin_servers::prometheus::{self, promtool};
use origin_tokio::core::config::{Dialect, ServiceConfig};
use origin_tokio::core::metrics::Format;
use origin_tokio::{Client, Config};
use tokio::net::TcpListener;

#[path = "../examples/metrics.rs"]
#[allow(dead_code)] // its main
mod example;

/// Of `bad` and `good`, in this order.
fn client(bad: &FaultServer, good: &FaultServer, change: impl FnOnce(&mut Config)) -> Client {
    let mut builder = Client::builder().seed(7).configure(change);
    for (cluster, server) in [("near", bad), ("far", good)] {
        builder = builder.configure(|config| {
            let service = config.services.entry("demo".into()).or_default();
            let mut endpoint = origin_tokio::core::config::EndpointConfig::at(server.url());
            endpoint.cluster = cluster.to_owned();
            service.endpoints.push(endpoint);
        });
    }
    builder.local_cluster("near").build().unwrap()
}

async fn calls(client: &Client, count: usize) {
    let demo = client.service("demo").unwrap();
    for _ in 0..count {
        demo.get("/x").send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_001_63_a_real_prometheus_scrapes_the_example() {
    let (near, far) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    // No connection idles: one that is still thought to be good would be reset and not refused.
    let client = client(&near, &far, |config| config.limits.idle_connections = 0);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(example::serve(client.clone(), listener));
    let scraper = tokio::task::spawn_blocking(move || prometheus::start(&[address]));
    let Some(prometheus) = scraper.await.unwrap() else { return };
    calls(&client, 7).await;
    near.set(Mode::Refuse);
    calls(&client, 1).await;
    near.set(Mode::Ok);
    let asked = tokio::task::spawn_blocking(move || {
        let is = |expression: &str, expected: f64| {
            let found = |values: &[f64]| values.iter().any(|v| (v - expected).abs() < 1e-9);
            let right = || prometheus.query(expression).is_ok_and(|values| found(&values));
            let came = origin_servers::eventually(Duration::from_secs(30), right);
            assert!(came, "{expression} is {:?}, not {expected}", prometheus.query(expression));
        };
        is("up", 1.0);
        is(r#"origin_calls_total{service="demo",result="answered"}"#, 8.0);
        is("sum(origin_attempts_total)", 9.0);
        is(r#"origin_failovers_total{cluster="far"}"#, 1.0);
        is(r#"origin_attempt_faults_total{fault="connect"}"#, 1.0);
        is(r#"sum(origin_endpoint_attempts_total{cluster="near"})"#, 8.0);
        is(r#"origin_call_duration_seconds_bucket{result="answered",le="+Inf"}"#, 8.0);
        is(
            "count(histogram_quantile(0.99, origin_call_duration_seconds_bucket{result=\"answered\"}) < 10)",
            1.0,
        );
    });
    asked.await.unwrap();
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_a_page() {
    let (near, far) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    let cached = |config: &mut Config| config.cache = Some(Default::default());
    let client = client(&near, &far, cached);
    calls(&client, 3).await;
    near.set(Mode::Refuse);
    calls(&client, 3).await;
    let page = client.metrics();
    assert!(page.contains("origin_cache_requests_total"), "{page}");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(result) = promtool(here, &["check", "metrics"], &page) else { return };
    assert_eq!(result, Ok(String::new()));
    // The other names are not ours to choose; beyond them there is nothing to be said either.
    let spoken = |config: &mut Config| config.metrics.compat = vec![Dialect::Datapunk];
    let client = self::client(&far, &near, spoken);
    calls(&client, 3).await;
    let page = client.metrics();
    assert!(page.contains("circuit_breaker_state{service=\"demo\"} 2"), "{page}");
    if let Some(Err(said)) = promtool(here, &["check", "metrics"], &page) {
        let known = |line: &&str| line.starts_with("cache_stats") || line.starts_with("discovery_");
        let unknown: Vec<&str> = said.lines().filter(|line| !known(line)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    assert!(client.metrics_as(Format::OpenMetrics).ends_with("# EOF\n"));
}

#[test]
fn the_rules_in_the_docs_are_right_and_fire() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observing");
    let Some(checked) = promtool(&docs, &["check", "rules", "alerts.yml"], "") else { return };
    assert!(checked.is_ok(), "{checked:?}");
    let tested = promtool(&docs, &["test", "rules", "alerts_test.yml"], "").unwrap();
    assert!(tested.is_ok(), "{tested:?}");
}

#[tokio::test]
async fn case_000_29_health_says_what_is_wrong() {
    let (near, far) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    let client = client(&near, &far, |config| {
        config.policy.deadline.total = Duration::from_secs(2);
        let service = ServiceConfig { critical: Some(true), ..ServiceConfig::default() };
        config.services.insert("demo".into(), service);
    });
    assert_eq!(client.health().status.word(), "healthy");
    calls(&client, 1).await;
    assert_eq!(client.health().status.word(), "healthy");
    near.set(Mode::Refuse);
    far.set(Mode::Refuse);
    let demo = client.service("demo").unwrap();
    for _ in 0..20 {
        let _ = demo.get("/x").send().await;
    }
    let health = client.health();
    assert_eq!((health.status.word(), health.http_status()), ("unhealthy", 503), "{health:?}");
    assert!(health.reasons[0].text.starts_with("demo: no endpoint may be called"), "{health:?}");
}

#[tokio::test]
async fn statsd_lines_reach_a_socket() {
    let (near, far) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    let client = client(&near, &far, |_| ());
    let (server, sender) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut last = origin_tokio::Last::default();
    let send = |last: &mut origin_tokio::Last| {
        let mut lines = Vec::new();
        for datagram in client.statsd(last) {
            sender.send_to(datagram.as_bytes(), server.local_addr().unwrap()).unwrap();
            let mut packet = [0; 2_048];
            let length = server.recv(&mut packet).unwrap();
            let text = std::str::from_utf8(&packet[..length]).unwrap();
            lines.extend(text.split('\n').map(str::to_owned));
        }
        lines
    };
    let _ = send(&mut last);
    calls(&client, 3).await;
    let lines = send(&mut last);
    assert!(lines.contains(&"origin.calls_total.demo.answered:3|c".to_owned()), "{lines:#?}");
    assert!(!send(&mut last).iter().any(|line| line.starts_with("origin.calls_total")));
}

#[tokio::test]
async fn a_client_that_learnt_of_an_outage_avoids_it_after_a_restart() {
    let (near, far) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    let build = || {
        let server = |server: &FaultServer, cluster: &str| {
            let mut endpoint = origin_tokio::core::config::EndpointConfig::at(server.url());
            endpoint.cluster = cluster.to_owned();
            endpoint
        };
        let endpoints = vec![server(&near, "near"), server(&far, "far")];
        Client::builder().local_cluster("near").configure(move |config| {
            config.policy.breaker.open = Duration::from_secs(60);
            let service = ServiceConfig { endpoints, ..ServiceConfig::default() };
            config.services.insert("demo".into(), service);
        })
    };
    let before = build().build().unwrap();
    near.set(Mode::Refuse);
    calls(&before, 12).await;
    let learned = serde_json::to_string(&before.learned()).unwrap();
    drop(before);
    near.set(Mode::Ok);
    near.reset_counts();
    let after = build().learned(serde_json::from_str(&learned).unwrap()).build().unwrap();
    calls(&after, 5).await;
    assert_eq!(near.request_count(), 0, "{learned}");
    // Without it the same client goes there first.
    let naive = build().build().unwrap();
    calls(&naive, 5).await;
    assert!(near.request_count() > 0);
}
