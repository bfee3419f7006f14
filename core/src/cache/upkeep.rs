//! What is done to the whole cache: clearing it, sweeping dead entries out, applying other
//! settings, telling its numbers.

use std::hash::Hash;
use std::time::Duration;

use super::Settings;
use super::index::NOWHERE;
use super::invalidate::Target;
use super::stats::{Counters, MoreStats, Stats};
use super::store::Store;
use crate::config::CacheEviction;
use crate::time::Time;

/// When the sweep after one at `now` begins.
pub(super) fn next(now: Time, settings: &Settings) -> Time {
    if settings.cleanup == 0 || !settings.enabled {
        return Time::NEVER;
    }
    now.plus(Duration::from_nanos(settings.cleanup))
}

/// What a piece of a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Swept {
    /// Dead entries removed.
    pub removed: u32,
    /// There is more to look at: go on soon, and let others have the lock meanwhile.
    pub more: bool,
}

impl<K: Hash + Eq, V> Store<K, V> {
    /// When dead entries should be swept out: at once while a sweep is under way.
    #[must_use]
    pub fn next_cleanup(&self) -> Time {
        if self.sweeping { Time::ZERO } else { self.next_cleanup }
    }

    /// Looks at the next `most` places and removes what is dead there. Entries that are read
    /// leave by themselves; this is for those that nobody asks for.
    pub fn sweep(&mut self, now: Time, most: u32, settings: &Settings) -> Swept {
        let before = self.slab.count();
        let end = self.cursor.saturating_add(most.max(1)).min(self.slab.places());
        for at in self.cursor..end {
            let dead = self.slab.get(at).is_some_and(|entry| {
                let stale = entry.state(now, settings).stale;
                stale.is_some_and(|stale| entry.is_dead(stale, settings))
            });
            if dead {
                self.drop_entry(at);
            }
        }
        self.flights.reclaim(now, most);
        self.sweeping = end < self.slab.places();
        self.cursor = if self.sweeping { end } else { 0 };
        if !self.sweeping {
            self.next_cleanup = next(now, settings);
        }
        let removed = before - self.slab.count();
        self.counters.expired += u64::from(removed);
        Swept { removed, more: self.sweeping }
    }

    /// Removes everything and counts from zero. Answers on their way are not stored.
    pub fn clear(&mut self) {
        self.invalidate(Target::All);
        self.counters = Counters::default();
    }

    /// Removes all entries. Those who wait go on waiting.
    pub(super) fn forget_all(&mut self) {
        self.slab.clear();
        self.index.clear();
        self.ghosts.clear();
        self.places.clear();
        (self.bytes, self.cursor, self.sweeping) = (0, 0, false);
    }

    /// Applies other settings: what exceeds new limits leaves, a shorter time to live shortens
    /// that of entries that have the default one, and a cache that is switched off is emptied.
    pub fn retune(&mut self, now: Time, settings: &Settings) {
        if !settings.enabled {
            self.clear();
        }
        if settings.eviction != CacheEviction::ScanResistant {
            self.slab.merge();
            self.ghosts.clear();
        }
        self.make_room(NOWHERE, settings);
        let next = next(now, settings);
        self.next_cleanup = if next == Time::NEVER { next } else { self.next_cleanup.min(next) };
    }

    /// The statistics that clients know by name.
    #[must_use]
    pub fn stats(&self, settings: &Settings) -> Stats {
        let counters = if settings.enabled { self.counters } else { Counters::default() };
        Stats {
            enabled: settings.enabled,
            cache_size: if settings.enabled { self.slab.count() } else { 0 },
            cache_hits: counters.hits,
            cache_misses: counters.misses,
            hit_rate: counters.hit_rate(),
            ttl_seconds: settings.ttl.div_ceil(1_000_000_000),
        }
    }

    /// Everything else that is counted.
    #[must_use]
    pub fn more_stats(&self, settings: &Settings) -> MoreStats {
        let counters = self.counters;
        let batch = settings.eviction == CacheEviction::Batch;
        #[allow(clippy::cast_precision_loss)] // below a million
        let ratio = settings.share_ppm() as f64 / 1e6;
        MoreStats {
            cache_max_size: settings.max_entries,
            eviction_ratio: if batch { ratio } else { 0.0 },
            bytes: self.bytes,
            max_bytes: settings.max_bytes,
            stored: counters.stored,
            evicted: counters.evicted,
            expired: counters.expired,
            invalidated: counters.invalidated,
            negative_hits: counters.negative,
            coalesced: counters.coalesced,
            in_flight: self.flights.count(),
            stale: counters.stale(),
        }
    }
}
