//! Which sources a service has, what comes of their answers, and who must be told. When a source
//! is asked is in `feed`, how in `fetch`.
//!
//! Sources that answer for everything (document, file) have one feed; those that are asked for
//! each service (Consul, DNS) have one feed a service that somebody wants, Consul one for each
//! datacenter. The environment never changes. What sources say about a service is combined,
//! checked for mass removal, and put in failover order (`listing`). Beside them stand the
//! shared level, which is asked before a source and told what it said, and the snapshot on disk
//! (`memory`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::feed::{Feed, Shared, Turn};
use super::fetch::{ConsulFetch, DnsFetch, DocumentFetch, Fetch, FileFetch, Sources};
use super::listing::{Link, Listing, View};
use super::memory::{Heard, Memory};
use super::plan::{self, Candidate};
use super::{
    DiscoveryError, Environment, Instance, SourceKind, Surroundings, environment, removal,
};
use crate::config::{Combine, Config, ConfigError, LookupConfig, check_service_name};
use crate::job::{Asker, Job, JobId, JobOutcome, Poll};
use crate::notice::{Event, Notices};
use crate::rng::Pcg32;
use crate::snapshot::DiscoverySnapshot;
use crate::time::{Time, Wall};

/// How late a background may be before calls stop relying on it.
const GRACE: Duration = Duration::from_secs(2);

/// What the directory knows about a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// No answer yet.
    Pending,
    /// These endpoints, in failover order.
    Found(Vec<Candidate>),
    /// No source names it; they name these.
    Absent(Vec<Arc<str>>),
    /// No answer can be had.
    Failed {
        /// Why.
        error: DiscoveryError,
        /// Failures in a row.
        failures: u32,
        /// No try before this.
        next_try: Time,
    },
}

/// What the end of a job has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Moved {
    /// Services to be resolved again, among those that have been: then their epochs move and
    /// parked calls wake.
    pub services: Vec<Arc<str>>,
    /// Whether what the job belongs to goes on with another exchange at once.
    pub more: bool,
}

pub(super) type FeedId = u32;

/// Everything discovery knows, and the schedule of asking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    sources: Sources,
    guard: removal::Settings,
    lookups: BTreeMap<Arc<str>, LookupConfig>,
    /// The configured sources, in order.
    order: Vec<SourceKind>,
    feeds: BTreeMap<FeedId, Feed>,
    /// Those about everything.
    wholes: Vec<FeedId>,
    /// What the environment says.
    environment: Option<Environment>,
    listed: BTreeMap<Arc<str>, Listing>,
    memory: Memory,
    /// When a listing changes by itself: what vanished is given up.
    recheck: Time,
    /// Until when a background task has promised to look after refreshes.
    attended_until: Time,
    next_id: u64,
    next_feed: FeedId,
    rng: Pcg32,
    notices: Notices,
}

/// What feeds share, beside the feeds: a method would borrow them, too.
macro_rules! shared {
    ($directory:expr) => {
        Shared {
            sources: &$directory.sources,
            notices: &mut $directory.notices,
            rng: &mut $directory.rng,
            next_id: &mut $directory.next_id,
            attended_until: $directory.attended_until,
        }
    };
}

