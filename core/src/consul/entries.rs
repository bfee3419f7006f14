//! Config entries: `service-defaults`, `service-resolver` and `proxy-defaults`, written, read,
//! and applied to this client (003-35…37).
//!
//! The standard gives service defaults of protocol `http`, connect timeout 5 s and gateway mode
//! `local`. Consul has no connect timeout in `service-defaults` (1.8.7 refuses the key); it is in
//! `service-resolver`, so the standard's defaults are two entries here. What proxies are told
//! holds for a client without one just as well, and [`Suggestion`] is that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::connect::short_list;
use super::duration::{Text, parse as span};
use super::error::ConsulError;
use super::name::ServiceName;
use super::registration::gateway;
use super::settings::Settings;
use super::wire::{Api, Class, Cursor, Many, Query, open, or_empty, truth};
use crate::config::field::WEEK;
use crate::config::{ConnectMode, DeadlineConfig, GatewayMode, Limits, MeshConfig};

/// Protocols that Consul knows.
const PROTOCOLS: [&str; 4] = ["tcp", "http", "http2", "grpc"];

/// A config entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// What a service speaks.
    Service {
        /// The service.
        name: Arc<str>,
        /// `http`, `http2`, `grpc` or `tcp`.
        protocol: Option<Arc<str>>,
        /// Where calls to other datacenters leave this one.
        gateway: GatewayMode,
    },
    /// How a service is reached.
    Resolver {
        /// The service.
        name: Arc<str>,
        /// How long connecting to it may take.
        connect: Option<Duration>,
    },
    /// What all proxies are told; there is one entry, `global`.
    Proxy {
        /// How long a proxy may take to connect to its own application.
        local_connect: Option<Duration>,
        /// How long one request to it may take.
        local_request: Option<Duration>,
        /// How long a connection to it may idle.
        local_idle: Option<Duration>,
        /// Where calls to other datacenters leave this one.
        gateway: GatewayMode,
    },
}

impl Entry {
    /// The service defaults of the standard: protocol `http`, gateway mode `local`; the connect
    /// timeout of 5 s is in the second entry (003-36).
    #[must_use]
    pub fn standard_service(name: &ServiceName) -> [Entry; 2] {
        let protocol = Some("http".into());
        [
            Entry::Service { name: name.shared(), protocol, gateway: GatewayMode::Local },
            Entry::Resolver { name: name.shared(), connect: Some(Duration::from_secs(5)) },
        ]
    }

    /// The proxy defaults of the standard: 1 s, 10 s and 1 h (003-37).
    #[must_use]
    pub const fn standard_proxy() -> Entry {
        Entry::Proxy {
            local_connect: Some(Duration::from_secs(1)),
            local_request: Some(Duration::from_secs(10)),
            local_idle: Some(Duration::from_secs(3_600)),
            gateway: GatewayMode::Off,
        }
    }

    /// What the mesh settings of a service come to (003-35): nothing when all is off; the service
    /// defaults of the standard with its gateway mode otherwise.
    #[must_use]
    pub fn wanted(name: &ServiceName, mesh: &MeshConfig) -> Vec<Entry> {
        if mesh.connect == ConnectMode::Off && mesh.gateway == GatewayMode::Off {
            return Vec::new();
        }
        let [mut service, resolver] = Entry::standard_service(name);
        if let Entry::Service { gateway, .. } = &mut service {
            *gateway = mesh.gateway;
        }
        vec![service, resolver]
    }

    fn kind_and_name(&self) -> (&'static str, &str) {
        match self {
            Entry::Service { name, .. } => ("service-defaults", name),
            Entry::Resolver { name, .. } => ("service-resolver", name),
            Entry::Proxy { .. } => ("proxy-defaults", "global"),
        }
    }

    /// The JSON that Consul takes; what is not set is not in it.
    #[must_use]
    pub fn body(&self) -> Value {
        let (kind, name) = self.kind_and_name();
        let mut body = Map::new();
        body.insert("Kind".to_owned(), kind.into());
        body.insert("Name".to_owned(), name.into());
        let mode = match self {
            Entry::Service { protocol, gateway: mode, .. } => {
                if let Some(protocol) = protocol {
                    body.insert("Protocol".to_owned(), (**protocol).into());
                }
                *mode
            }
            Entry::Resolver { connect, .. } => {
                if let Some(connect) = connect {
                    body.insert("ConnectTimeout".to_owned(), Text(*connect).to_string().into());
                }
                GatewayMode::Off
            }
            Entry::Proxy { local_connect, local_request, local_idle, gateway: mode } => {
                let mut config = Map::new();
                let values =
                    [(CONNECT, local_connect), (REQUEST, local_request), (IDLE, local_idle)];
                for (key, value) in values {
                    let millis = value.and_then(|value| u64::try_from(value.as_millis()).ok());
                    if let Some(millis) = millis {
                        config.insert(key.to_owned(), millis.into());
                    }
                }
                body.insert("Config".to_owned(), config.into());
                *mode
            }
        };
        if let Some(mode) = gateway(mode) {
            body.insert("MeshGateway".to_owned(), json!({ "Mode": mode }));
        }
        body.into()
    }
}

