//! The second level as a machine: when Redis is asked and for how long, what of its answers is
//! believed, and what is written and deleted there beside calls. The commands themselves are in
//! [`super::shared`], the form of an answer in [`super::answer`].
//!
//! It protects a call from the level that is meant to make it faster. The first failure ends the
//! use of Redis for a while ([`Link`]), so a dead or hanging one costs one call its timeout and
//! the others a comparison; a call never gives it more than half of the time it has left. What is
//! read is checked and may be nobody's; what cannot be read, is not ours or has expired is a miss.
//!
//! Writing and deleting wait in a queue for a carrier ([`SecondLevel::hire`]), so that no caller
//! waits for them. The queue is bounded: the oldest writes are given up, which costs another
//! program a fetch. Deletions are never given up. As long as one is not through, nothing that it
//! means is believed here, whether Redis was away, slow or overtaken by an answer on its way.
//! Programs that write what they asked for before somebody else's deletion are beyond it: such
//! answers live until they expire.
//!
//! Off: `cache.shared.enabled = false`, or no `[redis]`.

mod chores;
mod said;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use chores::Chore;
use chores::{Pending, Write};
pub use said::{Counts, Invalidated, Miss, Purged, Trouble};

use super::answer::{BadRecord, Record};
use super::invalidate::Recent;
use super::shared;
use super::{Key, Settings, Target};
use crate::job::JobOutcome;
use crate::notice::{Event, Notices};
use crate::redis::link::{self, Failure, Link, Pass, Refusal, replies};
use crate::redis::{Command, Reply};
use crate::rng::Pcg32;
use crate::time::{Time, Wall};

/// The least time in which asking is worth a try.
const LEAST: Duration = Duration::from_millis(5);
/// Shortest time between two warnings about answers that are not believed.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Answers that wait to be written, and their weight together.
const MOST_WRITES: usize = 1_024;
const MOST_BYTES: u64 = 32 << 20;
/// Deletions that wait; more of one namespace become one of everything in it.
const MOST_PURGES: usize = 64;
/// Deletions of what an index has pushed out that wait.
const MOST_TRIMS: usize = 64;
/// Finished deletions whose numbers are kept for those who ask.
const MOST_ENDED: usize = 256;
/// Carriers at work at a time.
const MOST_CARRIERS: u32 = 2;

/// Names one deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeId(u64);

/// One lookup to be carried out.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Ask {
    key: Key,
    order: u64,
    pass: Pass,
    deadline: Time,
    /// The commands, to be sent together.
    pub commands: Vec<Command>,
}

impl Ask {
    /// When the exchange is to be given up.
    #[must_use]
    pub const fn deadline(&self) -> Time {
        self.deadline
    }
}

/// The second level of the caches of one client.
///
/// ```
/// use std::sync::Arc;
/// use origin_core::cache::second::{Miss, SecondLevel};
/// use origin_core::cache::{Key, Settings};
/// use origin_core::job::JobOutcome;
/// use origin_core::redis::{self, Reply};
/// use origin_core::rng::Pcg32;
/// use origin_core::{Time, Wall};
///
/// let (mut level, mut rng) = (SecondLevel::new(redis::Settings::default().link), Pcg32::new(1, 0));
/// let (settings, key) = (Arc::new(Settings::default()), Key::from_bytes([7; 32]));
/// let (now, wall) = (Time::from_millis(5_000), Wall(1_700_000_000));
/// let ask = level.ask(now, &key, Time::NEVER, &settings).unwrap();
/// let outcome = JobOutcome::Replies(vec![Reply::Nil]);
/// let found = level.answered(now, wall, ask, outcome, &settings, &mut rng);
/// assert_eq!(found, Err(Miss::Absent));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SecondLevel {
    settings: link::Settings,
    link: Link,
    counts: Counts,
    /// Counts invalidations and their ends.
    order: u64,
    /// Invalidations, for writes on their way.
    begun: Recent<Key>,
    /// Their ends, for lookups on their way.
    through: Recent<Key>,
    writes: VecDeque<Write>,
    bytes: u64,
    trims: VecDeque<Command>,
    pending: Vec<Pending>,
    ended: VecDeque<(PurgeId, u64)>,
    purges: u64,
    carriers: u32,
    retry_at: Time,
    next_warning: Time,
    unsaid: u64,
    write_refused: bool,
    notices: Notices,
}

