//! One registration: what is wanted of it, and where it stands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ask::{AskId, Beat, MOST_NOTE, Trouble};
use super::{MOST, MOST_CHECKS};
use crate::policy::backoff::Backoff;
use crate::time::{DurationText, Time};

/// Shortest time to live of a check that is renewed.
pub const SHORTEST_TTL: Duration = Duration::from_millis(300);
/// Shortest time between two heartbeats of a check, however often its state changes.
pub(super) const SHORTEST_BEAT: Duration = Duration::from_millis(100);

/// A TTL check of a registration, renewed as long as that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ttl {
    /// Its id on the agent, for example `service:{id}` or `service:{id}:2`.
    pub check: Arc<str>,
    /// How long a heartbeat keeps it alive; the registration must say the same.
    pub ttl: Duration,
}

/// A service that is to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wanted {
    /// Its id on the agent.
    pub id: Arc<str>,
    /// Its name.
    pub service: Arc<str>,
    /// Its TTL checks.
    pub checks: Vec<Ttl>,
    /// A digest of the whole registration: another one for the same id registers it anew.
    pub digest: u64,
}

/// Why the registrar does not do it. Said before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refused {
    /// An id or a name is empty.
    Empty {
        /// Which one: `id`, `service` or `check`.
        field: Arc<str>,
    },
    /// Too many registrations.
    TooMany {
        /// Most that are kept.
        most: usize,
    },
    /// Too many TTL checks.
    TooManyChecks {
        /// The registration.
        id: Arc<str>,
        /// Most that it may have.
        most: usize,
    },
    /// A check is named twice.
    Twice {
        /// The check.
        check: Arc<str>,
    },
    /// A time to live is too short to be renewed.
    Ttl {
        /// The check.
        check: Arc<str>,
        /// What it says.
        ttl: Duration,
    },
    /// This registrar has not registered it. Somebody else's service is removed only on explicit
    /// demand.
    Foreign {
        /// The id.
        id: Arc<str>,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Empty { field } => write!(f, "{field} is empty"),
            Refused::TooMany { most } => write!(f, "there are {most} registrations already"),
            Refused::TooManyChecks { id, most } => {
                write!(f, "checks of {id}: more than {most} are not renewed")
            }
            Refused::Twice { check } => write!(f, "checks: {check} is named twice"),
            Refused::Ttl { check, ttl } => write!(
                f,
                "ttl of {check}: {} is shorter than {}",
                DurationText(*ttl),
                DurationText(SHORTEST_TTL)
            ),
            Refused::Foreign { id } => write!(f, "{id} was not registered here"),
        }
    }
}

impl Wanted {
    /// Checks what is wanted.
    pub(super) fn check(&self, count: usize) -> Result<(), Refused> {
        let empty = |field: &str| Err(Refused::Empty { field: field.into() });
        if self.id.is_empty() {
            return empty("id");
        }
        if self.service.is_empty() {
            return empty("service");
        }
        if count >= MOST {
            return Err(Refused::TooMany { most: MOST });
        }
        if self.checks.len() > MOST_CHECKS {
            return Err(Refused::TooManyChecks { id: self.id.clone(), most: MOST_CHECKS });
        }
        for (n, ttl) in self.checks.iter().enumerate() {
            if ttl.check.is_empty() {
                return empty("check");
            }
            if ttl.ttl < SHORTEST_TTL {
                return Err(Refused::Ttl { check: ttl.check.clone(), ttl: ttl.ttl });
            }
            if self.checks[..n].iter().any(|other| other.check == ttl.check) {
                return Err(Refused::Twice { check: ttl.check.clone() });
            }
        }
        Ok(())
    }
}

/// Where a registration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// To be registered, as soon as its time comes and nothing holds it back.
    Wanted,
    /// Registered, as far as is known.
    Registered,
    /// To be deregistered.
    Leaving,
}

/// A registration, for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub id: Arc<str>,
    /// The service.
    pub service: Arc<str>,
    /// Where it stands.
    pub stage: Stage,
    /// Failures in a row of what it needs to get on.
    pub failures: u32,
    /// The last one.
    pub error: Option<Trouble>,
    /// When it gets on, at the earliest.
    pub next: Time,
}

