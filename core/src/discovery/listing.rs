//! One service that somebody wants: its sources in order, what they say taken together, and the
//! list that came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::directory::FeedId;
use super::document::Refused;
use super::environment::Environment;
use super::feed::Feed;
use super::fetch::Sources;
use super::plan::Candidate;
use super::removal::Guard;
use super::{Instance, SourceKind};
use crate::config::Combine;
use crate::time::Time;

/// One source of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Link {
    /// Feeds of one source: of several datacenters, the first is asked first and decides.
    Feeds(Arc<[FeedId]>),
    Environment,
}

/// What is kept about a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Listing {
    /// The name under which sources know it.
    pub name: Arc<str>,
    pub combine: Combine,
    /// Its sources, in order.
    pub kinds: Arc<[SourceKind]>,
    /// The same, as far as there is something to ask.
    pub chain: Arc<[Link]>,
    pub guard: Guard,
    /// A source has answered since the guard heard last.
    pub answered: bool,
    /// When it was last asked for.
    pub used: Time,
    /// How often its endpoints have changed, and when they did last.
    pub version: u64,
    pub changed_at: Time,
    digest: u64,
}

/// What its sources say about a service.
pub(super) enum View {
    Pending,
    Found(Vec<Instance>),
    Absent,
    Failed(FeedId),
}

impl Listing {
    pub(super) fn new(
        now: Time,
        name: Arc<str>,
        combine: Combine,
        kinds: &[SourceKind],
        whole: impl Fn(SourceKind) -> Option<FeedId>,
    ) -> Listing {
        let link = |kind: &SourceKind| match kind {
            SourceKind::Environment => Some(Link::Environment),
            kind => whole(*kind).map(|id| Link::Feeds([id].into())),
        };
        Listing {
            name,
            combine,
            kinds: kinds.into(),
            chain: kinds.iter().filter_map(link).collect(),
            guard: Guard::default(),
            answered: false,
            used: now,
            version: 0,
            changed_at: now,
            digest: 0,
        }
    }

    /// Puts its own feeds between those about everything.
    pub(super) fn place(&mut self, own: &BTreeMap<SourceKind, Vec<FeedId>>) {
        let mut others = self.chain.iter();
        let link = |kind: &SourceKind| match own.get(kind) {
            Some(ids) => Some(Link::Feeds(ids.as_slice().into())),
            None if kind.is_whole() => others.next().cloned(),
            None => None,
        };
        self.chain = self.kinds.iter().filter_map(link).collect();
    }

    pub(super) fn feeds(&self) -> impl Iterator<Item = FeedId> {
        self.chain.iter().flat_map(|link| match link {
            Link::Feeds(ids) => ids.to_vec(),
            Link::Environment => Vec::new(),
        })
    }

    /// What its sources say, taken together.
    pub(super) fn view(
        &self,
        now: Time,
        feeds: &BTreeMap<FeedId, Feed>,
        sources: &Sources,
        environment: Option<&Environment>,
        mut refuse: impl FnMut(Refused),
    ) -> View {
        let (mut found, mut empty, mut pending, mut failed) = (Vec::new(), false, false, None);
        let first = self.combine == Combine::First;
        for link in self.chain.iter() {
            let mut part: Option<Vec<Instance>> = None;
            match link {
                Link::Environment => {
                    part = environment.and_then(|e| e.instance(&self.name)).map(|one| vec![one]);
                }
                Link::Feeds(ids) => {
                    for (nth, id) in ids.iter().enumerate() {
                        let Some(feed) = feeds.get(id) else { continue };
                        if let Some(held) = feed.usable(now, &sources.config) {
                            let said = held.data.of(&self.name, sources.local.as_deref());
                            let Some((instances, refused)) = said else { continue };
                            refused.into_iter().for_each(&mut refuse);
                            merge(part.get_or_insert_default(), instances);
                        } else if feed.error.is_some() {
                            failed = failed.or(Some(*id));
                        } else if nth == 0 {
                            // Datacenters to fall back to are not waited for.
                            pending = true;
                        }
                    }
                }
            }
            match part {
                Some(part) if part.is_empty() => empty = true,
                Some(part) if first && !pending => return View::Found(part),
                Some(part) if !first => merge(&mut found, part),
                _ => {}
            }
            if first && pending {
                // A better source may still know it.
                return View::Pending;
            }
        }
        match failed {
            _ if !found.is_empty() => View::Found(found),
            _ if pending => View::Pending,
            Some(id) => View::Failed(id),
            None if empty => View::Found(found),
            None => View::Absent,
        }
    }

    /// Takes note of what was found; whether it is something else than before.
    pub(super) fn changed(&mut self, now: Time, found: &[Candidate]) -> bool {
        let digest = digest(found);
        let changed = digest != self.digest || self.version == 0;
        if changed {
            (self.digest, self.changed_at) = (digest, now);
            self.version += 1;
        }
        changed
    }
}

/// Adds what is not there yet.
fn merge(found: &mut Vec<Instance>, part: Vec<Instance>) {
    if found.is_empty() {
        *found = part;
        return;
    }
    let known: std::collections::BTreeSet<Arc<str>> =
        found.iter().map(|instance| instance.address.as_str().into()).collect();
    found.extend(part.into_iter().filter(|new| !known.contains(new.address.as_str())));
}

/// A number that differs when the lists do. FNV-1a over all that matters to a caller.
fn digest(found: &[Candidate]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut byte = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut text = |text: &str| {
        (text.len() as u64).to_le_bytes().into_iter().chain(text.bytes()).for_each(&mut byte);
    };
    for candidate in found {
        text(&candidate.cluster);
        text(candidate.address.as_str());
        text(candidate.health.as_deref().unwrap_or_default());
        text(match candidate.condition {
            super::Condition::Unknown => "",
            super::Condition::Passing => "passing",
            super::Condition::Warning => "warning",
            super::Condition::Critical => "critical",
        });
        text(&candidate.weight.to_string());
        for (key, value) in &candidate.metadata {
            text(key);
            text(value);
        }
    }
    hash
}
