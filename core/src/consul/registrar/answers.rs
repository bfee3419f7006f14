//! What the answers of the agent lead to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::ask::{Answer, Trouble};
use super::super::event::{By, Event};
use super::entry::SHORTEST_BEAT;
use super::{Registrar, Settings, Stage};
use crate::policy::backoff::Backoff;
use crate::rng::Pcg32;
use crate::time::Time;

impl Registrar {
    pub(super) fn registered_or_not(
        &mut self,
        now: Time,
        id: &Arc<str>,
        result: Result<(), Trouble>,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let first = !self.entries.values().any(|entry| entry.stage == Stage::Registered);
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (service, id) = (entry.service.clone(), id.clone());
        let event = match result {
            Ok(()) => {
                if first {
                    self.look_due = now.plus(settings.less(settings.presence, rng));
                }
                entry.enter(now, Stage::Registered);
                entry.since = now;
                // The agent begins a TTL check as critical.
                entry.pulses.iter_mut().for_each(|pulse| pulse.due = now);
                self.registered = self.registered.saturating_add(1);
                let again = std::mem::replace(&mut entry.known, true);
                Event::ServiceRegistered { service, id, again }
            }
            Err(error) => {
                let retry_in = settings.after(&mut entry.steps, error, rng);
                entry.due = now.plus(retry_in);
                entry.failures = entry.failures.saturating_add(1);
                entry.error = Some(error);
                let failures = entry.failures;
                Event::ServiceRegistrationFailed { service, id, error, failures, retry_in }
            }
        };
        self.events.push(now, event);
    }

    pub(super) fn deregistered_or_not(
        &mut self,
        now: Time,
        id: &Arc<str>,
        result: Result<(), Trouble>,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let (service, id) = (entry.service.clone(), id.clone());
        let event = match result {
            Ok(()) => Event::ServiceDeregistered { service, id, already: false },
            Err(Trouble::Unknown) => Event::ServiceDeregistered { service, id, already: true },
            Err(error) => {
                entry.failures = entry.failures.saturating_add(1);
                entry.error = Some(error);
                entry.due = now.plus(settings.after(&mut entry.steps, error, rng));
                // A wait beyond the end, or for a person, only delays the end.
                if entry.due < entry.until && !error.is_lasting() {
                    return;
                }
                let (error, tries) = (Some(error), entry.failures);
                Event::ServiceDeregistrationFailed { service, id, error, tries }
            }
        };
        let (Event::ServiceDeregistered { id, .. } | Event::ServiceDeregistrationFailed { id, .. }) =
            &event
        else {
            return;
        };
        self.entries.remove(id);
        self.events.push(now, event);
    }

    #[allow(clippy::too_many_arguments)] // all of one answer, and private
    pub(super) fn beaten(
        &mut self,
        now: Time,
        issued: Time,
        id: &Arc<str>,
        check: &Arc<str>,
        result: Result<(), Trouble>,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let service = entry.service.clone();
        let Some(pulse) = entry.pulses.iter_mut().find(|pulse| pulse.check == *check) else {
            return;
        };
        let soon = now.max(issued.plus(SHORTEST_BEAT));
        match result {
            Ok(()) => {
                // Counted from when it was sent, so that slow answers do not stretch it.
                let next = settings.beat(issued, pulse.ttl, rng).max(soon);
                pulse.due = if pulse.said { soon } else { next };
                pulse.steps.reset();
                let failures = std::mem::take(&mut pulse.failures);
                let check = check.clone();
                (entry.lapses, entry.lapse_steps) = (0, Backoff::default());
                if failures > 0 {
                    self.events.push(now, Event::HeartbeatRecovered { service, check, failures });
                }
            }
            Err(Trouble::Dropped) => pulse.due = soon,
            Err(Trouble::Unknown) => self.forgotten(now, id, By::Beat, settings, rng),
            Err(error) => {
                // Not later than the next one would be: the check lives on for its whole time.
                let wait = settings.after(&mut pulse.steps, error, rng);
                let next = settings.beat(now, pulse.ttl, rng).max(soon);
                pulse.due =
                    if error.is_lasting() { now.plus(wait) } else { now.plus(wait).min(next) };
                let first = pulse.failures == 0;
                pulse.failures = pulse.failures.saturating_add(1);
                if first {
                    let check = check.clone();
                    self.events.push(now, Event::HeartbeatFailed { service, check, error });
                }
            }
        }
    }

    /// The agent does not know a registration any more: at once the first time, later each time.
    fn forgotten(
        &mut self,
        now: Time,
        id: &Arc<str>,
        by: By,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let wait = match entry.lapses {
            0 => Duration::ZERO,
            _ => settings.after(&mut entry.lapse_steps, Trouble::Unknown, rng),
        };
        entry.lapses = entry.lapses.saturating_add(1);
        entry.enter(now.plus(wait), Stage::Wanted);
        let (service, id) = (entry.service.clone(), id.clone());
        self.events.push(now, Event::ServiceForgotten { service, id, by });
    }

    pub(super) fn looked(
        &mut self,
        now: Time,
        issued: Time,
        answer: &Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) {
        let error = match answer {
            Answer::Present(ids) => {
                let present: BTreeSet<&Arc<str>> = ids.iter().collect();
                let mut gone = Vec::new();
                for (id, entry) in &mut self.entries {
                    // The list can be older than a registration that was made since.
                    if entry.stage != Stage::Registered || entry.since >= issued {
                        continue;
                    }
                    if !present.contains(id) {
                        gone.push(id.clone());
                    } else if entry.pulses.is_empty() {
                        // Heartbeats are the better sign of life, where there are some.
                        (entry.lapses, entry.lapse_steps) = (0, Backoff::default());
                    }
                }
                for id in gone {
                    if let Some(entry) = self.entries.get_mut(&id) {
                        entry.overtaken = entry.out.is_some();
                    }
                    self.forgotten(now, &id, By::Presence, settings, rng);
                }
                (self.look_failures, self.look_steps) = (0, Backoff::default());
                self.look_due = now.plus(settings.less(settings.presence, rng));
                return;
            }
            Answer::Failed(Trouble::Dropped) => {
                self.look_due = now;
                return;
            }
            Answer::Failed(error) => *error,
            _ => Trouble::Malformed,
        };
        let retry_in = settings.after(&mut self.look_steps, error, rng);
        self.look_due = now.plus(retry_in);
        self.look_failures = self.look_failures.saturating_add(1);
        let failures = self.look_failures;
        self.events.push(now, Event::PresenceCheckFailed { error, failures, retry_in });
    }
}
