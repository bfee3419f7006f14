//! The store: looking up, storing, and what may be served when a call fails. What leaves and when
//! is in `evict`, `invalidate` and `upkeep`.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, MOST_TAGS, State};
use super::evict::{Ghosts, list_for};
use super::flight::{Ended, Flights, Join, Progress, Ticket, Turn};
use super::index::Index;
use super::invalidate::{Places, Recent};
use super::slab::Slab;
use super::stats::Counters;
use super::{Fill, Filled, Label, Lookup, NotStored, Put, Reason, Settings, Wants};
use crate::time::{Time, nanos};

/// A cache of `V` by `K`.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::cache::{Fill, Lookup, Put, Reason, Settings, Store, Turn};
/// use origin_core::config::CacheConfig;
///
/// let config = CacheConfig {
///     ttl: Duration::from_secs(30),
///     stale_if_breaker_open: Duration::from_secs(600),
///     ..CacheConfig::default()
/// };
/// let settings = Settings::of(&config, "cache").unwrap();
/// let mut store: Store<String, &str> = Store::new(Time::ZERO, 42, &settings);
/// let deadline = Time::from_millis(1_000);
/// // Nothing there: this caller fetches, and brings what it found.
/// let Lookup::Miss(Turn::Lead(ticket)) = store.lookup(Time::ZERO, "key", deadline, &settings)
///     else { panic!() };
/// let filled = store.fill(Time::ZERO, "key", &ticket, Fill::Found(Put::new("answer", 6)), &settings);
/// assert!(filled.stored.is_ok());
/// let Lookup::Fresh(answer, _) = store.lookup(Time::ZERO, "key", deadline, &settings)
///     else { panic!() };
/// assert_eq!(*answer, "answer");
/// // A minute later it is stale, and the breaker is open.
/// let later = Time::from_millis(60_000);
/// assert!(store.lookup(later, "key", Time::NEVER, &settings).found().is_none());
/// let (answer, label) = store.on_failure(later, "key", Reason::BreakerOpen, &settings).unwrap();
/// assert_eq!(*answer, "answer");
/// let text = "from the cache, 1m old, stale for 30s, used because the breaker is open";
/// assert_eq!(label.to_string(), text);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Store<K, V> {
    pub(super) index: Index,
    pub(super) slab: Slab<Entry<K, V>>,
    pub(super) ghosts: Ghosts,
    pub(super) places: Places,
    pub(super) recent: Recent<K>,
    pub(super) flights: Flights<K>,
    pub(super) bytes: u64,
    /// Counts requests and invalidations, to know what came after what.
    pub(super) order: u64,
    pub(super) counters: Counters,
    pub(super) next_cleanup: Time,
    pub(super) cursor: u32,
    /// Whether a sweep is under way.
    pub(super) sweeping: bool,
}

impl<K: Hash + Eq, V> Store<K, V> {
    /// An empty one. `seed` keeps those who choose keys from choosing collisions; it changes
    /// nothing else.
    #[must_use]
    pub fn new(now: Time, seed: u64, settings: &Settings) -> Store<K, V> {
        Store {
            index: Index::new(seed),
            slab: Slab::new(),
            ghosts: Ghosts::default(),
            places: Places::default(),
            recent: Recent::default(),
            flights: Flights::new(seed),
            bytes: 0,
            order: 0,
            counters: Counters::default(),
            next_cleanup: super::upkeep::next(now, settings),
            cursor: 0,
            sweeping: false,
        }
    }

