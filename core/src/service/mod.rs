//! One upstream service: what its calls share. Endpoints in tiers, retry budget, counters,
//! notices, and what discovery knows. Calls act on it through [`crate::call::Call::step`];
//! drivers keep it behind one lock.

mod attempts;
mod checks;
mod control;
mod gate;
mod health;
mod hearsay;
mod learned;
mod troubles;
mod view;

pub use control::Order;
pub use gate::Overload;
pub(crate) use gate::{Entry, Gate, Pass};
pub use hearsay::Heard;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::config::Rules;
use crate::discovery::directory::Resolution;
use crate::discovery::{Candidate, DiscoveryError};
use crate::headers;
use crate::metrics::{Bounds, Tally};
use crate::notice::{Event, Notices};
use crate::outcome::{Fault, Outcome};
use crate::policy::breaker::Transition;
use crate::policy::budget::Budget;
use crate::policy::health::Schedule;
use crate::policy::hedge::Hedge;
use crate::policy::latency::Histogram;
use crate::policy::outlier::Detector;
use crate::policy::remaining;
use crate::policy::tiers::Tiers;
use crate::policy::timeout::Adaptive;
use crate::policy::tokens::Tokens;
use crate::pool::{Endpoint, EndpointId, Pool, Tier};
use crate::rng::Pcg32;
use crate::time::{Time, Wall};

/// Counters since construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls begun.
    pub calls: u64,
    /// Calls that got an answer.
    pub answered: u64,
    /// Calls that ended in an error.
    pub failed: u64,
    /// Calls dropped by their caller.
    pub abandoned: u64,
    /// Attempts sent.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Attempts that failed since the last success.
    pub failed_since_success: u64,
    /// Calls that were not let in: by a limit, a queue, throttling.
    pub shed: u64,
    /// Mistakes of the driver.
    pub misuse: u64,
}

/// The shared state of one upstream service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    name: Arc<str>,
    pub(crate) rules: Rules,
    /// Named variants of the rules, for calls that ask for them.
    profiles: Vec<(Arc<str>, Rules)>,
    pub(crate) pool: Pool,
    pub(crate) budget: Budget,
    pub(crate) tokens: Tokens,
    pub(crate) hedge: Hedge,
    adaptive: Adaptive,
    /// Kept only where a policy reads it.
    latency: Option<Box<Histogram>>,
    pub(crate) tiers: Tiers,
    /// The clusters that `tiers` knows by position.
    tier_names: Vec<Arc<str>>,
    detector: Detector,
    gate: Gate,
    /// Calls refused since the last one ended.
    shed_since_in: u32,
    checks: Schedule,
    /// The generation of each endpoint that is checked.
    checked: BTreeMap<u32, u32>,
    pub(crate) counts: Counts,
    pub(crate) tally: Tally,
    pub(crate) bounds: Bounds,
    #[serde(skip, default = "pending")]
    pub(crate) resolution: Resolution,
    epoch: u64,
    /// What other nodes are told, and heard; `None` when it is off.
    sharing: Option<Box<hearsay::Sharing>>,
    rng: Pcg32,
    /// Tells clients apart, for the part of a large fleet that each uses.
    client: u64,
    notices: Notices,
    /// The tier that answered last, and since when.
    active: Option<u32>,
    active_since: Time,
    last_success: Option<Time>,
    /// Endpoints with which TLS fails.
    handshakes: troubles::Handshakes,
    /// What an earlier run has learnt of endpoints that are not known yet.
    earlier: Option<Box<learned::Earlier>>,
}

fn pending() -> Resolution {
    Resolution::Pending
}

