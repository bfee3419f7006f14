//! Stall suspicion: an endpoint that accepts and never answers would otherwise cost one attempt
//! timeout per request until its breaker has counted enough of them. Watching how long an
//! endpoint *with work* has been silent finds it after a few of its usual latencies.
//!
//! It accrues, as in the φ detector (Hayashibara 2004): the line is twice the smoothed
//! `mean + 4 × deviation` of RFC 6298, or twice the slowest answer of late if that is more, so it
//! is as far out as the endpoint's own unevenness; with few attempts out more silence is needed
//! than with several. There is none before the tenth answer: a slow service is not suspected for
//! being slow. Suspicion alone only means *least
//! preferred*, and any answer ends it.
//!
//! Silence that cost something (an attempt that timed out or was given up) makes an endpoint
//! *troubled*: it is asked again by one attempt at a time, after `probe_interval`, later after an
//! eighth of the time the trouble has lasted, and such a probe is kept on a short leash while
//! others could answer.
//!
//! A pause that was over before anybody asked again (a collection, a hiccup of the network) was
//! no stall: each such false alarm doubles the line, up to sixteen times; a calm minute takes one
//! doubling back.
//!
//! A cluster is watched by a [`Watch`] of its own, which sees all of its attempts: a cluster that
//! hangs as a whole is found by its first few attempts, wherever they went, and is asked as
//! often as a single endpoint.
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
//! for _ in 0..10 {
//!     watch.sent(Time::ZERO);
//!     watch.answered(Time::from_millis(3), Duration::from_millis(3));
//! }
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
            min_outstanding: at.within("min_outstanding", config.min_outstanding, 1..=1_000_000)?,
            probe_interval: at.span("probe_interval", config.probe_interval)?,
            rescue: config.rescue && config.enabled,
        })
    }
}

/// With fewer than `min_outstanding` attempts out, the line is this many times as far.
const FEW: u64 = 4;

/// Answers that make an endpoint known.
const KNOWN: u8 = 10;
/// Doublings of the line that false alarms can cause.
const MOST_ALARMS: u8 = 4;
/// This long without trouble takes one doubling back.
const CALM: Duration = Duration::from_secs(60);

