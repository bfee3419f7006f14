//! The second level of discovery: lists of instances that clients of a fleet leave for each other
//! in Redis, so that a program that starts, or one of a hundred that look for the same service,
//! need not ask the registry (004-40…47).
//!
//! What it promises:
//! - A failing, slow or lying Redis costs nothing but a warning (004-84…87). Failing: [`Link`].
//!   Lying: everything read is checked ([`value`]); what is not believed is a miss, and the list
//!   that the source then gives overwrites it.
//! - A list never lives longer here than its original expiry (004-42), by two clocks: that of
//!   Redis, whose remaining time counts from when it was *asked*, and the calendar. A key without
//!   a time to live, or with more of it than anybody writes, is not believed.
//! - Invalidation is one call over all variants (004-61), and what it could not delete because
//!   Redis was away is not believed until it must have expired. Answers that were asked for before
//!   an invalidation are neither believed nor stored after it.
//!
//! Off: `redis.discovery.enabled = false` (004-08, 004-95). The first level and the source are
//! not here, nor is the decision to ask this level at all.

pub mod invalidate;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use invalidate::{Invalidated, Invalidation, Next};

use super::link::{Change, Failure, Pass, Skip, replies};
use super::value::{self, Bounds, Mistrust, Unwritable};
use super::{Command, Entry, Link, Reply};
use crate::discovery::Instance;
use crate::job::JobOutcome;
use crate::rng::Pcg32;
use crate::time::{Time, Wall, nanos};

/// Shortest time between two warnings about values that are not believed.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Invalidated services remembered one by one; beyond that all are taken for invalidated.
const MOST_BARS: usize = 1_024;
/// How long an index lives after its last use: longer than any value may.
const INDEX_MS: &str = "172800000";
const MILLI: u64 = 1_000_000;

/// What the level does. Compiled in [`super::Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Whether it is used.
    pub enabled: bool,
    /// Longest life of a list, in nanoseconds.
    pub ttl: u64,
    /// Longest life of an empty list, in nanoseconds; 0: none is kept.
    pub negative_ttl: u64,
    /// How far apart calendar clocks may be.
    pub skew: Duration,
    /// Bounds on values.
    pub bounds: Bounds,
}

/// Lookups of one level by what came of them, and what was written. The same for every level
/// (004-44).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counts {
    /// Lists found and believed.
    pub hits: u64,
    /// Nothing there, or just expired.
    pub misses: u64,
    /// Something there that was not believed.
    pub garbage: u64,
    /// Exchanges that failed.
    pub errors: u64,
    /// Not asked, because it was failing or invalidated.
    pub skipped: u64,
    /// Lists written.
    pub stored: u64,
    /// Lists that could not be written.
    pub store_errors: u64,
}

/// One lookup to be carried out.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Ask {
    entry: Entry,
    asked: Time,
    pass: Pass,
    /// The commands, to be sent together.
    pub commands: Vec<Command>,
}

impl Ask {
    /// When the exchange is to be given up.
    #[must_use]
    pub const fn deadline(&self) -> Time {
        self.pass.deadline()
    }
}

/// One list to be written.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Store {
    pass: Pass,
    /// The commands, to be sent together.
    pub commands: Vec<Command>,
}

impl Store {
    /// When the exchange is to be given up.
    #[must_use]
    pub const fn deadline(&self) -> Time {
        self.pass.deadline()
    }
}

/// A list that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The instances; none is an answer too.
    pub instances: Vec<Instance>,
    /// Its original expiry or sooner: no other level may keep it for longer.
    pub fresh_until: Time,
}

