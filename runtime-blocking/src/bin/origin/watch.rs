//! What the demo sees of the client while it runs: snapshots, turned into one row per cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use origin_blocking::Snapshot;
use origin_blocking::core::discovery::Place;
use origin_blocking::core::policy::breaker::State as Breaker;
use origin_blocking::core::snapshot::EndpointSnapshot;
use origin_lab::{Recorder, State};

/// Breakers of one cluster, endpoint by endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Breakers {
    words: Vec<&'static str>,
}

impl Breakers {
    fn count(&self, word: &str) -> usize {
        self.words.iter().filter(|known| **known == word).count()
    }

    /// The cluster as a whole, in the words of the report.
    pub(crate) fn summary(&self) -> String {
        let (all, open) = (self.words.len(), self.count("open"));
        match (open, self.count("half_open")) {
            (0, 0) => "closed".to_owned(),
            (open, _) if open == all => "open".to_owned(),
            (_, 1..) => "half_open".to_owned(),
            (open, _) => format!("{open} of {all} open"),
        }
    }

    /// Each of them where they are few, counts where they are many.
    pub(crate) fn text(&self) -> String {
        if self.words.len() <= 2 {
            return self.words.join(" ").replace('_', "-");
        }
        let counted = ["closed", "half_open", "open"].map(|word| (self.count(word), word));
        let parts: Vec<String> = counted
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {}", word.replace('_', "-")))
            .collect();
        parts.join(" ")
    }
}

/// One cluster at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) cluster: String,
    pub(crate) place: &'static str,
    pub(crate) breakers: Breakers,
    /// In one word, and how bad it is: 0 well, 1 not quite, 2 out.
    pub(crate) state: (&'static str, u8),
    /// Share of attempts that succeeded since the last look; `None` when there were none.
    pub(crate) success: Option<f64>,
}

/// Looks at snapshots of one service, one after the other.
#[derive(Debug)]
pub(crate) struct Watch {
    service: String,
    /// Attempts and failed attempts by cluster: now, and when a second began.
    counts: BTreeMap<String, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    base: (u64, u64),
    base_at: Duration,
    success: Option<f64>,
}

/// How often the success of attempts is worked out anew.
const REFRESH: Duration = Duration::from_millis(500);

impl Watch {
    pub(crate) fn new(service: &str) -> Watch {
        Watch { service: service.to_owned(), counts: BTreeMap::new() }
    }

    /// Takes in a snapshot made at `at`: records breaker changes, returns the rows in failover
    /// order and the latest notice.
    pub(crate) fn look(
        &mut self,
        snapshot: &Snapshot,
        at: Duration,
        recorder: &Recorder,
    ) -> (Vec<Row>, Option<String>) {
        let endpoints =
            snapshot.service(&self.service).map_or(&[][..], |service| &*service.endpoints);
        let mut rows = Vec::new();
        for group in endpoints.chunk_by(|a, b| a.cluster == b.cluster) {
            let Some(first) = group.first() else { continue };
            let cluster = first.cluster.to_string();
            let breakers = Breakers { words: group.iter().map(|one| one.breaker.word()).collect() };
            recorder.state(State { at, cluster: cluster.clone(), breaker: breakers.summary() });
            let success = self.success(&cluster, group, at);
            let state = state_of(&breakers, group, success);
            rows.push(Row { cluster, place: place_of(first.place), breakers, state, success });
        }
        (rows, snapshot.notices.last().map(ToString::to_string))
    }

    fn success(&mut self, cluster: &str, group: &[EndpointSnapshot], at: Duration) -> Option<f64> {
        let sum = |of: fn(&EndpointSnapshot) -> u64| group.iter().map(of).sum::<u64>();
        let now = (sum(|one| one.attempts), sum(|one| one.failed_attempts));
        let counts = self.counts.entry(cluster.to_owned()).or_default();
        if at.saturating_sub(counts.base_at) >= REFRESH {
            let made = now.0.saturating_sub(counts.base.0);
            let failed = now.1.saturating_sub(counts.base.1).min(made);
            counts.success = (made > 0).then(|| (made - failed) as f64 / made as f64);
            (counts.base, counts.base_at) = (now, at);
        }
        counts.success
    }
}

fn state_of(
    breakers: &Breakers,
    group: &[EndpointSnapshot],
    success: Option<f64>,
) -> (&'static str, u8) {
    if breakers.summary() == "open" {
        return ("out", 2);
    }
    if breakers.count("half_open") > 0 {
        // Half-open without an attempt out: it may be tried, but nobody has had a reason to.
        let tried =
            group.iter().any(|one| matches!(one.breaker, Breaker::HalfOpen { out: 1.., .. }));
        return (if tried { "probing" } else { "unproven" }, 1);
    }
    if breakers.count("open") > 0 {
        return ("partly out", 1);
    }
    if group.iter().any(|one| one.suspect) {
        return ("silent", 1);
    }
    match success {
        Some(success) if success < 1.0 => ("failing", 1),
        Some(_) => ("in use", 0),
        None => ("ready", 0),
    }
}

fn place_of(place: Place) -> &'static str {
    match place {
        Place::Local => "local",
        Place::Primary => "primary",
        Place::Backup => "backup",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakers_of_a_cluster_in_words() {
        let of = |words: &[&'static str]| Breakers { words: words.to_vec() };
        assert_eq!(of(&["closed", "closed"]).summary(), "closed");
        assert_eq!(of(&["open", "open"]).summary(), "open");
        assert_eq!(of(&["open", "closed"]).summary(), "1 of 2 open");
        assert_eq!(of(&["open", "half_open"]).summary(), "half_open");
        assert_eq!(of(&["open", "half_open"]).text(), "open half-open");
        assert_eq!(of(&["open", "closed", "closed"]).text(), "2 closed 1 open");
    }
}
