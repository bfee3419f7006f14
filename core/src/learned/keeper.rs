//! When what was learnt is written, and what is made of what an earlier run has written. The file
//! itself is the driver's: it is read once when a client is built, and replaced as a whole, so
//! that whatever goes wrong leaves the last good one where it is. What counts is said in
//! [`Learned`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Learned;
use crate::config::StateConfig;
use crate::job::{Job, JobId, JobOutcome, Poll, Work, mark};
use crate::notice::{Event, Notices};
use crate::time::{Rounded, Time, Wall};

/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// What an earlier run had learnt is used.
    Restored {
        /// Services of which something is known.
        services: usize,
        /// Endpoints of them.
        endpoints: usize,
        /// How long ago it was written.
        age: Duration,
    },
    /// What stands in the file is not used.
    Refused {
        /// Why.
        reason: Arc<str>,
    },
    /// It cannot be written; the first failure of a row.
    Failed {
        /// Why.
        reason: Arc<str>,
    },
    /// It could be written again.
    Recovered {
        /// Failures before.
        failures: u32,
    },
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Restored { services, endpoints, age } => write!(
                f,
                "what was learnt {} ago of {endpoints} endpoints of {services} services is used",
                Rounded(*age)
            ),
            Said::Refused { reason } => {
                write!(f, "what an earlier run has learnt is not used: {reason}")
            }
            Said::Failed { reason } => write!(f, "what is learnt cannot be written: {reason}"),
            Said::Recovered { failures } => {
                write!(f, "what is learnt is written again after {failures} failures")
            }
        }
    }
}

/// Keeps what is learnt. See the [module](self).
#[derive(Clone, Debug)]
pub struct Keeper {
    path: Arc<str>,
    every: Duration,
    most: usize,
    due: Time,
    /// The write under way.
    out: Option<(JobId, Time)>,
    failures: u32,
    next: u64,
    /// The client ends: one more write, and none after that.
    ending: bool,
    over: bool,
    notices: Notices,
}

impl Keeper {
    /// For a configuration that was checked; `None` where nothing is kept.
    #[must_use]
    pub fn of(now: Time, config: &StateConfig) -> Option<Keeper> {
        let path = config.path.as_deref()?.into();
        let StateConfig { every, max_bytes: most, .. } = *config;
        Some(Keeper {
            path,
            every,
            most,
            due: now.plus(every),
            out: None,
            failures: 0,
            next: 0,
            ending: false,
            over: false,
            notices: Notices::new(None),
        })
    }

    /// The file to read when a client is built, and how much of it at most.
    #[must_use]
    pub fn file(&self) -> (&Arc<str>, usize) {
        (&self.path, self.most)
    }

    /// What an earlier run has learnt, of what reading its file has yielded.
    #[must_use]
    pub fn restore(&mut self, now: Time, wall: Wall, read: JobOutcome) -> Option<Learned> {
        let content = match read {
            JobOutcome::Content(content) => content?, // a first run has none
            JobOutcome::Impossible(reason) => return self.refuse(now, &reason),
            JobOutcome::Failed(fault) => return self.refuse(now, &fault.to_string()),
            _ => return None,
        };
        if content.len() > self.most {
            return self.refuse(now, "it is larger than max_bytes");
        }
        // The place of a mistake is told, not what stands there.
        let learned: Learned = match serde_json::from_slice(&content) {
            Ok(learned) => learned,
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let reason = format!("line {line}, column {column} is not what belongs there");
                return self.refuse(now, &reason);
            }
        };
        match learned.age(wall) {
            Ok(age) => {
                let services = learned.services.len();
                let endpoints = learned.services.values().map(|it| it.endpoints.len()).sum();
                self.say(now, Said::Restored { services, endpoints, age });
                Some(learned)
            }
            Err(why) => self.refuse(now, &why.to_string()),
        }
    }

    fn refuse(&mut self, now: Time, reason: &str) -> Option<Learned> {
        self.say(now, Said::Refused { reason: reason.into() });
        None
    }

    /// Whether a job of this number is one of its own.
    #[must_use]
    pub const fn owns(id: JobId) -> bool {
        id.0 & mark::ALL == mark::STATE
    }

    /// When it wants to know what was learnt, for [`Keeper::poll`].
    #[must_use]
    pub fn due(&self) -> Time {
        match self.out {
            _ if self.over => Time::NEVER,
            Some((_, deadline)) => deadline,
            None => self.due,
        }
    }

    /// What to write, given what is learnt now, at the time that [`Keeper::due`] says. What was not
    /// learnt does not replace what an earlier run has.
    pub fn poll(&mut self, now: Time, learned: &Learned) -> Poll {
        if now < self.due() {
            return Poll::Wait(self.due());
        }
        self.out = None;
        self.due = now.plus(self.every);
        if learned.services.is_empty() {
            self.over = self.ending;
            return Poll::Wait(self.due());
        }
        let content = match serde_json::to_vec(learned) {
            Ok(content) if content.len() <= self.most => Bytes::from(content),
            Ok(content) => {
                let length = content.len();
                return self.failed(now, &format!("{length} bytes are more than max_bytes"));
            }
            Err(error) => return self.failed(now, &error.to_string()),
        };
        let id = JobId(mark::STATE | self.next);
        self.next = (self.next + 1) & !mark::ALL;
        let deadline = now.plus(PATIENCE);
        self.out = Some((id, deadline));
        let work = Work::Write { path: self.path.clone(), content };
        Poll::Run(Box::new(Job { id, work, deadline }))
    }

    fn failed(&mut self, now: Time, reason: &str) -> Poll {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            self.say(now, Said::Failed { reason: reason.into() });
        }
        self.over = self.ending;
        Poll::Wait(self.due())
    }

    /// Takes what came of a write.
    pub fn done(&mut self, now: Time, id: JobId, outcome: &JobOutcome) {
        if self.out.take_if(|(out, _)| *out == id).is_none() {
            return;
        }
        match outcome {
            JobOutcome::Written => {
                let failures = std::mem::take(&mut self.failures);
                if failures > 0 {
                    self.say(now, Said::Recovered { failures });
                }
                self.over = self.ending;
            }
            JobOutcome::Impossible(reason) => drop(self.failed(now, reason)),
            JobOutcome::Failed(fault) => drop(self.failed(now, &fault.to_string())),
            // Given up by the driver, which may be about to end.
            _ => self.over = self.ending,
        }
    }

    /// The client ends: what is learnt is written once more, at once.
    pub fn end(&mut self, now: Time) {
        self.ending = true;
        self.due = now;
    }

    /// Whether nothing is left to be written before the end.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// What happened, oldest first.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }

    fn say(&mut self, now: Time, what: Said) {
        self.notices.push(now, Event::State { what });
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