impl Service {
    /// A service whose endpoints are not known yet: calls park until [`Service::resolve`].
    #[must_use]
    pub fn new(name: Arc<str>, rules: Rules, seed: u64) -> Service {
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Service {
            notices: Notices::new(Some(name.clone())),
            tiers: Tiers::new(Time::ZERO, 0, &rules.failover),
            detector: Detector::new(Time::ZERO, &rules.outlier),
            tier_names: Vec::new(),
            client: seed,
            gate: Gate::new(&rules),
            shed_since_in: 0,
            tokens: Tokens::new(&rules.tokens),
            hedge: Hedge::new(Time::ZERO),
            adaptive: Adaptive::default(),
            latency: reads_latency(&rules)
                .then(|| Box::new(Histogram::new(Time::ZERO, &rules.latency))),
            name,
            rules,
            profiles: Vec::new(),
            pool: Pool::default(),
            budget: Budget::default(),
            checks: Schedule::new(),
            checked: BTreeMap::new(),
            counts: Counts::default(),
            tally: Tally::default(),
            bounds: Bounds::default(),
            resolution: Resolution::Pending,
            epoch: 0,
            sharing: None,
            // The high bit keeps it apart from the streams of calls.
            rng: Pcg32::new(seed, stream | 1 << 62),
            active: None,
            active_since: Time::ZERO,
            last_success: None,
            handshakes: troubles::Handshakes::default(),
            earlier: None,
        }
    }

    /// Adds named variants of the rules. What calls share (breakers, budgets, statistics) stays
    /// shared; deadlines, retries and hedging of a call follow its profile. At most 254.
    #[must_use]
    pub fn with_profiles(mut self, mut profiles: Vec<(Arc<str>, Rules)>) -> Service {
        profiles.truncate(254);
        if profiles.iter().any(|(_, rules)| reads_latency(rules)) && self.latency.is_none() {
            self.latency = Some(Box::new(Histogram::new(Time::ZERO, &self.rules.latency)));
        }
        self.profiles = profiles;
        self
    }

