//! How a request to Vault is put together and how a reply is opened: headers, paths, the envelope,
//! JSON within limits. What is asked for is in the other files.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{Unreadable, VaultError};
use super::settings::Settings;
use crate::address::Address;
use crate::ops::segments;
use crate::request::Request;
use crate::secret::Secret;

/// The header of the client token.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE_HEADER: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault agents and proxies can be told to refuse what lacks it: a page in a browser cannot send it.
const REQUEST_HEADER: HeaderName = HeaderName::from_static("x-vault-request");

/// Longest path below `/v1/`, in bytes.
const LONGEST: usize = 4_096;

/// What requests are made with: the settings, and the token where one is sent.
#[derive(Clone, Copy, Debug)]
pub struct Api<'a> {
    pub(super) settings: &'a Settings,
    token: Option<&'a Secret>,
}

impl<'a> Api<'a> {
    /// Requests that carry no token: logins, health.
    #[must_use]
    pub const fn anonymous(settings: &'a Settings) -> Api<'a> {
        Api { settings, token: None }
    }

    /// Requests that carry this token.
    #[must_use]
    pub const fn with(settings: &'a Settings, token: &'a Secret) -> Api<'a> {
        Api { settings, token: Some(token) }
    }

    /// The request for `path`, which is encoded already, below `/v1/`.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Exchange, VaultError> {
        if path.len() > LONGEST {
            let reason = format!("it has {} bytes, more than {LONGEST}", path.len());
            return Err(VaultError::field("path", reason));
        }
        let path: PathAndQuery = format!("/v1/{path}{query}")
            .parse()
            .map_err(|_| VaultError::field("path", "it is not the path of a URL"))?;
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_HEADER, HeaderValue::from_static("true"));
        if let Some(namespace) = self.settings.namespace() {
            headers.insert(NAMESPACE_HEADER, namespace);
        }
        if let Some(token) = self.token {
            let value = token.header();
            let value =
                value.ok_or_else(|| VaultError::field("token", "has control characters"))?;
            headers.insert(TOKEN_HEADER, value);
        }
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Exchange { method, path, headers, body: body.unwrap_or_default().into() })
    }

    /// `GET` of a path that is encoded already.
    pub(crate) fn get(&self, path: &str) -> Result<Exchange, VaultError> {
        self.request(Method::GET, path, "", None)
    }

    pub(super) fn delete(&self, path: &str) -> Result<Exchange, VaultError> {
        self.request(Method::DELETE, path, "", None)
    }

    pub(super) fn post<T: Serialize>(&self, path: &str, body: &T) -> Result<Exchange, VaultError> {
        self.request(Method::POST, path, "", Some(encode(body)?))
    }

    /// Listing: by the method `LIST`, which every version and RustyVault know, or by `?list=true`
    /// where something on the way does not let that through.
    pub(super) fn list(&self, path: &str) -> Result<Exchange, VaultError> {
        if self.settings.list_by_query() {
            return self.request(Method::GET, path, "?list=true", None);
        }
        let method = Method::from_bytes(b"LIST").unwrap_or(Method::GET);
        self.request(method, path, "", None)
    }
}

/// A request to Vault, not yet to one of its nodes. `Debug` shows neither headers nor body.
#[derive(Clone)]
pub struct Exchange {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Exchange {
    /// Its method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Its path with the query, `/v1/` included.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Its headers; that of the token is marked as sensitive.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The HTTP request to one node.
    ///
    /// # Errors
    /// An address that is not of an HTTP server.
    pub fn at(&self, node: &Address) -> Result<http::Request<Bytes>, VaultError> {
        let uri = node.join(&self.path);
        let uri = uri.ok_or_else(|| VaultError::field("urls", "this is not an HTTP address"))?;
        let mut request = http::Request::new(self.body.clone());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        request.headers_mut().clone_from(&self.headers);
        if let Some(host) = node.host() {
            request.headers_mut().insert(HOST, host.clone());
        }
        Ok(request)
    }

    /// The request of a call to the service, which chooses the node. Nodes that stand by, lag
    /// behind or have too much to do send it to another one.
    #[must_use]
    pub fn call(self, settings: &Settings, repeat: bool) -> Request {
        let mut request = Request::new(self.method, self.path);
        (request.headers, request.body) = (self.headers, self.body);
        request.max_body = Some(settings.max_bytes() as u64);
        request.spec.idempotent = Some(repeat);
        request.spec.also_retry = [429, 472, 473, 412];
        request
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} body bytes)", self.method, self.path.path(), self.body.len())
    }
}

