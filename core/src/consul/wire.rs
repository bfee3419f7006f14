//! How a request to Consul is put together and how a reply is opened: base URL, token header,
//! query, the head of a reply, JSON within limits. What is asked for is in the other files.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AGE, CACHE_CONTROL, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::duration::Text;
use super::error::{ConsulError, Unreadable};
use super::settings::{Settings, Tokens};
use crate::config::Consistency;
use crate::ops::encode_query;

const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-consul-token");

/// Which token an operation is sent with (003-42).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// What concerns the agent and the cluster; the standard calls its token *restricted*.
    Agent,
    /// What concerns services; the standard calls its token *minimal*.
    Service,
}

/// One agent of the settings, with the tokens: what requests are built for.
#[derive(Clone, Copy, Debug)]
pub struct Api<'a> {
    pub(super) settings: &'a Settings,
    tokens: &'a Tokens,
    agent: usize,
}

impl<'a> Api<'a> {
    /// The first agent.
    #[must_use]
    pub const fn new(settings: &'a Settings, tokens: &'a Tokens) -> Api<'a> {
        Api { settings, tokens, agent: 0 }
    }

    /// Agent number `agent`, counted around: the next one after a failure is `at(n + 1)`.
    #[must_use]
    pub const fn at(self, agent: usize) -> Api<'a> {
        Api { agent, ..self }
    }

    /// A request with the token of `class`. An operation of the agent is sent the service token
    /// when it has none of its own: that can only be denied. Never the other way round.
    pub(super) fn request(
        &self,
        method: Method,
        class: Class,
        path: &str,
        query: Query,
        body: Option<Vec<u8>>,
    ) -> Result<Request<Bytes>, ConsulError> {
        let agents = &self.settings.agents;
        let base = agents.get(self.agent.checked_rem(agents.len()).unwrap_or(0));
        let base = base.ok_or_else(|| ConsulError::field("urls", "there is no agent to ask"))?;
        let path: PathAndQuery = format!("{path}{}", query.0)
            .parse()
            .map_err(|_| ConsulError::field("path", "it is too long"))?;
        let uri = base.join(&path);
        let uri = uri
            .ok_or_else(|| ConsulError::field("path", "it cannot be joined to the agent's URL"))?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let token = match class {
            Class::Agent => self.tokens.agent.as_ref().or(self.tokens.service.as_ref()),
            Class::Service => self.tokens.service.as_ref(),
        };
        if let Some(token) = token {
            headers.insert(TOKEN_HEADER, token.clone());
        }
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = body.into();
        }
        Ok(request)
    }

    pub(super) fn get(
        &self,
        class: Class,
        path: &str,
        query: Query,
    ) -> Result<Request<Bytes>, ConsulError> {
        self.request(Method::GET, class, path, query, None)
    }

    pub(super) fn put<T: Serialize>(
        &self,
        class: Class,
        path: &str,
        query: Query,
        body: &T,
    ) -> Result<Request<Bytes>, ConsulError> {
        self.request(Method::PUT, class, path, query, Some(encode(body)?))
    }

    /// A read that may be stale, cached, near and in another datacenter.
    pub(super) fn read(
        &self,
        path: &str,
        mut query: Query,
        datacenter: Option<&str>,
        cursor: Option<Cursor>,
    ) -> Result<Request<Bytes>, ConsulError> {
        let settings = self.settings;
        query.maybe("dc", datacenter.or(settings.datacenter.as_deref()));
        match settings.consistency {
            Consistency::Default => {}
            Consistency::Stale => query.flag("stale"),
            Consistency::Consistent => query.flag("consistent"),
            Consistency::Cached => query.flag("cached"),
        }
        if let Some(cursor) = cursor {
            query.pair("index", &cursor.index.max(1).to_string());
            query.pair("wait", &Text(cursor.wait).to_string());
        }
        let mut request = self.get(Class::Service, path, query)?;
        if settings.consistency == Consistency::Cached {
            let mut control = format!("max-age={}", settings.max_age.as_secs());
            if let Some(span) = settings.stale_if_error {
                control.push_str(&format!(", stale-if-error={}", span.as_secs()));
            }
            if let Ok(control) = HeaderValue::try_from(control) {
                request.headers_mut().insert(CACHE_CONTROL, control);
            }
        }
        Ok(request)
    }
}

/// Where a blocking query goes on: it is answered when the index grows beyond this one, or when
/// the wait is over. The first query of a watch has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// The index of the last reply; never sent as 0, which would not block.
    pub index: u64,
    /// How long to wait. The server adds up to a sixteenth.
    pub wait: Duration,
}

/// A query string under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(String);

