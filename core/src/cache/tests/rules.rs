//! The rules of contracts §3.8 and of anchor b.22, one by one.

use std::sync::Arc;

use super::*;

fn found(lookup: &Lookup<'_, u32>) -> Option<u32> {
    lookup.found().map(|(value, _)| *value)
}

/// Contracts §3.8: dead when older than its time to live; reading does not extend it; an expired
/// entry on read is removed and a miss.
#[test]
fn case_001_70_71_76_ttl() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 7, 70, &settings);
    for now in [0, 100, 200, 300] {
        assert_eq!(found(&get(&mut store, at(now), 7, &settings)), Some(70), "{now}");
    }
    assert_eq!(store.stats(&settings).cache_size, 1);
    let just = Time::from_nanos(at(300).as_nanos() + 1);
    assert!(matches!(get(&mut store, just, 7, &settings), Lookup::Miss(_)));
    let stats = store.stats(&settings);
    assert_eq!((stats.cache_size, stats.cache_hits, stats.cache_misses), (0, 4, 2));
}

/// Contracts §3.8: not swept by reading others, so `cache_size` includes dead ones; 001-82: an
/// hourly sweep removes them, in bounded pieces.
#[test]
fn case_001_82_cleanup() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    for key in 0..100 {
        fetch(&mut store, at(0), key, key, &settings);
    }
    fetch(&mut store, at(3_599), 100, 100, &settings);
    assert_eq!(store.stats(&settings).cache_size, 101);
    assert_eq!(store.next_cleanup(), at(3_600));
    let first = store.sweep(at(3_600), 30, &settings);
    assert_eq!(first, Swept { removed: 30, more: true });
    assert_eq!(store.next_cleanup(), Time::ZERO, "at once");
    let mut more = true;
    while more {
        more = store.sweep(at(3_600), 30, &settings).more;
    }
    assert_eq!(store.stats(&settings).cache_size, 1);
    assert_eq!(store.next_cleanup(), at(7_200));
    assert_eq!(store.more_stats(&settings).expired, 100);
    let never = self::settings(|c| c.cleanup = Duration::ZERO);
    store.retune(at(3_600), &never);
    assert_eq!(store.next_cleanup(), Time::NEVER);
}

#[test]
fn case_001_72_73_use_cache_false_refreshes() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 7, 70, &settings);
    let before = store.stats(&settings);
    let ticket = store.skip();
    let fill = Fill::Found(Put::new(71, 1));
    assert_eq!(store.fill(at(1), &7, &ticket, fill, &settings).stored, Ok(()));
    assert_eq!(store.stats(&settings), before, "neither a hit nor a miss");
    assert_eq!(found(&get(&mut store, at(301), 7, &settings)), Some(71), "fresh since second 1");
}

#[test]
fn case_001_74_clear_empties_and_zeroes() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 7, 70, &settings);
    let _ = get(&mut store, at(0), 7, &settings);
    let ticket = lead(&mut store, at(0), 8, &settings);
    store.clear();
    let stats = store.stats(&settings);
    assert_eq!((stats.cache_size, stats.cache_hits, stats.cache_misses), (0, 0, 0));
    assert_eq!(store.more_stats(&settings).bytes, 0);
    // What was asked for before is not stored after.
    let late = store.fill(at(1), &8, &ticket, Fill::Found(Put::new(80, 1)), &settings);
    assert_eq!(late.stored, Err(NotStored::Invalidated));
    fetch(&mut store, at(1), 8, 81, &settings);
    assert_eq!(store.peek(at(1), &8, &settings).map(|(value, _)| *value), Some(81));
}

/// 001-75: exactly these keys; 150 hits and 50 misses are 0.75.
#[test]
fn case_001_75_79_stats() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    assert!(store.stats(&settings).hit_rate.abs() < f64::EPSILON);
    for key in 0..50 {
        fetch(&mut store, at(0), key, key, &settings);
        for _ in 0..3 {
            assert!(get(&mut store, at(0), key, &settings).found().is_some());
        }
    }
    let json = serde_json::to_value(store.stats(&settings)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "enabled": true, "cache_size": 50, "cache_hits": 150, "cache_misses": 50,
            "hit_rate": 0.75, "ttl_seconds": 300
        })
    );
    let more = store.more_stats(&settings);
    assert_eq!((more.cache_max_size, more.stored), (1_000, 50));
    assert!((more.eviction_ratio - 0.2).abs() < 1e-9);
}

