//! `Cache-Control`, read (RFC 9111 §5.2). What cannot be read counts against storing, never for
//! it. What it means for an answer is in [`super::http`].

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// Longest `Cache-Control` that is read, in bytes; what goes on longer says `no-store`.
pub const MOST: usize = 16 << 10;

/// Spans in seconds are at most this (RFC 9111 §1.2.2).
const LONGEST: u64 = 1 << 31;

/// The directives of a request or a response that mean something to a private cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Nothing of it may be stored.
    pub no_store: bool,
    /// Not to be used without asking the peer. With a field name in it, all the same.
    pub no_cache: bool,
    /// Not for a cache that several share.
    pub private: bool,
    /// For any cache, even where a request had `Authorization`.
    pub public: bool,
    /// Never to be used stale.
    pub must_revalidate: bool,
    /// How long it is fresh; how old it may be. Named twice, the smaller one; unreadable, 0.
    pub max_age: Option<u64>,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error`.
    pub stale_if_error: Option<u64>,
    /// Of a request: how long it must be fresh still.
    pub min_fresh: Option<u64>,
    /// Of a request: how stale it may be.
    pub max_stale: Option<u64>,
    /// Of a request: it must not be sent.
    pub only_if_cached: bool,
}

impl Control {
    /// What the headers say, `Pragma: no-cache` included where there is no `Cache-Control`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Control {
        let mut control = Control::default();
        let mut read = 0;
        for value in headers.get_all(CACHE_CONTROL) {
            read += value.len();
            if read > MOST {
                return Control { no_store: true, ..Control::default() };
            }
            control.add(value.as_bytes());
        }
        if read == 0 && headers.get_all(PRAGMA).iter().any(|value| value == "no-cache") {
            control.no_cache = true;
        }
        control
    }

    /// What one value of the header says.
    #[must_use]
    pub fn parse(value: &[u8]) -> Control {
        if value.len() > MOST {
            return Control { no_store: true, ..Control::default() };
        }
        let mut control = Control::default();
        control.add(value);
        control
    }

    fn add(&mut self, value: &[u8]) {
        for directive in Directives(value) {
            let (name, argument) = match directive.iter().position(|c| *c == b'=') {
                Some(at) => (&directive[..at], Some(&directive[at + 1..])),
                None => (directive, None),
            };
            let is = |other: &str| name.trim_ascii().eq_ignore_ascii_case(other.as_bytes());
            let span = argument.and_then(seconds);
            let least = |old: Option<u64>, new: u64| Some(old.map_or(new, |old| old.min(new)));
            if is("no-store") {
                self.no_store = true;
            } else if is("no-cache") {
                self.no_cache = true;
            } else if is("private") {
                self.private = true;
            } else if is("public") {
                self.public = true;
            } else if is("must-revalidate") {
                self.must_revalidate = true;
            } else if is("only-if-cached") {
                self.only_if_cached = true;
            } else if is("max-age") {
                // An age that cannot be read is none at all (RFC 9111 §4.2.1).
                self.max_age = least(self.max_age, span.unwrap_or(0));
            } else if is("stale-while-revalidate") {
                self.stale_while_revalidate = least(self.stale_while_revalidate, span.unwrap_or(0));
            } else if is("stale-if-error") {
                self.stale_if_error = least(self.stale_if_error, span.unwrap_or(0));
            } else if is("min-fresh") {
                self.min_fresh = Some(self.min_fresh.unwrap_or(0).max(span.unwrap_or(LONGEST)));
            } else if is("max-stale") {
                // Without an argument: however stale.
                let span = if argument.is_none() { LONGEST } else { span.unwrap_or(0) };
                self.max_stale = least(self.max_stale, span);
            }
        }
    }
}

/// Seconds, quoted or not.
fn seconds(argument: &[u8]) -> Option<u64> {
    let argument = argument.trim_ascii();
    let digits =
        argument.strip_prefix(b"\"").and_then(|a| a.strip_suffix(b"\"")).unwrap_or(argument);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(value.min(LONGEST))
}

/// The parts between commas, but not between commas in quotes.
struct Directives<'a>(&'a [u8]);

impl<'a> Iterator for Directives<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped) = (false, false);
        let end = self.0.iter().position(|c| {
            match c {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' => return !quoted,
                _ => {}
            }
            false
        });
        let (part, rest) = match end {
            Some(end) => (&self.0[..end], &self.0[end + 1..]),
            None => (self.0, &[][..]),
        };
        self.0 = rest;
        Some(part.trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Control {
        Control::parse(text.as_bytes())
    }

    #[test]
    fn what_it_says() {
        let control = read("Public , MAX-AGE=\"60\", stale-if-error=259200,must-revalidate");
        assert!(control.public && control.must_revalidate && !control.no_store);
        assert_eq!((control.max_age, control.stale_if_error), (Some(60), Some(259_200)));
        assert_eq!(read("max-age=60, max-age=30").max_age, Some(30));
        assert_eq!(read("max-stale").max_stale, Some(LONGEST));
        assert_eq!(read("max-stale=5").max_stale, Some(5));
        assert_eq!(read("max-age=99999999999999999999").max_age, Some(LONGEST));
        // A comma or a directive in quotes is none.
        let quoted = read("no-cache=\"set-cookie, no-store, x\", private");
        assert!(quoted.no_cache && quoted.private && !quoted.no_store);
        assert!(!read("x=\"\\\", no-store, \"").no_store);
        assert!(!read("no-storey").no_store && !read("").no_store);
    }

    #[test]
    fn what_cannot_be_read_counts_against_storing() {
        for bad in
            ["max-age=", "max-age", "max-age=-1", "max-age=1.5", "max-age=soon", "max-age=\"1"]
        {
            assert_eq!(read(bad).max_age, Some(0), "{bad}");
        }
        assert_eq!(read("stale-if-error=x").stale_if_error, Some(0));
        assert_eq!(read("min-fresh=x").min_fresh, Some(LONGEST));
        assert!(read(&"a,".repeat(MOST)).no_store);
        let mut headers = HeaderMap::new();
        for _ in 0..3 {
            let long = HeaderValue::from_str(&"a,".repeat(MOST / 4)).unwrap();
            headers.append(CACHE_CONTROL, long);
        }
        assert!(Control::of(&headers).no_store);
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        assert!(Control::of(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        assert!(!Control::of(&headers).no_cache);
    }

    proptest! {
        #[test]
        fn anything_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Control::parse(&bytes);
        }

        /// Splitting at a comma outside quotes, or sending two headers, says the same.
        #[test]
        fn one_header_or_two(a in "[a-z=,0-9-]{0,30}", b in "[a-z=,0-9-]{0,30}") {
            let mut headers = HeaderMap::new();
            headers.append(CACHE_CONTROL, HeaderValue::from_str(&a).unwrap());
            headers.append(CACHE_CONTROL, HeaderValue::from_str(&b).unwrap());
            prop_assert_eq!(Control::of(&headers), read(&format!("{a},{b}")));
        }
    }
}
