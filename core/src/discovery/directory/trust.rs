//! Whether what Consul says is believed now. The registry desk counts the members of the cluster
//! and compares cache indexes ([`crate::consul::consistency`]); what follows for discovery is
//! decided here (003-55 to 003-63).
//!
//! **A cluster that is not whole.** An agent in the smaller part of a cluster that fell apart still
//! answers, of the few it can see, and a list from before is better than the half of one. So while
//! the last count failed, a service of which instances are known is not asked about, and the answer
//! of a question that was out is set aside. Three bounds keep this from doing harm:
//!
//! - Where nothing is known (no answer yet, an empty one, one older than `max_stale`) Consul is
//!   asked as ever and what it says is used: half a list is better than none. It is not shared with
//!   others through Redis.
//! - It takes a verdict. Before the first count, and in a client whose members nobody counts since
//!   it has no background, refreshes go on; registrations wait for a count.
//! - The verdict is a lease: counted no more, it lapses after two intervals.
//!
//! Once the cluster is whole again, everything held back is asked about at once.
//!
//! **An index that moved.** Everything Consul has said of the service is dropped: all its
//! datacenters and tags, here, in the shared level, and from an earlier run. Other sources of the
//! service are not concerned. While the cluster is not whole this waits: the index is read from
//! the same half.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Directory, Moved};
use crate::config::DiscoveryConfig;
use crate::consul::consistency::{Cached, Disagrees, Verdict};
use crate::consul::registry::Told;
use crate::discovery::SourceKind;
use crate::discovery::listing::Link;
use crate::notice::Event;
use crate::time::Time;

/// Services, by their names in Consul, whose cache index is to be compared from now on, or no
/// longer: for [`Registry::usage`](crate::consul::registry::Registry::usage).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Those looked up from now on.
    pub began: BTreeSet<Arc<str>>,
    /// Those forgotten.
    pub ended: BTreeSet<Arc<str>>,
}

impl Usage {
    /// Whether there is nothing new.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.began.is_empty() && self.ended.is_empty()
    }
}

/// See above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trust {
    /// Whether indexes are compared at all.
    compares: bool,
    usage: Usage,
    verdict: Option<Verdict>,
    failing_since: Option<Time>,
    /// Until when it holds.
    until: Time,
    /// Services to be dropped once the cluster is whole.
    waiting: BTreeSet<Arc<str>>,
}

impl Trust {
    pub(super) fn of(config: &DiscoveryConfig) -> Trust {
        let consul = config.consul.as_ref().filter(|consul| consul.enabled);
        let compares = consul.is_some_and(|consul| consul.verify.index);
        Trust { compares, ..Trust::default() }
    }

    /// Until when refreshes are held back; in the past if they are not.
    pub(super) fn held_until(&self) -> Time {
        self.until
    }

    pub(super) fn began(&mut self, name: &Arc<str>) {
        if self.compares {
            self.usage.ended.remove(name);
            self.usage.began.insert(name.clone());
        }
    }

    pub(super) fn ended(&mut self, name: &Arc<str>) {
        if self.compares && !self.usage.began.remove(name) {
            self.usage.ended.insert(name.clone());
        }
    }
}

impl Directory {
    /// Which services are in use since this was last asked: their indexes are to be compared.
    #[must_use]
    pub fn take_usage(&mut self) -> Usage {
        std::mem::take(&mut self.trust.usage)
    }

    /// Heeds what the registry desk has found out: holds refreshes back or lets them go on, and
    /// drops what is of another time.
    pub fn heed(&mut self, now: Time, told: &Told) -> Moved {
        let mut moved = BTreeSet::new();
        if let Some(what) = told.file.clone() {
            self.notices.push(now, Event::RenderedFile { what });
        }
        if let Some(verdict) = told.verdict {
            self.judge(now, verdict, told.holds_until, &mut moved);
        }
        if let Some(agreement) = &told.agreement
            && agreement.cached() == Cached::DropAllVariants
        {
            if let Some(why @ Disagrees::Moved { .. }) = agreement.disagrees {
                let about = agreement.service.clone();
                self.notices.push(now, Event::CacheDropped { about, why });
            }
            if now < self.trust.until {
                self.trust.waiting.insert(agreement.service.clone());
            } else {
                self.drop_variants(now, &agreement.service, &mut moved);
            }
        }
        Moved { services: moved.into_iter().collect(), more: false }
    }

    fn judge(&mut self, now: Time, verdict: Verdict, until: Time, moved: &mut BTreeSet<Arc<str>>) {
        let before = self.trust.verdict.replace(verdict);
        let Verdict { whole, alive, minimum, error } = verdict;
        if !whole {
            if before != Some(verdict) {
                let event = Event::ClusterHealthCheckFailed { alive, minimum, error };
                self.notices.push(now, event);
            }
            self.trust.failing_since = self.trust.failing_since.or(Some(now));
            self.trust.until = until;
            for feed in self.feeds.values_mut() {
                if feed.hold_back(until) {
                    moved.extend(feed.service.clone());
                }
            }
            return;
        }
        let Some(since) = self.trust.failing_since.take() else { return };
        let failed_for = now.since(since);
        self.notices.push(now, Event::ClusterHealthy { alive, minimum, failed_for });
        self.trust.until = Time::ZERO;
        for feed in self.feeds.values_mut() {
            if feed.let_go(now) {
                moved.extend(feed.service.clone());
            }
        }
        for name in std::mem::take(&mut self.trust.waiting) {
            self.drop_variants(now, &name, moved);
        }
    }

    /// What Consul has said of the service with this name there is forgotten, whatever it is
    /// called here.
    fn drop_variants(&mut self, now: Time, name: &str, moved: &mut BTreeSet<Arc<str>>) {
        let named = self.listed.iter().filter(|(_, listing)| *listing.name == *name);
        let services: Vec<Arc<str>> = named.map(|(service, _)| service.clone()).collect();
        for service in services {
            self.forget(now, &service, Some(SourceKind::Consul));
            moved.insert(service);
        }
        // Whoever else has written it down, though it is not in use here.
        self.memory.invalidate(now, name);
    }

    /// Forgets what is known of `service` on all levels and in all variants, and asks anew. Sources
    /// that are about all services are asked anew, too, and what they have said is used until they
    /// answer: it is not only this service's.
    pub fn invalidate(&mut self, now: Time, service: &str) -> Moved {
        let Some(name) = self.forget(now, service, None) else { return Moved::default() };
        self.memory.invalidate(now, &name);
        Moved { services: vec![service.into()], more: false }
    }

    /// Forgets what sources of this kind have said, or all of them; the name of the service there.
    fn forget(&mut self, now: Time, service: &str, only: Option<SourceKind>) -> Option<Arc<str>> {
        let listing = self.listed.get_mut(service)?;
        listing.guard = super::removal::Guard::default();
        for link in listing.chain.iter() {
            let Link::Feeds(ids) = link else { continue };
            for id in ids.iter() {
                if let Some(feed) = self.feeds.get_mut(id)
                    && only.is_none_or(|kind| kind == feed.kind())
                {
                    if feed.kind().is_whole() { feed.expire(now) } else { feed.forget(now) }
                }
            }
        }
        self.memory.forget_kept(service);
        Some(listing.name.clone())
    }
}
