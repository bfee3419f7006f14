//! How each kind of source is asked and its answers are read: one exchange at a time, as a small
//! machine of its own. When to ask is the feed's affair ([`super::feed`]).

mod consul;
mod dns;
mod document;
mod file;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use consul::ConsulFetch;
pub(super) use dns::DnsFetch;
pub(super) use document::DocumentFetch;
pub(super) use file::FileFetch;
pub(super) use sources::Sources;

use super::document::{Document, Refused};
use super::file::Content;
use super::{DiscoveryError, Instance, SourceKind};
use crate::job::{JobOutcome, Work};
use crate::outcome::Fault;
use crate::redis::Variant;
use crate::rng::Pcg32;
use crate::time::Time;

/// What a source has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Data {
    /// The Origin document.
    Document(Arc<Document>),
    /// A file that names services.
    File(Arc<Content>),
    /// The instances of one service.
    Instances(Arc<[Instance]>),
}

impl Data {
    /// Services in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Data::Document(document) => document.services().len(),
            Data::File(content) => content.services().len(),
            Data::Instances(_) => 1,
        }
    }

    /// Whether it is the answer that there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Data::Instances(instances) if instances.is_empty())
    }

    /// Whether it names an instance of `service`, or a reason why not to look further.
    pub(super) fn knows(&self, service: &str) -> bool {
        match self {
            Data::Document(document) => document.knows(service),
            Data::File(content) => content.knows(service),
            Data::Instances(instances) => !instances.is_empty(),
        }
    }

    /// The instances of `service`; `None` when the source does not know it. Addresses that are
    /// none are left out and returned beside.
    pub(super) fn of(
        &self,
        service: &str,
        local: Option<&str>,
    ) -> Option<(Vec<Instance>, Vec<Refused>)> {
        match self {
            Data::Document(document) => document.instances(service, local),
            Data::File(content) => content.instances(service, local),
            Data::Instances(instances) => Some((instances.to_vec(), Vec::new())),
        }
    }

    /// The names in it, where it is about several services.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        match self {
            Data::Document(document) => document.services().cloned().collect(),
            Data::File(content) => content.services().cloned().collect(),
            Data::Instances(_) => Vec::new(),
        }
    }
}

/// How a source may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Now, whatever was asked before.
    Now,
    /// When it is due, to be answered at once.
    Poll,
    /// When it is due, and answered when something changes.
    Hold,
}

/// What to ask next.
#[allow(clippy::large_enum_variant)] // handed on at once
pub(super) enum Want {
    /// This, answered at once.
    Exchange(Work),
    /// This, answered by `until`.
    Until { work: Work, until: Time },
    /// This, answered by `until`; if `held`, when something changes.
    Watch { work: Work, until: Time, held: bool },
    /// Nothing before this time.
    Later(Time),
    /// Nothing can be asked.
    Failed(DiscoveryError),
}

/// What an answer amounts to.
pub(super) enum Progress {
    /// Another exchange, at once.
    More,
    /// All of what the source says, and how long that is fresh.
    Fresh { data: Data, ttl: Duration },
    /// What is held is still so.
    Same { ttl: Duration },
    /// Nothing usable.
    Failed(DiscoveryError),
}

/// A source being asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // one for each service that is looked up
pub(super) enum Fetch {
    Document(DocumentFetch),
    File(FileFetch),
    Consul(ConsulFetch),
    Dns(DnsFetch),
}

impl Fetch {
    pub(super) fn kind(&self) -> SourceKind {
        match self {
            Fetch::Document(_) => SourceKind::Document,
            Fetch::File(_) => SourceKind::File,
            Fetch::Consul(_) => SourceKind::Consul,
            Fetch::Dns(_) => SourceKind::Dns,
        }
    }

