//! Errors, by phase and by blame. Each says which service, what was tried, and what to do next;
//! none contains a token, a body or a query string.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::Why;
use crate::config::ConfigError;
use crate::consul::ConsulError;
use crate::consul::registrar::Refused;
use crate::discovery::DiscoveryError;
use crate::request::{Report, Response};
use crate::s3::StorageError;
use crate::said::Said;
use crate::service::Overload;
use crate::time::Rounded;
use crate::vault::VaultError;

/// Everything that can go wrong with a call, and with building a client.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Yours, at build: the configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Yours: the request cannot be sent as it is.
    #[error("{service}: the request is not valid: {reason}")]
    Request {
        /// The service it was meant for.
        service: Arc<str>,
        /// What is wrong with it.
        reason: String,
    },
    /// Yours: the call needs a credential that was not given.
    #[error("{service}: this call needs {what}")]
    Credential {
        /// The service.
        service: Arc<str>,
        /// What is missing, and how to give it.
        what: &'static str,
    },
    /// There is no discovery document, and none can be had.
    #[error("{service}: discovery at {source_url} failed: {error}{}", retry_text(*retry_in))]
    Discovery {
        /// The service that was to be found.
        service: Arc<str>,
        /// Where the document should come from.
        source_url: String,
        /// Why there is none.
        error: DiscoveryError,
        /// When the next fetch will be tried.
        retry_in: Option<Duration>,
    },
    /// The discovery document does not name the service.
    #[error("unknown service {service:?}; known are: {}", known_text(known))]
    UnknownService {
        /// The name asked for.
        service: Arc<str>,
        /// The names there are.
        known: Vec<Arc<str>>,
    },
    /// We refused without sending: every breaker is open, or there is no endpoint at all.
    #[error("{0}")]
    Refused(Box<Failure>),
    /// A deadline passed, or left no room for another attempt.
    #[error("{0}")]
    Deadline(Box<Failure>),
    /// Every candidate failed, or repeating was not allowed.
    #[error("{0}")]
    Exhausted(Box<Failure>),
    /// Theirs: a response whose status says no. Only typed operations and
    /// [`crate::Response::ok`] make an error of it.
    #[error("{}: answered {status}{said}", report.service)]
    Status {
        /// The status.
        status: u16,
        /// What it said, which is not printed.
        said: Said,
        /// How it came about.
        report: Box<Report>,
    },
    /// Theirs: a response whose status says yes and whose content says no.
    #[error("{}: answered {status}, but {operation} failed{said}", report.service)]
    Rejected {
        /// What was to be done.
        operation: &'static str,
        /// The status.
        status: u16,
        /// What it said, which is not printed.
        said: Said,
        /// How it came about.
        report: Box<Report>,
    },
    /// Theirs: a response that cannot be understood.
    #[error("{service}: {what} cannot be read: {reason}")]
    Decode {
        /// The service.
        service: Arc<str>,
        /// What was to be read.
        what: &'static str,
        /// Why it cannot, without its content.
        reason: String,
    },
    /// Theirs: a response body beyond its limit.
    #[error(
        "{service}: the response body exceeds the limit of {limit} bytes; raise limits.body or stream it"
    )]
    TooLarge {
        /// The service.
        service: Arc<str>,
        /// The limit in bytes.
        limit: u64,
    },
    /// A streamed body broke while it was being read.
    #[error("{service}: the response body broke off: {fault}")]
    Body {
        /// The service.
        service: Arc<str>,
        /// What went wrong.
        fault: crate::outcome::Fault,
    },
    /// What Consul says to a typed call; without a report it was not asked, because the request
    /// cannot be made.
    #[error("{error}")]
    Consul {
        /// What is wrong; [`ConsulError::is_permission`] tells a token that may not.
        error: Box<ConsulError>,
        /// How it came about.
        report: Option<Box<Report>>,
    },
    /// What storage says to a typed call.
    #[error("storage: {error}")]
    Storage {
        /// What is wrong; [`StorageError::code`] tells it by its meaning.
        error: Box<StorageError>,
        /// How it came about, where one call alone is concerned.
        report: Option<Box<Report>>,
    },
    /// What Vault says to a typed call; without a report it was not asked, because the request
    /// cannot be made.
    #[error("{error}")]
    Vault {
        /// What is wrong; [`VaultError::next`] says what to do about it.
        error: Box<VaultError>,
        /// How it came about.
        report: Option<Box<Report>>,
    },
    /// Services that must be healthy at the start of a program are not, or cannot be reached.
    #[error("not healthy at the start: {}", services.join(", "))]
    NotHealthy {
        /// Their names.
        services: Vec<Arc<str>>,
    },
    /// Theirs: a service was asked how it is, and what it answered is no health. To who asks that
    /// it is as unavailable as one that cannot be reached.
    #[error("the health check failed: {error}")]
    Health {
        /// What came instead: [`Error::Status`] or [`Error::Decode`].
        error: Box<Error>,
    },
    /// Yours: the service is not registered, or deregistered, here. Nothing was sent.
    #[error("consul: {0}")]
    Registration(#[from] Refused),
}

