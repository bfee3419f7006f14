//! One entry: when it is fresh, when stale, when dead.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Label, Level, Reason, Settings, Wants};
use crate::time::{Time, nanos};

/// Stands for "what the settings say", which may change while the entry lives.
const AS_SET: u64 = u64::MAX;

/// Most tags of an entry.
pub const MOST_TAGS: usize = 16;

/// An answer to be stored, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Put<V> {
    /// The answer.
    pub value: V,
    /// Its weight in bytes, for `max_bytes`.
    pub weight: u32,
    /// How long it is fresh from now on. `None`: `ttl`, or `negative_ttl`.
    pub ttl: Option<Duration>,
    /// Its age already. Default zero.
    pub age: Duration,
    /// Its own `stale-while-revalidate`. `None`: as set.
    pub revalidate: Option<Duration>,
    /// Its own `stale-if-error`. `None`: as set.
    pub on_error: Option<Duration>,
    /// How long past its freshness it is kept to be asked about ([`Store::kept`]), not served.
    ///
    /// [`Store::kept`]: super::Store::kept
    pub keep: Duration,
    /// It must never be served stale, for whatever reason (`must-revalidate`).
    pub strict: bool,
    /// What it is about, a path: for invalidation by path and prefix.
    pub scope: Option<Arc<str>>,
    /// Its tags, at most [`MOST_TAGS`]; with more it is not stored, because an entry that a tag
    /// does not reach is worse than none.
    pub tags: Vec<Arc<str>>,
    /// Where it comes from.
    pub level: Level,
}

impl<V> Put<V> {
    /// An answer of which the settings say the rest.
    pub const fn new(value: V, weight: u32) -> Put<V> {
        Put {
            value,
            weight,
            ttl: None,
            age: Duration::ZERO,
            revalidate: None,
            on_error: None,
            keep: Duration::ZERO,
            strict: false,
            scope: None,
            tags: Vec::new(),
            level: Level::Local,
        }
    }
}

impl Put<()> {
    /// The same with a value.
    pub(super) fn with<V>(self, value: V) -> Put<V> {
        let Put {
            value: (),
            weight,
            ttl,
            age,
            revalidate,
            on_error,
            keep,
            strict,
            scope,
            tags,
            level,
        } = self;
        Put { value, weight, ttl, age, revalidate, on_error, keep, strict, scope, tags, level }
    }
}

/// What invalidation finds an entry by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Marks {
    pub(super) scope: Option<Arc<str>>,
    pub(super) tags: Vec<Arc<str>>,
}

/// A stored answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Entry<K, V> {
    pub(super) key: K,
    pub(super) value: V,
    stored: Time,
    /// Age when it was stored.
    past: u64,
    fresh_for: u64,
    /// These two: or as set.
    revalidate: u64,
    on_error: u64,
    keep: u64,
    /// The request that brought it, in the order of the store.
    pub(super) order: u64,
    pub(super) marks: Option<Box<Marks>>,
    pub(super) hash: u32,
    pub(super) weight: u32,
    level: Level,
    pub(super) negative: bool,
    strict: bool,
    /// `fresh_for` is the default, so that a shorter default shortens it.
    by_default: bool,
    /// Uses since it came or was last looked at, at most 3; for `scan_resistant`.
    pub(super) uses: u8,
}

/// What an entry is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) age: u64,
    /// `None` when fresh.
    pub(super) stale: Option<u64>,
    /// What remains of its freshness.
    left: u64,
}

impl State {
    /// Fresh enough for `wants`.
    #[inline]
    pub(super) fn suits(self, wants: &Wants) -> bool {
        self.stale.is_none()
            && self.young(wants)
            && (wants.min_fresh.is_zero() || self.left >= nanos(wants.min_fresh))
    }

    #[inline]
    pub(super) fn young(self, wants: &Wants) -> bool {
        wants.max_age.is_none_or(|most| self.age <= nanos(most))
    }
}

impl<K, V> Entry<K, V> {
    pub(super) fn new(
        now: Time,
        key: K,
        hash: u32,
        put: Put<V>,
        negative: bool,
        order: u64,
        settings: &Settings,
    ) -> Entry<K, V> {
        let default = if negative { settings.negative_ttl } else { settings.ttl };
        let or_as_set =
            |span: Option<Duration>| span.map_or(AS_SET, |span| nanos(span).min(AS_SET - 1));
        let marks = (put.scope.is_some() || !put.tags.is_empty())
            .then(|| Box::new(Marks { scope: put.scope, tags: put.tags }));
        Entry {
            key,
            value: put.value,
            stored: now,
            past: nanos(put.age),
            fresh_for: put.ttl.map_or(default, nanos),
            revalidate: or_as_set(put.revalidate),
            on_error: or_as_set(put.on_error),
            keep: nanos(put.keep),
            order,
            marks,
            hash,
            weight: put.weight,
            level: put.level,
            negative,
            // "There is none" is never better than asking again.
            strict: put.strict || negative,
            by_default: put.ttl.is_none() && !negative,
            uses: 0,
        }
    }

    #[inline]
    pub(super) fn state(&self, now: Time, settings: &Settings) -> State {
        let lived = now.as_nanos().saturating_sub(self.stored.as_nanos());
        let fresh_for =
            if self.by_default { self.fresh_for.min(settings.ttl) } else { self.fresh_for };
        let age = lived.saturating_add(self.past);
        // Dead when older than its time to live, not when as old. But `max-age=0` is never fresh.
        if lived <= fresh_for && fresh_for > 0 {
            return State { age, stale: None, left: fresh_for - lived };
        }
        State { age, stale: Some(lived - fresh_for), left: 0 }
    }

    /// How stale it may be to be served for `reason`.
    #[inline]
    pub(super) fn bound(&self, reason: Reason, settings: &Settings) -> u64 {
        let own = match reason {
            _ if self.strict => return 0,
            Reason::Revalidating => self.revalidate,
            Reason::Error => self.on_error,
            _ => AS_SET,
        };
        if own == AS_SET { settings.bound(reason) } else { own }
    }

    /// Whether it may be served `stale` for `reason`; a bound of zero says no.
    #[inline]
    pub(super) fn allows(&self, reason: Reason, stale: u64, settings: &Settings) -> bool {
        let bound = self.bound(reason, settings);
        bound > 0 && stale <= bound
    }

    /// Of no use any more to anybody.
    #[inline]
    pub(super) fn is_dead(&self, stale: u64, settings: &Settings) -> bool {
        if stale <= self.keep && self.keep > 0 {
            return false;
        }
        let useful = self
            .bound(Reason::Revalidating, settings)
            .max(self.bound(Reason::Error, settings))
            .max(if self.strict { 0 } else { settings.longest });
        useful == 0 || stale > useful
    }

    #[inline]
    pub(super) fn label(&self, state: State, reason: Reason) -> Label {
        Label {
            age: Duration::from_nanos(state.age),
            stale: Duration::from_nanos(state.stale.unwrap_or(0)),
            reason,
            level: self.level,
            negative: self.negative,
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }
}