impl Directory {
    /// A directory that has asked nobody. `None` when no discovery is configured.
    ///
    /// # Errors
    /// A source that cannot be asked, by its field.
    pub fn new(
        config: &Config,
        seed: u64,
        around: &Surroundings,
    ) -> Result<Option<Directory>, ConfigError> {
        let Some(discovery) = &config.discovery else { return Ok(None) };
        let environment = match discovery.environment.enabled {
            true => {
                let settings =
                    environment::Settings::of(&discovery.environment, "discovery.environment")?;
                let variables = around.variables.iter();
                Some(Environment::read(&settings, variables.map(|(name, text)| (name, text)))?)
            }
            false => None,
        };
        let lookups = config
            .services
            .iter()
            .map(|(name, service)| (name.as_str().into(), service.lookup.clone()))
            .collect();
        let mut directory = Directory {
            order: discovery.sources("discovery.order", &discovery.order)?,
            sources: Sources::of(config, discovery, around)?,
            guard: removal::Settings::of(&discovery.removal, "discovery.removal")?,
            memory: Memory::of(config, discovery)?,
            lookups,
            feeds: BTreeMap::new(),
            wholes: Vec::new(),
            environment,
            listed: BTreeMap::new(),
            recheck: Time::NEVER,
            attended_until: Time::ZERO,
            next_id: 0,
            next_feed: 0,
            rng: Pcg32::new(seed, u64::MAX >> 1),
            notices: Notices::new(None),
        };
        for kind in directory.order.clone() {
            let fetch = match kind {
                SourceKind::Document => {
                    Fetch::Document(DocumentFetch::new(&directory.sources.config)?)
                }
                SourceKind::File => Fetch::File(FileFetch::default()),
                _ => continue,
            };
            let id = directory.add(Feed::new(fetch, None));
            directory.wholes.push(id);
        }
        Ok(Some(directory))
    }

    fn add(&mut self, feed: Feed) -> FeedId {
        let id = self.next_feed;
        self.next_feed += 1;
        self.feeds.insert(id, feed);
        id
    }

    /// Tells what the calendar says: what is shared or kept on disk is dated by it.
    pub fn calendar(&mut self, now: Time, wall: Wall) {
        self.memory.calendar(now, wall);
    }

    /// What to do now. The answer to a background is binding: it must ask again at that time, and
    /// at once after it was given a job, since there may be more.
    pub fn poll_job(&mut self, now: Time, asker: Asker<'_>) -> Poll {
        let mut next = self.recheck;
        // What an earlier run knew is read before anything else; it is there in no time.
        if let Some(job) = self.memory.read_first(now, &mut self.next_id) {
            self.attend(asker, job.deadline);
            return Poll::Run(Box::new(job));
        }
        let due = match asker {
            Asker::Background => self.due_in_background(now, &mut next),
            Asker::Call { service, .. } => {
                // One that was forgotten for want of room is wanted again.
                if !self.listed.contains_key(service) {
                    self.list(now, service);
                }
                self.due_in(now, asker, service, &mut next)
            }
        };
        // A call writes nothing down while somebody else does.
        let due = due.or_else(|| {
            let background = matches!(asker, Asker::Background);
            if !background && now < self.attended_until {
                return None;
            }
            let Directory { memory, listed, next_id, .. } = self;
            memory.chore(now, background, next_id, &mut next, listed)
        });
        if let Some(job) = due {
            self.attend(asker, job.deadline);
            return Poll::Run(Box::new(job));
        }
        self.attend(asker, next);
        Poll::Wait(next)
    }

    fn due_in_background(&mut self, now: Time, next: &mut Time) -> Option<Job> {
        use std::ops::Bound::{Excluded, Unbounded};
        for at in 0..self.wholes.len() {
            let id = self.wholes[at];
            if let Some(job) = self.turn(now, Asker::Background, id, next) {
                return Some(job);
            }
        }
        if self.order.iter().all(|kind| kind.is_whole()) {
            return None;
        }
        let mut after: Option<Arc<str>> = None;
        loop {
            let from = after.as_deref().map_or(Unbounded, Excluded);
            let (service, _) = self.listed.range::<str, _>((from, Unbounded)).next()?;
            let service = service.clone();
            let job = self.due_in(now, Asker::Background, &service, next);
            if job.is_some() {
                return job;
            }
            after = Some(service);
        }
    }

