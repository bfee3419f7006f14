//! Redis as a person configures it: where it is, the namespace, and what is kept there. What is
//! done with it is in [`crate::redis`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::knowledge::KnowledgeConfig;
use crate::redis::server::{BadUrl, check_host, port_of};
use crate::redis::{Login, RedisUrl, Server};
use crate::secret::{self, Secret};

/// A Redis that clients of a fleet share. Nothing depends on it: while it fails, everything goes
/// on without it.
///
/// Neither `Debug` nor a serialized configuration shows the password; one that was serialized has
/// to be given it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `false`: not used at all. Default `true`.
    pub enabled: bool,
    /// `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS, `unix:///path[?db=n]`.
    /// Default `redis://localhost:6379`.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub url: RedisUrl,
    /// User of an ACL; wins over that of the URL. `None`: the default user.
    pub username: Option<String>,
    /// Password; wins over that of the URL.
    #[serde(skip_serializing, deserialize_with = "secret::exact")]
    pub password: Option<Secret>,
    /// Name of the environment variable that holds the password; wins over both when it is set.
    pub password_env: Option<String>,
    /// PEM file with the authorities trusted for TLS. `None`: those of the system.
    pub ca: Option<String>,
    /// PEM file with the client's certificate chain, for TLS in both directions.
    pub client_certificate: Option<String>,
    /// PEM file with the key of that.
    pub client_key: Option<String>,
    /// Connecting, TLS and login; part of `timeout`. 1 ms–10 s, default 250 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub connect_timeout: Duration,
    /// One exchange of commands and replies, connecting included: what a lookup can lose to a
    /// Redis that hangs, once per outage. 1 ms–10 s, default 250 ms.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// How long it is left alone after a failure; doubles up to `backoff_max`. Default 1 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff: Duration,
    /// Longest time it is left alone between trials. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff_max: Duration,
    /// What all keys begin with. Ends in `:`. Default `origin:`.
    pub prefix: String,
    /// How far apart the calendar clocks of clients may be. 0–1 h, default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub skew: Duration,
    /// Lists of instances.
    pub discovery: SharedLevelConfig,
    /// Open breakers.
    pub breakers: KnowledgeConfig,
}

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig {
            enabled: true,
            url: RedisUrl::new("redis://localhost:6379"),
            username: None,
            password: None,
            password_env: None,
            ca: None,
            client_certificate: None,
            client_key: None,
            connect_timeout: Duration::from_millis(250),
            timeout: Duration::from_millis(250),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            prefix: "origin:".to_owned(),
            skew: Duration::from_secs(5),
            discovery: SharedLevelConfig::default(),
            breakers: KnowledgeConfig::default(),
        }
    }
}

/// The second level of discovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SharedLevelConfig {
    /// `false`: lists are neither read from Redis nor written there. Default `true`.
    pub enabled: bool,
    /// Longest life of a list, which is never longer than it would be fresh where it was looked up
    /// (`discovery.ttl`). All clients of a namespace must have the same: a list that lives longer
    /// than this is not believed. 1 s–1 d, default 5 min. Below `discovery.ttl` the source is
    /// asked that much more often.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub ttl: Duration,
    /// Longest life of an empty list. Zero: empty lists are neither written nor believed.
    /// Default 5 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub negative_ttl: Duration,
    /// Largest list, in bytes. 1 KiB–16 MiB, default 8 MiB.
    pub max_value: usize,
    /// Most instances in a list. 1–100 000, default 20 000.
    pub max_instances: usize,
    /// Whether lists that other programs wrote in the form of the contract are believed. They
    /// name neither their service nor an expiry of their own. Default `false`.
    pub foreign: bool,
}

impl Default for SharedLevelConfig {
    fn default() -> Self {
        SharedLevelConfig {
            enabled: true,
            ttl: Duration::from_secs(300),
            negative_ttl: Duration::from_secs(5),
            max_value: 8 << 20,
            max_instances: 20_000,
            foreign: false,
        }
    }
}

