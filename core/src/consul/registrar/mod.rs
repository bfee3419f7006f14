//! The registrar: keeps own services registered on an agent, and takes them back.
//!
//! Registering looks like one PUT, and is lost like one. An agent that was restarted without its
//! data, or was replaced, has forgotten; a TTL check that is not renewed makes a healthy service
//! critical; and a service that ends without a word stays in every list until its check has been
//! critical for a minute. So this is a loop that brings what is into agreement with what is
//! wanted, as an orchestrator does, and not a sequence of calls: it registers, renews, looks
//! whether the agent still lists what it registered, registers again, and on the way out
//! deregisters within a deadline, whose failure is said and ends nothing.
//!
//! * Registering is an upsert by id, so that repeating it is harmless; an unclear end (a timeout)
//!   counts as *perhaps*, and what was perhaps registered is deregistered in the end.
//! * A heartbeat that meets an unknown check registers again at once. If that does not help, it
//!   waits longer each time: a wrong check id must not become a loop.
//! * Permission denied (and a registration that the agent refuses) is tried once per `forbidden`.
//! * Only what was registered here can be deregistered ([`Refused::Foreign`], before anything is
//!   sent); somebody else's only by [`Registrar::remove_foreign`].
//! * While [`Registrar::hold`] is on (the split-brain check fails, see
//!   [`super::consistency::Cluster`]), nothing is registered and nothing is looked for. Heartbeats
//!   go on, for without them healthy services would become critical, and so do deregistrations.
//!
//! One exchange per registration at a time, a few in all, each a lease. What happened is in
//! [`Registrar::events`]. Who registers nothing has switched it off.

mod answers;
mod entry;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use entry::{Refused, SHORTEST_TTL, Stage, Ttl, View, Wanted};
pub use settings::Settings;

use super::ask::{Answer, Ask, AskId, Asked, Beat, LATE, Trouble};
use super::event::{Event, Events};
use crate::job::Poll;
use crate::policy::backoff::Backoff;
use crate::rng::Pcg32;
use crate::time::Time;
use entry::{Entry, SHORTEST_BEAT, cut};

/// Registrations kept.
pub const MOST: usize = 1_024;
/// TTL checks of a registration that are renewed.
pub const MOST_CHECKS: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Out {
    Register(Arc<str>),
    Deregister(Arc<str>),
    Beat(Arc<str>, Arc<str>),
    Present,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Lease {
    id: AskId,
    out: Out,
    issued: Time,
    ends: Time,
}

/// The own registrations on one agent.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::consul::ask::{Answer, Ask};
/// use origin_core::consul::registrar::{Registrar, Settings, Ttl, Wanted};
/// use origin_core::job::Poll;
/// use origin_core::rng::Pcg32;
///
/// let (settings, mut rng) = (Settings::default(), Pcg32::new(42, 0));
/// let mut registrar = Registrar::default();
/// let now = Time::ZERO;
/// let ttl = Ttl { check: "service:api-1".into(), ttl: Duration::from_secs(15) };
/// let api = Wanted { id: "api-1".into(), service: "api".into(), checks: vec![ttl], digest: 1 };
/// registrar.want(now, &api)?;
///
/// let Poll::Run(asked) = registrar.poll(now, &settings, &mut rng) else { panic!() };
/// assert_eq!(asked.ask, Ask::Register("api-1".into()));
/// assert!(registrar.done(now, asked.id, &Answer::Done, &settings, &mut rng));
/// assert_eq!(registrar.events().take()[0].1.name(), "service_registered");
/// // The check is renewed at once and then every five seconds, less some jitter.
/// let Poll::Run(asked) = registrar.poll(now, &settings, &mut rng) else { panic!() };
/// assert!(matches!(asked.ask, Ask::Beat { .. }));
///
/// // Somebody else's service is not touched.
/// assert!(registrar.leave(now, "web-7", &settings).is_err());
/// # Ok::<(), origin_core::consul::registrar::Refused>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registrar {
    entries: BTreeMap<Arc<str>, Entry>,
    leases: Vec<Lease>,
    next_id: u64,
    /// Since when registrations are held back.
    held: Option<Time>,
    look_due: Time,
    look_steps: Backoff,
    look_failures: u32,
    registered: u64,
    events: Events,
}

impl Registrar {
    /// A registrar that wants nothing.
    #[must_use]
    pub fn new() -> Registrar {
        Registrar::default()
    }

    /// Wants a service registered from now on. The same again changes nothing; with another
    /// digest, name or set of checks it is registered anew, over the old one.
    ///
    /// # Errors
    /// What is wrong with it. Nothing is sent.
    pub fn want(&mut self, now: Time, wanted: &Wanted) -> Result<(), Refused> {
        let known = self.entries.get(&wanted.id);
        wanted.check(self.entries.len() - usize::from(known.is_some()))?;
        if known.is_some_and(|entry| entry.stage != Stage::Leaving && entry.agrees(wanted)) {
            return Ok(());
        }
        let new = || Entry::new(now, wanted.service.clone());
        let entry = self.entries.entry(wanted.id.clone()).or_insert_with(new);
        entry.service = wanted.service.clone();
        entry.digest = wanted.digest;
        entry.renew(now, &wanted.checks);
        entry.enter(now, Stage::Wanted);
        entry.overtaken = entry.out.is_some();
        Ok(())
    }

