//! Certificates of Consul Connect: the roots to trust and the leaf to show, read from the agent
//! and watched like anything else (both replies carry an index). Who may call whom is in
//! [`super::intention`], whose certificate it is in [`super::spiffe`], when they are asked for and
//! put in force in [`membership`].

pub mod membership;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;

use super::duration::Text;
use super::error::{ConsulError, Unreadable};
use super::name::ServiceName;
use super::settings::Settings;
use super::spiffe::SpiffeId;
use super::wire::{Api, Class, Cursor, Many, Query, open, or_empty};
use crate::time::Wall;

/// Most certificates of one PEM text.
const MOST_CERTIFICATES: usize = 16;

/// `GET /v1/agent/connect/ca/roots`: from the agent's cache, so that many clients of one agent
/// cost the servers nothing.
///
/// # Errors
/// Settings without an agent.
pub fn roots(api: &Api<'_>, cursor: Option<Cursor>) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Service, "/v1/agent/connect/ca/roots", blocking(cursor))
}

/// `GET /v1/agent/connect/ca/leaf/{service}`: a certificate with its key, made when there is
/// none. Answers again when the authority is rotated or the certificate grows old.
///
/// # Errors
/// Settings without an agent.
pub fn leaf(
    api: &Api<'_>,
    service: &ServiceName,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.get(Class::Service, &format!("/v1/agent/connect/ca/leaf/{service}"), blocking(cursor))
}

fn blocking(cursor: Option<Cursor>) -> Query {
    let mut query = Query::default();
    if let Some(cursor) = cursor {
        query.pair("index", &cursor.index.max(1).to_string());
        query.pair("wait", &Text(cursor.wait).to_string());
    }
    query
}

/// The authorities to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The trust domain all identities belong to.
    pub trust_domain: Arc<str>,
    /// Every root certificate, DER, the active one first. During a rotation there are several,
    /// and all of them count.
    pub certificates: Vec<Bytes>,
    /// Intermediate certificates, DER.
    pub intermediates: Vec<Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRoots {
    trust_domain: Arc<str>,
    #[serde(default, deserialize_with = "or_empty")]
    roots: Vec<RawRoot>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRoot {
    root_cert: String,
    #[serde(default, deserialize_with = "or_empty")]
    intermediate_certs: Vec<String>,
    #[serde(default)]
    active: bool,
}

/// The reply to [`roots`].
///
/// # Errors
/// A status that is no success, and a reply that is too large, of another shape, or without any
/// certificate: nothing could be trusted then.
pub fn parse_roots(settings: &Settings, status: u16, body: &[u8]) -> Result<Roots, ConsulError> {
    let what = "the roots of connect";
    let mut raw: RawRoots = open(settings, what, status, body)?;
    // Stable: the others keep their order.
    raw.roots.sort_by_key(|root| !root.active);
    let pem = || ConsulError::unreadable(what, Unreadable::Pem);
    let (mut certificates, mut intermediates) = (Vec::new(), Vec::new());
    for root in &raw.roots {
        certificates.extend(blocks(&root.root_cert, "CERTIFICATE").ok_or_else(pem)?);
        for text in &root.intermediate_certs {
            intermediates.extend(blocks(text, "CERTIFICATE").ok_or_else(pem)?);
        }
        if certificates.len() + intermediates.len() > MOST_CERTIFICATES * 4 {
            return Err(ConsulError::TooMany { what: what.into(), most: MOST_CERTIFICATES * 4 });
        }
    }
    if certificates.is_empty() {
        return Err(pem());
    }
    // The domain has to be one that an identity can be of.
    if SpiffeId::new(&raw.trust_domain.to_ascii_lowercase(), "dc1", "x").is_none() {
        return Err(ConsulError::unreadable(what, Unreadable::Spiffe));
    }
    Ok(Roots {
        trust_domain: raw.trust_domain.to_ascii_lowercase().into(),
        certificates,
        intermediates,
    })
}

/// A private key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    pem: Arc<str>,
}

impl PrivateKey {
    /// The key as PEM, to be handed to TLS and to nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.pem
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(\u{2026})")
    }
}

/// The certificate of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// Its serial number, as Consul writes it.
    pub serial: Arc<str>,
    /// The chain, DER, its own certificate first.
    pub chain: Vec<Bytes>,
    /// The chain as PEM.
    pub pem: Arc<str>,
    /// Its key.
    pub key: PrivateKey,
    /// Not before.
    pub valid_after: Wall,
    /// Not after.
    pub valid_before: Wall,
}

impl Leaf {
    /// Whether it is the certificate of `service` in the trust domain of `roots`.
    #[must_use]
    pub fn belongs(&self, service: &ServiceName, roots: &Roots) -> bool {
        *self.id.service == *service.as_str() && self.id.trust_domain == roots.trust_domain
    }
}

#[derive(Deserialize)]
struct RawLeaf {
    #[serde(rename = "SerialNumber", default)]
    serial: Arc<str>,
    #[serde(rename = "CertPEM")]
    cert: Arc<str>,
    #[serde(rename = "PrivateKeyPEM")]
    key: Arc<str>,
    #[serde(rename = "ServiceURI")]
    uri: String,
    #[serde(rename = "ValidAfter")]
    after: String,
    #[serde(rename = "ValidBefore")]
    before: String,
}

