//! What the machines count for metrics, beside what their policies count for themselves. Plain
//! integers, changed under the lock that the machine has anyway. Words are given to them when
//! they are shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Histogram;
use super::recovery::Recoveries;
use crate::call::{DeadlineKind, Why};
use crate::notice::{Event, Suppressed};
use crate::outcome::{Class, Fault, Outcome};
use crate::policy::breaker::{Transition, Trip};
use crate::policy::health::ProbeOutcome;
use crate::service::Overload;
use crate::time::Time;

/// Counts by a word: only those that are not zero.
pub type Words = BTreeMap<Cow<'static, str>, u64>;

/// The words of a row of counts that are not zero.
pub(crate) fn words(words: &[&'static str], counts: &[u64]) -> Words {
    let counted = words.iter().zip(counts).filter(|(_, count)| **count > 0);
    counted.map(|(word, count)| (Cow::Borrowed(*word), *count)).collect()
}

const WHYS: [&str; 19] = [
    "unknown_service",
    "discovery",
    "no_endpoints",
    "refused",
    "deadline_total",
    "deadline_attempt",
    "exhausted",
    "budget",
    "service_breaker",
    "throttled",
    "concurrency",
    "queue",
    "rate",
    "tiers",
    "not_repeatable",
    "not_retried",
    "body_too_large",
    "request",
    "abandoned",
];

/// The reasons of [`WHYS`] for which a call is not let out at all.
pub(crate) const REJECTIONS: [&str; 8] = [
    "refused",
    "no_endpoints",
    "service_breaker",
    "throttled",
    "concurrency",
    "queue",
    "rate",
    "tiers",
];

const fn why_at(why: Why) -> usize {
    match why {
        Why::UnknownService => 0,
        Why::Discovery => 1,
        Why::NoEndpoints => 2,
        Why::Refused => 3,
        Why::Deadline(DeadlineKind::Total) => 4,
        Why::Deadline(_) => 5,
        Why::Exhausted => 6,
        Why::Budget => 7,
        Why::Overload(Overload::Breaker) => 8,
        Why::Overload(Overload::Throttled(_)) => 9,
        Why::Overload(Overload::Concurrency(_)) => 10,
        Why::Overload(Overload::Queue(_)) => 11,
        Why::Overload(Overload::Rate(_)) => 12,
        Why::Overload(Overload::Tiers(_)) => 13,
        Why::NotRepeatable => 14,
        Why::NotRetried => 15,
        Why::BodyTooLarge => 16,
        Why::Request => 17,
        Why::Abandoned => 18,
    }
}

const FAULTS: [&str; 13] = [
    "resolve",
    "connect",
    "connect_timeout",
    "tls",
    "timeout",
    "reset",
    "protocol",
    "head_too_large",
    "body_too_large",
    "not_http",
    "request",
    "stalled",
    "outrun",
];

const STATUSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

const CHECKS: [&str; 5] = ["pass", "assumed", "degraded", "fail", "dropped"];

/// How outcomes of attempts are called, in the order of [`ClusterTally`].
pub(crate) const CLASSES: [&str; 4] = ["success", "failure", "throttled", "ignored"];

/// Attempts told apart by their number; the last stands for all beyond.
const NUMBERS: usize = 8;

/// What one service counts for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// How long calls took that were answered, and that were not.
    pub(crate) answered: Histogram,
    pub(crate) failed: Histogram,
    whys: [u64; WHYS.len()],
    faults: [u64; FAULTS.len()],
    statuses: [u64; STATUSES.len()],
    checks: [u64; CHECKS.len()],
    /// Repeats by the number of the attempt, from the second.
    repeats: [u64; NUMBERS],
    /// Calls that were answered by that attempt, from the second.
    answered_by: [u64; NUMBERS],
    pub(crate) failed_after_retry: u64,
    /// How long calls took that sent more than one request.
    pub(crate) repeated: Histogram,
    pub(crate) retries: u64,
    pub(crate) hedges: u64,
    pub(crate) rescues: u64,
    by_budget: u64,
    by_tokens: u64,
    /// Calls that waited for discovery.
    pub(crate) parked: u64,
}

impl Tally {
    /// A call ended without an answer.
    pub(crate) fn why(&mut self, why: Why) {
        self.whys[why_at(why)] += 1;
    }