/// 001-77: 1001 entries become 801; the oldest fifth by last use goes, and one that was read
/// lately stays.
#[test]
fn case_001_77_a_fifth_goes_at_once() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    for key in 0..1_000 {
        fetch(&mut store, at(0), key, key, &settings);
    }
    assert_eq!(store.stats(&settings).cache_size, 1_000);
    assert!(get(&mut store, at(1), 0, &settings).found().is_some());
    fetch(&mut store, at(2), 1_000, 1_000, &settings);
    assert_eq!(store.stats(&settings).cache_size, 801);
    let left = |key: &u32| store.peek(at(2), key, &settings).is_some();
    assert!(left(&0), "read lately");
    assert_eq!((1..=1_000).filter(left).collect::<Vec<_>>(), (201..=1_000).collect::<Vec<_>>());
}

#[test]
fn case_001_81_a_shorter_ttl_takes_effect() {
    let long = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &long);
    fetch(&mut store, at(0), 7, 70, &long);
    let own = Put { ttl: Some(secs(100)), ..Put::new(80, 1) };
    assert_eq!(store.insert(at(0), &8, own, &long), Ok(()));
    let short = settings(|c| c.ttl = secs(60));
    store.retune(at(61), &short);
    assert_eq!(found(&get(&mut store, at(60), 7, &short)), Some(70));
    assert!(get(&mut store, at(61), 7, &short).found().is_none());
    assert_eq!(found(&get(&mut store, at(100), 8, &short)), Some(80), "it said so itself");
}

#[test]
fn case_001_83_errors_and_negative_answers_are_not_cached() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 7, 70, &settings);
    let ticket = store.skip();
    assert_eq!(
        store.fill(at(1), &7, &ticket, Fill::Failed, &settings).stored,
        Err(NotStored::Failed)
    );
    assert_eq!(found(&get(&mut store, at(1), 7, &settings)), Some(70), "an error changes nothing");
    let ticket = store.skip();
    let absent = store.fill(at(2), &7, &ticket, Fill::Absent(Put::new(0, 1)), &settings);
    assert_eq!(absent.stored, Err(NotStored::Negative));
    assert!(get(&mut store, at(2), 7, &settings).found().is_none(), "there is none any more");
}

/// b.22: negative entries have their own, shorter time to live, and are never better than asking.
#[test]
fn negative_entries() {
    let settings = settings(|c| {
        c.negative_ttl = secs(5);
        c.stale_if_error = secs(600);
        c.stale_while_revalidate = secs(600);
    });
    let mut store = Store::new(Time::ZERO, 1, &settings);
    let ticket = lead(&mut store, at(0), 7, &settings);
    let fill = Fill::Absent(Put::new(0, 1));
    assert_eq!(store.fill(at(0), &7, &ticket, fill, &settings).stored, Ok(()));
    let Lookup::Fresh(_, label) = get(&mut store, at(5), 7, &settings) else { panic!() };
    assert!(label.negative);
    assert_eq!(store.more_stats(&settings).negative_hits, 1);
    assert!(store.on_failure(at(6), &7, Reason::Error, &settings).is_none());
    assert!(matches!(get(&mut store, at(6), 7, &settings), Lookup::Miss(_)));
}

