//! What the rooms share: registering the laboratory's servers in Consul, and clients that look
//! there.

use std::time::Duration;

use origin_core::config::{ConsulConfig, DiscoveryConfig};
use origin_driver::{Builder, Client};
use origin_lab::FaultServer;
use origin_servers::consul::Agent;
use serde_json::json;

use crate::subject::Subject;

/// Registers `server` as an instance of `service`, passing by a TTL check of an hour.
pub(crate) fn register(agent: &Agent, service: &str, id: &str, server: &FaultServer) {
    agent
        .register(&json!({
            "ID": id, "Name": service, "Address": "127.0.0.1", "Port": server.addr().port(),
            "Check": { "CheckID": format!("check-{id}"), "TTL": "1h", "Status": "passing" },
        }))
        .unwrap();
}

/// Says that an instance is ill, or well again.
pub(crate) fn say(agent: &Agent, id: &str, word: &str) {
    agent.done(&format!("/v1/agent/check/{word}/check-{id}"), "").unwrap();
}

/// A client that looks services up at `url`.
pub(crate) fn client<S: Subject>(url: &str, change: impl FnOnce(&mut ConsulConfig)) -> Builder<S> {
    let mut consul = ConsulConfig::at(url);
    consul.watch.every = Duration::from_millis(100);
    consul.watch.backoff = Duration::from_millis(500);
    consul.watch.jitter = 0.0;
    change(&mut consul);
    let discovery = DiscoveryConfig {
        consul: Some(consul),
        ttl: Duration::from_secs(30),
        refresh_ahead: Duration::from_secs(5),
        backoff_max: Duration::from_secs(1),
        ..DiscoveryConfig::default()
    };
    Client::<S>::builder()
        .timeout(Duration::from_secs(10))
        .attempt_timeout(Duration::from_secs(2))
        .seed(7)
        .configure(|config| config.discovery = Some(discovery))
}

/// The addresses that a client has for a service, in order.
pub(crate) fn known<S: Subject>(client: &Client<S>, service: &str) -> Vec<String> {
    let snapshot = client.snapshot();
    let endpoints = snapshot.service(service).map(|s| s.endpoints.clone()).unwrap_or_default();
    let mut addresses: Vec<String> = endpoints.iter().map(|e| e.address.to_string()).collect();
    addresses.sort();
    addresses
}
