//! Checking one field: each function takes a value, refuses it with the field's path and the
//! numbers, or hands it on in the form the machines use.

use std::fmt;
use std::time::Duration;

use super::ConfigError;
use crate::time::nanos;

/// Longest span that a configuration may name; beyond it a typing error is likelier than a wish.
const ABSURD: Duration = Duration::from_secs(7 * 24 * 3600);

/// The path of the table that a field stands in, for example `policy.breaker`.
#[derive(Clone, Copy, Debug)]
pub struct At<'a>(pub &'a str);

impl At<'_> {
    /// A refusal of `field`.
    #[must_use]
    pub fn refuse(self, field: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::new(format!("{}.{field}", self.0), reason)
    }

    /// A span longer than zero and at most seven days.
    ///
    /// # Errors
    /// Any other.
    pub fn span(self, field: &str, span: Duration) -> Result<Duration, ConfigError> {
        if span.is_zero() {
            return Err(self.refuse(field, "must be longer than zero"));
        }
        self.span_or_zero(field, span)
    }

    /// A span of at most seven days; zero has a meaning of its own.
    ///
    /// # Errors
    /// A longer one.
    pub fn span_or_zero(self, field: &str, span: Duration) -> Result<Duration, ConfigError> {
        if span > ABSURD {
            return Err(self.refuse(field, format!("{span:?} is longer than 7 days")));
        }
        Ok(span)
    }

    /// [`At::span`], in nanoseconds.
    ///
    /// # Errors
    /// Those of [`At::span`].
    pub fn nanos(self, field: &str, span: Duration) -> Result<u64, ConfigError> {
        self.span(field, span).map(nanos)
    }

    /// A span that is not shorter than another field.
    ///
    /// # Errors
    /// A shorter one, named by the other field: that is the one to correct.
    pub fn not_below(
        self,
        field: &str,
        span: Duration,
        low_field: &str,
        low: Duration,
    ) -> Result<Duration, ConfigError> {
        if low > span {
            return Err(self.refuse(low_field, format!("{low:?} exceeds {field} of {span:?}")));
        }
        self.span(field, span)
    }

    /// A number in `least..=most`.
    ///
    /// # Errors
    /// Any other.
    pub fn count<T: PartialOrd + fmt::Display>(
        self,
        field: &str,
        count: T,
        least: T,
        most: T,
    ) -> Result<T, ConfigError> {
        if count < least || count > most {
            return Err(self.refuse(field, format!("{count} is outside {least}–{most}")));
        }
        Ok(count)
    }

    /// A number in `0..=most`, in millionths.
    ///
    /// # Errors
    /// Any other, and what is not a number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked first
    pub fn ppm(self, field: &str, value: f64, most: f64) -> Result<u64, ConfigError> {
        if !(0.0..=most).contains(&value) {
            return Err(self.refuse(field, format!("{value} is outside 0–{most}")));
        }
        Ok((value * 1e6).round() as u64)
    }

    /// A share in 0–1, in thousandths.
    ///
    /// # Errors
    /// Any other, and what is not a number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked first
    pub fn permille(self, field: &str, value: f64) -> Result<u32, ConfigError> {
        if !(0.0..=1.0).contains(&value) {
            return Err(self.refuse(field, format!("{value} is outside 0–1")));
        }
        Ok((value * 1e3).round() as u32)
    }
}
