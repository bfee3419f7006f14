//! How each kind of source is asked and its answers are read: one exchange at a time, as a small
//! machine of its own. When to ask is the feed's affair ([`super::feed`]).

mod document;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use document::DocumentFetch;

use super::document::{Document, Refused};
use super::{DiscoveryError, Instance, SourceKind};
use crate::config::DiscoveryConfig;
use crate::job::{JobOutcome, Work};
use crate::rng::Pcg32;
use crate::time::Time;

/// What a source has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Data {
    /// The Origin document.
    Document(Arc<Document>),
    /// Services with their instances.
    Table(Arc<BTreeMap<Arc<str>, Vec<Instance>>>),
    /// The instances of one service.
    Instances(Arc<[Instance]>),
}

impl Data {
    /// Services in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Data::Document(document) => document.services().len(),
            Data::Table(table) => table.len(),
            Data::Instances(_) => 1,
        }
    }

    /// Whether it names an instance of `service`, or a reason why not to look further.
    pub(super) fn knows(&self, service: &str) -> bool {
        match self {
            Data::Document(document) => document.knows(service),
            Data::Table(table) => table.contains_key(service),
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
            Data::Table(table) => Some((table.get(service)?.clone(), Vec::new())),
            Data::Instances(instances) => Some((instances.to_vec(), Vec::new())),
        }
    }

    /// The names in it, where it is about several services.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        match self {
            Data::Document(document) => document.services().cloned().collect(),
            Data::Table(table) => table.keys().cloned().collect(),
            Data::Instances(_) => Vec::new(),
        }
    }
}

/// What to ask next.
#[allow(clippy::large_enum_variant)] // handed on at once
pub(super) enum Want {
    /// This, answered at once.
    Exchange(Work),
    /// This, answered when something changes, at `until` at the latest.
    Watch { work: Work, until: Time },
    /// Nothing before this time.
    Later(Time),
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
}

impl Fetch {
    pub(super) fn kind(&self) -> SourceKind {
        match self {
            Fetch::Document(_) => SourceKind::Document,
        }
    }

    /// Who is asked, for people.
    pub(super) fn target(&self) -> Arc<str> {
        match self {
            Fetch::Document(fetch) => fetch.target(),
        }
    }

    /// Whether a background is told of changes as they happen.
    pub(super) fn watches(&self) -> bool {
        false
    }

    /// What to ask. `watch`: there is an answer already, and somebody who can wait for the next.
    pub(super) fn want(&mut self, _now: Time, _watch: bool, _rng: &mut Pcg32) -> Want {
        match self {
            Fetch::Document(fetch) => Want::Exchange(fetch.work()),
        }
    }

    /// Reads the answer. `held` is what the feed has, whatever its age.
    pub(super) fn done(
        &mut self,
        _now: Time,
        _watch: bool,
        outcome: JobOutcome,
        held: Option<&Data>,
        config: &DiscoveryConfig,
        _rng: &mut Pcg32,
    ) -> Progress {
        match self {
            Fetch::Document(fetch) => fetch.done(outcome, held.is_some(), config),
        }
    }

    /// The exchange under way was given up: the next one begins from the start.
    pub(super) fn dropped(&mut self) {
        match self {
            Fetch::Document(fetch) => fetch.dropped(),
        }
    }

    /// What was held is forgotten.
    pub(super) fn forget(&mut self) {
        match self {
            Fetch::Document(fetch) => fetch.forget(),
        }
    }

    /// How long to wait after a failure, where the source has a rule of its own.
    pub(super) fn backoff(&self, _now: Time) -> Option<Duration> {
        None
    }
}
