//! What is known of a service: which sources it has, what they say taken together, and what its
//! calls get of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Directory, FeedId, Resolution};
use crate::config::check_service_name;
use crate::discovery::feed::Feed;
use crate::discovery::fetch::{ConsulFetch, DnsFetch, Fetch};
use crate::discovery::listing::{Link, Listing, View};
use crate::discovery::{Candidate, Environment, Instance, SourceKind, plan};
use crate::notice::Event;
use crate::time::Time;

impl Directory {
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
    pub(super) fn list(&mut self, now: Time, service: &str) -> bool {
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
        for mut feed in own {
            let kind = feed.kind();
            if kind == SourceKind::Consul {
                self.trust.began(&listing.name);
                feed.hold_back(self.trust.held_until());
            }
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
            if self.listed.values().all(|other| other.name != listing.name) {
                self.trust.ended(&listing.name);
            }
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
}