#[test]
fn case_001_84_off() {
    let on = settings(|c| c.stale_if_error = secs(600));
    let off = settings(|c| {
        c.enabled = false;
        c.stale_if_error = secs(600);
    });
    let mut store = Store::new(Time::ZERO, 1, &on);
    fetch(&mut store, at(0), 7, 70, &on);
    store.retune(at(1), &off);
    for _ in 0..3 {
        // Everybody leads, and nobody waits.
        let ticket = lead(&mut store, at(1), 7, &off);
        assert_eq!(ticket.until(), None);
        let filled = store.fill(at(1), &7, &ticket, Fill::Found(Put::new(70, 1)), &off);
        assert_eq!(filled.stored, Err(NotStored::Off));
    }
    assert!(store.on_failure(at(1), &7, Reason::Error, &off).is_none());
    assert!(store.peek(at(1), &7, &off).is_none());
    let json = serde_json::to_value(store.stats(&off)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "enabled": false, "cache_size": 0, "cache_hits": 0, "cache_misses": 0,
            "hit_rate": 0.0, "ttl_seconds": 300
        })
    );
    assert_eq!(store.next_cleanup(), Time::NEVER);
}

/// b.22: RFC 5861 counts from the moment of staleness. Consul's example: an entry 65 seconds old
/// with max-age=30 is an error; with stale-if-error=259200 it is served.
#[test]
fn windows_are_counted_from_staleness() {
    let settings = settings(|c| c.ttl = secs(30));
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 1, 10, &settings);
    let consul = Put { on_error: Some(secs(259_200)), ..Put::new(20, 1) };
    assert_eq!(store.insert(at(0), &2, consul, &settings), Ok(()));
    assert!(store.on_failure(at(65), &1, Reason::Error, &settings).is_none());
    let (value, label) = store.on_failure(at(65), &2, Reason::Error, &settings).unwrap();
    assert_eq!(*value, 20);
    assert_eq!((label.age, label.stale, label.reason), (secs(65), secs(35), Reason::Error));
    // To the second, counted from second 30 and not from second 0.
    let last = 30 + 259_200;
    assert!(store.on_failure(at(last), &2, Reason::Error, &settings).is_some());
    assert!(store.on_failure(at(last + 1), &2, Reason::Error, &settings).is_none());
    // It is for errors, and for nothing else.
    assert!(store.on_failure(at(65), &2, Reason::BreakerOpen, &settings).is_none());
}

/// Stale while one caller revalidates; after the window a stale one is a miss.
#[test]
fn revalidation_is_led_by_one() {
    let settings = settings(|c| {
        c.ttl = secs(30);
        c.stale_while_revalidate = secs(10);
        c.lease = secs(3);
        c.coalesce = false;
    });
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 7, 70, &settings);
    let Lookup::Stale(70, label, Some(ticket)) = get(&mut store, at(31), 7, &settings) else {
        panic!()
    };
    assert_eq!((label.reason, label.stale), (Reason::Revalidating, secs(1)));
    for now in [31, 33] {
        let again = get(&mut store, at(now), 7, &settings);
        assert!(matches!(again, Lookup::Stale(70, _, None)), "{again:?}");
    }
    // The first one vanished: its lease ends, and the next one leads.
    let Lookup::Stale(_, _, Some(second)) = get(&mut store, at(34), 7, &settings) else { panic!() };
    let fill = Fill::Found(Put::new(71, 1));
    assert_eq!(store.fill(at(35), &7, &second, fill, &settings).stored, Ok(()));
    assert_eq!(found(&get(&mut store, at(65), 7, &settings)), Some(71));
    // The first one comes back after all, with something older.
    let late = store.fill(at(36), &7, &ticket, Fill::Found(Put::new(60, 1)), &settings);
    assert_eq!(late.stored, Err(NotStored::Older));
    assert!(matches!(get(&mut store, at(75), 7, &settings), Lookup::Stale(..)));
    assert!(matches!(get(&mut store, at(76), 7, &settings), Lookup::Miss(_)));
    assert_eq!(store.more_stats(&settings).stale.revalidating, 5);
}

