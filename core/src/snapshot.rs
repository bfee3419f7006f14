//! The state of a client as plain data for people and tools: what a snapshot holds.
//! Filling it is each machine's own job.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::discovery::{Place, SourceKind};
use crate::identity;
use crate::notice::Notice;
use crate::policy::breaker::{Numbers, State};
use crate::policy::health;
use crate::time::Time;
use crate::vault::desk::View;

/// Everything a client knows, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The moment.
    pub at: Time,
    /// The sources of discovery, those about everything first; empty when only injected endpoints
    /// are used.
    pub discovery: Vec<DiscoverySnapshot>,
    /// Every known service, also those never called, in order of their names.
    pub services: Vec<ServiceSnapshot>,
    /// The client's token for Vault, where `[vault]` says how it is had.
    #[serde(default)]
    pub vault: Option<View>,
    /// Who this program is: its certificate and its service-account token; neither is shown.
    #[serde(default)]
    pub identity: identity::View,
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

/// Where what is known came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The source itself.
    Source,
    /// The second level, in Redis.
    Shared,
    /// The snapshot on disk of an earlier run.
    Disk,
}

/// The state of one source of discovery: of all that it knows, or of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverySnapshot {
    /// What it is.
    pub kind: SourceKind,
    /// Who is asked.
    pub source: String,
    /// The service it is asked about; `None`: about all.
    pub service: Option<Arc<str>>,
    /// Where what is known came from; `None` before the first answer.
    pub level: Option<Level>,
    /// How old that is.
    pub age: Option<Duration>,
    /// How long it is still fresh.
    pub fresh_for: Option<Duration>,
    /// Whether it is past its time to live.
    pub stale: bool,
    /// Services in it.
    pub services: usize,
    /// Failed exchanges in a row.
    pub failures: u32,
    /// What the last one failed with; `None` after a success.
    pub last_error: Option<String>,
    /// Whether one is under way.
    pub fetching: bool,
    /// Whether the source will tell of a change.
    pub watching: bool,
    /// Whether it is not asked, and what is known kept, since the split-brain check of Consul
    /// fails.
    pub held_back: bool,
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
    /// How the load is split between its clusters, in failover order.
    pub split: Vec<ClusterSnapshot>,
    /// What the limits of the service as a whole hold.
    pub limits: LimitsSnapshot,
    /// Its endpoints, in failover order.
    pub endpoints: Vec<EndpointSnapshot>,
}

/// One cluster of a service, as the split of the load sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSnapshot {
    /// Its name.
    pub cluster: Arc<str>,
    /// Endpoints that may be used, that are degraded, and all.
    pub healthy: u32,
    /// Endpoints that are used when the healthy ones do not suffice.
    pub degraded: u32,
    /// All its endpoints.
    pub total: u32,
    /// Its share of first attempts, in percent.
    pub percent: u8,
    /// Whether it is the first choice.
    pub first_choice: bool,
    /// How long it is still held back, if it is.
    pub held_for: Option<Duration>,
    /// Whether it panics: too few of its endpoints may be used, so all are.
    pub panic: bool,
    /// Why a call with the first draw goes where it goes, and what would have changed it; at the
    /// first cluster only.
    pub explain: String,
}

/// The limits of a service as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsSnapshot {
    /// State of its own breaker.
    pub breaker: State,
    /// Calls in flight that hold a place.
    pub in_flight: u32,
    /// The present concurrency limit; `None` without one.
    pub limit: Option<u32>,
    /// Calls waiting for a place.
    pub waiting: u32,
    /// Share of calls refused by throttling, in thousandths.
    pub throttled_permille: u32,
    /// The present rate limit in thousandths of a call per second; `None` without one.
    pub rate_milli: Option<u64>,
    /// Retry tokens left, in thousandths.
    pub retry_tokens: u32,
    /// Calls that were not let in, ever.
    pub shed: u64,
}

/// What other nodes say against an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advised {
    /// How many say so.
    pub by: u32,
    /// How many nodes are live, this one included.
    pub of: u32,
    /// How long it counts, unless they say it again.
    pub ends_in: Duration,
    /// Whether it is heeded; not while own successes say otherwise.
    pub heeded: bool,
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
    /// What its breaker counts: totals, rates of its windows, the last trip.
    pub numbers: Numbers,
    /// How long it is still ejected as an outlier, if it is.
    pub ejected_for: Option<Duration>,
    /// What other nodes say against it, if enough do.
    pub advised_against: Option<Advised>,
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