impl RedisConfig {
    /// The defaults for a Redis at `url`.
    #[must_use]
    pub fn at(url: &str) -> RedisConfig {
        RedisConfig { url: RedisUrl::new(url), ..RedisConfig::default() }
    }

    /// For a Redis that is shared with Datapunk (seed 004): its namespace, its lists believed.
    #[must_use]
    pub fn datapunk(url: &str) -> RedisConfig {
        RedisConfig {
            prefix: "datapunk:".to_owned(),
            discovery: SharedLevelConfig { foreign: true, ..SharedLevelConfig::default() },
            ..RedisConfig::at(url)
        }
    }

    /// Lays `REDIS_HOST` and `REDIS_PORT` of an environment over the URL. An empty variable
    /// counts as unset; the last one of a name wins.
    ///
    /// # Errors
    /// A variable that is not a host or a port, by its name.
    pub fn with_environment<'a>(
        mut self,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<RedisConfig, ConfigError> {
        let (mut new_host, mut new_port) = (None, None);
        for (name, value) in variables {
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match name {
                "REDIS_HOST" => new_host = value,
                "REDIS_PORT" => new_port = value,
                _ => {}
            }
        }
        if new_host.is_none() && new_port.is_none() {
            return Ok(self);
        }
        let field = |variable: &str| format!("redis.url (by {variable})");
        let (server, login) = self
            .url
            .parse()
            .map_err(|bad: BadUrl| ConfigError::new("redis.url", bad.to_string()))?;
        let (tls, mut host, mut port) = match &server {
            Server::Tcp { host, port, tls, .. } => (*tls, host.clone(), *port),
            Server::Unix { .. } => (false, "localhost".into(), crate::redis::server::DEFAULT_PORT),
        };
        if let Some(text) = new_host {
            let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            let inner = inner.unwrap_or(text);
            if inner.parse::<core::net::Ipv6Addr>().is_err() {
                check_host(text).map_err(|_| {
                    ConfigError::new(field("REDIS_HOST"), "is not a host name or address")
                })?;
            }
            host = inner.into();
        }
        if let Some(text) = new_port {
            port = port_of(text).ok_or_else(|| {
                ConfigError::new(field("REDIS_PORT"), "is not a number between 1 and 65535")
            })?;
        }
        self.take_login(login);
        let server = Server::Tcp { host, port, tls, db: server.db() };
        self.url = RedisUrl::new(&server.to_string());
        Ok(self)
    }

    /// What the URL says of the login moves to fields of its own, where those are not set.
    fn take_login(&mut self, login: Login) {
        self.username = self.username.take().or_else(|| login.username.map(|u| u.as_ref().into()));
        self.password = self.password.take().or(login.password);
    }

    /// How to log in. `variable` looks up the environment, for `password_env`.
    ///
    /// # Errors
    /// A URL that is none; a user name without a password; a variable that is named and not set
    /// while there is no other password.
    pub fn login(
        &self,
        path: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Login, ConfigError> {
        let refuse =
            |field: &str, reason: String| ConfigError::new(format!("{path}.{field}"), reason);
        let (_, login) = self.url.parse().map_err(|bad| refuse("url", bad.to_string()))?;
        let mut all = self.clone();
        all.take_login(login);
        if let Some(name) = &self.password_env {
            match variable(name).as_deref().and_then(Secret::exact) {
                Some(password) => all.password = Some(password),
                None if all.password.is_none() => {
                    let shown: String = name.chars().take(64).collect();
                    return Err(refuse("password_env", format!("{shown:?} is not set")));
                }
                None => {}
            }
        }
        let username = all.username.filter(|user| !user.is_empty());
        if username.is_some() && all.password.is_none() {
            return Err(refuse("username", "needs a password".to_owned()));
        }
        Ok(Login { username: username.map(Into::into), password: all.password })
    }
}
