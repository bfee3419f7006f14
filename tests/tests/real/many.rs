//! A catalogue of the size of 003-72 in a real Consul: 1 000 services with 10 instances each, all
//! of them looked up and kept fresh by one client.

use std::time::{Duration, Instant};

use origin_servers::consul::{self, Agent, Setup};
use serde_json::{Value, json};

use crate::catalogue::client;
use crate::subject::{Subject, Tokio, within};

const SERVICES: usize = 1_000;
const INSTANCES: usize = 10;
/// Operations that one transaction of Consul takes.
const MOST: usize = 64;

/// Puts the whole catalogue into Consul, in transactions, on a node of its own.
fn fill(agent: &Agent) {
    let node = json!({ "Node": "warehouse", "Address": "10.9.9.9" });
    agent.done("/v1/catalog/register", node).unwrap();
    let all = (0..SERVICES).flat_map(|s| (0..INSTANCES).map(move |i| (s, i)));
    let set = |(s, i): (usize, usize)| {
        let (host, port) = (format!("10.1.{}.{i}", s % 250), 1_000 + s);
        let service = json!({
            "ID": format!("svc{s}-{i}"), "Service": format!("svc{s}"), "Address": host,
            "Port": port, "Tags": ["v1"], "Meta": { "zone": "a" },
        });
        json!({ "Service": { "Verb": "set", "Node": "warehouse", "Service": service } })
    };
    let operations: Vec<Value> = all.map(set).collect();
    for some in operations.chunks(MOST) {
        agent.done("/v1/txn", json!(some)).unwrap();
    }
}

/// What this process holds in memory, in bytes; 0 where the system does not say.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

#[test]
fn case_003_72_a_thousand_services_are_found_and_kept_fresh() {
    let Some(agent) = consul::start(&Setup::default()) else { return };
    let begun = Instant::now();
    fill(&agent);
    eprintln!(
        "{SERVICES} services with {INSTANCES} instances put into Consul in {:?}",
        begun.elapsed()
    );
    let client = client::<Tokio>(&agent.url(), |_| ()).build().unwrap();
    let (before, begun) = (resident(), Instant::now());
    let _background = Tokio::background(&client);
    let watches: Vec<_> =
        Tokio::there(|| (0..SERVICES).map(|s| client.watch(&format!("svc{s}")).unwrap()).collect());
    let found = || {
        let snapshot = client.snapshot();
        snapshot.services.iter().map(|service| service.endpoints.len()).sum::<usize>()
    };
    within(Duration::from_secs(40), "all are found", || {
        std::thread::sleep(Duration::from_millis(100));
        found() >= SERVICES * INSTANCES
    });
    let (taken, grown) = (begun.elapsed(), resident().saturating_sub(before));
    eprintln!(
        "found in {taken:?}; {} KiB of memory, {} bytes an instance, with its place among the endpoints",
        grown / 1_024,
        grown / (SERVICES * INSTANCES) as u64
    );
    // A change in one of them is seen at its next poll, at once where its query is held back:
    // whatever the others do, and without more connections than an agent gives one address.
    let gone = "/v1/catalog/deregister";
    agent.done(gone, json!({ "Node": "warehouse", "ServiceID": "svc500-3" })).unwrap();
    let begun = Instant::now();
    within(Duration::from_secs(20), "the change is seen", || {
        std::thread::sleep(Duration::from_millis(100));
        client.snapshot().service("svc500").unwrap().endpoints.len() == INSTANCES - 1
    });
    eprintln!("a change is seen after {:?}", begun.elapsed());
    let snapshot = client.snapshot();
    let failed: Vec<_> = snapshot.discovery.iter().filter(|feed| feed.failures > 0).collect();
    assert!(failed.is_empty(), "{} feeds fail, the first: {:?}", failed.len(), failed[0]);
    drop(watches);
}
