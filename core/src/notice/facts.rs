//! What a log says of a notice beside its line: how loud, about what, under which name, and the
//! fields to search by. One table, so that a log, a subscriber and the documentation agree.

use super::{Event, Notice};
use crate::cache::second;
use crate::consul::connect::membership;
use crate::consul::event as registry;
use crate::consul::followed::Said;
use crate::consul::template::renderer;
use crate::identity;
use crate::learned::keeper;
use crate::policy::breaker::Transition;
use crate::policy::health::Status;
use crate::policy::{outlier, tiers};
use crate::redis::{knowledge, level, link};
use crate::s3::rotation;
use crate::vault::event as vault;

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Only for somebody who looks for it.
    Debug,
    /// Worth knowing: something began, ended or changed as it should.
    Info,
    /// Something is wrong, and the client lives with it.
    Warn,
    /// Something is wrong that the client cannot make up for.
    Error,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Where services run: sources, documents, registrations, what Redis has of them.
    Discovery,
    /// Endpoints and clusters of a service, and what calls of it meet.
    Service,
    /// Tokens, leases and certificates.
    Credentials,
    /// The client itself: its rules, its files, what it remembers.
    Client,
}

impl Subject {
    /// The `target` of its lines.
    #[must_use]
    pub const fn target(self) -> &'static str {
        match self {
            Subject::Discovery => "origin::discovery",
            Subject::Service => "origin::service",
            Subject::Credentials => "origin::credentials",
            Subject::Client => "origin::client",
        }
    }
}

/// The fields of a notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The cluster.
    pub cluster: Option<&'a str>,
    /// The endpoint's address, or the source that was asked.
    pub endpoint: Option<&'a str>,
    /// The id of an own registration.
    pub service_id: Option<&'a str>,
    /// Why.
    pub reason: Option<String>,
    /// What failed, where something did.
    pub error: Option<String>,
}

/// The name, by contract 003 and 004 where they have one (§5.7).
const fn link_name(change: &link::Change) -> &'static str {
    match change {
        link::Change::Lost { .. } => "redis_lost",
        link::Change::Recovered { .. } => "redis_recovered",
    }
}

const fn link_level(change: &link::Change) -> Level {
    match change {
        link::Change::Lost { .. } => Level::Warn,
        link::Change::Recovered { .. } => Level::Info,
    }
}

const fn transition_level(change: &Transition) -> Level {
    match change {
        Transition::Opened { shadow: false, .. } => Level::Warn,
        _ => Level::Info,
    }
}

