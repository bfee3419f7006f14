//! The id that ties together what is done on behalf of one request of a user: sent along with
//! every attempt, unchanged, and in every report. What a caller gives is kept as it is; a call
//! without one gets a UUID of version 4 (RFC 9562 §5.4) from the client's seed and the number of
//! the call, so that a recorded run names its calls alike. Under which headers it travels is in
//! [`crate::policy::remaining`].

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::rng::Pcg32;

/// Longest id in bytes.
pub const LONGEST: usize = 128;

/// Keeps the ids apart from the call's jitter, which has the same seed.
const APART: u64 = 0xc0de_1d5e_ed00_0000;

/// Where the two digits of each byte stand in a UUID.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The two digits of every byte.
pub(crate) static HEX: [[u8; 2]; 256] = {
    let mut table = [[0; 2]; 256];
    let mut n = 0;
    while n < 256 {
        table[n] = [b"0123456789abcdef"[n >> 4], b"0123456789abcdef"[n & 15]];
        n += 1;
    }
    table
};

/// An id of 1 to 128 visible ASCII characters. Cheap to clone.
///
/// ```
/// use origin_core::Correlation;
///
/// let given = Correlation::new("order-4711")?;
/// assert_eq!(given.as_str(), "order-4711");
/// assert!(Correlation::new("two\nlines").is_err());
/// // Without one: a UUID.
/// assert_eq!(Correlation::random(1, 2).as_str().len(), 36);
/// # Ok::<(), origin_core::correlation::BadCorrelation>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Correlation(HeaderValue);

/// The text is no correlation id. It is not repeated: it may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a correlation id has 1 to 128 visible ASCII characters")]
pub struct BadCorrelation;

impl Correlation {
    /// The id of a caller.
    ///
    /// # Errors
    /// A text that is empty, longer than 128 bytes, or has other characters than visible ASCII.
    pub fn new(text: &str) -> Result<Correlation, BadCorrelation> {
        let sound =
            (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            return Err(BadCorrelation);
        }
        HeaderValue::from_str(text).map(Correlation).map_err(|_| BadCorrelation)
    }

    /// The id of an incoming request, if it has a sound one.
    #[must_use]
    pub fn of(headers: &HeaderMap, name: &str) -> Option<Correlation> {
        Correlation::new(headers.get(name)?.to_str().ok()?).ok()
    }

    /// A UUID of version 4, the same for the same numbers.
    #[must_use]
    pub fn random(seed: u64, call: u64) -> Correlation {
        let mut rng = Pcg32::new(seed ^ APART, call);
        let mut bytes = [0_u8; 16];
        for four in bytes.chunks_exact_mut(4) {
            four.copy_from_slice(&rng.bits().to_be_bytes());
        }
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        for (byte, at) in bytes.into_iter().zip(PLACES) {
            text[at..at + 2].copy_from_slice(&HEX[usize::from(byte)]);
        }
        // One allocation for all who hold it. Hexadecimal digits and hyphens are always a value.
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        Correlation(value.unwrap_or(HeaderValue::from_static("-")))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Visible ASCII is always text.
        std::str::from_utf8(self.0.as_bytes()).unwrap_or("-")
    }

    /// The same as the value of a header.
    #[must_use]
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

static USUAL: [HeaderName; 2] =
    [HeaderName::from_static("x-correlation-id"), HeaderName::from_static("x-request-id")];

/// The name of a header that ids travel under. The usual ones cost no allocation.
pub(crate) fn header_name(name: &str) -> Option<HeaderName> {
    match name {
        "x-correlation-id" => Some(USUAL[0].clone()),
        "x-request-id" => Some(USUAL[1].clone()),
        other => HeaderName::from_bytes(other.as_bytes()).ok(),
    }
}

impl fmt::Display for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Correlation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Correlation {
    type Error = BadCorrelation;

    fn try_from(text: String) -> Result<Correlation, BadCorrelation> {
        Correlation::new(&text)
    }
}

impl From<Correlation> for String {
    fn from(id: Correlation) -> String {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_001_51_a_made_id_is_a_uuid_of_version_4_and_no_two_are_alike() {
        let ids: std::collections::BTreeSet<String> =
            (0..10_000).map(|call| Correlation::random(7, call).to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        for id in &ids {
            let parts: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!("89ab".contains(&id[19..20]), "{id}");
            assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()));
        }
        // The same client, the same call: the same id; another client another one.
        assert_eq!(Correlation::random(7, 1), Correlation::random(7, 1));
        assert_ne!(Correlation::random(8, 1), Correlation::random(7, 1));
    }

    #[test]
    fn what_would_break_a_header_or_a_line_of_a_log_is_refused() {
        for bad in ["", " ", "a b", "a\r\nx: y", "\u{1b}[31m", "ü", &"x".repeat(129)] {
            assert_eq!(Correlation::new(bad), Err(BadCorrelation), "{bad:?}");
        }
        assert!(Correlation::new(&"x".repeat(128)).is_ok());
        let mut headers = HeaderMap::new();
        headers.insert("x-correlation-id", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Correlation::of(&headers, "x-correlation-id"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_kept_as_it_is_or_refused(text: String) {
            match Correlation::new(&text) {
                Ok(id) => {
                    prop_assert_eq!(id.as_str(), &text);
                    let json = serde_json::to_string(&id).unwrap();
                    prop_assert_eq!(serde_json::from_str::<Correlation>(&json).unwrap(), id);
                }
                Err(BadCorrelation) => {
                    let json = serde_json::to_string(&text).unwrap();
                    prop_assert!(serde_json::from_str::<Correlation>(&json).is_err());
                }
            }
        }
    }
}
