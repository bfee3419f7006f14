//! A secret by its path alone, as applications ask for it first: what is under it, and no more. The
//! engine and its version are found by the settings.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use super::{AGAIN, Access, SERVICE};
use crate::config::KvVersion;
use crate::error::Error;
use crate::ops::sealed::Inquiry;
use crate::ops::{Flow, Step, segments};
use crate::request::{Request, Response, json_reason};
use crate::secret;
use crate::vault::kv::{self, Content, Data};
use crate::vault::{Api, VaultError};

/// A secret. `Debug` prints its keys, not its values.
#[derive(Clone, PartialEq)]
pub struct Secret {
    /// What the engine holds under the path.
    pub data: Data,
    /// How long it may be kept, in seconds, where the engine leases it.
    pub lease_seconds: u64,
}

impl Secret {
    /// The text stored under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(serde_json::Value::as_str)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        write!(f, "Secret {{ keys: {keys:?}, lease_seconds: {} }}", self.lease_seconds)
    }
}

/// `GET /v1/{path}` with the client token.
pub(super) struct GetSecret {
    pub(super) path: String,
    pub(super) access: Arc<Access>,
    pub(super) sent: Option<secret::Secret>,
    pub(super) again: bool,
    pub(super) inquiry: Inquiry,
}

impl Flow for GetSecret {
    type Output = Secret;

    fn service(&self) -> &str {
        SERVICE
    }

    fn awaits_token(&self, reply: Option<&Response>) -> bool {
        self.access.awaits(reply, self.sent.as_ref(), self.again)
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<Secret>, Error> {
        let Some(reply) = reply else { return self.request().map(Step::Send) };
        if let Some(error) = self.inquiry.answered(&self.access.settings, &reply) {
            return Err(error);
        }
        if reply.status == StatusCode::FORBIDDEN
            && self.access.exchanged(self.sent.as_ref())
            && !std::mem::replace(&mut self.again, true)
        {
            return self.request().map(Step::Send);
        }
        if reply.status != StatusCode::OK {
            return Err(Error::of_status(reply));
        }
        let settings = &self.access.settings;
        let version = settings.mount(self.path.trim_matches('/')).map_or(KvVersion::V1, |m| m.1);
        match kv::parse_read(settings, version, 200, &reply.body) {
            Ok(Content { data, lease_seconds, .. }) => {
                Ok(Step::Done(Secret { data, lease_seconds }))
            }
            Err(error) => Err(Error::Decode {
                service: SERVICE.into(),
                what: "Vault envelope",
                reason: reason(&reply.body, &error),
            }),
        }
    }

    fn failed(&mut self, error: Error) -> Result<Request, Error> {
        self.inquiry.ask(&self.access.settings, error)
    }
}

/// Why an answer is no secret, with its position where there is one.
fn reason(body: &[u8], error: &VaultError) -> String {
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Err(e) => json_reason(&e),
        Ok(_) => match error {
            VaultError::Unreadable { why, line, column, .. } => {
                format!("{why} (line {line}, column {column})")
            }
            other => other.to_string(),
        },
    }
}

impl GetSecret {
    fn request(&mut self) -> Result<Request, Error> {
        let refuse =
            |reason: &str| Error::Request { service: SERVICE.into(), reason: reason.to_owned() };
        self.sent = self.access.tokens.token();
        let none = || match self.access.missing() {
            Some(error) => Error::Vault { error: Box::new(error), report: None },
            None => Error::Credential {
                service: SERVICE.into(),
                what: "a Vault token: set VAULT_CLIENT_TOKEN or call vault_token() on the builder",
            },
        };
        let token = self.sent.as_ref().ok_or_else(none)?;
        if token.header().is_none() {
            let what = "a Vault token that can be a header value; the one given contains control characters";
            return Err(Error::Credential { service: SERVICE.into(), what });
        }
        let path = self.path.trim_matches('/');
        if path.is_empty() {
            return Err(refuse("the path of a secret must not be empty"));
        }
        let settings = &self.access.settings;
        let path = match settings.mount(path) {
            Some((mount, KvVersion::V2, rest)) => format!("{mount}/data/{rest}"),
            _ => path.to_owned(),
        };
        // As literally as it was given, unlike the paths of the other operations.
        let exchange = Api::with(settings, token).get(&segments(&path));
        let mut request = exchange.map_err(|e| refuse(&e.to_string()))?.call(settings, AGAIN);
        request.max_body = None;
        Ok(request)
    }
}
