//! What a client of the bridge counts, by the names its contract has (001-60…62, 001-64).

use serde::Serialize;

use crate::cache::Stats;
use crate::cache::stats::MoreStats;
use crate::snapshot::Snapshot;

/// The breaker of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakerMetrics {
    /// `<service>_circuit_breaker`.
    pub name: String,
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
}

/// What the cache of a service counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CacheMetrics {
    /// The numbers that every client of OnexTree knows.
    #[serde(flatten)]
    pub stats: Stats,
    /// Most entries.
    pub cache_max_size: u32,
    /// The share that leaves at once.
    pub eviction_ratio: f64,
}

/// What a client counts of one service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientMetrics {
    /// Calls that are over, however they ended.
    pub request_count: u64,
    /// Those that got no answer. An answer with a status of its own or an error in its envelope is
    /// one: what it means is known only to the operation.
    pub error_count: u64,
    /// Errors of all calls that are over, 0–1; 0 without calls.
    pub error_rate: f64,
    /// The breaker around the service.
    pub circuit_breaker: BreakerMetrics,
    /// Its cache, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheMetrics>,
}

impl ClientMetrics {
    /// Those of `service`, from what the client knows of it and, where it has a cache, from what
    /// that counts. `None`: it is not known.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a report
    pub fn of(
        snapshot: &Snapshot,
        service: &str,
        cache: Option<(Stats, MoreStats)>,
    ) -> Option<ClientMetrics> {
        let service = snapshot.service(service)?;
        let over = service.answered.saturating_add(service.failed);
        let error_rate = if over == 0 { 0.0 } else { service.failed as f64 / over as f64 };
        Some(ClientMetrics {
            request_count: over,
            error_count: service.failed,
            error_rate,
            circuit_breaker: BreakerMetrics {
                name: format!("{}_circuit_breaker", service.name),
                state: service.limits.breaker.word(),
            },
            cache: cache.map(|(stats, more)| CacheMetrics {
                stats,
                cache_max_size: more.cache_max_size,
                eviction_ratio: more.eviction_ratio,
            }),
        })
    }
}
