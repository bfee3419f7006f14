//! Addresses of endpoints as discovery documents write them: with or without scheme, port, base
//! path, trailing slash, IPv6. Parsed once; joining a path to one costs no parsing.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use serde::{Deserialize, Serialize};

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: {reason}")]
pub struct BadAddress {
    text: String,
    reason: &'static str,
}

impl BadAddress {
    /// What is wrong, without the text: for errors that must not repeat what they were given.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

/// As much of a refused text as may be repeated: 80 characters, and of these no word that mixes
/// letters and digits, as tokens, keys and passwords do. What is no address may be anything.
fn shown(text: &str) -> String {
    let begin: String = text.chars().take(80).collect();
    let (mut shown, mut rest) = (String::new(), begin.as_str());
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(word);
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let secret = (1..word.len()).contains(&digits);
        shown.push_str(if secret { "…" } else { word });
        let other = behind.find(|c: char| c.is_ascii_alphanumeric()).unwrap_or(behind.len());
        let (other, behind) = behind.split_at(other);
        shown.push_str(other);
        rest = behind;
    }
    shown
}

/// Where an endpoint is: scheme, host with port, and base path.
///
/// An address without `http://` or `https://` (a database, say) is kept as it is and can be read,
/// but not called over HTTP.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: Arc<str>,
    http: Option<Http>,
}

#[derive(Clone)]
struct Http {
    scheme: Scheme,
    authority: Authority,
    /// Base path without its trailing slash; empty when there is none.
    base: Arc<str>,
    /// Value of the `Host` header: the authority without a default port (RFC 9110 §7.2).
    host: HeaderValue,
}

impl Address {
    /// Reads an address. User information (`user:pw@host`), a query, a fragment, white space and
    /// anything longer than 2048 bytes are refused.
    ///
    /// # Errors
    /// [`BadAddress`] with the reason.
    pub fn parse(text: &str) -> Result<Address, BadAddress> {
        let bad = |reason| BadAddress { text: shown(text), reason };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if text.len() > 2048 {
            return Err(bad("it is longer than 2048 bytes"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("it contains white space or control characters"));
        }
        // Checked on the text: an error must not repeat a password that stands in front of '@'.
        if text.contains('@') {
            return Err(BadAddress {
                text: "…@…".to_owned(),
                reason: "credentials do not belong in an address",
            });
        }
        if text.contains(['?', '#']) {
            return Err(bad("a query or fragment does not belong in an address"));
        }
        let Some((scheme, _)) = text.split_once("://") else {
            return Ok(Address { text: text.into(), http: None });
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return Ok(Address { text: text.into(), http: None }),
        };
        let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
        let authority = uri.authority().cloned().ok_or_else(|| bad("it has no host"))?;
        if authority.host().is_empty() || authority.host() == "[]" {
            return Err(bad("it has no host"));
        }
        // Read here, not by `Authority::port`, which takes an unreadable port for none.
        let port = authority.as_str().get(authority.host().len()..).unwrap_or("");
        if !port.is_empty() && !port[1..].parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(bad("its port is not between 1 and 65535"));
        }
        let base = uri.path().trim_end_matches('/').into();
        let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = match authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        let host = HeaderValue::try_from(host).map_err(|_| bad("its host is not valid"))?;
        Ok(Address { text: text.into(), http: Some(Http { scheme, authority, base, host }) })
    }

    /// Whether this can be called over HTTP.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.http.is_some()
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value of the `Host` header of a plain HTTP/1.1 request to this address; `None` for
    /// `https`, where HTTP/2 may be spoken, which has another place for it.
    #[must_use]
    pub fn host(&self) -> Option<&HeaderValue> {
        self.http.as_ref().filter(|http| http.scheme == Scheme::HTTP).map(|http| &http.host)
    }

    /// The absolute URI of `path` below this address. The base path is kept: `/auth` and
    /// `/health` give `/auth/health`. `None` when this is not an HTTP address.
    #[must_use]
    pub fn join(&self, path: &PathAndQuery) -> Option<Uri> {
        let http = self.http.as_ref()?;
        let path = if http.base.is_empty() {
            path.clone()
        } else {
            format!("{}{}", http.base, path.as_str()).parse().ok()?
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http.scheme.clone());
        parts.authority = Some(http.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }

    /// The absolute URI of `path` at the host of this address, its base path left out: for what
    /// stands beside an API and not in it. `None` when this is not an HTTP address.
    #[must_use]
    pub fn root(&self, path: &PathAndQuery) -> Option<Uri> {
        let http = self.http.as_ref()?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http.scheme.clone());
        parts.authority = Some(http.authority.clone());
        parts.path_and_query = Some(path.clone());
        Uri::from_parts(parts).ok()
    }

