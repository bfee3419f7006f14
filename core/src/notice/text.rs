//! How notices read: the name of each and its one line.

use std::fmt;
use std::sync::Arc;

use super::{Event, Notice, Suppressed};
use crate::time::Rounded;

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Suppressed::Budget { available } => {
                write!(f, "the retry budget, with {available} repeats left")
            }
            Suppressed::Tokens { have, need } => write!(
                f,
                "the retry tokens: {}.{:03} left, {}.{:03} needed",
                have / 1000,
                have % 1000,
                need / 1000,
                need % 1000
            ),
        }
    }
}

/// An endpoint in its cluster, or the cluster.
struct Place<'a>(Option<&'a str>, &'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place(Some(endpoint), cluster) => write!(f, "{endpoint} ({cluster})"),
            Place(None, cluster) => write!(f, "cluster {cluster}"),
        }
    }
}

impl Event {
    /// The service that it names itself, apart from that of its machine.
    pub(super) fn about(&self) -> Option<&Arc<str>> {
        match self {
            Event::DiscoveryFailed { about, .. } | Event::DiscoveryRecovered { about, .. } => {
                about.as_ref()
            }
            Event::MassRemoval { about, .. } | Event::CacheDropped { about, .. } => Some(about),
            Event::Registry { what } => what.service(),
            _ => None,
        }
    }