/// Why there is no list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// The level is switched off.
    Off,
    /// Redis is being left alone.
    Skipped(Skip),
    /// The service was invalidated; what is there may be from before.
    Invalidated,
    /// Nothing is there.
    Absent,
    /// It has just expired.
    Expired,
    /// It is not believed.
    Mistrusted(Mistrust),
    /// The exchange failed.
    Failed(Failure),
    /// The driver gave it up.
    Dropped,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Off => f.write_str("the shared level is off"),
            Miss::Skipped(skip) => skip.fmt(f),
            Miss::Invalidated => f.write_str("what is there may be from before an invalidation"),
            Miss::Absent => f.write_str("nothing is there"),
            Miss::Expired => f.write_str("it has just expired"),
            Miss::Mistrusted(why) => write!(f, "what is there is not believed: {why}"),
            Miss::Failed(why) => write!(f, "redis failed: {why}"),
            Miss::Dropped => f.write_str("the lookup was given up"),
        }
    }
}

/// Why a list is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotStored {
    /// The level is switched off, or keeps no empty lists.
    Off,
    /// Redis is being left alone.
    Skipped(Skip),
    /// It was asked for before the service was invalidated.
    Invalidated,
    /// It has expired, or is about to.
    Expired,
    /// The form cannot say it.
    Unwritable(Unwritable),
}

/// What is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An outage of Redis began or ended.
    Link(Change),
    /// A value is not believed. A warning (`cache_retrieval_failed`), at most one a minute.
    Mistrusted {
        /// Its service.
        service: Arc<str>,
        /// Why.
        why: Mistrust,
        /// Values not believed since the warning before, this one included.
        times: u64,
    },
    /// The server takes no writes, or not this one. A warning (`cache_update_failed`), once until
    /// a write succeeds.
    WriteRefused {
        /// The first word of its message.
        word: Arc<str>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Link(change) => change.fmt(f),
            Event::Mistrusted { service, why, times } => {
                write!(f, "what redis has of {service} is not believed ({times} times): {why}")
            }
            Event::WriteRefused { word } => write!(f, "redis takes no writes: {word}"),
        }
    }
}

/// What came of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    /// The list, or why there is none. A miss of any kind means: ask the source, then store.
    pub found: Result<Hit, Miss>,
    /// What is worth a line in a log; usually nothing.
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Bar {
    at: Time,
    /// When everything from before was deleted.
    done: Option<Time>,
}

impl Bar {
    /// Whether it still matters at `now`. A clock that went back ends it.
    fn holds(&self, now: Time, settings: &Settings) -> bool {
        now >= self.at && now <= self.at.plus(Duration::from_nanos(settings.ttl))
    }
}

/// The second level.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use origin_core::discovery::{Instance, Role};
/// use origin_core::job::JobOutcome;
/// use origin_core::redis::{Entry, Level, Reply, Settings, Variant};
/// use origin_core::rng::Pcg32;
/// use origin_core::{Address, Time, Wall};
///
/// let settings = Settings::default();
/// let (mut level, mut rng) = (Level::default(), Pcg32::new(1, 0));
/// let (now, wall) = (Time::from_millis(5_000), Wall(1_700_000_000));
/// let entry = Entry::new("billing", &Variant::default())?;
/// let address = Address::parse("http://10.0.0.1:8080")?;
/// let instances = [Instance::new("alpha".into(), Role::Primary, address)];
///
/// // What the source answered is written, to live no longer than it may.
/// let expires = now.plus(Duration::from_secs(20));
/// let store = level.store(now, wall, &entry, &instances, now, expires, &settings).unwrap();
/// let value = store.commands[0].0[2].clone();
/// assert_eq!(store.commands[0].0[3..], ["PX", "20000"]);
///
/// // Another client finds it seven seconds later.
/// let later = now.plus(Duration::from_secs(7));
/// let ask = level.ask(later, &entry, &settings).unwrap();
/// let replies = JobOutcome::Replies(vec![Reply::Number(13_000), Reply::Text(value)]);
/// let answer = level.answered(later, Wall(wall.0 + 7), ask, replies, &settings, &mut rng);
/// let hit = answer.found.unwrap();
/// assert_eq!(hit.instances, instances);
/// assert_eq!(hit.fresh_until, expires);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Level {
    link: Link,
    counts: Counts,
    bars: BTreeMap<Arc<str>, Bar>,
    everything: Option<Bar>,
    next_warning: Time,
    unsaid: u64,
    write_refused: bool,
}