impl Event {
    /// How loud it is.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Event::DiscoveryLoaded { changed: false, .. } | Event::ConcurrencyLimit { .. } => {
                Level::Debug
            }
            Event::DiscoveryFailed { kept: false, .. } | Event::ClusterHealthCheckFailed { .. } => {
                Level::Error
            }
            Event::DiscoveryFailed { .. }
            | Event::DiscoveryStale { .. }
            | Event::MassRemoval { .. }
            | Event::SnapshotFailed { .. }
            | Event::ServiceWatchError { .. }
            | Event::AddressRefused { .. }
            | Event::ConnectionIssue { .. }
            | Event::Stalled { .. }
            | Event::HandshakeFailed { .. }
            | Event::BreakerOpened { .. }
            | Event::Failover { .. }
            | Event::Switched { failback: false, .. }
            | Event::AdvisedAgainst { .. }
            | Event::Shed { .. }
            | Event::RetrySuppressed { .. }
            | Event::Outlier { change: outlier::Change::Ejected { .. }, .. }
            | Event::Tier {
                change:
                    tiers::Change::Failover { .. }
                    | tiers::Change::Capped { percent: 1.., .. }
                    | tiers::Change::Panic { on: true, .. },
                ..
            }
            | Event::SharedAnswers {
                what: second::Trouble::Mistrusted { .. } | second::Trouble::WriteRefused { .. },
            }
            | Event::SharedLevel {
                what: level::Event::Mistrusted { .. } | level::Event::WriteRefused { .. },
            }
            | Event::SharedKnowledge { what: knowledge::Event::Unheard { .. } }
            | Event::RenderedFile { what: renderer::Event::Failed { .. } } => Level::Warn,
            Event::SharedLevel { what: level::Event::Link(change) }
            | Event::SharedAnswers { what: second::Trouble::Link(change) }
            | Event::SharedKnowledge { what: knowledge::Event::Link(change) } => link_level(change),
            Event::ServiceBreaker { change } => transition_level(change),
            Event::HealthChanged { change, .. } => match change.to {
                Status::Unhealthy => Level::Warn,
                _ => Level::Info,
            },
            Event::Consul { what } => match what {
                Said::Connect(membership::Said::Expired { .. }) => Level::Error,
                Said::Connect(membership::Said::InForce { .. })
                | Said::Defaults { .. }
                | Said::FilesInForce => Level::Info,
                _ => Level::Warn,
            },
            Event::Identity { what } => match what {
                identity::Said::Expired { .. } | identity::Said::TokenExpired => Level::Error,
                identity::Said::Exchanged { .. }
                | identity::Said::Expected { .. }
                | identity::Said::TokenExchanged { .. } => Level::Info,
                _ => Level::Warn,
            },
            Event::State { what } => match what {
                keeper::Said::Restored { .. } | keeper::Said::Recovered { .. } => Level::Info,
                _ => Level::Warn,
            },
            Event::Storage { what } => match what {
                rotation::Event::Rotated => Level::Info,
                _ => Level::Warn,
            },
            Event::Vault { what } => match what {
                vault::Event::TokenLost { .. } | vault::Event::LeaseLost { .. } => Level::Error,
                vault::Event::TokenFailed { left, .. } if left.is_zero() => Level::Error,
                vault::Event::TokenFailed { .. }
                | vault::Event::TokenUnknown { .. }
                | vault::Event::TokenExpiring { .. }
                | vault::Event::TokenRevoked { error: Some(_) }
                | vault::Event::LeaseFailed { .. }
                | vault::Event::LeaseExpiring { .. }
                | vault::Event::LeaseRevoked { error: Some(_), .. } => Level::Warn,
                _ => Level::Info,
            },
            Event::Registry { what } => match what {
                registry::Event::ServiceRegistrationFailed { .. }
                | registry::Event::ServiceDeregistrationFailed { .. }
                | registry::Event::ClusterHealthCheckFailed { .. } => Level::Error,
                registry::Event::ServiceRegistered { .. }
                | registry::Event::ServiceDeregistered { .. }
                | registry::Event::HeartbeatRecovered { .. }
                | registry::Event::RegistrationsResumed { .. }
                | registry::Event::ClusterHealthy { .. } => Level::Info,
                _ => Level::Warn,
            },
            _ => Level::Info,
        }
    }

    /// What it is about.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        match self {
            Event::DiscoveryLoaded { .. }
            | Event::DiscoveryFailed { .. }
            | Event::DiscoveryRecovered { .. }
            | Event::DiscoveryStale { .. }
            | Event::MassRemoval { .. }
            | Event::SharedLevel { .. }
            | Event::SnapshotRestored { .. }
            | Event::SnapshotFailed { .. }
            | Event::ClusterHealthCheckFailed { .. }
            | Event::ClusterHealthy { .. }
            | Event::CacheDropped { .. }
            | Event::ServiceWatchError { .. }
            | Event::ServiceWatchRecovered { .. }
            | Event::AddressRefused { .. }
            | Event::EndpointsChanged { .. }
            | Event::Consul {
                what:
                    Said::Defaults { .. } | Said::DefaultsRefused { .. } | Said::DefaultsFailed { .. },
            }
            | Event::Registry { .. } => Subject::Discovery,
            Event::Consul { .. }
            | Event::Vault { .. }
            | Event::Identity { .. }
            | Event::Storage { .. } => Subject::Credentials,
            Event::State { .. }
            | Event::Reconfigured
            | Event::SharedAnswers { .. }
            | Event::RenderedFile { .. } => Subject::Client,
            _ => Subject::Service,
        }
    }

    /// Whether it says again and again that something goes on, once per call or try, so that a
    /// log may leave the hundredth out. Everything else is a change of state.
    #[must_use]
    pub const fn is_repeating(&self) -> bool {
        match self {
            Event::DiscoveryLoaded { .. }
            | Event::DiscoveryFailed { .. }
            | Event::AddressRefused { .. }
            | Event::ConnectionIssue { .. }
            | Event::Failover { .. }
            | Event::RetrySuppressed { .. }
            | Event::Shed { .. }
            | Event::ConcurrencyLimit { .. }
            | Event::SnapshotFailed { .. } => true,
            Event::Registry { what } => what.is_repeated(),
            _ => false,
        }
    }

    /// The name its line has: that of contracts 003 and 004 where they have one, else
    /// [`Event::name`], and of what another machine says the name that machine has for it.
    #[must_use]
    pub const fn log_name(&self) -> &'static str {
        match self {
            Event::DiscoveryFailed { .. } => "service_discovery_failed",
            Event::SharedLevel { what: level::Event::Mistrusted { .. } }
            | Event::SharedAnswers { what: second::Trouble::Mistrusted { .. } } => {
                "cache_retrieval_failed"
            }
            Event::SharedLevel { what: level::Event::WriteRefused { .. } }
            | Event::SharedAnswers { what: second::Trouble::WriteRefused { .. } } => {
                "cache_update_failed"
            }
            Event::SharedLevel { what: level::Event::Link(change) }
            | Event::SharedAnswers { what: second::Trouble::Link(change) }
            | Event::SharedKnowledge { what: knowledge::Event::Link(change) } => link_name(change),
            Event::SharedKnowledge { what: knowledge::Event::Unheard { .. } } => "node_unheard",
            Event::Tier { change, .. } => match change {
                tiers::Change::Failover { .. } => "tier_failover",
                tiers::Change::Failback { .. } => "tier_failback",
                tiers::Change::Held { .. } => "tier_held",
                tiers::Change::Spilling { .. } => "tier_spilling",
                tiers::Change::SpillEnded { .. } => "tier_spill_ended",
                tiers::Change::Capped { .. } => "tier_capped",
                tiers::Change::Panic { .. } => "tier_panic",
            },
            Event::Outlier { change, .. } => match change {
                outlier::Change::Ejected { .. } => "outlier_ejected",
                outlier::Change::Spared { .. } => "outlier_spared",
                outlier::Change::Returned { .. } => "outlier_returned",
            },
            Event::ServiceBreaker { change } => match change {
                Transition::Opened { .. } => "service_breaker_opened",
                Transition::HalfOpened { .. } => "service_breaker_half_opened",
                Transition::Closed { .. } => "service_breaker_closed",
            },
            Event::RenderedFile { what } => match what {
                renderer::Event::Written { .. } => "file_rendered",
                renderer::Event::Failed { .. } => "file_not_rendered",
                renderer::Event::Recovered { .. } => "file_recovered",
            },
            Event::Consul { what } => match what {
                Said::Connect(said) => match said {
                    membership::Said::InForce { .. } => "certificate_in_force",
                    membership::Said::Expiring { .. } => "certificate_expiring",
                    membership::Said::Expired { .. } => "certificate_expired",
                    membership::Said::Failed { .. } => "certificate_failed",
                    membership::Said::Refused { .. } => "certificate_refused",
                },
                Said::Defaults { .. } => "defaults_changed",
                Said::DefaultsRefused { .. } => "defaults_refused",
                Said::DefaultsFailed { .. } => "defaults_failed",
                Said::FilesInForce => "certificate_files_in_force",
                Said::FilesFailed { .. } => "certificate_files_failed",
                Said::FilesRefused { .. } => "certificate_files_refused",
            },
            Event::Identity { what } => match what {
                identity::Said::Exchanged { .. } => "certificate_in_force",
                identity::Said::Expected { .. } => "expectations_in_force",
                identity::Said::Expiring { .. } => "certificate_expiring",
                identity::Said::Expired { .. } => "certificate_expired",
                identity::Said::FilesFailed { .. } => "certificate_files_failed",
                identity::Said::FilesRefused { .. } => "certificate_files_refused",
                identity::Said::TokenExchanged { .. } => "service_token_exchanged",
                identity::Said::TokenFailed { .. } => "service_token_failed",
                identity::Said::TokenExpired => "service_token_expired",
            },
            Event::State { what } => match what {
                keeper::Said::Restored { .. } => "state_restored",
                keeper::Said::Refused { .. } => "state_refused",
                keeper::Said::Failed { .. } => "state_failed",
                keeper::Said::Recovered { .. } => "state_recovered",
            },
            Event::Storage { what } => match what {
                rotation::Event::Rotated => "storage_credentials_exchanged",
                rotation::Event::Unreadable { .. } => "storage_credentials_failed",
                rotation::Event::Refused { .. } => "storage_credentials_refused",
            },
            Event::Vault { what } => match what {
                vault::Event::TokenAcquired { .. } => "token_acquired",
                vault::Event::TokenRenewed { .. } => "token_renewed",
                vault::Event::TokenUnknown { .. } => "token_unknown",
                vault::Event::TokenFailed { .. } => "token_failed",
                vault::Event::TokenExpiring { .. } => "token_expiring",
                vault::Event::TokenLost { .. } => "token_lost",
                vault::Event::TokenRevoked { .. } => "token_revoked",
                vault::Event::LeaseRenewed { .. } => "lease_renewed",
                vault::Event::LeaseFailed { .. } => "lease_failed",
                vault::Event::LeaseExpiring { .. } => "lease_expiring",
                vault::Event::LeaseLost { .. } => "lease_lost",
                vault::Event::LeaseRevoked { .. } => "lease_revoked",
            },
            other => other.name(),
        }
    }

    /// Its fields beside the name of the service.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let none = Facts::default();
        let at = |cluster, endpoint| Facts {
            cluster: Some(cluster),
            endpoint: Some(endpoint),
            ..Facts::default()
        };
        match self {
            Event::DiscoveryFailed { source, reason, .. } => {
                Facts { endpoint: Some(source), error: Some(reason.clone()), ..none }
            }
            Event::DiscoveryRecovered { source, .. } => Facts { endpoint: Some(source), ..none },
            Event::ServiceWatchError { reason, .. } => {
                Facts { error: Some(reason.to_string()), ..none }
            }
            Event::SnapshotFailed { reason } => Facts { error: Some(reason.clone()), ..none },
            Event::AddressRefused { cluster, reason } => {
                Facts { cluster: Some(cluster), error: Some(reason.clone()), ..none }
            }
            Event::ClusterHealthCheckFailed { error: Some(error), .. } => {
                Facts { error: Some(error.to_string()), ..none }
            }
            Event::MassRemoval { mass, .. } => Facts { reason: Some(mass.to_string()), ..none },
            Event::CacheDropped { why, .. } => Facts { reason: Some(why.to_string()), ..none },
            Event::SharedLevel { what } => Facts { error: Some(what.to_string()), ..none },
            Event::SharedAnswers { what } => Facts { error: Some(what.to_string()), ..none },
            Event::SharedKnowledge { what } => Facts { error: Some(what.to_string()), ..none },
            Event::RenderedFile { what: renderer::Event::Failed { why, .. } } => {
                Facts { error: Some(why.to_string()), ..none }
            }
            Event::ConnectionIssue { cluster, endpoint, fault } => {
                Facts { error: Some(fault.to_string()), ..at(cluster, endpoint) }
            }
            Event::HandshakeFailed { cluster, endpoint, reason } => {
                Facts { error: Some(reason.to_string()), ..at(cluster, endpoint) }
            }
            Event::HandshakeRecovered { cluster, endpoint, .. } => at(cluster, endpoint),
            Event::Stalled { cluster, endpoint, .. }
            | Event::StallEnded { cluster, endpoint, .. } => {
                Facts { cluster: Some(cluster), endpoint: endpoint.as_deref(), ..none }
            }
            Event::BreakerOpened { cluster, endpoint, trip, .. } => {
                Facts { reason: Some(trip.to_string()), ..at(cluster, endpoint) }
            }
            Event::BreakerHalfOpened { cluster, endpoint }
            | Event::BreakerClosed { cluster, endpoint }
            | Event::AdvisedAgainst { cluster, endpoint, .. }
            | Event::AdviceEnded { cluster, endpoint } => at(cluster, endpoint),
            Event::BreakerShadow { cluster, endpoint, change } => {
                Facts { reason: Some(change.to_string()), ..at(cluster, endpoint) }
            }
            Event::Outlier { cluster, endpoint, change } => {
                Facts { reason: Some(change.to_string()), ..at(cluster, endpoint) }
            }
            Event::HealthChanged { cluster, endpoint, change } => {
                Facts { reason: Some(change.reason.to_string()), ..at(cluster, endpoint) }
            }
            Event::Failover { to, reason, .. } => {
                Facts { cluster: Some(to), reason: Some(reason.to_string()), ..none }
            }
            Event::Switched { to, .. } => Facts { cluster: Some(to), ..none },
            Event::Tier { cluster, change } => {
                Facts { cluster: Some(cluster), reason: Some(change.to_string()), ..none }
            }
            Event::ServiceBreaker { change } => Facts { reason: Some(change.to_string()), ..none },
            Event::Shed { why } => Facts { reason: Some(why.to_string()), ..none },
            Event::RetrySuppressed { cluster, by, reason } => Facts {
                cluster: Some(cluster),
                reason: Some(by.to_string()),
                error: Some(reason.to_string()),
                ..none
            },
            Event::Registry { what } => registered(what),
            Event::Vault { what } => Facts { error: vault_error(what), ..none },
            Event::Consul { what } => Facts { error: consul_error(what), ..none },
            Event::Identity { what } => Facts { error: identity_error(what), ..none },
            Event::State {
                what: keeper::Said::Refused { reason } | keeper::Said::Failed { reason },
            } => Facts { error: Some(reason.to_string()), ..none },
            Event::Storage { what: rotation::Event::Unreadable { reason } } => {
                Facts { error: Some(reason.to_string()), ..none }
            }
            _ => none,
        }
    }
}

