//! Remembered answers around one call, without the waiting, which each loop does in its own way:
//! look up, ask Redis, fetch on behalf of others or wait for them, store, and fall back on what is
//! remembered when the call fails. What may be served and when is decided in
//! [`origin_core::cache`].
//!
//! Nothing of this is on the way of a call to a service without a cache but one flag.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | what is remembered of one service |
//! | `plan.rs` | before a call: what a request may be answered with |
//! | `lease.rs` | fetching on behalf of others, and waiting for them |
//! | `second.rs` | the second level in Redis: asking it, and who carries out its chores |
//! | `settle.rs` | after a call: what is stored, and what is served instead |
//! | `asynchronous.rs`, `blocking.rs` | the two loops |

#[cfg(feature = "hyper")]
pub(crate) mod asynchronous;
pub(crate) mod blocking;
mod lease;
mod plan;
mod second;
mod settle;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use event_listener::Event;
use origin_core::Time;
use origin_core::cache::http::scope;
use origin_core::cache::second::PurgeId;
use origin_core::cache::{Answer, Key, MoreStats, Settings, Stats, Store, Target};

use crate::hub::{Hub, Slot, lock};
use crate::runtime::Runtime;

pub(crate) use lease::{Lease, Place};
pub(crate) use plan::{Look, Plan};
pub use second::Purging;
pub(crate) use second::{Carrying, Second};
pub(crate) use settle::Settled;

/// Places that are swept with the lock held.
const SWEPT_AT_ONCE: u32 = 256;

/// What is remembered of the answers of one service.
pub(crate) struct Memory {
    /// Whether anything is.
    on: AtomicBool,
    settings: RwLock<Arc<Settings>>,
    store: Mutex<Store<Key, Answer>>,
    /// Notified when one for whom others wait is back.
    filled: Event,
}

impl Memory {
    pub(crate) fn new(now: Time, seed: u64, settings: Settings) -> Memory {
        Memory {
            on: (!settings.is_off()).into(),
            store: Mutex::new(Store::new(now, seed, &settings)),
            settings: RwLock::new(Arc::new(settings)),
            filled: Event::new(),
        }
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Applies other settings.
    pub(crate) fn retune(&self, now: Time, settings: Settings) {
        let mut present = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        lock(&self.store).retune(now, &settings);
        self.on.store(!settings.is_off(), Ordering::Relaxed);
        *present = Arc::new(settings);
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        let settings = self.settings();
        lock(&self.store).stats(&settings)
    }

    pub(crate) fn more_stats(&self) -> MoreStats {
        let settings = self.settings();
        lock(&self.store).more_stats(&settings)
    }

    fn clear(&self) {
        lock(&self.store).clear();
    }

    /// Forgets what is meant.
    fn invalidate(&self, target: Target<Key>) -> u32 {
        lock(&self.store).invalidate(target)
    }

    /// Removes dead entries if that is due, in pieces. Returns when it is due again.
    fn sweep(&self, now: Time) -> Time {
        if !self.is_on() {
            return Time::NEVER;
        }
        let settings = self.settings();
        loop {
            let mut store = lock(&self.store);
            let next = store.next_cleanup();
            if next > now {
                return next;
            }
            if !store.sweep(now, SWEPT_AT_ONCE, &settings).more {
                return store.next_cleanup();
            }
        }
    }
}

impl<R: Runtime> Hub<R> {
    /// Removes dead entries of all services where that is due. Returns when to come again.
    pub(crate) fn sweep(&self, now: Time) -> Time {
        let mut next = Time::NEVER;
        self.each_slot(|slot| next = next.min(slot.memory.sweep(now)));
        next
    }

    /// Forgets what is meant, here at once; paths are those of the service. Returns how much that
    /// was here, and the deletion in the second level, if there is one, which wants a carrier.
    pub(crate) fn forget(&self, slot: &Slot, target: Target<Key>) -> (u32, Option<PurgeId>) {
        let target = match target {
            Target::Path(path) => Target::Path(scope(&slot.name, &path)),
            Target::Prefix(path) => Target::Prefix(scope(&slot.name, &path)),
            other => other,
        };
        // There it is one of many services.
        let there = match &target {
            Target::All => Target::Prefix(scope(&slot.name, "/")),
            other => other.clone(),
        };
        let local = slot.memory.invalidate(target);
        (local, self.forget_shared(slot, there))
    }

    /// The same for everything, counting from zero.
    pub(crate) fn forget_all(&self, slot: &Slot) -> (u32, Option<PurgeId>) {
        let before = slot.memory.stats().cache_size;
        slot.memory.clear();
        (before, self.forget_shared(slot, Target::Prefix(scope(&slot.name, "/"))))
    }

    fn forget_shared(&self, slot: &Slot, target: Target<Key>) -> Option<PurgeId> {
        let settings = slot.memory.settings();
        let second = self.second.as_ref().filter(|_| settings.is_shared())?;
        Some(second.invalidate(target, &settings))
    }
}
