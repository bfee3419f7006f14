//! What the second level does beside calls: writing answers, deleting what was invalidated, and
//! what an index has pushed out. Carriers do it, one exchange after the other.

use std::sync::Arc;
use std::time::Duration;

use super::{MOST_CARRIERS, MOST_ENDED, MOST_TRIMS, PurgeId, SecondLevel};
use crate::cache::answer::Record;
use crate::cache::shared::{self, Purge, Step};
use crate::cache::{Key, Settings, Target};
use crate::job::JobOutcome;
use crate::redis::link::{Pass, replies};
use crate::redis::{Command, Reply};
use crate::rng::Pcg32;
use crate::time::{Time, Wall};

/// One exchange beside calls, to be carried out and brought back with [`SecondLevel::done`].
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Chore {
    pass: Pass,
    kind: Kind,
    /// The commands, to be sent together.
    pub commands: Vec<Command>,
}

impl Chore {
    /// When the exchange is to be given up.
    #[must_use]
    pub const fn deadline(&self) -> Time {
        self.pass.deadline()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Write(Box<Write>),
    Trim,
    Purge(PurgeId, Box<Purge>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub(super) record: Record,
    pub(super) settings: Arc<Settings>,
    /// When it was let in; later invalidations may mean it.
    pub(super) order: u64,
}

/// A deletion that is not through.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    pub(super) id: PurgeId,
    pub(super) target: Target<Key>,
    pub(super) settings: Arc<Settings>,
    /// Begun, and what it wants next.
    pub(super) begun: Option<(Box<Purge>, Vec<Command>)>,
    pub(super) out: bool,
    pub(super) not_before: Time,
}

impl Pending {
    fn is_ready(&self, now: Time) -> bool {
        !self.out && self.not_before <= now
    }

    pub(super) fn means(&self, record: &Record) -> bool {
        self.target.means(&record.key, record.scope.as_deref(), &record.tags)
    }
}

impl SecondLevel {
    fn has_work(&self, now: Time) -> bool {
        let purges = || self.pending.iter().any(|purge| purge.is_ready(now));
        !self.writes.is_empty() || (now >= self.retry_at && (!self.trims.is_empty() || purges()))
    }

    /// Whether somebody should begin to carry out chores: it is then counted as a carrier until
    /// [`SecondLevel::next`] has nothing for it, or [`SecondLevel::dismiss`].
    #[must_use]
    pub fn hire(&mut self, now: Time) -> bool {
        let wanted = self.carriers < MOST_CARRIERS && self.has_work(now);
        self.carriers += u32::from(wanted);
        wanted
    }

    /// A carrier was dropped.
    pub fn dismiss(&mut self) {
        self.carriers = self.carriers.saturating_sub(1);
    }

    /// When a background should see whether a carrier is wanted, should none be at work by then.
    #[must_use]
    pub fn due(&self, now: Time) -> Time {
        let idle = self.pending.iter().filter(|purge| !purge.out);
        let first = idle.map(|purge| purge.not_before).min();
        let trims = (!self.trims.is_empty()).then_some(Time::ZERO);
        match first.into_iter().chain(trims).min() {
            // Who is at work looks again, and says so at the end.
            _ if self.carriers > 0 => Time::NEVER,
            _ if !self.writes.is_empty() => now,
            Some(at) => at.max(self.retry_at).max(now),
            None => Time::NEVER,
        }
    }

    /// The next exchange for a carrier; `None`: it is dismissed. Deletions first, since answers
    /// that are written before one are deleted again.
    #[must_use]
    pub fn next(&mut self, now: Time, wall: Wall) -> Option<Chore> {
        let chore = self.chore(now, wall);
        if chore.is_none() {
            self.dismiss();
        }
        chore
    }

