//! What discovery remembers beside its feeds: the shared level in Redis, asked before a source and
//! told what it said, and the snapshot on disk that survives a restart. Neither is needed: while
//! they fail, everything goes on without them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Instance;
use super::directory::FeedId;
use super::feed::Feed;
use super::fetch::{Data, Sources};
use super::kept::{self, Keeper, Kept, KeptService};
use super::listing::Listing;
use crate::config::{Config, ConfigError, DiscoveryConfig};
use crate::job::{Job, JobId, JobOutcome, Poll, Work};
use crate::notice::Event;
use crate::redis::level::invalidate::{Invalidation, Next};
use crate::redis::level::{self, Ask, Counts, Hit, Store};
use crate::redis::link::Pass;
use crate::redis::{self, Entry, Level};
use crate::rng::Pcg32;
use crate::time::{Time, Wall};

/// Lists that wait to be written; beyond, the oldest are forgotten: the next answer is written.
const MOST_STORES: usize = 1_024;

/// What the end of a job was for.
pub(super) enum Heard {
    /// A feed.
    NotMine(JobOutcome),
    /// Something written down.
    Chore,
    /// An earlier run has left something.
    Restored,
    /// The shared level has answered for a feed.
    Level(FeedId, Option<Hit>),
}

/// What is under way, by the job. Not kept over a restart: a job that is out then is lost.
#[derive(Clone, Debug, PartialEq)]
enum Out {
    Asked(FeedId, Ask),
    Stored(Store),
    Keeping(JobId),
    Invalidating(Box<Invalidation>, Pass),
}

/// A list to be written into the shared level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wanted {
    entry: Entry,
    instances: Arc<[Instance]>,
    asked: Time,
    expires: Time,
}

/// See above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    redis: Option<redis::Settings>,
    level: Level,
    keep: Option<kept::Settings>,
    keeper: Keeper,
    /// What the earlier run knew.
    kept: BTreeMap<Arc<str>, KeptService>,
    local: Option<Arc<str>>,
    /// Whether the snapshot was not read yet.
    unread: bool,
    #[serde(skip)]
    asking: Option<(FeedId, Ask)>,
    #[serde(skip)]
    out: BTreeMap<JobId, Out>,
    stores: VecDeque<Wanted>,
    #[serde(skip)]
    invalidations: VecDeque<Invalidation>,
    /// Calendar time at time zero, in seconds.
    epoch: u64,
}

impl Memory {
    pub(super) fn of(config: &Config, discovery: &DiscoveryConfig) -> Result<Memory, ConfigError> {
        let redis = match &config.redis {
            Some(redis) if redis.enabled && redis.discovery.enabled => {
                Some(redis::Settings::of(redis, "redis")?)
            }
            _ => None,
        };
        let keep = match &discovery.snapshot.path {
            Some(_) => Some(kept::Settings::of(&discovery.snapshot, "discovery.snapshot")?),
            None => None,
        };
        Ok(Memory {
            redis,
            level: Level::default(),
            unread: keep.is_some(),
            keep,
            keeper: Keeper::new(),
            kept: BTreeMap::new(),
            local: config.local_cluster.as_deref().map(Arc::from),
            asking: None,
            out: BTreeMap::new(),
            stores: VecDeque::new(),
            invalidations: VecDeque::new(),
            epoch: 0,
        })
    }

    pub(super) fn calendar(&mut self, now: Time, wall: Wall) {
        self.epoch = wall.0.saturating_sub(now.as_millis() / 1_000);
    }

    fn wall(&self, now: Time) -> Wall {
        Wall(self.epoch.saturating_add(now.as_millis() / 1_000))
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread && !self.out.values().any(|out| matches!(out, Out::Keeping(_)))
    }

    pub(super) fn counts(&self) -> Option<Counts> {
        self.redis.as_ref().map(|_| self.level.counts())
    }

    /// What an earlier run knew of a service.
    pub(super) fn kept(&self, service: &str) -> Option<Vec<Instance>> {
        self.kept.get(service).map(|kept| kept.instances.to_vec())
    }

    /// A list has changed.
    pub(super) fn changed(&mut self, now: Time) {
        if self.keep.is_some() {
            self.keeper.changed(now);
        }
    }

    /// Whether it matters that every service that is wanted is known.
    pub(super) fn awaits_all(&self) -> bool {
        !self.unread && self.keeper.behind() && !self.keeper.is_complete()
    }

