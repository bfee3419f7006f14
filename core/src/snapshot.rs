//! The state of a client as plain data for people and tools: what a snapshot holds.
//! Filling it is each machine's own job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{MoreStats, StaleServed, Stats, second};
use crate::discovery::{Place, SourceKind};
use crate::identity;
use crate::metrics::{ClusterTally, Counted, EventCount, Histogram, Moves, Words};
use crate::notice::Notice;
use crate::policy::breaker::{Numbers, State};
use crate::policy::health;
use crate::redis::level;
use crate::time::Time;
use crate::vault::desk::View;

mod credentials;
mod report;

pub use credentials::{CredentialKind, CredentialSnapshot, CredentialSource};
pub use report::{HealthReason, HealthReport, Overall, Wrong};

/// Everything a client knows, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Each credential with its source, its age and its end; no value is shown.
    #[serde(default)]
    pub credentials: Vec<CredentialSnapshot>,
    /// Lookups of discovery in Redis, where there is one.
    #[serde(default)]
    pub shared_lists: Option<level::Counts>,
    /// Lookups of remembered answers in Redis, where there is one.
    #[serde(default)]
    pub shared_answers: Option<second::Counts>,
    /// How often each notice was given, ever, by service and name.
    #[serde(default)]
    pub events: Vec<EventCount>,
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
    /// Answers, ever, without those to watches.
    #[serde(default)]
    pub answers: u64,
    /// Answers to watches, ever.
    #[serde(default)]
    pub watched: u64,
    /// Failures, ever, by kind.
    #[serde(default)]
    pub errors: Words,
    /// How long answers took, without those to watches.
    #[serde(default)]
    pub took: Histogram,
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
    /// Whether the application is unhealthy without it, as configured.
    #[serde(default = "yes")]
    pub critical: bool,
    /// Whether its endpoints come from discovery.
    #[serde(default)]
    pub discovered: bool,
    /// What it has counted.
    #[serde(default)]
    pub counted: Counted,
    /// What its clusters have counted, also those that are not there any more.
    #[serde(default)]
    pub clusters: BTreeMap<Arc<str>, ClusterTally>,
    /// Changes of state of the breakers of its endpoints.
    #[serde(default)]
    pub breaker_moves: Moves,
    /// Changes of state of its own breaker.
    #[serde(default)]
    pub own_breaker_moves: Moves,
    /// How long breakers were not closed, from their opening to their closing: those of endpoints
    /// and that of the service.
    #[serde(default)]
    pub breaker_recoveries: Histogram,
    /// What is remembered of its answers; `None` while nothing is.
    #[serde(default)]
    pub cache: Option<CacheSnapshot>,
    /// Who is told when its endpoints change; `None` when nobody is.
    #[serde(default)]
    pub watches: Option<WatchesSnapshot>,
}

fn yes() -> bool {
    true
}

/// What is remembered of the answers of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheSnapshot {
    /// Entries, dead ones that nobody has looked at since included.
    pub entries: u32,
    /// Most entries.
    pub max_entries: u32,
    /// What they weigh.
    pub bytes: u64,
    /// Most bytes.
    pub max_bytes: u64,
    /// Lookups that were answered.
    pub hits: u64,
    /// Lookups that were not.
    pub misses: u64,
    /// Hits of all lookups, in millionths; `None` without lookups.
    pub hit_ratio: Option<u32>,
    /// Answers stored.
    pub stored: u64,
    /// Entries that left for lack of room.
    pub evicted: u64,
    /// Entries removed because their time was over.
    pub expired: u64,
    /// Entries that were invalidated.
    pub invalidated: u64,
    /// Misses that waited for somebody else's answer.
    pub coalesced: u64,
    /// Stale answers served.
    pub stale: StaleServed,
}

impl CacheSnapshot {
    /// Of what the cache counts.
    #[must_use]
    pub fn of(stats: &Stats, more: &MoreStats) -> CacheSnapshot {
        let (hits, misses) = (stats.cache_hits, stats.cache_misses);
        CacheSnapshot {
            entries: stats.cache_size,
            max_entries: more.cache_max_size,
            bytes: more.bytes,
            max_bytes: more.max_bytes,
            hits,
            misses,
            hit_ratio: ratio(hits, hits.saturating_add(misses)),
            stored: more.stored,
            evicted: more.evicted,
            expired: more.expired,
            invalidated: more.invalidated,
            coalesced: more.coalesced,
            stale: more.stale,
        }
    }
}

/// `part` of `all`, in millionths; `None` of nothing.
pub(crate) fn ratio(part: u64, all: u64) -> Option<u32> {
    let millionths = u128::from(part) * 1_000_000 / u128::from(all.max(1));
    (all > 0).then(|| u32::try_from(millionths).unwrap_or(u32::MAX).min(1_000_000))
}

/// Who is told when the endpoints of a service change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchesSnapshot {
    /// Subscriptions.
    pub subscriptions: u32,
    /// For how long the one furthest behind has not understood a change; zero when all have.
    pub behind: Duration,
    /// How long the change that was understood last took from its source, in the slowest of them.
    pub took: Duration,
    /// States that were understood, by those that are there now.
    pub delivered: u64,
    /// Callbacks that failed, of those that are there now.
    pub failed: u64,
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
    /// For how long nobody in it has answered while attempts were lost by that; `None`: it is not so.
    #[serde(default)]
    pub stalled_for: Option<Duration>,
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
    /// For how long it has been in trouble by silence that cost an attempt; `None`: it is not.
    #[serde(default)]
    pub stalled_for: Option<Duration>,
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
