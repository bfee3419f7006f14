//! What the machines have to say, under the names that logs use. Collected in a small ring until
//! the owner takes them; writing them is his business.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ask::Trouble;
use crate::time::{Rounded, Time};

/// Events kept until they are taken; the oldest fall out and are counted.
pub const KEPT: usize = 256;

/// How it came out that an agent has forgotten a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// It is not among the services on the agent.
    Presence,
    /// The agent does not know the check that was to be renewed.
    Beat,
}

/// Something that happened and is worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The agent has taken a registration.
    ServiceRegistered {
        /// The service.
        service: Arc<str>,
        /// Its id.
        id: Arc<str>,
        /// Whether this machine had registered it before.
        again: bool,
    },
    /// A registration failed; it is tried again.
    ServiceRegistrationFailed {
        /// The service.
        service: Arc<str>,
        /// Its id.
        id: Arc<str>,
        /// Why.
        error: Trouble,
        /// Failures in a row.
        failures: u32,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// A service is not registered any more.
    ServiceDeregistered {
        /// The service.
        service: Arc<str>,
        /// Its id.
        id: Arc<str>,
        /// The agent did not know it any more.
        already: bool,
    },
    /// A deregistration was given up. The agent removes the service itself once its checks have
    /// been critical for as long as the registration says.
    ServiceDeregistrationFailed {
        /// The service.
        service: Arc<str>,
        /// Its id.
        id: Arc<str>,
        /// Why the last try failed; `None` when there was no time for one.
        error: Option<Trouble>,
        /// Tries.
        tries: u32,
    },
    /// A service is protected: it was not registered here, so it was not deregistered.
    DeregistrationRefused {
        /// Its id.
        id: Arc<str>,
    },
    /// The agent has lost a registration (it was restarted, say), which is made again.
    ServiceForgotten {
        /// The service.
        service: Arc<str>,
        /// Its id.
        id: Arc<str>,
        /// How it came out.
        by: By,
    },
    /// A heartbeat failed after a good one.
    HeartbeatFailed {
        /// The service.
        service: Arc<str>,
        /// The check.
        check: Arc<str>,
        /// Why.
        error: Trouble,
    },
    /// A heartbeat succeeded after failures.
    HeartbeatRecovered {
        /// The service.
        service: Arc<str>,
        /// The check.
        check: Arc<str>,
        /// Failures before.
        failures: u32,
    },
    /// It cannot be seen whether the agent still knows what was registered.
    PresenceCheckFailed {
        /// Why.
        error: Trouble,
        /// Failures in a row.
        failures: u32,
        /// Time until the next try.
        retry_in: Duration,
    },
    /// Registrations are held back.
    RegistrationsHeld {
        /// Those waiting.
        waiting: u32,
    },
    /// They are not held back any more.
    RegistrationsResumed {
        /// Those that waited.
        waiting: u32,
        /// How long they were held back.
        held_for: Duration,
    },
    /// The split-brain check fails: too few members are alive, or nobody says how many.
    ClusterHealthCheckFailed {
        /// Members alive; 0 when nobody says.
        alive: u32,
        /// Members needed.
        minimum: u32,
        /// Why nobody says.
        error: Option<Trouble>,
    },
    /// The split-brain check succeeds again.
    ClusterHealthy {
        /// Members alive.
        alive: u32,
        /// Members needed.
        minimum: u32,
        /// For how long it had failed.
        failed_for: Duration,
    },
}

impl Event {
    /// The service that it is about; `None`: the agent or the cluster as a whole, or a service of
    /// which only the id is known.
    #[must_use]
    pub const fn service(&self) -> Option<&Arc<str>> {
        match self {
            Event::ServiceRegistered { service, .. }
            | Event::ServiceRegistrationFailed { service, .. }
            | Event::ServiceDeregistered { service, .. }
            | Event::ServiceDeregistrationFailed { service, .. }
            | Event::ServiceForgotten { service, .. }
            | Event::HeartbeatFailed { service, .. }
            | Event::HeartbeatRecovered { service, .. } => Some(service),
            _ => None,
        }
    }

    /// Whether it says again what was said before: a failure after a failure.
    #[must_use]
    pub const fn is_repeated(&self) -> bool {
        matches!(
            self,
            Event::ServiceRegistrationFailed { failures: 2.., .. }
                | Event::PresenceCheckFailed { failures: 2.., .. }
        )
    }

