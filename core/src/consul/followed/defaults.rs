//! Service and proxy defaults, followed: three lists, one of each kind of entry, whatever the number
//! of services, each a blocking query. What they mean for a service is [`Suggestion`]; they hold
//! where the configuration says nothing (003-36, 003-37).
//!
//! Consul's own sidecars are told of their entries by the agent, over a stream. A client without a
//! sidecar has nobody who tells it, so that central defaults usually end where the mesh does. This
//! closes the gap. A list that cannot be read changes nothing: the last one goes on being followed,
//! and before the first nothing is suggested. Off by default: `consul.defaults`.

use std::sync::Arc;

use super::Failure;
use crate::consul::ask::Trouble;
use crate::consul::entries::{Entry, Kind, Suggestion};
use crate::consul::watch::{Change, Query, Settings, Watch};
use crate::job::Poll;
use crate::policy::balance::hash;
use crate::rng::Pcg32;
use crate::time::Time;

/// A list to be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Asked {
    /// Of this kind.
    pub kind: Kind,
    /// How, and to be given back with the answer.
    pub query: Query,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The entries, and the index of the reply.
    Entries(Option<u64>, Vec<Entry>),
    /// Nothing until the deadline.
    Silence,
    /// It failed; what an agent said, for people.
    Failed(Trouble, Arc<str>),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    lists: [(Kind, Watch, Vec<Entry>); 3],
}

impl Defaults {
    /// One that has read nothing.
    #[must_use]
    pub fn new(settings: &Settings) -> Defaults {
        Defaults { lists: Kind::ALL.map(|kind| (kind, Watch::new(settings), Vec::new())) }
    }

    /// The next list to read, if one is due; else when to ask again.
    pub fn poll(&mut self, now: Time, settings: &Settings, rng: &mut Pcg32) -> Poll<Asked> {
        let mut next = Time::NEVER;
        for (kind, watch, _) in &mut self.lists {
            match watch.next(now, settings, rng) {
                Poll::Run(query) => {
                    return Poll::Run(Box::new(Asked { kind: *kind, query: *query }));
                }
                Poll::Wait(at) => next = next.min(at),
            }
        }
        Poll::Wait(next)
    }

    /// Takes what came of it. Returns whether anything is suggested differently, perhaps.
    pub fn done(
        &mut self,
        now: Time,
        asked: &Asked,
        answer: Answer,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Result<bool, Failure> {
        let id = asked.query.id;
        let Some((_, watch, held)) = self.lists.iter_mut().find(|(kind, ..)| *kind == asked.kind)
        else {
            return Ok(false);
        };
        match answer {
            Answer::Entries(index, entries) => {
                let change = watch.answered(now, id, index, digest(&entries), settings);
                if change == Change::Changed {
                    *held = entries;
                    return Ok(true);
                }
            }
            Answer::Silence => {
                let _ = watch.timed_out(now, id, settings, rng);
            }
            Answer::Failed(trouble, reason) => {
                if let Change::Failed { failures: 1, next_try, .. } =
                    watch.failed(now, id, trouble, settings, rng)
                {
                    return Err(Failure { reason, retry_in: now.until(next_try) });
                }
            }
        }
        Ok(false)
    }

    /// What the entries mean for `service`.
    #[must_use]
    pub fn suggestion(&self, service: &str) -> Suggestion {
        let all = self.lists.iter().flat_map(|(_, _, entries)| entries);
        let about = all.filter(|entry| match entry {
            Entry::Service { name, .. } | Entry::Resolver { name, .. } => **name == *service,
            Entry::Proxy { .. } => true,
        });
        Suggestion::of(&about.cloned().collect::<Vec<_>>())
    }
}

/// What is compared: the entries as they were read, in any order.
fn digest(entries: &[Entry]) -> u64 {
    let one = |entry: &Entry| hash::of(entry.body().to_string().as_bytes());
    let sum = entries.iter().map(one).fold(0_u64, u64::wrapping_add);
    sum ^ (entries.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
