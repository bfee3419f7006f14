//! Outlier ejection: an endpoint that does worse than its peers is left out for a while.
//!
//! A breaker looks at one endpoint and has to know what is bad; this looks at all endpoints of a
//! service together and only has to know what is *different*. One instance that answers every
//! third request with an error, for days, trips no breaker, and is found here within an interval;
//! when the whole service is bad nobody stands out and nobody is ejected, which is right.
//!
//! The rules are Envoy's and, where the two differ, as said here, those of gRPC (A50):
//! - Two buckets per endpoint, swapped by a sweep each `interval`; the one that was being filled is
//!   judged whole. Order of a sweep (A50): swap, success rate, failure percentage, then returns
//!   and the multipliers. Envoy returns hosts first.
//! - Success rate: with at least 5 endpoints of at least 100 requests, below mean − 1.9 population
//!   deviations. Failure percentage: at least 85 %, with at least 5 endpoints of at least 50
//!   requests (A50's text says "greater" and counts all endpoints; this is Envoy's code). Only
//!   endpoints that are not ejected count (Envoy).
//! - At most `max_ejected_percent` are out. The share is compared *before* an ejection, as in
//!   earlier Envoy and in A50 (whose text stops above the share, while we stop at it): 30 % of 5
//!   endpoints allow 2, 10 % of 3 allow 1. Envoy's present code counts the one to be ejected too,
//!   and so by default ejects nobody from a group smaller than ten.
//! - An ejection lasts `base × multiplier`, at most `max_ejection`. The multiplier rises by one per
//!   ejection and falls by one per sweep without; it stops rising where it would change nothing
//!   (Envoy), so that a long bad time is not paid for longer.
//! - A success of an active check ends an ejection (Envoy): [`Detector::uneject`].
//! - Consecutive failures are off by default, unlike in Envoy: our breaker does that, for each
//!   endpoint alone, and finds out with a probe when it is over.
//!
//! Rates are integers, and the root is taken once, so that two machines eject the same endpoint.
//! Off: `enabled = false`. Watching only: `*_enforcing = 0` reports each endpoint once that would
//! have been ejected, as does a share that is used up.

mod settings;
mod stats;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use settings::Settings;
pub use stats::RateNumbers;

use crate::rng::Pcg32;
use crate::time::{Rounded, Time, nanos};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Bucket {
    good: u32,
    bad: u32,
}

impl Bucket {
    const fn all(self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    fn success_rate(self) -> u64 {
        stats::rate(self.good, self.all())
    }
}

/// What is remembered of one endpoint. 40 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outlier {
    filling: Bucket,
    judged: Bucket,
    /// Failures in a row.
    consecutive: u32,
    multiplier: u32,
    ejected: bool,
    /// Sweeps until it may be said again that it would have been ejected.
    spared: u8,
    until: Time,
}

impl Outlier {
    /// Whether it is to be left out.
    #[must_use]
    pub const fn is_ejected(&self) -> bool {
        self.ejected
    }

    /// When the first sweep may return it; `None` if it is not ejected.
    #[must_use]
    pub const fn ejected_until(&self) -> Option<Time> {
        if self.ejected { Some(self.until) } else { None }
    }

    fn counts_for_rate(&self, settings: &Settings) -> bool {
        !self.ejected && self.judged.all() >= settings.success_rate_min_requests
    }

    fn counts_for_percentage(&self, settings: &Settings) -> bool {
        !self.ejected && self.judged.all() >= settings.failure_percentage_min_requests
    }

    fn fails_too_often(&self, settings: &Settings) -> bool {
        let most = u64::from(self.judged.all()) * u64::from(settings.failure_percentage);
        u64::from(self.judged.bad) * 100 >= most
    }
}

/// Why an endpoint is an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// This many failures in a row.
    Consecutive(u32),
    /// Fewer successes than its peers.
    SuccessRate(RateNumbers),
    /// Too many failures, whatever the others do.
    FailurePercentage {
        /// Failures in the interval.
        failed: u32,
        /// Of so many requests.
        requests: u32,
        /// From this percentage on it is too many.
        threshold: u32,
    },
}

