//! Stall suspicion: an endpoint that accepts and never answers would otherwise cost one attempt
//! timeout per request until its breaker has counted enough of them. Watching how long an
//! endpoint *with work* has been silent finds it after a few of its usual latencies.
//!
//! It accrues, as in the φ detector (Hayashibara 2004): the line is twice the smoothed
//! `mean + 4 × deviation` of RFC 6298, so it is as far out as the endpoint's own unevenness, and
//! with few attempts out more silence is needed than with several. There is none before the first
//! answer: a slow service is not suspected for being slow. Suspicion alone only means *least
//! preferred*, and any answer ends it.
//!
//! Silence that cost something (an attempt that timed out or was given up) makes an endpoint
//! *troubled*: it is asked again by one attempt at a time, after `probe_interval`, later after an
//! eighth of the time the trouble has lasted, and such a probe is kept on a short leash while
//! others could answer. Endpoints of a cluster that are troubled together share the pace
//! ([`Pace`]), so a cluster that hangs is asked as often as a single endpoint.
//!
//! Off: `stall.enabled = false`; then only timeouts and errors count.
//!
//! ```
//! use std::time::Duration;
//! use origin_core::Time;
//! use origin_core::config::StallConfig;
//! use origin_core::policy::stall::{Settings, Watch};
//!
//! let settings = Settings::of(&StallConfig::default(), "stall")?;
//! let mut watch = Watch::new(Time::ZERO);
//! watch.sent(Time::ZERO);
//! watch.answered(Time::from_millis(3), Duration::from_millis(3));
//! watch.sent(Time::from_millis(10));
//! watch.sent(Time::from_millis(11));
//! assert!(!watch.is_silent(Time::from_millis(20), &settings));
//! assert!(watch.is_silent(Time::from_millis(40), &settings));
//! # Ok::<(), origin_core::ConfigError>(())
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, StallConfig, field};
use crate::time::{Time, nanos};

/// A checked [`StallConfig`]: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the configuration, documented there
pub struct Settings {
    pub enabled: bool,
    pub floor_nanos: u64,
    pub min_outstanding: u32,
    pub probe_interval: Duration,
    pub rescue: bool,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that is zero or out of range.
    pub fn of(config: &StallConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = field::At(path);
        Ok(Settings {
            enabled: config.enabled,
            floor_nanos: at.nanos("floor", config.floor)?,
            min_outstanding: at.count("min_outstanding", config.min_outstanding, 1, 1_000_000)?,
            probe_interval: at.span("probe_interval", config.probe_interval)?,
            rescue: config.rescue && config.enabled,
        })
    }
}

/// With fewer than `min_outstanding` attempts out, the line is this many times as far.
const FEW: u64 = 4;

/// Outstanding attempts and silence of one endpoint. 48 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watch {
    /// Attempts out.
    out: u32,
    answered: bool,
    /// Silence has cost an attempt since the last answer.
    troubled: bool,
    /// Last sign of life, or when work began after a pause.
    quiet_since: Time,
    mean_nanos: u64,
    deviation_nanos: u64,
    /// When the trouble began.
    since: Time,
    /// No attempt goes to a troubled endpoint before this, while others can answer.
    probe_at: Time,
}

impl Watch {
    /// An endpoint nobody has called.
    #[must_use]
    pub const fn new(now: Time) -> Watch {
        Watch {
            out: 0,
            answered: false,
            troubled: false,
            quiet_since: now,
            mean_nanos: 0,
            deviation_nanos: 0,
            since: Time::ZERO,
            probe_at: Time::ZERO,
        }
    }

    /// Attempts out.
    #[must_use]
    pub const fn outstanding(&self) -> u32 {
        self.out
    }