    /// An attempt ended.
    #[inline]
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered { status, .. } => {
                let hundred = usize::from(status / 100);
                self.statuses[if hundred < STATUSES.len() { hundred } else { 0 }] += 1;
            }
            Outcome::Failed { fault, .. } => self.fault(fault),
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub(crate) fn suppressed(&mut self, by: Suppressed) {
        match by {
            Suppressed::Budget { .. } => self.by_budget += 1,
            Suppressed::Tokens { .. } => self.by_tokens += 1,
        }
    }

    pub(crate) fn check(&mut self, outcome: ProbeOutcome) {
        let at = match outcome {
            ProbeOutcome::Pass => 0,
            ProbeOutcome::Assumed => 1,
            ProbeOutcome::Degraded => 2,
            ProbeOutcome::Fail(_) => 3,
            ProbeOutcome::Dropped => 4,
        };
        self.checks[at] += 1;
    }

    /// An attempt beyond the first is sent; `attempt` counts from 1.
    #[cold]
    pub(crate) fn repeat(&mut self, attempt: u8) {
        self.repeats[usize::from(attempt).min(NUMBERS) - 1] += 1;
    }

    /// A call was answered by an attempt beyond the first.
    #[cold]
    pub(crate) fn answered_by(&mut self, attempt: u8) {
        self.answered_by[usize::from(attempt).min(NUMBERS) - 1] += 1;
    }

    pub(crate) fn view(&self) -> Counted {
        const SUPPRESSED: [&str; 2] = ["budget", "tokens"];
        const REPEATS: [&str; NUMBERS] = ["1", "2", "3", "4", "5", "6", "7", "8+"];
        Counted {
            answered: self.answered,
            failed: self.failed,
            reasons: words(&WHYS, &self.whys),
            faults: words(&FAULTS, &self.faults),
            statuses: words(&STATUSES, &self.statuses),
            checks: words(&CHECKS, &self.checks),
            repeats: words(&REPEATS, &self.repeats),
            answered_by: words(&REPEATS, &self.answered_by),
            failed_after_retry: self.failed_after_retry,
            repeated: self.repeated,
            retries: self.retries,
            hedges: self.hedges,
            rescues: self.rescues,
            suppressed: words(&SUPPRESSED, &[self.by_budget, self.by_tokens]),
            parked: self.parked,
        }
    }
}

/// What one service has counted since it was made, as a snapshot shows it. Maps hold what is not
/// zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counted {
    /// How long calls took that were answered, all repeats and waits included.
    pub answered: Histogram,
    /// How long calls took that ended in an error.
    pub failed: Histogram,
    /// Calls that ended in an error, by why.
    pub reasons: Words,
    /// Attempts that met no answer, by what they met; `stalled` and `outrun`: given up by the call.
    pub faults: Words,
    /// Answers by the hundred of their status.
    pub statuses: Words,
    /// Results of active health checks.
    pub checks: Words,
    /// Attempts beyond the first, by their number.
    pub repeats: Words,
    /// Calls answered by an attempt beyond the first, by its number.
    pub answered_by: Words,
    /// Calls that ended in an error after more than one attempt.
    pub failed_after_retry: u64,
    /// How long calls took that sent more than one request, however they ended.
    pub repeated: Histogram,
    /// Repeats after a failure.
    pub retries: u64,
    /// Second attempts beside a slow one.
    pub hedges: u64,
    /// Attempts instead of one whose endpoint had gone silent.
    pub rescues: u64,
    /// Repeats that were not paid for, by who refused: `budget` or `tokens`.
    pub suppressed: Words,
    /// Calls that waited for discovery.
    pub parked: u64,
}

/// What one cluster of a service has counted; kept when the cluster leaves and comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterTally {
    /// How long its attempts took: success, failure, throttled, ignored.
    pub attempts: [Histogram; 4],
    /// Calls that went on here after a failure in another cluster.
    pub entered: u64,
    /// Calls that went on elsewhere after a failure here.
    pub left: u64,
    /// Times it became the cluster that answers.
    pub switched: u64,
    /// Times that was a return to a preferred cluster.
    pub failbacks: u64,
}

impl ClusterTally {
    /// The row of a class.
    pub(crate) const fn row(class: Class) -> usize {
        match class {
            Class::Success => 0,
            Class::Failure => 1,
            Class::Throttled => 2,
            Class::Ignored => 3,
        }
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &ClusterTally) {
        for (row, more) in self.attempts.iter_mut().zip(&other.attempts) {
            row.add(more);
        }
        self.entered += other.entered;
        self.left += other.left;
        self.switched += other.switched;
        self.failbacks += other.failbacks;
    }
}

