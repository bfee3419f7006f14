//! What a client made of an outage, as numbers: the summary with its exact
//! definitions, and the breakdown by phase, cluster and error. Drawing them
//! lives in `table` and `svg`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::millis;
use crate::record::{Recorder, Sample, State};
use crate::timeline::Timeline;

/// How long successful calls must be local for a failback to count.
const FAILBACK_SPAN: Duration = Duration::from_millis(250);
/// The share of them that must be: nine in ten.
const FAILBACK_SHARE: (u64, u64) = (9, 10);

/// The headline figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Calls made in the whole run.
    pub calls: u64,
    /// Calls that succeeded.
    pub ok: u64,
    /// Calls that did not.
    pub failed: u64,
    /// `ok / calls`; zero when there were no calls.
    pub success_rate: f64,
    /// Requests sent for all calls.
    pub attempts: u64,
    /// `attempts / calls`; zero when there were no calls.
    pub amplification: f64,
    /// From the moment the whole local cluster refused to the end of the
    /// first successful answer by another cluster to a call whose intended
    /// start lies at or after that moment. Null if there was none.
    pub failover_ms: Option<f64>,
    /// From recovery to the first moment from which the successful calls
    /// started within the following 250 ms are at least 90 % local (and there
    /// is one). Null if there was no such moment inside the run.
    pub failback_ms: Option<f64>,
    /// Median latency of the calls, failed ones included, whose intended
    /// start lies between the first disturbance and the calm after recovery.
    pub p50_ms: f64,
    /// 99th percentile of the same calls.
    pub p99_ms: f64,
    /// The longest of the same calls.
    pub max_ms: f64,
}

/// The figures of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRow {
    /// The phase's name.
    pub name: String,
    /// Its beginning; a call belongs to the phase its intended start lies in.
    pub from_ms: f64,
    /// Its end.
    pub to_ms: f64,
    /// Calls started in it.
    pub calls: u64,
    /// Those that succeeded.
    pub ok: u64,
    /// Those that did not.
    pub failed: u64,
    /// `ok / calls`; zero when there were no calls.
    pub success_rate: f64,
    /// Requests sent for them.
    pub attempts: u64,
    /// Median latency, failed calls included.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Successful calls by the cluster that answered.
    pub clusters: BTreeMap<String, u64>,
}

/// The figures of one cluster over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterRow {
    /// The cluster's name.
    pub name: String,
    /// Calls it answered in the end, with success or not.
    pub calls: u64,
    /// Those that succeeded.
    pub ok: u64,
    /// Its share of all successful calls.
    pub share: f64,
    /// Median latency of the calls it answered.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Where the headline figures come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Breakdown {
    /// By phase, in order.
    pub phases: Vec<PhaseRow>,
    /// By cluster, in order of name.
    pub clusters: Vec<ClusterRow>,
    /// Failed calls by what went wrong.
    pub errors: BTreeMap<String, u64>,
}

/// Everything known about a run, for drawing and for files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The headline figures.
    pub summary: Summary,
    /// Where they come from.
    pub breakdown: Breakdown,
    /// What was broken when.
    pub timeline: Timeline,
    #[serde(skip)]
    pub(crate) samples: Vec<Sample>,
    #[serde(skip)]
    pub(crate) states: Vec<State>,
}

impl Report {
    /// Adds up what a recorder took during a run.
    #[must_use]
    pub fn new(recorder: &Recorder, timeline: &Timeline) -> Report {
        Report::from_parts(recorder.samples(), recorder.states(), timeline.clone())
    }

    /// Adds up samples from elsewhere. Their order does not matter.
    #[must_use]
    pub fn from_parts(
        mut samples: Vec<Sample>,
        mut states: Vec<State>,
        timeline: Timeline,
    ) -> Report {
        samples.sort_by_key(|sample| (sample.at, sample.latency));
        states.sort_by_key(|state| state.at);
        Report {
            summary: summarise(&samples, &timeline),
            breakdown: break_down(&samples, &timeline),
            timeline,
            samples,
            states,
        }
    }

    /// The samples in order of their intended start.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The breaker changes in order.
    #[must_use]
    pub fn states(&self) -> &[State] {
        &self.states
    }
}

/// The nearest-rank percentile of ascending values: the smallest value that
/// at least `percent` per cent of them do not exceed. Zero of nothing.
#[must_use]
pub fn percentile(ascending: &[Duration], percent: f64) -> Duration {
    let rank = (percent.clamp(0.0, 100.0) / 100.0 * ascending.len() as f64).ceil();
    let index = (rank as usize).saturating_sub(1);
    let last = ascending.len().saturating_sub(1);
    ascending.get(index.min(last)).copied().unwrap_or(Duration::ZERO)
}

/// Counts and latencies of some calls.
struct Tally {
    calls: u64,
    ok: u64,
    attempts: u64,
    latencies: Vec<Duration>,
}

