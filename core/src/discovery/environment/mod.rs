//! The registry of services that the environment describes (002-22…31).
//!
//! It lets a program be pointed at its peers by whoever starts it, without a registry to ask: the
//! variables `<PREFIX>HOST`, `<PREFIX>PORT` and `<PREFIX>PROTOCOL` of DesignSynapse's registry,
//! for all six of its services, and `<PREFIX>URL`, which its design-service reads. With `scan`,
//! also the pairs that Kubernetes sets for every Service of a namespace. Reading is in
//! `read`.
//!
//! Four things are done differently from that registry. A value that cannot be used is an error
//! that names its variable, instead of a crash of the number parser. An empty variable counts as
//! unset. `USER_SERVICE_PORT=tcp://10.0.0.11:8001`, which Kubernetes itself sets for a Service
//! called `user-service` (its Docker link form), is understood. And there is no global instance:
//! the registry is a value, and the variables are an argument (a driver hands in those of
//! `vars_os` that are Unicode; `vars` panics on one that is not).
//!
//! Health and readiness stand at the host, outside the base path; see
//! [`super::HealthPath`]. Off, `enabled = false`, the registry is empty and no variable is read.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{HealthPath, Instance, Role, health_path};
use crate::address::Address;
use crate::config::field::At;
use crate::config::{ConfigError, EnvironmentConfig, check_service_name};
pub use read::lines;

/// Services beyond this many are refused, or left out where they were only found by scanning.
pub const MOST_SERVICES: usize = 1_000;
/// Variables that were found but could not be used are listed up to this many.
const MOST_SKIPPED: usize = 64;

/// The built-in registry: name, prefix of the variables, default port.
pub const SERVICES: [(&str, &str, u16); 6] = [
    ("user-service", "USER_SERVICE_", 8001),
    ("project-service", "PROJECT_SERVICE_", 8003),
    ("knowledge-service", "KNOWLEDGE_SERVICE_", 8002),
    ("design-service", "DESIGN_SERVICE_", 8000),
    ("analytics-service", "ANALYTICS_SERVICE_", 8004),
    ("marketplace-service", "MARKETPLACE_SERVICE_", 8005),
];

/// A checked [`EnvironmentConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    enabled: bool,
    defaults: bool,
    scan: bool,
    prefix: Arc<str>,
    scan_prefix: Arc<str>,
    /// In the text form of a [`HealthPath`] at the host.
    health: Arc<str>,
    ready: Arc<str>,
    cluster: Arc<str>,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first path or name that cannot be one.
    pub fn of(config: &EnvironmentConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let prefix = |field: &str, text: &str| -> Result<Arc<str>, ConfigError> {
            if text.is_empty() || text == "/" {
                return Ok("".into());
            }
            if let Some(fault) = health_path::fault(text) {
                return Err(at.refuse(field, fault));
            }
            if text.contains('?') || text.starts_with("//") {
                return Err(at.refuse(field, "is not a base path such as /api/v1"));
            }
            Address::parse(&format!("http://h{text}"))
                .map_err(|bad| at.refuse(field, bad.reason()))?;
            Ok(text.trim_end_matches('/').into())
        };
        let probe = |field: &str, text: &str| -> Result<Arc<str>, ConfigError> {
            match health_path::fault(text) {
                Some(fault) => Err(at.refuse(field, fault)),
                None => Ok(at_root(text)),
            }
        };
        let cluster = config.cluster.as_str();
        if !(1..=128).contains(&cluster.len()) || cluster.chars().any(char::is_control) {
            return Err(at.refuse("cluster", "has 1 to 128 bytes and no control characters"));
        }
        Ok(Settings {
            enabled: config.enabled,
            defaults: config.defaults,
            scan: config.scan,
            prefix: prefix("prefix", &config.prefix)?,
            scan_prefix: prefix("scan_prefix", &config.scan_prefix)?,
            health: probe("health", &config.health)?,
            ready: probe("ready", &config.ready)?,
            cluster: cluster.into(),
        })
    }

    /// Whether the environment is no source.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        !self.enabled
    }
}

impl Default for Settings {
    /// The compiled default: off.
    fn default() -> Self {
        Settings {
            enabled: false,
            defaults: true,
            scan: false,
            prefix: "/api/v1".into(),
            scan_prefix: "".into(),
            health: "//health".into(),
            ready: "//ready".into(),
            cluster: "environment".into(),
        }
    }
}

/// The text form of `path` at the host.
fn at_root(path: &str) -> Arc<str> {
    if path.starts_with("//") { path.into() } else { format!("/{path}").into() }
}

/// How a service is spoken to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Protocol {
    /// The scheme of its URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }
}

/// Where the address of a service comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// No variable is set: the default of the built-in registry.
    Default,
    /// Found by scanning.
    Scan,
    /// Its own `_HOST`, `_PORT` or `_PROTOCOL`.
    Variables,
    /// Its own `_URL`.
    Url,
    /// [`Environment::register`].
    Program,
}

/// One service of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registered {
    /// Its name.
    pub name: Arc<str>,
    /// Its base URL, for example `http://localhost:8001/api/v1`.
    pub base: Address,
    /// Where that comes from.
    pub origin: Origin,
    health: Arc<str>,
    ready: Arc<str>,
}

impl Registered {
    /// The URL of its health check, for example `http://localhost:8001/health`.
    #[must_use]
    pub fn health_url(&self) -> String {
        self.at_host(&self.health)
    }

    /// The URL of its readiness check, for example `http://localhost:8001/ready`.
    #[must_use]
    pub fn ready_url(&self) -> String {
        self.at_host(&self.ready)
    }

