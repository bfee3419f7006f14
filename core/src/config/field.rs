//! Checking one field: each function takes a value, refuses it with the field's path and the
//! numbers, or hands it on, where that helps in the form the machines use. All policies check
//! with these, so that the same mistake is refused in the same words everywhere.
//!
//! What the fields of a policy mean together is checked in the policy; what policies mean
//! together, in [`super::conflict`].

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use super::ConfigError;
use crate::time::{DurationText, nanos};

/// Longest span that a configuration may name; beyond it a typing error is likelier than a wish.
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A value that can be checked, and shown as a person would write it.
pub(crate) trait Value: PartialOrd + Copy {
    /// The text form.
    fn show(&self) -> String;
}

macro_rules! shown_as_is {
    ($($number:ty)*) => {$(
        impl Value for $number {
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

shown_as_is!(u8 u16 u32 u64 usize f64);

impl Value for Duration {
    fn show(&self) -> String {
        DurationText(*self).to_string()
    }
}

/// The path of the table that a field stands in, for example `policy.breaker`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a>(pub(crate) &'a str);

impl At<'_> {
    /// A refusal of `field`.
    pub(crate) fn refuse(self, field: impl fmt::Display, reason: impl Into<String>) -> ConfigError {
        ConfigError::new(format!("{}.{field}", self.0), reason)
    }

    /// A number or a span in `range`; what is not a number is outside every range.
    pub(crate) fn within<V: Value>(
        self,
        field: &str,
        value: V,
        range: RangeInclusive<V>,
    ) -> Result<V, ConfigError> {
        if range.contains(&value) {
            return Ok(value);
        }
        let (value, least, most) = (value.show(), range.start().show(), range.end().show());
        Err(self.refuse(field, format!("{value} is outside {least}–{most}")))
    }

    /// A span longer than zero and at most `most`.
    pub(crate) fn span_up_to(
        self,
        field: &str,
        span: Duration,
        most: Duration,
    ) -> Result<Duration, ConfigError> {
        if span.is_zero() {
            return Err(self.refuse(field, "must be longer than zero"));
        }
        if span > most {
            let reason = format!("{} is longer than {}", span.show(), most.show());
            return Err(self.refuse(field, reason));
        }
        Ok(span)
    }

    /// A span longer than zero and at most seven days.
    pub(crate) fn span(self, field: &str, span: Duration) -> Result<Duration, ConfigError> {
        self.span_up_to(field, span, WEEK)
    }

    /// A span of at most seven days; zero has a meaning of its own.
    pub(crate) fn span_or_zero(self, field: &str, span: Duration) -> Result<Duration, ConfigError> {
        if span.is_zero() { Ok(span) } else { self.span(field, span) }
    }

    /// [`At::span`], in nanoseconds.
    pub(crate) fn nanos(self, field: &str, span: Duration) -> Result<u64, ConfigError> {
        self.span(field, span).map(nanos)
    }

    /// The first field must not exceed the second; the first one is refused.
    pub(crate) fn ordered<V: Value>(
        self,
        (small, value): (&str, V),
        (large, bound): (&str, V),
    ) -> Result<(), ConfigError> {
        if value <= bound {
            return Ok(());
        }
        let (value, bound) = (value.show(), bound.show());
        Err(self.refuse(small, format!("{value} exceeds {}.{large} of {bound}", self.0)))
    }

    /// A number in `0..=most`, in millionths.
    pub(crate) fn ppm(self, field: &str, value: f64, most: f64) -> Result<u64, ConfigError> {
        self.within(field, value, 0.0..=most).map(|value| scaled(value, 1_000_000))
    }

    /// A share in 0–1, in thousandths.
    pub(crate) fn permille(self, field: &str, value: f64) -> Result<u32, ConfigError> {
        let value = self.within(field, value, 0.0..=1.0)?;
        Ok(u32::try_from(scaled(value, 1_000)).unwrap_or(1_000))
    }

    /// `percentile` must be within 0.5–0.999 and `min_samples` enough to tell it: of fewer than
    /// `1 / (1 - percentile)` samples it is the largest one, whatever that is.
    pub(crate) fn percentile(self, percentile: f64, min_samples: u32) -> Result<(), ConfigError> {
        self.within("percentile", percentile, 0.5..=0.999)?;
        self.within("min_samples", min_samples, 1..=60_000)?;
        let need = 1_000_u32.div_ceil(1_000 - u32::from(permille(percentile)));
        if min_samples >= need {
            return Ok(());
        }
        let reason = format!(
            "{min_samples} samples cannot tell the percentile {percentile}; it takes {need}"
        );
        Err(self.refuse("min_samples", reason))
    }

    /// `name` must be able to name a header.
    pub(crate) fn header(self, field: &str, name: &str) -> Result<(), ConfigError> {
        if HeaderName::from_bytes(name.as_bytes()).is_ok() {
            return Ok(());
        }
        let shown: String = name.chars().take(64).collect();
        Err(self.refuse(field, format!("{shown:?} is not a header name")))
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

    fn text<T>(refused: Result<T, ConfigError>) -> String {
        refused.err().unwrap().to_string().split_once("refused: ").unwrap().1.to_owned()
    }

    /// Each kind of refusal in its words.
    #[test]
    fn refusals_name_the_field_and_the_numbers() {
        let at = At("p");
        let (ms, day) = (Duration::from_millis, Duration::from_secs(86_400));
        assert_eq!(text(at.span("x", Duration::ZERO)), "p.x: must be longer than zero");
        assert_eq!(text(at.span("x", day * 8)), "p.x: 8d is longer than 7d");
        assert_eq!(text(at.span_or_zero("x", day * 8)), "p.x: 8d is longer than 7d");
        assert_eq!(text(at.within("x", ms(5), ms(10)..=day)), "p.x: 5ms is outside 10ms–1d");
        assert_eq!(text(at.within("x", 17_u32, 1..=16)), "p.x: 17 is outside 1–16");
        assert_eq!(text(at.within("x", f64::NAN, 0.5..=2.0)), "p.x: NaN is outside 0.5–2");
        assert_eq!(text(at.ppm("x", -0.5, 1.0)), "p.x: -0.5 is outside 0–1");
        let wrong = at.ordered(("a", ms(250)), ("b", ms(100)));
        assert_eq!(text(wrong), "p.a: 250ms exceeds p.b of 100ms");
        assert_eq!(text(at.ordered(("a", 3_u32), ("b", 2))), "p.a: 3 exceeds p.b of 2");
        assert_eq!(text(at.header("h", "a b")), "p.h: \"a b\" is not a header name");
        let few = "p.min_samples: 19 samples cannot tell the percentile 0.95; it takes 20";
        assert_eq!(text(at.percentile(0.95, 19)), few);
    }

    #[test]
    fn the_ends_of_a_range_are_within_it() {
        let at = At("p");
        assert!(at.within("x", 1_u32, 1..=16).is_ok() && at.within("x", 16_u32, 1..=16).is_ok());
        assert!(at.span("x", WEEK).is_ok() && at.span("x", Duration::from_nanos(1)).is_ok());
        assert!(at.span("x", WEEK + Duration::from_nanos(1)).is_err());
        assert_eq!(at.span_or_zero("x", Duration::ZERO), Ok(Duration::ZERO));
        assert!(at.ordered(("a", WEEK), ("b", WEEK)).is_ok());
        assert_eq!(
            (at.ppm("x", 1000.0, 1000.0), at.permille("x", 1.0)),
            (Ok(1_000_000_000), Ok(1_000))
        );
    }

    #[test]
    fn nonsense_is_refused_and_compiles_to_something_safe() {
        let at = At("p");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1.0] {
            assert_eq!(at.percentile(value, 100).unwrap_err().field, "p.percentile", "{value}");
            assert!((1..=999).contains(&permille(value)));
        }
        assert_eq!(at.percentile(0.999, 999).unwrap_err().field, "p.min_samples");
        assert!(at.percentile(0.999, 1_000).is_ok() && at.percentile(0.95, 20).is_ok());
        assert_eq!((scaled(f64::NAN, 9), scaled(-1.0, 9), scaled(0.3, 1_000_000)), (0, 0, 300_000));
        assert_eq!(at_least_one(Duration::ZERO), 1);
    }
}