/// The heartbeats of one check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Pulse {
    pub(super) check: Arc<str>,
    pub(super) ttl: Duration,
    pub(super) beat: Beat,
    pub(super) note: Arc<str>,
    pub(super) due: Time,
    pub(super) issued: Time,
    /// Its state changed after the last heartbeat was sent.
    pub(super) said: bool,
    pub(super) steps: Backoff,
    pub(super) failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) service: Arc<str>,
    pub(super) digest: u64,
    pub(super) stage: Stage,
    pub(super) pulses: Vec<Pulse>,
    /// When it is to be registered, or deregistered.
    pub(super) due: Time,
    /// When a deregistration is given up.
    pub(super) until: Time,
    pub(super) steps: Backoff,
    pub(super) failures: u32,
    pub(super) error: Option<Trouble>,
    pub(super) out: Option<AskId>,
    /// Whether the agent may know it.
    pub(super) sent: bool,
    /// Whether it was registered before.
    pub(super) known: bool,
    /// What is out was overtaken: its success does not count.
    pub(super) overtaken: bool,
    /// When it was registered.
    pub(super) since: Time,
    /// Registrations that the agent forgot, without a sign of life in between.
    pub(super) lapses: u32,
    pub(super) lapse_steps: Backoff,
}

impl Entry {
    pub(super) fn new(now: Time, service: Arc<str>) -> Entry {
        Entry {
            service,
            digest: 0,
            stage: Stage::Wanted,
            pulses: Vec::new(),
            due: now,
            until: Time::NEVER,
            steps: Backoff::default(),
            failures: 0,
            error: None,
            out: None,
            sent: false,
            known: false,
            overtaken: false,
            since: now,
            lapses: 0,
            lapse_steps: Backoff::default(),
        }
    }

    /// Whether this is what is wanted.
    pub(super) fn agrees(&self, wanted: &Wanted) -> bool {
        let checks = self.pulses.iter().map(|pulse| (&pulse.check, pulse.ttl));
        (&self.service, self.digest) == (&wanted.service, wanted.digest)
            && checks.eq(wanted.checks.iter().map(|ttl| (&ttl.check, ttl.ttl)))
    }

    /// Takes over which checks are renewed; those that stay keep what they say.
    pub(super) fn renew(&mut self, now: Time, checks: &[Ttl]) {
        let before = std::mem::take(&mut self.pulses);
        let pulse = |ttl: &Ttl| {
            let old = before.iter().find(|pulse| pulse.check == ttl.check);
            Pulse {
                check: ttl.check.clone(),
                ttl: ttl.ttl,
                beat: old.map_or(Beat::Pass, |old| old.beat),
                note: old.map_or_else(|| "".into(), |old| old.note.clone()),
                due: now,
                issued: old.map_or(Time::ZERO, |old| old.issued),
                said: false,
                steps: Backoff::default(),
                failures: old.map_or(0, |old| old.failures),
            }
        };
        self.pulses = checks.iter().map(pulse).collect();
    }

    /// When something is to be done for it.
    pub(super) fn next(&self, held: bool) -> Time {
        if self.out.is_some() {
            return Time::NEVER;
        }
        match self.stage {
            Stage::Wanted if held => Time::NEVER,
            Stage::Wanted => self.due,
            Stage::Leaving => self.due.min(self.until),
            Stage::Registered => {
                self.pulses.iter().map(|pulse| pulse.due).min().unwrap_or(Time::NEVER)
            }
        }
    }

    /// It has to get from one stage to another from now on, without a past.
    pub(super) fn enter(&mut self, now: Time, stage: Stage) {
        self.stage = stage;
        self.due = now;
        self.steps = Backoff::default();
        (self.failures, self.error) = (0, None);
    }
}

/// At most [`MOST_NOTE`] bytes of `note`.
pub(super) fn cut(note: &str) -> Arc<str> {
    let mut end = note.len().min(MOST_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].into()
}
