//! Invalidation: one call, all variants of a service (004-61). Which variants there are stands in
//! a set beside them; a machine of a few exchanges reads it in portions and deletes what it names.
//!
//! What others wrote into that set may be anything: only what can be a variant of this service
//! leads to a key, so that nobody can have foreign keys deleted by naming them there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Bar, Event, Level, MOST_BARS};
use crate::job::JobOutcome;
use crate::redis::keys::BadEntry;
use crate::redis::link::{Failure, Pass, Refusal, Skip, replies};
use crate::redis::{Command, Entry, Reply, Settings, Variant};
use crate::rng::Pcg32;
use crate::time::Time;

/// Variants deleted by one exchange.
const PORTION: usize = 256;
/// Portions of one invalidation: 16 384 variants.
const MOST_ROUNDS: u8 = 64;

/// How an invalidation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalidated {
    /// Everything is deleted.
    All {
        /// Lists that were there.
        deleted: u64,
    },
    /// Redis is being left alone. This client believes nothing from before; others may, for a
    /// time to live at most.
    Skipped(Skip),
    /// An exchange failed; the same holds.
    Failed(Failure),
    /// The driver gave it up; the same holds.
    Dropped,
    /// The set was garbage (and is deleted), or longer than 16 384; the same holds.
    Incomplete {
        /// Lists that were there and are deleted.
        deleted: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    List,
    Drop {
        members: Vec<Vec<u8>>,
        last: bool,
    },
    /// The index is no set; it is deleted as what it is, a key of our own.
    Reset,
    Ended(Invalidated),
}

/// One invalidation under way. Carried out with [`Level::next`] and [`Level::invalidated`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    entry: Entry,
    at: Time,
    stage: Stage,
    rounds: u8,
    deleted: u64,
}

/// What an invalidation does next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// These commands to be sent together, by the deadline of the pass.
    Run(Pass, Vec<Command>),
    /// Nothing more.
    Ended(Invalidated),
}

impl Level {
    /// Begins to invalidate all variants of `name`. From now on this client believes none of
    /// what is there.
    ///
    /// # Errors
    /// A name that is not that of a service.
    pub fn invalidate(
        &mut self,
        now: Time,
        name: &str,
        settings: &Settings,
    ) -> Result<Invalidation, BadEntry> {
        let entry = Entry::new(name, &Variant::default())?;
        self.bars.retain(|_, bar| bar.holds(now, &settings.level));
        let bar = Bar { at: now, done: None };
        if self.bars.len() < MOST_BARS || self.bars.contains_key(entry.name()) {
            self.bars.insert(entry.name().clone(), bar);
        } else {
            self.everything = Some(bar);
        }
        Ok(Invalidation { entry, at: now, stage: Stage::List, rounds: 0, deleted: 0 })
    }

    /// What to do next.
    pub fn next(
        &mut self,
        now: Time,
        invalidation: &mut Invalidation,
        settings: &Settings,
    ) -> Next {
        let Invalidation { entry, stage, rounds, .. } = invalidation;
        if let Stage::Ended(how) = stage {
            return Next::Ended(how.clone());
        }
        if !settings.level.enabled {
            *stage = Stage::Ended(Invalidated::All { deleted: 0 });
            return Next::Ended(Invalidated::All { deleted: 0 });
        }
        let pass = match self.link.enter(now, &settings.link) {
            Ok(pass) => pass,
            Err(skip) => {
                *stage = Stage::Ended(Invalidated::Skipped(skip));
                return Next::Ended(Invalidated::Skipped(skip));
            }
        };
        let index = settings.keys.index(entry);
        let commands = match stage {
            Stage::Drop { members, .. } => {
                // Out of the index first: a list that is written in between is deleted or named
                // there, never neither.
                let mut forget = Command::text(&["SREM", &index]);
                let mut delete = Command::text(&["DEL"]);
                for member in members.iter() {
                    forget = forget.with(member.clone());
                    if let Some(variant) = Entry::of_member(entry.name(), member) {
                        delete = delete.with(settings.keys.value(&variant));
                    }
                }
                // DEL needs a key; the plain one is as good as any.
                vec![forget, delete.with(settings.keys.value(entry))]
            }
            Stage::Reset => vec![
                Command::text(&["DEL", &index]),
                Command::text(&["DEL", &settings.keys.value(entry)]),
            ],
            _ => {
                *rounds += 1;
                vec![
                    Command::text(&["DEL", &settings.keys.value(entry)]),
                    Command::text(&["SRANDMEMBER", &index, &PORTION.to_string()]),
                ]
            }
        };
        Next::Run(pass, commands)
    }

