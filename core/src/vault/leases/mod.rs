//! The leases of secrets that engines make on demand (database accounts, cloud keys): renewed
//! ahead, given back at the end, their expiry said in time.
//!
//! What it protects against: an account that ends under a running pool of connections, and
//! accounts that pile up in a database because nobody gives them back. Each lease is renewed at a
//! random point of its first sixth to third, as consul-template does it; one that cannot be
//! renewed, or whose renewal yields less than half of what it once had, is said to expire at
//! 80–95 % of its time, so that the application reads the secret again while the old account
//! works. A refused renewal is not repeated. Failures wait, never less than a second, never beyond
//! half of what is left.
//!
//! Leases end with the token they were had with. A lease that is not held here is never touched.
//! At most [`MOST`] are held, and a few exchanges are out at a time. Who adopts none is asked for
//! nothing.
//!
//! ```
//! use std::time::Duration;
//! use origin_core::rng::Pcg32;
//! use origin_core::time::Time;
//! use origin_core::vault::leases::{Leases, Poll, Settings};
//! use origin_core::vault::{Lease, LeaseId};
//!
//! let (settings, mut rng) = (Settings::of(&Default::default()), Pcg32::new(1, 1));
//! let mut leases = Leases::default();
//! let id = LeaseId::new("database/creds/app/x7Q").unwrap();
//! let lease = Lease { id, duration: Duration::from_secs(600), renewable: true };
//! assert!(leases.adopt(Time::ZERO, &lease, &settings, &mut rng));
//! let Poll::Wait(at) = leases.poll(Time::ZERO, &settings, &mut rng) else { panic!() };
//! assert!((100_000..=200_000).contains(&at.as_millis()));
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{AskId, Event, Events, Gone, LATE, Trouble};
use super::lease::{Lease, LeaseId};
use super::schedule;
use crate::policy::backoff::Backoff;
use crate::rng::Pcg32;
use crate::time::Time;

/// Most leases held at a time.
pub const MOST: usize = 1_024;
/// Most exchanges out at a time.
const CONCURRENT: usize = 4;
/// Tries of giving one back.
const TRIES: u8 = 3;

/// What the machine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// When leases are renewed.
    pub times: schedule::Settings,
    /// Deadline of one exchange.
    pub timeout: Duration,
}

impl Settings {
    /// The settings of leases in those of Vault.
    #[must_use]
    pub fn of(vault: &super::Settings) -> Settings {
        Settings { times: *vault.leases(), timeout: vault.timeout() }
    }
}

/// What is done with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// It is renewed.
    Renew,
    /// It is given back.
    Revoke,
}

/// Something to be asked of Vault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// To be given back with the answer.
    pub id: AskId,
    /// Which lease.
    pub lease: LeaseId,
    /// What to do with it.
    pub deed: Deed,
    /// To be given up at this time.
    pub deadline: Time,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Poll {
    /// This.
    Ask(Asked),
    /// Nothing before this time.
    Wait(Time),
}

