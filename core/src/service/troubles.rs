//! Troubles of endpoints that are no breaker's matter and are told all the same, once when they
//! begin and once when they end: silence that cost an attempt, and TLS handshakes that fail. What
//! silence means is in `policy/stall`; nothing is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Service;
use crate::notice::Event;
use crate::policy::stall::Watch;
use crate::pool::EndpointId;
use crate::time::Time;

/// Characters of a reason that are kept: it may quote a stranger's certificate.
const LONGEST: usize = 256;

/// Endpoints with which TLS fails: since when, and how often. As many as there are endpoints at
/// most; empty in nearly every case.
pub(super) type Handshakes = BTreeMap<EndpointId, Failing>;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failing {
    since: Time,
    failures: u64,
}

/// What an attempt has begun or ended, of its endpoint and of the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Silences {
    /// The endpoint's trouble began.
    pub(super) endpoint_began: bool,
    /// That of the cluster.
    pub(super) tier_began: bool,
    /// The endpoint's trouble ended.
    pub(super) endpoint_ended: bool,
    /// That of the cluster.
    pub(super) tier_ended: bool,
}

impl Silences {
    fn any(self) -> bool {
        let Silences { endpoint_began, tier_began, endpoint_ended, tier_ended } = self;
        endpoint_began || tier_began || endpoint_ended || tier_ended
    }
}

impl Service {
    /// Tells what an attempt at the endpoint has begun or ended.
    #[inline]
    pub(super) fn tell_silences(&mut self, now: Time, id: EndpointId, what: Silences) {
        if what.any() {
            self.silences(now, id, what);
        }
    }

    #[cold]
    fn silences(&mut self, now: Time, id: EndpointId, what: Silences) {
        let Some(known) = self.pool.get(id) else { return };
        let Some(tier) = self.pool.tiers.get(known.tier as usize) else { return };
        let began = |endpoint: Option<&Arc<str>>, watch: &Watch| Event::Stalled {
            cluster: tier.cluster.clone(),
            endpoint: endpoint.cloned(),
            silence: watch.silence(now),
            usual: watch.latency(),
        };
        let ended = |endpoint: Option<&Arc<str>>, watch: &Watch| Event::StallEnded {
            cluster: tier.cluster.clone(),
            endpoint: endpoint.cloned(),
            lasted: watch.last_trouble(now),
        };
        let label = Some(&known.label);
        let events = [
            what.endpoint_began.then(|| began(label, &known.watch)),
            what.tier_began.then(|| began(None, &tier.watch)),
            what.endpoint_ended.then(|| ended(label, &known.watch)),
            what.tier_ended.then(|| ended(None, &tier.watch)),
        ];
        for event in events.into_iter().flatten() {
            self.notices.push(now, event);
        }
    }

    /// A TLS handshake with `endpoint` has failed, and why, in words for an operator. Told when it
    /// is the first since the endpoint last answered.
    pub fn handshake_failed(&mut self, now: Time, endpoint: EndpointId, reason: &str) {
        let Some(known) = self.pool.get(endpoint) else { return };
        let Some(tier) = self.pool.tiers.get(known.tier as usize) else { return };
        let first = Failing { since: now, failures: 0 };
        let failing = self.handshakes.entry(endpoint).or_insert(first);
        failing.failures = failing.failures.saturating_add(1);
        if failing.failures == 1 {
            let (cluster, endpoint) = (tier.cluster.clone(), known.label.clone());
            let reason: String = reason.chars().take(LONGEST).collect();
            self.notices
                .push(now, Event::HandshakeFailed { cluster, endpoint, reason: reason.into() });
        }
    }

    /// The endpoint has answered: if TLS with it had failed, that is over.
    #[inline]
    pub(super) fn shaken(&mut self, now: Time, id: EndpointId) {
        if self.handshakes.is_empty() {
            return;
        }
        let Some(Failing { since, failures }) = self.handshakes.remove(&id) else { return };
        let Some(known) = self.pool.get(id) else { return };
        let Some(tier) = self.pool.tiers.get(known.tier as usize) else { return };
        let (cluster, endpoint) = (tier.cluster.clone(), known.label.clone());
        let lasted = now.since(since);
        self.notices.push(now, Event::HandshakeRecovered { cluster, endpoint, failures, lasted });
    }

    /// The endpoints have changed: those that are gone are no trouble.
    pub(super) fn forget_troubles(&mut self) {
        let pool = &self.pool;
        self.handshakes.retain(|id, _| pool.get(*id).is_some());
    }
}