impl Level {
    /// Asks for a list.
    ///
    /// # Errors
    /// A miss without any exchange.
    pub fn ask(
        &mut self,
        now: Time,
        entry: &Entry,
        settings: &super::Settings,
    ) -> Result<Ask, Miss> {
        if !settings.level.enabled {
            return Err(Miss::Off);
        }
        if self.bar(now, entry.name(), &settings.level).is_some_and(|bar| bar.done.is_none()) {
            self.counts.skipped = self.counts.skipped.saturating_add(1);
            return Err(Miss::Invalidated);
        }
        let pass = self.link.enter(now, &settings.link).map_err(|skip| {
            self.counts.skipped = self.counts.skipped.saturating_add(1);
            Miss::Skipped(skip)
        })?;
        let key = settings.keys.value(entry);
        // The remaining time first: if the value is replaced in between, that of the old one is
        // the shorter. One byte more than allowed tells that there are more.
        let commands = vec![
            Command::text(&["PTTL", &key]),
            Command::text(&["GETRANGE", &key, "0", &settings.level.bounds.bytes.to_string()]),
        ];
        Ok(Ask { entry: entry.clone(), asked: now, pass, commands })
    }

    /// Takes what came of a lookup.
    pub fn answered(
        &mut self,
        now: Time,
        wall: Wall,
        ask: Ask,
        outcome: JobOutcome,
        settings: &super::Settings,
        rng: &mut Pcg32,
    ) -> Answer {
        let mut events = Vec::new();
        let found = match replies(outcome, ask.commands.len()) {
            Ok(replies) => match judge::replies(now, wall, &ask, &replies, &settings.level) {
                Err(Miss::Failed(why)) => Err(Some(why)),
                found => {
                    events.extend(self.link.worked(now, ask.pass).map(Event::Link));
                    Ok(found)
                }
            },
            Err(why) => Err(why),
        };
        let found = match found {
            Ok(found) => found,
            Err(None) => {
                self.link.dropped(now, ask.pass);
                Err(Miss::Dropped)
            }
            Err(Some(why)) => {
                let lost = self.link.failed(now, ask.pass, why.clone(), &settings.link, rng);
                events.extend(lost.map(Event::Link));
                Err(Miss::Failed(why))
            }
        };
        // Deleted while this was under way: what came may be from before.
        let old = |bar: Bar| bar.done.is_none_or(|done| ask.asked <= done);
        let barred = self.bar(now, ask.entry.name(), &settings.level).is_some_and(old);
        let found = if barred { found.and(Err(Miss::Invalidated)) } else { found };
        let counts = &mut self.counts;
        let count = match &found {
            Ok(_) => &mut counts.hits,
            Err(Miss::Absent | Miss::Expired) => &mut counts.misses,
            Err(Miss::Mistrusted(_)) => &mut counts.garbage,
            Err(Miss::Failed(_)) => &mut counts.errors,
            Err(Miss::Off | Miss::Skipped(_) | Miss::Invalidated | Miss::Dropped) => {
                &mut counts.skipped
            }
        };
        *count = count.saturating_add(1);
        if let Err(Miss::Mistrusted(why)) = found {
            events.extend(self.warn(now, ask.entry.name(), why));
        }
        Answer { found, events }
    }