    /// The name of the one service it is about, as its source knows it: what a client calls it is
    /// its own affair, and in the shared level another client's service may have that name.
    pub(super) fn name(&self) -> Option<&Arc<str>> {
        match self {
            Fetch::Document(_) | Fetch::File(_) => None,
            Fetch::Consul(fetch) => Some(fetch.name()),
            Fetch::Dns(fetch) => Some(fetch.name()),
        }
    }

    /// Who is asked, for people.
    pub(super) fn target(&self, sources: &Sources) -> Arc<str> {
        match self {
            Fetch::Document(fetch) => fetch.target(),
            Fetch::File(fetch) => fetch.target(sources),
            Fetch::Consul(fetch) => fetch.target(sources),
            Fetch::Dns(fetch) => fetch.target(sources),
        }
    }

    /// Whether a background is told of changes as they happen.
    pub(super) fn watches(&self) -> bool {
        matches!(self, Fetch::Consul(_))
    }

    /// What to ask. Other than now only where there is an answer already, and somebody who can wait
    /// for the next.
    pub(super) fn want(&mut self, now: Time, ask: Ask, sources: &Sources, rng: &mut Pcg32) -> Want {
        match self {
            Fetch::Document(fetch) => Want::Exchange(fetch.work()),
            Fetch::File(fetch) => fetch.want(now, sources),
            Fetch::Consul(fetch) => fetch.want(now, ask, sources, rng),
            Fetch::Dns(fetch) => fetch.want(now, sources, rng),
        }
    }

    /// Reads the answer. `held` is what the feed has, whatever its age.
    pub(super) fn done(
        &mut self,
        now: Time,
        outcome: JobOutcome,
        held: Option<&Data>,
        sources: &Sources,
        rng: &mut Pcg32,
    ) -> Progress {
        match self {
            Fetch::Document(fetch) => fetch.done(outcome, held.is_some(), &sources.config),
            Fetch::File(fetch) => fetch.done(now, outcome, sources),
            Fetch::Consul(fetch) => fetch.done(now, outcome, held, sources, rng),
            Fetch::Dns(fetch) => fetch.done(now, outcome, sources),
        }
    }

    /// The exchange under way was given up: the next one begins from the start.
    pub(super) fn dropped(&mut self, now: Time, sources: &Sources, rng: &mut Pcg32) {
        match self {
            Fetch::Document(fetch) => fetch.dropped(),
            Fetch::File(fetch) => fetch.dropped(now, sources),
            Fetch::Consul(fetch) => fetch.dropped(now, sources, rng),
            Fetch::Dns(fetch) => fetch.dropped(),
        }
    }

    /// What was held is forgotten.
    pub(super) fn forget(&mut self, now: Time) {
        match self {
            Fetch::Document(fetch) => fetch.forget(),
            Fetch::File(fetch) => *fetch = FileFetch::default(),
            Fetch::Consul(fetch) => fetch.forget(now),
            Fetch::Dns(fetch) => fetch.dropped(),
        }
    }

    /// How long to wait after a failure, where the source has a rule of its own.
    pub(super) fn backoff(&mut self, now: Time) -> Option<Duration> {
        match self {
            Fetch::Consul(fetch) => fetch.backoff(now),
            _ => None,
        }
    }

    /// How the lookup is narrowed, as far as the key of the shared level has to know.
    pub(super) fn variant(&self, sources: &Sources) -> Variant {
        match self {
            Fetch::Consul(fetch) => fetch.variant(sources),
            _ => Variant { also: Some(self.kind().word().into()), ..Variant::default() },
        }
    }
}

/// Why an outcome is not an answer.
pub(super) fn unexpected(outcome: JobOutcome) -> DiscoveryError {
    match outcome {
        JobOutcome::Failed(fault) => DiscoveryError::Fault(fault),
        JobOutcome::Impossible(why) => DiscoveryError::Impossible(why),
        JobOutcome::Answered { status, .. } => DiscoveryError::Status(status),
        _ => DiscoveryError::Fault(Fault::Protocol),
    }
}
