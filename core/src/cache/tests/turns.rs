//! Equal requests in flight, as the store handles them.

use proptest::prelude::*;

use super::*;

#[test]
fn the_others_wait_and_find_it() {
    let settings = settings(|c| c.lease = secs(5));
    let mut store = Store::new(Time::ZERO, 1, &settings);
    let ticket = lead(&mut store, at(0), 7, &settings);
    assert_eq!(ticket.until(), Some(at(5)));
    let mut places = vec![];
    for _ in 0..3 {
        let Lookup::Miss(Turn::Join(place)) = get(&mut store, at(1), 7, &settings) else {
            panic!()
        };
        places.push(place);
    }
    assert_eq!(store.progress(at(4), &places[0]), Progress::Waiting(at(5)));
    let filled = store.fill(at(4), &7, &ticket, Fill::Found(Put::new(70, 1)), &settings);
    assert_eq!((filled.stored, filled.waiting), (Ok(()), 3));
    for place in &places {
        assert_eq!(store.progress(at(4), place), Progress::Stored);
        assert_eq!(store.peek(at(4), &7, &settings).map(|(value, _)| *value), Some(70));
    }
    let stats = store.stats(&settings);
    assert_eq!((stats.cache_hits, stats.cache_misses), (0, 4));
    let more = store.more_stats(&settings);
    assert_eq!((more.coalesced, more.in_flight), (3, 0));
}

/// An error is told to those who wait, so that they do not fail one after the other.
#[test]
fn an_error_is_told() {
    let settings = Settings::default();
    let mut store: Store<u32, u32> = Store::new(Time::ZERO, 1, &settings);
    let ticket = lead(&mut store, at(0), 7, &settings);
    let Lookup::Miss(Turn::Join(place)) = get(&mut store, at(0), 7, &settings) else { panic!() };
    assert_eq!(store.fill(at(1), &7, &ticket, Fill::Failed, &settings).waiting, 1);
    assert_eq!(store.progress(at(1), &place), Progress::Failed);
    let _ = lead(&mut store, at(1), 7, &settings);
}

/// A leader whose deadline is near leases no longer than that; one that is dropped hands over.
#[test]
fn a_lease_ends_with_the_deadline() {
    let settings = Settings::default();
    let mut store: Store<u32, u32> = Store::new(Time::ZERO, 1, &settings);
    let Lookup::Miss(Turn::Lead(ticket)) = store.lookup(at(0), &7, at(2), &settings) else {
        panic!()
    };
    assert_eq!(ticket.until(), Some(at(2)));
    let Lookup::Miss(Turn::Join(place)) = store.lookup(at(1), &7, at(9), &settings) else {
        panic!()
    };
    assert_eq!(place.until(), at(2));
    assert_eq!(store.progress(at(2), &place), Progress::Gone);
    let next = lead(&mut store, at(2), 7, &settings);
    // The first one comes back: what it brings is of use, but the flight is not over.
    let filled = store.fill(at(3), &7, &ticket, Fill::Found(Put::new(70, 1)), &settings);
    assert_eq!((filled.stored, filled.waiting), (Ok(()), 0));
    assert_eq!(store.more_stats(&settings).in_flight, 1);
    let filled = store.fill(at(4), &7, &next, Fill::Found(Put::new(71, 1)), &settings);
    assert_eq!(filled.stored, Ok(()));
    assert_eq!(store.kept(&7), Some(&71));
}

proptest! {
    /// Never an older answer after a newer one, in whatever order fetches end.
    #[test]
    fn no_older_answer_after_a_newer(ops in proptest::collection::vec((0_u8..5, 0_usize..6), 0..80)) {
        let settings = settings(|c| c.coalesce = false);
        let mut store: Store<u32, u64> = Store::new(Time::ZERO, 1, &settings);
        let mut out: Vec<Ticket> = vec![];
        // What the peer says grows with every request; what was asked before an invalidation is
        // void after it.
        let (mut newest, mut least) = (0, 0);
        for (op, which) in ops {
            match op {
                0 | 1 => out.push(store.skip()),
                2 | 3 if !out.is_empty() => {
                    let ticket = out.remove(which % out.len());
                    let said = ticket.order;
                    let stored = store.fill(Time::ZERO, &1, &ticket, Fill::Found(Put::new(said, 1)), &settings).stored;
                    let expected = if said < least {
                        Err(NotStored::Invalidated)
                    } else if said < newest {
                        Err(NotStored::Older)
                    } else {
                        newest = said;
                        Ok(())
                    };
                    // Both may be true of it.
                    prop_assert_eq!(stored.is_ok(), expected.is_ok());
                }
                4 => {
                    store.invalidate(Target::Key(1));
                    least = store.order;
                    newest = 0;
                }
                _ => {}
            }
            if let Some(value) = store.kept(&1) {
                prop_assert!(*value == newest && *value > least);
            }
        }
    }
}
