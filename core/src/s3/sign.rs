//! AWS Signature Version 4 for S3, in the `Authorization` header or in a URL (presigned).
//!
//! A signature proves who asks, for what, where and when, without sending the secret. It covers
//! the host, so it is made for each attempt anew, when it is known where the attempt goes; and
//! the time, which storage compares with its own clock: a signature is good for 15 minutes.
//!
//! By the published rules (Amazon S3 API reference, "Authenticating Requests (AWS Signature
//! Version 4)"), tested against the examples given there. What differs: the body of a request is
//! hashed as a whole or not at all, chunked signatures are not made. Switched off by leaving out
//! the access key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use sha2::{Digest, Sha256};

use super::canonical;
use super::credentials::{Credentials, Settings};
use super::date::Stamp;
use crate::address::Address;
use crate::time::Wall;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Longest life of a presigned URL: seven days.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Signs the attempts of one request. The body is hashed once, when this is made.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use origin_core::Wall;
/// use origin_core::config::StorageConfig;
/// use origin_core::Secret;
/// use origin_core::s3::{Settings, Signer};
///
/// let config = StorageConfig {
///     access_key: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
///     secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
///     ..StorageConfig::default()
/// };
/// let settings = Arc::new(Settings::of(&config, "storage", |_| None)?);
/// let mut request = http::Request::new(Bytes::new());
/// *request.uri_mut() = "https://storage.example/bucket/key".parse().unwrap();
/// let signer = Signer::new(&settings, b"").expect("there is a key");
/// signer.sign(&mut request, Wall(1_369_353_600));
/// assert_eq!(request.headers()["x-amz-date"], "20130524T000000Z");
/// assert!(!format!("{signer:?}").contains("wJalr"));
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Signer {
    settings: Arc<Settings>,
    content: Arc<str>,
    at: Option<Wall>,
}

impl Signer {
    /// For requests with this body; `None` without credentials: nothing is to be signed then.
    #[must_use]
    pub fn new(settings: &Arc<Settings>, body: &[u8]) -> Option<Signer> {
        settings.credentials.as_ref()?;
        let content =
            if settings.sign_payload { hex(&Sha256::digest(body)).into() } else { UNSIGNED.into() };
        Some(Signer { settings: settings.clone(), content, at: None })
    }

    /// The same, made at this time whatever the clock here says: for a server whose clock says
    /// otherwise.
    #[must_use]
    pub fn at(mut self, server: Wall) -> Signer {
        self.at = Some(server);
        self
    }

    /// The same time as another one, if that is at the time of a server.
    pub(crate) fn follow(&mut self, other: &Signer) {
        self.at = other.at;
    }

    /// Whether it is made at the time of a server.
    #[must_use]
    pub fn is_at(&self) -> bool {
        self.at.is_some()
    }

    /// Signs a request, which has its absolute URI and all headers of its own. The default port
    /// is taken out of the URI: some HTTP libraries name it to the server and some do not.
    pub fn sign(&self, request: &mut http::Request<Bytes>, now: Wall) {
        let Some(credentials) = &self.settings.credentials else { return };
        let stamp = Stamp::of(self.at.unwrap_or(now));
        without_default_port(request.uri_mut());
        let headers = request.headers_mut();
        headers.remove(AUTHORIZATION);
        put(headers, DATE, &stamp.to_string(), false);
        put(headers, CONTENT, &self.content, false);
        if let Some(token) = &credentials.session_token {
            put(headers, TOKEN, token.expose(), true);
        }
        let host = match request.headers().get(HOST) {
            Some(host) => host.as_bytes().to_vec(),
            None => request.uri().authority().map(Authority::as_str).unwrap_or("").into(),
        };
        let (lines, names) = canonical::headers(&host, request.headers());
        let mut canonical = Vec::with_capacity(512);
        for part in [
            request.method().as_str(),
            &canonical::path(request.uri().path()),
            &canonical::query(request.uri().query().unwrap_or("")),
        ] {
            canonical.extend_from_slice(part.as_bytes());
            canonical.push(b'\n');
        }
        canonical.extend_from_slice(&lines);
        canonical.extend_from_slice(format!("\n{names}\n{}", self.content).as_bytes());
        let scope = Scope::of(stamp, &self.settings.region, "s3");
        let signature = scope.signature(credentials.secret_key.expose(), &canonical);
        let text = format!(
            "{ALGORITHM} Credential={}/{},SignedHeaders={names},Signature={signature}",
            credentials.access_key, scope.text
        );
        put(request.headers_mut(), AUTHORIZATION, &text, true);
    }
}

