//! Durations as Consul writes and reads them: those of Go, `1h0m30s`, `1.5s`, `250ms`. There are
//! no days in it, which is why the texts of [`crate::time`] do not serve here.

use std::fmt;
use std::time::Duration;

/// A duration as text for Consul: whole units, largest first, hours at most (`30s`, `1m30s`,
/// `168h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text(pub Duration);

const UNITS: [(&str, u128); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ns", 1),
];

/// The longest duration Go can hold, 292 years.
const MOST: u128 = i64::MAX as u128;

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos().min(MOST);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in UNITS.iter().filter(|(unit, _)| unit.is_ascii()) {
            let count = rest / scale;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

/// Reads a duration of Go, fractions included. Nothing negative; `0` needs no unit. What is finer
/// than a nanosecond is cut off.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u128 = 0;
    if rest.is_empty() || rest.len() > 128 {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(*scale)?)?;
        // Beyond eighteen digits nothing is left of any unit.
        let (mut part, mut of) = (0_u128, 1_u128);
        for digit in fraction.bytes().take(18) {
            part = part * 10 + u128::from(digit - b'0');
            of *= 10;
        }
        total = total.checked_add(part * scale / of)?;
        rest = tail;
    }
    if total > MOST {
        return None;
    }
    u64::try_from(total).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_003_09_forms_of_consul() {
        let ms = Duration::from_millis;
        for (text, span) in [
            ("30s", ms(30_000)),
            ("1m", ms(60_000)),
            ("1h", ms(3_600_000)),
            ("250ms", ms(250)),
            ("1m30s", ms(90_000)),
            ("168h", ms(7 * 24 * 3_600_000)),
        ] {
            assert_eq!(parse(text), Some(span), "{text}");
            assert_eq!(Text(span).to_string(), text);
        }
        // As Go prints them, and as it reads them.
        assert_eq!(parse("1h0m0s"), Some(ms(3_600_000)));
        assert_eq!(parse("1.5s"), Some(ms(1_500)));
        assert_eq!(parse(".5m"), Some(ms(30_000)));
        assert_eq!(parse("1.025s"), Some(ms(1_025)));
        assert_eq!(parse("7us3ns"), Some(Duration::from_nanos(7_003)));
        assert_eq!(parse("0.0000000019s"), Some(Duration::from_nanos(1)));
        assert_eq!(parse("1.\u{b5}s"), Some(Duration::from_micros(1)));
        assert_eq!(parse("0"), Some(Duration::ZERO));
        let long = "99999999999999999999h";
        for bad in ["", "5", "s", ".s", "1d", "-1s", "+1s", "1 s", "1..5s", "1s2", "\u{df}", long] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(
            parse(&Text(Duration::MAX).to_string()),
            Some(Duration::from_nanos(i64::MAX as u64))
        );
    }

    proptest! {
        #[test]
        fn case_003_09_round_trip(nanos in 0_u64..=i64::MAX as u64) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&Text(span).to_string()), Some(span));
        }

        #[test]
        fn any_text_is_survived(text in "[0-9.hmsun\u{b5}d-]{0,40}|.*") {
            let _ = parse(&text);
        }
    }
}
