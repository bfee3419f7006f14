//! The store against a list that is searched from end to end: random operations, and all short
//! sequences of few.

use proptest::prelude::*;

use super::*;

/// Shares no code with the store: a list in order of last use, the latest last.
struct Model {
    list: Vec<(u32, u32, u64, u64)>,
    hits: u64,
    misses: u64,
}

impl Model {
    fn get(&mut self, now: u64, key: u32, ttl: u64) -> Option<u32> {
        let found = self.list.iter().position(|entry| entry.0 == key);
        if let Some(position) = found {
            let entry = self.list.remove(position);
            if now.saturating_sub(entry.2) <= ttl {
                self.list.push(entry);
                self.hits += 1;
                return Some(entry.1);
            }
        }
        self.misses += 1;
        None
    }

    fn put(
        &mut self,
        now: u64,
        key: u32,
        (value, weight): (u32, u64),
        max: usize,
        bytes: u64,
        one: bool,
    ) {
        self.list.retain(|entry| entry.0 != key);
        self.list.push((key, value, now, weight));
        let heavy = |list: &[(u32, u32, u64, u64)]| list.iter().map(|e| e.3).sum::<u64>() > bytes;
        while self.list.len() > 1 && (self.list.len() > max || heavy(&self.list)) {
            let share = if one { 1 } else { (self.list.len() / 5).max(1) };
            self.list.drain(..share.min(self.list.len() - 1));
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Get(u32),
    Put(u32, u32),
    Forget(u32),
    Pass(u64),
    Clear,
    Sweep(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_u32..12).prop_map(Op::Get),
        6 => (0_u32..12, 1_u32..700).prop_map(|(key, weight)| Op::Put(key, weight)),
        1 => (0_u32..12).prop_map(Op::Forget),
        2 => (0_u64..8).prop_map(Op::Pass),
        1 => (0_u32..40).prop_map(|n| if n == 0 { Op::Clear } else { Op::Sweep(n % 8) }),
    ]
}

proptest! {
    /// Same answers, same entries, same counts; limits hold after every step.
    #[test]
    fn it_is_the_list(
        ops in proptest::collection::vec(op(), 0..300),
        max in 1_u32..11,
        one: bool,
    ) {
        let settings = settings(|c| {
            (c.ttl, c.max_entries) = (secs(10), max);
            (c.max_bytes, c.max_entry_bytes) = (2_048, 2_048);
            c.coalesce = false;
            c.eviction = if one { CacheEviction::One } else { CacheEviction::Batch };
        });
        let mut store: Store<u32, u32> = Store::new(Time::ZERO, 3, &settings);
        let mut model = Model { list: vec![], hits: 0, misses: 0 };
        let (mut now, mut value) = (0, 0);
        for op in ops {
            match op {
                Op::Get(key) => {
                    let found = get(&mut store, at(now), key, &settings).found().map(|(v, _)| *v);
                    prop_assert_eq!(found, model.get(now, key, 10));
                }
                Op::Put(key, weight) => {
                    value += 1;
                    let put = Put::new(value, weight);
                    prop_assert_eq!(store.insert(at(now), &key, put, &settings), Ok(()));
                    model.put(now, key, (value, u64::from(weight)), max as usize, 2_048, one);
                }
                Op::Forget(key) => {
                    let before = model.list.len();
                    model.list.retain(|entry| entry.0 != key);
                    let removed = store.invalidate(Target::Key(key)) as usize;
                    prop_assert_eq!(removed, before - model.list.len());
                }
                Op::Pass(seconds) => now += seconds,
                Op::Clear => {
                    store.clear();
                    model = Model { list: vec![], hits: 0, misses: 0 };
                }
                Op::Sweep(most) => {
                    while store.sweep(at(now), most, &settings).more {}
                    model.list.retain(|entry| now - entry.2 <= 10);
                }
            }
            let stats = store.stats(&settings);
            prop_assert_eq!(stats.cache_size as usize, model.list.len());
            prop_assert_eq!((stats.cache_hits, stats.cache_misses), (model.hits, model.misses));
            let bytes = store.more_stats(&settings).bytes;
            prop_assert_eq!(bytes, model.list.iter().map(|entry| entry.3).sum::<u64>());
            prop_assert!(stats.cache_size <= max && bytes <= 2_048);
        }
        // A copy through serde is the same cache.
        let text = serde_json::to_string(&store).unwrap();
        prop_assert_eq!(serde_json::from_str::<Store<u32, u32>>(&text).unwrap(), store);
    }

    /// With any eviction, limits hold, and what is found is what was put last.
    #[test]
    fn whatever_leaves_what_stays_is_right(
        ops in proptest::collection::vec((any::<bool>(), 0_u32..40), 0..400),
        max in 1_u32..12,
        kind in 0_u8..3,
        other in 0_u8..3,
    ) {
        let kinds = [CacheEviction::Batch, CacheEviction::One, CacheEviction::ScanResistant];
        let of = |kind: u8| settings(|c| (c.max_entries, c.eviction) = (max, kinds[usize::from(kind)]));
        let (first, second) = (of(kind), of(other));
        let mut store: Store<u32, usize> = Store::new(Time::ZERO, 3, &first);
        let mut last = [0; 40];
        let half = ops.len() / 2;
        for (turn, (put, key)) in ops.into_iter().enumerate() {
            let settings = if turn < half { &first } else { &second };
            if turn == half {
                store.retune(Time::ZERO, &second);
            }
            if put {
                store.insert(Time::ZERO, &key, Put::new(turn, 1), settings).unwrap();
                last[key as usize] = turn;
                prop_assert!(store.kept(&key).is_some(), "the newest stays");
            } else if let Some((value, _)) = get(&mut store, Time::ZERO, key, settings).found() {
                prop_assert_eq!(*value, last[key as usize]);
            }
            prop_assert!(store.stats(settings).cache_size <= max);
        }
    }
}

/// Every sequence of six operations on three keys in a cache for two.
#[test]
fn all_short_sequences() {
    for one in [false, true] {
        let settings = settings(|c| {
            (c.ttl, c.max_entries, c.coalesce) = (secs(2), 2, false);
            c.eviction = if one { CacheEviction::One } else { CacheEviction::Batch };
        });
        for number in 0..7_u32.pow(6) {
            let mut store: Store<u32, u32> = Store::new(Time::ZERO, 3, &settings);
            let mut model = Model { list: vec![], hits: 0, misses: 0 };
            let (mut now, mut rest) = (0, number);
            for turn in 0..6 {
                let (op, key) = (rest % 7, rest % 7 % 3);
                rest /= 7;
                match op {
                    0..=2 => {
                        let found =
                            get(&mut store, at(now), key, &settings).found().map(|(v, _)| *v);
                        assert_eq!(found, model.get(now, key, 2), "{number}");
                    }
                    3..=5 => {
                        store.insert(at(now), &key, Put::new(turn, 1), &settings).unwrap();
                        model.put(now, key, (turn, 1), 2, u64::MAX, one);
                    }
                    _ => now += 1,
                }
                assert_eq!(store.stats(&settings).cache_size as usize, model.list.len());
            }
        }
    }
}