/// The reply to [`leaf`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or not what it should be. Nothing
/// of it is repeated: it contains a key.
pub fn parse_leaf(settings: &Settings, status: u16, body: &[u8]) -> Result<Leaf, ConsulError> {
    let what = "the leaf certificate";
    let bad = |why| ConsulError::unreadable(what, why);
    let raw: RawLeaf = open(settings, what, status, body)?;
    let chain = blocks(&raw.cert, "CERTIFICATE").filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| bad(Unreadable::Pem))?;
    let keys = ["EC PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY"];
    let count: usize =
        keys.iter().filter_map(|label| blocks(&raw.key, label)).map(|found| found.len()).sum();
    if count != 1 {
        return Err(bad(Unreadable::Pem));
    }
    let time = |text: &str| rfc3339(text).ok_or_else(|| bad(Unreadable::Time));
    Ok(Leaf {
        id: SpiffeId::parse(&raw.uri).ok_or_else(|| bad(Unreadable::Spiffe))?,
        serial: raw.serial,
        chain,
        pem: raw.cert,
        key: PrivateKey { pem: raw.key },
        valid_after: time(&raw.after)?,
        valid_before: time(&raw.before)?,
    })
}

/// `POST /v1/agent/connect/authorize`: whether `client` may call `target`, by the intentions.
/// Consul 1.8.7 does not compare trust domains here; verify the id with [`SpiffeId::verify`]
/// first.
///
/// # Errors
/// A serial number that cannot be one.
pub fn authorize(
    api: &Api<'_>,
    target: &ServiceName,
    client: &SpiffeId,
    serial: &str,
) -> Result<Request<Bytes>, ConsulError> {
    let fine = |c: u8| c.is_ascii_hexdigit() || c == b':' || c == b'-';
    if serial.is_empty() || serial.len() > 128 || !serial.bytes().all(fine) {
        return Err(ConsulError::field("serial", "consists of hexadecimal digits, ':' and '-'"));
    }
    let body = serde_json::json!({
        "Target": target.as_str(), "ClientCertURI": client.to_string(), "ClientCertSerial": serial,
    });
    let body = super::wire::encode(&body)?;
    api.request(
        http::Method::POST,
        Class::Service,
        "/v1/agent/connect/authorize",
        Query::default(),
        Some(body),
    )
}

/// The answer to [`authorize`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_authorized(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<bool, ConsulError> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(rename = "Authorized")]
        authorized: bool,
    }
    open::<Raw>(settings, "the authorization", status, body).map(|raw| raw.authorized)
}

/// The content of the PEM blocks labelled `label`; `None` when the text is broken anywhere. Text
/// between blocks is ignored, as openssl writes it.
fn blocks(text: &str, label: &str) -> Option<Vec<Bytes>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once("-----BEGIN ") {
        let (named, tail) = tail.split_once("-----")?;
        let (content, tail) = tail.split_once("-----END ")?;
        let (ended, tail) = tail.split_once("-----")?;
        if named != ended {
            return None;
        }
        if named == label {
            let packed: String = content.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let der = STANDARD.decode(packed).ok().filter(|der| !der.is_empty())?;
            found.push(der.into());
            if found.len() > MOST_CERTIFICATES {
                return None;
            }
        }
        rest = tail;
    }
    Some(found)
}

/// A time as JSON of Go has it: `2026-11-21T08:42:52.5Z`, or with an offset. Fractions are cut
/// off; before 1970 is 1970.
pub(crate) fn rfc3339(text: &str) -> Option<Wall> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let at = |index: usize, mark: &[u8]| bytes.get(index).is_some_and(|c| mark.contains(c));
    if !(at(4, b"-") && at(7, b"-") && at(10, b"Tt ") && at(13, b":") && at(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = days.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=*length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        rest = fraction.get(digits..).filter(|_| digits > 0)?;
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ if rest.len() == 6 && rest.get(3..4) == Some(":") => {
            let two =
                |from: usize, to: usize| rest.get(from..to)?.parse::<u8>().ok().map(i64::from);
            let (hours, minutes) = (two(1, 3)?, two(4, 6)?);
            let span = (hours <= 23 && minutes <= 59).then_some(hours * 3_600 + minutes * 60)?;
            match rest.get(..1)? {
                "+" => span,
                "-" => -span,
                _ => return None,
            }
        }
        _ => return None,
    };
    // Days since 1970: those of the years before, then of the months, then of this one.
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    let since_year_one = before * 365 + leaps;
    let months: i64 = days.iter().take(usize::try_from(month - 1).ok()?).sum();
    let seconds = (since_year_one - 719_162 + months + day - 1) * 86_400
        + hour * 3_600
        + minute * 60
        + second
        - offset;
    Some(Wall(u64::try_from(seconds.max(0)).ok()?))
}

/// The lists of Connect are short; kept here so that all of its files bound them alike.
pub(super) fn short_list<T>(what: &str, Many(list): Many<T>) -> Result<Vec<T>, ConsulError> {
    const MOST: usize = 10_000;
    if list.len() > MOST {
        return Err(ConsulError::TooMany { what: what.into(), most: MOST });
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