    /// Smoothed latency of answers; `None` before the first.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.answered.then(|| Duration::from_nanos(self.mean_nanos))
    }

    /// Whether silence has cost an attempt since the last answer.
    #[must_use]
    pub const fn troubled(&self) -> bool {
        self.troubled
    }

    /// An attempt goes out.
    pub fn sent(&mut self, now: Time) {
        if self.out == 0 {
            self.quiet_since = now;
        }
        self.out = self.out.saturating_add(1);
    }

    /// An attempt was answered, by whatever status, after `took`. Returns whether that ended a
    /// trouble.
    pub fn answered(&mut self, now: Time, took: Duration) -> bool {
        self.out = self.out.saturating_sub(1);
        self.quiet_since = self.quiet_since.max(now);
        let took = nanos(took).min(1 << 60);
        if self.answered {
            let gap = self.mean_nanos.abs_diff(took);
            self.deviation_nanos = self.deviation_nanos - self.deviation_nanos / 4 + gap / 4;
            self.mean_nanos = self.mean_nanos - self.mean_nanos / 8 + took / 8;
        } else {
            self.answered = true;
            self.mean_nanos = took;
            self.deviation_nanos = took / 2;
        }
        std::mem::take(&mut self.troubled)
    }

    /// An attempt failed otherwise than by silence: a sign of life of the host, if not of the
    /// service.
    pub fn failed(&mut self, now: Time) {
        self.out = self.out.saturating_sub(1);
        self.quiet_since = self.quiet_since.max(now);
    }

    /// An attempt ended for lack of an answer: its time was up, or the call gave it up. Returns
    /// whether that began a trouble.
    pub fn silent(&mut self, now: Time, settings: &Settings) -> bool {
        self.out = self.out.saturating_sub(1);
        let began = !self.troubled && settings.enabled;
        if began {
            self.troubled = true;
            self.since = now;
        }
        self.probe_at = now.plus(self.pause(now, settings));
        began
    }

    /// An attempt was abandoned: neither sign of life nor of death.
    pub fn abandoned(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// How long a troubled endpoint is left alone.
    fn pause(&self, now: Time, settings: &Settings) -> Duration {
        settings.probe_interval.max(now.since(self.since) / 8)
    }

    /// Whether this endpoint should be used last. `pace` is that of its cluster.
    #[must_use]
    pub fn suspect(&self, now: Time, pace: Pace, settings: &Settings) -> bool {
        if self.troubled && settings.enabled {
            return self.out > 0 || now < self.probe_at || now < pace.probe_at;
        }
        self.out > 0 && self.is_silent(now, settings)
    }

    /// Whether it has been silent with work for longer than is usual.
    #[must_use]
    pub fn is_silent(&self, now: Time, settings: &Settings) -> bool {
        now >= self.alarm(settings)
    }

    /// When its silence becomes suspicious, if it is not broken before; [`Time::NEVER`] when
    /// nothing is out or nothing is known.
    #[must_use]
    pub fn alarm(&self, settings: &Settings) -> Time {
        if self.out == 0 || !self.answered || !settings.enabled {
            return Time::NEVER;
        }
        let line = self.line(settings);
        let line =
            if self.out < settings.min_outstanding { line.saturating_mul(FEW) } else { line };
        self.quiet_since.plus(Duration::from_nanos(line))
    }

    /// How long a probe of a troubled endpoint may take while others could answer: twice the line
    /// at first, and more the longer the trouble lasts, in case it has become that slow.
    #[must_use]
    pub fn leash(&self, now: Time, settings: &Settings) -> Option<Duration> {
        let patience = nanos(now.since(self.since)) / 64;
        let leash = self.line(settings).saturating_mul(2).max(patience);
        (self.troubled && settings.enabled).then(|| Duration::from_nanos(leash))
    }

    fn line(&self, settings: &Settings) -> u64 {
        let usual = self.mean_nanos.saturating_add(self.deviation_nanos.saturating_mul(4));
        usual.saturating_mul(2).max(settings.floor_nanos)
    }
}

/// The pace at which the troubled endpoints of one cluster are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pace {
    probe_at: Time,
}

impl Pace {
    /// A troubled endpoint of the cluster is asked: the next one waits.
    pub fn probe(&mut self, now: Time, watch: &Watch, settings: &Settings) {
        self.probe_at = now.plus(watch.pause(now, settings));
    }

