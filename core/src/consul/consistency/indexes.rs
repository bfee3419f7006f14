//! The cache-index check: a memory of the index of each service, and when it is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ask::{Answer, Ask, AskId, Asked, LATE, Mark, Trouble};
use super::Settings;
use crate::job::Poll;
use crate::rng::Pcg32;
use crate::time::Time;

/// What becomes of what is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cached {
    /// It stays.
    Keep,
    /// Everything cached of the service goes: all datacenters, all tags, all levels.
    DropAllVariants,
}

/// Why an index does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disagrees {
    /// Nothing was remembered.
    First,
    /// It is another one; `None` stands for no key.
    Moved {
        /// What was remembered.
        from: Option<Mark>,
        /// What is remembered now.
        to: Option<Mark>,
    },
    /// It could not be read; nothing is known, and what is remembered stays.
    Error(Trouble),
}

impl fmt::Display for Disagrees {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = |mark: &Option<Mark>| mark.map_or(0, |mark| mark.modified);
        match self {
            Disagrees::First => f.write_str("the index is seen for the first time"),
            Disagrees::Moved { from, to } => {
                write!(f, "the index moved from {} to {}", index(from), index(to))
            }
            Disagrees::Error(trouble) => write!(f, "the index cannot be read: {trouble}"),
        }
    }
}

/// The result of one comparison.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Agreement {
    /// The service.
    pub service: Arc<str>,
    /// `None`: the index is the remembered one.
    pub disagrees: Option<Disagrees>,
}

impl Agreement {
    /// Whether the index is the remembered one.
    #[must_use]
    pub const fn consistent(&self) -> bool {
        self.disagrees.is_none()
    }

