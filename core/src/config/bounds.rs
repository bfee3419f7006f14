//! The bounds that checking a policy applies to single fields: one wording for spans, counts and
//! shares. Contradictions between fields stay with the policy that knows what they mean.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::ConfigError;

/// Longest span that a policy may name; beyond it a typing error is more likely than a wish.
const ABSURD: Duration = Duration::from_secs(7 * 24 * 3600);

/// A refusal of `{path}.{field}`.
pub(crate) fn refuse(path: &str, field: &str, reason: String) -> Result<(), ConfigError> {
    Err(ConfigError::new(format!("{path}.{field}"), reason))
}

/// A span must be longer than zero and at most seven days.
pub(crate) fn span(path: &str, field: &str, value: Duration) -> Result<(), ConfigError> {
    if value.is_zero() {
        return refuse(path, field, "must be longer than zero".to_owned());
    }
    if value > ABSURD {
        return refuse(path, field, format!("{value:?} is longer than 7 days"));
    }
    Ok(())
}

/// A number must be within `range`; NaN is outside every range.
pub(crate) fn within<N: PartialOrd + std::fmt::Display>(
    path: &str,
    field: &str,
    value: N,
    range: RangeInclusive<N>,
) -> Result<(), ConfigError> {
    if !range.contains(&value) {
        let reason = format!("{value} is outside {}–{}", range.start(), range.end());
        return refuse(path, field, reason);
    }
    Ok(())
}

/// `small` must not exceed `large`.
pub(crate) fn ordered<N: PartialOrd + std::fmt::Debug>(
    path: &str,
    (small, value): (&str, N),
    (large, bound): (&str, N),
) -> Result<(), ConfigError> {
    if value > bound {
        return refuse(path, small, format!("{value:?} exceeds {path}.{large} of {bound:?}"));
    }
    Ok(())
}

/// A share or ratio in millionths, to the nearest; 0 for NaN and below, at most 10⁹ (a thousand).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped first
pub(crate) fn millionths(value: f64) -> u64 {
    (value.clamp(0.0, 1e3) * 1e6).round() as u64
}
