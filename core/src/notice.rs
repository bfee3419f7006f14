//! Notices: the rare transitions an operator wants to read, each exactly once, typed, with its
//! reason and numbers. Kept in a bounded ring per machine; the oldest fall out and are counted. What
//! each is called and how it reads is in `notice/text.rs`, what a log says of it beside that in
//! `notice/facts.rs`, how often in `notice/limit.rs`.

use std::collections::VecDeque;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::second;
use crate::consul::ask::Trouble;
use crate::consul::consistency::Disagrees;
use crate::consul::event as registry;
use crate::consul::followed;
use crate::consul::template::renderer;
use crate::discovery::delivery::Handler;
use crate::discovery::removal::Mass;
use crate::identity;
use crate::learned::keeper;
use crate::metrics::{Bounds, EventCount, Histogram, Moves, Phase, Said};
use crate::outcome::{Fault, Outcome};
use crate::policy::breaker::{Transition, Trip};
use crate::policy::{concurrency, health, outlier, tiers};
use crate::redis::{knowledge, level};
use crate::s3::rotation;
use crate::service::Overload;
use crate::time::Time;
use crate::vault::event as vault;

/// Notices kept per machine.
pub const KEPT: usize = 256;

/// Something that happened and is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Position in the order of its machine, from 0, without gaps.
    pub seq: u64,
    /// When.
    pub at: Time,
    /// The service; `None` for discovery as a whole.
    pub service: Option<Arc<str>>,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// A discovery document was taken over.
    DiscoveryLoaded {
        /// Services in it.
        services: usize,
        /// Whether it differs from the one before.
        changed: bool,
    },
    /// Asking a source of discovery failed.
    DiscoveryFailed {
        /// Who was asked.
        source: Arc<str>,
        /// The service it was asked about; `None`: about all.
        about: Option<Arc<str>>,
        /// What went wrong, without any content of the document.
        reason: String,
        /// Failures in a row.
        failures: u32,
        /// Whether an earlier document is still in use.
        kept: bool,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// A source of discovery answers again after failures.
    DiscoveryRecovered {
        /// Who was asked.
        source: Arc<str>,
        /// The service it was asked about; `None`: about all.
        about: Option<Arc<str>>,
        /// Failures in a row before.
        failures: u32,
        /// Time since the first of them.
        lasted: Duration,
    },
    /// What is in use is past its time to live and nothing newer could be had.
    DiscoveryStale {
        /// Its age.
        age: Duration,
    },
    /// Many instances vanished at once, and are kept in reserve until the source has insisted.
    MassRemoval {
        /// The service.
        about: Arc<str>,
        /// The numbers.
        mass: Mass,
    },
    /// Something about the shared level in Redis.
    SharedLevel {
        /// What happened.
        what: level::Event,
    },
    /// Something about remembered answers that are shared in Redis.
    SharedAnswers {
        /// What happened.
        what: second::Trouble,
    },
    /// Something about what is followed in Consul: certificates of the mesh, defaults, files of TLS.
    Consul {
        /// What happened.
        what: followed::Said,
    },
    /// Something about who this program is: its certificate, its service-account token.
    Identity {
        /// What.
        what: identity::Said,
    },
    /// Something about the client's token for Vault, or about a lease.
    Vault {
        /// What happened.
        what: vault::Event,
    },
    /// Something about the credentials of storage.
    Storage {
        /// What happened.
        what: rotation::Event,
    },
    /// Something about the file that keeps what was learnt of endpoints.
    State {
        /// What happened.
        what: keeper::Said,
    },
    /// What an earlier run knew of discovery is used until the sources have answered.
    SnapshotRestored {
        /// Services in it.
        services: usize,
        /// Services and instances that were not taken over.
        left_out: usize,
        /// How long ago it was written.
        age: Duration,
    },
    /// The split-brain check of Consul fails: registrations and refreshes are held back.
    ClusterHealthCheckFailed {
        /// Members alive; 0 when nobody says.
        alive: u32,
        /// Members needed.
        minimum: u32,
        /// Why nobody says.
        error: Option<Trouble>,
    },
    /// It succeeds again: what was held back goes on.
    ClusterHealthy {
        /// Members alive.
        alive: u32,
        /// Members needed.
        minimum: u32,
        /// For how long it had failed.
        failed_for: Duration,
    },
    /// The cache index of a service in Consul moved: what was known of it is dropped.
    CacheDropped {
        /// The service, as Consul calls it.
        about: Arc<str>,
        /// From where to where.
        why: Disagrees,
    },
    /// Something about a file that is rendered from what Consul knows.
    RenderedFile {
        /// What happened.
        what: renderer::Event,
    },
    /// The snapshot of discovery cannot be read or written.
    SnapshotFailed {
        /// Why.
        reason: String,
    },
    /// A callback for changed endpoints has failed or panicked, after a success or for the first
    /// time. It is called again; that it fails again is not told.
    ServiceWatchError {
        /// What the callback is for.
        handler: Handler,
        /// Which: the number of its subscription among those of the service.
        number: u64,
        /// What it said.
        reason: Arc<str>,
        /// Time until it is called again.
        retry_in: Duration,
    },
    /// A callback for changed endpoints has succeeded after failures.
    ServiceWatchRecovered {
        /// What it is for.
        handler: Handler,
        /// The number of its subscription.
        number: u64,
        /// Failures in a row before.
        failures: u32,
        /// How old the news were that it has understood now.
        behind: Duration,
    },
    /// Something about own registrations, or the cluster that keeps them.
    Registry {
        /// What happened.
        what: registry::Event,
    },
    /// The document names an address that cannot be used.
    AddressRefused {
        /// The cluster it stands under.
        cluster: Arc<str>,
        /// Why.
        reason: String,
    },
    /// The endpoints of the service changed.
    EndpointsChanged {
        /// New endpoints.
        added: usize,
        /// Endpoints that are gone.
        removed: usize,
        /// Endpoints in use now.
        total: usize,
    },
    /// An attempt met no usable connection or answer.
    ConnectionIssue {
        /// Cluster of the endpoint.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// What went wrong.
        fault: Fault,
    },
    /// An endpoint, or a whole cluster, has cost an attempt by its silence: it is used last, and
    /// asked by one attempt at a time, until it answers.
    Stalled {
        /// The cluster.
        cluster: Arc<str>,
        /// The endpoint's address; `None`: the cluster as a whole.
        endpoint: Option<Arc<str>>,
        /// How long it had work and said nothing.
        silence: Duration,
        /// How long answers usually take; `None` before the first.
        usual: Option<Duration>,
    },
    /// It has answered.
    StallEnded {
        /// The cluster.
        cluster: Arc<str>,
        /// The endpoint's address; `None`: the cluster as a whole.
        endpoint: Option<Arc<str>>,
        /// For how long it had been used last.
        lasted: Duration,
    },
    /// TLS handshakes with an endpoint have begun to fail; that the next ones fail is not told.
    HandshakeFailed {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// What was wrong: the name presented, the certificate that has expired, the authority
        /// that is not known.
        reason: Arc<str>,
    },
    /// An endpoint has answered over TLS after failed handshakes.
    HandshakeRecovered {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// Handshakes that failed.
        failures: u64,
        /// Time since the first of them.
        lasted: Duration,
    },
    /// A breaker opened.
    BreakerOpened {
        /// Cluster of the endpoint.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// Why.
        trip: Trip,
        /// For how long.
        interval: Duration,
    },
    /// A breaker lets probes through.
    BreakerHalfOpened {
        /// Cluster of the endpoint.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
    },
    /// A breaker closed.
    BreakerClosed {
        /// Cluster of the endpoint.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
    },
    /// A breaker in shadow would have changed its state; nothing is refused because of it.
    BreakerShadow {
        /// Cluster of the endpoint.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// What it would have done.
        change: Transition,
    },
    /// One call went on in another cluster.
    Failover {
        /// Cluster of the failed attempt.
        from: Arc<str>,
        /// Cluster of the next one.
        to: Arc<str>,
        /// What the failed attempt met.
        reason: Outcome,
    },
    /// The service is now answered by another cluster than before.
    Switched {
        /// Cluster that answered before.
        from: Arc<str>,
        /// Cluster that answers now.
        to: Arc<str>,
        /// `true` when this is a return to a preferred cluster.
        failback: bool,
    },
    /// Other rules are in force.
    Reconfigured,
    /// The first choice among the clusters, or the split of the load between them, changed.
    Tier {
        /// The cluster concerned.
        cluster: Arc<str>,
        /// What changed. Tiers are numbered in failover order, from 0.
        change: tiers::Change,
    },
    /// Other nodes found an endpoint bad: it is used when there is nobody else, or not at all.
    AdvisedAgainst {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// How many say so.
        by: u32,
        /// How many nodes are live, this one included.
        of: u32,
        /// Whether it is not used at all (`strict`).
        refused: bool,
    },
    /// What other nodes say against an endpoint has ended, or own successes say otherwise.
    AdviceEnded {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
    },
    /// Something about telling other nodes, and hearing them.
    SharedKnowledge {
        /// What happened.
        what: knowledge::Event,
    },
    /// An endpoint was left out because it is worse than its peers, spared, or taken back.
    Outlier {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// What happened, with the numbers.
        change: outlier::Change,
    },
    /// The breaker of the service as a whole changed its state.
    ServiceBreaker {
        /// How.
        change: Transition,
    },
    /// Calls are not let in; the first of a run is told.
    Shed {
        /// Why.
        why: Overload,
    },
    /// An adaptive concurrency limit moved.
    ConcurrencyLimit {
        /// From what to what, and why.
        change: concurrency::Change,
    },
    /// Active checks changed their verdict on an endpoint.
    HealthChanged {
        /// Its cluster.
        cluster: Arc<str>,
        /// Its address.
        endpoint: Arc<str>,
        /// From what to what, and why.
        change: health::Change,
    },
    /// A repeat was not made because the retry budget is spent.
    RetrySuppressed {
        /// Cluster of the failed attempt.
        cluster: Arc<str>,
        /// What it met.
        reason: Outcome,
        /// Who did not pay for it.
        by: Suppressed,
    },
}