impl SecondLevel {
    /// One whose Redis is left alone by these settings when it fails.
    #[must_use]
    pub fn new(settings: link::Settings) -> SecondLevel {
        SecondLevel {
            settings,
            link: Link::default(),
            counts: Counts::default(),
            order: 0,
            begun: Recent::default(),
            through: Recent::default(),
            writes: VecDeque::new(),
            bytes: 0,
            trims: VecDeque::new(),
            pending: Vec::new(),
            ended: VecDeque::new(),
            purges: 0,
            carriers: 0,
            retry_at: Time::ZERO,
            next_warning: Time::ZERO,
            unsaid: 0,
            write_refused: false,
            notices: Notices::new(None),
        }
    }

    /// Asks for the answer of `key`, on behalf of a call that ends at `until`.
    ///
    /// # Errors
    /// A miss without any exchange.
    pub fn ask(
        &mut self,
        now: Time,
        key: &Key,
        until: Time,
        settings: &Settings,
    ) -> Result<Ask, Miss> {
        let asked = self.may_ask(now, key, until);
        if asked.is_err() {
            self.counts.skipped = self.counts.skipped.saturating_add(1);
        }
        let (pass, deadline) = asked?;
        let commands = shared::get(key, settings);
        Ok(Ask { key: *key, order: self.order, pass, deadline, commands })
    }

    fn may_ask(&mut self, now: Time, key: &Key, until: Time) -> Result<(Pass, Time), Miss> {
        // The other half is for the call that follows if nothing is there.
        let half = now.until(until) / 2;
        if half < LEAST {
            return Err(Miss::NoTime);
        }
        if self.pending.iter().any(|purge| matches!(&purge.target, Target::Key(own) if own == key))
        {
            return Err(Miss::Invalidated);
        }
        let pass = self.link.enter(now, &self.settings).map_err(Miss::Skipped)?;
        Ok((pass, pass.deadline().min(now.plus(half))))
    }