/// Why an outlier was not ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mercy {
    /// As many as may be are ejected already.
    MaxEjected {
        /// So many.
        ejected: u32,
        /// Of so many endpoints.
        endpoints: u32,
        /// Percentage at which there is an end.
        max_percent: u32,
    },
    /// The settings enforce this reason only with a certain chance, which did not come up.
    NotEnforced {
        /// The chance in percent.
        enforcing: u32,
    },
}

/// What ended an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Its time was over.
    Served,
    /// An active check succeeded.
    Checked,
    /// Ejection was switched off.
    SwitchedOff,
}

/// A change, reported exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// An endpoint was taken out.
    Ejected {
        /// Why.
        reason: Reason,
        /// For how long, if no check succeeds before; the next sweep after that returns it.
        interval: Duration,
    },
    /// It is an outlier, and was left in. Said once until a sweep finds it in order.
    Spared {
        /// Why it would have been taken out.
        reason: Reason,
        /// Why it was not.
        mercy: Mercy,
    },
    /// It is back.
    Returned {
        /// Why.
        ended: Ended,
    },
}

/// The endpoints of a service, wherever they are kept. A sweep visits all of them up to four
/// times, and copies none.
pub trait Group {
    /// Calls `visit` with each endpoint and a number that names it, in an order that does not
    /// change within a sweep.
    fn each(&mut self, visit: impl FnMut(usize, &mut Outlier));
}

impl Group for [Outlier] {
    fn each(&mut self, mut visit: impl FnMut(usize, &mut Outlier)) {
        self.iter_mut().enumerate().for_each(|(index, endpoint)| visit(index, endpoint));
    }
}

/// Ejection for one service. The endpoints keep their own [`Outlier`]; this keeps the clock.
///
/// ```
/// use origin_core::policy::outlier::{Change, Detector, Outlier, Settings};
/// use origin_core::rng::Pcg32;
/// use origin_core::Time;
///
/// let (settings, mut rng) = (Settings::default(), Pcg32::new(42, 0));
/// let mut detector = Detector::new(Time::ZERO, &settings);
/// let mut endpoints = [Outlier::default(); 5];
/// for n in 0..200 {
///     for (index, endpoint) in endpoints.iter_mut().enumerate() {
///         let failed = index == 3 && n % 2 == 0; // 50 % among peers with 100 %
///         let _ = detector.record(Time::ZERO, endpoint, failed, 5, &settings, &mut rng);
///     }
/// }
/// let mut changes = Vec::new();
/// let now = detector.due();
/// detector.sweep(now, &mut endpoints[..], &settings, &mut rng, |i, change| changes.push((i, change)));
/// assert!(matches!(changes[..], [(3, Change::Ejected { .. })]));
/// assert!(endpoints[3].is_ejected());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Detector {
    /// When the present interval began.
    swept: Time,
    due: Time,
    ejected: u32,
}

impl Detector {
    /// Nobody is ejected; the first interval begins now.
    #[must_use]
    pub fn new(now: Time, settings: &Settings) -> Detector {
        Detector { swept: now, due: now.plus(settings.interval), ejected: 0 }
    }

    /// Other settings: the interval that runs keeps its beginning, counters and ejections stay as
    /// they are. Switched off, the next sweep is due at once and returns everybody.
    pub fn retune(&mut self, now: Time, settings: &Settings) {
        let off = !settings.enabled && self.ejected > 0;
        self.due = if off { now } else { self.swept.plus(settings.interval) };
    }

    /// When to sweep next. Compare it before gathering the endpoints.
    #[must_use]
    pub const fn due(&self) -> Time {
        self.due
    }

    /// How many endpoints are ejected.
    #[must_use]
    pub const fn ejected(&self) -> u32 {
        self.ejected
    }

