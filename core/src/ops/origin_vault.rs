//! The vault of `dndnordic/origin`: another API than that of Vault, with a login of its own, plain
//! keys and values, synchronisation with Kubernetes and a kill switch (contracts §2.8).
//!
//! Every operation but the login carries `Authorization: Bearer`. A call without a session, or one
//! that is answered 401, logs in and goes on; that happens once for a call. Who keeps the session
//! between calls is [`Wallet`]: a driver has the clock that [`Session`] needs to let go of a token
//! once nine tenths of its life are over. A secret that is not there is `None`, not an error.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Caller, Flow, Step, encode_query, segments};
use crate::config::{Config, EndpointConfig};
use crate::error::Error;
use crate::request::{Request, Response, json_reason};
use crate::secret::Secret;
use crate::time::{Time, nanos};
use crate::vault::wire::{Object, or_default};

/// Name of the service in the discovery document.
pub const SERVICE: &str = "origin-vault";
/// Variable of its base URL.
pub const URL_VARIABLE: &str = "ORIGIN_VAULT_API_URL";
/// Variable of [`Credentials::user_id`].
pub const USER_VARIABLE: &str = "ORIGIN_VAULT_USER_ID";
/// Variable of the authentication factor.
pub const FACTOR_VARIABLE: &str = "ORIGIN_VAULT_AUTH_FACTOR";

/// Largest reply, in bytes.
const MOST: u64 = 16 << 20;

/// Who logs in. `Debug` shows no factor.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user_id: String,
    /// The factors by name, `{"token": …}` as a rule.
    pub factors: BTreeMap<String, Secret>,
}

impl Credentials {
    /// Those of the environment: `ORIGIN_VAULT_USER_ID`, and `ORIGIN_VAULT_AUTH_FACTOR` as the
    /// factor `token`. `None`: one of them is unset or empty.
    pub fn of(mut variable: impl FnMut(&str) -> Option<String>) -> Option<Credentials> {
        let user_id = variable(USER_VARIABLE).filter(|id| !id.trim().is_empty())?;
        let factor = Secret::new(&variable(FACTOR_VARIABLE)?)?;
        Some(Credentials { user_id, factors: [("token".to_owned(), factor)].into() })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let factors: Vec<&String> = self.factors.keys().collect();
        f.debug_struct("Credentials").field("factors", &factors).finish_non_exhaustive()
    }
}

/// Says in `config` where the service is: at `ORIGIN_VAULT_API_URL`, a base path included, unless
/// it has endpoints there already. Unset or empty it is looked up like any other service.
pub fn configure(config: &mut Config, mut variable: impl FnMut(&str) -> Option<String>) {
    let url = variable(URL_VARIABLE).unwrap_or_default();
    if url.trim().is_empty() {
        return;
    }
    let service = config.services.entry(SERVICE.to_owned()).or_default();
    if service.endpoints.is_empty() {
        service.endpoints.push(EndpointConfig::at(url.trim()));
    }
}

/// Who keeps the session between calls. A driver implements it over a [`Session`] and its clock.
pub trait Wallet: Send + Sync {
    /// The token of the session, if there is one that can be used.
    fn token(&self) -> Option<Secret>;

    /// There is another session.
    fn keep(&self, token: Secret, life: Duration);
}

/// A session, as long as it can be used: until nine tenths of its life are over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session(Option<(Secret, Time)>);

impl Session {
    /// Keeps a session that began at `now` and lasts for `life`.
    pub fn keep(&mut self, now: Time, token: Secret, life: Duration) {
        let used = Duration::from_nanos(nanos(life) / 10 * 9);
        self.0 = Some((token, now.plus(used)));
    }

    /// Its token; `None`: it is over, or nearly.
    #[must_use]
    pub fn token(&self, now: Time) -> Option<&Secret> {
        self.0.as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token)
    }
}

/// The other Origin vault of a client.
#[derive(Clone)]
pub struct OriginVault<C> {
    caller: C,
    access: Arc<Access>,
}

struct Access {
    credentials: Option<Credentials>,
    wallet: Box<dyn Wallet>,
}

impl<C: fmt::Debug> fmt::Debug for OriginVault<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginVault").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// A key with its value. `Debug` does not show the value.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry {{ {:?}, {} bytes }}", self.key, self.value.len())
    }
}

/// The state of the kill switch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KillSwitch {
    /// Whether it is on.
    pub active: bool,
    /// Since when or as of when, as the service writes it.
    #[serde(default, deserialize_with = "text")]
    pub timestamp: String,
}

/// A time stamp as text, whether it is written as text or as a number; anything else is empty.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(from)? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Number(number) => number.to_string(),
        _ => String::new(),
    })
}