impl Tally {
    fn of<'s>(samples: impl Iterator<Item = &'s Sample>) -> Tally {
        let mut tally = Tally { calls: 0, ok: 0, attempts: 0, latencies: Vec::new() };
        for sample in samples {
            tally.calls += 1;
            tally.ok += u64::from(sample.ok);
            tally.attempts += u64::from(sample.attempts);
            tally.latencies.push(sample.latency);
        }
        tally.latencies.sort_unstable();
        tally
    }

    fn percentile_ms(&self, percent: f64) -> f64 {
        millis(percentile(&self.latencies, percent))
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

fn summarise(samples: &[Sample], timeline: &Timeline) -> Summary {
    let all = Tally::of(samples.iter());
    let (from, until) = timeline.window();
    let storm = Tally::of(between(samples, from, until));
    Summary {
        calls: all.calls,
        ok: all.ok,
        failed: all.calls - all.ok,
        success_rate: ratio(all.ok, all.calls),
        attempts: all.attempts,
        amplification: ratio(all.attempts, all.calls),
        failover_ms: failover(samples, timeline).map(millis),
        failback_ms: failback(samples, timeline).map(millis),
        p50_ms: storm.percentile_ms(50.0),
        p99_ms: storm.percentile_ms(99.0),
        max_ms: storm.percentile_ms(100.0),
    }
}

fn between(
    samples: &[Sample],
    from: Duration,
    until: Duration,
) -> impl Iterator<Item = &Sample> + Clone {
    samples.iter().filter(move |sample| (from..until).contains(&sample.at))
}

fn failover(samples: &[Sample], timeline: &Timeline) -> Option<Duration> {
    let refused = Duration::from_millis(timeline.refused_ms?);
    samples
        .iter()
        .filter(|sample| sample.ok && sample.at >= refused)
        .filter(|sample| {
            let cluster = sample.cluster.as_deref();
            cluster.is_some_and(|cluster| cluster != timeline.local)
        })
        .map(|sample| sample.end().saturating_sub(refused))
        .min()
}

fn failback(samples: &[Sample], timeline: &Timeline) -> Option<Duration> {
    let recovered = Duration::from_millis(timeline.recovered_ms?);
    let successes: Vec<(Duration, bool)> = samples
        .iter()
        .filter(|sample| sample.ok)
        .map(|sample| {
            let local = sample.cluster.as_deref() == Some(timeline.local.as_str());
            (sample.at, local)
        })
        .collect();
    // local_before[i]: local ones among the first i, for any window at once.
    let mut local_before = vec![0_u64];
    for (_, local) in &successes {
        let last = local_before.last().copied().unwrap_or(0);
        local_before.push(last + u64::from(*local));
    }
    // The share only changes when a call enters the window at its far end or
    // leaves it at its near end, so these moments are all there is to try.
    const INSTANT: Duration = Duration::from_nanos(1);
    let mut moments = vec![recovered];
    for (at, _) in &successes {
        moments.push(at.saturating_add(INSTANT));
        moments.push(at.saturating_add(INSTANT).saturating_sub(FAILBACK_SPAN));
    }
    moments.retain(|moment| {
        *moment >= recovered && moment.saturating_add(FAILBACK_SPAN) <= timeline.end
    });
    moments.sort_unstable();
    let count_before = |moment: Duration| successes.partition_point(|(at, _)| *at < moment);
    moments.into_iter().find_map(|moment| {
        let first = count_before(moment);
        let last = count_before(moment.saturating_add(FAILBACK_SPAN));
        let total = (last - first) as u64;
        let local = local_before.get(last)? - local_before.get(first)?;
        let enough = total > 0 && local * FAILBACK_SHARE.1 >= total * FAILBACK_SHARE.0;
        enough.then(|| moment - recovered)
    })
}

fn break_down(samples: &[Sample], timeline: &Timeline) -> Breakdown {
    let phases =
        timeline.spans().map(|(name, from, to)| phase_row(name, from, to, samples)).collect();
    let succeeded = samples.iter().filter(|sample| sample.ok).count() as u64;
    let mut by_cluster: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    let mut errors = BTreeMap::new();
    for sample in samples {
        if let Some(cluster) = &sample.cluster {
            by_cluster.entry(cluster).or_default().push(sample);
        }
        if !sample.ok {
            let error = sample.error.as_deref().unwrap_or("unnamed");
            *errors.entry(error.to_owned()).or_default() += 1;
        }
    }
    let clusters = by_cluster
        .into_iter()
        .map(|(name, samples)| {
            let tally = Tally::of(samples.into_iter());
            ClusterRow {
                name: name.to_owned(),
                calls: tally.calls,
                ok: tally.ok,
                share: ratio(tally.ok, succeeded),
                p50_ms: tally.percentile_ms(50.0),
                p99_ms: tally.percentile_ms(99.0),
                max_ms: tally.percentile_ms(100.0),
            }
        })
        .collect();
    Breakdown { phases, clusters, errors }
}

fn phase_row(name: &str, from: Duration, to: Duration, samples: &[Sample]) -> PhaseRow {
    let inside = between(samples, from, to);
    let tally = Tally::of(inside.clone());
    let mut clusters = BTreeMap::new();
    for cluster in inside.filter(|sample| sample.ok).filter_map(|sample| sample.cluster.as_ref()) {
        *clusters.entry(cluster.clone()).or_default() += 1;
    }
    PhaseRow {
        name: name.to_owned(),
        from_ms: millis(from),
        to_ms: millis(to),
        calls: tally.calls,
        ok: tally.ok,
        failed: tally.calls - tally.ok,
        success_rate: ratio(tally.ok, tally.calls),
        attempts: tally.attempts,
        p50_ms: tally.percentile_ms(50.0),
        p99_ms: tally.percentile_ms(99.0),
        max_ms: tally.percentile_ms(100.0),
        clusters,
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
