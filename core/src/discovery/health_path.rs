//! Where the health path of an instance begins. The Origin document names paths that are appended
//! to an address, base path and all (`/auth` and `/health` give `/auth/health`, 000-42); services
//! that keep their API below a prefix answer beside it (`http://h:8001/api/v1` is healthy by
//! `http://h:8001/health`, 002-26). Both are one text, so that what carries a health path
//! ([`super::Instance`], [`super::Candidate`], a configured path) carries this too: a path that
//! begins with two slashes begins at the host. Appending such a text never made sense, and it
//! cannot leave the host either way: the address gives the authority, not the path.

use http::uri::{PathAndQuery, Uri};

use crate::address::Address;

/// Longest text, in bytes.
pub const LONGEST: usize = 1024;

/// A health path, read.
///
/// ```
/// use origin_core::Address;
/// use origin_core::discovery::HealthPath;
///
/// let api = Address::parse("http://users:8001/api/v1").unwrap();
/// let uri = |text| HealthPath::of(text).at(&api).unwrap().to_string();
/// assert_eq!(uri("/health"), "http://users:8001/api/v1/health");
/// assert_eq!(uri("//health"), "http://users:8001/health");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HealthPath<'a> {
    /// Appended to the address, below its base path.
    Below(&'a str),
    /// At the host of the address, its base path left out.
    AtRoot(&'a str),
}

impl<'a> HealthPath<'a> {
    /// Reads the text form: `/path`, or `//path` for one at the host.
    #[must_use]
    pub fn of(text: &'a str) -> HealthPath<'a> {
        match text.strip_prefix('/') {
            Some(path) if path.starts_with('/') => HealthPath::AtRoot(path),
            _ => HealthPath::Below(text),
        }
    }

    /// The URI to ask at `address`; `None` when it is not an HTTP address or this is no path.
    #[must_use]
    pub fn at(self, address: &Address) -> Option<Uri> {
        let (HealthPath::Below(text) | HealthPath::AtRoot(text)) = self;
        if fault(text).is_some() {
            return None;
        }
        let path: PathAndQuery = text.parse().ok()?;
        match self {
            HealthPath::Below(_) => address.join(&path),
            HealthPath::AtRoot(_) => address.root(&path),
        }
    }
}

/// What is wrong with the text form of a health path.
pub(crate) fn fault(text: &str) -> Option<&'static str> {
    if text.len() > LONGEST {
        return Some("is longer than 1024 bytes");
    }
    if !text.starts_with('/') {
        return Some("does not begin with '/'");
    }
    if !text.bytes().all(|c| c.is_ascii_graphic()) || text.contains('#') {
        return Some("contains a space, '#' or a character that must be percent-encoded");
    }
    text.parse::<PathAndQuery>().is_err().then_some("is not a path")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_000_42_002_26_below_and_at_root() {
        for (address, text, uri) in [
            ("http://a/auth", "/health", Some("http://a/auth/health")),
            ("http://a/auth", "//health", Some("http://a/health")),
            ("http://a", "//health", Some("http://a/health")),
            ("http://a/b", "//", Some("http://a/")),
            ("http://a/b", "///x", Some("http://a//x")),
            ("http://a/b", "//evil.example/x", Some("http://a/evil.example/x")),
            ("http://a/b", "health", None),
            ("http://a/b", "", None),
            ("http://a/b", "http://evil.example/", None),
            ("http://a/b", "/a b", None),
            ("http://a/b", "/x\r\nHost: y", None),
            ("a:5432", "//health", None),
        ] {
            let address = Address::parse(address).unwrap();
            let got = HealthPath::of(text).at(&address).map(|uri| uri.to_string());
            assert_eq!(got.as_deref(), uri, "{address} {text:?}");
        }
        assert!(fault(&format!("/{}", "x".repeat(LONGEST))).is_some());
    }

    proptest! {
        /// Whatever the text, the question goes to the host of the address.
        #[test]
        fn never_leaves_the_host(text in "[/a-z.:@?#\\[\\] é]{0,20}") {
            let address = Address::parse("http://here:81/base").unwrap();
            if let Some(uri) = HealthPath::of(&text).at(&address) {
                prop_assert_eq!(uri.authority().unwrap().as_str(), "here:81");
                prop_assert_eq!(uri.scheme_str(), Some("http"));
                let below = uri.path().starts_with("/base/");
                prop_assert!(below || text.starts_with("//"), "{} gave {}", text, uri);
            }
        }
    }
}
