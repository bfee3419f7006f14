//! Origin's cache beside the crates one would take instead, in one form: by a key of 32 bytes,
//! a handle to an answer, and nothing else that some of them cannot do.
//!
//! Origin and `lru` have one owner; `moka` and `quick_cache` lock for themselves and clone what is
//! found, so Origin is there twice, once behind a std mutex and cloning. Origin is told the time
//! and looks at it for each answer; `moka` reads its clock and does the same; the other two know
//! no time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use origin_core::Time;
use origin_core::cache::{Key, Lookup, Put, Settings, Store, Turn};
use origin_core::config::{CacheConfig, CacheEviction};
use origin_core::rng::Pcg32;

/// What is cached.
pub type Value = Arc<[u8]>;

/// A cache as one is used.
pub trait Cached {
    /// Whether there is an answer, which is looked at.
    fn get(&mut self, key: &Key) -> bool;
    /// Stores one.
    fn put(&mut self, key: &Key, value: &Value);
}

/// One that holds at most so many entries.
pub type Make = fn(usize) -> Box<dyn Cached>;

/// All of them.
pub const ALL: &[(&str, Make)] = &[
    ("Origin, batch", |most| Box::new(Origin::new(most, CacheEviction::Batch))),
    ("Origin, one", |most| Box::new(Origin::new(most, CacheEviction::One))),
    ("Origin, scan resistant", |most| Box::new(Origin::new(most, CacheEviction::ScanResistant))),
    ("Origin, one, mutex and clone", |most| {
        Box::new(Locked(Mutex::new(Origin::new(most, CacheEviction::One))))
    }),
    #[cfg(feature = "peers")]
    ("moka 0.12 sync", peers::moka),
    #[cfg(feature = "peers")]
    ("quick_cache 0.7 sync", peers::quick_cache),
    #[cfg(feature = "peers")]
    ("lru 0.19", peers::lru),
];

const TTL: Duration = Duration::from_secs(300);

struct Origin {
    store: Store<Key, Value>,
    settings: Settings,
    now: u64,
}

impl Origin {
    fn new(most: usize, eviction: CacheEviction) -> Origin {
        let config = CacheConfig {
            ttl: TTL,
            max_entries: u32::try_from(most).unwrap_or(u32::MAX),
            eviction,
            coalesce: false,
            ..CacheConfig::default()
        };
        // It cannot be refused with the sizes used here, and the defaults would show.
        let settings = Settings::of(&config, "cache").unwrap_or_default();
        Origin { store: Store::new(Time::ZERO, 42, &settings), settings, now: 0 }
    }

    fn look(&mut self, key: &Key) -> Option<&Value> {
        self.now += 1;
        let now = Time::from_nanos(self.now);
        match self.store.lookup(now, key, Time::NEVER, &self.settings) {
            Lookup::Fresh(value, _) | Lookup::Stale(value, ..) => Some(value),
            Lookup::Miss(Turn::Lead(_) | Turn::Join(_)) => None,
        }
    }

    fn keep(&mut self, key: &Key, value: &Value) {
        let put = Put::new(value.clone(), 64);
        let _ = self.store.insert(Time::from_nanos(self.now), key, put, &self.settings);
    }
}

impl Cached for Origin {
    fn get(&mut self, key: &Key) -> bool {
        self.look(key).is_some_and(|value| !value.is_empty())
    }

    fn put(&mut self, key: &Key, value: &Value) {
        self.keep(key, value);
    }
}

struct Locked(Mutex<Origin>);

impl Cached for Locked {
    fn get(&mut self, key: &Key) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).look(key).cloned();
        found.is_some_and(|value| !value.is_empty())
    }

    fn put(&mut self, key: &Key, value: &Value) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keep(key, value);
    }
}

/// Keys by a Zipf distribution: the `n`-th is asked for in proportion to `n` to the minus `s`.
pub struct Zipf {
    sums: Vec<f64>,
    rng: Pcg32,
}

impl Zipf {
    /// Over `keys` keys.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far below 2⁵³
    pub fn new(keys: usize, s: f64, seed: u64) -> Zipf {
        let mut sum = 0.0;
        let next = |n: usize| {
            sum += (n as f64).powf(-s);
            sum
        };
        Zipf { sums: (1..=keys).map(next).collect(), rng: Pcg32::new(seed, 1) }
    }

    /// The number of the next one.
    pub fn draw(&mut self) -> usize {
        let all = self.sums.last().copied().unwrap_or(1.0);
        let drawn = f64::from(self.rng.bits()) / (f64::from(u32::MAX) + 1.0) * all;
        self.sums.partition_point(|sum| *sum <= drawn).min(self.sums.len() - 1)
    }

    /// The share of hits of a cache of `most` that knows what is popular: none has more.
    #[must_use]
    pub fn best(&self, most: usize) -> f64 {
        let all = self.sums.last().copied().unwrap_or(1.0);
        most.checked_sub(1).and_then(|last| self.sums.get(last)).map_or(0.0, |sum| sum / all)
    }
}

#[cfg(feature = "peers")]
mod peers {
    use std::num::NonZeroUsize;

    use super::{Cached, Key, TTL, Value};

    struct Moka(moka::sync::Cache<Key, Value>);

    pub(super) fn moka(most: usize) -> Box<dyn Cached> {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        Box::new(Moka(moka::sync::Cache::builder().max_capacity(most).time_to_live(TTL).build()))
    }

    impl Cached for Moka {
        fn get(&mut self, key: &Key) -> bool {
            self.0.get(key).is_some_and(|value| !value.is_empty())
        }

        fn put(&mut self, key: &Key, value: &Value) {
            self.0.insert(*key, value.clone());
        }
    }

    struct QuickCache(quick_cache::sync::Cache<Key, Value>);

    pub(super) fn quick_cache(most: usize) -> Box<dyn Cached> {
        Box::new(QuickCache(quick_cache::sync::Cache::new(most)))
    }

    impl Cached for QuickCache {
        fn get(&mut self, key: &Key) -> bool {
            self.0.get(key).is_some_and(|value| !value.is_empty())
        }

        fn put(&mut self, key: &Key, value: &Value) {
            self.0.insert(*key, value.clone());
        }
    }

    struct Lru(lru::LruCache<Key, Value>);

    pub(super) fn lru(most: usize) -> Box<dyn Cached> {
        Box::new(Lru(lru::LruCache::new(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN))))
    }

    impl Cached for Lru {
        fn get(&mut self, key: &Key) -> bool {
            self.0.get(key).is_some_and(|value| !value.is_empty())
        }

        fn put(&mut self, key: &Key, value: &Value) {
            self.0.put(*key, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_cache() {
        let value: Value = vec![1].into();
        for (name, make) in ALL {
            let mut cache = make(1_000);
            let key = Key::text("a");
            assert!(!cache.get(&key), "{name}");
            cache.put(&key, &value);
            assert!(cache.get(&key), "{name}");
        }
    }

    #[test]
    fn the_most_popular_is_as_popular_as_it_should_be() {
        let mut zipf = Zipf::new(1_000, 1.0, 7);
        let first = (0..100_000).filter(|_| zipf.draw() == 0).count();
        // 1 / H(1000) = 13.36 %.
        assert!((12_800..13_900).contains(&first), "{first}");
        assert!((zipf.best(1) - 0.1336).abs() < 1e-3);
    }
}