    fn at_host(&self, path: &str) -> String {
        HealthPath::of(path).at(&self.base).map(|uri| uri.to_string()).unwrap_or_default()
    }
}

/// A service that the program itself registers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Host name or IP address, IPv6 with or without brackets.
    pub host: String,
    /// Its port, not 0.
    pub port: u16,
    /// How it is spoken to. Default `http`.
    pub protocol: Protocol,
}

impl Registration {
    /// A service that is spoken to by `http`.
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16) -> Registration {
        Registration { name: name.into(), host: host.into(), port, protocol: Protocol::Http }
    }
}

/// A name that the registry does not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
pub struct UnknownService {
    /// The name.
    pub service: String,
    /// The names it knows, in order.
    pub known: Vec<Arc<str>>,
}

impl fmt::Display for UnknownService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.service.chars().take(128).collect();
        write!(f, "service {shown:?} is not registered; ")?;
        if self.known.is_empty() {
            return f.write_str("no service is");
        }
        let some: Vec<&str> = self.known.iter().take(20).map(|name| &**name).collect();
        write!(f, "these are: {}", some.join(", "))?;
        match self.known.len() - some.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A variable that scanning found and that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub variable: Arc<str>,
    /// Why; never repeats its value.
    pub reason: Arc<str>,
}

/// The registry.
///
/// ```
/// use origin_core::config::EnvironmentConfig;
/// use origin_core::discovery::environment::{Environment, Registration, Settings};
///
/// let config = EnvironmentConfig { enabled: true, ..EnvironmentConfig::default() };
/// let settings = Settings::of(&config, "environment")?;
/// // A program hands in its own variables; those that are not Unicode it leaves out.
/// let variables = [("USER_SERVICE_HOST", "users.internal"), ("USER_SERVICE_PROTOCOL", "https")];
/// let mut services = Environment::read(&settings, variables)?;
/// let users = services.get("user-service").unwrap();
/// assert_eq!(users.base.as_str(), "https://users.internal:8001/api/v1");
/// assert_eq!(users.health_url(), "https://users.internal:8001/health");
/// assert_eq!(services.base_url("design-service").unwrap(), "http://localhost:8000/api/v1");
///
/// services.register(&Registration::new("billing", "::1", 9000))?;
/// assert_eq!(services.base_url("billing").unwrap(), "http://[::1]:9000/api/v1");
/// assert!(services.base_url("biling").unwrap_err().to_string().contains("billing"));
///
/// let wrong = Environment::read(&settings, [("USER_SERVICE_PORT", "http")]).unwrap_err();
/// assert_eq!(wrong.field, "USER_SERVICE_PORT");
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Environment {
    settings: Settings,
    services: BTreeMap<Arc<str>, Registered>,
    skipped: Vec<Skipped>,
    /// How many more there were.
    unlisted: u32,
}

impl Environment {
    /// Registers a service; one of the same name is replaced and handed back. It gets the base
    /// path of the built-in services.
    ///
    /// # Errors
    /// A name, host or port that cannot be one, and more than [`MOST_SERVICES`] services.
    pub fn register(&mut self, new: &Registration) -> Result<Option<Registered>, ConfigError> {
        check_service_name(&new.name)?;
        let host = read::host(&new.host).map_err(|why| ConfigError::new("host", why))?;
        if new.port == 0 {
            return Err(ConfigError::new("port", "0 is outside 1–65535"));
        }
        if self.services.len() >= MOST_SERVICES && !self.services.contains_key(&*new.name) {
            let reason = format!("the registry holds {MOST_SERVICES} services already");
            return Err(ConfigError::new("service name", reason));
        }
        let origin = format!("{}://{host}:{}", new.protocol.scheme(), new.port);
        let base = Address::parse(&format!("{origin}{}", self.settings.prefix))
            .map_err(|bad| ConfigError::new("host", bad.reason()))?;
        Ok(self.insert(new.name.as_str().into(), base, Origin::Program))
    }

    fn insert(&mut self, name: Arc<str>, base: Address, origin: Origin) -> Option<Registered> {
        let Settings { health, ready, .. } = &self.settings;
        let (health, ready) = (health.clone(), ready.clone());
        let new = Registered { name: name.clone(), base, origin, health, ready };
        self.services.insert(name, new)
    }

    fn skip(&mut self, variable: &str, reason: &str) {
        if self.skipped.len() < MOST_SKIPPED {
            self.skipped.push(Skipped { variable: variable.into(), reason: reason.into() });
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }

    /// The service called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Registered> {
        self.services.get(name)
    }

    /// The base URL of the service called `name`.
    ///
    /// # Errors
    /// There is none; which ones there are.
    pub fn base_url(&self, name: &str) -> Result<&str, UnknownService> {
        let found = self.get(name).map(|service| service.base.as_str());
        found.ok_or_else(|| UnknownService {
            service: name.to_owned(),
            known: self.services.keys().cloned().collect(),
        })
    }

    /// All services, in the order of their names.
    pub fn list(&self) -> impl ExactSizeIterator<Item = &Registered> {
        self.services.values()
    }

    /// The one instance of the service called `name`, as all sources name instances.
    #[must_use]
    pub fn instance(&self, name: &str) -> Option<Instance> {
        let found = self.get(name)?;
        let cluster = self.settings.cluster.clone();
        let health = Some(found.health.clone());
        Some(Instance { health, ..Instance::new(cluster, Role::Backup, found.base.clone()) })
    }

    /// Variables that scanning found and could not use, and how many more there are than listed.
    /// Variables of the built-in services are never skipped: those are errors.
    #[must_use]
    pub fn skipped(&self) -> (&[Skipped], u32) {
        (&self.skipped, self.unlisted)
    }
}