    /// The name under which it is logged: `service_registered`, `breaker_opened`. That of its
    /// `event` field; of something about registrations, that of the `event` field within.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Event::DiscoveryLoaded { .. } => "discovery_loaded",
            Event::DiscoveryFailed { .. } => "discovery_failed",
            Event::DiscoveryRecovered { .. } => "discovery_recovered",
            Event::DiscoveryStale { .. } => "discovery_stale",
            Event::MassRemoval { .. } => "mass_removal",
            Event::SharedLevel { .. } => "shared_level",
            Event::SharedAnswers { .. } => "shared_answers",
            Event::Consul { .. } => "consul",
            Event::Identity { .. } => "identity",
            Event::Vault { .. } => "vault",
            Event::Storage { .. } => "storage",
            Event::State { .. } => "state",
            Event::SnapshotRestored { .. } => "snapshot_restored",
            Event::SnapshotFailed { .. } => "snapshot_failed",
            Event::ServiceWatchError { .. } => "service_watch_error",
            Event::ServiceWatchRecovered { .. } => "service_watch_recovered",
            Event::Registry { what } => what.name(),
            Event::ClusterHealthCheckFailed { .. } => "cluster_health_check_failed",
            Event::ClusterHealthy { .. } => "cluster_healthy",
            Event::CacheDropped { .. } => "cache_dropped",
            Event::RenderedFile { .. } => "rendered_file",
            Event::AddressRefused { .. } => "address_refused",
            Event::EndpointsChanged { .. } => "endpoints_changed",
            Event::ConnectionIssue { .. } => "connection_issue",
            Event::Stalled { .. } => "stalled",
            Event::StallEnded { .. } => "stall_ended",
            Event::HandshakeFailed { .. } => "handshake_failed",
            Event::HandshakeRecovered { .. } => "handshake_recovered",
            Event::BreakerOpened { .. } => "breaker_opened",
            Event::BreakerHalfOpened { .. } => "breaker_half_opened",
            Event::BreakerClosed { .. } => "breaker_closed",
            Event::BreakerShadow { .. } => "breaker_shadow",
            Event::Failover { .. } => "failover",
            Event::Switched { .. } => "switched",
            Event::Reconfigured => "reconfigured",
            Event::Tier { .. } => "tier",
            Event::AdvisedAgainst { .. } => "advised_against",
            Event::AdviceEnded { .. } => "advice_ended",
            Event::SharedKnowledge { .. } => "shared_knowledge",
            Event::Outlier { .. } => "outlier",
            Event::ServiceBreaker { .. } => "service_breaker",
            Event::Shed { .. } => "shed",
            Event::ConcurrencyLimit { .. } => "concurrency_limit",
            Event::HealthChanged { .. } => "health_changed",
            Event::RetrySuppressed { .. } => "retry_suppressed",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::DiscoveryLoaded { services, changed: true } => {
                write!(f, "discovery document loaded: {services} services")
            }
            Event::DiscoveryLoaded { services, changed: false } => {
                write!(f, "discovery document unchanged: {services} services")
            }
            Event::DiscoveryFailed { source, about, reason, failures, kept, retry_in } => write!(
                f,
                "discovery failed ({failures} in a row) at {source}{}{}: {reason}; {}; next try in \
                 {retry_in}",
                if about.is_some() { " for " } else { "" },
                about.as_deref().unwrap_or_default(),
                if *kept { "keeping the last answer" } else { "no answer yet" },
                retry_in = Rounded(*retry_in)
            ),
            Event::DiscoveryRecovered { source, about, failures, lasted } => write!(
                f,
                "{source} answers again{}{} after {failures} failures in {}",
                if about.is_some() { " for " } else { "" },
                about.as_deref().unwrap_or_default(),
                Rounded(*lasted)
            ),
            Event::DiscoveryStale { age } => {
                write!(f, "using a stale answer of discovery, {age} old", age = Rounded(*age))
            }
            Event::MassRemoval { about, mass } => write!(f, "{about}: {mass}"),
            Event::SharedLevel { what } => write!(f, "{what}"),
            Event::SharedAnswers { what } => write!(f, "{what}"),
            Event::Consul { what } => write!(f, "{what}"),
            Event::Identity { what } => write!(f, "identity: {what}"),
            Event::Vault { what } => write!(f, "{what}"),
            Event::Storage { what } => write!(f, "{what}"),
            Event::State { what } => write!(f, "{what}"),
            Event::SnapshotRestored { services, left_out, age } => write!(
                f,
                "{services} services restored from the snapshot of discovery, {age} old; \
                 {left_out} left out",
                age = Rounded(*age)
            ),
            Event::ClusterHealthCheckFailed { minimum, error: Some(error), .. } => write!(
                f,
                "cluster_health_check_failed: cannot see whether {minimum} members are alive: \
                 {error}; nothing is registered or refreshed"
            ),
            Event::ClusterHealthCheckFailed { alive, minimum, error: None } => write!(
                f,
                "cluster_health_check_failed: {alive} members are alive, {minimum} are needed; \
                 nothing is registered or refreshed"
            ),
            Event::ClusterHealthy { alive, minimum, failed_for } => write!(
                f,
                "{alive} members are alive, {minimum} are needed; it was otherwise for \
                 {failed_for}",
                failed_for = Rounded(*failed_for)
            ),
            Event::CacheDropped { about, why } => {
                write!(f, "{about}: what was known is dropped: {why}")
            }
            Event::RenderedFile { what } => write!(f, "{what}"),
            Event::SnapshotFailed { reason } => {
                write!(f, "the snapshot of discovery cannot be used: {reason}")
            }
            Event::ServiceWatchError { handler, number, reason, retry_in } => write!(
                f,
                "callback {number} ({}) failed: {reason}; called again in {}",
                handler.word(),
                Rounded(*retry_in)
            ),
            Event::ServiceWatchRecovered { handler, number, failures, behind } => write!(
                f,
                "callback {number} ({}) succeeded after {failures} failures in a row, {} behind",
                handler.word(),
                Rounded(*behind)
            ),
            Event::Registry { what } => write!(f, "{what}"),
            Event::AddressRefused { cluster, reason } => {
                write!(f, "address in cluster {cluster} refused: {reason}")
            }
            Event::EndpointsChanged { added, removed, total } => {
                write!(f, "endpoints changed: {added} added, {removed} removed, {total} in use")
            }
            Event::ConnectionIssue { cluster, endpoint, fault } => {
                write!(f, "connection issue at {endpoint} ({cluster}): {fault}")
            }
            Event::Stalled { cluster, endpoint, silence, usual } => {
                let place = Place(endpoint.as_deref(), cluster);
                write!(f, "{place} is silent for {}", Rounded(*silence))?;
                match usual {
                    Some(usual) => write!(f, ", usually {}; used last", Rounded(*usual)),
                    None => f.write_str("; used last"),
                }
            }
            Event::StallEnded { cluster, endpoint, lasted } => {
                let place = Place(endpoint.as_deref(), cluster);
                write!(f, "{place} has answered after {}; used as before", Rounded(*lasted))
            }
            Event::HandshakeFailed { cluster, endpoint, reason } => {
                write!(f, "no TLS with {endpoint} ({cluster}): {reason}")
            }
            Event::HandshakeRecovered { cluster, endpoint, failures, lasted } => write!(
                f,
                "TLS with {endpoint} ({cluster}) again after {failures} failed handshakes in {}",
                Rounded(*lasted)
            ),
            Event::BreakerOpened { cluster, endpoint, trip, interval } => {
                write!(
                    f,
                    "breaker opened at {endpoint} ({cluster}) for {interval}: {trip}",
                    interval = Rounded(*interval)
                )
            }
            Event::BreakerHalfOpened { cluster, endpoint } => {
                write!(f, "breaker half-open at {endpoint} ({cluster})")
            }
            Event::BreakerClosed { cluster, endpoint } => {
                write!(f, "breaker closed at {endpoint} ({cluster})")
            }
            Event::BreakerShadow { cluster, endpoint, change } => {
                write!(f, "shadow breaker at {endpoint} ({cluster}) {change}")
            }
            Event::Failover { from, to, reason } => {
                write!(f, "failover of a call from {from} to {to}: {reason}")
            }
            Event::Switched { from, to, failback: true } => write!(f, "back from {from} to {to}"),
            Event::Switched { from, to, failback: false } => {
                write!(f, "now answered by {to} instead of {from}")
            }
            Event::Reconfigured => f.write_str("other rules are in force"),
            Event::Tier { cluster, change } => write!(f, "{change} ({cluster})"),
            Event::Outlier { cluster, endpoint, change } => {
                write!(f, "{endpoint} ({cluster}) {change}")
            }
            Event::AdvisedAgainst { cluster, endpoint, by, of, refused } => {
                let effect = if *refused { "not used" } else { "used last" };
                write!(f, "{endpoint} ({cluster}) {effect}: {by} of {of} nodes found it bad")
            }
            Event::AdviceEnded { cluster, endpoint } => {
                write!(f, "{endpoint} ({cluster}) used as before, whatever other nodes found")
            }
            Event::SharedKnowledge { what } => write!(f, "{what}"),
            Event::ServiceBreaker { change } => write!(f, "breaker of the service {change}"),
            Event::Shed { why } => write!(f, "calls are not let in: {why}"),
            Event::ConcurrencyLimit { change } => {
                write!(f, "concurrency limit {} instead of {}", change.to, change.from)
            }
            Event::HealthChanged { cluster, endpoint, change } => {
                write!(f, "health of {endpoint} ({cluster}): {change}")
            }
            Event::RetrySuppressed { cluster, reason, by } => {
                write!(f, "retry suppressed after {reason} in {cluster}, by {by}")
            }
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "{service}: ")?;
        }
        self.event.fmt(f)
    }
}
