//! Checks of single fields that the policies share: a span, a count or a share within its bounds,
//! and two fields in order. Each refusal names the field and the numbers.
//!
//! What a policy's fields mean together is checked in the policy.

use std::time::Duration;

use super::ConfigError;
use crate::time::{DurationText, nanos};

/// Longest span that a policy may name; beyond it a typing error is more likely than a wish.
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// The fields below one path of `origin.toml`.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a str);

impl Fields<'_> {
    /// A refusal of `field`.
    pub(crate) fn refuse<T>(self, field: &str, reason: String) -> Result<T, ConfigError> {
        Err(ConfigError::new(format!("{}.{field}", self.0), reason))
    }

    /// `span` must be longer than zero and at most `most`.
    pub(crate) fn span(
        self,
        field: &str,
        span: Duration,
        most: Duration,
    ) -> Result<(), ConfigError> {
        if span.is_zero() {
            return self.refuse(field, "must be longer than zero".to_owned());
        }
        if span > most {
            let (span, most) = (DurationText(span), DurationText(most));
            return self.refuse(field, format!("{span} is longer than {most}"));
        }
        Ok(())
    }

    /// `span` must be within `least..=most`.
    pub(crate) fn within(
        self,
        field: &str,
        span: Duration,
        least: Duration,
        most: Duration,
    ) -> Result<(), ConfigError> {
        if (least..=most).contains(&span) {
            return Ok(());
        }
        let (span, least, most) = (DurationText(span), DurationText(least), DurationText(most));
        self.refuse(field, format!("{span} is outside {least}–{most}"))
    }

    /// `count` must be within `least..=most`.
    pub(crate) fn count(
        self,
        field: &str,
        count: u32,
        least: u32,
        most: u32,
    ) -> Result<(), ConfigError> {
        if (least..=most).contains(&count) {
            return Ok(());
        }
        self.refuse(field, format!("{count} is outside {least}–{most}"))
    }

    /// `value` must be a number within `least..=most`.
    pub(crate) fn number(
        self,
        field: &str,
        value: f64,
        least: f64,
        most: f64,
    ) -> Result<(), ConfigError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        self.refuse(field, format!("{value} is outside {least}–{most}"))
    }

    /// `small` must not exceed `large`.
    pub(crate) fn ordered(
        self,
        small: (&str, Duration),
        large: (&str, Duration),
    ) -> Result<(), ConfigError> {
        if small.1 <= large.1 {
            return Ok(());
        }
        let (low, high) = (DurationText(small.1), DurationText(large.1));
        self.refuse(small.0, format!("{low} exceeds {}.{} of {high}", self.0, large.0))
    }

    /// `percentile` must be within 0.5–0.999 and `min_samples` enough to tell it: of fewer than
    /// `1 / (1 - percentile)` samples it is the largest one, whatever that is.
    pub(crate) fn percentile(self, percentile: f64, min_samples: u32) -> Result<(), ConfigError> {
        self.number("percentile", percentile, 0.5, 0.999)?;
        self.count("min_samples", min_samples, 1, 60_000)?;
        let need = 1_000_u32.div_ceil(1_000 - u32::from(permille(percentile)));
        if min_samples >= need {
            return Ok(());
        }
        let reason = format!(
            "{min_samples} samples cannot tell the percentile {percentile}; it takes {need}"
        );
        self.refuse("min_samples", reason)
    }
}

/// `value` × `scale`, rounded; 0 for what is no number or negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates; NaN is 0
pub(crate) fn scaled(value: f64, scale: u32) -> u64 {
    (value * f64::from(scale)).round() as u64
}

/// A percentile between 0 and 1 in thousandths, 1–999.
#[allow(clippy::cast_possible_truncation)] // clamped first
pub(crate) fn permille(percentile: f64) -> u16 {
    scaled(percentile, 1_000).clamp(1, 999) as u16
}

/// A span in nanoseconds, at least 1: what a compiled setting may divide by or wait for.
pub(crate) fn at_least_one(span: Duration) -> u64 {
    nanos(span).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_and_compiles_to_something_safe() {
        let at = Fields("p");
        for value in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1.0] {
            assert_eq!(at.percentile(value, 100).unwrap_err().field, "p.percentile", "{value}");
            assert!((1..=999).contains(&permille(value)));
        }
        assert_eq!(at.percentile(0.999, 999).unwrap_err().field, "p.min_samples");
        assert_eq!(at.percentile(0.95, 19).unwrap_err().field, "p.min_samples");
        assert!(at.percentile(0.999, 1_000).is_ok() && at.percentile(0.95, 20).is_ok());
        assert_eq!((scaled(f64::NAN, 9), scaled(-1.0, 9), scaled(0.3, 1_000_000)), (0, 0, 300_000));
        assert!(at.span("x", Duration::ZERO, WEEK).is_err());
        assert!(at.span("x", WEEK + Duration::from_nanos(1), WEEK).is_err());
        assert!(at.count("x", 0, 1, 2).is_err() && at.count("x", 2, 1, 2).is_ok());
    }

    /// Each configuration in the words of `origin.toml` (as JSON), and what is misspelt.
    #[test]
    fn policies_are_written_as_documented() {
        use crate::config::backoff::Jitter;
        use crate::config::*;
        fn reads<T: serde::de::DeserializeOwned + Default + PartialEq + std::fmt::Debug>(
            text: &str,
        ) -> T {
            assert_eq!(serde_json::from_str::<T>("{}").unwrap(), T::default());
            assert!(serde_json::from_str::<T>(r#"{"misspelt": 1}"#).is_err());
            serde_json::from_str(text).unwrap()
        }
        let hedge: HedgeConfig = reads(r#"{"enabled": true, "delay": "30ms", "max_ratio": 0.05}"#);
        assert_eq!((hedge.delay, hedge.max_extra), (Some(Duration::from_millis(30)), 1));
        let timeout: AdaptiveTimeoutConfig = reads(r#"{"enabled": true, "min": "10ms"}"#);
        assert!((timeout.factor - 1.5).abs() < 1e-9);
        let latency: LatencyConfig = reads(r#"{"window": "30s"}"#);
        assert_eq!(latency.window, Duration::from_secs(30));
        let backoff: BackoffConfig =
            reads(r#"{"jitter": "decorrelated", "pushback": "exact", "throttled_base": "1s"}"#);
        assert_eq!((backoff.jitter, backoff.pushback), (Jitter::Decorrelated, PushbackRule::Exact));
        let tokens: TokensConfig = reads(r#"{"mode": "throttle", "capacity": 10, "gain": 0.1}"#);
        assert_eq!(tokens, TokensConfig::grpc(10, 0.1));
        let classes: ClassesConfig =
            reads(r#"{"faults": ["connect", "timeout"], "methods": ["GET", "POST"]}"#);
        assert_eq!(classes.methods, [MethodClass::Get, MethodClass::Post]);
        let propagate: PropagateConfig = reads(r#"{"header": {"custom": "x-left-ms"}}"#);
        assert_eq!(propagate.header, DeadlineHeader::Custom("x-left-ms".to_owned()));
        let propagate: PropagateConfig = reads(r#"{"header": "grpc_timeout"}"#);
        assert_eq!(propagate.header, DeadlineHeader::GrpcTimeout);
    }
}
