//! Checking and compiling a [`BreakerConfig`]: what is zero, out of range or contradicts itself is
//! refused with the field and the numbers; rates become millionths, windows become shapes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{BreakerConfig, ConfigError, HalfOpenBy, Mode, field};
use crate::time::nanos;

/// Most attempts half-open may count; its counters have 16 bits.
const MOST_PROBES: u32 = 10_000;

/// The shape of a time window: `buckets` parts of `bucket_nanos` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TimeShape {
    pub bucket_nanos: u64,
    pub buckets: u32,
}

/// A checked [`BreakerConfig`]: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the configuration, documented there
pub struct Settings {
    pub mode: Mode,
    /// `None`: off.
    pub failures: Option<u32>,
    pub minimum_throughput: u32,
    /// `None`: off.
    pub failure_ppm: Option<u32>,
    /// `None`: off.
    pub slow_ppm: Option<u32>,
    pub slow_call: Duration,
    /// `None`: off, or no rate needs it.
    pub window: Option<TimeShape>,
    /// `None`: off, or no rate needs it.
    pub window_calls: Option<u32>,
    pub minimum_calls: u32,
    pub open: Duration,
    pub open_max: Duration,
    pub jitter_permille: u32,
    pub decay: Duration,
    pub half_open_permits: u32,
    pub half_open_successes: u32,
    pub half_open_failures: u32,
    pub half_open_by: HalfOpenBy,
    pub half_open_max: Duration,
}

impl Default for Settings {
    #[allow(clippy::expect_used)] // a constant, and a test compiles it
    fn default() -> Self {
        Settings::of(&BreakerConfig::default(), "breaker").expect("the default breaker is right")
    }
}

impl Settings {
    /// Whether it acts, and not only reports.
    #[must_use]
    pub const fn enforces(&self) -> bool {
        matches!(self.mode, Mode::Enforce)
    }

    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &BreakerConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = field::At(path);
        let c = config;
        let million = |name: &str, count: u32| at.within(name, count, 1..=1_000_000);
        let probes = |name: &str, count: u32| at.within(name, count, 1..=MOST_PROBES);
        let failures = c.failures.map(|count| million("failures", count)).transpose()?;
        let failure_ppm = c.failure_rate.map(|rate| share(at, "failure_rate", rate)).transpose()?;
        let slow_ppm = c.slow_rate.map(|rate| share(at, "slow_rate", rate)).transpose()?;
        let rate = match (failure_ppm, slow_ppm) {
            (Some(_), _) => Some("failure_rate"),
            (None, Some(_)) => Some("slow_rate"),
            (None, None) => None,
        };
        let minimum_calls = million("minimum_calls", c.minimum_calls)?;
        let window = c.window.map(|span| shape(at, span, c.window_buckets)).transpose()?;
        let calls = c.window_calls.map(|n| at.within("window_calls", n, 1..=10_000)).transpose()?;
        match rate {
            Some(rate) if window.is_none() && calls.is_none() => {
                return Err(at.refuse(rate, "is taken over no window; set window or window_calls"));
            }
            Some(_) => {
                if let Some(calls) = calls.filter(|calls| *calls < minimum_calls) {
                    let reason = format!(
                        "{minimum_calls} results are never in a window of window_calls = {calls}"
                    );
                    return Err(at.refuse("minimum_calls", reason));
                }
            }
            None if failures.is_none() && c.mode != Mode::Disabled => {
                let reason = "nothing can open it: failures, failure_rate and slow_rate are off; \
                              write mode = \"disabled\" if that is meant";
                return Err(at.refuse("failures", reason));
            }
            None if c.half_open_by == HalfOpenBy::Rates => {
                let reason = "is \"rates\", but failure_rate and slow_rate are off";
                return Err(at.refuse("half_open_by", reason));
            }
            None => (),
        }
        at.ordered(("open", c.open), ("open_max", c.open_max))?;
        Ok(Settings {
            mode: c.mode,
            failures,
            minimum_throughput: million("minimum_throughput", c.minimum_throughput)?,
            failure_ppm,
            slow_ppm,
            slow_call: at.span("slow_call", c.slow_call)?,
            window: window.filter(|_| rate.is_some()),
            window_calls: calls.filter(|_| rate.is_some()),
            minimum_calls,
            open: at.span("open", c.open)?,
            open_max: at.span("open_max", c.open_max)?,
            jitter_permille: at.permille("jitter", c.jitter)?,
            decay: at.span("decay", c.decay)?,
            half_open_permits: probes("half_open_permits", c.half_open_permits)?,
            half_open_successes: probes("half_open_successes", c.half_open_successes)?,
            half_open_failures: probes("half_open_failures", c.half_open_failures)?,
            half_open_by: c.half_open_by,
            half_open_max: at.span("half_open_max", c.half_open_max)?,
        })
    }

    /// Whether transitions by the breaker's own decision are only reported.
    pub(super) fn shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    /// The longest open interval there can be, jitter included, in nanoseconds.
    pub(super) fn longest_open(&self) -> u64 {
        let most = nanos(self.open_max);
        most.saturating_add((most / 1000).saturating_mul(u64::from(self.jitter_permille)))
    }
}

