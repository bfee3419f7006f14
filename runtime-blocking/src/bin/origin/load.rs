//! The load of the demo: many threads, one client, an even pace, and what came of each call.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use origin_blocking::core::outcome::Outcome;
use origin_blocking::core::request::AttemptReport;
use origin_blocking::{Error, Response, Upstream};
use origin_lab::{Pace, Recorder, Sample, percentile};

/// What the live view looks back on.
const WINDOW: Duration = Duration::from_secs(1);
/// Later than this after its time, a call began late.
const LATE: Duration = Duration::from_millis(50);

/// The samples of a run, all of them and the latest ones.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) recorder: Recorder,
    /// Calls that began late: no thread was free, or no processor.
    pub(crate) late: AtomicU64,
    recent: Mutex<VecDeque<Sample>>,
}

/// The calls that ended within the last second.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pub(crate) calls: usize,
    pub(crate) ok: usize,
    /// By the cluster that answered with success.
    pub(crate) answered: BTreeMap<String, Answered>,
}

/// The part of one cluster in them.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) calls: usize,
    pub(crate) median: Duration,
}

impl Load {
    /// Makes calls at the given pace, together with every other thread that does, until the
    /// pace has ended.
    pub(crate) fn run(&self, upstream: &Upstream, path: &str, pace: &Pace, start: Instant) {
        pace.run(start, |at| {
            if start.elapsed().saturating_sub(at) > LATE {
                self.late.fetch_add(1, Ordering::Relaxed);
            }
            let result = upstream.get(path).send();
            // From the intended start: time spent waiting for a free thread counts too.
            let latency = start.elapsed().saturating_sub(at);
            let sample = sample_of(at, latency, &result);
            let mut recent = lock(&self.recent);
            recent.push_back(sample.clone());
            trim(&mut recent, start.elapsed());
            drop(recent);
            self.recorder.record(sample);
        });
    }

    /// What the last second was like.
    pub(crate) fn recent(&self, start: Instant) -> Recent {
        let mut samples = lock(&self.recent);
        trim(&mut samples, start.elapsed());
        let samples: Vec<Sample> = samples.iter().cloned().collect();
        let mut latencies: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.ok) {
            if let Some(cluster) = &sample.cluster {
                latencies.entry(cluster.clone()).or_default().push(sample.latency);
            }
        }
        let answered = latencies.into_iter().map(|(cluster, mut all)| {
            all.sort_unstable();
            (cluster, Answered { calls: all.len(), median: percentile(&all, 50.0) })
        });
        Recent {
            calls: samples.len(),
            ok: samples.iter().filter(|sample| sample.ok).count(),
            answered: answered.collect(),
        }
    }
}

fn trim(recent: &mut VecDeque<Sample>, now: Duration) {
    let begin = now.saturating_sub(WINDOW);
    // Almost in order of their ends: a straggler stays a little longer than it should.
    while recent.front().is_some_and(|sample| sample.end() < begin) {
        recent.pop_front();
    }
}

fn sample_of(at: Duration, latency: Duration, result: &Result<Response, Error>) -> Sample {
    let (attempts, ok, error) = match result {
        Ok(reply) => {
            let bad = reply.status().as_u16() >= 400;
            let error = bad.then(|| format!("answered {}", reply.status().as_u16()));
            (&*reply.report().attempts, !bad, error)
        }
        Err(error) => {
            let attempts = error.failure().map_or(&[][..], |failure| &*failure.report.attempts);
            (attempts, false, Some(kind_of(error, attempts)))
        }
    };
    let last = attempts.last();
    let answered = last.is_some_and(|last| matches!(last.outcome, Outcome::Answered { .. }));
    Sample {
        at,
        latency,
        ok,
        attempts: u32::try_from(attempts.len()).unwrap_or(u32::MAX),
        cluster: last.filter(|_| answered).map(|last| last.cluster.to_string()),
        error,
    }
}

/// An error in a few words that repeat, so that they can be counted.
fn kind_of(error: &Error, attempts: &[AttemptReport]) -> String {
    let kind = match error {
        Error::Deadline(_) => "deadline passed",
        Error::Refused(_) => "refused: no endpoint may be called",
        Error::Exhausted(_) => "no usable answer",
        Error::Discovery { .. } => "discovery failed",
        Error::UnknownService { .. } => "unknown service",
        _ => "unusable answer",
    };
    match attempts.last() {
        Some(last) => format!("{kind}; last attempt: {}", last.outcome),
        None => kind.to_owned(),
    }
}

/// Takes a lock even if a thread panicked while holding it: every statement leaves the samples
/// whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