fn registered(what: &registry::Event) -> Facts<'_> {
    let (id, error) = match what {
        registry::Event::ServiceRegistrationFailed { id, error, .. } => (Some(id), Some(error)),
        registry::Event::ServiceDeregistrationFailed { id, error, .. } => {
            (Some(id), error.as_ref())
        }
        registry::Event::ServiceRegistered { id, .. }
        | registry::Event::ServiceDeregistered { id, .. }
        | registry::Event::DeregistrationRefused { id }
        | registry::Event::ServiceForgotten { id, .. } => (Some(id), None),
        registry::Event::HeartbeatFailed { check, error, .. } => (Some(check), Some(error)),
        registry::Event::HeartbeatRecovered { check, .. } => (Some(check), None),
        registry::Event::PresenceCheckFailed { error, .. } => (None, Some(error)),
        registry::Event::ClusterHealthCheckFailed { error, .. } => (None, error.as_ref()),
        _ => (None, None),
    };
    let error = error.map(ToString::to_string);
    Facts { service_id: id.map(|id| &**id), error, ..Facts::default() }
}

fn vault_error(what: &vault::Event) -> Option<String> {
    match what {
        vault::Event::TokenUnknown { error }
        | vault::Event::TokenFailed { error, .. }
        | vault::Event::LeaseFailed { error, .. } => Some(error.to_string()),
        vault::Event::TokenRevoked { error } | vault::Event::LeaseRevoked { error, .. } => {
            error.as_ref().map(ToString::to_string)
        }
        _ => None,
    }
}