/// A rate in millionths; one that rounds to zero would be reached by no failure at all.
fn share(at: field::At<'_>, name: &str, rate: f64) -> Result<u32, ConfigError> {
    let ppm = u32::try_from(at.ppm(name, rate, 1.0)?).unwrap_or(u32::MAX);
    if ppm == 0 {
        let reason = format!("{rate} is reached without a single result; write \"off\" instead");
        return Err(at.refuse(name, reason));
    }
    Ok(ppm)
}

fn shape(at: field::At<'_>, span: Duration, buckets: u32) -> Result<TimeShape, ConfigError> {
    let span = at.nanos("window", span)?;
    let buckets = at.within("window_buckets", buckets, 1..=100)?;
    if span < u64::from(buckets) {
        let reason = format!("{span} ns cannot be cut into {buckets} buckets");
        return Err(at.refuse("window", reason));
    }
    // Rounded up, so that the buckets together are never shorter than what was asked for.
    Ok(TimeShape { bucket_nanos: span.div_ceil(u64::from(buckets)), buckets })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut BreakerConfig)) -> String {
        let mut config = BreakerConfig::default();
        change(&mut config);
        let error = Settings::of(&config, "p").unwrap_err();
        assert!(error.reason.len() > 10, "{error}");
        error.field.strip_prefix("p.").unwrap().to_owned()
    }

    #[test]
    fn the_default_compiles() {
        let settings = Settings::default();
        assert_eq!((settings.failures, settings.failure_ppm), (Some(5), Some(500_000)));
        let second = TimeShape { bucket_nanos: 1_000_000_000, buckets: 10 };
        assert_eq!((settings.window, settings.window_calls), (Some(second), None));
    }

    #[test]
    fn case_001_37_zero_absurd_and_nan_are_refused() {
        let zero = Duration::ZERO;
        let absurd = Duration::from_secs(8 * 86_400);
        for count in [0, u32::MAX] {
            assert_eq!(refused(|c| c.failures = Some(count)), "failures");
            assert_eq!(refused(|c| c.minimum_throughput = count), "minimum_throughput");
            assert_eq!(refused(|c| c.minimum_calls = count), "minimum_calls");
            assert_eq!(refused(|c| c.window_calls = Some(count)), "window_calls");
            assert_eq!(refused(|c| c.window_buckets = count), "window_buckets");
            assert_eq!(refused(|c| c.half_open_permits = count), "half_open_permits");
            assert_eq!(refused(|c| c.half_open_successes = count), "half_open_successes");
            assert_eq!(refused(|c| c.half_open_failures = count), "half_open_failures");
        }
        for span in [zero, absurd, Duration::MAX] {
            assert_eq!(refused(|c| c.window = Some(span)), "window");
            assert_eq!(refused(|c| c.slow_call = span), "slow_call");
            assert_eq!(refused(|c| c.decay = span), "decay");
            assert_eq!(refused(|c| c.half_open_max = span), "half_open_max");
            assert_eq!(refused(|c| (c.open, c.open_max) = (span, span)), "open");
        }
        assert_eq!(refused(|c| c.open_max = absurd), "open_max");
        for rate in [0.0, 1e-9, -0.5, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(|c| c.failure_rate = Some(rate)), "failure_rate");
            assert_eq!(refused(|c| c.slow_rate = Some(rate)), "slow_rate");
        }
        for jitter in [-0.1, 1.1, f64::NAN] {
            assert_eq!(refused(|c| c.jitter = jitter), "jitter");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let s = Duration::from_secs;
        assert_eq!(refused(|c| c.open = s(61)), "open");
        assert_eq!(refused(|c| c.window = None), "failure_rate");
        let no_window = |c: &mut BreakerConfig| {
            (c.window, c.failure_rate, c.slow_rate) = (None, None, Some(1.0));
        };
        assert_eq!(refused(no_window), "slow_rate");
        assert_eq!(refused(|c| c.window_calls = Some(19)), "minimum_calls");
        assert_eq!(refused(|c| c.window = Some(Duration::from_nanos(9))), "window");
        assert_eq!(refused(|c| (c.failures, c.failure_rate) = (None, None)), "failures");
        let rates = |c: &mut BreakerConfig| {
            (c.failure_rate, c.half_open_by) = (None, HalfOpenBy::Rates);
        };
        assert_eq!(refused(rates), "half_open_by");
    }

    #[test]
    fn a_window_that_no_rate_needs_costs_nothing() {
        let config = BreakerConfig { failure_rate: None, ..BreakerConfig::default() };
        assert_eq!(Settings::of(&config, "p").unwrap().window, None);
        let off = BreakerConfig { failures: None, mode: Mode::Disabled, ..config };
        assert_eq!(Settings::of(&off, "p").unwrap().mode, Mode::Disabled);
    }
}