/// A path below a mount, percent-encoded. Vault joins paths with slashes: an empty part, `.` or
/// `..` would silently be another secret.
pub(super) fn path(field: &str, text: &str) -> Result<String, VaultError> {
    let bad = |reason: &str| Err(VaultError::field(field, reason));
    match text {
        "" => bad("must not be empty"),
        _ if text.len() > 1_024 => bad("has more than 1024 bytes"),
        _ if text.chars().any(char::is_control) => bad("has control characters"),
        _ if text.split('/').any(str::is_empty) => {
            bad("has an empty part; it neither begins nor ends with a slash")
        }
        _ if text.split('/').any(|part| part == "." || part == "..") => {
            bad("has a part that is a path")
        }
        _ => Ok(segments(text)),
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, VaultError> {
    serde_json::to_vec(value).map_err(|_| VaultError::field("body", "it cannot be written as JSON"))
}

/// Whether the operation went well; the body of a success is not looked at.
///
/// # Errors
/// What the status and the text mean.
pub fn done(status: u16, body: &[u8]) -> Result<(), VaultError> {
    if (200..300).contains(&status) { Ok(()) } else { Err(VaultError::of(status, body)) }
}

/// JSON of at most `vault.max_bytes`.
pub(super) fn json<'a, T: Deserialize<'a>>(
    settings: &Settings,
    what: &str,
    body: &'a [u8],
) -> Result<T, VaultError> {
    let most = settings.max_bytes();
    if body.len() > most {
        return Err(VaultError::TooLarge { bytes: body.len(), most });
    }
    serde_json::from_slice::<Object<T>>(body).map(|object| object.0).map_err(|e| {
        let why = if e.is_data() { Unreadable::Shape } else { Unreadable::NotJson };
        VaultError::Unreadable { what: what.into(), why, line: e.line(), column: e.column() }
    })
}

/// What every reply is wrapped in. What is `null` is absent.
#[derive(Deserialize)]
pub(super) struct Envelope<D, A = serde::de::IgnoredAny> {
    #[serde(default, deserialize_with = "or_default")]
    pub lease_id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub lease_duration: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub renewable: bool,
    #[serde(default = "none")]
    pub data: Option<Object<D>>,
    #[serde(default = "none")]
    pub auth: Option<Object<A>>,
}

/// A JSON object and nothing else. Derived readers take a list for the fields in their order, and
/// what is missing at its end for absent: that would be a half-filled value.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Object<T>, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_map(Fields(PhantomData))
    }
}

fn none<T>() -> Option<T> {
    None
}

/// The envelope of a success.
pub(super) fn open<'a, D: Deserialize<'a>, A: Deserialize<'a>>(
    settings: &Settings,
    what: &str,
    status: u16,
    body: &'a [u8],
) -> Result<Envelope<D, A>, VaultError> {
    open_plain(settings, what, status, body)
}

/// A success that has no envelope.
pub(super) fn open_plain<'a, T: Deserialize<'a>>(
    settings: &Settings,
    what: &str,
    status: u16,
    body: &'a [u8],
) -> Result<T, VaultError> {
    done(status, body)?;
    json(settings, what, body)
}

/// What stands in `data` of a success.
pub(super) fn data<'a, D: Deserialize<'a>>(
    settings: &Settings,
    what: &str,
    status: u16,
    body: &'a [u8],
) -> Result<D, VaultError> {
    let envelope: Envelope<D> = open(settings, what, status, body)?;
    let data = envelope.data.map(|data| data.0);
    data.ok_or_else(|| VaultError::unreadable(what, Unreadable::Missing))
}

/// For fields where Vault writes `null` for empty.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_000_22_headers_are_exact_and_the_token_is_sensitive() {
        let settings = Settings::default();
        let token = Secret::new("s3cret-token").unwrap();
        let exchange = Api::with(&settings, &token).post("auth/token/renew-self", &()).unwrap();
        let headers = exchange.headers();
        assert!(headers[TOKEN_HEADER].is_sensitive() && headers[REQUEST_HEADER] == "true");
        assert!(!headers.contains_key(NAMESPACE_HEADER), "{headers:?}");
        let node = Address::parse("https://vault:8200/base").unwrap();
        let request = exchange.at(&node).unwrap();
        assert_eq!(request.uri(), "https://vault:8200/base/v1/auth/token/renew-self");
        let call = exchange.clone().call(&settings, false);
        assert_eq!(
            (call.spec.idempotent, call.spec.also_retry),
            (Some(false), [429, 472, 473, 412])
        );
        assert!(
            !format!("{exchange:?} {call:?} {headers:?} {:?}", request.headers())
                .contains("s3cret")
        );
        assert!(
            !Api::anonymous(&settings)
                .get("sys/health")
                .unwrap()
                .headers()
                .contains_key(TOKEN_HEADER)
        );
        let bad = Secret::new("a\u{1}b").unwrap();
        assert!(matches!(Api::with(&settings, &bad).get("x"), Err(VaultError::Field { .. })));
    }

    #[test]
    fn paths_that_would_be_others_are_refused_and_the_rest_arrives() {
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a\nb", &"x".repeat(1_025)] {
            let error = path("path", bad).unwrap_err();
            assert!(
                matches!(&error, VaultError::Field { field, .. } if &**field == "path"),
                "{bad:?}"
            );
        }
        assert_eq!(path("path", "a b/\u{fc}%/c?d#e"), Ok("a%20b/%C3%BC%25/c%3Fd%23e".to_owned()));
        assert!(path("path", &"x".repeat(1_024)).is_ok());
    }
}
