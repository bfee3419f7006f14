//! What a service, a datacenter and a registration may be called.
//!
//! A service is called by a DNS label (RFC 1123, lower case): Consul itself takes almost
//! anything, and then the name is missing from DNS, escapes from a path (`../`), or means another
//! entry in a cache whose keys are joined with `:`. So a name that is no label is refused before
//! anything is sent (004-82). The source of seed 004 also refuses hyphens, and with them its own
//! `user-service`; that is not followed.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest label (RFC 1035 §2.3.4).
pub const LONGEST: usize = 63;

/// Why a text cannot name a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum BadName {
    /// It is empty.
    #[error("a service name must not be empty")]
    Empty,
    /// It is too long.
    #[error("a service name has at most 63 characters; this one has {0}")]
    TooLong(usize),
    /// It begins or ends with a hyphen.
    #[error("a service name must not begin or end with a hyphen")]
    Edge,
    /// It has an upper case letter.
    #[error("a service name is written in lower case; character {at} is {found:?}")]
    UpperCase {
        /// Which character, from 1.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// It has another character that a DNS label has not.
    #[error("a service name consists of a-z, 0-9 and inner hyphens; character {at} is {found:?}")]
    Character {
        /// Which character, from 1.
        at: usize,
        /// What stands there.
        found: char,
    },
}

/// The name of a service: a DNS label in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// Checks a name.
    ///
    /// ```
    /// use origin_core::consul::ServiceName;
    ///
    /// assert!(ServiceName::new("user-service").is_ok());
    /// assert!(ServiceName::new("../kv").is_err());
    /// ```
    ///
    /// # Errors
    /// [`BadName`] with the first offence.
    pub fn new(text: &str) -> Result<ServiceName, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        for (at, found) in text.chars().enumerate() {
            let at = at + 1;
            match found {
                'a'..='z' | '0'..='9' | '-' => {}
                _ if found.is_uppercase() => return Err(BadName::UpperCase { at, found }),
                _ => return Err(BadName::Character { at, found }),
            }
        }
        if text.len() > LONGEST {
            return Err(BadName::TooLong(text.len()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(BadName::Edge);
        }
        Ok(ServiceName(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ServiceName {
    type Error = BadName;
    fn try_from(text: String) -> Result<ServiceName, BadName> {
        ServiceName::new(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.as_str().to_owned()
    }
}

/// Whether `text` can name a datacenter: letters, digits, `-` and `_`, as Consul has it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn datacenter(text: &str) -> Result<(), &'static str> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    match text {
        "" => Err("must not be empty"),
        _ if text.len() > LONGEST => Err("has more than 63 characters"),
        _ if !text.bytes().all(fine) => Err("consists of letters, digits, '-' and '_'"),
        _ => Ok(()),
    }
}

/// Whether `text` can be the id of a service or of a check: visible ASCII without what means
/// something in a path.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn id(text: &str) -> Result<(), &'static str> {
    let fine = |c: u8| c.is_ascii_graphic() && !matches!(c, b'/' | b'\\' | b'?' | b'#' | b'%');
    match text {
        "" => Err("must not be empty"),
        "." | ".." => Err("must not be a path"),
        _ if text.len() > 256 => Err("has more than 256 characters"),
        _ if !text.bytes().all(fine) => Err("consists of visible ASCII without / \\ ? # %"),
        _ => Ok(()),
    }
}

/// `text` as the host of a URL, IPv6 in brackets; `None` when it is neither a host name nor an IP
/// address.
pub(crate) fn host(text: &str) -> Option<String> {
    match text.parse::<core::net::IpAddr>() {
        Ok(core::net::IpAddr::V6(ip)) => Some(format!("[{ip}]")),
        Ok(core::net::IpAddr::V4(ip)) => Some(ip.to_string()),
        Err(_) => {
            let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
            let good = !text.is_empty() && text.len() <= 253 && text.bytes().all(fine);
            (good && !text.starts_with(['-', '.'])).then(|| text.to_owned())
        }
    }
}

/// Whether `text` can be a tag: 1–100 characters, none of them a control character.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn tag(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("must not be empty"),
        _ if text.chars().count() > 100 => Err("has more than 100 characters"),
        _ if text.chars().any(char::is_control) => Err("has control characters"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_004_82_only_labels_are_names() {
        for good in ["api", "user-service", "a", "0", "a--b", &"x".repeat(63)] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(ServiceName::new(""), Err(BadName::Empty));
        assert_eq!(ServiceName::new(&"x".repeat(64)), Err(BadName::TooLong(64)));
        assert_eq!(ServiceName::new("-a"), Err(BadName::Edge));
        assert_eq!(ServiceName::new("a-"), Err(BadName::Edge));
        assert_eq!(ServiceName::new("aPi"), Err(BadName::UpperCase { at: 2, found: 'P' }));
        for (bad, at) in [
            ("../x", 1),
            ("a b", 2),
            ("a:b", 2),
            ("a/b", 2),
            ("a.b", 2),
            ("a_b", 2),
            ("a\n", 2),
            ("ab\u{e4}", 3),
            ("a%2e", 2),
        ] {
            let Err(BadName::Character { at: got, .. }) = ServiceName::new(bad) else {
                panic!("{bad}")
            };
            assert_eq!(got, at, "{bad}");
        }
        // What is printed stays one line.
        assert!(!ServiceName::new("a\nb").unwrap_err().to_string().contains('\n'));
    }

    #[test]
    fn other_names() {
        assert!(datacenter("dc1").is_ok() && datacenter("eu_west-1").is_ok());
        assert!(
            datacenter("").is_err() && datacenter("a.b").is_err() && datacenter("a&b").is_err()
        );
        assert!(id("api-::1-8080").is_ok() && id("service:api:1").is_ok());
        for bad in ["", "..", "a/b", "a b", "a?b", "\u{e4}"] {
            assert!(id(bad).is_err(), "{bad}");
        }
        assert_eq!(host("::1").as_deref(), Some("[::1]"));
        assert_eq!(host("api.local").as_deref(), Some("api.local"));
        assert!(host("a b").is_none() && host("a/b").is_none() && host("a@b").is_none());
        assert!(host("").is_none() && host("-x").is_none() && host("..").is_none());
        assert!(tag("v1").is_ok() && tag("").is_err() && tag("a\n").is_err());
    }

    proptest! {
        /// What is accepted is a label, and every label is accepted.
        #[test]
        fn accepted_is_label(text in "\\PC{0,70}|[a-z0-9-]{0,70}") {
            let label = !text.is_empty() && text.len() <= 63
                && text.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !text.starts_with('-') && !text.ends_with('-');
            prop_assert_eq!(ServiceName::new(&text).is_ok(), label);
        }
    }
}
