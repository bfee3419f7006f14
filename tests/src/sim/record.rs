//! What a run leaves behind: the decision log, which must be the same in every repetition, and
//! the figures people look at.

use std::sync::Arc;
use std::time::Duration;

use origin_core::call::Why;
use origin_core::job::JobId;
use origin_core::outcome::Outcome;
use origin_core::{Action, Time};

use crate::scenario::{Attempted, ErrorKind};

/// One line of the decision log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// Which call; `None` for the background.
    pub call: Option<u64>,
    /// What.
    pub what: What,
}

/// What a line of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The core decided this.
    Decided(Action),
    /// An attempt met this.
    Met(Outcome),
    /// A discovery job was sent.
    JobSent(JobId),
    /// A discovery job came back; whether services had to be resolved again.
    JobDone(JobId, bool),
    /// The caller dropped the call.
    Dropped,
}

/// A call that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Its number.
    pub call: u64,
    /// Its service.
    pub service: Arc<str>,
    /// When it was made.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// The status, or the kind of error the driver would return.
    pub result: Result<u16, ErrorKind>,
    /// The reason of a failure.
    pub why: Option<Why>,
    /// Its attempts.
    pub attempts: Vec<Attempted>,
    /// Clusters skipped because their breakers were open.
    pub skipped: Vec<Arc<str>>,
}

impl Done {
    /// How long it took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.ended.since(self.began)
    }

    /// Whether it got an answer below 500.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.result.is_ok_and(|status| status < 500)
    }
}

/// Figures over a set of calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Calls.
    pub calls: usize,
    /// Calls with an answer below 500.
    pub ok: usize,
    /// Attempts of all of them.
    pub attempts: usize,
    /// Their latencies, sorted.
    pub latencies: Vec<Duration>,
}

impl Figures {
    /// The figures of `calls`.
    pub fn of<'a>(calls: impl Iterator<Item = &'a Done>) -> Figures {
        let mut figures = Figures::default();
        for done in calls {
            figures.calls += 1;
            figures.ok += usize::from(done.is_ok());
            figures.attempts += done.attempts.len();
            figures.latencies.push(done.elapsed());
        }
        figures.latencies.sort_unstable();
        figures
    }

    /// The share of calls that went well; 1 when there were none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of a test
    pub fn success(&self) -> f64 {
        if self.calls == 0 { 1.0 } else { self.ok as f64 / self.calls as f64 }
    }

    /// Attempts per call; 1 when there were none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of a test
    pub fn amplification(&self) -> f64 {
        if self.calls == 0 { 1.0 } else { self.attempts as f64 / self.calls as f64 }
    }

    /// The latency that `permille` of a thousand calls do not exceed (nearest rank).
    #[must_use]
    pub fn latency(&self, permille: usize) -> Duration {
        let rank = (self.latencies.len() * permille).div_ceil(1000).max(1);
        self.latencies.get(rank - 1).copied().unwrap_or_default()
    }

    /// How many calls took longer than `span`.
    #[must_use]
    pub fn slower_than(&self, span: Duration) -> usize {
        self.latencies.iter().filter(|latency| **latency > span).count()
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let max = self.latencies.last().copied().unwrap_or_default();
        write!(
            f,
            "{:5} calls  {:7.3} % ok  x{:.3} attempts  p50 {:6.1?}  p99 {:6.1?}  p99.9 {:6.1?}  max {:6.1?}",
            self.calls,
            self.success() * 100.0,
            self.amplification(),
            self.latency(500),
            self.latency(990),
            self.latency(999),
            max
        )
    }
}
