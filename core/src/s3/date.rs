//! Calendar time in the forms that S3 writes: `20130524T000000Z` in signatures, ISO 8601 in
//! listings, an HTTP date in headers.

use std::fmt;

use crate::time::Wall;

/// Last second that four digits of a year can name: 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// A second, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
}

impl Stamp {
    /// The proleptic Gregorian calendar in UTC; times past the year 9999 are its last second.
    ///
    /// Days are counted from 1 March of year 0, so that a leap day is the last of its year: 400
    /// such years have 146 097 days, and five months from March on have 153.
    pub(crate) fn of(wall: Wall) -> Stamp {
        let seconds = wall.0.min(LAST);
        let days = seconds / 86_400 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        Stamp { year, month, day, second: seconds % 86_400 }
    }

    /// `20130524`.
    pub(crate) fn date(self) -> String {
        format!("{:04}{:02}{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Display for Stamp {
    /// `20130524T000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamp { year, month, day, second } = self;
        let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}{month:02}{day:02}T{hours:02}{minutes:02}{seconds:02}Z")
    }
}

/// Reads `2009-10-12T17:50:30.000Z`; fractions of a second are cut off. `None`: it is none.
pub(crate) fn iso(text: &str) -> Option<Wall> {
    let text = text.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if whole.len() != 19 || fraction.is_empty() || !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let form = whole.bytes().zip(b"0000-00-00T00:00:00").all(|(c, form)| match form {
        b'0' => c.is_ascii_digit(),
        form => c == *form,
    });
    if !form {
        return None;
    }
    let number = |from: usize, to: usize| whole.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hours, minutes, seconds) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day);
    if year < 1970 || !fits || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let (year, shifted) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(Wall(days.checked_sub(719_468)? * 86_400 + hours * 3_600 + minutes * 60 + seconds))
}

/// Reads an HTTP date.
pub(crate) fn http(text: &str) -> Option<Wall> {
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok().map(|span| Wall(span.as_secs()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stamps_of_known_seconds() {
        let text = |second| Stamp::of(Wall(second)).to_string();
        assert_eq!(text(0), "19700101T000000Z");
        assert_eq!(text(1_369_353_600), "20130524T000000Z"); // the S3 examples of AWS
        assert_eq!(text(1_440_938_160), "20150830T123600Z"); // the test suite of AWS
        assert_eq!(text(951_782_399), "20000228T235959Z");
        assert_eq!(text(951_782_400), "20000229T000000Z");
        assert_eq!(text(4_107_542_400), "21000301T000000Z"); // 2100 has no leap day
        assert_eq!(text(u64::MAX), "99991231T235959Z");
        assert_eq!(Stamp::of(Wall(1_369_353_600)).date(), "20130524");
    }

    #[test]
    fn iso_reads_and_refuses() {
        assert_eq!(iso("2013-05-24T00:00:00.000Z"), Some(Wall(1_369_353_600)));
        assert_eq!(iso("2015-08-30T12:36:00Z"), Some(Wall(1_440_938_160)));
        for bad in [
            "",
            "Z",
            "2013-05-24",
            "2013-13-24T00:00:00Z",
            "2013-05-24T00:00:00",
            "ß",
            "2013-05-24T00:00:00.Z",
            "+013-05-24T00:00:00Z",
            "1969-12-31T00:00:00Z",
            "2013-05-24T24:00:00Z",
            "2013-00-24T00:00:00Z",
            "äöü3-05-24T00:00:Z",
        ] {
            assert_eq!(iso(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn both_directions_agree(second in 0..=LAST) {
            let s = Stamp::of(Wall(second)).to_string();
            let text = format!("{}-{}-{}T{}:{}:{}Z",
                &s[..4], &s[4..6], &s[6..8], &s[9..11], &s[11..13], &s[13..15]);
            prop_assert_eq!(iso(&text), Some(Wall(second)));
        }

        #[test]
        fn any_text_is_survived(text in ".{0,30}") {
            let _ = (iso(&text), http(&text));
        }
    }
}