    /// Host (without the brackets of IPv6) and port, the default one filled in. An address that is
    /// not an HTTP one has them if it is written `host:port`.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let Some(http) = &self.http else {
            let rest = self.text.split_once("://").map_or(&*self.text, |(_, rest)| rest);
            let (host, port) = rest.split('/').next()?.rsplit_once(':')?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            return Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty());
        };
        let default = if http.scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = http.authority.host().trim_start_matches('[').trim_end_matches(']');
        Some((host, http.authority.port_u16().unwrap_or(default)))
    }

    /// The whole address as a URI, its path as written: for a discovery URL.
    #[must_use]
    pub fn uri(&self) -> Option<Uri> {
        self.http.as_ref().and_then(|_| self.text.parse().ok())
    }
}

impl std::hash::Hash for Address {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        self.text == other.text
    }
}

impl Eq for Address {}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Address {
    type Error = BadAddress;
    fn try_from(text: String) -> Result<Address, BadAddress> {
        Address::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_000_45_a_refused_text_is_repeated_without_what_could_be_a_secret() {
        let told = |text: &str| Address::parse(text).unwrap_err().to_string();
        assert!(told("http://b:80eeee80/x").contains("http://b:…/x"));
        assert!(told("http://ip-10-0-0-12.internal:0/x").contains("ip-10-0-0-12.internal:0/x"));
        assert!(told("http://h:1/x?token=abcd1234").contains("?token=…"));
        assert!(!told("http://u:hunter2?a").contains("hunter2"));
        assert!(!told(&format!("http://h:x{}", "üa1".repeat(60))).is_empty());
    }

    fn joined(address: &str, path: &'static str) -> Option<String> {
        Address::parse(address)
            .unwrap()
            .join(&PathAndQuery::from_static(path))
            .map(|u| u.to_string())
    }

    #[test]
    fn case_000_42_every_written_form_has_a_meaning() {
        assert_eq!(joined("http://a:80", "/x?q=1").as_deref(), Some("http://a:80/x?q=1"));
        assert_eq!(joined("http://a/auth", "/health").as_deref(), Some("http://a/auth/health"));
        assert_eq!(joined("https://a/auth/", "/health").as_deref(), Some("https://a/auth/health"));
        assert_eq!(joined("http://a//", "/h").as_deref(), Some("http://a/h"));
        assert_eq!(joined("http://[::1]:8080", "/h").as_deref(), Some("http://[::1]:8080/h"));
        assert_eq!(joined("HTTP://a", "/h").as_deref(), Some("http://a/h"));
        assert_eq!(joined("postgresql.alpha.origin.internal", "/h"), None);
        assert_eq!(joined("postgresql.origin-system.svc.cluster.local:5432", "/h"), None);
        assert_eq!(joined("postgres://a:5432", "/h"), None);
        for bad in [
            "",
            "http://",
            "http:///x",
            "http://a:0",
            "http://a:",
            "http://a:99999",
            "http://[::1",
            "http://a b",
            "http://a/\n",
            "http://a?x=1",
            "http://a#f",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    /// A path stays at the host of the address, whatever it looks like.
    #[test]
    fn case_002_26_root_leaves_the_base_path_out() {
        let root = |address: &str, path: &str| {
            let path: PathAndQuery = path.parse().unwrap();
            Address::parse(address).unwrap().root(&path).map(|uri| uri.to_string())
        };
        for (address, path, uri) in [
            ("http://a:8001/api/v1", "/health", Some("http://a:8001/health")),
            ("https://a/auth/", "/ready?x=1", Some("https://a/ready?x=1")),
            ("http://a", "/health", Some("http://a/health")),
            ("http://[::1]:8080/api", "/health", Some("http://[::1]:8080/health")),
            ("http://a:1/b", "//other/x", Some("http://a:1//other/x")),
            ("a:5432", "/health", None),
        ] {
            assert_eq!(root(address, path).as_deref(), uri, "{address} {path}");
        }
    }

    #[test]
    fn the_host_header_is_the_authority_without_a_default_port() {
        for (address, host) in [
            ("http://a:80/auth", Some("a")),
            ("http://a", Some("a")),
            ("http://a:8080", Some("a:8080")),
            ("http://a:443", Some("a:443")),
            ("http://[::1]:8080", Some("[::1]:8080")),
            ("https://a:8443", None),
            ("a:5432", None),
        ] {
            let address = Address::parse(address).unwrap();
            assert_eq!(address.host().map(|host| host.to_str().unwrap()), host, "{address}");
        }
    }

    #[test]
    fn credentials_are_refused_and_not_repeated() {
        let error = Address::parse("http://user:hunter2@a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(address.as_str(), text);
                let _ = address.join(&PathAndQuery::from_static("/x"));
            }
        }
    }
}