impl<C: Caller> OriginVault<C> {
    /// The vault as reached by `caller`. Without credentials, calls that have to log in say so.
    pub fn new(
        caller: C,
        credentials: impl Into<Option<Credentials>>,
        wallet: Box<dyn Wallet>,
    ) -> OriginVault<C> {
        let credentials = credentials.into();
        OriginVault { caller, access: Arc::new(Access { credentials, wallet }) }
    }

    /// The keys that begin with `prefix`; all with the empty one.
    pub fn list(&self, prefix: &str) -> C::Reply<Vec<String>> {
        let query = match prefix {
            "" => String::new(),
            _ => format!("?prefix={}", encode_query(prefix)),
        };
        self.run(Method::GET, Ok(format!("/secrets{query}")), None, true, |status, body| {
            #[derive(Deserialize)]
            struct List {
                // Without it the answer is none: an error in a 200 is no empty list.
                #[serde(deserialize_with = "or_default")]
                secrets: Vec<String>,
            }
            good(status)?;
            let list: List = read("the list of secrets", body)?;
            Ok(list.secrets)
        })
    }

    /// The value of a key, `None` when there is none.
    pub fn get(&self, key: &str) -> C::Reply<Option<Entry>> {
        self.run(Method::GET, at(key), None, true, |status, body| {
            if status == 404 {
                return Ok(None);
            }
            good(status)?;
            read("the secret", body).map(Some)
        })
    }

    /// Writes a value.
    pub fn put(&self, key: &str, value: &str) -> C::Reply<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            value: &'a str,
        }
        let body = serde_json::to_vec(&Body { value }).ok();
        self.run(Method::PUT, at(key), body, true, |status, _| good(status))
    }

    /// Deletes a key; that there was none is as good.
    pub fn delete(&self, key: &str) -> C::Reply<()> {
        self.run(Method::DELETE, at(key), None, true, |status, _| match status {
            404 => Ok(()),
            _ => good(status),
        })
    }

    /// Copies secrets into Kubernetes: into `namespace`, or into `governance-system`; those that
    /// begin with `prefix`, or all.
    pub fn sync_kubernetes(&self, namespace: Option<&str>, prefix: Option<&str>) -> C::Reply<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            namespace: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            prefix: Option<&'a str>,
        }
        let namespace = namespace.unwrap_or("governance-system");
        let body = serde_json::to_vec(&Body { namespace, prefix }).ok();
        let path = Ok("/sync/kubernetes".to_owned());
        self.run(Method::POST, path, body, true, |status, _| good(status))
    }

    /// Whether the kill switch is on.
    pub fn killswitch(&self) -> C::Reply<KillSwitch> {
        let path = Ok("/killswitch/status".to_owned());
        self.run(Method::GET, path, None, true, |status, body| {
            good(status)?;
            read("the state of the kill switch", body)
        })
    }

    /// Switches the kill switch on.
    pub fn activate_killswitch(&self) -> C::Reply<()> {
        let (path, body) = (Ok("/killswitch/activate".to_owned()), Some(b"{}".to_vec()));
        self.run(Method::POST, path, body, true, |status, _| good(status))
    }

    /// Switches it off again. Not repeated once it may have left: somebody may have switched it on
    /// again meanwhile.
    pub fn deactivate_killswitch(&self, master_override_key: &Secret) -> C::Reply<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            master_override_key: &'a str,
        }
        let key = master_override_key.expose();
        let body = serde_json::to_vec(&Body { master_override_key: key }).ok();
        let path = Ok("/killswitch/deactivate".to_owned());
        self.run(Method::POST, path, body, false, |status, _| good(status))
    }

    fn run<T: Send + 'static>(
        &self,
        method: Method,
        path: Result<String, Error>,
        body: Option<Vec<u8>>,
        repeat: bool,
        read: Reader<T>,
    ) -> C::Reply<T> {
        let path = path.and_then(|path| path.parse().map_err(|_| refuse("the path is too long")));
        let request = path.map(|path: PathAndQuery| {
            let mut request = plain(method, path, body);
            request.spec.idempotent = Some(repeat);
            request
        });
        self.caller.run(Operation {
            access: self.access.clone(),
            request: Some(request),
            kept: None,
            state: State::Begin,
            logins: 0,
            read,
        })
    }
}

type Reader<T> = fn(u16, &[u8]) -> Result<T, Bad>;

