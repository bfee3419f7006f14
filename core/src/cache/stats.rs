//! Numbers: those that clients of OnexTree read by name, and the others.

use serde::{Deserialize, Serialize};

use super::Reason;

/// What the cache counts, all since it was made or cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) negative: u64,
    pub(super) coalesced: u64,
    pub(super) stored: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) invalidated: u64,
    stale: StaleServed,
}

impl Counters {
    /// Found by looking up.
    #[inline]
    pub(super) fn hit(&mut self, reason: Reason) {
        self.hits += 1;
        if reason != Reason::Fresh {
            self.instead(reason);
        }
    }

    /// Served although it is not fresh.
    pub(super) fn instead(&mut self, reason: Reason) {
        let stale = &mut self.stale;
        let count = match reason {
            Reason::Fresh => return,
            Reason::Revalidating => &mut stale.revalidating,
            Reason::Asked => &mut stale.asked,
            Reason::Error => &mut stale.error,
            Reason::BreakerOpen => &mut stale.breaker_open,
            Reason::BudgetEmpty => &mut stale.budget_empty,
            Reason::DeadlineDying => &mut stale.deadline_dying,
        };
        *count += 1;
    }

    pub(super) const fn stale(&self) -> StaleServed {
        self.stale
    }

    /// Hits of all lookups, 0–1; 0 without lookups.
    #[allow(clippy::cast_precision_loss)] // a report
    pub(super) fn hit_rate(&self) -> f64 {
        let all = self.hits as f64 + self.misses as f64;
        if all > 0.0 { self.hits as f64 / all } else { 0.0 }
    }
}

/// The statistics by the names that clients of OnexTree know (001-75), and no others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Whether the cache is on.
    pub enabled: bool,
    /// Entries, dead ones that nobody has looked at since included.
    pub cache_size: u32,
    /// Lookups that were answered.
    pub cache_hits: u64,
    /// Lookups that were not.
    pub cache_misses: u64,
    /// Hits of all lookups, 0–1; 0 without lookups.
    pub hit_rate: f64,
    /// The time to live in seconds, rounded up.
    pub ttl_seconds: u64,
}

/// Stale answers served, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct StaleServed {
    /// While somebody fetched a new one.
    pub revalidating: u64,
    /// Because the request allowed it.
    pub asked: u64,
    /// Because the peer failed.
    pub error: u64,
    /// Because the breaker was open.
    pub breaker_open: u64,
    /// Because a budget or a limit had nothing left.
    pub budget_empty: u64,
    /// Because the deadline was about to pass.
    pub deadline_dying: u64,
}

/// Everything else that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoreStats {
    /// Most entries.
    pub cache_max_size: u32,
    /// The share that leaves at once; 0 where they leave one by one.
    pub eviction_ratio: f64,
    /// What the entries weigh, in bytes.
    pub bytes: u64,
    /// Most bytes.
    pub max_bytes: u64,
    /// Answers stored.
    pub stored: u64,
    /// Entries that left for lack of room.
    pub evicted: u64,
    /// Entries that were removed because their time was over.
    pub expired: u64,
    /// Entries that were invalidated.
    pub invalidated: u64,
    /// Hits that said that there is none.
    pub negative_hits: u64,
    /// Misses that waited for somebody else's answer.
    pub coalesced: u64,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Stale answers served.
    pub stale: StaleServed,
}