    fn chore(&mut self, now: Time, wall: Wall) -> Option<Chore> {
        if now >= self.retry_at
            && let Some(at) = self.pending.iter().position(|purge| purge.is_ready(now))
        {
            match self.link.enter(now, &self.settings) {
                Err(skip) => self.retry_at = skip.until,
                Ok(pass) => {
                    let purge = self.pending.get_mut(at)?;
                    let (machine, commands) = purge.begun.take().unwrap_or_else(|| {
                        let (machine, first) = Purge::new(purge.target.clone(), &purge.settings);
                        (Box::new(machine), first)
                    });
                    purge.out = true;
                    let kind = Kind::Purge(purge.id, machine);
                    return Some(Chore { pass, kind, commands });
                }
            }
        }
        while let Some(write) = self.writes.pop_front() {
            self.bytes = self.bytes.saturating_sub(u64::from(write.record.answer.weight()));
            let commands = shared::set(&write.record, wall, &write.settings);
            if commands.is_empty() {
                continue;
            }
            match self.link.enter(now, &self.settings) {
                Ok(pass) => {
                    return Some(Chore { pass, kind: Kind::Write(Box::new(write)), commands });
                }
                Err(_) => self.counts.skipped = self.counts.skipped.saturating_add(1),
            }
        }
        if self.trims.is_empty() || now < self.retry_at {
            return None;
        }
        match self.link.enter(now, &self.settings) {
            Ok(pass) => {
                let commands = vec![self.trims.pop_front()?];
                Some(Chore { pass, kind: Kind::Trim, commands })
            }
            Err(skip) => {
                self.retry_at = skip.until;
                None
            }
        }
    }

    /// Takes what came of an exchange.
    pub fn done(&mut self, now: Time, chore: Chore, outcome: JobOutcome, rng: &mut Pcg32) {
        let Chore { pass, kind, commands } = chore;
        let replies = replies(outcome, commands.len());
        let replies = match replies {
            Ok(replies) => {
                self.worked(now, pass);
                self.refusals(now, &replies);
                Some(replies)
            }
            Err(why) => {
                if why.is_none() {
                    // A driver that has nobody to do it has nobody at once either.
                    self.retry_at = now.plus(Duration::from_nanos(self.settings.backoff));
                }
                self.broken(now, pass, why, rng);
                None
            }
        };
        match kind {
            Kind::Trim if replies.is_none() => self.trim(commands),
            Kind::Trim => (),
            Kind::Write(write) => self.written(&write, replies),
            Kind::Purge(id, machine) => self.stepped(now, id, machine, replies),
        }
    }

    fn written(&mut self, write: &Write, replies: Option<Vec<Reply>>) {
        let refused = |replies: &Vec<Reply>| replies.iter().any(|r| r.refusal().is_some());
        let fine = replies.as_ref().is_some_and(|replies| !refused(replies));
        let count = if fine { &mut self.counts.stored } else { &mut self.counts.store_errors };
        *count = count.saturating_add(1);
        if let Some(replies) = replies {
            self.trim(shared::overflow(&replies, &write.settings));
        }
        // Whether or not it arrived: it was on its way when what it says became outdated.
        let record = &write.record;
        let scope = record.scope.as_deref();
        if self.begun.voids(write.order, &record.key, scope, &record.tags) {
            self.purge(Target::Key(record.key), &write.settings);
        }
    }

    /// What an index has pushed out is to be deleted. What does not fit here expires by itself.
    fn trim(&mut self, commands: Vec<Command>) {
        let room = MOST_TRIMS.saturating_sub(self.trims.len());
        self.trims.extend(commands.into_iter().take(room));
    }

    fn stepped(
        &mut self,
        now: Time,
        id: PurgeId,
        mut machine: Box<Purge>,
        replies: Option<Vec<Reply>>,
    ) {
        // Not there any more: taken up by a deletion of everything.
        let Some(at) = self.pending.iter().position(|purge| purge.id == id) else { return };
        let Some(purge) = self.pending.get_mut(at) else { return };
        purge.out = false;
        let Some(replies) = replies else { return };
        match machine.step(&replies, &purge.settings) {
            Step::Run(commands) => purge.begun = Some((machine, commands)),
            Step::Refused => {
                let wait = Duration::from_nanos(self.settings.backoff_max);
                purge.not_before = now.plus(wait);
            }
            Step::Done(removed) => {
                let purge = self.pending.remove(at);
                self.order = self.order.saturating_add(1);
                self.through.note(self.order, purge.target);
                if self.ended.len() >= MOST_ENDED {
                    self.ended.pop_front();
                }
                self.ended.push_back((id, removed));
                self.counts.purged = self.counts.purged.saturating_add(1);
            }
        }
    }
}
