//! What one snapshot does not tell: how fast things happen and how latencies went. Fed with
//! snapshots, of an own client or of another process, and with nothing else; their clock counts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use origin_blocking::Snapshot;
use origin_blocking::core::Time;

/// Samples of a latency that are kept.
const KEPT: usize = 120;

/// Calls and failures per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) calls: f64,
    /// Share of them that failed, where there were any.
    pub(crate) failed: Option<f64>,
}

/// Of one service, or one endpoint of it.
#[derive(Debug, Default)]
struct Track {
    counts: (u64, u64),
    rates: Rates,
    latencies: VecDeque<Option<Duration>>,
    seen: u64,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    at: Option<Time>,
    round: u64,
    /// By service, and by endpoint: its cluster and address.
    tracks: BTreeMap<(String, String, String), Track>,
}

impl History {
    /// Takes in the next snapshot. The same one again, or an older one, adds nothing.
    pub(crate) fn take(&mut self, snapshot: &Snapshot) {
        let elapsed = match self.at {
            // Another process, or the same one started again.
            Some(at) if snapshot.at < at => {
                *self = History::default();
                None
            }
            Some(at) if snapshot.at == at => return,
            Some(at) => Some(snapshot.at.since(at)),
            None => None,
        };
        (self.at, self.round) = (Some(snapshot.at), self.round + 1);
        for service in &snapshot.services {
            let name = service.name.to_string();
            let counts = (service.calls, service.failed);
            let answering = service.endpoints.iter().filter(|one| one.latency.is_some());
            let best = answering.max_by_key(|one| one.attempts).and_then(|one| one.latency);
            self.track((name.clone(), String::new(), String::new()), elapsed, counts, best);
            for one in &service.endpoints {
                let key = (name.clone(), one.cluster.to_string(), one.address.to_string());
                self.track(key, elapsed, (one.attempts, one.failed_attempts), one.latency);
            }
        }
        // What is gone is forgotten, so that a registry cannot fill the memory.
        let round = self.round;
        self.tracks.retain(|_, track| track.seen == round);
    }

    fn track(
        &mut self,
        key: (String, String, String),
        elapsed: Option<Duration>,
        counts: (u64, u64),
        latency: Option<Duration>,
    ) {
        let known = self.tracks.contains_key(&key);
        let track = self.tracks.entry(key).or_default();
        if let Some(elapsed) = elapsed.filter(|_| known) {
            let made = counts.0.saturating_sub(track.counts.0);
            let failed = counts.1.saturating_sub(track.counts.1).min(made);
            track.rates = Rates {
                calls: made as f64 / elapsed.as_secs_f64().max(1e-3),
                failed: (made > 0).then(|| failed as f64 / made as f64),
            };
            if track.latencies.len() == KEPT {
                track.latencies.pop_front();
            }
            track.latencies.push_back(latency.filter(|_| made > failed));
        }
        (track.counts, track.seen) = (counts, self.round);
    }

    /// Since the snapshot before, of the service or one of its endpoints.
    pub(crate) fn rates(&self, service: &str, cluster: &str, address: &str) -> Rates {
        self.track_of(service, cluster, address).map_or(Rates::default(), |track| track.rates)
    }

    /// The latest latencies, oldest first; nothing where nobody answered.
    pub(crate) fn latencies(
        &self,
        service: &str,
        cluster: &str,
        address: &str,
    ) -> Vec<Option<Duration>> {
        let track = self.track_of(service, cluster, address);
        track.map_or(Vec::new(), |track| track.latencies.iter().copied().collect())
    }

    fn track_of(&self, service: &str, cluster: &str, address: &str) -> Option<&Track> {
        self.tracks.get(&(service.to_owned(), cluster.to_owned(), address.to_owned()))
    }
}

/// Latencies as a row of bars, the latest at the right; a blank where nobody answered.
pub(crate) fn sparkline(latencies: &[Option<Duration>], columns: usize, ascii: bool) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const PLAIN: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];
    let bars = if ascii { PLAIN } else { BARS };
    let shown = latencies.get(latencies.len().saturating_sub(columns)..).unwrap_or_default();
    // From nothing up to the slowest, and never so fine that noise looks like news.
    let most = shown.iter().flatten().max().copied().unwrap_or_default();
    let most = most.max(Duration::from_millis(1)).as_secs_f64();
    let bar = |one: &Option<Duration>| match one {
        Some(latency) => {
            let part = (latency.as_secs_f64() / most * 7.0).round() as usize;
            bars.get(part).copied().unwrap_or(bars[7])
        }
        None => ' ',
    };
    let line: String = shown.iter().map(bar).collect();
    format!("{}{line}", " ".repeat(columns.saturating_sub(shown.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_latency_and_are_blank_without() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let all = [ms(0), ms(4), None, ms(8)];
        assert_eq!(sparkline(&all, 6, false), "  ▁▅ █");
        assert_eq!(sparkline(&all, 2, true), " #");
        assert_eq!(sparkline(&[], 3, true), "   ");
    }
}