    /// Takes what came of the commands.
    pub fn invalidated(
        &mut self,
        now: Time,
        invalidation: &mut Invalidation,
        pass: Pass,
        outcome: JobOutcome,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Vec<Event> {
        match replies(outcome, 2) {
            Ok(replies) => {
                let worked = self.link.worked(now, pass).map(Event::Link);
                invalidation.take(&replies);
                if let Stage::Ended(Invalidated::All { .. }) = invalidation.stage {
                    self.lift(now, invalidation.entry.name(), invalidation.at);
                }
                worked.into_iter().collect()
            }
            Err(None) => {
                self.link.dropped(now, pass);
                invalidation.stage = Stage::Ended(Invalidated::Dropped);
                Vec::new()
            }
            Err(Some(why)) => {
                let lost = self.link.failed(now, pass, why.clone(), &settings.link, rng);
                invalidation.stage = Stage::Ended(Invalidated::Failed(why));
                lost.map(Event::Link).into_iter().collect()
            }
        }
    }

    /// Everything from before `at` is deleted. A later invalidation of the same service has a
    /// bar of its own.
    fn lift(&mut self, now: Time, name: &Arc<str>, at: Time) {
        if let Some(bar) = self.bars.get_mut(name).filter(|bar| bar.at <= at) {
            bar.done = Some(now);
        }
    }
}

impl Invalidation {
    fn take(&mut self, replies: &[Reply]) {
        let [first, second] = replies else { return };
        let refused = [first, second].into_iter().find_map(Reply::refusal);
        let ended = match (&mut self.stage, refused) {
            (Stage::List, Some(word)) if Refusal::of(word) == Refusal::Value => {
                self.count(first);
                self.stage = Stage::Reset;
                None
            }
            (_, Some(word)) => Some(Invalidated::Failed(Failure::Refused(word.clone()))),
            (Stage::List, None) => {
                self.count(first);
                self.listed(second)
            }
            (Stage::Drop { last, .. }, None) => {
                let last = *last;
                self.count(second);
                let deleted = self.deleted;
                if last {
                    Some(Invalidated::All { deleted })
                } else if self.rounds >= MOST_ROUNDS {
                    Some(Invalidated::Incomplete { deleted })
                } else {
                    self.stage = Stage::List;
                    None
                }
            }
            (Stage::Reset, None) => Some(Invalidated::Incomplete { deleted: self.deleted }),
            (Stage::Ended(_), None) => None,
        };
        if let Some(how) = ended {
            self.stage = Stage::Ended(how);
        }
    }

    fn listed(&mut self, reply: &Reply) -> Option<Invalidated> {
        let Some(list) = reply.list() else { return Some(Invalidated::Failed(Failure::Replies)) };
        let members: Vec<Vec<u8>> = list
            .iter()
            .filter_map(Reply::bytes)
            .take(PORTION)
            .map(|member| member.to_vec())
            .collect();
        if members.is_empty() {
            return Some(Invalidated::All { deleted: self.deleted });
        }
        let last = members.len() < PORTION;
        self.stage = Stage::Drop { members, last };
        None
    }

    fn count(&mut self, reply: &Reply) {
        let deleted = reply.number().and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        self.deleted = self.deleted.saturating_add(deleted);
    }
}