    /// Takes what came of a lookup. What is found may have expired; what it is good for is said
    /// by the [`Record`].
    ///
    /// # Errors
    /// Why there is nothing: the call goes on as if there were no second level.
    pub fn answered(
        &mut self,
        now: Time,
        wall: Wall,
        ask: Ask,
        outcome: JobOutcome,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Result<Record, Miss> {
        let found = match replies(outcome, ask.commands.len()) {
            Ok(replies) => {
                self.worked(now, ask.pass);
                match shared::read(&replies, &ask.key, wall, settings) {
                    Ok(Some(record)) => Ok(record),
                    Ok(None) => Err(Miss::Absent),
                    Err(bad) => Err(Miss::Mistrusted(bad)),
                }
            }
            Err(why) => {
                self.broken(now, ask.pass, why.clone(), rng);
                Err(why.map_or(Miss::Dropped, Miss::Failed))
            }
        };
        let found = found.and_then(|record| {
            let scope = record.scope.as_deref();
            let barred = self.pending.iter().any(|purge| purge.means(&record))
                || self.through.voids(ask.order, &record.key, scope, &record.tags);
            if barred { Err(Miss::Invalidated) } else { Ok(record) }
        });
        let counts = &mut self.counts;
        let count = match &found {
            Ok(_) => &mut counts.hits,
            Err(Miss::Absent) => &mut counts.misses,
            Err(Miss::Mistrusted(_)) => &mut counts.garbage,
            Err(Miss::Failed(_)) => &mut counts.errors,
            Err(Miss::NoTime | Miss::Skipped(_) | Miss::Invalidated | Miss::Dropped) => {
                &mut counts.skipped
            }
        };
        *count = count.saturating_add(1);
        if let Err(Miss::Mistrusted(why)) = &found {
            self.warn(now, *why);
        }
        found
    }

    /// Where a fetch begins in the order of invalidations: for [`SecondLevel::keep`].
    #[must_use]
    pub const fn order(&self) -> u64 {
        self.order
    }

    /// Has an answer written, unless it was asked for (`asked`) before something that means it was
    /// invalidated. A carrier is wanted after that.
    pub fn keep(&mut self, record: Record, asked: u64, settings: &Arc<Settings>) {
        let scope = record.scope.as_deref();
        if !settings.is_shared() || self.begun.voids(asked, &record.key, scope, &record.tags) {
            return;
        }
        // Of two answers to one question, the younger one.
        let weight = |write: &Write| u64::from(write.record.answer.weight());
        if let Some(at) = self.writes.iter().position(|write| write.record.key == record.key)
            && let Some(older) = self.writes.remove(at)
        {
            self.bytes = self.bytes.saturating_sub(weight(&older));
        }
        let write = Write { record, settings: settings.clone(), order: self.order };
        self.bytes = self.bytes.saturating_add(weight(&write));
        self.writes.push_back(write);
        while self.writes.len() > MOST_WRITES || self.bytes > MOST_BYTES {
            let Some(oldest) = self.writes.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(weight(&oldest));
            self.counts.store_errors = self.counts.store_errors.saturating_add(1);
        }
    }

    /// Has what is meant deleted; paths are scopes ([`super::http::scope`]). From now on nothing
    /// of it is believed. A carrier is wanted after that.
    pub fn invalidate(&mut self, target: Target<Key>, settings: &Arc<Settings>) -> PurgeId {
        self.order = self.order.saturating_add(1);
        self.begun.note(self.order, target.clone());
        let mut bytes = 0;
        self.writes.retain(|write| {
            let record = &write.record;
            let meant = target.means(&record.key, record.scope.as_deref(), &record.tags);
            if !meant {
                bytes += u64::from(record.answer.weight());
            }
            !meant
        });
        self.bytes = bytes;
        self.purge(target, settings)
    }

    fn purge(&mut self, target: Target<Key>, settings: &Arc<Settings>) -> PurgeId {
        let same = |purge: &Pending| purge.settings.namespace == settings.namespace;
        // One that has not begun does for both.
        let waiting = self.pending.iter().find(|purge| {
            purge.target == target && same(purge) && !purge.out && purge.begun.is_none()
        });
        if let Some(purge) = waiting {
            return purge.id;
        }
        let mut target = target;
        if self.pending.iter().filter(|purge| same(purge)).count() >= MOST_PURGES {
            self.pending.retain(|purge| !same(purge));
            target = Target::All;
        }
        self.purges = self.purges.saturating_add(1);
        let id = PurgeId(self.purges);
        let settings = settings.clone();
        let not_before = Time::ZERO;
        self.pending.push(Pending { id, target, settings, begun: None, out: false, not_before });
        id
    }

    /// What a deletion came to; `None` while it is under way.
    #[must_use]
    pub fn purged(&self, now: Time, id: PurgeId) -> Option<Purged> {
        if let Some((_, removed)) = self.ended.iter().find(|(ended, _)| *ended == id) {
            return Some(Purged::Removed(*removed));
        }
        match self.pending.iter().find(|purge| purge.id == id) {
            Some(purge) if purge.out => None,
            Some(purge) if purge.not_before.max(self.retry_at) <= now && !self.link.is_lost() => {
                None
            }
            // One of those that became one.
            _ => Some(Purged::Later),
        }
    }

    fn worked(&mut self, now: Time, pass: Pass) {
        if let Some(change) = self.link.worked(now, pass) {
            self.retry_at = Time::ZERO;
            self.say(now, Trouble::Link(change));
        }
    }

    fn broken(&mut self, now: Time, pass: Pass, why: Option<Failure>, rng: &mut Pcg32) {
        let Some(why) = why else { return self.link.dropped(now, pass) };
        if let Some(change) = self.link.failed(now, pass, why, &self.settings, rng) {
            self.say(now, Trouble::Link(change));
        }
    }

    fn refusals(&mut self, now: Time, replies: &[Reply]) {
        match replies.iter().find_map(Reply::refusal) {
            Some(word) => {
                debug_assert!(Refusal::of(word) != Refusal::Server, "taken for an outage");
                if !std::mem::replace(&mut self.write_refused, true) {
                    self.say(now, Trouble::WriteRefused { word: word.clone() });
                }
            }
            None => self.write_refused = false,
        }
    }

    fn warn(&mut self, now: Time, why: BadRecord) {
        self.unsaid = self.unsaid.saturating_add(1);
        if now < self.next_warning && self.next_warning <= now.plus(WARN_EVERY) {
            return;
        }
        self.next_warning = now.plus(WARN_EVERY);
        let times = std::mem::take(&mut self.unsaid);
        self.say(now, Trouble::Mistrusted { why: why.to_string().into(), times });
    }

    fn say(&mut self, now: Time, what: Trouble) {
        self.notices.push(now, Event::SharedAnswers { what });
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { purging: self.pending.len() as u64, ..self.counts }
    }

    /// Whether Redis is being left alone.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.link.is_lost()
    }

    /// What was worth a line in a log.
    #[must_use]
    pub const fn notices(&self) -> &Notices {
        &self.notices
    }
}
