//! The health of an application as far as its upstream services tell: one word, every reason for
//! it, and the status that suits an answer to `/health`. A pure function of a snapshot.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Health, ServiceSnapshot, Snapshot};
use crate::discovery::SourceKind;
use crate::policy::breaker::State;
use crate::time::{Rounded, Time};
use crate::vault::keeper::Stage;

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overall {
    /// Nothing is wrong.
    Healthy,
    /// It works, less well than it could, or will soon not.
    Degraded,
    /// Something that it cannot do without is not there.
    Unhealthy,
}

impl Overall {
    /// `healthy`, `degraded` or `unhealthy`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Overall::Healthy => "healthy",
            Overall::Degraded => "degraded",
            Overall::Unhealthy => "unhealthy",
        }
    }

    /// The status of an answer to a health check: 503 only when unhealthy, since an application
    /// that is taken out for being degraded serves nobody.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Overall::Healthy | Overall::Degraded => 200,
            Overall::Unhealthy => 503,
        }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
#[non_exhaustive]
pub enum Wrong {
    /// No endpoint of a service may be called.
    ServiceDown {
        /// The service.
        service: Arc<str>,
        /// Until an endpoint may be tried again, where that is known.
        retry_in: Option<Duration>,
    },
    /// The breaker of a service as a whole is not closed, so that not all calls are let out.
    ServiceBreaker {
        /// The service.
        service: Arc<str>,
    },
    /// A service is answered, but some endpoints are out, or another cluster stands in.
    ServiceDegraded {
        /// The service.
        service: Arc<str>,
        /// The cluster that answered last.
        cluster: Option<Arc<str>>,
        /// Endpoints that may not be called.
        out: usize,
        /// All endpoints.
        of: usize,
    },
    /// A source of discovery cannot be asked.
    DiscoveryFailing {
        /// What it is.
        kind: SourceKind,
        /// The service it is asked about; `None`: about all.
        service: Option<Arc<str>>,
        /// Failures in a row.
        failures: u32,
        /// How old what is known is; `None` when nothing is.
        age: Option<Duration>,
    },
    /// Consul is not believed, since its cluster fell apart.
    DiscoveryHeldBack {
        /// The service it is asked about; `None`: about all.
        service: Option<Arc<str>>,
    },
    /// There is no token for Vault.
    NoVaultToken {
        /// How it is had.
        auth: Arc<str>,
    },
    /// The token for Vault ends soon, and getting another one failed.
    VaultTokenEnds {
        /// How it is had.
        auth: Arc<str>,
        /// Until it ends.
        ends_in: Duration,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::ServiceDown { service, retry_in: Some(span) } => {
                let span = Rounded(*span);
                write!(f, "{service}: no endpoint may be called; next try in {span}")
            }
            Wrong::ServiceDown { service, retry_in: None } => {
                write!(f, "{service}: no endpoint may be called")
            }
            Wrong::ServiceBreaker { service } => {
                write!(f, "{service}: the breaker of the service is not closed")
            }
            Wrong::ServiceDegraded { service, cluster, out, of } => {
                let cluster = cluster.as_deref().unwrap_or("none yet");
                write!(f, "{service}: {out} of {of} endpoints are out, answered by {cluster}")
            }
            Wrong::DiscoveryFailing { kind, service, failures, age } => {
                let (kind, about) = (kind.word(), service.as_deref().unwrap_or("all services"));
                write!(f, "discovery by {kind} of {about} failed {failures} times in a row; ")?;
                match age {
                    Some(age) => write!(f, "an answer {} old is used", Rounded(*age)),
                    None => f.write_str("nothing is known"),
                }
            }
            Wrong::DiscoveryHeldBack { service } => {
                let about = service.as_deref().unwrap_or("all services");
                write!(f, "discovery by consul of {about} is held back: its cluster is not whole")
            }
            Wrong::NoVaultToken { auth } => write!(f, "no token for Vault by {auth}"),
            Wrong::VaultTokenEnds { auth, ends_in } => {
                let ends_in = Rounded(*ends_in);
                write!(f, "the token for Vault by {auth} ends in {ends_in} and is not renewed")
            }
        }
    }
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReason {
    /// What it alone would make of the application.
    pub status: Overall,
    /// What is wrong.
    #[serde(flatten)]
    pub wrong: Wrong,
    /// The same in a line.
    pub text: String,
}

/// The health of an application, ready to be the body of its `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The worst of all reasons.
    pub status: Overall,
    /// Every reason, the worst first; then in order of services.
    pub reasons: Vec<HealthReason>,
}

impl HealthReport {
    /// The status to answer with.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        self.status.http_status()
    }
}