impl Query {
    fn start(&mut self) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
    }

    /// A switch. Consul takes its presence; the value is for proxies that drop empty ones.
    pub(super) fn flag(&mut self, name: &str) {
        self.pair(name, "true");
    }

    pub(super) fn pair(&mut self, name: &str, value: &str) {
        self.start();
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&encode_query(value));
    }

    pub(super) fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.pair(name, value);
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Query {
        self.pair(name, value);
        self
    }
}

/// What the headers of a reply say. Whatever cannot be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Head {
    /// `X-Consul-Index`, at least 1: the cursor of the next blocking query.
    pub index: Option<u64>,
    /// `X-Consul-KnownLeader`: whether the servers had a leader.
    pub known_leader: Option<bool>,
    /// `X-Consul-LastContact`: how long ago the server heard from the leader.
    pub last_contact: Option<Duration>,
    /// `X-Cache`: whether the agent answered from its cache.
    pub cache_hit: Option<bool>,
    /// `Age`: how old the agent's cached answer is.
    pub age: Option<Duration>,
}

impl Head {
    /// Reads the headers of a reply. One that is there twice is not believed.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Head {
        let text = |name: &str| {
            let mut all = headers.get_all(name).iter();
            let value = all.next().filter(|_| all.next().is_none())?;
            value.to_str().ok().map(str::trim)
        };
        let number = |name: &str| {
            let text = text(name)?;
            text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
        };
        Head {
            index: number("x-consul-index").filter(|index| *index >= 1),
            known_leader: text("x-consul-knownleader").and_then(|text| text.parse().ok()),
            last_contact: number("x-consul-lastcontact").map(Duration::from_millis),
            cache_hit: match text("x-cache") {
                Some("HIT") => Some(true),
                Some("MISS") => Some(false),
                _ => None,
            },
            age: number(AGE.as_str()).map(Duration::from_secs),
        }
    }

    /// By how much a stale reply is older than the settings allow; `None` when it is not.
    #[must_use]
    pub fn too_stale(&self, settings: &Settings) -> Option<Duration> {
        let most = settings.max_stale()?;
        self.last_contact?.checked_sub(most).filter(|excess| !excess.is_zero())
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ConsulError> {
    serde_json::to_vec(value)
        .map_err(|_| ConsulError::field("body", "it cannot be written as JSON"))
}

/// Whether the operation went well; the body of a success is not looked at.
///
/// # Errors
/// What the status and the text mean.
pub fn done(status: u16, body: &[u8]) -> Result<(), ConsulError> {
    if (200..300).contains(&status) { Ok(()) } else { Err(ConsulError::of(status, body)) }
}

/// The body of a success as JSON.
pub(super) fn open<'a, T: Deserialize<'a>>(
    settings: &Settings,
    what: &str,
    status: u16,
    body: &'a [u8],
) -> Result<T, ConsulError> {
    done(status, body)?;
    if body.len() > settings.max_bytes {
        return Err(ConsulError::TooLarge { bytes: body.len(), most: settings.max_bytes });
    }
    serde_json::from_slice(body).map_err(|e| {
        // The text of the error may repeat content and is only searched.
        if e.is_data() && e.to_string().starts_with(MANY) {
            return ConsulError::TooMany { what: what.into(), most: MOST };
        }
        let why = if e.is_data() { Unreadable::Shape } else { Unreadable::NotJson };
        ConsulError::Unreadable { what: what.into(), why, line: e.line(), column: e.column() }
    })
}

/// The answer `true` or `false` of a compare-and-set; newer versions answer other things to what
/// cannot fail, which is success.
pub(super) fn truth(status: u16, body: &[u8]) -> Result<bool, ConsulError> {
    done(status, body)?;
    Ok(body.trim_ascii() != b"false")
}

/// Most entries of one reply.
pub(super) const MOST: usize = 100_000;
const MANY: &str = "more entries than are read";

/// A list of at most [`MOST`] entries, `null` for an empty one. Reading stops there, so that a
/// hostile reply of many small entries cannot fill the memory.
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Many<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_unit<E>(self) -> Result<Many<T>, E> {
                Ok(Many(Vec::new()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Many<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if list.len() == MOST {
                        return Err(serde::de::Error::custom(MANY));
                    }
                    list.push(entry);
                }
                Ok(Many(list))
            }
        }
        from.deserialize_any(Entries(PhantomData))
    }
}

/// For fields where Consul writes `null` for empty.
pub(super) fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A map of strings as Consul writes metadata; `null` is empty.
pub(super) fn or_empty_map<
    'de,
    D: Deserializer<'de>,
    K: DeserializeOwned + Ord,
    V: DeserializeOwned,
>(
    from: D,
) -> Result<BTreeMap<K, V>, D::Error> {
    or_empty(from)
}

#[cfg(test)]
mod tests;