/// Notices by their names; few enough to be looked through.
type Names = Vec<(Cow<'static, str>, u64)>;

/// Services told apart where notices are counted; beyond them they count as of none.
const MOST_SAID: usize = 1_024;

/// Notices that ever were, by service and name. Counted where they are pushed, so what is logged
/// and what is counted cannot differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// About no service, or one too many.
    plain: Names,
    counts: BTreeMap<Arc<str>, Names>,
    endpoints: Moves,
    service: Moves,
    pub(crate) recoveries: Recoveries,
}

impl Said {
    pub(crate) fn count(
        &mut self,
        at: Time,
        service: Option<&Arc<str>>,
        event: &Event,
        from: Option<Phase>,
    ) {
        let full = self.counts.len() >= MOST_SAID;
        let names = match service {
            Some(service) if !full || self.counts.contains_key(service) => {
                self.counts.entry(service.clone()).or_default()
            }
            _ => &mut self.plain,
        };
        let name = event.name();
        match names.iter_mut().find(|(said, _)| *said == name) {
            Some((_, count)) => *count += 1,
            None => names.push((Cow::Borrowed(name), 1)),
        }
        let (place, from, to) = match event {
            Event::BreakerOpened { cluster, endpoint, trip, .. } => {
                (Some((cluster, endpoint)), from.unwrap_or_else(|| before(*trip)), Phase::Open)
            }
            Event::BreakerHalfOpened { cluster, endpoint } => {
                (Some((cluster, endpoint)), from.unwrap_or(Phase::Open), Phase::HalfOpen)
            }
            Event::BreakerClosed { cluster, endpoint } => {
                (Some((cluster, endpoint)), from.unwrap_or(Phase::HalfOpen), Phase::Closed)
            }
            Event::ServiceBreaker { change } if !change.shadow() => match change {
                Transition::Opened { trip, .. } => {
                    (None, from.unwrap_or_else(|| before(*trip)), Phase::Open)
                }
                Transition::HalfOpened { .. } => {
                    (None, from.unwrap_or(Phase::Open), Phase::HalfOpen)
                }
                Transition::Closed { .. } => (None, from.unwrap_or(Phase::HalfOpen), Phase::Closed),
            },
            _ => return,
        };
        let moves = if place.is_some() { &mut self.endpoints } else { &mut self.service };
        moves.count(from, to);
        self.recoveries.moved(at, place, from, to);
    }

    pub(crate) fn view(&self) -> impl Iterator<Item = EventCount> + '_ {
        let named = self.counts.iter().map(|(service, names)| (Some(service), names));
        std::iter::once((None, &self.plain)).chain(named).flat_map(|(service, names)| {
            names.iter().map(move |(event, count)| EventCount {
                service: service.cloned(),
                event: event.clone(),
                count: *count,
            })
        })
    }

    /// Changes of breakers: those of the endpoints, that of the service.
    pub(crate) fn moves(&self) -> (Moves, Moves) {
        (self.endpoints, self.service)
    }
}

/// How often a notice was given, also those that are not kept any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCount {
    /// The service that it is about; `None`: none.
    pub service: Option<Arc<str>>,
    /// Its name, as [`Event::name`] gives it.
    pub event: Cow<'static, str>,
    /// How often.
    pub count: u64,
}

/// The state of a breaker without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Closed.
    Closed,
    /// Open.
    Open,
    /// Half-open.
    HalfOpen,
}

impl Phase {
    /// `closed`, `open` or `half_open`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::Open => "open",
            Phase::HalfOpen => "half_open",
        }
    }
}

impl From<crate::policy::breaker::State> for Phase {
    fn from(state: crate::policy::breaker::State) -> Phase {
        use crate::policy::breaker::State;
        match state {
            State::Closed => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::HalfOpen { .. } => Phase::HalfOpen,
        }
    }
}

/// What a breaker was before it tripped for this reason by itself.
const fn before(trip: Trip) -> Phase {
    match trip {
        Trip::ProbeFailed | Trip::ProbeLost => Phase::HalfOpen,
        _ => Phase::Closed,
    }
}

/// Changes of state, by from and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Moves([[u64; 3]; 3]);

impl Moves {
    fn count(&mut self, from: Phase, to: Phase) {
        self.0[from as usize][to as usize] += 1;
    }

    /// Those that happened, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Phase, u64)> + '_ {
        const ALL: [Phase; 3] = [Phase::Closed, Phase::Open, Phase::HalfOpen];
        ALL.into_iter()
            .flat_map(move |from| ALL.map(move |to| (from, to, self.0[from as usize][to as usize])))
            .filter(|(_, _, count)| *count > 0)
    }
}