fn retry_text(retry_in: Option<Duration>) -> String {
    retry_in.map(|span| format!("; next try in {span}", span = Rounded(span))).unwrap_or_default()
}

fn known_text(known: &[Arc<str>]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    let mut text = known.iter().take(20).map(|name| &**name).collect::<Vec<_>>().join(", ");
    if known.len() > 20 {
        text.push_str(&format!(" and {} more", known.len() - 20));
    }
    text
}

/// A call that ended without an answer: what was tried, and who was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why it ended.
    pub why: Why,
    /// When it may be worth trying again, if that is known.
    pub retry_in: Option<Duration>,
    /// The attempts.
    pub report: Report,
    /// Endpoints that were not tried because they may not be called now.
    pub skipped: Vec<Skipped>,
}

/// An endpoint that was not tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its cluster.
    pub cluster: Arc<str>,
    /// Its address.
    pub endpoint: Arc<str>,
    /// Why it was not tried.
    pub why: Skip,
    /// How long that lasts, if nothing else happens; zero while a half-open attempt is out, and
    /// where only a health check can tell.
    pub open_for: Duration,
}

/// Why an endpoint was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Its breaker is open, or its half-open permits are out.
    Breaker,
    /// It is worse than its peers and left out for a while.
    Ejected,
    /// Health checks say that it does not work.
    Unhealthy,
    /// Other nodes found it bad, and what they say is binding.
    Advised,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { service, elapsed, attempts, .. } = &self.report;
        let count = attempts.len();
        write!(f, "{service}: ")?;
        self.why.fmt(f)?;
        write!(
            f,
            " ({count} attempt{} in {elapsed})",
            if count == 1 { "" } else { "s" },
            elapsed = Rounded(*elapsed)
        )?;
        for a in attempts {
            write!(f, "; {} ({}): {}", a.endpoint, a.cluster, a.outcome)?;
        }
        for s in self.skipped.iter().take(20) {
            let (endpoint, cluster, span) = (&s.endpoint, &s.cluster, s.open_for);
            match s.why {
                Skip::Breaker => write!(
                    f,
                    "; {endpoint} ({cluster}): breaker open for {span}",
                    span = Rounded(span)
                )?,
                Skip::Ejected => {
                    write!(f, "; {endpoint} ({cluster}): ejected for {span}", span = Rounded(span))?
                }
                Skip::Unhealthy => write!(f, "; {endpoint} ({cluster}): unhealthy")?,
                Skip::Advised => write!(
                    f,
                    "; {endpoint} ({cluster}): found bad by other nodes for {span}",
                    span = Rounded(span)
                )?,
            }
        }
        if self.skipped.len() > 20 {
            write!(f, "; and {} more not tried", self.skipped.len() - 20)?;
        }
        match self.retry_in {
            Some(span) => write!(f, "; try again in {span}", span = Rounded(span)),
            None => Ok(()),
        }
    }
}

