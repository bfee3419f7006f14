//! What other nodes say of the endpoints of a service, and what is told to them: where
//! [`Knowledge`] meets the pool. Words, quorums and times to live are in `redis/knowledge`.
//!
//! Told is what own breakers decided by own results, not what a person forced nor what a breaker
//! in shadow would do. Heard advice moves an endpoint to a list of its own, out of the way of
//! calls: one call per `probe_interval` goes there to find out, a success takes it back, and where
//! nobody else is left (or in panic) it is used as if nothing had been said. In `strict` it is
//! refused until the advice ends. Nothing here costs a call more than a compare while it is off.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::Service;
use crate::config::ConfigError;
use crate::job::{JobOutcome, Poll};
use crate::notice::Event;
use crate::outcome::Class;
use crate::policy::breaker;
use crate::pool::{Endpoint, Heed};
use crate::redis::knowledge::{Admission, Advice, Exchange, Knowledge, Own};
use crate::redis::{self, Command};
use crate::snapshot::Advised;
use crate::time::{Time, Wall};

/// What a service shares with other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sharing {
    knowledge: Knowledge,
    settings: redis::Settings,
    /// Whether something was told since the driver last asked.
    news: bool,
}

impl Sharing {
    /// Tells what the breaker of an endpoint says now.
    pub(super) fn tell(&mut self, now: Time, endpoint: &Endpoint, rules: &breaker::Settings) {
        let forced = endpoint.breaker.is_forced();
        let own = match Own::of(&endpoint.breaker.state()) {
            own if rules.enforces() && !forced => own,
            _ => Own::Closed,
        };
        let settings = &self.settings.knowledge;
        self.news |= self.knowledge.report(now, endpoint.hearsay.name, own, settings);
    }
}

/// What came of an exchange with Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Heard {
    /// Whether other endpoints may be called than before: who waits for one should look.
    pub changed: bool,
}