    /// It is so.
    pub(super) fn all_known(&mut self) {
        self.keeper.complete();
    }

    /// The program ends.
    pub(super) fn finish(&mut self) {
        // Before an earlier run's was read there is nothing that is worth its place.
        if !self.unread {
            self.keeper.finish();
        }
    }

    /// Whether something is to be written before the end.
    pub(super) fn finishing(&self) -> bool {
        self.keeper.finishing()
    }

    pub(super) fn has_chores(&self) -> bool {
        !self.stores.is_empty() || !self.invalidations.is_empty()
    }

    /// The snapshot, as long as it was not read.
    pub(super) fn read_first(&mut self, now: Time, next_id: &mut u64) -> Option<Job> {
        if !self.is_unread() {
            return None;
        }
        let settings = self.keep.as_ref()?;
        match self.keeper.poll(now, settings, Kept::default) {
            Poll::Run(job) => {
                Some(self.issue(Out::Keeping(job.id), job.work, job.deadline, next_id))
            }
            Poll::Wait(_) => None,
        }
    }

    fn issue(&mut self, out: Out, work: Work, deadline: Time, next_id: &mut u64) -> Job {
        let id = JobId(*next_id);
        *next_id += 1;
        self.out.insert(id, out);
        Job { id, work, deadline }
    }

    /// Something to be written down.
    pub(super) fn chore(
        &mut self,
        now: Time,
        background: bool,
        next_id: &mut u64,
        next: &mut Time,
        listed: &BTreeMap<Arc<str>, Listing>,
    ) -> Option<Job> {
        if let Some(redis) = self.redis.clone() {
            while let Some(mut one) = self.invalidations.pop_front() {
                if let Next::Run(pass, commands) = self.level.next(now, &mut one, &redis) {
                    let deadline = pass.deadline();
                    let out = Out::Invalidating(Box::new(one), pass);
                    return Some(self.issue(out, Work::Redis(commands), deadline, next_id));
                }
            }
            while let Some(wanted) = self.stores.pop_front() {
                let Wanted { entry, instances, asked, expires } = wanted;
                let wall = self.wall(now);
                let store = self.level.store(now, wall, &entry, &instances, asked, expires, &redis);
                if let Ok(store) = store {
                    let (commands, deadline) = (store.commands.clone(), store.deadline());
                    let out = Out::Stored(store);
                    return Some(self.issue(out, Work::Redis(commands), deadline, next_id));
                }
            }
        }
        if !background {
            return None;
        }
        self.write(now, next_id, next, listed)
    }

    /// The snapshot, if it is to be written.
    pub(super) fn write(
        &mut self,
        now: Time,
        next_id: &mut u64,
        next: &mut Time,
        listed: &BTreeMap<Arc<str>, Listing>,
    ) -> Option<Job> {
        let settings = self.keep.as_ref()?;
        if self.unread {
            return None;
        }
        let (wall, local) = (self.wall(now), self.local.clone());
        let Memory { keeper, kept, .. } = self;
        match keeper.poll(now, settings, || keep(wall, local, kept, listed, settings)) {
            Poll::Run(job) => {
                Some(self.issue(Out::Keeping(job.id), job.work, job.deadline, next_id))
            }
            Poll::Wait(at) => {
                *next = (*next).min(at);
                None
            }
        }
    }

    /// The exchange that asks the shared level for `feed`, and its deadline; `None`: it is not
    /// asked now.
    pub(super) fn ask(
        &mut self,
        now: Time,
        feed: FeedId,
        about: &Feed,
        sources: &Sources,
    ) -> Option<(Work, Time)> {
        let redis = self.redis.as_ref()?;
        let name = about.fetch.name()?;
        let entry = Entry::new(name, &about.fetch.variant(sources)).ok()?;
        let ask = self.level.ask(now, &entry, redis).ok()?;
        let (commands, deadline) = (ask.commands.clone(), ask.deadline());
        self.asking = Some((feed, ask));
        Some((Work::Redis(commands), deadline))
    }

    /// It is asked by this job.
    pub(super) fn asked(&mut self, job: JobId) {
        if let Some((feed, ask)) = self.asking.take() {
            self.out.insert(job, Out::Asked(feed, ask));
        }
    }

