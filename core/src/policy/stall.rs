//! Stall suspicion: an endpoint that accepts and never answers would otherwise cost one attempt
//! timeout per request until its breaker has counted enough of them. Watching how long an
//! endpoint *with work* has been silent finds it after a few of its usual latencies.
//!
//! The usual latency is the smoothed mean and deviation of RFC 6298 (Jacobson/Karels); the line
//! is twice `mean + 4 × deviation`, never below a floor, and there is none before the first
//! answer, so a slow service is not suspected for being slow. Suspicion only means *least
//! preferred*: it ends with the next answer of any kind. After a timeout one attempt at a time
//! finds out whether the endpoint is back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, StallConfig, field};
use crate::time::{Time, nanos};

/// A checked [`StallConfig`]: integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // one to one the fields of the configuration, documented there
pub struct Settings {
    pub enabled: bool,
    pub floor: Duration,
    pub min_outstanding: u32,
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
            floor: at.span("floor", config.floor)?,
            min_outstanding: at.count("min_outstanding", config.min_outstanding, 1, 1_000_000)?,
        })
    }
}

/// Outstanding attempts and silence of one endpoint. 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Attempts out.
    out: u32,
    /// A timeout since the last answer.
    doubt: bool,
    answered: bool,
    /// Last sign of life, or when work began after a pause.
    quiet_since: Time,
    mean_nanos: u64,
    deviation_nanos: u64,
}

impl Watch {
    /// An endpoint nobody has called.
    #[must_use]
    pub const fn new(now: Time) -> Watch {
        Watch {
            out: 0,
            doubt: false,
            answered: false,
            quiet_since: now,
            mean_nanos: 0,
            deviation_nanos: 0,
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

    /// An attempt goes out.
    pub fn sent(&mut self, now: Time) {
        if self.out == 0 {
            self.quiet_since = now;
        }
        self.out = self.out.saturating_add(1);
    }

    /// An attempt was answered, by whatever status, after `took`.
    pub fn answered(&mut self, now: Time, took: Duration) {
        self.out = self.out.saturating_sub(1);
        self.quiet_since = now;
        self.doubt = false;
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
    }

    /// An attempt failed. Only silence raises doubt; a refusal is a sign of life of the host.
    pub fn failed(&mut self, now: Time, silent: bool) {
        self.out = self.out.saturating_sub(1);
        if silent {
            self.doubt = true;
        } else {
            self.quiet_since = now;
        }
    }

    /// An attempt was abandoned: neither sign of life nor of death.
    pub fn abandoned(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// Whether this endpoint should be used last.
    #[must_use]
    pub fn suspect(&self, now: Time, settings: &Settings) -> bool {
        if self.out == 0 || !settings.enabled {
            return false;
        }
        self.doubt
            || (self.answered
                && self.out >= settings.min_outstanding
                && nanos(now.since(self.quiet_since)) > self.line(settings))
    }

    fn line(&self, settings: &Settings) -> u64 {
        let usual = self.mean_nanos.saturating_add(self.deviation_nanos.saturating_mul(4));
        usual.saturating_mul(2).max(nanos(settings.floor))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn silence_with_work_is_suspect_and_one_answer_clears_it() {
        let settings = Settings::of(&StallConfig::default(), "p").unwrap();
        let mut watch = Watch::new(ms(0));
        for n in 0..20 {
            watch.sent(ms(n * 10));
            watch.answered(ms(n * 10 + 3), Duration::from_millis(3));
        }
        (0..3).for_each(|_| watch.sent(ms(1_000)));
        assert!(!watch.suspect(ms(1_049), &settings));
        assert!(watch.suspect(ms(1_051), &settings));
        watch.answered(ms(1_060), Duration::from_millis(60));
        assert!(!watch.suspect(ms(1_061), &settings));
    }

    #[test]
    fn an_idle_or_never_answering_endpoint_is_not_suspect() {
        let settings = Settings::of(&StallConfig::default(), "p").unwrap();
        let mut watch = Watch::new(ms(0));
        assert!(!watch.suspect(ms(1_000_000), &settings));
        (0..9).for_each(|_| watch.sent(ms(0)));
        assert!(!watch.suspect(ms(1_000_000), &settings), "no usual latency is known yet");
    }

    #[test]
    fn after_a_timeout_one_attempt_at_a_time() {
        let settings = Settings::of(&StallConfig::default(), "p").unwrap();
        let mut watch = Watch::new(ms(0));
        watch.sent(ms(0));
        watch.failed(ms(500), true);
        assert!(!watch.suspect(ms(500), &settings));
        watch.sent(ms(500));
        assert!(watch.suspect(ms(500), &settings));
        watch.answered(ms(501), Duration::from_millis(1));
        watch.sent(ms(502));
        assert!(!watch.suspect(ms(502), &settings));
    }

    #[test]
    fn uneven_latency_is_not_a_stall() {
        // 5 ms, every tenth 400 ms, two at a time: the deviation widens the line.
        let settings = Settings::of(&StallConfig::default(), "p").unwrap();
        let mut watch = Watch::new(ms(0));
        let mut now = 0;
        for n in 0..200_u64 {
            let took = if n % 10 == 9 { 400 } else { 5 };
            watch.sent(ms(now));
            watch.sent(ms(now));
            if n > 50 {
                assert!(!watch.suspect(ms(now + 45), &settings), "{n}");
            }
            now += took;
            watch.answered(ms(now), Duration::from_millis(took));
            watch.answered(ms(now), Duration::from_millis(took));
        }
    }

    proptest! {
        #[test]
        fn counts_are_conserved(script in proptest::collection::vec((0_u8..5, 0_u64..1 << 40), 0..200)) {
            let settings = Settings::of(&StallConfig::default(), "p").unwrap();
            let mut watch = Watch::new(Time::ZERO);
            let (mut out, mut now) = (0_u32, Time::ZERO);
            for (action, nanos) in script {
                now = now.plus(Duration::from_nanos(nanos));
                match action {
                    0 | 1 => { watch.sent(now); out += 1; }
                    2 => { watch.answered(now, Duration::from_nanos(nanos)); out = out.saturating_sub(1); }
                    3 => { watch.failed(now, nanos % 2 == 0); out = out.saturating_sub(1); }
                    _ => { watch.abandoned(); out = out.saturating_sub(1); }
                }
                prop_assert_eq!(watch.outstanding(), out);
                prop_assert!(out > 0 || !watch.suspect(now, &settings));
            }
        }
    }
}
