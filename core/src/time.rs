//! Time as a value. [`Time`] is what drivers pass in; [`Wall`] is calendar time, which enters
//! only with an input that needs it. Also the text form of durations (`250ms`, `1m30s`).
//!
//! Nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since the driver's epoch.
///
/// Monotonic by contract of the driver; arithmetic saturates, so no input can overflow it.
/// 2⁶⁴ ns are 584 years.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(u64);

impl Time {
    /// The driver's epoch.
    pub const ZERO: Time = Time(0);
    /// A point that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// From milliseconds since the epoch, saturating.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Time {
        Time(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This point plus `span`, saturating at [`Time::NEVER`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Time {
        Time(self.0.saturating_add(nanos(span)))
    }

    /// The span since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The span until `later`; zero when it has passed.
    #[must_use]
    pub fn until(self, later: Time) -> Duration {
        later.since(self)
    }
}

/// Calendar time: whole seconds since 1970-01-01T00:00:00Z.
///
/// Used for `Retry-After` dates and for reporting; never for deadlines.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Wall(pub u64);

/// Nanoseconds of a span, saturating at `u64::MAX`.
#[must_use]
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Why a duration text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration; write 250ms, 30s, 1m30s, 2h or 7d")]
pub struct BadDuration {
    text: String,
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads `250ms`, `1m30s`, `2h`. Units: ns, us, ms, s, m, h, d; whole numbers; no spaces.
///
/// # Errors
/// Anything else, including the empty text, a number without unit, and values beyond 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration { text: text.chars().take(64).collect() };
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        total =
            number.checked_mul(*scale).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = tail;
    }
    Ok(Duration::from_nanos(total))
}

/// A duration as text, in the form that [`parse_duration`] reads back exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = nanos(self.0);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in UNITS.iter().rev().filter(|(unit, _)| *unit != "µs") {
            let count = rest / scale;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

/// A duration for people: two units at most, rounded; below ten seconds with one decimal. What
/// notices and errors say of spans, so that none reads `1.234567891s`. For reading back, and for
/// what somebody configured, there is [`DurationText`].
///
/// ```
/// use std::time::Duration;
/// use origin_core::time::Rounded;
///
/// let text = |nanos| Rounded(Duration::from_nanos(nanos)).to_string();
/// assert_eq!(text(1_234_567_891), "1.2s");
/// assert_eq!(text(812_345_678), "812ms");
/// assert_eq!(text(3_725_000_000_000), "1h2m");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounded(pub Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MS: u64 = 1_000_000;
        const SECOND: u64 = 1_000 * MS;
        let all = nanos(self.0);
        let to = |unit: u64| all.saturating_add(unit / 2) / unit;
        let pair = |big: u64, small: u64, units: (&str, &str), f: &mut fmt::Formatter<'_>| {
            let (whole, rest) = (to(small) / (big / small), to(small) % (big / small));
            match rest {
                0 => write!(f, "{whole}{}", units.0),
                _ => write!(f, "{whole}{}{rest}{}", units.0, units.1),
            }
        };
        // Each line by what it would round to, so that none says 60s, or 1000ms.
        if all == 0 {
            f.write_str("0s")
        } else if to(1_000) < 1_000 {
            write!(f, "{}us", to(1_000).max(1))
        } else if to(MS) < 1_000 {
            write!(f, "{}ms", to(MS))
        } else if to(SECOND / 10) < 100 {
            match (to(SECOND / 10) / 10, to(SECOND / 10) % 10) {
                (whole, 0) => write!(f, "{whole}s"),
                (whole, tenths) => write!(f, "{whole}.{tenths}s"),
            }
        } else if to(SECOND) < 60 {
            write!(f, "{}s", to(SECOND))
        } else if to(SECOND) < 3_600 {
            pair(60 * SECOND, SECOND, ("m", "s"), f)
        } else if to(60 * SECOND) < 24 * 60 {
            pair(3_600 * SECOND, 60 * SECOND, ("h", "m"), f)
        } else {
            pair(24 * 3_600 * SECOND, 3_600 * SECOND, ("d", "h"), f)
        }
    }
}

/// Serde form of a [`Duration`] as text; use with `#[serde(with = "origin_core::time::text")]`.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the text form.
    ///
    /// # Errors
    /// Only those of the serializer.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&super::DurationText(*span))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// A text that is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_refuses() {
        let ms = Duration::from_millis;
        assert_eq!(parse_duration("250ms"), Ok(ms(250)));
        assert_eq!(parse_duration("1m30s"), Ok(ms(90_000)));
        assert_eq!(parse_duration("1h"), Ok(ms(3_600_000)));
        for bad in ["", "5", "s", "1x", "-1s", "1.5s", "1 s", "99999999999d", "1s2", "ß"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_rounded_for_people() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1us"),
            (999_499, "999us"),
            (999_500, "1ms"),
            (250_000_000, "250ms"),
            (999_600_000, "1s"),
            (1_234_567_891, "1.2s"),
            (9_960_000_000, "10s"),
            (59_700_000_000, "1m"),
            (90_000_000_000, "1m30s"),
            (3_599_600_000_000, "1h"),
            (7_260_000_000_000, "2h1m"),
            (86_390_000_000_000, "1d"),
            (90_000_000_000_000, "1d1h"),
        ] {
            assert_eq!(Rounded(Duration::from_nanos(nanos)).to_string(), text, "{nanos}");
        }
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Time::NEVER.plus(Duration::MAX), Time::NEVER);
        assert_eq!(Time::ZERO.since(Time::NEVER), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn text_round_trips(nanos in any::<u64>()) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&DurationText(span).to_string()), Ok(span));
        }

        /// Never off by more than a twentieth.
        #[test]
        fn rounded_is_near(nanos in 10_000_u64..) {
            let text = Rounded(Duration::from_nanos(nanos)).to_string();
            let near = match text.split_once('.') {
                // Whole seconds and tenths.
                Some((whole, tenths)) => parse_duration(&format!("{whole}s")).unwrap()
                    + parse_duration(&tenths.replace('s', "00ms")).unwrap(),
                None => parse_duration(&text).unwrap(),
            };
            let off = super::nanos(near).abs_diff(nanos);
            prop_assert!(off <= nanos / 20, "{text} of {nanos}");
        }

        #[test]
        fn any_text_is_survived(text in ".*") {
            let _ = parse_duration(&text);
        }
    }
}
