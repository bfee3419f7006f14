//! The response cache. Beside other crates it is in `caches.rs`.

use std::hint::black_box;
use std::time::Duration;

use http::{HeaderMap, Method};
use origin_core::Time;
use origin_core::cache::{Fill, Key, Lookup, Put, Settings, Store, Turn};
use origin_core::config::{CacheConfig, CacheEviction};

use super::{Case, Clock, LONG, Made, batch, judged, unjudged};

pub(super) const CASES: &[Case] = &[
    judged("cache_hit", "cache of 1 000, one of them: least recently used", 250, || {
        hit(CacheEviction::Batch)
    }),
    judged("cache_hit_scan", "the same, scan resistant", 210, || hit(CacheEviction::ScanResistant)),
    unjudged("cache_miss", "a miss of which nobody else is to know", miss),
    unjudged("cache_fill", "a miss that leads, and storing what was fetched; one leaves", || {
        fill(CacheEviction::One)
    }),
    unjudged("cache_fill_batch", "the same, a fifth leaves at once", || fill(CacheEviction::Batch)),
    unjudged("cache_fill_scan", "the same, scan resistant", || fill(CacheEviction::ScanResistant)),
    unjudged("cache_key", "key of a GET with four parameters: SHA-256", || {
        let headers = HeaderMap::new();
        Ok(batch(move || {
            let path = black_box("/api/v1/projects?sort=name&page=2&filter=open&limit=50");
            let key = Key::http("projects", &Method::GET, path, &headers, &[""; 0], b"");
            black_box(key).bytes()[0] == key.bytes()[0]
        }))
    }),
];

const ENTRIES: u32 = 1_000;

fn settings(change: impl FnOnce(&mut CacheConfig)) -> Result<Settings, Box<dyn std::error::Error>> {
    let mut config = CacheConfig { ttl: LONG, ..CacheConfig::default() };
    change(&mut config);
    Ok(Settings::of(&config, "cache")?)
}

fn key(number: u32) -> Key {
    Key::text(&number.to_string())
}

fn hit(eviction: CacheEviction) -> Made {
    let settings = settings(|c| c.eviction = eviction)?;
    let keys: Vec<Key> = (0..ENTRIES).map(key).collect();
    let mut store = Store::new(Time::ZERO, 42, &settings);
    for (number, key) in (0..).zip(&keys) {
        let put = Put::new(number, 1);
        store.insert(Time::ZERO, key, put, &settings).map_err(|why| why.to_string())?;
    }
    let (mut clock, mut turn) = (Clock::default(), 0_u32);
    Ok(batch(move || {
        turn = turn.wrapping_add(389);
        let key = &keys[(turn % ENTRIES) as usize];
        let found =
            black_box(&mut store).lookup(clock.next(), key, Time::NEVER, black_box(&settings));
        matches!(black_box(found), Lookup::Fresh(..))
    }))
}

fn miss() -> Made {
    let settings = settings(|c| c.coalesce = false)?;
    let keys: Vec<Key> = (0..ENTRIES).map(key).collect();
    let mut store: Store<Key, u32> = Store::new(Time::ZERO, 42, &settings);
    for number in ENTRIES..2 * ENTRIES {
        let put = Put::new(number, 1);
        store.insert(Time::ZERO, &key(number), put, &settings).map_err(|why| why.to_string())?;
    }
    let (mut clock, mut turn) = (Clock::default(), 0_u32);
    Ok(batch(move || {
        turn = turn.wrapping_add(389);
        let key = &keys[(turn % ENTRIES) as usize];
        let found =
            black_box(&mut store).lookup(clock.next(), key, Time::NEVER, black_box(&settings));
        matches!(black_box(found), Lookup::Miss(_))
    }))
}

fn fill(eviction: CacheEviction) -> Made {
    let settings = settings(|c| {
        c.eviction = eviction;
        c.lease = Duration::from_secs(1);
    })?;
    let keys: Vec<Key> = (0..3 * ENTRIES).map(key).collect();
    let mut store: Store<Key, u32> = Store::new(Time::ZERO, 42, &settings);
    let (mut clock, mut turn) = (Clock::default(), 0_usize);
    Ok(batch(move || {
        turn = if turn + 1 < keys.len() { turn + 1 } else { 0 };
        let (now, key) = (clock.next(), &keys[turn]);
        let found = black_box(&mut store).lookup(now, key, Time::NEVER, black_box(&settings));
        // Three times as many as there is room for, in turn: never there any more, unless it has
        // become popular by being known to have left.
        let Lookup::Miss(Turn::Lead(ticket)) = found else { return true };
        let fill = Fill::Found(Put::new(7, 1));
        store.fill(now, key, &ticket, fill, &settings).stored.is_ok()
    }))
}
