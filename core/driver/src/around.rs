//! What is around a client: environment variables, the system's resolvers, the Redis of its
//! configuration. Looked at once, when it is built, and only where its configuration asks for it.

use std::sync::Arc;

use origin_core::discovery::Surroundings;
use origin_core::s3::{Place, Settings};
use origin_core::{Config, ConfigError};

use crate::carry::Carrier;
use crate::roots::Roots;

/// Reads what the sources of `config` need.
pub(crate) fn surroundings(config: &Config) -> Surroundings {
    let Some(discovery) = &config.discovery else { return Surroundings::default() };
    let mut around = Surroundings::default();
    if discovery.environment.enabled || discovery.consul.is_some() {
        // `std::env::vars` panics on a variable that is not Unicode.
        let variables = std::env::vars_os();
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        around.variables = variables.filter_map(text).collect();
    }
    if discovery.dns.is_some() {
        around.resolv_conf = std::fs::read_to_string("/etc/resolv.conf").ok();
    }
    around
}

/// How requests to storage are signed, with the secrets from where `config` says they are.
pub(crate) fn storage(config: &Config) -> Result<Arc<Settings>, ConfigError> {
    let Some(storage) = &config.storage else { return Ok(Arc::default()) };
    let read = |place: Place<'_>| match place {
        Place::Variable(name) => std::env::var(name).ok(),
        Place::File(path) => std::fs::read_to_string(path).ok(),
    };
    Settings::of(storage, "storage", read).map(Arc::new)
}

/// What carries out jobs that are not HTTP, with the Redis of `config` if it has one.
#[cfg(feature = "redis")]
pub(crate) fn carrier(config: &Config, roots: &Roots) -> Result<Carrier, ConfigError> {
    use origin_core::redis::Server;

    use crate::carry::RedisOptions;
    use crate::identity::Identity;

    let Some(redis) = config.redis.as_ref().filter(|redis| redis.enabled) else {
        return Ok(Carrier::default());
    };
    let settings = origin_core::redis::Settings::of(redis, "redis")?;
    let login = redis.login("redis", |name| std::env::var(name).ok())?;
    let Server::Tcp { host, port, tls, db } = &settings.server else {
        let reason = "names a Unix socket, which is not supported; use redis:// or rediss://";
        return Err(ConfigError::new("redis.url", reason));
    };
    let scheme = if *tls { "rediss" } else { "redis" };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let mut options = RedisOptions::at(format!("{scheme}://{host}:{port}/{db}"));
    options.username = login.username.map(|name| name.to_string());
    options.password = login.password.map(|password| password.expose().to_owned());
    options.connect_timeout = settings.connect_timeout;
    let read = |field: &str, path: &str| {
        std::fs::read(path).map_err(|e| ConfigError::new(format!("redis.{field}"), e.to_string()))
    };
    if let Some((chain, key)) = &settings.tls.client {
        let (chain, key) = (read("client_certificate", chain)?, read("client_key", key)?);
        options.identity = Some(Identity::pem(chain, key));
    }
    match &settings.tls.ca {
        Some(path) => Carrier::with_redis(&options, &Roots::Pem(read("ca", path)?)),
        None => Carrier::with_redis(&options, roots),
    }
}

/// The same without Redis: a configuration that names one is refused.
#[cfg(not(feature = "redis"))]
pub(crate) fn carrier(config: &Config, _roots: &Roots) -> Result<Carrier, ConfigError> {
    match config.redis.as_ref().filter(|redis| redis.enabled) {
        Some(_) => Err(ConfigError::new("redis", "needs the cargo feature `redis` of the adapter")),
        None => Ok(Carrier::default()),
    }
}
