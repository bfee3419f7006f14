//! Which sources a service has, what comes of their answers, and who must be told. When a source
//! is asked is in [`super::feed`], how in [`super::fetch`].
//!
//! Sources that answer for everything (document, file) have one feed; those that are asked for
//! each service (Consul, DNS) have one feed a service that somebody wants. The environment never
//! changes. What sources say about a service is combined, checked for mass removal, and put in
//! failover order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::Refused;
use super::feed::{Feed, Shared, Turn};
use super::fetch::{DocumentFetch, Fetch};
use super::plan::{self, Candidate};
use super::{DiscoveryError, Instance, SourceKind};
use crate::config::{Combine, Config, ConfigError, DiscoveryConfig, LookupConfig};
use crate::job::{Asker, Job, JobId, JobOutcome, Poll};
use crate::notice::{Event, Notices};
use crate::rng::Pcg32;
use crate::snapshot::DiscoverySnapshot;
use crate::time::Time;

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

/// One source of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Link {
    Feed(FeedId),
    Environment,
}

type FeedId = u32;

/// What is kept about a service that somebody wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Listing {
    /// The name under which sources know it.
    name: Arc<str>,
    combine: Combine,
    /// Its sources, in order.
    chain: Vec<Link>,
    /// When it was last asked for.
    used: Time,
}

/// What its sources say about a service.
enum View {
    Pending,
    Found(Vec<Instance>),
    Absent,
    Failed(FeedId),
}