/// Outstanding attempts and silence of one endpoint, or of a cluster of them. 72 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Watch {
    /// Attempts out.
    out: u32,
    /// Answers, up to [`KNOWN`].
    answers: u8,
    /// Silence has cost an attempt since the last answer.
    troubled: bool,
    /// Whether an attempt has asked since.
    asked: bool,
    /// Troubles that were over when they were looked into, lately.
    alarms: u8,
    /// Last sign of life, or when work began after a pause.
    quiet_since: Time,
    /// Silence with work before that pause.
    waited_nanos: u64,
    mean_nanos: u64,
    deviation_nanos: u64,
    /// The slowest answer, fading.
    peak_nanos: u64,
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
            answers: 0,
            troubled: false,
            asked: false,
            alarms: 0,
            quiet_since: now,
            waited_nanos: 0,
            mean_nanos: 0,
            deviation_nanos: 0,
            peak_nanos: 0,
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
        (self.answers > 0).then(|| Duration::from_nanos(self.mean_nanos))
    }

    /// Whether silence has cost an attempt since the last answer.
    #[must_use]
    pub const fn troubled(&self) -> bool {
        self.troubled
    }

    /// How long the trouble has lasted; `None` without one.
    #[must_use]
    pub fn troubled_for(&self, now: Time) -> Option<Duration> {
        self.troubled.then(|| now.since(self.since))
    }

    /// How long the trouble lasted that was the last to begin.
    #[must_use]
    pub fn last_trouble(&self, now: Time) -> Duration {
        now.since(self.since)
    }

    /// How long nothing was heard while there was something to answer.
    #[must_use]
    pub fn silence(&self, now: Time) -> Duration {
        match self.out {
            0 if self.waited_nanos > 0 => Duration::from_nanos(self.waited_nanos),
            _ => now.since(self.quiet_since),
        }
    }

    /// An attempt goes out.
    pub fn sent(&mut self, now: Time) {
        if self.out == 0 {
            // Only silence with work counts, but all of it since the last answer.
            self.quiet_since = Time::from_nanos(now.as_nanos().saturating_sub(self.waited_nanos));
            self.waited_nanos = 0;
        }
        self.out = self.out.saturating_add(1);
    }

    /// An attempt was answered, by whatever status, after `took`. Returns whether that ended a
    /// trouble.
    pub fn answered(&mut self, now: Time, took: Duration) -> bool {
        self.out = self.out.saturating_sub(1);
        self.heard(now);
        let took = nanos(took).min(1 << 60);
        // Halves within some 180 answers.
        self.peak_nanos = took.max(self.peak_nanos - self.peak_nanos / 256);
        if self.answers > 0 {
            let gap = self.mean_nanos.abs_diff(took);
            self.deviation_nanos = self.deviation_nanos - self.deviation_nanos / 4 + gap / 4;
            self.mean_nanos = self.mean_nanos - self.mean_nanos / 8 + took / 8;
        } else {
            self.mean_nanos = took;
            self.deviation_nanos = took / 2;
        }
        self.answers = (self.answers + 1).min(KNOWN);
        if self.troubled && !self.asked {
            self.alarms = (self.alarms + 1).min(MOST_ALARMS);
        }
        self.asked = false;
        std::mem::take(&mut self.troubled)
    }

    /// An attempt failed otherwise than by silence: a sign of life of the host, if not of the
    /// service.
    pub fn failed(&mut self, now: Time) {
        self.out = self.out.saturating_sub(1);
        self.heard(now);
    }

    /// An attempt was answered after a time that says nothing of the endpoint, since much was sent
    /// with it. That ends a trouble like any answer.
    pub fn answered_at_last(&mut self, now: Time) {
        self.out = self.out.saturating_sub(1);
        self.heard(now);
        (self.asked, self.troubled) = (false, false);
    }

    /// What an attempt sends is being taken: no answer, but no silence either.
    pub fn moved(&mut self, now: Time) {
        if self.out > 0 {
            self.heard(now);
        }
    }

    fn heard(&mut self, now: Time) {
        self.quiet_since = self.quiet_since.max(now);
        self.waited_nanos = 0;
    }

    /// An attempt of a cluster ended for lack of an answer. That is the cluster's trouble only
    /// if nobody else in it answers either.
    /// Returns whether that began a trouble.
    pub fn silent_among(&mut self, now: Time, settings: &Settings) -> bool {
        if self.troubled || self.is_silent(now, settings) {
            return self.silent(now, settings);
        }
        self.abandoned(now);
        false
    }

    /// An attempt ended for lack of an answer: its time was up, or the call gave it up. Returns
    /// whether that began a trouble.
    pub fn silent(&mut self, now: Time, settings: &Settings) -> bool {
        self.out = self.out.saturating_sub(1);
        let began = !self.troubled && settings.enabled;
        if began {
            let calm = nanos(now.since(self.since)) / nanos(CALM);
            self.alarms = self.alarms.saturating_sub(u8::try_from(calm).unwrap_or(u8::MAX));
            self.troubled = true;
            self.since = now;
        } else if now >= self.probe_at {
            // What ended is the attempt that asked, not one of the first.
            self.asked = true;
        }
        self.probe_at = now.plus(self.pause(now, settings));
        began
    }

    /// An endpoint of the cluster is gone, with so many attempts out.
    pub fn forget(&mut self, out: u32) {
        self.out = self.out.saturating_sub(out);
    }

    /// An attempt was abandoned: neither sign of life nor of death. What was waited in vain is
    /// remembered.
    pub fn abandoned(&mut self, now: Time) {
        if self.out == 1 {
            self.waited_nanos = nanos(now.since(self.quiet_since));
        }
        self.out = self.out.saturating_sub(1);
    }

    /// How long a troubled endpoint is left alone.
    fn pause(&self, now: Time, settings: &Settings) -> Duration {
        settings.probe_interval.max(now.since(self.since) / 8)
    }

    /// Whether this endpoint, or cluster, should be used last.
    #[must_use]
    #[inline]
    pub fn suspect(&self, now: Time, settings: &Settings) -> bool {
        if self.troubled && settings.enabled {
            return self.out > 0 || now < self.probe_at;
        }
        self.out > 0 && self.is_silent(now, settings)
    }

    /// Whether it has been silent with work for longer than is usual.
    #[must_use]
    #[inline]
    pub fn is_silent(&self, now: Time, settings: &Settings) -> bool {
        now >= self.alarm(settings)
    }

    /// When it is worth looking whether it has gone silent.
    #[must_use]
    pub fn look(&self, settings: &Settings) -> Time {
        if self.out == 0 || self.answers < KNOWN || !settings.enabled {
            return Time::NEVER;
        }
        self.quiet_since.plus(Duration::from_nanos(self.line(settings)))
    }

    /// When its silence becomes suspicious, if it is not broken before; [`Time::NEVER`] when
    /// nothing is out or nothing is known.
    #[must_use]
    pub fn alarm(&self, settings: &Settings) -> Time {
        if self.out == 0 || self.answers < KNOWN || !settings.enabled {
            return Time::NEVER;
        }
        let line = self.line(settings);
        let line = if self.out < settings.min_outstanding && !self.troubled {
            line.saturating_mul(FEW)
        } else {
            line
        };
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
        usual
            .max(self.peak_nanos)
            .saturating_mul(2)
            .max(settings.floor_nanos)
            .saturating_mul(1 << self.alarms)
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
        watch.suspect(ms(at), &settings())
    }

    #[test]
    fn false_alarms_widen_the_line_and_calm_narrows_it() {
        let settings = settings();
        let mut watch = used();
        let line = |watch: &Watch| watch.line(&settings) / 1_000_000;
        let mut now = 1_000;
        for expect in [30, 60, 120, 240, 240] {
            watch.sent(ms(now));
            let _ = watch.silent(ms(now + 20), &settings);
            now += 500;
            watch.sent(ms(now));
            assert!(watch.answered(ms(now + 3), Duration::from_millis(3)));
            assert_eq!(line(&watch), expect);
        }
        // A trouble that lasts is no false alarm.
        now += 181_000;
        watch.sent(ms(now));
        let _ = watch.silent(ms(now + 20), &settings);
        watch.sent(ms(now + 500));
        let _ = watch.silent(ms(now + 540), &settings);
        watch.sent(ms(now + 1_000));
        let _ = watch.answered(ms(now + 1_003), Duration::from_millis(3));
        assert_eq!(line(&watch), 30, "three calm minutes took three doublings back");
    }

    #[test]
    fn silence_with_work_is_suspect_and_one_answer_clears_it() {
        let mut watch = used();
        (0..3).for_each(|_| watch.sent(ms(1_000)));
        assert!(!suspect(&watch, 1_014));
        assert!(suspect(&watch, 1_015));
        let _ = watch.answered(ms(1_030), Duration::from_millis(30));
        assert!(!suspect(&watch, 1_031));
    }

    #[test]
    fn a_single_attempt_needs_more_silence() {
        let mut watch = used();
        watch.sent(ms(1_000));
        assert!(!suspect(&watch, 1_059));
        assert!(suspect(&watch, 1_060));
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
        assert_eq!(watch.leash(ms(2_000), &settings), Some(Duration::from_millis(30)));
        assert!(watch.answered(ms(2_000), Duration::from_millis(3)));
        assert!(!suspect(&watch, 2_000));
        assert_eq!(watch.leash(ms(2_000), &settings), None);
    }

    #[test]
    fn a_timeout_is_the_clusters_trouble_only_if_nobody_answers() {
        let settings = settings();
        let mut cluster = used();
        cluster.sent(ms(1_000));
        cluster.sent(ms(1_000));
        cluster.sent(ms(1_240));
        let _ = cluster.answered(ms(1_243), Duration::from_millis(3));
        assert!(!cluster.silent_among(ms(1_250), &settings));
        assert!(!cluster.troubled());
        assert!(cluster.silent_among(ms(1_650), &settings), "it began");
        assert_eq!(cluster.troubled_for(ms(1_660)), Some(Duration::from_millis(10)));
        assert_eq!(cluster.silence(ms(1_650)), Duration::from_millis(407));
        assert_eq!(cluster.outstanding(), 0);
    }

    /// Hedges win one by one: never is much out, but nothing is heard either.
    #[test]
    fn silence_adds_up_over_attempts_that_are_given_up() {
        let settings = settings();
        let mut cluster = used();
        let mut now = 1_000;
        for n in 0..5 {
            assert!(!cluster.troubled(), "{n}");
            cluster.sent(ms(now));
            now += 12;
            let _ = cluster.silent_among(ms(now), &settings);
            now += 1_000;
        }
        assert!(cluster.troubled(), "60 ms of silence with work");
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
                    _ => { watch.abandoned(now); out = out.saturating_sub(1); }
                }
                prop_assert_eq!(watch.outstanding(), out);
                prop_assert!(out > 0 || watch.troubled() || !watch.suspect(now, &settings));
                // Whatever happened, it is asked again within a bounded time.
                if watch.troubled() && out == 0 {
                    let later = now.plus(settings.probe_interval.max(now.since(watch.since) / 8));
                    prop_assert!(!watch.suspect(later, &settings));
                }
            }
        }
    }
}
