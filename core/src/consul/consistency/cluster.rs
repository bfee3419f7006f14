//! The split-brain check: how many members are alive, counted again and again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::ask::{Answer, Ask, AskId, Asked, LATE, Trouble};
use super::super::event::{Event, Events};
use super::Settings;
use crate::job::Poll;
use crate::rng::Pcg32;
use crate::time::Time;

/// The status of a member that is alive (2 is leaving, 3 left, 4 failed).
const ALIVE: u64 = 1;

/// How many of these statuses are those of living members.
#[must_use]
pub fn alive(statuses: impl IntoIterator<Item = u64>) -> u32 {
    let count = statuses.into_iter().filter(|status| *status == ALIVE).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What one count says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether enough members are alive; `false` on any error.
    pub whole: bool,
    /// Members alive; 0 on any error.
    pub alive: u32,
    /// Members that must be.
    pub minimum: u32,
    /// The error.
    pub error: Option<Trouble>,
}

/// The split-brain check as a function: whole if at least `minimum` members are alive, not whole
/// on any error.
///
/// ```
/// use origin_core::consul::ask::Trouble;
/// use origin_core::consul::consistency::{alive, judge};
///
/// // Three members, of whom one has failed.
/// assert!(!judge(Ok(alive([1, 1, 4])), 3).whole);
/// assert!(judge(Ok(alive([1, 1, 1, 3])), 3).whole);
/// assert!(!judge(Err(Trouble::Forbidden), 3).whole);
/// ```
#[must_use]
pub const fn judge(alive: Result<u32, Trouble>, minimum: u32) -> Verdict {
    match alive {
        Ok(alive) => Verdict { whole: alive >= minimum, alive, minimum, error: None },
        Err(error) => Verdict { whole: false, alive: 0, minimum, error: Some(error) },
    }
}

/// The split-brain check of one cluster: when members are counted, and what followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cluster {
    verdict: Option<Verdict>,
    heard: Option<Time>,
    failing_since: Option<Time>,
    lease: Option<(AskId, Time)>,
    due: Time,
    next_id: u64,
    events: Events,
}

impl Cluster {
    /// A cluster of which nothing is known.
    #[must_use]
    pub fn new() -> Cluster {
        Cluster::default()
    }

    /// Whether registrations and refreshes are to be held back: the last count failed, or there
    /// was none yet. Never while the check is off.
    #[must_use]
    pub fn holds(&self, settings: &Settings) -> bool {
        settings.split_brain && !self.verdict.is_some_and(|verdict| verdict.whole)
    }

    /// The last verdict and when it was reached.
    #[must_use]
    pub fn verdict(&self) -> Option<(Verdict, Time)> {
        self.verdict.zip(self.heard)
    }

    /// The next count, if it is due.
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll<Asked> {
        if !settings.split_brain {
            return Poll::Wait(Time::NEVER);
        }
        if let Some((id, ends)) = self.lease {
            if now < ends {
                return Poll::Wait(ends);
            }
            let _ = self.done(now, id, &Answer::Failed(Trouble::LOST), settings, rng);
        }
        self.due = self.due.min(now.plus(Duration::from_nanos(settings.interval)));
        if now < self.due {
            return Poll::Wait(self.due);
        }
        let id = AskId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let deadline = now.plus(settings.timeout);
        self.lease = Some((id, deadline.plus(LATE)));
        Poll::Run(Box::new(Asked { id, ask: Ask::Members, deadline }))
    }

    /// Takes the answer. `None`: it is not under way any more, or was dropped.
    pub fn done(
        &mut self,
        now: Time,
        id: AskId,
        answer: &Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Verdict> {
        self.lease.take_if(|(out, _)| *out == id)?;
        let alive = match answer {
            Answer::Members { alive, .. } => Ok(*alive),
            Answer::Failed(Trouble::Dropped) => {
                self.due = now;
                return None;
            }
            Answer::Failed(trouble) => Err(*trouble),
            _ => Err(Trouble::Malformed),
        };
        self.due = settings.again(now, settings.interval, rng);
        let verdict = judge(alive, settings.minimum);
        let before = self.verdict.replace(verdict);
        self.heard = Some(now);
        let Verdict { whole, alive, minimum, error } = verdict;
        if !whole {
            self.failing_since = self.failing_since.or(Some(now));
            // Each reason once, not each count.
            if before != Some(verdict) {
                let event = Event::ClusterHealthCheckFailed { alive, minimum, error };
                self.events.push(now, event);
            }
        } else if let Some(since) = self.failing_since.take() {
            let failed_for = now.since(since);
            self.events.push(now, Event::ClusterHealthy { alive, minimum, failed_for });
        }
        Some(verdict)
    }

    /// Its events.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }
}