/// What an answer is instead of what was wanted.
enum Bad {
    Status,
    Unreadable(&'static str, String),
}

fn good(status: u16) -> Result<(), Bad> {
    if (200..300).contains(&status) { Ok(()) } else { Err(Bad::Status) }
}

fn read<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, Bad> {
    let read = serde_json::from_slice::<Object<T>>(body);
    read.map(|object| object.0).map_err(|e| Bad::Unreadable(what, json_reason(&e)))
}

fn refuse(reason: &str) -> Error {
    Error::Request { service: SERVICE.into(), reason: reason.to_owned() }
}

/// The path of a key. An empty part, `.` or `..` would silently be another key.
fn at(key: &str) -> Result<String, Error> {
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if key.split('/').any(odd) || key.len() > 1_024 || key.chars().any(char::is_control) {
        return Err(refuse(
            "a key has 1 to 1024 bytes, no control characters, and no part that is empty or a path",
        ));
    }
    Ok(format!("/secrets/{}", segments(key)))
}

fn plain(method: Method, path: PathAndQuery, body: Option<Vec<u8>>) -> Request {
    let mut request = Request::new(method, path);
    if let Some(body) = body {
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Bytes::from(body);
    }
    request.max_body = Some(MOST);
    request
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    LoggingIn,
    Asked,
}

struct Operation<T> {
    access: Arc<Access>,
    request: Option<Result<Request, Error>>,
    kept: Option<Request>,
    state: State,
    logins: u8,
    read: Reader<T>,
}

impl<T> Operation<T> {
    fn ask(&mut self, token: &Secret) -> Result<Step<T>, Error> {
        let mut request = self.kept.clone().ok_or_else(|| refuse("it was sent already"))?;
        let bearer = token.bearer().ok_or(Error::Credential {
            service: SERVICE.into(),
            what: "a session token that can be a header value",
        })?;
        request.headers.insert(AUTHORIZATION, bearer);
        self.state = State::Asked;
        Ok(Step::Send(request))
    }

    fn log_in(&mut self) -> Result<Step<T>, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            user_id: &'a str,
            auth_factors: BTreeMap<&'a str, &'a str>,
        }
        let what = "who logs in: set ORIGIN_VAULT_USER_ID and ORIGIN_VAULT_AUTH_FACTOR, or call \
                    origin_vault_as() on the builder";
        let missing = || Error::Credential { service: SERVICE.into(), what };
        let credentials = self.access.credentials.as_ref().ok_or_else(missing)?;
        let Credentials { user_id, factors } = credentials;
        let factors = factors.iter().map(|(name, factor)| (&**name, factor.expose()));
        let body = Body { user_id, auth_factors: factors.collect() };
        let body = serde_json::to_vec(&body).map_err(|_| refuse("the login cannot be written"))?;
        let mut request = plain(Method::POST, PathAndQuery::from_static("/auth"), Some(body));
        // A second session costs nothing.
        request.spec.idempotent = Some(true);
        (self.state, self.logins) = (State::LoggingIn, self.logins + 1);
        Ok(Step::Send(request))
    }
}

/// The token of an answer to the login, and how long it lasts; half an hour where it does not say.
///
/// # Errors
/// A body that is not one.
pub fn parse_session(body: &[u8]) -> Result<(Secret, Duration), Error> {
    #[derive(Deserialize)]
    struct Raw {
        access_token: Secret,
        #[serde(default)]
        expires_in: Option<u64>,
    }
    let bad = |reason| Error::Decode { service: SERVICE.into(), what: "session", reason };
    let raw = serde_json::from_slice::<Object<Raw>>(body);
    let Object(raw) = raw.map_err(|e| bad(json_reason(&e)))?;
    if raw.access_token.bearer().is_none() {
        return Err(bad("its token cannot be a header".to_owned()));
    }
    Ok((raw.access_token, Duration::from_secs(raw.expires_in.unwrap_or(1_800))))
}

impl<T: Send + 'static> Flow for Operation<T> {
    type Output = T;

    fn service(&self) -> &str {
        SERVICE
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<T>, Error> {
        let Some(reply) = reply else {
            let request = self.request.take().unwrap_or_else(|| Err(refuse("it was sent already")));
            self.kept = Some(request?);
            return match self.access.wallet.token() {
                Some(token) => self.ask(&token),
                None => self.log_in(),
            };
        };
        let status = reply.status.as_u16();
        if self.state == State::LoggingIn {
            if !reply.status.is_success() {
                return Err(Error::of_status(reply));
            }
            let (token, life) = parse_session(&reply.body)?;
            self.access.wallet.keep(token.clone(), life);
            return self.ask(&token);
        }
        // The session has ended early, or was ended: nothing was done, whatever was asked.
        if status == 401 && self.logins == 0 {
            return self.log_in();
        }
        match (self.read)(status, &reply.body) {
            Ok(value) => Ok(Step::Done(value)),
            Err(Bad::Status) => Err(Error::of_status(reply)),
            Err(Bad::Unreadable(what, reason)) => {
                Err(Error::Decode { service: SERVICE.into(), what, reason })
            }
        }
    }
}

#[cfg(test)]
#[path = "origin_vault_tests.rs"]
mod tests;
