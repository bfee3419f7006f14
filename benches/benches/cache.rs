//! Nanoseconds of a hit, a miss and storing one too many, by criterion: Origin's cache and, with
//! the feature `peers`, other crates. Nothing here asserts a time.
#![allow(missing_docs)] // of what criterion's macros make

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use origin_benches::caches::{ALL, Value};
use origin_core::cache::Key;

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

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20)
        .nresamples(2_000)
}

criterion_group!(name = benches; config = short(); targets = caches);
criterion_main!(benches);
