//! Nanoseconds of a hit, a miss and storing one too many, by criterion: Origin's cache and, with
//! the feature `peers`, other crates. And a whole call of a blocking client that is answered from
//! this program, from Redis and by the service, all on loopback; the second needs `redis-server`.
//! Nothing here asserts a time.
#![allow(clippy::print_stderr)] // a benchmark prints
#![allow(missing_docs)] // of what criterion's macros make

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use origin_benches::caches::{ALL, Value};
use origin_blocking::{Client, Upstream};
use origin_core::ConfigError;
use origin_core::cache::Key;
use origin_core::config::{CacheConfig, CacheEviction, RedisConfig};
use origin_lab::FaultServer;
use origin_servers::redis;

const ENTRIES: usize = 1_000;

fn caches(criterion: &mut Criterion) {
    let keys: Vec<Key> = (0..10 * ENTRIES).map(|n| Key::text(&n.to_string())).collect();
    let value: Value = vec![7; 64].into();
    for kind in ["cache hit", "cache miss", "cache insert and evict"] {
        let mut group = criterion.benchmark_group(kind);
        for (name, make) in ALL {
            let mut cache = make(ENTRIES);
            // Half as many as there is room for: some divide it into shards that fill unevenly.
            let there = ENTRIES / 2;
            keys[..there].iter().for_each(|key| cache.put(key, &value));
            let mut turn = 0;
            group.bench_function(*name, |bencher| match kind {
                "cache hit" => bencher.iter(|| {
                    turn = (turn + 389) % there;
                    black_box(cache.get(black_box(&keys[turn])))
                }),
                "cache miss" => bencher.iter(|| {
                    turn = (turn + 389) % there;
                    black_box(cache.get(black_box(&keys[there + turn])))
                }),
                _ => bencher.iter(|| {
                    turn = (turn + 1) % keys.len();
                    cache.put(black_box(&keys[turn]), &value);
                }),
            });
        }
        group.finish();
    }
}

/// Calls that end in either level. With room for one answer, two questions in turn are never
/// answered from here and always from Redis.
fn levels(criterion: &mut Criterion) {
    let Ok(server) = FaultServer::start() else { return };
    let mut group = criterion.benchmark_group("answered call");
    let client = |cache: CacheConfig, redis: Option<RedisConfig>| {
        let builder = Client::builder().endpoint("books", server.url());
        let client = builder.configure(|config| {
            (config.cache, config.redis) = (Some(cache), redis);
        });
        client.build().and_then(|client| {
            let books = client.service("books");
            books.map_err(|error| ConfigError::new("books", error.to_string()))
        })
    };
    let get = |books: &Upstream, path| books.get(path).cached().send().is_ok();
    if let Ok(books) = client(CacheConfig::default(), None) {
        get(&books, "/a");
        group.bench_function("local level", |bencher| bencher.iter(|| get(&books, "/a")));
        let fetch = || books.get("/a").send().is_ok();
        group.bench_function("no level, a request", |bencher| bencher.iter(fetch));
    }
    let Some(redis) = redis::start(&redis::Setup::default()) else { return };
    let mut cache =
        CacheConfig { max_entries: 1, eviction: CacheEviction::One, ..CacheConfig::default() };
    cache.shared.enabled = true;
    if let Ok(books) = client(cache, Some(RedisConfig::at(&redis.url()))) {
        get(&books, "/a");
        get(&books, "/b");
        let stored = || books.shared_cache_stats().is_some_and(|counts| counts.stored == 2);
        origin_servers::eventually(Duration::from_secs(5), stored);
        let before = server.request_count();
        let mut turn = false;
        group.bench_function("second level, Redis", |bencher| {
            bencher.iter(|| {
                turn = !turn;
                get(&books, if turn { "/a" } else { "/b" })
            });
        });
        let made = server.request_count() - before;
        if made > 0 {
            eprintln!("{made} of these were requests");
        }
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20)
        .nresamples(2_000)
}

criterion_group!(name = benches; config = short(); targets = caches, levels);
criterion_main!(benches);
