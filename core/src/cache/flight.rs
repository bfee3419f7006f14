//! Equal requests in flight as one.
//!
//! When a popular answer expires, everybody asks for it at once, and the peer pays for all of
//! them. Here the first caller gets a [`Ticket`] and fetches; the others get a [`Join`] and wait.
//! That is Go's `singleflight` with one thing changed: a ticket is a lease. A leader that is
//! dropped, or hangs, holds the others up until its lease ends and no longer; then the first of
//! them that asks again leads. There is one leader of a key at any time.
//!
//! What the leader brought is not handed on here: followers look it up where it was stored, or
//! learn that there is nothing. At most [`MOST`] flights are known at a time; beyond that callers
//! fetch for themselves.

use std::borrow::Borrow;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::index::Index;
use super::slab::Slab;
use crate::time::Time;

/// Most flights at a time.
pub const MOST: u32 = 4_096;

/// Leases that are looked at to make room for a new one.
const RECLAIMED: u32 = 8;

/// The right, and the duty, to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Ticket {
    /// `None`: nobody waits for this one.
    pub(super) flight: Option<Join>,
    pub(super) order: u64,
}

impl Ticket {
    /// When somebody else may take over; `None`: never, nobody waits.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        self.flight.map(|flight| flight.until)
    }
}

/// A place among those who wait for a leader, and the names of the flight they wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Join {
    at: u32,
    id: u64,
    until: Time,
}

impl Join {
    /// When to ask again at the latest: the lease of the leader ends.
    #[must_use]
    pub const fn until(&self) -> Time {
        self.until
    }

    /// Which flight: no two have the same number. To group those who wait, for waking.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }
}

/// Whose turn it is to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub enum Turn {
    /// This caller's.
    Lead(Ticket),
    /// Somebody fetches already: wait, at most until [`Join::until`].
    Join(Join),
}

/// How far a leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// Still fetching; ask again when woken, or at this time.
    Waiting(Time),
    /// It brought an answer: look it up.
    Stored,
    /// It brought none that is stored. Waiting again is no use; each caller decides for itself.
    Failed,
    /// It was not heard of in time, what it brought is outdated, or nothing is known of it any
    /// more: look up again, which may make this caller the leader.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Flight<K> {
    key: K,
    hash: u32,
    id: u64,
    until: Time,
    waiting: u32,
    /// What came of it, once the leader is back; kept for those who wait.
    over: Option<Ended>,
}

/// What a leader came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// An answer, which is where everybody looks.
    Stored,
    /// None that could be of use to others.
    Failed,
    /// One that was outdated before it came: whoever wants it has to ask anew.
    Void,
}

/// Requests in flight, by their key.
///
/// ```
/// use origin_core::Time;
/// use origin_core::cache::flight::Ended;
/// use origin_core::cache::{Flights, Progress, Turn};
///
/// let (now, lease) = (Time::from_millis(0), Time::from_millis(500));
/// let mut flights: Flights<String> = Flights::new(42);
/// let Turn::Lead(ticket) = flights.enter(now, "a", lease) else { panic!() };
/// let Turn::Join(place) = flights.enter(now, "a", lease) else { panic!() };
/// assert_eq!(flights.progress(now, &place), Progress::Waiting(lease));
/// // One has to be woken, and learns that there is an answer.
/// assert_eq!(flights.finish(&ticket, Ended::Stored), 1);
/// assert_eq!(flights.progress(now, &place), Progress::Stored);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flights<K> {
    index: Index,
    slab: Slab<Flight<K>>,
    ids: u64,
    cursor: u32,
}

impl<K: Hash + Eq> Flights<K> {
    /// None in flight. `seed` keeps those who choose keys from choosing collisions.
    #[must_use]
    pub const fn new(seed: u64) -> Flights<K> {
        Flights { index: Index::new(seed), slab: Slab::new(), ids: 0, cursor: 0 }
    }

