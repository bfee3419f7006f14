//! Hearing that a machine has something to say, at no cost while it has not. A machine that keeps
//! notices stands behind a lock that compares their number when it is given back, which is one
//! comparison of two numbers that are there anyway; only when it has moved is anybody woken. Nobody
//! is waited for: who listens reads the ring later, on his own time.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use origin_core::consul::followed::Followed;
use origin_core::consul::registry::Registry;
use origin_core::discovery::Directory;
use origin_core::identity;
use origin_core::notice::Notices;
use origin_core::{Service, vault};

/// A machine that keeps notices.
pub(crate) trait Speaks {
    /// What it has said of late, gathered from its parts.
    fn said(&mut self) -> &Notices;
}

macro_rules! speaks {
    ($($machine:ty),*) => {$(
        impl Speaks for $machine {
            fn said(&mut self) -> &Notices {
                self.notices()
            }
        }
    )*};
}
speaks!(Service, Directory, Followed, Registry, identity::Desk, vault::desk::Desk);

/// Rung when any machine of the client has said something.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    /// Notified at the same time, for those who wait.
    pub(crate) moved: Event,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.moved.notify(usize::MAX);
    }

    /// Whether it was rung since it was last answered. One look, for every step of a call.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Relaxed)
    }

    /// Answers it.
    #[cfg(feature = "tracing")]
    pub(crate) fn answer(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}

/// A machine behind its lock.
pub(crate) struct Noted<T> {
    machine: Mutex<T>,
    /// How many notices it had when the lock was last given back.
    count: AtomicU64,
    bell: Arc<Bell>,
}

impl<T: Speaks> Noted<T> {
    pub(crate) fn new(mut machine: T, bell: &Arc<Bell>) -> Noted<T> {
        let count = machine.said().count();
        if count > 0 {
            bell.ring();
        }
        Noted { machine: Mutex::new(machine), count: count.into(), bell: bell.clone() }
    }

    /// How many notices it has had. No lock.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }
}

/// Anything that is locked, whatever happened to an earlier holder.
pub(crate) trait Lock {
    /// What gives it back.
    type Held<'a>
    where
        Self: 'a;

    /// Locks it.
    fn hold(&self) -> Self::Held<'_>;
}

impl<T> Lock for Mutex<T> {
    type Held<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;

    fn hold(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Speaks> Lock for Noted<T> {
    type Held<'a>
        = Held<'a, T>
    where
        T: 'a;

    fn hold(&self) -> Held<'_, T> {
        let mut machine = self.machine.hold();
        let before = machine.said().count();
        Held { machine, before, noted: self }
    }
}

/// A machine in use.
pub(crate) struct Held<'a, T: Speaks> {
    machine: MutexGuard<'a, T>,
    before: u64,
    noted: &'a Noted<T>,
}

impl<T: Speaks> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.machine
    }
}

impl<T: Speaks> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.machine
    }
}

impl<T: Speaks> Drop for Held<'_, T> {
    fn drop(&mut self) {
        let count = self.machine.said().count();
        if count != self.before {
            self.noted.count.store(count, Ordering::Release);
            self.noted.bell.ring();
        }
    }
}