    /// The first job that is due for a service. Sources behind one that has an answer, or is being
    /// asked for its first, are left alone when the first answer is all that is wanted.
    fn due_in(
        &mut self,
        now: Time,
        asker: Asker<'_>,
        service: &str,
        next: &mut Time,
    ) -> Option<Job> {
        let listing = self.listed.get(service)?;
        let (name, combine) = (listing.name.clone(), listing.combine);
        let links = listing.chain.clone();
        for link in links.iter() {
            if let Link::Feeds(ids) = link {
                for id in ids.iter() {
                    let whole = self.wholes.contains(id);
                    if !(whole && matches!(asker, Asker::Background))
                        && let Some(job) = self.turn(now, asker, *id, next)
                    {
                        return Some(job);
                    }
                }
            }
            if combine == Combine::First && self.settles(now, link, &name) {
                break;
            }
        }
        None
    }

    fn turn(&mut self, now: Time, asker: Asker<'_>, id: FeedId, next: &mut Time) -> Option<Job> {
        let mut shared = shared!(self);
        let feed = self.feeds.get_mut(&id)?;
        if feed.wants_level(now, asker, &shared) {
            if let Some((work, deadline)) = self.memory.ask(now, id, feed, &self.sources) {
                let until = match asker {
                    Asker::Call { until, .. } => deadline.min(until),
                    Asker::Background => deadline,
                };
                let job = feed.ask_level(now, until, shared.next_id);
                self.memory.asked(job);
                return Some(Job { id: job, work, deadline: until });
            }
            feed.skip_level();
        }
        match feed.turn(now, asker, &mut shared) {
            Turn::Run { id, work, deadline } => Some(Job { id, work, deadline }),
            Turn::Wait(at) => {
                *next = (*next).min(at);
                None
            }
        }
    }

    /// Whether sources behind this one need not be asked.
    fn settles(&self, now: Time, link: &Link, name: &str) -> bool {
        match link {
            Link::Environment => self.environment.as_ref().is_some_and(|e| e.get(name).is_some()),
            Link::Feeds(ids) => ids.first().and_then(|id| self.feeds.get(id)).is_some_and(|feed| {
                match feed.usable(now, &self.sources.config) {
                    Some(held) => held.data.knows(name),
                    None => feed.error.is_none(),
                }
            }),
        }
    }

    fn attend(&mut self, asker: Asker<'_>, until: Time) {
        if matches!(asker, Asker::Background) {
            self.attended_until = until.plus(GRACE);
        }
    }

    /// When a call on `service` should ask for a job; a cheap bound for drivers to keep.
    #[must_use]
    pub fn call_due(&self, now: Time, service: &str) -> Time {
        let Some(listing) = self.listed.get(service) else { return Time::NEVER };
        if self.memory.is_unread() {
            return now;
        }
        let mut due = listing.guard.due(true, &self.guard);
        let asker = Asker::Call { service, until: Time::NEVER };
        for link in listing.chain.iter() {
            if let Link::Feeds(ids) = link {
                for feed in ids.iter().filter_map(|id| self.feeds.get(id)) {
                    let at = feed.due_for(now, asker, &self.sources.config, self.attended_until);
                    due = due.min(at.max(feed.next_try));
                }
            }
            if listing.combine == Combine::First && self.settles(now, link, &listing.name) {
                break;
            }
        }
        due
    }

    /// Takes the result of a job. A result of an earlier lease is ignored.
    pub fn job_done(&mut self, now: Time, id: JobId, outcome: JobOutcome) -> Moved {
        let mut heard = Vec::new();
        let told = self.memory.done(now, id, outcome, &mut self.rng, &mut heard);
        for event in heard {
            self.notices.push(now, event);
        }
        let outcome = match told {
            Heard::NotMine(outcome) => outcome,
            Heard::Chore => return Moved { services: Vec::new(), more: false },
            Heard::Restored => {
                return Moved { services: self.listed.keys().cloned().collect(), more: true };
            }
            Heard::Level(feed_id, found) => return self.level_done(now, id, feed_id, found),
        };
        let mut shared = shared!(self);
        let mut feeds = self.feeds.iter_mut();
        let Some((feed_id, feed)) = feeds.find(|(_, feed)| feed.leased(id)) else {
            return Moved::default();
        };
        let feed_id = *feed_id;
        let news = feed.done(now, outcome, &mut shared);
        if !news.moved {
            return Moved::default();
        }
        let mut more = news.more;
        if let Some(asked) = news.asked {
            self.memory.store(asked, feed, &self.sources);
            more |= now >= self.attended_until && self.memory.has_chores();
            for service in self.of_feed(feed_id) {
                if let Some(listing) = self.listed.get_mut(&service) {
                    listing.answered = true;
                }
            }
        }
        Moved { services: self.of_feed(feed_id), more }
    }

