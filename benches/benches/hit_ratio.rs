//! The share of hits under a Zipf load, and the bytes that an entry takes: Origin's cache and,
//! with the feature `peers`, other crates. Prints tables; nothing is judged.
#![allow(clippy::print_stdout)] // a benchmark prints

use std::alloc::System;

use origin_benches::caches::{ALL, Value, Zipf};
use origin_core::cache::Key;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: usize = 100_000;
const ROOM: usize = KEYS / 10;
const WARM_UP: u32 = 500_000;
const REQUESTS: u32 = 1_000_000;
/// Every so many requests a scan of as many keys that are asked for once.
const SCAN: (u32, usize) = (50_000, ROOM);

fn main() {
    let keys: Vec<Key> = (0..KEYS).map(|n| Key::text(&n.to_string())).collect();
    let value: Value = vec![7; 64].into();
    println!(
        "share of hits, {KEYS} keys, room for {ROOM}, {REQUESTS} requests after {WARM_UP}; with \
         scans: {} keys that are asked for once after every {} requests, not counted\n",
        SCAN.1, SCAN.0
    );
    println!(
        "{:<30} {:>8} {:>8} {:>14} {:>12}",
        "", "s=0.9", "s=1.0", "s=1.0, scans", "bytes/entry"
    );
    let best = |s| 100.0 * Zipf::new(KEYS, s, 1).best(ROOM);
    println!("{:<30} {:>7.2}% {:>7.2}%", "the most popular (best)", best(0.9), best(1.0));
    for (name, make) in ALL {
        let share = |s, scans: bool| {
            let (mut cache, mut zipf, mut once) = (make(ROOM), Zipf::new(KEYS, s, 1), 0_u64);
            let mut hits = 0_u32;
            for request in 0..WARM_UP + REQUESTS {
                let key = &keys[zipf.draw()];
                let hit = cache.get(key);
                hits += u32::from(hit && request >= WARM_UP);
                if !hit {
                    cache.put(key, &value);
                }
                if scans && request % SCAN.0 == 0 {
                    for _ in 0..SCAN.1 {
                        once += 1;
                        let key = Key::text(&format!("once {once}"));
                        if !cache.get(&key) {
                            cache.put(&key, &value);
                        }
                    }
                }
            }
            100.0 * f64::from(hits) / f64::from(REQUESTS)
        };
        let region = Region::new(ALLOCATOR);
        let mut cache = make(ROOM);
        // Twice, because some let a new key in only when it is asked for again.
        for _ in 0..2 {
            keys[..ROOM].iter().for_each(|key| {
                if !cache.get(key) {
                    cache.put(key, &value);
                }
            });
        }
        let change = region.change();
        let there = keys[..ROOM].iter().filter(|key| cache.get(key)).count();
        #[allow(clippy::cast_precision_loss)] // some megabytes
        let bytes =
            (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / there as f64;
        println!(
            "{name:<30} {:>7.2}% {:>7.2}% {:>13.2}% {bytes:>12.1}",
            share(0.9, false),
            share(1.0, false),
            share(1.0, true)
        );
    }
}