const CONNECT: &str = "local_connect_timeout_ms";
const REQUEST: &str = "local_request_timeout_ms";
const IDLE: &str = "local_idle_timeout_ms";

/// `PUT /v1/config`: writes an entry; with `cas` only if its modify index is still that one.
/// [`parse_put`] tells whether it was.
///
/// # Errors
/// A name or protocol that cannot be one, a time of zero.
pub fn put(api: &Api<'_>, entry: &Entry, cas: Option<u64>) -> Result<Request<Bytes>, ConsulError> {
    match entry {
        Entry::Service { name, protocol, .. } => {
            ServiceName::new(name)?;
            if protocol.as_ref().is_some_and(|protocol| !PROTOCOLS.contains(&&**protocol)) {
                return Err(ConsulError::field("protocol", "is tcp, http, http2 or grpc"));
            }
        }
        Entry::Resolver { name, connect } => {
            ServiceName::new(name)?;
            nonzero("connect", *connect)?;
        }
        Entry::Proxy { local_connect, local_request, local_idle, .. } => {
            nonzero(CONNECT, *local_connect)?;
            nonzero(REQUEST, *local_request)?;
            nonzero(IDLE, *local_idle)?;
        }
    }
    let mut query = Query::default();
    query.maybe("cas", cas.map(|index| index.to_string()).as_deref());
    api.put(Class::Agent, "/v1/config", query, &entry.body())
}

fn nonzero(field: &str, value: Option<Duration>) -> Result<(), ConsulError> {
    let fine = value.is_none_or(|value| value >= Duration::from_millis(1) && value <= WEEK);
    fine.then_some(()).ok_or_else(|| ConsulError::field(field, "is between 1 ms and 7 days"))
}

/// Whether the entry was written; `false`: its `cas` was not met.
///
/// # Errors
/// A status that is no success.
pub fn parse_put(status: u16, body: &[u8]) -> Result<bool, ConsulError> {
    truth(status, body)
}

/// `GET /v1/config/service-defaults/{name}`.
///
/// # Errors
/// Settings without an agent.
pub fn service(
    api: &Api<'_>,
    name: &ServiceName,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.read(&format!("/v1/config/service-defaults/{name}"), Query::default(), None, cursor)
}

/// `GET /v1/config/service-resolver/{name}`.
///
/// # Errors
/// Settings without an agent.
pub fn resolver(
    api: &Api<'_>,
    name: &ServiceName,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.read(&format!("/v1/config/service-resolver/{name}"), Query::default(), None, cursor)
}

/// `GET /v1/config/proxy-defaults/global`.
///
/// # Errors
/// Settings without an agent.
pub fn proxy(api: &Api<'_>, cursor: Option<Cursor>) -> Result<Request<Bytes>, ConsulError> {
    api.read("/v1/config/proxy-defaults/global", Query::default(), None, cursor)
}

/// Kinds of entries that are kept here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What services speak.
    ServiceDefaults,
    /// How services are reached.
    ServiceResolver,
    /// What all proxies are told.
    ProxyDefaults,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::ServiceDefaults, Kind::ServiceResolver, Kind::ProxyDefaults];

    /// As Consul writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::ServiceDefaults => "service-defaults",
            Kind::ServiceResolver => "service-resolver",
            Kind::ProxyDefaults => "proxy-defaults",
        }
    }
}

/// `GET /v1/config/{kind}`: all entries of a kind. The reply is read with [`parse_list`].
///
/// # Errors
/// Settings without an agent.
pub fn list(
    api: &Api<'_>,
    kind: Kind,
    cursor: Option<Cursor>,
) -> Result<Request<Bytes>, ConsulError> {
    api.read(&format!("/v1/config/{}", kind.word()), Query::default(), None, cursor)
}