    /// Takes a service back: it is deregistered within `leave_within`, if it can have been
    /// registered at all.
    ///
    /// # Errors
    /// It was not registered here. Nothing is sent.
    pub fn leave(&mut self, now: Time, id: &str, settings: &Settings) -> Result<(), Refused> {
        let Some(entry) = self.entries.get_mut(id) else {
            return Err(Refused::Foreign { id: id.into() });
        };
        if entry.stage == Stage::Leaving {
            return Ok(());
        }
        if !entry.sent {
            self.entries.remove(id);
            return Ok(());
        }
        entry.enter(now, Stage::Leaving);
        entry.until = now.plus(settings.leave_within);
        entry.overtaken = entry.out.is_some();
        Ok(())
    }

    /// Takes all services back, as at the end of a program. It may end when
    /// [`Registrar::is_empty`].
    pub fn leave_all(&mut self, now: Time, settings: &Settings) {
        let ids: Vec<_> = self.entries.keys().cloned().collect();
        for id in ids {
            let _ = self.leave(now, &id, settings);
        }
    }

    /// Removes a service that this registrar did not register, by explicit demand: a ghost of an
    /// earlier process, say.
    ///
    /// # Errors
    /// The id is empty, or there are too many registrations already.
    pub fn remove_foreign(
        &mut self,
        now: Time,
        id: &str,
        settings: &Settings,
    ) -> Result<(), Refused> {
        if !self.entries.contains_key(id) {
            let wanted =
                Wanted { id: id.into(), service: id.into(), checks: Vec::new(), digest: 0 };
            wanted.check(self.entries.len())?;
            let mut entry = Entry::new(now, wanted.service);
            entry.sent = true;
            self.entries.insert(wanted.id, entry);
        }
        self.leave(now, id, settings)
    }

    /// Says how a service is, by one of its TTL checks. A change is sent at once, though not more
    /// often than every 100 ms; an unknown check is `false`.
    pub fn say(&mut self, now: Time, id: &str, check: &str, beat: Beat, note: &str) -> bool {
        let entry = self.entries.get_mut(id);
        let pulse = entry.and_then(|entry| entry.pulses.iter_mut().find(|p| &*p.check == check));
        let Some(pulse) = pulse else { return false };
        if (pulse.beat, &*pulse.note) != (beat, note) {
            pulse.note = cut(note);
            // A new note alone can wait for the next heartbeat.
            if pulse.beat != beat {
                (pulse.beat, pulse.said) = (beat, true);
                pulse.due = pulse.due.min(now.max(pulse.issued.plus(SHORTEST_BEAT)));
            }
        }
        true
    }

    /// Holds registrations and looks back, or lets them go on.
    pub fn hold(&mut self, now: Time, hold: bool) {
        let waiting = self.entries.values().filter(|entry| entry.stage == Stage::Wanted).count();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        if let (true, None) = (hold, self.held) {
            self.held = Some(now);
            self.events.push(now, Event::RegistrationsHeld { waiting });
        } else if let (false, Some(since)) = (hold, self.held) {
            self.held = None;
            let held_for = now.since(since);
            self.events.push(now, Event::RegistrationsResumed { waiting, held_for });
        }
    }

    /// The next exchange, if one is due. To be called until it says when to call again; a call to
    /// any other method may make something due.
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll<Asked> {
        self.reclaim(now, settings, rng);
        let lease = self.leases.iter().map(|lease| lease.ends).min().unwrap_or(Time::NEVER);
        if self.leases.len() >= settings.concurrent {
            return Poll::Wait(lease);
        }
        let held = self.held.is_some();
        let first = self.entries.iter().map(|(id, entry)| (entry.next(held), id)).min();
        let (due, first) = first.map_or((Time::NEVER, None), |(due, id)| (due, Some(id.clone())));
        let look = self.look_at(now, settings);
        if now < due.min(look) || due.min(look) == Time::NEVER {
            return Poll::Wait(lease.min(due).min(look));
        }
        let id = AskId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let mut deadline = now.plus(settings.timeout);
        let (ask, out) = match first.filter(|_| due <= look) {
            None => (Ask::Present, Out::Present),
            Some(name) => {
                let Some(entry) = self.entries.get_mut(&name) else { return Poll::Wait(lease) };
                entry.out = Some(id);
                match entry.stage {
                    Stage::Wanted => {
                        entry.sent = true;
                        (Ask::Register(name.clone()), Out::Register(name))
                    }
                    Stage::Leaving => {
                        deadline = deadline.min(entry.until);
                        (Ask::Deregister(name.clone()), Out::Deregister(name))
                    }
                    Stage::Registered => {
                        let pulse = entry.pulses.iter_mut().min_by_key(|pulse| pulse.due);
                        let Some(pulse) = pulse else { return Poll::Wait(lease) };
                        (pulse.issued, pulse.said) = (now, false);
                        let (check, note) = (pulse.check.clone(), pulse.note.clone());
                        let ask = Ask::Beat { check: check.clone(), beat: pulse.beat, note };
                        (ask, Out::Beat(name, check))
                    }
                }
            }
        };
        self.leases.push(Lease { id, out, issued: now, ends: deadline.plus(LATE) });
        Poll::Run(Box::new(Asked { id, ask, deadline }))
    }