/// Everything discovery knows, and the schedule of asking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    config: DiscoveryConfig,
    lookups: BTreeMap<Arc<str>, LookupConfig>,
    local: Option<Arc<str>>,
    /// The configured sources, in order.
    order: Vec<SourceKind>,
    feeds: BTreeMap<FeedId, Feed>,
    /// Those about everything.
    wholes: Vec<FeedId>,
    /// What the environment says.
    environment: BTreeMap<Arc<str>, Vec<Instance>>,
    listed: BTreeMap<Arc<str>, Listing>,
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
            config: &$directory.config,
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
    pub fn new(config: &Config, seed: u64) -> Result<Option<Directory>, ConfigError> {
        let Some(discovery) = config.discovery.clone() else { return Ok(None) };
        let lookups = config
            .services
            .iter()
            .map(|(name, service)| (name.as_str().into(), service.lookup.clone()))
            .collect();
        let mut directory = Directory {
            order: discovery.sources("discovery.order", &discovery.order)?,
            lookups,
            local: config.local_cluster.as_deref().map(Arc::from),
            feeds: BTreeMap::new(),
            wholes: Vec::new(),
            environment: BTreeMap::new(),
            listed: BTreeMap::new(),
            attended_until: Time::ZERO,
            next_id: 0,
            next_feed: 0,
            rng: Pcg32::new(seed, u64::MAX >> 1),
            notices: Notices::new(None),
            config: discovery,
        };
        for kind in directory.order.clone() {
            let fetch = match kind {
                SourceKind::Document => Fetch::Document(DocumentFetch::new(&directory.config)?),
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

    /// What to do now. The answer to a background is binding: it must ask again at that time, and
    /// at once after it was given a job, since there may be more.
    pub fn poll_job(&mut self, now: Time, asker: Asker<'_>) -> Poll {
        let mut next = Time::NEVER;
        let due = match asker {
            Asker::Background => self.due_in_background(now, &mut next),
            Asker::Call { service, .. } => match self.listed.get(service) {
                Some(listing) => {
                    let (name, links) = (listing.name.clone(), listing.chain.clone());
                    self.due_in(now, asker, &name, listing.combine, &links, &mut next)
                }
                None => None,
            },
        };
        if let Some(job) = due {
            self.attend(asker, job.deadline);
            return Poll::Run(Box::new(job));
        }
        self.attend(asker, next);
        Poll::Wait(next)
    }

    fn due_in_background(&mut self, now: Time, next: &mut Time) -> Option<Job> {
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
            use std::ops::Bound::{Excluded, Unbounded};
            let from = after.as_deref().map_or(Unbounded, Excluded);
            let (key, listing) = self.listed.range::<str, _>((from, Unbounded)).next()?;
            let key = key.clone();
            let (name, combine) = (listing.name.clone(), listing.combine);
            let links = listing.chain.clone();
            let job = self.due_in(now, Asker::Background, &name, combine, &links, next);
            if job.is_some() {
                return job;
            }
            after = Some(key);
        }
    }

    /// The first job that is due in a chain. Sources behind one that has an answer, or is being
    /// asked for its first, are left alone when the first answer is all that is wanted.
    fn due_in(
        &mut self,
        now: Time,
        asker: Asker<'_>,
        name: &str,
        combine: Combine,
        links: &[Link],
        next: &mut Time,
    ) -> Option<Job> {
        for link in links {
            if let Link::Feed(id) = *link {
                let whole = self.wholes.contains(&id);
                if !(whole && matches!(asker, Asker::Background))
                    && let Some(job) = self.turn(now, asker, id, next)
                {
                    return Some(job);
                }
            }
            if combine == Combine::First && self.settles(now, *link, name) {
                break;
            }
        }
        None
    }

    fn turn(&mut self, now: Time, asker: Asker<'_>, id: FeedId, next: &mut Time) -> Option<Job> {
        let mut shared = shared!(self);
        match self.feeds.get_mut(&id)?.turn(now, asker, &mut shared) {
            Turn::Run { id, work, deadline } => Some(Job { id, work, deadline }),
            Turn::Wait(at) => {
                *next = (*next).min(at);
                None
            }
        }
    }

    /// Whether sources behind this one need not be asked.
    fn settles(&self, now: Time, link: Link, name: &str) -> bool {
        match link {
            Link::Environment => self.environment.contains_key(name),
            Link::Feed(id) => {
                self.feeds.get(&id).is_some_and(|feed| match feed.usable(now, &self.config) {
                    Some(held) => held.data.knows(name),
                    None => feed.error.is_none(),
                })
            }
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
        let mut due = Time::NEVER;
        let Some(listing) = self.listed.get(service) else { return due };
        let asker = Asker::Call { service, until: Time::NEVER };
        for link in &listing.chain {
            if let Link::Feed(id) = link
                && let Some(feed) = self.feeds.get(id)
            {
                let at = feed.due_for(now, asker, &self.config, self.attended_until);
                due = due.min(at.max(feed.next_try));
            }
            let first = listing.combine == Combine::First;
            if first && self.settles(now, *link, &listing.name) {
                break;
            }
        }
        due
    }

    /// Takes the result of a job. A result of an earlier lease is ignored.
    pub fn job_done(&mut self, now: Time, id: JobId, outcome: JobOutcome) -> Moved {
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
        Moved { services: self.of_feed(feed_id), more: news.more }
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
        let Some(listing) = self.listed.get_mut(service) else {
            return Resolution::Absent(Vec::new());
        };
        listing.used = now;
        let listing = listing.clone();
        self.resolution(now, &listing)
    }

    /// The same for one that is only looked at: what is known by chance.
    #[must_use]
    pub fn peek(&mut self, now: Time, service: &str) -> Resolution {
        let listing = self.listed.get(service).cloned();
        let listing = listing.unwrap_or_else(|| self.listing(now, service));
        self.resolution(now, &listing)
    }

    fn resolution(&mut self, now: Time, listing: &Listing) -> Resolution {
        match self.view(now, listing) {
            View::Found(instances) => {
                Resolution::Found(plan::candidates(&instances, self.local.as_deref()))
            }
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

    /// Begins to look `service` up. A name that no source can know is refused, so that wrong
    /// names cannot fill memory.
    fn list(&mut self, now: Time, service: &str) -> bool {
        let listing = self.listing(now, service);
        if matches!(self.view(now, &listing), View::Absent) {
            return false;
        }
        self.listed.insert(service.into(), listing);
        true
    }

    /// The sources of `service`, as far as they are there already.
    fn listing(&self, now: Time, service: &str) -> Listing {
        let own = self.lookups.get(service).cloned().unwrap_or_default();
        let name: Arc<str> = own.name.as_deref().unwrap_or(service).into();
        let order = if own.order.is_empty() { self.order.clone() } else { own.order.clone() };
        let mut chain = Vec::with_capacity(order.len());
        for kind in order {
            if kind == SourceKind::Environment {
                chain.push(Link::Environment);
                continue;
            }
            let whole = |id: &&FeedId| self.feeds.get(id).is_some_and(|f| f.kind() == kind);
            if let Some(id) = self.wholes.iter().find(whole) {
                chain.push(Link::Feed(*id));
            }
        }
        let combine = own.combine.unwrap_or(self.config.combine);
        Listing { name, combine, chain, used: now }
    }

    /// What its sources say about a service, taken together.
    fn view(&mut self, now: Time, listing: &Listing) -> View {
        let (mut found, mut empty, mut pending, mut failed) = (Vec::new(), false, false, None);
        for link in &listing.chain {
            let part = match link {
                Link::Environment => self.environment.get(&listing.name).cloned(),
                Link::Feed(id) => {
                    let Some(feed) = self.feeds.get(id) else { continue };
                    match feed.usable(now, &self.config) {
                        Some(held) => {
                            let said = held.data.of(&listing.name, self.local.as_deref());
                            said.map(|(instances, refused)| {
                                for Refused { cluster, reason } in refused {
                                    let event = Event::AddressRefused { cluster, reason };
                                    self.notices.push(now, event);
                                }
                                instances
                            })
                        }
                        None if feed.error.is_some() => {
                            failed = failed.or(Some(*id));
                            continue;
                        }
                        None => {
                            pending = true;
                            if listing.combine == Combine::First {
                                // A better source may still know it.
                                break;
                            }
                            continue;
                        }
                    }
                }
            };
            match part {
                Some(part) if part.is_empty() => empty = true,
                Some(part) if listing.combine == Combine::First => return View::Found(part),
                Some(part) => merge(&mut found, part),
                None => {}
            }
        }
        match failed {
            _ if !found.is_empty() => View::Found(found),
            _ if pending => View::Pending,
            Some(id) => View::Failed(id),
            None if empty => View::Found(found),
            None => View::Absent,
        }
    }

    /// The names that sources know, as far as they list any.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let wholes = self.wholes.iter().filter_map(|id| self.feeds.get(id)?.held());
        let mut names: Vec<Arc<str>> = wholes.flat_map(|held| held.data.names()).collect();
        names.extend(self.environment.keys().cloned());
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
        self.feeds.values().map(|feed| feed.snapshot(now)).collect()
    }

    /// The sources of `service`, for errors.
    #[must_use]
    pub fn source(&self, service: &str) -> String {
        let links = self.listed.get(service).map(|listing| listing.chain.clone());
        let links = links.unwrap_or_else(|| self.wholes.iter().copied().map(Link::Feed).collect());
        let name = |link: &Link| match link {
            Link::Environment => Some("the environment".to_owned()),
            Link::Feed(id) => self.feeds.get(id).map(|feed| feed.fetch.target().to_string()),
        };
        links.iter().filter_map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Adds what is not there yet.
fn merge(found: &mut Vec<Instance>, part: Vec<Instance>) {
    for instance in part {
        if found.iter().all(|known| known.address != instance.address) {
            found.push(instance);
        }
    }
}