    /// Somebody wants `key` and would have fetched it by `until`.
    pub fn enter<Q>(&mut self, now: Time, key: &Q, until: Time) -> Turn
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let hash = self.index.hash(key);
        let found = self
            .index
            .find(hash, |at| self.slab.get(at).is_some_and(|flight| flight.key.borrow() == key));
        let id = self.ids.saturating_add(1);
        if let Some(at) = found
            && let Some(flight) = self.slab.get_mut(at)
        {
            if flight.over.is_none() && now < flight.until {
                flight.waiting = flight.waiting.saturating_add(1);
                return Turn::Join(Join { at, id: flight.id, until: flight.until });
            }
            // Those who waited for the one before see another number, and ask again.
            (flight.id, flight.until, flight.waiting, flight.over) = (id, until, 0, None);
            self.ids = id;
            return Turn::Lead(Ticket { flight: Some(Join { at, id, until }), order: 0 });
        }
        if self.slab.count() >= MOST {
            self.reclaim(now, RECLAIMED);
        }
        if self.slab.count() >= MOST {
            return Turn::Lead(Ticket { flight: None, order: 0 });
        }
        self.ids = id;
        let key = key.to_owned();
        let at = self.slab.insert(0, Flight { key, hash, id, until, waiting: 0, over: None });
        self.index.insert(hash, at);
        Turn::Lead(Ticket { flight: Some(Join { at, id, until }), order: 0 })
    }

    /// The leader is back, with an answer or without. Returns how many have to be woken; of a
    /// leader whose lease was taken over, nobody waits.
    pub fn finish(&mut self, ticket: &Ticket, ended: Ended) -> u32 {
        let Some(Join { at, id, .. }) = ticket.flight else { return 0 };
        match self.slab.get_mut(at) {
            Some(flight) if flight.id == id && flight.over.is_none() => {
                flight.over = Some(ended);
                let waiting = flight.waiting;
                if waiting == 0 {
                    self.remove(at);
                }
                waiting
            }
            _ => 0,
        }
    }

    /// How far the leader is that `place` waits for. Anything but [`Progress::Waiting`] gives
    /// the place up.
    pub fn progress(&mut self, now: Time, place: &Join) -> Progress {
        match self.slab.get(place.at) {
            Some(flight) if flight.id == place.id => match flight.over {
                None if now < flight.until => Progress::Waiting(flight.until),
                ended => {
                    self.leave(place);
                    match ended {
                        Some(Ended::Stored) => Progress::Stored,
                        Some(Ended::Failed) => Progress::Failed,
                        Some(Ended::Void) | None => Progress::Gone,
                    }
                }
            },
            _ => Progress::Gone,
        }
    }

    /// One who waited does not any more: its call was dropped or ran out of time.
    pub fn leave(&mut self, place: &Join) {
        if let Some(flight) = self.slab.get_mut(place.at)
            && flight.id == place.id
        {
            flight.waiting = flight.waiting.saturating_sub(1);
            if flight.waiting == 0 && flight.over.is_some() {
                self.remove(place.at);
            }
        }
    }

    /// How many are known: in flight, or back with somebody who has not heard of it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.slab.count()
    }

    /// Looks at `most` places and forgets flights whose lease has ended.
    pub(super) fn reclaim(&mut self, now: Time, most: u32) {
        for _ in 0..most.min(self.slab.places()) {
            self.cursor = if self.cursor + 1 < self.slab.places() { self.cursor + 1 } else { 0 };
            let over = |flight: &Flight<K>| now >= flight.until;
            if self.slab.get(self.cursor).is_some_and(over) {
                self.remove(self.cursor);
            }
        }
    }

    fn remove(&mut self, at: u32) {
        if let Some(flight) = self.slab.remove(at) {
            self.index.remove(flight.hash, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_millis(10);

    proptest! {
        /// One leader of a key at a time, whatever happens; whoever waits is told, or its wait
        /// ends with the lease.
        #[test]
        fn one_leader_at_a_time(ops in proptest::collection::vec((0_u8..6, 0_u32..3, 0_usize..8), 0..200)) {
            let mut flights: Flights<u32> = Flights::new(7);
            let mut now = Time::ZERO;
            let mut leaders: BTreeMap<u32, Ticket> = BTreeMap::new();
            let mut waiting: Vec<(u32, Join, Option<Ended>)> = vec![];
            for (op, key, which) in ops {
                let live = |leaders: &BTreeMap<u32, Ticket>, now| {
                    leaders.get(&key).filter(|ticket| ticket.until().is_some_and(|until| now < until)).copied()
                };
                match op {
                    0 | 1 => match flights.enter(now, &key, now.plus(LEASE)) {
                        Turn::Lead(ticket) => {
                            prop_assert_eq!(live(&leaders, now), None, "two leaders");
                            leaders.insert(key, ticket);
                        }
                        Turn::Join(place) => {
                            let leader = live(&leaders, now).unwrap();
                            prop_assert_eq!(leader.until(), Some(place.until()));
                            waiting.push((key, place, None));
                        }
                    },
                    2 => if let Some(ticket) = leaders.remove(&key) {
                        let answered = [Ended::Stored, Ended::Failed, Ended::Void][which % 3];
                        let woken = flights.finish(&ticket, answered);
                        let id = ticket.flight.unwrap().id;
                        let mut told = 0;
                        for (_, place, over) in &mut waiting {
                            if place.id() == id {
                                *over = Some(answered);
                                told += 1;
                            }
                        }
                        prop_assert_eq!(woken, told);
                        prop_assert_eq!(flights.finish(&ticket, answered), 0, "only once");
                    },
                    3 => now = now.plus(Duration::from_millis(3)),
                    4 => if !waiting.is_empty() {
                        let (key, place, over) = waiting.remove(which % waiting.len());
                        match (flights.progress(now, &place), over) {
                            (Progress::Stored, Some(Ended::Stored)) | (Progress::Failed, Some(Ended::Failed)) => {}
                            // Another flight of the key has begun since, or the lease is over.
                            (Progress::Gone, Some(_)) => {}
                            (Progress::Gone, None) => prop_assert!(now >= place.until()),
                            (Progress::Waiting(until), None) => {
                                prop_assert!(now < until && until == place.until());
                                waiting.push((key, place, over));
                            }
                            other => prop_assert!(false, "{:?}", other),
                        }
                    },
                    _ => if !waiting.is_empty() {
                        let (_, place, _) = waiting.remove(which % waiting.len());
                        flights.leave(&place);
                    },
                }
                prop_assert!(flights.count() <= 3);
            }
            for (_, place, _) in waiting {
                let _ = flights.progress(Time::NEVER, &place);
            }
            flights.reclaim(Time::NEVER, u32::MAX);
            prop_assert_eq!(flights.count(), 0, "nothing leaks");
        }
    }

    /// A leader that vanished costs its lease; those who come when there are too many fetch for
    /// themselves; hostile times do nothing worse.
    #[test]
    fn bounded() {
        let mut flights: Flights<u32> = Flights::new(0);
        for key in 0..MOST {
            let Turn::Lead(ticket) = flights.enter(Time::ZERO, &key, Time::from_millis(1)) else {
                panic!()
            };
            assert!(ticket.until().is_some());
        }
        let Turn::Lead(alone) = flights.enter(Time::ZERO, &MOST, Time::NEVER) else { panic!() };
        assert_eq!(alone.until(), None);
        assert_eq!(flights.finish(&alone, Ended::Stored), 0);
        let Turn::Lead(again) = flights.enter(Time::from_millis(1), &MOST, Time::ZERO) else {
            panic!()
        };
        assert_eq!(again.until(), Some(Time::ZERO), "lapsed ones made room");
        // A lease in the past excludes nobody.
        assert!(matches!(flights.enter(Time::from_millis(1), &MOST, Time::NEVER), Turn::Lead(_)));
        assert!(matches!(flights.enter(Time::NEVER, &MOST, Time::NEVER), Turn::Lead(_)));
    }
}