/// Each reason has its own bound, and one that is not set means no.
#[test]
fn what_nobody_ships_has_a_bound_for_each_reason() {
    let settings = settings(|c| {
        c.ttl = secs(10);
        c.stale_if_error = secs(1);
        c.stale_if_breaker_open = secs(2);
        c.stale_if_budget_empty = secs(3);
        c.stale_if_deadline = secs(4);
    });
    let mut store = Store::new(Time::ZERO, 1, &settings);
    fetch(&mut store, at(0), 7, 70, &settings);
    let reasons = [Reason::Error, Reason::BreakerOpen, Reason::BudgetEmpty, Reason::DeadlineDying];
    for (reason, bound) in reasons.into_iter().zip(1..) {
        let (_, label) = store.on_failure(at(10 + bound), &7, reason, &settings).unwrap();
        assert_eq!((label.reason, label.stale), (reason, secs(bound)));
        assert!(store.on_failure(at(11 + bound), &7, reason, &settings).is_none(), "{reason:?}");
    }
    for reason in [Reason::Fresh, Reason::Revalidating, Reason::Asked] {
        assert!(store.on_failure(at(10), &7, reason, &settings).is_none(), "{reason:?}");
    }
    // Looked up meanwhile, it is a miss and stays; past the last bound it goes.
    let _ = get(&mut store, at(14), 7, &settings);
    assert_eq!(store.stats(&settings).cache_size, 1);
    let _ = get(&mut store, at(15), 7, &settings);
    assert_eq!(store.stats(&settings).cache_size, 0);
    let strict = Put { strict: true, ..Put::new(80, 1) };
    assert_eq!(store.insert(at(0), &8, strict, &settings), Ok(()));
    assert!(store.on_failure(at(11), &8, Reason::BreakerOpen, &settings).is_none());
    // By default, never.
    let plain = Settings::default();
    assert_eq!(store.insert(at(0), &9, Put::new(90, 1), &plain), Ok(()));
    for reason in reasons {
        assert!(store.on_failure(at(0), &9, reason, &plain).is_none(), "{reason:?}");
    }
}

fn about(value: u32, scope: &str, tags: &[&str]) -> Put<u32> {
    let tags = tags.iter().map(|tag| Arc::from(*tag)).collect();
    Put { scope: Some(scope.into()), tags, ..Put::new(value, 1) }
}

#[test]
fn case_001_122_invalidation() {
    let settings = Settings::default();
    let mut store = Store::new(Time::ZERO, 1, &settings);
    let all = [("/a", &["x"][..]), ("/a/b", &["x", "y"]), ("/ab", &["y"]), ("/c", &[])];
    let fill = |store: &mut Store<u32, u32>| {
        for (key, (scope, tags)) in (0..).zip(all) {
            assert_eq!(store.insert(at(0), &key, about(key, scope, tags), &settings), Ok(()));
        }
    };
    let left = |store: &Store<u32, u32>| {
        (0..4).filter(|key| store.peek(at(0), key, &settings).is_some()).collect::<Vec<u32>>()
    };
    let cases = [
        (Target::Key(1), vec![0, 2, 3]),
        (Target::Key(9), vec![0, 1, 2, 3]),
        (Target::Tag("x".into()), vec![2, 3]),
        (Target::Tag("z".into()), vec![0, 1, 2, 3]),
        (Target::Path("/a".into()), vec![1, 2, 3]),
        (Target::Prefix("/a/".into()), vec![0, 2, 3]),
        (Target::Prefix("/a".into()), vec![3]),
        (Target::All, vec![]),
    ];
    for (target, expected) in cases {
        fill(&mut store);
        let removed = store.invalidate(target.clone());
        assert_eq!(removed as usize, 4 - expected.len(), "{target:?}");
        assert_eq!(left(&store), expected, "{target:?}");
    }
    // An entry that was stored anew has the marks of the new answer only.
    fill(&mut store);
    assert_eq!(store.insert(at(0), &0, about(0, "/z", &["w"]), &settings), Ok(()));
    assert_eq!(store.invalidate(Target::Path("/a".into())), 0);
    assert_eq!(store.invalidate(Target::Tag("w".into())), 1);
    let many = Put { tags: vec!["t".into(); MOST_TAGS + 1], ..Put::new(0, 1) };
    assert_eq!(store.insert(at(0), &0, many, &settings), Err(NotStored::TooManyTags));
}

