//! The state of a client as plain data for people and tools: what a snapshot holds.
//! Filling it is each machine's own job.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::discovery::Place;
use crate::notice::Notice;
use crate::policy::breaker::State;
use crate::policy::health;
use crate::time::Time;

/// Everything a client knows, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The moment.
    pub at: Time,
    /// Discovery; `None` when only injected endpoints are used.
    pub discovery: Option<DiscoverySnapshot>,
    /// Every known service, also those never called, in order of their names.
    pub services: Vec<ServiceSnapshot>,
    /// Recent notices, oldest first.
    pub notices: Vec<Notice>,
}

impl Snapshot {
    /// The service called `name`.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceSnapshot> {
        self.services.iter().find(|service| &*service.name == name)
    }
}

/// The state of discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverySnapshot {
    /// Where the document comes from.
    pub source: String,
    /// How old the document is; `None` before the first.
    pub age: Option<Duration>,
    /// How long it is still fresh.
    pub fresh_for: Option<Duration>,
    /// Whether it is past its time to live.
    pub stale: bool,
    /// Services in it.
    pub services: usize,
    /// Failed fetches in a row.
    pub failures: u32,
    /// What the last fetch failed with; `None` after a success.
    pub last_error: Option<String>,
    /// Whether a fetch is under way.
    pub fetching: bool,
}

/// Whether a service can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Never called.
    Unknown,
    /// Every endpoint is believed to work.
    Healthy,
    /// It is answered, but some endpoints are out, or another cluster stands in.
    Degraded,
    /// No endpoint may be called now.
    Unhealthy,
}

/// The state of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it can be used.
    pub health: Health,
    /// The cluster that answered last, in the order of preference.
    pub active_cluster: Option<Arc<str>>,
    /// Addresses of the present primary: the cluster of that role, or the local one if it has it.
    pub primary: Vec<Arc<str>>,
    /// Addresses of the present backups, in failover order.
    pub backups: Vec<Arc<str>>,
    /// When an endpoint last answered with success; unset before, not moved by failures.
    pub last_success: Option<Time>,
    /// Attempts that failed, ever.
    pub failed_attempts: u64,
    /// Attempts that failed since the last success; a success sets it to zero.
    pub failed_since_success: u64,
    /// Attempts, ever.
    pub attempts: u64,
    /// Calls, ever.
    pub calls: u64,
    /// Calls that got an answer.
    pub answered: u64,
    /// Calls that ended in an error.
    pub failed: u64,
    /// Calls that were dropped by the caller.
    pub abandoned: u64,
    /// Repeats the retry budget would allow now.
    pub budget: u64,
    /// Its endpoints, in failover order.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// The state of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSnapshot {
    /// Its cluster.
    pub cluster: Arc<str>,
    /// What that cluster is to this client.
    pub place: Place,
    /// Its address.
    pub address: Arc<str>,
    /// Its breaker.
    #[serde(flatten)]
    pub breaker: State,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// What active checks say; unknown without them.
    pub health: health::Status,
    /// The latest results of active checks, oldest first.
    pub checks: Vec<health::Entry>,
    /// Whether it is silent for longer than usual and used last.
    pub suspect: bool,
    /// Attempts out.
    pub outstanding: u32,
    /// Smoothed latency; `None` before the first answer.
    pub latency: Option<Duration>,
    /// Attempts, ever.
    pub attempts: u64,
    /// Attempts that failed, ever.
    pub failed_attempts: u64,
    /// When it last answered with success.
    pub last_success: Option<Time>,
}