    /// What becomes of what is cached.
    #[must_use]
    pub const fn cached(&self) -> Cached {
        match self.disagrees {
            None | Some(Disagrees::Error(_)) => Cached::Keep,
            Some(Disagrees::First | Disagrees::Moved { .. }) => Cached::DropAllVariants,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Slot {
    /// `None`: not read yet.
    mark: Option<Option<Mark>>,
    /// Key under which it stands in `waiting`, while no comparison is out.
    due: Time,
    /// Key under which it stands in `used`.
    used: u64,
    out: Option<AskId>,
}

impl Slot {
    /// Remembers `to`, and says how it differs from what was remembered.
    fn see(&mut self, to: Option<Mark>) -> Option<Disagrees> {
        match self.mark.replace(to) {
            Some(from) if from == to => None,
            Some(from) => Some(Disagrees::Moved { from, to }),
            None => Some(Disagrees::First),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: AskId,
    service: Arc<str>,
    ends: Time,
}

/// The remembered indexes. [`Indexes::compare`] alone is the check of the standard; with
/// [`Indexes::used`], [`Indexes::poll`] and [`Indexes::done`] it is carried out for every service
/// in use once per interval.
///
/// ```
/// use origin_core::Time;
/// use origin_core::consul::ask::Mark;
/// use origin_core::consul::consistency::{Cached, Indexes, Settings};
///
/// let (settings, now) = (Settings::default(), Time::ZERO);
/// let mut indexes = Indexes::default();
/// let mark = |modified| Ok(Some(Mark { modified, value: 0 }));
/// // Nothing remembered: not consistent, whatever is cached goes.
/// assert!(!indexes.compare(now, "billing", mark(7), &settings).consistent());
/// assert!(indexes.compare(now, "billing", mark(7), &settings).consistent());
/// let moved = indexes.compare(now, "billing", mark(8), &settings);
/// assert_eq!((moved.consistent(), moved.cached()), (false, Cached::DropAllVariants));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Indexes {
    slots: BTreeMap<Arc<str>, Slot>,
    waiting: BTreeSet<(Time, Arc<str>)>,
    /// From the one not used for longest.
    used: BTreeMap<u64, Arc<str>>,
    leases: Vec<Lease>,
    clock: u64,
    next_id: u64,
}

impl Indexes {
    /// Compares what was read with what is remembered, and remembers it unless it is an error.
    pub fn compare(
        &mut self,
        now: Time,
        service: &str,
        read: Result<Option<Mark>, Trouble>,
        settings: &Settings,
    ) -> Agreement {
        let service = self.touch(now, service, settings);
        let disagrees = match (read, self.slots.get_mut(&service)) {
            (Err(trouble), _) => Some(Disagrees::Error(trouble)),
            (Ok(to), Some(slot)) => slot.see(to),
            (Ok(_), None) => Some(Disagrees::First),
        };
        Agreement { service, disagrees }
    }

    /// The service is in use: its index is compared at once if it is new, and from now on.
    pub fn used(&mut self, now: Time, service: &str, settings: &Settings) {
        if settings.index {
            let _ = self.touch(now, service, settings);
        }
    }

    /// What is remembered of the service is forgotten.
    pub fn forget(&mut self, service: &str) {
        if let Some(slot) = self.slots.remove(service) {
            self.used.remove(&slot.used);
            self.waiting.remove(&(slot.due, Arc::from(service)));
        }
    }

    /// The next comparison, if one is due and fewer than `concurrent` are out.
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll<Asked> {
        if !settings.index {
            return Poll::Wait(Time::NEVER);
        }
        self.reclaim(now, settings, rng);
        let lease = self.leases.iter().map(|lease| lease.ends).min().unwrap_or(Time::NEVER);
        let Some((due, service)) = self.waiting.first().cloned() else { return Poll::Wait(lease) };
        if self.leases.len() >= settings.concurrent {
            return Poll::Wait(lease);
        }
        if now < due {
            return Poll::Wait(due.min(lease));
        }
        self.waiting.pop_first();
        let id = AskId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        if let Some(slot) = self.slots.get_mut(&service) {
            slot.out = Some(id);
        }
        let deadline = now.plus(settings.timeout);
        self.leases.push(Lease { id, service: service.clone(), ends: deadline.plus(LATE) });
        Poll::Run(Box::new(Asked { id, ask: Ask::Index(service), deadline }))
    }

    /// Takes the answer. `None`: it is not under way any more (its service was forgotten, say),
    /// or was dropped.
    pub fn done(
        &mut self,
        now: Time,
        id: AskId,
        answer: &Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Agreement> {
        let at = self.leases.iter().position(|lease| lease.id == id)?;
        let service = self.leases.swap_remove(at).service;
        let slot = self.slots.get_mut(&service).filter(|slot| slot.out == Some(id))?;
        slot.out = None;
        let dropped = matches!(answer, Answer::Failed(Trouble::Dropped));
        slot.due = if dropped { now } else { settings.again(now, settings.index_interval, rng) };
        self.waiting.insert((slot.due, service.clone()));
        let disagrees = match answer {
            Answer::Failed(Trouble::Dropped) => return None,
            Answer::Failed(trouble) => Some(Disagrees::Error(*trouble)),
            Answer::Index(to) => slot.see(*to),
            _ => Some(Disagrees::Error(Trouble::Malformed)),
        };
        Some(Agreement { service, disagrees })
    }

    /// How many services are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn touch(&mut self, now: Time, service: &str, settings: &Settings) -> Arc<str> {
        self.clock = self.clock.saturating_add(1);
        let clock = self.clock;
        if let Some((name, slot)) = self.slots.get_key_value(service) {
            let (name, before) = (name.clone(), slot.used);
            self.used.remove(&before);
            self.used.insert(clock, name.clone());
            if let Some(slot) = self.slots.get_mut(&name) {
                slot.used = clock;
            }
            return name;
        }
        while self.slots.len() >= settings.most {
            let Some((_, oldest)) = self.used.pop_first() else { break };
            self.forget(&oldest);
        }
        let name: Arc<str> = service.into();
        let slot = Slot { mark: None, due: now, used: clock, out: None };
        self.slots.insert(name.clone(), slot);
        self.used.insert(clock, name.clone());
        self.waiting.insert((now, name.clone()));
        name
    }

    fn reclaim(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) {
        while let Some(id) = self.leases.iter().find(|lease| now >= lease.ends).map(|l| l.id) {
            let _ = self.done(now, id, &Answer::Failed(Trouble::LOST), settings, rng);
        }
        // A clock that went back must not stretch a wait.
        let latest = now.plus(Duration::from_nanos(settings.index_interval));
        while let Some((due, service)) = self.waiting.last().filter(|(due, _)| *due > latest) {
            let (due, service) = (*due, service.clone());
            self.waiting.remove(&(due, service.clone()));
            if let Some(slot) = self.slots.get_mut(&service) {
                slot.due = latest;
                self.waiting.insert((latest, service));
            }
        }
    }
}
