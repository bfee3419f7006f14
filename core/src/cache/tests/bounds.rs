//! Nothing is ever served beyond its bounds, and no input does harm.

use proptest::prelude::*;

use super::*;

fn span() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of((0_u64..50).prop_map(Duration::from_secs))
}

proptest! {
    /// For one entry with any windows, at any time, asked in any way: served if and only if the
    /// RFC's and the settings' arithmetic says so, and labelled with the right age.
    #[test]
    fn never_beyond_bounds(
        ttl in span(), revalidate in span(), on_error in span(), age in 0_u64..20, keep in 0_u64..30,
        strict: bool, set in proptest::array::uniform5(0_u64..40), now in 0_u64..150, reason in 0_usize..5,
    ) {
        let settings = settings(|c| {
            c.ttl = secs(20);
            c.stale_while_revalidate = secs(set[0]);
            c.stale_if_error = secs(set[1]);
            c.stale_if_breaker_open = secs(set[2]);
            c.stale_if_budget_empty = secs(set[3]);
            c.stale_if_deadline = secs(set[4]);
        });
        let mut store: Store<u32, u32> = Store::new(Time::ZERO, 1, &settings);
        let put = Put { ttl, revalidate, on_error, age: secs(age), keep: secs(keep), strict, ..Put::new(1, 1) };
        let stored = store.insert(Time::ZERO, &1, put, &settings).is_ok();
        // The arithmetic, once more and by itself.
        let fresh = ttl.map_or(20, |ttl| ttl.as_secs());
        let own = |own: Option<Duration>, set: u64| if strict { 0 } else { own.map_or(set, |own| own.as_secs()) };
        let bounds = [own(revalidate, set[0]), own(on_error, set[1]), own(None, set[2]), own(None, set[3]), own(None, set[4])];
        let stale = now.saturating_sub(fresh);
        let is_fresh = fresh > 0 && now <= fresh;
        let longest = bounds.into_iter().max().unwrap().max(keep);
        prop_assert_eq!(stored, fresh > 0 || longest > 0);
        let may = |bound: u64| stored && (is_fresh || stale <= bound) && bound > 0;
        let reasons = [Reason::Revalidating, Reason::Error, Reason::BreakerOpen, Reason::BudgetEmpty, Reason::DeadlineDying];
        if reason > 0 {
            let instead = store.on_failure(at(now), &1, reasons[reason], &settings).map(|(_, label)| label);
            prop_assert_eq!(instead.is_some(), may(bounds[reason]));
            if let Some(label) = instead {
                prop_assert_eq!((label.age, label.stale), (secs(now + age), secs(if is_fresh { 0 } else { stale })));
            }
        }
        let label = get(&mut store, at(now), 1, &settings).found().map(|(_, label)| label);
        let expected = if stored && is_fresh {
            Some(Reason::Fresh)
        } else if may(bounds[0]) {
            Some(Reason::Revalidating)
        } else {
            None
        };
        prop_assert_eq!(label.map(|label| label.reason), expected);
        prop_assert_eq!(store.peek(at(now), &1, &settings).is_some(), stored && is_fresh);
        // Dead on read is removed, and only then.
        let dead = !is_fresh && (stale > longest || longest == 0);
        prop_assert_eq!(store.kept(&1).is_some(), stored && !dead);
        // Swept at another time is the same judgement.
        let mut swept: Store<u32, u32> = Store::new(Time::ZERO, 1, &settings);
        let put = Put { ttl, revalidate, on_error, keep: secs(keep), strict, ..Put::new(1, 1) };
        let _ = swept.insert(Time::ZERO, &1, put, &settings);
        let _ = swept.sweep(at(now), 10, &settings);
        prop_assert_eq!(swept.kept(&1).is_some(), stored && !dead);
    }

    /// Clocks that stand still, jump or go back, and spans without end.
    #[test]
    fn no_time_does_harm(
        times in proptest::collection::vec((0_u8..5, any::<u64>(), 0_u32..4), 0..100),
        huge: bool,
    ) {
        let settings = settings(|c| {
            c.stale_while_revalidate = secs(60);
            c.stale_if_error = secs(60);
            c.negative_ttl = secs(1);
            c.max_entries = 2;
        });
        let mut store: Store<u32, u32> = Store::new(Time::NEVER, u64::MAX, &settings);
        let span = if huge { Some(Duration::MAX) } else { None };
        for (op, nanos, key) in times {
            let now = Time::from_nanos(if op == 4 { u64::MAX } else { nanos });
            match op {
                0 => { let _ = get(&mut store, now, key, &settings); }
                1 => {
                    let put = Put {
                        ttl: span, revalidate: span, on_error: span,
                        age: Duration::MAX, keep: Duration::MAX, ..Put::new(key, u32::MAX)
                    };
                    let _ = store.insert(now, &key, put, &settings);
                    let put = Put { ttl: span, age: Duration::MAX, ..Put::new(key, 0) };
                    let _ = store.insert(now, &key, put, &settings);
                }
                2 => { let _ = store.on_failure(now, &key, Reason::Error, &settings); }
                3 => { let _ = store.sweep(now, u32::MAX, &settings); }
                _ => {
                    let ticket = store.skip();
                    let _ = store.fill(now, &key, &ticket, Fill::Absent(Put::new(0, 0)), &settings);
                    store.retune(now, &settings);
                }
            }
            prop_assert!(store.stats(&settings).cache_size <= 2);
        }
    }
}