    fn level_done(
        &mut self,
        now: Time,
        id: JobId,
        feed_id: FeedId,
        found: Option<crate::redis::level::Hit>,
    ) -> Moved {
        let mut shared = shared!(self);
        let Some(feed) = self.feeds.get_mut(&feed_id).filter(|feed| feed.leased(id)) else {
            return Moved::default();
        };
        feed.level_done();
        let filled =
            found.is_some_and(|hit| feed.fill(now, hit.instances, hit.fresh_until, &mut shared));
        Moved { services: self.of_feed(feed_id), more: !filled }
    }

    /// Services whose endpoints time alone has changed: to be resolved again.
    #[must_use]
    pub fn elapsed(&mut self, now: Time) -> Vec<Arc<str>> {
        if now < self.recheck {
            return Vec::new();
        }
        let mut moved = Vec::new();
        self.recheck = Time::NEVER;
        for (service, listing) in &mut self.listed {
            if listing.guard.tick(now, true, &self.guard) > 0 {
                moved.push(service.clone());
            }
            self.recheck = self.recheck.min(listing.guard.due(true, &self.guard));
        }
        moved
    }

    /// Forgets what is known of `service` on all levels and in all variants, and asks anew.
    pub fn invalidate(&mut self, now: Time, service: &str) {
        let Some(listing) = self.listed.get_mut(service) else { return };
        listing.guard = removal::Guard::default();
        let (name, chain) = (listing.name.clone(), listing.chain.clone());
        for link in chain.iter() {
            let Link::Feeds(ids) = link else { continue };
            for id in ids.iter() {
                if let Some(feed) = self.feeds.get_mut(id) {
                    feed.forget(now);
                }
            }
        }
        self.memory.invalidate(now, &name);
    }

    /// The services that hear of a feed.
    fn of_feed(&self, id: FeedId) -> Vec<Arc<str>> {
        let one = self.feeds.get(&id).and_then(|feed| feed.service.clone());
        match one {
            Some(one) => vec![one],
            None => self.listed.keys().cloned().collect(),
        }
    }

    /// What is known about `service` now. From here on it is looked up.
    #[must_use]
    pub fn resolve(&mut self, now: Time, service: &str) -> Resolution {
        if !self.listed.contains_key(service) && !self.list(now, service) {
            return Resolution::Absent(self.names());
        }
        let Some(mut listing) = self.listed.remove(service) else {
            return Resolution::Absent(Vec::new());
        };
        listing.used = now;
        let resolution = match self.view(now, service, &listing) {
            View::Found(named) => {
                if listing.answered || listing.guard.named().is_empty() {
                    let taken = listing.guard.take(now, named, &self.guard);
                    if let Some(mass) = taken.mass {
                        let service = service.into();
                        self.notices.push(now, Event::MassRemoval { about: service, mass });
                    }
                    listing.answered = false;
                } else if listing.guard.named() != named {
                    let _ = listing.guard.take(now, named, &self.guard);
                }
                self.recheck = self.recheck.min(listing.guard.due(true, &self.guard));
                let instances = listing.guard.list();
                let found = self.planned(service, &instances);
                if listing.changed(now, &found) {
                    self.memory.changed(now);
                }
                Resolution::Found(found)
            }
            other => self.without(service, other),
        };
        self.listed.insert(service.into(), listing);
        resolution
    }

