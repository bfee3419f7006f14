//! From keys to places: a hash table of 8 bytes per bucket that remembers nothing but where.
//!
//! Linear probing with deletion by shifting back, so there are no tombstones and a table that
//! lived long is as good as a new one. It is never walked, so the order of its buckets can decide
//! nothing; the seed only keeps those who choose keys from choosing collisions.

use std::hash::{Hash, Hasher};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use serde::{Deserialize, Serialize};

/// Names no place.
pub(super) const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Bucket {
    hash: u32,
    at: u32,
}

const EMPTY: Bucket = Bucket { hash: 0, at: NOWHERE };

/// Where things are, by the hash of their key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Index {
    seed: u64,
    /// A power of two, or none.
    buckets: Vec<Bucket>,
    used: usize,
}

impl Index {
    pub(super) const fn new(seed: u64) -> Index {
        Index { seed, buckets: Vec::new(), used: 0 }
    }

    #[inline]
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, SharedSeed::global_fixed());
        key.hash(&mut hasher);
        let hash = hasher.finish();
        // Both halves are good; the low one alone would do.
        #[allow(clippy::cast_possible_truncation)]
        let hash = (hash ^ (hash >> 32)) as u32;
        hash
    }

    #[inline]
    fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }

    /// The place with this hash that `is` the one looked for.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut position = hash as usize & self.mask();
        // An empty bucket ends every search: the table is never more than three quarters full.
        while let Some(bucket) = self.buckets.get(position) {
            if bucket.at == NOWHERE {
                return None;
            }
            if bucket.hash == hash && is(bucket.at) {
                return Some(bucket.at);
            }
            position = (position + 1) & self.mask();
        }
        None
    }

    /// Remembers a place that is not in the table.
    pub(super) fn insert(&mut self, hash: u32, at: u32) {
        if (self.used + 1) * 4 > self.buckets.len() * 3 {
            self.grow();
        }
        self.place(Bucket { hash, at });
        self.used += 1;
    }

    fn place(&mut self, bucket: Bucket) {
        let mask = self.mask();
        let mut position = bucket.hash as usize & mask;
        while let Some(here) = self.buckets.get_mut(position) {
            if here.at == NOWHERE {
                *here = bucket;
                return;
            }
            position = (position + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let size = (self.buckets.len() * 2).max(8);
        let old = std::mem::replace(&mut self.buckets, vec![EMPTY; size]);
        for bucket in old.into_iter().filter(|bucket| bucket.at != NOWHERE) {
            self.place(bucket);
        }
    }

    /// Forgets a place; nothing happens if it is not in the table.
    pub(super) fn remove(&mut self, hash: u32, at: u32) {
        let mask = self.mask();
        let mut hole = hash as usize & mask;
        loop {
            match self.buckets.get(hole) {
                Some(bucket) if bucket.at == at => break,
                Some(bucket) if bucket.at != NOWHERE => hole = (hole + 1) & mask,
                _ => return,
            }
        }
        self.used -= 1;
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let bucket = self.buckets[next];
            if bucket.at == NOWHERE {
                self.buckets[hole] = EMPTY;
                return;
            }
            // Moves back what may stand in the hole: what its search passes on its way.
            let home = bucket.hash as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.buckets[hole] = bucket;
                hole = next;
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.buckets.fill(EMPTY);
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn hash(key: u32, kind: u32) -> u32 {
        match kind {
            0 => key % 7,
            1 => u32::MAX - key % 5,
            _ => key.wrapping_mul(0x9e37_79b9),
        }
    }

    proptest! {
        /// The same as an ordered map, with hashes that collide on purpose.
        #[test]
        fn it_is_a_map(ops in proptest::collection::vec((any::<bool>(), 0_u32..60, 0_u32..3), 0..400)) {
            let mut index = Index::new(1);
            let mut model: BTreeMap<(u32, u32), u32> = BTreeMap::new();
            for (turn, (insert, key, kind)) in ops.into_iter().enumerate() {
                // The place is the key, the kind belongs to it.
                let (at, hashed) = (key * 3 + kind, hash(key, kind));
                if insert && !model.contains_key(&(hashed, at)) {
                    index.insert(hashed, at);
                    model.insert((hashed, at), at);
                } else if !insert {
                    index.remove(hashed, at);
                    model.remove(&(hashed, at));
                }
                prop_assert_eq!(index.used, model.len());
                prop_assert!(index.used * 4 <= index.buckets.len() * 3);
                let all = (0..60).flat_map(|key| (0..3).map(move |kind| (key, kind)));
                for (key, kind) in all.filter(|_| turn % 16 == 0) {
                    let (at, hashed) = (key * 3 + kind, hash(key, kind));
                    let found = index.find(hashed, |found| found == at);
                    prop_assert_eq!(found, model.get(&(hashed, at)).copied());
                }
            }
            index.clear();
            prop_assert_eq!(index.find(0, |_| true), None);
        }
    }

    #[test]
    fn an_empty_one_is_no_trouble() {
        let mut index = Index::new(0);
        index.remove(7, 7);
        assert_eq!(index.find(7, |_| true), None);
        assert_ne!(Index::new(0).hash("a"), Index::new(1).hash("a"), "the seed is used");
    }
}