/// An answer on its way when its key, tag or path is invalidated is not stored; others are. Those
/// who wait for it ask again.
#[test]
fn what_is_on_its_way_is_invalidated_too() {
    let settings = Settings::default();
    let targets: [(Target<u32>, bool); 6] = [
        (Target::Key(7), true),
        (Target::Tag("x".into()), true),
        (Target::Prefix("/a".into()), true),
        (Target::All, true),
        (Target::Key(8), false),
        (Target::Path("/a".into()), false),
    ];
    for (target, void) in targets {
        let mut store = Store::new(Time::ZERO, 1, &settings);
        let ticket = lead(&mut store, at(0), 7, &settings);
        let Lookup::Miss(Turn::Join(place)) = get(&mut store, at(0), 7, &settings) else {
            panic!()
        };
        store.invalidate(target.clone());
        let fill = Fill::Found(about(70, "/a/b", &["x"]));
        let filled = store.fill(at(1), &7, &ticket, fill, &settings);
        assert_eq!(filled.waiting, 1);
        let expected = if void { Err(NotStored::Invalidated) } else { Ok(()) };
        assert_eq!(filled.stored, expected, "{target:?}");
        let told = if void { Progress::Gone } else { Progress::Stored };
        assert_eq!(store.progress(at(1), &place), told, "{target:?}");
    }
    // So many others since that nobody knows any more: not stored either.
    let mut store = Store::new(Time::ZERO, 1, &settings);
    let ticket = lead(&mut store, at(0), 7, &settings);
    (100..100 + 257).for_each(|key| {
        store.invalidate(Target::Key(key));
    });
    let late = store.fill(at(1), &7, &ticket, Fill::Found(Put::new(0, 1)), &settings);
    assert_eq!(late.stored, Err(NotStored::Invalidated));
}

/// Byte weights: a heavy one pushes as many out as it takes, the newest stays, one that is too
/// heavy is not stored and outdates what was there.
#[test]
fn bytes_are_bounded() {
    let settings = settings(|c| {
        (c.max_bytes, c.max_entry_bytes) = (10_000, 5_000);
        c.eviction = CacheEviction::One;
    });
    let mut store = Store::new(Time::ZERO, 1, &settings);
    for key in 0..10 {
        assert_eq!(store.insert(at(0), &key, Put::new(key, 1_000), &settings), Ok(()));
    }
    assert_eq!(store.more_stats(&settings).bytes, 10_000);
    assert_eq!(store.insert(at(0), &10, Put::new(10, 4_500), &settings), Ok(()));
    assert_eq!(store.more_stats(&settings).bytes, 9_500);
    assert_eq!(
        (0..=10).filter(|key| store.kept(key).is_some()).collect::<Vec<u32>>(),
        [5, 6, 7, 8, 9, 10]
    );
    let heavy = store.insert(at(0), &9, Put::new(9, 5_001), &settings);
    assert_eq!(heavy, Err(NotStored::TooLarge { bytes: 5_001, most: 5_000 }));
    assert!(store.kept(&9).is_none());
    assert_eq!(store.insert(at(0), &8, Put::new(8, 10), &settings), Ok(()));
    assert_eq!(store.more_stats(&settings).bytes, 7_510, "a lighter one in its place");
}

