//! The numbers of one service as serde data, for programs that read them without any monitoring
//! (001-60…62).

use serde::{Deserialize, Serialize};

use super::Phase;
use super::fill::together;
use crate::snapshot::{CacheSnapshot, ServiceSnapshot};

/// What a client of the bridge reports of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceMetrics {
    /// Calls, ever.
    pub request_count: u64,
    /// Calls that ended in an error.
    pub error_count: u64,
    /// Errors of calls, 0–1; 0 without calls.
    pub error_rate: f64,
    /// The breaker.
    pub circuit_breaker: BreakerMetrics,
    /// What is remembered of its answers; absent while nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheMetrics>,
}

/// The breakers of a service as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerMetrics {
    /// That of the service, if it is not closed; else open when every endpoint's is, and half-open
    /// when none is closed and one may be probed.
    pub state: Phase,
    /// Requests that failed since the last success.
    pub failure_count: u64,
}

/// What is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheMetrics {
    /// Lookups that were answered.
    pub cache_hits: u64,
    /// Lookups that were not.
    pub cache_misses: u64,
    /// Hits of all lookups, 0–1; 0 without lookups.
    pub hit_rate: f64,
    /// Entries.
    pub cache_size: u32,
}

impl ServiceSnapshot {
    /// Its numbers by the names that clients of the bridge know.
    #[must_use]
    pub fn metrics(&self) -> ServiceMetrics {
        ServiceMetrics {
            request_count: self.calls,
            error_count: self.failed,
            error_rate: share(self.failed, self.calls),
            circuit_breaker: BreakerMetrics {
                state: together(self),
                failure_count: self.failed_since_success,
            },
            cache: self.cache.as_ref().map(|cache: &CacheSnapshot| CacheMetrics {
                cache_hits: cache.hits,
                cache_misses: cache.misses,
                hit_rate: share(cache.hits, cache.hits.saturating_add(cache.misses)),
                cache_size: cache.entries,
            }),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // a report
fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { (part as f64 / all as f64).clamp(0.0, 1.0) }
}