    /// Takes an answer. `false`: it is not under way any more, and was ignored.
    pub fn done(
        &mut self,
        now: Time,
        id: AskId,
        answer: &Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> bool {
        let Some(at) = self.leases.iter().position(|lease| lease.id == id) else { return false };
        let lease = self.leases.swap_remove(at);
        if let Out::Present = lease.out {
            self.looked(now, lease.issued, answer, settings, rng);
            return true;
        }
        let result = match answer {
            Answer::Done => Ok(()),
            Answer::Failed(trouble) => Err(*trouble),
            _ => Err(Trouble::Malformed),
        };
        let (Out::Register(name) | Out::Deregister(name) | Out::Beat(name, _)) = &lease.out else {
            return false;
        };
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.out == Some(id)) else {
            return false;
        };
        entry.out = None;
        let overtaken = std::mem::take(&mut entry.overtaken);
        match (&lease.out, result) {
            // It wants something else by now, whatever came of this.
            _ if overtaken => {
                if matches!(lease.out, Out::Deregister(_)) && result.is_ok() {
                    entry.known = false;
                }
            }
            (Out::Register(_) | Out::Deregister(_), Err(Trouble::Dropped)) => entry.due = now,
            (Out::Register(name), result) => {
                let name = name.clone();
                self.registered_or_not(now, &name, result, settings, rng);
            }
            (Out::Deregister(name), result) => {
                let name = name.clone();
                self.deregistered_or_not(now, &name, result, settings, rng);
            }
            (Out::Beat(name, check), result) => {
                let (name, check) = (name.clone(), check.clone());
                self.beaten(now, lease.issued, &name, &check, result, settings, rng);
            }
            (Out::Present, _) => {}
        }
        true
    }

    /// When it is looked what the agent knows.
    fn look_at(&self, now: Time, settings: &Settings) -> Time {
        let out = self.leases.iter().any(|lease| matches!(lease.out, Out::Present));
        let registered = || self.entries.values().any(|entry| entry.stage == Stage::Registered);
        if out || self.held.is_some() || settings.presence.is_zero() || !registered() {
            return Time::NEVER;
        }
        // A clock that went back must not stretch a wait.
        self.look_due.min(now.plus(settings.presence.max(settings.longest())))
    }

    /// Ends leases that never came back, and deregistrations whose time is over.
    fn reclaim(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) {
        while let Some(id) = self.leases.iter().find(|lease| now >= lease.ends).map(|l| l.id) {
            let _ = self.done(now, id, &Answer::Failed(Trouble::LOST), settings, rng);
        }
        let over = |entry: &Entry| {
            entry.stage == Stage::Leaving && entry.out.is_none() && now >= entry.until
        };
        let ids: Vec<_> =
            self.entries.iter().filter(|(_, e)| over(e)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(entry) = self.entries.remove(&id) else { continue };
            let Entry { service, error, failures: tries, .. } = entry;
            let event = Event::ServiceDeregistrationFailed { service, id, error, tries };
            self.events.push(now, event);
        }
        // A clock that went back must not stretch a wait.
        for entry in self.entries.values_mut() {
            entry.due = entry.due.min(now.plus(settings.longest()));
            entry.until = entry.until.min(now.plus(settings.leave_within));
            for pulse in &mut entry.pulses {
                pulse.due = pulse.due.min(now.plus(pulse.ttl.max(settings.longest())));
            }
        }
    }

    /// Whether nothing is registered, wanted or leaving.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Since when registrations are held back.
    #[must_use]
    pub const fn held(&self) -> Option<Time> {
        self.held
    }

    /// How many registrations the agent has taken, counting again those made again.
    #[must_use]
    pub const fn registrations(&self) -> u64 {
        self.registered
    }

    /// Where a registration stands.
    #[must_use]
    pub fn stage(&self, id: &str) -> Option<Stage> {
        self.entries.get(id).map(|entry| entry.stage)
    }

    /// All registrations, in order of their ids.
    pub fn views(&self) -> impl Iterator<Item = View> + '_ {
        let held = self.held.is_some();
        self.entries.iter().map(move |(id, entry)| View {
            id: id.clone(),
            service: entry.service.clone(),
            stage: entry.stage,
            failures: entry.failures,
            error: entry.error,
            next: entry.next(held),
        })
    }

    /// Its events.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