/// Why a repeat was not paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppressed {
    /// The ratio budget.
    Budget {
        /// Whole repeats it would pay for.
        available: u64,
    },
    /// The token bucket. Thousandths of a token.
    Tokens {
        /// What is there.
        have: u32,
        /// What a repeat needs.
        need: u32,
    },
}

/// The bounded ring of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notices {
    service: Option<Arc<str>>,
    ring: VecDeque<Notice>,
    next: u64,
    said: Said,
}

impl Notices {
    pub(crate) fn new(service: Option<Arc<str>>) -> Notices {
        // Most services never come near the bound: its room is not taken in advance.
        Notices { service, ring: VecDeque::new(), next: 0, said: Said::default() }
    }

    pub(crate) fn push(&mut self, at: Time, event: Event) {
        self.push_about(at, self.service.clone(), event);
    }

    /// The same about another service than that of the machine.
    pub(crate) fn push_about(&mut self, at: Time, service: Option<Arc<str>>, event: Event) {
        self.push_from(at, service, event, None);
    }

    /// The same, of a breaker that was in `from` and did not get there by itself.
    pub(crate) fn push_from(
        &mut self,
        at: Time,
        service: Option<Arc<str>>,
        event: Event,
        from: Option<Phase>,
    ) {
        // Here, so that what is counted and what is logged cannot differ.
        self.said.count(at, event.about().or(service.as_ref()), &event, from);
        if self.ring.len() >= KEPT {
            self.ring.pop_front();
        }
        self.ring.push_back(Notice { seq: self.next, at, service, event });
        self.next += 1;
    }

    /// How often each notice was given, also those that fell out of the ring.
    pub fn counts(&self) -> impl Iterator<Item = EventCount> + '_ {
        self.said.view()
    }

    /// Changes of state of breakers, each once: those of endpoints, that of the service.
    #[must_use]
    pub fn moves(&self) -> (Moves, Moves) {
        self.said.moves()
    }

    /// How long breakers of the machine were not closed, of those that closed again.
    #[must_use]
    pub fn recoveries(&self) -> Histogram {
        self.said.recoveries.took()
    }

    /// Counts durations in these buckets.
    pub(crate) fn bounds(&mut self, bounds: Bounds) {
        self.said.recoveries.bounds(bounds);
    }

    /// How many notices there ever were: the `seq` of the next one.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.next
    }

    /// The kept notices from `seq` on, oldest first. A gap between `seq` and the first one
    /// returned is what fell out of the ring.
    pub fn since(&self, seq: u64) -> impl Iterator<Item = &Notice> {
        self.ring.iter().filter(move |notice| notice.seq >= seq)
    }
}

mod facts;
pub mod limit;
mod plain;
mod text;

pub use facts::{Facts, Level, Subject};
pub use plain::{LONGEST, Plain};

#[cfg(test)]
mod tests;