/// A URL that lets whoever has it read `path` at `endpoint` for `expires`, counted from `now`; at
/// most [`LONGEST`]. `None` without credentials, and when `endpoint` is not an HTTP address.
pub(crate) fn presigned(
    settings: &Settings,
    endpoint: &Address,
    path: &str,
    now: Wall,
    expires: Duration,
) -> Option<String> {
    let credentials = settings.credentials.as_ref()?;
    let mut uri = endpoint.join(&path.parse().ok()?)?;
    without_default_port(&mut uri);
    let (stamp, host) = (Stamp::of(now), uri.authority()?.as_str().to_owned());
    let scope = Scope::of(stamp, &settings.region, "s3");
    let query = presigned_query(credentials, &scope, stamp, expires, uri.query().unwrap_or(""));
    let canonical =
        format!("GET\n{}\n{query}\nhost:{host}\n\nhost\n{UNSIGNED}", canonical::path(uri.path()));
    let signature = scope.signature(credentials.secret_key.expose(), canonical.as_bytes());
    let scheme = uri.scheme_str()?;
    Some(format!("{scheme}://{host}{}?{query}&X-Amz-Signature={signature}", uri.path()))
}

fn presigned_query(
    credentials: &Credentials,
    scope: &Scope,
    stamp: Stamp,
    expires: Duration,
    own: &str,
) -> String {
    let encode = crate::ops::encode_query;
    let credential = encode(&format!("{}/{}", credentials.access_key, scope.text));
    let seconds = expires.min(LONGEST).as_secs().max(1);
    let mut query = format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={stamp}\
         &X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host&{own}"
    );
    if let Some(token) = &credentials.session_token {
        query.push_str("&X-Amz-Security-Token=");
        query.push_str(&encode(token.expose()));
    }
    canonical::query(&query)
}

/// Which key is derived from the secret: for a day, a region and a service only.
struct Scope {
    stamp: Stamp,
    /// `20130524/us-east-1/s3/aws4_request`.
    text: String,
}

impl Scope {
    fn of(stamp: Stamp, region: &str, service: &str) -> Scope {
        Scope { stamp, text: format!("{}/{region}/{service}/aws4_request", stamp.date()) }
    }

    /// The signature of a canonical request, in hexadecimal digits.
    fn signature(&self, secret: &str, canonical: &[u8]) -> String {
        let (stamp, text) = (self.stamp, &self.text);
        let key = format!("AWS4{secret}");
        // Day, region, service and the end of the scope, one after the other.
        let key = text.split('/').fold(key.into_bytes(), |key, part| mac(&key, part.as_bytes()));
        let digest = hex(&Sha256::digest(canonical));
        hex(&mac(&key, format!("{ALGORITHM}\n{stamp}\n{text}\n{digest}").as_bytes()))
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key of any length will do (RFC 2104 §2), so this does not fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |b: &u8| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]];
    bytes.iter().flat_map(digits).map(char::from).collect()
}

fn put(headers: &mut http::HeaderMap, name: HeaderName, value: &str, sensitive: bool) {
    // Settings are checked: whatever stands in them can stand in a header.
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(sensitive);
        headers.insert(name, value);
    }
}

fn without_default_port(uri: &mut Uri) {
    let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    if uri.port_u16() != Some(default) {
        return;
    }
    let mut parts = std::mem::take(uri).into_parts();
    let host = parts.authority.as_ref().and_then(|full| full.host().parse().ok());
    parts.authority = host.or(parts.authority);
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests;
