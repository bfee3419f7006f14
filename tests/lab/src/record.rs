//! Collecting what happened during a run: samples of calls and changes of
//! breakers, from many threads at once. What it adds up to lives in `report`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lock;

/// Threads are spread over this many vectors.
const SHARDS: usize = 16;
/// Samples kept per shard (16 million in all); more are counted as dropped.
const SHARD_LIMIT: usize = 1 << 20;
/// Breaker changes kept; a breaker that flaps this often has made its point.
const STATE_LIMIT: usize = 1 << 16;

/// One finished call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The intended start, from the start of the run. With an open-loop
    /// schedule this is the scheduled moment, not the moment a free thread
    /// was found, or waiting would be left out of the report.
    pub at: Duration,
    /// From the intended start to the answer or the error.
    pub latency: Duration,
    /// Whether the caller got what it wanted.
    pub ok: bool,
    /// Requests sent for it; zero if it was refused before any.
    pub attempts: u32,
    /// The cluster that answered in the end.
    pub cluster: Option<String>,
    /// What went wrong, in a few words that repeat (they are counted).
    pub error: Option<String>,
}

impl Sample {
    /// The moment the call ended.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at.saturating_add(self.latency)
    }
}

/// A change of a cluster's breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// When, from the start of the run.
    pub at: Duration,
    /// Whose breaker.
    pub cluster: String,
    /// Its state from then on: `closed`, `open`, `half_open`, or any word.
    pub breaker: String,
}

/// Takes samples from many threads; clones share what they record.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    shards: [Mutex<Vec<Sample>>; SHARDS],
    states: Mutex<Vec<State>>,
    dropped: AtomicUsize,
}

impl Recorder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// Takes a sample.
    pub fn record(&self, sample: Sample) {
        // The intended start, multiplied until its low zeros do not matter,
        // spreads as well as a thread's identity and needs no lookup.
        let spread = sample.at.subsec_nanos().wrapping_mul(0x9E37_79B9) >> 16;
        let Some(shard) = self.inner.shards.get(spread as usize % SHARDS) else {
            return;
        };
        let mut shard = lock(shard);
        if shard.len() < SHARD_LIMIT {
            shard.push(sample);
        } else {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a breaker's state. One that repeats the last of its cluster is
    /// left out, so that a caller may simply report what it sees.
    pub fn state(&self, state: State) {
        let mut states = lock(&self.inner.states);
        let last = states.iter().rev().find(|known| known.cluster == state.cluster);
        if last.is_some_and(|known| known.breaker == state.breaker) {
            return;
        }
        if states.len() < STATE_LIMIT {
            states.push(state);
        } else {
            self.inner.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All samples in order of their intended start.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        let mut all: Vec<Sample> = Vec::new();
        for shard in &self.inner.shards {
            all.extend(lock(shard).iter().cloned());
        }
        all.sort_by_key(|sample| (sample.at, sample.latency));
        all
    }

    /// All breaker changes in order.
    #[must_use]
    pub fn states(&self) -> Vec<State> {
        let mut all = lock(&self.inner.states).clone();
        all.sort_by_key(|state| state.at);
        all
    }

    /// How many records did not fit.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.inner.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn samples_of_all_threads_come_out_in_order() {
        let recorder = Recorder::new();
        thread::scope(|scope| {
            for worker in 0..4 {
                let recorder = recorder.clone();
                scope.spawn(move || {
                    for number in 0..1000 {
                        recorder.record(Sample {
                            at: Duration::from_micros(number * 4 + worker),
                            latency: Duration::ZERO,
                            ok: true,
                            attempts: 1,
                            cluster: None,
                            error: None,
                        });
                    }
                });
            }
        });
        let samples = recorder.samples();
        assert_eq!(samples.len(), 4000);
        assert!(samples.is_sorted_by_key(|sample| sample.at));
        assert_eq!(recorder.dropped(), 0);
    }

    #[test]
    fn repeated_states_are_recorded_once() {
        let recorder = Recorder::new();
        for (at, cluster, breaker) in [
            (1, "a", "closed"),
            (2, "b", "closed"),
            (3, "a", "closed"),
            (4, "a", "open"),
            (5, "a", "closed"),
        ] {
            recorder.state(State {
                at: Duration::from_millis(at),
                cluster: cluster.into(),
                breaker: breaker.into(),
            });
        }
        assert_eq!(recorder.states().len(), 4);
    }
}
