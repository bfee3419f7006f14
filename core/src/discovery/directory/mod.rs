//! Which sources a service has, what comes of their answers, and who must be told. When a source
//! is asked is in `feed`, how in `fetch`.
//!
//! Sources that answer for everything (document, file) have one feed; those that are asked for
//! each service (Consul, DNS) have one feed a service that somebody wants, Consul one for each
//! datacenter. The environment never changes. What sources say about a service is combined,
//! checked for mass removal, and put in failover order (`listing`). Beside them stand the
//! shared level, which is asked before a source and told what it said, and the snapshot on disk
//! (`memory`).
//!
//! | here | |
//! |---|---|
//! | `asking` | whose turn it is |
//! | `places` | how many are asked at once |
//! | `answers` | what came of a job |
//! | `services` | what is known of a service |
//! | `trust` | whether what Consul says is believed now, and for how long |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::feed::Feed;
use super::fetch::{DocumentFetch, Fetch, FileFetch, Sources};
use super::listing::Listing;
use super::memory::Memory;
use super::plan::Candidate;
use super::{DiscoveryError, Environment, SourceKind, Surroundings, environment, removal};
use crate::config::{Config, ConfigError, LookupConfig};
use crate::notice::Notices;
use crate::rng::Pcg32;
use crate::snapshot::DiscoverySnapshot;
use crate::time::{Time, Wall};

/// What feeds share, beside the feeds: a method would borrow them, too.
macro_rules! shared {
    ($directory:expr) => {
        Shared {
            sources: &$directory.sources,
            notices: &mut $directory.notices,
            rng: &mut $directory.rng,
            next_id: &mut $directory.next_id,
            asked: &mut $directory.asked,
            held: &mut $directory.held,
            attended_until: $directory.attended_until,
        }
    };
}

mod answers;
mod asking;
mod ending;
mod places;
mod services;
mod trust;

pub(super) use places::Places;
pub use trust::Usage;

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
    /// Whether what Consul says is believed now.
    trust: trust::Trust,
    /// Whose turn it is with a background.
    turn_of: Option<Arc<str>>,
    /// What the background has out at once: exchanges, and queries that an agent holds back.
    asked: places::Places,
    held: places::Places,
    /// When a listing changes by itself: what vanished is given up.
    recheck: Time,
    /// Until when a background task has promised to look after refreshes.
    attended_until: Time,
    next_id: u64,
    next_feed: FeedId,
    rng: Pcg32,
    notices: Notices,
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
            trust: trust::Trust::of(discovery),
            lookups,
            feeds: BTreeMap::new(),
            wholes: Vec::new(),
            environment,
            listed: BTreeMap::new(),
            turn_of: None,
            asked: places::Places::new(discovery.max_requests),
            held: places::Places::new(discovery.consul.as_ref().map_or(0, |c| c.max_watches)),
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