impl Snapshot {
    /// The health of an application that has this client.
    ///
    /// A service that may not be called makes it unhealthy, unless it is configured as not
    /// [`critical`](crate::config::ServiceConfig::critical): then degraded. A service nobody has
    /// called yet says nothing.
    #[must_use]
    pub fn health(&self) -> HealthReport {
        let mut reasons = Vec::new();
        let mut say = |status: Overall, wrong: Wrong| {
            let text = wrong.to_string();
            reasons.push(HealthReason { status, wrong, text });
        };
        for service in &self.services {
            let worst = if service.critical { Overall::Unhealthy } else { Overall::Degraded };
            about(self.at, service, worst, &mut say);
        }
        for source in &self.discovery {
            let service = source.service.clone();
            if source.held_back {
                say(Overall::Degraded, Wrong::DiscoveryHeldBack { service: service.clone() });
            }
            if source.failures > 0 {
                // A client that knows nothing at all can call nobody that is not configured.
                let blind = source.age.is_none() && service.is_none() && self.is_blind();
                let status = if blind { Overall::Unhealthy } else { Overall::Degraded };
                let (kind, failures, age) = (source.kind, source.failures, source.age);
                say(status, Wrong::DiscoveryFailing { kind, service, failures, age });
            }
        }
        if let Some(vault) = &self.vault {
            let auth = vault.auth.clone();
            match (vault.stage, vault.until) {
                (Stage::None | Stage::LoggingIn, _) if vault.trouble.is_some() => {
                    say(Overall::Degraded, Wrong::NoVaultToken { auth });
                }
                (_, Some(until)) if vault.trouble.is_some() && until != Time::NEVER => {
                    let ends_in = self.at.until(until);
                    say(Overall::Degraded, Wrong::VaultTokenEnds { auth, ends_in });
                }
                _ => (),
            }
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.status));
        let status = reasons.first().map_or(Overall::Healthy, |worst| worst.status);
        HealthReport { status, reasons }
    }

    /// Whether no service has an endpoint.
    fn is_blind(&self) -> bool {
        self.services.iter().all(|service| service.endpoints.is_empty())
    }
}

fn about(
    now: Time,
    service: &ServiceSnapshot,
    worst: Overall,
    say: &mut impl FnMut(Overall, Wrong),
) {
    let name = service.name.clone();
    if service.limits.breaker != State::Closed {
        let open = matches!(service.limits.breaker, State::Open { .. });
        let status = if open { worst } else { Overall::Degraded };
        say(status, Wrong::ServiceBreaker { service: name.clone() });
    }
    match service.health {
        Health::Unknown | Health::Healthy => (),
        Health::Degraded => {
            let usable = |e: &&super::EndpointSnapshot| !crate::metrics::usable(e);
            let out = service.endpoints.iter().filter(usable).count();
            let (cluster, of) = (service.active_cluster.clone(), service.endpoints.len());
            say(Overall::Degraded, Wrong::ServiceDegraded { service: name, cluster, out, of });
        }
        Health::Unhealthy => {
            let retry = service.endpoints.iter().filter_map(|e| match e.breaker {
                State::Open { until } if until != Time::NEVER => Some(now.until(until)),
                _ => e.ejected_for,
            });
            say(worst, Wrong::ServiceDown { service: name, retry_in: retry.min() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rules;
    use crate::{Service, Time};

    fn service(name: &str, health: Health) -> ServiceSnapshot {
        let mut service = Service::new(name.into(), Rules::default(), 1);
        ServiceSnapshot { health, ..service.snapshot(Time::ZERO) }
    }

    #[test]
    fn case_000_29_the_worst_reason_decides_and_comes_first() {
        let all = [Health::Healthy, Health::Unknown, Health::Degraded, Health::Unhealthy];
        let services =
            all.iter().zip('a'..).map(|(health, name)| service(&name.to_string(), *health));
        let mut snapshot = Snapshot { services: services.collect(), ..Snapshot::default() };
        let report = snapshot.health();
        assert_eq!((report.status, report.http_status()), (Overall::Unhealthy, 503));
        assert_eq!(report.reasons.len(), 2);
        assert!(
            matches!(&report.reasons[0].wrong, Wrong::ServiceDown { service, .. } if &**service == "d")
        );
        // The same service, without which the application can do.
        snapshot.services[3].critical = false;
        let report = snapshot.health();
        assert_eq!((report.status, report.http_status()), (Overall::Degraded, 200));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["status"], "degraded");
        assert_eq!(json["reasons"][1]["what"], "service_down");
        assert_eq!(json["reasons"][1]["text"], "d: no endpoint may be called");
        assert_eq!(serde_json::from_value::<HealthReport>(json).unwrap(), report);
        snapshot.services.truncate(2);
        assert_eq!(snapshot.health().status, Overall::Healthy);
    }
}
