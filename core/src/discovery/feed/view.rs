//! A feed as people see it, and what it counts for them.

use serde::{Deserialize, Serialize};

use super::Feed;
use crate::discovery::ERRORS;
use crate::discovery::fetch::Sources;
use crate::metrics::{Histogram, words};
use crate::snapshot::DiscoverySnapshot;
use crate::time::Time;

/// What a feed counts for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) answers: u64,
    /// Questions that were held back until something changed.
    pub(super) watched: u64,
    pub(super) errors: [u64; ERRORS.len()],
    pub(super) took: Histogram,
}

impl Feed {
    pub(in crate::discovery) fn snapshot(&self, now: Time, sources: &Sources) -> DiscoverySnapshot {
        let held = self.held.as_ref();
        DiscoverySnapshot {
            kind: self.kind(),
            source: self.fetch.target(sources).to_string(),
            service: self.service.clone(),
            level: held.map(|held| held.level),
            age: held.map(|held| now.since(held.fetched)),
            fresh_for: held.map(|held| now.until(held.fresh_until)),
            stale: held.is_some_and(|held| now >= held.fresh_until),
            services: held.map_or(0, |held| held.data.len()),
            failures: self.failures,
            last_error: self.error.as_ref().map(ToString::to_string),
            fetching: self.lease.is_some_and(|lease| now < lease.deadline),
            watching: self.lease.is_some_and(|lease| lease.watch && now < lease.deadline),
            held_back: self.held_back(now, &sources.config).is_some(),
            answers: self.tally.answers,
            watched: self.tally.watched,
            errors: words(&ERRORS, &self.tally.errors),
            took: self.tally.took,
        }
    }
}
