//! Secrets (Vault): reading one. The client token is sent to this service and to no other.

use std::fmt;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Caller, Flow, Step, segments};
use crate::error::Error;
use crate::request::{Request, Response, json_reason};

/// Name of the service in the discovery document.
pub const SERVICE: &str = "secrets";

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-vault-token");

/// A client token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// A token, or `None` for the empty text: an empty variable counts as unset (000-03).
    #[must_use]
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.into()))
    }

    fn header(&self) -> Result<HeaderValue, Error> {
        let mut value = HeaderValue::from_str(&self.0).map_err(|_| Error::Credential {
            service: SERVICE.into(),
            what: "a Vault token that can be a header value; the one given contains control characters",
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The secrets service of a client.
#[derive(Clone, Debug)]
pub struct Secrets<C> {
    caller: C,
    token: Option<Token>,
}

impl<C: Caller> Secrets<C> {
    /// Secrets as reached by `caller`, read with `token`.
    pub fn new(caller: C, token: Option<Token>) -> Secrets<C> {
        Secrets { caller, token }
    }

    /// Reads `GET /v1/{path}` and yields what stands in `data` of the answer. For a KV version 2
    /// mount write the path with its `data` segment: `secret/data/app`.
    ///
    /// Yields [`Error::Credential`] without any request when the client has no token,
    /// [`Error::Status`] with 404 when there is no such secret and with 403 when the token may
    /// not read it. A sealed or standby node sends the call to the next candidate.
    pub fn get_secret(&self, path: &str) -> C::Reply<Secret> {
        self.caller.run(GetSecret { path: path.to_owned(), token: self.token.clone() })
    }
}

/// A secret. `Debug` prints its keys, not its values.
#[derive(Clone, PartialEq)]
pub struct Secret {
    /// What the engine holds under the path.
    pub data: Map<String, Value>,
    /// How long it may be kept, in seconds, where the engine leases it.
    pub lease_seconds: u64,
}

impl Secret {
    /// The text stored under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(Value::as_str)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        write!(f, "Secret {{ keys: {keys:?}, lease_seconds: {} }}", self.lease_seconds)
    }
}

/// `GET /v1/{path}` with the client token.
#[derive(Clone, Debug)]
pub struct GetSecret {
    /// The path below `/v1/`.
    pub path: String,
    /// The token.
    pub token: Option<Token>,
}

#[derive(Deserialize)]
struct Envelope {
    data: Map<String, Value>,
    #[serde(default)]
    lease_duration: u64,
}

impl Flow for GetSecret {
    type Output = Secret;

    fn service(&self) -> &str {
        SERVICE
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<Secret>, Error> {
        let Some(reply) = reply else { return self.request().map(Step::Send) };
        if reply.status != StatusCode::OK {
            return Err(Error::of_status(reply));
        }
        let envelope: Envelope =
            serde_json::from_slice(&reply.body).map_err(|e| Error::Decode {
                service: SERVICE.into(),
                what: "Vault envelope",
                reason: json_reason(&e),
            })?;
        Ok(Step::Done(Secret { data: envelope.data, lease_seconds: envelope.lease_duration }))
    }
}

impl GetSecret {
    fn request(&self) -> Result<Request, Error> {
        let refuse =
            |reason: &str| Error::Request { service: SERVICE.into(), reason: reason.to_owned() };
        let token = self.token.as_ref().ok_or(Error::Credential {
            service: SERVICE.into(),
            what: "a Vault token: set VAULT_CLIENT_TOKEN or call vault_token() on the builder",
        })?;
        let path = self.path.trim_matches('/');
        if path.is_empty() {
            return Err(refuse("the path of a secret must not be empty"));
        }
        let path: PathAndQuery = format!("/v1/{}", segments(path))
            .parse()
            .map_err(|_| refuse("the path is too long"))?;
        let mut request = Request::new(Method::GET, path);
        request.headers.insert(TOKEN_HEADER, token.header()?);
        // Rate limited, or a node that may not answer reads: another cluster may.
        request.spec.also_retry = [429, 472, 473, 0];
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_000_03_and_45_tokens_are_optional_and_never_printed() {
        assert!(Token::new("  \n").is_none());
        let token = Token::new("s3cret-token").unwrap();
        let flow = GetSecret { path: "a/b".into(), token: Some(token) };
        let request = flow.request().unwrap();
        assert_eq!(request.path.as_str(), "/v1/a/b");
        assert!(!format!("{flow:?} {request:?} {:?}", request.headers).contains("s3cret"));
        let secret = Secret {
            data: [("k".to_owned(), "v4lue".into())].into_iter().collect(),
            lease_seconds: 0,
        };
        assert!(!format!("{secret:?}").contains("v4lue"));
        let bad = GetSecret { path: "a".into(), token: Token::new("a\u{1}b") };
        assert!(matches!(bad.request(), Err(Error::Credential { .. })));
        let none = GetSecret { path: "a".into(), token: None };
        assert!(none.request().unwrap_err().to_string().contains("VAULT_CLIENT_TOKEN"));
    }
}