    /// One of them answered: the others need not wait for one another.
    pub fn answered(&mut self) {
        self.probe_at = Time::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn settings() -> Settings {
        Settings::of(&StallConfig::default(), "p").unwrap()
    }

    fn used() -> Watch {
        let mut watch = Watch::new(ms(0));
        for n in 0..20 {
            watch.sent(ms(n * 10));
            let _ = watch.answered(ms(n * 10 + 3), Duration::from_millis(3));
        }
        watch
    }

    fn suspect(watch: &Watch, at: u64) -> bool {
        watch.suspect(ms(at), Pace::default(), &settings())
    }

    #[test]
    fn silence_with_work_is_suspect_and_one_answer_clears_it() {
        let mut watch = used();
        (0..3).for_each(|_| watch.sent(ms(1_000)));
        assert!(!suspect(&watch, 1_019));
        assert!(suspect(&watch, 1_020));
        let _ = watch.answered(ms(1_030), Duration::from_millis(30));
        assert!(!suspect(&watch, 1_031));
    }

    #[test]
    fn a_single_attempt_needs_more_silence() {
        let mut watch = used();
        watch.sent(ms(1_000));
        assert!(!suspect(&watch, 1_079));
        assert!(suspect(&watch, 1_080));
    }

    #[test]
    fn an_idle_or_never_answering_endpoint_is_not_suspect() {
        let mut watch = Watch::new(ms(0));
        assert!(!suspect(&watch, 1_000_000));
        (0..9).for_each(|_| watch.sent(ms(0)));
        assert!(!suspect(&watch, 1_000_000), "no usual latency is known yet");
    }

    #[test]
    fn trouble_is_asked_one_at_a_time_at_a_pace() {
        let settings = settings();
        let mut watch = used();
        watch.sent(ms(1_000));
        assert!(watch.silent(ms(1_250), &settings));
        let pause = settings.probe_interval.as_millis() as u64;
        assert!(suspect(&watch, 1_250 + pause - 1));
        assert!(!suspect(&watch, 1_250 + pause), "its time has come");
        watch.sent(ms(1_250 + pause));
        assert!(suspect(&watch, 1_250 + pause), "one is out");
        assert_eq!(watch.leash(ms(2_000), &settings), Some(Duration::from_millis(40)));
        assert!(watch.answered(ms(2_000), Duration::from_millis(3)));
        assert!(!suspect(&watch, 2_000));
        assert_eq!(watch.leash(ms(2_000), &settings), None);
    }

    #[test]
    fn a_cluster_is_asked_as_often_as_one_endpoint() {
        let settings = settings();
        let (mut a, mut b) = (used(), used());
        for watch in [&mut a, &mut b] {
            watch.sent(ms(1_000));
            assert!(watch.silent(ms(1_000), &settings));
        }
        let at = ms(1_000).plus(settings.probe_interval);
        let mut pace = Pace::default();
        assert!(!a.suspect(at, pace, &settings) && !b.suspect(at, pace, &settings));
        pace.probe(at, &a, &settings);
        assert!(b.suspect(at, pace, &settings));
        pace.answered();
        assert!(!b.suspect(at, pace, &settings));
    }

    #[test]
    fn uneven_latency_is_not_a_stall() {
        // 5 ms, every tenth 400 ms, two at a time: the deviation widens the line.
        let mut watch = Watch::new(ms(0));
        let mut now = 0;
        for n in 0..200_u64 {
            let took = if n % 10 == 9 { 400 } else { 5 };
            watch.sent(ms(now));
            watch.sent(ms(now));
            if n > 50 {
                assert!(!suspect(&watch, now + 45), "{n}");
            }
            now += took;
            let _ = watch.answered(ms(now), Duration::from_millis(took));
            let _ = watch.answered(ms(now), Duration::from_millis(took));
        }
    }

    proptest! {
        #[test]
        fn counts_are_conserved(script in proptest::collection::vec((0_u8..5, 0_u64..1 << 40), 0..200)) {
            let settings = settings();
            let mut watch = Watch::new(Time::ZERO);
            let (mut out, mut now) = (0_u32, Time::ZERO);
            for (action, nanos) in script {
                now = now.plus(Duration::from_nanos(nanos));
                match action {
                    0 | 1 => { watch.sent(now); out += 1; }
                    2 => { let _ = watch.answered(now, Duration::from_nanos(nanos)); out = out.saturating_sub(1); }
                    3 if nanos % 2 == 0 => { let _ = watch.silent(now, &settings); out = out.saturating_sub(1); }
                    3 => { watch.failed(now); out = out.saturating_sub(1); }
                    _ => { watch.abandoned(); out = out.saturating_sub(1); }
                }
                prop_assert_eq!(watch.outstanding(), out);
                prop_assert!(out > 0 || watch.troubled() || !watch.suspect(now, Pace::default(), &settings));
                // Whatever happened, it is asked again within a bounded time.
                if watch.troubled() && out == 0 {
                    let later = now.plus(settings.probe_interval.max(now.since(watch.since) / 8));
                    prop_assert!(!watch.suspect(later, Pace::default(), &settings));
                }
            }
        }
    }
}