    /// The result of an attempt at `endpoint`, which is one of `endpoints`. Only a run of
    /// consecutive failures ejects at once, and only if the settings ask for it.
    pub fn record(
        &mut self,
        now: Time,
        endpoint: &mut Outlier,
        failed: bool,
        endpoints: u32,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Change> {
        if !settings.enabled {
            return None;
        }
        if !failed {
            endpoint.filling.good = endpoint.filling.good.saturating_add(1);
            endpoint.consecutive = 0;
            return None;
        }
        endpoint.filling.bad = endpoint.filling.bad.saturating_add(1);
        endpoint.consecutive = endpoint.consecutive.saturating_add(1);
        let most = settings.consecutive_failures;
        if most == 0 || endpoint.consecutive < most || endpoint.ejected {
            return None;
        }
        // The next run counts from the start, whatever comes of this one (Envoy).
        let reason = Reason::Consecutive(std::mem::take(&mut endpoint.consecutive));
        let enforcing = settings.consecutive_enforcing;
        self.eject(now, endpoint, reason, enforcing, endpoints, settings, rng)
    }

    /// Judges the interval that is over and returns those who have served their time. Does
    /// nothing before [`Detector::due`].
    pub fn sweep<G: Group + ?Sized>(
        &mut self,
        now: Time,
        group: &mut G,
        settings: &Settings,
        rng: &mut Pcg32,
        mut report: impl FnMut(usize, Change),
    ) {
        if now < self.due {
            return;
        }
        (self.swept, self.due) = (now, now.plus(settings.interval));
        if !settings.enabled {
            if self.ejected > 0 {
                group.each(|index, endpoint| {
                    if let Some(change) = self.release(endpoint, Ended::SwitchedOff) {
                        report(index, change);
                    }
                });
                self.ejected = 0;
            }
            return;
        }
        let (mut endpoints, mut ejected) = (0_u32, 0_u32);
        let (mut by_rate, mut by_percentage) = (stats::Sums::default(), 0_u32);
        group.each(|_, endpoint| {
            endpoint.judged = std::mem::take(&mut endpoint.filling);
            endpoints = endpoints.saturating_add(1);
            ejected = ejected.saturating_add(u32::from(endpoint.ejected));
            if endpoint.counts_for_rate(settings) {
                by_rate.add(endpoint.judged.success_rate());
            }
            by_percentage += u32::from(endpoint.counts_for_percentage(settings));
        });
        // Endpoints come and go without a word to this: it is counted anew.
        self.ejected = ejected;
        if by_rate.hosts >= settings.success_rate_min_hosts {
            let line = by_rate.line(settings.success_rate_factor_permille);
            let enforcing = settings.success_rate_enforcing;
            group.each(|index, endpoint| {
                let rate = endpoint.judged.success_rate();
                if endpoint.counts_for_rate(settings) && line.is_below(rate) {
                    let reason = Reason::SuccessRate(line.numbers(rate));
                    let change =
                        self.eject(now, endpoint, reason, enforcing, endpoints, settings, rng);
                    change.into_iter().for_each(|change| report(index, change));
                }
            });
        }
        if by_percentage >= settings.failure_percentage_min_hosts {
            let (threshold, enforcing) =
                (settings.failure_percentage, settings.failure_percentage_enforcing);
            group.each(|index, endpoint| {
                if endpoint.counts_for_percentage(settings) && endpoint.fails_too_often(settings) {
                    let (failed, requests) = (endpoint.judged.bad, endpoint.judged.all());
                    let reason = Reason::FailurePercentage { failed, requests, threshold };
                    let change =
                        self.eject(now, endpoint, reason, enforcing, endpoints, settings, rng);
                    change.into_iter().for_each(|change| report(index, change));
                }
            });
        }
        group.each(|index, endpoint| {
            endpoint.spared = endpoint.spared.saturating_sub(1);
            if !endpoint.ejected {
                endpoint.multiplier = endpoint.multiplier.saturating_sub(1);
            } else if now >= endpoint.until
                && let Some(change) = self.release(endpoint, Ended::Served)
            {
                report(index, change);
            }
        });
    }

    /// An active check of `endpoint` succeeded.
    pub fn uneject(&mut self, endpoint: &mut Outlier) -> Option<Change> {
        self.release(endpoint, Ended::Checked)
    }

    /// `endpoint` is no longer one of the service. A sweep would find out by itself.
    pub fn removed(&mut self, endpoint: &Outlier) {
        self.ejected = self.ejected.saturating_sub(u32::from(endpoint.ejected));
    }

    fn release(&mut self, endpoint: &mut Outlier, ended: Ended) -> Option<Change> {
        if !endpoint.ejected {
            return None;
        }
        endpoint.ejected = false;
        // Failures from before the ejection must not count towards the next (Envoy).
        endpoint.consecutive = 0;
        self.ejected = self.ejected.saturating_sub(1);
        Some(Change::Returned { ended })
    }

    #[allow(clippy::too_many_arguments)] // private; the parts of one sentence
    fn eject(
        &mut self,
        now: Time,
        endpoint: &mut Outlier,
        reason: Reason,
        enforcing: u32,
        endpoints: u32,
        settings: &Settings,
        rng: &mut Pcg32,
    ) -> Option<Change> {
        let max_percent = settings.max_ejected_percent;
        let (out, most) = (u64::from(self.ejected) * 100, u64::from(max_percent));
        let mercy = if out >= most * u64::from(endpoints.max(1)) {
            Some(Mercy::MaxEjected { ejected: self.ejected, endpoints, max_percent })
        } else if enforcing < 100 && rng.below(100) >= enforcing {
            Some(Mercy::NotEnforced { enforcing })
        } else {
            None
        };
        if let Some(mercy) = mercy {
            // This sweep and the next, which finds it again or lets it off.
            let told = std::mem::replace(&mut endpoint.spared, 2);
            return (told == 0).then_some(Change::Spared { reason, mercy });
        }
        let (base, max) = (nanos(settings.base_ejection), nanos(settings.max_ejection));
        let times = u64::from(endpoint.multiplier);
        if base.saturating_mul(times) < max.saturating_add(base) {
            endpoint.multiplier = endpoint.multiplier.saturating_add(1);
        }
        let span = base.saturating_mul(u64::from(endpoint.multiplier).max(1)).min(max);
        let jitter = nanos(settings.jitter);
        let extra = if jitter == 0 { 0 } else { rng.up_to(jitter) };
        let interval = Duration::from_nanos(span.saturating_add(extra));
        (endpoint.ejected, endpoint.spared) = (true, 0);
        endpoint.until = now.plus(interval);
        self.ejected = self.ejected.saturating_add(1);
        Some(Change::Ejected { reason, interval })
    }
}

/// Millionths as a percentage with one decimal.
struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10_000, self.0 / 1_000 % 10)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::Consecutive(failures) => write!(f, "{failures} failures in a row"),
            Reason::SuccessRate(numbers) => write!(
                f,
                "success rate {} below {} (mean {}, deviation {})",
                Percent(numbers.rate_ppm),
                Percent(numbers.threshold_ppm),
                Percent(numbers.mean_ppm),
                Percent(numbers.deviation_ppm)
            ),
            Reason::FailurePercentage { failed, requests, threshold } => {
                write!(f, "{failed} of {requests} requests failed, at least {threshold} %")
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Change::Ejected { reason, interval } => {
                write!(f, "ejected for {}: {reason}", Rounded(interval))
            }
            Change::Spared { reason, mercy: Mercy::NotEnforced { enforcing } } => {
                write!(f, "not ejected, enforced at {enforcing} %: {reason}")
            }
            Change::Spared {
                reason,
                mercy: Mercy::MaxEjected { ejected, endpoints, max_percent },
            } => write!(
                f,
                "not ejected, {ejected} of {endpoints} are and {max_percent} % is the most: {reason}"
            ),
            Change::Returned { ended: Ended::Served } => f.write_str("returned after its time"),
            Change::Returned { ended: Ended::Checked } => {
                f.write_str("returned, an active check succeeded")
            }
            Change::Returned { ended: Ended::SwitchedOff } => {
                f.write_str("returned, ejection was switched off")
            }
        }
    }
}

#[cfg(test)]
mod tests;
