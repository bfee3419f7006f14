//! What is around a client: environment variables, the system's resolvers, the Redis of its
//! configuration. Looked at once, when it is built, and only where its configuration asks for it.

use std::path::Path;

use bytes::Bytes;
use origin_core::config::ConsulTlsConfig;
use origin_core::discovery::Surroundings;
use origin_core::identity::files::Content;
use origin_core::{Address, Config, ConfigError};

use crate::carry::Carrier;
use crate::expect::target;
use crate::identity::{Chain, Identity, Piece};
use crate::realm::{Credentials, Realms};
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

/// The certificates for `https` agents of Consul, and the digest of their files; none where no
/// agent is asked over TLS, or no file is configured: then the application's own count.
pub(crate) fn agents(config: &Config) -> Result<(Realms, Option<u64>), ConfigError> {
    let consul = config.discovery.as_ref().and_then(|discovery| discovery.consul.as_ref());
    let Some(consul) = consul.filter(|consul| consul.enabled) else {
        return Ok(Default::default());
    };
    let mut realms = Realms::default();
    for url in &consul.urls {
        let address = Address::parse(url).ok().and_then(|address| address.uri());
        let Some(uri) = address.filter(|uri| uri.scheme_str() == Some("https")) else { continue };
        let host = uri.host().unwrap_or_default();
        realms.agent_targets.insert(target(host, uri.port_u16().unwrap_or(443)));
    }
    let ConsulTlsConfig { ca, cert, key, .. } = &consul.tls;
    if realms.agent_targets.is_empty() || [ca, cert, key].into_iter().all(String::is_empty) {
        return Ok((realms, None));
    }
    let read = |field: &str, path: &String| {
        let field = format!("discovery.consul.tls.{field}");
        let path = Some(path).filter(|path| !path.is_empty());
        path.map(|path| Piece::file(&field, Path::new(path))).transpose()
    };
    let (ca, cert, key) = (read("ca", ca)?, read("cert", cert)?, read("key", key)?);
    let bytes = |piece: &Option<Piece>| piece.as_ref().map(|p| Bytes::copy_from_slice(&p.bytes));
    let digest = Content { ca: bytes(&ca), cert: bytes(&cert), key: bytes(&key) }.digest();
    let identity = match (cert, key) {
        (Some(chain), Some(key)) => Some(Identity { chain: Chain::Pem(chain), key }),
        _ => None,
    };
    realms.agents = Some(Credentials { roots: ca.map(Roots::of), identity });
    Ok((realms, Some(digest)))
}

/// What carries out jobs that are not HTTP, with the Redis of `config` if it has one.
#[cfg(feature = "redis")]
pub(crate) fn carrier(config: &Config, roots: &Roots) -> Result<Carrier, ConfigError> {
    use origin_core::redis::Server;

    use crate::carry::RedisOptions;

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