/// What came of something asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It lasts this long now, and can or cannot be renewed again.
    Renewed {
        /// How long from when it was asked.
        lease: Duration,
        /// Whether it can be renewed again.
        renewable: bool,
    },
    /// It is given back, or was gone already.
    Revoked,
    /// It failed.
    Failed(Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Plan {
    Do(Deed),
    Warn,
    Expire,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Entry {
    until: Time,
    largest: Duration,
    plan: Plan,
    at: Time,
    out: Option<(AskId, Time, Time)>,
    steps: Backoff,
    tries: u8,
}

/// The machine. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leases {
    entries: BTreeMap<LeaseId, Entry>,
    next: u64,
    events: Events,
}

impl Leases {
    /// Looks after a lease from now on. `false`: there are too many, or it is over already; the
    /// caller then keeps it himself.
    #[must_use]
    pub fn adopt(
        &mut self,
        now: Time,
        lease: &Lease,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> bool {
        let full = self.entries.len() >= MOST && !self.entries.contains_key(&lease.id);
        if full || lease.duration.is_zero() {
            return false;
        }
        let mut entry = Entry {
            until: now,
            largest: Duration::ZERO,
            plan: Plan::Expire,
            at: now,
            out: None,
            steps: Backoff::default(),
            tries: 0,
        };
        entry.lasts(now, lease.duration, lease.renewable, settings, rng);
        self.entries.insert(lease.id.clone(), entry);
        true
    }

    /// Gives a lease back. `false`: it is not held here.
    pub fn release(&mut self, now: Time, id: &LeaseId) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        entry.leave(now);
        true
    }

    /// The client is closed: all are given back, if that is wanted, else let go.
    pub fn close(&mut self, now: Time, settings: &Settings) {
        if settings.times.revoke() {
            self.entries.values_mut().for_each(|entry| entry.leave(now));
        } else {
            self.entries.clear();
        }
    }

    /// Lets go of all of them without giving them back.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    /// What to do now, or when to ask again, unless something is told before.
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll {
        let lost = |entry: &Entry| {
            let (id, _, deadline) = entry.out?;
            (now >= deadline.plus(LATE)).then_some(id)
        };
        let late: Vec<AskId> = self.entries.values().filter_map(lost).collect();
        for id in late {
            self.done(now, id, Answer::Failed(Trouble::LOST), settings, rng);
        }
        self.expire(now);
        let mut out = self.entries.values().filter(|entry| entry.out.is_some()).count();
        let mut next = Time::NEVER;
        let mut chosen = None;
        for (id, entry) in &mut self.entries {
            let ends = entry.until;
            if let Some((_, _, deadline)) = entry.out {
                next = next.min(deadline.plus(LATE)).min(ends);
                continue;
            }
            if entry.plan == Plan::Warn && now >= entry.at {
                entry.plan = Plan::Expire;
                let event = Event::LeaseExpiring { path: id.path().into(), left: now.until(ends) };
                self.events.push(now, event);
            }
            next = next.min(ends);
            match entry.plan {
                Plan::Do(deed) if now >= entry.at => {
                    if chosen.as_ref().is_none_or(|(_, _, at)| entry.at < *at) {
                        chosen = Some((id.clone(), deed, entry.at));
                    }
                }
                Plan::Do(_) | Plan::Warn => next = next.min(entry.at),
                Plan::Expire => {}
            }
        }
        if let Some((lease, deed, _)) = chosen
            && out < CONCURRENT
            && let Some(entry) = self.entries.get_mut(&lease)
        {
            out += 1;
            debug_assert!(out <= CONCURRENT);
            let id = AskId(self.next);
            self.next = self.next.wrapping_add(1);
            let deadline = now.plus(settings.timeout);
            entry.out = Some((id, now, deadline));
            return Poll::Ask(Asked { id, lease, deed, deadline });
        }
        Poll::Wait(next)
    }

    fn expire(&mut self, now: Time) {
        let events = &mut self.events;
        self.entries.retain(|id, entry| {
            let over = now >= entry.until && entry.until != Time::NEVER;
            if over {
                let path: Arc<str> = id.path().into();
                // One that was to be given back has gone by itself.
                events.push(
                    now,
                    match entry.plan {
                        Plan::Do(Deed::Revoke) => Event::LeaseRevoked { path, error: None },
                        _ => Event::LeaseLost { path, why: Gone::Expired },
                    },
                );
            }
            !over
        });
    }

    /// Takes what came of something asked; `false`: it is not under way any more.
    pub fn done(
        &mut self,
        now: Time,
        id: AskId,
        answer: Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> bool {
        let found = self.entries.iter_mut().find(|(_, e)| e.out.is_some_and(|out| out.0 == id));
        let Some((lease, entry)) = found else { return false };
        let issued = entry.out.take().map_or(now, |(_, issued, _)| issued);
        let (key, path): (LeaseId, Arc<str>) = (lease.clone(), lease.path().into());
        let left = now.until(entry.until);
        match (entry.plan, answer) {
            (_, Answer::Revoked) => {
                self.entries.remove(&key);
                self.events.push(now, Event::LeaseRevoked { path, error: None });
            }
            // Given back while its renewal was out: that comes next.
            (Plan::Do(Deed::Revoke), Answer::Renewed { .. }) => entry.at = now,
            (_, Answer::Renewed { lease, renewable }) => {
                entry.lasts(issued, lease, renewable, settings, rng);
                entry.steps = Backoff::default();
                self.events.push(now, Event::LeaseRenewed { path, lease });
            }
            (Plan::Do(Deed::Revoke), Answer::Failed(trouble)) => {
                entry.tries = entry.tries.saturating_add(1);
                if entry.tries >= TRIES || trouble.is_lasting() {
                    self.entries.remove(&key);
                    self.events.push(now, Event::LeaseRevoked { path, error: Some(trouble) });
                } else {
                    entry.at = now.plus(schedule::FLOOR);
                }
            }
            (_, Answer::Failed(Trouble::Refused(_))) => {
                // Vault does not know it, or does not renew it: what is left is all there is.
                entry.plan = Plan::Warn;
                entry.at = now;
            }
            (_, Answer::Failed(error)) => {
                let lasting = error.is_lasting();
                let wait = settings.times.pause(&mut entry.steps, lasting, Some(left), rng);
                entry.at = now.plus(wait);
                let event = Event::LeaseFailed { path, error, left, retry_in: wait };
                self.events.push(now, event);
            }
        }
        true
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When a lease ends; `None`: it is not held here.
    #[must_use]
    pub fn until(&self, id: &LeaseId) -> Option<Time> {
        self.entries.get(id).map(|entry| entry.until)
    }

    /// What happened.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }
}

impl Entry {
    fn lasts(
        &mut self,
        issued: Time,
        lease: Duration,
        renewable: bool,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let capped = lease < self.largest / 2;
        self.largest = self.largest.max(lease);
        self.until = issued.plus(lease);
        let renew = renewable && !capped;
        self.plan = if renew { Plan::Do(Deed::Renew) } else { Plan::Warn };
        self.at = settings.times.point(issued, lease, renew, rng);
    }

    fn leave(&mut self, now: Time) {
        if self.plan != Plan::Do(Deed::Revoke) {
            (self.plan, self.at, self.tries) = (Plan::Do(Deed::Revoke), now, 0);
        }
    }
}