impl Service {
    /// Shares what its breakers find out with other nodes, under the name `node`, which no other
    /// live one may have. `None`, or settings that are off: not any more. New settings keep what
    /// was heard.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn share(
        &mut self,
        now: Time,
        settings: Option<&redis::Settings>,
        node: &str,
    ) -> Result<(), ConfigError> {
        let wanted = settings.filter(|settings| !settings.knowledge.is_off());
        match (wanted, &mut self.sharing) {
            (None, sharing) => *sharing = None,
            (Some(settings), Some(sharing)) => sharing.settings = settings.clone(),
            (Some(settings), sharing) => {
                let knowledge = Knowledge::new(&self.name, node)?;
                let settings = settings.clone();
                *sharing = Some(Box::new(Sharing { knowledge, settings, news: true }));
            }
        }
        self.tell_all(now);
        self.consider_all(now);
        Ok(())
    }

    /// Whether it shares anything.
    #[must_use]
    pub fn shares(&self) -> bool {
        self.sharing.is_some()
    }

    /// Whether there has been something to tell since this was last asked: then
    /// [`Service::poll_knowledge`] may have something to do sooner than it said.
    #[inline]
    pub fn take_news(&mut self) -> bool {
        self.sharing.as_mut().is_some_and(|sharing| std::mem::take(&mut sharing.news))
    }

    /// What to exchange with Redis now. [`Poll::Wait`] with [`Time::NEVER`]: nothing.
    pub fn poll_knowledge(&mut self, now: Time, wall: Wall) -> Poll<Exchange> {
        match &mut self.sharing {
            None => Poll::Wait(Time::NEVER),
            Some(sharing) => {
                sharing.news = false;
                sharing.knowledge.poll(now, wall, &sharing.settings, &mut self.rng)
            }
        }
    }

    /// Takes the result of an exchange. Another one may follow at once.
    pub fn knowledge_done(&mut self, now: Time, wall: Wall, id: u64, outcome: JobOutcome) -> Heard {
        let Some(sharing) = &mut self.sharing else { return Heard::default() };
        let Sharing { knowledge, settings, .. } = &mut **sharing;
        let done = knowledge.done(now, wall, id, outcome, settings, &mut self.rng);
        for what in done.events {
            self.notices.push(now, Event::SharedKnowledge { what });
        }
        // Also where the same are advised against as before: their time was prolonged.
        let any = done.changed || knowledge.board().endpoints().len() > 0;
        let changed = any && self.consider_all(now);
        if changed {
            self.epoch += 1;
        }
        Heard { changed }
    }

    /// The commands with which a node that ends takes back what it said of this service.
    #[must_use]
    pub fn farewell(&self) -> Vec<Command> {
        let farewell = |sharing: &Sharing| sharing.knowledge.farewell(&sharing.settings);
        self.sharing.as_deref().map(farewell).unwrap_or_default()
    }

    /// This node ends: the next exchange takes back what it said, and nothing is told or heard any
    /// more. What was heard stays until its time is over.
    pub fn say_farewell(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.knowledge.leave();
            sharing.news = true;
        }
    }

    /// Whether there is nothing that it has to take back.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.sharing.as_deref().is_none_or(|sharing| sharing.knowledge.has_left())
    }

    /// Tells what the breaker of the endpoint at `index` says now.
    #[inline]
    pub(super) fn tell(&mut self, now: Time, index: u32) {
        if let Some(sharing) = &mut self.sharing
            && let Some(Some(endpoint)) = self.pool.endpoints.get(index as usize)
        {
            sharing.tell(now, endpoint, &self.rules.breaker);
        }
    }

    /// The same of all endpoints.
    pub(super) fn tell_all(&mut self, now: Time) {
        let Some(sharing) = &mut self.sharing else { return };
        for endpoint in self.pool.endpoints.iter().flatten() {
            sharing.tell(now, endpoint, &self.rules.breaker);
        }
    }

    /// Looks at all endpoints again. Returns whether other ones may be called than before.
    pub(super) fn consider_all(&mut self, now: Time) -> bool {
        let mut changed = false;
        for index in 0..u32::try_from(self.pool.endpoints.len()).unwrap_or(u32::MAX) {
            changed |= self.consider(now, index);
            self.pool.sync(now, index, &self.rules);
        }
        self.retier(now);
        changed
    }

    /// Time acts on advice.
    #[inline(never)]
    pub(super) fn tick_hearsay(&mut self, now: Time) {
        for index in self.pool.due_by(now) {
            self.consider(now, index);
        }
    }

    /// An attempt goes to an endpoint of which the next one was to find out about it.
    #[inline(never)]
    pub(super) fn probed(&mut self, now: Time, index: u32) {
        let Service { sharing, pool, rng, .. } = self;
        if let Some(sharing) = sharing
            && let Some(Some(endpoint)) = pool.endpoints.get_mut(index as usize)
        {
            let settings = &sharing.settings.knowledge;
            let (name, success) = (endpoint.hearsay.name, endpoint.last_success);
            let advice = sharing.knowledge.advice(now, name, success, settings);
            let _ = endpoint.hearsay.suspect.admit(now, advice, settings, rng);
        }
        self.consider(now, index);
    }

    /// An attempt ended: a success counts for more than what others say.
    #[inline]
    pub(super) fn found(&mut self, now: Time, index: u32, class: Class) {
        if self.sharing.is_some() && class == Class::Success {
            self.consider(now, index);
        }
    }

    /// Decides what is made of what others say of the endpoint at `index`. Returns whether that
    /// has changed. Lists and timers are to be brought in line afterwards.
    fn consider(&mut self, now: Time, index: u32) -> bool {
        let Service { sharing, pool, rng, notices, .. } = self;
        let Some(Some(endpoint)) = pool.endpoints.get_mut(index as usize) else { return false };
        let before = endpoint.hearsay.heed;
        let Some(sharing) = sharing else {
            endpoint.hearsay = endpoint.hearsay.forgotten();
            return before != Heed::Nothing;
        };
        let settings = &sharing.settings.knowledge;
        let name = endpoint.hearsay.name;
        let success = endpoint.last_success.filter(|_| !settings.is_strict());
        let advice = sharing.knowledge.advice(now, name, success, settings);
        // Not kept where it grants a probe: it is used up by the attempt, not by looking.
        let mut suspect = endpoint.hearsay.suspect;
        let admission = suspect.admit(now, advice, settings, rng);
        let (heed, due) = match (advice, admission) {
            (Advice::Avoid { until, .. }, Admission::Probe) => (Heed::Probe, until),
            (Advice::Avoid { until, .. }, Admission::Held { until: probe }) => {
                endpoint.hearsay.suspect = suspect;
                let heed = if settings.is_strict() { Heed::Refused } else { Heed::Held };
                (heed, until.min(probe))
            }
            (Advice::None, _) | (_, Admission::Free) => {
                endpoint.hearsay.suspect = suspect;
                let others = sharing.knowledge.advice(now, name, None, settings);
                let due = match (others, success) {
                    (Advice::Avoid { until, .. }, Some(at)) => until.min(settings.outvotes(at)),
                    _ => Time::NEVER,
                };
                (Heed::Nothing, due)
            }
        };
        // Never now: this would be asked again and again.
        let due = due.max(Time::from_nanos(now.as_nanos().saturating_add(1)));
        (endpoint.hearsay.heed, endpoint.hearsay.due) = (heed, due);
        let cluster = |tier: u32| pool.tiers.get(tier as usize).map(|tier| tier.cluster.clone());
        if (before == Heed::Nothing) != (heed == Heed::Nothing)
            && let Some(cluster) = cluster(endpoint.tier)
        {
            let (endpoint, refused) = (endpoint.label.clone(), heed == Heed::Refused);
            notices.push(
                now,
                match advice {
                    Advice::Avoid { by, of, .. } => {
                        Event::AdvisedAgainst { cluster, endpoint, by, of, refused }
                    }
                    Advice::None => Event::AdviceEnded { cluster, endpoint },
                },
            );
        }
        before != heed
    }

    /// What others say against an endpoint, for people.
    pub(super) fn advised_against(&self, now: Time, endpoint: &Endpoint) -> Option<Advised> {
        let Sharing { knowledge, settings, .. } = self.sharing.as_deref()?;
        let name = endpoint.hearsay.name;
        match knowledge.advice(now, name, None, &settings.knowledge) {
            Advice::None => None,
            Advice::Avoid { by, of, until } => {
                let heeded = endpoint.hearsay.heed != Heed::Nothing;
                Some(Advised { by, of, ends_in: now.until(until), heeded })
            }
        }
    }
}