    /// What is there for `key`. `until`: when this caller gives up, should it be the one that
    /// fetches. Allocates nothing unless it has to note that somebody fetches.
    #[inline]
    pub fn lookup<Q>(
        &mut self,
        now: Time,
        key: &Q,
        until: Time,
        settings: &Settings,
    ) -> Lookup<'_, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.lookup_if(now, key, until, &Wants::ANY, |_| true, settings)
    }

    /// The same for a request that wants more, or that fits only some answers of its key (HTTP:
    /// `Vary`).
    #[inline]
    pub fn lookup_if<Q>(
        &mut self,
        now: Time,
        key: &Q,
        until: Time,
        wants: &Wants,
        fits: impl FnOnce(&V) -> bool,
        settings: &Settings,
    ) -> Lookup<'_, V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if !settings.enabled {
            return Lookup::Miss(Turn::Lead(self.skip()));
        }
        let Some(at) = self.find(key) else {
            return Lookup::Miss(self.miss(now, key, until, settings));
        };
        let looked =
            self.slab.get(at).map(|entry| (entry.state(now, settings), fits(&entry.value)));
        let reason = match looked {
            Some((state, true)) if state.suits(wants) => Some((state, Reason::Fresh, None)),
            Some((state, fit)) => {
                self.not_fresh(now, at, state, fit, (key, until, wants), settings)
            }
            None => None,
        };
        let Some((state, reason, ticket)) = reason else {
            return Lookup::Miss(self.miss(now, key, until, settings));
        };
        self.touch(at, settings);
        self.counters.hit(reason);
        match self.slab.get(at) {
            Some(entry) => {
                let label = entry.label(state, reason);
                self.counters.negative += u64::from(label.negative);
                match reason {
                    Reason::Fresh => Lookup::Fresh(&entry.value, label),
                    _ => Lookup::Stale(&entry.value, label, ticket),
                }
            }
            // Cannot be: it was there.
            None => Lookup::Miss(Turn::Lead(Ticket { flight: None, order: self.order })),
        }
    }

    #[inline]
    pub(super) fn find<Q>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.index.find(self.index.hash(key), |at| {
            self.slab.get(at).is_some_and(|entry| entry.key.borrow() == key)
        })
    }

    /// There is one, but it is not fresh, or not fresh enough, or does not fit. Whether it may be
    /// used all the same, and whether this caller has it fetched anew.
    #[cold]
    fn not_fresh<Q>(
        &mut self,
        now: Time,
        at: u32,
        state: State,
        fit: bool,
        (key, until, wants): (&Q, Time, &Wants),
        settings: &Settings,
    ) -> Option<(State, Reason, Option<Ticket>)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let stale = state.stale?;
        let entry = self.slab.get(at)?;
        if entry.is_dead(stale, settings) {
            self.drop_entry(at);
            self.counters.expired += 1;
            return None;
        }
        if !fit || !state.young(wants) {
            return None;
        }
        let asked = wants.max_stale.is_some_and(|most| stale <= nanos(most));
        if asked && !entry.is_strict() {
            return Some((state, Reason::Asked, None));
        }
        if !wants.min_fresh.is_zero() || !entry.allows(Reason::Revalidating, stale, settings) {
            return None;
        }
        let ticket = match self.flights.enter(now, key, self.lease(now, until, settings)) {
            // Too many in flight to know whether somebody revalidates this one: not now.
            Turn::Lead(Ticket { flight: None, .. }) => None,
            Turn::Lead(ticket) => Some(self.ordered(ticket)),
            Turn::Join(place) => {
                self.flights.leave(&place);
                None
            }
        };
        Some((state, Reason::Revalidating, ticket))
    }

    #[cold]
    fn miss<Q>(&mut self, now: Time, key: &Q, until: Time, settings: &Settings) -> Turn
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        self.counters.misses += 1;
        if !settings.coalesce {
            return Turn::Lead(self.skip());
        }
        match self.flights.enter(now, key, self.lease(now, until, settings)) {
            Turn::Lead(ticket) => Turn::Lead(self.ordered(ticket)),
            Turn::Join(place) => {
                self.counters.coalesced += 1;
                Turn::Join(place)
            }
        }
    }

    fn lease(&self, now: Time, until: Time, settings: &Settings) -> Time {
        until.min(now.plus(Duration::from_nanos(settings.lease)))
    }

    fn ordered(&mut self, ticket: Ticket) -> Ticket {
        self.order = self.order.saturating_add(1);
        Ticket { order: self.order, ..ticket }
    }

    /// For a caller that does not want a cached answer (`use_cache = false`): nothing is looked
    /// up or counted, but what it brings is stored. Nobody waits for it.
    pub fn skip(&mut self) -> Ticket {
        self.ordered(Ticket { flight: None, order: 0 })
    }

    /// What a fetch brought. Those who wait have to be woken.
    pub fn fill<Q>(
        &mut self,
        now: Time,
        key: &Q,
        ticket: &Ticket,
        fill: Fill<V>,
        settings: &Settings,
    ) -> Filled
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let stored = self.take(now, key, ticket.order, fill, settings);
        let ended = match stored {
            Ok(()) | Err(NotStored::Older) => Ended::Stored,
            Err(NotStored::Invalidated) => Ended::Void,
            Err(_) => Ended::Failed,
        };
        Filled { stored, waiting: self.flights.finish(ticket, ended) }
    }

    /// Stores an answer that nobody was asked for: warming.
    ///
    /// # Errors
    /// Why it was not stored.
    pub fn insert<Q>(
        &mut self,
        now: Time,
        key: &Q,
        put: Put<V>,
        settings: &Settings,
    ) -> Result<(), NotStored>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let ticket = self.skip();
        self.take(now, key, ticket.order, Fill::Found(put), settings)
    }

    fn take<Q>(
        &mut self,
        now: Time,
        key: &Q,
        order: u64,
        fill: Fill<V>,
        settings: &Settings,
    ) -> Result<(), NotStored>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if !settings.enabled {
            return Err(NotStored::Off);
        }
        let (put, negative) = match fill {
            Fill::Failed => return Err(NotStored::Failed),
            Fill::Found(put) => (Some(put), false),
            Fill::Absent(put) => (Some(put), true),
            Fill::Unstorable => (None, false),
        };
        let found = self.find(key);
        if found.and_then(|at| self.slab.get(at)).is_some_and(|entry| entry.order > order) {
            return Err(NotStored::Older);
        }
        let stored = match put {
            None => Err(NotStored::Unstorable),
            Some(put) => self.put(now, found, key, put, negative, order, settings),
        };
        if let (Err(_), Some(at)) = (stored, found) {
            // The peer has said something else since.
            self.drop_entry(at);
        }
        stored
    }

    #[allow(clippy::too_many_arguments)] // the one place where all of it comes together
    fn put<Q>(
        &mut self,
        now: Time,
        found: Option<u32>,
        key: &Q,
        put: Put<V>,
        negative: bool,
        order: u64,
        settings: &Settings,
    ) -> Result<(), NotStored>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let (bytes, most) = (u64::from(put.weight), settings.max_entry);
        if negative && put.ttl.is_none_or(|ttl| ttl.is_zero()) && settings.negative_ttl == 0 {
            return Err(NotStored::Negative);
        }
        if bytes > most {
            return Err(NotStored::TooLarge { bytes, most });
        }
        if put.tags.len() > MOST_TAGS {
            return Err(NotStored::TooManyTags);
        }
        if self.recent.voids(order, key, put.scope.as_deref(), &put.tags) {
            return Err(NotStored::Invalidated);
        }
        let hash = self.index.hash(key);
        let entry = Entry::new(now, key.to_owned(), hash, put, negative, order, settings);
        if entry.state(now, settings).stale.is_some_and(|stale| entry.is_dead(stale, settings)) {
            return Err(NotStored::NeverFresh);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let at = match found.and_then(|at| Some((at, self.slab.get_mut(at)?))) {
            Some((at, old)) => {
                // In its place, so that a popular one stays popular.
                let old = std::mem::replace(old, entry);
                self.bytes = self.bytes.saturating_sub(u64::from(old.weight));
                self.places.remove(at, old.marks.as_deref());
                self.touch(at, settings);
                at
            }
            None => {
                let list = list_for(hash, &self.ghosts, settings);
                let at = self.slab.insert(list, entry);
                self.index.insert(hash, at);
                at
            }
        };
        self.counters.stored += 1;
        self.places.insert(at, self.slab.get(at).and_then(|entry| entry.marks.as_deref()));
        self.make_room(at, settings);
        Ok(())
    }

    /// Takes an entry out, everywhere.
    pub(super) fn drop_entry(&mut self, at: u32) {
        if let Some(entry) = self.slab.remove(at) {
            self.index.remove(entry.hash, at);
            self.bytes = self.bytes.saturating_sub(u64::from(entry.weight));
            self.places.remove(at, entry.marks.as_deref());
        }
    }

    /// The call failed, or would: is there an answer that may be used instead? Only within the
    /// bound that is set for this reason, and never one that must be revalidated.
    pub fn on_failure<Q>(
        &mut self,
        now: Time,
        key: &Q,
        reason: Reason,
        settings: &Settings,
    ) -> Option<(&V, Label)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.on_failure_if(now, key, reason, |_| true, settings)
    }

    /// The same for a request that fits only some answers of its key.
    pub fn on_failure_if<Q>(
        &mut self,
        now: Time,
        key: &Q,
        reason: Reason,
        fits: impl FnOnce(&V) -> bool,
        settings: &Settings,
    ) -> Option<(&V, Label)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = self.find(key).filter(|_| settings.enabled)?;
        let entry = self.slab.get(at)?;
        let state = entry.state(now, settings);
        // One that is fresh still was passed over on purpose; it helps on the same conditions.
        if !entry.allows(reason, state.stale.unwrap_or(0), settings) || !fits(&entry.value) {
            return None;
        }
        self.counters.instead(reason);
        self.touch(at, settings);
        let entry = self.slab.get(at)?;
        Some((&entry.value, entry.label(state, reason)))
    }

    /// A fresh answer, without counting and without counting as a use: for those who waited.
    #[must_use]
    pub fn peek<Q>(&self, now: Time, key: &Q, settings: &Settings) -> Option<(&V, Label)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.slab.get(self.find(key).filter(|_| settings.enabled)?)?;
        let state = entry.state(now, settings);
        state.stale.is_none().then(|| (&entry.value, entry.label(state, Reason::Fresh)))
    }

    /// Whatever is kept for `key`, however old: to ask the peer whether it still holds. Not to
    /// be served.
    #[must_use]
    pub fn kept<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.slab.get(self.find(key)?).map(|entry| &entry.value)
    }

    /// How far the one is that `place` waits for. See [`Flights::progress`].
    pub fn progress(&mut self, now: Time, place: &Join) -> Progress {
        self.flights.progress(now, place)
    }

    /// One who waited does not any more.
    pub fn leave(&mut self, place: &Join) {
        self.flights.leave(place);
    }
}

impl<K, V> fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No keys and no values: either may hold what is nobody's business.
        let (entries, bytes) = (self.slab.count(), self.bytes);
        f.debug_struct("Store").field("entries", &entries).field("bytes", &bytes).finish()
    }
}