    /// In failover order. Over Connect without those that TLS would not be spoken to, wherever
    /// they came from: a level that others can write to must not take TLS away.
    fn planned(&self, service: &str, instances: &[Instance]) -> Vec<Candidate> {
        let mut found = plan::candidates(instances, self.sources.local.as_deref());
        if self.mesh_name(service).is_some() {
            found.retain(|candidate| candidate.address.as_str().starts_with("https://"));
        }
        found
    }

    /// The name that instances of `service` have to prove, where it is reached over Connect.
    #[must_use]
    pub fn mesh_name(&self, service: &str) -> Option<Arc<str>> {
        let own = self.lookups.get(service).filter(|own| own.connect)?;
        Some(own.name.as_deref().unwrap_or(service).into())
    }

    fn without(&self, service: &str, view: View) -> Resolution {
        match view {
            View::Found(instances) => Resolution::Found(self.planned(service, &instances)),
            View::Absent => Resolution::Absent(self.names()),
            View::Pending => Resolution::Pending,
            View::Failed(id) => match self.feeds.get(&id) {
                Some(Feed { error: Some(error), failures, next_try, .. }) => Resolution::Failed {
                    error: error.clone(),
                    failures: *failures,
                    next_try: *next_try,
                },
                _ => Resolution::Pending,
            },
        }
    }

    /// The same for one that is only looked at: what is known by chance.
    #[must_use]
    pub fn peek(&mut self, now: Time, service: &str) -> Resolution {
        let listing = self.listed.get(service).cloned();
        let listing = listing.unwrap_or_else(|| self.listing(now, service));
        let view = self.view(now, service, &listing);
        self.without(service, view)
    }

    /// How often the endpoints of `service` have changed since it is looked up, and when last.
    #[must_use]
    pub fn version(&self, service: &str) -> Option<(u64, Time)> {
        self.listed.get(service).map(|listing| (listing.version, listing.changed_at))
    }

    /// Begins to look `service` up. A name that no source can know is refused, so that wrong
    /// names cannot fill memory.
    fn list(&mut self, now: Time, service: &str) -> bool {
        let mut listing = self.listing(now, service);
        let own = self.own_feeds(service, &listing);
        let none = own.is_empty();
        if none && matches!(self.view(now, service, &listing), View::Absent) {
            return false;
        }
        if !none && self.listed.len() >= self.sources.config.max_services as usize {
            self.evict();
        }
        let mut ids: BTreeMap<SourceKind, Vec<FeedId>> = BTreeMap::new();
        for feed in own {
            let kind = feed.kind();
            let id = self.add(feed);
            ids.entry(kind).or_default().push(id);
        }
        listing.place(&ids);
        self.listed.insert(service.into(), listing);
        true
    }

    /// Forgets what was not asked for the longest.
    fn evict(&mut self) {
        let oldest = self.listed.iter().min_by_key(|(_, listing)| listing.used);
        let Some(name) = oldest.map(|(name, _)| name.clone()) else { return };
        if let Some(listing) = self.listed.remove(&name) {
            for link in listing.chain.iter() {
                let Link::Feeds(ids) = link else { continue };
                for id in ids.iter().filter(|id| !self.wholes.contains(id)) {
                    self.feeds.remove(id);
                }
            }
        }
    }

    /// The sources of `service`, those about everything in their places.
    fn listing(&self, now: Time, service: &str) -> Listing {
        let own = self.lookups.get(service).cloned().unwrap_or_default();
        let name: Arc<str> = own.name.as_deref().unwrap_or(service).into();
        let order = match () {
            // Nobody else can say who is in the mesh.
            () if own.connect => &vec![SourceKind::Consul],
            () if own.order.is_empty() => &self.order,
            () => &own.order,
        };
        let whole = |kind: SourceKind| {
            let is = |id: &&FeedId| self.feeds.get(id).is_some_and(|feed| feed.kind() == kind);
            self.wholes.iter().find(is).copied()
        };
        let combine = own.combine.unwrap_or(self.sources.config.combine);
        Listing::new(now, name, combine, order, whole)
    }