fn consul_error(what: &Said) -> Option<String> {
    match what {
        Said::Connect(
            membership::Said::Failed { reason, .. } | membership::Said::Refused { reason },
        )
        | Said::DefaultsRefused { reason, .. }
        | Said::DefaultsFailed { reason, .. }
        | Said::FilesFailed { reason }
        | Said::FilesRefused { reason } => Some(reason.to_string()),
        _ => None,
    }
}

fn identity_error(what: &identity::Said) -> Option<String> {
    match what {
        identity::Said::FilesFailed { reason } | identity::Said::FilesRefused { reason } => {
            Some(reason.to_string())
        }
        identity::Said::TokenFailed { trouble, .. } => Some(trouble.to_string()),
        _ => None,
    }
}

impl Notice {
    /// The service it is about: its machine's, or the one that the event names.
    #[must_use]
    pub fn about(&self) -> Option<&str> {
        let named = match &self.event {
            Event::DiscoveryFailed { about, .. } | Event::DiscoveryRecovered { about, .. } => {
                about.as_ref()
            }
            Event::MassRemoval { about, .. } | Event::CacheDropped { about, .. } => Some(about),
            Event::SharedLevel { what: level::Event::Mistrusted { service, .. } } => Some(service),
            Event::Registry { what } => what.service(),
            Event::Consul {
                what:
                    Said::Defaults { service, .. }
                    | Said::DefaultsRefused { service, .. }
                    | Said::Connect(membership::Said::InForce { service, .. }),
            } => Some(service),
            _ => None,
        };
        self.service.as_ref().or(named).map(|name| &**name)
    }
}