    /// Writes a list that the source was asked for at `asked` and that expires at `expires`.
    ///
    /// # Errors
    /// It is not written, and need not be.
    #[allow(clippy::too_many_arguments)] // time, calendar, and what is written
    pub fn store(
        &mut self,
        now: Time,
        wall: Wall,
        entry: &Entry,
        instances: &[Instance],
        asked: Time,
        expires: Time,
        settings: &super::Settings,
    ) -> Result<Store, NotStored> {
        let level = &settings.level;
        let longest = if instances.is_empty() { level.negative_ttl } else { level.ttl };
        if !level.enabled || longest == 0 {
            return Err(NotStored::Off);
        }
        if self.bar(now, entry.name(), level).is_some_and(|bar| asked <= bar.at) {
            return Err(NotStored::Invalidated);
        }
        let life = nanos(now.until(expires)).min(longest);
        if life < MILLI {
            return Err(NotStored::Expired);
        }
        let until = Wall(wall.0.saturating_add(life.div_ceil(1_000 * MILLI)));
        let value = value::encode(entry.name(), instances, until, &level.bounds)
            .inspect_err(|_| self.counts.store_errors = self.counts.store_errors.saturating_add(1))
            .map_err(NotStored::Unwritable)?;
        let pass = self.link.enter(now, &settings.link).map_err(NotStored::Skipped)?;
        let life = (life / MILLI).to_string();
        let set =
            Command::text(&["SET", &settings.keys.value(entry)]).with(value).with("PX").with(life);
        if entry.is_plain() {
            return Ok(Store { pass, commands: vec![set] });
        }
        // Named in the index before, or a connection that breaks in between leaves a value that
        // no invalidation finds; and after, or one that runs in between does.
        let index = settings.keys.index(entry);
        let add = Command::text(&["SADD", &index, entry.member()]);
        let expire = Command::text(&["PEXPIRE", &index, INDEX_MS]);
        Ok(Store { pass, commands: vec![add.clone(), set, add, expire] })
    }

    /// Takes what came of writing.
    pub fn stored(
        &mut self,
        now: Time,
        store: Store,
        outcome: JobOutcome,
        settings: &super::Settings,
        rng: &mut Pcg32,
    ) -> Vec<Event> {
        let counts = &mut self.counts;
        match replies(outcome, store.commands.len()) {
            Ok(replies) => {
                let mut events: Vec<Event> =
                    self.link.worked(now, store.pass).map(Event::Link).into_iter().collect();
                if let Some(word) = replies.iter().find_map(Reply::refusal) {
                    counts.store_errors = counts.store_errors.saturating_add(1);
                    if !std::mem::replace(&mut self.write_refused, true) {
                        events.push(Event::WriteRefused { word: word.clone() });
                    }
                } else {
                    counts.stored = counts.stored.saturating_add(1);
                    self.write_refused = false;
                }
                events
            }
            Err(None) => {
                self.link.dropped(now, store.pass);
                Vec::new()
            }
            Err(Some(why)) => {
                counts.store_errors = counts.store_errors.saturating_add(1);
                let lost = self.link.failed(now, store.pass, why, &settings.link, rng);
                lost.map(Event::Link).into_iter().collect()
            }
        }
    }

    /// What came of all lookups so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether Redis is being left alone.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.link.is_lost()
    }

    fn bar(&self, now: Time, name: &str, settings: &Settings) -> Option<Bar> {
        let own = self.bars.get(name).filter(|bar| bar.holds(now, settings));
        let all = self.everything.as_ref().filter(|bar| bar.holds(now, settings));
        match (own, all) {
            // Of two, the one that bars more: the newer, and one that is not done.
            (Some(own), Some(all)) => Some(Bar {
                at: own.at.max(all.at),
                done: own.done.zip(all.done).map(|(own, all)| own.max(all)),
            }),
            (own, all) => own.or(all).copied(),
        }
    }

    fn warn(&mut self, now: Time, service: &Arc<str>, why: Mistrust) -> Option<Event> {
        self.unsaid = self.unsaid.saturating_add(1);
        if now < self.next_warning && self.next_warning <= now.plus(WARN_EVERY) {
            return None;
        }
        self.next_warning = now.plus(WARN_EVERY);
        let times = std::mem::take(&mut self.unsaid);
        Some(Event::Mistrusted { service: service.clone(), why, times })
    }
}