    /// Counts durations in these buckets. To be said before anything is counted.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Service {
        self.notices.bounds(bounds);
        Service { bounds, ..self }
    }

    /// The number of the profile called `name`, for [`CallSpec::profile`](crate::CallSpec).
    #[must_use]
    pub fn profile_number(&self, name: &str) -> Option<u8> {
        let place = self.profiles.iter().position(|(known, _)| &**known == name)?;
        u8::try_from(place + 1).ok()
    }

    /// The rules of a profile; those of the service for 0 and for one that is not there.
    pub(crate) fn profile(&self, number: u8) -> &Rules {
        let chosen = usize::from(number).checked_sub(1).and_then(|at| self.profiles.get(at));
        chosen.map_or(&self.rules, |(_, rules)| rules)
    }

    /// The facts of an answer: its status, and what its headers say about trying again.
    #[must_use]
    pub fn outcome(&self, status: u16, headers: &HeaderMap, wall: Wall) -> Outcome {
        let pushback = headers::advice(headers, wall, &self.rules.retryable, &self.rules.backoff);
        Outcome::Answered { status, pushback }
    }

    /// What attempts under this profile are told; for [`Told`](crate::told::Told) and
    /// [`Request::identify`](crate::Request::identify), which need not be done while the service is held.
    #[must_use]
    pub fn propagation(&self, profile: u8) -> &Arc<remaining::Settings> {
        &self.profile(profile).propagate
    }

    /// The deadline that calls under this profile have, unless they say otherwise.
    #[must_use]
    pub fn total_of(&self, profile: u8) -> Duration {
        self.profile(profile).total
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its compiled policies.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Moves whenever parked calls should look again.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What discovery knows. Endpoints that stay keep their state. Parked calls wake.
    pub fn resolve(&mut self, now: Time, resolution: Resolution) {
        if let Resolution::Found(candidates) = &resolution
            && resolution != self.resolution
        {
            self.take(now, candidates);
        }
        self.epoch += 1;
        self.resolution = resolution;
    }

    fn take(&mut self, now: Time, candidates: &[Candidate]) {
        let active = self
            .active
            .and_then(|tier| self.pool.tiers.get(tier as usize))
            .map(|t| t.cluster.clone());
        let (added, removed) = self.pool.replace(now, candidates, &self.rules, self.client);
        self.retier_all(now);
        if self.sharing.is_some() {
            self.consider_all(now);
        }
        self.reschedule(now);
        let tier = self.pool.tiers.iter().position(|tier| Some(&tier.cluster) == active.as_ref());
        self.active = tier.and_then(|tier| u32::try_from(tier).ok());
        if self.earlier.is_some() {
            self.recall(now);
        }
        self.forget_troubles();
        let total = self.pool.endpoints.iter().flatten().count();
        self.notices.push(now, Event::EndpointsChanged { added, removed, total });
    }

    /// Where `endpoint` is; `None` when discovery has removed it meanwhile.
    #[must_use]
    pub fn address(&self, endpoint: EndpointId) -> Option<&Address> {
        self.pool.get(endpoint).map(|endpoint| &endpoint.address)
    }

    /// Cluster and address of `endpoint`, for reports.
    #[must_use]
    pub fn label(&self, endpoint: EndpointId) -> Option<(Arc<str>, Arc<str>)> {
        let endpoint = self.pool.get(endpoint)?;
        Some((self.pool.tiers.get(endpoint.tier as usize)?.cluster.clone(), endpoint.label.clone()))
    }

    /// The names of known services, when this one is not among them.
    #[must_use]
    pub fn known(&self) -> &[Arc<str>] {
        match &self.resolution {
            Resolution::Absent(known) => known,
            _ => &[],
        }
    }

    /// Whether it has no endpoints: discovery has not answered yet, failed, or does not know it.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        !matches!(&self.resolution, Resolution::Found(found) if !found.is_empty())
    }

    /// Why discovery has no endpoints, if that is so. A call whose time ran out while a fetch was
    /// still under way waited for discovery all the same: that is a timeout of it.
    #[must_use]
    pub fn discovery_error(&self) -> Option<DiscoveryError> {
        match &self.resolution {
            Resolution::Failed { error, .. } => Some(error.clone()),
            Resolution::Pending => Some(DiscoveryError::Fault(Fault::Timeout)),
            Resolution::Found(_) | Resolution::Absent(_) => None,
        }
    }

    /// Lets time act. Nothing to do in nearly every case: one compare.
    pub(crate) fn tick(&mut self, now: Time) {
        if self.gate.breaker.due() <= now {
            let settings = &self.rules.service_breaker;
            if let Some(change) = self.gate.breaker.tick(now, settings, &mut self.rng) {
                self.notices.push(now, Event::ServiceBreaker { change });
            }
        }
        self.tick_health(now);
        if self.pool.due() > now {
            return;
        }
        if self.sharing.is_some() {
            self.tick_hearsay(now);
        }
        let (pool, notices, sharing) = (&mut self.pool, &mut self.notices, &mut self.sharing);
        pool.tick(now, &self.rules, &mut self.rng, |endpoint, tier, change| {
            if let Some(sharing) = sharing {
                sharing.tell(now, endpoint, &self.rules.breaker);
            }
            notices.push(now, transition(endpoint, tier, change));
        });
        self.retier(now);
    }

    /// Has it say what somebody else has found out about it: that of a callback for its endpoints.
    pub fn say(&mut self, now: Time, event: Event) {
        self.notices.push(now, event);
    }

    /// Its notices.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Its counters.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

fn reads_latency(rules: &Rules) -> bool {
    rules.hedge.reads_latency() || rules.adaptive_timeout.reads_latency()
}

fn transition(endpoint: &Endpoint, tier: &Tier, change: Transition) -> Event {
    let (cluster, endpoint) = (tier.cluster.clone(), endpoint.label.clone());
    match change {
        _ if change.shadow() => Event::BreakerShadow { cluster, endpoint, change },
        Transition::Opened { trip, interval, .. } => {
            Event::BreakerOpened { cluster, endpoint, trip, interval }
        }
        Transition::HalfOpened { .. } => Event::BreakerHalfOpened { cluster, endpoint },
        Transition::Closed { .. } => Event::BreakerClosed { cluster, endpoint },
    }
}