    /// The feeds that only `service` has. None for a name that cannot be one.
    fn own_feeds(&self, service: &str, listing: &Listing) -> Vec<Feed> {
        if check_service_name(service).is_err() {
            return Vec::new();
        }
        let own = self.lookups.get(service).cloned().unwrap_or_default();
        let about = || Some(Arc::from(service));
        let mut feeds = Vec::new();
        for kind in listing.kinds.iter() {
            match kind {
                SourceKind::Consul => {
                    let Some(consul) = &self.sources.consul else { continue };
                    let tag: Option<Arc<str>> = own.tag.as_deref().map(Arc::from);
                    let datacenters: Vec<Option<Arc<str>>> = match own.datacenter.as_deref() {
                        Some(one) => vec![Some(one.into())],
                        None => consul.settings.datacenters().map(|dc| dc.cloned()).collect(),
                    };
                    for datacenter in datacenters {
                        let (name, tag) = (&listing.name, tag.clone());
                        let fetch = ConsulFetch::new(name, datacenter, tag, &self.sources);
                        if let Some(fetch) = fetch {
                            let fetch = fetch.over_connect(own.connect);
                            feeds.push(Feed::new(Fetch::Consul(fetch), about()));
                        }
                    }
                }
                SourceKind::Dns => {
                    feeds.push(Feed::new(Fetch::Dns(DnsFetch::new(&listing.name)), about()));
                }
                SourceKind::Document | SourceKind::File | SourceKind::Environment => {}
            }
        }
        feeds
    }

    /// What its sources say about a service, taken together; where they say nothing, what an
    /// earlier run knew.
    fn view(&mut self, now: Time, service: &str, listing: &Listing) -> View {
        let Directory { feeds, sources, environment, notices, .. } = self;
        let view = listing.view(now, feeds, sources, environment.as_ref(), |refused| {
            let (cluster, reason) = (refused.cluster, refused.reason);
            notices.push(now, Event::AddressRefused { cluster, reason });
        });
        match view {
            View::Pending | View::Failed(_) => match self.memory.kept(service) {
                Some(instances) => View::Found(instances),
                None => view,
            },
            view => view,
        }
    }

    /// The names that sources know, as far as they list any.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let wholes = self.wholes.iter().filter_map(|id| self.feeds.get(id)?.held());
        let mut names: Vec<Arc<str>> = wholes.flat_map(|held| held.data.names()).collect();
        let environment = self.environment.iter().flat_map(Environment::list);
        names.extend(environment.map(|known| known.name.clone()));
        names.sort();
        names.dedup();
        names
    }

    /// Its notices.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Its sources, for people: those about everything first.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Vec<DiscoverySnapshot> {
        self.feeds.values().map(|feed| feed.snapshot(now, &self.sources)).collect()
    }

    /// What came of lookups in the shared level.
    #[must_use]
    pub fn shared_counts(&self) -> Option<crate::redis::level::Counts> {
        self.memory.counts()
    }

    /// The sources of `service`, for errors.
    #[must_use]
    pub fn source(&self, service: &str) -> String {
        let mut texts: Vec<String> = Vec::new();
        let mut ids: Vec<FeedId> = self.wholes.clone();
        if let Some(listing) = self.listed.get(service) {
            ids = listing.feeds().collect();
            if listing.kinds.contains(&SourceKind::Environment) {
                texts.push("the environment".to_owned());
            }
        }
        let feeds = ids.iter().filter_map(|id| self.feeds.get(id));
        texts.extend(feeds.map(|feed| feed.fetch.target(&self.sources).to_string()));
        texts.join(", ")
    }
}