/// one cache expresses them all.
#[test]
fn case_x_03_four_caches() {
    // 000: a single value for five minutes.
    let single = settings(|c| c.max_entries = 1);
    let mut store = Store::new(Time::ZERO, 1, &single);
    fetch(&mut store, at(0), 1, 1, &single);
    fetch(&mut store, at(1), 2, 2, &single);
    assert_eq!(store.stats(&single).cache_size, 1);
    assert_eq!(found(&get(&mut store, at(301), 2, &single)), Some(2));
    // 003: thirty seconds, a hundred, evict one.
    let consul = settings(|c| {
        (c.ttl, c.max_entries, c.eviction) = (secs(30), 100, CacheEviction::One);
    });
    let mut store = Store::new(Time::ZERO, 1, &consul);
    (0..=100).for_each(|key| fetch(&mut store, at(0), key, key, &consul));
    assert_eq!(store.stats(&consul).cache_size, 100);
    assert!(store.kept(&0).is_none() && store.kept(&1).is_some());
    assert!(get(&mut store, at(31), 5, &consul).found().is_none());
    // 004: thirty seconds on two levels; what comes from the second keeps its expiry there.
    let two = settings(|c| (c.ttl, c.shared.enabled) = (secs(30), true));
    assert!(two.is_shared());
    let mut store = Store::new(Time::ZERO, 1, &two);
    let put = Put { ttl: Some(secs(12)), age: secs(18), level: Level::Shared, ..Put::new(5, 1) };
    assert_eq!(store.insert(at(100), &5, put, &two), Ok(()));
    let Lookup::Fresh(5, label) = get(&mut store, at(112), 5, &two) else { panic!() };
    assert_eq!((label.age, label.level), (secs(30), Level::Shared));
    assert!(get(&mut store, at(113), 5, &two).found().is_none());
}

/// What a request wants: no older, fresh for longer, or stale all the same.
#[test]
fn wants_of_a_request() {
    let settings = settings(|c| c.ttl = secs(100));
    let mut store: Store<u32, u32> = Store::new(Time::ZERO, 1, &settings);
    let keep = Put { keep: secs(1_000), age: secs(10), ..Put::new(1, 1) };
    assert_eq!(store.insert(at(0), &1, keep.clone(), &settings), Ok(()));
    let mut ask = |now: u64, wants: Wants| {
        store
            .lookup_if(at(now), &1, at(now), &wants, |_| true, &settings)
            .found()
            .map(|(_, l)| l.reason)
    };
    let any = Wants::ANY;
    assert_eq!(ask(50, Wants { max_age: Some(secs(60)), ..any }), Some(Reason::Fresh));
    assert_eq!(ask(51, Wants { max_age: Some(secs(60)), ..any }), None);
    assert_eq!(ask(90, Wants { min_fresh: secs(10), ..any }), Some(Reason::Fresh));
    assert_eq!(ask(91, Wants { min_fresh: secs(10), ..any }), None);
    assert_eq!(ask(110, Wants { max_stale: Some(secs(10)), ..any }), Some(Reason::Asked));
    assert_eq!(ask(111, Wants { max_stale: Some(secs(10)), ..any }), None);
    assert_eq!(ask(110, any), None);
    // Not one that must be revalidated, and not one that does not fit.
    let strict = Put { strict: true, ..keep };
    assert_eq!(store.insert(at(0), &1, strict, &settings), Ok(()));
    let wants = Wants { max_stale: Some(secs(50)), ..any };
    assert!(store.lookup_if(at(110), &1, at(110), &wants, |_| true, &settings).found().is_none());
    assert!(store.lookup_if(at(1), &1, at(1), &any, |_| false, &settings).found().is_none());
    assert_eq!(store.kept(&1), Some(&1), "kept all the same");
}

/// A scan over keys that are asked for once leaves those alone that are asked for often; least
/// recently used does not.
#[test]
fn a_scan_does_not_empty_the_scan_resistant_one() {
    let survivors = |eviction| {
        let settings = settings(|c| (c.max_entries, c.eviction) = (100, eviction));
        let mut store = Store::new(Time::ZERO, 1, &settings);
        for _ in 0..3 {
            for key in 0..50 {
                if get(&mut store, at(0), key, &settings).found().is_none() {
                    store.insert(at(0), &key, Put::new(key, 1), &settings).unwrap();
                }
            }
        }
        for key in 1_000..3_000 {
            store.insert(at(0), &key, Put::new(key, 1), &settings).unwrap();
            assert!(store.stats(&settings).cache_size <= 100);
        }
        (0..50).filter(|key| store.kept(key).is_some()).count()
    };
    assert_eq!(survivors(CacheEviction::ScanResistant), 50);
    assert_eq!(survivors(CacheEviction::One), 0);
    assert_eq!(survivors(CacheEviction::Batch), 0);
}