impl Error {
    /// The failed call, where there was one.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Refused(failure) | Error::Deadline(failure) | Error::Exhausted(failure) => {
                Some(failure)
            }
            Error::Health { error } => error.failure(),
            _ => None,
        }
    }

    /// The service, where one is concerned.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        match self {
            Error::Config(_) => None,
            Error::Health { error } => error.service(),
            Error::NotHealthy { services } => services.first().map(|service| &**service),
            Error::Consul { .. } | Error::Registration(_) => Some(crate::ops::consul::SERVICE),
            Error::Storage { .. } => Some(crate::ops::storage::SERVICE),
            Error::Vault { .. } => Some(crate::ops::secrets::SERVICE),
            Error::Request { service, .. }
            | Error::Credential { service, .. }
            | Error::Discovery { service, .. }
            | Error::UnknownService { service, .. }
            | Error::Decode { service, .. }
            | Error::TooLarge { service, .. }
            | Error::Body { service, .. } => Some(service),
            Error::Status { report, .. } | Error::Rejected { report, .. } => Some(&report.service),
            Error::Refused(f) | Error::Deadline(f) | Error::Exhausted(f) => Some(&f.report.service),
        }
    }

    /// How an ended call came about, where that is known.
    fn report(&self) -> Option<&Report> {
        match self {
            Error::Status { report, .. }
            | Error::Rejected { report, .. }
            | Error::Consul { report: Some(report), .. }
            | Error::Storage { report: Some(report), .. }
            | Error::Vault { report: Some(report), .. } => Some(report),
            Error::Health { error } => error.report(),
            _ => self.failure().map(|failure| &failure.report),
        }
    }

    /// An error of a response whose status says no.
    #[must_use]
    pub fn of_status(response: Response) -> Error {
        let said = Said::of(&response.body);
        let (status, report) = (response.status.as_u16(), Box::new(response.report));
        Error::Status { status, said, report }
    }

    /// An error of a response whose content says that `operation` failed.
    #[must_use]
    pub fn rejected(operation: &'static str, response: Response) -> Error {
        let said = Said::of(&response.body);
        let (status, report) = (response.status.as_u16(), Box::new(response.report));
        Error::Rejected { operation, status, said, report }
    }

    /// What the service said about the error: its code, and its own words, for who asks. They are
    /// in no text of an error and in no log, for a server may say anything (001-92).
    #[must_use]
    pub fn said(&self) -> Option<&Said> {
        match self {
            Error::Status { said, .. } | Error::Rejected { said, .. } => Some(said),
            Error::Health { error } => error.said(),
            _ => None,
        }
    }

    /// What Consul said, where it did.
    #[must_use]
    pub fn consul(&self) -> Option<&ConsulError> {
        match self {
            Error::Consul { error, .. } => Some(error),
            _ => None,
        }
    }

    /// What storage said, where it did.
    #[must_use]
    pub fn storage(&self) -> Option<&StorageError> {
        match self {
            Error::Storage { error, .. } => Some(error),
            _ => None,
        }
    }

    /// What Vault said, where it did.
    #[must_use]
    pub fn vault(&self) -> Option<&VaultError> {
        match self {
            Error::Vault { error, .. } => Some(error),
            _ => None,
        }
    }

    /// Attempts that were made.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.report().map_or(0, |report| report.attempts.len())
    }

    /// The status of the last response, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { status, .. } | Error::Rejected { status, .. } => Some(*status),
            Error::Storage { error, .. } => Some(error.status),
            Error::Health { error } => error.status(),
            _ => match self.report()?.attempts.last()?.outcome {
                crate::outcome::Outcome::Answered { status, .. } => Some(status),
                crate::outcome::Outcome::Failed { .. } => None,
            },
        }
    }

    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Discovery { .. } | Error::Body { .. } | Error::NotHealthy { .. } => true,
            Error::Status { status, .. } => *status >= 500 || *status == 429,
            Error::Consul { error, .. } => error.retryable(),
            Error::Storage { error, .. } => error.retryable(),
            Error::Vault { error, .. } => error.retryable(),
            Error::Health { error } => error.is_retryable(),
            _ => self.failure().is_some_and(|f| f.why != Why::NotRepeatable),
        }
    }

    /// "Service unavailable": no answer could be had, whoever is to blame.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Error::Discovery { .. } | Error::NotHealthy { .. } | Error::Health { .. })
            || self.failure().is_some()
    }

    /// "Circuit breaker open": refused without sending because breakers are open.
    #[must_use]
    pub fn is_circuit_open(&self) -> bool {
        let open = [Why::Refused, Why::Overload(Overload::Breaker)];
        matches!(self, Error::Refused(failure) if open.contains(&failure.why))
    }

    /// Whether the service was not asked because it, or this client, has too much to do: trying
    /// again at once, here or in the caller above, would make it worse.
    #[must_use]
    pub fn is_overloaded(&self) -> bool {
        self.failure().is_some_and(|f| matches!(f.why, Why::Overload(_)))
            || self.status() == Some(429)
    }

    /// Whether a deadline ended it.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::Deadline(_))
    }

    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Error::Config(_) => "correct the named field",
            Error::Request { .. } => "correct the request",
            Error::NotHealthy { .. } => "look at the named services, or start without them",
            Error::Credential { .. } => "give the client the credential it names",
            Error::Discovery { .. } => "check that the discovery URL is right and its server up",
            Error::UnknownService { .. } => {
                "correct the name, or add the service to the discovery document"
            }
            Error::Refused(f) if f.why == Why::NoEndpoints => {
                "add endpoints of the service to the discovery document"
            }
            Error::Refused(f) if matches!(f.why, Why::Overload(_)) => {
                "ask for less, later; raise the named limit if the service can bear it"
            }
            Error::Refused(_) => "wait for the time named; the endpoints failed repeatedly before",
            Error::Deadline(_) => "look at the listed endpoints, or allow more time",
            Error::Exhausted(f) if f.why == Why::Budget => {
                "look at the listed endpoints; too many calls fail to repeat them all"
            }
            Error::Exhausted(f) if f.why == Why::NotRepeatable => {
                "find out whether the request took effect; mark it idempotent if repeating is safe"
            }
            Error::Exhausted(_) => "look at the listed endpoints",
            Error::Status { .. } | Error::Rejected { .. } => {
                "see what the service says about the request: Error::said"
            }
            Error::Decode { .. } => "check that this is the service and version you expect",
            Error::TooLarge { .. } => "raise the limit or stream the body",
            Error::Body { .. } => "read it again",
            Error::Consul { error, .. } if error.is_permission() => {
                "give the client a token with a policy that allows it"
            }
            Error::Consul { .. } => "see what Consul says about the request",
            Error::Storage { error, .. } if error.is_permission() => {
                "give the client credentials that may do it (storage.access_key)"
            }
            Error::Storage { .. } => "see what storage says about the request",
            Error::Vault { error, .. } => error.next().text(),
            Error::Health { error } => error.advice(),
            Error::Registration(_) => "correct what it names",
        }
    }
}