    /// The name under which it is logged, which is that of its `event` field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Event::ServiceRegistered { .. } => "service_registered",
            Event::ServiceRegistrationFailed { .. } => "service_registration_failed",
            Event::ServiceDeregistered { .. } => "service_deregistered",
            Event::ServiceDeregistrationFailed { .. } => "service_deregistration_failed",
            Event::DeregistrationRefused { .. } => "deregistration_refused",
            Event::ServiceForgotten { .. } => "service_forgotten",
            Event::HeartbeatFailed { .. } => "heartbeat_failed",
            Event::HeartbeatRecovered { .. } => "heartbeat_recovered",
            Event::PresenceCheckFailed { .. } => "presence_check_failed",
            Event::RegistrationsHeld { .. } => "registrations_held",
            Event::RegistrationsResumed { .. } => "registrations_resumed",
            Event::ClusterHealthCheckFailed { .. } => "cluster_health_check_failed",
            Event::ClusterHealthy { .. } => "cluster_healthy",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::ServiceRegistered { id, again: false, .. } => write!(f, "{id} registered"),
            Event::ServiceRegistered { id, again: true, .. } => write!(f, "{id} registered again"),
            Event::ServiceRegistrationFailed { id, error, failures, retry_in, .. } => write!(
                f,
                "registration of {id} failed ({failures} in a row): {error}; next try in {}",
                Rounded(*retry_in)
            ),
            Event::ServiceDeregistered { id, already: false, .. } => {
                write!(f, "{id} deregistered")
            }
            Event::ServiceDeregistered { id, already: true, .. } => {
                write!(f, "{id} was not registered any more")
            }
            Event::ServiceDeregistrationFailed { id, error: Some(error), tries, .. } => {
                write!(f, "deregistration of {id} given up after {tries} tries: {error}")
            }
            Event::ServiceDeregistrationFailed { id, error: None, tries, .. } => {
                write!(f, "deregistration of {id} given up after {tries} tries: no time left")
            }
            Event::DeregistrationRefused { id } => {
                write!(f, "{id} was not registered here and is not deregistered")
            }
            Event::ServiceForgotten { id, by: By::Presence, .. } => {
                write!(f, "the agent does not list {id} any more; registering it again")
            }
            Event::ServiceForgotten { id, by: By::Beat, .. } => {
                write!(f, "the agent does not know the check of {id}; registering it again")
            }
            Event::HeartbeatFailed { check, error, .. } => {
                write!(f, "heartbeat of {check} failed: {error}")
            }
            Event::HeartbeatRecovered { check, failures, .. } => {
                write!(f, "heartbeat of {check} succeeded after {failures} failures")
            }
            Event::PresenceCheckFailed { error, failures, retry_in } => write!(
                f,
                "cannot see what the agent knows ({failures} in a row): {error}; next try in {}",
                Rounded(*retry_in)
            ),
            Event::RegistrationsHeld { waiting } => {
                write!(f, "registrations are held back, {waiting} waiting")
            }
            Event::RegistrationsResumed { waiting, held_for } => {
                let held_for = Rounded(*held_for);
                write!(f, "registrations go on after {held_for}, {waiting} waiting")
            }
            Event::ClusterHealthCheckFailed { minimum, error: Some(error), .. } => {
                write!(f, "cannot see whether {minimum} members are alive: {error}")
            }
            Event::ClusterHealthCheckFailed { alive, minimum, error: None } => {
                write!(f, "{alive} members are alive, {minimum} are needed")
            }
            Event::ClusterHealthy { alive, failed_for, .. } => {
                write!(f, "{alive} members are alive again after {}", Rounded(*failed_for))
            }
        }
    }
}

/// The events of one machine that nobody has taken yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Events {
    ring: VecDeque<(Time, Event)>,
    lost: u64,
}

impl Events {
    pub(super) fn push(&mut self, at: Time, event: Event) {
        if self.ring.len() >= KEPT {
            self.ring.pop_front();
            self.lost = self.lost.saturating_add(1);
        }
        self.ring.push_back((at, event));
    }

    /// Takes them, oldest first.
    #[must_use]
    pub fn take(&mut self) -> Vec<(Time, Event)> {
        self.ring.drain(..).collect()
    }

    /// How many fell out before they were taken.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_names_are_those_of_the_logs() {
        let mut events = Events::default();
        for n in 0..1_000 {
            events.push(Time::from_millis(n), Event::RegistrationsHeld { waiting: 1 });
        }
        assert_eq!((events.lost(), events.take().len()), (1_000 - KEPT as u64, KEPT));
        assert_eq!(events.take(), []);
        let text = |event: &Event| serde_json::to_value(event).unwrap()["event"].clone();
        let (service, id): (Arc<str>, Arc<str>) = ("api".into(), "api-1".into());
        let all = [
            Event::ServiceRegistered { service: service.clone(), id: id.clone(), again: false },
            Event::ServiceRegistrationFailed {
                service: service.clone(),
                id: id.clone(),
                error: Trouble::Forbidden,
                failures: 1,
                retry_in: Duration::ZERO,
            },
            Event::ServiceForgotten { service, id, by: By::Beat },
            Event::ClusterHealthCheckFailed { alive: 2, minimum: 3, error: None },
        ];
        for event in all {
            assert_eq!(text(&event), event.name());
            assert!(!event.to_string().is_empty());
        }
    }
}