    /// What a source has said is for others, too.
    pub(super) fn store(&mut self, asked: Time, feed: &Feed, sources: &Sources) {
        if self.redis.is_none() {
            return;
        }
        let (Some(name), Some(held)) = (feed.fetch.name(), feed.held()) else { return };
        let Data::Instances(instances) = &held.data else { return };
        let Ok(entry) = Entry::new(name, &feed.fetch.variant(sources)) else { return };
        self.stores.retain(|wanted| wanted.entry != entry);
        if self.stores.len() >= MOST_STORES {
            self.stores.pop_front();
        }
        let (instances, expires) = (instances.clone(), held.fresh_until);
        self.stores.push_back(Wanted { entry, instances, asked, expires });
    }

    /// Forgets what an earlier run knew of a service.
    pub(super) fn forget_kept(&mut self, service: &str) {
        self.kept.remove(service);
    }

    /// Forgets the service with this name at its sources in the shared level.
    pub(super) fn invalidate(&mut self, now: Time, name: &str) {
        self.stores.retain(|wanted| **wanted.entry.name() != *name);
        if let Some(redis) = &self.redis
            && let Ok(one) = self.level.invalidate(now, name, redis)
        {
            self.invalidations.push_back(one);
        }
    }

    /// Takes the result of a job, if it is one of these. `heard` gets what is worth a notice.
    pub(super) fn done(
        &mut self,
        now: Time,
        id: JobId,
        outcome: JobOutcome,
        rng: &mut Pcg32,
        heard: &mut Vec<Event>,
    ) -> Heard {
        let Some(out) = self.out.remove(&id) else { return Heard::NotMine(outcome) };
        let wall = self.wall(now);
        match (out, &self.redis, &self.keep) {
            (Out::Asked(feed, ask), Some(redis), _) => {
                let answer = self.level.answered(now, wall, ask, outcome, redis, rng);
                heard.extend(answer.events.into_iter().map(shared));
                Heard::Level(feed, answer.found.ok())
            }
            (Out::Stored(store), Some(redis), _) => {
                let events = self.level.stored(now, store, outcome, redis, rng);
                heard.extend(events.into_iter().map(shared));
                Heard::Chore
            }
            (Out::Invalidating(mut one, pass), Some(redis), _) => {
                let events = self.level.invalidated(now, &mut one, pass, outcome, redis, rng);
                heard.extend(events.into_iter().map(shared));
                // Ended ones drop out with the next chore.
                self.invalidations.push_back(*one);
                Heard::Chore
            }
            (Out::Keeping(inner), _, Some(keep)) => {
                let local = self.local.as_deref();
                match self.keeper.done(now, wall, inner, outcome, local, keep) {
                    kept::Heard::Restored(restored) => {
                        self.unread = false;
                        let (services, left_out) =
                            (restored.kept.services.len(), restored.left_out_count);
                        self.kept = restored.kept.services;
                        let age =
                            Duration::from_secs(wall.0.saturating_sub(restored.kept.written.0));
                        heard.push(Event::SnapshotRestored { services, left_out, age });
                        Heard::Restored
                    }
                    kept::Heard::Nothing => {
                        self.unread = false;
                        Heard::Restored
                    }
                    kept::Heard::Trouble(problem) => {
                        heard.push(Event::SnapshotFailed { reason: problem.to_string() });
                        match std::mem::take(&mut self.unread) {
                            true => Heard::Restored,
                            false => Heard::Chore,
                        }
                    }
                    kept::Heard::Written | kept::Heard::Ignored => Heard::Chore,
                }
            }
            _ => Heard::Chore,
        }
    }
}

fn shared(what: level::Event) -> Event {
    Event::SharedLevel { what }
}

/// What is written: what is known now, and of services nobody has asked for since, what was known
/// before.
fn keep(
    wall: Wall,
    local: Option<Arc<str>>,
    older: &BTreeMap<Arc<str>, KeptService>,
    listed: &BTreeMap<Arc<str>, Listing>,
    settings: &kept::Settings,
) -> Kept {
    let known = listed.iter().filter(|(_, listing)| !listing.guard.named().is_empty());
    let services = known.map(|(name, listing)| {
        let kept = KeptService {
            source: "discovery".into(),
            taken: wall,
            expires: wall,
            instances: listing.guard.list().into(),
        };
        (name.clone(), kept)
    });
    let mut kept = Kept { written: wall, local: local.clone(), services: services.collect() };
    let older = Kept { written: wall, local, services: older.clone() };
    kept.carry(&older, wall, settings);
    kept
}