/// `DELETE /v1/config/{kind}/{name}`. The reply is read with [`super::agent::done`].
///
/// # Errors
/// A name that cannot be one.
pub fn delete(api: &Api<'_>, entry: &Entry) -> Result<Request<Bytes>, ConsulError> {
    let (kind, name) = entry.kind_and_name();
    ServiceName::new(name)?;
    api.request(
        Method::DELETE,
        Class::Agent,
        &format!("/v1/config/{kind}/{name}"),
        Query::default(),
        None,
    )
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    kind: String,
    #[serde(default)]
    name: Arc<str>,
    #[serde(default)]
    protocol: Option<Arc<str>>,
    #[serde(default)]
    connect_timeout: Option<String>,
    #[serde(default, deserialize_with = "or_empty")]
    mesh_gateway: RawGateway,
    #[serde(default, deserialize_with = "or_empty")]
    config: Map<String, Value>,
}

#[derive(Default, Deserialize)]
struct RawGateway {
    #[serde(rename = "Mode", default)]
    mode: String,
}

impl Raw {
    /// `None` for kinds that are not ours.
    fn entry(self) -> Option<Entry> {
        let gateway = match self.mesh_gateway.mode.as_str() {
            "local" => GatewayMode::Local,
            "remote" => GatewayMode::Remote,
            "none" => GatewayMode::None,
            _ => GatewayMode::Off,
        };
        // What proxies are told is a free map: a value that means nothing is as good as none.
        let millis = |key: &str| {
            let value = self.config.get(key)?;
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
            Some(Duration::from_millis(number)).filter(|span| !span.is_zero())
        };
        match self.kind.as_str() {
            "service-defaults" => Some(Entry::Service {
                protocol: self.protocol.filter(|protocol| !protocol.is_empty()),
                name: self.name,
                gateway,
            }),
            "service-resolver" => {
                let connect =
                    self.connect_timeout.as_deref().and_then(span).filter(|span| !span.is_zero());
                Some(Entry::Resolver { connect, name: self.name })
            }
            "proxy-defaults" => {
                let (local_connect, local_request) = (millis(CONNECT), millis(REQUEST));
                Some(Entry::Proxy {
                    local_connect,
                    local_request,
                    local_idle: millis(IDLE),
                    gateway,
                })
            }
            _ => None,
        }
    }
}

/// The entry of a reply; `None` when there is none (404) or it is of a kind not kept here.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse(settings: &Settings, status: u16, body: &[u8]) -> Result<Option<Entry>, ConsulError> {
    if status == 404 {
        return Ok(None);
    }
    open::<Raw>(settings, "a config entry", status, body).map(Raw::entry)
}

/// The entries of a list (`GET /v1/config/{kind}`).
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_list(
    settings: &Settings,
    status: u16,
    body: &[u8],
) -> Result<Vec<Entry>, ConsulError> {
    let what = "the list of config entries";
    let all = short_list(what, open::<Many<Raw>>(settings, what, status, body)?)?;
    Ok(all.into_iter().filter_map(Raw::entry).collect())
}

/// What entries mean for a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suggestion {
    /// How long connecting may take. Where both entries say it, the shorter one: without a proxy
    /// there is one connection and both bounds are meant.
    pub connect: Option<Duration>,
    /// How long one attempt may take.
    pub attempt: Option<Duration>,
    /// How long a connection may idle.
    pub idle: Option<Duration>,
    /// What the service speaks.
    pub protocol: Option<Arc<str>>,
}

impl Suggestion {
    /// What these entries mean together; of two of one kind the first counts.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Suggestion {
        let mut found = Suggestion::default();
        let mut resolver = None;
        for entry in entries {
            match entry {
                Entry::Service { protocol, .. } => {
                    found.protocol = found.protocol.or_else(|| protocol.clone())
                }
                Entry::Resolver { connect, .. } => resolver = resolver.or(*connect),
                Entry::Proxy { local_connect, local_request, local_idle, .. } => {
                    found.connect = found.connect.or(*local_connect);
                    found.attempt = found.attempt.or(*local_request);
                    found.idle = found.idle.or(*local_idle);
                }
            }
        }
        found.connect = match (found.connect, resolver) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        found
    }

    /// Fills in what the configuration leaves open (003-37). An attempt stays within the call and
    /// connecting within the attempt, so that the result passes every check the input passed.
    /// The idle time is replaced: it has no "not set".
    pub fn apply(&self, deadline: &mut DeadlineConfig, limits: &mut Limits) {
        let attempt = self.attempt.map(|span| span.min(deadline.total));
        deadline.attempt = deadline.attempt.or(attempt);
        let most = deadline.attempt.unwrap_or(deadline.total);
        deadline.connect = deadline.connect.or(self.connect.map(|span| span.min(most)));
        if let Some(idle) = self.idle {
            limits.idle_timeout = idle.min(WEEK);
        }
    }
}

mod apply;

#[cfg(test)]
mod tests;
