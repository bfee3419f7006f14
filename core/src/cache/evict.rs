//! Who leaves when there are too many or too heavy entries.
//!
//! `batch` and `one` keep list 0 in order of last use and take from its old end. `scan_resistant`
//! is S3-FIFO (Yang et al., SOSP 2023): newcomers enter a small queue, list 0, and only those
//! that were used again there go over to the main one, list 1; a key that left the small queue
//! and is asked for again enters the main one at once. A hit counts up to three and moves
//! nothing, which is also why it is the cheapest. Two differences: the memory of keys that left
//! is a table that forgets on collision instead of a third queue, 8 bytes per entry; and one
//! insertion gives second chances to a bounded number of entries, so that no caller pays for all.

use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::slab::ListId;
use super::store::Store;
use crate::config::CacheEviction;

/// The list of newcomers, and the only one where the order is that of use.
pub(super) const FIRST: ListId = 0;
/// The main list of `scan_resistant`.
const MAIN: ListId = 1;

/// Second chances per entry that has to leave.
const CHANCES: u32 = 64;

/// Keys that left the small queue lately, by hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Ghosts {
    /// Hash, and the count at which it left; a power of two of them, or none.
    seen: Vec<(u32, u32)>,
    left: u32,
}

impl Ghosts {
    fn place(&self, hash: u32) -> usize {
        // Other bits than those that the index begins with.
        hash.rotate_right(16) as usize & self.seen.len().wrapping_sub(1)
    }

    fn note(&mut self, hash: u32, entries: u32) {
        let size = (entries as usize).next_power_of_two();
        if self.seen.len() != size {
            self.seen = vec![(0, 0); size];
            self.left = entries;
        }
        self.left = self.left.wrapping_add(1);
        let place = self.place(hash);
        if let Some(seen) = self.seen.get_mut(place) {
            *seen = (hash, self.left);
        }
    }

    /// Whether it left among the last `entries` that did.
    fn knows(&self, hash: u32, entries: u32) -> bool {
        let seen = self.seen.get(self.place(hash));
        seen.is_some_and(|(other, at)| *other == hash && self.left.wrapping_sub(*at) < entries)
    }

    pub(super) fn clear(&mut self) {
        self.seen = Vec::new();
    }
}

/// The list that a newcomer enters.
pub(super) fn list_for(hash: u32, ghosts: &Ghosts, settings: &Settings) -> ListId {
    let main = settings.eviction == CacheEviction::ScanResistant
        && ghosts.knows(hash, settings.max_entries);
    if main { MAIN } else { FIRST }
}

impl<K: Hash + Eq, V> Store<K, V> {
    /// The entry there was used.
    #[inline]
    pub(super) fn touch(&mut self, at: u32, settings: &Settings) {
        if settings.eviction == CacheEviction::ScanResistant {
            if let Some(entry) = self.slab.get_mut(at) {
                entry.uses = (entry.uses + 1).min(3);
            }
        } else {
            self.slab.renew(at, FIRST);
        }
    }

    /// Too many or too heavy.
    fn over(&self, settings: &Settings) -> bool {
        self.slab.count() > settings.max_entries || self.bytes > settings.max_bytes
    }

    /// Lets entries leave until both limits hold. The one that came last stays.
    pub(super) fn make_room(&mut self, newest: u32, settings: &Settings) {
        while self.over(settings) && self.slab.count() > 1 {
            let leave = match settings.eviction {
                CacheEviction::Batch => settings.batch(self.slab.count()),
                CacheEviction::One | CacheEviction::ScanResistant => 1,
            };
            for _ in 0..leave {
                let victim = match settings.eviction {
                    CacheEviction::ScanResistant => self.unpopular(newest, settings),
                    _ => self.slab.oldest(FIRST),
                };
                let Some(at) = victim else { return };
                self.drop_entry(at);
                self.counters.evicted = self.counters.evicted.saturating_add(1);
            }
        }
    }

    /// The one that S3-FIFO lets go.
    fn unpopular(&mut self, newest: u32, settings: &Settings) -> Option<u32> {
        let small = (settings.max_entries / 10).max(1);
        for chance in 0..=CHANCES {
            let mut from_small = self.slab.in_list(FIRST) > small || self.slab.in_list(MAIN) == 0;
            let list = |from_small| if from_small { FIRST } else { MAIN };
            if self.slab.oldest(list(from_small)) == Some(newest) {
                if self.slab.in_list(list(from_small)) > 1 {
                    // All the others went round.
                    self.slab.renew(newest, list(from_small));
                } else {
                    from_small = !from_small;
                }
            }
            let at = self.slab.oldest(list(from_small))?;
            let entry = self.slab.get_mut(at)?;
            let (hash, uses) = (entry.hash, entry.uses);
            if uses == 0 || chance == CHANCES {
                if from_small {
                    self.ghosts.note(hash, settings.max_entries);
                }
                return Some(at);
            }
            // Used while it was new: it stays. Used in the main one: it goes round once more.
            entry.uses = if from_small { 0 } else { uses - 1 };
            self.slab.renew(at, MAIN);
        }
        None
    }
}
